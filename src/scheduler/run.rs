//! Runs the scheduler on the store.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::images::{Asks, PATIENCE};
use super::pass::{Pass, Scheduler};
use crate::api::core::event::recorded;
use crate::api::image::Platform;
use crate::api::registry::SECRETS;
use crate::api::{Key, Object};
use crate::clock::{Clock, SystemClock, Tick};
use crate::error::Chain;
use crate::rng::Rng;
use crate::store::batch::MOST;
use crate::store::{Batch, Change, Expect, Op, Store, View, WriteError};

/// A pass over all that waits, so that no signal is ever needed.
const HEAL: Duration = Duration::from_secs(30);
/// So many changes are followed at a time; the store's lock is held for no longer.
const CHANGES: usize = 1000;
/// After a write that the disk refused.
const SICK: Duration = Duration::from_secs(1);

/// Questions to nodes at the same time; pods with others wait for their patience to end.
const MOST_ASKS: usize = 8;

/// Binds pods until `stop`. `nodes` are asked what images are made for, when it matters.
pub async fn run(store: Store, clock: SystemClock, nodes: Arc<dyn Asks>, stop: CancellationToken) {
    let mut asking: JoinSet<(String, Vec<Platform>)> = JoinSet::new();
    let mut bell = store.bell();
    let ties = Rng::from_os("ties");
    let (mut scheduler, mut cursor) = store.view(|view| (Scheduler::new(view, ties.clone()), view.revision()));
    let mut heal_at = clock.now().tick.after(HEAL);
    loop {
        bell.borrow_and_update();
        loop {
            match store.changes_since(cursor, CHANGES) {
                Ok(events) => {
                    let Some(last) = events.last() else { break };
                    cursor = last.revision;
                    events.iter().for_each(|event| scheduler.absorb(event));
                }
                Err(gone) => {
                    tracing::debug!(%gone, "reading all pods again");
                    (scheduler, cursor) = store.view(|view| (Scheduler::new(view, ties.clone()), view.revision()));
                }
            }
        }
        let now = clock.now();
        if heal_at <= now.tick {
            store.view(|view| scheduler.heal(view, now.tick));
            heal_at = now.tick.after(HEAL);
        }
        let mut wake = scheduler.next_wake();
        if wake.is_some_and(|at| at <= now.tick) {
            let pass = store.view(|view| scheduler.decide(view, now, MOST));
            for ask in &pass.asks {
                if asking.len() < MOST_ASKS {
                    let secrets = store.view(|view| pull_secrets(view, &ask.pod));
                    let (image, answer) = (ask.image.clone(), nodes.ask(&ask.node, &ask.image, secrets));
                    asking.spawn(async move { (image, tokio::time::timeout(PATIENCE, answer).await.unwrap_or_default()) });
                }
            }
            match carry_out(&store, &clock, &mut scheduler, pass).await {
                Outcome::Done => {
                    if stop.is_cancelled() {
                        return;
                    }
                    // A store in memory never makes a writer wait; others want to run as well.
                    tokio::task::yield_now().await;
                    continue;
                }
                Outcome::Sick => wake = Some(now.tick.after(SICK)),
                Outcome::Closed => return,
            }
        }
        let wake: Tick = wake.map_or(heal_at, |at| at.min(heal_at));
        tokio::select! { biased;
            () = stop.cancelled() => return,
            Some(answered) = asking.join_next() => match answered {
                Ok((image, platforms)) => scheduler.answered(&image, platforms, clock.now().tick),
                Err(error) => tracing::error!(%error, "a question to a node died"),
            },
            changed = bell.changed() => if changed.is_err() { return },
            () = clock.sleep_until(Some(wake)) => {}
        }
    }
}

/// The secrets that a pod names for its registries, as far as they are there.
fn pull_secrets(view: &View, pod: &Key) -> Vec<Object> {
    let names = view.get(pod).map(|pod| pod.list_at(&["spec", "imagePullSecrets"])).unwrap_or_default();
    let names = names.iter().filter_map(|secret| secret.get("name")?.as_str());
    names.filter_map(|name| view.get(&Key::new(&SECRETS, &pod.namespace, name)).map(|secret| Object::clone(secret))).collect()
}

enum Outcome {
    Done,
    Sick,
    Closed,
}

/// Writes what was decided. Who lost a race is taken out, and the others are written.
async fn carry_out(store: &Store, clock: &SystemClock, scheduler: &mut Scheduler, pass: Pass) -> Outcome {
    let Pass { mut writes, mut events, .. } = pass;
    while !writes.is_empty() {
        match store.write(Batch(writes.clone())).await {
            Ok(revision) => {
                tracing::debug!(rev = revision.0, pods = writes.len(), "decided");
                break;
            }
            Err(WriteError::Conflict { key, .. }) => {
                writes.retain(|op| op.key != key);
                events.retain(|(about, _)| *about != key);
                store.view(|view| scheduler.lost(view, &key));
            }
            Err(WriteError::Closed) => return Outcome::Closed,
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "pods could not be bound; trying again");
                let keys: Vec<Key> = writes.into_iter().map(|op| op.key).collect();
                store.view(|view| keys.iter().for_each(|key| scheduler.lost(view, key)));
                return Outcome::Sick;
            }
        }
    }
    let occurrences: Vec<_> = events.into_iter().map(|(_, occurrence)| occurrence).collect();
    if occurrences.is_empty() {
        return Outcome::Done;
    }
    let now = clock.now();
    let told = store.view(|view| recorded(|key| view.get(key).map(AsRef::as_ref), &occurrences, now.wall));
    let ops =
        told.into_iter().map(|(key, event)| Op { key, expect: Expect::Any, change: Change::Put(event) }).collect::<Vec<_>>();
    if !ops.is_empty()
        && let Err(error) = store.write(Batch(ops)).await
    {
        // Nobody waits for an event.
        tracing::debug!(error = %Chain(&error), "events were not kept");
    }
    Outcome::Done
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Revision;
    use crate::api::registry::{NODES, PODS};
    use crate::scheduler::images::Answered;
    use serde_json::json;

    /// A node that has found out that `arm` is for ARM, with the secret `s`, and knows nothing else.
    struct Knows;

    impl Asks for Knows {
        fn ask(&self, node: &str, image: &str, secrets: Vec<Object>) -> Answered {
            assert_eq!(node, "a", "the first that is ready");
            let known = image == "arm" && secrets.iter().any(|secret| secret.name() == "s");
            Box::pin(async move { if known { Platform::parse("linux/arm64").into_iter().collect() } else { Vec::new() } })
        }
    }

    #[tokio::test]
    async fn in_a_mixed_cluster_a_node_is_asked_what_an_unknown_image_is_made_for() {
        let store = Store::in_memory("test", Revision(10));
        for (name, platform, ready) in [("a", "linux/amd64", "True"), ("b", "linux/arm64", "True"), ("c", "linux/amd64", "False")]
        {
            let node = json!({"metadata": {"name": name, "annotations": {"bramble/platforms": platform}},
                "status": {"allocatable": {"cpu": "4", "memory": "4Gi"}, "conditions": [{"type": "Ready", "status": ready}]}});
            store.write(Op::create(Key::new(&NODES, "", name), Object::from_value(node).unwrap()).into()).await.unwrap();
        }
        let secret = Object::from_value(json!({"metadata": {"name": "s", "namespace": "default"}})).unwrap();
        store.write(Op::create(Key::new(&SECRETS, "default", "s"), secret).into()).await.unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(store.clone(), SystemClock::start(), Arc::new(Knows), stop.clone()));
        for name in ["p", "q", "r", "any"] {
            let image = if name == "any" { "other" } else { "arm" };
            let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
                "spec": {"imagePullSecrets": [{"name": "s"}], "containers": [{"image": image}]}});
            store.write(Op::create(Key::new(&PODS, "default", name), Object::from_value(pod).unwrap()).into()).await.unwrap();
        }
        let mut bell = store.bell();
        let all = async {
            while store.view(|view| view.pods_on("a").count() + view.pods_on("b").count()) < 4 {
                bell.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(20), all).await.expect("all are bound");
        let on_b: Vec<String> = store.view(|view| view.pods_on("b").map(|pod| pod.name().to_owned()).collect());
        assert!(["p", "q", "r"].iter().all(|name| on_b.iter().any(|one| one == name)), "{on_b:?}");
        stop.cancel();
        tokio::time::timeout(Duration::from_secs(20), task).await.expect("stops").unwrap();
    }

    #[tokio::test]
    async fn pods_are_bound_as_they_come_and_told_about() {
        let store = Store::in_memory("test", Revision(10));
        let node = json!({"metadata": {"name": "a"}, "status": {"allocatable": {"cpu": "4", "memory": "4Gi"},
            "conditions": [{"type": "Ready", "status": "True"}]}});
        store.write(Op::create(Key::new(&NODES, "", "a"), Object::from_value(node).unwrap()).into()).await.unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(store.clone(), SystemClock::start(), Arc::new(Knows), stop.clone()));
        for name in ["p", "q"] {
            let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": {}});
            store.write(Op::create(Key::new(&PODS, "default", name), Object::from_value(pod).unwrap()).into()).await.unwrap();
        }
        let mut bell = store.bell();
        let all = async {
            while store.view(|view| (view.pods_on("a").count(), view.list(&crate::api::registry::EVENTS, None).count())) != (2, 2)
            {
                bell.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(20), all).await.expect("both bound, both told");
        stop.cancel();
        tokio::time::timeout(Duration::from_secs(20), task).await.expect("stops").unwrap();
    }
}
