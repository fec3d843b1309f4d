//! Directories of volumes that nobody wants any more: which they are, and where.
//!
//! In:       the share's `discard`, the node's directory of volumes.
//! Out:      the directory to remove (`discard/disk.rs`), or why it is not removed.
//! Never:    names anything but one directory just below the node's directory of volumes, by the name that the master gives to
//!           such volumes; whatever a volume says of itself.
//! Flow:     `discard/run.rs` asks; what came of it goes up in a report, until the master takes the volume out of the share.

mod disk;
mod run;

use std::path::{Path, PathBuf};

use crate::api::Object;
use crate::api::core::volume::Volume;

pub use run::run;

/// The directory of a volume that `bramble/local` made on this node.
///
/// # Errors
/// In words, when it is not one.
pub fn place(volumes_dir: &Path, volume: &Object) -> Result<PathBuf, String> {
    let text = volume.str_at(&["spec", "local", "path"]);
    let path = Path::new(text);
    if !Volume(volume).is_ours() {
        return Err("it was not made by bramble/local".to_owned());
    }
    // By text: what is joined is what is removed, and nothing in between is worked out.
    let place = Volume(volume).directory().map(|name| volumes_dir.join(name));
    place
        .filter(|place| place.as_os_str() == path.as_os_str())
        .ok_or_else(|| format!("{text} is not the place of this volume in this node's directory {}", volumes_dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn volume(path: &str, by: &str, claim: &str) -> Object {
        Object::from_value(
            json!({"metadata": {"name": "pvc-1", "uid": "0123456789", "annotations": {"pv.kubernetes.io/provisioned-by": by}},
            "spec": {"local": {"path": path}, "claimRef": {"namespace": "home", "name": claim, "uid": "u"}}}),
        )
        .unwrap()
    }

    #[test]
    fn only_the_place_of_this_very_volume_is_named() {
        let ours = "bramble/local";
        for (path, by, claim, good) in [
            ("/data/volumes/home_db_01234567", ours, "db", true),
            ("/data/volumes/home_db_01234567", "other", "db", false),
            ("/data/volumes/home_db_76543210", ours, "db", false),
            ("/data/volumes/../home_db_01234567", ours, "db", false),
            ("/data/volumes//home_db_01234567", ours, "db", false),
            ("/data/volumes/home_db_01234567/", ours, "db", false),
            ("/data/volumes/home_../.._01234567", ours, "../..", false),
            ("/data/volumes", ours, "db", false),
            ("/etc", ours, "db", false),
            ("", ours, "db", false),
        ] {
            let found = place(Path::new("/data/volumes"), &volume(path, by, claim));
            assert_eq!(found.is_ok(), good, "{path} {by}: {found:?}");
        }
    }
}
