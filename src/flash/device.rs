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

/// One line of mountinfo.
struct Mount<'a> {
    number: &'a str,
    place: String,
    kind: &'a str,
}

impl<'a> Mount<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let (fields, rest) = line.split_once(" - ")?;
        let mut fields = fields.split(' ');
        let (number, place) = (fields.nth(2)?, fields.nth(1)?);
        // Source: proc(5): these four are written in octal.
        let place = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
            .into_iter()
            .fold(place.to_owned(), |place, (code, c)| place.replace(code, c));
        Some(Self { number, place, kind: rest.split(' ').next()? })
    }

    fn holds(&self, path: &str) -> bool {
        within(path, &self.place)
    }
}

fn within(path: &str, folder: &str) -> bool {
    let folder = folder.trim_end_matches('/');
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Why a folder may not be written as a card's boot partition: it is the running system's. `folder` is its real path; `disk_of`: the disk of a
/// device's number, if the kernel knows it.
///
/// A plain folder, away from `/boot`, may: a copy of a boot partition that somebody keeps is nobody's system. So may a card that is mounted,
/// but not where its disk is the running system's own.
pub fn folder_in_use(folder: &str, mountinfo: &str, disk_of: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    const BOOT: &str = "/boot";
    if folder == "/" || within(folder, BOOT) {
        return Some(format!("{folder} is the running system's own"));
    }
    let mounts: Vec<Mount<'_>> = mountinfo.lines().filter_map(Mount::read).collect();
    // Of several the deepest; of several at one place the last, which covers the others.
    let held = mounts.iter().filter(|mount| mount.holds(folder)).max_by_key(|mount| mount.place.len())?;
    let own: Vec<&Mount<'_>> = mounts.iter().filter(|mount| mount.place == "/" || within(&mount.place, BOOT)).collect();
    if let Some(same) = own.iter().find(|own| own.number == held.number && own.place != "/") {
        return Some(format!("the same is mounted at {}, which the running system starts from", same.place));
    }
    if !matches!(held.kind, "vfat" | "msdos") {
        return None;
    }
    let disk = disk_of(held.number)?;
    let same = own.iter().find(|own| disk_of(own.number).as_ref() == Some(&disk))?;
    Some(format!("{} is on /dev/{disk}, as is the running system's {}", held.place, same.place))
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
    fn a_folder_of_the_running_system_is_refused_and_a_card_or_a_copy_is_not() {
        let mounts = "22 1 179:2 / / rw shared:1 - ext4 /dev/root rw\n23 22 179:1 / /boot/firmware rw - vfat /dev/mmcblk0p1 rw\n\
            24 22 179:1 / /mnt/again rw - vfat /dev/mmcblk0p1 rw\n25 22 8:17 / /media/anna/my\\040card rw - vfat /dev/sdb1 rw\n\
            26 22 0:30 / /tmp rw - tmpfs tmpfs rw\n27 22 179:3 / /srv rw - ext4 /dev/mmcblk0p3 rw\n28 22 179:4 / /mnt/second rw - vfat /dev/mmcblk0p4 rw\n\
            29 22 8:33 / /mnt/x rw - vfat /dev/sdc1 rw\n30 22 179:4 / /mnt/x rw - vfat /dev/mmcblk0p4 rw\n";
        let disk_of = |number: &str| match number.split(':').next() {
            Some("179") => Some("mmcblk0".to_owned()),
            Some("8") => Some(format!("sd{number}")),
            _ => None,
        };
        for (folder, why) in [
            ("/", "/ is the running system's own"),
            ("/boot", "/boot is the running system's own"),
            ("/boot/firmware", "/boot/firmware is the running system's own"),
            ("/boot/firmware/copy", "/boot/firmware/copy is the running system's own"),
            ("/mnt/again", "the same is mounted at /boot/firmware, which the running system starts from"),
            ("/mnt/second", "/mnt/second is on /dev/mmcblk0, as is the running system's /"),
            ("/mnt/x", "/mnt/x is on /dev/mmcblk0, as is the running system's /"),
        ] {
            assert_eq!(folder_in_use(folder, mounts, &disk_of).as_deref(), Some(why), "{folder}");
        }
        for folder in ["/media/anna/my card", "/media/anna/my card/x", "/tmp/boot", "/home/anna/boot", "/srv/boot", "/bootfs"] {
            assert_eq!(folder_in_use(folder, mounts, &disk_of), None, "{folder}");
        }
        assert_eq!(folder_in_use("/home/boot", "", &disk_of), None, "nothing is known");
    }

    #[test]
    fn a_person_is_told_which_disk_it_is() {
        assert_eq!(device(&[("sdf", "8:80")]).title(), "/dev/sdf: 32.0 GB, SD32G");
        let fixed = Device { is_removable: false, model: String::new(), ..device(&[("sda", "8:0")]) };
        assert_eq!(fixed.title(), "/dev/sda: 32.0 GB; it is NO removable disk");
        assert_eq!(Device { is_removable: false, ..device(&[("mmcblk1", "179:8")]) }.title(), "/dev/mmcblk1: 32.0 GB, SD32G");
    }
}
