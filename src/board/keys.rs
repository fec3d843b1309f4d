//! Reads one table of a board file, key by key: nothing stops at the first fault, and each fault names its line.
//!
//! In:       a TOML table whose parts know where they stand.
//! Out:      values, or [`Fault`]s.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// One thing that is wrong with a board file or a HAT's, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// The file, where more than one is looked at: `HAT "plain"`; else empty.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// The key with what it belongs to: `LED "pod-3": pin`; empty when it is the whole file.
    pub key: String,
    /// What is wrong: what is expected and what was found.
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.is_empty() {
            write!(f, "{}, ", self.file)?;
        }
        write!(f, "line {}: ", self.line)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.what)
    }
}

/// A value of a board file, and where it stands.
pub(super) struct Found<T> {
    pub(super) value: T,
    /// Counted from 1.
    pub(super) line: usize,
}

/// One table, from which keys are taken one by one.
pub(super) struct Keys<'a, 't> {
    text: &'t str,
    table: DeTable<'t>,
    /// Where the table begins: what is missing is missing there.
    pub(super) line: usize,
    /// Before each key in a fault.
    pub(super) place: String,
    faults: &'a mut Vec<Fault>,
}

impl<'a, 't> Keys<'a, 't> {
    /// The keys of a table that begins at `line`.
    pub(super) fn new(text: &'t str, table: DeTable<'t>, line: usize, faults: &'a mut Vec<Fault>) -> Self {
        Self { text, table, line, place: String::new(), faults }
    }

    /// The table in a value that [`Keys::tables`] or [`Keys::table`] gave.
    pub(super) fn under(text: &'t str, table: Found<DeTable<'t>>, place: String, faults: &'a mut Vec<Fault>) -> Self {
        Self { text, table: table.value, line: table.line, place, faults }
    }

    /// Notes what is wrong with `key`.
    pub(super) fn fault(&mut self, line: usize, key: &str, what: impl Into<String>) {
        self.faults.push(Fault { file: String::new(), line, key: format!("{}{key}", self.place), what: what.into() });
    }

    /// Forgets what is left: what it could mean is not known.
    pub(super) fn forget(&mut self) {
        self.table.clear();
    }

    /// Takes over what was found wrong with a table inside this one.
    pub(super) fn absorb(&mut self, faults: Vec<Fault>) {
        self.faults.extend(faults);
    }

    fn take(&mut self, key: &str) -> Option<Found<DeValue<'t>>> {
        let value = self.table.remove(key)?;
        let line = line_of(self.text, value.span().start);
        Some(Found { value: value.into_inner(), line })
    }

    /// The value of `key`, when it is there and `read` takes it; a fault when it refuses. `expected` completes "expected …".
    pub(super) fn found<T>(
        &mut self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&DeValue<'t>) -> Option<T>,
    ) -> Option<Found<T>> {
        let Found { value, line } = self.take(key)?;
        let read = read(&value);
        if read.is_none() {
            self.fault(line, key, format!("expected {expected}, found {}", told(&value)));
        }
        read.map(|value| Found { value, line })
    }

    /// As [`Keys::found`], without its line.
    pub(super) fn optional<T>(&mut self, key: &str, expected: &str, read: impl FnOnce(&DeValue<'t>) -> Option<T>) -> Option<T> {
        self.found(key, expected, read).map(|found| found.value)
    }

    /// As [`Keys::found`]; that the key is missing is a fault.
    pub(super) fn needed<T>(
        &mut self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&DeValue<'t>) -> Option<T>,
    ) -> Option<Found<T>> {
        if !self.table.contains_key(key) {
            self.fault(self.line, key, format!("missing; expected {expected}"));
        }
        self.found(key, expected, read)
    }

    /// As [`Keys::needed`], without its line.
    pub(super) fn required<T>(&mut self, key: &str, expected: &str, read: impl FnOnce(&DeValue<'t>) -> Option<T>) -> Option<T> {
        self.needed(key, expected, read).map(|found| found.value)
    }

    /// The table that `key` is.
    pub(super) fn table(&mut self, key: &str) -> Option<Found<DeTable<'t>>> {
        let Found { value, line } = self.take(key)?;
        match value {
            DeValue::Table(value) => Some(Found { value, line }),
            other => {
                self.fault(line, key, format!("expected a table, found {}", told(&other)));
                None
            }
        }
    }

    /// As [`Keys::table`]; that the key is missing is a fault.
    pub(super) fn required_table(&mut self, key: &str) -> Option<Found<DeTable<'t>>> {
        if !self.table.contains_key(key) {
            self.fault(self.line, key, "missing; expected a table");
        }
        self.table(key)
    }

    /// The tables `[[key]]`, at most `most`.
    pub(super) fn tables(&mut self, key: &str, most: usize) -> Vec<Found<DeTable<'t>>> {
        let Some(Found { value, line }) = self.take(key) else { return Vec::new() };
        let DeValue::Array(array) = value else {
            self.fault(line, key, format!("expected tables like [[{key}]], found {}", told(&value)));
            return Vec::new();
        };
        if array.len() > most {
            self.fault(line, key, format!("expected at most {most} of them, found {}", array.len()));
            return Vec::new();
        }
        let mut tables = Vec::with_capacity(array.len());
        for value in array {
            let line = line_of(self.text, value.span().start);
            match value.into_inner() {
                DeValue::Table(value) => tables.push(Found { value, line }),
                other => self.fault(line, key, format!("expected tables like [[{key}]], found {}", told(&other))),
            }
        }
        tables
    }

    /// What a key says, without taking it: to name the table in faults.
    pub(super) fn peek(&self, key: &str) -> Option<&str> {
        match self.table.get(key)?.get_ref() {
            DeValue::String(text) => Some(text),
            _ => None,
        }
    }

    /// What nobody took is unknown. Gives back the list of faults.
    pub(super) fn finish(self) -> &'a mut Vec<Fault> {
        let Self { text, table, place, faults, .. } = self;
        faults.extend(table.into_iter().map(|(key, _): (Spanned<_>, _)| Fault {
            file: String::new(),
            line: line_of(text, key.span().start),
            key: format!("{place}{}", printable(key.get_ref())),
            what: "unknown key".to_owned(),
        }));
        faults
    }
}

/// The line at which a byte stands, from 1.
pub(super) fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

fn told(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) if text.is_empty() => "an empty text".to_owned(),
        // What is told may be told to a terminal, and may come from anywhere.
        DeValue::String(text) => format!("the text {:?}", text.chars().take(60).collect::<String>()),
        DeValue::Integer(number) => format!("the number {}", number.as_str()),
        DeValue::Float(number) => format!("the number {}", number.as_str()),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// A text as it may be told to a terminal: what is no character to be seen is escaped. Lines stay.
pub(super) fn printable(text: &str) -> String {
    text.split('\n').map(crate::terminal::printable).collect::<Vec<_>>().join("\n")
}

/// A text of 1 to 200 characters, each of which can be seen.
pub(super) fn text(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) if !text.is_empty() && text.chars().count() <= 200 && !text.contains(char::is_control) => {
            Some(text.to_string())
        }
        _ => None,
    }
}

/// A whole number within a range.
pub(super) fn whole<N: TryFrom<u64> + Copy>(range: RangeInclusive<u64>) -> impl Fn(&DeValue<'_>) -> Option<N> {
    move |value| match value {
        DeValue::Integer(number) => {
            let number = u64::from_str_radix(number.as_str(), number.radix()).ok()?;
            range.contains(&number).then(|| N::try_from(number).ok()).flatten()
        }
        _ => None,
    }
}

/// A number within a range, whole or not.
pub(super) fn number(range: RangeInclusive<f32>) -> impl Fn(&DeValue<'_>) -> Option<f32> {
    move |value| {
        match value {
            DeValue::Integer(_) => whole::<u16>(0..=u64::from(u16::MAX))(value).map(f32::from),
            DeValue::Float(number) => number.as_str().parse().ok(),
            _ => None,
        }
        .filter(|number| range.contains(number))
    }
}

/// `true` or `false`.
pub(super) fn flag(value: &DeValue<'_>) -> Option<bool> {
    match value {
        DeValue::Boolean(value) => Some(*value),
        _ => None,
    }
}

/// A list of things of one kind, at most `most`.
pub(super) fn list<T>(most: usize, read: impl Fn(&DeValue<'_>) -> Option<T>) -> impl Fn(&DeValue<'_>) -> Option<Vec<T>> {
    move |value| match value {
        DeValue::Array(array) if array.len() <= most => array.iter().map(|item| read(item.get_ref())).collect(),
        _ => None,
    }
}

/// As [`list`], with one thing at least.
pub(super) fn listed<T>(most: usize, read: impl Fn(&DeValue<'_>) -> Option<T>) -> impl Fn(&DeValue<'_>) -> Option<Vec<T>> {
    let read = list(most, read);
    move |value| read(value).filter(|list| !list.is_empty())
}

/// Whether nothing is there twice.
pub(super) fn different<T: Ord>(things: impl IntoIterator<Item = T>) -> bool {
    let mut seen = BTreeSet::new();
    things.into_iter().all(|thing| seen.insert(thing))
}

/// A word that is the name of something.
pub(super) fn word<T: Copy>(words: &'static [(&'static str, T)]) -> impl Fn(&DeValue<'_>) -> Option<T> {
    move |value| match value {
        DeValue::String(text) => words.iter().find(|(word, _)| word == text).map(|(_, meant)| *meant),
        _ => None,
    }
}
