//! The embedded journal on the disk that forgets: cut everywhere, crashed everywhere, with files lost, swapped and damaged.

use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::api::registry;
use crate::rng::Rng;
use crate::store::batch::{Batch, Change, Expect, Op};
use crate::store::forgetful::{Forgetful, Moment, PowerCut};
use crate::store::group::{Accepted, Pending};
use crate::store::log::Replay;

const LEAST: u64 = 1500;

type State = BTreeMap<Key, Arc<Object>>;

fn key(name: &str) -> Key {
    Key::new(&registry::CONFIG_MAPS, "default", name)
}

fn event(name: &str) -> Key {
    Key::new(&registry::EVENTS, "default", name)
}

fn put(key: Key, data: &str) -> Op {
    let object = Object::from_value(json!({"data": {"a": data}})).unwrap();
    Op { key, expect: Expect::Any, change: Change::Put(object) }
}

fn delete(key: Key) -> Op {
    Op { key, expect: Expect::Any, change: Change::Delete }
}

/// What `Store` does, on one thread, so that every operation of the disk has a number.
struct Master {
    journal: Embedded<Forgetful>,
    view: View,
}

impl Master {
    fn open_with(disk: &Forgetful, least_log: u64) -> Result<Self, JournalError> {
        let mut journal = Embedded::new(disk.clone(), Settings { new_id: "the-id".to_owned(), least_log });
        let snapshot = journal.load()?;
        assert_eq!(snapshot.id, "the-id");
        Ok(Self { journal, view: View::with(snapshot.floor, snapshot.objects) })
    }

    fn open(disk: &Forgetful) -> Result<Self, JournalError> {
        Self::open_with(disk, LEAST)
    }

    /// Commits batches as one group and applies them.
    fn write(&mut self, batches: Vec<Batch>) -> Result<Revision, JournalError> {
        let mut pending = Pending::on(&self.view);
        let accepted: Vec<_> = batches.into_iter().map(|batch| pending.admit(batch).unwrap()).collect();
        let newest = pending.revision();
        let entries: Vec<_> = accepted.iter().filter_map(Accepted::entry).collect();
        self.journal.commit(newest, &entries)?;
        for batch in accepted {
            self.view.place_all(batch.revision, batch.ops);
        }
        Ok(newest)
    }

    /// What would be there after a start.
    fn kept(&self) -> State {
        self.view
            .iter()
            .filter(|(key, object)| !is_never_stored(key, object))
            .map(|(key, object)| (key.clone(), object.clone()))
            .collect()
    }
}

/// The `number`th group of a history with creates, updates, deletes, volatile batches and batches that are both.
fn group(number: usize) -> Vec<Batch> {
    let name = format!("{}", number % 7);
    // Each text is another: a put of what is there already changes nothing that is kept.
    let text = format!("{number}{}", "x".repeat(40 + number % 5 * 30));
    let single = Batch(vec![put(key(&name), &text)]);
    match number % 6 {
        0 => vec![Batch(vec![put(key(&name), &text), put(event(&name), "seen"), put(key("both"), &number.to_string())])],
        1 => vec![Batch(vec![put(event(&name), "seen")])],
        2 => vec![single, Batch(vec![delete(key(&format!("{}", (number + 3) % 7)))])],
        3 => vec![Batch(vec![delete(event(&name))]), single],
        _ => vec![single],
    }
}

/// What a run was told, and what it was waiting for when it ended.
#[derive(Default)]
struct Told {
    acknowledged: State,
    /// As if the group in flight had been kept.
    in_flight: Option<State>,
    newest: Revision,
    finished: bool,
}

/// Runs until the power goes.
fn run(disk: &Forgetful, groups: usize) -> Told {
    let mut told = Told::default();
    let Ok(mut master) = Master::open(disk) else { return told };
    for number in 0..groups {
        told.acknowledged = master.kept();
        let mut ahead = Master {
            journal: Embedded::new(Forgetful::new(), Settings::with_id("the-id".to_owned())),
            view: master.view.clone(),
        };
        ahead.journal.load().unwrap();
        ahead.write(group(number)).unwrap();
        told.in_flight = Some(ahead.kept());
        match master.write(group(number)) {
            Ok(newest) => told.newest = newest,
            Err(_) => return told,
        }
        told.acknowledged = master.kept();
        told.in_flight = None;
        // One step at a time, so that commits fall between the steps of a checkpoint.
        master.journal.tend(&master.view);
    }
    if master.journal.close(&master.view).is_err() {
        return told;
    }
    told.finished = true;
    told
}

#[test]
fn a_crash_at_any_operation_loses_nothing_that_was_acknowledged() {
    const GROUPS: usize = 26;
    let whole = Forgetful::new();
    assert!(run(&whole, GROUPS).finished);
    let names = whole.list().unwrap();
    assert!(names.iter().filter(|name| name.starts_with("checkpoint-")).count() == 2, "it makes checkpoints: {names:?}");
    let mut cuts = 0;
    for number in 0..whole.operations() {
        for moment in [Moment::Before(number), Moment::After(number)] {
            let disk = Forgetful::new().cut_at(moment);
            let told = run(&disk, GROUPS);
            // Making a store is few operations, and none may go wrong in any way.
            let tears = if number < 12 { 40 } else { 3 };
            let torn = (0..tears).map(|tear| PowerCut::Tears(Rng::seeded(number, &format!("tear {tear}"))));
            for cut in [PowerCut::Loses, PowerCut::Keeps].into_iter().chain(torn) {
                cuts += 1;
                let case = format!("{moment:?} {cut:?}");
                let after = disk.restarted(cut);
                let mut master = Master::open(&after).unwrap_or_else(|error| panic!("{case}: {error}"));
                assert!(master.view.revision() > told.newest, "{case}: revisions go back");
                let kept = master.kept();
                assert!(kept == told.acknowledged || Some(&kept) == told.in_flight.as_ref(), "{case}: {kept:?}");
                // And it goes on from there: the next power cut loses nothing either.
                master.write(group(1002)).unwrap();
                while master.journal.tend(&master.view) == Tended::More {}
                let again =
                    Master::open(&after.restarted(PowerCut::Loses)).unwrap_or_else(|error| panic!("{case}, again: {error}"));
                assert_eq!(again.kept(), master.kept(), "{case}, again");
            }
        }
    }
    assert!(cuts > 500, "{cuts}");
}

#[test]
fn a_log_cut_at_any_byte_opens_with_all_whose_record_is_whole() {
    let disk = Forgetful::new();
    let mut master = Master::open_with(&disk, u64::MAX).unwrap();
    let log = layout::log(1);
    // Where each record ends, and what holds then.
    let mut states = vec![(disk.read(&log).unwrap().len(), master.kept(), Revision(0))];
    for number in 0..12 {
        let newest = master.write(group(number)).unwrap();
        states.push((disk.read(&log).unwrap().len(), master.kept(), newest));
    }
    let bytes = disk.read(&log).unwrap();
    for length in 0..=bytes.len() {
        let cut = disk.restarted(PowerCut::Keeps);
        cut.tamper(&log, |bytes| bytes.truncate(length));
        let opened = Master::open_with(&cut, u64::MAX);
        // The first record was there before the store was: without it there would be a store that is silently empty.
        let begun = Replay::default().log(&bytes[..length]).unwrap().begin.is_some();
        if !begun {
            let Err(error) = opened else { panic!("{length} bytes open") };
            assert!(matches!(error, JournalError::Damaged { offset: 0, .. }), "{error}");
            continue;
        }
        let opened = opened.unwrap_or_else(|error| panic!("{length} bytes: {error}"));
        // Groups that were volatile left no record; the last of those that end here is meant.
        let state = states.iter().rev().find(|(end, ..)| *end <= length);
        let (_, expected, newest) = state.cloned().unwrap_or_default();
        assert_eq!(opened.kept(), expected, "{length} bytes");
        assert!(opened.view.revision() > newest, "{length} bytes");
    }
}

/// A disk with a store that has two checkpoints, with changes after the last one.
fn aged() -> (Forgetful, State) {
    let disk = Forgetful::new();
    let mut master = Master::open(&disk).unwrap();
    let mut number = 0;
    while Layout::of(&disk.list().unwrap()).checkpoints.len() < 2 || number % 6 != 5 {
        master.write(group(number)).unwrap();
        while master.journal.tend(&master.view) == Tended::More {}
        number += 1;
    }
    master.write(vec![Batch(vec![put(key("last"), "1")])]).unwrap();
    master.write(vec![Batch(vec![put(key("very last"), "1")])]).unwrap();
    (disk, master.kept())
}

#[test]
fn a_newest_log_cut_at_any_byte_falls_back_on_its_checkpoint() {
    let (disk, all) = aged();
    let last = *Layout::of(&disk.list().unwrap()).logs.last().unwrap();
    let length = disk.read(&layout::log(last)).unwrap().len();
    for length in 0..length {
        let cut = disk.restarted(PowerCut::Keeps);
        cut.tamper(&layout::log(last), |bytes| bytes.truncate(length));
        let mut master = Master::open(&cut).unwrap_or_else(|error| panic!("{length} bytes: {error}"));
        assert!(master.kept().len() < all.len() && !master.kept().is_empty());
        master.write(vec![Batch(vec![put(key("new"), "1")])]).unwrap();
        assert_eq!(Master::open(&cut.restarted(PowerCut::Loses)).unwrap().kept(), master.kept(), "{length} bytes");
    }
}

#[test]
fn damage_names_the_file_the_byte_and_the_checkpoint_to_go_back_to() {
    let (disk, _) = aged();
    let layout = Layout::of(&disk.list().unwrap());
    let (log, checkpoint) = (layout::log(*layout.logs.last().unwrap()), layout::checkpoint(*layout.checkpoints.last().unwrap()));
    let good = disk.read(&log).unwrap();
    let offset = Replay::default().log(&good[..good.len() / 2]).unwrap().good;
    disk.tamper(&log, |bytes| bytes[usize::try_from(offset).unwrap() + log::HEADER + 2] ^= 4);
    let Err(error) = Master::open(&disk) else { panic!("it opens") };
    let JournalError::Damaged { path, offset: at, checkpoint: Some(back), spare: false, .. } = &error else { panic!("{error}") };
    assert_eq!((path, *at, &back.path), (&disk.path(&log), offset, &disk.path(&checkpoint)));
    assert!(back.revision > Revision(0));
    let told = error.to_string();
    assert!([&log, &format!("byte {offset}"), &checkpoint].iter().all(|&part| told.contains(part)), "{told}");
    // What it says to do works.
    assert!(error.fix().contains(&format!("truncate -s {offset}")), "{}", error.fix());
    disk.tamper(&log, |bytes| bytes.truncate(usize::try_from(offset).unwrap()));
    assert!(!Master::open(&disk).unwrap().kept().is_empty());
}

#[test]
fn a_damaged_checkpoint_is_told_and_without_it_nothing_is_lost() {
    let (disk, all) = aged();
    let layout = Layout::of(&disk.list().unwrap());
    let [before, newest] = layout.checkpoints[..] else { panic!("{layout:?}") };
    for at in [5, 100, 400] {
        let disk = disk.restarted(PowerCut::Keeps);
        disk.tamper(&layout::checkpoint(newest), |bytes| bytes[at] ^= 1);
        let Err(error) = Master::open(&disk) else { panic!("it opens") };
        let JournalError::Damaged { path, checkpoint: Some(back), spare: true, .. } = &error else { panic!("{error}") };
        assert_eq!((path, &back.path), (&disk.path(&layout::checkpoint(newest)), &disk.path(&layout::checkpoint(before))));
        assert!(error.fix().starts_with("move"), "{}", error.fix());
        disk.lose(&layout::checkpoint(newest));
        assert_eq!(Master::open(&disk).unwrap().kept(), all);
    }
}

#[test]
fn a_store_whose_files_are_missing_does_not_start_empty() {
    let (aged, _) = aged();
    let layout = Layout::of(&aged.list().unwrap());
    let young = Forgetful::new();
    Master::open(&young).unwrap().write(group(0)).unwrap();
    let (last, newest) = (layout::log(*layout.logs.last().unwrap()), layout::checkpoint(*layout.checkpoints.last().unwrap()));
    for (disk, lost) in [
        (&young, vec![layout::log(1)]),
        (&young, vec![layout::ID.to_owned()]),
        (&aged, vec![last]),
        (&aged, vec![layout::ID.to_owned()]),
        (&aged, layout.logs.iter().map(|&sequence| layout::log(sequence)).collect()),
        (&aged, layout.checkpoints.iter().map(|&sequence| layout::checkpoint(sequence)).collect()),
        (&aged, vec![newest, layout::log(layout.checkpoints[1])]),
    ] {
        let disk = disk.restarted(PowerCut::Keeps);
        lost.iter().for_each(|name| disk.lose(name));
        let before = disk.list().unwrap();
        let Err(error) = Master::open(&disk) else { panic!("{lost:?}: it opens") };
        assert!(matches!(error, JournalError::Missing { .. }), "{lost:?}: {error}");
        assert_eq!(disk.list().unwrap(), before, "nothing is touched");
    }
}

#[test]
fn a_log_in_the_middle_is_not_skipped_and_not_shortened() {
    // A store whose newest checkpoint is gone reads several logs.
    let (disk, all) = aged();
    let layout = Layout::of(&disk.list().unwrap());
    let [before, newest] = layout.checkpoints[..] else { panic!("{layout:?}") };
    disk.lose(&layout::checkpoint(newest));
    assert_eq!(Master::open(&disk.restarted(PowerCut::Keeps)).unwrap().kept(), all);
    let middle = layout::log(before);
    let length = disk.read(&middle).unwrap().len();
    for length in 0..length {
        let disk = disk.restarted(PowerCut::Keeps);
        disk.tamper(&middle, |bytes| bytes.truncate(length));
        let Err(error) = Master::open(&disk) else { panic!("{length} bytes: it opens") };
        assert!(matches!(&error, JournalError::Damaged { path, .. } if *path == disk.path(&middle)), "{length} bytes: {error}");
    }
}

#[test]
fn files_of_another_store_are_refused() {
    let (disk, _) = aged();
    disk.tamper(layout::ID, |bytes| *bytes = b"another".to_vec());
    let mut journal = Embedded::new(disk.clone(), Settings::with_id("x".to_owned()));
    let error = journal.load().unwrap_err();
    assert!(matches!(&error, JournalError::Foreign { found, wanted, .. } if found == "the-id" && wanted == "another"), "{error}");
    disk.tamper(layout::ID, Vec::clear);
    assert!(matches!(journal.load(), Err(JournalError::Damaged { .. })));
}

#[test]
fn the_ceiling_is_raised_before_a_revision_above_it_is_given_out() {
    let disk = Forgetful::new();
    let mut master = Master::open(&disk).unwrap();
    let floor = master.view.revision();
    for (offset, written) in [(STRIDE - 1, false), (STRIDE, false), (STRIDE + 1, true), (STRIDE + 2, false)] {
        let operations = disk.operations();
        master.journal.commit(Revision(floor.0 + offset), &[]).unwrap();
        assert_eq!(disk.operations() > operations, written, "{offset}");
    }
    let again = Master::open(&disk.restarted(PowerCut::Loses)).unwrap();
    assert!(again.view.revision() > Revision(floor.0 + STRIDE + 2));
    let disk = disk.restarted(PowerCut::Loses);
    let mut master = Master::open(&disk).unwrap();
    disk.break_sync();
    assert!(master.journal.commit(Revision(u64::MAX / 2), &[]).is_err(), "not durable, not given out");
}

#[test]
fn an_object_that_is_stored_is_stored_with_the_status_that_it_has() {
    let disk = Forgetful::new();
    let mut master = Master::open(&disk).unwrap();
    let pod = Key::new(&registry::PODS, "default", "web");
    let at = |phase: &str, label: &str| {
        let raw = json!({"metadata": {"labels": {"a": label}}, "status": {"phase": phase}});
        vec![Batch(vec![Op { key: pod.clone(), expect: Expect::Any, change: Change::Put(Object::from_value(raw).unwrap()) }])]
    };
    let phase = |disk: &Forgetful| {
        let master = Master::open(&disk.restarted(PowerCut::Loses)).unwrap();
        master.view.get(&pod).unwrap().str_at(&["status", "phase"]).to_owned()
    };
    master.write(at("Pending", "1")).unwrap();
    master.write(at("Running", "1")).unwrap();
    assert_eq!(phase(&disk), "Pending");
    master.write(at("Running", "2")).unwrap();
    assert_eq!(phase(&disk), "Running");
    master.write(at("Failed", "2")).unwrap();
    assert_eq!(phase(&disk), "Failed");
}

#[test]
fn a_checkpoint_that_finds_no_room_harms_nothing() {
    let disk = Forgetful::new();
    let mut master = Master::open(&disk).unwrap();
    let mut number = 0;
    while disk.bytes() < LEAST + 500 {
        master.write(group(number)).unwrap();
        number += 1;
    }
    disk.set_room(Some(600));
    assert_eq!(master.journal.tend(&master.view), Tended::More, "the next log is begun");
    while master.journal.tend(&master.view) == Tended::More {}
    let names = disk.list().unwrap();
    assert!(!names.iter().any(|name| name.contains("checkpoint")), "what was begun is taken away: {names:?}");
    disk.set_room(None);
    for number in 0..60 {
        master.write(group(number)).unwrap();
        while master.journal.tend(&master.view) == Tended::More {}
    }
    assert!(disk.list().unwrap().iter().any(|name| name.contains("checkpoint")), "later it finds room");
    assert_eq!(Master::open(&disk.restarted(PowerCut::Loses)).unwrap().kept(), master.kept());
}
