//! A disk in memory that forgets, in a power cut, whatever was not synced: for tests of what is on disks.
//!
//! In:       [`Files`] calls, and the moment at which the power goes.
//! Out:      the disk as the next start finds it ([`Forgetful::restarted`]).
//! Never:    kinder than a real disk: a file's sync does not keep its name, a name's sync does not keep its bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::rng::Rng;

use super::files::{File, Files};

/// What a power cut does to what was not synced.
#[derive(Clone, Debug)]
pub enum PowerCut {
    /// All of it is lost.
    Loses,
    /// All of it happens to be there.
    Keeps,
    /// Some of it is there, by chance: sectors of 512 bytes, and of each name one of the
    /// files that it stood for, or none.
    Tears(Rng),
}

/// When the power goes, counted in operations that change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Before the operation of this number, from 0.
    Before(u64),
    /// After it was done, but before anybody heard of it.
    After(u64),
}

/// The disk; clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct Forgetful {
    machine: Arc<(Mutex<Machine>, Condvar)>,
}

#[derive(Debug, Default)]
struct Machine {
    contents: Vec<Content>,
    /// The names after each change that was not synced; the first is what is durable.
    names: Vec<BTreeMap<String, usize>>,
    operations: u64,
    syncs: u64,
    bytes: u64,
    cut: Option<Moment>,
    off: bool,
    room: Option<u64>,
    broken_sync: bool,
    held: bool,
}

/// The bytes of a file, whatever its name.
#[derive(Clone, Debug, Default)]
struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
}

impl Content {
    fn after(&self, cut: &mut PowerCut) -> Vec<u8> {
        match cut {
            PowerCut::Loses => self.durable.clone(),
            PowerCut::Keeps => self.now.clone(),
            PowerCut::Tears(rng) => {
                if !self.now.starts_with(&self.durable) {
                    return if rng.below(2) == 0 { self.now.clone() } else { self.durable.clone() };
                }
                let length = self.durable.len() + rng.below(self.now.len() - self.durable.len() + 1);
                let mut left = self.durable.clone();
                for (sector, bytes) in self.now.chunks(512).enumerate() {
                    let lost = rng.below(3) == 0;
                    for (at, &byte) in bytes.iter().enumerate() {
                        let at = sector * 512 + at;
                        if (self.durable.len()..length).contains(&at) {
                            left.push(if lost { 0 } else { byte });
                        }
                    }
                }
                left
            }
        }
    }
}

fn gone() -> io::Error {
    io::Error::other("the power is cut")
}

fn no_such() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Machine {
    fn names(&self) -> Result<&BTreeMap<String, usize>, io::Error> {
        if self.off {
            return Err(gone());
        }
        self.names.last().ok_or_else(no_such)
    }

    /// Counts an operation and does it, unless the power goes.
    fn operate<R>(&mut self, act: impl FnOnce(&mut Self) -> io::Result<R>) -> io::Result<R> {
        if self.off {
            return Err(gone());
        }
        let number = self.operations;
        self.operations += 1;
        if self.cut == Some(Moment::Before(number)) {
            self.off = true;
            return Err(gone());
        }
        let result = act(self);
        if self.cut == Some(Moment::After(number)) {
            self.off = true;
            return Err(gone());
        }
        result
    }

    fn rename(&mut self, act: impl FnOnce(&mut BTreeMap<String, usize>) -> io::Result<()>) -> io::Result<()> {
        self.operate(|machine| {
            let mut names = machine.names.last().cloned().unwrap_or_default();
            act(&mut names)?;
            machine.names.push(names);
            Ok(())
        })
    }

    fn content(&mut self, file: usize) -> io::Result<&mut Content> {
        self.contents.get_mut(file).ok_or_else(no_such)
    }
}

impl Forgetful {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Machine> {
        self.machine.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets when the power goes.
    #[must_use]
    pub fn cut_at(self, moment: Moment) -> Self {
        self.lock().cut = Some(moment);
        self
    }

    /// The disk as it is found after a power cut now.
    #[must_use]
    pub fn restarted(&self, mut cut: PowerCut) -> Self {
        let machine = self.lock();
        let names = match &mut cut {
            PowerCut::Loses => machine.names.first().cloned(),
            PowerCut::Keeps => machine.names.last().cloned(),
            // Each name for itself, whatever the order in which they were changed.
            PowerCut::Tears(rng) => {
                let all: BTreeSet<&String> = machine.names.iter().flat_map(BTreeMap::keys).collect();
                let found = all.into_iter().filter_map(|name| {
                    let names = machine.names.get(rng.below(machine.names.len()))?;
                    Some((name.clone(), *names.get(name)?))
                });
                Some(found.collect())
            }
        };
        let contents = machine.contents.iter().map(|content| {
            let left = content.after(&mut cut);
            Content { now: left.clone(), durable: left }
        });
        let after = Machine { contents: contents.collect(), names: names.into_iter().collect(), ..Machine::default() };
        Self { machine: Arc::new((Mutex::new(after), Condvar::new())) }
    }

    /// How many operations there were.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// How often a file was synced.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// How many bytes were appended.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.lock().bytes
    }

    /// Leaves room for so many bytes, or any number.
    pub fn set_room(&self, room: Option<u64>) {
        self.lock().room = room;
    }

    /// Lets every sync of a file fail from now on.
    pub fn break_sync(&self) {
        self.lock().broken_sync = true;
    }

    /// Lets syncs of files wait, or go on.
    pub fn hold_syncs(&self, held: bool) {
        self.lock().held = held;
        self.machine.1.notify_all();
    }

    /// Changes a file behind everybody's back, durably; makes it when there is none.
    pub fn tamper(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut machine = self.lock();
        let file = machine.names.last().and_then(|names| names.get(name)).copied().unwrap_or(machine.contents.len());
        if file == machine.contents.len() {
            machine.contents.push(Content::default());
            if machine.names.is_empty() {
                machine.names.push(BTreeMap::new());
            }
            for names in &mut machine.names {
                names.insert(name.to_owned(), file);
            }
        }
        if let Some(content) = machine.contents.get_mut(file) {
            change(&mut content.now);
            content.durable = content.now.clone();
        }
    }

    /// Takes a file away behind everybody's back, durably.
    pub fn lose(&self, name: &str) {
        for names in &mut self.lock().names {
            names.remove(name);
        }
    }
}

/// An open file of a [`Forgetful`].
#[derive(Debug)]
pub struct ForgetfulFile {
    disk: Forgetful,
    file: usize,
}

impl Files for Forgetful {
    type File = ForgetfulFile;

    fn prepare(&mut self) -> io::Result<()> {
        let mut machine = self.lock();
        if machine.off {
            return Err(gone());
        }
        if machine.names.is_empty() {
            machine.names.push(BTreeMap::new());
        }
        Ok(())
    }

    fn release(&mut self) {}

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.lock().names()?.keys().cloned().collect())
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut machine = self.lock();
        let file = *machine.names()?.get(name).ok_or_else(no_such)?;
        Ok(machine.content(file)?.now.clone())
    }

    fn create(&self, name: &str) -> io::Result<ForgetfulFile> {
        let mut machine = self.lock();
        let file = machine.contents.len();
        machine.contents.push(Content::default());
        machine.rename(|names| {
            names.insert(name.to_owned(), file);
            Ok(())
        })?;
        Ok(ForgetfulFile { disk: self.clone(), file })
    }

    fn open(&self, name: &str) -> io::Result<ForgetfulFile> {
        let file = *self.lock().names()?.get(name).ok_or_else(no_such)?;
        Ok(ForgetfulFile { disk: self.clone(), file })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.lock().rename(|names| {
            let file = names.remove(from).ok_or_else(no_such)?;
            names.insert(to.to_owned(), file);
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.lock().rename(|names| names.remove(name).map(|_| ()).ok_or_else(no_such))
    }

    fn sync_names(&self) -> io::Result<()> {
        self.lock().operate(|machine| {
            let kept = machine.names.len().saturating_sub(1);
            machine.names.drain(..kept);
            Ok(())
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("/forgetful").join(name)
    }
}

impl File for ForgetfulFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.disk.lock().operate(|machine| {
            let fits = machine.room.map_or(bytes.len(), |room| usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len()));
            machine.room = machine.room.map(|room| room - fits as u64);
            machine.bytes += fits as u64;
            machine.content(self.file)?.now.extend(bytes.iter().take(fits));
            if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        })
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.disk.lock().operate(|machine| {
            machine.content(self.file)?.now.truncate(usize::try_from(length).unwrap_or(usize::MAX));
            Ok(())
        })
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut machine = self.disk.lock();
        while machine.held {
            machine = self.disk.machine.1.wait(machine).unwrap_or_else(PoisonError::into_inner);
        }
        machine.operate(|machine| {
            if machine.broken_sync {
                return Err(io::Error::other("the disk gave up"));
            }
            machine.syncs += 1;
            let content = machine.content(self.file)?;
            content.durable = content.now.clone();
            Ok(())
        })
    }
}
