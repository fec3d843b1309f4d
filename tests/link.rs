//! The link on whole clusters of real processes: cut cables, a broker that dies, a broker of somebody else's, and nodes that say
//! what they may not or what makes no sense.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::disallowed_methods)] // a test

mod support;

#[path = "link/client.rs"]
mod client;
#[path = "link/cuts.rs"]
mod cuts;
#[path = "link/daemon.rs"]
mod daemon;
#[path = "link/external.rs"]
mod external;
#[path = "link/mosquitto.rs"]
mod mosquitto;
#[path = "link/nonsense.rs"]
mod nonsense;
#[path = "link/proxy.rs"]
mod proxy;
#[path = "link/rights.rs"]
mod rights;
