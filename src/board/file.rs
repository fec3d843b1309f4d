//! Reads a whole file: a board's or a HAT's.
//!
//! In:       its text.
//! Out:      a [`Board`] or a [`Hat`], or everything that is wrong with it, each with its line.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::claim::{Claim, Resource, clashes, missing, with_pins};
use super::keys::{Fault, Found, Keys, flag, list, listed, number, text, whole, word};
use super::{
    Board, BoardError, COLOUR_WORDS, COLOURS, ClassLed, Colour, Died, HIGHEST_PIN, Hat, Led, Place, Reserved, Shows, Simulated,
    is_framed, name, strip,
};

/// The format that this program reads. A file that names none is of this one.
const FORMAT: u64 = 1;
/// A board file is a few hundred lines at most.
const MOST_BYTES: usize = 64 << 10;
/// LEDs and strips that a file lists.
const MOST_TABLES: usize = 64;
/// Source: the labels that Linux' drivers give the chips of the Pi's header, by generation.
const GPIO_CHIPS: [&str; 3] = ["pinctrl-bcm2835", "pinctrl-bcm2711", "pinctrl-rp1"];
/// Below, a Pi is hot when it idles; above, no processor works.
const HOT_CELSIUS: RangeInclusive<f32> = 40.0..=120.0;
/// Cores of the largest machine that runs an agent.
const MOST_CPUS: u64 = 1024;
/// 16 TiB.
const MOST_MIB: u64 = 16 << 20;
/// An hour.
const MOST_PULL_MILLISECONDS: u64 = 3_600_000;
const NAME: &str = "a name of letters, digits, - and _, at most 40, that begins and ends with a letter or digit";

const LABEL: &str = "a label's value: letters, digits, -, _ and ., at most 63, that begins and ends with a letter or digit";

/// A file of either kind.
#[derive(Clone, Debug, PartialEq)]
pub enum File {
    /// `kind = "board"`, or none.
    Board(Box<Board>),
    /// `kind = "hat"`.
    Hat(Hat),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Board,
    Hat,
}

const KINDS: &[(&str, Kind)] = &[("board", Kind::Board), ("hat", Kind::Hat)];

impl File {
    /// The file of this name that comes with the program, a board's or a HAT's.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let board = Board::named(name).map(|board| Self::Board(Box::new(board)));
        board.or_else(|| Hat::named(name).map(Self::Hat))
    }

    /// Reads and checks a file, whatever it describes.
    ///
    /// # Errors
    /// With everything that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, BoardError> {
        let table = table(text)?;
        let kind = table.get("kind").map(toml::Spanned::get_ref);
        match kind {
            Some(DeValue::String(kind)) if kind == "hat" => hat(text).map(File::Hat),
            _ => board(text).map(|board| File::Board(Box::new(board))),
        }
    }
}

fn table(text: &str) -> Result<DeTable<'_>, BoardError> {
    if text.len() > MOST_BYTES {
        return Err(BoardError::Size { most: MOST_BYTES, found: text.len() });
    }
    Ok(DeTable::parse(text).map_err(|error| BoardError::Form(Box::new(error)))?.into_inner())
}

/// The keys of a file of this kind and this format, or why it is none.
fn open<'a, 't>(text: &'t str, expected: Kind, faults: &'a mut Vec<Fault>) -> Result<Option<Keys<'a, 't>>, BoardError> {
    let mut keys = Keys::new(text, table(text)?, 1, faults);
    let format = keys.found("format", "a whole number", whole::<u64>(0..=u64::MAX));
    if let Some(format) = format.filter(|format| format.value != FORMAT) {
        keys.fault(
            format.line,
            "format",
            format!("this program reads format {FORMAT}; a newer Bramble may read format {}", format.value),
        );
        // What a file of another format may say is not known.
        return Ok(None);
    }
    let kind = keys.found("kind", "\"board\" or \"hat\"", word(KINDS));
    let (is, line) = kind.map_or((Kind::Board, 1), |kind| (kind.value, kind.line));
    if is == expected {
        return Ok(Some(keys));
    }
    let what = match is {
        Kind::Hat => "this file describes a HAT, not a board: it belongs into leds.hats",
        Kind::Board => "expected \"hat\": this file describes a board, it belongs into board",
    };
    keys.fault(line, "kind", what);
    Ok(None)
}

/// A board's file.
pub(super) fn board(text: &str) -> Result<Board, BoardError> {
    let mut faults = Vec::new();
    let Some(mut keys) = open(text, Kind::Board, &mut faults)? else { return Err(BoardError::Content(faults)) };
    let pins = || list(28, whole::<u8>(0..=u64::from(HIGHEST_PIN)));
    let name = keys.required("name", NAME, name);
    let title = keys.required("title", "a text", self::text);
    let instance_type = keys.required("instance_type", LABEL, label);
    let matches = keys.optional("match", "a list of the device tree's compatible strings", list(32, self::text));
    let target = keys.required("target", "a Rust target like \"aarch64-unknown-linux-musl\"", self::text);
    let hot_celsius = keys.required("hot_celsius", "a number of °C from 40 to 120", number(HOT_CELSIUS));
    let gpio_chips =
        keys.optional("gpio_chips", "a list of labels of GPIO chips, like [\"pinctrl-bcm2711\"]", listed(8, self::text));
    let header_pins = keys.optional("header_pins", "a list of BCM numbers from 0 to 27", pins());
    let (reserved, simulated) = (keys.required_table("reserved"), keys.required_table("simulated"));
    let (lines, strips) = (keys.tables("led", MOST_TABLES), keys.tables("strip", MOST_TABLES));
    let faults = keys.finish();
    let reserved = reserved.map(|table| {
        let mut keys = Keys::under(text, table, "reserved.".to_owned(), faults);
        let reserved = (
            keys.required("cpu_milli", "thousandths of a core, 0 to 1024000", whole(0..=MOST_CPUS * 1000)),
            keys.required("memory_mib", "MiB, 0 to 16777216", whole(0..=MOST_MIB)),
        );
        keys.finish();
        reserved
    });
    let simulated = simulated.map(|table| {
        let mut keys = Keys::under(text, table, "simulated.".to_owned(), faults);
        let simulated = (
            keys.required("cpus", "a number of cores from 1 to 1024", whole(1..=MOST_CPUS)),
            keys.required("memory_mib", "MiB, 1 to 16777216", whole(1..=MOST_MIB)),
            keys.required("pull_milliseconds", "milliseconds, 0 to 3600000", whole(0..=MOST_PULL_MILLISECONDS)),
        );
        keys.finish();
        simulated
    });
    let header_pins = header_pins.unwrap_or_else(|| (0..=HIGHEST_PIN).collect());
    let gpio_chips = gpio_chips.unwrap_or_else(of_all_pis);
    let Lights { leds, strips, claims } = lights(text, lines, strips, Vec::new(), faults);
    let taken = with_pins(&claims, &gpio_chips);
    faults.extend(clashes(&taken));
    faults.extend(missing(&taken, &header_pins, &gpio_chips));
    let made = || {
        let ((cpu_milli, memory_mib), (cpus, memory, pull)) = (reserved?, simulated?);
        Some(Board {
            name: name?,
            title: title?,
            instance_type: instance_type?,
            matches: matches.unwrap_or_default(),
            target: target?,
            hot_celsius: hot_celsius?,
            reserved: Reserved { cpu_milli: cpu_milli?, memory_mib: memory_mib? },
            simulated: Simulated { cpus: cpus?, memory_mib: memory?, pull_milliseconds: pull? },
            gpio_chips,
            header_pins,
            leds,
            strips,
            resting: Vec::new(),
            hats: Vec::new(),
            claims,
        })
    };
    let made = made();
    settled(made, std::mem::take(faults))
}

/// A HAT's file.
pub(super) fn hat(text: &str) -> Result<Hat, BoardError> {
    const VERSIONS: &str = "the lowest and the highest version, each from 0 to 65535, in this order";
    let mut faults = Vec::new();
    let Some(mut keys) = open(text, Kind::Hat, &mut faults)? else { return Err(BoardError::Content(faults)) };
    let name = keys.required("name", NAME, name);
    let title = keys.required("title", "a text", self::text);
    let products = keys.optional("products", "a list of what the EEPROM says in hat/product", list(32, self::text));
    let product_versions = keys.optional("product_versions", VERSIONS, |value| {
        let versions = list(2, whole::<u32>(0..=0xffff))(value)?;
        <[u32; 2]>::try_from(versions).ok().map(|[least, most]| (least, most)).filter(|(least, most)| least <= most)
    });
    let occupies =
        keys.found("occupies", "a list of BCM numbers from 0 to 27", list(28, whole::<u8>(0..=u64::from(HIGHEST_PIN))));
    let mut claims = Vec::new();
    if let Some(Found { value, line }) = occupies {
        claims.extend(value.into_iter().map(|pin| Claim::new(&keys, "occupies", Resource::Pin(pin)).at(line)));
    }
    let (lines, strips) = (keys.tables("led", MOST_TABLES), keys.tables("strip", MOST_TABLES));
    let faults = keys.finish();
    let Lights { leds, strips, claims } = lights(text, lines, strips, claims, faults);
    // Which board it will be on is not known yet.
    faults.extend(clashes(&with_pins(&claims, &of_all_pis())));
    let made = name.zip(title).map(|(name, title)| Hat {
        name,
        title,
        products: products.unwrap_or_default(),
        product_versions,
        leds,
        strips,
        claims,
    });
    settled(made, std::mem::take(faults))
}

fn settled<T>(made: Option<T>, mut faults: Vec<Fault>) -> Result<T, BoardError> {
    faults.sort();
    match made {
        Some(made) if faults.is_empty() => Ok(made),
        _ => Err(BoardError::Content(faults)),
    }
}

/// What a file lists of LEDs, and what they take.
struct Lights {
    leds: Vec<Led>,
    strips: Vec<super::Strip>,
    claims: Vec<Claim>,
}

fn lights<'t>(
    text: &'t str,
    lines: Vec<Found<DeTable<'t>>>,
    strips: Vec<Found<DeTable<'t>>>,
    claims: Vec<Claim>,
    faults: &mut Vec<Fault>,
) -> Lights {
    let mut made = Lights { leds: Vec::new(), strips: Vec::new(), claims };
    // By name and line: who stands where.
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    let mut node: Option<usize> = None;
    let mut note = |led: &Led, line: usize, faults: &mut Vec<Fault>| {
        let mut fault = |what| faults.push(Fault { file: String::new(), line, key: String::new(), what });
        if let Some(first) = names.insert(led.name.clone(), line) {
            fault(format!("two LEDs are named {:?} (the other in line {first})", led.name));
        }
        if led.shows == Shows::Node
            && let Some(first) = node.replace(line)
        {
            fault(format!("more than one LED shows the node (the other in line {first})"));
        }
    };
    for (index, table) in lines.into_iter().enumerate() {
        let line = table.line;
        let mut keys = Keys::under(text, table, String::new(), faults);
        let given = keys.peek("name").map(|name| format!("LED {name:?}: "));
        // By name where it has one: who wrote the file does not count.
        keys.place = given.unwrap_or_else(|| format!("LED number {}: ", index + 1));
        let led = led(&mut keys, text, &mut made.claims);
        let faults = keys.finish();
        if let Some(led) = led {
            note(&led, line, faults);
            made.leds.push(led);
        }
    }
    for (index, table) in strips.into_iter().enumerate() {
        let line = table.line;
        let mut keys = Keys::under(text, table, String::new(), faults);
        let given = keys.peek("name").map(|name| format!("strip {name:?}: "));
        keys.place = given.unwrap_or_else(|| format!("strip number {}: ", index + 1));
        let strip = strip::read(&mut keys, index, &mut made.claims);
        let faults = keys.finish();
        if let Some((strip, leds)) = strip {
            leds.iter().for_each(|led| note(led, line, faults));
            made.leds.extend(leds);
            made.strips.push(strip);
        }
    }
    made
}

fn led<'t>(keys: &mut Keys<'_, 't>, text: &'t str, claims: &mut Vec<Claim>) -> Option<Led> {
    let name = keys.required("name", NAME, name);
    let colour = keys.required("colour", COLOUR_WORDS, word(COLOURS));
    let shows = keys.required("shows", "\"node\" or \"pod\"", word(&[("node", Shows::Node), ("pod", Shows::Pod)]));
    let pin = keys.found("pin", "a pin of the header, BCM 0 to 27", whole::<u8>(0..=u64::from(HIGHEST_PIN)));
    let active_low = keys.found("active_low", "true or false", flag);
    let names = keys.found("class", "names below /sys/class/leds, like [\"ACT\", \"led0\"]", list(8, class_name));
    let trigger = keys.found("trigger", "a trigger of the kernel, like \"mmc0\"", class_name);
    let died = keys.table("died");
    if let Some(names) = names.as_ref().filter(|names| names.value.is_empty()) {
        keys.fault(names.line, "class", "expected at least one name");
    }
    if let (Some(_), Some(names)) = (&pin, &names) {
        keys.fault(names.line, "class", "an LED is on a pin or of the kernel's class, not both");
    }
    if let (None, Some(low)) = (&pin, &active_low) {
        keys.fault(low.line, "active_low", "only an LED with a pin has it; the kernel knows the polarity of its own");
    }
    if names.is_none() {
        for (key, line) in
            [("trigger", trigger.as_ref().map(|found| found.line)), ("died", died.as_ref().map(|found| found.line))]
        {
            if let Some(line) = line {
                keys.fault(line, key, "only an LED of the kernel's class has it (class = …)");
            }
        }
    }
    let died = died.and_then(|table| self::died(keys, text, table));
    let place = if let Some(pin) = pin {
        claims.push(Claim::new(keys, "pin", Resource::Pin(pin.value)).at(pin.line));
        Place::Pin { pin: pin.value, active_low: active_low.is_some_and(|low| low.value) }
    } else if let Some(names) = names {
        claims.extend(names.value.iter().map(|name| Claim::new(keys, "class", Resource::Class(name.clone())).at(names.line)));
        let trigger = trigger.map_or_else(|| "none".to_owned(), |trigger| trigger.value);
        Place::Class(ClassLed { names: names.value, trigger, died })
    } else {
        Place::Message
    };
    Some(Led { name: name?, place, colour: colour.unwrap_or(Colour::White), shows: shows.unwrap_or(Shows::Pod) })
}

fn died<'t>(keys: &mut Keys<'_, 't>, text: &'t str, table: Found<DeTable<'t>>) -> Option<Died> {
    const TIME: &str = "milliseconds, from 1 to 60000";
    let line = table.line;
    let mut faults = Vec::new();
    let mut inner = Keys::under(text, table, format!("{}died.", keys.place), &mut faults);
    let trigger = inner.required("trigger", "a trigger of the kernel, like \"timer\" or \"heartbeat\"", class_name);
    let time = || whole::<u64>(1..=60_000);
    let (on, off) = (inner.optional("on_milliseconds", TIME, time()), inner.optional("off_milliseconds", TIME, time()));
    inner.finish();
    keys.absorb(faults);
    let is_timer = trigger.as_deref() == Some("timer");
    let blink = match (on, off) {
        (Some(on), Some(off)) if is_timer => Some((Duration::from_millis(on), Duration::from_millis(off))),
        (None, None) => None,
        _ => {
            keys.fault(line, "died", "on_milliseconds and off_milliseconds belong together, and to the trigger \"timer\"");
            None
        }
    };
    Some(Died { trigger: trigger?, blink })
}

fn of_all_pis() -> Vec<String> {
    GPIO_CHIPS.map(str::to_owned).to_vec()
}

/// What may be a file's name below a folder of the kernel's.
fn class_name(value: &DeValue<'_>) -> Option<String> {
    text(value).filter(|name| {
        name.len() <= 60 && !name.starts_with('.') && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/')
    })
}

/// Source: Kubernetes' label values, 63 characters.
fn label(value: &DeValue<'_>) -> Option<String> {
    text(value).filter(|text| text.len() <= 63 && is_framed(text, b"-_."))
}
