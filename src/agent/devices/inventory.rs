//! From what lies in `/dev` to the devices of a node, their names, resources and labels.
//!
//! In:       [`Seen`] device files, in any order.
//! Out:      [`Inventory`]: the same devices, the same names, whatever number the kernel gave them this time.
//! Never:    reads a folder (`disk.rs`), or says who has what (`allocate.rs`).

use std::collections::{BTreeMap, BTreeSet};

use super::{Device, DeviceNode, Kind, Offer, PREFIX};

/// Names and values of labels hold 63 characters (Kubernetes' qualified names); the longest of ours is `device-gpiochip-<name>`.
const NAME: usize = 63 - "device-gpiochip-".len();
/// Video devices of the Pi's own codecs and image processors: nothing looks through them.
const NO_CAMERAS: [&str; 7] = ["codec", "-isp", "pispbe", "rpivid", "hevc", "-dec", "-enc"];

/// A device file as it was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The file itself.
    pub node: DeviceNode,
    /// Its link under `/dev/serial/by-id`.
    pub link: Option<String>,
    /// What the driver calls it (`/sys/class/video4linux/videoN/name`).
    pub title: String,
    /// The hardware behind it: files of one camera have the same.
    pub parent: String,
    /// Which of the hardware's files it is; the first takes the pictures.
    pub index: u32,
}

/// A node's devices, in the order in which they are given away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    devices: Vec<Device>,
}

impl Inventory {
    /// Sorts out what was found.
    #[must_use]
    pub fn of(mut seen: Vec<Seen>) -> Self {
        seen.sort_by_cached_key(|seen| (natural(&seen.node.path), seen.link.clone()));
        let mut devices: Vec<Device> = Vec::new();
        let mut names = BTreeSet::new();
        let mut cameras: BTreeMap<String, usize> = BTreeMap::new();
        let mut serials = BTreeSet::new();
        // The first file of a camera is made first: the others join it.
        seen.sort_by_key(|seen| seen.index);
        for seen in seen {
            let Some(kind) = kind(&seen) else { continue };
            if kind == Kind::Camera {
                if let Some(device) = cameras.get(&seen.parent).filter(|_| seen.index > 0).and_then(|&at| devices.get_mut(at)) {
                    device.nodes.push(seen.node);
                    continue;
                }
                if seen.index > 0 || NO_CAMERAS.iter().any(|word| seen.title.contains(word)) {
                    continue;
                }
                cameras.insert(seen.parent.clone(), devices.len());
            }
            // Two links may lead to one stick: it is one device.
            if kind == Kind::Serial && !serials.insert(seen.node.path.clone()) {
                continue;
            }
            let (plain, whole) = own_name(kind, &seen);
            let mut name = valid(&plain, &whole, false);
            if !names.insert((kind, name.clone())) {
                name = valid(&plain, &whole, true);
                names.insert((kind, name.clone()));
            }
            devices.push(Device { kind, name, link: seen.link, nodes: vec![seen.node] });
        }
        devices.sort_by_cached_key(|device| (device.kind, natural(device.nodes.first().map_or("", |node| &node.path))));
        Self { devices }
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Device> {
        self.devices.iter()
    }

    /// One, by its key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Device> {
        self.devices.iter().find(|device| device.key() == key)
    }

    /// What the node offers when nobody has anything.
    #[must_use]
    pub fn offer(&self) -> Offer {
        let mut offer = Offer::default();
        for device in &self.devices {
            *offer.resources.entry(format!("{PREFIX}{}", device.kind.word())).or_default() += 1;
            offer.resources.insert(format!("{PREFIX}{}", device.key()), 1);
            for label in [device.kind.word().to_owned(), device.key()] {
                offer.labels.insert(format!("{PREFIX}device-{label}"), "true".to_owned());
            }
        }
        offer
    }
}

fn kind(seen: &Seen) -> Option<Kind> {
    if seen.link.is_some() {
        return Some(Kind::Serial);
    }
    let name = seen.node.path.strip_prefix("/dev/")?;
    let numbered = |prefix: &str| {
        name.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_ascii_digit() || c == '.'))
    };
    [("gpiochip", Kind::GpioChip), ("i2c-", Kind::I2c), ("spidev", Kind::Spi), ("video", Kind::Camera)]
        .into_iter()
        .find_map(|(prefix, kind)| numbered(prefix).then_some(kind))
}

/// What a device is called, and all that tells it from another of the same name.
fn own_name(kind: Kind, seen: &Seen) -> (String, String) {
    let after = |prefix: &str| seen.node.path.trim_start_matches("/dev/").trim_start_matches(prefix).to_owned();
    let name = match kind {
        Kind::Serial => seen.link.as_deref().and_then(|link| link.rsplit('/').next()).unwrap_or_default().to_owned(),
        Kind::GpioChip => after("gpiochip"),
        Kind::I2c => after("i2c-"),
        Kind::Spi => after("spidev"),
        Kind::Camera if seen.title.chars().any(|c| c.is_ascii_alphanumeric()) => seen.title.clone(),
        Kind::Camera => after("video"),
    };
    let whole = format!("{name}\n{}", seen.parent);
    (name, whole)
}

/// A name fit for a resource and a label: what is not allowed becomes `-`; one that is too long, or taken, ends in a hash.
fn valid(plain: &str, whole: &str, taken: bool) -> String {
    let mut name = String::new();
    for c in plain.chars() {
        let c = if c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-') { c } else { '-' };
        if c != '-' || !name.ends_with('-') {
            name.push(c);
        }
    }
    let trimmed = |text: &str| text.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned();
    let name = trimmed(&name);
    if name.len() <= NAME && !taken && !name.is_empty() {
        return name;
    }
    let digest = ring::digest::digest(&ring::digest::SHA256, (if taken { whole } else { plain }).as_bytes());
    let tail: String = digest.as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let head = trimmed(&name.chars().take(NAME - 1 - tail.len()).collect::<String>());
    if head.is_empty() { tail } else { format!("{head}-{tail}") }
}

/// So that `i2c-10` comes after `i2c-2`.
fn natural(path: &str) -> Vec<(String, u64)> {
    let mut parts = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        let (text, after) = rest.split_at(rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len()));
        let (number, after) = after.split_at(after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len()));
        parts.push((text.to_owned(), number.parse().unwrap_or_default()));
        rest = after;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> Seen {
        Seen { node: DeviceNode { path: path.into(), host: path.into(), major: 1, minor: 2 }, ..Seen::default() }
    }

    fn stick(path: &str, link: &str) -> Seen {
        Seen { link: Some(format!("/dev/serial/by-id/{link}")), ..file(path) }
    }

    fn video(path: &str, title: &str, parent: &str, index: u32) -> Seen {
        Seen { title: title.into(), parent: parent.into(), index, ..file(path) }
    }

    fn keys(seen: Vec<Seen>) -> Vec<String> {
        Inventory::of(seen).iter().map(Device::key).collect()
    }

    #[test]
    fn a_pis_devices_have_their_names() {
        let seen = vec![
            file("/dev/i2c-20"),
            file("/dev/i2c-1"),
            file("/dev/spidev0.1"),
            file("/dev/gpiochip0"),
            file("/dev/null"),
            file("/dev/video"),
            stick("/dev/ttyUSB1", "usb-Silicon_Labs_CP2102N_ab12-if00-port0"),
            stick("/dev/ttyACM0", "usb-0658_0200-if00"),
            video("/dev/video0", "UVC Camera (046d:0825)", "1-1.2", 0),
            video("/dev/video1", "UVC Camera (046d:0825)", "1-1.2", 1),
            video("/dev/video10", "bcm2835-codec-decode", "codec", 0),
            video("/dev/video13", "bcm2835-isp-output0", "isp", 0),
        ];
        let inventory = Inventory::of(seen.clone());
        let keys: Vec<String> = inventory.iter().map(Device::key).collect();
        assert_eq!(
            keys,
            [
                "serial-usb-0658_0200-if00",
                "serial-usb-Silicon_Labs_CP2102N_ab12-if00-port0",
                "gpiochip-0",
                "i2c-1",
                "i2c-20",
                "spi-0.1",
                "camera-UVC-Camera-046d-0825",
            ]
        );
        assert_eq!(inventory.get("camera-UVC-Camera-046d-0825").unwrap().nodes.len(), 2, "its second file is part of it");
        let offer = inventory.offer();
        assert_eq!((offer.resources["bramble/serial"], offer.resources["bramble/i2c-20"]), (2, 1));
        assert_eq!(offer.resources.len(), 5 + 7);
        assert_eq!(offer.labels["bramble/device-serial-usb-0658_0200-if00"], "true");
        assert!(offer.labels.contains_key("bramble/device-camera"));
        // In whatever order the folder is read.
        assert_eq!(Inventory::of(seen.into_iter().rev().collect()), inventory);
    }

    #[test]
    fn a_name_is_fit_for_a_label_and_of_one_device_only() {
        let long = "usb-ITEAD_SONOFF_Zigbee_3.0_USB_Dongle_Plus_V2_20220812153849-if00";
        for (name, expected) in [
            (long, None),
            ("usb-FTDI_FT232R: \"best\"/@-if00", Some("usb-FTDI_FT232R-best")),
            ("---", None),
            ("_a_", Some("a")),
            ("ä", None),
        ] {
            let made = valid(name, name, false);
            assert!(made.len() <= NAME && format!("device-gpiochip-{made}").len() <= 63, "{made}");
            assert!(made.starts_with(|c: char| c.is_ascii_alphanumeric()) && made.ends_with(|c: char| c.is_ascii_alphanumeric()));
            if let Some(expected) = expected {
                assert!(made.starts_with(expected), "{made}");
            }
        }
        let other = format!("{}8-if00", &long[..long.len() - 6]);
        assert_ne!(valid(long, long, false), valid(&other, &other, false));
        // Two cameras of the same make.
        let two = keys(vec![video("/dev/video0", "Cam", "1-1", 0), video("/dev/video2", "Cam", "1-2", 0)]);
        assert_eq!((two.len(), two[0].as_str()), (2, "camera-Cam"));
        assert!(two[1].starts_with("camera-Cam-"), "{two:?}");
        // Two links to one stick.
        assert_eq!(keys(vec![stick("/dev/ttyUSB0", "usb-a"), stick("/dev/ttyUSB0", "usb-b")]), ["serial-usb-a"]);
    }
}
