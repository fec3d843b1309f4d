//! What the embedded journal asks of a disk, so that tests can give it one that forgets (`forgetful.rs`).
//!
//! The promises are those of POSIX, no more: what was appended is there after a power cut only once the file was synced, and
//! a name that was made, changed or taken away stays so only once the directory was.

use std::io;
use std::path::PathBuf;

/// One directory of files. Names are plain file names.
pub trait Files: Send + 'static {
    /// An open file.
    type File: File;

    /// Makes the directory when there is none, durably, and makes sure that nobody else uses it.
    ///
    /// # Errors
    /// What the system says; [`io::ErrorKind::ResourceBusy`] when somebody else does.
    fn prepare(&mut self) -> io::Result<()>;

    /// Gives the directory back to others.
    fn release(&mut self);

    /// The names in it.
    ///
    /// # Errors
    /// What the system says.
    fn list(&self) -> io::Result<Vec<String>>;

    /// A whole file.
    ///
    /// # Errors
    /// What the system says.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;

    /// An empty file to append to; what stood there is gone.
    ///
    /// # Errors
    /// What the system says.
    fn create(&self, name: &str) -> io::Result<Self::File>;

    /// A file that is there, to append to.
    ///
    /// # Errors
    /// What the system says.
    fn open(&self, name: &str) -> io::Result<Self::File>;

    /// Moves a file onto another name.
    ///
    /// # Errors
    /// What the system says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Takes a file away.
    ///
    /// # Errors
    /// What the system says.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Returns when the names are durable.
    ///
    /// # Errors
    /// What the system says.
    fn sync_names(&self) -> io::Result<()>;

    /// How people find a file.
    fn path(&self, name: &str) -> PathBuf;
}

/// One open file.
pub trait File: Send {
    /// Adds bytes at the end. When it fails, some of them may stand there.
    ///
    /// # Errors
    /// What the system says.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Cuts the file to a length.
    ///
    /// # Errors
    /// What the system says.
    fn truncate(&mut self, length: u64) -> io::Result<()>;

    /// Returns when the file's bytes and its length are durable.
    ///
    /// # Errors
    /// What the system says. From then on nobody knows what is on the disk.
    fn sync(&mut self) -> io::Result<()>;
}
