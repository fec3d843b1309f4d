//! What each verb does, as pure functions: the view and the request in, a planned write or an answer out.
//!
//! ```text
//! get, list ─▶ read.rs      create ─▶ create.rs     update, patch ─▶ update.rs
//! delete, deletecollection ─▶ delete.rs             scale, binding, eviction, finalize ─▶ below.rs
//! ```
//! Every write names the revision that it has seen; when it lost a race the whole verb is asked again with the newer view.
//! So a patch is applied anew, and an update with a stale `resourceVersion` turns into the conflict that it is.

pub mod below;
pub mod create;
pub mod delete;
pub mod read;
pub mod update;

use std::sync::Arc;

use serde_json::Value;

use crate::api::{Object, Revision};
use crate::store::Op;

use read::Page;

/// What an answer carries.
#[derive(Clone, Debug)]
pub enum Body {
    /// One object.
    Object(Arc<Object>),
    /// Objects of a collection.
    List(Page),
    /// Any other document: a `Status`, a `Scale`.
    Document(Value),
}

/// What is answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP code.
    pub code: u16,
    /// What it carries.
    pub body: Body,
    /// For `Warning` headers.
    pub warnings: Vec<String>,
}

impl Answer {
    /// 200 with an object.
    #[must_use]
    pub fn object(object: impl Into<Arc<Object>>) -> Self {
        Self { code: 200, body: Body::Object(object.into()), warnings: Vec::new() }
    }

    /// 200 with a document.
    #[must_use]
    pub fn document(document: Value) -> Self {
        Self { code: 200, body: Body::Document(document), warnings: Vec::new() }
    }

    /// The same with another code.
    #[must_use]
    pub fn with_code(self, code: u16) -> Self {
        Self { code, ..self }
    }

    /// The same with warnings.
    #[must_use]
    pub fn with_warnings(self, warnings: Vec<String>) -> Self {
        Self { warnings, ..self }
    }

    /// Notes the revision at which what it carries was written.
    #[must_use]
    pub fn written_at(mut self, revision: Revision) -> Self {
        match &mut self.body {
            Body::Object(object) => Arc::make_mut(object).set_revision(revision),
            Body::Document(document) => {
                // A Scale has the revision of what it scales; a Status has none.
                if let Some(slot) = document.pointer_mut("/metadata/resourceVersion") {
                    *slot = revision.to_string().into();
                }
            }
            Body::List(_) => {}
        }
        self
    }
}

/// What a verb comes to.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Nothing is written.
    Answer(Answer),
    /// These are written, then it is answered.
    Write(Vec<Op>, Answer),
}

impl Outcome {
    /// A write, unless it is only tried.
    #[must_use]
    pub fn write(dry_run: super::options::DryRun, ops: Vec<Op>, answer: Answer) -> Self {
        match dry_run {
            super::options::DryRun::All => Outcome::Answer(answer),
            super::options::DryRun::No if ops.is_empty() => Outcome::Answer(answer),
            super::options::DryRun::No => Outcome::Write(ops, answer),
        }
    }
}
