//! Hands: gives what a persistent volume holds to the pod's `fsGroup`.
//!
//! Source:   upstream `volume.SetVolumeOwnership` with `fsGroupChangePolicy: OnRootMismatch`: a volume whose root is right is not
//!           walked, since a walk over a card takes minutes. The root comes last, so that a walk that broke off is done again.
//! Never:    follows a link: a container may be at work in there.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags};

/// Bits for a directory: the group enters, writes, and owns what is made in there.
const FOLDER: u32 = 0o2770;
/// Bits for a file.
const FILE: u32 = 0o660;

/// Gives a directory and all below it to a group, unless its root is the group's already; `true`: it was walked.
///
/// # Errors
/// When the disk refuses; it is tried again whole.
pub fn give(root: &Path, group: u32) -> io::Result<bool> {
    let top = rustix::fs::openat(CWD, root, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let there = rustix::fs::fstat(&top)?;
    if there.st_gid == group && there.st_mode & FOLDER == FOLDER {
        return Ok(false);
    }
    // One descriptor a level, not one a directory: there may be thousands.
    let mut levels = vec![(Dir::read_from(&top)?, top)];
    while let Some((entries, folder)) = levels.last_mut() {
        let Some(entry) = entries.next() else {
            own(folder, group, FOLDER)?;
            levels.pop();
            continue;
        };
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let found = match rustix::fs::openat(&*folder, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
            // Gone meanwhile.
            Err(rustix::io::Errno::NOENT) => continue,
            found => found?,
        };
        match FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode) {
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let below = rustix::fs::openat(&found, c".", flags, Mode::empty())?;
                levels.push((Dir::read_from(&below)?, below));
            }
            FileType::RegularFile => own(&found, group, FILE)?,
            _ => rustix::fs::chownat(&found, c"", None, Some(Gid::from_raw(group)), AtFlags::EMPTY_PATH)?,
        }
    }
    Ok(true)
}

fn own(file: &OwnedFd, group: u32, bits: u32) -> io::Result<()> {
    rustix::fs::chownat(file, c"", None, Some(Gid::from_raw(group)), AtFlags::EMPTY_PATH)?;
    // After the owner, whose change takes bits away; by descriptor: the name may be another's by now.
    let mode = rustix::fs::fstat(file)?.st_mode & 0o7777 | bits;
    Ok(rustix::fs::chmod(format!("/proc/self/fd/{}", file.as_raw_fd()), Mode::from_raw_mode(mode))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    #[test]
    fn all_below_is_given_once_and_nothing_that_a_link_leads_to() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir_all(root.path().join("a/b")).unwrap();
        for file in [root.path().join("a/b/file"), outside.path().join("file")] {
            std::fs::write(&file, b"").unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        }
        for number in 0..1500 {
            std::fs::create_dir(root.path().join(format!("a/{number}"))).unwrap();
        }
        symlink(outside.path(), root.path().join("a/out")).unwrap();
        symlink(outside.path().join("file"), root.path().join("a/b/out")).unwrap();
        let group = if rustix::process::geteuid().is_root() { 2345 } else { rustix::process::getgid().as_raw() };
        assert!(give(root.path(), group).unwrap());
        let is = |path: &str| {
            let there = std::fs::symlink_metadata(root.path().join(path)).unwrap();
            (there.gid(), there.mode() & 0o7777)
        };
        for (path, bits) in [("", FOLDER), ("a", FOLDER), ("a/b", FOLDER), ("a/b/file", FILE)] {
            let (owner, mode) = is(path);
            assert!(owner == group && mode & bits == bits, "{path}: {owner} {mode:o}");
        }
        assert_eq!((is("a/out").0, is("a/b/out").0), (group, group));
        let kept = std::fs::metadata(outside.path().join("file")).unwrap();
        assert!(kept.mode() & 0o7777 == 0o640 && (kept.gid() != 2345), "a link is not followed");
        assert!(!give(root.path(), group).unwrap(), "what is right is not walked");
    }
}
