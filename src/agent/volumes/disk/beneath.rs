//! Hands: finds a path below a directory in such a way that nothing in there can lead out of it.
//!
//! A container may have put links into its volume (`ln -s / here`) before another one asks for a part of it by `subPath`; what was
//! found is what Docker mounts, and Docker would follow any link on the host. The kernel resolves the path for us and refuses
//! links that leave the directory (openat2(2), RESOLVE_BENEATH); what comes back has no link in it.
//!
//! Not closed: a container that runs at that moment and exchanges a directory by a link between our look and Docker's mount.
//! Docker takes paths, not descriptors; from API 1.45 on it has `Subpath` for its own volumes.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Why there is no such path.
#[derive(Debug, thiserror::Error)]
pub enum BeneathError {
    /// A link in it leads out, or round and round.
    #[error("{sub_path} leads out of the volume")]
    Outside {
        /// Relative.
        sub_path: String,
    },
    /// There is nothing, and nothing may be made.
    #[error("{sub_path} does not exist in the volume")]
    Missing {
        /// Relative.
        sub_path: String,
    },
    /// The kernel is older than 5.6, or something forbids the call.
    #[error("this kernel cannot resolve a subPath safely (openat2 is missing; it needs Linux 5.6)")]
    Kernel,
    /// The disk refuses.
    #[error("{sub_path}: {source}")]
    Io {
        /// Relative.
        sub_path: String,
        /// Why.
        source: io::Error,
    },
}

/// Whether what is missing is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Make {
    /// Nothing is.
    Nothing,
    /// Directories with the mode of the volume's own. Source: the kubelet's makeMounts.
    Directories,
}

/// The real path of `sub_path` below `root`.
///
/// # Errors
/// When it leads out, or is not there and may not be made.
pub fn resolve(root: &Path, sub_path: &str, make: Make) -> Result<PathBuf, BeneathError> {
    let at = |errno: Errno, sub_path: &str| fault(errno, sub_path);
    let top = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| at(errno, "."))?;
    let found = match open(&top, sub_path) {
        Err(Errno::NOENT) if make == Make::Directories => {
            let mode = rustix::fs::fstat(&top).map_err(|errno| at(errno, "."))?.st_mode & 0o7777;
            make_below(&top, sub_path, mode)?;
            open(&top, sub_path)
        }
        found => found,
    };
    let found = found.map_err(|errno| at(errno, sub_path))?;
    std::fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd()))
        .map_err(|source| BeneathError::Io { sub_path: sub_path.to_owned(), source })
}

fn open(top: &OwnedFd, sub_path: &str) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(top, sub_path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // Something in there was renamed meanwhile.
            Err(Errno::AGAIN | Errno::INTR) => {}
            opened => return opened,
        }
    }
}

/// Makes the directories of `sub_path` that are missing.
fn make_below(top: &OwnedFd, sub_path: &str, mode: u32) -> Result<(), BeneathError> {
    let mut parent = open(top, ".").map_err(|errno| fault(errno, "."))?;
    let ends = sub_path.match_indices('/').map(|(at, _)| at).chain([sub_path.len()]);
    for end in ends {
        let Some(path) = sub_path.get(..end) else { continue };
        let name = path.rsplit('/').next().unwrap_or(path);
        match open(top, path) {
            Ok(there) => parent = there,
            Err(Errno::NOENT) => {
                match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o700)) {
                    // A link to nothing is there: it is no directory of ours.
                    Err(Errno::EXIST) if open(top, path).is_err() => {
                        return Err(BeneathError::Outside { sub_path: path.to_owned() });
                    }
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(fault(errno, path)),
                }
                parent = open(top, path).map_err(|errno| fault(errno, path))?;
                // By descriptor: the name may be another's by now.
                let by_descriptor = format!("/proc/self/fd/{}", parent.as_raw_fd());
                rustix::fs::chmod(by_descriptor, Mode::from_raw_mode(mode)).map_err(|errno| fault(errno, path))?;
            }
            Err(errno) => return Err(fault(errno, path)),
        }
    }
    Ok(())
}

fn fault(errno: Errno, sub_path: &str) -> BeneathError {
    let sub_path = sub_path.to_owned();
    match errno {
        Errno::XDEV | Errno::LOOP => BeneathError::Outside { sub_path },
        Errno::NOENT => BeneathError::Missing { sub_path },
        Errno::NOSYS => BeneathError::Kernel,
        errno => BeneathError::Io { sub_path, source: errno.into() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn what_is_inside_is_found_and_what_leads_out_is_refused() {
        let (volume, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let root = volume.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::write(root.join("a/file"), b"x").unwrap();
        symlink("a/b", root.join("inside")).unwrap();
        symlink("../a/../a/b", root.join("a/roundabout")).unwrap();
        symlink("/etc", root.join("absolute")).unwrap();
        symlink("../..", root.join("up")).unwrap();
        symlink(outside.path(), root.join("a/out")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        symlink("/proc/self/root", root.join("magic")).unwrap();
        symlink("nothing", root.join("dangling")).unwrap();
        symlink(outside.path().join("new"), root.join("dangling_out")).unwrap();
        for (sub, found) in
            [("a", "a"), ("a/b", "a/b"), ("a/file", "a/file"), ("inside", "a/b"), ("a/roundabout", "a/b"), (".", "")]
        {
            let real = resolve(&root, sub, Make::Nothing).unwrap();
            assert_eq!(real, if found.is_empty() { root.clone() } else { root.join(found) }, "{sub}");
        }
        for out in ["absolute", "absolute/passwd", "up", "up/etc", "a/out", "a/out/x", "loop", "magic", "dangling_out", ".."] {
            for make in [Make::Nothing, Make::Directories] {
                let told = resolve(&root, out, make);
                assert!(matches!(told, Err(BeneathError::Outside { .. })), "{out}: {told:?}");
            }
        }
        assert!(matches!(resolve(&root, "dangling", Make::Directories), Err(BeneathError::Outside { .. })));
        assert!(matches!(resolve(&root, "a/none", Make::Nothing), Err(BeneathError::Missing { .. })));
        assert!(matches!(resolve(&root, "a/file/x", Make::Directories), Err(BeneathError::Io { .. })));
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0, "nothing was made outside");
    }

    #[test]
    fn missing_directories_are_made_as_the_volume_is() {
        let volume = tempfile::tempdir().unwrap();
        let root = volume.path().canonicalize().unwrap();
        std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o2775)).unwrap();
        symlink("real", root.join("link")).unwrap();
        std::fs::create_dir(root.join("real")).unwrap();
        assert_eq!(resolve(&root, "x/y/z", Make::Directories).unwrap(), root.join("x/y/z"));
        assert_eq!(resolve(&root, "link/new", Make::Directories).unwrap(), root.join("real/new"));
        for made in ["x", "x/y", "x/y/z", "real/new"] {
            let mode = std::fs::metadata(root.join(made)).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o2775, "{made}");
        }
    }
}
