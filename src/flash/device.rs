//! Whether a disk may be written: never one that this machine works with.
//!
//! In:       what /proc and /sys say, as text.
//! Out:      why not, or nothing.
//! Never:    asks the kernel itself (`disk.rs`).
//! Source:   proc(5): mountinfo, swaps; sysfs: a disk's `holders` are device-mapper, RAID and the like.

/// A block device, or a partition of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// As below /dev: `sda`, `mmcblk0p1`.
    pub name: String,
    /// `MAJOR:MINOR`.
    pub number: String,
    /// Devices that are made of it.
    pub holders: Vec<String>,
}

/// A whole disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// The disk itself first, then its partitions.
    pub parts: Vec<Part>,
    /// Its length.
    pub bytes: u64,
    /// What its maker calls it.
    pub model: String,
    /// Whether it is made to be taken out.
    pub is_removable: bool,
}

impl Device {
    /// For a person who is to say yes to it.
    #[must_use]
    pub fn title(&self) -> String {
        let name = self.parts.first().map_or("", |part| part.name.as_str());
        let card = self.is_removable || name.starts_with("mmcblk");
        let model = if self.model.is_empty() { String::new() } else { format!(", {}", self.model) };
        let gigabytes = self.bytes as f64 / 1e9;
        let warning = if card { "" } else { "; it is NO removable disk" };
        format!("/dev/{name}: {gigabytes:.1} GB{model}{warning}")
    }

    /// Why it may not be written; `mountinfo` and `swaps` are those files' texts.
    #[must_use]
    pub fn in_use(&self, mountinfo: &str, swaps: &str) -> Option<String> {
        for part in &self.parts {
            let source = format!("/dev/{}", part.name);
            for line in mountinfo.lines() {
                let (fields, rest) = line.split_once(" - ").unwrap_or((line, ""));
                let mut fields = fields.split(' ');
                let (number, place) = (fields.nth(2).unwrap_or_default(), fields.nth(1).unwrap_or_default());
                // btrfs has numbers of its own, and names its device.
                if number == part.number || rest.split(' ').nth(1) == Some(&source) {
                    return Some(format!("{source} is mounted at {place}"));
                }
            }
            if swaps.lines().skip(1).any(|line| line.split_whitespace().next() == Some(&source)) {
                return Some(format!("this machine swaps to {source}"));
            }
            if let Some(holder) = part.holders.first() {
                return Some(format!("{source} is a part of /dev/{holder} (LVM, RAID, encryption or the like)"));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "22 1 179:2 / / rw,noatime shared:1 - ext4 /dev/root rw\n23 22 0:45 / /pool rw - btrfs /dev/sdb1 rw\n24 22 8:17 / /media/my\\040card rw - vfat /dev/sdc1 rw\n";
    const SWAPS: &str = "Filename\t\t\t\tType\t\tSize\n/dev/sdd2                               partition\t1048572\n";

    fn device(parts: &[(&str, &str)]) -> Device {
        let part = |(name, number): &(&str, &str)| Part { name: (*name).into(), number: (*number).into(), holders: Vec::new() };
        Device { parts: parts.iter().map(part).collect(), bytes: 32_000_000_000, model: "SD32G".into(), is_removable: true }
    }

    #[test]
    fn a_disk_that_this_machine_works_with_is_never_written() {
        let why = |device: &Device| device.in_use(MOUNTS, SWAPS).unwrap_or_default();
        assert_eq!(
            why(&device(&[("mmcblk0", "179:0"), ("mmcblk0p1", "179:1"), ("mmcblk0p2", "179:2")])),
            "/dev/mmcblk0p2 is mounted at /"
        );
        assert_eq!(why(&device(&[("sdb", "8:0"), ("sdb1", "8:1")])), "/dev/sdb1 is mounted at /pool");
        assert_eq!(why(&device(&[("sdc", "8:16"), ("sdc1", "8:17")])), "/dev/sdc1 is mounted at /media/my\\040card");
        assert_eq!(why(&device(&[("sdd", "8:32"), ("sdd2", "8:34")])), "this machine swaps to /dev/sdd2");
        let mut held = device(&[("sde", "8:48"), ("sde1", "8:49")]);
        held.parts[1].holders.push("dm-0".into());
        assert_eq!(why(&held), "/dev/sde1 is a part of /dev/dm-0 (LVM, RAID, encryption or the like)");
        assert_eq!(device(&[("sdf", "8:80"), ("sdf1", "8:81")]).in_use(MOUNTS, SWAPS), None);
        // 8:1 is not 8:17.
        assert_eq!(device(&[("sdg", "8:170"), ("sdg1", "8:171")]).in_use(MOUNTS, SWAPS), None);
    }

    #[test]
    fn a_person_is_told_which_disk_it_is() {
        assert_eq!(device(&[("sdf", "8:80")]).title(), "/dev/sdf: 32.0 GB, SD32G");
        let fixed = Device { is_removable: false, model: String::new(), ..device(&[("sda", "8:0")]) };
        assert_eq!(fixed.title(), "/dev/sda: 32.0 GB; it is NO removable disk");
        assert_eq!(Device { is_removable: false, ..device(&[("mmcblk1", "179:8")]) }.title(), "/dev/mmcblk1: 32.0 GB, SD32G");
    }
}
