//! Readings → conditions, with two thresholds each, so that nothing flaps.
//!
//! In:       a [`Reading`].
//! Out:      which pressures there are.
//! Never:    reads a sensor (`sysinfo.rs`).

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
    /// The processor's.
    pub temperature_celsius: Option<f32>,
    /// Bits 2 and 1 of the firmware's `get_throttled`: throttled or frequency capped now.
    pub throttled: Option<bool>,
    /// Bit 0 of the same.
    pub under_voltage: Option<bool>,
    /// What this process has written to disk.
    pub agent_written_bytes: Option<u64>,
}

/// Which pressures there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressures {
    /// Little memory left.
    pub memory: bool,
    /// Little disk left.
    pub disk: bool,
}

/// Memory that is too little: the kubelet's `memory.available<100Mi`, and 150 MiB to be well again.
const MEMORY: (u64, u64) = (100 << 20, 150 << 20);
/// Disk that is too little, in percent of all: the kubelet's `nodefs.available<10%`, and 12 to be well again.
const DISK_PERCENT: (u64, u64) = (10, 12);

impl Pressures {
    /// The pressures after a reading, given those before.
    #[must_use]
    pub fn after(self, reading: &Reading) -> Self {
        let memory = if self.memory { MEMORY.1 } else { MEMORY.0 };
        let percent = if self.disk { DISK_PERCENT.1 } else { DISK_PERCENT.0 };
        Self {
            memory: reading.memory_total_bytes > 0 && reading.memory_available_bytes < memory,
            disk: reading.disk_available_bytes < reading.disk_total_bytes / 100 * percent,
        }
    }
}

/// What the firmware's `get_throttled` says now: (throttled or capped, under-voltage).
///
/// Source: Raspberry Pi documentation of `vcgencmd get_throttled`: bit 0 under-voltage, bit 1 frequency capped, bit 2 throttled.
#[must_use]
pub fn throttling(text: &str) -> Option<(bool, bool)> {
    let bits = u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok()?;
    Some((bits & 0b110 != 0, bits & 1 != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(memory_mib: u64, disk_percent: u64) -> Reading {
        Reading {
            memory_total_bytes: 1 << 30,
            memory_available_bytes: memory_mib << 20,
            disk_total_bytes: 100 << 30,
            disk_available_bytes: disk_percent << 30,
            ..Reading::default()
        }
    }

    #[test]
    fn a_pressure_goes_later_than_it_comes() {
        let mut pressures = Pressures::default();
        let mut seen = Vec::new();
        for memory in [200, 120, 99, 120, 151, 120] {
            pressures = pressures.after(&reading(memory, 50));
            seen.push(pressures.memory);
        }
        assert_eq!(seen, [false, false, true, true, false, false]);
        assert!(pressures.after(&reading(500, 9)).disk);
        assert!(Pressures { disk: true, memory: false }.after(&reading(500, 11)).disk);
        assert!(!Pressures { disk: true, memory: false }.after(&reading(500, 13)).disk);
    }

    #[test]
    fn the_firmwares_bits_are_read() {
        assert_eq!(throttling("0x0\n"), Some((false, false)));
        assert_eq!(throttling("50005"), Some((true, true)));
        assert_eq!(throttling("0x50000"), Some((false, false)));
        assert_eq!(throttling("no"), None);
    }
}
