//! Addresses of the load balancers' pool (`network.load_balancers`): one node of the local network has each of them.
//!
//! ```text
//!  net share ──▶ own.rs: which addresses this node has ──▶ run.rs ──▶ netlink.rs: they are loopback's, so that the kernel answers ARP
//!                                                              └──▶ udp.rs: neighbours hear that they are here now
//! ```
//!
//! The kernel answers ARP for an address of any of its interfaces, and packets to it are turned to pods by the services' own rules
//! (`agent/proxy`). The address is put on loopback, with scope `host`, and not on the interface towards the network: there the programs
//! that ask for a lease take away what is not theirs, and the kernel could choose it as the source of what this machine sends.
//! A responder of our own (a packet socket) would need what Rust calls unsafe, and would be silent while the agent starts again.
//!
//! It is known again by its label, `lo:` and eight digits of cluster and node: several agents of one machine do not take each other's.

pub mod netlink;
pub mod own;
pub mod run;
pub mod udp;

use crate::agent::runtime::naming::node_id;

/// What the labels begin with.
pub const LABEL_PREFIX: &str = "lo:";

/// What an address of ours is labelled with: 11 characters of the 15 that there are.
#[must_use]
pub fn label(cluster_uid: &str, node: &str) -> String {
    format!("{LABEL_PREFIX}{}", node_id(cluster_uid, node))
}
