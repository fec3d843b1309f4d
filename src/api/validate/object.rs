//! Rules for the metadata of every object: names, labels, annotations, owner references.

use super::FieldError;
use crate::api::{Object, Resource};

/// What is wrong with the metadata of a new object of this resource.
#[must_use]
pub fn errors(_resource: &Resource, _object: &Object) -> Vec<FieldError> {
    Vec::new()
}

/// What is wrong with a change of metadata (uid, name, creationTimestamp, … never change).
#[must_use]
pub fn update_errors(_resource: &Resource, _old: &Object, _new: &Object) -> Vec<FieldError> {
    Vec::new()
}
