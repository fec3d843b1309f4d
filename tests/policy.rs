//! Network policies in a real kernel: two nodes with a bridge each and pods on it, all in network namespaces of the test's own, rules by
//! the real `nft`, packets by real sockets. Needs root, iproute2, nftables and the kernel's `br_netfilter`; `BRAMBLE_SKIP=policy` leaves
//! all of it out and says so.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::disallowed_methods)] // a test

#[path = "policy/cases.rs"]
mod cases;
#[path = "policy/figures.rs"]
mod figures;
#[path = "support/hosts.rs"]
mod hosts;
#[path = "policy/kernel.rs"]
mod kernel;
#[path = "policy/sockets.rs"]
mod sockets;
mod support;
#[path = "policy/under_way.rs"]
mod under_way;
#[path = "policy/world.rs"]
mod world;
