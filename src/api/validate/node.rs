//! (skeleton)
use super::FieldError;
use crate::api::Object;

/// What is wrong with it.
#[must_use]
pub fn errors(_object: &Object) -> Vec<FieldError> {
    Vec::new()
}
