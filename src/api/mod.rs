//! Kubernetes' words.
//!
//! How an object is kept: its raw JSON, pruned to the schema, is the truth ([`object::Object`]); everything that reads it
//! does so through small lenses (`core/pod.rs`, …) that borrow from it. So a field that we do not use is still kept and
//! given back, and `kubectl apply` never fights us.
//!
//! Rejected: `k8s-openapi` types for everything. They compile for minutes, cost a megabyte, forget what they do not know,
//! and have neither defaults nor validation.
//!
//! Never:    knows of any other part of Bramble.

pub mod apps;
pub mod certificates;
pub mod coordination;
pub mod core;
pub mod default;
pub mod discovery;
pub mod image;
pub mod intstr;
pub mod networking;
pub mod node_terms;
pub mod object;
pub mod printer;
pub mod quantity;
pub mod registry;
pub mod schema;
pub mod selector;
pub mod status;
pub mod time;
pub mod validate;

pub use object::{Generation, Key, Object, Revision, Uid};
pub use registry::Resource;
