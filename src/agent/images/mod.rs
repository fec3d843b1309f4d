//! Images on a node: whose credentials fetch them, how far a fetch is, what a failure means, and which ones go.
//!
//! ```text
//!  pods/image.rs ── fetch, with credentials.rs ──▶ runtime ──▶ Docker ── progress.rs ──▶ events
//!                                                     └─ fetched ─▶ run.rs ─▶ collect.rs: too full? ─▶ remove
//!                                                                     └────▶ info: the node's `status.images`
//! ```

pub mod collect;
pub mod credentials;
pub mod progress;
pub mod run;
pub mod words;

use std::collections::BTreeSet;

/// An image that is here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageFacts {
    /// Docker's id, `sha256:…`.
    pub id: String,
    /// `name:tag`, as Docker knows it.
    pub tags: Vec<String>,
    /// `name@sha256:…`.
    pub digests: Vec<String>,
    /// What it takes, layers that it shares with others included.
    pub size_bytes: u64,
    /// A container, of a pod or not, running or not, is made of it.
    pub used: bool,
    /// The sandbox's: not for removal, and nobody's business.
    pub sandbox: bool,
}

/// An image that was fetched for a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Docker's id.
    pub id: String,
    /// The name that it was fetched by.
    pub name: String,
    /// It was not here before, under no name: nobody else brought it.
    pub new: bool,
}

/// The file system with the images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// All there is.
    pub total_bytes: u64,
    /// What could be had.
    pub available_bytes: u64,
}

/// The names that pods use now: their images stay.
pub type Wanted = BTreeSet<String>;
