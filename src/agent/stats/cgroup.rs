//! Where the kernel keeps a container's figures, and what its files say. Pure.
//!
//! In:       `/proc/<pid>/cgroup`, and the text of the files that it leads to.
//! Out:      [`Place`], and numbers.
//! Never:    opens a file (`sysinfo.rs`).
//! Source:   kernel documentation, `cgroup-v1/{cpuacct,memory}` and `cgroup-v2`; cAdvisor for the working set.

/// Folders of one container below `/sys/fs/cgroup`, without a slash in front.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A hierarchy for each controller.
    V1 {
        /// With `cpuacct.usage`.
        cpu: String,
        /// With `memory.usage_in_bytes`; none where the kernel was started without it, as on Raspberry Pi OS.
        memory: Option<String>,
    },
    /// One hierarchy for all.
    V2 {
        /// With `cpu.stat`, and with `memory.current` unless the kernel was started without it.
        folder: String,
    },
}

/// Where the figures of the process are whose `/proc/<pid>/cgroup` this is. `None`: it is in no group of its own that can be told.
#[must_use]
pub fn place(text: &str) -> Option<Place> {
    let (mut cpu, mut memory, mut unified) = (None, None, None);
    for line in text.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
        // Seen from a group beside ours, the path climbs out of it: it leads nowhere from here.
        if path.contains("..") {
            return None;
        }
        let path = path.trim_matches('/');
        if path.is_empty() {
            continue;
        }
        if controllers.is_empty() {
            unified = Some(path.to_owned());
        } else if controllers.split(',').any(|name| name == "cpuacct") {
            cpu = Some(format!("{controllers}/{path}"));
        } else if controllers.split(',').any(|name| name == "memory") {
            memory = Some(format!("{controllers}/{path}"));
        }
    }
    match (cpu, unified) {
        (Some(cpu), _) => Some(Place::V1 { cpu, memory }),
        (None, Some(folder)) => Some(Place::V2 { folder }),
        (None, None) => None,
    }
}

/// Processor time in nanoseconds, from `cpuacct.usage`.
#[must_use]
pub fn cpuacct(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// Processor time in nanoseconds, from `cpu.stat`.
#[must_use]
pub fn cpu_stat(text: &str) -> Option<u64> {
    Some(field(text, "usage_usec")?.saturating_mul(1000))
}

/// The working set: what is used less the file pages that nobody has touched for a while. `inactive` is the name of their count:
/// `total_inactive_file` in version 1, `inactive_file` in version 2.
#[must_use]
pub fn working_set(usage: &str, stat: &str, inactive: &str) -> Option<u64> {
    let usage: u64 = usage.trim().parse().ok()?;
    Some(usage.saturating_sub(field(stat, inactive).unwrap_or_default()))
}

/// What a process holds in memory that is no file's, from `/proc/<pid>/status`, in bytes.
#[must_use]
pub fn resident(status: &str) -> u64 {
    ["RssAnon:", "RssShmem:"]
        .into_iter()
        .filter_map(|name| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_ascii_whitespace().next()?.parse::<u64>().ok()
        })
        .fold(0, |sum, kib| sum.saturating_add(kib.saturating_mul(1024)))
}

/// Processor time of all cores that was not idle, in nanoseconds, from `/proc/stat`. Its unit is a hundredth of a second on every
/// Linux that a Pi runs.
#[must_use]
pub fn machine_cpu(stat: &str) -> Option<u64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    // user nice system idle iowait irq softirq steal; a guest's time is in the user's already.
    let mut busy = 0u64;
    for (index, field) in line.split_ascii_whitespace().take(8).enumerate() {
        if !matches!(index, 3 | 4) {
            busy = busy.saturating_add(field.parse().ok()?);
        }
    }
    Some(busy.saturating_mul(10_000_000))
}

/// A count of a file with a name and a number a line.
pub(crate) fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_found_in_every_layout() {
        let v1 = |cpu: &str, memory: Option<&str>| Some(Place::V1 { cpu: cpu.into(), memory: memory.map(str::to_owned) });
        let v2 = |folder: &str| Some(Place::V2 { folder: folder.into() });
        for (name, text, place_) in [
            (
                "version 1, driver cgroupfs",
                "9:name=systemd:/docker/a1\n4:memory:/docker/a1\n3:cpuset:/docker/a1\n2:cpuacct:/docker/a1\n1:cpu:/docker/a1\n0::/\n",
                v1("cpuacct/docker/a1", Some("memory/docker/a1")),
            ),
            (
                "version 1, driver systemd, controllers together",
                "12:cpu,cpuacct:/system.slice/docker-a1.scope\n5:memory:/system.slice/docker-a1.scope\n",
                v1("cpu,cpuacct/system.slice/docker-a1.scope", Some("memory/system.slice/docker-a1.scope")),
            ),
            ("version 1 without memory: Raspberry Pi OS 10", "2:cpu,cpuacct:/docker/a1\n", v1("cpu,cpuacct/docker/a1", None)),
            ("version 2, driver systemd", "0::/system.slice/docker-a1.scope\n", v2("system.slice/docker-a1.scope")),
            ("version 2, driver cgroupfs", "0::/docker/a1\n", v2("docker/a1")),
            (
                "version 2, Podman without root",
                "0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-a1.scope/container\n",
                v2("user.slice/user-1000.slice/user@1000.service/user.slice/libpod-a1.scope/container"),
            ),
            ("seen from another container", "0::/../a1\n", None),
            ("the root group", "0::/\n", None),
            ("nothing", "", None),
        ] {
            assert_eq!(place(text), place_, "{name}");
        }
    }

    #[test]
    fn files_read_as_the_kernel_writes_them() {
        assert_eq!(cpuacct("123456789\n"), Some(123_456_789));
        assert_eq!(cpu_stat("usage_usec 2500\nuser_usec 2000\nsystem_usec 500\n"), Some(2_500_000));
        assert_eq!(cpu_stat("user_usec 2000\n"), None);
        let v1 = "inactive_file 1\nactive_file 5\ntotal_inactive_file 4096\n";
        assert_eq!(working_set("10000\n", v1, "total_inactive_file"), Some(5904));
        let v2 = "anon 1\nfile 2\ninactive_file 4096\n";
        assert_eq!(working_set("10000\n", v2, "inactive_file"), Some(5904));
        assert_eq!(working_set("10\n", v2, "inactive_file"), Some(0));
        assert_eq!(working_set("max\n", v2, "inactive_file"), None);
        assert_eq!(
            resident("Name:\tx\nVmRSS:\t  900 kB\nRssAnon:\t  100 kB\nRssFile:\t 790 kB\nRssShmem:\t  10 kB\n"),
            110 * 1024
        );
        assert_eq!(machine_cpu("cpu  10 1 5 1000 7 2 3 4 9 0\ncpu0 1 1\n"), Some(250_000_000));
    }
}
