//! What LEDs take, so that no two take the same: pins, chips on a bus, whole buses, names of the LED class.
//!
//! In:       the claims of a board and of the HATs on it, and the chip that its header hangs on.
//! Out:      a [`Fault`] for each thing that is taken twice, or is not there.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::i2c;
use super::keys::{Fault, Keys};
use super::spi::{self, Device};

/// What can be taken once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Resource {
    /// A pin of the header, BCM.
    Pin(u8),
    /// A chip: bus and address.
    I2c(u8, u8),
    /// The I2C bus of such a chip; others on it share its pins.
    I2cBus(u8),
    /// An SPI bus, by a device on it that leaves no room for another.
    Spi(Device),
    /// An LED of the kernel's class.
    Class(String),
}

/// Who takes what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(super) resource: Resource,
    /// A bus to whose pins others on the same bus may be joined.
    pub(super) bus: Option<String>,
    /// As in [`Fault::file`].
    pub(super) file: String,
    pub(super) line: usize,
    /// What takes it: `LED "pod-1"`.
    pub(super) by: String,
    /// By which of its keys.
    pub(super) key: String,
}

impl Claim {
    pub(super) fn new(keys: &Keys<'_, '_>, key: &str, resource: Resource) -> Self {
        Self { resource, bus: None, file: String::new(), line: keys.line, by: keys.place.clone(), key: key.to_owned() }
    }

    /// By a key that stands in this line.
    pub(super) fn at(self, line: usize) -> Self {
        Self { line, ..self }
    }

    pub(super) fn on_bus(self, bus: String) -> Self {
        Self { bus: Some(bus), ..self }
    }

    pub(super) fn fault(&self, what: String) -> Fault {
        Fault { file: self.file.clone(), line: self.line, key: format!("{}{}", self.by, self.key), what }
    }
}

/// What these claims take of a header: with the pins of the buses, which differ from chip to chip. `chips`: the labels that the chip
/// with the header may have.
pub(super) fn with_pins(claims: &[Claim], chips: &[String]) -> Vec<Claim> {
    let pins = |claim: &Claim| {
        let (bus, pins) = match claim.resource {
            Resource::Spi(device) => (format!("spi{}", device.bus), spi::pins(device, chips)),
            Resource::I2cBus(bus) => (format!("i2c{bus}"), i2c::pins(bus, chips)),
            _ => return Vec::new(),
        };
        let pin = |pin| Claim { resource: Resource::Pin(pin), ..claim.clone() }.on_bus(bus.clone());
        pins.into_iter().map(pin).collect::<Vec<Claim>>()
    };
    claims.iter().flat_map(|claim| std::iter::once(claim.clone()).chain(pins(claim))).collect()
}

/// Claims of what this header does not have: a pin, an SPI bus. `chips` as in [`with_pins`], which made the claims whole.
pub(super) fn missing(claims: &[Claim], header: &[u8], chips: &[String]) -> Vec<Fault> {
    let missing = claims.iter().filter_map(|claim| match claim.resource {
        Resource::Pin(pin) if !header.contains(&pin) => Some(claim.fault(format!("this board's header has no pin {pin}"))),
        Resource::Spi(device) if !spi::is_there(device, chips) => Some(claim.fault(format!(
            "this board has no spidev{}.{} (its GPIO chip is {})",
            device.bus,
            device.select,
            chips.join(" or ")
        ))),
        _ => None,
    });
    missing.collect()
}

/// What is taken twice.
pub(super) fn clashes(claims: &[Claim]) -> Vec<Fault> {
    // Of a bus there is one, whatever its devices' chip selects are.
    let once = |resource: &Resource| match resource {
        Resource::Spi(device) => Resource::Spi(Device { select: 0, ..*device }),
        other => other.clone(),
    };
    let mut taken: BTreeMap<Resource, &Claim> = BTreeMap::new();
    let mut faults = Vec::new();
    for claim in claims {
        match taken.entry(once(&claim.resource)) {
            Entry::Vacant(free) => {
                free.insert(claim);
            }
            Entry::Occupied(first) => {
                let first = first.get();
                if claim.bus.is_some() && claim.bus == first.bus {
                    continue;
                }
                let (what, why) = match &claim.resource {
                    Resource::Pin(pin) => (format!("pin {pin}"), ""),
                    Resource::I2c(bus, address) => (format!("address {address:#04x} on i2c-{bus}"), ""),
                    Resource::I2cBus(bus) => (format!("i2c-{bus}"), ""),
                    Resource::Spi(device) => {
                        (format!("SPI bus {}", device.bus), "; a WS2812 looks at no chip select, so it has the bus for itself")
                    }
                    Resource::Class(name) => (format!("the LED {name:?} of the kernel's class"), ""),
                };
                let by = if first.by.is_empty() { "it".to_owned() } else { first.by.trim_end_matches(": ").to_owned() };
                let at = match first.file.as_str() {
                    "" => format!("line {}", first.line),
                    file => format!("{file}, line {}", first.line),
                };
                faults.push(claim.fault(format!("{what} is used twice: {by} has it already ({at}){why}")));
            }
        }
    }
    faults
}
