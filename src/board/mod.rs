//! Boards as data: which machine this is, where its LEDs are, what to keep for the system, how it simulates.
//!
//! In:       the text of a `boards/*.toml` (all are embedded), the device tree's `compatible` strings.
//! Out:      a [`Board`].
//! Never:    touches a pin (`agent/led/gpio.rs`).
//!
//! Adding a board is adding a file to `boards/` and to [`EMBEDDED`]; a test compares the two.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// All board files, by name.
pub static EMBEDDED: &[(&str, &str)] = &[
    ("generic", include_str!("../../boards/generic.toml")),
    ("rpi-4b", include_str!("../../boards/rpi-4b.toml")),
    ("simulated", include_str!("../../boards/simulated.toml")),
];

/// One board, checked.
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
    /// Its LEDs, in the order in which pods take them.
    pub leds: Vec<Led>,
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
    /// BCM number; none: it exists in messages only.
    pub pin: Option<u8>,
    /// For drawings.
    pub colour: Colour,
    /// Whether the pin is low when the LED is lit.
    pub active_low: bool,
    /// What it is for.
    pub shows: Shows,
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
    #[error("expected TOML: {0}")]
    Form(#[from] Box<toml::de::Error>),
    /// TOML, and wrong: a line a fault, with its key.
    #[error("{}", .0.join("\n"))]
    Content(Vec<String>),
}

/// BCM pins of the 40-pin header.
const HIGHEST_PIN: u8 = 27;

impl Board {
    /// Reads and checks a board file.
    ///
    /// # Errors
    /// With everything that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, BoardError> {
        let table: toml::Table = toml::from_str(text).map_err(Box::new)?;
        let mut faults = Vec::new();
        let mut keys = Keys { table, place: String::new(), faults: &mut faults };
        let (reserved, simulated) =
            (keys.required("reserved", toml::Table::new()), keys.required("simulated", toml::Table::new()));
        let tables: Vec<toml::Table> = keys.optional("led").unwrap_or_default();
        let mut board = Self {
            name: keys.required("name", String::new()),
            title: keys.required("title", String::new()),
            instance_type: keys.required("instance_type", String::new()),
            matches: keys.required("match", Vec::new()),
            target: keys.required("target", String::new()),
            hot_celsius: keys.required("hot_celsius", 0.0),
            reserved: Reserved { cpu_milli: 0, memory_mib: 0 },
            simulated: Simulated { cpus: 0, memory_mib: 0, pull_milliseconds: 0 },
            leds: Vec::with_capacity(tables.len()),
        };
        keys.finish();
        if !reserved.is_empty() {
            let mut keys = Keys { table: reserved, place: "reserved.".to_owned(), faults: &mut faults };
            board.reserved = Reserved { cpu_milli: keys.required("cpu_milli", 0), memory_mib: keys.required("memory_mib", 0) };
            keys.finish();
        }
        if !simulated.is_empty() {
            let mut keys = Keys { table: simulated, place: "simulated.".to_owned(), faults: &mut faults };
            board.simulated = Simulated {
                cpus: keys.required("cpus", 0),
                memory_mib: keys.required("memory_mib", 0),
                pull_milliseconds: keys.required("pull_milliseconds", 0),
            };
            keys.finish();
        }
        for (index, table) in tables.into_iter().enumerate() {
            // By name where it has one: who wrote the file does not count.
            let named = table.get("name").and_then(toml::Value::as_str).map(|name| format!("LED {name:?}: "));
            let place = named.unwrap_or_else(|| format!("LED number {}: ", index + 1));
            let mut keys = Keys { table, place, faults: &mut faults };
            board.leds.push(Led {
                name: keys.required("name", String::new()),
                pin: keys.optional("pin"),
                colour: keys.required("colour", Colour::White),
                active_low: keys.optional("active_low").unwrap_or_default(),
                shows: keys.required("shows", Shows::Pod),
            });
            keys.finish();
        }
        board.check(&mut faults);
        if faults.is_empty() { Ok(board) } else { Err(BoardError::Content(faults)) }
    }

    /// What is wrong with values that are right each by itself.
    fn check(&self, faults: &mut Vec<String>) {
        let (mut pins, mut names) = (BTreeSet::new(), BTreeSet::new());
        for led in &self.leds {
            if !names.insert(&led.name) {
                faults.push(format!("two LEDs are named {:?}", led.name));
            }
            match led.pin {
                Some(pin) if pin > HIGHEST_PIN => {
                    faults.push(format!("LED {:?} is on pin {pin}, but the header has BCM 0 to {HIGHEST_PIN}", led.name));
                }
                Some(pin) if !pins.insert(pin) => {
                    faults.push(format!("pin {pin} is used twice, the second time by LED {:?}", led.name));
                }
                _ => {}
            }
        }
        if self.leds.iter().filter(|led| led.shows == Shows::Node).count() > 1 {
            faults.push("more than one LED shows the node".to_owned());
        }
    }

    /// An embedded board by name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        // A test parses every embedded file.
        EMBEDDED.iter().find(|(known, _)| *known == name).and_then(|(_, text)| Self::parse(text).ok())
    }

    /// The board that these `compatible` strings tell, else `generic`.
    #[must_use]
    pub fn detect(compatible: &[String]) -> Self {
        EMBEDDED
            .iter()
            .filter_map(|(_, text)| Self::parse(text).ok())
            .find(|board| board.matches.iter().any(|known| compatible.contains(known)))
            .or_else(|| Self::named("generic"))
            .expect("a test parses the embedded file of the generic board")
    }
}

/// One table of a board file, from which keys are taken one by one: nothing stops at the first fault.
struct Keys<'a> {
    table: toml::Table,
    /// Before each key in a fault.
    place: String,
    faults: &'a mut Vec<String>,
}

impl Keys<'_> {
    fn optional<T: DeserializeOwned>(&mut self, key: &str) -> Option<T> {
        let value = self.table.remove(key)?;
        value
            .try_into()
            .map_err(|error: toml::de::Error| self.faults.push(format!("{}{key}: {}", self.place, error.message())))
            .ok()
    }

    /// `or` after a fault: the board is not used then.
    fn required<T: DeserializeOwned>(&mut self, key: &str, or: T) -> T {
        if !self.table.contains_key(key) {
            self.faults.push(format!("{}{key}: missing", self.place));
        }
        self.optional(key).unwrap_or(or)
    }

    /// What nobody took is unknown.
    fn finish(self) {
        self.faults.extend(self.table.keys().map(|key| format!("{}{key}: unknown key", self.place)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_list_is_the_folder_and_every_file_is_sound() {
        let folder: BTreeSet<String> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/boards"))
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(EMBEDDED.iter().map(|(name, _)| (*name).to_owned()).collect::<BTreeSet<_>>(), folder);
        for (name, text) in EMBEDDED {
            assert_eq!(Board::parse(text).unwrap_or_else(|error| panic!("{name}: {error}")).name, *name);
        }
    }

    #[test]
    fn a_board_is_told_by_its_device_tree() {
        assert_eq!(Board::detect(&["raspberrypi,4-model-b".into(), "brcm,bcm2711".into()]).name, "rpi-4b");
        assert_eq!(Board::detect(&["acme,toaster".into()]).name, "generic");
        assert_eq!(Board::named("rpi-4b").unwrap().leds.len(), 8);
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let text =
            EMBEDDED[1].1.replace("pin = 6\n", "pin = 5\n").replace("pin = 13", "pin = 40").replace("\"pod-7\"", "\"pod-6\"");
        let words = Board::parse(&text).unwrap_err().to_string();
        for part in ["pin 5 is used twice", "pin 40", "two LEDs are named \"pod-6\""] {
            assert!(words.contains(part), "{words}");
        }
        let text = EMBEDDED[1]
            .1
            .replace("80.0", "'warm'")
            .replace("\"blue\"", "'mauve'")
            .replace("target =", "targett =")
            .replace("pin = 6\n", "pin = 5\n")
            .replace("pin = 13", "pin = 400");
        let words = Board::parse(&text).unwrap_err().to_string();
        for part in [
            "hot_celsius: invalid type: string \"warm\"",
            "LED \"node\": colour: unknown variant `mauve`, expected one of `red`",
            "target: missing",
            "targett: unknown key",
            "LED \"pod-3\": pin: invalid value: integer `400`",
            "pin 5 is used twice",
        ] {
            assert!(words.contains(part), "{part} in {words}");
        }
        assert_eq!(words.lines().count(), 6, "{words}");
        assert!(Board::parse("name = 3").is_err() && Board::parse("").is_err());
        assert!(Board::parse(&format!("{}\ncolor = 1", EMBEDDED[0].1)).is_err());
    }
}
