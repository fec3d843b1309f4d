//! From node to node: which way packets take to the pods of other nodes, and what of the kernel is made so that they take it.
//!
//! ```text
//!  network's share ─▶ peers.rs ─▶ plan.rs: wanted, minus what is there ─▶ netlink.rs: links, routes, neighbours
//!                        │           ▲                                       │
//!                        │           └───────── the kernel, as read ◀────────┘
//!                        ├─▶ filter.rs ─▶ agent/exec.rs: an nftables table
//!                        └─▶ wireguard/: the kernel's device; or one of the agent's own, a socket, and what goes between them
//! ```
//!
//! * A peer on one of our LAN segments: a plain route to its pods, by way of its address.
//! * A peer elsewhere: a route through one VXLAN device. No packet looks for a peer: who is where stands in static entries that follow from the
//!   peers' addresses alone, so nodes exchange nothing but what the master mails anyway.
//! * A peer with which somebody asked for encryption: a route through the agent's WireGuard device, wherever the peer is. Below that route stands one
//!   that says "unreachable", so that without a tunnel nothing takes another way (`filter.rs` sees to it as well).
//! * A peer on this very machine (several agents share it): nothing, its bridge is here.
//! * In a dual-stack cluster the same for IPv6, per pair: a plain route where the IPv4 one is plain and the peer has an IPv6 address on the same
//!   segment; else through the VXLAN device, whose outer packets stay IPv4. So nodes need no IPv6 between them.
//!
//! **Whose is what.** Several agents may share one kernel. A route is an agent's own by its protocol ([`PROTOCOL`]) and its metric
//! ([`Ids::metric`]), so two agents that want the same route each have one, and each removes its own. The VXLAN device is the cluster's
//! (one port and one VNI cannot be had twice); what is in it goes when no route leads by it any more, whichever agent notices.
//!
//! Rejected: a table of routes and a rule for each agent (two more things to list, to order and to remove); addresses of VXLAN devices made from
//! node names (agents on one machine share a device); an IPv6 address of a node's range on the device (the link-local address that each device has
//! of its own names a peer as well, and does not clash with the range's anycast address).

pub mod filter;
pub mod listing;
pub mod netlink;
pub mod peers;
pub mod plan;
pub mod run;
pub mod seen;
pub mod wireguard;

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::agent::runtime::naming::node_id;
use crate::link::share::digest_of;

/// Which protocol made a route, as `ip route` shows it: 98. Free in the kernel's list and in iproute2's.
pub const PROTOCOL: u8 = 0x62;
/// The UDP port of VXLAN between nodes. Not 4789, where Docker's swarm and Calico are, and not 8472, Linux' own and flannel's: another network on the
/// same machine is left alone.
pub const PORT: u16 = 6262;
/// What VXLAN adds to a packet over IPv4: addresses, UDP, its own header, and Ethernet's within.
pub const VXLAN_BYTES: u32 = 50;
/// The smallest packet that every link of IPv6 must take (RFC 8200, section 5); Linux has no IPv6 on an interface that takes less.
pub const IPV6_BYTES: u32 = 1280;
/// The annotation on a node that forces a way to and from it: `wireguard`, `vxlan` or `route`.
pub const ANNOTATION: &str = "bramble/overlay";
/// What names of our VXLAN devices begin with.
pub const LINK_PREFIX: &str = "bvx-";
/// The kind of Linux' own addresses for cards: locally administered, one machine only.
const MAC_PREFIX: [u8; 2] = [0x0a, PROTOCOL];

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The address that the VXLAN device on the machine with this address has: it follows, nobody has to ask for it.
    #[must_use]
    pub fn of(machine: Ipv4Addr) -> Self {
        let ([a, b], [c, d, e, f]) = (MAC_PREFIX, machine.octets());
        Self([a, b, c, d, e, f])
    }

    /// The IPv6 address that a device with this address gives itself (RFC 4291, appendix A).
    #[must_use]
    pub fn link_local(self) -> Ipv6Addr {
        let Self([a, b, c, d, e, f]) = self;
        Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 0b10, b, c, 0xff, 0xfe, d, e, f])
    }
}

/// What things are called that are this agent's, or its cluster's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ids {
    /// Eight hexadecimal digits that are this node's of this cluster.
    pub agent: String,
    /// Eight hexadecimal digits that are the cluster's.
    pub cluster: String,
    /// The metric of this agent's routes. High, so that a route which a person made for the same addresses comes first.
    pub metric: u32,
    /// The cluster's VXLAN network.
    pub vni: u32,
}

impl Ids {
    /// The names for a node of a cluster.
    #[must_use]
    pub fn new(cluster_uid: &str, node: &str) -> Self {
        let agent = node_id(cluster_uid, node);
        let cluster: String = digest_of(cluster_uid.as_bytes()).chars().take(8).collect();
        let number = |hex: &str| hex.get(..6).and_then(|six| u32::from_str_radix(six, 16).ok()).unwrap_or(1);
        Self { metric: metric_of(&agent), vni: number(&cluster).max(1), agent, cluster }
    }

    /// The metric of this agent's routes that say "unreachable": behind those of all agents.
    #[must_use]
    pub fn last_metric(&self) -> u32 {
        last_metric_of(self.metric)
    }

    /// The WireGuard device's name: 12 characters as well.
    #[must_use]
    pub fn wireguard(&self) -> String {
        format!("{}{}", wireguard::LINK_PREFIX, self.agent)
    }

    /// The VXLAN device's name: 12 characters of the kernel's 15.
    #[must_use]
    pub fn link(&self) -> String {
        format!("{LINK_PREFIX}{}", self.cluster)
    }

    /// The nftables table's name.
    #[must_use]
    pub fn table(&self) -> String {
        format!("bramble-{}-overlay", self.agent)
    }
}

/// The metric of routes of the agent with these eight digits.
#[must_use]
pub fn metric_of(agent: &str) -> u32 {
    let number = agent.get(..6).and_then(|six| u32::from_str_radix(six, 16).ok()).unwrap_or(1);
    (u32::from(PROTOCOL) << 24) | number
}

/// The metric of routes that say "unreachable", of the agent with this metric.
#[must_use]
pub fn last_metric_of(metric: u32) -> u32 {
    metric | (1 << 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_differ_by_node_and_cluster() {
        let (one, other) = (Ids::new("c", "a"), Ids::new("c", "b"));
        assert_eq!((one.link(), one.vni), (other.link(), other.vni));
        assert_ne!((&one.agent, one.metric), (&other.agent, other.metric));
        assert!(one.link().len() <= 15 && one.vni > 0 && one.vni < 1 << 24);
        assert_ne!(Ids::new("d", "a").vni, one.vni);
        assert_eq!(one.metric >> 24, u32::from(PROTOCOL));
        assert!(one.wireguard().len() <= 15 && one.wireguard() != other.wireguard());
        assert!(one.last_metric() > other.metric && one.last_metric() != other.last_metric());
    }

    #[test]
    fn a_devices_address_is_unicast_and_made_here() {
        let Mac([first, ..]) = Mac::of(Ipv4Addr::new(10, 0, 0, 1));
        assert_eq!(first & 0b11, 0b10);
        assert_eq!(Mac::of(Ipv4Addr::new(10, 78, 2, 3)).link_local(), "fe80::862:aff:fe4e:203".parse::<Ipv6Addr>().unwrap());
    }
}
