//! (skeleton)
use crate::api::Object;

/// Fills in the defaults.
pub fn fill(_object: &mut Object) {}
