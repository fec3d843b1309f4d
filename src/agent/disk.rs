//! Hands: keeps the checkpoint. Written beside, synced, renamed over, directory synced: a power cut leaves the old or the new.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::checkpoint::{self, Checkpoint};
use crate::link::share::Share;

/// Why the checkpoint cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The disk refuses.
    #[error("cannot {act} {path}")]
    Io {
        /// What was tried.
        act: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is there and cannot be used.
    #[error("cannot use {path}")]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: checkpoint::CheckpointError,
    },
}

/// The file in a node's data directory.
fn place(directory: &Path) -> PathBuf {
    directory.join("share.json")
}

/// The kept share; `None` when there is none yet.
///
/// # Errors
/// When it cannot be read or is damaged.
pub fn load(directory: &Path) -> Result<Option<Checkpoint>, DiskError> {
    let path = place(directory);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(DiskError::Io { act: "read", path, source }),
    };
    checkpoint::decode(&bytes).map(Some).map_err(|source| DiskError::Unusable { path, source })
}

/// Keeps a share. Blocks on the disk: call it off the runtime.
///
/// # Errors
/// When the disk refuses; what was kept before stays.
pub fn save(directory: &Path, store: &str, share: &Share) -> Result<(), DiskError> {
    // Secrets are in it.
    replace(directory, "share.json", &checkpoint::encode(store, share))
}

/// Replaces a file of the data folder, for its owner's eyes only. Blocks on the disk: call it off the runtime.
///
/// # Errors
/// When the disk refuses; what was kept before stays.
pub fn replace(directory: &Path, name: &str, content: &[u8]) -> Result<(), DiskError> {
    let (path, beside) = (directory.join(name), directory.join(format!("{name}.new")));
    let io = |act, path: &Path| {
        let path = path.to_owned();
        move |source| DiskError::Io { act, path, source }
    };
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&beside).map_err(io("create", &beside))?;
    file.write_all(content).map_err(io("write", &beside))?;
    file.sync_all().map_err(io("sync", &beside))?;
    std::fs::rename(&beside, &path).map_err(io("replace", &path))?;
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(io("sync", directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_loaded_and_nothing_is_no_error() {
        let directory = tempfile::tempdir().unwrap();
        assert!(load(directory.path()).unwrap().is_none());
        save(directory.path(), "s1", &Share::default()).unwrap();
        assert_eq!(load(directory.path()).unwrap().unwrap().store, "s1");
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(place(directory.path())).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600, "secrets are for nobody else");
        std::fs::write(place(directory.path()), b"{").unwrap();
        assert!(matches!(load(directory.path()), Err(DiskError::Unusable { .. })));
    }
}
