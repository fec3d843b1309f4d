//! What `kubectl get` shows: the server does all column work (`meta.k8s.io/v1` Table).

use serde_json::Value;

use super::object::Object;
use super::time;
use crate::clock::Wall;

/// One column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// The heading, as `Name`.
    pub name: &'static str,
    /// `string`, `integer`, …
    pub kind: &'static str,
    /// `name` for the first column, else empty.
    pub format: &'static str,
    /// 0 is always shown, more only with `-o wide`.
    pub priority: u8,
}

impl Column {
    /// A column of text that is always shown.
    #[must_use]
    pub const fn text(name: &'static str) -> Self {
        Self { name, kind: "string", format: "", priority: 0 }
    }

    /// A column of whole numbers that is always shown.
    #[must_use]
    pub const fn number(name: &'static str) -> Self {
        Self { name, kind: "integer", format: "", priority: 0 }
    }

    /// The same column, shown with `-o wide` only.
    #[must_use]
    pub const fn wide(self) -> Self {
        Self { priority: 1, ..self }
    }
}

/// The first column of every table.
pub const NAME: Column = Column { name: "Name", kind: "string", format: "name", priority: 0 };

/// How one kind is shown.
pub struct Printer {
    /// The headings.
    pub columns: &'static [Column],
    /// As many cells as there are columns.
    pub cells: fn(&Object, Wall) -> Vec<Value>,
}

/// `metadata.creationTimestamp` as an age.
#[must_use]
pub fn age_of(object: &Object, now: Wall) -> Value {
    time::parse(object.str_at(&["metadata", "creationTimestamp"]))
        .map_or_else(|| "<unknown>".into(), |created| time::age(created, now).into())
}

/// For kinds without columns of their own.
pub static NAME_AND_AGE: Printer =
    Printer { columns: &[NAME, Column::text("Age")], cells: |object, now| vec![object.name().into(), age_of(object, now)] };

pub mod configmap;
pub mod deployment;
pub mod event;
pub mod lease;
pub mod namespace;
pub mod node;
pub mod pod;
pub mod replicaset;
pub mod secret;
pub mod service;
pub mod serviceaccount;
