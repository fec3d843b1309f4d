//! Failures as the API tells them: Kubernetes' `Status`, its reasons and codes, in one place.
//!
//! In:       an [`ApiError`], typed where it arose.
//! Out:      the HTTP code and the `Status` object that every client understands.
//! Never:    decides whether something failed.

use serde_json::{Map, Value, json};

use super::registry::Resource;
use super::validate::{FieldError, FieldErrorKind};

/// Every way in which a request can fail. `to_status` words it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ApiError {
    /// 400: a body or a query that cannot be read.
    #[error("{0}")]
    BadRequest(String),
    /// 401: no credentials.
    #[error("Unauthorized")]
    Unauthorized,
    /// 403: known, and not allowed.
    #[error("{0}")]
    Forbidden(String),
    /// 403: refused by a rule of admission.
    #[error("{} \"{name}\" is forbidden: {why}", resource.qualified())]
    NotAdmitted {
        /// Its resource.
        resource: &'static Resource,
        /// Its name; may be empty when it was to be generated.
        name: String,
        /// Which rule.
        why: String,
    },
    /// 403: the namespace is on its way out.
    #[error("{} \"{name}\" is forbidden: unable to create new content in namespace {namespace} because it is being terminated", resource.qualified())]
    NamespaceTerminating {
        /// What was to be created.
        resource: &'static Resource,
        /// Its name.
        name: String,
        /// Where.
        namespace: String,
    },
    /// 404: no such object.
    #[error("{} \"{name}\" not found", resource.qualified())]
    NotFound {
        /// Its resource.
        resource: &'static Resource,
        /// The name asked for.
        name: String,
    },
    /// 404: no such path.
    #[error("the server could not find the requested resource")]
    NoSuchPath,
    /// 405: the path is there, the verb is not.
    #[error("the server does not allow this method on the requested resource")]
    MethodNotAllowed,
    /// 406: nothing that the client accepts can be made.
    #[error("{0}")]
    NotAcceptable(String),
    /// 409: it is there already.
    #[error("{} \"{name}\" already exists", resource.qualified())]
    AlreadyExists {
        /// Its resource.
        resource: &'static Resource,
        /// The name that is taken.
        name: String,
    },
    /// 409: it changed meanwhile, or a precondition does not hold.
    #[error("Operation cannot be fulfilled on {} \"{name}\": {why}", resource.qualified())]
    Conflict {
        /// Its resource.
        resource: &'static Resource,
        /// Its name.
        name: String,
        /// What does not hold.
        why: String,
    },
    /// 410: the watch or list is from before what is remembered.
    #[error("{0}")]
    Expired(String),
    /// 410: a list cannot go on consistently; with the token it can go on inconsistently.
    #[error(
        "the continue token is too old for a consistent list: start again without it, or go on with the token in this answer, and what changed meanwhile may be missing or appear twice"
    )]
    ContinueExpired {
        /// Goes on where the old token stopped, from the newest state.
        token: String,
    },
    /// 413: a body over the limit.
    #[error("Request entity too large: limit is {limit}")]
    TooLarge {
        /// In bytes.
        limit: usize,
    },
    /// 415: a body of a type that is not read.
    #[error("the body of the request was in an unknown format - accepted media types include: {accepted}")]
    UnsupportedMediaType {
        /// Separated by commas.
        accepted: &'static str,
    },
    /// 422: read, and wrong.
    #[error("{} \"{name}\" is invalid: {}", qualified_kind(kind, group), super::validate::sentence(errors))]
    Invalid {
        /// Its kind.
        kind: String,
        /// Its group.
        group: String,
        /// Its name.
        name: String,
        /// All that is wrong.
        errors: Vec<FieldError>,
    },
    /// 429: not now.
    #[error("{0}")]
    TooManyRequests(String),
    /// 500: our fault.
    #[error("Internal error occurred: {0}")]
    Internal(String),
    /// 503: a part is missing for the moment.
    #[error("{0}")]
    Unavailable(String),
    /// 504: it took too long.
    #[error("{0}")]
    Timeout(String),
    /// 504: a revision that is not reached yet was asked for.
    #[error("Timeout: Too large resource version: {asked}, current: {current}")]
    FutureRevision {
        /// What was asked for.
        asked: u64,
        /// The newest.
        current: u64,
    },
}

fn qualified_kind(kind: &str, group: &str) -> String {
    if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") }
}

/// What the words of a lost race are, wherever it is lost.
pub const MODIFIED: &str = "the object has been modified; please apply your changes to the latest version and try again";

impl ApiError {
    /// 422 for an object of a resource.
    #[must_use]
    pub fn invalid(resource: &Resource, name: &str, errors: Vec<FieldError>) -> Self {
        Self::Invalid { kind: resource.kind.to_owned(), group: resource.group.to_owned(), name: name.to_owned(), errors }
    }

    /// 422 for the options of a request: `CreateOptions`, `ListOptions`, ….
    #[must_use]
    pub fn invalid_option(options: &str, error: FieldError) -> Self {
        Self::Invalid { kind: options.to_owned(), group: "meta.k8s.io".to_owned(), name: String::new(), errors: vec![error] }
    }

    /// The HTTP code.
    #[must_use]
    pub fn code(&self) -> u16 {
        self.code_and_reason().0
    }

    /// The `reason`, for programs.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        self.code_and_reason().1
    }

    fn code_and_reason(&self) -> (u16, &'static str) {
        match self {
            Self::BadRequest(_) => (400, "BadRequest"),
            Self::Unauthorized => (401, "Unauthorized"),
            Self::Forbidden(_) | Self::NotAdmitted { .. } | Self::NamespaceTerminating { .. } => (403, "Forbidden"),
            Self::NotFound { .. } | Self::NoSuchPath => (404, "NotFound"),
            Self::MethodNotAllowed => (405, "MethodNotAllowed"),
            Self::NotAcceptable(_) => (406, "NotAcceptable"),
            Self::AlreadyExists { .. } => (409, "AlreadyExists"),
            Self::Conflict { .. } => (409, "Conflict"),
            Self::Expired(_) | Self::ContinueExpired { .. } => (410, "Expired"),
            Self::TooLarge { .. } => (413, "RequestEntityTooLarge"),
            Self::UnsupportedMediaType { .. } => (415, "UnsupportedMediaType"),
            Self::Invalid { .. } => (422, "Invalid"),
            Self::TooManyRequests(_) => (429, "TooManyRequests"),
            Self::Internal(_) => (500, "InternalError"),
            Self::Unavailable(_) => (503, "ServiceUnavailable"),
            Self::Timeout(_) | Self::FutureRevision { .. } => (504, "Timeout"),
        }
    }

    /// In how many seconds the client may try again; it does so by itself when it is told.
    #[must_use]
    pub fn retry_after_seconds(&self) -> Option<u32> {
        match self {
            Self::TooManyRequests(_) | Self::FutureRevision { .. } => Some(1),
            _ => None,
        }
    }

    /// The `Status` object.
    #[must_use]
    pub fn to_status(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.to_string(),
            "reason": self.reason(),
            "code": self.code(),
        });
        if let (Self::ContinueExpired { token }, Some(metadata)) = (self, status.get_mut("metadata")) {
            *metadata = json!({"continue": token});
        }
        let mut details = self.details();
        if let Some(seconds) = self.retry_after_seconds() {
            details.insert("retryAfterSeconds".to_owned(), seconds.into());
        }
        if let (false, Some(map)) = (details.is_empty(), status.as_object_mut()) {
            map.insert("details".to_owned(), Value::Object(details));
        }
        status
    }

    fn details(&self) -> Map<String, Value> {
        let mut details = Map::new();
        match self {
            Self::NotFound { resource, name }
            | Self::AlreadyExists { resource, name }
            | Self::Conflict { resource, name, .. }
            | Self::NotAdmitted { resource, name, .. }
            | Self::NamespaceTerminating { resource, name, .. } => name_it(&mut details, name, resource.group, resource.plural),
            Self::Invalid { kind, group, name, errors } => {
                name_it(&mut details, name, group, kind);
                let causes = errors
                    .iter()
                    .map(|error| json!({"reason": cause(error.kind), "message": error.message, "field": error.path}));
                details.insert("causes".to_owned(), causes.collect());
            }
            Self::Internal(why) => {
                details.insert("causes".to_owned(), json!([{"message": why}]));
            }
            _ => {}
        }
        if let Self::NamespaceTerminating { namespace, .. } = self {
            let message = format!("namespace {namespace} is being terminated");
            details.insert(
                "causes".to_owned(),
                json!([{"reason": "NamespaceTerminating", "message": message, "field": "metadata.namespace"}]),
            );
        }
        if let Self::FutureRevision { .. } = self {
            details.insert(
                "causes".to_owned(),
                json!([{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]),
            );
        }
        details
    }
}

fn name_it(details: &mut Map<String, Value>, name: &str, group: &str, kind: &str) {
    for (key, value) in [("name", name), ("group", group), ("kind", kind)] {
        if !value.is_empty() {
            details.insert(key.to_owned(), value.into());
        }
    }
}

fn cause(kind: FieldErrorKind) -> &'static str {
    match kind {
        FieldErrorKind::Required => "FieldValueRequired",
        FieldErrorKind::Invalid => "FieldValueInvalid",
        FieldErrorKind::Duplicate => "FieldValueDuplicate",
        FieldErrorKind::NotSupported => "FieldValueNotSupported",
        FieldErrorKind::Forbidden => "FieldValueForbidden",
        FieldErrorKind::TooLong => "FieldValueTooLong",
        FieldErrorKind::NotFound => "FieldValueNotFound",
    }
}

/// `Status: Success`, as a deletion answers it; `uid` is of what was deleted.
#[must_use]
pub fn success(resource: &Resource, name: &str, uid: &str) -> Value {
    let mut details = Map::new();
    name_it(&mut details, name, resource.group, resource.plural);
    if !uid.is_empty() {
        details.insert("uid".to_owned(), uid.into());
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::registry;

    #[test]
    fn every_failure_has_the_code_the_reason_and_the_words_of_kubernetes() {
        let web = || "web".to_owned();
        let pods = &registry::PODS;
        for (error, code, reason, message) in [
            (ApiError::BadRequest("no".into()), 400, "BadRequest", "no"),
            (ApiError::Unauthorized, 401, "Unauthorized", "Unauthorized"),
            (
                ApiError::NotAdmitted { resource: pods, name: web(), why: "because".into() },
                403,
                "Forbidden",
                "pods \"web\" is forbidden: because",
            ),
            (ApiError::NotFound { resource: pods, name: web() }, 404, "NotFound", "pods \"web\" not found"),
            (
                ApiError::NotFound { resource: &registry::DEPLOYMENTS, name: web() },
                404,
                "NotFound",
                "deployments.apps \"web\" not found",
            ),
            (ApiError::NoSuchPath, 404, "NotFound", "the server could not find the requested resource"),
            (ApiError::AlreadyExists { resource: pods, name: web() }, 409, "AlreadyExists", "pods \"web\" already exists"),
            (ApiError::TooLarge { limit: 3_145_728 }, 413, "RequestEntityTooLarge", "Request entity too large: limit is 3145728"),
            (
                ApiError::FutureRevision { asked: 9, current: 3 },
                504,
                "Timeout",
                "Timeout: Too large resource version: 9, current: 3",
            ),
        ] {
            let status = error.to_status();
            assert_eq!((error.code(), status["code"].as_u64()), (code, Some(u64::from(code))));
            assert_eq!((status["reason"].as_str(), status["message"].as_str()), (Some(reason), Some(message)));
        }
    }

    #[test]
    fn an_invalid_object_names_each_cause() {
        let errors = vec![
            FieldError { kind: FieldErrorKind::Required, path: "spec.containers".into(), message: "Required value".into() },
            FieldError {
                kind: FieldErrorKind::Invalid,
                path: "metadata.name".into(),
                message: "Invalid value: \"A\": no".into(),
            },
        ];
        let pod = ApiError::invalid(&registry::PODS, "A", errors.clone()).to_status();
        assert_eq!(
            pod["message"],
            "Pod \"A\" is invalid: [spec.containers: Required value, metadata.name: Invalid value: \"A\": no]"
        );
        assert_eq!(pod["details"]["kind"], "Pod");
        assert_eq!(
            pod["details"]["causes"][0],
            json!({"reason": "FieldValueRequired", "message": "Required value", "field": "spec.containers"})
        );
        let deployment = ApiError::invalid(&registry::DEPLOYMENTS, "A", errors).to_status();
        assert_eq!(deployment["details"]["group"], "apps");
        assert!(deployment["message"].as_str().unwrap().starts_with("Deployment.apps \"A\" is invalid: ["));
    }

    #[test]
    fn an_old_token_is_answered_with_a_new_one() {
        let status = ApiError::ContinueExpired { token: "abc".into() }.to_status();
        assert_eq!((&status["code"], &status["metadata"]["continue"]), (&json!(410), &json!("abc")));
    }
}
