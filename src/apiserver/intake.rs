//! Takes in an object from a request: read, of the right kind, pruned to its schema.
//!
//! In:       the body and its content type.
//! Out:      the object and the warnings; 400 for what cannot be read or, when strict, has fields that are unknown.
//! Never:    looks at the store; defaults and rules come after it (`admission.rs`, `verbs/`).

use serde_json::Value;

use crate::api::status::ApiError;
use crate::api::{Object, Resource, schema};

use super::decode::{self, DecodeError, Decoded};
use super::options::FieldValidation;

/// An object that was taken in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Intake {
    /// The object, with `apiVersion` and `kind`.
    pub object: Object,
    /// For `Warning` headers.
    pub warnings: Vec<String>,
}

/// A body as JSON; an empty one is `null`.
///
/// # Errors
/// 400 and 415.
pub fn read(content_type: &str, bytes: &[u8], wanted: &str) -> Result<Decoded, ApiError> {
    if bytes.is_empty() {
        return Ok(Decoded::default());
    }
    decode::body(content_type, bytes).map_err(|error| match error {
        DecodeError::MediaType(_) => ApiError::UnsupportedMediaType { accepted: decode::ACCEPTED },
        DecodeError::Malformed(why) => {
            ApiError::BadRequest(format!("the object provided is unrecognized (must be of type {wanted}): {why}"))
        }
    })
}

/// An object of this resource from a body.
///
/// # Errors
/// 400 and 415.
pub fn object(resource: &Resource, content_type: &str, bytes: &[u8], mode: FieldValidation) -> Result<Intake, ApiError> {
    let Decoded { value, duplicates } = read(content_type, bytes, resource.kind)?;
    pruned(resource, value, duplicates, mode)
}

/// Checks the kind of a JSON value and prunes it.
///
/// # Errors
/// 400.
pub fn pruned(resource: &Resource, mut value: Value, duplicates: Vec<String>, mode: FieldValidation) -> Result<Intake, ApiError> {
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    if !value.is_object() {
        return Err(ApiError::BadRequest(format!(
            "the object provided is unrecognized (must be of type {}): it is no object",
            resource.kind
        )));
    }
    let (api_version, kind) = (text(&value, "apiVersion"), text(&value, "kind"));
    let expected = resource.api_version();
    if !api_version.is_empty() && api_version != expected {
        return Err(ApiError::BadRequest(format!(
            "the API version in the data ({api_version}) does not match the expected API version ({expected})"
        )));
    }
    let unfit = |why: &str| {
        let kind = if kind.is_empty() { resource.kind } else { &kind };
        ApiError::BadRequest(format!("{kind} in version {:?} cannot be handled as a {}: {why}", resource.version, resource.kind))
    };
    if !kind.is_empty() && kind != resource.kind {
        return Err(unfit(&format!("it is no {}", resource.kind)));
    }
    let findings = schema::prune(resource, &mut value);
    if let Some(why) = findings.wrong_type {
        return Err(unfit(&why));
    }
    let duplicates = duplicates.iter().map(|path| format!("duplicate field {path:?}"));
    let faults: Vec<String> = duplicates.chain(findings.unknown.iter().map(|path| format!("unknown field {path:?}"))).collect();
    let warnings = match mode {
        FieldValidation::Strict if !faults.is_empty() => {
            return Err(unfit(&format!("strict decoding error: {}", faults.join(", "))));
        }
        FieldValidation::Warn => faults,
        FieldValidation::Strict | FieldValidation::Ignore => Vec::new(),
    };
    let mut object = Object::from_value(value).unwrap_or_default();
    object.set_at(&["apiVersion"], expected);
    object.set_at(&["kind"], resource.kind);
    Ok(Intake { object, warnings })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::registry;
    use serde_json::json;

    #[test]
    fn a_body_of_another_kind_or_version_is_refused_in_words() {
        let refused =
            |value: Value| pruned(&registry::DEPLOYMENTS, value, vec![], FieldValidation::Strict).unwrap_err().to_string();
        assert_eq!(
            refused(json!({"apiVersion": "apps/v1beta1", "kind": "Deployment"})),
            "the API version in the data (apps/v1beta1) does not match the expected API version (apps/v1)"
        );
        assert_eq!(
            refused(json!({"apiVersion": "apps/v1", "kind": "ReplicaSet"})),
            "ReplicaSet in version \"v1\" cannot be handled as a Deployment: it is no Deployment"
        );
        assert!(refused(json!([])).contains("must be of type Deployment"));
    }

    #[test]
    fn a_field_that_stands_twice_is_refused_warned_of_or_passed_over() {
        let taken = |mode| {
            let value = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
            pruned(&registry::CONFIG_MAPS, value, vec!["metadata.name".into()], mode)
        };
        assert_eq!(
            taken(FieldValidation::Strict).unwrap_err().to_string(),
            "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: duplicate field \"metadata.name\""
        );
        assert_eq!(taken(FieldValidation::Warn).unwrap().warnings, ["duplicate field \"metadata.name\""]);
        assert!(taken(FieldValidation::Ignore).unwrap().warnings.is_empty());
    }
}
