//! Namespaces. Source: `ValidateNamespace` of core.

use super::at::At;
use super::{FieldError, name};
use crate::api::Object;

/// What is wrong with it.
#[must_use]
pub fn errors(object: &Object) -> Vec<FieldError> {
    let mut out = Vec::new();
    let finalizers = At::field(object, "spec").get("finalizers");
    for finalizer in finalizers.texts() {
        out.extend(name::qualified(finalizer).iter().map(|fault| FieldError::invalid(&finalizers.path, finalizer, fault)));
        if !finalizer.contains('/') && finalizer != "kubernetes" {
            out.push(FieldError::invalid(
                &finalizers.path,
                finalizer,
                "name is neither a standard finalizer name nor is it fully qualified",
            ));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::validate::sentence;
    use serde_json::json;

    #[test]
    fn who_holds_a_namespace_has_a_full_name() {
        let found = |finalizers: serde_json::Value| {
            sentence(&errors(&Object::from_value(json!({"spec": {"finalizers": finalizers}})).unwrap()))
        };
        assert_eq!(found(json!(["kubernetes", "example.com/keep"])), "[]");
        assert_eq!(
            found(json!(["keep"])),
            "spec.finalizers: Invalid value: \"keep\": name is neither a standard finalizer name nor is it fully qualified"
        );
    }
}
