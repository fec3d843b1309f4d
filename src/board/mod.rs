//! Boards and HATs as data: which machine this is, where its LEDs are, what to keep for the system, how it simulates.
//!
//! In:       the text of a `boards/*.toml` or `boards/hats/*.toml` (all are embedded), the device tree's `compatible` strings, what a
//!           HAT's EEPROM says.
//! Out:      a [`Board`], with the LEDs of the HATs on it.
//! Never:    touches a pin (`agent/led/gpio/`) or a file (`agent/led/disk.rs`).
//!
//! `docs/boards.md` explains the format, `docs/board.schema.json` has it for editors. Adding a board is adding a file to `boards/` and to
//! [`EMBEDDED`], adding a HAT one to `boards/hats/` and to [`EMBEDDED_HATS`]; tests compare them.

mod assemble;
mod claim;
mod file;
mod i2c;
mod keys;
mod spi;
mod strip;

use std::time::Duration;

use serde::Deserialize;
use toml::de::DeValue;

use claim::Claim;
pub use file::File;
pub use keys::Fault;
pub use strip::{I2cAddress, Order, Strip, StripDriver};

macro_rules! files {
    ($folder:literal: $($name:literal)*) => { &[$(($name, include_str!(concat!("../../boards/", $folder, $name, ".toml")))),*] };
}

/// All board files, by name.
pub static EMBEDDED: &[(&str, &str)] = files!("":
    "generic" "rpi-1" "rpi-2b" "rpi-3a-plus" "rpi-3b" "rpi-3b-plus" "rpi-400" "rpi-4b" "rpi-5" "rpi-500" "rpi-cm3" "rpi-cm4" "rpi-cm5"
    "rpi-zero" "rpi-zero-2w" "rpi-zero-w" "simulated");

/// All HAT files, by name.
pub static EMBEDDED_HATS: &[(&str, &str)] =
    files!("hats/": "blinkt" "clusterhat" "clusterhat-v1" "led-shim" "plain" "sense-hat" "ws2812");

/// One board, checked, with the HATs on it.
#[derive(Clone, Debug, PartialEq)]
pub struct Board {
    /// The file's name.
    pub name: String,
    /// For people.
    pub title: String,
    /// The label `node.kubernetes.io/instance-type`.
    pub instance_type: String,
    /// `compatible` strings of the device tree that tell this board.
    pub matches: Vec<String>,
    /// The Rust target that its agent is built for.
    pub target: String,
    /// From here on it is too hot.
    pub hot_celsius: f32,
    /// What pods do not get.
    pub reserved: Reserved,
    /// What a simulated node of this board is like.
    pub simulated: Simulated,
    /// Labels of the GPIO chip that has the header's pins: the first that is there.
    pub gpio_chips: Vec<String>,
    /// The pins that its header has, BCM.
    pub header_pins: Vec<u8>,
    /// Its LEDs and those of its HATs, in the order in which pods take them.
    pub leds: Vec<Led>,
    /// What the LEDs on strips belong to.
    pub strips: Vec<Strip>,
    /// LEDs of its own that a HAT's stand in for: they stay with the kernel.
    pub resting: Vec<Led>,
    /// Names of the HATs on it.
    pub hats: Vec<String>,
    pub(crate) claims: Vec<Claim>,
}

/// What is put on a board, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Hat {
    /// The file's name.
    pub name: String,
    /// For people.
    pub title: String,
    /// What its EEPROM calls it; empty: it has none that tells.
    pub products: Vec<String>,
    /// The lowest and highest version that the EEPROM may tell.
    pub product_versions: Option<(u32, u32)>,
    /// Its LEDs, in the order in which pods take them.
    pub leds: Vec<Led>,
    /// What the LEDs on strips belong to.
    pub strips: Vec<Strip>,
    pub(crate) claims: Vec<Claim>,
}

/// What is kept for the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// Thousandths of a core.
    pub cpu_milli: u64,
    /// MiB.
    pub memory_mib: u64,
}

/// How the board behaves when it is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Simulated {
    /// Cores.
    pub cpus: u64,
    /// MiB.
    pub memory_mib: u64,
    /// How long it takes to fetch an image.
    pub pull_milliseconds: u64,
}

/// One LED.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Led {
    /// What the annotation `bramble/led` names.
    pub name: String,
    /// Where it is.
    pub place: Place,
    /// For drawings; [`Colour::Rgb`] burns in any.
    pub colour: Colour,
    /// What it is for.
    pub shows: Shows,
}

/// Where an LED is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nowhere: it is shown in messages only.
    Message,
    /// On a pin of the header.
    Pin {
        /// BCM number.
        pin: u8,
        /// Whether the pin is low when the LED is lit.
        active_low: bool,
    },
    /// In `/sys/class/leds`.
    Class(ClassLed),
    /// On a strip of [`Board::strips`].
    Pixel {
        /// Which strip.
        strip: usize,
        /// Which of its pixels.
        pixel: usize,
    },
}

/// An LED of the kernel's class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassLed {
    /// Its names, by kernel: the first that is there is taken.
    pub names: Vec<String>,
    /// What the kernel shows by it when nobody says otherwise, like `mmc0`.
    pub trigger: String,
    /// What it shows after an agent that died.
    pub died: Option<Died>,
}

/// What the kernel shows by an LED after the agent died.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Died {
    /// The kernel's trigger, such as `timer` or `heartbeat`.
    pub trigger: String,
    /// Of the trigger `timer`: how long it is lit and how long dark.
    pub blink: Option<(Duration, Duration)>,
}

/// What an LED shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shows {
    /// The node and its link.
    Node,
    /// A pod.
    Pod,
}

/// The colour of an LED.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Colour {
    Red,
    Yellow,
    Green,
    Blue,
    White,
    /// It burns in any colour: red, green and blue in one.
    Rgb,
}

/// What is wrong with a board file; all of it.
#[derive(Debug, thiserror::Error)]
pub enum BoardError {
    /// Not TOML: the parser's words name the line.
    #[error("expected TOML: {}", keys::printable(&.0.to_string()))]
    Form(Box<toml::de::Error>),
    /// Larger than any board file.
    #[error("expected at most {most} bytes, found {found}")]
    Size {
        /// Bytes.
        most: usize,
        /// Bytes.
        found: usize,
    },
    /// TOML, and wrong: a line a fault.
    #[error("{}", lines(.0))]
    Content(Vec<Fault>),
}

fn lines(faults: &[Fault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// BCM pins of the 40-pin header.
const HIGHEST_PIN: u8 = 27;

const COLOURS: &[(&str, Colour)] = &[
    ("red", Colour::Red),
    ("yellow", Colour::Yellow),
    ("green", Colour::Green),
    ("blue", Colour::Blue),
    ("white", Colour::White),
    ("rgb", Colour::Rgb),
];
const COLOUR_WORDS: &str = "one of red, yellow, green, blue, white, rgb";

/// A name: what an annotation, a message and a terminal can hold.
fn name(value: &DeValue<'_>) -> Option<String> {
    keys::text(value).filter(|name| name.len() <= 40 && is_framed(name, b"-_"))
}

/// Whether it begins and ends with a letter or a digit, and has only `inner` besides: Kubernetes' rule for the values of labels, which is
/// that of names here, too.
fn is_framed(text: &str, inner: &[u8]) -> bool {
    let is_edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    is_edge(bytes.first())
        && is_edge(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || inner.contains(byte))
}

impl Board {
    /// Reads and checks a board file.
    ///
    /// # Errors
    /// With everything that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, BoardError> {
        file::board(text)
    }

    /// An embedded board by name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        // A test parses every embedded file.
        EMBEDDED.iter().find(|(known, _)| *known == name).and_then(|(_, text)| Self::parse(text).ok())
    }

    /// The board that these `compatible` strings tell, the most specific first; else `generic`.
    #[must_use]
    pub fn detect(compatible: &[String]) -> Self {
        let boards: Vec<Self> = EMBEDDED.iter().filter_map(|(_, text)| Self::parse(text).ok()).collect();
        compatible
            .iter()
            .find_map(|told| boards.iter().find(|board| board.matches.contains(told)).cloned())
            .or_else(|| Self::named("generic"))
            .expect("a test parses the embedded file of the generic board")
    }
}

impl Hat {
    /// Reads and checks a HAT file.
    ///
    /// # Errors
    /// With everything that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, BoardError> {
        file::hat(text)
    }

    /// An embedded HAT by name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        // A test parses every embedded file.
        EMBEDDED_HATS.iter().find(|(known, _)| *known == name).and_then(|(_, text)| Self::parse(text).ok())
    }

    /// The HAT that an EEPROM tells: `product` and `product_ver` as the firmware puts them below `/proc/device-tree/hat`.
    #[must_use]
    pub fn detect(product: &str, version: Option<u32>) -> Option<Self> {
        EMBEDDED_HATS.iter().filter_map(|(_, text)| Self::parse(text).ok()).find(|hat| {
            let versions = hat.product_versions;
            hat.products.iter().any(|known| known == product)
                && versions.is_none_or(|(least, most)| version.is_some_and(|version| (least..=most).contains(&version)))
        })
    }
}

#[cfg(test)]
mod tests;
