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

/// How long somebody else's lock is waited for: a process that was killed lets go when it is gone, which takes as long as the
/// sync that it is in.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long between two tries.
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
    patience: Duration,
}

impl Disk {
    /// Nothing is touched before it is prepared.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), lock: None, patience: PATIENCE }
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
        let mut waited = Duration::ZERO;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if waited < self.patience => {
                    std::thread::sleep(BETWEEN);
                    waited += BETWEEN;
                }
                Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::ResourceBusy.into()),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        self.lock = Some(lock);
        Ok(())
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use serde_json::json;

    use super::*;
    use crate::api::{Key, Object, registry};
    use crate::store::{Journal as _, JournalError, Op, Options, Store, View};

    fn key(name: &str) -> Key {
        Key::new(&registry::SECRETS, "default", name)
    }

    fn secret() -> Object {
        Object::from_value(json!({"data": {"password": "aHVudGVyMg=="}})).unwrap()
    }

    async fn open(directory: &Path) -> Store {
        Store::open(journal(directory), Options::default()).await.unwrap()
    }

    #[tokio::test]
    async fn a_store_in_a_directory_that_is_not_there_is_made_and_found_again() {
        let above = tempfile::tempdir().unwrap();
        let directory = above.path().join("some/where");
        let store = open(&directory).await;
        let (id, written) = (store.id().to_owned(), store.write(Op::create(key("a"), secret()).into()).await.unwrap());
        store.close().await.unwrap();
        drop(store);
        let store = open(&directory).await;
        assert_eq!((store.id(), store.view(View::len)), (id.as_str(), 1));
        assert!(store.view(View::revision) > written);
        assert_eq!(store.view(|view| view.get(&key("a")).unwrap().revision()), written);
        drop(store);
        let store = open(&directory).await;
        assert_eq!(store.view(View::len), 1, "a store that was only dropped lets go of its directory as well");
        for entry in std::fs::read_dir(&directory).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?} is for its owner only", entry.path());
        }
        assert_eq!(std::fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[tokio::test]
    async fn a_log_cut_in_the_middle_of_its_last_record_opens_without_it() {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path()).await;
        store.write(Op::create(key("a"), secret()).into()).await.unwrap();
        store.write(Op::create(key("b"), secret()).into()).await.unwrap();
        store.close().await.unwrap();
        let log = directory.path().join("log-0000000001");
        let length = std::fs::metadata(&log).unwrap().len();
        OpenOptions::new().write(true).open(&log).unwrap().set_len(length - 3).unwrap();
        let store = open(directory.path()).await;
        assert_eq!(store.view(View::len), 1);
        store.write(Op::create(key("c"), secret()).into()).await.unwrap();
        store.close().await.unwrap();
        assert_eq!(open(directory.path()).await.view(View::len), 2);
    }

    #[test]
    fn a_directory_in_use_is_not_opened_twice() {
        let directory = tempfile::tempdir().unwrap();
        let (mut first, mut second) = (Disk::new(directory.path()), Disk::new(directory.path()));
        first.prepare().unwrap();
        let other = std::thread::spawn(move || second.prepare().map(|()| second));
        std::thread::sleep(3 * BETWEEN);
        first.release();
        let second = other.join().unwrap();
        assert!(second.is_ok(), "it waits for one that is about to go: {second:?}");
        first.patience = Duration::ZERO;
        assert_eq!(first.prepare().unwrap_err().kind(), io::ErrorKind::ResourceBusy);
        let mut journal = Embedded::new(first, Settings::with_id("x".to_owned()));
        let error = journal.load().unwrap_err();
        assert!(matches!(&error, JournalError::Locked { path } if path == directory.path()), "{error}");
    }

    #[tokio::test]
    async fn what_is_in_the_way_of_a_directory_is_told_with_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "no directory").unwrap();
        let Err(error) = Store::open(journal(&file.join("store")), Options::default()).await else { panic!("it opened") };
        assert!(matches!(error, JournalError::Io { .. }) && error.to_string().contains("file/store"), "{error}");
        // What the system says is passed on whole; which of them it is does not depend on who runs this test.
        for (kind, expected) in [
            (io::ErrorKind::StorageFull, "cannot append to /x: the disk is full"),
            (io::ErrorKind::ReadOnlyFilesystem, "cannot append to /x: the file system is read-only"),
            (io::ErrorKind::PermissionDenied, "cannot append to /x: this user may not"),
            (io::ErrorKind::Other, "cannot append to /x"),
        ] {
            let error = JournalError::io("append to", PathBuf::from("/x"))(kind.into());
            assert_eq!(error.to_string(), expected);
            assert!(!error.fix().is_empty());
        }
        let full = JournalError::io("open", PathBuf::from("/dev/full"));
        let said = OpenOptions::new().append(true).open("/dev/full").unwrap().append(b"x").unwrap_err();
        assert!(matches!(full(said), JournalError::Full { .. }));
    }
}
