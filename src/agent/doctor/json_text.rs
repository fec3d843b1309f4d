//! A JSON object of which one key is changed, and all else stays as it was written: order, numbers, nested text.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// An object's keys in their order, each with its value as it was written.
#[derive(Debug)]
pub struct Object<'a>(Vec<(String, Piece<'a>)>);

#[derive(Debug)]
enum Piece<'a> {
    Old(&'a RawValue),
    New(String),
}

/// Why a text is no object that can be changed.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// Not JSON, or no object.
    #[error("{0}")]
    Form(#[from] serde_json::Error),
    /// Readers take one of the two, each as it likes.
    #[error("the key {0:?} is there twice")]
    Twice(String),
}

impl<'a> Object<'a> {
    /// Reads a text.
    ///
    /// # Errors
    /// When it is not one JSON object with each key once.
    pub fn parse(text: &'a str) -> Result<Self, ObjectError> {
        let object: Self = serde_json::from_str(text)?;
        let mut names: Vec<&str> = object.0.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair.first() == pair.last()) {
            Some(pair) => Err(ObjectError::Twice(pair.first().copied().unwrap_or_default().to_owned())),
            None => Ok(object),
        }
    }

    /// A value as it is written.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, piece)| match piece {
            Piece::Old(raw) => raw.get(),
            Piece::New(text) => text,
        })
    }

    /// Sets a key in its place, or behind all others. `value` is JSON.
    pub fn set(&mut self, name: &str, value: String) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, piece)) => *piece = Piece::New(value),
            None => self.0.push((name.to_owned(), Piece::New(value))),
        }
    }

    /// The text, a key a line behind `indent`, closed behind `outer`.
    #[must_use]
    pub fn printed(&self, indent: &str, outer: &str) -> String {
        let pair = |(name, piece): &(String, Piece<'_>)| {
            let value = match piece {
                Piece::Old(raw) => raw.get(),
                Piece::New(text) => text,
            };
            format!("{indent}{}: {value}", serde_json::Value::from(name.as_str()))
        };
        let pairs: Vec<String> = self.0.iter().map(pair).collect();
        if pairs.is_empty() { "{}".to_owned() } else { format!("{{\n{}\n{outer}}}", pairs.join(",\n")) }
    }
}

/// What a text indents with: what stands before the first key that begins a line.
#[must_use]
pub fn indent(text: &str) -> &str {
    let line = text.lines().find(|line| line.starts_with([' ', '\t']) && line.trim_start().starts_with('"'));
    line.and_then(|line| line.get(..line.len() - line.trim_start().len())).unwrap_or("  ")
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Vec<(String, Piece<'de>)>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut pairs = Vec::new();
                while let Some((name, raw)) = map.next_entry::<String, &'de RawValue>()? {
                    pairs.push((name, Piece::Old(raw)));
                }
                Ok(pairs)
            }
        }
        deserializer.deserialize_map(Keys).map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_else_stays_as_it_was_written() {
        let text = "{\n\t\"b\": 1.50e2,\n\t\"a\": { \"x\":  [1,2 ] },\n\t\"b2\": 12345678901234567890123\n}\n";
        let mut object = Object::parse(text).unwrap();
        object.set("c", "true".to_owned());
        object.set("b", "7".to_owned());
        assert_eq!(
            object.printed(indent(text), ""),
            "{\n\t\"b\": 7,\n\t\"a\": { \"x\":  [1,2 ] },\n\t\"b2\": 12345678901234567890123,\n\t\"c\": true\n}"
        );
        assert_eq!(object.get("a"), Some("{ \"x\":  [1,2 ] }"));
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in ["", "[1]", "{", "{\"a\":1,}", "nonsense", "{} {}"] {
            assert!(matches!(Object::parse(text), Err(ObjectError::Form(_))), "{text}");
        }
        let error = Object::parse("{\"a\":1,\"b\":2,\"a\":3}").unwrap_err();
        assert_eq!(error.to_string(), "the key \"a\" is there twice");
        assert_eq!(Object::parse(" {} ").unwrap().printed("  ", ""), "{}");
    }
}
