//! The published schema of the kinds that we serve, as one table: field names, numbers and types. Strict field validation,
//! pruning, the reading of protobuf bodies, and the lists that a strategic merge merges come from it.
//!
//! In:       an object of JSON, or bytes of protobuf, with its apiVersion and kind.
//! Out:      the object with only what the schema has, and what was found; or the JSON that the bytes stand for.
//! Never:    defaults (`default/`) or rules about values (`validate/`).

mod protobuf;
mod prune;
pub mod table;

use serde_json::{Map, Value};

use super::registry::Resource;
pub use protobuf::ProtobufError;
use table::Table;

/// What a look at an object against the schema found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Paths of fields that the schema does not have, such as `spec.replicaz`; they have been taken out.
    pub unknown: Vec<String>,
    /// The first value of a wrong type, in words that a person understands.
    pub wrong_type: Option<String>,
}

/// Prunes `object` to the schema of its kind and tells what was found. A kind that the schema does not know is left alone.
///
/// Beside that: fields that are `null` go, quantities that are numbers become text.
pub fn prune(resource: &Resource, object: &mut Value) -> Findings {
    prune_kind(&resource.api_version(), resource.kind, object).unwrap_or_default()
}

/// Like [`prune()`], for a body that is no object of a resource: `DeleteOptions`, `Scale`, `Eviction`, a review, ….
/// `None` when the schema does not know the kind.
pub fn prune_kind(api_version: &str, kind: &str, object: &mut Value) -> Option<Findings> {
    let table = Table::get();
    Some(prune::prune(table, table.kind(api_version, kind)?, object))
}

/// Reads a body in Kubernetes' protobuf, envelope included, into the JSON that the same client would have sent otherwise.
///
/// # Errors
/// When the bytes are broken, or of a kind that the schema does not know.
pub fn read_protobuf(bytes: &[u8]) -> Result<Map<String, Value>, ProtobufError> {
    protobuf::read(bytes)
}
