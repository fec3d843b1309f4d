//! Runs all controllers on the store.

use tokio_util::sync::CancellationToken;

use super::driver::{Driver, Group, Task};
use super::serving::services_of_pods;
use super::{Ids, Settings, SharedSigns};
use crate::api::core::event::{Occurrence, recorded};
use crate::api::registry::NODES;
use crate::api::{Key, Revision};
use crate::clock::{Clock, SystemClock};
use crate::error::Chain;
use crate::rng::Rng;
use crate::store::{Batch, Change, Expect, Op, Store, WriteError, batch};

/// So many changes are followed at a time, and so many keys decided: the store's lock is held for no longer.
const CHANGES: usize = 1000;
const KEYS: usize = 64;

/// Runs all controllers until `stop`. `signs` says which nodes live.
pub async fn run(store: Store, clock: SystemClock, stop: CancellationToken, settings: Settings, signs: SharedSigns) {
    let mut bell = store.bell();
    let ids = Ids::new(Rng::from_os("ids"));
    let mut driver = Driver::new(super::all(settings, &signs), ids, Rng::from_os("jitter"), clock.now().tick);
    let mut cursor = store.view(|view| {
        driver.resync(view, clock.now().tick);
        view.revision()
    });
    loop {
        bell.borrow_and_update();
        follow(&store, &clock, &mut driver, &mut cursor);
        let now = clock.now();
        for node in signs.take_news() {
            let key = Key::new(&NODES, "", &node);
            driver.look("node_lifecycle", &key, now.tick);
            driver.look("taint_eviction", &key, now.tick);
        }
        let told = signs.take_told();
        if !told.is_empty() {
            for key in store.view(|view| services_of_pods(view, &told)) {
                driver.look("endpoint_slice", &key, now.tick);
                driver.look("endpoints", &key, now.tick);
            }
        }
        if driver.next_wake().is_some_and(|at| at <= now.tick) {
            let groups = store.view(|view| driver.decide(view, now, KEYS));
            for group in groups {
                if carry_out(&store, &clock, &mut driver, group).await == Outcome::Closed {
                    return;
                }
            }
            if stop.is_cancelled() {
                return;
            }
            // A store in memory never makes a writer wait; others want to run as well.
            tokio::task::yield_now().await;
            continue;
        }
        tokio::select! { biased;
            () = stop.cancelled() => return,
            changed = bell.changed() => if changed.is_err() { return },
            () = signs.rung() => {}
            () = clock.sleep_until(driver.next_wake()) => {}
        }
    }
}

/// Looks where something changed since `cursor`; everywhere, when that is not known any more.
fn follow(store: &Store, clock: &SystemClock, driver: &mut Driver, cursor: &mut Revision) {
    loop {
        match store.changes_since(*cursor, CHANGES) {
            Ok(events) => {
                let Some(last) = events.last() else { return };
                *cursor = last.revision;
                store.view(|view| driver.absorb(&events, view, clock.now().tick));
            }
            Err(gone) => {
                tracing::debug!(%gone, "looking everywhere");
                *cursor = store.view(|view| {
                    driver.resync(view, clock.now().tick);
                    view.revision()
                });
            }
        }
    }
}

#[derive(PartialEq, Eq)]
enum Outcome {
    Done,
    Closed,
}

/// Writes a group. Who lost a race is taken out, and the others are written.
async fn carry_out(store: &Store, clock: &SystemClock, driver: &mut Driver, mut group: Group) -> Outcome {
    while !group.writes.is_empty() {
        match store.write(Batch(group.writes.clone())).await {
            Ok(revision) => {
                for (task, keys) in &group.tasks {
                    tracing::debug!(controller = driver.name(task), key = %task.1, writes = keys.len(), rev = revision.0, "decided");
                }
                break;
            }
            Err(WriteError::Conflict { key, .. }) => {
                let lost = group.without(&key);
                if lost.is_empty() {
                    // Cannot be: a conflict names a key of the batch. Rather all again than for ever.
                    driver.refused(tasks(group), clock.now().tick);
                    return Outcome::Done;
                }
                driver.refused(lost, clock.now().tick);
            }
            Err(WriteError::Closed) => return Outcome::Closed,
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "controllers cannot write; trying again");
                driver.refused(tasks(group), clock.now().tick);
                return Outcome::Done;
            }
        }
    }
    let occurrences: Vec<Occurrence> = group.events.iter().map(|(_, occurrence)| occurrence.clone()).collect();
    driver.settled(&tasks(group));
    tell(store, clock, &occurrences).await;
    Outcome::Done
}

fn tasks(group: Group) -> Vec<Task> {
    group.tasks.into_iter().map(|(task, _)| task).collect()
}

async fn tell(store: &Store, clock: &SystemClock, occurrences: &[Occurrence]) {
    let now = clock.now();
    let told = store.view(|view| recorded(|key| view.get(key).map(AsRef::as_ref), occurrences, now.wall));
    let ops: Vec<Op> = told.into_iter().map(|(key, event)| Op { key, expect: Expect::Any, change: Change::Put(event) }).collect();
    for ops in ops.chunks(batch::MOST) {
        if let Err(error) = store.write(Batch(ops.to_vec())).await {
            // Nobody waits for an event.
            tracing::debug!(error = %Chain(&error), "events were not kept");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Object;
    use crate::api::registry::{DEPLOYMENTS, EVENTS, PODS};
    use serde_json::json;
    use std::time::Duration;

    #[tokio::test]
    async fn a_deployment_becomes_pods() {
        let store = Store::in_memory("test", Revision(10));
        let (clock, stop) = (SystemClock::start(), CancellationToken::new());
        let signs = SharedSigns::new(clock.now().tick, Settings::default());
        let task = tokio::spawn(run(store.clone(), clock, stop.clone(), Settings::default(), signs));
        let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "default", "uid": "d1", "generation": 1},
            "spec": {"replicas": 150, "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
        let key = Key::new(&DEPLOYMENTS, "default", "web");
        store.write(Op::create(key, Object::from_value(deployment).unwrap()).into()).await.unwrap();
        let mut bell = store.bell();
        let all = async {
            while store.view(|view| (view.list(&PODS, None).count(), view.list(&EVENTS, None).count())) != (150, 151) {
                bell.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(20), all).await.expect("all pods, and an event for each and for the set");
        stop.cancel();
        tokio::time::timeout(Duration::from_secs(20), task).await.expect("stops").unwrap();
    }
}
