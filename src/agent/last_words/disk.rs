//! Hands: reads the end of such a file, and cuts one that is too long. Blocks on the disk: call it off the async runtime.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

use super::{FILE, MOST, TOLD};
use crate::agent::pods::dir;

/// The end of a file: at most [`TOLD`] bytes; nothing when there is none.
///
/// # Errors
/// When it cannot be read, or is no file: a pipe would never end.
pub fn end_of(path: &Path) -> io::Result<Vec<u8>> {
    match open(path, false) {
        Ok(mut file) => end(&mut file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Cuts the files of all pods that take more than [`MOST`]; how many. `cover` is given each folder before it is read and each
/// file before it is measured: who watches them from then on misses nothing that comes later.
///
/// # Errors
/// When the directory of all pods cannot be read.
pub fn bound(run_dir: &Path, mut cover: impl FnMut(&Path)) -> io::Result<usize> {
    let mut cut = 0;
    cover(run_dir);
    let pods = dir::pods(run_dir);
    cover(&pods);
    for pod in entries(&pods)? {
        cover(&pod);
        let containers = pod.join("containers");
        cover(&containers);
        for run in entries(&containers).unwrap_or_default() {
            cover(&run);
            let path = run.join(FILE);
            cover(&path);
            let large = path.symlink_metadata().is_ok_and(|facts| facts.is_file() && facts.blocks() * 512 > MOST);
            if large {
                match shorten(&path) {
                    Ok(()) => cut += 1,
                    Err(error) => tracing::warn!(path = %path.display(), %error, "last words grow and cannot be cut"),
                }
            }
        }
    }
    Ok(cut)
}

/// Who writes on at a place of its own leaves a hole before it, which takes no room.
fn shorten(path: &Path) -> io::Result<()> {
    let mut file = open(path, true)?;
    let words = end(&mut file)?;
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&words)
}

fn open(path: &Path, write: bool) -> io::Result<File> {
    // Neither a link is followed nor a pipe waited for.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    let file = OpenOptions::new().read(true).write(write).custom_flags(flags.cast_signed()).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a regular file")) }
}

fn end(file: &mut File) -> io::Result<Vec<u8>> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TOLD)))?;
    let mut end = Vec::new();
    file.take(TOLD).read_to_end(&mut end)?;
    Ok(end)
}

fn entries(folder: &Path) -> io::Result<Vec<std::path::PathBuf>> {
    match std::fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Uid;
    use std::process::Command;

    #[test]
    fn of_a_long_file_the_end_is_read_and_what_is_no_file_is_not_read_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        assert_eq!(end_of(&path("none")).unwrap(), b"");
        std::fs::write(path("short"), "abcdefg").unwrap();
        assert_eq!(end_of(&path("short")).unwrap(), b"abcdefg");
        std::fs::write(path("long"), [&[b'a'; 9000][..], &[b'z'; 4096]].concat()).unwrap();
        assert_eq!(end_of(&path("long")).unwrap(), [b'z'; 4096]);
        std::fs::create_dir(path("folder")).unwrap();
        std::os::unix::fs::symlink(path("short"), path("link")).unwrap();
        assert!(Command::new("mkfifo").arg(path("pipe")).status().unwrap().success());
        for name in ["folder", "link", "pipe"] {
            assert!(end_of(&path(name)).is_err(), "{name}");
        }
    }

    #[test]
    fn a_file_that_grows_is_cut_to_its_end_and_whoever_writes_on_makes_a_hole() {
        let run = tempfile::tempdir().unwrap();
        assert_eq!(bound(run.path(), |_| {}).unwrap(), 0);
        let folder = dir::container(run.path(), &Uid::from("u"), "app", 0);
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(FILE);
        let mut writer = File::create(&path).unwrap();
        writer.write_all(&[b'a'; 60_000]).unwrap();
        assert_eq!(bound(run.path(), |_| {}).unwrap(), 0, "not yet");
        writer.write_all(&vec![b'b'; 1 << 20]).unwrap();
        writer.write_all(b"last").unwrap();
        assert_eq!(bound(run.path(), |_| {}).unwrap(), 1);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), TOLD);
        assert!(end_of(&path).unwrap().ends_with(b"blast"));
        writer.write_all(b"on").unwrap();
        let facts = std::fs::metadata(&path).unwrap();
        assert!(facts.len() > 1 << 20 && facts.blocks() * 512 <= MOST, "{} {}", facts.len(), facts.blocks());
        assert!(end_of(&path).unwrap().ends_with(b"on"));
        assert_eq!(bound(run.path(), |_| {}).unwrap(), 0);
        // What is not ours to cut stays.
        std::fs::remove_file(&path).unwrap();
        let outside = run.path().join("outside");
        std::fs::write(&outside, vec![0; 1 << 20]).unwrap();
        std::os::unix::fs::symlink(&outside, &path).unwrap();
        assert_eq!((bound(run.path(), |_| {}).unwrap(), std::fs::metadata(&outside).unwrap().len()), (0, 1 << 20));
    }
}
