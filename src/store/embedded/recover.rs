//! Finds out what is kept: reads the files of an embedded journal, and refuses whatever does not fit together.
//!
//! In:       the files, as a stop, a crash or a person left them.
//! Out:      the state that they build, and the log to go on with.
//! Never:    mends more than a last record that is not whole; what else is wrong is told, and nothing is touched.

use crate::api::Revision;
use crate::store::files::{File as _, Files};
use crate::store::journal::{Checkpoint, JournalError};
use crate::store::layout::{self, Layout};
use crate::store::log::{Begin, Damage, Flaw, LogRead, Replay, Sort};

use super::{Embedded, STRIDE};

/// What was found.
pub(super) struct Recovered<H> {
    pub(super) id: String,
    /// The log to go on with, cut to what is whole.
    pub(super) sequence: u64,
    pub(super) log: H,
    pub(super) good: u64,
    /// Above every revision that was ever given out.
    pub(super) floor: Revision,
    pub(super) replay: Replay,
    /// The length of the logs since the newest checkpoint, and of that.
    pub(super) log_bytes: u64,
    pub(super) live_bytes: u64,
    /// The names of files that nothing needs.
    pub(super) superfluous: Vec<String>,
}

impl<F: Files> Embedded<F> {
    /// Reads everything. Nothing was read before.
    pub(super) fn recover(&self) -> Result<Recovered<F::File>, JournalError> {
        let mut layout = self.layout()?;
        let id = self.id(&mut layout)?;
        let mut replay = Replay::default();
        let (live_bytes, checkpoint) = self.load_checkpoint(&id, &layout, &mut replay)?;
        let (sequence, read, log_bytes) = self.load_logs(&id, &layout, &mut replay, checkpoint.as_ref())?;
        let name = layout::log(sequence);
        let highest = replay.revision.max(replay.ceiling);
        let (log, good) = match (&read.begin, read.cut) {
            (Some(_), None) => (self.files.open(&name).map_err(self.io("open", &name))?, read.good),
            (Some(_), Some(_)) => {
                let mut file = self.files.open(&name).map_err(self.io("open", &name))?;
                file.truncate(read.good).map_err(self.io("cut", &name))?;
                file.sync().map_err(self.io("sync", &name))?;
                (file, read.good)
            }
            (None, _) => {
                let begun = self.begin_log(&id, sequence, replay.revision, highest)?;
                self.files.sync_names().map_err(self.io("sync", ""))?;
                begun
            }
        };
        // What was cut off may have raised the ceiling once, if it was no unfinished write but a card that lies.
        let mut above = highest;
        if let Some(why) = read.cut.or(read.begin.is_none().then_some(Flaw::Short)).map(Flaw::why) {
            above = Revision(highest.0.saturating_add(STRIDE));
            let path = self.files.path(&name);
            tracing::warn!(path = %path.display(), offset = read.good, why, "cut off a last record that was not whole");
        }
        // One above, so that a watcher who saw the very last revision is told to list again: volatile changes are gone.
        let floor = above.next();
        let mut superfluous = layout.obsolete();
        superfluous.append(&mut layout.unfinished);
        Ok(Recovered { id, sequence, log, good, floor, replay, log_bytes, live_bytes, superfluous })
    }

    /// An empty store. The id comes last: before it is there, there is no store.
    fn create(&self) -> Result<(), JournalError> {
        let id = &self.settings.new_id;
        self.begin_log(id, 1, Revision(0), Revision(0))?;
        self.files.sync_names().map_err(self.io("sync", ""))?;
        let unfinished = format!("{}{}", layout::ID, layout::UNFINISHED);
        let mut file = self.files.create(&unfinished).map_err(self.io("create", &unfinished))?;
        file.append(format!("{id}\n").as_bytes()).map_err(self.io("write", &unfinished))?;
        file.sync().map_err(self.io("sync", &unfinished))?;
        self.files.rename(&unfinished, layout::ID).map_err(self.io("rename", &unfinished))?;
        self.files.sync_names().map_err(self.io("sync", ""))?;
        tracing::info!(store = %id, path = %self.files.path("").display(), "made a new store");
        Ok(())
    }

    /// The id of the store that is there, after making it if there never was one.
    fn id(&self, layout: &mut Layout) -> Result<String, JournalError> {
        if !layout.id {
            self.refuse_lost_id(layout)?;
            self.create()?;
            *layout = self.layout()?;
        }
        let bytes = self.files.read(layout::ID).map_err(self.io("read", layout::ID))?;
        let id = String::from_utf8_lossy(&bytes).trim().to_owned();
        if id.is_empty() {
            return Err(self.damaged(layout::ID, 0, "it is empty", None, false));
        }
        Ok(id)
    }

    /// Without an id there may be the begin of a creation, and nothing else.
    fn refuse_lost_id(&self, layout: &Layout) -> Result<(), JournalError> {
        let mut store = None;
        if layout.checkpoints.is_empty() {
            match layout.logs.as_slice() {
                [] => return Ok(()),
                [1] => {
                    let name = layout::log(1);
                    let bytes = self.files.read(&name).map_err(self.io("read", &name))?;
                    match Replay::default().log(&bytes) {
                        // The log of a creation that was cut off; nothing was ever acknowledged.
                        Ok(LogRead { groups: 0, end: None, .. }) => return Ok(()),
                        Ok(LogRead { begin, .. }) => store = begin.map(|begin| begin.store),
                        Err(_) => {}
                    }
                }
                _ => {}
            }
        }
        let why = match store {
            Some(id) => format!("there are logs beside it, and they say that it held {id}"),
            None => "there are logs or checkpoints beside it".to_owned(),
        };
        Err(JournalError::Missing { path: self.files.path(layout::ID), why })
    }

    fn damaged(&self, name: &str, offset: u64, why: &'static str, back: Option<Checkpoint>, spare: bool) -> JournalError {
        JournalError::Damaged { path: self.files.path(name), offset, why, checkpoint: back, spare }
    }

    fn damage(&self, name: &str, damage: Damage, back: Option<&Checkpoint>, spare: bool) -> JournalError {
        match damage {
            Damage::Broken { offset, why } => self.damaged(name, offset, why, back.cloned(), spare),
            Damage::Unknown { offset, source } => JournalError::Unknown { path: self.files.path(name), offset, source },
        }
    }

    fn check_owner(&self, name: &str, id: &str, sequence: u64, sort: Sort, begin: &Begin) -> Result<(), JournalError> {
        if begin.store != id {
            return Err(JournalError::Foreign { path: self.files.path(name), found: begin.store.clone(), wanted: id.to_owned() });
        }
        if begin.sequence != sequence || begin.file != sort {
            return Err(self.damaged(name, 0, "it is another file that was renamed", None, false));
        }
        Ok(())
    }

    /// The newest checkpoint, played; with its length and how people find it.
    fn load_checkpoint(&self, id: &str, layout: &Layout, replay: &mut Replay) -> Result<(u64, Option<Checkpoint>), JournalError> {
        let (Some(newest), before) = layout.newest_checkpoints() else { return Ok((0, None)) };
        let name = layout::checkpoint(newest);
        let bytes = self.files.read(&name).map_err(self.io("read", &name))?;
        match replay.checkpoint(&bytes) {
            Ok(begin) => {
                self.check_owner(&name, id, newest, Sort::Checkpoint, &begin)?;
                Ok((bytes.len() as u64, Some(Checkpoint { path: self.files.path(&name), revision: replay.revision })))
            }
            Err(damage) => {
                let from = before.unwrap_or(1);
                let spare = (from..=newest).all(|sequence| layout.logs.contains(&sequence));
                let back = before.and_then(|before| {
                    let name = layout::checkpoint(before);
                    let mut replay = Replay::default();
                    replay.checkpoint(&self.files.read(&name).ok()?).ok()?;
                    Some(Checkpoint { path: self.files.path(&name), revision: replay.revision })
                });
                let spare = spare && (back.is_some() || before.is_none());
                Err(self.damage(&name, damage, back.as_ref(), spare))
            }
        }
    }

    /// The logs since the newest checkpoint, played. Tells the last one's number, what is whole of it, and the length of all.
    fn load_logs(
        &self,
        id: &str,
        layout: &Layout,
        replay: &mut Replay,
        back: Option<&Checkpoint>,
    ) -> Result<(u64, LogRead, u64), JournalError> {
        let first = layout.newest_checkpoints().0.unwrap_or(1);
        let mut total = 0;
        let mut sequence = first;
        loop {
            let name = layout::log(sequence);
            if !layout.logs.contains(&sequence) {
                let why = if sequence > first {
                    format!("{} says that it follows", layout::log(sequence - 1))
                } else if back.is_some() {
                    format!("{} needs it", layout::checkpoint(sequence))
                } else {
                    format!("{} says that there was a store", layout::ID)
                };
                return Err(JournalError::Missing { path: self.files.path(&name), why });
            }
            let bytes = self.files.read(&name).map_err(self.io("read", &name))?;
            let read = replay.log(&bytes).map_err(|damage| self.damage(&name, damage, back, false))?;
            match &read.begin {
                Some(begin) => self.check_owner(&name, id, sequence, Sort::Log, begin)?,
                // Nothing of it is left. With something before it that is a last record cut off, like any other.
                None if (back.is_some() || sequence > first) && layout.logs.last() == Some(&sequence) => {
                    return Ok((sequence, read, total));
                }
                None => return Err(self.damaged(&name, 0, "it has no first record", back.cloned(), false)),
            }
            total += read.good;
            match read.end {
                Some(next) if next == sequence + 1 => sequence = next,
                Some(_) => return Err(self.damaged(&name, read.good, "it names a wrong successor", back.cloned(), false)),
                None => {
                    self.forget_unused(layout, sequence, read.good, back)?;
                    return Ok((sequence, read, total));
                }
            }
        }
    }

    /// What follows a log that was not ended was begun by a checkpoint that never came to be, and holds nothing.
    fn forget_unused(&self, layout: &Layout, last: u64, good: u64, back: Option<&Checkpoint>) -> Result<(), JournalError> {
        for &sequence in layout.logs.iter().filter(|&&sequence| sequence > last) {
            let name = layout::log(sequence);
            let bytes = self.files.read(&name).map_err(self.io("read", &name))?;
            let unused = matches!(Replay::default().log(&bytes), Ok(LogRead { groups: 0, end: None, .. }));
            if !unused || sequence != last + 1 {
                return Err(self.damaged(
                    &layout::log(last),
                    good,
                    "its end is missing, though a later log is used",
                    back.cloned(),
                    false,
                ));
            }
            self.files.remove(&name).map_err(self.io("remove", &name))?;
        }
        Ok(())
    }
}
