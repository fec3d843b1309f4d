//! The patch types as pure functions over JSON trees. (skeleton)

use serde_json::Value;

use crate::api::Resource;

/// Which patch, by content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    /// `application/json-patch+json`, RFC 6902.
    Json,
    /// `application/merge-patch+json`, RFC 7396.
    Merge,
    /// `application/strategic-merge-patch+json`.
    Strategic,
}

/// Why a patch cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// It is malformed: 400.
    #[error("{0}")]
    Malformed(String),
    /// It does not fit the object: 422.
    #[error("{0}")]
    DoesNotFit(String),
}

/// The object after the patch.
///
/// # Errors
/// When the patch is malformed or does not fit.
pub fn apply(_kind: PatchKind, _resource: &Resource, object: &Value, _patch: &Value) -> Result<Value, PatchError> {
    Ok(object.clone())
}
