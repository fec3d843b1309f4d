//! Archives, honest and hostile, unpacked into a folder.

use super::*;

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use tar::Builder;

/// An archive, entry by entry, as anybody could write it: names are not looked at.
#[derive(Default)]
struct Made(Vec<u8>);

impl Made {
    fn entry(mut self, kind: EntryType, name: &str, target: &str, mode: u32, seconds: u64, content: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(seconds);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn folder(self, name: &str) -> Self {
        self.entry(EntryType::Directory, name, "", 0o755, 1000, b"")
    }

    fn file(self, name: &str, content: &[u8]) -> Self {
        self.entry(EntryType::Regular, name, "", 0o644, 1000, content)
    }

    fn link(self, kind: EntryType, name: &str, target: &str) -> Self {
        self.entry(kind, name, target, 0o777, 1000, b"")
    }

    fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// Unpacks into a folder beside which there is something that must stay as it is.
fn unpacked(archive: &[u8], since: u64) -> (tempfile::TempDir, Result<Unpacked, UnpackError>) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("in")).unwrap();
    std::fs::create_dir(folder.path().join("out")).unwrap();
    std::fs::write(folder.path().join("out/kept"), b"kept").unwrap();
    let done = unpack(archive, &folder.path().join("in"), since, || true);
    let beside: Vec<_> = std::fs::read_dir(folder.path().join("out")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(beside, ["kept"], "nothing may be written outside");
    assert_eq!(std::fs::read(folder.path().join("out/kept")).unwrap(), b"kept");
    assert_eq!(std::fs::metadata(folder.path().join("out/kept")).unwrap().permissions().mode() & 0o777, 0o644);
    (folder, done)
}

#[test]
fn files_links_and_folders_come_as_they_are() {
    let archive = Made::default()
        .entry(EntryType::Directory, "./", "", 0o750, 1000, b"")
        .entry(EntryType::Directory, "shut/", "", 0o500, 2000, b"")
        .entry(EntryType::Regular, "./shut/tool", "", 0o4711, 3000, &[7; 70_000])
        .link(EntryType::Symlink, "away", "/etc/passwd")
        .link(EntryType::Link, "twin", "./shut/tool")
        .file("twice", b"one")
        .file("/twice", b"two")
        .end();
    let (folder, done) = unpacked(&archive, 1 << 40);
    assert_eq!(done.unwrap(), Unpacked { entries: 6, bytes: 70_006, left_out: 0 });
    let at = |name: &str| folder.path().join("in").join(name);
    let facts = |name: &str| {
        let there = at(name).symlink_metadata().unwrap();
        (there.permissions().mode() & 0o7777, there.mtime())
    };
    assert_eq!((facts(""), facts("shut"), facts("shut/tool")), ((0o750, 1000), (0o500, 2000), (0o4711, 3000)));
    assert_eq!(std::fs::read(at("shut/tool")).unwrap(), [7; 70_000]);
    assert_eq!(std::fs::read_link(at("away")).unwrap(), Path::new("/etc/passwd"));
    assert_eq!(at("twin").metadata().unwrap().ino(), at("shut/tool").metadata().unwrap().ino());
    assert_eq!(std::fs::read(at("twice")).unwrap(), b"two", "the last one counts");
}

#[test]
fn nothing_leads_out() {
    let symlink = |target: &str| Made::default().link(EntryType::Symlink, "door", target);
    for (what, archive) in [
        ("a name that leads up", Made::default().file("../out/new", b"x")),
        ("one in the middle", Made::default().folder("a").file("a/../../out/new", b"x")),
        ("a folder that leads up", Made::default().folder("../out/new")),
        ("through a link", symlink("../out").file("door/new", b"x")),
        ("through an absolute link", symlink("/tmp").file("door/bramble-must-not-be", b"x")),
        ("a folder in the place of a link", symlink("../out").folder("door").file("door/new", b"x")),
        ("a link through a link", symlink("../out").link(EntryType::Symlink, "door/new", "x")),
        ("a second name for a file outside", Made::default().link(EntryType::Link, "twin", "../out/kept")),
        ("the same through a link", symlink("../out").link(EntryType::Link, "twin", "door/kept")),
    ] {
        let (_folder, done) = unpacked(&archive.end(), 1 << 40);
        assert!(matches!(done, Err(UnpackError::Outside { .. })), "{what}: {done:?}");
    }
    assert!(!Path::new("/tmp/bramble-must-not-be").exists());
    // A file in the place of a link replaces the link, and not what it leads to; another name of a link is the link.
    let archive = symlink("../out/kept").link(EntryType::Link, "twin", "door").file("door", b"mine").end();
    let (folder, done) = unpacked(&archive, 1 << 40);
    assert!(done.is_ok(), "{done:?}");
    assert_eq!(std::fs::read(folder.path().join("in/door")).unwrap(), b"mine");
    assert_eq!(std::fs::read_link(folder.path().join("in/twin")).unwrap(), Path::new("../out/kept"));
}

#[test]
fn devices_are_left_out() {
    let mut archive = Made::default();
    for kind in [EntryType::Char, EntryType::Block, EntryType::Fifo] {
        archive = archive.link(kind, &format!("{}", kind.as_byte()), "");
    }
    let (folder, done) = unpacked(&archive.file("file", b"x").end(), 1 << 40);
    assert_eq!(done.unwrap(), Unpacked { entries: 1, bytes: 1, left_out: 3 });
    assert_eq!(std::fs::read_dir(folder.path().join("in")).unwrap().count(), 1);
}

#[test]
fn what_docker_puts_into_each_container_is_not_shown() {
    let empty = |made: Made, name: &str, seconds| made.entry(EntryType::Regular, name, "", 0o755, seconds, b"");
    let mut made = Made::default();
    for name in ["dev/", "dev/pts/", "dev/shm/", "etc/", "sys/"] {
        made = made.entry(EntryType::Directory, name, "", 0o755, 5000, b"");
    }
    // The image has this one itself.
    made = made.entry(EntryType::Directory, "proc/", "", 0o555, 1000, b"");
    for name in [".dockerenv", "dev/console", "etc/hostname", "etc/hosts", "etc/resolv.conf"] {
        made = empty(made, name, 5000);
    }
    made = made.entry(EntryType::Symlink, "etc/mtab", "/proc/mounts", 0o777, 5000, b"");
    let bare = made.0.clone();
    let (folder, done) = unpacked(&Made(bare).end(), 5000);
    assert!(done.is_ok(), "{done:?}");
    let left = |folder: &tempfile::TempDir, name: &str| folder.path().join("in").join(name).symlink_metadata().is_ok();
    let all: Vec<_> = std::fs::read_dir(folder.path().join("in")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(all, ["proc"]);
    let (folder, done) = unpacked(&made.file("etc/passwd", b"root").end(), 5000);
    assert!(done.is_ok() && left(&folder, "etc/passwd") && !left(&folder, "etc/hosts") && !left(&folder, "dev"));
    assert_eq!(folder.path().join("in/etc").metadata().unwrap().mtime(), 5000);
}

#[test]
fn a_stream_that_breaks_off_is_never_taken_for_a_whole_one() {
    let whole = Made::default().folder("a").file("a/one", &[1; 600]).file("two", &[2; 10]).end();
    for cut in [0, 512, 1024, 1500, 2048, 2560, 3072, 3584] {
        let (_folder, done) = unpacked(&whole[..cut], 1 << 40);
        assert!(matches!(done, Err(UnpackError::Damaged(_))), "{cut}: {done:?}");
    }
    assert!(unpacked(&whole, 1 << 40).1.is_ok());
    let mut spoilt = whole[..2048].to_vec();
    spoilt.extend_from_slice(br#"{"message":"the engine's disk is full"}"#);
    spoilt.resize(2560, b' ');
    assert!(matches!(unpacked(&spoilt, 1 << 40).1, Err(UnpackError::Damaged(_))));
}

#[test]
fn it_ends_when_there_is_no_room_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let mut builder = Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_size(40 << 20);
    header.set_mode(0o644);
    header.set_cksum();
    builder.append_data(&mut header, "large", io::repeat(1).take(40 << 20)).unwrap();
    let archive = builder.into_inner().unwrap();
    let mut asked = 0;
    let full = unpack(archive.as_slice(), folder.path(), 1 << 40, || {
        asked += 1;
        false
    });
    assert!(matches!(full, Err(UnpackError::Full)) && asked == 1, "{full:?}");
    let (left, long) = (folder.path().join("large").metadata().unwrap().len(), "a/".repeat(60) + "file");
    assert!(left < 40 << 20);
    // Long names have an entry of their own before them.
    let mut builder = Builder::new(Vec::new());
    for depth in 1..=60 {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Directory);
        header.set_mode(0o755);
        header.set_size(0);
        builder.append_data(&mut header, "a/".repeat(depth), io::empty()).unwrap();
    }
    let mut header = Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(4);
    builder.append_data(&mut header, &long, b"deep".as_slice()).unwrap();
    let (folder, done) = unpacked(&builder.into_inner().unwrap(), 1 << 40);
    assert_eq!(done.unwrap().entries, 61);
    assert_eq!(std::fs::read(folder.path().join("in").join(long)).unwrap(), b"deep");
}
