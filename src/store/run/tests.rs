//! The store whole, over the disk that forgets.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;

use super::*;
use crate::api::{Key, Object, registry};
use crate::store::Op;
use crate::store::embedded::{Embedded, STRIDE, Settings};
use crate::store::forgetful::{Forgetful, PowerCut};

fn settings() -> Settings {
    Settings { new_id: "the-id".to_owned(), least_log: 1 << 20 }
}

async fn open(disk: &Forgetful) -> Store {
    Store::open(Embedded::new(disk.clone(), settings()), Options::default()).await.unwrap()
}

fn key(name: &str) -> Key {
    Key::new(&registry::CONFIG_MAPS, "default", name)
}

fn map(data: &str) -> Object {
    Object::from_value(json!({"data": {"a": data}})).unwrap()
}

fn event(name: &str) -> Op {
    Op::create(Key::new(&registry::EVENTS, "default", name), map("it happened"))
}

/// Lets every task that is ready go as far as it can.
async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

async fn soon(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..2000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("never: {what}");
}

#[tokio::test]
async fn a_store_in_memory_answers_at_once_and_rings() {
    let store = Store::in_memory("x", Revision(7));
    let mut bell = store.bell();
    let mut write = std::pin::pin!(store.write(Op::create(key("a"), map("1")).into()));
    let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(write.as_mut().poll(cx))).await;
    assert!(matches!(polled, std::task::Poll::Ready(Ok(Revision(8)))), "it never waits: {polled:?}");
    assert!(matches!(store.write(Op::create(key("a"), map("1")).into()).await, Err(WriteError::Conflict { .. })));
    assert!(bell.has_changed().unwrap());
    assert_eq!(*bell.borrow_and_update(), Revision(8));
    assert_eq!(store.changes_since(Revision(7), 10).unwrap().len(), 1);
    assert!(store.changes_since(Revision(6), 10).is_err());
    store.close().await.unwrap();
    assert!(matches!(store.write(Op::create(key("b"), map("1")).into()).await, Err(WriteError::Closed)));
    assert_eq!(store.view(View::len), 1, "reading goes on");
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_power_cut() {
    let disk = Forgetful::new();
    let store = open(&disk).await;
    assert_eq!(store.id(), "the-id");
    let first = store.write(Op::create(key("a"), map("1")).into()).await.unwrap();
    store.write(Op::create(key("b"), map("1")).into()).await.unwrap();
    store.write(Op::update(key("a"), first, map("2")).into()).await.unwrap();
    store.write(event("e").into()).await.unwrap();
    let newest = store.view(View::revision);
    let after = open(&disk.restarted(PowerCut::Loses)).await;
    let names: Vec<String> = after.view(|view| view.iter().map(|(key, _)| key.name.clone()).collect());
    assert_eq!(names, ["a", "b"], "events are volatile");
    assert_eq!(after.view(|view| view.get(&key("a")).unwrap().str_at(&["data", "a"]).to_owned()), "2");
    assert!(after.view(View::revision) > newest);
    assert_eq!(after.id(), "the-id");
    let gone = after.changes_since(newest, 10);
    assert!(gone.is_err(), "a watch from before lists again: {gone:?}");
}

#[tokio::test]
async fn writers_who_come_together_share_one_sync() {
    let disk = Forgetful::new();
    let store = open(&disk).await;
    let (syncs, bytes) = (disk.syncs(), disk.bytes());
    disk.hold_syncs(true);
    let mut writers = JoinSet::new();
    let write = |number: usize| {
        let store = store.clone();
        async move { store.write(Op::create(key(&number.to_string()), map("1")).into()).await }
    };
    writers.spawn(write(0));
    soon("the first is appended and waits for its sync", || disk.bytes() > bytes).await;
    for number in 1..51 {
        writers.spawn(write(number));
    }
    settle().await;
    assert!(store.view(View::is_empty), "nothing is seen before it is durable");
    disk.hold_syncs(false);
    let mut revisions = std::collections::BTreeSet::new();
    while let Some(written) = writers.join_next().await {
        revisions.insert(written.unwrap().unwrap());
    }
    assert_eq!(revisions.len(), 51, "a revision each");
    assert_eq!(disk.syncs() - syncs, 2, "one for the first, one for the fifty that came meanwhile");
    assert_eq!(open(&disk.restarted(PowerCut::Loses)).await.view(View::len), 51);
}

#[tokio::test]
async fn of_those_who_race_for_one_revision_one_wins() {
    let disk = Forgetful::new();
    let store = open(&disk).await;
    let seen = store.write(Op::create(key("a"), map("0")).into()).await.unwrap();
    let bytes = disk.bytes();
    disk.hold_syncs(true);
    let mut writers = JoinSet::new();
    let blocker = store.clone();
    writers.spawn(async move { blocker.write(event("blocks nothing").into()).await });
    let blocker = store.clone();
    writers.spawn(async move { blocker.write(Op::create(key("b"), map("0")).into()).await });
    soon("a sync is waited for", || disk.bytes() > bytes).await;
    for number in 0..20 {
        let store = store.clone();
        writers.spawn(async move { store.write(Op::update(key("a"), seen, map(&number.to_string())).into()).await });
    }
    settle().await;
    disk.hold_syncs(false);
    let (mut won, mut lost) = (0, 0);
    while let Some(written) = writers.join_next().await {
        match written.unwrap() {
            Ok(_) => won += 1,
            Err(WriteError::Conflict { found: Some(found), .. }) => {
                assert!(store.view(|view| view.revision() >= found), "who lost sees at once what was in the way");
                lost += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((won, lost), (3, 19));
}

#[tokio::test]
async fn volatile_batches_do_not_touch_the_disk_but_once_in_a_million() {
    let disk = Forgetful::new();
    let store = open(&disk).await;
    let before = disk.operations();
    for number in 0..500 {
        store.write(event(&number.to_string()).into()).await.unwrap();
    }
    assert_eq!(disk.operations(), before);
}

#[tokio::test]
async fn revisions_never_go_back_whatever_was_written_between() {
    let mut disk = Forgetful::new();
    let mut newest = Revision(0);
    for round in 0..6 {
        let store = open(&disk).await;
        assert!(store.view(View::revision) > newest, "round {round}");
        for number in 0..5 {
            newest = if round % 2 == 0 {
                store.write(event(&number.to_string()).into()).await.unwrap()
            } else {
                store.write(Op::create(key(&format!("{round}-{number}")), map("1")).into()).await.unwrap()
            };
        }
        if round > 3 {
            store.close().await.unwrap();
        }
        disk = disk.restarted(PowerCut::Loses);
    }
    assert!(newest < Revision(7 * STRIDE));
}

#[tokio::test]
async fn a_full_disk_refuses_what_it_cannot_keep_and_goes_on_when_there_is_room() {
    let disk = Forgetful::new();
    let store = open(&disk).await;
    store.write(Op::create(key("a"), map("1")).into()).await.unwrap();
    disk.set_room(Some(10));
    let full = store.write(Op::create(key("b"), map("1")).into()).await;
    let Err(WriteError::Journal(cause)) = full else { panic!("{full:?}") };
    assert!(cause.to_string().contains("the disk is full"), "{cause}");
    assert!(store.view(|view| view.get(&key("b")).is_none()));
    store.write(event("goes on").into()).await.unwrap();
    disk.set_room(None);
    store.write(Op::create(key("c"), map("1")).into()).await.unwrap();
    let after = open(&disk.restarted(PowerCut::Loses)).await;
    assert_eq!(after.view(View::len), 2);
}

#[tokio::test]
async fn volatile_writes_that_came_with_one_that_finds_no_room_are_done() {
    let disk = Forgetful::new();
    let store = open(&disk).await;
    let bytes = disk.bytes();
    disk.hold_syncs(true);
    let mut first = JoinSet::new();
    let blocker = store.clone();
    first.spawn(async move { blocker.write(Op::create(key("a"), map("1")).into()).await });
    soon("a sync is waited for", || disk.bytes() > bytes).await;
    disk.set_room(Some(0));
    let mut writers = JoinSet::new();
    for number in 0..6 {
        let store = store.clone();
        let op = if number % 2 == 0 { event(&number.to_string()) } else { Op::create(key(&number.to_string()), map("1")) };
        writers.spawn(async move { store.write(op.into()).await.is_ok() });
    }
    settle().await;
    disk.hold_syncs(false);
    assert!(first.join_next().await.unwrap().unwrap().is_ok());
    let done = writers.join_all().await.into_iter().filter(|&done| done).count();
    assert_eq!((done, store.view(View::len)), (3, 4));
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_acknowledged_any_more() {
    let disk = Forgetful::new();
    let store = open(&disk).await;
    store.write(Op::create(key("a"), map("1")).into()).await.unwrap();
    disk.break_sync();
    for op in [Op::create(key("b"), map("1")), Op::create(key("c"), map("1")), event("e")] {
        let refused = store.write(op.into()).await;
        let Err(WriteError::Journal(cause)) = refused else { panic!("{refused:?}") };
        let told = crate::error::Chain(&*cause).to_string();
        assert!(told.contains("the journal stopped") && told.contains("the disk gave up"), "{told}");
    }
    assert_eq!(store.view(View::len), 1);
    assert!(store.close().await.is_err());
    for cut in [PowerCut::Loses, PowerCut::Keeps] {
        let len = open(&disk.restarted(cut)).await.view(View::len);
        assert!((1..=2).contains(&len), "what was acknowledged, and perhaps what nobody could tell: {len}");
    }
}

#[tokio::test]
async fn closing_writes_what_waits_and_a_dropped_store_lets_go() {
    let disk = Forgetful::new();
    let store = open(&disk).await;
    let mut writers = JoinSet::new();
    for number in 0..20 {
        let store = store.clone();
        writers.spawn(async move { store.write(Op::create(key(&number.to_string()), map("1")).into()).await.is_ok() });
    }
    settle().await;
    store.close().await.unwrap();
    store.close().await.unwrap();
    let done = writers.join_all().await.into_iter().filter(|&done| done).count();
    assert_eq!(done, 20);
    assert!(matches!(store.write(event("late").into()).await, Err(WriteError::Closed)));
    let weak = {
        let store = open(&disk.restarted(PowerCut::Loses)).await;
        assert_eq!(store.view(View::len), 20);
        Arc::downgrade(&store.inner.shared)
    };
    soon("the thread has ended", || weak.strong_count() == 0).await;
}

#[tokio::test]
async fn checkpoints_are_written_while_others_write_and_nothing_is_lost() {
    let disk = Forgetful::new();
    let settings = Settings { least_log: 4096, ..settings() };
    let store = Store::open(Embedded::new(disk.clone(), settings.clone()), Options::default()).await.unwrap();
    let mut writers = JoinSet::new();
    for writer in 0..8 {
        let store = store.clone();
        writers.spawn(async move {
            let mut seen = None;
            for number in 0..40 {
                let (own, shared) = (key(&format!("{writer}-{number}")), key(&format!("{writer}")));
                let again = match seen {
                    None => Op::create(shared, map("0")),
                    Some(seen) => Op::update(shared, seen, map(&number.to_string())),
                };
                seen = Some(store.write(Batch(vec![Op::create(own, map("1")), again])).await.unwrap());
            }
        });
    }
    writers.join_all().await;
    let held =
        |store: &Store| store.view(|view| view.iter().map(|(key, object)| (key.clone(), object.clone())).collect::<Vec<_>>());
    let expected = held(&store);
    assert_eq!(expected.len(), 8 * 41);
    for cut in [PowerCut::Loses, PowerCut::Keeps] {
        let after = disk.restarted(cut);
        let again = Store::open(Embedded::new(after.clone(), settings.clone()), Options::default()).await.unwrap();
        assert_eq!(held(&again), expected);
        let names = crate::store::files::Files::list(&after).unwrap();
        assert!(names.iter().any(|name| name.starts_with("checkpoint-")), "{names:?}");
        assert!(!names.contains(&"log-0000000001".to_owned()), "{names:?}");
    }
}
