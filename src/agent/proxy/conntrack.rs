//! Which remembered UDP flows lead to nobody: the kernel keeps a flow's backend as long as its client sends, be it gone or not.
//!
//! In:       the kernel's list of connections, the forwards before and now.
//! Out:      the flows to forget. TCP is left alone: its connections end by themselves, and those to a pod on its way out may go on.
//! Never:    judges flows of other nodes' pods: on a host with several agents they are theirs.
//! Source:   the kernel's nfnetlink_conntrack.h; kube-proxy's conntrack reconciler.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::message::{ACK, Attributes, DUMP, Message, Writer};
use super::table::{Backend, Forward, Protocol, Table};
use crate::agent::family::Family;

/// netfilter's number for connections.
pub const SUBSYSTEM: u16 = 1;
const GET: u16 = 1;
const DELETE: u16 = 2;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const STATUS: u16 = 3;
const ID: u16 = 12;
/// Of a status: the destination was turned.
const TURNED: u32 = 0x20;

/// A flow that the kernel remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    from: IpAddr,
    to: (IpAddr, u16),
    answers: Backend,
    turned: bool,
    original: Vec<u8>,
    id: Option<Vec<u8>>,
}

/// The question for all flows of a family.
#[must_use]
pub fn list(family: Family, sequence: u32) -> Vec<u8> {
    let mut out = Writer::default();
    out.message(SUBSYSTEM << 8 | GET, DUMP, sequence, family.number(), 0, |_| {});
    out.into_bytes()
}

/// A UDP flow; `None` for anything else.
#[must_use]
pub fn read(message: &Message) -> Option<Flow> {
    let attributes = message.attributes();
    let original = attributes.find(TUPLE_ORIGINAL)?;
    let (from, to) = ends(Attributes(original))?;
    let ((address, port), _) = ends(attributes.nested(TUPLE_REPLY)?)?;
    Some(Flow {
        from: from.0,
        to,
        answers: Backend { address, port },
        turned: attributes.number(STATUS)? & TURNED != 0,
        original: original.to_vec(),
        id: attributes.find(ID).map(<[u8]>::to_vec),
    })
}

type End = (IpAddr, u16);

fn ends(tuple: Attributes) -> Option<(End, End)> {
    let (addresses, protocol) = (tuple.nested(1)?, tuple.nested(2)?);
    if protocol.find(1)?.first() != Some(&Protocol::Udp.number()) {
        return None;
    }
    // IPv4 has the kinds 1 and 2, IPv6 3 and 4.
    let v4 = |kind| Some(IpAddr::from(Ipv4Addr::from_bits(addresses.number(kind)?)));
    let v6 = |kind| Some(IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(addresses.find(kind)?).ok()?)));
    let port = |kind| Some(u16::from_be_bytes(protocol.find(kind)?.try_into().ok()?));
    Some(((v4(1).or_else(|| v6(3))?, port(2)?), (v4(2).or_else(|| v6(4))?, port(3)?)))
}

/// The order to forget a flow, and no later one between the same two.
#[must_use]
pub fn forget(family: Family, flow: &Flow, sequence: u32) -> Vec<u8> {
    let mut out = Writer::default();
    out.message(SUBSYSTEM << 8 | DELETE, ACK, sequence, family.number(), 0, |out| {
        out.nest(TUPLE_ORIGINAL, |out| out.raw(&flow.original));
        if let Some(id) = &flow.id {
            out.bytes(ID, id);
        }
    });
    out.into_bytes()
}

/// Judges flows by the forwards before and now.
#[derive(Debug, Default)]
pub struct Judge {
    addresses: BTreeMap<End, Option<Vec<Backend>>>,
    node_ports: BTreeMap<u16, Option<Vec<Backend>>>,
    services: Option<IpNet>,
    pods: Option<IpNet>,
    own: Option<IpNet>,
}

/// Where the pods and the services are.
#[derive(Clone, Copy, Debug)]
pub struct Ranges {
    /// All services.
    pub services: Option<IpNet>,
    /// All pods.
    pub pods: IpNet,
    /// This node's pods.
    pub own: IpNet,
}

impl Judge {
    /// What is to be looked for after this change; `None`: nothing of UDP has changed.
    #[must_use]
    pub fn of(old: Option<&Table>, new: &Table, ranges: Ranges) -> Option<Judge> {
        fn udp(table: &Table) -> impl Iterator<Item = (&String, &Forward)> {
            table.forwards.iter().filter(|(_, forward)| forward.protocol == Protocol::Udp)
        }
        if old.is_some_and(|old| udp(old).eq(udp(new))) {
            return None;
        }
        let Ranges { services, pods, own } = ranges;
        let mut judge = Judge { services, pods: Some(pods), own: Some(own), ..Judge::default() };
        for (_, forward) in old.into_iter().flat_map(udp) {
            judge.add(forward, None);
        }
        for (name, forward) in udp(new) {
            let backends = forward.all.iter().chain(&forward.local).copied().collect();
            // The name server is another one on each node.
            if !name.starts_with("bramble/") {
                judge.add(forward, Some(backends));
            }
        }
        Some(judge)
    }

    fn add(&mut self, forward: &Forward, backends: Option<Vec<Backend>>) {
        for address in forward.inside.iter().chain(&forward.outside).chain(&forward.balanced) {
            self.addresses.insert((*address, forward.port), backends.clone());
        }
        if let Some(port) = forward.node_port {
            self.node_ports.insert(port, backends);
        }
    }

    /// Whether a flow leads to nobody that serves it now.
    #[must_use]
    pub fn is_stale(&self, flow: &Flow) -> bool {
        let within = |range: Option<IpNet>, address: IpAddr| range.is_some_and(|range| range.contains(&address));
        if within(self.pods, flow.from) && !within(self.own, flow.from) {
            return false;
        }
        match (self.addresses.get(&flow.to), flow.turned) {
            (Some(Some(backends)), true) => !backends.contains(&flow.answers),
            // Sent before there was a service: it went out as it was, and would go on so.
            (Some(Some(backends)), false) => !backends.is_empty(),
            (Some(None), turned) => turned,
            (None, false) => false,
            (None, true) => match self.node_ports.get(&flow.to.1) {
                Some(Some(backends)) => !backends.contains(&flow.answers),
                Some(None) => true,
                // A service that went while no agent ran. Port 53 is the name server's.
                None => within(self.services, flow.to.0) && flow.to.1 != 53,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::table;
    use super::super::table::tests::{here, share};
    use super::*;
    use serde_json::json;

    fn flow(from: &str, to: &str, port: u16, answers: &str, turned: bool) -> Flow {
        let answers = Backend { address: answers.parse().unwrap(), port: 5353 };
        Flow { from: from.parse().unwrap(), to: (to.parse().unwrap(), port), answers, turned, original: Vec::new(), id: None }
    }

    #[test]
    fn flows_to_who_serves_stay_and_those_to_who_is_gone_go() {
        let spec = json!({"type": "NodePort", "clusterIP": "10.96.0.53", "ports": [{"name": "dns", "port": 53, "protocol": "UDP", "nodePort": 30053}]});
        let services = [("default/dns", spec)];
        let end = |address: &'static str| ("default/dns", address, "pi-1", json!({}));
        let old = table(&share(&services, &[end("10.244.1.2"), end("10.244.2.2")]), &here());
        let new = table(&share(&services, &[end("10.244.2.2")]), &here());
        let gone = table(&share(&[], &[]), &here());
        let ranges = Ranges {
            services: "10.96.0.0/16".parse().ok(),
            pods: "10.244.0.0/16".parse().unwrap(),
            own: "10.244.1.0/24".parse().unwrap(),
        };
        assert!(Judge::of(Some(&new), &new, ranges).is_none());
        let judge = Judge::of(Some(&old), &new, ranges).unwrap();
        for (flow, stale) in [
            (flow("10.244.1.9", "10.96.0.53", 53, "10.244.1.2", true), true),
            (flow("10.244.1.9", "10.96.0.53", 53, "10.244.2.2", true), false),
            (flow("10.244.1.9", "10.96.0.53", 53, "10.96.0.53", false), true),
            // Another node's pod, on this host.
            (flow("10.244.7.9", "10.96.0.53", 53, "10.244.1.2", true), false),
            (flow("192.168.7.1", "192.168.7.11", 30053, "10.244.1.2", true), true),
            (flow("192.168.7.1", "192.168.7.11", 30053, "10.244.2.2", true), false),
            (flow("192.168.7.1", "192.168.7.11", 30053, "192.168.7.11", false), false),
            (flow("192.168.7.1", "192.168.7.11", 30054, "10.244.1.2", true), false),
            (flow("192.168.7.1", "10.96.0.99", 99, "10.244.1.2", true), true),
        ] {
            assert_eq!(judge.is_stale(&flow), stale, "{flow:?}");
        }
        let judge = Judge::of(Some(&old), &gone, ranges).unwrap();
        assert!(judge.is_stale(&flow("10.244.1.9", "10.96.0.53", 53, "10.244.1.2", true)));
    }
}
