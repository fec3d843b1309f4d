//! What is read of boards, from trees as their kernels show them: Raspberry Pi OS Bookworm's (6.6, `+rpt`) and mainline's (Debian's
//! 6.1 and 6.12). Where the form of a file is not recorded from a board it is as the driver's source writes it.

use super::files::Files;
use super::files::tests::tree;
use super::{firmware, hardware, medium, system, wifi};
use crate::agent::health::hardware::{Boot, EmmcLife, Hardware, Medium, Spare, Throttle};

/// A tree of two parts.
fn card(more: &[(&str, &str)], base: &[(&str, &str)]) -> tempfile::TempDir {
    tree(&[base, more].concat())
}

/// The SD card of a 4B: its name, date and numbers are those of a SanDisk card.
const SD_4B: &[(&str, &str)] = &[
    (
        "proc/self/mountinfo",
        "21 25 0:20 / /sys rw - sysfs sysfs rw\n25 1 179:2 / / rw,noatime shared:1 - ext4 /dev/mmcblk0p2 rw\n",
    ),
    ("sys/dev/block/179:2", "-> ../../devices/platform/emmc2bus/fe340000.mmc/mmc_host/mmc0/mmc0:aaaa/block/mmcblk0/mmcblk0p2"),
    ("sys/class/block/mmcblk0", "-> ../../devices/platform/emmc2bus/fe340000.mmc/mmc_host/mmc0/mmc0:aaaa/block/mmcblk0"),
    ("sys/devices/platform/emmc2bus/fe340000.mmc/mmc_host/mmc0/mmc0:aaaa/block/mmcblk0/mmcblk0p2/partition", "2\n"),
    (
        "sys/devices/platform/emmc2bus/fe340000.mmc/mmc_host/mmc0/mmc0:aaaa/block/mmcblk0/stat",
        "   34093     9216  2508990   262160    14230    13221   641234   131456        0    98720   393617        0        0        0        0        0        0\n",
    ),
    ("sys/devices/platform/emmc2bus/fe340000.mmc/mmc_host/mmc0/mmc0:aaaa/block/mmcblk0/device", "-> ../.."),
    ("sys/devices/platform/emmc2bus/fe340000.mmc/mmc_host/mmc0/mmc0:aaaa/type", "SD\n"),
    ("sys/devices/platform/emmc2bus/fe340000.mmc/mmc_host/mmc0/mmc0:aaaa/name", "SC32G\n"),
    ("sys/devices/platform/emmc2bus/fe340000.mmc/mmc_host/mmc0/mmc0:aaaa/date", "03/2021\n"),
    ("sys/devices/platform/emmc2bus/fe340000.mmc/mmc_host/mmc0/mmc0:aaaa/manfid", "0x000003\n"),
    ("sys/devices/platform/emmc2bus/fe340000.mmc/mmc_host/mmc0/mmc0:aaaa/serial", "0x1f2e3d4c\n"),
];

fn read(root: &tempfile::TempDir) -> (Files, Boot, Hardware) {
    let files = Files::below(root.path());
    let boot = medium::boot(&files);
    let hardware = hardware(&files, &boot);
    (files, boot, hardware)
}

#[test]
fn a_4b_with_raspberry_pi_os_tells_everything() {
    let root = card(
        &[
            ("sys/devices/platform/soc/soc:firmware/get_throttled", "50005\n"),
            ("sys/class/hwmon/hwmon0/name", "cpu_thermal\n"),
            ("sys/class/hwmon/hwmon1/name", "rpi_volt\n"),
            ("sys/class/hwmon/hwmon1/in0_lcrit_alarm", "1\n"),
            ("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n"),
            ("sys/class/thermal/thermal_zone0/temp", "61342\n"),
            ("sys/class/thermal/cooling_device0/type", "cpufreq-cpu0\n"),
            ("sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "600000\n"),
            ("sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq", "1800000\n"),
            ("proc/cpuinfo", "processor\t: 0\nModel name\t: x\nRevision\t: c03114\nSerial\t\t: 10000000abcdef01\n"),
            (
                "proc/net/wireless",
                "Inter-| sta-|   Quality        |   Discarded packets               | Missed | WE\n face | tus | link level noise |  nwid  crypt   frag  retry   misc | beacon | 22\n wlan0: 0000   54.  -56.  -256        0      0      0      1      0        0\n",
            ),
            ("proc/cgroups", "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpuset\t0\t80\t1\nmemory\t0\t80\t0\n"),
            ("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io pids\n"),
            ("run/systemd/timesync/synchronized", ""),
        ],
        SD_4B,
    );
    let (files, boot, found) = read(&root);
    let expected = Hardware {
        throttle: Some(Throttle { bits: 0x5_0005, forgets: true }),
        temperature_celsius: Some(61.342),
        cpu_mhz: Some(600),
        cpu_max_mhz: Some(1800),
        disk_written_bytes: Some(641_234 * 512),
        emmc: EmmcLife::default(),
        wifi_signal_dbm: Some(-56),
        wifi_power_save: None,
        time_synchronized: Some(true),
    };
    assert_eq!(found, expected);
    let told = (boot.medium, boot.device.as_str(), boot.card_name.as_str(), boot.card_date.as_str());
    assert_eq!(told, (Some(Medium::Sd), "mmcblk0", "SC32G", "03/2021"));
    assert_eq!((boot.card_manufacturer_id.as_str(), boot.card_serial.as_str()), ("0x000003", "0x1f2e3d4c"));
    assert_eq!((system::has_rtc(&files), system::memory_cgroup(&files)), (false, Some(false)));
    assert_eq!(system::revision(&files), "c03114");
}

#[test]
fn a_zero_w_and_a_3b_plus_with_mainline_kernels_tell_what_these_know() {
    // The Zero W: Debian's armel kernel, no voltage sensor, no wireless extensions, the revision in the device tree only.
    let zero = tree(&[
        ("proc/self/mountinfo", "1 1 0:2 / / rw - rootfs rootfs rw\n28 1 179:2 / / rw - ext4 /dev/root rw\n"),
        ("sys/dev/block/179:2", "-> ../../devices/platform/soc/20300000.mmc/mmc_host/mmc0/mmc0:0007/block/mmcblk0/mmcblk0p2"),
        ("sys/devices/platform/soc/20300000.mmc/mmc_host/mmc0/mmc0:0007/block/mmcblk0/mmcblk0p2/partition", "2\n"),
        ("sys/devices/platform/soc/20300000.mmc/mmc_host/mmc0/mmc0:0007/block/mmcblk0/device/type", "SD\n"),
        ("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n"),
        ("sys/class/thermal/thermal_zone0/temp", "25178\n"),
        ("proc/cpuinfo", "processor\t: 0\nmodel name\t: ARMv6-compatible processor rev 7 (v6l)\n"),
        ("proc/device-tree/system/linux,revision", "\0\u{0}\u{0}\u{c}"),
        ("sys/class/net/wlan0/phy80211/name", "phy0\n"),
        ("proc/cgroups", "#subsys_name\thierarchy\tnum_cgroups\tenabled\nmemory\t11\t135\t1\n"),
    ]);
    let (files, boot, found) = read(&zero);
    assert_eq!(found, Hardware { temperature_celsius: Some(25.178), ..Hardware::default() });
    assert_eq!((boot.medium, boot.device.as_str(), boot.card_name.as_str()), (Some(Medium::Sd), "mmcblk0", ""));
    assert_eq!((wifi::interface(&files).as_deref(), system::revision(&files)), (Some("wlan0"), "c".to_owned()));
    assert_eq!(system::memory_cgroup(&files), Some(true));
    // The 3B+: the voltage sensor of mainline, a zone with the older name, and a root on a USB stick that the kernel was told by UUID.
    let three = tree(&[
        ("proc/self/mountinfo", "22 1 0:31 / / rw - overlay overlay rw,lowerdir=/lower\n"),
        ("proc/cmdline", "console=tty1 root=PARTUUID=5e3da3da-02 rootfstype=ext4 rootwait overlayroot=tmpfs\n"),
        ("dev/disk/by-partuuid/5e3da3da-02", "-> ../../sda2"),
        ("dev/sda2", ""),
        (
            "sys/class/block/sda2",
            "-> ../../devices/platform/soc/3f980000.usb/usb1/1-1/1-1.2/1-1.2:1.0/host0/target0:0:0/0:0:0:0/block/sda/sda2",
        ),
        (
            "sys/devices/platform/soc/3f980000.usb/usb1/1-1/1-1.2/1-1.2:1.0/host0/target0:0:0/0:0:0:0/block/sda/sda2/partition",
            "2\n",
        ),
        ("sys/class/hwmon/hwmon0/name", "rpi_volt\n"),
        ("sys/class/hwmon/hwmon0/in0_lcrit_alarm", "1\n"),
        ("sys/class/hwmon/hwmon1/name", "cpu_thermal\n"),
        ("sys/class/hwmon/hwmon1/temp1_input", "48850\n"),
    ]);
    let (_, boot, found) = read(&three);
    assert_eq!((boot.medium, boot.device.as_str()), (Some(Medium::Usb), "sda"));
    assert_eq!(found.throttle, Some(Throttle { bits: 1, forgets: true }), "voltage alone");
    assert_eq!(found.temperature_celsius, Some(48.85));
}

#[test]
fn a_5_starts_from_nvme_and_has_a_clock() {
    let root = tree(&[
        ("proc/self/mountinfo", "29 1 259:2 / / rw - ext4 /dev/nvme0n1p2 rw\n"),
        (
            "sys/dev/block/259:2",
            "-> ../../devices/platform/axi/1000110000.pcie/pci0000:00/0000:01:00.0/nvme/nvme0/nvme0n1/nvme0n1p2",
        ),
        ("sys/devices/platform/axi/1000110000.pcie/pci0000:00/0000:01:00.0/nvme/nvme0/nvme0n1/nvme0n1p2/partition", "2\n"),
        ("sys/class/block/nvme0n1/stat", "1 0 8 0 5 0 4000 0 0 0 0\n"),
        ("sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled", "0\n"),
        ("sys/class/rtc/rtc0/name", "rpi_rtc soc@107c000000:rpi_rtc\n"),
        ("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n"),
        ("run/systemd/timesync/x", ""),
    ]);
    let (files, boot, found) = read(&root);
    assert_eq!((boot.medium, boot.device.as_str(), boot.card_serial.as_str()), (Some(Medium::Nvme), "nvme0n1", ""));
    assert_eq!(found.throttle, Some(Throttle { bits: 0, forgets: false }));
    assert_eq!((found.disk_written_bytes, found.time_synchronized), (Some(4000 * 512), Some(false)));
    assert_eq!((system::has_rtc(&files), system::memory_cgroup(&files)), (true, Some(true)));
}

#[test]
fn a_cm4_tells_how_worn_its_emmc_is() {
    let cm4 = |life: &str, spare: &str| {
        let root = tree(&[
            ("proc/self/mountinfo", "29 1 253:0 / / rw - ext4 /dev/mapper/root rw\n"),
            // An encrypted root: the device below it counts.
            ("sys/dev/block/253:0", "-> ../../devices/virtual/block/dm-0"),
            (
                "sys/devices/virtual/block/dm-0/slaves/mmcblk0p2",
                "-> ../../../../platform/emmc2bus/mmc0:0001/block/mmcblk0/mmcblk0p2",
            ),
            ("sys/devices/platform/emmc2bus/mmc0:0001/block/mmcblk0/mmcblk0p2/partition", "2\n"),
            ("sys/devices/platform/emmc2bus/mmc0:0001/block/mmcblk0/device", "-> ../.."),
            ("sys/class/block/mmcblk0", "-> ../../devices/platform/emmc2bus/mmc0:0001/block/mmcblk0"),
            ("sys/devices/platform/emmc2bus/mmc0:0001/type", "MMC\n"),
            ("sys/devices/platform/emmc2bus/mmc0:0001/name", "BJTD4R\n"),
            ("sys/devices/platform/emmc2bus/mmc0:0001/life_time", life),
            ("sys/devices/platform/emmc2bus/mmc0:0001/pre_eol_info", spare),
        ]);
        let (_, boot, found) = read(&root);
        assert_eq!((boot.medium, boot.device.as_str(), boot.card_name.as_str()), (Some(Medium::Emmc), "mmcblk0", "BJTD4R"));
        (found.emmc.used_percent, found.emmc.spare)
    };
    assert_eq!(cm4("0x01 0x03\n", "0x01\n"), (Some(30), Some(Spare::Normal)));
    assert_eq!(cm4("0x0b 0x01\n", "0x03\n"), (Some(110), Some(Spare::Urgent)));
    assert_eq!(cm4("0x00 0x00\n", "0x00\n"), (None, None), "a maker who does not tell");
    assert_eq!(cm4("0x7f 0x01\n", "0x09\n"), (None, None));
    assert_eq!(cm4("worn", ""), (None, None));
}

#[test]
fn roots_on_the_network_and_in_memory_have_no_device() {
    for (mount, medium) in [
        ("29 1 0:19 / / rw - nfs4 10.0.0.1:/srv/pi rw\n", Some(Medium::Network)),
        ("29 1 0:19 / / rw - tmpfs tmpfs rw\n", Some(Medium::Memory)),
        ("29 1 0:19 / / rw - overlay overlay rw\n", None),
        ("29 1 0:19 / / rw - btrfs /dev/gone rw\n", None),
        ("nonsense\n29 1 / / - x\n", None),
    ] {
        let root = tree(&[("proc/self/mountinfo", mount)]);
        assert_eq!(read(&root).1, Boot { medium, ..Boot::default() }, "{mount}");
    }
}

#[test]
fn nonsense_in_every_file_is_unknown_and_harms_nothing() {
    let huge = "9".repeat(200_000);
    for nonsense in ["", "\0\0\0", "-1\n", "lukewarm", "99999999999999999999", "0x", "1 2 3", huge.as_str(), "\u{fffd}\u{fffd}"] {
        let root = card(
            &[
                ("sys/devices/platform/soc/soc:firmware/get_throttled", if nonsense == "-1\n" { "ffffffff" } else { nonsense }),
                ("sys/class/hwmon/hwmon1/name", "rpi_volt\n"),
                ("sys/class/hwmon/hwmon1/in0_lcrit_alarm", nonsense),
                ("sys/class/hwmon/hwmon0/name", nonsense),
                ("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n"),
                ("sys/class/thermal/thermal_zone0/temp", if nonsense == "-1\n" { "-300000\n" } else { nonsense }),
                ("sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", nonsense),
                ("sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq", nonsense),
                ("proc/cpuinfo", nonsense),
                ("proc/device-tree/system/linux,revision", nonsense),
                ("proc/net/wireless", nonsense),
                ("proc/cmdline", nonsense),
                ("proc/self/mountinfo", nonsense),
                ("sys/class/block/mmcblk1/stat", nonsense),
                ("sys/class/block/mmcblk1/device/life_time", nonsense),
                ("sys/class/block/mmcblk1/device/pre_eol_info", nonsense),
            ],
            &[],
        );
        let (files, boot, found) = read(&root);
        assert_eq!((found, boot), (Hardware::default(), Boot::default()), "{nonsense:.20}");
        assert_eq!((system::revision(&files), firmware::cpu_mhz(&files)), (String::new(), (None, None)), "{nonsense:.20}");
        let boot = Boot { medium: Some(Medium::Emmc), device: "mmcblk1".into(), ..Boot::default() };
        assert_eq!(medium::written_bytes(&files, &boot), None, "{nonsense:.20}");
        assert_eq!(medium::emmc_life(&files, &boot), EmmcLife::default(), "{nonsense:.20}");
    }
}

#[test]
fn signals_without_a_scale_are_unknown() {
    let heading = "Inter-| sta-|\n face | tus |\n";
    for (line, signal) in [
        (" wlan0: 0000   54.  -56.  -256  0\n", Some(("wlan0".to_owned(), -56))),
        (" wlan0: 0000   54   -70   -256  0\n", Some(("wlan0".to_owned(), -70))),
        (" wlan0: 0000    0.    0.     0.  0\n", None),
        (" wlan0: 0000    0.  -256.  -256  0\n wlan1: 0000 10. -80. -256 0\n", Some(("wlan1".to_owned(), -80))),
        ("", None),
    ] {
        let root = tree(&[("proc/net/wireless", &format!("{heading}{line}"))]);
        assert_eq!(wifi::signal(&Files::below(root.path())), signal, "{line}");
    }
}
