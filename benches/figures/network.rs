//! The network: what its ways cost a packet, what a change costs a node, how soon a service answers, and names.
//!
//! Traffic is this program's own, started once more in network namespaces ([`part`]); nothing of it leaves the machine.

pub mod changes;
mod lab;
pub mod names;
mod part;
pub mod paths;
pub mod serving;
mod shares;
mod traffic;

pub use part::part;
