//! Hands: writes the content of a volume so that who reads it sees all of the old or all of the new.
//!
//! In:       a volume's directory, all the files that are to be in it.
//! Out:      the layout of `layout.rs`; nothing is written when it is so already.
//! Source:   upstream `AtomicWriter.Write`. We differ in that modes and owners are compared too, and that what an agent left that
//!           died half way is cleared.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use crate::agent::runtime::{ContentPlan, Point};
use crate::agent::volumes::layout;
use crate::api::time::rfc3339;
use crate::clock::{Clock as _, SystemClock};
use crate::rng::Rng;

/// Directories in a volume. Its root is as upstream's; nobody gets to it but through a read-only mount.
const FOLDER: u32 = 0o755;
const ROOT: u32 = 0o777;
/// What fsGroup adds to a directory. Source: upstream `SetVolumeOwnership`.
const GROUP_ENTERS: u32 = 0o2550;

/// Makes `volume` hold just the planned files; `false`: it did already.
///
/// # Errors
/// When the disk refuses; what was there stays then.
pub fn write(volume: &Path, plan: &ContentPlan) -> io::Result<bool> {
    if let Some(parent) = volume.parent() {
        super::make(parent)?;
    }
    folder(volume, ROOT, plan)?;
    let visible = layout::visible(plan.files.keys());
    let present = data(volume)?;
    if let Some(present) = &present
        && holds(&volume.join(present), plan)?
    {
        tidy(volume, &visible, present, plan)?;
        return Ok(false);
    }
    let name = fresh_name();
    let fresh = volume.join(&name);
    let written = fill(&fresh, plan).and_then(|()| {
        let next = volume.join(layout::NEXT);
        match std::fs::remove_file(&next) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        symlink(&name, &next)?;
        std::fs::rename(&next, volume.join(layout::DATA))
    });
    if let Err(error) = written {
        // Half of it is of no use; the error that led here is the one to tell.
        let _ = std::fs::remove_dir_all(&fresh);
        return Err(error);
    }
    tidy(volume, &visible, &name, plan)?;
    Ok(true)
}

/// What `..data` leads to.
fn data(volume: &Path) -> io::Result<Option<String>> {
    match std::fs::read_link(volume.join(layout::DATA)) {
        Ok(target) => Ok(target.to_str().map(str::to_owned)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// `..2026_11_22_20_00_00.1234567890`
fn fresh_name() -> String {
    let now = rfc3339(SystemClock::start().now().wall);
    let stamp: String = now.chars().take(19).map(|c| if c.is_ascii_digit() { c } else { '_' }).collect();
    format!("..{stamp}.{}", Rng::from_os("volume").bits() % 10_000_000_000)
}

fn fill(folder_path: &Path, plan: &ContentPlan) -> io::Result<()> {
    folder(folder_path, FOLDER, plan)?;
    for below in layout::folders(plan.files.keys()) {
        folder(&folder_path.join(below), FOLDER, plan)?;
    }
    for (path, wanted) in &plan.files {
        let mut options = File::options();
        // Nobody may read a secret before its mode is set.
        let mut file = options.write(true).create_new(true).mode(0o600).open(folder_path.join(path))?;
        file.write_all(&wanted.content)?;
        own(&file, plan)?;
        // After the owner: a change of owner takes bits away.
        file.set_permissions(Permissions::from_mode(wanted.mode))?;
    }
    Ok(())
}

/// Makes a directory, and its mode whatever our umask is.
fn folder(path: &Path, mode: u32, plan: &ContentPlan) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let opened = File::open(path)?;
    let mode = if plan.group.is_some() { mode | GROUP_ENTERS } else { mode };
    let there = opened.metadata()?;
    if there.mode() & 0o7777 != mode || (privileged() && plan.group.is_some_and(|group| there.gid() != group)) {
        own(&opened, plan)?;
        opened.set_permissions(Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// Gives the volume's group to a file. An agent that is not root cannot; then the mode has to do.
fn own(file: &File, plan: &ContentPlan) -> io::Result<()> {
    let Some(group) = plan.group.filter(|_| privileged()) else { return Ok(()) };
    rustix::fs::fchown(file, None, Some(rustix::fs::Gid::from_raw(group)))?;
    Ok(())
}

fn privileged() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether a directory holds just the planned files, as they are planned.
fn holds(folder_path: &Path, plan: &ContentPlan) -> io::Result<bool> {
    let mut left: BTreeSet<&str> = plan.files.keys().map(String::as_str).collect();
    let mut folders = vec![String::new()];
    while let Some(below) = folders.pop() {
        let entries = match std::fs::read_dir(folder_path.join(&below)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { return Ok(false) };
            let path = if below.is_empty() { name } else { format!("{below}/{name}") };
            let there = entry.metadata()?;
            if there.is_dir() {
                folders.push(path);
                continue;
            }
            let Some(wanted) = plan.files.get(&path).filter(|_| left.remove(path.as_str())) else { return Ok(false) };
            let same_owner = !privileged() || plan.group.is_none_or(|group| there.gid() == group);
            let same = there.is_file()
                && there.len() == wanted.content.len() as u64
                && there.mode() & 0o7777 == wanted.mode
                && same_owner;
            if !same || std::fs::read(entry.path())? != wanted.content {
                return Ok(false);
            }
        }
    }
    Ok(left.is_empty())
}

/// Links for what a container sees, and nothing that is old.
fn tidy(volume: &Path, visible: &BTreeSet<&str>, data: &str, plan: &ContentPlan) -> io::Result<()> {
    for name in visible {
        match symlink(format!("{}/{name}", layout::DATA), volume.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    let mut there = Vec::new();
    for entry in std::fs::read_dir(volume)? {
        there.extend(entry?.file_name().into_string());
    }
    // Places of other mounts lie beside the links, where no update touches them.
    let kept: BTreeSet<&str> = visible.iter().copied().chain(layout::visible(plan.points.keys())).collect();
    for name in layout::surplus(&there, &kept, data) {
        let path = volume.join(name);
        if path.symlink_metadata()?.is_dir() {
            std::fs::remove_dir_all(path)?;
        } else {
            std::fs::remove_file(path)?;
        }
    }
    plan.points.iter().try_for_each(|(place, point)| self::point(volume, visible, place, *point, plan))
}

/// Makes the place of another mount.
fn point(volume: &Path, visible: &BTreeSet<&str>, place: &str, point: Point, plan: &ContentPlan) -> io::Result<()> {
    let top = place.split('/').next().unwrap_or_default();
    let path = volume.join(top);
    // The link of a key that is gone.
    if !visible.contains(top) && path.symlink_metadata().is_ok_and(|there| there.is_symlink()) {
        std::fs::remove_file(path)?;
    }
    // A directory of the volume's own is reached by its link, and made anew with each update.
    for (at, _) in place.match_indices('/') {
        let Some(above) = place.get(..at) else { continue };
        if volume.join(above).symlink_metadata().is_err() {
            folder(&volume.join(above), FOLDER, plan)?;
        }
    }
    let path = volume.join(place);
    if path.symlink_metadata().is_ok() {
        return Ok(());
    }
    match point {
        Point::Folder => folder(&path, FOLDER, plan),
        // In a directory of the volume's own a file would be taken for one that should not be there.
        Point::File if visible.contains(top) => Ok(()),
        Point::File => File::options().write(true).create_new(true).mode(0o644).open(path).map(drop),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::agent::runtime::ContentFile;

    fn plan(files: &[(&str, u32, &str)]) -> ContentPlan {
        let files = files
            .iter()
            .map(|(path, mode, content)| ((*path).to_owned(), ContentFile { mode: *mode, content: content.as_bytes().to_vec() }))
            .collect();
        ContentPlan { volume: "v".into(), files, group: None, points: BTreeMap::new() }
    }

    fn names(volume: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            std::fs::read_dir(volume).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn content_is_swapped_whole_and_not_written_twice() {
        let run = tempfile::tempdir().unwrap();
        let volume = run.path().join("pods/u/volumes/v");
        let first = plan(&[("a", 0o644, "1"), ("d/e", 0o400, "2")]);
        assert!(write(&volume, &first).unwrap());
        let data = data(&volume).unwrap().unwrap();
        assert!(data.starts_with("..20") && !write(&volume, &first).unwrap());
        assert_eq!(super::data(&volume).unwrap().unwrap(), data, "the same content is not written");
        assert_eq!(names(&volume), [data.as_str(), "..data", "a", "d"]);
        assert_eq!(std::fs::read_to_string(volume.join("d/e")).unwrap(), "2");
        assert_eq!(std::fs::metadata(volume.join("d/e")).unwrap().mode() & 0o7777, 0o400);
        assert_eq!(std::fs::metadata(volume.join("d")).unwrap().mode() & 0o7777, 0o755);

        // What an agent that died half way left is cleared with the next write.
        std::fs::create_dir(volume.join("..2020_01_01_00_00_00.1")).unwrap();
        symlink("..2020_01_01_00_00_00.1", volume.join(layout::NEXT)).unwrap();
        assert!(write(&volume, &plan(&[("a", 0o600, "1")])).unwrap(), "another mode is another content");
        let names = names(&volume);
        assert!(names.len() == 3 && names[0] != data && names[1..] == ["..data", "a"], "{names:?}");
        assert!(write(&volume, &plan(&[])).unwrap());
        assert!(!volume.join("a").exists());
    }

    #[test]
    fn places_of_other_mounts_outlive_updates_and_are_never_in_the_way_of_a_key() {
        let run = tempfile::tempdir().unwrap();
        let volume = run.path().join("v");
        let places = [("sec".to_owned(), Point::Folder), ("w/x".to_owned(), Point::Folder), ("one".to_owned(), Point::File)];
        let with = |files: &[(&str, u32, &str)]| ContentPlan { points: places.clone().into(), ..plan(files) };
        assert!(write(&volume, &with(&[("a", 0o644, "1")])).unwrap() && !write(&volume, &with(&[("a", 0o644, "1")])).unwrap());
        std::fs::write(volume.join("w/x/mark"), b"").unwrap();
        assert!(write(&volume, &with(&[("a", 0o644, "2")])).unwrap());
        assert!(volume.join("w/x/mark").exists() && volume.join("sec").is_dir() && volume.join("one").is_file());
        assert_eq!(std::fs::metadata(volume.join("sec")).unwrap().mode() & 0o7777, 0o755);
        assert!(write(&volume, &plan(&[("a", 0o644, "2"), ("sec", 0o644, "key")])).unwrap());
        assert!(!volume.join("w").exists() && !volume.join("one").exists(), "what nobody mounts any more is gone");
        // A directory of keys takes the place of a mount too.
        let below = ContentPlan { points: [("d/w".to_owned(), Point::Folder)].into(), ..plan(&[("d/e", 0o644, "1")]) };
        assert!(write(&volume, &below).unwrap() && !write(&volume, &below).unwrap());
        assert!(volume.join("d/w").is_dir() && volume.join("d/e").is_file());
        let key = ContentPlan { points: [("a".to_owned(), Point::Folder)].into(), ..plan(&[("a", 0o644, "key")]) };
        write(&volume, &key).unwrap();
        assert_eq!(std::fs::read_to_string(volume.join("a")).unwrap(), "key");
    }

    #[test]
    fn a_thousand_keys_and_a_mebibyte_and_odd_names() {
        let run = tempfile::tempdir().unwrap();
        let volume = run.path().join("v");
        let mut wanted = plan(&[("..._", 0, "")]);
        wanted.files.clear();
        for index in 0..1000 {
            wanted.files.insert(format!("-k.{index}_"), ContentFile { mode: 0o644, content: vec![b'x'; 1048] });
        }
        wanted.files.insert(".hidden".into(), ContentFile { mode: 0o644, content: vec![0, 255] });
        assert!(write(&volume, &wanted).unwrap() && !write(&volume, &wanted).unwrap());
        assert_eq!(std::fs::read(volume.join(".hidden")).unwrap(), [0, 255]);
        assert_eq!(names(&volume).len(), 1003);
    }

    #[test]
    fn a_reader_never_sees_a_mix() {
        let run = tempfile::tempdir().unwrap();
        let volume = run.path().join("v");
        write(&volume, &plan(&[("a", 0o644, "0"), ("b", 0o644, "0")])).unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 1..200 {
                    let text = round.to_string();
                    write(&volume, &plan(&[("a", 0o644, &text), ("b", 0o644, &text)])).unwrap();
                }
                done.store(true, std::sync::atomic::Ordering::SeqCst);
            });
            while !done.load(std::sync::atomic::Ordering::SeqCst) {
                // As a program does that wants both of one version: it opens the directory once.
                let Ok(folder) = std::fs::canonicalize(volume.join(layout::DATA)) else { continue };
                let read = |name: &str| std::fs::read_to_string(folder.join(name));
                if let (Ok(a), Ok(b)) = (read("a"), read("b")) {
                    assert_eq!(a, b);
                }
                assert!(volume.join("a").symlink_metadata().is_ok(), "a name that stays is always there");
            }
        });
    }
}
