//! A disk whose changes are held back: everything is tried in memory first, and written in an order that a power cut cannot harm.
//!
//! In:       a disk, and the part of it that is one partition; reads and writes of whoever works on it.
//! Out:      the changed sectors, written group by group, each group synced before the next.
//! Never:    writes anything before it is told to.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;

/// Read and kept at once, in bytes.
const CHUNK: usize = 4096;
const SECTOR: usize = 512;

/// What is written to: a file, a device, or bytes in memory.
pub trait Disk: Read + Write + Seek {
    /// Returns when everything that was written would outlive a power cut.
    ///
    /// # Errors
    /// What the disk says.
    fn sync(&mut self) -> io::Result<()>;
}

impl Disk for io::Cursor<Vec<u8>> {
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<D: Disk + ?Sized> Disk for &mut D {
    fn sync(&mut self) -> io::Result<()> {
        (**self).sync()
    }
}

/// Which of the changed sectors go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// Those within the range; for what only takes space: nothing is named before its space is taken.
    Within,
    /// Those outside; for what only gives space back: nothing is given back that is still named.
    Without,
}

struct Chunk {
    bytes: Box<[u8; CHUNK]>,
    /// A bit a sector.
    changed: u8,
}

/// One partition of a disk, with changes that are not written yet.
pub struct Overlay<D> {
    disk: D,
    start: u64,
    length: u64,
    at: u64,
    chunks: BTreeMap<u64, Chunk>,
}

impl<D: Disk> Overlay<D> {
    /// `start` and `length` in bytes, multiples of a sector.
    pub fn new(disk: D, start: u64, length: u64) -> Self {
        Self { disk, start, length, at: 0, chunks: BTreeMap::new() }
    }

    fn chunk(&mut self, index: u64) -> io::Result<&mut Chunk> {
        use std::collections::btree_map::Entry;
        match self.chunks.entry(index) {
            Entry::Occupied(held) => Ok(held.into_mut()),
            Entry::Vacant(place) => {
                let from = index * CHUNK as u64;
                let length = usize::try_from(self.length.saturating_sub(from)).unwrap_or(CHUNK).min(CHUNK);
                let mut bytes = Box::new([0; CHUNK]);
                self.disk.seek(SeekFrom::Start(self.start + from))?;
                if let Some(part) = bytes.get_mut(..length) {
                    self.disk.read_exact(part)?;
                }
                Ok(place.insert(Chunk { bytes, changed: 0 }))
            }
        }
    }

    /// Reads at a place.
    ///
    /// # Errors
    /// The disk's, and `UnexpectedEof` behind the partition's end.
    pub fn read_at(&mut self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.at = at;
        self.read_exact(buffer)
    }

    /// Changes bytes at a place.
    ///
    /// # Errors
    /// The disk's, and `WriteZero` behind the partition's end.
    pub fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.at = at;
        self.write_all(bytes)
    }

    /// Writes one sector past the changes, at once, and syncs. What is held of it stays as it is.
    ///
    /// # Errors
    /// The disk's.
    pub fn write_through(&mut self, at: u64, sector: &[u8; SECTOR]) -> io::Result<()> {
        self.disk.seek(SeekFrom::Start(self.start + at))?;
        self.disk.write_all(sector)?;
        self.disk.sync()
    }

    /// How many bytes [`flush`](Self::flush) would write.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.chunks.values().map(|chunk| u64::from(chunk.changed.count_ones()) * SECTOR as u64).sum()
    }

    /// Writes what was changed: the sectors within `range` and those without, in the order that `first` says, with a sync after each;
    /// the first sector, which only [`write_through`](Self::write_through) changes, is left out. `told` hears of each write, in bytes.
    ///
    /// # Errors
    /// The disk's.
    pub fn flush(&mut self, range: &Range<u64>, first: First, told: &mut dyn FnMut(u64)) -> io::Result<()> {
        for within in [first == First::Within, first != First::Within] {
            let mut run: Vec<u8> = Vec::new();
            let mut run_at = 0;
            for (index, chunk) in &self.chunks {
                for (sector, bytes) in chunk.bytes.chunks_exact(SECTOR).enumerate() {
                    let at = index * CHUNK as u64 + (sector * SECTOR) as u64;
                    let wanted = chunk.changed & (1 << sector) != 0 && at != 0 && range.contains(&at) == within;
                    if !wanted {
                        continue;
                    }
                    if run_at + run.len() as u64 != at || run.len() >= 1 << 20 {
                        write_run(&mut self.disk, self.start + run_at, &mut run, told)?;
                        run_at = at;
                    }
                    run.extend_from_slice(bytes);
                }
            }
            write_run(&mut self.disk, self.start + run_at, &mut run, told)?;
            self.disk.sync()?;
        }
        for chunk in self.chunks.values_mut() {
            chunk.changed = 0;
        }
        Ok(())
    }
}

fn write_run<D: Disk>(disk: &mut D, at: u64, run: &mut Vec<u8>, told: &mut dyn FnMut(u64)) -> io::Result<()> {
    if run.is_empty() {
        return Ok(());
    }
    disk.seek(SeekFrom::Start(at))?;
    disk.write_all(run)?;
    told(run.len() as u64);
    run.clear();
    Ok(())
}

impl<D: Disk> Read for Overlay<D> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.length.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let within = (self.at % CHUNK as u64) as usize;
        let take = buffer.len().min(left).min(CHUNK - within);
        let index = self.at / CHUNK as u64;
        if take > 0 {
            let chunk = self.chunk(index)?;
            if let (Some(to), Some(from)) = (buffer.get_mut(..take), chunk.bytes.get(within..within + take)) {
                to.copy_from_slice(from);
            }
        }
        self.at += take as u64;
        Ok(take)
    }
}

impl<D: Disk> Write for Overlay<D> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = usize::try_from(self.length.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let within = (self.at % CHUNK as u64) as usize;
        let take = bytes.len().min(left).min(CHUNK - within);
        let index = self.at / CHUNK as u64;
        if take > 0 {
            let chunk = self.chunk(index)?;
            for (offset, (old, new)) in chunk.bytes.iter_mut().skip(within).zip(bytes.iter().take(take)).enumerate() {
                if old != new {
                    *old = *new;
                    chunk.changed |= 1 << ((within + offset) / SECTOR);
                }
            }
        }
        self.at += take as u64;
        Ok(take)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<D: Disk> Seek for Overlay<D> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_as_a_plain_file_and_the_disk_changes_only_when_told(writes in proptest::collection::vec((0usize..20_000, proptest::collection::vec(any::<u8>(), 1..6000)), 0..12)) {
            let length = 20_480;
            let before: Vec<u8> = (0..30_000usize).map(|n| (n % 251) as u8).collect();
            let mut plain = before[1024..1024 + length].to_vec();
            let mut overlay = Overlay::new(Cursor::new(before.clone()), 1024, length as u64);
            for (at, bytes) in &writes {
                let fits = bytes.len().min(length - at);
                plain[*at..at + fits].copy_from_slice(&bytes[..fits]);
                overlay.write_at(*at as u64, &bytes[..fits]).unwrap();
            }
            let mut seen = vec![0; length];
            overlay.read_at(0, &mut seen).unwrap();
            prop_assert!(seen == plain);
            prop_assert!(overlay.disk.get_ref() == &before);
            let (pending, mut told) = (overlay.pending(), 0);
            let first_changed = plain[..512] != before[1024..1536];
            overlay.flush(&(4096..8192), First::Within, &mut |bytes| told += bytes).unwrap();
            prop_assert_eq!(told + if first_changed { 512 } else { 0 }, pending);
            prop_assert_eq!(overlay.pending(), 0);
            // The first sector is never written by flush.
            prop_assert!(overlay.disk.get_ref()[1024 + 512..1024 + length] == plain[512..]);
            prop_assert!(overlay.disk.get_ref()[..1536] == before[..1536]);
            prop_assert!(overlay.disk.get_ref()[1024 + length..] == before[1024 + length..]);
        }
    }

    #[test]
    fn what_takes_space_is_written_before_what_names_it_and_the_other_way_round() {
        struct Order(Cursor<Vec<u8>>, Vec<u64>);
        impl Read for Order {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0.read(buffer)
            }
        }
        impl Write for Order {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.1.push(self.0.position());
                self.0.write(bytes)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        impl Seek for Order {
            fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
                self.0.seek(to)
            }
        }
        impl Disk for Order {
            fn sync(&mut self) -> io::Result<()> {
                self.1.push(u64::MAX);
                Ok(())
            }
        }
        for (first, order) in
            [(First::Within, [4096, u64::MAX, 1024, 9216, u64::MAX]), (First::Without, [1024, 9216, u64::MAX, 4096, u64::MAX])]
        {
            let mut overlay = Overlay::new(Order(Cursor::new(vec![0; 16_384]), Vec::new()), 0, 16_384);
            for at in [9216, 1024, 4096] {
                overlay.write_at(at, b"x").unwrap();
            }
            overlay.flush(&(2048..8192), first, &mut |_| ()).unwrap();
            assert_eq!(overlay.disk.1, order);
        }
    }

    #[test]
    fn nothing_lies_behind_the_partition_s_end() {
        let mut overlay = Overlay::new(Cursor::new(vec![7; 3000]), 512, 1536);
        assert!(overlay.read_at(1535, &mut [0; 2]).is_err());
        assert!(overlay.write_at(1535, b"xy").is_err());
        assert!(overlay.seek(SeekFrom::Current(-5000)).is_err());
    }
}
