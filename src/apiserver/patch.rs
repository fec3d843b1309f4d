//! The patch types as pure functions over JSON trees.
//!
//! In:       an object as it is stored, a patch as it came, which kind of patch it is.
//! Out:      the object after the patch, neither defaulted nor validated; or why the patch is refused.
//! Never:    writes, looks at resource versions, or prunes to the schema: what comes out goes the way of a PUT.
//! Source:   RFC 6902, RFC 7396; the strategic merge is in `patch/strategic.rs`.

mod strategic;

use json_patch::PatchOperation;
use json_patch::jsonptr::Pointer;
use serde_json::Value;

use crate::api::Resource;

/// The most operations in one JSON patch, as upstream has it.
const MAX_OPERATIONS: usize = 10_000;
/// What the copies of one JSON patch may add, in values; without it thirty copies of `/` fill any memory.
const MAX_COPIED: usize = 100_000;
/// How deep a JSON patch may nest an object; deeper ones could not be read back.
const MAX_DEPTH: usize = 100;

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

impl PatchKind {
    /// The content types that are read, for error messages.
    pub const ACCEPTED: &str =
        "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json";

    /// Which patch a `Content-Type` announces; parameters and letter case do not matter. `None` is a 415.
    #[must_use]
    pub fn from_content_type(content_type: &str) -> Option<Self> {
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        [
            ("application/json-patch+json", Self::Json),
            ("application/merge-patch+json", Self::Merge),
            ("application/strategic-merge-patch+json", Self::Strategic),
        ]
        .into_iter()
        .find_map(|(name, kind)| media_type.eq_ignore_ascii_case(name).then_some(kind))
    }
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
pub fn apply(kind: PatchKind, resource: &Resource, object: &Value, patch: &Value) -> Result<Value, PatchError> {
    match kind {
        PatchKind::Json => json(object, patch),
        PatchKind::Merge => {
            if !patch.is_object() {
                return Err(not_an_object(patch));
            }
            let mut merged = object.clone();
            json_patch::merge(&mut merged, patch);
            Ok(merged)
        }
        PatchKind::Strategic => strategic::merge(resource, object, patch.as_object().ok_or_else(|| not_an_object(patch))?),
    }
}

fn not_an_object(patch: &Value) -> PatchError {
    let found = match patch {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    PatchError::Malformed(format!("error decoding patch: expected a JSON object, found {found}"))
}

fn json(object: &Value, patch: &Value) -> Result<Value, PatchError> {
    let list =
        patch.as_array().ok_or_else(|| PatchError::Malformed("error decoding patch: expected a list of operations".into()))?;
    if list.len() > MAX_OPERATIONS {
        return Err(PatchError::Malformed(format!(
            "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
            list.len()
        )));
    }
    let mut patched = object.clone();
    let mut copied = 0usize;
    for (index, operation) in list.iter().enumerate() {
        let operation: PatchOperation = serde_json::from_value(operation.clone())
            .map_err(|error| PatchError::Malformed(format!("error decoding patch: operation {index}: {error}")))?;
        let (size, depth) = brought(&operation, &patched);
        if matches!(operation, PatchOperation::Copy(_)) {
            copied = copied.saturating_add(size);
        }
        if copied > MAX_COPIED || depth.saturating_add(operation.path().count()) > MAX_DEPTH {
            return Err(PatchError::DoesNotFit(format!("operation {index} of the patch makes the object too large")));
        }
        json_patch::patch(&mut patched, std::slice::from_ref(&operation))
            .map_err(|error| PatchError::DoesNotFit(format!("operation {index} of the patch: {}", error.kind)))?;
    }
    Ok(patched)
}

/// How many values an operation puts into the object, and how deep they are.
fn brought(operation: &PatchOperation, object: &Value) -> (usize, usize) {
    let from = |pointer: &Pointer| object.pointer(pointer.as_str()).map_or((0, 0), measure);
    match operation {
        PatchOperation::Add(add) => measure(&add.value),
        PatchOperation::Replace(replace) => measure(&replace.value),
        PatchOperation::Move(r#move) => from(&r#move.from),
        PatchOperation::Copy(copy) => from(&copy.from),
        PatchOperation::Remove(_) | PatchOperation::Test(_) => (0, 0),
    }
}

fn measure(value: &Value) -> (usize, usize) {
    let over = |parts: &mut dyn Iterator<Item = &Value>| {
        let (size, depth) = parts.map(measure).fold((0, 0), |(size, depth), (more, deep)| (size + more, depth.max(deep)));
        (size + 1, depth + 1)
    };
    match value {
        Value::Array(list) => over(&mut list.iter()),
        Value::Object(map) => over(&mut map.values()),
        // Long texts count by their length, in words of 64 bytes.
        Value::String(text) => (1 + text.len() / 64, 1),
        _ => (1, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::registry;
    use serde_json::json;

    fn apply_to_pod(kind: PatchKind, object: &Value, patch: &Value) -> Result<Value, PatchError> {
        apply(kind, &registry::PODS, object, patch)
    }

    #[test]
    fn the_content_type_tells_the_patch() {
        for (content_type, kind) in [
            ("application/json-patch+json", Some(PatchKind::Json)),
            ("application/merge-patch+json; charset=utf-8", Some(PatchKind::Merge)),
            ("Application/Strategic-Merge-Patch+JSON", Some(PatchKind::Strategic)),
            ("application/apply-patch+yaml", None),
            ("application/json", None),
            ("", None),
        ] {
            assert_eq!(PatchKind::from_content_type(content_type), kind, "{content_type}");
        }
    }

    #[test]
    fn a_merge_patch_merges_maps_replaces_lists_and_deletes_by_null() {
        let object = json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"containers": [{"name": "x"}]}});
        for (patch, expected) in [
            (json!({}), object.clone()),
            // kubectl label pod x a- c=3
            (
                json!({"metadata": {"labels": {"a": null, "c": "3"}}}),
                json!({"metadata": {"labels": {"b": "2", "c": "3"}}, "spec": {"containers": [{"name": "x"}]}}),
            ),
            (
                json!({"spec": {"containers": [{"name": "y"}]}, "metadata": null}),
                json!({"spec": {"containers": [{"name": "y"}]}}),
            ),
            (
                json!({"spec": {"new": {"gone": null, "kept": 1}}, "metadata": null}),
                json!({"spec": {"containers": [{"name": "x"}], "new": {"kept": 1}}}),
            ),
        ] {
            assert_eq!(apply_to_pod(PatchKind::Merge, &object, &patch), Ok(expected), "{patch}");
        }
        // kubectl scale, on the Scale object.
        assert_eq!(
            apply(PatchKind::Merge, &registry::DEPLOYMENTS, &json!({"spec": {"replicas": 1}}), &json!({"spec": {"replicas": 5}})),
            Ok(json!({"spec": {"replicas": 5}}))
        );
    }

    #[test]
    fn a_patch_that_is_no_object_is_malformed() {
        for patch in [json!([]), json!("x"), json!(null), json!(1)] {
            for kind in [PatchKind::Merge, PatchKind::Strategic] {
                assert!(matches!(apply_to_pod(kind, &json!({}), &patch), Err(PatchError::Malformed(_))), "{patch}");
            }
        }
    }

    #[test]
    fn a_json_patch_does_its_operations_in_order() {
        let object = json!({"metadata": {"labels": {"a/b": "1"}}, "spec": {"list": [1, 2]}});
        let patch = json!([
            {"op": "test", "path": "/metadata/labels/a~1b", "value": "1"},
            {"op": "replace", "path": "/metadata/labels/a~1b", "value": "2"},
            {"op": "add", "path": "/spec/list/-", "value": 3},
            {"op": "remove", "path": "/spec/list/0"},
            {"op": "copy", "from": "/spec/list", "path": "/spec/again"},
            {"op": "move", "from": "/spec/list", "path": "/spec/moved"},
        ]);
        assert_eq!(
            apply_to_pod(PatchKind::Json, &object, &patch),
            Ok(json!({"metadata": {"labels": {"a/b": "2"}}, "spec": {"again": [2, 3], "moved": [2, 3]}}))
        );
    }

    #[test]
    fn a_json_patch_that_is_broken_and_one_that_does_not_fit_are_two_things() {
        let object = json!({"a": {"b": 1}});
        for patch in [
            json!({}),
            json!([1]),
            json!([{"op": "jump", "path": "/a"}]),
            json!([{"op": "add", "path": "/a"}]),
            json!([{"op": "add", "path": "a", "value": 1}]),
        ] {
            assert!(matches!(apply_to_pod(PatchKind::Json, &object, &patch), Err(PatchError::Malformed(_))), "{patch}");
        }
        for patch in [
            json!([{"op": "test", "path": "/a/b", "value": 2}]),
            json!([{"op": "remove", "path": "/a/c"}]),
            json!([{"op": "replace", "path": "/a/c", "value": 1}]),
            json!([{"op": "add", "path": "/x/y", "value": 1}]),
            json!([{"op": "add", "path": "/a/b", "value": 7}, {"op": "move", "from": "/a", "path": "/a/b"}]),
        ] {
            assert!(matches!(apply_to_pod(PatchKind::Json, &object, &patch), Err(PatchError::DoesNotFit(_))), "{patch}");
        }
    }

    #[test]
    fn copies_of_copies_neither_fill_the_memory_nor_the_stack() {
        let doubling: Vec<Value> = (0..64).map(|n| json!({"op": "copy", "from": "", "path": format!("/{n}")})).collect();
        let wide: Vec<Value> = (0..64).map(|n| json!({"op": "copy", "from": "/l", "path": format!("/l/{n}")})).collect();
        let deep: Vec<Value> = (1..300).map(|n| json!({"op": "add", "path": "/a".repeat(n), "value": {}})).collect();
        for patch in [doubling, wide, deep] {
            let result = apply_to_pod(PatchKind::Json, &json!({"l": [1, 2, 3]}), &Value::Array(patch));
            assert!(matches!(result, Err(PatchError::DoesNotFit(_))), "{result:?}");
        }
    }
}
