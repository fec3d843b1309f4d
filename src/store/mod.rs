//! The truth: every object, in memory, with a journal below it.
//!
//! In:       [`Batch`]es, each with the revisions it expects.
//! Out:      [`View`]s, read whole and synchronously; a ring of recent changes; a bell.
//! Never:    knows a rule of Kubernetes (`apiserver/`, `controller/`), or applies what is not durable yet.
//! Flow:     stop 3 of the life of a pod: from `apiserver/verbs.rs` (2), on to `controller/` and `scheduler/` (4, 5, 6).
//!
//! ```text
//! write(batch) ─▶ run.rs: one writer takes all that waits
//!                   │  group.rs       do the expectations hold, on the view and on what the group did before? a revision each
//!                   │  durability.rs  which operations outlive a restart
//!                   ▼
//!                 journal.rs (trait) ─ embedded.rs ─ log.rs, layout.rs ─ files.rs (trait) ─ disk.rs | forgetful.rs
//!                   │  one append and one sync for the group
//!                   ▼
//!                 view.rs, ring.rs ─▶ bell ─▶ the writers get their revisions
//! ```
//!
//! Why a log of our own and no crate that is one: what is written is a few kilobytes a change, in one order, read only at a
//! start, and all of it fits into memory; so an append and one sync are the least that any store could write. B-tree and
//! LSM stores write pages, tables or a second log for the same change, and none tells a person which byte of which file is
//! damaged and what to go back to.

pub mod batch;
pub mod disk;
pub mod durability;
pub mod embedded;
pub mod files;
pub mod forgetful;
pub mod group;
pub mod journal;
pub mod layout;
pub mod log;
pub mod ring;
pub mod run;
pub mod view;

pub use batch::{Batch, Change, Expect, Op, WriteError};
pub use journal::{Journal, JournalError};
pub use ring::{ChangeEvent, Gone, Ring};
pub use run::{Options, Store};
pub use view::View;
