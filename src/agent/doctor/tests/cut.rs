//! A change of `cmdline.txt` that is stopped at each byte and between any two steps: by one fault of the disk, after which it works again,
//! and by a power cut, after which nothing does. What was not synced by then is lost.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::fixture::{ENABLED, Fixture, LINE};
use crate::agent::doctor::disk::Life;
use crate::agent::doctor::disk::replace::{Disk, Real};
use crate::agent::doctor::memory_cgroup;
use crate::agent::doctor::run::mend;

const FILE: &str = "boot/firmware/cmdline.txt";
const COPY: &str = "boot/firmware/cmdline.txt.before-bramble";

/// How it stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// One step fails.
    Fault,
    /// Everything fails from there on.
    Power,
}

/// A disk that stops at a step; each byte that is written is a step.
#[derive(Clone)]
struct Stopping {
    stop: Stop,
    left: Rc<Cell<Option<usize>>>,
    /// Files whose content a power cut takes.
    unsynced: Rc<RefCell<Vec<PathBuf>>>,
    /// Names that a power cut takes back, the oldest first.
    renamed: Rc<RefCell<Vec<Renamed>>>,
}

/// A name, and what had it before.
type Renamed = (PathBuf, Option<Vec<u8>>);

impl Stopping {
    fn after(stop: Stop, steps: usize) -> Self {
        Self { stop, left: Rc::new(Cell::new(Some(steps))), unsynced: Rc::default(), renamed: Rc::default() }
    }

    fn step(&self) -> io::Result<()> {
        match (self.left.get(), self.stop) {
            (None, Stop::Fault) => Ok(()),
            (None, Stop::Power) => Err(io::Error::other("no power")),
            (Some(0), _) => {
                self.left.set(None);
                Err(io::ErrorKind::StorageFull.into())
            }
            (Some(left), _) => {
                self.left.set(Some(left - 1));
                Ok(())
            }
        }
    }

    fn stopped(&self) -> bool {
        self.left.get().is_none()
    }

    /// What a power cut leaves. Of names that were not synced any may be lost, and the first one lost is the worst.
    fn lose(&self, name_is_lost: bool) {
        for path in self.unsynced.borrow().iter().filter(|path| path.exists()) {
            File::options().write(true).open(path).unwrap().set_len(0).unwrap();
        }
        if let Some((path, had)) = self.renamed.borrow().first().filter(|_| name_is_lost) {
            match had {
                Some(content) => std::fs::write(path, content).unwrap(),
                None => std::fs::remove_file(path).unwrap(),
            }
        }
    }
}

impl Disk for Stopping {
    fn create(&self, path: &Path) -> io::Result<File> {
        self.step()?;
        self.unsynced.borrow_mut().push(path.to_owned());
        Real.create(path)
    }

    fn write(&self, file: &mut File, path: &Path, content: &[u8]) -> io::Result<()> {
        for byte in content {
            self.step()?;
            Real.write(file, path, &[*byte])?;
        }
        Ok(())
    }

    fn sync(&self, file: &File, path: &Path) -> io::Result<()> {
        self.step()?;
        self.unsynced.borrow_mut().retain(|unsynced| unsynced != path);
        self.renamed.borrow_mut().retain(|(renamed, _)| renamed.parent() != Some(path));
        Real.sync(file, path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        self.renamed.borrow_mut().push((to.to_owned(), std::fs::read(to).ok()));
        for unsynced in self.unsynced.borrow_mut().iter_mut().filter(|unsynced| *unsynced == from) {
            *unsynced = to.to_owned();
        }
        Real.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        // What is not there costs nothing, and is no fault.
        if path.exists() {
            self.step()?;
        }
        Real.remove(path)
    }
}

/// A card whose kernel does not count memory, with its old line.
fn card() -> (Fixture, String) {
    let (card, old) = (Fixture::new(Life::Still), format!("{LINE}\n"));
    card.file(FILE, &old).file("boot/firmware/config.txt", "");
    (card, old)
}

/// Mends it on a disk that stops after so many steps; whether it was told as failed, and the disk.
fn mended(card: &Fixture, stop: Stop, steps: usize) -> (bool, Stopping) {
    let disk = Stopping::after(stop, steps);
    let visited = mend(&card.tree().on(Box::new(disk.clone())), &[memory_cgroup::ID.to_owned()]);
    let told = visited.into_iter().find(|visited| visited.finding.id == memory_cgroup::ID).unwrap();
    assert!(told.failed.is_some() || told.done.len() == 1, "{told:?}");
    (told.failed.is_some(), disk)
}

/// Once more on a sound disk: the line is there, and the copy is what it was.
#[track_caller]
fn is_mended_after_all(card: &Fixture, old: &str) {
    mend(&card.tree(), &[]);
    let content = card.content();
    let file = |path: &str| content.get(Path::new(path)).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    assert_eq!(file(FILE), Some(format!("{ENABLED}\n")));
    assert!(content.keys().all(|path| !path.to_str().unwrap().ends_with("bramble-new")), "{:?}", content.keys());
    let copies: Vec<_> = content.iter().filter(|(path, _)| path.to_str().unwrap().starts_with(COPY)).collect();
    assert!(!copies.is_empty() && copies.iter().all(|(_, bytes)| bytes.as_slice() == old.as_bytes()), "{copies:?}");
}

/// Every byte of the copy and of the new line, and around each: made, synced, renamed, its folder synced.
fn all_steps() -> usize {
    LINE.len() + 1 + ENABLED.len() + 1 + 2 * 4
}

#[test]
fn a_disk_that_fails_at_any_byte_or_step_leaves_all_as_it_was() {
    for steps in 0..all_steps() {
        let (card, old) = card();
        let before = card.content();
        let (failed, disk) = mended(&card, Stop::Fault, steps);
        assert!(failed && disk.stopped(), "after {steps} steps");
        assert_eq!(card.content(), before, "after {steps} steps");
        is_mended_after_all(&card, &old);
    }
    let (card, _) = card();
    let (failed, disk) = mended(&card, Stop::Fault, all_steps());
    assert!(!failed && !disk.stopped(), "these were all");
}

#[test]
fn a_power_cut_at_any_byte_or_step_leaves_the_old_line_or_the_new_one_and_the_copy_with_the_new_one() {
    let (mut old_ones, mut new_ones) = (0, 0);
    for (steps, name_is_lost) in (0..=all_steps()).flat_map(|steps| [(steps, false), (steps, true)]) {
        let (card, old) = card();
        let (failed, disk) = mended(&card, Stop::Power, steps);
        assert_eq!(failed, steps < all_steps());
        disk.lose(name_is_lost);
        let read = |path: &str| std::fs::read_to_string(card.folder.path().join(path)).ok();
        match read(FILE) {
            Some(line) if line == old => old_ones += 1,
            Some(line) if line == format!("{ENABLED}\n") => {
                new_ones += 1;
                assert_eq!(read(COPY).as_ref(), Some(&old), "after {steps} steps");
            }
            other => panic!("after {steps} steps: {other:?}"),
        }
        if read(FILE).is_some_and(|line| line == old) {
            is_mended_after_all(&card, &old);
        }
    }
    assert!(old_ones > all_steps() && new_ones >= 2, "both were seen: {old_ones} and {new_ones}");
}
