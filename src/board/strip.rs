//! Rows of LEDs behind one chip or one data line: what a `[[strip]]` says.
//!
//! In:       the table of a board file.
//! Out:      a [`Strip`] and the LEDs that it makes.
//! Never:    talks to the chip (`agent/led/gpio/`); what is said to it is `agent/led/protocol/`.

use toml::de::DeValue;

use super::claim::{Claim, Resource};
use super::i2c;
use super::keys::{Found, Keys, different, flag, list, listed, text, whole, word};
use super::spi::{self, Device};
use super::{COLOUR_WORDS, COLOURS, Colour, HIGHEST_PIN, Led, Place, Shows, name};

/// As many pixels as one strip may have: a frame of so many is 6 ms on the wire of a WS2812.
pub(super) const MOST_PIXELS: u64 = 256;

/// A row of LEDs that is written to as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strip {
    /// What its LEDs are named after.
    pub name: String,
    /// What it speaks.
    pub driver: StripDriver,
    /// How many LEDs it has.
    pub pixels: usize,
    /// The most that it may burn, of 255: what a power supply and eyes can take.
    pub brightness: u8,
}

/// What a strip speaks, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StripDriver {
    /// APA102 on two pins.
    Apa102 {
        /// BCM number of the data line.
        data: u8,
        /// BCM number of the clock line.
        clock: u8,
    },
    /// WS2812 on the data line of an SPI bus.
    Ws2812 {
        /// Number of the bus.
        bus: u8,
        /// Which chip select: `/dev/spidev<bus>.<select>`. The strip does not look at it.
        select: u8,
        /// In which order it takes the colours.
        order: Order,
    },
    /// IS31FL3731 on I2C: a chip for 144 single LEDs.
    Is31fl3731 {
        /// Where on I2C.
        at: I2cAddress,
        /// For each pixel its red, green and blue LED, as the chip counts them: 0 to 143.
        channels: Vec<[u8; 3]>,
    },
    /// The Sense HAT's matrix of 8 by 8: the kernel's frame buffer, else its controller on I2C.
    SenseHat {
        /// Where on I2C.
        at: I2cAddress,
    },
    /// Outputs of an expander with the registers of a PCA9554; other outputs of it are left as they are.
    Pca9554 {
        /// Where on I2C.
        at: I2cAddress,
        /// The output of each LED, 0 to 7.
        bits: Vec<u8>,
        /// Whether an output is low when its LED is lit.
        active_low: bool,
    },
}

/// Where a chip is on I2C.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct I2cAddress {
    /// `/dev/i2c-<bus>`.
    pub bus: u8,
    /// 7 bits.
    pub address: u8,
}

/// In which order a strip takes the colours of a pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Order {
    Rgb,
    Grb,
    Bgr,
}

#[derive(Clone, Copy)]
enum Kind {
    Apa102,
    Ws2812,
    Is31fl3731,
    SenseHat,
    Pca9554,
}

const KINDS: &[(&str, Kind)] = &[
    ("apa102", Kind::Apa102),
    ("ws2812", Kind::Ws2812),
    ("is31fl3731", Kind::Is31fl3731),
    ("sense-hat", Kind::SenseHat),
    ("pca9554", Kind::Pca9554),
];

const ORDERS: &[(&str, Order)] = &[("rgb", Order::Rgb), ("grb", Order::Grb), ("bgr", Order::Bgr)];

/// One strip with its LEDs, which say that they belong to strip number `index`, and what it takes.
pub(super) fn read(keys: &mut Keys<'_, '_>, index: usize, claims: &mut Vec<Claim>) -> Option<(Strip, Vec<Led>)> {
    let given = keys.optional("name", "a name of letters, digits, - and _", name);
    let base = given.unwrap_or_else(|| "pod".to_owned());
    let kind = keys.required("driver", "one of apa102, ws2812, is31fl3731, sense-hat, pca9554", word(KINDS));
    let usual = match kind {
        Some(Kind::Pca9554) => None,
        _ => Some(Colour::Rgb),
    };
    let colour = match usual {
        Some(usual) => keys.optional("colour", COLOUR_WORDS, word(COLOURS)).unwrap_or(usual),
        None => keys.required("colour", COLOUR_WORDS, word(COLOURS)).unwrap_or(Colour::White),
    };
    let brightness = keys.optional("brightness", "a whole number from 1 to 255", whole(1..=255)).unwrap_or(255);
    let node = keys.found("node", "the number of a pixel, counted from 1", whole::<usize>(1..=MOST_PIXELS));
    let Some(kind) = kind else {
        keys.forget();
        return None;
    };
    let (driver, pixels) = driver(keys, kind, claims)?;
    if let Some(node) = node.as_ref().filter(|node| node.value > pixels) {
        keys.fault(node.line, "node", format!("there is no pixel {}: the strip has {pixels}", node.value));
    }
    let node = node.map(|node| node.value);
    let of_pods = pixels - usize::from(node.is_some_and(|node| node <= pixels));
    let mut number = 0;
    let leds = (0..pixels).map(|pixel| {
        let shows = if node == Some(pixel + 1) { Shows::Node } else { Shows::Pod };
        let name = match shows {
            Shows::Node => "node".to_owned(),
            Shows::Pod if of_pods == 1 => base.clone(),
            Shows::Pod => {
                number += 1;
                format!("{base}-{number}")
            }
        };
        Led { name, place: Place::Pixel { strip: index, pixel }, colour, shows }
    });
    let leds = leds.collect();
    Some((Strip { name: base, driver, pixels, brightness }, leds))
}

fn driver(keys: &mut Keys<'_, '_>, kind: Kind, claims: &mut Vec<Claim>) -> Option<(StripDriver, usize)> {
    const PIN: &str = "a pin of the header, BCM 0 to 27";
    let pin = || whole::<u8>(0..=u64::from(HIGHEST_PIN));
    let mut pixels = None;
    if matches!(kind, Kind::Apa102 | Kind::Ws2812) {
        pixels = keys.required("pixels", "a whole number from 1 to 256", whole::<usize>(1..=MOST_PIXELS));
    }
    match kind {
        Kind::Apa102 => {
            let mut line = |key: &str| {
                let Found { value, line } = keys.needed(key, PIN, pin())?;
                claims.push(Claim::new(keys, key, Resource::Pin(value)).at(line));
                Some(value)
            };
            let (data, clock) = (line("data"), line("clock"));
            Some((StripDriver::Apa102 { data: data?, clock: clock? }, pixels?))
        }
        Kind::Ws2812 => {
            let device = |value: &DeValue<'_>| text(value).and_then(|text| spi::device(&text));
            let device = keys.needed("spi", "an SPI device that a Pi has, like \"0.0\" for /dev/spidev0.0", device);
            let order = keys.optional("order", "one of rgb, grb, bgr", word(ORDERS)).unwrap_or(Order::Grb);
            let Found { value: device, line } = device?;
            // Its pins are known with the board.
            claims.push(Claim::new(keys, "spi", Resource::Spi(device)).at(line));
            let Device { bus, select } = device;
            Some((StripDriver::Ws2812 { bus, select, order }, pixels?))
        }
        Kind::Is31fl3731 => {
            let at = address(keys, 0x74, claims);
            let channels = keys.required(
                "channels",
                "for each pixel a list of its red, green and blue LED, each from 0 to 143 and there once",
                |value| {
                    let three = |value: &DeValue<'_>| <[u8; 3]>::try_from(list(3, whole::<u8>(0..=143))(value)?).ok();
                    listed(48, three)(value).filter(|channels| different(channels.iter().flatten()))
                },
            )?;
            let pixels = channels.len();
            Some((StripDriver::Is31fl3731 { at: at?, channels }, pixels))
        }
        Kind::SenseHat => Some((StripDriver::SenseHat { at: address(keys, 0x46, claims)? }, 64)),
        Kind::Pca9554 => {
            let at = address(keys, 0x20, claims);
            let bits = keys.required("bits", "a list of different outputs, each from 0 to 7", |value| {
                listed(8, whole::<u8>(0..=7))(value).filter(|bits| different(bits))
            });
            let active_low = keys.optional("active_low", "true or false", flag).unwrap_or_default();
            let bits = bits?;
            let pixels = bits.len();
            Some((StripDriver::Pca9554 { at: at?, bits, active_low }, pixels))
        }
    }
}

fn address(keys: &mut Keys<'_, '_>, usual: u8, claims: &mut Vec<Claim>) -> Option<I2cAddress> {
    const BUS: &str = "the number of an I2C bus, 0 to 31, like 1 for /dev/i2c-1";
    let table = keys.line;
    let else_usual = |found: Option<Found<u8>>, usual| found.unwrap_or(Found { value: usual, line: table });
    let bus = else_usual(keys.found("i2c", BUS, whole::<u8>(0..=i2c::HIGHEST)), 1);
    // Source: the I2C specification: 0 to 7 and 0x78 to 0x7f are reserved.
    let address = keys.found("address", "an I2C address from 0x08 to 0x77", whole::<u8>(0x08..=0x77));
    let address = else_usual(address, usual);
    claims.push(Claim::new(keys, "address", Resource::I2c(bus.value, address.value)).at(address.line));
    // Its pins are known with the board.
    claims.push(Claim::new(keys, "i2c", Resource::I2cBus(bus.value)).at(bus.line).on_bus(format!("i2c{}", bus.value)));
    Some(I2cAddress { bus: bus.value, address: address.value })
}
