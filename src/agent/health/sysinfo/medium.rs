//! What the machine started from, how much of it was written, and how worn an eMMC is.

use super::files::Files;
use crate::agent::health::hardware::{Boot, EmmcLife, Medium, Spare};

/// The kernel counts sectors of this size whatever the device's are. Source: the kernel's `Documentation/block/stat.rst`.
const SECTOR_BYTES: u64 = 512;

/// What the root file system lies on.
#[must_use]
pub fn boot(files: &Files) -> Boot {
    let found = match root(files) {
        Some(Root::Device(path)) => whole(files, &path),
        Some(Root::Other(medium)) => return Boot { medium: Some(medium), ..Boot::default() },
        None => None,
    };
    let Some((folder, device)) = found else { return Boot::default() };
    let told = |file: &str| files.text(&format!("{folder}/device/{file}")).filter(|text| is_plain(text)).unwrap_or_default();
    let medium = medium(&folder, &device, &told("type"), files.is_there(&format!("{folder}/{device}boot0")));
    let boot = Boot { medium: Some(medium), device, ..Boot::default() };
    if !matches!(medium, Medium::Sd | Medium::Emmc) {
        return boot;
    }
    Boot {
        card_name: told("name"),
        card_date: told("date"),
        card_manufacturer_id: told("manfid"),
        card_serial: told("serial"),
        ..boot
    }
}

/// What a card may say of itself: a few plain letters.
fn is_plain(text: &str) -> bool {
    text.len() <= 40 && text.chars().all(|c| c.is_ascii_graphic() || c == ' ')
}

enum Root {
    /// A device's folder below `/sys`, or a link to it.
    Device(String),
    Other(Medium),
}

/// Where `/` is: what the kernel has mounted there, else (an overlay over a card that is not written) what it was told to mount.
fn root(files: &Files) -> Option<Root> {
    let mounts = files.text("proc/self/mountinfo").unwrap_or_default();
    mounts.lines().rev().find_map(mounted_at_root).and_then(|mount| of_mount(files, &mount)).or_else(|| of_command_line(files))
}

struct Mount<'a> {
    numbers: &'a str,
    kind: &'a str,
    source: &'a str,
}

/// `29 1 179:2 / / rw,noatime shared:1 - ext4 /dev/mmcblk0p2 rw`. Source: proc_pid_mountinfo(5).
fn mounted_at_root(line: &str) -> Option<Mount<'_>> {
    let (front, back) = line.split_once(" - ")?;
    let mut front = front.split(' ');
    let (numbers, place) = (front.nth(2)?, front.nth(1)?);
    let mut back = back.split(' ');
    (place == "/").then_some(Mount { numbers, kind: back.next()?, source: back.next()? })
}

fn of_mount(files: &Files, mount: &Mount<'_>) -> Option<Root> {
    match mount.kind {
        "nfs" | "nfs4" | "cifs" | "9p" => return Some(Root::Other(Medium::Network)),
        "tmpfs" | "ramfs" | "rootfs" => return Some(Root::Other(Medium::Memory)),
        _ => {}
    }
    let numbered = format!("sys/dev/block/{}", mount.numbers);
    if files.is_there(&numbered) {
        return Some(Root::Device(numbered));
    }
    // btrfs has numbers of its own.
    named(files, mount.source)
}

fn of_command_line(files: &Files) -> Option<Root> {
    let line = files.text("proc/cmdline")?;
    let root = line.split_whitespace().find_map(|word| word.strip_prefix("root="))?;
    if root == "/dev/nfs" {
        return Some(Root::Other(Medium::Network));
    }
    let by = [("PARTUUID=", "by-partuuid"), ("UUID=", "by-uuid"), ("LABEL=", "by-label"), ("PARTLABEL=", "by-partlabel")];
    match by.into_iter().find_map(|(prefix, folder)| Some((folder, root.strip_prefix(prefix)?))) {
        Some((folder, name)) => {
            let target = files.follow(&format!("dev/disk/{folder}/{name}"))?;
            named(files, &format!("/{target}"))
        }
        None => named(files, root),
    }
}

fn named(files: &Files, device: &str) -> Option<Root> {
    let name = device.strip_prefix("/dev/")?;
    let path = format!("sys/class/block/{name}");
    (!name.contains('/') && files.is_there(&path)).then_some(Root::Device(path))
}

/// The folder and the name of the whole device below a partition, an encrypted or a logical one.
fn whole(files: &Files, path: &str) -> Option<(String, String)> {
    let mut folder = files.follow(path)?;
    // Encrypted and logical: no more than that is ever stacked.
    for _ in 0..4 {
        if files.is_there(&format!("{folder}/partition")) {
            folder = folder.rsplit_once('/')?.0.to_owned();
        }
        let Some(below) = files.names(&format!("{folder}/slaves")).into_iter().next() else { break };
        folder = files.follow(&format!("{folder}/slaves/{below}"))?;
    }
    let name = folder.rsplit('/').next()?.to_owned();
    Some((folder, name))
}

fn medium(folder: &str, device: &str, card_type: &str, has_boot_partition: bool) -> Medium {
    let on_usb = folder.split('/').any(|part| part.starts_with("usb"));
    match device {
        name if name.starts_with("mmcblk") && (card_type == "MMC" || has_boot_partition) => Medium::Emmc,
        name if name.starts_with("mmcblk") => Medium::Sd,
        name if name.starts_with("nvme") => Medium::Nvme,
        name if name.starts_with("ram") || name.starts_with("zram") => Medium::Memory,
        name if name.starts_with("nbd") => Medium::Network,
        _ if on_usb => Medium::Usb,
        _ => Medium::Disk,
    }
}

/// What was written on a device since the machine was started.
#[must_use]
pub fn written_bytes(files: &Files, boot: &Boot) -> Option<u64> {
    if boot.device.is_empty() {
        return None;
    }
    // The seventh number: sectors written.
    let sectors = |text: &str| text.split_whitespace().nth(6)?.parse::<u64>().ok()?.checked_mul(SECTOR_BYTES);
    files.read(&format!("sys/class/block/{}/stat", boot.device), sectors)
}

/// How worn an eMMC is.
#[must_use]
pub fn emmc_life(files: &Files, boot: &Boot) -> EmmcLife {
    if boot.medium != Some(Medium::Emmc) {
        return EmmcLife::default();
    }
    let folder = format!("sys/class/block/{}/device", boot.device);
    // Two kinds of memory, `0x01 0x02`: tenths that are used, from 1; 0 is not told.
    let tenths = |text: &str| {
        let of = |word: &str| u8::from_str_radix(word.strip_prefix("0x")?, 16).ok().filter(|tenths| *tenths <= 0x0b);
        text.split_whitespace().map(of).collect::<Option<Vec<u8>>>()?.into_iter().max()
    };
    let spare = |text: &str| match text {
        "0x00" => Some(None),
        "0x01" => Some(Some(Spare::Normal)),
        "0x02" => Some(Some(Spare::Warning)),
        "0x03" => Some(Some(Spare::Urgent)),
        _ => None,
    };
    EmmcLife {
        used_percent: files.read(&format!("{folder}/life_time"), tenths).filter(|tenths| *tenths > 0).map(|tenths| tenths * 10),
        spare: files.read(&format!("{folder}/pre_eol_info"), spare).flatten(),
    }
}
