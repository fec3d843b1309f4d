//! (skeleton)
use super::FieldError;
use crate::api::Object;

/// What is wrong with it.
#[must_use]
pub fn errors(_object: &Object) -> Vec<FieldError> {
    Vec::new()
}

/// What is wrong with the change.
#[must_use]
pub fn update_errors(_old: &Object, _new: &Object) -> Vec<FieldError> {
    Vec::new()
}
