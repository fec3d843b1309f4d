//! Devices of a node that a pod can have for itself: sticks, buses, pins, cameras.
//!
//! ```text
//!  /dev, /sys ─ disk.rs ─▶ inventory.rs ─▶ node ─▶ allocate.rs ─▶ ContainerPlan.devices ─▶ Docker
//!        └── run.rs: looks again when /dev changes  └─▶ Offer ─▶ info ─▶ capacity, allocatable, labels of the Node
//! ```
//!
//! Each device is offered under two names: `bramble/<kind>`, any of its kind, and `bramble/<kind>-<name>`, just this one. It is
//! one device all the same: who holds it under one name takes it from the other ([`Offer`]).

pub mod allocate;
pub mod disk;
pub mod inventory;
pub mod run;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What resources and labels of devices begin with.
pub const PREFIX: &str = "bramble/";

/// What a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A stick or board with a serial line over USB, known by `/dev/serial/by-id`: Zigbee, Z-Wave, a meter, a printer.
    Serial,
    /// A chip of GPIO lines, `/dev/gpiochipN`.
    GpioChip,
    /// An I²C bus, `/dev/i2c-N`.
    I2c,
    /// One chip select of an SPI bus, `/dev/spidevB.C`.
    Spi,
    /// What takes pictures, `/dev/videoN`.
    Camera,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 5] = [Kind::Serial, Kind::GpioChip, Kind::I2c, Kind::Spi, Kind::Camera];

    /// As resources, labels and variables have it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Kind::Serial => "serial",
            Kind::GpioChip => "gpiochip",
            Kind::I2c => "i2c",
            Kind::Spi => "spi",
            Kind::Camera => "camera",
        }
    }

    /// The variable in which a container finds the path of the first such device.
    #[must_use]
    pub fn variable(self) -> String {
        format!("BRAMBLE_DEVICE_{}", self.word().to_uppercase())
    }
}

/// A device file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceNode {
    /// Absolute, as it is named in the container: `/dev/ttyUSB0`.
    pub path: String,
    /// Where it is on the host: the same, but for a node that was told to look below another root.
    pub host: String,
    /// The kernel's number of its driver.
    pub major: u32,
    /// The kernel's number of it.
    pub minor: u32,
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// What it is.
    pub kind: Kind,
    /// Its own name, the same wherever it is plugged in where there is such a name; fit for a resource.
    pub name: String,
    /// A second path that stays the same: `/dev/serial/by-id/…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// Its files; the first is the one to open.
    pub nodes: Vec<DeviceNode>,
}

impl Device {
    /// `serial-usb-ITead_Sonoff_Zigbee-if00`: its identity in the cluster.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}-{}", self.kind.word(), self.name)
    }

    /// What a program in a container should open.
    #[must_use]
    pub fn path(&self) -> &str {
        self.link.as_deref().or(self.nodes.first().map(|node| node.path.as_str())).unwrap_or_default()
    }
}

/// A device that a container has, and under which name it asked for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// `bramble/serial`, or the name of just this one.
    pub resource: String,
    /// Which.
    pub device: Device,
}

/// What a node offers of devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// How many there are, by resource.
    pub resources: BTreeMap<String, u64>,
    /// How many of these somebody holds under the device's other name: they are there and cannot be had.
    pub taken: BTreeMap<String, u64>,
    /// For node selectors.
    pub labels: BTreeMap<String, String>,
}

/// Whether a resource of this name may be a device of some node.
#[must_use]
pub fn is_device(resource: &str) -> bool {
    let Some(tail) = resource.strip_prefix(PREFIX) else { return false };
    Kind::ALL.iter().any(|kind| {
        tail.strip_prefix(kind.word())
            .is_some_and(|rest| rest.is_empty() || rest.strip_prefix('-').is_some_and(|name| !name.is_empty()))
    })
}

/// The kind that a resource stands for as a whole; `None` when it names one device.
#[must_use]
pub fn any_of(resource: &str) -> Option<Kind> {
    let tail = resource.strip_prefix(PREFIX)?;
    Kind::ALL.into_iter().find(|kind| kind.word() == tail)
}

/// What a container finds in its environment: `BRAMBLE_DEVICE_SERIAL=/dev/serial/by-id/…`, the second of a kind with `_2`.
#[must_use]
pub fn variables(held: &[Held]) -> Vec<(String, String)> {
    let mut counts: BTreeMap<Kind, usize> = BTreeMap::new();
    held.iter()
        .map(|held| {
            let count = counts.entry(held.device.kind).or_default();
            *count += 1;
            let name = held.device.kind.variable();
            let name = if *count == 1 { name } else { format!("{name}_{count}") };
            (name, held.device.path().to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_devices_are_devices() {
        for (resource, is, any) in [
            ("bramble/serial", true, Some(Kind::Serial)),
            ("bramble/serial-usb-x-if00", true, None),
            ("bramble/i2c-1", true, None),
            ("bramble/gpiochip", true, Some(Kind::GpioChip)),
            ("bramble/serial-", false, None),
            ("bramble/led", false, None),
            ("vendor/serial", false, None),
            ("serial", false, None),
        ] {
            assert_eq!((is_device(resource), any_of(resource)), (is, any), "{resource}");
        }
    }

    #[test]
    fn a_program_is_told_where_its_devices_are() {
        let held = |kind, name: &str, link: Option<&str>| Held {
            resource: String::new(),
            device: Device {
                kind,
                name: name.to_owned(),
                link: link.map(str::to_owned),
                nodes: vec![DeviceNode { path: format!("/dev/{name}"), ..DeviceNode::default() }],
            },
        };
        let told = variables(&[
            held(Kind::Serial, "ttyUSB0", Some("/dev/serial/by-id/a")),
            held(Kind::I2c, "i2c-1", None),
            held(Kind::Serial, "ttyUSB1", None),
        ]);
        let told: Vec<String> = told.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            told,
            [
                "BRAMBLE_DEVICE_SERIAL=/dev/serial/by-id/a",
                "BRAMBLE_DEVICE_I2C=/dev/i2c-1",
                "BRAMBLE_DEVICE_SERIAL_2=/dev/ttyUSB1"
            ]
        );
    }
}
