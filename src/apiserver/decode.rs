//! Request bodies: JSON, YAML or Kubernetes' protobuf, into JSON.
//!
//! In:       the `Content-Type` of a request and the bytes of its body (the listener limits their number).
//! Out:      a JSON object and the keys that stood twice in it; or why it cannot be read.
//! Never:    knows which fields a kind has (`api/schema`), but for protobuf, which cannot be read without.
//! Flow:     from `http.rs`, on to the verbs. Work and memory stay in proportion to the body, whatever is in it.

mod nesting;
mod tree;

use serde_json::Value;

use crate::api::schema;
use tree::Budget;

/// A body that was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decoded {
    /// Always a JSON object.
    pub value: Value,
    /// Paths of keys that stood twice, such as `metadata.name`.
    pub duplicates: Vec<String>,
}

/// Why a body cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// A content type that we do not read.
    #[error("unknown content type {0:?}")]
    MediaType(String),
    /// Broken JSON, YAML or protobuf; the words of the parser.
    #[error("{0}")]
    Malformed(String),
}

/// The content types that [`body`] reads, for error messages.
pub const ACCEPTED: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";

/// How deep a body may nest.
pub const MAX_DEPTH: usize = 100;

/// Reads a body by its `Content-Type` (none means JSON); parameters such as a charset do not matter.
///
/// # Errors
/// When the type is not read, the body is broken, or it is no object.
pub fn body(content_type: &str, bytes: &[u8]) -> Result<Decoded, DecodeError> {
    let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let decoded = match media_type.as_str() {
        "" | "application/json" => json(bytes).map_err(json_error)?,
        "application/yaml" | "application/x-yaml" | "text/yaml" => yaml(bytes)?,
        "application/vnd.kubernetes.protobuf" => {
            let object = schema::read_protobuf(bytes).map_err(|error| DecodeError::Malformed(error.to_string()))?;
            Decoded { value: Value::Object(object), duplicates: Vec::new() }
        }
        _ => return Err(DecodeError::MediaType(content_type.to_owned())),
    };
    if decoded.value.is_object() {
        return Ok(decoded);
    }
    Err(json_error(format!("expected an object, found {}", tree::sort(&decoded.value))))
}

/// Reads the body of a patch: JSON, and not only objects.
///
/// # Errors
/// When it is no JSON.
pub fn patch(bytes: &[u8]) -> Result<Value, DecodeError> {
    json(bytes).map(|decoded| decoded.value).map_err(|error| DecodeError::Malformed(format!("error decoding patch: {error}")))
}

fn json_error(why: impl std::fmt::Display) -> DecodeError {
    DecodeError::Malformed(format!("couldn't get version/kind; json parse error: {why}"))
}

fn json(bytes: &[u8]) -> Result<Decoded, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let decoded = tree::read(&mut reader, Budget::json(bytes.len()))?;
    reader.end()?;
    Ok(decoded)
}

/// One document. As everywhere in YAML 1.2, `yes` is a text and `0o644` an octal number.
fn yaml(bytes: &[u8]) -> Result<Decoded, DecodeError> {
    // JSON is YAML, and the faster of the two; what is no JSON is told in the words of YAML.
    if let Ok(decoded) = json(bytes) {
        return Ok(decoded);
    }
    let text = std::str::from_utf8(bytes).map_err(|error| yaml_error(&error))?;
    if !nesting::is_harmless(bytes) {
        return Err(yaml_error(&format_args!("exceeded max depth of {MAX_DEPTH}")));
    }
    tree::read(serde_yaml_ng::Deserializer::from_str(text), Budget::yaml(bytes.len())).map_err(|error| yaml_error(&error))
}

fn yaml_error(why: &dyn std::fmt::Display) -> DecodeError {
    DecodeError::Malformed(format!("error converting YAML to JSON: yaml: {why}"))
}

#[cfg(test)]
mod tests;
