//! What every node has to know of the cluster's network, said once.

use serde::{Deserialize, Serialize};

/// The cluster's network, as the master's configuration has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", default)]
pub struct ClusterNetwork {
    /// The addresses of all pods, for example `10.244.0.0/16`; each node has a part of it (`spec.podCIDR` of its node object).
    pub pods: String,
    /// The addresses of services, for example `10.96.0.0/16`.
    pub services: String,
    /// The address that the cluster's name server has as a service, for example `10.96.0.10`. Every node answers at it.
    pub dns: String,
    /// The IPv6 addresses of all pods, for example `fd12:3456:789a:100::/56`; empty in a cluster of IPv4 only.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pods6: String,
    /// The IPv6 addresses of services, for example `fd12:3456:789a::/112`; empty in a cluster of IPv4 only.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub services6: String,
    /// The IPv6 address of the name server as a service; empty in a cluster of IPv4 only.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub dns6: String,
    /// What stands behind a service's name, for example `cluster.local`.
    pub domain: String,
    /// How packets go from node to node: `auto` (plain routes on one segment, VXLAN across), `route`, `vxlan`, `wireguard`.
    pub back_end: String,
    /// The addresses that only load balancers have, for example `192.168.1.240-192.168.1.250`; empty: they are reached at the nodes' own.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub load_balancers: String,
    /// The port of the master's API, when it listens on its own machine's loopback only: an agent on that machine relays to it from
    /// where pods can reach. 0: pods reach the API by the endpoints of `default/kubernetes`.
    #[serde(skip_serializing_if = "is_zero")]
    pub api_on_loopback: u16,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde wants it so
fn is_zero(port: &u16) -> bool {
    *port == 0
}
