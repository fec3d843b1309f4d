//! Hands: keeps the checkpoint. Written beside, synced, renamed over, directory synced: a power cut leaves the old or the new.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::checkpoint::{self, Checkpoint};
use super::past::{self, Past};
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
    /// What was written down of the pods is there and cannot be used.
    #[error("cannot use {path}")]
    Forgotten {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: past::PastError,
    },
}

/// What is known of the network.
const NET: &str = "net.json";
/// In memory, on every Linux with systemd.
pub const RUN: &str = "/run";
/// Beside the share.
const PAST: &str = "past.json";

/// The file in a node's data directory.
fn place(directory: &Path) -> PathBuf {
    directory.join("share.json")
}

/// The kept share; `None` when there is none yet.
///
/// # Errors
/// When it cannot be read or is damaged.
pub fn load(directory: &Path) -> Result<Option<Checkpoint>, DiskError> {
    load_from(place(directory))
}

/// The kept share of the network; `None` when there is none yet.
///
/// # Errors
/// When it cannot be read or is damaged.
pub fn load_net(directory: &Path) -> Result<Option<Checkpoint>, DiskError> {
    load_from(directory.join(NET))
}

/// Keeps the network's share. Blocks on the disk: call it off the runtime.
///
/// # Errors
/// When the disk refuses; what was kept before stays.
pub fn save_net(directory: &Path, store: &str, share: &Share) -> Result<(), DiskError> {
    replace(directory, NET, &checkpoint::encode(store, share))
}

/// Keeps the network's share for as long as the machine runs: one that cannot be kept is better none than an old one.
///
/// # Errors
/// When there is no room; then there is none.
pub fn save_net_in_memory(directory: &Path, store: &str, share: &Share) -> Result<(), DiskError> {
    save_net(directory, store, share).inspect_err(|_| {
        // Without a file there, or with one that cannot go, there is nothing more to do.
        let _ = std::fs::remove_file(directory.join(NET));
    })
}

/// Where an agent keeps what is for this boot only: in its `run_dir` if that is in memory, else below `run`, which is [`RUN`]. `None`:
/// there is no such place, or none that this agent may write in.
#[must_use]
pub fn in_memory(run_dir: &Path, run: &Path, id: &str) -> Option<PathBuf> {
    const TMPFS: rustix::fs::FsWord = 0x0102_1994;
    let is_memory = |path: &Path| rustix::fs::statfs(path).is_ok_and(|found| found.f_type == TMPFS);
    if is_memory(run_dir) {
        return Some(run_dir.to_owned());
    }
    let own = of_boot(run, id);
    let make = || std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&own);
    (is_memory(run) && make().is_ok()).then_some(own)
}

/// Removes what an agent kept below `run`, when its node is taken down for good.
pub fn forget_in_memory(run: &Path, id: &str) {
    if let Err(error) = std::fs::remove_dir_all(of_boot(run, id))
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::debug!(%error, "what was kept of the network in memory stays until the machine starts again");
    }
}

fn of_boot(run: &Path, id: &str) -> PathBuf {
    run.join("bramble").join(id)
}

fn load_from(path: PathBuf) -> Result<Option<Checkpoint>, DiskError> {
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

/// What was written down of the pods; nothing when there is nothing.
///
/// # Errors
/// When it cannot be read or is damaged.
pub fn load_past(directory: &Path) -> Result<Past, DiskError> {
    let path = directory.join(PAST);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Past::default()),
        Err(source) => return Err(DiskError::Io { act: "read", path, source }),
    };
    past::decode(&bytes).map_err(|source| DiskError::Forgotten { path, source })
}

/// Writes down what is to be remembered of the pods. Blocks on the disk: call it off the runtime.
///
/// # Errors
/// When the disk refuses; what was kept before stays.
pub fn save_past(directory: &Path, past: &Past) -> Result<(), DiskError> {
    replace(directory, PAST, &past::encode(past))
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
    fn what_was_written_down_is_read_again_and_rubbish_is_told() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(load_past(directory.path()).unwrap(), Past::default());
        let past = Past { pods: [(crate::api::Uid::from("u"), past::PodPast::default())].into() };
        save_past(directory.path(), &past).unwrap();
        assert_eq!(load_past(directory.path()).unwrap(), past);
        std::fs::write(directory.path().join(PAST), b"{").unwrap();
        assert!(matches!(load_past(directory.path()), Err(DiskError::Forgotten { .. })));
    }

    #[test]
    fn what_is_kept_in_memory_is_for_its_owner_alone_and_never_an_old_one() {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let nowhere = Path::new("/nowhere");
        assert_eq!(in_memory(directory.path(), nowhere, "0a1b2c3d").as_deref(), Some(directory.path()), "it is in memory itself");
        save_net_in_memory(directory.path(), "s1", &Share::default()).unwrap();
        assert_eq!(load_net(directory.path()).unwrap().unwrap().store, "s1");
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(directory.path().join(NET)).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        // Something stands where the new one is written beside.
        std::fs::create_dir(directory.path().join("net.json.new")).unwrap();
        assert!(save_net_in_memory(directory.path(), "s2", &Share::default()).is_err());
        assert!(load_net(directory.path()).unwrap().is_none());
        let own = in_memory(nowhere, directory.path(), "0a1b2c3d").unwrap();
        assert_eq!(own, directory.path().join("bramble/0a1b2c3d"));
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&own).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o700);
        forget_in_memory(directory.path(), "0a1b2c3d");
        assert!(!own.exists());
        assert_eq!(in_memory(nowhere, Path::new("/proc/self"), "0a1b2c3d"), None, "what is not in memory is left alone");
    }

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
