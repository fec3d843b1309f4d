//! How a content volume lies on disk, so that all of it changes at once. Pure.
//!
//! ```text
//!  <volume>/..2026_11_22_20_00_00.123456789/etc/app.conf   the files, in a directory that is never changed
//!  <volume>/..data   → ..2026_11_22_20_00_00.123456789     replaced by one rename(2)
//!  <volume>/etc      → ..data/etc                          what a container sees
//! ```
//!
//! Source:   upstream `volume/util/atomic_writer.go`. Programs that watch such volumes know this layout.

use std::collections::BTreeSet;

/// The link that is swapped.
pub const DATA: &str = "..data";
/// Renamed over [`DATA`].
pub const NEXT: &str = "..data_tmp";

/// Refuses paths that lead out of a volume, that our own names need, or that cannot all be there.
///
/// # Errors
/// What is wrong with the first such path.
pub fn check<'a>(paths: impl Iterator<Item = &'a String> + Clone) -> Result<(), String> {
    let mut folders = BTreeSet::new();
    for path in paths.clone() {
        let parts = || path.split('/');
        let wrong = if path.starts_with('/') {
            "must be a relative path"
        } else if parts().any(|part| part == "..") {
            "must not contain '..'"
        } else if path.starts_with("..") {
            "must not start with '..'"
        } else if parts().any(|part| part.is_empty() || part == "." || part.len() > 255) || path.len() > 4096 {
            "must be names of 1 to 255 bytes with a '/' between them"
        } else if path.contains('\0') {
            "must not contain a zero byte"
        } else {
            folders.extend(path.match_indices('/').filter_map(|(at, _)| path.get(..at)));
            continue;
        };
        return Err(format!("invalid path \"{}\": {wrong}", path.escape_debug()));
    }
    match paths.clone().find(|path| folders.contains(path.as_str())) {
        Some(path) => Err(format!("invalid path \"{path}\": it would be both a file and a directory")),
        None => Ok(()),
    }
}

/// The names that a container sees at the top of the volume.
pub fn visible<'a>(paths: impl Iterator<Item = &'a String>) -> BTreeSet<&'a str> {
    paths.filter_map(|path| path.split('/').next()).collect()
}

/// The directories that the files need, those above before those below.
pub fn folders<'a>(paths: impl Iterator<Item = &'a String>) -> BTreeSet<&'a str> {
    paths.flat_map(|path| path.match_indices('/').filter_map(|(at, _)| path.get(..at))).collect()
}

/// What of a volume's top is there and should not be: links to files that are gone, and all but the present one of our directories.
/// `there` are the names, `data` what [`DATA`] leads to.
#[must_use]
pub fn surplus(there: &[String], visible: &BTreeSet<&str>, data: &str) -> Vec<String> {
    let stale = |name: &&String| match name.strip_prefix("..") {
        Some(_) => name.as_str() != DATA && name.as_str() != data,
        None => !visible.contains(name.as_str()),
    };
    there.iter().filter(stale).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(list: &[&str]) -> Vec<String> {
        list.iter().map(|path| (*path).to_owned()).collect()
    }

    #[test]
    fn odd_names_are_fine_and_ways_out_are_not() {
        let odd = ["-", "...x/y".trim_start_matches('.'), ".hidden", "a..b", "a b", "ü", "_", &"k".repeat(255), "x/..y"];
        assert_eq!(check(paths(&odd).iter()), Ok(()));
        for wrong in ["/a", "..", "a/../b", "../a", "..data", "..2026", "", "a//b", "a/", "./a", "a/.", "a\0b", &"k".repeat(256)]
        {
            assert!(check(paths(&["fine", wrong]).iter()).is_err(), "{wrong:?}");
        }
        assert!(check(paths(&["a/b/c", "a/b"]).iter()).is_err());
        assert!(check(paths(&["a/b/c", "a/bc", "ab"]).iter()).is_ok());
    }

    #[test]
    fn tops_folders_and_what_is_left_over() {
        let list = paths(&["a", "d/e/f", "d/g"]);
        assert_eq!(visible(list.iter()), BTreeSet::from(["a", "d"]));
        assert_eq!(folders(list.iter()).into_iter().collect::<Vec<_>>(), ["d", "d/e"]);
        let there = paths(&["..2026_old", "..2026_new", "..data", "..data_tmp", "a", "gone"]);
        assert_eq!(surplus(&there, &visible(list.iter()), "..2026_new"), ["..2026_old", "..data_tmp", "gone"]);
    }
}
