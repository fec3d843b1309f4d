//! What master and node say to each other, over MQTT (DESIGN §7).
//!
//! The node opens the one connection; nothing ever connects to a node. Everything is QoS 1, and nothing relies on it: both
//! ends are level-triggered, compare digests, and ask for the whole when they differ.
//!
//! ```text
//!   node                                   broker                                   master
//!    │ connect (will: availability offline) ─▶│
//!    │ availability online, info, health ────▶│ retained ───────────────────────────▶│ Signs, Node object
//!    │◀──────── down/head, down/net/head ─────│ retained ◀───────────────────────────│ store id, epoch, number, digest
//!    │ up/ask, up/net/ask (digests differ) ───┼─────────────────────────────────────▶│
//!    │◀──── down/assignment, down/net/assignment (change or parts) ──────────────────│
//!    │ up/report (pods that changed) ─────────┼─────────────────────────────────────▶│ pod status
//!    │ health (digest of pod states) ────────▶│─────────────────────────────────────▶│ differs? ─┐
//!    │◀───────────────────────────────────────┼───────────────────────── down/ask ───│◀──────────┘
//! ```

pub mod bus;
pub mod call;
pub mod codec;
pub mod downlink;
#[cfg(test)]
mod golden_tests;
pub mod message;
pub mod mqtt;
pub mod network;
pub mod policy;
pub mod ranges;
pub mod report;
pub mod session;
pub mod share;
pub mod stats;
pub mod stream;
pub mod topic;

pub use topic::{NodeTopic, Topics};
