//! `apps/v1`: lenses.

pub mod deployment;
pub mod replicaset;
