//! One object of the API: its identity, its metadata, and its raw JSON.
//!
//! In:       JSON from a request, the log, or the link.
//! Out:      the questions that are asked of every kind (name, owner, labels, revision, …).
//! Never:    knows a kind (`core/`, `apps/`) or checks a rule (`validate/`).

use std::fmt;

use serde_json::{Map, Value};

use super::registry::Resource;

/// A store revision; one sequence for all kinds. As text it is `metadata.resourceVersion`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Revision(pub u64);

impl Revision {
    /// The one after it.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// `metadata.generation`: counts changes of what is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Generation(pub i64);

/// `metadata.uid`: this object and no other of the same name, ever.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Uid(pub String);

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for Uid {
    fn from(text: &str) -> Self {
        Uid(text.to_owned())
    }
}

/// Where an object lives: resource, namespace (empty for cluster scope), name. Ordered as lists are: by namespace, then name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The row of the registry.
    pub resource: &'static Resource,
    /// Empty for cluster-scoped resources.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

impl Key {
    /// A key; give `""` as namespace for cluster scope.
    #[must_use]
    pub fn new(resource: &'static Resource, namespace: &str, name: &str) -> Self {
        Self { resource, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// The key of an object of this resource.
    #[must_use]
    pub fn of(resource: &'static Resource, object: &Object) -> Self {
        Self::new(resource, if resource.namespaced { object.namespace() } else { "" }, object.name())
    }
}

impl fmt::Display for Key {
    /// `/registry/<group>/<resource>/<namespace>/<name>`, the key in the journal; the group of core is `core`, and
    /// the namespace is left out for cluster scope.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let group = if self.resource.group.is_empty() { "core" } else { self.resource.group };
        write!(f, "/registry/{group}/{}", self.resource.plural)?;
        if self.resource.namespaced {
            write!(f, "/{}", self.namespace)?;
        }
        write!(f, "/{}", self.name)
    }
}

/// One entry of `metadata.ownerReferences`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnerReference<'a> {
    /// For example `apps/v1`.
    pub api_version: &'a str,
    /// For example `ReplicaSet`.
    pub kind: &'a str,
    /// The owner's name.
    pub name: &'a str,
    /// The owner's uid.
    pub uid: &'a str,
    /// Whether this owner manages the object.
    pub controller: bool,
    /// Whether a foreground deletion of the owner waits for this object.
    pub block_owner_deletion: bool,
}

/// An object: raw JSON with questions. Keys are ordered, so that its text is canonical.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Object {
    raw: Map<String, Value>,
}

impl Object {
    /// From its raw map.
    #[must_use]
    pub fn new(raw: Map<String, Value>) -> Self {
        Self { raw }
    }

    /// From JSON; `None` when it is no JSON object.
    #[must_use]
    pub fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Object(raw) => Some(Self { raw }),
            _ => None,
        }
    }

    /// The raw JSON map.
    #[must_use]
    pub fn raw(&self) -> &Map<String, Value> {
        &self.raw
    }

    /// The raw JSON map, to change.
    pub fn raw_mut(&mut self) -> &mut Map<String, Value> {
        &mut self.raw
    }

    /// The raw JSON, moved out.
    #[must_use]
    pub fn into_value(self) -> Value {
        Value::Object(self.raw)
    }

    /// The raw JSON, copied.
    #[must_use]
    pub fn to_value(&self) -> Value {
        Value::Object(self.raw.clone())
    }

    /// What stands at a path of object keys.
    #[must_use]
    pub fn at(&self, path: &[&str]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(self.raw.get(*first)?, |value, key| value.get(*key))
    }

    /// The text at a path; `""` when there is none.
    #[must_use]
    pub fn str_at(&self, path: &[&str]) -> &str {
        self.at(path).and_then(Value::as_str).unwrap_or_default()
    }

    /// The whole number at a path.
    #[must_use]
    pub fn i64_at(&self, path: &[&str]) -> Option<i64> {
        self.at(path).and_then(Value::as_i64)
    }

    /// Whether `true` stands at a path.
    #[must_use]
    pub fn bool_at(&self, path: &[&str]) -> bool {
        self.at(path).and_then(Value::as_bool).unwrap_or_default()
    }

    /// The list at a path; empty when there is none.
    #[must_use]
    pub fn list_at(&self, path: &[&str]) -> &[Value] {
        self.at(path).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
    }

    /// The string-to-string entries of the map at a path.
    pub fn strings_at<'a>(&'a self, path: &[&str]) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.at(path)
            .and_then(Value::as_object)
            .into_iter()
            .flat_map(Map::iter)
            .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
    }

    /// Puts a value at a path, making the maps on the way (what is no map there is replaced).
    pub fn set_at(&mut self, path: &[&str], value: impl Into<Value>) {
        let Some((last, parents)) = path.split_last() else { return };
        let mut map = &mut self.raw;
        for key in parents {
            let slot = map.entry(*key).or_insert_with(|| Value::Object(Map::new()));
            if !slot.is_object() {
                *slot = Value::Object(Map::new());
            }
            let Value::Object(next) = slot else { return };
            map = next;
        }
        map.insert((*last).to_owned(), value.into());
    }

    /// Takes away what stands at a path.
    pub fn remove_at(&mut self, path: &[&str]) -> Option<Value> {
        let (last, parents) = path.split_last()?;
        let mut map = &mut self.raw;
        for key in parents {
            map = map.get_mut(*key)?.as_object_mut()?;
        }
        map.remove(*last)
    }

    /// `apiVersion`.
    #[must_use]
    pub fn api_version(&self) -> &str {
        self.str_at(&["apiVersion"])
    }

    /// `kind`.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.str_at(&["kind"])
    }

    /// `metadata.name`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.str_at(&["metadata", "name"])
    }

    /// `metadata.namespace`; `""` for cluster scope.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.str_at(&["metadata", "namespace"])
    }

    /// `metadata.uid`.
    #[must_use]
    pub fn uid(&self) -> Uid {
        Uid::from(self.str_at(&["metadata", "uid"]))
    }

    /// `metadata.resourceVersion`; zero when it has none.
    #[must_use]
    pub fn revision(&self) -> Revision {
        Revision(self.str_at(&["metadata", "resourceVersion"]).parse().unwrap_or_default())
    }

    /// Sets `metadata.resourceVersion`.
    pub fn set_revision(&mut self, revision: Revision) {
        self.set_at(&["metadata", "resourceVersion"], revision.to_string());
    }

    /// `metadata.generation`.
    #[must_use]
    pub fn generation(&self) -> Generation {
        Generation(self.i64_at(&["metadata", "generation"]).unwrap_or_default())
    }

    /// All labels.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.strings_at(&["metadata", "labels"])
    }

    /// One label.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        self.at(&["metadata", "labels", key]).and_then(Value::as_str)
    }

    /// One annotation.
    #[must_use]
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.at(&["metadata", "annotations", key]).and_then(Value::as_str)
    }

    /// Whether its deletion was asked for.
    #[must_use]
    pub fn is_deleting(&self) -> bool {
        self.deletion_timestamp().is_some()
    }

    /// `metadata.deletionTimestamp`, RFC 3339.
    #[must_use]
    pub fn deletion_timestamp(&self) -> Option<&str> {
        self.at(&["metadata", "deletionTimestamp"]).and_then(Value::as_str)
    }

    /// `metadata.finalizers`.
    pub fn finalizers(&self) -> impl Iterator<Item = &str> {
        self.list_at(&["metadata", "finalizers"]).iter().filter_map(Value::as_str)
    }

    /// `metadata.ownerReferences`.
    pub fn owners(&self) -> impl Iterator<Item = OwnerReference<'_>> {
        fn text<'a>(entry: &'a Value, key: &str) -> &'a str {
            entry.get(key).and_then(Value::as_str).unwrap_or_default()
        }
        fn flag(entry: &Value, key: &str) -> bool {
            entry.get(key).and_then(Value::as_bool).unwrap_or_default()
        }
        self.list_at(&["metadata", "ownerReferences"]).iter().map(|entry| OwnerReference {
            api_version: text(entry, "apiVersion"),
            kind: text(entry, "kind"),
            name: text(entry, "name"),
            uid: text(entry, "uid"),
            controller: flag(entry, "controller"),
            block_owner_deletion: flag(entry, "blockOwnerDeletion"),
        })
    }

    /// The owner that manages it.
    #[must_use]
    pub fn controller(&self) -> Option<OwnerReference<'_>> {
        self.owners().find(|owner| owner.controller)
    }
}

impl serde::Serialize for Object {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.raw.serialize(serializer)
    }
}

impl<'de> serde::Deserialize<'de> for Object {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Map::deserialize(deserializer).map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::registry;

    #[test]
    fn a_path_is_made_on_the_way_and_taken_away_again() {
        let mut object = Object::default();
        object.set_at(&["spec", "template", "metadata"], serde_json::json!({"labels": {"app": "web"}}));
        assert_eq!(object.str_at(&["spec", "template", "metadata", "labels", "app"]), "web");
        assert!(object.remove_at(&["spec", "template"]).is_some());
        assert_eq!(object.at(&["spec", "template"]), None);
        assert_eq!(object.remove_at(&["status", "none"]), None);
    }

    #[test]
    fn keys_name_the_place_in_the_journal() {
        assert_eq!(Key::new(&registry::PODS, "default", "web").to_string(), "/registry/core/pods/default/web");
        assert_eq!(Key::new(&registry::NODES, "", "pi").to_string(), "/registry/core/nodes/pi");
        assert_eq!(Key::new(&registry::DEPLOYMENTS, "a", "b").to_string(), "/registry/apps/deployments/a/b");
    }
}
