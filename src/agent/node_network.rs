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
