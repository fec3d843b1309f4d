//! The node: from the share that the master mails to containers in Docker, and the truth back.
//!
//! ```text
//!  link ── share ──▶ node.rs ──▶ pods/ (what does each pod need next?) ──▶ runtime/ ──▶ Docker
//!  link ◀─ report ── node.rs ◀── pods/status.rs ◀──────── observed ────── runtime/ ◀── Docker
//! ```
//!
//! What keeps running when the master is away: all of this. The share is on the node's disk, and [`node::Node`] asks
//! nobody else.

pub mod checkpoint;
pub mod config;
pub mod devices;
pub mod disk;
pub mod eviction;
pub mod health;
pub mod hooks;
pub mod images;
pub mod led;
pub mod node;
pub mod pleg;
pub mod pods;
pub mod prober;
pub mod register;
pub mod run;
pub mod runtime;
pub mod stats;
pub mod streams;
pub mod uplink;
pub mod volumes;
