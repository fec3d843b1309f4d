//! Failures as the API tells them: Kubernetes' `Status`, its reasons and codes, in one place.

use serde_json::{Value, json};

use super::registry::Resource;
use super::validate::FieldError;

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
    #[error("{kind}.{group} \"{name}\" is invalid: {}", super::validate::sentence(errors))]
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
}

impl ApiError {
    /// The HTTP code.
    #[must_use]
    pub fn code(&self) -> u16 {
        500
    }

    /// The `Status` object.
    #[must_use]
    pub fn to_status(&self) -> Value {
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": self.to_string(), "code": self.code()})
    }
}
