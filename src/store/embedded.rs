//! The embedded journal: an append-only log, and checkpoints when it has outgrown the live data.
//!
//! In:       groups of entries.
//! Out:      files as `layout.rs` names them, with frames as `log.rs` writes them.
//! Never:    touches a disk but through [`Files`]; starts empty where there was something; acknowledges what is not synced.
//!
//! ```text
//! commit       append one frame, sync
//! checkpoint   log N+1 with its first record, synced; names synced; log N ended, synced; then, a piece at a time between
//!              commits, checkpoint-N+1.new; synced, renamed, names synced; then what is older than the checkpoint before
//!              it is removed
//! ```
//! A power cut between any two of these leaves files that open: a log that was not ended may be followed by one that holds
//! nothing but its first record, which is forgotten; a log that was ended must be followed by the next.
//!
//! **Revisions never go back**, although volatile changes take revisions and are not written: before a revision
//! above the ceiling is given out, a frame is synced that raises it by [`STRIDE`] more. An opening starts above the ceiling
//! that it finds, and raises it, durably, before anything else; so two openings share no revision, whatever was lost.

use std::io;
use std::sync::Arc;

use crate::api::{Key, Object, Revision};
use crate::error::Chain;

use super::durability::is_never_stored;
use super::files::{File, Files};
use super::journal::{Journal, JournalError, Snapshot, Tended};
use super::layout::{self, Layout};
use super::log::{self, Begin, Entry, FORMAT, Kept, Record, Sort};
use super::view::View;

mod recover;

use recover::Recovered;

/// How far the ceiling of revisions is raised at a time (DESIGN §6): one small write in a million changes.
pub const STRIDE: u64 = 1_000_000;

/// How a journal is kept.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The id of the store, if it is to be made.
    pub new_id: String,
    /// No checkpoint is written for a log shorter than this, in bytes.
    pub least_log: u64,
}

impl Settings {
    /// As usual. 1 MiB of log is about a thousand changes: little to read at a start, much to write at once on a card.
    #[must_use]
    pub fn with_id(new_id: String) -> Self {
        Self { new_id, least_log: 1 << 20 }
    }
}

/// About how much of a checkpoint is written between two commits, in objects: some 100 KiB, so that no writer waits long.
const PIECE: usize = 100;

/// The journal in one directory.
pub struct Embedded<F: Files> {
    files: F,
    settings: Settings,
    open: Option<Open<F::File>>,
    stopped: Option<Arc<JournalError>>,
}

/// What is known once it was loaded.
struct Open<H> {
    id: String,
    /// The log that is written.
    sequence: u64,
    log: H,
    /// How much of it is durable.
    good: u64,
    /// Revisions up to this one may be given out.
    ceiling: Revision,
    /// The newest revision in the log.
    revision: Revision,
    /// What was written to logs since the newest checkpoint began.
    log_bytes: u64,
    /// The length of the newest checkpoint.
    live_bytes: u64,
    /// After a checkpoint failed: no other before the log is this long.
    not_before: u64,
    running: Option<Running<H>>,
}

/// A checkpoint that is being written.
struct Running<H> {
    sequence: u64,
    file: H,
    objects: std::vec::IntoIter<(Key, Arc<Object>)>,
    count: u64,
    bytes: u64,
    revision: Revision,
    /// The length of the logs that it makes superfluous.
    replaces: u64,
}

impl<F: Files> Embedded<F> {
    /// A journal in a directory; nothing is touched before it is loaded.
    #[must_use]
    pub fn new(files: F, settings: Settings) -> Self {
        Self { files, settings, open: None, stopped: None }
    }

    fn io(&self, doing: &'static str, name: &str) -> impl FnOnce(io::Error) -> JournalError + use<F> {
        JournalError::io(doing, self.files.path(name))
    }

    fn layout(&self) -> Result<Layout, JournalError> {
        Ok(Layout::of(&self.files.list().map_err(self.io("list", ""))?))
    }

    /// A log with its first record, synced, and its length.
    fn begin_log(&self, id: &str, sequence: u64, revision: Revision, ceiling: Revision) -> Result<(F::File, u64), JournalError> {
        let name = layout::log(sequence);
        let begin = Begin { file: Sort::Log, format: FORMAT, store: id.to_owned(), sequence, ceiling };
        let bytes = log::frame(revision, &Record::Begin(begin)).map_err(JournalError::Unwritable)?;
        let mut file = self.files.create(&name).map_err(self.io("create", &name))?;
        file.append(&bytes).map_err(self.io("write", &name))?;
        file.sync().map_err(self.io("sync", &name))?;
        Ok((file, bytes.len() as u64))
    }

    /// Files that nothing needs. That they cannot be removed is no reason not to start.
    fn sweep(&self, names: &[String]) {
        for name in names {
            if let Err(error) = self.files.remove(name) {
                tracing::warn!(path = %self.files.path(name).display(), error = %Chain(&error), "cannot remove a file that is not needed");
            }
        }
    }

    /// Adds a frame to the log and syncs it.
    fn append(&mut self, revision: Revision, record: &Record) -> Result<(), JournalError> {
        let bytes = log::frame(revision, record).map_err(JournalError::Unwritable)?;
        let Some(open) = &mut self.open else {
            return Err(JournalError::Unwritable("the journal was not loaded".to_owned()));
        };
        let path = self.files.path(&layout::log(open.sequence));
        if let Err(source) = open.log.append(&bytes) {
            let full = matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
            // A full disk is no broken one: with the begun frame cut off again, and that synced, the file is what it was,
            // and the next write may find room. After any other failure, or a failed sync, nobody knows.
            let restored = full && open.log.truncate(open.good).is_ok() && open.log.sync().is_ok();
            let error = JournalError::io("append to", path)(source);
            return Err(if restored { error } else { self.stop(error) });
        }
        if let Err(source) = open.log.sync() {
            return Err(self.stop(JournalError::io("sync", path)(source)));
        }
        let length = bytes.len() as u64;
        open.good += length;
        open.log_bytes += length;
        open.revision = revision;
        Ok(())
    }

    /// No write from now on.
    fn stop(&mut self, error: JournalError) -> JournalError {
        let cause = Arc::new(error);
        tracing::error!(error = %Chain(&*cause), fix = cause.fix(), "the store takes no more changes");
        self.stopped = Some(cause.clone());
        JournalError::Stopped(cause)
    }

    /// Begins the next log, ends this one, and begins a checkpoint of the view between them.
    fn begin_checkpoint(&mut self, view: &View) -> Result<(), JournalError> {
        let Some(open) = &self.open else { return Ok(()) };
        let (id, next, revision, ceiling) = (open.id.clone(), open.sequence + 1, open.revision, open.ceiling);
        let (log, good) = self.begin_log(&id, next, revision, ceiling)?;
        self.files.sync_names().map_err(self.io("sync", ""))?;
        self.append(revision, &Record::End { next })?;
        if let Some(open) = &mut self.open {
            (open.sequence, open.log, open.good) = (next, log, good);
        }
        let name = layout::checkpoint(next) + layout::UNFINISHED;
        let mut file = self.files.create(&name).map_err(self.io("create", &name))?;
        let begin = Begin { file: Sort::Checkpoint, format: FORMAT, store: id, sequence: next, ceiling };
        let bytes = log::frame(revision, &Record::Begin(begin)).map_err(JournalError::Unwritable)?;
        file.append(&bytes).map_err(self.io("write", &name))?;
        // The same objects as in the view, not copies of them.
        let objects: Vec<_> = view
            .iter()
            .filter(|(key, object)| !is_never_stored(key, object))
            .map(|(key, object)| (key.clone(), object.clone()))
            .collect();
        if let Some(open) = &mut self.open {
            let (count, bytes, replaces) = (objects.len() as u64, bytes.len() as u64, open.log_bytes);
            open.log_bytes += good;
            let objects = objects.into_iter();
            open.running = Some(Running { sequence: next, file, objects, count, bytes, revision, replaces });
        }
        Ok(())
    }

    /// Writes a piece of the checkpoint, or ends it. Tells whether it is done.
    fn advance(&mut self, running: &mut Running<F::File>) -> Result<bool, JournalError> {
        let (from, to) = (layout::checkpoint(running.sequence) + layout::UNFINISHED, layout::checkpoint(running.sequence));
        let piece: Vec<Kept> =
            running.objects.by_ref().take(PIECE).map(|(key, object)| Kept { key, put: Some(object) }).collect();
        let done = piece.is_empty();
        let record = if done { Record::End { next: running.count } } else { Record::Objects(piece) };
        let bytes = log::frame(running.revision, &record).map_err(JournalError::Unwritable)?;
        running.file.append(&bytes).map_err(self.io("write", &from))?;
        // Each piece, so that no writer ever waits for the sync of a whole checkpoint.
        running.file.sync().map_err(self.io("sync", &from))?;
        running.bytes += bytes.len() as u64;
        if !done {
            return Ok(false);
        }
        self.files.rename(&from, &to).map_err(self.io("rename", &from))?;
        self.files.sync_names().map_err(self.io("sync", ""))?;
        if let Some(open) = &mut self.open {
            open.live_bytes = running.bytes;
            open.log_bytes = open.log_bytes.saturating_sub(running.replaces);
        }
        tracing::debug!(file = to, rev = running.revision.0, bytes = running.bytes, "wrote a checkpoint");
        self.sweep(&self.layout()?.obsolete());
        Ok(true)
    }

    fn is_due(&self, closing: bool) -> bool {
        self.open.as_ref().is_some_and(|open| {
            open.log_bytes >= open.not_before
                && log::has_outgrown(open.log_bytes, open.live_bytes, self.settings.least_log, closing)
        })
    }

    /// One step towards a checkpoint, if one is due. A checkpoint that fails harms nothing: the logs hold everything.
    fn step(&mut self, view: &View, closing: bool) -> Tended {
        if self.stopped.is_some() {
            return Tended::Done;
        }
        let result = match self.open.as_mut().and_then(|open| open.running.take()) {
            Some(mut running) => match self.advance(&mut running) {
                Ok(true) => return Tended::Done,
                Ok(false) => {
                    if let Some(open) = &mut self.open {
                        open.running = Some(running);
                    }
                    Ok(())
                }
                Err(error) => Err(error),
            },
            None if self.is_due(closing) => self.begin_checkpoint(view),
            None => return Tended::Done,
        };
        match result {
            Ok(()) => Tended::More,
            Err(error) => {
                tracing::warn!(error = %Chain(&error), fix = error.fix(), "no checkpoint could be written; the log grows until one can");
                if let Some(open) = &mut self.open {
                    open.not_before = open.log_bytes.saturating_mul(2);
                }
                if let Ok(layout) = self.layout() {
                    self.sweep(&layout.unfinished);
                }
                Tended::Done
            }
        }
    }
}

impl<F: Files> Journal for Embedded<F> {
    fn load(&mut self) -> Result<Snapshot, JournalError> {
        self.files.prepare().map_err(|error| match error.kind() {
            io::ErrorKind::ResourceBusy => JournalError::Locked { path: self.files.path("") },
            _ => self.io("open", "")(error),
        })?;
        let Recovered { id, sequence, log, good, floor, replay, log_bytes, live_bytes, superfluous } = self.recover()?;
        let (ceiling, revision) = (Revision(floor.0.saturating_add(STRIDE)), replay.revision);
        self.open = Some(Open {
            id: id.clone(),
            sequence,
            log,
            good,
            ceiling,
            revision,
            log_bytes,
            live_bytes,
            not_before: 0,
            running: None,
        });
        self.append(revision, &Record::Group { ceiling: Some(ceiling), entries: Vec::new() })?;
        self.sweep(&superfluous);
        Ok(Snapshot { id, floor, objects: replay.objects })
    }

    fn commit(&mut self, newest: Revision, entries: &[Entry]) -> Result<(), JournalError> {
        if let Some(cause) = &self.stopped {
            return Err(JournalError::Stopped(cause.clone()));
        }
        let ceiling = self.open.as_ref().map_or(Revision(0), |open| open.ceiling);
        let raised = (newest > ceiling).then(|| Revision(newest.0.saturating_add(STRIDE)));
        let Some(revision) = entries.last().map(|entry| entry.revision).or(raised.map(|_| newest)) else {
            return Ok(());
        };
        self.append(revision, &Record::Group { ceiling: raised, entries: entries.to_vec() })?;
        if let (Some(open), Some(raised)) = (&mut self.open, raised) {
            open.ceiling = raised;
        }
        Ok(())
    }

    fn tend(&mut self, view: &View) -> Tended {
        self.step(view, false)
    }

    fn close(&mut self, view: &View) -> Result<(), JournalError> {
        while self.step(view, true) == Tended::More {}
        self.open = None;
        self.files.release();
        match self.stopped.take() {
            Some(cause) => Err(JournalError::Stopped(cause)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
