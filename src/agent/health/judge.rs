//! Readings → conditions. Each pressure has two thresholds and a pause, so that nothing flaps.
//!
//! In:       a [`Reading`], and when it was taken.
//! Out:      which pressures there are, and what is short at this very moment.
//! Never:    reads a sensor (`sysinfo.rs`); decides whom to evict (`agent/eviction.rs`).
//! Source:   the kubelet's hard eviction thresholds and its `eviction-pressure-transition-period`.
//!
//! Where we differ: on a board with half a gigabyte 100 MiB are a fifth of all memory, so a small board keeps a tenth free; and
//! the shares of a disk are held to what an image needs, so that a large SSD is not called full with 100 GiB left.

use std::time::Duration;

use crate::clock::Tick;

/// What was measured at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// Since the machine was started.
    pub uptime_seconds: u64,
    /// Average number of running processes over a minute.
    pub load_1m: f64,
    /// Of all cores together, 0 to 100, since the reading before.
    pub cpu_percent: f32,
    /// All there is.
    pub memory_total_bytes: u64,
    /// What could be had.
    pub memory_available_bytes: u64,
    /// Of the file system with images and containers.
    pub disk_total_bytes: u64,
    /// Of the same.
    pub disk_available_bytes: u64,
    /// What this process has written to disk.
    pub agent_written_bytes: Option<u64>,
}

/// Room on one file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Bytes of all.
    pub total_bytes: u64,
    /// Bytes that can be had.
    pub available_bytes: u64,
    /// Files that there can be; 0 where the file system does not count them.
    pub inodes: u64,
    /// Files that can still be made.
    pub inodes_free: u64,
}

/// What can run short, measured at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Levels {
    /// All there is; 0: not known.
    pub memory_total_bytes: u64,
    /// What could be had.
    pub memory_available_bytes: u64,
    /// Where the agent keeps what it should run, and where logs and volumes lie.
    pub nodefs: Room,
    /// Where images and containers lie.
    pub imagefs: Room,
    /// Process numbers that there can be; 0: not known.
    pub pids_total: u64,
    /// Processes and threads.
    pub pids_used: u64,
}

/// What can be short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// Memory.
    Memory,
    /// Bytes where the node's own files lie.
    NodeDisk,
    /// Files there.
    NodeInodes,
    /// Bytes where images and containers lie.
    ImageDisk,
    /// Files there.
    ImageInodes,
    /// Process numbers.
    Pids,
}

impl Resource {
    /// As the kubelet names it when it evicts.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Resource::Memory => "memory",
            Resource::NodeDisk | Resource::ImageDisk => "ephemeral-storage",
            Resource::NodeInodes | Resource::ImageInodes => "inodes",
            Resource::Pids => "pids",
        }
    }

    /// Whether it is one of a disk: then images go before pods.
    #[must_use]
    pub fn is_disk(self) -> bool {
        !matches!(self, Resource::Memory | Resource::Pids)
    }

    /// Whether files are counted, and not bytes.
    #[must_use]
    pub fn is_inodes(self) -> bool {
        matches!(self, Resource::NodeInodes | Resource::ImageInodes)
    }

    /// What is short, for the node's condition.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Resource::Memory => "the node has little memory left",
            Resource::NodeDisk => "the disk with the node's own files has little room left",
            Resource::NodeInodes => "the disk with the node's own files can hold few more files",
            Resource::ImageDisk => "the disk with images and containers has little room left",
            Resource::ImageInodes => "the disk with images and containers can hold few more files",
            Resource::Pids => "the node has few process numbers left",
        }
    }
}

/// Something that is short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Short {
    /// What.
    pub resource: Resource,
    /// Less than this is too little, in bytes, files or process numbers.
    pub threshold: u64,
    /// So much there is.
    pub available: u64,
}

/// From where on something is too little.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Of memory, in bytes; `None`: by the size of the machine.
    pub memory_bytes: Option<u64>,
    /// Of the disk with the node's files, in percent; `None`: as the kubelet, held to `DISK`.
    pub nodefs_percent: Option<u64>,
    /// Of the files there, in percent.
    pub inodes_percent: u64,
    /// Of the disk with images, in percent; `None`: as the kubelet, held to `DISK`.
    pub imagefs_percent: Option<u64>,
    /// Of the files there, in percent.
    pub image_inodes_percent: u64,
    /// Of process numbers, in percent.
    pub pids_percent: u64,
    /// So long a pressure stays after all is well.
    pub transition: Duration,
}

/// The kubelet's `memory.available<100Mi`, and the least that a small board keeps: below it the kernel thrashes before it kills.
const MEMORY: (u64, u64) = (100 << 20, 32 << 20);
/// What the kubelet's 10 % (node) and 15 % (images) are held to: the layers of a large image, unpacked. Both are shares of a
/// 32 GB card.
const DISK: (u64, u64) = (3 << 30, 5 << 30);

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            memory_bytes: None,
            nodefs_percent: None,
            inodes_percent: 5,
            imagefs_percent: None,
            image_inodes_percent: 5,
            pids_percent: 5,
            transition: Duration::from_secs(300),
        }
    }
}

impl Thresholds {
    /// Less memory than this is too little.
    #[must_use]
    pub fn memory(&self, total: u64) -> u64 {
        self.memory_bytes.unwrap_or_else(|| (total / 10).clamp(MEMORY.1, MEMORY.0))
    }

    /// Everything that is short, most urgent first.
    #[must_use]
    pub fn short(&self, levels: &Levels) -> Vec<Short> {
        self.below(levels, Margin::None)
    }

    fn below(&self, levels: &Levels, margin: Margin) -> Vec<Short> {
        let disk = |room: &Room, percent: Option<u64>, kubelet: u64, most: u64| match percent {
            Some(percent) => part(room.total_bytes, percent),
            None => part(room.total_bytes, kubelet).min(most),
        };
        let checks = [
            (Resource::Memory, levels.memory_total_bytes, self.memory(levels.memory_total_bytes), levels.memory_available_bytes),
            (
                Resource::NodeDisk,
                levels.nodefs.total_bytes,
                disk(&levels.nodefs, self.nodefs_percent, 10, DISK.0),
                levels.nodefs.available_bytes,
            ),
            (
                Resource::NodeInodes,
                levels.nodefs.inodes,
                part(levels.nodefs.inodes, self.inodes_percent),
                levels.nodefs.inodes_free,
            ),
            (
                Resource::ImageDisk,
                levels.imagefs.total_bytes,
                disk(&levels.imagefs, self.imagefs_percent, 15, DISK.1),
                levels.imagefs.available_bytes,
            ),
            (
                Resource::ImageInodes,
                levels.imagefs.inodes,
                part(levels.imagefs.inodes, self.image_inodes_percent),
                levels.imagefs.inodes_free,
            ),
            (
                Resource::Pids,
                levels.pids_total,
                part(levels.pids_total, self.pids_percent),
                levels.pids_total.saturating_sub(levels.pids_used),
            ),
        ];
        checks
            .into_iter()
            .map(|(resource, total, threshold, available)| {
                (total, Short { resource, threshold: margin.on(threshold), available })
            })
            // What is not known is not short.
            .filter(|(total, short)| *total > 0 && short.available < short.threshold)
            .map(|(_, short)| short)
            .collect()
    }

    /// Whether memory is near enough to its end that it is looked at every second.
    #[must_use]
    pub fn memory_is_near(&self, levels: &Levels) -> bool {
        levels.memory_total_bytes > 0 && levels.memory_available_bytes < self.memory(levels.memory_total_bytes).saturating_mul(2)
    }
}

/// What has to be free beyond a threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Margin {
    /// Nothing: whether a pressure comes.
    None,
    /// A fifth of it: whether one that is there has gone.
    Well,
}

impl Margin {
    fn on(self, threshold: u64) -> u64 {
        match self {
            Margin::None => threshold,
            Margin::Well => threshold.saturating_add(threshold / 5),
        }
    }
}

fn part(total: u64, percent: u64) -> u64 {
    total / 100 * percent
}

/// Which pressures there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressures {
    /// Little memory left.
    pub memory: bool,
    /// Little disk left, and what of it was short last: room or files, of which disk.
    pub disk: Option<Resource>,
    /// Few process numbers left.
    pub pids: bool,
}

/// What is short, over time.
#[derive(Clone, Debug)]
pub struct Judge {
    thresholds: Thresholds,
    /// When each was last short: memory, disk, process numbers.
    last: [Option<Tick>; 3],
    /// What of a disk was short last.
    disk: Resource,
}

impl Judge {
    /// Nothing was short yet.
    #[must_use]
    pub fn new(thresholds: Thresholds) -> Self {
        Self { thresholds, last: [None; 3], disk: Resource::NodeDisk }
    }

    /// The pressures after a look. One that was there stays until nothing of it has been short for the transition period; a fifth
    /// more than the threshold has to be free for that.
    pub fn after(&mut self, now: Tick, levels: &Levels) -> Pressures {
        let short = self.thresholds.short(levels);
        let margin = self.thresholds.below(levels, Margin::Well);
        let kinds: [fn(Resource) -> bool; 3] =
            [|resource| resource == Resource::Memory, Resource::is_disk, |resource| resource == Resource::Pids];
        let mut there = [false; 3];
        for ((kind, last), there) in kinds.into_iter().zip(&mut self.last).zip(&mut there) {
            let is = |all: &[Short]| all.iter().any(|short| kind(short.resource));
            if is(&short) || (last.is_some() && is(&margin)) {
                *last = Some(now);
            }
            if last.is_some_and(|last| last != now && now.since(last) >= self.thresholds.transition) {
                *last = None;
            }
            *there = last.is_some();
        }
        if let Some(short) = short.iter().find(|short| short.resource.is_disk()) {
            self.disk = short.resource;
        }
        let [memory, disk, pids] = there;
        Pressures { memory, disk: disk.then_some(self.disk), pids }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn levels(memory_mib: u64, disk_percent: u64) -> Levels {
        let room = Room { total_bytes: 20 * GIB, available_bytes: 20 * GIB / 100 * disk_percent, inodes: 1000, inodes_free: 500 };
        Levels {
            memory_total_bytes: 4 * GIB,
            memory_available_bytes: memory_mib << 20,
            nodefs: room,
            imagefs: room,
            pids_total: 32_768,
            pids_used: 200,
        }
    }

    #[test]
    fn a_pressure_comes_at_once_and_goes_when_all_has_been_well_for_a_while() {
        let mut judge = Judge::new(Thresholds::default());
        let mut seen = Vec::new();
        for (seconds, memory) in
            [(0, 200), (10, 99), (20, 119), (310, 119), (320, 121), (600, 121), (609, 121), (611, 121), (620, 110)]
        {
            seen.push(judge.after(Tick(seconds * 1000), &levels(memory, 50)).memory);
        }
        // Not well at 310 (110 is within the margin), so the five minutes count from there.
        assert_eq!(seen, [false, true, true, true, true, true, true, false, false]);
        assert_eq!(judge.after(Tick(700_000), &levels(1000, 14)).disk, Some(Resource::ImageDisk), "less than 15 % for images");
        assert!(judge.after(Tick(701_000), &Levels { pids_used: 32_000, ..levels(1000, 50) }).pids);
    }

    #[test]
    fn a_disk_that_can_hold_few_more_files_is_short_whatever_room_it_has_and_the_condition_says_which() {
        let mut judge = Judge::new(Thresholds::default());
        let few = |room: Room, inodes_free| Room { inodes_free, ..room };
        let well = levels(1000, 50);
        let mut seen = Vec::new();
        for (seconds, node, images) in [(0, 50, 50), (10, 50, 49), (20, 500, 55), (30, 49, 500), (330, 500, 60), (331, 500, 60)] {
            let levels = Levels { nodefs: few(well.nodefs, node), imagefs: few(well.imagefs, images), ..well };
            seen.push(judge.after(Tick(seconds * 1000), &levels).disk);
        }
        // Of 1000 files 50 are the threshold, and 60 have to be free until all is well.
        let (node, images) = (Some(Resource::NodeInodes), Some(Resource::ImageInodes));
        assert_eq!(seen, [None, images, images, node, None, None]);
        assert_eq!(images.unwrap().name(), "inodes");
        let uncounted = Levels { nodefs: Room { inodes: 0, inodes_free: 0, ..well.nodefs }, ..well };
        assert_eq!(Thresholds::default().short(&uncounted), [], "a file system that does not count its files has enough");
        let never = Thresholds { image_inodes_percent: 0, ..Thresholds::default() };
        assert_eq!(never.short(&Levels { imagefs: few(well.imagefs, 0), ..well }), []);
    }

    #[test]
    fn thresholds_fit_the_machine() {
        let thresholds = Thresholds::default();
        for (total_mib, threshold_mib) in [(256, 32), (430, 43), (906, 90), (1800, 100), (8000, 100)] {
            assert_eq!(thresholds.memory(total_mib << 20) >> 20, threshold_mib, "{total_mib}");
        }
        let disk = |total: u64, available: u64| {
            let room = Room { total_bytes: total, available_bytes: available, inodes: 0, inodes_free: 0 };
            let levels = Levels { nodefs: room, imagefs: room, ..Levels::default() };
            thresholds.short(&levels).iter().map(|short| short.resource).collect::<Vec<_>>()
        };
        assert_eq!(disk(8 * GIB, GIB), [Resource::ImageDisk], "15 % of 8 GiB are 1.2");
        assert_eq!(disk(8 * GIB, GIB / 2), [Resource::NodeDisk, Resource::ImageDisk]);
        assert_eq!(disk(1000 * GIB, 6 * GIB), [], "0.6 %, and room for an image");
        assert_eq!(disk(0, 0), [], "not known is not short");
        let set = Thresholds { memory_bytes: Some(GIB), nodefs_percent: Some(60), ..thresholds };
        assert_eq!(
            set.short(&levels(1023, 50)),
            [
                Short { resource: Resource::Memory, threshold: GIB, available: 1023 << 20 },
                Short { resource: Resource::NodeDisk, threshold: part(20 * GIB, 60), available: part(20 * GIB, 50) },
            ]
        );
        let few = Levels { nodefs: Room { inodes_free: 10, ..levels(500, 50).nodefs }, ..levels(500, 50) };
        assert_eq!(thresholds.short(&few)[0].resource, Resource::NodeInodes);
        assert!(thresholds.memory_is_near(&levels(199, 50)) && !thresholds.memory_is_near(&levels(201, 50)));
    }
}
