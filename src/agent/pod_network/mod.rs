//! The node's own part of the pod network: the network in Docker that its pods are on, their addresses, and what the host's rules must
//! let through and turn round so that packets between pods arrive as they were sent.
//!
//! ```text
//!  net share ─▶ PodNetwork ─▶ runtime/docker/network.rs ── makes the network, picks addresses (addresses.rs)
//!                   │                    │
//!                   │                    ▼ NodeNetwork (range, gateway, bridge)
//!                   └────▶ run.rs: guard.rs ─▶ exec.rs: nft (NAT), iptables (DOCKER-USER)
//! ```
//!
//! Never:    routes between nodes (`overlay`), and services (`proxy`).
//!
//! Several agents may share one host and one Docker: whatever is made bears the id of this node in this cluster (`Owner::id`), and only
//! what bears it is ever removed.

pub mod addresses;
pub mod exec;
pub mod guard;
pub mod plan;
pub mod run;

use std::net::Ipv4Addr;

use ipnet::{Ipv4Net, Ipv6Net};

use super::node_network::NodeNetwork6;
use crate::link::share::Share;

/// Packets of this size go through what carries Ethernet.
const ETHERNET: u16 = 1500;
/// What is left of them inside of VXLAN over IPv4: 20 + 8 + 8 + 14 bytes less.
const VXLAN: u16 = 1450;
/// What is left of them inside of WireGuard, over IPv6 as well: 80 bytes less. Source: wg-quick(8).
const WIREGUARD: u16 = 1420;

/// What the network of this node's pods is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodNetwork {
    /// The node's part of the pod network.
    pub range: Ipv4Net,
    /// The addresses of all pods of the cluster.
    pub pods: Ipv4Net,
    /// The largest packet that its pods send.
    pub mtu: u16,
    /// Its IPv6 side; `None` in a cluster of IPv4 only.
    pub v6: Option<PodNetwork6>,
}

/// The IPv6 side of a node's network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodNetwork6 {
    /// The node's part.
    pub own: NodeNetwork6,
    /// The IPv6 addresses of all pods of the cluster.
    pub pods: Ipv6Net,
}

impl PodNetwork {
    /// What the network's share says of this node; `None`: it has no part yet, or the master is older than that.
    #[must_use]
    pub fn of_share(share: &Share, node: &str) -> Option<Self> {
        let network = share.network.as_ref()?;
        let peer = share.peers.get(node)?;
        let all = || peer.list_at(&["spec", "podCIDRs"]).iter().filter_map(|value| value.as_str());
        let range = all().chain([peer.str_at(&["spec", "podCIDR"])]).find_map(|text| text.parse::<Ipv4Net>().ok())?.trunc();
        // Too small for a gateway and a pod.
        if range.prefix_len() > 30 {
            return None;
        }
        // A part that lies outside is all that is known of the pod network, then.
        let pods = network.pods.parse::<Ipv4Net>().ok().filter(|pods| pods.contains(&range)).unwrap_or(range).trunc();
        // `auto` is Ethernet's: across segments, where there is VXLAN, the kernel tells the sender what fits.
        let mtu = match network.back_end.as_str() {
            "vxlan" => VXLAN,
            "wireguard" => WIREGUARD,
            _ => ETHERNET,
        };
        let v6 = network.pods6.parse::<Ipv6Net>().ok().and_then(|pods| {
            let own = NodeNetwork6::of_range(all().find_map(|text| text.parse::<Ipv6Net>().ok())?)?;
            let pods = if pods.contains(&own.range) { pods } else { own.range };
            Some(PodNetwork6 { own, pods: pods.trunc() })
        });
        Some(Self { range, pods, mtu, v6 })
    }

    /// The node's own address in its range: the first.
    #[must_use]
    pub fn gateway(&self) -> Ipv4Addr {
        self.range.hosts().next().unwrap_or(self.range.addr())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Object;
    use crate::link::network::ClusterNetwork;
    use serde_json::json;

    #[test]
    fn the_share_says_what_a_nodes_network_is() {
        let mut share = Share::default();
        assert_eq!(PodNetwork::of_share(&share, "pi"), None, "an older master");
        share.network =
            Some(ClusterNetwork { pods: "10.244.0.0/16".into(), back_end: "auto".into(), ..ClusterNetwork::default() });
        assert_eq!(PodNetwork::of_share(&share, "pi"), None);
        let mut tell = |spec: serde_json::Value, back_end: &str| {
            share.peers.insert("pi".into(), std::sync::Arc::new(Object::from_value(json!({"spec": spec})).unwrap()));
            share.network.as_mut().unwrap().back_end = back_end.into();
            PodNetwork::of_share(&share, "pi").map(|it| {
                assert_eq!(it.v6, None, "in a cluster of IPv4 only");
                format!("{} of {}, {}, {}", it.range, it.pods, it.mtu, it.gateway())
            })
        };
        assert_eq!(tell(json!({}), "auto"), None, "not yet");
        let both = json!({"podCIDR": "10.244.3.0/24", "podCIDRs": ["fd00::/64", "10.244.3.0/24"]});
        assert_eq!(tell(both.clone(), "auto").as_deref(), Some("10.244.3.0/24 of 10.244.0.0/16, 1500, 10.244.3.1"));
        assert_eq!(tell(both, "vxlan").as_deref(), Some("10.244.3.0/24 of 10.244.0.0/16, 1450, 10.244.3.1"));
        assert_eq!(
            tell(json!({"podCIDR": "10.9.3.0/24"}), "route").as_deref(),
            Some("10.9.3.0/24 of 10.9.3.0/24, 1500, 10.9.3.1")
        );
        for nonsense in ["10.244.3.0/31", "10.244.3.0", "::/0"] {
            assert_eq!(tell(json!({"podCIDR": nonsense}), "auto"), None, "{nonsense}");
        }
    }

    #[test]
    fn a_node_has_a_part_of_the_ipv6_network_when_the_cluster_has_one() {
        let mut share = Share::default();
        let mut tell = |pods6: &str, parts: serde_json::Value| {
            let (pods, pods6) = ("10.244.0.0/16".to_owned(), pods6.to_owned());
            share.network = Some(ClusterNetwork { pods, pods6, ..ClusterNetwork::default() });
            let node = json!({"spec": {"podCIDRs": parts}});
            share.peers.insert("pi".into(), std::sync::Arc::new(Object::from_value(node).unwrap()));
            let v6 = PodNetwork::of_share(&share, "pi").unwrap().v6;
            v6.map(|v6| format!("{} of {}, {}", v6.own.range, v6.pods, v6.own.gateway))
        };
        let both = json!(["10.244.3.0/24", "fd00:0:0:103::/64"]);
        assert_eq!(tell("", both.clone()), None);
        assert_eq!(
            tell("fd00:0:0:100::/56", both.clone()).as_deref(),
            Some("fd00:0:0:103::/64 of fd00:0:0:100::/56, fd00:0:0:103::1")
        );
        assert_eq!(tell("fd11::/56", both).as_deref(), Some("fd00:0:0:103::/64 of fd00:0:0:103::/64, fd00:0:0:103::1"));
        for without in [json!(["10.244.3.0/24"]), json!(["10.244.3.0/24", "fd00::/127"]), json!(["10.244.3.0/24", "nonsense"])] {
            assert_eq!(tell("fd00:0:0:100::/56", without.clone()), None, "{without}");
        }
    }
}
