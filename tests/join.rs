//! Nodes that join by themselves, as real processes: `bramble master`, `bramble agent`, and people who say yes or no.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::disallowed_methods)] // a test

#[path = "join/adopt.rs"]
mod adopt;
#[path = "join/approval.rs"]
mod approval;
#[path = "join/clock.rs"]
mod clock;
#[path = "join/home.rs"]
mod home;
#[path = "support/hosts.rs"]
mod hosts;
#[path = "join/identity.rs"]
mod identity;
#[path = "join/lan.rs"]
mod lan;
#[path = "join/mdns.rs"]
mod mdns;
#[path = "join/read_only_root.rs"]
mod read_only_root;
#[path = "join/strangers.rs"]
mod strangers;
mod support;
#[path = "join/tokens.rs"]
mod tokens;
