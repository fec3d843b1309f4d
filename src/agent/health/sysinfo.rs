//! Hands: reads what the machine is and how it is, through `sysinfo` and a few files of the firmware.
//!
//! Every file is looked for below a root that tests replace; the parts are in `sysinfo/`, and each is a function of [`Files`].

pub mod files;
pub mod firmware;
pub mod medium;
mod power_save;
pub mod system;
pub mod watch;
pub mod wifi;

use std::path::{Path, PathBuf};

use ::sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

use super::hardware::{Boot, Hardware};
use super::judge::{Levels, Reading, Room};
use files::Files;

/// What the machine is; it does not change while it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// The firmware's words, such as `Raspberry Pi 4 Model B Rev 1.4`; empty elsewhere.
    pub model: String,
    /// `compatible` strings of the device tree, most specific first.
    pub compatible: Vec<String>,
    /// For example `Debian GNU/Linux 12 (bookworm)`.
    pub os_image: String,
    /// For example `6.1.0`.
    pub kernel_version: String,
    /// Go's word for the architecture.
    pub architecture: &'static str,
    /// Cores.
    pub cpus: u64,
    /// Bytes.
    pub memory_bytes: u64,
    /// The network name.
    pub host_name: String,
    /// New at each boot.
    pub boot_id: String,
    /// Of the installation.
    pub machine_id: String,
    /// Of the hardware: what the firmware of a PC says, a Pi's serial number, or empty.
    pub system_uuid: String,
    /// A Pi's serial number; empty elsewhere.
    pub serial: String,
    /// A Pi's revision code, such as `c03114`; empty elsewhere.
    pub revision: String,
    /// Of the kernel, 32 or 64: programs may be of 32 bits on one of 64.
    pub kernel_bits: Option<u8>,
    /// What it started from.
    pub boot: Boot,
    /// Whether it has a clock that runs on without power.
    pub has_rtc: bool,
    /// Whether the kernel can limit the memory of containers.
    pub memory_cgroup: Option<bool>,
}

/// Reads the machine.
pub struct Sensors {
    files: Files,
    disk: PathBuf,
    system: System,
}

impl Sensors {
    /// `disk` is a path on the file system whose room counts.
    #[must_use]
    pub fn new(root: &Path, disk: &Path) -> Self {
        let kinds = RefreshKind::nothing()
            .with_cpu(CpuRefreshKind::nothing().with_cpu_usage())
            .with_memory(MemoryRefreshKind::nothing().with_ram());
        Self { files: Files::below(root), disk: disk.to_owned(), system: System::new_with_specifics(kinds) }
    }

    fn text(&self, path: &str) -> Option<String> {
        self.files.text(path)
    }

    /// What the machine is.
    #[must_use]
    pub fn machine(&self) -> Machine {
        let release = self.text("etc/os-release").unwrap_or_default();
        let pretty = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("Linux").trim_matches('"');
        Machine {
            model: self.text("proc/device-tree/model").unwrap_or_default(),
            compatible: self
                .text("proc/device-tree/compatible")
                .map(|text| text.split('\0').map(str::to_owned).collect())
                .unwrap_or_default(),
            os_image: pretty.to_owned(),
            kernel_version: System::kernel_version().unwrap_or_default(),
            architecture: go_architecture(std::env::consts::ARCH),
            cpus: self.system.cpus().len().max(1) as u64,
            memory_bytes: self.system.total_memory(),
            host_name: System::host_name().unwrap_or_else(|| "localhost".to_owned()),
            boot_id: self.text("proc/sys/kernel/random/boot_id").unwrap_or_default(),
            machine_id: self.text("etc/machine-id").unwrap_or_default(),
            system_uuid: self
                .text("sys/class/dmi/id/product_uuid")
                .or_else(|| self.text("proc/device-tree/serial-number"))
                .unwrap_or_default(),
            serial: self.text("proc/device-tree/serial-number").unwrap_or_default(),
            revision: system::revision(&self.files),
            kernel_bits: system::kernel_bits(&System::cpu_arch()),
            boot: medium::boot(&self.files),
            has_rtc: system::has_rtc(&self.files),
            memory_cgroup: system::memory_cgroup(&self.files),
        }
    }

    /// How busy and how full the machine is now. Takes about a millisecond, mostly in `/proc`.
    pub fn read(&mut self) -> Reading {
        self.system.refresh_cpu_usage();
        self.system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        let disk = rustix::fs::statvfs(&self.disk).ok();
        Reading {
            uptime_seconds: System::uptime(),
            load_1m: System::load_average().one,
            cpu_percent: self.system.global_cpu_usage(),
            memory_total_bytes: self.system.total_memory(),
            memory_available_bytes: self.system.available_memory(),
            disk_total_bytes: disk.as_ref().map_or(0, |disk| disk.f_blocks * disk.f_frsize),
            disk_available_bytes: disk.as_ref().map_or(0, |disk| disk.f_bavail * disk.f_frsize),
            agent_written_bytes: self
                .text("proc/self/io")
                .and_then(|io| io.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok())),
        }
    }
}

/// How the board is now: some twenty small files. What they are, and what it costs, stands in `docs/health.md`.
#[must_use]
pub fn hardware(files: &Files, boot: &Boot) -> Hardware {
    let (cpu_mhz, cpu_max_mhz) = firmware::cpu_mhz(files);
    let signal = wifi::signal(files);
    let wireless = || wifi::interface(files).filter(|_| files.are_of_this_machine());
    let interface = signal.as_ref().map(|(name, _)| name.clone()).or_else(wireless);
    Hardware {
        throttle: firmware::throttle(files),
        temperature_celsius: firmware::temperature_celsius(files),
        cpu_mhz,
        cpu_max_mhz,
        disk_written_bytes: medium::written_bytes(files, boot),
        emmc: medium::emmc_life(files, boot),
        wifi_signal_dbm: signal.map(|(_, dbm)| dbm),
        wifi_power_save: interface.and_then(|name| wifi::power_save(files, &name)),
        time_synchronized: system::time_synchronized(files),
    }
}

/// What can run short, now: of the machine, of the file system with the node's files, and of that with images (the same, when it
/// is not known where they lie).
#[must_use]
pub fn levels(nodefs: &Path, imagefs: Option<&Path>) -> Levels {
    let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let memory = text("/proc/meminfo");
    let bytes = |name: &str| {
        let line = memory.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_ascii_whitespace().next()?.parse::<u64>().ok().map(|kib| kib.saturating_mul(1024))
    };
    // `0.14 0.49 1.25 2/456 30868`: of 456 processes and threads, 2 run.
    let load = text("/proc/loadavg");
    let used = load.split_ascii_whitespace().nth(3).and_then(|field| field.split_once('/')?.1.parse().ok());
    let most = ["/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"];
    let most = most.into_iter().filter_map(|path| text(path).trim().parse::<u64>().ok()).min();
    Levels {
        memory_total_bytes: bytes("MemTotal:").unwrap_or_default(),
        memory_available_bytes: bytes("MemAvailable:").unwrap_or_default(),
        nodefs: room(nodefs),
        imagefs: imagefs.map_or_else(|| room(nodefs), room),
        pids_total: most.unwrap_or_default(),
        pids_used: used.unwrap_or_default(),
    }
}

fn room(path: &Path) -> Room {
    let Ok(disk) = rustix::fs::statvfs(path) else { return Room::default() };
    Room {
        total_bytes: disk.f_blocks.saturating_mul(disk.f_frsize),
        available_bytes: disk.f_bavail.saturating_mul(disk.f_frsize),
        inodes: disk.f_files,
        inodes_free: disk.f_favail,
    }
}

fn go_architecture(rust: &str) -> &'static str {
    match rust {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "arm" => "arm",
        "x86" => "386",
        "riscv64" => "riscv64",
        _ => "unknown",
    }
}

#[cfg(test)]
mod boards_tests;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_read() {
        let mut sensors = Sensors::new(Path::new("/"), Path::new("/"));
        let (machine, reading) = (sensors.machine(), sensors.read());
        assert!(machine.cpus > 0 && machine.memory_bytes > 1 << 20 && !machine.boot_id.is_empty());
        assert!(reading.memory_available_bytes > 0 && reading.disk_total_bytes >= reading.disk_available_bytes);
        assert!(reading.uptime_seconds > 0 && reading.agent_written_bytes.is_some());
    }

    #[test]
    fn a_pi_is_told_by_its_firmware() {
        let root = files::tests::tree(&[
            ("proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\0"),
            ("proc/device-tree/compatible", "raspberrypi,4-model-b\0brcm,bcm2711\0"),
            ("etc/os-release", "NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n"),
        ]);
        let machine = Sensors::new(root.path(), Path::new("/")).machine();
        assert_eq!(machine.model, "Raspberry Pi 4 Model B Rev 1.4");
        assert_eq!(machine.compatible, ["raspberrypi,4-model-b", "brcm,bcm2711"]);
        assert_eq!(machine.os_image, "Debian GNU/Linux 12 (bookworm)");
    }
}
