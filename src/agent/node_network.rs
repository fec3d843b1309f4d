//! The node's own part of the pod network, as the runtime has made it: what the proxy, the name server and the overlay build on.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// The network that this node's pods are in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeNetwork {
    /// The node's part of the pod network: its pods' addresses are in it, and nobody else's.
    pub range: Ipv4Net,
    /// The node's address in it: its pods' default route, and where the node answers them (names, relays).
    pub gateway: Ipv4Addr,
    /// The bridge that they are on, as the kernel names it. `None`: the bridge is not in this agent's network namespace (an engine in
    /// a virtual machine, a rootless one): then no rule and no route of ours can reach the pods.
    pub bridge: Option<String>,
    /// The node's part of the IPv6 pod network; `None` in a cluster of IPv4 only.
    pub v6: Option<NodeNetwork6>,
}

/// The IPv6 side of it. A pod's number in it is that of its IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeNetwork6 {
    /// The node's part of the IPv6 pod network.
    pub range: Ipv6Net,
    /// The node's address in it: its pods' default route.
    pub gateway: Ipv6Addr,
}

impl NodeNetwork6 {
    /// That range with its first address as the node's; `None`: it is too small for a pod.
    #[must_use]
    pub fn of_range(range: Ipv6Net) -> Option<Self> {
        let range = range.trunc();
        let gateway = u128::from(range.network()).checked_add(1).map(Ipv6Addr::from)?;
        (range.prefix_len() <= 126).then_some(Self { range, gateway })
    }

    /// The address of the pod that has this one in the node's IPv4 range: the one with the same number. `None`: the IPv6 range does
    /// not go so far.
    #[must_use]
    pub fn of_pod(&self, range: Ipv4Net, pod: Ipv4Addr) -> Option<Ipv6Addr> {
        let number = u32::from(pod).checked_sub(u32::from(range.network()))?;
        let address = u128::from(self.range.network()).checked_add(u128::from(number)).map(Ipv6Addr::from)?;
        self.range.contains(&address).then_some(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_has_the_same_number_in_both_ranges() {
        let four: Ipv4Net = "10.244.3.0/24".parse().unwrap();
        let pod = |range: &str, address: &str| {
            let six = NodeNetwork6::of_range(range.parse().unwrap())?;
            Some(format!("{} {}", six.gateway, six.of_pod(four, address.parse().unwrap())?))
        };
        for (range, address, told) in [
            ("fd12:3456:789a:103::/64", "10.244.3.17", Some("fd12:3456:789a:103::1 fd12:3456:789a:103::11")),
            ("fd00::300/120", "10.244.3.254", Some("fd00::301 fd00::3fe")),
            ("fd00::3a7/120", "10.244.3.2", Some("fd00::301 fd00::302")),
            ("fd00::300/124", "10.244.3.17", None),
            ("fd00::/127", "10.244.3.1", None),
            ("fd00::/64", "10.244.2.255", None),
        ] {
            assert_eq!(pod(range, address).as_deref(), told, "{address} in {range}");
        }
    }
}
