//! The embedded broker from outside: over sockets, with real clients, and beside a real Mosquitto.
//!
//! What both must do stands once, in `conformance.rs`, and runs against both: so ours cannot drift from what people's
//! clients expect, and what the agents rely on also holds with an external broker.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::disallowed_methods)] // a test's way to fail

#[path = "broker/access.rs"]
mod access;
#[path = "broker/client.rs"]
mod client;
#[path = "broker/conformance.rs"]
mod conformance;
#[path = "broker/hostile.rs"]
mod hostile;
#[path = "broker/master.rs"]
mod master;
#[path = "broker/servers.rs"]
mod servers;
