//! The boot partition as a file system: what lies in it, and putting files there in one step.
//!
//! In:       a disk and a partition of it; a [`Plan`].
//! Out:      its [`Contents`]; the plan carried out.
//! Never:    leaves a partition that does not boot. See below.
//!
//! What a power cut, a full disk or a card pulled out may do here decides the order. The partition is marked as being written (so that the first
//! boot, or the next flash, checks it), then three groups go out, each synced before the next:
//!
//! 1. all files into the new folder `bramble.new`: space is taken in the table first, and nothing that was there is touched;
//! 2. the files take their places: only names change, then the space of what they replaced is given back in the table;
//! 3. the kernel's command line, in its place, and only ever with more at its end: whoever reads it with its old length reads the old line.
//!
//! Rejected: writing each file where it belongs (cut short, a Pi starts from half a file), and a copy of the whole partition (half a GiB to a card).

use std::collections::BTreeSet;
use std::io::{self, Read as _, Seek as _, Write as _};

use fatfs::{Dir, FileSystem, FsOptions};

use super::geometry::{Geometry, STATE};
use super::overlay::{Disk, First, Overlay};
use super::partition::Partition;
use super::plan::{CMDLINE, Contents, Plan, READ, TEXT};

/// Where new files wait for their places.
const NEW: &str = "bramble.new";
/// The same, as the folder's entry has it.
const NEW_ENTRY: &[u8; 11] = b"BRAMBLE NEW";
/// Where the agent and what is its lie until the first boot.
const OURS: &str = "bramble";

/// Why a partition cannot be used, or was not written.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// It holds something else, or something broken.
    #[error("its boot partition is not FAT32, or is damaged")]
    NotFat32,
    /// Reading failed.
    #[error("cannot read its boot partition")]
    Read(#[source] io::Error),
    /// Nothing was written.
    #[error("cannot put the files into its boot partition; nothing was written")]
    Prepare(#[source] io::Error),
    /// It failed with some of it written.
    #[error("writing failed after {written} of {all} bytes")]
    Write {
        /// Bytes of files and tables that were written.
        written: u64,
        /// Of how many.
        all: u64,
        /// What the disk said.
        source: io::Error,
    },
}

/// A FAT32 partition.
pub struct Volume<D: Disk> {
    overlay: Overlay<D>,
    geometry: Geometry,
    first_sector: [u8; 512],
    /// The names that waited when somebody stopped half way.
    waiting: BTreeSet<String>,
}

impl<D: Disk> Volume<D> {
    /// Opens a partition of a disk. One that somebody left half way is mended, in memory.
    ///
    /// # Errors
    /// [`VolumeError::NotFat32`], [`VolumeError::Read`].
    pub fn open(disk: D, partition: &Partition) -> Result<Self, VolumeError> {
        let mut overlay = Overlay::new(disk, partition.start, partition.length);
        let mut first_sector = [0; 512];
        overlay.read_at(0, &mut first_sector).map_err(VolumeError::Read)?;
        let geometry = Geometry::read(&first_sector, partition.length).ok_or(VolumeError::NotFat32)?;
        let mut volume = Self { overlay, geometry, first_sector, waiting: BTreeSet::new() };
        if volume.marked() {
            volume.overlay.write_at(STATE as u64, &[0]).map_err(VolumeError::Read)?;
            volume.waiting = volume.with(|root| Ok(names(&root.open_dir(NEW)?))).unwrap_or_default();
            volume.geometry.mend(&mut volume.overlay, NEW_ENTRY).map_err(VolumeError::Read)?;
        }
        Ok(volume)
    }

    fn marked(&self) -> bool {
        self.first_sector.get(STATE).is_some_and(|state| state & 1 != 0)
    }

    /// What lies in it.
    ///
    /// # Errors
    /// [`VolumeError::Read`].
    pub fn contents(&mut self) -> Result<Contents, VolumeError> {
        let waiting = self.waiting.clone();
        let free = self.geometry.free(&mut self.overlay).map_err(VolumeError::Read)?;
        let cluster = self.geometry.cluster;
        let unfinished = self.marked();
        self.with(|root| {
            let mut contents = Contents::default();
            for entry in root.iter() {
                let entry = entry?;
                let name = entry.file_name();
                if entry.is_dir() {
                    contents.folders.insert(name);
                } else if READ.contains(&name.to_ascii_lowercase().as_str()) {
                    let mut bytes = Vec::new();
                    let read = entry.len() <= TEXT;
                    if read {
                        entry.to_file().read_to_end(&mut bytes)?;
                    }
                    contents.take(&name, read.then_some(bytes));
                }
            }
            // Of those that wait the program is called as the folder is.
            let names = names(root).into_iter().chain(waiting.into_iter().filter(|name| name != OURS)).collect();
            Ok(Contents { names, free_bytes: Some(u64::from(free) * cluster), cluster_bytes: cluster, unfinished, ..contents })
        })
        .map_err(VolumeError::Read)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// The disk's; `NotFound`.
    pub fn read(&mut self, path: &str) -> io::Result<Vec<u8>> {
        self.with(|root| {
            let mut bytes = Vec::new();
            root.open_file(path)?.read_to_end(&mut bytes)?;
            Ok(bytes)
        })
    }

    fn with<R>(&mut self, work: impl FnOnce(&Dir<&mut Overlay<D>>) -> io::Result<R>) -> io::Result<R> {
        self.overlay.rewind()?;
        let system = FileSystem::new(&mut self.overlay, FsOptions::new())?;
        let result = work(&system.root_dir());
        system.unmount()?;
        result
    }

    /// Puts a plan's files into their places. `told` hears how many bytes of how many are written.
    ///
    /// # Errors
    /// [`VolumeError::Prepare`]: nothing is written; [`VolumeError::Write`]: run it again.
    pub fn apply(&mut self, plan: &Plan, told: &mut dyn FnMut(u64, u64)) -> Result<(), VolumeError> {
        let tables = self.geometry.tables.clone();
        let mended = self.overlay.pending();
        let all = mended + plan.files.iter().map(|file| file.bytes.len() as u64).sum::<u64>();
        let mut written = 0;
        let mut count = |bytes: u64| {
            written += bytes;
            told(written.min(all), all);
        };
        let result = (|| {
            if mended > 0 {
                // It goes out by itself: it only gives back.
                self.overlay.flush(&tables, First::Without, &mut count)?;
            }
            if let Err(error) = self.with(|root| gather(root, plan)) {
                return Ok(Err(error));
            }
            self.geometry.bare_dots(&mut self.overlay)?;
            self.mark(true)?;
            self.overlay.flush(&tables, First::Within, &mut count)?;
            // The folder last: as long as it is there, what waits in it tells what sort of image this is.
            // What was somebody's own is safe before what replaces it comes.
            for kept in [true, false] {
                self.with(|root| place(root, plan, kept))?;
                self.overlay.flush(&tables, First::Without, &mut count)?;
            }
            self.with(replace)?;
            self.overlay.flush(&tables, First::Without, &mut count)?;
            if let Some(line) = &plan.cmdline {
                self.with(|root| rewrite(root, line))?;
                self.overlay.flush(&tables, First::Within, &mut count)?;
            }
            self.mark(false).map(Ok)
        })();
        match result {
            Ok(prepared) => prepared.map_err(VolumeError::Prepare),
            Err(source) => Err(VolumeError::Write { written: written.min(all), all, source }),
        }
    }

    fn mark(&mut self, writing: bool) -> io::Result<()> {
        let mut sector = self.first_sector;
        if let Some(state) = sector.get_mut(STATE) {
            *state = if writing { *state | 1 } else { *state & !1 };
        }
        self.overlay.write_through(0, &sector)?;
        self.first_sector = sector;
        Ok(())
    }
}

fn names<D: Disk>(folder: &Dir<&mut Overlay<D>>) -> BTreeSet<String> {
    folder.iter().filter_map(Result::ok).map(|entry| entry.file_name()).filter(|name| name != "." && name != "..").collect()
}

fn has<D: Disk>(folder: &Dir<&mut Overlay<D>>, name: &str) -> bool {
    folder.iter().filter_map(Result::ok).any(|entry| entry.file_name().eq_ignore_ascii_case(name))
}

/// A name in the root, or a path below [`OURS`].
fn waits_as(path: &str) -> &str {
    path.strip_prefix(OURS).and_then(|rest| rest.strip_prefix('/')).unwrap_or(path)
}

fn gather<D: Disk>(root: &Dir<&mut Overlay<D>>, plan: &Plan) -> io::Result<()> {
    if has(root, NEW) {
        remove_all(root, NEW)?;
    }
    let folder = root.create_dir(NEW)?;
    for file in &plan.files {
        let path = waits_as(&file.path);
        for (at, _) in path.match_indices('/') {
            let parent = path.get(..at).unwrap_or_default();
            if folder.open_dir(parent).is_err() {
                folder.create_dir(parent)?;
            }
        }
        let mut to = folder.create_file(path)?;
        to.write_all(&file.bytes)?;
        to.flush()?;
    }
    // Room for the names in the root, so that the next step takes no space.
    let places: Vec<String> = plan.in_root().map(|name| format!("{name}.place")).chain([format!("{OURS}.place")]).collect();
    for place in &places {
        root.create_file(place)?;
    }
    for place in &places {
        root.remove(place)?;
    }
    Ok(())
}

fn place<D: Disk>(root: &Dir<&mut Overlay<D>>, plan: &Plan, kept: bool) -> io::Result<()> {
    let folder = root.open_dir(NEW)?;
    for name in plan.in_root().filter(|name| name.ends_with(super::plan::KEPT) == kept) {
        if has(root, name) {
            root.remove(name)?;
        }
        folder.rename(name, root, name)?;
    }
    Ok(())
}

fn replace<D: Disk>(root: &Dir<&mut Overlay<D>>) -> io::Result<()> {
    if has(root, OURS) {
        remove_all(root, OURS)?;
    }
    root.rename(NEW, root, OURS)
}

fn rewrite<D: Disk>(root: &Dir<&mut Overlay<D>>, line: &str) -> io::Result<()> {
    let mut file = root.open_file(CMDLINE)?;
    file.write_all(line.as_bytes())?;
    file.truncate()?;
    file.flush()
}

fn remove_all<D: Disk>(parent: &Dir<&mut Overlay<D>>, name: &str) -> io::Result<()> {
    let folder = parent.open_dir(name)?;
    let entries: Vec<(String, bool)> =
        folder.iter().filter_map(Result::ok).map(|entry| (entry.file_name(), entry.is_dir())).collect();
    for (name, is_folder) in entries.iter().filter(|(name, _)| name != "." && name != "..") {
        if *is_folder {
            remove_all(&folder, name)?;
        } else {
            folder.remove(name)?;
        }
    }
    parent.remove(name)
}
