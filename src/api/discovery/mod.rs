//! `discovery.k8s.io/v1`: lenses.

pub mod endpoint_slice;
