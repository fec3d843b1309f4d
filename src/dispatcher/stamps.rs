//! Puts right the times that a node told whose clock is, or was, another than the master's.
//!
//! In:       a pod's status as its node tells it, what is stored of it, how the node's clock stands, and the master's time.
//! Out:      the status, by the master's time as far as it can be known; a node whose clock is right changes nothing.
//! Never:    judges anything by these times: they are for people. Whether a node lives is judged by the master's ticks.

use serde_json::{Map, Value};

use crate::api::Object;
use crate::api::time::{age, parse, rfc3339};
use crate::clock::Wall;
use crate::link::message::NodeClock;

/// A node's clock that differs by less is taken for right; messages are on their way for seconds, and clocks differ a little.
const RIGHT_MILLISECONDS: i64 = 60_000;
/// A time that is told again, and moved no further than this, is the same.
const SAME_MILLISECONDS: u64 = 2_000;
/// Times are told in whole seconds.
const SECOND_MILLISECONDS: i64 = 1_000;

/// Puts right `status`. Where nobody knows any more by how much a clock was wrong (its agent began anew meanwhile), and the time cannot be
/// right since it is before the pod's creation, the one stays that was told before, and else becomes that of the creation.
pub fn put_right(status: &mut Value, pod: &Object, clock: Option<&NodeClock>, now: Wall) {
    let Some(clock) = clock else { return };
    let created = parse(pod.str_at(&["metadata", "creationTimestamp"]));
    Mend { clock, created, now }.walk(status, pod.at(&["status"]));
}

/// In words how far a node's clock is from the master's, when that is too far.
#[must_use]
pub fn off_by(shows: Wall, now: Wall) -> Option<String> {
    let behind = now.0.saturating_sub(shows.0);
    let way = if behind > 0 { "behind" } else { "ahead of" };
    let distance = age(Wall(0), Wall(behind.saturating_abs()));
    (behind.saturating_abs() > RIGHT_MILLISECONDS).then(|| format!("{distance} {way} the master's"))
}

struct Mend<'a> {
    clock: &'a NodeClock,
    created: Option<Wall>,
    now: Wall,
}

impl Mend<'_> {
    fn walk(&self, value: &mut Value, stored: Option<&Value>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let stored = stored.and_then(|stored| stored.get(name));
                    match value {
                        Value::String(text) if is_time(name) => {
                            if let Some(right) = parse(text).and_then(|told| self.right(told, stored)) {
                                *text = rfc3339(right);
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

    /// Another time than the one that was told; `None` when that is good.
    fn right(&self, told: Wall, stored: Option<&Value>) -> Option<Wall> {
        let kept = stored.and_then(Value::as_str).and_then(parse);
        let impossible = self.created.filter(|created| told.0 < created.0.saturating_sub(RIGHT_MILLISECONDS));
        if told.0 < self.clock.began_milliseconds.saturating_sub(SECOND_MILLISECONDS) {
            return impossible.map(|created| kept.filter(|kept| *kept >= created).unwrap_or(created));
        }
        let mut right = told.0;
        for jump in &self.clock.jumps {
            if right < jump.until_milliseconds {
                right = right.saturating_add(jump.by_milliseconds);
            }
        }
        let behind = self.now.0.saturating_sub(self.clock.shows_milliseconds);
        if behind.saturating_abs() > RIGHT_MILLISECONDS {
            right = right.saturating_add(behind);
        }
        if right == told.0 {
            return None;
        }
        // Neither in the future nor before the pod was made, however long the message was on its way.
        let right = Wall(right.min(self.now.0).max(self.created.map_or(i64::MIN, |created| created.0)));
        // Two messages are not equally long on their way: that is no change.
        Some(kept.filter(|kept| kept.0.abs_diff(right.0) <= SAME_MILLISECONDS).unwrap_or(right))
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
    use crate::link::message::ClockJump;
    use serde_json::json;

    const NOW: Wall = Wall(Wall::WRITTEN.0 + 600_000);

    fn pod(status: Value) -> Object {
        Object::from_value(json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "p", "namespace": "d", "creationTimestamp": "2026-01-01T00:05:00Z"}, "status": status}))
        .unwrap()
    }

    /// Told by a node that began a minute after 1970 did.
    fn told() -> Value {
        json!({"startTime": "1970-01-01T00:01:00Z",
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "1970-01-01T00:01:10Z"}],
            "containerStatuses": [{"name": "c", "containerID": "docker://1", "restartCount": 0,
                "state": {"running": {"startedAt": "1970-01-01T00:01:05Z"}}, "image": "1970-01-01T00:01:05Z"}]})
    }

    fn of_1970(shows: i64, jumps: Vec<ClockJump>) -> NodeClock {
        NodeClock { shows_milliseconds: shows, began_milliseconds: 60_400, jumps }
    }

    fn times(status: &Value) -> [&str; 3] {
        [
            status["startTime"].as_str().unwrap(),
            status["conditions"][0]["lastTransitionTime"].as_str().unwrap(),
            status["containerStatuses"][0]["state"]["running"]["startedAt"].as_str().unwrap(),
        ]
    }

    fn righted(mut status: Value, stored: Value, clock: &NodeClock, now: Wall) -> Value {
        put_right(&mut status, &pod(stored), Some(clock), now);
        status
    }

    #[test]
    fn times_are_moved_by_as_much_as_the_clock_is_behind_before_and_after_it_is_set() {
        let expected = ["2026-01-01T00:09:00Z", "2026-01-01T00:09:10Z", "2026-01-01T00:09:05Z"];
        let before = righted(told(), json!({}), &of_1970(120_000, Vec::new()), NOW);
        assert_eq!(times(&before), expected);
        assert_eq!(before["containerStatuses"][0]["image"], "1970-01-01T00:01:05Z", "an image may be called so");
        let jump = ClockJump { until_milliseconds: 130_000, by_milliseconds: NOW.0 - 120_000 };
        let later = Wall(NOW.0 + 99_000);
        let mut after = told();
        after["conditions"][0]["lastTransitionTime"] = json!("2026-01-01T00:11:00Z");
        let after = righted(after, json!({}), &of_1970(later.0, vec![jump]), later);
        assert_eq!(times(&after), [expected[0], "2026-01-01T00:11:00Z", expected[2]], "what turned after the jump is right");
    }

    #[test]
    fn a_clock_that_shows_when_it_was_switched_off_is_put_right_too_and_what_was_before_that_stays() {
        // Three days behind; the container runs since before.
        let behind = 3 * 86_400_000;
        let now = Wall(NOW.0 + behind);
        let clock = NodeClock { shows_milliseconds: NOW.0, began_milliseconds: NOW.0 - 60_000, jumps: Vec::new() };
        let status = json!({"startTime": "2026-01-01T00:06:00Z",
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:09:30Z"}],
            "containerStatuses": [{"name": "c", "state": {"running": {"startedAt": "2026-01-01T00:06:05Z"}}}]});
        let right = righted(status, json!({}), &clock, now);
        assert_eq!(times(&right), ["2026-01-01T00:06:00Z", "2026-01-04T00:09:30Z", "2026-01-01T00:06:05Z"]);
    }

    #[test]
    fn how_far_a_clock_is_off_is_said_in_words_and_a_little_is_not_said() {
        assert_eq!(off_by(Wall(NOW.0 - 59_000), NOW), None);
        assert_eq!(off_by(Wall(NOW.0 - 3_600_000), NOW).as_deref(), Some("60m behind the master's"));
        assert_eq!(off_by(Wall(NOW.0 + 7_200_000), NOW).as_deref(), Some("120m ahead of the master's"));
        assert_eq!(off_by(Wall(0), NOW).as_deref(), Some("56y behind the master's"));
    }

    #[test]
    fn nothing_is_before_its_pod_nor_in_the_future() {
        let soon = righted(told(), json!({}), &of_1970(61_000, Vec::new()), NOW);
        assert_eq!(times(&soon), ["2026-01-01T00:09:59Z", "2026-01-01T00:10:00Z", "2026-01-01T00:10:00Z"]);
        let late = righted(told(), json!({}), &of_1970(10_000_000, Vec::new()), NOW);
        assert_eq!(times(&late), ["2026-01-01T00:05:00Z"; 3]);
    }

    #[test]
    fn with_nothing_known_of_the_clock_what_was_told_before_stays() {
        let stored = righted(told(), json!({}), &of_1970(120_000, Vec::new()), NOW);
        // The agent began anew after the jump.
        let anew = NodeClock { shows_milliseconds: NOW.0, began_milliseconds: NOW.0 - 1_000, jumps: Vec::new() };
        assert_eq!(times(&righted(told(), stored.clone(), &anew, NOW)), times(&stored));
        // Another run of the container, and a condition that turned: of these nothing was told.
        let mut status = told();
        status["containerStatuses"][0]["containerID"] = json!("docker://2");
        status["conditions"][0]["status"] = json!("False");
        let right = righted(status, stored, &anew, NOW);
        assert_eq!(times(&right), ["2026-01-01T00:09:00Z", "2026-01-01T00:05:00Z", "2026-01-01T00:05:00Z"]);
    }

    #[test]
    fn a_message_that_is_longer_on_its_way_changes_nothing() {
        let stored = righted(told(), json!({}), &of_1970(120_000, Vec::new()), NOW);
        let again = righted(told(), stored.clone(), &of_1970(130_000, Vec::new()), Wall(NOW.0 + 11_900));
        assert_eq!(times(&again), times(&stored));
    }

    #[test]
    fn a_node_whose_clock_is_right_or_who_says_rubbish_changes_nothing() {
        let status = json!({"startTime": "2026-01-01T00:06:00Z", "conditions": [{"type": "Ready", "lastTransitionTime": null}]});
        let clock = NodeClock { shows_milliseconds: NOW.0 - 5_000, began_milliseconds: 0, jumps: Vec::new() };
        assert_eq!(righted(status.clone(), json!({}), &clock, NOW), status);
        let mut alone = status.clone();
        put_right(&mut alone, &pod(json!({})), None, NOW);
        assert_eq!(alone, status);
        let rubbish = json!({"startTime": "0000-00-00", "finishedAt": 7, "conditions": "none"});
        let jump = ClockJump { until_milliseconds: i64::MAX, by_milliseconds: i64::MAX };
        let clock = NodeClock { shows_milliseconds: i64::MIN, began_milliseconds: i64::MIN, jumps: vec![jump; 3] };
        assert_eq!(righted(rubbish.clone(), json!({}), &clock, NOW), rubbish);
        let right = righted(status, json!({}), &clock, NOW);
        assert_eq!(right["startTime"], "2026-01-01T00:10:00Z", "no time in the future");
    }
}
