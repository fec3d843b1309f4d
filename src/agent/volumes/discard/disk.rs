//! Hands: removes a volume's directory.
//!
//! Never:    follows a symbolic link (`std::fs::remove_dir_all` opens each step without), or removes what is mounted there.

use std::io;
use std::path::Path;

/// Removes a directory with all that is in it; that it is gone is what was wanted. Blocks on the disk.
///
/// # Errors
/// When it is no directory, something is mounted in it, or the disk refuses.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    let found = match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !found.is_dir() {
        return Err(io::Error::other("it is no directory"));
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    // The fifth field; a space in it is written as \040.
    let wanted = path.to_string_lossy().replace(' ', "\\040");
    let mut points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    if points.any(|point| point == wanted || point.strip_prefix(wanted.as_str()).is_some_and(|rest| rest.starts_with('/'))) {
        return Err(io::Error::other("something is mounted there"));
    }
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_goes_and_what_its_links_lead_to_stays() {
        let (volumes, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(outside.path().join("kept"), b"").unwrap();
        let path = volumes.path().join("home_db_01234567");
        std::fs::create_dir_all(path.join("deep/er")).unwrap();
        std::os::unix::fs::symlink(outside.path(), path.join("deep/out")).unwrap();
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert!(!path.exists());
        std::os::unix::fs::symlink(outside.path(), &path).unwrap();
        assert_eq!(remove(&path).unwrap_err().to_string(), "it is no directory");
        assert!(outside.path().join("kept").exists());
    }
}
