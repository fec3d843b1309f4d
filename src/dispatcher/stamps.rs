//! Puts right the times that a node told whose clock was not set.
//!
//! In:       a pod's status as its node tells it, what is stored of it, how wrong the node's clock was, and the master's time.
//! Out:      the status; only times change that are older than Bramble, which no clock that is set can show.
//! Never:    judges anything by these times: they are for people. Whether a node lives is judged by the master's ticks.

use serde_json::{Map, Value};

use crate::api::Object;
use crate::api::time::{parse, rfc3339};
use crate::clock::Wall;
use crate::link::message::Early;

/// A time that is told again, and moved no further than this, is the same.
const SAME_MILLISECONDS: u64 = 2_000;

/// Puts right `status`. Where nobody knows any more by how much a clock was wrong (its agent began anew meanwhile), the time stays that
/// was told before, and else becomes that of the pod's creation: it cannot have been earlier.
pub fn put_right(status: &mut Value, pod: &Object, early: Option<Early>, now: Wall) {
    let by = early.map(|early| match early {
        Early::ShowsMilliseconds(shown) => now.0.saturating_sub(shown),
        Early::ByMilliseconds(by) => by,
    });
    let created = parse(pod.str_at(&["metadata", "creationTimestamp"])).unwrap_or(now);
    let mend = Mend { by, created, now };
    mend.walk(status, pod.at(&["status"]));
}

struct Mend {
    by: Option<i64>,
    created: Wall,
    now: Wall,
}

impl Mend {
    fn walk(&self, value: &mut Value, stored: Option<&Value>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let stored = stored.and_then(|stored| stored.get(name));
                    match value {
                        Value::String(text) if is_time(name) => {
                            if let Some(told) = parse(text).filter(|told| !told.is_set()) {
                                *text = rfc3339(self.right(told, stored));
                            }
                        }
                        _ => self.walk(value, stored),
                    }
                }
            }
            Value::Array(items) => {
                let stored = stored.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
                for item in items {
                    let same = stored.iter().find(|other| is_same(item, other));
                    self.walk(item, same);
                }
            }
            _ => {}
        }
    }

    fn right(&self, told: Wall, stored: Option<&Value>) -> Wall {
        let kept = stored.and_then(Value::as_str).and_then(parse).filter(|kept| kept.is_set());
        let Some(by) = self.by else { return kept.unwrap_or(self.created) };
        // Neither before the pod was made nor in the future, however long the message was on its way.
        let right = Wall(told.0.saturating_add(by).min(self.now.0).max(self.created.0));
        // Two messages are not equally long on their way: that is no change.
        kept.filter(|kept| kept.0.abs_diff(right.0) <= SAME_MILLISECONDS).unwrap_or(right)
    }
}

/// `startTime`, `startedAt`, `finishedAt`, `lastTransitionTime`, …
fn is_time(name: &str) -> bool {
    name.ends_with("Time") || name.ends_with("At")
}

/// Whether two items of a list are about the same: the same run of a container, or a condition that has not turned.
fn is_same(one: &Value, other: &Value) -> bool {
    let alike = |fields: &[&str]| {
        let of = |item: &Value| fields.iter().map(|field| item.get(*field).cloned()).collect::<Vec<_>>();
        of(one) == of(other)
    };
    let has = |field: &str| one.as_object().is_some_and(|fields: &Map<String, Value>| fields.contains_key(field));
    if has("type") { alike(&["type", "status"]) } else { has("name") && alike(&["name", "containerID", "restartCount"]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: Wall = Wall(Wall::WRITTEN.0 + 600_000);

    fn pod(status: Value) -> Object {
        Object::from_value(json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "p", "namespace": "d", "creationTimestamp": "2026-01-01T00:05:00Z"}, "status": status}))
        .unwrap()
    }

    fn told() -> Value {
        json!({"startTime": "1970-01-01T00:01:00Z",
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "1970-01-01T00:01:10Z"}],
            "containerStatuses": [{"name": "c", "containerID": "docker://1", "restartCount": 0,
                "state": {"running": {"startedAt": "1970-01-01T00:01:05Z"}}, "image": "1970-01-01T00:01:05Z"}]})
    }

    fn times(status: &Value) -> [&str; 3] {
        [
            status["startTime"].as_str().unwrap(),
            status["conditions"][0]["lastTransitionTime"].as_str().unwrap(),
            status["containerStatuses"][0]["state"]["running"]["startedAt"].as_str().unwrap(),
        ]
    }

    #[test]
    fn times_are_moved_by_as_much_as_the_clock_is_early() {
        let expected = ["2026-01-01T00:09:00Z", "2026-01-01T00:09:10Z", "2026-01-01T00:09:05Z"];
        let mut status = told();
        put_right(&mut status, &pod(json!({})), Some(Early::ShowsMilliseconds(120_000)), NOW);
        assert_eq!(times(&status), expected);
        assert_eq!(status["containerStatuses"][0]["image"], "1970-01-01T00:01:05Z", "an image may be called so");
        let mut status = told();
        put_right(&mut status, &pod(json!({})), Some(Early::ByMilliseconds(NOW.0 - 120_000)), Wall(NOW.0 + 99_000));
        assert_eq!(times(&status), expected, "and the same after it was set");
    }

    #[test]
    fn nothing_is_before_its_pod_nor_in_the_future() {
        let mut status = told();
        put_right(&mut status, &pod(json!({})), Some(Early::ShowsMilliseconds(61_000)), NOW);
        assert_eq!(times(&status), ["2026-01-01T00:09:59Z", "2026-01-01T00:10:00Z", "2026-01-01T00:10:00Z"]);
        let mut status = told();
        put_right(&mut status, &pod(json!({})), Some(Early::ShowsMilliseconds(10_000_000)), NOW);
        assert_eq!(times(&status), ["2026-01-01T00:05:00Z"; 3]);
    }

    #[test]
    fn with_nothing_known_of_the_clock_what_was_told_before_stays() {
        let mut stored = told();
        put_right(&mut stored, &pod(json!({})), Some(Early::ShowsMilliseconds(120_000)), NOW);
        let mut status = told();
        put_right(&mut status, &pod(stored.clone()), None, NOW);
        assert_eq!(times(&status), times(&stored));
        // Another run of the container, and a condition that turned: of these nothing was told.
        status = told();
        status["containerStatuses"][0]["containerID"] = json!("docker://2");
        status["conditions"][0]["status"] = json!("False");
        put_right(&mut status, &pod(stored), None, NOW);
        assert_eq!(times(&status), ["2026-01-01T00:09:00Z", "2026-01-01T00:05:00Z", "2026-01-01T00:05:00Z"]);
    }

    #[test]
    fn times_of_a_clock_that_is_set_are_left_alone_whatever_the_node_says_of_its_clock() {
        let mut status =
            json!({"startTime": "2026-01-01T00:06:00Z", "conditions": [{"type": "Ready", "lastTransitionTime": null}]});
        let before = status.clone();
        put_right(&mut status, &pod(json!({})), Some(Early::ByMilliseconds(i64::MAX)), NOW);
        assert_eq!(status, before);
        let mut rubbish = json!({"startTime": "0000-00-00", "finishedAt": 7, "conditions": "none"});
        put_right(&mut rubbish, &pod(json!({})), Some(Early::ShowsMilliseconds(i64::MIN)), NOW);
        assert_eq!(rubbish, json!({"startTime": "0000-00-00", "finishedAt": 7, "conditions": "none"}));
    }
}
