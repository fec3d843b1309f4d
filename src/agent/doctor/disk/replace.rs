//! Hands: replaces a file as a whole, so that a power cut or a full card leaves the old one or the new one.
//!
//! ```text
//! written beside ──▶ synced ──▶ renamed over ──▶ folder synced
//! ```

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// What is done to a disk, step by step. Behind a trait, so that tests stop it at each byte and between any two steps.
pub trait Disk {
    /// Makes a file that is not there yet.
    ///
    /// # Errors
    /// The disk's.
    fn create(&self, path: &Path) -> io::Result<File>;
    /// Writes all of it.
    ///
    /// # Errors
    /// The disk's; a part of it may be there.
    fn write(&self, file: &mut File, path: &Path, content: &[u8]) -> io::Result<()>;
    /// Brings what was written to the medium; of a folder, its names.
    ///
    /// # Errors
    /// The disk's.
    fn sync(&self, file: &File, path: &Path) -> io::Result<()>;
    /// Gives a file a name, whatever had it.
    ///
    /// # Errors
    /// The disk's.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Takes a file away.
    ///
    /// # Errors
    /// The disk's.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// This machine's file systems.
#[derive(Clone, Copy, Debug)]
pub struct Real;

impl Disk for Real {
    fn create(&self, path: &Path) -> io::Result<File> {
        File::options().write(true).create_new(true).mode(0o600).open(path)
    }

    fn write(&self, file: &mut File, _path: &Path, content: &[u8]) -> io::Result<()> {
        file.write_all(content)
    }

    fn sync(&self, file: &File, _path: &Path) -> io::Result<()> {
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }
}

/// Replaces a file, or makes it. `like`: whose mode and owner it gets.
///
/// # Errors
/// The disk's. When the folder's sync alone failed, the new file has its name already.
pub fn replace(disk: &dyn Disk, path: &Path, content: &[u8], like: Option<&std::fs::Metadata>) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    // A name that nobody else gives: what has it is left over from a write of ours.
    let mut beside = std::ffi::OsString::from(".");
    beside.push(name);
    beside.push(".bramble-new");
    let beside = path.with_file_name(beside);
    let written = write_beside(disk, &beside, content, like).and_then(|()| disk.rename(&beside, path));
    if written.is_err() {
        // Half of a file on a full disk is in the way of everybody. Where it cannot go, the next write takes it away first.
        let _ = disk.remove(&beside);
    }
    written?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    disk.sync(&File::open(folder)?, folder)
}

fn write_beside(disk: &dyn Disk, beside: &Path, content: &[u8], like: Option<&std::fs::Metadata>) -> io::Result<()> {
    // Left over, or not there: making it anew fails if it stays.
    let _ = disk.remove(beside);
    let mode = like.map_or(0o644, std::fs::Metadata::mode) & 0o7777;
    let mut file = disk.create(beside)?;
    let made = file.metadata()?;
    if let Some(like) = like
        && (like.uid(), like.gid()) != (made.uid(), made.gid())
    {
        std::os::unix::fs::fchown(&file, Some(like.uid()), Some(like.gid()))?;
    }
    if made.mode() & 0o7777 != mode
        && let Err(error) = file.set_permissions(std::fs::Permissions::from_mode(mode))
        // FAT has one mode for all files.
        && like.is_some()
    {
        return Err(error);
    }
    disk.write(&mut file, beside, content)?;
    disk.sync(&file, beside)
}
