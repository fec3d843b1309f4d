//! The forwards as what the kernel's nftables is to hold: sets, maps, chains, rules. Words of nftables, no syntax of it.
//!
//! ```text
//!  prerouting, output ─▶ services ─▶ @cluster-ips  ─▶ svc-…   every backend       ┐
//!                           │                    └──▶ local-… those of this node  ├─▶ dnat, or ep-… where clients are remembered
//!                           ▼                                                     │
//!                        external ─▶ @external-ips ─▶ (fw-… ▶) ext-… ─▶ svc-…, local-…
//!                                  ─▶ @node-ports  ─▶          ext-…
//!  input, forward, output (filter) ─▶ @no-endpoints, @no-endpoint-ports ─▶ refuse, drop
//!  postrouting ─▶ masq, where an answer would not come back this way
//! ```
//!
//! A packet meets two or three lookups, however many services there are; the size follows the number of backends.
//!
//! Several agents on one host have a table each. A pod's traffic to a cluster address is turned by the table that has the pod's bridge, and
//! by no other; the host's own, and that from outside, by the first of the tables: they all have the same services. What nobody has turned
//! is refused only after all have had it (filter comes after nat), so a table that has no backend of its own does not stand in the way.
//!
//! In:       a [`Table`], and where the pods are ([`Base`]), of one family of addresses.
//! Out:      a [`Ruleset`], compared in `change.rs`.
//! Source:   the shape of kube-proxy's nftables mode; there is a chain for a backend only where affinity needs one, else one map of each
//!           service holds them. The mark that asks for masquerading is kube-proxy's bit with kube-proxy's meaning.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::table::{Backend, Forward, Policy, Protocol, Table};
use crate::agent::family::Family;

/// The bit of a packet's mark that asks for masquerading.
pub const MARK: u32 = 0x4000;
/// The priority of destination NAT, and of source NAT.
const DSTNAT: i32 = -100;
const SRCNAT: i32 = 100;
/// Refusing comes before the usual filters: an answer "refused" is better than the silence of a policy `drop`.
const REFUSE: i32 = -10;
const LOOPBACK: IpNet = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8));
const LOOPBACK6: IpNet = IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128));

/// Where the pods are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// The name of the table.
    pub table: String,
    /// The bridge of this node's pods.
    pub bridge: String,
    /// The addresses of this node's pods.
    pub range: IpNet,
    /// The host's own address among them.
    pub gateway: IpAddr,
    /// The tunnel to other nodes, if there is one.
    pub tunnel: String,
    /// The addresses of all pods.
    pub pods: IpNet,
    /// The addresses of services, when known: what of them is no service is refused.
    pub services: Option<IpNet>,
    /// Whether packets that stay on the bridge pass the rules (`bridge-nf-call-iptables`, `…-ip6tables`). If not, answers between two pods of the bridge
    /// would go past them, so that such traffic is masqueraded.
    pub bridge_filter: bool,
}

impl Base {
    /// The family of its addresses.
    #[must_use]
    pub fn family(&self) -> Family {
        Family::of(self.gateway)
    }
}

/// A condition or an act of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// It came from there.
    From(IpNet),
    /// It came from elsewhere.
    NotFrom(IpNet),
    /// It goes there.
    To(IpNet),
    /// It goes elsewhere.
    NotTo(IpNet),
    /// It came in by this interface.
    In(String),
    /// It came in by another interface.
    NotIn(String),
    /// It leaves by this interface.
    Out(String),
    /// It does not leave by this interface.
    NotOut(String),
    /// It came in by a bridge.
    InBridge,
    /// An address of this host has sent it.
    FromHost,
    /// It goes to an address of this host.
    ToHost,
    /// The first packet of a connection.
    New,
    /// Its destination was turned.
    Turned,
    /// Its mark asks for masquerading.
    Marked,
    /// It is of this protocol.
    Is(Protocol),
    /// Its source is in this set.
    Remembered(String),
    /// Its source and destination are in this set of pairs.
    Pair(String),
    /// Puts its source into this set.
    Remember(String),
    /// Asks for masquerading.
    Mark,
    /// Asks no longer.
    Unmark,
    /// Goes where the map says for its destination, protocol and port.
    ByAddress(String),
    /// Goes where the map says for its protocol and port.
    ByPort(String),
    /// On to that chain, for good.
    Goto(String),
    /// On to one of these chains, by chance.
    GotoOne(Vec<String>),
    /// Turned to one of these, by chance.
    Dnat(Vec<Backend>),
    /// Its source becomes the host's.
    Masquerade,
    /// Its source becomes this one.
    Snat(IpAddr),
    /// Gone without a word.
    Drop,
    /// Gone with an answer by ICMP: "port unreachable".
    Reject,
    /// Gone with an answer by TCP. No limit on the rate of ICMP keeps it back.
    Reset,
    /// ICMP's word that there is a shorter way. Of IPv4 only.
    Redirect,
}

/// One rule.
pub type Rule = Vec<Part>;

/// Where a chain hangs in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Destinations, of what comes in.
    NatPrerouting,
    /// Destinations, of what the host sends.
    NatOutput,
    /// Sources.
    NatPostrouting,
    /// Refusing, of what is for the host.
    FilterInput,
    /// Refusing, of what passes.
    FilterForward,
    /// Refusing, of what the host sends.
    FilterOutput,
}

impl Hook {
    /// Its type, its name, its number in the kernel, its priority.
    #[must_use]
    pub fn facts(self) -> (&'static str, &'static str, u32, i32) {
        match self {
            Hook::NatPrerouting => ("nat", "prerouting", 0, DSTNAT),
            Hook::NatOutput => ("nat", "output", 3, DSTNAT),
            Hook::NatPostrouting => ("nat", "postrouting", 4, SRCNAT),
            Hook::FilterInput => ("filter", "input", 1, REFUSE),
            Hook::FilterForward => ("filter", "forward", 2, REFUSE),
            Hook::FilterOutput => ("filter", "output", 3, REFUSE),
        }
    }
}

/// A chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// `None`: others go to it.
    pub hook: Option<Hook>,
    /// In order.
    pub rules: Vec<Rule>,
}

/// What a set holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetKind {
    /// Address, protocol and port to what happens.
    ByAddress,
    /// Protocol and port to what happens.
    ByPort,
    /// Pairs of addresses.
    Pairs,
    /// Addresses that the kernel adds itself and forgets after this time.
    Clients(Duration),
}

/// A key of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// Of [`SetKind::ByAddress`].
    Address(IpAddr, Protocol, u16),
    /// Of [`SetKind::ByPort`].
    Port(Protocol, u16),
    /// Of [`SetKind::Pairs`].
    Pair(IpAddr, IpAddr),
}

/// What happens at a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is only in the set.
    Member,
    /// On to that chain.
    Goto(String),
    /// Gone without a word.
    Drop,
}

/// All of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// Of its addresses.
    pub family: Family,
    /// Its name.
    pub table: String,
    /// By name.
    pub sets: BTreeMap<String, SetKind>,
    /// By name.
    pub chains: BTreeMap<String, Chain>,
    /// What is in the sets, by their names; nothing of those that the kernel fills.
    pub elements: BTreeMap<String, BTreeMap<Key, Verdict>>,
}

const CLUSTER_IPS: &str = "cluster-ips";
const EXTERNAL_IPS: &str = "external-ips";
const NODE_PORTS: &str = "node-ports";
const NO_ENDPOINTS: &str = "no-endpoints";
const NO_ENDPOINT_PORTS: &str = "no-endpoint-ports";
const HAIRPIN: &str = "hairpin";

/// What the kernel is to hold for these forwards.
#[must_use]
pub fn ruleset(base: &Base, table: &Table) -> Ruleset {
    let mut set = Ruleset { family: base.family(), table: base.table.clone(), ..Ruleset::default() };
    frame(base, &mut set);
    for (name, forward) in &table.forwards {
        add(base, name, forward, &mut set);
    }
    for address in &table.here {
        set.element(HAIRPIN, Key::Pair(*address, *address), Verdict::Member);
    }
    set
}

impl Ruleset {
    fn element(&mut self, set: &str, key: Key, verdict: Verdict) {
        self.elements.entry(set.to_owned()).or_default().insert(key, verdict);
    }

    fn chain(&mut self, name: &str, hook: Option<Hook>, rules: Vec<Rule>) {
        self.chains.insert(name.to_owned(), Chain { hook, rules });
    }
}

/// What is there without any service.
fn frame(base: &Base, set: &mut Ruleset) {
    for (name, kind) in [
        (CLUSTER_IPS, SetKind::ByAddress),
        (EXTERNAL_IPS, SetKind::ByAddress),
        (NODE_PORTS, SetKind::ByPort),
        (NO_ENDPOINTS, SetKind::ByAddress),
        (NO_ENDPOINT_PORTS, SetKind::ByPort),
        (HAIRPIN, SetKind::Pairs),
    ] {
        set.sets.insert(name.to_owned(), kind);
        set.elements.insert(name.to_owned(), BTreeMap::new());
    }
    let goto = |chain: &str| Part::Goto(chain.to_owned());
    let by_address = |map: &str| Part::ByAddress(map.to_owned());
    let loopback = match base.family() {
        Family::V4 => LOOPBACK,
        Family::V6 => LOOPBACK6,
    };
    let to_port = |map: &str| vec![Part::ToHost, Part::NotTo(loopback), Part::ByPort(map.to_owned())];
    let new = |mut rule: Rule| {
        rule.insert(0, Part::New);
        rule
    };
    set.chain("services", None, vec![vec![by_address(CLUSTER_IPS)], vec![goto("external")]]);
    set.chain("external", None, vec![vec![by_address(EXTERNAL_IPS)], to_port(NODE_PORTS)]);
    // Other pods' bridges are other tables' business.
    let others = vec![Part::InBridge, Part::NotIn(base.bridge.clone()), goto("external")];
    set.chain("prerouting", Some(Hook::NatPrerouting), vec![others, vec![goto("services")]]);
    set.chain("nat-output", Some(Hook::NatOutput), vec![vec![goto("services")]]);
    let mut after = vec![vec![Part::Marked, goto("masq")], vec![Part::Turned, Part::Pair(HAIRPIN.to_owned()), Part::Masquerade]];
    if !base.bridge_filter {
        after.push(vec![Part::Turned, Part::From(base.range), Part::To(base.range), Part::Masquerade]);
    }
    set.chain("postrouting", Some(Hook::NatPostrouting), after);
    // What stays on the host has its way back.
    // The tunnel has no address: with the LAN's answers would come past it, and be too large for the way there.
    let by_tunnel = vec![Part::Out(base.tunnel.clone()), Part::Snat(base.gateway)];
    set.chain("masq", None, vec![vec![Part::Unmark], by_tunnel, vec![Part::NotOut("lo".to_owned()), Part::Masquerade]]);
    set.chain("refuse", None, vec![vec![Part::Is(Protocol::Tcp), Part::Reset], vec![Part::Reject]]);
    let none = || new(vec![by_address(NO_ENDPOINTS)]);
    let (mut forward, mut output) = (vec![none()], vec![none(), new(to_port(NO_ENDPOINT_PORTS))]);
    if let Some(services) = base.services {
        forward.push(new(vec![Part::In(base.bridge.clone()), Part::To(services), goto("refuse")]));
        output.push(new(vec![Part::To(services), goto("refuse")]));
    }
    // A pod that took it at its word would send what is for a service past the rules. In IPv6 it speaks of the pod, not of the service.
    if base.family() == Family::V4 {
        output.push(vec![Part::Out(base.bridge.clone()), Part::Redirect, Part::Drop]);
    }
    set.chain("filter-input", Some(Hook::FilterInput), vec![none(), new(to_port(NO_ENDPOINT_PORTS))]);
    set.chain("filter-forward", Some(Hook::FilterForward), forward);
    set.chain("filter-output", Some(Hook::FilterOutput), output);
}

/// One port of one service.
fn add(base: &Base, name: &str, forward: &Forward, set: &mut Ruleset) {
    let key = |address: &IpAddr| Key::Address(*address, forward.protocol, forward.port);
    let (svc, local, ext, fw) = (format!("svc-{name}"), format!("local-{name}"), format!("ext-{name}"), format!("fw-{name}"));
    let refuse = || Verdict::Goto("refuse".to_owned());
    if forward.all.is_empty() {
        for address in forward.inside.iter().chain(&forward.outside).chain(&forward.balanced) {
            set.element(NO_ENDPOINTS, key(address), refuse());
        }
        if let Some(port) = forward.node_port {
            set.element(NO_ENDPOINT_PORTS, Key::Port(forward.protocol, port), refuse());
        }
        return;
    }
    let from_outside = !forward.outside.is_empty() || !forward.balanced.is_empty() || forward.node_port.is_some();
    let inside_local = forward.inside_policy == Policy::Local;
    let outside_local = forward.outside_policy == Policy::Local;
    let needs_local = !forward.local.is_empty() && (inside_local || (from_outside && outside_local));
    let mut remembered: Vec<&Backend> = Vec::new();
    if !inside_local || from_outside {
        let mut rules = vec![vec![Part::NotFrom(base.pods), Part::Mark]];
        rules.extend(choice(name, forward, &forward.all));
        set.chain(&svc, None, rules);
        remembered.extend(&forward.all);
    }
    if needs_local {
        set.chain(&local, None, choice(name, forward, &forward.local));
        remembered.extend(&forward.local);
    }
    if let Some(time) = forward.affinity {
        for backend in remembered {
            let (clients, chain) = (clients(name, time, *backend), remembering(name, *backend));
            let rules = vec![vec![Part::Remember(clients.clone())], vec![Part::Is(forward.protocol), Part::Dnat(vec![*backend])]];
            set.sets.insert(clients, SetKind::Clients(time));
            set.chain(&chain, None, rules);
        }
    }
    for address in &forward.inside {
        match (inside_local, forward.local.is_empty()) {
            (false, _) => set.element(CLUSTER_IPS, key(address), Verdict::Goto(svc.clone())),
            (true, false) => set.element(CLUSTER_IPS, key(address), Verdict::Goto(local.clone())),
            (true, true) => set.element(NO_ENDPOINTS, key(address), Verdict::Drop),
        }
    }
    if !from_outside {
        return;
    }
    let goto = |chain: &str| Part::Goto(chain.to_owned());
    let mut rules = if outside_local {
        // Who is on this node is not outside: all backends serve it.
        vec![vec![Part::From(base.range), goto(&svc)], vec![Part::FromHost, goto(&svc)]]
    } else {
        // Pods of other nodes, too: else the answer would go to them past this node.
        vec![vec![Part::NotFrom(base.range), Part::Mark], vec![goto(&svc)]]
    };
    if outside_local && !forward.local.is_empty() {
        rules.push(vec![goto(&local)]);
    }
    set.chain(&ext, None, rules);
    let silent = outside_local && forward.local.is_empty();
    let sources = forward.sources.as_ref().filter(|_| !forward.balanced.is_empty());
    if let Some(sources) = sources {
        let allowed = sources.iter().map(|range| vec![Part::From(*range), goto(&ext)]);
        set.chain(&fw, None, allowed.chain([vec![Part::Drop]]).collect());
    }
    let balanced = forward.balanced.iter().map(|address| (address, if sources.is_some() { &fw } else { &ext }));
    for (address, chain) in forward.outside.iter().map(|address| (address, &ext)).chain(balanced) {
        set.element(EXTERNAL_IPS, key(address), Verdict::Goto(chain.clone()));
        if silent {
            set.element(NO_ENDPOINTS, key(address), Verdict::Drop);
        }
    }
    if let Some(port) = forward.node_port {
        set.element(NODE_PORTS, Key::Port(forward.protocol, port), Verdict::Goto(ext));
        if silent {
            set.element(NO_ENDPOINT_PORTS, Key::Port(forward.protocol, port), Verdict::Drop);
        }
    }
}

/// The set of a backend's clients. The time is in its name, since a set cannot change it.
fn clients(name: &str, time: Duration, backend: Backend) -> String {
    format!("clients-{}s-{name}/{}", time.as_secs(), plain(backend))
}

/// The chain of a backend that remembers its clients.
fn remembering(name: &str, backend: Backend) -> String {
    format!("ep-{name}/{}", plain(backend))
}

/// A backend as a part of a name: nft knows no colons there.
fn plain(backend: Backend) -> String {
    format!("{}/{}", backend.address, backend.port).replace(':', ".")
}

/// The rules that pick one of these. A map that a rule owns goes with it in a moment of its own: to a packet that is between the two when
/// the rule is replaced (1 of 220,000 connections during 2,726 changes) it is empty, and the rule says nothing. The next one does.
fn choice(name: &str, forward: &Forward, backends: &[Backend]) -> Vec<Rule> {
    let Some(time) = forward.affinity else {
        let to = |backends: &[Backend]| vec![Part::Is(forward.protocol), Part::Dnat(backends.to_vec())];
        let first = backends.get(..1).filter(|_| backends.len() > 1);
        return std::iter::once(backends).chain(first).map(to).collect();
    };
    let chain = |backend: &Backend| remembering(name, *backend);
    let known = |backend: &Backend| vec![Part::Remembered(clients(name, time, *backend)), Part::Goto(chain(backend))];
    let any = vec![Part::GotoOne(backends.iter().map(chain).collect())];
    let first = backends.first().map(|backend| vec![Part::Goto(chain(backend))]);
    backends.iter().map(known).chain([any]).chain(first).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::change::{Step, change, whole};
    use super::super::table::tests::{here, here6, share};
    use super::super::table::{Here, table};
    use super::super::text::text;
    use super::*;
    use crate::link::share::Share;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    pub(crate) fn base() -> Base {
        Base {
            table: "bramble-test".to_owned(),
            bridge: "br0".to_owned(),
            range: "10.244.1.0/24".parse().unwrap(),
            gateway: "10.244.1.1".parse().unwrap(),
            tunnel: "bvx-test".to_owned(),
            pods: "10.244.0.0/16".parse().unwrap(),
            services: Some("10.96.0.0/16".parse().unwrap()),
            bridge_filter: true,
        }
    }

    fn base6() -> Base {
        Base {
            range: here6().range,
            gateway: here6().gateway,
            pods: "fd00:244::/56".parse().unwrap(),
            services: Some("fd00:96::/112".parse().unwrap()),
            bridge_filter: false,
            ..base()
        }
    }

    fn golden(file: &str, new: &Ruleset) {
        let text = text(new.family, "bramble-test", &whole(new));
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file);
        if std::env::var("GOLDEN").is_ok_and(|mode| mode == "write") {
            std::fs::write(&path, &text).unwrap();
        }
        assert_eq!(text, std::fs::read_to_string(path).unwrap());
    }

    fn of(share: &Share) -> Ruleset {
        ruleset(&base(), &table(share, &Here { relay: Some(6000), ..here() }))
    }

    #[test]
    fn the_text_is_pinned() {
        let spec = |ip: &str, kind: &str, more: Value| {
            let mut spec = json!({"type": kind, "clusterIP": ip, "ports": [{"port": 80}]});
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            spec
        };
        let node_port = |more: Value| {
            let mut spec = spec("10.96.0.21", "LoadBalancer", json!({"ports": [{"port": 81, "nodePort": 30081}]}));
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            spec
        };
        let services = [
            ("default/plain", spec("10.96.0.20", "ClusterIP", json!({"externalIPs": ["203.0.113.5"]}))),
            (
                "default/local",
                node_port(json!({"externalTrafficPolicy": "Local", "loadBalancerSourceRanges": ["192.168.0.0/16"]})),
            ),
            (
                "default/sticky",
                spec("10.96.0.22", "ClusterIP", json!({"sessionAffinity": "ClientIP", "internalTrafficPolicy": "Local"})),
            ),
            ("default/nobody", spec("10.96.0.23", "ClusterIP", json!({}))),
        ];
        let endpoints = [
            ("default/plain", "10.244.1.2", "pi-1", json!({})),
            ("default/plain", "10.244.2.2", "pi-2", json!({})),
            ("default/local", "10.244.2.3", "pi-2", json!({})),
            ("default/sticky", "10.244.1.4", "pi-1", json!({})),
        ];
        golden("proxy.nft", &of(&share(&services, &endpoints)));
        // The same in IPv6.
        let services6 = services.map(|(name, mut spec)| {
            let ip = spec["clusterIP"].as_str().unwrap().replace("10.96.0.", "fd00:96::");
            spec["ipFamilies"] = json!(["IPv4", "IPv6"]);
            spec["clusterIPs"] = json!([spec["clusterIP"], ip]);
            if name == "default/plain" {
                spec["externalIPs"] = json!(["2001:db8::5"]);
            }
            if name == "default/local" {
                spec["loadBalancerSourceRanges"] = json!(["192.168.0.0/16", "fd07::/60", "fd08::/63"]);
            }
            (name, spec)
        });
        let addresses = endpoints.each_ref().map(|(_, address, ..)| {
            let (range, number) = address.rsplit_once('.').unwrap();
            format!("{}::{number}", range.replace("10.244.", "fd00:244:0:"))
        });
        let endpoints6: Vec<_> = endpoints
            .iter()
            .zip(&addresses)
            .map(|((name, _, node, more), to)| (*name, to.as_str(), *node, more.clone()))
            .collect();
        golden("proxy6.nft", &ruleset(&base6(), &table(&share(&services6, &endpoints6), &here6())));
    }

    /// What the kernel would hold, or why it would refuse.
    fn apply(mut held: Ruleset, steps: &[Step]) -> Result<Ruleset, String> {
        let missing = |what: &str| format!("{what} is not there");
        for step in steps {
            match step {
                Step::AddTable => {}
                Step::DeleteTable => held = Ruleset { table: held.table, ..Ruleset::default() },
                Step::AddSet(name, kind) => {
                    if held.sets.insert((*name).to_owned(), *kind).is_some() {
                        return Err(format!("{name} is there"));
                    }
                    if !matches!(kind, SetKind::Clients(_)) {
                        held.elements.insert((*name).to_owned(), BTreeMap::new());
                    }
                }
                Step::DeleteSet(name, _) => {
                    let named = |part: &Part| matches!(part, Part::Remembered(set) | Part::Remember(set) | Part::Pair(set) | Part::ByAddress(set) | Part::ByPort(set) if set == name);
                    if held.chains.values().flat_map(|chain| &chain.rules).flatten().any(named) {
                        return Err(format!("{name} is named"));
                    }
                    held.sets.remove(*name).ok_or_else(|| missing(name))?;
                    held.elements.remove(*name);
                }
                Step::AddChain(name, hook) => {
                    if held.chains.insert((*name).to_owned(), Chain { hook: *hook, rules: Vec::new() }).is_some() {
                        return Err(format!("{name} is there"));
                    }
                }
                Step::FlushChain(name) => held.chains.get_mut(*name).ok_or_else(|| missing(name))?.rules.clear(),
                Step::DeleteChain(name) => {
                    let goes = |part: &Part| match part {
                        Part::Goto(chain) => chain == name,
                        Part::GotoOne(chains) => chains.iter().any(|chain| chain == name),
                        _ => false,
                    };
                    let leads = held
                        .elements
                        .values()
                        .flat_map(BTreeMap::values)
                        .any(|verdict| *verdict == Verdict::Goto((*name).to_owned()));
                    if leads || held.chains.values().flat_map(|chain| &chain.rules).flatten().any(goes) {
                        return Err(format!("{name} is named"));
                    }
                    held.chains.remove(*name).ok_or_else(|| missing(name))?;
                }
                Step::AddRule(chain, rule) => {
                    held.chains.get_mut(*chain).ok_or_else(|| missing(chain))?.rules.push((*rule).clone());
                }
                Step::AddElements(set, _, elements) => {
                    let into = held.elements.get_mut(*set).ok_or_else(|| missing(set))?;
                    for (key, verdict) in elements {
                        if into.insert(*key, (*verdict).clone()).is_some() {
                            return Err(format!("{key:?} is in {set}"));
                        }
                    }
                }
                Step::DeleteElements(set, _, elements) => {
                    let from = held.elements.get_mut(*set).ok_or_else(|| missing(set))?;
                    for (key, _) in elements {
                        from.remove(key).ok_or_else(|| missing(set))?;
                    }
                }
            }
        }
        Ok(held)
    }

    /// Any few services with any endpoints.
    pub(crate) fn shares() -> impl Strategy<Value = Share> {
        let policy = || prop_oneof![Just("Cluster"), Just("Local")];
        let service = (0..4usize, 0..4u8, policy(), policy(), 0..3u64, proptest::collection::vec((0..3u8, 1..5u8, 0..3u8), 0..6));
        proptest::collection::btree_map(0..5u8, service, 0..5).prop_map(|services| {
            let (mut specs, mut endpoints) = (Vec::new(), Vec::new());
            let names: Vec<String> = (0..5).map(|number| format!("default/s{number}")).collect();
            for (number, (kind, external, inside, outside, affinity, ends)) in &services {
                let name = names[usize::from(*number)].as_str();
                let kind = ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"][*kind];
                let mut spec = json!({
                    "type": kind,
                    "clusterIP": format!("10.96.0.{}", 20 + number),
                    "internalTrafficPolicy": inside, "externalTrafficPolicy": outside,
                    "ports": [{"port": 80, "nodePort": 30000 + u16::from(*number)}, {"name": "dns", "port": 53, "protocol": "UDP"}]});
                if *external > 0 {
                    spec["externalIPs"] = json!([format!("203.0.113.{external}")]);
                }
                if *affinity > 0 {
                    spec["sessionAffinity"] = json!("ClientIP");
                    spec["sessionAffinityConfig"] = json!({"clientIP": {"timeoutSeconds": affinity * 10}});
                }
                specs.push((name, spec));
                for (node, host, condition) in ends {
                    let conditions = [json!({}), json!({"ready": false}), json!({"ready": false, "serving": true, "terminating": true})];
                    endpoints.push((name, format!("10.244.{node}.{host}"), format!("pi-{node}"), conditions[usize::from(*condition)].clone()));
                }
            }
            let endpoints: Vec<_> = endpoints.iter().map(|(name, a, n, c)| (*name, a.as_str(), n.as_str(), c.clone())).collect();
            share(&specs, &endpoints)
        })
    }

    proptest! {
        #[test]
        fn differences_one_after_the_other_end_where_the_whole_does(sequence in proptest::collection::vec(shares(), 1..6)) {
            let mut known: Option<Ruleset> = None;
            let mut held = Ruleset { table: "bramble-test".to_owned(), ..Ruleset::default() };
            for share in &sequence {
                let new = of(share);
                let steps = known.as_ref().map_or_else(|| whole(&new), |old| change(old, &new));
                held = apply(held, &steps).unwrap();
                prop_assert_eq!(&held, &new);
                prop_assert!(change(&new, &new).is_empty());
                known = Some(new.clone());
            }
        }
    }

    #[test]
    fn a_change_touches_only_its_service() {
        let web = |ip: &str| json!({"clusterIP": ip, "ports": [{"port": 80}]});
        let services = [("default/a", web("10.96.0.20")), ("default/b", web("10.96.0.21"))];
        let a = ("default/a", "10.244.2.1", "pi-2", json!({}));
        let (b, b2) = (("default/b", "10.244.2.2", "pi-2", json!({})), ("default/b", "10.244.2.3", "pi-2", json!({})));
        let (old, new) = (of(&share(&services, &[a.clone(), b.clone()])), of(&share(&services, &[a, b, b2])));
        let steps = text(Family::V4, "t", &change(&old, &new));
        assert_eq!(
            steps,
            "flush chain ip t svc-default/b/tcp/80\n\
             add rule ip t svc-default/b/tcp/80 ip saddr != 10.244.0.0/16 meta mark set meta mark or 0x4000\n\
             add rule ip t svc-default/b/tcp/80 meta l4proto tcp dnat ip to numgen random mod 2 map \
             { 0 : 10.244.2.2 . 8080, 1 : 10.244.2.3 . 8080 }\n\
             add rule ip t svc-default/b/tcp/80 meta l4proto tcp dnat to 10.244.2.2:8080\n"
        );
    }
}
