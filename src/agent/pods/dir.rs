//! Where a pod's own files lie on the node: words, no disk.
//!
//! ```text
//!  <run_dir>/pods/<uid>/volumes/<volume>/…                  content of configMap, secret, projected, downwardAPI
//!  <run_dir>/pods/<uid>/image-volumes/<volume>              the id of the image that this volume is (`volumes/image.rs`)
//!  <run_dir>/pods/<uid>/resolv.conf                         whom the pod asks for names
//!  <run_dir>/pods/<uid>/containers/<container>_<attempt>/…  files of one run of a container
//! ```
//!
//! Never:    touches the disk (`agent/volumes/disk.rs`).
//!
//! Names come from outside. Whatever cannot stand as one component of a path is written as `%XX`, so that no name leads out
//! of its directory and no two names meet in one.

use std::path::{Path, PathBuf};

use crate::api::Uid;

/// The directory that holds the directories of all pods.
#[must_use]
pub fn pods(run_dir: &Path) -> PathBuf {
    run_dir.join("pods")
}

/// A pod's directory.
#[must_use]
pub fn pod(run_dir: &Path, uid: &Uid) -> PathBuf {
    pods(run_dir).join(component(&uid.0))
}

/// Whom the pod asks for names, as its containers see it.
#[must_use]
pub fn resolv_conf(run_dir: &Path, uid: &Uid) -> PathBuf {
    pod(run_dir, uid).join("resolv.conf")
}

/// The content of one of a pod's volumes.
#[must_use]
pub fn volume(run_dir: &Path, uid: &Uid, volume: &str) -> PathBuf {
    pod(run_dir, uid).join("volumes").join(component(volume))
}

/// The files that say which images a pod's image volumes are, by volume.
#[must_use]
pub fn image_volumes(run_dir: &Path, uid: &Uid) -> PathBuf {
    pod(run_dir, uid).join("image-volumes")
}

/// The file that says which image one of a pod's volumes is.
#[must_use]
pub fn image_volume(run_dir: &Path, uid: &Uid, volume: &str) -> PathBuf {
    image_volumes(run_dir, uid).join(component(volume))
}

/// The files of one run of a container. Attempts of one container, and containers whose names begin alike, never share it:
/// names have no `_`.
#[must_use]
pub fn container(run_dir: &Path, uid: &Uid, container: &str, attempt: u32) -> PathBuf {
    containers(run_dir, uid).join(format!("{}_{attempt}", component(container)))
}

/// The directory with the files of all runs of a pod's containers.
#[must_use]
pub fn containers(run_dir: &Path, uid: &Uid) -> PathBuf {
    pod(run_dir, uid).join("containers")
}

/// Whose run's files a directory in [`containers`] has, by its name; `None` for what we did not make.
#[must_use]
pub fn run_of(name: &str) -> Option<(String, u32)> {
    let (container, attempt) = name.rsplit_once('_')?;
    Some((name_of(container)?, attempt.parse().ok()?))
}

/// Whose directory it is, by its name in [`pods`]; `None` for what we did not make.
#[must_use]
pub fn uid_of(name: &str) -> Option<Uid> {
    name_of(name).map(Uid)
}

/// What was written as this component of a path.
fn name_of(name: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if byte != b'%' {
            bytes.push(byte);
            rest = tail;
            continue;
        }
        let (hex, tail) = tail.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?);
        rest = tail;
    }
    let text = String::from_utf8(bytes).ok()?;
    (component(&text) == name).then_some(text)
}

/// `name` as one component of a path: letters, digits, `-` and inner dots stay.
fn component(name: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(name.len());
    for (at, byte) in name.bytes().enumerate() {
        if byte.is_ascii_alphanumeric() || byte == b'-' || (byte == b'.' && at > 0) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    if out.is_empty() { "%".to_owned() } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_one_component_and_lead_back() {
        for (name, written) in [
            ("7c9e6679-7425-40de-944b-e07fc1f90ae7", "7c9e6679-7425-40de-944b-e07fc1f90ae7"),
            ("a.b", "a.b"),
            ("..", "%2E."),
            (".", "%2E"),
            ("../../etc", "%2E.%2F..%2Fetc"),
            ("a_b", "a%5Fb"),
            ("a%b", "a%25b"),
            ("ü\0", "%C3%BC%00"),
        ] {
            assert_eq!(component(name), written);
            assert_eq!(uid_of(written), Some(Uid(name.to_owned())));
        }
        for foreign in ["", "%", "%2", "%zz", "%41", ".hidden", "a/b", "..", "%FF"] {
            assert_eq!(uid_of(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn paths_are_as_the_header_says() {
        let (run, uid) = (Path::new("/run/bramble-agent"), Uid::from("u-1"));
        assert_eq!(volume(run, &uid, "conf"), Path::new("/run/bramble-agent/pods/u-1/volumes/conf"));
        assert_eq!(container(run, &uid, "app", 3), Path::new("/run/bramble-agent/pods/u-1/containers/app_3"));
        for (name, run) in
            [("app_3", Some(("app", 3))), ("a%5Fb_0", Some(("a_b", 0))), ("app", None), ("app_x", None), ("a b_1", None)]
        {
            assert_eq!(run_of(name), run.map(|(container, attempt)| (container.to_owned(), attempt)), "{name}");
        }
        assert_eq!(pod(run, &Uid::from("../../etc")).parent(), Some(pods(run).as_path()));
    }
}
