//! Hands: a machine as the tree of files below a root, and what is done to it.
//!
//! Links are followed within the root (`openat2`, `RESOLVE_IN_ROOT`): a card in a reader has links like `/boot/x`, and those are not
//! meant for the machine that the reader hangs on.
//!
//! A file is replaced as a whole (`disk/replace.rs`). What cannot be finished leaves the old one. Its copy is made in the same way before, and
//! both have the old one's mode and owner; FAT knows neither, and there both are equal anyway.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};

use self::replace::{Disk, Real, replace};
use super::exec::Programs;
use super::{Act, BACKUP, Host, Room, Seen};
use crate::agent::exec::ExecError;
use crate::terminal::quoted;

pub mod replace;

/// Larger is no file that a check reads.
const MOST_BYTES: u64 = 1 << 20;
/// So many copies of one file are kept; then something is wrong with who calls.
const MOST_COPIES: usize = 99;

/// Whether a machine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// This one: its programs can be asked, and what is changed counts now.
    Runs,
    /// A card in a reader, an image that is mounted: files, no more.
    Still,
}

/// A machine below a root.
pub struct Tree {
    root: PathBuf,
    life: Life,
    programs: Box<dyn Programs>,
    disk: Box<dyn Disk>,
}

/// Why an act was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// The disk refuses.
    #[error("cannot {act} {path}")]
    Disk {
        /// What was tried.
        act: &'static str,
        /// With what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A program refuses.
    #[error(transparent)]
    Program(#[from] ExecError),
    /// A file has its most copies.
    #[error("{0} has {MOST_COPIES} copies from before: remove those that nobody needs")]
    Copies(PathBuf),
}

impl Tree {
    /// `root` is `/` for the machine that this runs on.
    #[must_use]
    pub fn new(root: &Path, life: Life, programs: Box<dyn Programs>) -> Self {
        Self { root: root.to_owned(), life, programs, disk: Box::new(Real) }
    }

    /// The same on another disk.
    #[must_use]
    pub fn on(mut self, disk: Box<dyn Disk>) -> Self {
        self.disk = disk;
        self
    }

    /// Opens below the root; links stay within it.
    fn open(&self, path: &str, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::CLOEXEC;
        if self.root == Path::new("/") {
            return Ok(rustix::fs::open(path, flags, Mode::empty())?.into());
        }
        let root = File::open(&self.root)?;
        Ok(rustix::fs::openat2(&root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT)?.into())
    }

    /// Where something below the root really is, links followed.
    fn real(&self, path: &str) -> io::Result<PathBuf> {
        let file = self.open(path, OFlags::PATH)?;
        std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
    }

    /// The real place of a file that may not be there yet, its folder made.
    fn place(&self, path: &str) -> io::Result<PathBuf> {
        match self.real(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            found => return found,
        }
        // What follows works with plain paths: it would go where the link points, out of the root.
        if self.link(path).is_some() {
            return Err(io::Error::other("it is a link that leads nowhere: remove it, or make what it leads to"));
        }
        let (folder, name) = path.rsplit_once('/').ok_or(io::ErrorKind::InvalidInput)?;
        let folder = if folder.is_empty() { "/" } else { folder };
        let real = match self.real(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && folder != "/" => {
                let folder = self.place(folder)?;
                std::fs::create_dir(&folder)?;
                folder
            }
            found => found?,
        };
        Ok(real.join(name))
    }

    /// All of a file, and whose it is.
    fn whole(&self, path: &str) -> io::Result<(Vec<u8>, std::fs::Metadata)> {
        let mut file = self.open(path, OFlags::RDONLY | OFlags::NONBLOCK)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok((bytes, file.metadata()?))
    }

    /// Does one thing.
    ///
    /// # Errors
    /// When it cannot be done; a file is then as it was.
    pub fn act(&self, act: &Act) -> Result<Done, ActError> {
        match act {
            Act::Write { path, content } => return self.write(path, content.as_bytes()),
            Act::Enable(unit) => self.systemctl("enable", unit)?,
            Act::Disable(unit) => self.systemctl("disable", unit)?,
            Act::Now { program, arguments } if self.runs() => {
                self.programs.run(program, &arguments.iter().map(String::as_str).collect::<Vec<_>>())?;
            }
            Act::Now { .. } => return Ok(Done::Nothing),
            Act::Install(package) => self.programs.install(package)?,
        }
        Ok(Done::Ran(self.told(act)))
    }

    /// An act as a person would type it.
    fn told(&self, act: &Act) -> String {
        match act {
            Act::Write { path, .. } => self.shown(path),
            Act::Enable(unit) => super::systemctl(self, "enable", unit).replacen("sudo ", "", 1),
            Act::Disable(unit) => super::systemctl(self, "disable", unit).replacen("sudo ", "", 1),
            Act::Now { program, arguments } => {
                [*program].into_iter().chain(arguments.iter().map(String::as_str)).map(quoted).collect::<Vec<_>>().join(" ")
            }
            Act::Install(package) => format!("apt-get install -y {package}"),
        }
    }

    fn systemctl(&self, verb: &str, unit: &str) -> Result<(), ActError> {
        if self.runs() {
            return Ok(self.programs.run("systemctl", &[verb, "--now", unit])?);
        }
        let root = format!("--root={}", self.root.display());
        Ok(self.programs.run("systemctl", &[&root, verb, unit])?)
    }

    fn write(&self, path: &str, content: &[u8]) -> Result<Done, ActError> {
        let failed = |act, path: &Path| {
            let path = path.to_owned();
            move |source| ActError::Disk { act, path, source }
        };
        let shown = self.root.join(path.trim_start_matches('/'));
        let real = self.place(path).map_err(failed("write", &shown))?;
        let old = match self.whole(path) {
            Ok((old, _)) if old == content => return Ok(Done::Nothing),
            Ok(old) => Some(old),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed("read", &real)(error)),
        };
        let backup = match &old {
            None => None,
            Some((bytes, like)) => {
                let copy = self.backup(path);
                let name = copy.rsplit('/').next().unwrap_or_default();
                if name.is_empty() {
                    return Err(ActError::Copies(real));
                }
                let beside = real.with_file_name(name);
                if let Err(source) = replace(&*self.disk, &beside, bytes, Some(like)) {
                    // The name was free: what has it now is ours. One that stays is in nobody's way, and the fault is told below.
                    let _ = self.disk.remove(&beside);
                    return Err(failed("keep a copy as", &beside)(source));
                }
                Some((beside, self.shown(&copy)))
            }
        };
        if let Err(source) = replace(&*self.disk, &real, content, old.as_ref().map(|(_, like)| like)) {
            // The sync of the folder comes after the rename, and may fail too.
            let changed = self.whole(path).is_ok_and(|(now, _)| now == content);
            // That the write failed is told in any case. Where this fails too, the copy stays, for whoever looks after it by hand.
            let _ = match backup {
                Some((beside, _)) if changed => self.disk.rename(&beside, &real),
                Some((beside, _)) => self.disk.remove(&beside),
                None if changed => self.disk.remove(&real),
                None => Ok(()),
            };
            return Err(failed("write", &real)(source));
        }
        Ok(Done::Wrote { path: self.shown(path), backup: backup.map(|(_, shown)| shown) })
    }
}

/// What an act came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// It was so already, or there is nothing that runs.
    Nothing,
    /// A file was written; what it was is in the other one.
    Wrote {
        /// The file.
        path: String,
        /// Its copy; none: it is new.
        backup: Option<String>,
    },
    /// A command did it.
    Ran(String),
}

impl Host for Tree {
    fn read(&self, path: &str) -> Seen {
        let file = match self.open(path, OFlags::RDONLY | OFlags::NONBLOCK) {
            Ok(file) => file,
            Err(error) => {
                return match error.kind() {
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Seen::Missing,
                    io::ErrorKind::PermissionDenied => Seen::Denied,
                    _ => Seen::Strange(error.to_string()),
                };
            }
        };
        let mut bytes = Vec::new();
        // A byte more than is taken tells the end from the limit.
        if let Err(error) = file.take(MOST_BYTES + 1).read_to_end(&mut bytes) {
            return Seen::Strange(error.to_string());
        }
        if bytes.len() as u64 > MOST_BYTES {
            return Seen::Strange("it is larger than 1 MiB".to_owned());
        }
        String::from_utf8(bytes).map_or_else(|_| Seen::Strange("it is not text".to_owned()), Seen::Text)
    }

    fn list(&self, folder: &str) -> Vec<String> {
        let Ok(folder) = self.real(folder) else { return Vec::new() };
        let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
        let mut names: Vec<String> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort_unstable();
        names
    }

    fn exists(&self, path: &str) -> bool {
        self.open(path, OFlags::PATH | OFlags::NOFOLLOW).is_ok()
    }

    fn link(&self, path: &str) -> Option<String> {
        let file = self.open(path, OFlags::PATH | OFlags::NOFOLLOW).ok()?;
        rustix::fs::readlinkat(&file, "", Vec::new()).ok()?.into_string().ok()
    }

    fn room(&self, path: &str) -> Option<Room> {
        let disk = rustix::fs::fstatvfs(self.open(path, OFlags::PATH).ok()?).ok()?;
        Some(Room {
            total_bytes: disk.f_blocks.saturating_mul(disk.f_frsize),
            available_bytes: disk.f_bavail.saturating_mul(disk.f_frsize),
            files: disk.f_files,
            files_free: disk.f_favail,
        })
    }

    fn runs(&self) -> bool {
        self.life == Life::Runs
    }

    fn ask(&self, program: &str, arguments: &[&str]) -> Option<String> {
        if self.runs() { self.programs.ask(program, arguments) } else { None }
    }

    fn shown(&self, path: &str) -> String {
        self.root.join(path.trim_start_matches('/')).to_string_lossy().into_owned()
    }

    fn resolved(&self, path: &str) -> String {
        let real = self.real(path).ok().zip(std::fs::canonicalize(&self.root).ok());
        let below = real.and_then(|(real, root)| Some(real.strip_prefix(root).ok()?.to_str()?.to_owned()));
        below.map_or_else(|| path.to_owned(), |below| format!("/{below}"))
    }

    fn backup(&self, path: &str) -> String {
        let path = self.resolved(path);
        let numbers = (1..=MOST_COPIES).map(|number| match number {
            1 => format!("{path}{BACKUP}"),
            number => format!("{path}{BACKUP}-{number}"),
        });
        numbers.into_iter().find(|path| !self.exists(path)).unwrap_or_default()
    }
}
