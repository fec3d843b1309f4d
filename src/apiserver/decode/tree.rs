//! A JSON tree out of any deserializer, with what `serde_json::Value` does not notice: keys that stand twice, trees that are too
//! deep, and YAML aliases that unfold into more than they should.

use std::cell::{Cell, RefCell};
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::{Decoded, MAX_DEPTH};

/// More keys that stand twice than these are not listed.
const MAX_DUPLICATES: usize = 100;

/// What a body may become.
pub(super) struct Budget {
    yaml: bool,
    /// How many values and keys are still allowed.
    values: Cell<usize>,
    /// How many bytes of text are still allowed.
    text: Cell<usize>,
}

impl Budget {
    pub(super) fn json(bytes: usize) -> Self {
        // Every value and key takes a byte; every character at least as much as it becomes.
        Self { yaml: false, values: Cell::new(bytes.saturating_add(1)), text: Cell::new(bytes.saturating_add(1)) }
    }

    pub(super) fn yaml(bytes: usize) -> Self {
        // Aliases may repeat some of it; escapes grow a little.
        let allowed = bytes.saturating_mul(2).saturating_add(10_000);
        Self { yaml: true, values: Cell::new(allowed), text: Cell::new(allowed) }
    }

    fn spend(&self, text: usize) -> bool {
        let left = (self.values.get().checked_sub(1), self.text.get().checked_sub(text));
        let (Some(values), Some(text)) = left else { return false };
        self.values.set(values);
        self.text.set(text);
        true
    }
}

/// Reads a whole document.
pub(super) fn read<'de, D: Deserializer<'de>>(reader: D, budget: Budget) -> Result<Decoded, D::Error> {
    let state = State { budget, path: RefCell::default(), duplicates: RefCell::default() };
    let value = Node { state: &state, depth: 0 }.deserialize(reader)?;
    Ok(Decoded { value, duplicates: state.duplicates.into_inner() })
}

/// What a value is, in a word.
pub(super) fn sort(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

struct State {
    budget: Budget,
    path: RefCell<String>,
    duplicates: RefCell<Vec<String>>,
}

impl State {
    /// Does it with `step` at the end of the path.
    fn at<T>(&self, step: &fmt::Arguments<'_>, act: impl FnOnce() -> T) -> T {
        use fmt::Write as _;
        let length = self.path.borrow().len();
        let written = write!(self.path.borrow_mut(), "{step}");
        debug_assert!(written.is_ok(), "writing to a string does not fail");
        let result = act();
        self.path.borrow_mut().truncate(length);
        result
    }

    fn at_key<T>(&self, key: &str, act: impl FnOnce() -> T) -> T {
        let dot = if self.path.borrow().is_empty() { "" } else { "." };
        self.at(&format_args!("{dot}{key}"), act)
    }
}

/// One value of the tree.
struct Node<'a> {
    state: &'a State,
    depth: usize,
}

impl Node<'_> {
    fn scalar<E: Error>(&self, text: usize) -> Result<(), E> {
        if self.state.budget.spend(text) { Ok(()) } else { Err(E::custom("document contains excessive aliasing")) }
    }

    fn deeper<E: Error>(&self) -> Result<Self, E> {
        self.scalar(0)?;
        if self.depth >= MAX_DEPTH {
            return Err(E::custom(format_args!("exceeded max depth of {MAX_DEPTH}")));
        }
        Ok(Self { state: self.state, depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that JSON has")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.scalar(0)?;
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        self.scalar(0)?;
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        self.scalar(0)?;
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        self.scalar(0)?;
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        self.scalar(0)?;
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom(format_args!("{value} is no number that JSON has")))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        self.scalar(text.len())?;
        Ok(Value::String(text.to_owned()))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Value, E> {
        self.scalar(text.len())?;
        Ok(Value::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let node = self.deeper()?;
            let index = list.len();
            match self.state.at(&format_args!("[{index}]"), || items.next_element_seed(node))? {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        let mut merged = Vec::new();
        while let Some(key) = entries.next_key_seed(Key(self.state))? {
            let node = self.deeper()?;
            let value = self.state.at_key(&key, || entries.next_value_seed(node))?;
            if self.state.budget.yaml && key == "<<" {
                merged.push(value);
            } else if map.insert(key.clone(), value).is_some() {
                self.state.at_key(&key, || {
                    let mut duplicates = self.state.duplicates.borrow_mut();
                    let path = self.state.path.borrow();
                    if duplicates.len() < MAX_DUPLICATES && !duplicates.contains(&*path) {
                        duplicates.push(path.clone());
                    }
                });
            }
        }
        for value in merged {
            merge(&mut map, value)?;
        }
        Ok(Value::Object(map))
    }
}

/// YAML's merge key: what the map does not have itself comes from another, or from the first of several that has it.
fn merge<E: Error>(map: &mut Map<String, Value>, value: Value) -> Result<(), E> {
    match value {
        Value::Object(other) => {
            for (key, value) in other {
                map.entry(key).or_insert(value);
            }
            Ok(())
        }
        Value::Array(list) => list.into_iter().try_for_each(|value| {
            if value.is_object() {
                merge(map, value)
            } else {
                Err(E::custom("map merge requires map or sequence of maps as the value"))
            }
        }),
        _ => Err(E::custom("map merge requires map or sequence of maps as the value")),
    }
}

/// A key; YAML may write it as a number or a boolean.
struct Key<'a>(&'a State);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        // JSON's keys are always texts; its deserializer would take a number only in quotes.
        if self.0.budget.yaml { deserializer.deserialize_any(self) } else { deserializer.deserialize_str(self) }
    }
}

impl<'de> Visitor<'de> for Key<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text as key")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
        self.visit_string(text.to_owned())
    }

    fn visit_string<E: Error>(self, text: String) -> Result<String, E> {
        if self.0.budget.spend(text.len()) { Ok(text) } else { Err(E::custom("document contains excessive aliasing")) }
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<String, E> {
        self.visit_string(value.to_string())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<String, E> {
        self.visit_string(value.to_string())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<String, E> {
        self.visit_string(value.to_string())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<String, E> {
        self.visit_string(value.to_string())
    }
}
