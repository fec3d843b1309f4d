//! `coordination.k8s.io/v1`: lenses.
