//! Which ports the services have taken from programs of the machine itself.
//!
//! In:       the forwards, the node's addresses, who of the machine listens.
//! Out:      of each [`Port`] that is taken, whose sockets were there; the words for people.
//! Never:    counts what is only at a load balancer's own address (of the pool): a program that listens everywhere never had that one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::table::{Protocol, Table};
use crate::agent::holder::Listener;

/// One port of one service at this node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// `namespace/name`.
    pub service: String,
    /// What is spoken.
    pub protocol: Protocol,
    /// Its number.
    pub number: u16,
    /// It is the service's node port, and not its own at an address of the node.
    pub is_node_port: bool,
}

impl Port {
    /// What a person should know. `holder`: who listens, like `mosquitto (process 812)`.
    #[must_use]
    pub fn words(&self, node: &str, holder: &str) -> String {
        let other = if self.is_node_port { "nodePort" } else { "port" };
        format!(
            "port {}/{} of node {node} is in use by {holder}: the service has it now, the program is not reached from outside; choose another {other} or stop the program",
            self.number,
            self.protocol.name().to_uppercase()
        )
    }
}

/// Where each port leads away from the node's own programs: `None` at each of its addresses but loopback.
#[must_use]
pub fn claimed(table: &Table, own: &[IpAddr]) -> BTreeMap<Port, Option<BTreeSet<IpAddr>>> {
    let mut claimed = BTreeMap::new();
    for (name, forward) in &table.forwards {
        let Some(service) = name.rsplitn(3, '/').nth(2) else { continue };
        let port = |number, is_node_port| Port { service: service.to_owned(), protocol: forward.protocol, number, is_node_port };
        if let Some(number) = forward.node_port {
            claimed.insert(port(number, true), None);
        }
        let at: BTreeSet<IpAddr> = own
            .iter()
            .filter(|address| forward.outside.contains(address) || forward.balanced.contains(address))
            .copied()
            .collect();
        if !at.is_empty() {
            claimed.insert(port(forward.port, false), Some(at));
        }
    }
    claimed
}

/// Of these, the ports at which somebody listens, each with the sockets.
#[must_use]
pub fn taken(
    claimed: &BTreeMap<Port, Option<BTreeSet<IpAddr>>>,
    listeners: &[(Protocol, Listener)],
) -> BTreeMap<Port, BTreeSet<u64>> {
    let mut taken: BTreeMap<Port, BTreeSet<u64>> = BTreeMap::new();
    for (port, at) in claimed {
        let is_met = |listener: &Listener| match (listener.address, at) {
            (address, _) if address.is_unspecified() => true,
            (IpAddr::V4(address), None) => !address.is_loopback(),
            (IpAddr::V6(_), None) => false,
            (address, Some(at)) => at.contains(&address),
        };
        for (protocol, listener) in listeners {
            if *protocol == port.protocol && listener.port == port.number && is_met(listener) {
                taken.entry(port.clone()).or_default().insert(listener.inode);
            }
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::super::table::table;
    use super::super::table::tests::{here, share};
    use super::*;
    use crate::agent::holder::listeners;
    use serde_json::json;

    /// The table's line of a socket that listens; the inode is the port.
    fn line(protocol: Protocol, address: &str, port: u16) -> String {
        let state = if protocol == Protocol::Tcp { "0A" } else { "07" };
        format!(" 1: {address}:{port:04X} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 0 0 {port} 1 0\n")
    }

    #[test]
    fn a_port_is_taken_from_who_listens_everywhere_or_at_the_nodes_address() {
        // The node is 192.168.7.11; .240 is an address of the pool.
        let kinds = [
            ("node-port", json!({"type": "NodePort", "clusterIP": "10.96.0.20", "ports": [{"port": 80, "nodePort": 30080}]})),
            ("balanced", json!({"type": "LoadBalancer", "clusterIP": "10.96.0.20", "ports": [{"port": 80}]})),
            (
                "external",
                json!({"clusterIP": "10.96.0.20", "externalIPs": ["192.168.7.11", "203.0.113.5"], "ports": [{"port": 80}]}),
            ),
            ("elsewhere", json!({"clusterIP": "10.96.0.20", "externalIPs": ["203.0.113.5"], "ports": [{"port": 80}]})),
            (
                "udp",
                json!({"type": "NodePort", "clusterIP": "10.96.0.20", "ports": [{"port": 80, "protocol": "UDP", "nodePort": 30080}]}),
            ),
            ("inside", json!({"clusterIP": "10.96.0.20", "ports": [{"port": 80}]})),
        ];
        let (any, lo, own, bridge, any6, own6) =
            ("00000000", "0100007F", "0B07A8C0", "01010A0A", "0".repeat(32), "0000000000000000FFFF00000B07A8C0");
        let lo6 = "00000000000000000000000001000000";
        for (kind, protocol, address, port, expected) in [
            ("node-port", Protocol::Tcp, any, 30080, true),
            ("node-port", Protocol::Tcp, any6.as_str(), 30080, true),
            ("node-port", Protocol::Tcp, own, 30080, true),
            ("node-port", Protocol::Tcp, own6, 30080, true),
            ("node-port", Protocol::Tcp, bridge, 30080, true),
            ("node-port", Protocol::Tcp, lo, 30080, false),
            ("node-port", Protocol::Tcp, lo6, 30080, false),
            ("node-port", Protocol::Tcp, any, 80, false),
            ("node-port", Protocol::Udp, any, 30080, false),
            ("udp", Protocol::Udp, any, 30080, true),
            ("udp", Protocol::Tcp, any, 30080, false),
            ("balanced", Protocol::Tcp, any, 80, true),
            ("balanced", Protocol::Tcp, own, 80, true),
            ("balanced", Protocol::Tcp, bridge, 80, false),
            ("external", Protocol::Tcp, any, 80, true),
            ("external", Protocol::Tcp, lo, 80, false),
            ("elsewhere", Protocol::Tcp, any, 80, false),
            ("inside", Protocol::Tcp, any, 80, false),
        ] {
            let (_, spec) = kinds.iter().find(|(name, _)| *name == kind).unwrap();
            let here = here();
            let claimed = claimed(&table(&share(&[("home/web", spec.clone())], &[]), &here), here.addresses);
            let text = format!("head\n{}", line(protocol, address, port));
            let listening: Vec<_> = listeners(&text).map(|listener| (protocol, listener)).collect();
            assert_eq!(listening.len(), 1);
            let taken: Vec<_> = taken(&claimed, &listening).into_iter().collect();
            assert_eq!(taken.len(), usize::from(expected), "{kind} {protocol:?} {address}:{port}: {taken:?}");
            if let [(port, inodes)] = &taken[..] {
                assert_eq!((port.service.as_str(), inodes.len()), ("home/web", 1));
            }
        }
        // With an address of the pool it is there, and not at the node's.
        let pooled = json!({"type": "LoadBalancer", "clusterIP": "10.96.0.20", "ports": [{"port": 22}],
            "status": {"loadBalancer": {"ingress": [{"ip": "192.168.7.240"}]}}});
        let mut share = share(&[("home/web", pooled)], &[]);
        share.network.as_mut().unwrap().load_balancers = "192.168.7.240-192.168.7.250".into();
        assert!(claimed(&table(&share, &here()), here().addresses).is_empty());
    }

    #[test]
    fn the_words_say_what_to_do() {
        let port = Port { service: "home/web".into(), protocol: Protocol::Tcp, number: 30080, is_node_port: true };
        assert_eq!(
            port.words("pi-1", "mosquitto (process 812)"),
            "port 30080/TCP of node pi-1 is in use by mosquitto (process 812): the service has it now, the program is not reached from outside; choose another nodePort or stop the program"
        );
    }
}
