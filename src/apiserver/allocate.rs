//! Gives services their addresses and node ports.
//!
//! In:       the view, a service as it is to stand there, and the one that stood there before.
//! Out:      the service with what it did not choose itself; what it kept before, it keeps.
//! Never:    remembers anything: what is taken is what services in the view have.
//! Source:   upstream's `service/allocator`: the lower part of each range is left to those who choose themselves (KEP-3070, 3682),
//!           `patchAllocatedValues`, `dropTypeDependentFields`. Differs: the search begins at a place that follows from the name, so
//!           that a service which is made anew has its old address, as long as it is free.
//!
//! Two services that are made in the same moment could be given the same address only if their names begin the search at the same
//! place: the allotment is decided on the view before either is written.

mod families;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};
use serde_json::{Value, json};

use crate::api::core::service::{IPV4, IPV6, Service, ServicePort, family_of};
use crate::api::registry::SERVICES;
use crate::api::validate::{FieldError, Path};
use crate::api::{Key, Object};
use crate::store::View;

/// Source: upstream's `--service-node-port-range`.
const NODE_PORTS: std::ops::RangeInclusive<u16> = 30_000..=32_767;
/// So many of them are left to those who choose themselves. Source: `calculateRangeOffset` of upstream for this range.
const CHOSEN_NODE_PORTS: u16 = 86;

/// The addresses of services of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceRange(IpNet);

impl Default for ServiceRange {
    /// `10.96.0.0/16`.
    fn default() -> Self {
        Self(IpNet::new_assert(Ipv4Addr::new(10, 96, 0, 0).into(), 16))
    }
}

impl std::fmt::Display for ServiceRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl From<ServiceRange> for IpNet {
    fn from(range: ServiceRange) -> Self {
        range.0
    }
}

impl ServiceRange {
    /// `10.96.0.0/16`, `fd12:3456:789a::/112`: at least 16 addresses, at most 2²⁰, and no bit set behind the prefix. `None` for anything
    /// else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let range = Self(text.parse().ok()?);
        ((4..=20).contains(&range.bits()) && range.0.trunc() == range.0).then_some(range)
    }

    fn bits(self) -> u8 {
        self.0.max_prefix_len() - self.0.prefix_len()
    }

    fn size(self) -> u32 {
        1 << self.bits().min(31)
    }

    /// The address of this number; the first has number 0 and is nobody's.
    #[must_use]
    pub fn nth(self, number: u32) -> IpAddr {
        match self.0.network() {
            IpAddr::V4(first) => Ipv4Addr::from(u32::from(first).wrapping_add(number)).into(),
            IpAddr::V6(first) => Ipv6Addr::from(u128::from(first).wrapping_add(number.into())).into(),
        }
    }

    /// Of `default/kubernetes`.
    #[must_use]
    pub fn kubernetes(self) -> IpAddr {
        self.nth(1)
    }

    /// Where the cluster's name server is reached. Below the numbers from which addresses are given away, so that it is nobody's but
    /// who chooses it.
    #[must_use]
    pub fn dns(self) -> IpAddr {
        self.nth(10)
    }

    /// The number of the last address that may be a service's: IPv6 has no broadcast.
    fn last(self) -> u32 {
        self.size() - if self.0.addr().is_ipv4() { 2 } else { 1 }
    }

    /// Whether an address may be a service's.
    #[must_use]
    pub fn holds(self, address: IpAddr) -> bool {
        self.0.contains(&address) && (self.nth(1)..=self.nth(self.last())).contains(&address)
    }

    /// The free address at which a search for this name ends.
    fn free(self, name: &str, taken: &BTreeSet<IpAddr>) -> Option<IpAddr> {
        // The same for both families: in ranges of one size a service's addresses have the same number, if both are free.
        let last = self.size() - 2;
        // Source: min(max(16, size / 16), 256).
        let chosen = (self.size() / 16).clamp(16, 256).min(last);
        let upper = spread(name, chosen + 1, last).map(|number| self.nth(number));
        // Only who asks for the name server's gets it.
        let lower = (2..=chosen).map(|number| self.nth(number)).filter(|address| *address != self.dns());
        upper.chain(lower).find(|address| !taken.contains(address))
    }
}

/// The addresses of services: of IPv4, and in a dual-stack cluster of IPv6 as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceRanges {
    /// The first family of every service that does not ask for another.
    pub v4: ServiceRange,
    /// `None` in a cluster of IPv4 only.
    pub v6: Option<ServiceRange>,
}

impl ServiceRanges {
    /// `10.96.0.0/16`, or `10.96.0.0/16,fd12:3456:789a::/112`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let of = |text: &str, family: &str| ServiceRange::parse(text.trim()).filter(|range| family_of(range.0.addr()) == family);
        match text.split_once(',') {
            None => Some(Self { v4: of(text, IPV4)?, v6: None }),
            Some((v4, v6)) => Some(Self { v4: of(v4, IPV4)?, v6: Some(of(v6, IPV6)?) }),
        }
    }

    /// Those of IPv4.
    #[must_use]
    pub fn v4_net(self) -> Ipv4Net {
        match self.v4.0 {
            IpNet::V4(net) => net,
            // Nobody puts the other family there.
            IpNet::V6(_) => Ipv4Net::default(),
        }
    }

    /// The addresses of a family, [`IPV4`] or [`IPV6`]; `None` when this cluster has none.
    #[must_use]
    pub fn of(self, family: &str) -> Option<ServiceRange> {
        match family {
            IPV4 => Some(self.v4),
            IPV6 => self.v6,
            _ => None,
        }
    }
}

/// All numbers from `first` to `last`, beginning at one that follows from the name.
fn spread(name: &str, first: u32, last: u32) -> impl Iterator<Item = u32> + use<> {
    let count = if first > last { 0 } else { last - first + 1 };
    // FNV-1a: 32 bits.
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let start = hash.checked_rem(count).unwrap_or_default();
    (0..count).map(move |step| first + (start + step) % count)
}

/// Completes a service that has its defaults.
///
/// # Errors
/// What it asks for is not to be had.
pub fn allot(view: &View, ranges: ServiceRanges, before: Option<&Object>, service: &mut Object) -> Result<(), Vec<FieldError>> {
    let key = Key::of(&SERVICES, service);
    let others = || view.list(&SERVICES, None).filter(|other| Key::of(&SERVICES, other) != key);
    if let Some(before) = before {
        keep(Service(before), service);
    }
    families::settle(ranges, before.map(Service), service)?;
    let mut errors = Vec::new();
    let taken = others().flat_map(|other| Service(other).cluster_ips()).filter_map(|address| address.parse().ok()).collect();
    addresses(ranges, &taken, before, service, &mut errors);
    let taken = others()
        .flat_map(|other| Service(other).ports())
        .filter_map(|port| Some((port.node_port()?, port.protocol().to_owned())))
        .collect();
    node_ports(taken, before, service, &mut errors);
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// What was allotted before and is not said again stays; what its new type cannot have goes.
fn keep(before: Service<'_>, service: &mut Object) {
    let (was, is) = (before.is_external_name(), Service(service).is_external_name());
    let same = |service: &Object, field: &str| service.at(&["spec", field]) == before.0.at(&["spec", field]);
    if is {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            if same(service, field) {
                service.remove_at(&["spec", field]);
            }
        }
    } else if !was {
        if service.str_at(&["spec", "clusterIP"]).is_empty() {
            service.set_at(&["spec", "clusterIP"], before.0.str_at(&["spec", "clusterIP"]));
        }
        if service.list_at(&["spec", "clusterIPs"]).is_empty() {
            service.set_at(&["spec", "clusterIPs"], before.0.list_at(&["spec", "clusterIPs"]));
        }
        // Who knows the older field only and changes it means both.
        if same(service, "clusterIPs") && !same(service, "clusterIP") {
            let address = service.str_at(&["spec", "clusterIP"]).to_owned();
            service.set_at(&["spec", "clusterIPs"], json!([address]));
        }
    }
    // What only another type has, and nobody has said anew.
    let balanced = |service: Service<'_>| service.kind() == "LoadBalancer";
    let outside = before.is_reached_from_outside() && !Service(service).is_reached_from_outside();
    let balancer = balanced(before) && !balanced(Service(service));
    for (field, goes) in [
        ("externalTrafficPolicy", outside),
        ("allocateLoadBalancerNodePorts", balancer),
        ("loadBalancerClass", balancer),
        ("healthCheckNodePort", balancer),
    ] {
        let said_anew = service.at(&["spec", field]) != before.0.at(&["spec", field]);
        if goes && !said_anew {
            service.remove_at(&["spec", field]);
        }
    }
    let needs = Service(service).has_node_ports();
    let dropped = before.has_node_ports() && !needs;
    let old: Vec<ServicePort<'_>> = before.ports().collect();
    let ports: Vec<Value> = service
        .list_at(&["spec", "ports"])
        .iter()
        .map(|port| {
            let mut next = port.clone();
            let read = ServicePort(port);
            let same = old.iter().find(|old| old.port() == read.port() && old.protocol() == read.protocol());
            let Some(map) = next.as_object_mut() else { return next };
            if dropped && same.is_some_and(|old| old.node_port() == read.node_port()) {
                map.remove("nodePort");
            } else if let (true, None, Some(kept)) = (needs, read.node_port(), same.and_then(|old| old.node_port())) {
                map.insert("nodePort".to_owned(), kept.into());
            }
            next
        })
        .collect();
    if !ports.is_empty() {
        service.set_at(&["spec", "ports"], ports);
    }
}

/// An address for each of its families that has none yet.
fn addresses(
    ranges: ServiceRanges,
    taken: &BTreeSet<IpAddr>,
    before: Option<&Object>,
    service: &mut Object,
    errors: &mut Vec<FieldError>,
) {
    if Service(service).is_external_name() || Service(service).is_headless() {
        return;
    }
    let path = Path::new("spec").child("clusterIPs");
    let name = format!("{}/{}", service.namespace(), service.name());
    let held: Vec<&str> = before.into_iter().flat_map(|before| Service(before).cluster_ips()).collect();
    let asked = service.list_at(&["spec", "clusterIPs"]).to_vec();
    let mut all: Vec<String> = Vec::new();
    for (number, family) in Service(service).families().into_iter().enumerate() {
        let chosen = asked.get(number).and_then(Value::as_str).unwrap_or_default();
        // A family that the cluster does not have any more: what is held stays, and nothing is added.
        let Some(range) = ranges.of(family).filter(|_| !held.contains(&chosen)) else {
            all.extend((!chosen.is_empty()).then(|| chosen.to_owned()));
            continue;
        };
        let found = match chosen.parse::<IpAddr>() {
            Err(_) => range.free(&name, taken).ok_or_else(|| format!("failed to allocate a serviceIP: {range} is full")),
            Ok(address) if !range.holds(address) => Err(format!(
                "failed to allocate IP {chosen}: the provided IP ({chosen}) is not in the valid range. The range of valid IPs is {range}"
            )),
            Ok(address) if taken.contains(&address) => {
                Err(format!("failed to allocate IP {chosen}: provided IP is already allocated"))
            }
            Ok(address) => Ok(address),
        };
        match found {
            Ok(address) => all.push(address.to_string()),
            Err(why) => errors.push(FieldError::invalid(&path, asked.clone(), &why)),
        }
    }
    service.set_at(&["spec", "clusterIP"], all.first().cloned().unwrap_or_default());
    service.set_at(&["spec", "clusterIPs"], all);
}

fn node_ports(mut taken: BTreeSet<(u16, String)>, before: Option<&Object>, service: &mut Object, errors: &mut Vec<FieldError>) {
    if !Service(service).has_node_ports() {
        return;
    }
    let name = format!("{}/{}", service.namespace(), service.name());
    let own: BTreeSet<(u16, String)> = before
        .into_iter()
        .flat_map(|before| Service(before).ports())
        .filter_map(|port| Some((port.node_port()?, port.protocol().to_owned())))
        .collect();
    let mut ports = service.list_at(&["spec", "ports"]).to_vec();
    // Those who choose come first: what they want is not given to a port that wants any.
    for (number, port) in ports.iter().enumerate() {
        let read = ServicePort(port);
        let Some(chosen) = read.node_port() else { continue };
        let pair = (chosen, read.protocol().to_owned());
        if !own.contains(&pair) && taken.contains(&pair) {
            let path = Path::new("spec").child("ports").index(number).child("nodePort");
            errors.push(FieldError::invalid(&path, json!(chosen), "provided port is already allocated"));
        }
        taken.insert(pair);
    }
    // One number for TCP and UDP of one port, as upstream gives it.
    let mut given: Vec<(u16, u16)> = Vec::new();
    for (number, port) in ports.iter_mut().enumerate() {
        let read = ServicePort(port);
        if read.node_port().is_some() {
            given.extend(read.port().zip(read.node_port()));
            continue;
        }
        let protocol = read.protocol().to_owned();
        let twin = given.iter().find(|(at, _)| Some(*at) == read.port()).map(|(_, node_port)| *node_port);
        let start = u32::from(*NODE_PORTS.start());
        let upper = spread(&format!("{name}/{number}"), start + u32::from(CHOSEN_NODE_PORTS), u32::from(*NODE_PORTS.end()));
        let lower = start..start + u32::from(CHOSEN_NODE_PORTS);
        let all = twin.into_iter().chain(upper.chain(lower).filter_map(|port| u16::try_from(port).ok()));
        let Some(free) = all.into_iter().find(|port| !taken.contains(&(*port, protocol.clone()))) else {
            let path = Path::new("spec").child("ports").index(number).child("nodePort");
            errors.push(FieldError::invalid(&path, json!(0), "failed to allocate a nodePort: range is full"));
            return;
        };
        given.extend(read.port().map(|at| (at, free)));
        taken.insert((free, protocol));
        if let Some(map) = port.as_object_mut() {
            map.insert("nodePort".to_owned(), free.into());
        }
    }
    service.set_at(&["spec", "ports"], ports);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Revision, default, validate::sentence};
    use crate::store::Op;

    struct World(View, ServiceRanges);

    impl World {
        /// Completes a service and keeps it; its address and node ports, or what is wrong.
        fn put(&mut self, name: &str, spec: Value) -> Result<(String, Vec<Option<u16>>), String> {
            let metadata = json!({"name": name, "namespace": "default"});
            let mut service = Object::from_value(json!({"metadata": metadata, "spec": spec})).unwrap();
            default::service::fill(&mut service);
            let key = Key::of(&SERVICES, &service);
            let before = self.0.get(&key).cloned();
            let range = self.1;
            allot(&self.0, range, before.as_deref(), &mut service).map_err(|errors| sentence(&errors))?;
            let read = Service(&service);
            let told = (read.0.str_at(&["spec", "clusterIP"]).to_owned(), read.ports().map(ServicePort::node_port).collect());
            let op = match before {
                Some(before) => Op::update(key, before.revision(), service),
                None => Op::create(key, service),
            };
            self.0.apply(self.0.revision().next(), op.into());
            Ok(told)
        }
    }

    fn world() -> World {
        World(View::new(Revision(1)), ServiceRanges::parse("10.96.0.0/27").unwrap())
    }

    #[test]
    fn everybody_gets_an_address_of_their_own_until_none_is_left() {
        let mut world = world();
        let mut seen = BTreeSet::new();
        for number in 0..28 {
            let (address, ports) = world.put(&format!("s{number}"), json!({"ports": [{"port": 80}]})).unwrap();
            assert!(seen.insert(address.clone()), "{address} twice");
            assert_eq!(ports, [None]);
        }
        let first = seen.iter().filter_map(|address| address.parse::<Ipv4Addr>().ok()).min();
        assert_eq!(first, Some(Ipv4Addr::new(10, 96, 0, 2)), "the first is that of the API");
        assert!(!seen.contains("10.96.0.10"), "the name server's");
        world.put("dns", json!({"clusterIP": "10.96.0.10", "ports": [{"port": 53}]})).unwrap();
        let full = world.put("late", json!({"ports": [{"port": 80}]})).unwrap_err();
        assert!(full.contains("failed to allocate a serviceIP: 10.96.0.0/27 is full"), "{full}");
    }

    #[test]
    fn who_chooses_gets_it_if_it_is_free() {
        let mut world = world();
        let at = |address: &str| json!({"clusterIP": address, "ports": [{"port": 80}]});
        assert_eq!(world.put("a", at("10.96.0.5")).unwrap().0, "10.96.0.5");
        assert!(world.put("b", at("10.96.0.5")).unwrap_err().contains("provided IP is already allocated"));
        assert!(world.put("b", at("10.97.0.5")).unwrap_err().contains("The range of valid IPs is 10.96.0.0/27"));
        assert_eq!(world.put("none", at("None")).unwrap().0, "None");
        let port = |number: u16| json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": number}]});
        assert_eq!(world.put("c", port(30_080)).unwrap().1, [Some(30_080)]);
        let taken = world.put("d", port(30_080)).unwrap_err();
        assert_eq!(taken, "spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated");
    }

    #[test]
    fn a_dual_stack_service_has_an_address_of_each_family_and_keeps_the_first() {
        let mut world = World(View::new(Revision(1)), ServiceRanges::parse("10.96.0.0/16,fd12:3456:789a::/112").unwrap());
        let mut put = |name: &str, spec: Value| {
            world.put(name, spec)?;
            let service = world.0.get(&Key::new(&SERVICES, "default", name)).unwrap();
            Ok::<_, String>(Service(service).cluster_ips().map(str::to_owned).collect::<Vec<_>>())
        };
        let ports = json!([{"port": 80}]);
        let dual = put("web", json!({"ipFamilyPolicy": "PreferDualStack", "ports": ports})).unwrap();
        let number = dual[0].parse::<Ipv4Addr>().map(|address| u32::from(address) & 0xffff).unwrap();
        assert!(dual[0].starts_with("10.96.") && dual[1] == format!("fd12:3456:789a::{number:x}"), "{dual:?}");
        let single =
            put("web", json!({"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4", "IPv6"], "ports": ports})).unwrap();
        assert_eq!(single, dual[..1]);
        assert_eq!(put("web", json!({"ipFamilyPolicy": "RequireDualStack", "ports": ports})).unwrap(), dual, "the same again");
        let six = put("six", json!({"ipFamilies": ["IPv6"], "ports": ports})).unwrap();
        assert!(six.len() == 1 && six[0].starts_with("fd12:"), "{six:?}");
        let first = json!({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6", "IPv4"], "ports": ports});
        assert!(put("first", first).unwrap()[0].starts_with("fd12:"));
        let chosen = json!({"ipFamilyPolicy": "PreferDualStack", "clusterIP": "10.96.0.77", "clusterIPs": ["10.96.0.77", "FD12:3456:789a::4d"], "ports": ports});
        assert_eq!(put("chosen", chosen).unwrap(), ["10.96.0.77", "fd12:3456:789a::4d"]);
        let taken = json!({"clusterIP": "fd12:3456:789a:0::4d", "ports": ports});
        assert!(put("taken", taken).unwrap_err().contains("provided IP is already allocated"));
        let outside = json!({"clusterIP": "fd00::4d", "ports": ports});
        assert!(put("outside", outside).unwrap_err().contains("The range of valid IPs is fd12:3456:789a::/112"));
        assert_eq!(put("web", json!({"type": "ExternalName", "externalName": "a.b"})).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn ranges_have_a_name_server_and_a_last_address() {
        for (range, dns, last, behind) in [
            ("10.96.0.0/16", "10.96.0.10", "10.96.255.254", "10.96.255.255"),
            ("fd00:1::/112", "fd00:1::a", "fd00:1::ffff", "fd00:1::1:0"),
            ("fd00:1::f0/124", "fd00:1::fa", "fd00:1::ff", "fd00:1::100"),
        ] {
            let range = ServiceRange::parse(range).unwrap();
            assert_eq!(range.dns().to_string(), dns);
            assert!(range.holds(last.parse().unwrap()) && !range.holds(behind.parse().unwrap()), "{range}");
            assert!(!range.holds(range.nth(0)) && range.holds(range.kubernetes()));
        }
        for odd in ["fd00::/64", "fd00::/125", "fd00::1/112", "10.96.0.0", "10.96.0.0/8"] {
            assert_eq!(ServiceRange::parse(odd), None, "{odd}");
        }
    }

    #[test]
    fn what_was_allotted_stays_through_every_change_of_type() {
        let mut world = world();
        let ports = json!([{"name": "a", "port": 53, "protocol": "UDP"}, {"name": "b", "port": 53}]);
        let (address, none) = world.put("web", json!({"ports": ports})).unwrap();
        assert_eq!(none, [None, None]);
        let (same, given) = world.put("web", json!({"type": "NodePort", "ports": ports})).unwrap();
        assert_eq!(same, address);
        assert!(given[0].is_some_and(|port| NODE_PORTS.contains(&port)) && given[0] == given[1], "{given:?}");
        assert_eq!(world.put("web", json!({"type": "LoadBalancer", "ports": ports})).unwrap(), (address.clone(), given.clone()));
        let read: Vec<Value> = ["UDP", "TCP"]
            .iter()
            .zip(["a", "b"])
            .map(|(protocol, name)| json!({"name": name, "port": 53, "protocol": protocol, "nodePort": given[0]}))
            .collect();
        let (same, none) = world.put("web", json!({"type": "ClusterIP", "clusterIP": address, "ports": read})).unwrap();
        assert_eq!((same, none), (address, vec![None, None]), "node ports that were allotted go");
        let named = world.put("web", json!({"type": "ExternalName", "externalName": "example.com"})).unwrap();
        assert_eq!(named.0, "");
    }

    #[test]
    fn what_only_the_old_type_has_goes_with_it() {
        let filled = |spec: Value| {
            let metadata = json!({"name": "web", "namespace": "default"});
            let mut service = Object::from_value(json!({"metadata": metadata, "spec": spec})).unwrap();
            default::service::fill(&mut service);
            service
        };
        let ports = json!([{"port": 80}]);
        let before =
            filled(json!({"type": "LoadBalancer", "loadBalancerClass": "a/b", "clusterIP": "10.96.0.9", "ports": ports}));
        // As a patch of the type alone leaves it: all the rest is still there.
        let becomes = |kind: &str, more: &[(&str, Value)]| {
            let mut after = before.clone();
            after.set_at(&["spec", "type"], kind);
            after.set_at(&["spec", "externalName"], "a.b");
            more.iter().for_each(|(field, value)| after.set_at(&["spec", field], value.clone()));
            default::service::fill(&mut after);
            allot(&View::new(Revision(1)), ServiceRanges::default(), Some(&before), &mut after).unwrap();
            after
        };
        let has = |service: &Object| {
            let fields = ["externalTrafficPolicy", "allocateLoadBalancerNodePorts", "loadBalancerClass"];
            fields.into_iter().filter(|field| service.at(&["spec", field]).is_some()).collect::<Vec<_>>()
        };
        assert_eq!(has(&before).len(), 3);
        for (kind, left) in [
            ("ClusterIP", &[][..]),
            ("ExternalName", &[]),
            ("NodePort", &["externalTrafficPolicy"]),
            ("LoadBalancer", &["externalTrafficPolicy", "allocateLoadBalancerNodePorts", "loadBalancerClass"]),
        ] {
            let after = becomes(kind, &[]);
            assert_eq!(has(&after), left, "{kind}");
            assert_eq!(sentence(&crate::api::validate::service::errors(&after)), "[]", "{kind}");
        }
        let said = becomes("ClusterIP", &[("externalTrafficPolicy", json!("Local"))]);
        assert_eq!(has(&said), ["externalTrafficPolicy"], "what is said anew is judged");
        let outside = becomes("ClusterIP", &[("externalIPs", json!(["203.0.113.7"]))]);
        assert_eq!(has(&outside), ["externalTrafficPolicy"]);
    }

    #[test]
    fn a_service_that_is_made_anew_has_its_old_address() {
        let made = |others: &[&str]| {
            let mut world = World(View::new(Revision(1)), ServiceRanges::default());
            for other in others {
                world.put(other, json!({"ports": [{"port": 80}]})).unwrap();
            }
            world.put("web", json!({"type": "NodePort", "ports": [{"port": 80}]})).unwrap()
        };
        assert_eq!(made(&[]), made(&["other"]));
    }
}
