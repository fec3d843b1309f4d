//! What the API documents as default, per kind; pure and idempotent.

pub mod deployment;
pub mod namespace;
pub mod pod;
pub mod replicaset;
pub mod secret;
pub mod service;
