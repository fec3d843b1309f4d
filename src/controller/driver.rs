//! All reconcilers behind one queue: from changes to keys, from keys to plans, from plans to batches.
//!
//! In:       changes, the view, and how each group of writes ended.
//! Out:      [`Group`]s: batches that never name a key twice, so that none overwrites another of the same moment.
//! Never:    decides a key again before its last decision was written or refused.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::queue::Queue;
use super::{Ids, Plan, Reconciler};
use crate::api::Key;
use crate::api::core::event::Occurrence;
use crate::clock::{Now, Tick};
use crate::rng::Rng;
use crate::store::batch::MOST;
use crate::store::{ChangeEvent, Op, View};

/// Each key is looked at once in this time, signal or none.
pub const ROUND: Duration = Duration::from_secs(30);

/// What stays wrong is told again: before its event, told last an hour ago, goes (`event_expiry.rs`).
const AGAIN: Duration = Duration::from_secs(50 * 60);

/// Which controller is to look, and where.
pub type Task = (usize, Key);

/// Plans that are written together.
#[derive(Debug, Default)]
pub struct Group {
    /// One batch.
    pub writes: Vec<Op>,
    /// Whose they are: the task, and the keys that it writes.
    pub tasks: Vec<(Task, Vec<Key>)>,
    /// What to tell when they are written, with its task.
    pub events: Vec<(Task, Occurrence)>,
}

impl Group {
    /// Takes out the tasks that want to write `key`: they lost a race.
    pub fn without(&mut self, key: &Key) -> Vec<Task> {
        let (lost, left): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.tasks).into_iter().partition(|(_, keys)| keys.contains(key));
        self.tasks = left;
        let keys: BTreeSet<&Key> = lost.iter().flat_map(|(_, keys)| keys).collect();
        self.writes.retain(|op| !keys.contains(&op.key));
        let lost: Vec<Task> = lost.into_iter().map(|(task, _)| task).collect();
        self.events.retain(|(task, _)| !lost.contains(task));
        lost
    }
}

/// The controllers and what waits for them.
pub struct Driver {
    controllers: Vec<Box<dyn Reconciler>>,
    queue: Queue<Task>,
    ids: Ids,
    jitter: Rng,
    /// What is wrong and was told, and when: each by the name of its event.
    told: BTreeMap<Task, BTreeMap<Key, Tick>>,
    /// When each controller's next round is due.
    rounds: Vec<Tick>,
}

impl Driver {
    /// With nothing in the queue; [`Driver::resync`] comes next.
    #[must_use]
    pub fn new(controllers: Vec<Box<dyn Reconciler>>, ids: Ids, jitter: Rng, now: Tick) -> Self {
        let count = u32::try_from(controllers.len()).unwrap_or(1).max(1);
        // Their rounds do not begin at the same moment.
        let rounds = (1..=count).map(|number| now.after(ROUND / count * number)).collect();
        Self { controllers, queue: Queue::default(), ids, jitter, told: BTreeMap::new(), rounds }
    }

    /// Looks everywhere: at the start, and when changes were missed.
    pub fn resync(&mut self, view: &View, now: Tick) {
        for (index, controller) in self.controllers.iter().enumerate() {
            for key in controller.all_keys(view) {
                self.queue.add((index, key), now);
            }
        }
    }

    /// Looks where something changed.
    pub fn absorb(&mut self, events: &[ChangeEvent], view: &View, now: Tick) {
        for event in events {
            for (index, controller) in self.controllers.iter().enumerate() {
                if controller.watches(event.key.resource) {
                    for key in controller.keys(event, view) {
                        self.queue.add((index, key), now);
                    }
                }
            }
        }
    }

    /// Looks at a key of the controller of that name.
    pub fn look(&mut self, controller: &str, key: &Key, now: Tick) {
        for (index, _) in self.controllers.iter().enumerate().filter(|(_, one)| one.name() == controller) {
            self.queue.add((index, key.clone()), now);
        }
    }

    /// Decides at most `limit` keys that are due. Each group is to be written, and then [`Driver::settled`].
    pub fn decide(&mut self, view: &View, now: Now, limit: usize) -> Vec<Group> {
        self.start_rounds(view, now.tick);
        let mut groups: Vec<Group> = Vec::new();
        let mut named: BTreeSet<Key> = BTreeSet::new();
        for task in self.queue.take(now.tick, limit) {
            let (index, key) = &task;
            let Some(controller) = self.controllers.get_mut(*index) else { continue };
            let Plan { mut writes, mut events, standing, look_again } = controller.reconcile(view, key, now, &mut self.ids);
            events.extend(untold(&mut self.told, &task, standing, now.tick));
            if let Some(at) = look_again {
                self.queue.add(task.clone(), at);
            }
            if writes.len() > MOST {
                writes.truncate(MOST);
                self.queue.add(task.clone(), now.tick);
            }
            if writes.is_empty() && events.is_empty() {
                self.queue.done(&task);
                continue;
            }
            let keys: Vec<Key> = writes.iter().map(|op| op.key.clone()).collect();
            let fits = groups.last().is_some_and(|group| group.writes.len() + writes.len() <= MOST);
            if !fits || keys.iter().any(|key| named.contains(key)) {
                groups.push(Group::default());
                named.clear();
            }
            named.extend(keys.iter().cloned());
            if let Some(group) = groups.last_mut() {
                group.writes.append(&mut writes);
                group.events.extend(events.into_iter().map(|event| (task.clone(), event)));
                group.tasks.push((task, keys));
            }
        }
        groups
    }

    /// These tasks were written.
    pub fn settled(&mut self, tasks: &[Task]) {
        tasks.iter().for_each(|task| self.queue.done(task));
    }

    /// These tasks were refused: look again, soon at first.
    pub fn refused(&mut self, tasks: Vec<Task>, now: Tick) {
        for task in tasks {
            // What it had to tell was not told.
            self.told.remove(&task);
            self.queue.failed(task, now, &mut self.jitter);
        }
    }

    /// When [`Driver::decide`] has something to do, if nothing happens before.
    #[must_use]
    pub fn next_wake(&self) -> Option<Tick> {
        self.queue.next_wake().into_iter().chain(self.rounds.iter().copied()).min()
    }

    /// The name of a task's controller.
    #[must_use]
    pub fn name(&self, task: &Task) -> &'static str {
        self.controllers.get(task.0).map_or("", |controller| controller.name())
    }

    fn start_rounds(&mut self, view: &View, now: Tick) {
        for (index, (controller, due)) in self.controllers.iter().zip(&mut self.rounds).enumerate() {
            if *due > now {
                continue;
            }
            *due = now.after(ROUND);
            let keys = controller.all_keys(view);
            // Spread over half of the round.
            let step = (ROUND / 2).checked_div(u32::try_from(keys.len()).unwrap_or(u32::MAX)).unwrap_or_default();
            for (number, key) in keys.into_iter().enumerate() {
                let later = step.saturating_mul(u32::try_from(number).unwrap_or(u32::MAX));
                self.queue.add((index, key), now.after(later));
            }
        }
    }
}

/// Of what is wrong, that which was not told yet, or too long ago. What is not wrong any more is forgotten.
fn untold(told: &mut BTreeMap<Task, BTreeMap<Key, Tick>>, task: &Task, standing: Vec<Occurrence>, now: Tick) -> Vec<Occurrence> {
    let before = told.remove(task).unwrap_or_default();
    let mut after = BTreeMap::new();
    let mut untold = Vec::new();
    for occurrence in standing {
        let key = occurrence.key();
        let at = before.get(&key).copied().filter(|at| now < at.after(AGAIN));
        after.insert(key, at.unwrap_or(now));
        if at.is_none() {
            untold.push(occurrence);
        }
    }
    if !after.is_empty() {
        told.insert(task.clone(), after);
    }
    untold
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::registry::CONFIG_MAPS;
    use crate::api::{Object, Resource, Revision};
    use crate::clock::Wall;
    use crate::store::{Change, Expect};
    use serde_json::json;

    /// Wants a config map `shared` and one of its own name, and tells how often it was asked.
    struct Wants(&'static str);

    impl Reconciler for Wants {
        fn name(&self) -> &'static str {
            self.0
        }
        fn watches(&self, _resource: &Resource) -> bool {
            false
        }
        fn keys(&self, _event: &ChangeEvent, _view: &View) -> Vec<Key> {
            Vec::new()
        }
        fn all_keys(&self, _view: &View) -> Vec<Key> {
            vec![Key::new(&CONFIG_MAPS, "default", self.0)]
        }
        fn reconcile(&mut self, _view: &View, key: &Key, _now: Now, _ids: &mut Ids) -> Plan {
            let keys = [key.clone(), Key::new(&CONFIG_MAPS, "default", "shared")];
            Plan { writes: keys.map(|key| Op::create(key, Object::default())).into(), ..Plan::default() }
        }
    }

    fn driver() -> Driver {
        let controllers: Vec<Box<dyn Reconciler>> = vec![Box::new(Wants("one")), Box::new(Wants("two"))];
        Driver::new(controllers, Ids::new(Rng::seeded(1, "ids")), Rng::seeded(1, "jitter"), Tick(0))
    }

    #[test]
    fn no_batch_names_a_key_twice() {
        let (mut driver, view) = (driver(), View::new(Revision(1)));
        driver.resync(&view, Tick(0));
        let groups = driver.decide(&view, Now::default(), 10);
        assert_eq!(groups.iter().map(|group| group.writes.len()).collect::<Vec<_>>(), [2, 2]);
        assert!(driver.decide(&view, Now::default(), 10).is_empty(), "nothing is decided again before it was written");
    }

    #[test]
    fn who_loses_a_race_is_taken_out_and_asked_again() {
        let (mut driver, view) = (driver(), View::new(Revision(1)));
        driver.resync(&view, Tick(0));
        let mut groups = driver.decide(&view, Now::default(), 10);
        let lost = groups[1].without(&Key::new(&CONFIG_MAPS, "default", "shared"));
        assert_eq!(lost.iter().map(|task| driver.name(task)).collect::<Vec<_>>(), ["two"]);
        assert!(groups[1].writes.is_empty() && groups[1].tasks.is_empty());
        driver.refused(lost, Tick(0));
        assert!(driver.next_wake().unwrap() <= Tick(5));
        assert_eq!(driver.decide(&view, Now { tick: Tick(5), ..Now::default() }, 10).len(), 1);
    }

    /// Finds wrong what the annotations of its config map say.
    struct Complains;

    impl Reconciler for Complains {
        fn name(&self) -> &'static str {
            "complains"
        }
        fn watches(&self, _resource: &Resource) -> bool {
            true
        }
        fn keys(&self, event: &ChangeEvent, _view: &View) -> Vec<Key> {
            vec![event.key.clone()]
        }
        fn all_keys(&self, view: &View) -> Vec<Key> {
            view.list(&CONFIG_MAPS, None).map(|map| Key::of(&CONFIG_MAPS, map)).collect()
        }
        fn reconcile(&mut self, view: &View, key: &Key, _now: Now, _ids: &mut Ids) -> Plan {
            let wrong = |map: &Object| -> Vec<Occurrence> {
                let words = map.strings_at(&["metadata", "annotations"]);
                words.map(|(_, words)| Occurrence::warning(map, "complains", "Wrong", words.to_owned())).collect()
            };
            Plan { standing: view.get(key).map(|map| wrong(map)).unwrap_or_default(), ..Plan::default() }
        }
    }

    #[test]
    fn what_is_wrong_is_told_when_it_begins_or_is_another_and_once_an_hour() {
        let mut view = View::new(Revision(0));
        let mut driver = Driver::new(vec![Box::new(Complains)], Ids::new(Rng::seeded(1, "i")), Rng::seeded(1, "j"), Tick(0));
        let key = Key::new(&CONFIG_MAPS, "d", "m");
        // When, what is wrong then, whether its writing is refused, and what is told.
        for (minute, wrong, is_refused, expected) in [
            (0, Some("a"), false, vec!["a"]),
            (1, Some("a"), false, vec![]),
            (2, Some("a b"), false, vec!["b"]),
            (3, Some("b"), false, vec![]),
            (4, Some("b c"), true, vec!["c"]),
            (5, Some("b c"), false, vec!["b", "c"]),
            (45, Some("b c"), false, vec![]),
            (56, Some("b c"), false, vec!["b", "c"]),
            (57, Some(""), false, vec![]),
            (58, Some("b"), false, vec!["b"]),
            (59, None, false, vec![]),
            (60, Some("b"), false, vec!["b"]),
        ] {
            let tick = Tick(minute * 60_000);
            let change = match wrong {
                Some(wrong) => {
                    let words: BTreeMap<&str, &str> = wrong.split_whitespace().map(|word| (word, word)).collect();
                    let map = json!({"kind": "ConfigMap", "metadata": {"name": "m", "namespace": "d", "annotations": words}});
                    Change::Put(Object::from_value(map).unwrap())
                }
                None => Change::Delete,
            };
            let op = Op { key: key.clone(), expect: Expect::Any, change };
            let changes = view.apply(view.revision().next(), op.into());
            driver.absorb(&changes, &view, tick);
            let mut told = Vec::new();
            for group in driver.decide(&view, Now { tick, wall: Wall(0) }, 10) {
                told.extend(group.events.iter().map(|(_, event)| event.message.clone()));
                let tasks: Vec<Task> = group.tasks.into_iter().map(|(task, _)| task).collect();
                if is_refused { driver.refused(tasks, tick) } else { driver.settled(&tasks) }
            }
            assert_eq!(told, expected, "minute {minute}");
        }
        assert_eq!(driver.told.len(), 1);
    }

    #[test]
    fn every_key_is_looked_at_in_each_round_without_any_signal() {
        let (mut driver, view) = (driver(), View::new(Revision(1)));
        let mut asked = BTreeSet::new();
        while let Some(at) = driver.next_wake().filter(|at| *at <= Tick(30_000)) {
            for group in driver.decide(&view, Now { tick: at, ..Now::default() }, 10) {
                for (task, _) in group.tasks {
                    driver.settled(std::slice::from_ref(&task));
                    asked.insert(task.1.name);
                }
            }
        }
        assert_eq!(asked.into_iter().collect::<Vec<_>>(), ["one", "two"]);
    }
}
