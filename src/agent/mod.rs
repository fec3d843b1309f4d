//! The node: from the share that the master mails to containers in Docker, and the truth back.
//!
//! ```text
//!  link ── share ──▶ node.rs ──▶ pods/ (what does each pod need next?) ──▶ runtime/ ──▶ Docker
//!  link ◀─ report ── node.rs ◀── pods/status.rs ◀──────── observed ────── runtime/ ◀── Docker
//! ```
//!
//! What keeps running when the master is away: all of this. The share is on the node's disk, beside it what ran and was given up
//! ([`past::Past`]), and [`node::Node`] asks nobody else.

pub mod announce;
pub mod checkpoint;
pub mod clock_watch;
pub mod config;
pub mod devices;
pub mod disk;
pub mod dns;
pub mod doctor;
pub mod eviction;
pub mod exec;
pub mod family;
pub mod health;
pub mod holder;
pub mod hooks;
pub mod images;
pub mod ingress;
pub mod join;
pub mod last_words;
pub mod led;
pub mod mdns;
pub mod node;
pub mod node_network;
pub mod overlay;
pub mod past;
pub mod pleg;
pub mod pod_network;
pub mod pods;
pub mod policy;
pub mod prober;
pub mod proxy;
pub mod register;
pub mod rendezvous;
pub mod run;
pub mod runtime;
pub mod search;
pub mod stats;
pub mod streams;
pub mod uplink;
pub mod volumes;
