//! Several hosts on one machine: network namespaces on two segments with a router between them, and packets that really go.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::disallowed_methods)] // a test

#[path = "hosts/cluster.rs"]
mod cluster;
#[path = "support/delay.rs"]
mod delay;
#[path = "hosts/guest.rs"]
mod guest;
#[path = "join/home.rs"]
#[allow(dead_code)]
mod home;
#[path = "support/hosts.rs"]
mod hosts;
#[path = "hosts/inside.rs"]
mod inside;
#[path = "hosts/kernel_wireguard.rs"]
mod kernel_wireguard;
#[allow(dead_code)]
#[path = "join/lan.rs"]
mod lan;
#[path = "hosts/names.rs"]
mod names;
#[path = "hosts/node.rs"]
mod node;
#[path = "hosts/overlay.rs"]
mod overlay;
#[allow(dead_code)]
#[path = "docker/own_docker.rs"]
mod own_docker;
#[path = "hosts/policies.rs"]
mod policies;
#[path = "support/segments.rs"]
mod segments;
#[path = "hosts/services.rs"]
mod services;
#[path = "hosts/slow.rs"]
mod slow;
mod support;
#[path = "hosts/talk.rs"]
mod talk;
#[path = "hosts/trouble.rs"]
mod trouble;
#[path = "hosts/wireguard.rs"]
mod wireguard;
