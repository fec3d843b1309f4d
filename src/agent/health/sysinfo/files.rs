//! Reads small files of `/proc` and `/sys` below a root that tests replace. What is not there, cannot be read or makes no sense is
//! unknown; nonsense is said once.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// More of a file is not read: the largest of those that we want, `/proc/self/mountinfo` on a node with many pods, has what we look
/// for at its beginning.
const MOST_BYTES: u64 = 64 * 1024;

/// Files below a root.
#[derive(Debug)]
pub struct Files {
    root: PathBuf,
    /// Which ones made no sense, as it was said.
    said: Mutex<BTreeSet<String>>,
}

impl Files {
    /// Those below `root`; `/` for this machine.
    #[must_use]
    pub fn below(root: &Path) -> Self {
        Self { root: root.to_owned(), said: Mutex::default() }
    }

    /// Where a file is. `path` has no `/` in front.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// A file's text, without what is white or zero around it.
    #[must_use]
    pub fn text(&self, path: &str) -> Option<String> {
        let bytes = self.bytes(path)?;
        Some(String::from_utf8_lossy(&bytes).trim_matches(|c: char| c == '\0' || c.is_whitespace()).to_owned())
    }

    /// Whether these are this machine's own: then what no file tells can be asked of the kernel.
    #[must_use]
    pub fn are_of_this_machine(&self) -> bool {
        self.root == Path::new("/")
    }

    /// A file's bytes. Never waits, whatever somebody put there.
    #[must_use]
    pub fn bytes(&self, path: &str) -> Option<Vec<u8>> {
        let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let file = File::options().read(true).custom_flags(flags).open(self.path(path)).ok()?;
        let mut bytes = Vec::new();
        if let Err(error) = file.take(MOST_BYTES).read_to_end(&mut bytes) {
            self.nonsense(path, &format_args!("{error}"));
            return None;
        }
        Some(bytes)
    }

    /// What `read` makes of a file's text.
    #[must_use]
    pub fn read<T>(&self, path: &str, read: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let text = self.text(path)?;
        let made = read(&text);
        if made.is_none() {
            self.nonsense(path, &text.chars().take(40).collect::<String>());
        }
        made
    }

    /// A whole number from `least` to `most`.
    #[must_use]
    pub fn number(&self, path: &str, least: i64, most: i64) -> Option<i64> {
        self.read(path, |text| text.parse().ok().filter(|number| (least..=most).contains(number)))
    }

    /// The names in a folder, in order; none when there is no such folder.
    #[must_use]
    pub fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(folder)).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort_unstable();
        names
    }

    /// Whether something is there.
    #[must_use]
    pub fn is_there(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// Where a link leads in the end, as a path below the root without a `/` in front. `None` when it leads out of it, or nowhere.
    #[must_use]
    pub fn follow(&self, path: &str) -> Option<String> {
        let root = fs::canonicalize(&self.root).ok()?;
        let target = fs::canonicalize(self.path(path)).ok()?;
        Some(target.strip_prefix(root).ok()?.to_str()?.to_owned())
    }

    fn nonsense(&self, path: &str, found: &dyn std::fmt::Display) {
        // A list of names: whole whatever panicked.
        let new = self.said.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned());
        if new {
            tracing::debug!(path, %found, "a sensor says nonsense, and counts as unknown");
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Makes files with these texts, and links for texts that begin with `-> `.
    pub fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match text.strip_prefix("-> ") {
                Some(target) => std::os::unix::fs::symlink(target, path).unwrap(),
                None => fs::write(path, text).unwrap(),
            }
        }
        root
    }

    #[test]
    fn what_makes_no_sense_is_unknown_and_nothing_waits() {
        let root = tree(&[("good", " 42\n"), ("empty", ""), ("text", "warm\n"), ("many", "9223372036854775808"), ("sign", "-5")]);
        fs::write(root.path().join("bytes"), [0xff, 0xfe, 0x00]).unwrap();
        fs::write(root.path().join("huge"), "7".repeat(1 << 20)).unwrap();
        fs::create_dir(root.path().join("folder")).unwrap();
        let pipe = root.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
        let files = Files::below(root.path());
        assert_eq!(files.number("good", 0, 100), Some(42));
        assert_eq!(files.number("good", 0, 41), None);
        for path in ["empty", "text", "many", "sign", "bytes", "huge", "folder", "pipe", "missing", "good/deeper"] {
            assert_eq!(files.number(path, 0, 100), None, "{path}");
        }
        assert_eq!(files.text("huge").unwrap().len() as u64, MOST_BYTES);
        let said: Vec<String> = files.said.lock().unwrap().iter().cloned().collect();
        assert_eq!(
            said,
            ["bytes", "empty", "folder", "good", "huge", "many", "pipe", "sign", "text"],
            "each once, missing ones not"
        );
    }
}
