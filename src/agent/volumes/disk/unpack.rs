//! Hands: writes an image's archive into a folder, and nothing outside of it, whatever the archive says.
//!
//! In:       a tar stream of an image's file system, an empty folder.
//! Out:      directories, files and links with their modes, owners and times. Devices, sockets and pipes are left out.
//! Never:    follows a link: each folder on the way to an entry is opened by itself and has to be one (openat(2), O_NOFOLLOW); a name
//!           with `..` ends it. Reads more than a buffer at a time.
//!
//! Rejected: `tar::Archive::unpack`, which looks where a path leads and then goes there; we open as we go, as `beneath.rs` does.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use tar::{Archive, EntryType, Header};

use crate::agent::volumes::image;

/// Between two looks at the disk's room, in bytes.
const STRIDE: u64 = 32 << 20;

/// Why an image's files could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// Somebody made the image so, and it may not be had.
    #[error("its entry {name:?} leads out of the image")]
    Outside {
        /// As the archive has it.
        name: String,
    },
    /// There is no room.
    #[error("the node's disk is full: make room on the node, or let the pod run on another one")]
    Full,
    /// The stream broke off, or is no archive.
    #[error("the engine's copy of it broke off or is damaged")]
    Damaged(#[source] io::Error),
    /// The disk refuses.
    #[error("cannot write {name}")]
    Io {
        /// The entry's name.
        name: String,
        /// Why.
        source: io::Error,
    },
}

/// What became of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Directories, files and links.
    pub entries: u64,
    /// In files.
    pub bytes: u64,
    /// Devices, sockets and pipes that were left out.
    pub left_out: u64,
}

/// A directory's own facts, for when all that is in it has been written.
struct Folder {
    parts: Vec<Vec<u8>>,
    owner: (u32, u32),
    mode: u32,
    seconds: u64,
}

/// Unpacks all of `from` into the folder `into`. `since`: seconds since 1970; empty files of the engine's own that are no older are
/// left out. `has_room` is asked now and then.
///
/// # Errors
/// When something in it leads out, when it breaks off, or when the disk refuses; what was written by then is the caller's to remove.
pub fn unpack(from: impl Read, into: &Path, since: u64, mut has_room: impl FnMut() -> bool) -> Result<Unpacked, UnpackError> {
    let top = rustix::fs::open(into, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| fault(b".", errno))?;
    // Who is not root owns what it writes, whatever the archive says.
    let root = rustix::process::geteuid().is_root();
    let mut archive = Archive::new(Whole { from, zeros: 0 });
    let mut done = Unpacked::default();
    let mut folders = vec![Folder { parts: Vec::new(), owner: (0, 0), mode: 0o755, seconds: since }];
    let mut looked = 0;
    for entry in archive.entries().map_err(UnpackError::Damaged)? {
        let mut entry = entry.map_err(UnpackError::Damaged)?;
        let name = entry.path_bytes().into_owned();
        let header = entry.header().clone();
        let kind = header.entry_type();
        if matches!(kind, EntryType::XGlobalHeader | EntryType::XHeader) {
            continue;
        }
        let Some(parts) = image::parts(&name) else { return Err(outside(&name)) };
        let owner = (number(header.uid()), number(header.gid()));
        let mode = header.mode().map_err(UnpackError::Damaged)? & 0o7777;
        let seconds = header.mtime().unwrap_or_default();
        let folder = |parts: &[&[u8]]| Folder { parts: parts.iter().map(|part| part.to_vec()).collect(), owner, mode, seconds };
        let Some((last, above)) = parts.split_last() else {
            // The top itself.
            if let (EntryType::Directory, Some(first)) = (kind, folders.first_mut()) {
                *first = folder(&[]);
            }
            continue;
        };
        let parent = open(&top, above.iter().copied(), &name)?;
        match kind {
            EntryType::Directory => {
                match rustix::fs::mkdirat(&parent, OsStr::from_bytes(last), Mode::from_raw_mode(0o700)) {
                    Err(Errno::EXIST) => drop(open(&parent, [*last].into_iter(), &name)?),
                    made => made.map_err(|errno| fault(&name, errno))?,
                }
                folders.push(folder(&parts));
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                if image::is_engines(&parts, entry.size(), seconds, since) {
                    continue;
                }
                let mut file = create(&parent, last, &name)?;
                let mut buffer = [0; 64 << 10];
                loop {
                    let read = entry.read(&mut buffer).map_err(UnpackError::Damaged)?;
                    let Some(chunk) = buffer.get(..read).filter(|chunk| !chunk.is_empty()) else { break };
                    file.write_all(chunk).map_err(|source| disk(&name, source))?;
                    done.bytes += read as u64;
                    if done.bytes - looked >= STRIDE {
                        looked = done.bytes;
                        if !has_room() {
                            return Err(UnpackError::Full);
                        }
                    }
                }
                if root {
                    let (user, group) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
                    rustix::fs::fchown(&file, Some(user), Some(group)).map_err(|errno| fault(&name, errno))?;
                }
                // After the owner, which takes the bits of another user away.
                rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).map_err(|errno| fault(&name, errno))?;
                rustix::fs::futimens(&file, &times(seconds)).map_err(|errno| fault(&name, errno))?;
            }
            EntryType::Symlink => {
                if image::is_engines(&parts, 0, seconds, since) {
                    continue;
                }
                let target = target(&entry, &name)?;
                clear(&parent, last);
                rustix::fs::symlinkat(OsStr::from_bytes(&target), &parent, OsStr::from_bytes(last))
                    .map_err(|errno| fault(&name, errno))?;
                if root {
                    let (user, group) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
                    let flags = AtFlags::SYMLINK_NOFOLLOW;
                    rustix::fs::chownat(&parent, OsStr::from_bytes(last), Some(user), Some(group), flags)
                        .map_err(|errno| fault(&name, errno))?;
                }
            }
            EntryType::Link => {
                let target = target(&entry, &name)?;
                let Some(to) = image::parts(&target) else { return Err(outside(&name)) };
                let Some((to_last, to_above)) = to.split_last() else { return Err(outside(&name)) };
                let there = open(&top, to_above.iter().copied(), &name)?;
                clear(&parent, last);
                // Without AT_SYMLINK_FOLLOW: of a link there is another link.
                let (from, to) = (OsStr::from_bytes(to_last), OsStr::from_bytes(last));
                rustix::fs::linkat(&there, from, &parent, to, AtFlags::empty()).map_err(|errno| fault(&name, errno))?;
            }
            _ => {
                done.left_out += 1;
                continue;
            }
        }
        done.entries += 1;
    }
    archive.into_inner().finish().map_err(UnpackError::Damaged)?;
    finish(&top, &folders, since, root)?;
    Ok(done)
}

/// Gives the directories their owners, modes and times, the innermost first, and takes away the engine's own.
fn finish(top: &OwnedFd, folders: &[Folder], since: u64, root: bool) -> Result<(), UnpackError> {
    for path in image::engines_folders() {
        let parts: Vec<&[u8]> = path.split('/').map(str::as_bytes).collect();
        let new = folders.iter().rfind(|folder| folder.parts == parts).is_some_and(|folder| folder.seconds >= since);
        let Some((last, above)) = parts.split_last().filter(|_| new) else { continue };
        if let Ok(parent) = open(top, above.iter().copied(), path.as_bytes()) {
            // One that is not empty is the image's.
            let _ = rustix::fs::unlinkat(&parent, OsStr::from_bytes(last), AtFlags::REMOVEDIR);
        }
    }
    for folder in folders.iter().rev() {
        let name = folder.parts.join(&b'/');
        let there = match open_to(top, folder.parts.iter().map(Vec::as_slice), OFlags::RDONLY) {
            Err(Errno::NOENT) => continue,
            there => there.map_err(|errno| fault(&name, errno))?,
        };
        if root {
            let (user, group) = (Uid::from_raw(folder.owner.0), Gid::from_raw(folder.owner.1));
            rustix::fs::fchown(&there, Some(user), Some(group)).map_err(|errno| fault(&name, errno))?;
        }
        rustix::fs::fchmod(&there, Mode::from_raw_mode(folder.mode)).map_err(|errno| fault(&name, errno))?;
        rustix::fs::futimens(&there, &times(folder.seconds)).map_err(|errno| fault(&name, errno))?;
    }
    Ok(())
}

/// The folder of these parts below another one: each has to be a directory, and no link to one.
fn open<'a>(from: &OwnedFd, parts: impl Iterator<Item = &'a [u8]>, name: &[u8]) -> Result<OwnedFd, UnpackError> {
    open_to(from, parts, OFlags::PATH).map_err(|errno| match errno {
        Errno::NOTDIR | Errno::LOOP => outside(name),
        errno => fault(name, errno),
    })
}

fn open_to<'a>(from: &OwnedFd, parts: impl Iterator<Item = &'a [u8]>, access: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut parts = parts.peekable();
    let first = if parts.peek().is_none() { access } else { OFlags::PATH };
    let mut at = rustix::fs::openat(from, ".", flags | first, Mode::empty())?;
    while let Some(part) = parts.next() {
        let access = if parts.peek().is_none() { access } else { OFlags::PATH };
        at = rustix::fs::openat(&at, OsStr::from_bytes(part), flags | access, Mode::empty())?;
    }
    Ok(at)
}

/// A new file; what had its name goes.
fn create(parent: &OwnedFd, last: &[u8], name: &[u8]) -> Result<File, UnpackError> {
    clear(parent, last);
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(parent, OsStr::from_bytes(last), flags, Mode::from_raw_mode(0o600));
    Ok(File::from(file.map_err(|errno| fault(name, errno))?))
}

/// Takes away what has this name, if it is no directory: an archive may name a file twice, and the last one counts.
fn clear(parent: &OwnedFd, last: &[u8]) {
    // What is not there need not go; what cannot go shows in what comes next.
    let _ = rustix::fs::unlinkat(parent, OsStr::from_bytes(last), AtFlags::empty());
}

fn target<R: Read>(entry: &tar::Entry<'_, R>, name: &[u8]) -> Result<Vec<u8>, UnpackError> {
    let target = entry.link_name_bytes().map(std::borrow::Cow::into_owned).filter(|target| !target.is_empty());
    target.ok_or_else(|| UnpackError::Damaged(io::Error::other(format!("{} is a link to nothing", words(name)))))
}

fn number(read: io::Result<u64>) -> u32 {
    read.ok().and_then(|number| u32::try_from(number).ok()).unwrap_or_default()
}

fn times(seconds: u64) -> Timestamps {
    let at = Timespec { tv_sec: i64::try_from(seconds).unwrap_or_default(), tv_nsec: 0 };
    Timestamps { last_access: at, last_modification: at }
}

fn words(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

fn outside(name: &[u8]) -> UnpackError {
    UnpackError::Outside { name: words(name) }
}

fn fault(name: &[u8], errno: Errno) -> UnpackError {
    disk(name, errno.into())
}

fn disk(name: &[u8], source: io::Error) -> UnpackError {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => UnpackError::Full,
        _ => UnpackError::Io { name: words(name), source },
    }
}

/// Knows whether the stream ended as an archive ends: `tar` takes a stream that is cut between two entries for a whole one.
struct Whole<R> {
    from: R,
    /// How many zero bytes came last.
    zeros: u64,
}

impl<R: Read> Read for Whole<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        let chunk = buffer.get(..read).unwrap_or_default();
        let last = chunk.iter().rev().take_while(|byte| **byte == 0).count();
        self.zeros = if last == read { self.zeros + last as u64 } else { last as u64 };
        Ok(read)
    }
}

impl<R: Read> Whole<R> {
    /// Reads what comes after the last entry.
    fn finish(mut self) -> io::Result<()> {
        io::copy(&mut self, &mut io::sink())?;
        // Source: POSIX.1-2017 pax: two blocks of zeros.
        match self.zeros >= 2 * (size_of::<Header>() as u64) {
            true => Ok(()),
            false => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it has no end")),
        }
    }
}

#[cfg(test)]
mod tests;
