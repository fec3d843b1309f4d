//! Who owes what to which node: turns the store into shares, and what nodes say into the store.
//!
//! ```text
//!   store ── bell ──▶ run ──▶ assign (a node's whole share) ──▶ link/downlink (numbered) ──▶ bus
//!                └──▶ net (the network's share, one for all nodes) ──▶ net/run ──▶ bus
//!   bus ──▶ run ──▶ report (pod status, events), register (Node objects), signs (who lives) ──▶ store
//!               └──▶ streams (logs): frames to whoever asked
//! ```
//!
//! Freshness is judged by the master's own ticks, never by a node's clock.

pub mod assign;
pub mod drops;
pub mod net;
pub mod policy;
pub mod register;
pub mod report;
pub mod run;
pub mod stamps;
pub mod strain;
pub mod streams;
pub mod volumes;
