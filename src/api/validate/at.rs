//! A place in an object: what stands there, and the path that names it. Going on from where nothing stands is nothing.

use serde_json::Value;

use super::{FieldError, Path};
use crate::api::Object;

static NOTHING: Value = Value::Null;

/// A place in an object.
#[derive(Clone, Debug)]
pub(super) struct At<'a> {
    value: &'a Value,
    /// For error messages.
    pub path: Path,
}

impl<'a> At<'a> {
    /// A field of the object itself.
    pub fn field(object: &'a Object, name: &str) -> Self {
        Self { value: object.raw().get(name).unwrap_or(&NOTHING), path: Path::new(name) }
    }

    /// A field of the map here.
    pub fn get(&self, key: &str) -> At<'a> {
        At { value: self.value.get(key).unwrap_or(&NOTHING), path: self.path.child(key) }
    }

    /// What stands here; `null` when nothing does.
    pub fn value(&self) -> &'a Value {
        self.value
    }

    /// Whether anything but `null` stands here.
    pub fn is_set(&self) -> bool {
        !self.value.is_null()
    }

    /// The text here; `""` when there is none.
    pub fn text(&self) -> &'a str {
        self.value.as_str().unwrap_or_default()
    }

    /// The whole number here.
    pub fn int(&self) -> Option<i64> {
        self.value.as_i64()
    }

    /// Whether `true` stands here.
    pub fn flag(&self) -> bool {
        self.value.as_bool().unwrap_or_default()
    }

    /// How many entries the list or map here has.
    pub fn len(&self) -> usize {
        match self.value {
            Value::Array(list) => list.len(),
            Value::Object(map) => map.len(),
            _ => 0,
        }
    }

    /// The entries of the list here.
    pub fn items(&self) -> impl Iterator<Item = At<'a>> + use<'a> {
        let path = self.path.clone();
        self.value.as_array().into_iter().flatten().enumerate().map(move |(index, value)| At { value, path: path.index(index) })
    }

    /// The entries of the map here; a key stands in brackets in the path.
    pub fn entries(&self) -> impl Iterator<Item = (&'a str, At<'a>)> + use<'a> {
        let path = self.path.clone();
        self.value.as_object().into_iter().flatten().map(move |(key, value)| (key.as_str(), At { value, path: path.key(key) }))
    }

    /// The texts of the list here.
    pub fn texts(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.value.as_array().into_iter().flatten().filter_map(Value::as_str)
    }

    /// Something must stand here.
    pub fn required(&self) -> FieldError {
        FieldError::required(&self.path, "")
    }

    /// What stands here is wrong.
    pub fn invalid(&self, detail: &str) -> FieldError {
        FieldError::invalid(&self.path, self.value.clone(), detail)
    }

    /// What stands here stood before already.
    pub fn duplicate(&self) -> FieldError {
        FieldError::duplicate(&self.path, self.value.clone())
    }

    /// Nothing may stand here.
    pub fn forbidden(&self, detail: &str) -> FieldError {
        FieldError::forbidden(&self.path, detail)
    }
}
