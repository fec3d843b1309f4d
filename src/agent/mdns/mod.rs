//! Names in the local network: `NAME.local` for services and ingresses that ask for it (`bramble/mdns`).
//!
//! ```text
//!  net share ──▶ names.rs: which names, where, and who of the nodes answers ──▶ run.rs ──▶ mdns/udp.rs
//!                    └──▶ dns/zone.rs: the node's pods get the same answer from their name server
//! ```
//! The master is not asked: a node that is alone answers by the share that it keeps.

pub mod names;
pub mod run;
