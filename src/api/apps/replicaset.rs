//! What is asked of replica sets in more than one place.

use serde_json::Value;

use crate::api::object::Object;
use crate::api::selector::Selector;
use crate::api::time::parse;
use crate::clock::Wall;

/// The label that tells the pods of one template from those of another.
pub const POD_TEMPLATE_HASH: &str = "pod-template-hash";

/// A replica set, read.
#[derive(Clone, Copy, Debug)]
pub struct ReplicaSet<'a>(pub &'a Object);

impl<'a> ReplicaSet<'a> {
    /// `spec.replicas`, 1 when it is not given.
    #[must_use]
    pub fn replicas(self) -> i64 {
        self.0.i64_at(&["spec", "replicas"]).unwrap_or(1).max(0)
    }

    /// `spec.minReadySeconds`.
    #[must_use]
    pub fn min_ready_seconds(self) -> i64 {
        self.0.i64_at(&["spec", "minReadySeconds"]).unwrap_or_default()
    }

    /// A number of `status`.
    #[must_use]
    pub fn status(self, field: &str) -> i64 {
        self.0.i64_at(&["status", field]).unwrap_or_default()
    }

    /// `spec.selector`; `None` when it is none or selects everything, which no controller may obey.
    #[must_use]
    pub fn selector(self) -> Option<Selector> {
        selector(self.0)
    }

    /// `spec.template`.
    #[must_use]
    pub fn template(self) -> Option<&'a Value> {
        self.0.at(&["spec", "template"])
    }

    /// When it was created.
    #[must_use]
    pub fn created(self) -> Wall {
        parse(self.0.str_at(&["metadata", "creationTimestamp"])).unwrap_or_default()
    }
}

pub(super) fn selector(object: &Object) -> Option<Selector> {
    let selector = Selector::from_object(object.at(&["spec", "selector"])?).ok()?;
    (!selector.is_empty()).then_some(selector)
}

/// Whether a selector selects an object by its labels.
#[must_use]
pub fn selects(selector: &Selector, object: &Object) -> bool {
    selector.matches(|key| object.label(key))
}
