//! What keeps the changes: the trait below the view, and what can go wrong there, in words for people.
//!
//! In:       groups of entries, in the order of their revisions, from the one writer (`run.rs`).
//! Out:      at a start everything that was kept, and a revision that is above all that were ever given out.
//! Never:    judges an expectation (`group.rs`) or what is worth keeping (`durability.rs`).

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::api::{Key, Object, Revision};
use crate::error::Report;

use super::log::Entry;
use super::view::View;

/// What a journal gives back at a start.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// The id of the store, made when it was.
    pub id: String,
    /// Above every revision that was ever given out, durable or not. The first new one is the next.
    pub floor: Revision,
    /// Every object that was kept, as it was kept.
    pub objects: BTreeMap<Key, Arc<Object>>,
}

/// Whether a journal has something left to do when nobody writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tended {
    /// Call again when there is time.
    More,
    /// Nothing until the next commit.
    Done,
}

/// Keeps changes. One writer calls it, from a thread that may block.
///
/// A journal that several masters share (etcd) will also tell what others wrote, from a revision on; that `tail` comes with
/// it, as a method with an empty default, and its `commit` refuses what another master overtook.
pub trait Journal: Send + 'static {
    /// Everything that was kept. Called once, first.
    ///
    /// # Errors
    /// When it cannot be read whole. It never answers with less than was kept.
    fn load(&mut self) -> Result<Snapshot, JournalError>;

    /// Makes the entries durable, all of them or none, and makes sure that no revision up to `newest` is ever given out
    /// again. Without entries it costs nothing, but for once in a million revisions.
    ///
    /// # Errors
    /// When they are not durable. A journal that cannot tell what is on the disk refuses from then on.
    fn commit(&mut self, newest: Revision, entries: &[Entry]) -> Result<(), JournalError>;

    /// Does one short piece of what can wait (a checkpoint), with the view as of the last commit.
    fn tend(&mut self, view: &View) -> Tended;

    /// Ends in order.
    ///
    /// # Errors
    /// When it was broken before; what was acknowledged is kept all the same.
    fn close(&mut self, view: &View) -> Result<(), JournalError>;
}

impl Journal for Box<dyn Journal> {
    fn load(&mut self) -> Result<Snapshot, JournalError> {
        (**self).load()
    }
    fn commit(&mut self, newest: Revision, entries: &[Entry]) -> Result<(), JournalError> {
        (**self).commit(newest, entries)
    }
    fn tend(&mut self, view: &View) -> Tended {
        (**self).tend(view)
    }
    fn close(&mut self, view: &View) -> Result<(), JournalError> {
        (**self).close(view)
    }
}

/// The journal of a store that forgets everything.
#[derive(Debug)]
pub struct Nothing;

impl Journal for Nothing {
    fn load(&mut self) -> Result<Snapshot, JournalError> {
        Ok(Snapshot::default())
    }
    fn commit(&mut self, _: Revision, _: &[Entry]) -> Result<(), JournalError> {
        Ok(())
    }
    fn tend(&mut self, _: &View) -> Tended {
        Tended::Done
    }
    fn close(&mut self, _: &View) -> Result<(), JournalError> {
        Ok(())
    }
}

/// The checkpoint that is left when a file is damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Its file.
    pub path: PathBuf,
    /// What it holds: every change up to this one.
    pub revision: Revision,
}

/// What a journal could not do. [`JournalError::fix`] says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// No room.
    #[error("cannot {doing} {}: the disk is full", path.display())]
    Full {
        /// What was tried, as a verb.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Nothing can be written there.
    #[error("cannot {doing} {}: the file system is read-only", path.display())]
    ReadOnly {
        /// What was tried, as a verb.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not ours.
    #[error("cannot {doing} {}: this user may not", path.display())]
    NoPermission {
        /// What was tried, as a verb.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Anything else that the system refuses.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process has it open.
    #[error("the store in {} is in use by another process", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// What stands there is not what was written.
    #[error("{} is damaged at byte {offset}: {why}{}", path.display(), told(checkpoint.as_ref()))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the damaged record begins.
        offset: u64,
        /// What is wrong with it.
        why: &'static str,
        /// What is left.
        checkpoint: Option<Checkpoint>,
        /// Whether the file is a checkpoint and what is left holds all the same changes.
        spare: bool,
    },
    /// A file that must be there is not.
    #[error("{} is missing: {why}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// How we know that it was there.
        why: String,
    },
    /// A file of another store.
    #[error("{} belongs to store {found:?}, not to {wanted:?}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The id in it.
        found: String,
        /// The id of the store.
        wanted: String,
    },
    /// Undamaged, but not to be understood.
    #[error("{} holds something at byte {offset} that this version does not know", path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// Where the record begins.
        offset: u64,
        /// What the reader said.
        source: serde_json::Error,
    },
    /// It cannot be written as a record. Nothing was written.
    #[error("the change cannot be written as a record: {0}")]
    Unwritable(String),
    /// An earlier write failed in a way that leaves open what is on the disk.
    #[error("the journal stopped after a failed write")]
    Stopped(#[source] Arc<JournalError>),
    /// The system gives us no thread.
    #[error("cannot start the store's thread")]
    Thread(#[source] io::Error),
}

fn told(checkpoint: Option<&Checkpoint>) -> String {
    match checkpoint {
        Some(Checkpoint { path, revision }) => {
            format!(" (the checkpoint to go back to is {}, up to revision {revision})", path.display())
        }
        None => " (there is no checkpoint to go back to)".to_owned(),
    }
}

impl JournalError {
    /// What `source` means for a person who finds `path`.
    pub(crate) fn io(doing: &'static str, path: PathBuf) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { doing, path, source },
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { doing, path, source },
            io::ErrorKind::PermissionDenied => Self::NoPermission { doing, path, source },
            _ => Self::Io { doing, path, source },
        }
    }

    /// What to do about it: a sentence or two for a person.
    #[must_use]
    pub fn fix(&self) -> String {
        match self {
            Self::Full { path, .. } => format!("make room on the disk that holds {} (`df -h`), then try again", path.display()),
            Self::ReadOnly { path, .. } => format!(
                "a card that fails is mounted read-only: look at `dmesg`; else remount it writable, or choose another --data-dir than the one of {}",
                path.display()
            ),
            Self::NoPermission { path, .. } => {
                format!("run as the user who owns {} (`ls -l`), or give it to this one with chown", path.display())
            }
            Self::Io { .. } => {
                "look at `dmesg` for what the disk says; if it fails, copy the directory to another one".to_owned()
            }
            Self::Locked { path } => {
                format!(
                    "stop the other one first (`fuser -v {}` names it), or choose another --data-dir",
                    path.join("lock").display()
                )
            }
            Self::Damaged { path, spare: true, .. } => format!(
                "move {} away and start again: the checkpoint before it and the logs since hold everything",
                path.display()
            ),
            Self::Damaged { path, offset: 0, checkpoint: None, .. } => format!(
                "bring the directory back from a backup; to begin with an empty store, move the directory of {} away",
                path.display()
            ),
            Self::Damaged { path, offset, .. } => format!(
                "copy the directory, then bring it back from a backup; or give up what was written from there on: `truncate -s {offset} {}`, and move away the logs with higher numbers",
                path.display()
            ),
            Self::Missing { path, .. } => format!(
                "bring {} back from where it went, or the whole directory from a backup; to begin with an empty store, move the whole directory away",
                path.display()
            ),
            Self::Foreign { path, .. } => format!("move {} to the directory of its own store", path.display()),
            Self::Unknown { .. } => "start the version of bramble that wrote it, or a newer one".to_owned(),
            Self::Unwritable(_) => "make the object smaller or flatter".to_owned(),
            Self::Stopped(cause) => format!("{}; then start the master again", cause.fix()),
            Self::Thread(_) => "raise the limit of processes (`ulimit -u`, TasksMax= of the unit)".to_owned(),
        }
    }
}

impl From<JournalError> for Report {
    fn from(error: JournalError) -> Self {
        let fix = error.fix();
        Report::failed("cannot open the store").because(error).fix(fix)
    }
}
