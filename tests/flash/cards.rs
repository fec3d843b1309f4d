//! The boot partition, written by us and read by others: mtools and fsck.fat. Whatever fails at whatever byte, the next flash mends it.

use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};

use bramble::flash::overlay::Disk;
use bramble::flash::partition;
use bramble::flash::plan::{self, FirstBoot, Plan};
use bramble::flash::settings::{Settings, Typed};
use bramble::flash::volume::{Volume, VolumeError};

use super::fixture::{self, Sort};

fn settings(name: &str) -> Settings {
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl anna".to_owned();
    Typed { name: name.to_owned(), user: Some("anna".to_owned()), keys: vec![key], ..Typed::default() }.check().unwrap()
}

fn boot(bytes: &[u8]) -> partition::Partition {
    let sector: [u8; 512] = bytes[..512].try_into().unwrap();
    partition::boot(&partition::read(&sector, bytes.len() as u64).unwrap()).unwrap()
}

/// One flash of a disk: what `bramble flash` does with it.
fn flash(disk: &mut impl Disk, of: &partition::Partition, settings: &Settings) -> Result<Plan, VolumeError> {
    let mut volume = Volume::open(disk, of)?;
    let contents = volume.contents()?;
    let image = plan::image(&contents).expect("it is recognised");
    let plan = plan::plan(image, &contents, settings, &fixture::program(2, 183, 60_000), "bramble-fixed").expect("it fits");
    volume.apply(&plan, &mut |_, _| ())?;
    Ok(plan)
}

/// A disk that takes so many bytes and no more, and says so; torn in the middle of a write.
struct Failing {
    disk: Cursor<Vec<u8>>,
    left: u64,
}

impl Read for Failing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.disk.read(buffer)
    }
}

impl Seek for Failing {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.disk.seek(to)
    }
}

impl Write for Failing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let take = bytes.len().min(usize::try_from(self.left).unwrap());
        if take == 0 && !bytes.is_empty() {
            return Err(io::Error::other("the card is gone"));
        }
        self.left -= take as u64;
        self.disk.write(&bytes[..take])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Disk for Failing {
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_is_written_is_read_by_mtools_and_fsck_finds_nothing_and_twice_is_as_once() {
    let folder = tempfile::tempdir().unwrap();
    for sort in [Sort::CloudInit, Sort::Script] {
        let path = fixture::image(folder.path(), "card.img", sort);
        let mut disk = Cursor::new(std::fs::read(&path).unwrap());
        let of = boot(disk.get_ref());
        let fresh = disk.get_ref().clone();
        let before = fixture::listing(&path);
        let first = flash(&mut disk, &of, &settings("shed")).unwrap();
        std::fs::write(&path, disk.get_ref()).unwrap();
        assert_eq!(fixture::faults(&path), "");
        for file in &first.files {
            assert!(fixture::get(&path, &file.path).as_ref() == Some(&file.bytes), "{}", file.path);
        }
        assert_eq!(fixture::text(&path, "cmdline.txt"), first.cmdline.unwrap());
        let listed = fixture::listing(&path);
        assert!(before.iter().all(|name| listed.contains(name)), "nothing is lost: {before:?} {listed:?}");
        // Outside of the partition not a byte changed.
        let end = usize::try_from(of.start + of.length).unwrap();
        let start = usize::try_from(of.start).unwrap();
        assert!(disk.get_ref()[..start] == fresh[..start] && disk.get_ref()[end..] == fresh[end..]);

        // Again, and as another node: the same files, none twice, none left over.
        flash(&mut disk, &of, &settings("shed")).unwrap();
        flash(&mut disk, &of, &settings("attic")).unwrap();
        flash(&mut disk, &of, &settings("shed")).unwrap();
        std::fs::write(&path, disk.get_ref()).unwrap();
        assert_eq!(fixture::faults(&path), "");
        assert_eq!(fixture::listing(&path), listed);
        for file in &first.files {
            assert!(fixture::get(&path, &file.path).as_ref() == Some(&file.bytes), "{}", file.path);
        }
    }
}

#[test]
fn a_write_that_fails_at_any_byte_leaves_an_image_that_boots_and_the_next_flash_mends_it() {
    let folder = tempfile::tempdir().unwrap();
    for sort in [Sort::CloudInit, Sort::Script] {
        let path = fixture::image(folder.path(), "card.img", sort);
        let fresh = std::fs::read(&path).unwrap();
        let of = boot(&fresh);
        let mut whole = Failing { disk: Cursor::new(fresh.clone()), left: 1 << 40 };
        let wanted = flash(&mut whole, &of, &settings("shed")).unwrap();
        let all = (1 << 40) - whole.left;
        // Also over a card that holds another node already.
        let mut other = Cursor::new(fresh.clone());
        flash(&mut other, &of, &settings("attic")).unwrap();
        let mut checked = 0;
        for (start, step) in [(&fresh, 4211), (other.get_ref(), 5003)] {
            // The last writes are the small ones that matter most: they are cut at every 211 bytes.
            let cuts = (0..all.saturating_sub(9000)).step_by(step).chain((all.saturating_sub(9000)..all).step_by(211));
            for left in cuts {
                let mut failing = Failing { disk: Cursor::new(start.clone()), left };
                match flash(&mut failing, &of, &settings("shed")) {
                    Err(VolumeError::Write { written, all, .. }) => assert!(written <= all),
                    Err(other) => panic!("{left}: {other}"),
                    // A card with a node on it needs fewer bytes for the same.
                    Ok(_) => continue,
                }
                let mut disk = failing.disk;
                let mut volume = Volume::open(&mut disk, &of).unwrap();
                let contents = volume.contents().unwrap();
                let image = plan::image(&contents).unwrap_or_else(|error| panic!("cut at {left}: {error}: {contents:?}"));
                assert_eq!(matches!(image.first_boot, FirstBoot::CloudInit), sort == Sort::CloudInit, "cut at {left}");
                let line = &contents.texts["cmdline.txt"];
                assert!(line.starts_with(fixture::LINE.trim_end()), "cut at {left}: {line}");
                assert_eq!(volume.read("kernel8.img").unwrap(), b"a kernel\n", "cut at {left}");

                flash(&mut disk, &of, &settings("shed")).unwrap_or_else(|error| panic!("cut at {left}: {error}"));
                let mut volume = Volume::open(&mut disk, &of).unwrap();
                for file in &wanted.files {
                    assert!(volume.read(&file.path).is_ok_and(|bytes| bytes == file.bytes), "cut at {left}: {}", file.path);
                }
                assert!(volume.read("cmdline.txt").unwrap() == volume.contents().unwrap().texts["cmdline.txt"].as_bytes());
                checked += 1;
                // fsck takes its time: it looks at some of the early ones, and at all of the late.
                if checked % 8 == 0 || left + 9000 > all {
                    std::fs::write(&path, disk.get_ref()).unwrap();
                    assert_eq!(fixture::faults(&path), "", "cut at {left} of {all}");
                    let mut whole_listing = fixture::listing(&path);
                    whole_listing.dedup();
                    assert!(!whole_listing.iter().any(|name| name.contains("bramble.new")), "cut at {left}: {whole_listing:?}");
                }
            }
        }
        println!("{checked} cuts of {all} bytes");
        assert!(checked > 50, "{checked}");
    }
}

#[test]
fn a_command_line_in_capital_letters_keeps_its_root_and_one_without_any_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for sort in [Sort::CloudInit, Sort::Script] {
        let path = fixture::image(folder.path(), "card.img", sort);
        fixture::tool("mdel", &["-i", &format!("{}@@{}", path.display(), fixture::START), "::cmdline.txt"]);
        fixture::put(&path, "CMDLINE.TXT", fixture::LINE.as_bytes());
        let mut disk = Cursor::new(std::fs::read(&path).unwrap());
        let of = boot(disk.get_ref());
        let names = Volume::open(&mut disk, &of).unwrap().contents().unwrap().names;
        assert!(names.contains("CMDLINE.TXT"), "as the partition has it: {names:?}");
        flash(&mut disk, &of, &settings("shed")).unwrap();
        std::fs::write(&path, disk.get_ref()).unwrap();
        let line = fixture::text(&path, "cmdline.txt");
        assert!(line.starts_with(fixture::LINE.trim_end()) && line.contains("cgroup_enable=memory"), "{line}");
        assert_eq!(fixture::faults(&path), "");

        fixture::put(&path, "CMDLINE.TXT", b"\n");
        let mut disk = Cursor::new(std::fs::read(&path).unwrap());
        let contents = Volume::open(&mut disk, &of).unwrap().contents().unwrap();
        assert!(plan::image(&contents).unwrap_err().to_string().contains("cmdline.txt is empty"));
    }
}

#[test]
fn space_that_a_writer_took_for_an_empty_file_is_nobody_else_s_after_mending() {
    let folder = tempfile::tempdir().unwrap();
    let path = fixture::image(folder.path(), "card.img", Sort::CloudInit);
    fixture::put(&path, "LEFT.TXT", &[7; 3000]);
    let mut bytes = std::fs::read(&path).unwrap();
    let entry = bytes.windows(11).position(|name| name == b"LEFT    TXT").unwrap();
    assert!(bytes[entry + 26] != 0, "it has a first cluster");
    // Its length was not written any more, and the partition is marked.
    bytes[entry + 28..entry + 32].fill(0);
    bytes[usize::try_from(fixture::START).unwrap() + 0x41] |= 1;
    let of = boot(&bytes);
    let mut disk = Cursor::new(bytes);
    let plan = flash(&mut disk, &of, &settings("shed")).unwrap();
    std::fs::write(&path, disk.get_ref()).unwrap();
    assert_eq!(fixture::faults(&path), "");
    assert_eq!(fixture::get(&path, "LEFT.TXT"), Some(Vec::new()));
    assert!(plan.files.iter().all(|file| fixture::get(&path, &file.path).as_ref() == Some(&file.bytes)));
}

#[test]
fn a_partition_that_is_too_full_is_refused_before_a_byte_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = fixture::image(folder.path(), "card.img", Sort::CloudInit);
    fixture::put(&path, "film.mkv", &vec![1; (fixture::BOOT_MIB as usize - 1) << 20]);
    let mut disk = Cursor::new(std::fs::read(&path).unwrap());
    let of = boot(disk.get_ref());
    let before = disk.get_ref().clone();
    let mut volume = Volume::open(&mut disk, &of).unwrap();
    let contents = volume.contents().unwrap();
    let image = plan::image(&contents).unwrap();
    let agent = fixture::program(2, 183, 9 << 20);
    let refused = plan::plan(image, &contents, &settings("shed"), &agent, "i").unwrap_err().to_string();
    assert!(refused.contains("has room for"), "{refused}");
    // And whoever does not ask is stopped by the file system, with nothing written either.
    let roomy = plan::Contents { free_bytes: None, ..contents };
    let plan = plan::plan(image, &roomy, &settings("shed"), &agent, "i").unwrap();
    assert!(matches!(volume.apply(&plan, &mut |_, _| ()), Err(VolumeError::Prepare(_))));
    assert!(disk.get_ref() == &before);
}

#[test]
fn no_command_line_is_continued_that_the_doctor_would_not_touch() {
    use bramble::agent::doctor::cmdline;
    let settings = settings("shed");
    let taken = |line: &str| {
        let names = ["config.txt", "kernel8.img", "issue.txt", "cmdline.txt"].map(str::to_owned).into();
        let mut contents = plan::Contents { names, ..plan::Contents::default() };
        contents.take("cmdline.txt", Some(line.as_bytes().to_vec()));
        let image = plan::image(&contents)?;
        plan::plan(image, &contents, &settings, &fixture::program(2, 183, 1000), "i").map(|plan| plan.cmdline.unwrap())
    };
    let added = taken("quiet").unwrap().split_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>();
    let words: Vec<&str> = added.iter().map(String::as_str).collect();
    let long: Vec<String> = (400..800).map(|length| "x".repeat(length)).collect();
    let odd = ["", "\n", "a\nb", "a\rb", "a \"b", "a \"b c\" d\n", "a\u{1}b", "é x\n", "a\tb\r\n"];
    let (mut took, mut refused) = (0, 0);
    for line in odd.into_iter().chain(long.iter().map(String::as_str)) {
        let by_doctor = cmdline::with_words(line, &words).map(|line| line.trim_end().to_owned());
        match (taken(line), by_doctor) {
            (Ok(ours), Ok(doctors)) => assert_eq!(ours.trim_end(), doctors),
            (Err(plan::Refusal::CommandLine(_)), Err(_)) => refused += 1,
            (ours, doctors) => panic!("{line:?}: {ours:?}, and the doctor: {doctors:?}"),
        }
        took += usize::from(taken(line).is_ok());
    }
    println!("{took} taken, {refused} refused");
    assert!(took > 100 && refused > 100);
}
