//! What is wrong with an object, field by field; pure.

pub mod configmap;
pub mod deployment;
pub mod node;
pub mod object;
pub mod pod;
pub mod service;

/// Why a field is refused; the name is the `reason` of a cause in a `Status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldErrorKind {
    /// `FieldValueRequired`
    Required,
    /// `FieldValueInvalid`
    Invalid,
    /// `FieldValueDuplicate`
    Duplicate,
    /// `FieldValueNotSupported`
    NotSupported,
    /// `FieldValueForbidden`
    Forbidden,
    /// `FieldValueTooLong`
    TooLong,
}

/// One refused field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Why.
    pub kind: FieldErrorKind,
    /// For example `spec.containers[0].image`.
    pub path: String,
    /// Complete, in Kubernetes' words: `Invalid value: "x": must be …`, `Required value`.
    pub message: String,
}

/// All errors as one sentence: `a.b: Required value`, or `[a.b: …, c: …]`.
#[must_use]
pub fn sentence(errors: &[FieldError]) -> String {
    let each: Vec<String> = errors.iter().map(|error| format!("{}: {}", error.path, error.message)).collect();
    match each.as_slice() {
        [only] => only.clone(),
        _ => format!("[{}]", each.join(", ")),
    }
}
