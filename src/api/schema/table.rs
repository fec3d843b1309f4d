//! The table behind the schema: every message with its fields, read once from `table.txt`.
//!
//! In:       `table.txt`, made by `generate.py` from the published definitions; its format is in `docs/schema.md`.
//! Out:      [`Message`]s, found by apiVersion and kind; from there the fields lead on.
//! Never:    looks at a value (`prune.rs`, `protobuf.rs`).

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

/// How a value of a field looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Text.
    String,
    /// Yes or no.
    Bool,
    /// A whole number of 32 bits.
    Int32,
    /// A whole number of 64 bits.
    Int64,
    /// Base64 in JSON.
    Bytes,
    /// `500m`; in JSON a string or a number.
    Quantity,
    /// RFC 3339 in whole seconds.
    Time,
    /// RFC 3339 in microseconds.
    MicroTime,
    /// `3` or `"25%"`.
    IntOrString,
    /// Any JSON: `RawExtension`, `FieldsV1`.
    Any,
    /// An object, or a list that is a message on the wire.
    Message(MessageId),
}

/// A place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageId(usize);

/// How many values a field has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One.
    One,
    /// Any number, in order.
    List,
    /// By text.
    Map,
}

/// How a field takes a strategic merge patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MergeRule {
    /// Maps merge, lists are replaced.
    Plain,
    /// A list whose items merge by this key.
    By(&'static str),
    /// A list of scalars, each of which stands once.
    Set,
    /// A map that is replaced.
    Replace,
}

/// One field of a message.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// As JSON names it.
    pub name: &'static str,
    /// On the wire; 0 when it is never there.
    pub number: u32,
    /// Whether a zero on the wire means zero, rather than "not set".
    pub keeps_zero: bool,
    /// How many values it has.
    pub shape: Shape,
    /// What each of them is.
    pub of: Type,
    /// How it takes a strategic merge patch.
    pub merge: MergeRule,
}

/// What stands behind a number on the wire.
#[derive(Clone, Copy, Debug)]
pub enum Wire<'a> {
    /// A field of the message itself.
    Field(&'a Field),
    /// A message whose fields stand in the JSON of its parent.
    Hoisted(MessageId),
}

/// One message: an object of JSON, or a list that is a message only on the wire.
#[derive(Debug)]
pub struct Message {
    /// For example `PodSpec`, or `autoscaling/v2.MetricSpec` where the plain name is taken.
    pub name: &'static str,
    /// For the names of lists: JSON knows only the items of their one field.
    pub is_list: bool,
    fields: BTreeMap<&'static str, Field>,
    own: HashMap<u32, &'static str>,
    hoisted: Vec<(u32, MessageId)>,
}

impl Message {
    /// The field that JSON calls so.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.get(name)
    }

    /// All fields, by name.
    pub fn fields(&self) -> impl Iterator<Item = &Field> {
        self.fields.values()
    }

    /// The one field of a list.
    pub fn items(&self) -> Option<&Field> {
        self.fields.values().next().filter(|_| self.is_list)
    }

    /// What stands behind this number on the wire.
    pub fn wire(&self, number: u32) -> Option<Wire<'_>> {
        if let Some(field) = self.own.get(&number).and_then(|name| self.field(name)) {
            return Some(Wire::Field(field));
        }
        self.hoisted.iter().find(|(own, _)| *own == number).map(|(_, id)| Wire::Hoisted(*id))
    }

    /// As an error about Go types calls it: `v1.PodSpec`.
    pub fn go_name(&self) -> String {
        let (version, name) = match self.name.rsplit_once('/') {
            Some((_, rest)) => rest.split_once('.').unwrap_or(("v1", rest)),
            None => ("v1", self.name),
        };
        format!("{version}.{name}")
    }

    /// `PodSpec`, whatever its version.
    pub fn short_name(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }
}

/// All messages.
#[derive(Debug)]
pub struct Table {
    messages: Vec<Message>,
    kinds: HashMap<(&'static str, &'static str), MessageId>,
}

impl Table {
    /// The table of this build.
    pub fn get() -> &'static Self {
        static TABLE: LazyLock<Table> = LazyLock::new(|| {
            Table::read(include_str!("table.txt")).expect("table.txt is part of the program, and a test reads it")
        });
        &TABLE
    }

    /// The message of a kind.
    pub fn kind(&self, api_version: &str, kind: &str) -> Option<MessageId> {
        // The kinds of `*` are served in every group.
        self.kinds.get(&(api_version, kind)).or_else(|| self.kinds.get(&("*", kind))).copied()
    }

    /// The message at a place.
    pub fn message(&self, id: MessageId) -> &Message {
        self.messages.get(id.0).expect("an id is only made for a message that is there")
    }

    /// `None` when a line does not follow the format.
    fn read(text: &'static str) -> Option<Self> {
        let lines = || text.lines().filter(|line| !line.starts_with('#')).map(|line| line.split(' '));
        let mut names: HashMap<&'static str, MessageId> = HashMap::new();
        for mut words in lines() {
            if words.next()? != "kind" {
                names.insert(words.next()?, MessageId(names.len()));
            }
        }
        let mut messages = Vec::new();
        let mut kinds = HashMap::new();
        for mut words in lines() {
            match words.next()? {
                "kind" => {
                    let (group, kind, name) = (words.next()?, words.next()?, words.next()?);
                    kinds.insert((group, kind), *names.get(name)?);
                }
                sort @ ("message" | "list") => {
                    let mut message = Message {
                        name: words.next()?,
                        is_list: sort == "list",
                        fields: BTreeMap::new(),
                        own: HashMap::new(),
                        hoisted: Vec::new(),
                    };
                    for word in words {
                        let field = read_field(word, &names)?;
                        if let ("^", Type::Message(id)) = (field.name, field.of) {
                            message.hoisted.push((field.number, id));
                        } else {
                            message.own.insert(field.number, field.name);
                            message.fields.insert(field.name, field);
                        }
                    }
                    messages.push(message);
                }
                _ => return None,
            }
        }
        let mut table = Self { messages, kinds };
        table.lift_hoisted_fields();
        Some(table)
    }

    /// JSON has the fields of a hoisted message in its parent.
    fn lift_hoisted_fields(&mut self) {
        fn lifted(table: &Table, message: &Message) -> Vec<Field> {
            let below = |(_, id): &(u32, MessageId)| {
                let inner = table.message(*id);
                inner.fields.values().copied().chain(lifted(table, inner)).collect::<Vec<_>>()
            };
            message.hoisted.iter().flat_map(below).collect()
        }
        let additions: Vec<Vec<Field>> = self.messages.iter().map(|message| lifted(self, message)).collect();
        for (message, fields) in self.messages.iter_mut().zip(additions) {
            for field in fields {
                message.fields.entry(field.name).or_insert(field);
            }
        }
    }
}

/// `name:number!:*Type&key`.
fn read_field(word: &'static str, names: &HashMap<&'static str, MessageId>) -> Option<Field> {
    let mut parts = word.split(':');
    let (name, number, of) = (parts.next()?, parts.next()?, parts.next()?);
    let (number, keeps_zero) = number.strip_suffix('!').map_or((number, false), |number| (number, true));
    let (of, merge) = match (of.split_once('&'), of.strip_suffix('=')) {
        (Some((of, "")), _) => (of, MergeRule::Set),
        (Some((of, key)), _) => (of, MergeRule::By(key)),
        (None, Some(of)) => (of, MergeRule::Replace),
        (None, None) => (of, MergeRule::Plain),
    };
    let (shape, of) = match (of.strip_prefix('*'), of.strip_prefix('%')) {
        (Some(of), _) => (Shape::List, of),
        (None, Some(of)) => (Shape::Map, of),
        (None, None) => (Shape::One, of),
    };
    let of = match of {
        "s" => Type::String,
        "b" => Type::Bool,
        "i" => Type::Int32,
        "l" => Type::Int64,
        "y" => Type::Bytes,
        "q" => Type::Quantity,
        "t" => Type::Time,
        "u" => Type::MicroTime,
        "o" => Type::IntOrString,
        "x" => Type::Any,
        message => Type::Message(*names.get(message)?),
    };
    Some(Field { name, number: number.parse().ok()?, keeps_zero, shape, of, merge })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::registry;

    #[test]
    fn the_table_is_whole() {
        let table = Table::read(include_str!("table.txt")).expect("follows the format");
        assert!(table.messages.len() > 350, "{}", table.messages.len());
        for (_, message) in table.kinds.iter().chain([]) {
            let message = table.message(*message);
            assert!(message.field("apiVersion").is_some() && message.field("kind").is_some(), "{}", message.name);
        }
        for message in &table.messages {
            assert!(message.fields.values().all(|field| !field.name.is_empty() && field.name != "^"), "{}", message.name);
            assert!(!message.is_list || message.fields.len() == 1, "{}", message.name);
        }
    }

    #[test]
    fn every_kind_that_we_serve_is_in_it() {
        for resource in registry::ALL {
            assert!(Table::get().kind(&resource.api_version(), resource.kind).is_some(), "{resource:?}");
        }
        for (group, kind) in
            [("v1", "DeleteOptions"), ("policy/v1", "DeleteOptions"), ("autoscaling/v1", "Scale"), ("policy/v1", "Eviction")]
        {
            assert!(Table::get().kind(group, kind).is_some(), "{kind}");
        }
        assert_eq!(Table::get().kind("v1", "Deployment"), None);
    }

    #[test]
    fn hoisted_fields_stand_in_the_json_of_their_parent() {
        let table = Table::get();
        let named = |name: &str| table.messages.iter().find(|message| message.name == name).expect("is there");
        assert!(named("Volume").field("emptyDir").is_some());
        assert!(named("Probe").field("httpGet").is_some());
        assert!(named("EphemeralContainer").field("image").is_some());
        assert!(matches!(named("Volume").wire(2), Some(Wire::Hoisted(_))));
        assert!(matches!(named("Volume").wire(1), Some(Wire::Field(field)) if field.name == "name"));
        assert!(named("Volume").wire(99).is_none());
        assert_eq!(named("Container").field("ports").expect("is there").merge, MergeRule::By("containerPort"));
        assert_eq!(named("autoscaling/v2.HorizontalPodAutoscalerSpec").go_name(), "v2.HorizontalPodAutoscalerSpec");
        assert_eq!(named("PodSpec").go_name(), "v1.PodSpec");
    }
}
