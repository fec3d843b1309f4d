//! Events go after an hour, and the oldest go when there are too many.
//!
//! Source:   the API server's `--event-ttl`, one hour. The bound is ours: events live in a Pi's memory.

use super::{Ids, Plan, Reconciler};
use crate::api::registry::EVENTS;
use crate::api::time::parse;
use crate::api::{Key, Object, Resource};
use crate::clock::{Now, Wall};
use crate::store::batch::MOST;
use crate::store::{ChangeEvent, Op, View};

const KEPT_MS: i64 = 3600 * 1000;
const KEPT_AT_MOST: usize = 5000;

/// The controller. It has one key, for all events, and looks at it in each round.
pub struct EventExpiry;

impl Reconciler for EventExpiry {
    fn name(&self) -> &'static str {
        "event_expiry"
    }

    fn watches(&self, _resource: &Resource) -> bool {
        false
    }

    fn keys(&self, _event: &ChangeEvent, _view: &View) -> Vec<Key> {
        Vec::new()
    }

    fn all_keys(&self, _view: &View) -> Vec<Key> {
        vec![Key::new(&EVENTS, "", "")]
    }

    fn reconcile(&mut self, view: &View, _key: &Key, now: Now, _ids: &mut Ids) -> Plan {
        let mut events: Vec<(Wall, &std::sync::Arc<Object>)> =
            view.list(&EVENTS, None).map(|event| (last(event), event)).collect();
        let surplus = events.len().saturating_sub(KEPT_AT_MOST);
        events.sort_by_key(|(at, _)| *at);
        let old = events.iter().enumerate().filter(|(place, (at, _))| *place < surplus || now.wall.0 - at.0 > KEPT_MS);
        let writes: Vec<Op> =
            old.take(MOST).map(|(_, (_, event))| Op::delete(Key::of(&EVENTS, event), event.revision())).collect();
        let look_again = (writes.len() == MOST).then_some(now.tick);
        Plan { writes, look_again, ..Plan::default() }
    }
}

fn last(event: &Object) -> Wall {
    ["lastTimestamp", "eventTime"]
        .iter()
        .find_map(|field| parse(event.str_at(&[field])))
        .or_else(|| parse(event.str_at(&["series", "lastObservedTime"])))
        .or_else(|| parse(event.str_at(&["metadata", "creationTimestamp"])))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Revision;
    use crate::api::time::rfc3339;
    use crate::rng::Rng;
    use crate::store::Batch;
    use serde_json::json;

    fn decide(ages_seconds: impl Iterator<Item = i64>) -> Vec<String> {
        let mut view = View::new(Revision(1));
        let now = Now { wall: Wall(1_000_000_000), ..Now::default() };
        let ops = ages_seconds.enumerate().map(|(number, age)| {
            let event = json!({"metadata": {"name": format!("e{number}"), "namespace": "default"},
                "lastTimestamp": rfc3339(Wall(now.wall.0 - age * 1000))});
            let event = Object::from_value(event).unwrap();
            Op::create(Key::of(&EVENTS, &event), event)
        });
        view.apply(Revision(2), Batch(ops.collect()));
        let key = EventExpiry.all_keys(&view).remove(0);
        let plan = EventExpiry.reconcile(&view, &key, now, &mut Ids::new(Rng::seeded(1, "ids")));
        plan.writes.into_iter().map(|op| op.key.name).collect()
    }

    #[test]
    fn events_go_after_an_hour() {
        assert_eq!(decide([10, 3601, 3599].into_iter()), ["e1"]);
    }

    #[test]
    fn the_oldest_of_too_many_go() {
        assert_eq!(decide((0..5002).map(|number| number / 10)), ["e5000", "e5001"]);
    }
}
