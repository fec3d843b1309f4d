//! The options of a request, checked: lists, writes, deletions.
//!
//! In:       the query, and for deletions the body.
//! Out:      typed options, or the `Status` that says which one is wrong.

use serde_json::Value;

use crate::api::selector::Selector;
use crate::api::status::ApiError;
use crate::api::validate::{FieldError, FieldErrorKind};
use crate::api::{Resource, Revision};

use super::fields::FieldSelector;
use super::route::Query;

/// Which field a selector looks at, by labels and by fields.
#[derive(Clone, Debug, Default)]
pub struct Selectors {
    /// `labelSelector`
    pub labels: Selector,
    /// `fieldSelector`
    pub fields: FieldSelector,
}

impl Selectors {
    /// Reads both from a query.
    ///
    /// # Errors
    /// 400 when one cannot be read or names a field that cannot be selected by.
    pub fn parse(query: &Query, resource: &Resource) -> Result<Self, ApiError> {
        let labels = Selector::parse(query.get("labelSelector").unwrap_or_default())
            .map_err(|error| ApiError::BadRequest(error.to_string()))?;
        let fields = FieldSelector::parse(query.get("fieldSelector").unwrap_or_default(), resource)?;
        Ok(Self { labels, fields })
    }

    /// Whether both select the object.
    #[must_use]
    pub fn select(&self, object: &crate::api::Object) -> bool {
        self.fields.matches(object) && self.labels.matches(|key| object.label(key))
    }

    /// Whether everything is selected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }
}

/// How old an answer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsOf {
    /// The newest state, which must have reached this revision.
    AtLeast(Revision),
    /// The state of just this revision.
    Exactly(Revision),
}

/// Options of `list` and `watch`.
#[derive(Clone, Debug)]
pub struct ListOptions {
    /// What is selected.
    pub selectors: Selectors,
    /// The most objects of one page.
    pub limit: Option<usize>,
    /// Where a list goes on.
    pub token: Option<String>,
    /// How old the answer may be; for a watch: after which revision it begins.
    pub as_of: AsOf,
    /// Whether a watch sends bookmarks.
    pub bookmarks: bool,
    /// When a watch ends.
    pub timeout_seconds: Option<u64>,
}

impl ListOptions {
    /// Reads them from a query.
    ///
    /// # Errors
    /// 400 for what cannot be read, 422 for what does not go together.
    pub fn parse(query: &Query, resource: &Resource) -> Result<Self, ApiError> {
        if query.get("sendInitialEvents").is_some() {
            return Err(forbidden(
                "sendInitialEvents",
                "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled",
            ));
        }
        let text = query.get("resourceVersion").unwrap_or_default();
        let revision = if text.is_empty() {
            Revision(0)
        } else {
            Revision(text.parse().map_err(|_| {
                let message = format!("Invalid value: {text:?}: must be a whole number");
                ApiError::invalid_option(
                    "ListOptions",
                    FieldError { kind: FieldErrorKind::Invalid, path: "resourceVersion".to_owned(), message },
                )
            })?)
        };
        let token = query.given("continue").map(str::to_owned);
        if token.is_some() && !text.is_empty() && text != "0" {
            return Err(ApiError::BadRequest("specifying resource version is not allowed when using continue".to_owned()));
        }
        let as_of = match query.given("resourceVersionMatch") {
            None => AsOf::AtLeast(revision),
            Some(_) if text.is_empty() => {
                return Err(forbidden(
                    "resourceVersionMatch",
                    "resourceVersionMatch is forbidden unless resourceVersion is provided",
                ));
            }
            Some("NotOlderThan") => AsOf::AtLeast(revision),
            Some("Exact") if revision == Revision(0) => {
                return Err(forbidden(
                    "resourceVersionMatch",
                    "resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"",
                ));
            }
            Some("Exact") => AsOf::Exactly(revision),
            Some(other) => return Err(unsupported("ListOptions", "resourceVersionMatch", other, "\"Exact\", \"NotOlderThan\"")),
        };
        Ok(Self {
            selectors: Selectors::parse(query, resource)?,
            limit: query.number("limit")?.and_then(|limit| usize::try_from(limit).ok()).filter(|limit| *limit > 0),
            token,
            as_of,
            bookmarks: query.flag("allowWatchBookmarks"),
            timeout_seconds: query
                .number("timeoutSeconds")?
                .and_then(|seconds| u64::try_from(seconds).ok())
                .filter(|seconds| *seconds > 0),
        })
    }
}

fn forbidden(path: &str, why: &str) -> ApiError {
    let message = format!("Forbidden: {why}");
    ApiError::invalid_option("ListOptions", FieldError { kind: FieldErrorKind::Forbidden, path: path.to_owned(), message })
}

fn unsupported(options: &str, path: &str, value: &str, supported: &str) -> ApiError {
    let message = format!("Unsupported value: {value:?}: supported values: {supported}");
    ApiError::invalid_option(options, FieldError { kind: FieldErrorKind::NotSupported, path: path.to_owned(), message })
}

/// What is done about a field that the schema does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// Refused.
    Strict,
    /// Dropped, with a warning.
    #[default]
    Warn,
    /// Dropped.
    Ignore,
}

/// Whether a write is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DryRun {
    /// It is.
    #[default]
    No,
    /// All is done but the writing.
    All,
}

/// Options of `create`, `update` and `patch`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// About unknown fields.
    pub validation: FieldValidation,
    /// Whether it is written.
    pub dry_run: DryRun,
}

impl WriteOptions {
    /// Reads them from a query; `options` is `CreateOptions`, `UpdateOptions` or `PatchOptions`, for messages.
    ///
    /// # Errors
    /// 422 for a value that is not supported.
    pub fn parse(query: &Query, options: &str) -> Result<Self, ApiError> {
        let validation = match query.given("fieldValidation") {
            None | Some("Warn") => FieldValidation::Warn,
            Some("Strict") => FieldValidation::Strict,
            Some("Ignore") => FieldValidation::Ignore,
            Some(other) => return Err(unsupported(options, "fieldValidation", other, "\"Ignore\", \"Strict\", \"Warn\"")),
        };
        if let Some(manager) = query.get("fieldManager")
            && manager.len() > 128
        {
            let message = "Too long: may not be more than 128 bytes".to_owned();
            let error = FieldError { kind: FieldErrorKind::TooLong, path: "fieldManager".to_owned(), message };
            return Err(ApiError::invalid_option(options, error));
        }
        Ok(Self { validation, dry_run: dry_run(query.all("dryRun"), options)? })
    }
}

fn dry_run<'a>(values: impl Iterator<Item = &'a str>, options: &str) -> Result<DryRun, ApiError> {
    let mut dry_run = DryRun::No;
    for value in values {
        match value {
            "All" => dry_run = DryRun::All,
            other => return Err(unsupported(options, "dryRun", other, "\"All\"")),
        }
    }
    Ok(dry_run)
}

/// What becomes of the objects that name the deleted one as owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// They are deleted afterwards.
    Background,
    /// They are deleted before.
    Foreground,
    /// They stay, without the owner.
    Orphan,
}

/// Options of `delete` and `deletecollection`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// How long a pod may take to stop.
    pub grace_seconds: Option<i64>,
    /// What becomes of dependents.
    pub propagation: Option<Propagation>,
    /// The uid that the object must have.
    pub uid: Option<String>,
    /// The revision that the object must have.
    pub resource_version: Option<String>,
    /// Whether it is done.
    pub dry_run: DryRun,
}

impl DeleteOptions {
    /// Reads them from the body, and where it says nothing, from the query.
    ///
    /// # Errors
    /// 400 and 422 for what cannot be read or is not supported.
    pub fn parse(query: &Query, body: &Value) -> Result<Self, ApiError> {
        const OPTIONS: &str = "DeleteOptions";
        let text = |path: &[&str]| {
            path.iter().try_fold(body, |at, key| at.get(*key)).and_then(Value::as_str).filter(|text| !text.is_empty())
        };
        let orphan = body.get("orphanDependents").and_then(Value::as_bool);
        let propagation = match text(&["propagationPolicy"]).or_else(|| query.given("propagationPolicy")) {
            None => orphan.map(|orphan| if orphan { Propagation::Orphan } else { Propagation::Background }),
            Some("Background") => Some(Propagation::Background),
            Some("Foreground") => Some(Propagation::Foreground),
            Some("Orphan") => Some(Propagation::Orphan),
            Some(other) => {
                return Err(unsupported(OPTIONS, "propagationPolicy", other, "\"Background\", \"Foreground\", \"Orphan\""));
            }
        };
        let grace_seconds = match body.get("gracePeriodSeconds").filter(|value| !value.is_null()) {
            Some(value) => Some(
                value.as_i64().ok_or_else(|| ApiError::BadRequest(format!("gracePeriodSeconds is no whole number: {value}")))?,
            ),
            None => query.number("gracePeriodSeconds")?,
        };
        let in_body = body.get("dryRun").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        Ok(Self {
            grace_seconds,
            propagation,
            uid: text(&["preconditions", "uid"]).map(str::to_owned),
            resource_version: text(&["preconditions", "resourceVersion"]).map(str::to_owned),
            dry_run: dry_run(in_body.chain(query.all("dryRun")), OPTIONS)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::registry;
    use serde_json::json;

    #[test]
    fn options_that_are_not_supported_are_refused_by_name() {
        let list = |query: &str| {
            ListOptions::parse(&Query::parse(query), &registry::PODS)
                .map(|_| ())
                .map_err(|error| (error.code(), error.to_string()))
        };
        let write = |query: &str| {
            WriteOptions::parse(&Query::parse(query), "CreateOptions").map_err(|error| (error.code(), error.to_string()))
        };
        assert_eq!(write("dryRun=All").map(|options| options.dry_run), Ok(DryRun::All));
        for (got, code, part) in [
            (list("sendInitialEvents=true"), 422, "sendInitialEvents: Forbidden"),
            (list("resourceVersion=x"), 422, "resourceVersion: Invalid value"),
            (list("resourceVersionMatch=Exact"), 422, "unless resourceVersion is provided"),
            (list("resourceVersion=5&resourceVersionMatch=Most"), 422, "Unsupported value: \"Most\""),
            (list("continue=abc&resourceVersion=5"), 400, "not allowed when using continue"),
            (list("limit=many"), 400, "limit"),
            (
                write("dryRun=Some").map(|_| ()),
                422,
                "CreateOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: \"Some\"",
            ),
            (write("fieldValidation=Hard").map(|_| ()), 422, "fieldValidation"),
            (write(&format!("fieldManager={}", "x".repeat(129))).map(|_| ()), 422, "fieldManager"),
        ] {
            let (found, message) = got.unwrap_err();
            assert_eq!(found, code, "{message}");
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn a_deletion_is_told_by_body_or_query() {
        let body =
            json!({"propagationPolicy": "Foreground", "gracePeriodSeconds": 0, "preconditions": {"uid": "u"}, "dryRun": ["All"]});
        let options = DeleteOptions::parse(&Query::default(), &body).unwrap();
        assert_eq!(
            (options.propagation, options.grace_seconds, options.dry_run),
            (Some(Propagation::Foreground), Some(0), DryRun::All)
        );
        assert_eq!(options.uid.as_deref(), Some("u"));
        let options = DeleteOptions::parse(&Query::parse("gracePeriodSeconds=3&propagationPolicy=Orphan"), &Value::Null).unwrap();
        assert_eq!((options.propagation, options.grace_seconds), (Some(Propagation::Orphan), Some(3)));
        assert!(DeleteOptions::parse(&Query::parse("propagationPolicy=Maybe"), &Value::Null).is_err());
    }
}
