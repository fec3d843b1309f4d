//! Requests for certificates.
//!
//! Source:   `ValidateCertificateSigningRequest` and its updates, of certificates. Differs: that `spec.request` can be parsed is
//!           seen by the API server (`apiserver/join.rs`), which has what parses it; a signer's name may be of one word and a
//!           path (`bramble/node`).

use super::at::At;
use super::{FieldError, immutable};
use crate::api::Object;

const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

/// What is wrong with a request.
#[must_use]
pub fn errors(object: &Object) -> Vec<FieldError> {
    let mut out = Vec::new();
    let spec = At::field(object, "spec");
    let request = spec.get("request");
    if request.text().is_empty() {
        out.push(request.required());
    }
    let usages = spec.get("usages");
    if usages.len() == 0 {
        out.push(usages.required());
    }
    for (index, usage) in usages.value().as_array().into_iter().flatten().enumerate() {
        if !usage.as_str().is_some_and(|usage| USAGES.contains(&usage)) {
            out.push(FieldError::not_supported(usages.path.index(index), usage.clone(), &USAGES));
        }
    }
    let signer = spec.get("signerName");
    match signer.text().split_once('/') {
        _ if signer.text().is_empty() => out.push(signer.required()),
        Some((domain, path)) if !domain.is_empty() && !path.is_empty() && signer.text().len() <= 571 => {}
        _ => out.push(FieldError::invalid(
            &signer.path,
            signer.text(),
            "must be a fully qualified domain and path of the form 'example.com/signer-name'",
        )),
    }
    let expiration = spec.get("expirationSeconds");
    if expiration.int().is_some_and(|seconds| seconds < 600) {
        out.push(FieldError::invalid(
            &expiration.path,
            expiration.value().clone(),
            "may not specify a duration less than 600 seconds (10 minutes)",
        ));
    }
    out.extend(condition_errors(object));
    out
}

fn condition_errors(object: &Object) -> Vec<FieldError> {
    let mut out = Vec::new();
    let conditions = At::field(object, "status").get("conditions");
    let list: Vec<&serde_json::Value> = conditions.value().as_array().into_iter().flatten().collect();
    let text = |one: &serde_json::Value, key| one.get(key).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
    let mut seen: Vec<String> = Vec::new();
    for (index, one) in list.iter().enumerate() {
        let (path, kind, status) = (conditions.path.index(index), text(one, "type"), text(one, "status"));
        if kind.is_empty() {
            out.push(FieldError::required(path.child("type"), ""));
        }
        if matches!(kind.as_str(), "Approved" | "Denied" | "Failed") && status != "True" {
            out.push(FieldError::not_supported(path.child("status"), status, &["True"]));
        }
        if seen.contains(&kind) {
            out.push(FieldError::duplicate(path.child("type"), kind.clone()));
        }
        if (kind == "Denied" && seen.iter().any(|one| one == "Approved"))
            || (kind == "Approved" && seen.iter().any(|one| one == "Denied"))
        {
            out.push(FieldError::invalid(
                path.child("type"),
                kind.clone(),
                "Approved and Denied conditions are mutually exclusive",
            ));
        }
        seen.push(kind);
    }
    out
}

/// What is wrong with a change: what was asked stays as it was.
#[must_use]
pub fn update_errors(old: &Object, new: &Object) -> Vec<FieldError> {
    let mut out = Vec::new();
    immutable(&At::field(old, "spec"), &At::field(new, "spec"), &mut out);
    out
}

/// What is wrong with a change of `status` or `approval`: an answer that was given is not taken back, and a certificate stays.
#[must_use]
pub fn answer_errors(old: &Object, new: &Object) -> Vec<FieldError> {
    let mut out = condition_errors(new);
    let conditions = At::field(new, "status").get("conditions");
    for kind in ["Approved", "Denied", "Failed"] {
        let has = |object| crate::api::certificates::Request(object).is(kind);
        if has(old) && !has(new) {
            out.push(FieldError::forbidden(&conditions.path, &format!("updates may not remove a condition of type {kind:?}")));
        }
    }
    let certificate = At::field(new, "status").get("certificate");
    let before = old.str_at(&["status", "certificate"]);
    if !before.is_empty() && before != certificate.text() {
        out.push(certificate.forbidden("updates may not modify a certificate"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn csr(conditions: Value) -> Object {
        let spec = json!({"request": "eA==", "signerName": "bramble/node", "usages": ["client auth"]});
        Object::from_value(json!({"spec": spec, "status": {"conditions": conditions}})).unwrap()
    }

    #[test]
    fn a_request_needs_what_it_asks_of_whom_and_what_for() {
        assert_eq!(errors(&csr(json!([]))), []);
        let mut bad = csr(json!([]));
        bad.set_at(&["spec"], json!({"signerName": "nobody", "usages": ["fun"], "expirationSeconds": 5}));
        let paths: Vec<String> = errors(&bad).into_iter().map(|error| error.path).collect();
        assert_eq!(paths, ["spec.request", "spec.usages[0]", "spec.signerName", "spec.expirationSeconds"]);
    }

    #[test]
    fn an_answer_is_one_and_stays() {
        let yes = csr(json!([{"type": "Approved", "status": "True"}]));
        let both = csr(json!([{"type": "Approved", "status": "True"}, {"type": "Denied", "status": "True"}]));
        assert_eq!(answer_errors(&csr(json!([])), &yes), []);
        assert!(answer_errors(&yes, &both)[0].message.contains("mutually exclusive"));
        assert!(answer_errors(&yes, &csr(json!([])))[0].message.contains("may not remove"));
        assert_eq!(answer_errors(&csr(json!([])), &csr(json!([{"type": "Approved", "status": "False"}]))).len(), 1);
    }
}
