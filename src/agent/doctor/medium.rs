//! What lies on an SD card or eMMC: from a path to its mount, from there to the block device.
//!
//! Source: proc(5) (`/proc/mounts`, with octal escapes), the kernel's names of partitions (`mmcblk0p2`, `nvme0n1p2`, `sda2`).

use super::{Host, is_pi};

/// A line of `/proc/mounts`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Mount {
    pub device: String,
    pub point: String,
    pub kind: String,
    pub options: Vec<String>,
}

impl Mount {
    /// Whether nothing can be written to it.
    #[must_use]
    pub fn read_only(&self) -> bool {
        self.options.iter().any(|option| option == "ro")
    }
}

/// The mount that a path is on; the last one wins where several are stacked.
#[must_use]
pub fn mount_of(host: &dyn Host, path: &str) -> Option<Mount> {
    let text = host.read("/proc/mounts").text()?;
    let under = |point: &str| point == "/" || path == point || path.strip_prefix(point).is_some_and(|rest| rest.starts_with('/'));
    text.lines().filter_map(mount).filter(|mount| under(&mount.point)).max_by_key(|mount| mount.point.len())
}

fn mount(line: &str) -> Option<Mount> {
    let mut fields = line.split(' ').map(unescaped);
    let (device, point, kind) = (fields.next()?, fields.next()?, fields.next()?);
    Some(Mount { device, point, kind, options: fields.next()?.split(',').map(str::to_owned).collect() })
}

/// `\040` is a blank.
pub(super) fn unescaped(field: &str) -> String {
    let mut parts = field.split('\\');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                text.push(char::from(byte));
                text.push_str(part.get(3..).unwrap_or_default());
            }
            None => {
                text.push('\\');
                text.push_str(part);
            }
        }
    }
    text
}

/// The disk of a device file, as `/sys/block` names it: `/dev/mmcblk0p2` → `mmcblk0`. `/dev/root` is what the kernel was given as `root=`.
#[must_use]
pub fn disk_of(host: &dyn Host, device: &str) -> Option<String> {
    if device == "/dev/root" {
        let given = host.read("/proc/cmdline").text()?;
        let root = given.split_ascii_whitespace().filter_map(|word| word.strip_prefix("root=")).next_back()?;
        let named = |prefix, folder| Some(format!("/dev/disk/{folder}/{}", root.strip_prefix(prefix)?));
        let by_name =
            named("PARTUUID=", "by-partuuid").or_else(|| named("UUID=", "by-uuid")).or_else(|| named("LABEL=", "by-label"));
        let root = by_name.unwrap_or_else(|| root.to_owned());
        return (root != device).then(|| disk_of(host, &root)).flatten();
    }
    let target = host.link(device);
    let name = target.as_deref().unwrap_or(device).rsplit('/').next()?;
    let numbered = name.trim_end_matches(|c: char| c.is_ascii_digit());
    // `mmcblk0` and `nvme0n1` end in digits themselves.
    let disk = match numbered.strip_suffix('p').filter(|disk| disk.ends_with(|c: char| c.is_ascii_digit())) {
        Some(disk) if numbered.len() < name.len() => disk,
        _ if name.starts_with("mmcblk") || name.starts_with("nvme") || name.starts_with("zram") || name.starts_with("loop") => {
            name
        }
        _ => numbered,
    };
    (!disk.is_empty()).then(|| disk.to_owned())
}

/// Whether a disk is an SD card or an eMMC.
#[must_use]
pub fn is_card(disk: &str) -> bool {
    disk.starts_with("mmcblk")
}

/// Whether a path lies on one. A Pi's root file system that does not run is taken for the card that it mostly is.
#[must_use]
pub fn on_card(host: &dyn Host, path: &str) -> bool {
    match mount_of(host, path) {
        Some(mount) => disk_of(host, &mount.device).is_some_and(|disk| is_card(&disk)),
        None => is_pi(host),
    }
}
