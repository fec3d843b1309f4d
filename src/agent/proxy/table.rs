//! Which traffic goes where: the services and their endpoints, read into forwards for one node.
//!
//! In:       the network's share (services, endpoint slices, the cluster's name server), and what this node is, of one family of addresses.
//! Out:      a [`Table`]: one [`Forward`] for each port of each service, and words for what is left out.
//! Never:    knows how packets are turned (`nft.rs`), and picks nobody for a connection (the kernel, or `balance.rs`).
//! Source:   Kubernetes' documented rules of services ("Virtual IPs and Service Proxies", KEP-1669 for endpoints on their way out);
//!           hints of topology are not read: every ready endpoint counts.
//! Flow:     from `run.rs`, on to `nft.rs`, or `fallback.rs` where there is no nftables.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use serde_json::Value;

use crate::agent::family::Family;
use crate::api::Object;
use crate::api::core::address_pool::AddressPool;
use crate::api::core::service::{Service, ServicePort};
use crate::api::discovery::endpoint_slice::{EndpointPort, EndpointSlice};
use crate::link::network::ClusterNetwork;
use crate::link::share::Share;

/// The affinity of a client that says no time: three hours, as Kubernetes has it.
const AFFINITY: u64 = 10_800;
/// Kubernetes' bound on it: a day.
const AFFINITY_MOST: u64 = 86_400;
/// The port of name servers.
const DNS: u16 = 53;

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Connections.
    Tcp,
    /// Datagrams; what one client sends from one port is taken as one connection.
    Udp,
}

impl Protocol {
    /// `tcp` or `udp`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }

    /// Its number in an IP header.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
        }
    }

    fn read(text: &str) -> Option<Self> {
        match text {
            "TCP" => Some(Protocol::Tcp),
            "UDP" => Some(Protocol::Udp),
            _ => None,
        }
    }
}

/// Where a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Backend {
    /// Of a pod, mostly.
    pub address: IpAddr,
    /// At that address.
    pub port: u16,
}

/// Which of the backends serve traffic of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// All of the cluster.
    #[default]
    Cluster,
    /// Only those on this node; with none here, the traffic is dropped.
    Local,
}

/// One port of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// What is spoken.
    pub protocol: Protocol,
    /// At the addresses below.
    pub port: u16,
    /// The service's own addresses: for who is in the cluster.
    pub inside: BTreeSet<IpAddr>,
    /// External IPs: for who is outside.
    pub outside: BTreeSet<IpAddr>,
    /// A load balancer's addresses: for who is outside and in `sources`.
    pub balanced: BTreeSet<IpAddr>,
    /// `loadBalancerSourceRanges` of this family; `None`: everybody. With ranges of the other family only, nobody may.
    pub sources: Option<Vec<IpNet>>,
    /// At each address of this node.
    pub node_port: Option<u16>,
    /// A client keeps its backend until it was silent for so long.
    pub affinity: Option<Duration>,
    /// Who serves.
    pub all: Vec<Backend>,
    /// Who of them serves on this node.
    pub local: Vec<Backend>,
    /// `internalTrafficPolicy`.
    pub inside_policy: Policy,
    /// `externalTrafficPolicy`.
    pub outside_policy: Policy,
}

/// Everything that this node forwards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// By `namespace/name/protocol/port`.
    pub forwards: BTreeMap<String, Forward>,
    /// Backends that are pods of this node.
    pub here: BTreeSet<IpAddr>,
    /// Those of whom it is not known yet who serves: their service has a selector, and no slice at all, as after a start of the master.
    pub unknown: BTreeSet<String>,
    /// For people: what is left out, and why.
    pub words: BTreeSet<String>,
}

impl Table {
    /// Of whom it is not known yet who serves, is served as before.
    pub fn keep_unknown(&mut self, before: Option<&Table>) {
        let Some(before) = before else { return };
        for name in &self.unknown {
            if let (Some(forward), Some(old)) = (self.forwards.get_mut(name), before.forwards.get(name)) {
                (forward.all, forward.local) = (old.all.clone(), old.local.clone());
                self.here.extend(old.all.iter().map(|backend| backend.address).filter(|address| before.here.contains(address)));
            }
        }
    }
}

/// What this node is, in one family of addresses.
#[derive(Clone, Copy, Debug)]
pub struct Here<'a> {
    /// Its name.
    pub node: &'a str,
    /// Its part of the pod network.
    pub range: IpNet,
    /// Its address there.
    pub gateway: IpAddr,
    /// Its addresses in the LAN.
    pub addresses: &'a [IpAddr],
    /// The port at the gateway from where the API on loopback is reached; `None`: there is no such relay.
    pub relay: Option<u16>,
}

impl Here<'_> {
    /// The family that it is about.
    #[must_use]
    pub fn family(&self) -> Family {
        Family::of(self.gateway)
    }
}

/// The forwards of one node, in one family. The name server listens at the gateway of each.
#[must_use]
pub fn table(share: &Share, here: &Here) -> Table {
    let mut table = Table::default();
    let mut taken = Taken::default();
    let of_family = |network: &ClusterNetwork| match here.family() {
        Family::V4 => network.dns.parse().ok(),
        Family::V6 => network.dns6.parse().ok(),
    };
    let dns = share.network.as_ref().and_then(of_family);
    if let Some(dns) = dns {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let forward = to_gateway(protocol, dns, DNS, Backend { address: here.gateway, port: DNS });
            taken.inside.insert((dns, protocol, DNS), "the cluster's name server".to_owned());
            table.forwards.insert(format!("bramble/dns/{}/{DNS}", protocol.name()), forward);
        }
    }
    let pool = share.network.as_ref().and_then(|network| AddressPool::parse(&network.load_balancers));
    let slices = by_service(share, here.family());
    for (key, object) in &share.services {
        let service = Service(object);
        let speaks = service.families().contains(&here.family().kubernetes());
        if !speaks || service.is_external_name() || service.is_headless() {
            continue;
        }
        if !is_plain(key) {
            table.words.insert(format!("service {key:?} is not forwarded: its name is none"));
            continue;
        }
        let ranges = object.list_at(&["spec", "loadBalancerSourceRanges"]).iter().map(|range| range.as_str().unwrap_or_default());
        for range in ranges.filter(|range| range.trim().parse::<IpNet>().is_err()) {
            table.words.insert(format!(
                "service {key}: {range:?} of its loadBalancerSourceRanges is no range of addresses (like 192.168.1.0/24): nobody comes in by it"
            ));
        }
        let slices = slices.get(key.as_str()).map(Vec::as_slice).unwrap_or_default();
        for port in service.ports() {
            let (Some(protocol), Some(number)) = (Protocol::read(port.protocol()), port.port()) else {
                table.words.insert(format!(
                    "service {key}: its port {:?} is not forwarded: {} is not TCP or UDP, or it has no number",
                    port.name(),
                    port.protocol()
                ));
                continue;
            };
            let name = format!("{key}/{}/{number}", protocol.name());
            let mut forward = forward(service, port, protocol, number, here, pool);
            endpoints(key, port, protocol, slices, here, &mut forward, &mut table);
            relayed(key, here, &mut forward);
            taken.claim(key, &mut forward, &mut table.words);
            if slices.is_empty() && service.selector().is_some() {
                table.unknown.insert(name.clone());
            }
            table.forwards.insert(name, forward);
        }
    }
    table
}

/// Who has which address and port already: a packet goes to one service only, to the first by name.
#[derive(Default)]
struct Taken {
    inside: BTreeMap<(IpAddr, Protocol, u16), String>,
    node_ports: BTreeMap<(Protocol, u16), String>,
}

impl Taken {
    fn claim(&mut self, key: &str, forward: &mut Forward, words: &mut BTreeSet<String>) {
        let (protocol, port) = (forward.protocol, forward.port);
        let mut claim = |address: &IpAddr| match self.inside.get(&(*address, protocol, port)) {
            None => {
                self.inside.insert((*address, protocol, port), key.to_owned());
                true
            }
            Some(other) => {
                // The name server may well have a service, with the address that every node answers at.
                if other.contains('/') && other != key {
                    words.insert(format!("service {key} is not served at {}: {other} is", SocketAddr::new(*address, port)));
                }
                false
            }
        };
        forward.inside.retain(&mut claim);
        forward.outside.retain(&mut claim);
        forward.balanced.retain(&mut claim);
        if let Some(node_port) = forward.node_port {
            match self.node_ports.get(&(protocol, node_port)) {
                None => {
                    self.node_ports.insert((protocol, node_port), key.to_owned());
                }
                Some(other) => {
                    words.insert(format!("service {key} is not served at the nodes' port {node_port}: {other} is"));
                    forward.node_port = None;
                }
            }
        }
    }
}

/// A forward of our own, to this node.
fn to_gateway(protocol: Protocol, address: IpAddr, port: u16, backend: Backend) -> Forward {
    Forward {
        protocol,
        port,
        inside: BTreeSet::from([address]),
        outside: BTreeSet::new(),
        balanced: BTreeSet::new(),
        sources: None,
        node_port: None,
        affinity: None,
        all: vec![backend],
        local: vec![backend],
        inside_policy: Policy::Cluster,
        outside_policy: Policy::Cluster,
    }
}

/// The slices of each service, by the service's `namespace/name`.
fn by_service(share: &Share, family: Family) -> BTreeMap<String, Vec<EndpointSlice<'_>>> {
    let mut slices: BTreeMap<String, Vec<EndpointSlice<'_>>> = BTreeMap::new();
    for object in share.endpoint_slices.values() {
        let slice = EndpointSlice(object);
        if let Some(service) = slice.service().filter(|_| slice.address_type() == family.kubernetes()) {
            slices.entry(format!("{}/{service}", object.namespace())).or_default().push(slice);
        }
    }
    slices
}

/// Names end up in rules: nothing but what names of Kubernetes are made of may pass.
fn is_plain(key: &str) -> bool {
    let part = |text: &str| {
        (1..=63).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    key.split_once('/').is_some_and(|(namespace, name)| part(namespace) && part(name))
}

/// A service's port, without those who serve it.
fn forward(
    service: Service,
    port: ServicePort,
    protocol: Protocol,
    number: u16,
    here: &Here,
    pool: Option<AddressPool>,
) -> Forward {
    let object = service.0;
    let of_family = |address: &IpAddr| Family::of(*address) == here.family();
    let read = |text: &str| read_address(text).filter(of_family);
    let addresses =
        |path: &[&str]| -> BTreeSet<IpAddr> { object.list_at(path).iter().filter_map(Value::as_str).filter_map(read).collect() };
    let balancer = service.kind() == "LoadBalancer";
    let mut balanced = BTreeSet::new();
    if balancer {
        let ingress = object.list_at(&["status", "loadBalancer", "ingress"]);
        let direct = |entry: &&Value| entry.get("ipMode").and_then(Value::as_str) != Some("Proxy");
        balanced.extend(ingress.iter().filter(direct).filter_map(|entry| read_address(entry.get("ip")?.as_str()?)));
        let in_pool =
            |address: &IpAddr| matches!(address, IpAddr::V4(address) if pool.is_some_and(|pool| pool.contains(*address)));
        let pooled = balanced.iter().any(in_pool);
        // What is in the pool is so for both families, though the pool has addresses of IPv4 only.
        balanced.retain(of_family);
        if object.str_at(&["spec", "loadBalancerClass"]).is_empty() && !pooled {
            balanced.extend(here.addresses.iter().filter(|address| of_family(address) && is_reachable(**address)));
        }
    }
    let outside = addresses(&["spec", "externalIPs"]);
    let reached_from_outside = service.kind() != "ClusterIP" || !outside.is_empty();
    let policy = |field: &str| if object.str_at(&["spec", field]) == "Local" { Policy::Local } else { Policy::Cluster };
    let ranges = object.list_at(&["spec", "loadBalancerSourceRanges"]);
    let sources = ranges.iter().filter_map(|range| range.as_str()?.trim().parse().ok());
    let sources: Vec<IpNet> = sources.filter(|range: &IpNet| of_family(&range.addr())).collect();
    Forward {
        protocol,
        port: number,
        inside: service.cluster_ips().filter_map(read).collect(),
        balanced: balanced.difference(&outside).copied().collect(),
        outside,
        sources: (balancer && !ranges.is_empty()).then_some(sources),
        node_port: port.node_port().filter(|_| service.has_node_ports()),
        affinity: affinity(object),
        all: Vec::new(),
        local: Vec::new(),
        inside_policy: policy("internalTrafficPolicy"),
        outside_policy: if reached_from_outside { policy("externalTrafficPolicy") } else { Policy::Cluster },
    }
}

fn affinity(service: &Object) -> Option<Duration> {
    (service.str_at(&["spec", "sessionAffinity"]) == "ClientIP").then(|| {
        let seconds = service.i64_at(&["spec", "sessionAffinityConfig", "clientIP", "timeoutSeconds"]);
        let seconds =
            seconds.and_then(|seconds| u64::try_from(seconds).ok()).filter(|seconds| (1..=AFFINITY_MOST).contains(seconds));
        Duration::from_secs(seconds.unwrap_or(AFFINITY))
    })
}

fn read_address(text: &str) -> Option<IpAddr> {
    text.parse().ok().filter(|address| is_reachable(*address))
}

/// Whether packets may be sent there at all: never to somebody's own loopback, into the link only, or to a group.
fn is_reachable(address: IpAddr) -> bool {
    let in_link = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        // An IPv4 address in IPv6's clothes is on no wire.
        IpAddr::V6(address) => address.is_unicast_link_local() || address.to_ipv4_mapped().is_some(),
    };
    !(in_link || address.is_loopback() || address.is_multicast() || address.is_unspecified())
}

/// Adds who serves: those that are ready; with none, those that still serve on their way out.
fn endpoints(
    key: &str,
    port: ServicePort,
    protocol: Protocol,
    slices: &[EndpointSlice],
    here: &Here,
    forward: &mut Forward,
    table: &mut Table,
) {
    let (mut ready, mut leaving) = (BTreeSet::new(), BTreeSet::new());
    for slice in slices {
        let same = |other: &EndpointPort| other.name() == port.name() && Protocol::read(other.protocol()) == Some(protocol);
        let ports: Vec<u16> = slice.ports().filter(same).filter_map(EndpointPort::port).collect();
        for endpoint in slice.endpoints() {
            let leaves = !endpoint.is_ready() && endpoint.is_serving() && endpoint.is_terminating();
            if ports.is_empty() || (!endpoint.is_ready() && !leaves) {
                continue;
            }
            let address = match endpoint.address() {
                Some(address) if Family::of(address) == here.family() && is_reachable(address) => address,
                Some(address) => {
                    table.words.insert(format!(
                        "service {key}: its endpoint {address} gets no traffic: it is no address that a service may have"
                    ));
                    continue;
                }
                None => continue,
            };
            let local = endpoint.node() == Some(here.node);
            if here.range.contains(&address) {
                table.here.insert(address);
            }
            let into = if leaves { &mut leaving } else { &mut ready };
            into.extend(ports.iter().map(|port| (Backend { address, port: *port }, local)));
        }
    }
    let pick = |only_local: bool| {
        let of = |set: &BTreeSet<(Backend, bool)>| -> Vec<Backend> {
            let backends = set.iter().filter(|(_, local)| *local || !only_local).map(|(backend, _)| *backend);
            backends.collect::<BTreeSet<_>>().into_iter().collect()
        };
        let ready = of(&ready);
        if ready.is_empty() { of(&leaving) } else { ready }
    };
    forward.all = pick(false);
    forward.local = pick(true);
}

/// The API that listens on loopback only is reached through our relay.
fn relayed(key: &str, here: &Here, forward: &mut Forward) {
    if let Some(port) = here.relay.filter(|_| key == "default/kubernetes" && forward.all.is_empty()) {
        let backend = Backend { address: here.gateway, port };
        (forward.all, forward.local) = (vec![backend], vec![backend]);
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
pub(crate) mod tests;
