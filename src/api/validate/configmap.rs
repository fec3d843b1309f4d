//! Config maps and secrets.
//!
//! Source:   `ValidateConfigMap`, `ValidateSecret` and their updates, of core.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::at::At;
use super::{Errors, FieldError, immutable, name};
use crate::api::Object;

/// 1 MiB, all values of one object together.
const SIZE_LIMIT: usize = 1024 * 1024;
/// What a secret holds is never told.
const REDACTED: &str = "<secret contents redacted>";

/// What is wrong with a config map.
#[must_use]
pub fn errors(object: &Object) -> Vec<FieldError> {
    let mut out = Vec::new();
    let (data, binary) = (At::field(object, "data"), At::field(object, "binaryData"));
    let mut size = 0;
    for (key, value) in data.entries() {
        key_errors(key, &value, &mut out);
        if binary.get(key).is_set() {
            out.push(FieldError::invalid(&value.path, key, "duplicate of key present in binaryData"));
        }
        size += value.text().len();
    }
    for (key, value) in binary.entries() {
        key_errors(key, &value, &mut out);
        size += decoded(&value, value.text(), &mut out).map_or(0, |bytes| bytes.len());
    }
    if size > SIZE_LIMIT {
        out.push(FieldError::too_long("[]", SIZE_LIMIT));
    }
    out
}

/// What is wrong with a secret.
#[must_use]
pub fn secret_errors(object: &Object) -> Vec<FieldError> {
    let mut out = Vec::new();
    let data = At::field(object, "data");
    let mut size = 0;
    for (key, value) in data.entries() {
        key_errors(key, &value, &mut out);
        size += decoded(&value, REDACTED, &mut out).map_or(0, |bytes| bytes.len());
    }
    if size > SIZE_LIMIT {
        out.push(FieldError::too_long(&data.path, SIZE_LIMIT));
    }
    for (key, value) in At::field(object, "stringData").entries() {
        if !value.value().is_string() {
            out.push(FieldError::invalid(At::field(object, "stringData").path.key(key), REDACTED, "must be a string"));
        }
    }
    by_type(object, &data, &mut out);
    out
}

fn key_errors(key: &str, value: &At<'_>, out: &mut Errors) {
    out.extend(name::config_key(key).iter().map(|fault| FieldError::invalid(&value.path, key, fault)));
}

fn decoded(value: &At<'_>, shown: &str, out: &mut Errors) -> Option<Vec<u8>> {
    // `null` is an empty value, as Go's decoder has it.
    if !value.is_set() {
        return None;
    }
    let bytes = value.value().as_str().and_then(|text| STANDARD.decode(text.replace(['\n', '\r'], "")).ok());
    if bytes.is_none() {
        out.push(FieldError::invalid(&value.path, shown, "illegal base64 data"));
    }
    bytes
}

/// What the well-known types of secrets must hold.
fn by_type(object: &Object, data: &At<'_>, out: &mut Errors) {
    let need = |key: &str, out: &mut Errors| {
        if !data.get(key).is_set() {
            out.push(FieldError::required(data.path.key(key), ""));
        }
    };
    match object.str_at(&["type"]) {
        "kubernetes.io/service-account-token" => {
            let key = "kubernetes.io/service-account.name";
            if object.annotation(key).unwrap_or_default().is_empty() {
                out.push(FieldError::required(At::field(object, "metadata").get("annotations").path.key(key), ""));
            }
        }
        "kubernetes.io/dockercfg" => docker(".dockercfg", data, out),
        "kubernetes.io/dockerconfigjson" => docker(".dockerconfigjson", data, out),
        "kubernetes.io/basic-auth" if !data.get("username").is_set() && !data.get("password").is_set() => {
            need("username", out);
            need("password", out);
        }
        "kubernetes.io/ssh-auth" if data.get("ssh-privatekey").text().is_empty() => {
            out.push(FieldError::required(data.path.key("ssh-privatekey"), ""));
        }
        "kubernetes.io/tls" => {
            need("tls.crt", out);
            need("tls.key", out);
        }
        _ => {}
    }
}

fn docker(key: &str, data: &At<'_>, out: &mut Errors) {
    let value = data.get(key);
    if !value.is_set() {
        out.push(FieldError::required(data.path.key(key), ""));
        return;
    }
    let json = STANDARD.decode(value.text()).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    if !json.is_some_and(|json| json.is_object()) {
        out.push(FieldError::invalid(data.path.key(key), REDACTED, "must be a JSON object"));
    }
}

/// What is wrong with the change of a config map or secret.
#[must_use]
pub fn update_errors(old: &Object, new: &Object) -> Vec<FieldError> {
    let mut out = Vec::new();
    if old.bool_at(&["immutable"]) {
        let flag = At::field(new, "immutable");
        if !flag.flag() {
            out.push(flag.forbidden("field is immutable when `immutable` is set"));
        }
        for key in ["data", "binaryData"] {
            let (before, after) = (At::field(old, key), At::field(new, key));
            // Absent and empty are the same.
            if before.value() != after.value() && before.len() + after.len() > 0 {
                out.push(after.forbidden("field is immutable when `immutable` is set"));
            }
        }
    }
    out
}

/// What is wrong with the change of a secret.
#[must_use]
pub fn secret_update_errors(old: &Object, new: &Object) -> Vec<FieldError> {
    let mut out = Vec::new();
    immutable(&At::field(old, "type"), &At::field(new, "type"), &mut out);
    out.extend(update_errors(old, new));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::validate::sentence;
    use serde_json::json;

    fn object(value: Value) -> Object {
        Object::from_value(value).unwrap()
    }

    fn map(value: Value) -> String {
        sentence(&errors(&object(value)))
    }

    fn secret(value: Value) -> String {
        sentence(&secret_errors(&object(value)))
    }

    #[test]
    fn keys_become_file_names() {
        assert_eq!(map(json!({"data": {"a.conf": "x", "B_c-d": ""}, "binaryData": {"e": "AAE="}})), "[]");
        assert_eq!(
            map(json!({"data": {"a b": "x"}})),
            "data[a b]: Invalid value: \"a b\": a valid config key must consist of alphanumeric characters, '-', '_' or '.' \
             (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
        );
        assert_eq!(map(json!({"data": {"..": "x"}})), "data[..]: Invalid value: \"..\": must not be '..'");
        assert_eq!(
            map(json!({"data": {"a": "x"}, "binaryData": {"a": "AAE="}})),
            "data[a]: Invalid value: \"a\": duplicate of key present in binaryData"
        );
        assert_eq!(map(json!({"binaryData": {"a": "?"}})), "binaryData[a]: Invalid value: \"?\": illegal base64 data");
    }

    #[test]
    fn a_mebibyte_is_the_most() {
        assert_eq!(map(json!({"data": {"a": "x".repeat(SIZE_LIMIT)}})), "[]");
        assert_eq!(
            map(json!({"data": {"a": "x".repeat(SIZE_LIMIT), "b": "y"}})),
            "[]: Too long: may not be more than 1048576 bytes"
        );
        assert_eq!(
            secret(json!({"data": {"a": STANDARD.encode("x".repeat(SIZE_LIMIT + 1))}})),
            "data: Too long: may not be more than 1048576 bytes"
        );
    }

    #[test]
    fn secrets_are_base64_and_their_contents_are_never_told() {
        assert_eq!(secret(json!({"type": "Opaque", "data": {"a": "eA==", "b": "", "c": null, "d": "eHh4\neHg="}})), "[]");
        let text = secret(json!({"data": {"a": "hunter2!"}}));
        assert_eq!(text, "data[a]: Invalid value: \"<secret contents redacted>\": illegal base64 data");
    }

    #[test]
    fn types_of_secrets_have_their_keys() {
        for (kind, data, words) in [
            ("kubernetes.io/tls", json!({"tls.crt": "eA=="}), "data[tls.key]: Required value"),
            ("kubernetes.io/tls", json!({"tls.crt": "eA==", "tls.key": "eA=="}), "[]"),
            ("kubernetes.io/ssh-auth", json!({}), "data[ssh-privatekey]: Required value"),
            ("kubernetes.io/basic-auth", json!({}), "[data[username]: Required value, data[password]: Required value]"),
            ("kubernetes.io/basic-auth", json!({"password": "eA=="}), "[]"),
            ("kubernetes.io/dockerconfigjson", json!({}), "data[.dockerconfigjson]: Required value"),
            (
                "kubernetes.io/dockerconfigjson",
                json!({".dockerconfigjson": "eA=="}),
                "data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>\": must be a JSON object",
            ),
            ("kubernetes.io/dockerconfigjson", json!({".dockerconfigjson": "e30="}), "[]"),
            (
                "kubernetes.io/service-account-token",
                json!({}),
                "metadata.annotations[kubernetes.io/service-account.name]: Required value",
            ),
            ("my/own", json!({}), "[]"),
        ] {
            assert_eq!(secret(json!({"type": kind, "data": data})), words, "{kind}");
        }
    }

    #[test]
    fn immutable_means_for_ever() {
        let change = |old: Value, new: Value| sentence(&secret_update_errors(&object(old), &object(new)));
        let sealed = json!({"immutable": true, "data": {"a": "eA=="}});
        assert_eq!(change(sealed.clone(), sealed.clone()), "[]");
        assert_eq!(
            change(sealed.clone(), json!({"data": {"a": "eA=="}})),
            "immutable: Forbidden: field is immutable when `immutable` is set"
        );
        assert_eq!(change(sealed, json!({"immutable": true})), "data: Forbidden: field is immutable when `immutable` is set");
        assert_eq!(change(json!({"immutable": true}), json!({"immutable": true, "data": {}})), "[]");
        assert_eq!(change(json!({"data": {"a": "eA=="}}), json!({"immutable": true})), "[]");
        assert_eq!(
            change(json!({"type": "a/b"}), json!({"type": "Opaque"})),
            "type: Invalid value: \"Opaque\": field is immutable"
        );
    }
}
