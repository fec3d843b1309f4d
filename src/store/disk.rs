//! Hands: the embedded journal's directory on a real disk.
//!
//! In:       a path.
//! Out:      [`Files`] over std::fs; [`journal`], the embedded journal there.
//! Never:    knows what the files hold (`embedded.rs`).

use std::fs::{DirBuilder, File as StdFile, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::rng::Rng;

use super::embedded::{Embedded, Settings};
use super::files::{File, Files};

/// How often, and how long between, somebody else's lock is tried: a process that was killed lets go when it is gone, which
/// takes as long as the sync that it waits for.
const TRIES: u32 = 40;
const BETWEEN: Duration = Duration::from_millis(50);

/// Held by the process that uses the directory.
const LOCK: &str = "lock";

/// The embedded journal in a directory, which is made when it is not there. Only its owner can read it: it holds secrets.
#[must_use]
pub fn journal(directory: &Path) -> Embedded<Disk> {
    Embedded::new(Disk::new(directory), Settings::with_id(Rng::from_os("store id").uuid()))
}

/// A directory of the file system.
#[derive(Debug)]
pub struct Disk {
    directory: PathBuf,
    lock: Option<StdFile>,
}

impl Disk {
    /// Nothing is touched before it is prepared.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), lock: None }
    }
}

/// Makes a directory and those above it, each durable in the one above.
fn make(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let above = match directory.parent() {
        Some(above) if !above.as_os_str().is_empty() => above,
        _ => Path::new("."),
    };
    make(above)?;
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => {}
        other => other?,
    }
    StdFile::open(above)?.sync_all()
}

impl Files for Disk {
    type File = StdFile;

    fn prepare(&mut self) -> io::Result<()> {
        make(&self.directory)?;
        let lock = OpenOptions::new().create(true).append(true).mode(0o600).open(self.path(LOCK))?;
        for _ in 0..TRIES {
            match lock.try_lock() {
                Ok(()) => {
                    self.lock = Some(lock);
                    return Ok(());
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(BETWEEN),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Err(io::ErrorKind::ResourceBusy.into())
    }

    fn release(&mut self) {
        self.lock = None;
    }

    fn list(&self) -> io::Result<Vec<String>> {
        // What is no text is none of ours.
        let names = std::fs::read_dir(&self.directory)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
        names.filter_map(Result::transpose).collect()
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        std::fs::read(self.path(name))
    }

    fn create(&self, name: &str) -> io::Result<StdFile> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(self.path(name))?;
        file.set_len(0)?;
        Ok(file)
    }

    fn open(&self, name: &str) -> io::Result<StdFile> {
        OpenOptions::new().append(true).open(self.path(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        StdFile::open(&self.directory)?.sync_all()
    }

    fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.directory.clone() } else { self.directory.join(name) }
    }
}

impl File for StdFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync(&mut self) -> io::Result<()> {
        // Bytes and length, without the times: fewer blocks written on a card.
        self.sync_data()
    }
}
