//! The node's HTTP door: requests from outside to the pods behind a cluster's ingresses. Every node has one, and each serves all ingresses.
//!
//! ```text
//!  net share ─▶ table.rs (route.rs: which ingress? backends.rs: which pods?) ─┐
//!           └─▶ tls.rs (certificates by name) ─┐                              ▼
//!  80, 443 ─▶ run.rs (doors, connections) ─────┴──▶ http.rs (one request) ─▶ tcp.rs (connections to pods) ─▶ pod
//! ```
//!
//! What is in the share is ours to serve: the master leaves out what is of another class. A new share is a new table; a request that is
//! under way goes on with what it began with, and no connection ends because of it. Without an ingress no port is open.
//!
//! Never:    asks a service's own address: pods are chosen here, so that one that cannot be reached is passed over.

mod backends;
mod headers;
mod http;
mod route;
pub mod run;
mod table;
mod tcp;
mod tls;
