//! Where things lie in a FAT32 partition, and mending one that a writer left half way.
//!
//! In:       the partition's first sector; for mending, the partition.
//! Out:      offsets; a partition in which all that nothing names is free again.
//! Never:    writes to the disk: what it mends is held by the overlay.
//! Source:   Microsoft's "FAT: General Overview of On-Disk Format" 1.03.

use std::io;
use std::ops::Range;

use super::overlay::{Disk, Overlay};

const SECTOR: u64 = 512;
/// The byte of the first sector whose lowest bit says that somebody is writing: Linux' `state`, which fsck.fat and systemd's check at boot read.
pub const STATE: usize = 0x41;
const ENTRY: usize = 32;
const BAD: u32 = 0x0fff_fff7;
const BITS: u32 = 0x0fff_ffff;
const DIRECTORY: u8 = 0x10;
const LABEL: u8 = 0x08;
const LONG_NAME: u8 = 0x0f;

/// Offsets in bytes from the partition's start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// All copies of the table, and the sector of counters before them.
    pub tables: Range<u64>,
    /// One copy of the table.
    table: u64,
    copies: u64,
    info: u64,
    data: u64,
    /// Bytes of one cluster.
    pub cluster: u64,
    /// How many there are.
    pub clusters: u32,
    root: u32,
}

impl Geometry {
    /// Reads the first sector of a partition of `length` bytes; `None`: no FAT32 that fits into it.
    #[must_use]
    pub fn read(sector: &[u8; 512], length: u64) -> Option<Self> {
        let byte = |at: usize| sector.get(at).copied().map(u64::from);
        let word = |at: usize| Some(byte(at)? | byte(at + 1)? << 8);
        let long = |at: usize| Some(word(at)? | word(at + 2)? << 16);
        let per_cluster = byte(13)?;
        let (reserved, copies, table) = (word(14)?, byte(16)?, long(36)?);
        let total = long(32)?;
        // FAT12 and FAT16 have their root's size and their table's in 17 and 22.
        let fat32 = word(11)? == SECTOR && word(17)? == 0 && word(22)? == 0 && per_cluster.is_power_of_two() && reserved > 1;
        let before_data = reserved + copies * table;
        if !fat32 || copies == 0 || table == 0 || total * SECTOR > length || before_data >= total {
            return None;
        }
        let clusters = u32::try_from((total - before_data) / per_cluster).ok()?;
        let root = u32::try_from(long(44)?).ok()?;
        let info = Some(word(48)?).filter(|info| *info > 0 && *info < reserved)?;
        if u64::from(clusters) + 2 > table * SECTOR / 4 || !(2..clusters + 2).contains(&root) {
            return None;
        }
        Some(Self {
            tables: info * SECTOR..before_data * SECTOR,
            table: table * SECTOR,
            copies,
            info: info * SECTOR,
            data: before_data * SECTOR,
            cluster: per_cluster * SECTOR,
            clusters,
            root,
        })
    }

    fn first_table(&self) -> u64 {
        self.tables.end - self.copies * self.table
    }

    /// The first copy of the table: what follows each cluster.
    fn read_table<D: Disk>(&self, disk: &mut Overlay<D>) -> io::Result<Vec<u32>> {
        let mut bytes = vec![0; (self.clusters as usize + 2) * 4];
        disk.read_at(self.first_table(), &mut bytes)?;
        Ok(bytes.as_chunks().0.iter().map(|entry| u32::from_le_bytes(*entry)).collect())
    }

    /// How many clusters are free.
    ///
    /// # Errors
    /// The disk's.
    pub fn free<D: Disk>(&self, disk: &mut Overlay<D>) -> io::Result<u32> {
        let free = self.read_table(disk)?.iter().skip(2).filter(|entry| *entry & BITS == 0).count();
        Ok(u32::try_from(free).unwrap_or(u32::MAX))
    }

    /// Mends what a writer that followed [`super::volume`]'s order left: the folder `unfinished` (an 8.3 name, padded) is gone from the root, what
    /// no folder names is free, the copies of the table and the counters agree.
    ///
    /// # Errors
    /// The disk's.
    pub fn mend<D: Disk>(&self, disk: &mut Overlay<D>, unfinished: &[u8; 11]) -> io::Result<()> {
        let mut table = self.read_table(disk)?;
        let mut named = vec![false; table.len()];
        let mut folders = vec![self.root];
        while let Some(first) = folders.pop() {
            // Where the long names begin that belong to the entry to come.
            let mut long_names: Vec<u64> = Vec::new();
            'folder: for cluster in chain(&table, first, &mut named) {
                let start = self.data + u64::from(cluster - 2) * self.cluster;
                for at in (start..start + self.cluster).step_by(ENTRY) {
                    let mut entry = [0; ENTRY];
                    disk.read_at(at, &mut entry)?;
                    let [name0, .., s0, s1, s2, s3] = entry;
                    let [_, _, _, _, _, _, _, _, _, _, _, kind, _, _, _, _, _, _, _, _, h0, h1, _, _, _, _, l0, l1, ..] = entry;
                    if name0 == 0 {
                        break 'folder;
                    }
                    if name0 == 0xe5 {
                        long_names.clear();
                        continue;
                    }
                    if kind == LONG_NAME {
                        long_names.push(at);
                        continue;
                    }
                    let names = std::mem::take(&mut long_names);
                    if kind & LABEL != 0 || name0 == b'.' {
                        continue;
                    }
                    if first == self.root && entry.starts_with(unfinished) {
                        for at in names.into_iter().chain([at]) {
                            disk.write_at(at, &[0xe5])?;
                        }
                        continue;
                    }
                    let start = u32::from_le_bytes([l0, l1, h0, h1]);
                    if kind & DIRECTORY != 0 {
                        folders.push(start);
                    } else if u32::from_le_bytes([s0, s1, s2, s3]) > 0 {
                        chain(&table, start, &mut named);
                    } else if start != 0 {
                        // A writer took space for it and got no further: the space is given back, and no name keeps it.
                        disk.write_at(at + 20, &[0, 0])?;
                        disk.write_at(at + 26, &[0, 0])?;
                    }
                }
            }
        }
        let mut free: u32 = 0;
        for (entry, _) in table.iter_mut().zip(named).skip(2).filter(|(entry, named)| !named && **entry & BITS != BAD) {
            *entry &= !BITS;
            free += 1;
        }
        let bytes: Vec<u8> = table.iter().flat_map(|entry| entry.to_le_bytes()).collect();
        for copy in 0..self.copies {
            disk.write_at(self.first_table() + copy * self.table, &bytes)?;
        }
        // The sector of counters: how many are free; where to look first is not known.
        disk.write_at(self.info + 488, &free.to_le_bytes())?;
        disk.write_at(self.info + 492, &u32::MAX.to_le_bytes())
    }
}

impl Geometry {
    /// Takes the long names off `.` and `..`: `fatfs` 0.3 writes some, and fsck.fat wants these two first in each folder, and bare.
    ///
    /// # Errors
    /// The disk's.
    pub fn bare_dots<D: Disk>(&self, disk: &mut Overlay<D>) -> io::Result<()> {
        let table = self.read_table(disk)?;
        let mut named = vec![false; table.len()];
        let mut folders = vec![self.root];
        while let Some(first) = folders.pop() {
            'folder: for cluster in chain(&table, first, &mut named) {
                let start = self.data + u64::from(cluster - 2) * self.cluster;
                if cluster == first && first != self.root {
                    let mut slots = [[0; ENTRY]; 4];
                    for (slot, at) in slots.iter_mut().zip((start..).step_by(ENTRY)) {
                        disk.read_at(at, slot)?;
                    }
                    let [long, dot, long_too, mut dots] = slots;
                    if long.get(11) == Some(&LONG_NAME)
                        && dot.starts_with(b".  ")
                        && long_too.get(11) == Some(&LONG_NAME)
                        && dots.starts_with(b".. ")
                    {
                        // The root is cluster 0 there, whatever its own is.
                        let [_, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, h0, h1, _, _, _, _, l0, l1, ..] =
                            &mut dots;
                        if u32::from_le_bytes([*l0, *l1, *h0, *h1]) == self.root {
                            (*h0, *h1, *l0, *l1) = (0, 0, 0, 0);
                        }
                        disk.write_at(start, &dot)?;
                        disk.write_at(start + ENTRY as u64, &dots)?;
                        for at in [2, 3] {
                            disk.write_at(start + at * ENTRY as u64, &[0xe5])?;
                        }
                    }
                }
                for at in (start..start + self.cluster).step_by(ENTRY) {
                    let mut entry = [0; ENTRY];
                    disk.read_at(at, &mut entry)?;
                    let [name0, _, _, _, _, _, _, _, _, _, _, kind, _, _, _, _, _, _, _, _, h0, h1, _, _, _, _, l0, l1, ..] =
                        entry;
                    if name0 == 0 {
                        break 'folder;
                    }
                    if name0 != 0xe5 && name0 != b'.' && kind != LONG_NAME && kind & DIRECTORY != 0 {
                        folders.push(u32::from_le_bytes([l0, l1, h0, h1]));
                    }
                }
            }
        }
        Ok(())
    }
}

/// The clusters of a file; ends where the table says so, or where it leads to something that is taken or not there.
fn chain(table: &[u32], first: u32, named: &mut [bool]) -> Vec<u32> {
    let mut chain = Vec::new();
    let mut cluster = first;
    while (2..BAD).contains(&cluster) {
        match (table.get(cluster as usize), named.get_mut(cluster as usize)) {
            (Some(next), Some(named)) if !*named => {
                *named = true;
                chain.push(cluster);
                cluster = next & BITS;
            }
            _ => break,
        }
    }
    chain
}
