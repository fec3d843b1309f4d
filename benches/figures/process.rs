//! What the kernel knows of a process: memory, CPU time, bytes written.

use std::fs;
use std::time::Duration;

use anyhow::Context as _;

/// A process's memory, in KiB.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Its share: what several processes map counts in parts.
    pub pss: u64,
    /// Of that, what no file stands behind: heap and stacks.
    pub anonymous: u64,
    /// All that is mapped and present.
    pub rss: u64,
}

/// The memory of a process.
pub fn memory(pid: u32) -> anyhow::Result<Memory> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let field = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)).and_then(|rest| rest.split_whitespace().next());
        value.and_then(|number| number.parse().ok()).with_context(|| format!("{path} has no {name}"))
    };
    Ok(Memory { pss: field("Pss:")?, anonymous: field("Pss_Anon:")?, rss: field("Rss:")? })
}

/// The CPU time of a process's living threads.
pub fn cpu(pid: u32) -> anyhow::Result<Duration> {
    let folder = format!("/proc/{pid}/task");
    let mut total = 0;
    for thread in fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))? {
        // `stat` counts in hundredths of a second, this in nanoseconds.
        let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) else { continue };
        let time = text.split(' ').next().and_then(|number| number.parse::<u64>().ok());
        total += time.context("this kernel keeps no schedstat")?;
    }
    Ok(Duration::from_nanos(total))
}

/// How often a process's living threads waited for something and were woken, since they began.
pub fn wakes(pid: u32) -> anyhow::Result<u64> {
    let folder = format!("/proc/{pid}/task");
    let mut total = 0;
    for thread in fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))? {
        let Ok(text) = fs::read_to_string(thread?.path().join("status")) else { continue };
        let count = text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        total += count.and_then(|count| count.trim().parse::<u64>().ok()).context("this kernel counts no switches")?;
    }
    Ok(total)
}

/// Bytes that a process caused to be sent to the disk.
pub fn written(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/io");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let value = text.lines().find_map(|line| line.strip_prefix("write_bytes:"));
    value.and_then(|number| number.trim().parse().ok()).with_context(|| format!("{path} has no write_bytes"))
}

/// Number of threads.
pub fn threads(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

/// The arguments of a process.
pub fn arguments(pid: u32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    bytes.split(|byte| *byte == 0).map(|part| String::from_utf8_lossy(part).into_owned()).collect()
}

/// Processes whose name begins so; the kernel keeps 15 characters of it.
pub fn named(name: &str) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_string_lossy().parse::<u32>().ok());
    pids.filter(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.starts_with(name))).collect()
}

/// The processes that a process started.
pub fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

/// Ends a process that this program or a cluster of it started.
pub fn signal(pid: u32, signal: &str) -> anyhow::Result<()> {
    let sent = std::process::Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).status()?;
    anyhow::ensure!(sent.success(), "kill -{signal} {pid}");
    Ok(())
}

/// Whether it is there, and not only waits to be asked for its exit code.
pub fn lives(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z'))
}
