//! Hands: reads the kernel's files about containers and about the machine.
//!
//! Every file is looked for below a root that tests replace.

use std::path::{Path, PathBuf};

use super::cgroup::{self, Place};
use super::{NodeUsage, OnDisk};

/// Reads files of control groups.
#[derive(Clone, Debug)]
pub struct Groups {
    root: PathBuf,
}

impl Default for Groups {
    fn default() -> Self {
        Self::new(Path::new("/"))
    }
}

impl Groups {
    /// Below `root`.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    fn text(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.root.join(path)).ok()
    }

    /// Where the figures of this process's container are.
    #[must_use]
    pub fn place(&self, pid: u64) -> Option<Place> {
        cgroup::place(&self.text(&format!("proc/{pid}/cgroup"))?)
    }

    /// Processor time in nanoseconds and working set in bytes. `None`: the files cannot be read from here.
    #[must_use]
    pub fn usage(&self, place: &Place) -> Option<(u64, u64)> {
        let file = |folder: &str, name: &str| self.text(&format!("sys/fs/cgroup/{folder}/{name}"));
        let (cpu, memory, members) = match place {
            Place::V1 { cpu, memory } => {
                let held = memory.as_ref().and_then(|folder| {
                    let stat = file(folder, "memory.stat").unwrap_or_default();
                    cgroup::working_set(&file(folder, "memory.usage_in_bytes")?, &stat, "total_inactive_file")
                });
                (cgroup::cpuacct(&file(cpu, "cpuacct.usage")?)?, held, cpu)
            }
            Place::V2 { folder } => {
                let stat = file(folder, "memory.stat").unwrap_or_default();
                let held =
                    file(folder, "memory.current").and_then(|current| cgroup::working_set(&current, &stat, "inactive_file"));
                (cgroup::cpu_stat(&file(folder, "cpu.stat")?)?, held, folder)
            }
        };
        // Raspberry Pi OS starts its kernel without memory groups: then the processes are asked one by one.
        let memory = memory.unwrap_or_else(|| {
            let pids = file(members, "cgroup.procs").unwrap_or_default();
            let statuses = pids.lines().filter_map(|pid| self.text(&format!("proc/{}/status", pid.trim())));
            statuses.fold(0, |sum, status| sum.saturating_add(cgroup::resident(&status)))
        });
        Some((cpu, memory))
    }

    /// Processes and threads; none when they cannot be counted from here.
    #[must_use]
    pub fn tasks(&self, place: &Place) -> u64 {
        let path = match place {
            Place::V1 { cpu, .. } => format!("sys/fs/cgroup/{cpu}/tasks"),
            Place::V2 { folder } => format!("sys/fs/cgroup/{folder}/cgroup.threads"),
        };
        self.text(&path).map_or(0, |tasks| tasks.lines().count() as u64)
    }

    /// The machine's processor time; its memory is known to whoever watches it.
    #[must_use]
    pub fn node(&self) -> NodeUsage {
        let memory = self.text("proc/meminfo").unwrap_or_default();
        let kib = |name: &str| {
            let line = memory.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_ascii_whitespace().next()?.parse::<u64>().ok()
        };
        let (total, available) = (kib("MemTotal:").unwrap_or_default(), kib("MemAvailable:").unwrap_or_default());
        NodeUsage {
            cpu_nanoseconds: self.text("proc/stat").as_deref().and_then(cgroup::machine_cpu).unwrap_or_default(),
            memory_bytes: total.saturating_sub(available).saturating_mul(1024),
        }
    }
}

/// What the files below a folder take on disk; links are not followed, and what cannot be read counts as nothing.
#[must_use]
pub fn folder_usage(folder: &Path) -> OnDisk {
    use std::os::unix::fs::MetadataExt as _;
    let mut sum = OnDisk::default();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            sum = sum.and(OnDisk { bytes: metadata.blocks().saturating_mul(512), files: 1 });
            if metadata.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    sum
}

/// How many bytes a container's log takes: the newest file and those that were rotated away beside it.
#[must_use]
pub fn log_bytes(newest: &Path) -> u64 {
    let (Some(folder), Some(name)) = (newest.parent(), newest.file_name().and_then(|name| name.to_str())) else { return 0 };
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let ours = files.filter(|entry| entry.file_name().to_str().is_some_and(|file| file.starts_with(name)));
    ours.filter_map(|entry| Some(entry.metadata().ok()?.len())).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, files: &[(&str, &str)]) {
        for (path, text) in files {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn figures_are_found_in_both_versions_and_without_memory_groups() {
        let root = tempfile::tempdir().unwrap();
        write(
            root.path(),
            &[
                ("proc/7/cgroup", "2:cpu,cpuacct:/docker/one\n4:memory:/docker/one\n"),
                ("sys/fs/cgroup/cpu,cpuacct/docker/one/cpuacct.usage", "5000\n"),
                ("sys/fs/cgroup/memory/docker/one/memory.usage_in_bytes", "9000\n"),
                ("sys/fs/cgroup/memory/docker/one/memory.stat", "total_inactive_file 1000\n"),
                ("proc/8/cgroup", "0::/system.slice/docker-two.scope\n"),
                ("sys/fs/cgroup/system.slice/docker-two.scope/cpu.stat", "usage_usec 6\n"),
                ("sys/fs/cgroup/system.slice/docker-two.scope/memory.current", "9000\n"),
                ("sys/fs/cgroup/system.slice/docker-two.scope/memory.stat", "inactive_file 2000\n"),
                ("proc/9/cgroup", "0::/docker/three\n"),
                ("sys/fs/cgroup/docker/three/cpu.stat", "usage_usec 7\n"),
                ("sys/fs/cgroup/docker/three/cgroup.procs", "9\n10\n11\n"),
                ("proc/9/status", "RssAnon: 4 kB\nRssShmem: 0 kB\n"),
                ("proc/10/status", "RssAnon: 1 kB\nRssShmem: 1 kB\n"),
                ("proc/12/cgroup", "0::/docker/away\n"),
            ],
        );
        let groups = Groups::new(root.path());
        let usage = |pid| groups.place(pid).and_then(|place| groups.usage(&place));
        assert_eq!(usage(7), Some((5000, 8000)));
        assert_eq!(usage(8), Some((6000, 7000)));
        assert_eq!(usage(9), Some((7000, 6 * 1024)));
        assert_eq!((usage(12), usage(13)), (None, None));
    }

    #[test]
    fn this_machine_has_used_something() {
        let node = Groups::default().node();
        assert!(node.cpu_nanoseconds > 0 && node.memory_bytes > 1 << 20, "{node:?}");
    }

    #[test]
    fn folders_and_logs_are_counted_with_all_their_parts() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), &[("a/b/c", &"x".repeat(10_000)), ("log/id-json.log", "12345"), ("log/id-json.log.1", "678")]);
        let found = folder_usage(root.path());
        assert!((10_000..200_000).contains(&found.bytes), "{found:?}");
        assert_eq!(found.files, 6, "three files in three folders");
        assert_eq!(log_bytes(&root.path().join("log/id-json.log")), 8);
        assert_eq!(folder_usage(Path::new("/nowhere")), OnDisk::default());
    }
}
