//! Image volumes on an engine that cannot mount images: how the files lie on the node, what belongs into them, and when they go.
//!
//! In:       names of an image's archive, what lies there, what pods and volumes use.
//! Out:      safe names; whether an entry is the engine's own; which folders go; whether there is room.
//! Never:    touches the disk (`disk/unpack.rs`, `disk/images.rs`).
//!
//! ```text
//!  <image_dir>/<id>/…           an image's files, complete; shared by all pods that use it
//!  <image_dir>/.new-<id>-…      being unpacked, or what a crash left of it
//!  <image_dir>/.gone-<id>-…     being removed
//!  <run_dir>/pods/<uid>/image-volumes/<volume>   which image that volume is: it stays the same for the pod's life
//! ```

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Before the name of what is not complete.
pub const NEW: &str = ".new-";
/// Before the name of what is no more.
pub const GONE: &str = ".gone-";
/// What has to stay free of the disk, in bytes.
pub const RESERVE: u64 = 64 << 20;

/// What Docker puts into every container before it starts. Source: moby, daemon/initlayer/setup_unix.go.
const FILES: &[&str] = &[".dockerenv", "dev/console", "etc/hostname", "etc/hosts", "etc/mtab", "etc/resolv.conf"];
/// The folders that it makes for that, each after those in it.
const FOLDERS: &[&str] = &["dev/pts", "dev/shm", "dev", "etc", "proc", "sys"];

/// An image's id as the name of its folder: without `sha256:`. `None`: it is no id.
#[must_use]
pub fn id(image: &str) -> Option<&str> {
    let id = image.rsplit(':').next()?;
    (id.len() >= 12 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(id)
}

/// Where an image's files lie once they are complete.
#[must_use]
pub fn folder(image_dir: &Path, id: &str) -> PathBuf {
    image_dir.join(id)
}

/// The name of a pod's volume of the engine that shows this path. It has `_`, so it is no volume of the pod's spec.
#[must_use]
pub fn volume(path: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, path.as_bytes());
    let hex: String = digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("image_{hex}")
}

/// An entry's name in the archive, part by part; none of it leads up. `None`: it would lead out of the tree.
#[must_use]
pub fn parts(name: &[u8]) -> Option<Vec<&[u8]>> {
    let mut parts = Vec::new();
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return None,
            _ if part.contains(&0) => return None,
            part => parts.push(part),
        }
    }
    // A name from the root is one from the tree's top: archives of containers have both.
    Some(parts)
}

/// Whether an empty file or a link is Docker's and not the image's: it has one of these names and is no older than the container.
#[must_use]
pub fn is_engines(name: &[&[u8]], size: u64, seconds: u64, since: u64) -> bool {
    size == 0 && seconds >= since && FILES.iter().any(|file| same(file, name))
}

/// The folders that go if they are empty in the end and no older than the container: in this order.
#[must_use]
pub fn engines_folders() -> &'static [&'static str] {
    FOLDERS
}

fn same(path: &str, name: &[&[u8]]) -> bool {
    path.split('/').map(str::as_bytes).eq(name.iter().copied())
}

/// Which of these names in `image_dir` go: what is not complete if nobody is about it, and what nobody uses.
#[must_use]
pub fn unused<'a>(there: &'a [String], used: &BTreeSet<String>, busy: bool) -> Vec<&'a str> {
    let goes = |name: &&str| match name.strip_prefix(NEW) {
        Some(_) => !busy,
        // Somebody removes it, or a crash came before it was done.
        None => name.starts_with(GONE) || (id(name) == Some(name) && !used.contains(*name)),
    };
    there.iter().map(String::as_str).filter(goes).collect()
}

/// Whether an image of this size has room, in words if not.
///
/// # Errors
/// When it would leave less than [`RESERVE`].
pub fn room(image_bytes: u64, free_bytes: u64) -> Result<(), String> {
    if image_bytes.saturating_add(RESERVE) <= free_bytes {
        return Ok(());
    }
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    Err(format!(
        "the node's disk is too full for the image's files: they need {} MiB, and {} MiB are free, of which {} stay free; make room on the node, or let the pod run on another one",
        mib(image_bytes),
        mib(free_bytes),
        mib(RESERVE)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_up_are_none_and_others_are_below_the_top() {
        for (name, wanted) in [
            ("a/b", Some(vec!["a", "b"])),
            ("./a//b/", Some(vec!["a", "b"])),
            ("/etc/passwd", Some(vec!["etc", "passwd"])),
            ("./", Some(vec![])),
            ("..", None),
            ("a/../../b", None),
            ("a\0b", None),
            ("a/..b", Some(vec!["a", "..b"])),
        ] {
            let wanted = wanted.map(|parts| parts.into_iter().map(str::as_bytes).collect::<Vec<_>>());
            assert_eq!(parts(name.as_bytes()), wanted, "{name}");
        }
    }

    #[test]
    fn only_dockers_own_empty_new_files_are_left_out() {
        let is = |name: &str, size, seconds| is_engines(&parts(name.as_bytes()).unwrap(), size, seconds, 100);
        assert!(is("etc/hosts", 0, 100) && is("./.dockerenv", 0, 101) && is("/dev/console", 0, 100));
        assert!(!is("etc/hosts", 9, 100), "it has content");
        assert!(!is("etc/hosts", 0, 99), "it was there before the container");
        assert!(!is("srv/etc/hosts", 0, 100) && !is("etc/passwd", 0, 100));
    }

    #[test]
    fn what_nobody_uses_goes_and_nothing_that_is_not_ours() {
        let (a, b) = ("a".repeat(64), "b".repeat(64));
        let there = [a.clone(), b.clone(), format!("{NEW}{a}-1"), format!("{GONE}{b}-2"), "lost+found".to_owned()];
        let used = BTreeSet::from([a.clone()]);
        assert_eq!(unused(&there, &used, true), [b.as_str(), &there[3]]);
        assert_eq!(unused(&there, &used, false), [b.as_str(), &there[2], &there[3]]);
        assert_eq!(unused(&there, &BTreeSet::new(), true).len(), 3);
    }

    #[test]
    fn ids_and_volumes_have_names_of_their_own() {
        let hex = "0123456789ab".repeat(5);
        assert_eq!(id(&format!("sha256:{hex}")), Some(hex.as_str()));
        assert_eq!(id(&hex), Some(hex.as_str()));
        for odd in ["", "sha256:", "../../etc/passwd", ".new-0123456789ab", "nginx:latest"] {
            assert_eq!(id(odd), None, "{odd}");
        }
        assert_eq!(volume("/a"), volume("/a"));
        assert_ne!(volume("/a"), volume("/a/b"));
        assert!(volume("/a").starts_with("image_") && volume("/a").len() == 22);
    }

    #[test]
    fn a_full_disk_is_told_with_figures() {
        assert_eq!(room(1 << 20, 65 << 20), Ok(()));
        let words = room(100 << 20, 99 << 20).unwrap_err();
        assert!(words.contains("need 100 MiB") && words.contains("99 MiB are free"), "{words}");
        assert!(room(u64::MAX, 1 << 40).is_err());
    }
}
