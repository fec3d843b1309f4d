//! What network policies come to: selectors and named ports resolved to addresses and numbers, for all nodes alike.
//!
//! In:       the view: policies, pods, namespaces' labels.
//! Out:      a `link::policy::ResolvedPolicy` for each policy, as `Share::policies` holds them; its JSON is told there.
//! Never:    decides which packet passes (`agent/policy`), or sends anything (`run.rs`).
//! Source:   Kubernetes' documentation of `NetworkPolicy` (networking.k8s.io/v1) and the comments of its fields.
//! Flow:     from the store, on to the network's share, to `agent/policy/rules.rs` on each node.
//!
//! A pod counts when it has an address of its own, or one of each family: not on its host's network, and not ended. One that is on its way out counts,
//! since it still has its address. A named port that is looked up at "everybody" (`to` is empty) means every pod of the cluster that has
//! a port of that name; an `ipBlock` has no named ports.
//!
//! Costs (policies × selectors) × pods of the namespaces they look at, each time that [`concerns`] says so.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::api::core::pod::Pod;
use crate::api::registry::{NAMESPACES, NETWORK_POLICIES, PODS};
use crate::api::selector::Selector;
use crate::api::{Key, Object};
use crate::link::policy::{PortRange, Protocol, ResolvedPolicy, Rule};
use crate::link::ranges::{Address, Ranges};
use crate::store::View;

/// Whether a change of this object can change what any policy comes to. Cheap: most changes of a pod do not.
#[must_use]
pub fn concerns(key: &Key, before: Option<&Object>, after: Option<&Object>) -> bool {
    if *key.resource == PODS {
        return before.and_then(Member::of) != after.and_then(Member::of);
    }
    if *key.resource == NAMESPACES {
        let labels = |object: Option<&Object>| object.map(|object| object.at(&["metadata", "labels"]).cloned());
        return labels(before) != labels(after);
    }
    if *key.resource == NETWORK_POLICIES {
        let spec = |object: Option<&Object>| object.map(|object| object.at(&["spec"]).cloned());
        return spec(before) != spec(after);
    }
    false
}

/// All policies, resolved, by `namespace/name`.
#[must_use]
pub fn policies_of(view: &View) -> BTreeMap<String, Arc<Object>> {
    let mut policies = view.list(&NETWORK_POLICIES, None).peekable();
    if policies.peek().is_none() {
        return BTreeMap::new();
    }
    let cluster = Cluster::of(view);
    policies
        .filter_map(|policy| {
            let resolved = serde_json::to_value(cluster.resolved(policy)).ok().and_then(Object::from_value)?;
            Some((format!("{}/{}", policy.namespace(), policy.name()), Arc::new(resolved)))
        })
        .collect()
}

/// What policies look at in a pod.
#[derive(Clone, Debug, PartialEq)]
struct Member<'a> {
    address: Option<Ipv4Addr>,
    address6: Option<Ipv6Addr>,
    labels: Option<&'a Value>,
    /// Its ports that have names.
    ports: Vec<(&'a str, PortRange)>,
}

impl<'a> Member<'a> {
    fn of(pod: &'a Object) -> Option<Self> {
        if pod.bool_at(&["spec", "hostNetwork"]) || Pod(pod).is_terminal() {
            return None;
        }
        let several = pod.list_at(&["status", "podIPs"]).iter().filter_map(|entry| entry.get("ip")?.as_str());
        let (mut address, mut address6) = (None, None);
        for ip in several.chain([pod.str_at(&["status", "podIP"])]) {
            match ip.parse() {
                Ok(IpAddr::V4(ip)) => address = address.or(Some(ip)),
                Ok(IpAddr::V6(ip)) => address6 = address6.or(Some(ip)),
                Err(_) => {}
            }
        }
        if address.is_none() && address6.is_none() {
            return None;
        }
        let sidecar = |container: &&Value| container.get("restartPolicy").and_then(Value::as_str) == Some("Always");
        let containers = pod.list_at(&["spec", "containers"]).iter();
        let ports = containers
            .chain(pod.list_at(&["spec", "initContainers"]).iter().filter(sidecar))
            .filter_map(|container| container.get("ports")?.as_array())
            .flatten()
            .filter_map(|port| {
                let number = port.get("containerPort")?.as_u64()?.try_into().ok()?;
                Some((port.get("name")?.as_str()?, PortRange::one(protocol_of(port)?, number)))
            })
            .collect();
        Some(Self { address, address6, labels: pod.at(&["metadata", "labels"]), ports })
    }

    fn is_selected(&self, selector: &Selector) -> bool {
        selector.matches(|key| self.labels.and_then(|labels| labels.get(key)?.as_str()))
    }

    /// The number that a named port has in it.
    fn port(&self, name: &str, protocol: Protocol) -> Option<PortRange> {
        self.ports.iter().find(|(own, port)| *own == name && port.protocol == protocol).map(|(_, port)| *port)
    }
}

/// Addresses of both families.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Addresses {
    v4: Ranges,
    v6: Ranges<Ipv6Addr>,
}

impl Addresses {
    fn or(self, other: Self) -> Self {
        Self { v4: self.v4.or(other.v4), v6: self.v6.or(other.v6) }
    }

    fn is_all(&self) -> bool {
        self.v4.is_all() && self.v6.is_all()
    }

    fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

/// What a rule of a policy allows: [`Rule`] before it is put for the wire.
struct Allowed {
    pods: Option<Addresses>,
    peers: Option<Addresses>,
    ports: Option<BTreeSet<PortRange>>,
}

impl From<Allowed> for Rule {
    fn from(Allowed { pods, peers, ports }: Allowed) -> Self {
        let halves = |both: Option<Addresses>| both.map_or((None, Ranges::default()), |both| (Some(both.v4), both.v6));
        let ((pods, pods6), (peers, peers6)) = (halves(pods), halves(peers));
        Rule { pods, pods6, peers, peers6, ports }
    }
}

/// The pods and namespaces, once for all policies.
struct Cluster<'a> {
    namespaces: BTreeMap<&'a str, &'a Object>,
    pods: BTreeMap<&'a str, Vec<Member<'a>>>,
}

/// The ports of a rule: those with numbers, and those with names.
struct Ports<'a> {
    numbers: BTreeSet<PortRange>,
    names: BTreeSet<(&'a str, Protocol)>,
}

impl<'a> Cluster<'a> {
    fn of(view: &'a View) -> Self {
        let mut pods: BTreeMap<&str, Vec<Member<'_>>> = BTreeMap::new();
        for pod in view.list(&PODS, None) {
            if let Some(member) = Member::of(pod) {
                pods.entry(pod.namespace()).or_default().push(member);
            }
        }
        Self { namespaces: view.list(&NAMESPACES, None).map(|one| (one.name(), &**one)).collect(), pods }
    }

    fn resolved(&self, policy: &Object) -> ResolvedPolicy {
        let selector = policy.at(&["spec", "podSelector"]).filter(|selector| !selector.is_null()).cloned().unwrap_or(json!({}));
        let (ingress, egress) = directions(policy);
        let pods = self.selected(policy.namespace(), &selector);
        let resolve = |list: &str, side: &str, whose: Side| {
            let rules = policy.list_at(&["spec", list]).iter();
            joined(rules.flat_map(|rule| self.rules(policy.namespace(), rule, side, &pods, whose)))
        };
        let Addresses { v4, v6 } = addresses(&pods);
        ResolvedPolicy {
            ingress: ingress.then(|| resolve("ingress", "from", Side::Target)),
            egress: egress.then(|| resolve("egress", "to", Side::Peer)),
            pods: v4,
            pods6: v6,
            selector,
        }
    }

    /// The pods of a namespace that a `podSelector` selects. What is no selector selects none.
    fn selected(&self, namespace: &str, selector: &Value) -> Vec<&Member<'a>> {
        let Ok(selector) = Selector::from_object(selector) else { return Vec::new() };
        self.pods.get(namespace).into_iter().flatten().filter(|pod| pod.is_selected(&selector)).collect()
    }

    /// What one rule of a policy allows; `from_or_to` is where its peers stand, `named` where its named ports are looked up.
    fn rules(&self, namespace: &str, rule: &Value, from_or_to: &str, targets: &[&Member<'a>], named: Side) -> Vec<Allowed> {
        let peers = list(rule, from_or_to);
        let everybody = peers.is_empty();
        let mut pods: Vec<&Member<'a>> = Vec::new();
        let mut blocks = Addresses::default();
        for peer in peers {
            match peer.get("ipBlock").filter(|block| !block.is_null()) {
                Some(block) => blocks = blocks.or(block_of(block)),
                None => pods.extend(self.peers(namespace, peer)),
            }
        }
        let whole = (!everybody).then(|| blocks.or(addresses(&pods)));
        if list(rule, "ports").is_empty() {
            return vec![Allowed { pods: None, peers: whole, ports: None }];
        }
        let Ports { numbers, names } = ports_of(rule);
        let mut rules = vec![Allowed { pods: None, peers: whole.clone(), ports: Some(numbers) }];
        for (name, protocol) in names {
            match named {
                Side::Target => {
                    for (port, group) in by_port(targets, name, protocol) {
                        let some = (group.len() < targets.len()).then(|| addresses(&group));
                        rules.push(Allowed { pods: some, peers: whole.clone(), ports: Some([port].into()) });
                    }
                }
                Side::Peer => {
                    let all = || self.pods.values().flatten().collect::<Vec<_>>();
                    let group = if everybody { by_port(&all(), name, protocol) } else { by_port(&pods, name, protocol) };
                    for (port, group) in group {
                        rules.push(Allowed { pods: None, peers: Some(addresses(&group)), ports: Some([port].into()) });
                    }
                }
            }
        }
        rules
    }

    /// The pods that a peer names: of the policy's own namespace, or of those that `namespaceSelector` selects.
    fn peers(&self, own: &str, peer: &Value) -> Vec<&Member<'a>> {
        let given = |key: &str| peer.get(key).filter(|selector| !selector.is_null());
        let everything = json!({});
        match (given("namespaceSelector"), given("podSelector")) {
            (None, None) => Vec::new(),
            (None, Some(pods)) => self.selected(own, pods),
            (Some(namespaces), pods) => {
                let Ok(selector) = Selector::from_object(namespaces) else { return Vec::new() };
                let chosen = self.namespaces.iter().filter(|(name, object)| {
                    // Every namespace bears its name as a label, whether it is written there or not.
                    selector.matches(|key| object.label(key).or((key == "kubernetes.io/metadata.name").then_some(**name)))
                });
                chosen.flat_map(|(name, _)| self.selected(name, pods.unwrap_or(&everything))).collect()
            }
        }
    }
}

/// Where a rule's named ports are looked up: ingress connects to the policy's pods, egress to the peers.
#[derive(Clone, Copy)]
enum Side {
    Target,
    Peer,
}

/// Of which directions a policy speaks. What is not said: ingress always, egress when it has rules for it.
fn directions(policy: &Object) -> (bool, bool) {
    let types = policy.list_at(&["spec", "policyTypes"]);
    let named = |kind: &str| types.iter().any(|one| one.as_str() == Some(kind));
    if types.is_empty() { (true, !policy.list_at(&["spec", "egress"]).is_empty()) } else { (named("Ingress"), named("Egress")) }
}

/// The rules with the same pods and ports made one, without those that allow nothing, in order.
fn joined(rules: impl Iterator<Item = Allowed>) -> Vec<Rule> {
    let mut joined: BTreeMap<_, Option<Addresses>> = BTreeMap::new();
    for Allowed { pods, peers, ports } in rules {
        let peers = peers.filter(|peers| !peers.is_all());
        let nobody = peers.as_ref().is_some_and(Addresses::is_empty) || ports.as_ref().is_some_and(BTreeSet::is_empty);
        if !nobody {
            let known = joined.entry((pods, ports)).or_insert_with(|| Some(Addresses::default()));
            *known = known.take().zip(peers).map(|(known, more)| known.or(more));
        }
    }
    joined.into_iter().map(|((pods, ports), peers)| Allowed { pods, peers, ports }.into()).collect()
}

/// The addresses of a block without its exceptions: of one family, whichever it is.
fn block_of(block: &Value) -> Addresses {
    Addresses { v4: half_of(block), v6: half_of(block) }
}

fn half_of<A: Address>(block: &Value) -> Ranges<A> {
    let net = |text: &Value| text.as_str().and_then(|text| text.parse().ok()).map(Ranges::<A>::net);
    let without = list(block, "except").iter().filter_map(net).fold(Ranges::default(), Ranges::or);
    block.get("cidr").and_then(net).unwrap_or_default().but(&without)
}

/// A rule's ports. What is none is left out: then less is allowed, not more.
fn ports_of(rule: &Value) -> Ports<'_> {
    let mut ports = Ports { numbers: BTreeSet::new(), names: BTreeSet::new() };
    for port in list(rule, "ports") {
        let Some(protocol) = protocol_of(port) else { continue };
        let number = |value: &Value| value.as_u64().and_then(|number| u16::try_from(number).ok());
        match port.get("port").filter(|port| !port.is_null()) {
            None => {
                ports.numbers.insert(PortRange { protocol, ports: None });
            }
            Some(Value::String(name)) => {
                ports.names.insert((name, protocol));
            }
            Some(first) => {
                let last = port.get("endPort").filter(|last| !last.is_null()).unwrap_or(first);
                if let Some((first, last)) = number(first).zip(number(last)).filter(|(first, last)| first <= last) {
                    ports.numbers.insert(PortRange { protocol, ports: Some((first, last)) });
                }
            }
        }
    }
    ports
}

fn protocol_of(port: &Value) -> Option<Protocol> {
    Protocol::of_kubernetes(port.get("protocol").and_then(Value::as_str).unwrap_or_default())
}

/// Pods by the number that a named port has in them.
fn by_port<'m, 'a>(pods: &[&'m Member<'a>], name: &str, protocol: Protocol) -> BTreeMap<PortRange, Vec<&'m Member<'a>>> {
    let mut groups: BTreeMap<PortRange, Vec<&'m Member<'a>>> = BTreeMap::new();
    for pod in pods {
        if let Some(port) = pod.port(name, protocol) {
            groups.entry(port).or_default().push(pod);
        }
    }
    groups
}

fn addresses(pods: &[&Member<'_>]) -> Addresses {
    Addresses {
        v4: pods.iter().filter_map(|pod| pod.address).collect(),
        v6: pods.iter().filter_map(|pod| pod.address6).collect(),
    }
}

fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
