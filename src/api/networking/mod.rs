//! `networking.k8s.io/v1`: lenses.

pub mod ingress;
pub mod local_name;
