//! Hands: how much a directory holds, as `du` counts it.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Bytes on disk of a directory and all below it on the same file system. What goes while it is counted is not counted; links are
/// counted and not followed.
///
/// # Errors
/// When the directory itself cannot be read.
pub fn bytes(root: &Path) -> io::Result<u64> {
    // Source: stat(2), st_blocks.
    const BLOCK: u64 = 512;
    let top = root.symlink_metadata()?;
    let mut sum = top.blocks() * BLOCK;
    let mut folders = vec![std::fs::read_dir(root)?];
    while let Some(folder) = folders.last_mut() {
        let Some(entry) = folder.next() else {
            folders.pop();
            continue;
        };
        let Ok(there) = entry.as_ref().map_err(|_| ()).and_then(|entry| entry.metadata().map_err(|_| ())) else { continue };
        if there.dev() != top.dev() {
            continue;
        }
        sum += there.blocks() * BLOCK;
        if there.is_dir()
            && let Ok(below) = entry.and_then(|entry| std::fs::read_dir(entry.path()))
        {
            folders.push(below);
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_below_count_and_links_do_not_lead_away() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(outside.path().join("large"), vec![1; 1 << 20]).unwrap();
        std::fs::create_dir(root.path().join("a")).unwrap();
        std::fs::write(root.path().join("a/file"), vec![1; 300_000]).unwrap();
        std::os::unix::fs::symlink(outside.path(), root.path().join("a/link")).unwrap();
        let counted = bytes(root.path()).unwrap();
        assert!((300_000..400_000).contains(&counted), "{counted}");
        assert!(bytes(&root.path().join("none")).is_err());
    }
}
