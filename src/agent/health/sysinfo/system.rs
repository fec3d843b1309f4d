//! The machine's clocks, its kernel's cgroups, its revision: small facts.

use super::files::Files;

/// Whether there is a clock that runs on without power.
#[must_use]
pub fn has_rtc(files: &Files) -> bool {
    files.names("sys/class/rtc").iter().any(|name| name.starts_with("rtc"))
}

/// Whether the clock follows another, as systemd's timesyncd tells; `None` where something else, or nothing, sets it.
///
/// The kernel knows for every such program, but tells it by `adjtimex` only, for which no crate here has a safe call.
#[must_use]
pub fn time_synchronized(files: &Files) -> Option<bool> {
    // Source: systemd-timesyncd.service(8): touched when it has the time; the folder is there while the service runs.
    files.is_there("run/systemd/timesync").then(|| files.is_there("run/systemd/timesync/synchronized"))
}

/// Whether the kernel can limit the memory of containers. Raspberry Pi OS has that off until `cgroup_enable=memory` is in
/// `cmdline.txt`.
#[must_use]
pub fn memory_cgroup(files: &Files) -> Option<bool> {
    let on = |text: &str| text.split_whitespace().any(|name| name == "memory");
    if let Some(there) = files.text("sys/fs/cgroup/cgroup.controllers").map(|text| on(&text)) {
        return Some(there);
    }
    // `memory  11  135  1`: name, hierarchy, groups, enabled.
    let text = files.text("proc/cgroups")?;
    let line = text.lines().find(|line| line.split_whitespace().next() == Some("memory"));
    Some(line.is_some_and(|line| line.split_whitespace().nth(3) == Some("1")))
}

/// A Pi's revision code, such as `c03114`: model, memory, maker. Empty elsewhere.
#[must_use]
pub fn revision(files: &Files) -> String {
    let is_code = |code: &str| (4..=8).contains(&code.len()) && code.chars().all(|c| c.is_ascii_hexdigit());
    let text = files.text("proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Revision")?.split_once(':'));
    if let Some(code) = line.map(|(_, code)| code.trim()).filter(|code| is_code(code)) {
        return code.to_owned();
    }
    // Mainline kernels have no such line: the boot loader writes it into the device tree, 4 bytes, most significant first.
    let bytes = files.bytes("proc/device-tree/system/linux,revision").unwrap_or_default();
    <[u8; 4]>::try_from(bytes.as_slice()).map(|bytes| format!("{:x}", u32::from_be_bytes(bytes))).unwrap_or_default()
}

/// Of how many bits the kernel is, by its word for the machine (`uname -m`): a 32-bit system may run on a 64-bit kernel.
#[must_use]
pub fn kernel_bits(machine: &str) -> Option<u8> {
    match machine {
        "x86_64" | "aarch64" | "riscv64" => Some(64),
        "i386" | "i486" | "i586" | "i686" => Some(32),
        arm if arm.starts_with("armv") => Some(32),
        _ => None,
    }
}
