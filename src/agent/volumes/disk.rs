//! Hands: the pods' directories. All of it blocks on the disk: call it off the async runtime.
//!
//! In:       the agent's `run_dir`, uids; paths come from `pods/dir.rs`.
//! Out:      directories that only we and root can enter; which there are.
//! Never:    follows a symbolic link out of a directory when it removes it (`std::fs::remove_dir_all` does not).

pub mod beneath;
pub mod content;
pub mod group;
pub mod host_path;
pub mod images;
pub mod unpack;
pub mod usage;

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use crate::agent::pods::dir;
use crate::api::Uid;

/// Makes a directory and those above it, for us alone.
///
/// # Errors
/// When the disk refuses.
pub fn make(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// The pods that have a directory.
///
/// # Errors
/// When the disk refuses; that there is nothing yet is no error.
pub fn pods(run_dir: &Path) -> io::Result<Vec<Uid>> {
    let entries = match std::fs::read_dir(dir::pods(run_dir)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut uids = Vec::new();
    for entry in entries {
        uids.extend(entry?.file_name().to_str().and_then(dir::uid_of));
    }
    Ok(uids)
}

/// Whether a pod has a directory.
#[must_use]
pub fn has_pod(run_dir: &Path, uid: &Uid) -> bool {
    dir::pod(run_dir, uid).symlink_metadata().is_ok()
}

/// The highest attempt of each of a pod's containers that has files here; nothing where nothing can be read.
#[must_use]
pub fn runs(run_dir: &Path, uid: &Uid) -> BTreeMap<String, u32> {
    let mut runs = BTreeMap::new();
    for entry in std::fs::read_dir(dir::containers(run_dir, uid)).into_iter().flatten().flatten() {
        if let Some((container, attempt)) = entry.file_name().to_str().and_then(dir::run_of) {
            let highest = runs.entry(container).or_default();
            *highest = attempt.max(*highest);
        }
    }
    runs
}

/// Removes a pod's directory with all that is in it; that it is gone is what was wanted.
///
/// # Errors
/// When the disk refuses.
pub fn remove_pod(run_dir: &Path, uid: &Uid) -> io::Result<()> {
    gone(std::fs::remove_dir_all(dir::pod(run_dir, uid)))
}

/// Removes the files of one run of a container.
///
/// # Errors
/// When the disk refuses.
pub fn remove_container(run_dir: &Path, uid: &Uid, container: &str, attempt: u32) -> io::Result<()> {
    gone(std::fs::remove_dir_all(dir::container(run_dir, uid, container, attempt)))
}

fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_pods_directory_comes_and_goes_and_links_in_it_are_not_followed() {
        let (run, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(outside.path().join("kept"), b"").unwrap();
        let uid = Uid::from("u-1");
        assert_eq!(pods(run.path()).unwrap(), []);
        let container = dir::container(run.path(), &uid, "app", 0);
        make(&container).unwrap();
        std::os::unix::fs::symlink(outside.path(), container.join("out")).unwrap();
        assert_eq!(pods(run.path()).unwrap(), std::slice::from_ref(&uid));
        assert_eq!(std::fs::metadata(dir::pod(run.path(), &uid)).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(runs(run.path(), &uid), [("app".to_owned(), 0)].into());
        make(&dir::container(run.path(), &uid, "app", 10)).unwrap();
        make(&dir::container(run.path(), &uid, "app", 9)).unwrap();
        assert_eq!(runs(run.path(), &uid), [("app".to_owned(), 10)].into());
        assert_eq!(runs(run.path(), &Uid::from("u-2")), [].into());
        remove_container(run.path(), &uid, "app", 0).unwrap();
        assert!(!container.exists() && has_pod(run.path(), &uid));
        remove_pod(run.path(), &uid).unwrap();
        remove_pod(run.path(), &uid).unwrap();
        assert!(!has_pod(run.path(), &uid) && outside.path().join("kept").exists());
    }
}
