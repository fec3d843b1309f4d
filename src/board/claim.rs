//! What LEDs take, so that no two take the same: pins, chips on a bus, names of the LED class.
//!
//! In:       the claims of a board and of the HATs on it.
//! Out:      a [`Fault`] for each thing that is taken twice.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::keys::{Fault, Keys};

/// What can be taken once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Resource {
    /// A pin of the header, BCM.
    Pin(u8),
    /// A chip: bus and address.
    I2c(u8, u8),
    /// A device on SPI: bus and chip select.
    Spi(u8, u8),
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

    pub(super) fn of_bus(keys: &Keys<'_, '_>, key: &str, pin: u8, bus: String) -> Self {
        Self { bus: Some(bus), ..Self::new(keys, key, Resource::Pin(pin)) }
    }

    pub(super) fn fault(&self, what: String) -> Fault {
        Fault { file: self.file.clone(), line: self.line, key: format!("{}{}", self.by, self.key), what }
    }
}

/// What is taken twice.
pub(super) fn clashes<'a>(claims: impl IntoIterator<Item = &'a Claim>) -> Vec<Fault> {
    let mut taken: BTreeMap<&Resource, &Claim> = BTreeMap::new();
    let mut faults = Vec::new();
    for claim in claims {
        match taken.entry(&claim.resource) {
            Entry::Vacant(free) => {
                free.insert(claim);
            }
            Entry::Occupied(first) => {
                let first = first.get();
                if claim.bus.is_some() && claim.bus == first.bus {
                    continue;
                }
                let what = match &claim.resource {
                    Resource::Pin(pin) => format!("pin {pin}"),
                    Resource::I2c(bus, address) => format!("address {address:#04x} on i2c-{bus}"),
                    Resource::Spi(bus, select) => format!("spidev{bus}.{select}"),
                    Resource::Class(name) => format!("the LED {name:?} of the kernel's class"),
                };
                let by = if first.by.is_empty() { "it".to_owned() } else { first.by.trim_end_matches(": ").to_owned() };
                let at = match first.file.as_str() {
                    "" => format!("line {}", first.line),
                    file => format!("{file}, line {}", first.line),
                };
                faults.push(claim.fault(format!("{what} is used twice: {by} has it already ({at})")));
            }
        }
    }
    faults
}
