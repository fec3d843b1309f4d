//! The master: its configuration, the cluster's certificate authority, and what puts its parts together. (skeleton)

pub mod authority;
pub mod config;
