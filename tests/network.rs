//! The network in the real kernel: services, in network namespaces of the tests' own. As root; needs `iproute2` and `nftables`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::disallowed_methods)] // a test

#[path = "network/lab.rs"]
mod lab;
#[path = "network/part.rs"]
mod part;
#[path = "network/router.rs"]
mod router;
#[path = "network/rules.rs"]
mod rules;
#[path = "network/services.rs"]
mod services;
#[path = "network/shares.rs"]
mod shares;
