//! What happened to an object, in words for `kubectl describe`: from an [`Occurrence`] to an Event object that counts.
//!
//! In:       an occurrence, and the Event that already tells of the same, if there is one.
//! Out:      the Event object as it should be stored.
//! Never:    writes; makes a name by chance: the same happening has the same name, so that it counts up and no cache is
//!           needed to find it again.
//! Source:   client-go `tools/record` (EventAggregator, eventLogger); its spam filter and series are left out, since the
//!           store bounds events (`controller/event_expiry.rs`).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::api::object::{Key, Object};
use crate::api::registry;
use crate::api::time::rfc3339;
use crate::clock::Wall;

/// Whether somebody should look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// All is well.
    Normal,
    /// Somebody may want to do something.
    Warning,
}

impl Severity {
    /// As `type` of an Event.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// What comes in the life of a pod before what; `kubectl describe` sorts by the second only, and keeps the order of the list.
const ORDER: [&str; 5] = ["Scheduled", "Pulling", "Pulled", "Created", "Started"];

/// The object that it happened to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Involved {
    /// For example `apps/v1`; `kubectl events --for` asks for it.
    pub api_version: String,
    /// For example `Pod`.
    pub kind: String,
    /// `""` for cluster scope.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Which part of it, for example `spec.containers{web}`; may be empty.
    pub field_path: String,
}

impl Involved {
    /// A whole object.
    #[must_use]
    pub fn of(object: &Object) -> Self {
        Self {
            api_version: object.api_version().to_owned(),
            kind: object.kind().to_owned(),
            namespace: object.namespace().to_owned(),
            name: object.name().to_owned(),
            uid: object.uid().0,
            field_path: String::new(),
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occurrence {
    /// To what.
    pub involved: Involved,
    /// How bad.
    pub severity: Severity,
    /// One CamelCase word.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
    /// Who says so, for example `default-scheduler`.
    pub component: &'static str,
    /// On which node, when that says something.
    pub host: String,
}

impl Occurrence {
    /// Something ordinary.
    #[must_use]
    pub fn normal(about: &Object, component: &'static str, reason: &str, message: String) -> Self {
        Self {
            involved: Involved::of(about),
            severity: Severity::Normal,
            reason: reason.to_owned(),
            message,
            component,
            host: String::new(),
        }
    }

    /// Something that somebody may want to look at.
    #[must_use]
    pub fn warning(about: &Object, component: &'static str, reason: &str, message: String) -> Self {
        Self { severity: Severity::Warning, ..Self::normal(about, component, reason, message) }
    }

    /// Where its Event is: events of cluster-scoped objects live in `default`.
    #[must_use]
    pub fn key(&self) -> Key {
        let namespace = if self.involved.namespace.is_empty() { "default" } else { &self.involved.namespace };
        Key::new(&registry::EVENTS, namespace, &self.name())
    }

    /// The first byte of its hash tells the order of reasons: what happened within one second is listed by name.
    fn name(&self) -> String {
        let (first, second) = self.hash();
        let rank = ORDER.iter().position(|reason| *reason == self.reason).unwrap_or(ORDER.len()) as u64;
        // Room for a dot and the hash in the 253 characters of a name.
        let involved: String = self.involved.name.chars().take(236).collect();
        format!("{}.{:016x}", involved.trim_end_matches(['.', '-']), (first ^ second.rotate_left(1)) >> 8 | rank << 56)
    }

    /// Two FNV-1a sums over all that makes two happenings the same; together they also give the uid.
    fn hash(&self) -> (u64, u64) {
        let about = &self.involved;
        let parts: [&str; 10] = [
            &about.api_version,
            &about.kind,
            &about.namespace,
            &about.name,
            &about.uid,
            &about.field_path,
            self.severity.name(),
            &self.reason,
            &self.message,
            self.component,
        ];
        let sum = |seed: u64| {
            parts
                .iter()
                .flat_map(|part| part.bytes().chain([0]))
                .fold(seed, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
        };
        (sum(0xcbf2_9ce4_8422_2325), sum(0x6c62_272e_07bb_0142))
    }
}

/// The Event object after this occurrence: a new one, or the existing one counted up.
#[must_use]
pub fn record(existing: Option<&Object>, occurrence: &Occurrence, now: Wall) -> Object {
    record_times(existing, occurrence, 1, now)
}

fn record_times(existing: Option<&Object>, occurrence: &Occurrence, times: i64, now: Wall) -> Object {
    let stamp = rfc3339(now);
    if let Some(existing) = existing {
        let mut event = existing.clone();
        let count = event.i64_at(&["count"]).unwrap_or_default().saturating_add(times);
        event.set_at(&["count"], count);
        event.set_at(&["lastTimestamp"], stamp);
        return event;
    }
    let key = occurrence.key();
    let (high, low) = occurrence.hash();
    let about = &occurrence.involved;
    let mut involved = json!({"kind": about.kind, "name": about.name});
    for (field, text) in [
        ("apiVersion", &about.api_version),
        ("namespace", &about.namespace),
        ("uid", &about.uid),
        ("fieldPath", &about.field_path),
    ] {
        put(&mut involved, field, text);
    }
    let mut source = json!({"component": occurrence.component});
    put(&mut source, "host", &occurrence.host);
    let event = json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": key.name,
            "namespace": key.namespace,
            // Versions of a UUID that is made from a name (RFC 9562, version 8): the same happening, the same uid.
            "uid": format!("{:08x}-{:04x}-8{:03x}-{:04x}-{:012x}", high >> 32, (high >> 16) & 0xffff, high & 0xfff,
                (low >> 48) & 0x3fff | 0x8000, low & 0xffff_ffff_ffff),
            "creationTimestamp": stamp,
        },
        "involvedObject": involved,
        "type": occurrence.severity.name(),
        "reason": occurrence.reason,
        "message": occurrence.message,
        "source": source,
        "reportingComponent": occurrence.component,
        "reportingInstance": occurrence.host,
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": times,
    });
    Object::from_value(event).unwrap_or_default()
}

/// What to store for several occurrences at once: each key once, equal ones counted together. `find` looks into what is
/// stored. Nothing is told about objects in a namespace that is going.
pub fn recorded<'a>(find: impl Fn(&Key) -> Option<&'a Object>, occurrences: &[Occurrence], now: Wall) -> Vec<(Key, Object)> {
    let mut counted: BTreeMap<Key, (&Occurrence, i64)> = BTreeMap::new();
    for occurrence in occurrences {
        counted.entry(occurrence.key()).or_insert((occurrence, 0)).1 += 1;
    }
    counted
        .into_iter()
        .filter(|(key, _)| {
            find(&Key::new(&registry::NAMESPACES, "", &key.namespace)).map_or(key.namespace == "default", |ns| !ns.is_deleting())
        })
        .map(|(key, (occurrence, times))| {
            let object = record_times(find(&key), occurrence, times, now);
            (key, object)
        })
        .collect()
}

fn put(map: &mut Value, field: &str, text: &str) {
    if let Some(map) = map.as_object_mut()
        && !text.is_empty()
    {
        map.insert(field.to_owned(), text.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Object {
        Object::from_value(
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "shop", "uid": "u1"}}),
        )
        .unwrap()
    }

    #[test]
    fn the_same_happening_counts_up_under_one_name() {
        let what = Occurrence::warning(&pod(), "default-scheduler", "FailedScheduling", "no room".to_owned());
        let first = record(None, &what, Wall(1000));
        assert_eq!(first.i64_at(&["count"]), Some(1));
        assert_eq!(first.str_at(&["involvedObject", "apiVersion"]), "v1");
        assert_eq!(first.namespace(), "shop");
        assert_eq!(Key::of(&registry::EVENTS, &first), what.key());
        let second = record(Some(&first), &what, Wall(61_000));
        assert_eq!(second.i64_at(&["count"]), Some(2));
        assert_eq!(second.str_at(&["firstTimestamp"]), "1970-01-01T00:00:01Z");
        assert_eq!(second.str_at(&["lastTimestamp"]), "1970-01-01T00:01:01Z");
        let other = Occurrence { message: "still no room".to_owned(), ..what.clone() };
        assert_ne!(other.key(), what.key());
    }

    #[test]
    fn happenings_of_one_moment_are_counted_together_and_a_going_namespace_is_left_alone() {
        let what = Occurrence::normal(&pod(), "x", "Pulled", "done".to_owned());
        let namespace = |gone: bool| {
            let mut object = Object::from_value(json!({"metadata": {"name": "shop"}})).unwrap();
            if gone {
                object.set_at(&["metadata", "deletionTimestamp"], "1970-01-01T00:00:00Z");
            }
            object
        };
        for (gone, stored) in [(false, 1), (true, 0)] {
            let shop = namespace(gone);
            let find = |key: &Key| (*key.resource == registry::NAMESPACES).then_some(&shop);
            let writes = recorded(find, &[what.clone(), what.clone()], Wall(0));
            assert_eq!(writes.len(), stored);
            assert!(writes.iter().all(|(_, event)| event.i64_at(&["count"]) == Some(2)));
        }
    }

    #[test]
    fn events_of_nodes_live_in_default_and_long_names_fit() {
        let node = Object::from_value(json!({"kind": "Node", "metadata": {"name": "n".repeat(253)}})).unwrap();
        let key = Occurrence::normal(&node, "x", "Ready", String::new()).key();
        assert_eq!((key.namespace.as_str(), key.name.len()), ("default", 253));
    }
}
