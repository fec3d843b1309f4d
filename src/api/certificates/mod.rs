//! `certificates.k8s.io/v1`: a lens on requests for certificates.

use super::Object;
use super::core::join::{SIGNER, secret_text};
use serde_json::Value;

/// A CertificateSigningRequest.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a>(pub &'a Object);

impl Request<'_> {
    /// Whether it has this condition: `Approved`, `Denied`, `Failed`.
    #[must_use]
    pub fn is(&self, condition: &str) -> bool {
        self.0.list_at(&["status", "conditions"]).iter().any(|one| one.get("type").and_then(Value::as_str) == Some(condition))
    }

    /// Whether nobody has said yes or no.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        !["Approved", "Denied", "Failed"].iter().any(|condition| self.is(condition))
    }

    /// Whether the certificate is there.
    #[must_use]
    pub fn is_issued(&self) -> bool {
        !self.0.str_at(&["status", "certificate"]).is_empty()
    }

    /// Whether it is a node's.
    #[must_use]
    pub fn is_of_a_node(&self) -> bool {
        self.0.str_at(&["spec", "signerName"]) == SIGNER
    }

    /// Who asked.
    #[must_use]
    pub fn user(&self) -> &str {
        self.0.str_at(&["spec", "username"])
    }

    /// What is asked, PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        let spec = Object::from_value(serde_json::json!({"data": {"request": self.0.str_at(&["spec", "request"])}}));
        secret_text(&spec.unwrap_or_default(), "request")
    }

    /// The words of the condition `kind`, for people.
    #[must_use]
    pub fn message(&self, kind: &str) -> &str {
        let all = self.0.list_at(&["status", "conditions"]).iter();
        let mut found = all.filter(|one| one.get("type").and_then(Value::as_str) == Some(kind));
        found.next().and_then(|one| one.get("message")).and_then(Value::as_str).unwrap_or_default()
    }
}
