//! `status.conditions`: reading one, and setting one so that its times tell the truth.
//!
//! Never:    decides what a condition should be.
//! Source:   `metav1.Condition` and its older cousins of pods, nodes and deployments, which differ only in which times
//!           they carry.

use serde_json::{Map, Value};

use crate::api::object::Object;
use crate::api::time::{parse, rfc3339};
use crate::clock::Wall;

const PATH: [&str; 2] = ["status", "conditions"];

/// One condition, as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition<'a> {
    /// For example `Ready`.
    pub kind: &'a str,
    /// `True`, `False` or `Unknown`.
    pub status: &'a str,
    /// One CamelCase word; may be empty.
    pub reason: &'a str,
    /// For people; may be empty.
    pub message: &'a str,
}

impl<'a> Condition<'a> {
    /// One of the conditions of an object.
    #[must_use]
    pub fn of(object: &'a Object, kind: &str) -> Option<Self> {
        find(object, kind).map(|raw| Self {
            kind: text(raw, "type"),
            status: text(raw, "status"),
            reason: text(raw, "reason"),
            message: text(raw, "message"),
        })
    }

    /// Puts it among the conditions of `object`; whether that changed anything.
    ///
    /// `lastTransitionTime` moves only when the status does. Equal status, reason and message change nothing.
    pub fn set(&self, object: &mut Object, now: Wall) -> bool {
        self.put(object, now, None)
    }

    /// As [`Condition::set`], and keeps `lastUpdateTime` as deployments do: it moves whenever the condition is written.
    /// With `renew`, it moves even when nothing else does.
    pub fn set_with_update_time(&self, object: &mut Object, now: Wall, renew: bool) -> bool {
        self.put(object, now, Some(renew))
    }

    fn put(&self, object: &mut Object, now: Wall, update_time: Option<bool>) -> bool {
        let before = Condition::of(object, self.kind);
        let stands = before == Some(*self);
        if stands && update_time != Some(true) {
            return false;
        }
        let moved = before.is_none_or(|before| before.status != self.status);
        let mut list = object.list_at(&PATH).to_vec();
        let at = list.iter().position(|raw| text(raw, "type") == self.kind);
        let mut raw = at.and_then(|at| list.get(at)).and_then(Value::as_object).cloned().unwrap_or_default();
        raw.insert("type".to_owned(), self.kind.into());
        raw.insert("status".to_owned(), self.status.into());
        for (key, value) in [("reason", self.reason), ("message", self.message)] {
            put_or_remove(&mut raw, key, value);
        }
        if moved || !raw.contains_key("lastTransitionTime") {
            raw.insert("lastTransitionTime".to_owned(), rfc3339(now).into());
        }
        if update_time.is_some() {
            raw.insert("lastUpdateTime".to_owned(), rfc3339(now).into());
        }
        match at.and_then(|at| list.get_mut(at)) {
            Some(slot) => *slot = Value::Object(raw),
            None => list.push(Value::Object(raw)),
        }
        object.set_at(&PATH, list);
        true
    }
}

/// Takes a condition away; whether it was there.
pub fn remove(object: &mut Object, kind: &str) -> bool {
    let before = object.list_at(&PATH);
    let after: Vec<Value> = before.iter().filter(|raw| text(raw, "type") != kind).cloned().collect();
    let removed = after.len() < before.len();
    if removed {
        object.set_at(&PATH, after);
    }
    removed
}

/// When the status of a condition last changed.
#[must_use]
pub fn since(object: &Object, kind: &str) -> Option<Wall> {
    parse(text(find(object, kind)?, "lastTransitionTime"))
}

/// When a condition was last written, for those that tell.
#[must_use]
pub fn updated(object: &Object, kind: &str) -> Option<Wall> {
    parse(text(find(object, kind)?, "lastUpdateTime"))
}

fn find<'a>(object: &'a Object, kind: &str) -> Option<&'a Value> {
    object.list_at(&PATH).iter().find(|raw| text(raw, "type") == kind)
}

fn text<'a>(raw: &'a Value, key: &str) -> &'a str {
    raw.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn put_or_remove(raw: &mut Map<String, Value>, key: &str, value: &str) {
    if value.is_empty() {
        raw.remove(key);
    } else {
        raw.insert(key.to_owned(), value.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRUE: Condition<'_> = Condition { kind: "Ready", status: "True", reason: "Up", message: "" };

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let mut object = Object::default();
        assert!(TRUE.set(&mut object, Wall(1000)));
        assert!(!TRUE.set(&mut object, Wall(2000)), "nothing changed");
        assert!(Condition { reason: "Still", ..TRUE }.set(&mut object, Wall(3000)));
        assert_eq!(since(&object, "Ready"), Some(Wall(1000)));
        assert!(Condition { status: "False", ..TRUE }.set(&mut object, Wall(4000)));
        assert_eq!(since(&object, "Ready"), Some(Wall(4000)));
        assert_eq!(Condition::of(&object, "Ready").map(|c| c.status), Some("False"));
        assert!(remove(&mut object, "Ready"));
        assert!(!remove(&mut object, "Ready"));
    }

    #[test]
    fn the_update_time_can_be_renewed_alone() {
        let mut object = Object::default();
        TRUE.set_with_update_time(&mut object, Wall(1000), false);
        assert!(!TRUE.set_with_update_time(&mut object, Wall(2000), false));
        assert!(TRUE.set_with_update_time(&mut object, Wall(3000), true));
        assert_eq!((since(&object, "Ready"), updated(&object, "Ready")), (Some(Wall(1000)), Some(Wall(3000))));
    }
}
