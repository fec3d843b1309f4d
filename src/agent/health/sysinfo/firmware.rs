//! Power, heat and the processor's rate, as a Pi's firmware and the kernel tell them.
//!
//! The firmware's word is looked for in this order: the file `get_throttled` of the kernel's firmware driver (Raspberry Pi's kernels
//! only), the voltage sensor `rpi_volt` (mainline too: voltage alone). The firmware's mailbox, `/dev/vcio`, would need an `ioctl`
//! (`docs/dependencies.md`), and is there on the very kernels that have the file. Source: the kernel's
//! `drivers/firmware/raspberrypi.c` of Raspberry Pi's tree, and `drivers/hwmon/raspberrypi-hwmon.c`.

use super::files::Files;
use crate::agent::health::hardware::Throttle;

/// What a sensor can measure; beyond that it is broken.
const CELSIUS: (i64, i64) = (-40, 150);
/// Where the kernel has its buses; a Pi's firmware is below `soc` or, on newer ones, `soc@107c000000`.
const PLATFORM: &str = "sys/devices/platform";
const HWMON: &str = "sys/class/hwmon";

/// The file in which the firmware driver tells the bits, if this kernel has it.
#[must_use]
pub fn throttle_file(files: &Files) -> Option<String> {
    let buses = files.names(PLATFORM).into_iter().filter(|name| name == "soc" || name.starts_with("soc@"));
    let drivers = buses.flat_map(|bus| {
        let folder = format!("{PLATFORM}/{bus}");
        let firmware = files.names(&folder).into_iter().filter(|name| name.ends_with(":firmware") || name == "firmware");
        firmware.map(|name| format!("{folder}/{name}/get_throttled")).collect::<Vec<_>>()
    });
    drivers.into_iter().find(|path| files.is_there(path))
}

/// The file that changes when the firmware's word on power does, if there is one: drivers ring for it.
#[must_use]
pub fn power_file(files: &Files) -> Option<String> {
    throttle_file(files).or_else(|| alarm_files(files).into_iter().find(|path| files.is_there(path)))
}

fn alarm_files(files: &Files) -> Vec<String> {
    let sensors = hwmon(files, |name| name == "rpi_volt");
    sensors.into_iter().map(|folder| format!("{folder}/in0_lcrit_alarm")).collect()
}

/// What the firmware says of power and heat.
#[must_use]
pub fn throttle(files: &Files) -> Option<Throttle> {
    // The alarm is bit 16 as the driver found it last: under-voltage within 2 s.
    let alarm = alarm_files(files).into_iter().find_map(|path| files.number(&path, 0, 1));
    let told = throttle_file(files).and_then(|path| files.read(&path, Throttle::parse));
    match (told, alarm) {
        (Some(bits), _) => {
            Some(Throttle { bits: bits | alarm.map_or(0, |on| u32::from(on == 1) << 16), forgets: alarm.is_some() })
        }
        (None, Some(on)) => Some(Throttle { bits: u32::from(on == 1), forgets: true }),
        (None, None) => None,
    }
}

/// Of the sensors with names like this, the folders.
fn hwmon(files: &Files, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let folders = files.names(HWMON).into_iter().map(|name| format!("{HWMON}/{name}"));
    folders.filter(|folder| files.text(&format!("{folder}/name")).is_some_and(|name| wanted(&name))).collect()
}

/// The processor's temperature: the kernel's thermal zone of that name, else the hottest sensor of the processor's.
#[must_use]
pub fn temperature_celsius(files: &Files) -> Option<f32> {
    const ZONES: &str = "sys/class/thermal";
    let celsius = |path: &str| {
        let thousandths = files.number(path, CELSIUS.0 * 1000, CELSIUS.1 * 1000)?;
        #[allow(clippy::cast_precision_loss)] // at most 150,000
        Some(thousandths as f32 / 1000.0)
    };
    let zones = files.names(ZONES).into_iter().filter(|name| name.starts_with("thermal_zone"));
    let of_cpu = |zone: &String| {
        let kind = files.text(&format!("{ZONES}/{zone}/type")).unwrap_or_default();
        // `cpu-thermal` and `cpu_thermal` on a Pi; `soc-thermal`, `x86_pkg_temp` elsewhere.
        ["cpu", "soc", "pkg"].iter().any(|word| kind.contains(word))
    };
    let zone = zones.filter(of_cpu).filter_map(|zone| celsius(&format!("{ZONES}/{zone}/temp"))).reduce(f32::max);
    zone.or_else(|| {
        let sensors = hwmon(files, |name| ["cpu_thermal", "coretemp", "k10temp", "zenpower"].contains(&name));
        let inputs = sensors.into_iter().flat_map(|folder| {
            let names = files.names(&folder).into_iter().filter(|name| name.starts_with("temp") && name.ends_with("_input"));
            names.map(|name| format!("{folder}/{name}")).collect::<Vec<_>>()
        });
        inputs.filter_map(|path| celsius(&path)).reduce(f32::max)
    })
}

/// The processor's rate now and the most that it may be, in MHz: the first core's, as all of a Pi's go alike.
#[must_use]
pub fn cpu_mhz(files: &Files) -> (Option<u32>, Option<u32>) {
    let rate = |file: &str| {
        let khz = files.number(&format!("sys/devices/system/cpu/cpu0/cpufreq/{file}"), 1000, 20_000_000)?;
        u32::try_from(khz / 1000).ok()
    };
    (rate("scaling_cur_freq"), rate("cpuinfo_max_freq"))
}
