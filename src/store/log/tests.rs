//! The log cut, flipped, torn and replayed.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn key(name: &str) -> Key {
    Key::new(&registry::CONFIG_MAPS, "default", name)
}

fn put(name: &str, data: &str) -> Kept {
    let object = Object::from_value(json!({"data": {"a": data}})).unwrap();
    Kept { key: key(name), put: Some(Arc::new(object)) }
}

fn begin() -> Vec<u8> {
    let begin = Begin { file: Sort::Log, format: FORMAT, store: "s".to_owned(), sequence: 1, ceiling: Revision(1000) };
    frame(Revision(0), &Record::Begin(begin)).unwrap()
}

fn group(entries: &[Entry]) -> Vec<u8> {
    let newest = entries.last().unwrap().revision;
    frame(newest, &Record::Group { ceiling: None, entries: entries.to_vec() }).unwrap()
}

fn one(revision: u64, name: &str, data: &str) -> Vec<u8> {
    group(&[Entry { revision: Revision(revision), ops: vec![put(name, data)] }])
}

#[test]
fn the_wire_of_a_frame_does_not_change() {
    let bytes = one(258, "a", "b");
    let (header, body) = bytes.split_at(HEADER);
    assert_eq!(
        String::from_utf8_lossy(body),
        r#"{"group":{"entries":[{"revision":258,"ops":[{"key":"/registry/core/configmaps/default/a","put":{"data":{"a":"b"}}}]}]}}"#
    );
    assert_eq!(header[..16], [0x1e, b'B', b'r', 1, body.len() as u8, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(header[16..20], crc32fast::hash(body).to_le_bytes());
    assert_eq!(header[20..], crc32fast::hash(&header[..20]).to_le_bytes());
}

#[test]
fn keys_come_back_as_they_went_and_others_do_not_go() {
    let kept = |key: Key| Kept { key, put: None };
    for key in [
        Key::new(&registry::PODS, "default", "web"),
        Key::new(&registry::NODES, "", "pi"),
        Key::new(&registry::DEPLOYMENTS, "a", "system:with:colons/and/slashes"),
        Key::new(&registry::CONFIG_MAPS, "", "\u{1e}Br\u{1}"),
    ] {
        let text = serde_json::to_string(&kept(key.clone())).unwrap();
        assert_eq!(serde_json::from_str::<Kept>(&text).unwrap().key, key);
    }
    assert!(serde_json::to_string(&kept(Key::new(&registry::PODS, "a/b", "web"))).is_err());
    assert!(serde_json::to_string(&kept(Key::new(&registry::NODES, "a", "pi"))).is_err());
    let strange = r#"{"key":"/registry/magic.io/wands/default/elder"}"#;
    assert!(serde_json::from_str::<Kept>(strange).unwrap_err().to_string().contains("wands"));
}

#[test]
fn a_flipped_bit_before_the_last_record_is_damage_with_its_offset() {
    let frames = [begin(), one(1, "a", "1"), one(2, "b", "2"), one(3, "c", "3")];
    let whole = frames.concat();
    let last = whole.len() - frames[3].len();
    let mut starts = vec![0];
    starts.extend(frames.iter().scan(0, |end, frame| {
        *end += frame.len();
        Some(*end)
    }));
    for at in 0..last {
        for bit in [0, 3, 7] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            let record = starts.iter().rev().find(|&&start| start <= at).copied().unwrap();
            match Replay::default().log(&bytes) {
                Err(Damage::Broken { offset, .. }) => assert_eq!(offset, record as u64, "byte {at} bit {bit}"),
                other => panic!("byte {at} bit {bit}: {other:?}"),
            }
        }
    }
    for at in last..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        let mut replay = Replay::default();
        let read = replay.log(&bytes).unwrap();
        assert!(read.cut.is_some() && read.good == last as u64 && replay.objects.len() == 2);
    }
}

#[test]
fn a_group_whose_pages_came_out_of_order_is_an_unfinished_write_and_no_damage() {
    let entries: Vec<Entry> =
        (2..40).map(|n| Entry { revision: Revision(n), ops: vec![put(&format!("{n}"), &"x".repeat(400))] }).collect();
    let kept = [begin(), one(1, "a", "1")].concat();
    let torn = group(&entries);
    for page in 0..torn.len() / 512 {
        let mut bytes = [kept.clone(), torn.clone()].concat();
        bytes[kept.len() + page * 512..][..512].fill(0);
        let mut replay = Replay::default();
        let read = replay.log(&bytes).unwrap();
        assert_eq!((read.good, replay.objects.len(), replay.revision), (kept.len() as u64, 1, Revision(1)), "page {page}");
    }
    let mut replay = Replay::default();
    let read = replay.log(&[kept.clone(), vec![0; 8192]].concat()).unwrap();
    assert_eq!((read.good, read.cut), (kept.len() as u64, Some(Flaw::Header)), "a length that came before its bytes");
}

#[test]
fn an_object_that_looks_like_a_record_is_none() {
    let inner = one(7, "inner", "1");
    let text = String::from_utf8_lossy(&inner).into_owned();
    let torn = one(2, "outer", &text);
    let bytes = [begin(), one(1, "a", "1"), torn[..torn.len() - 1].to_vec()].concat();
    assert!(Replay::default().log(&bytes).unwrap().cut.is_some());
}

#[test]
fn records_stand_only_where_they_belong() {
    let end = frame(Revision(1), &Record::End { next: 2 }).unwrap();
    let objects = frame(Revision(1), &Record::Objects(vec![put("a", "1")])).unwrap();
    let begun = |rest: &[u8]| [begin(), rest.to_vec()].concat();
    for (bytes, expected) in [
        (one(1, "a", "1"), "a record stands where it does not belong"),
        (begun(&begin()), "a record stands where it does not belong"),
        (begun(&objects), "a record stands where it does not belong"),
        (begun(&[end.clone(), one(1, "a", "1")].concat()), "the log goes on after its end"),
        (begun(&[end.clone(), vec![0; 3]].concat()), Flaw::Short.why()),
        (begun(&[one(5, "a", "1"), one(4, "b", "1")].concat()), "its revision is lower than the one before"),
    ] {
        let read = Replay::default().log(&bytes);
        assert!(matches!(&read, Err(Damage::Broken { why, .. }) if *why == expected), "{expected}: {read:?}");
    }
    let newer = Begin { file: Sort::Log, format: FORMAT + 1, store: "s".to_owned(), sequence: 1, ceiling: Revision(0) };
    let newer = frame(Revision(0), &Record::Begin(newer)).unwrap();
    assert!(matches!(Replay::default().log(&newer), Err(Damage::Unknown { offset: 0, .. })));
}

#[test]
fn a_checkpoint_waits_until_the_log_has_outgrown_the_data() {
    for (log, live, least, closing, expected) in [
        (99, 0, 100, false, false),
        (100, 0, 100, false, true),
        (100, 60, 100, false, false),
        (120, 60, 100, false, true),
        (60, 60, 100, true, true),
        (49, 20, 100, true, false),
        (0, 0, 100, true, false),
        (u64::MAX, u64::MAX, 100, false, true),
    ] {
        assert_eq!(has_outgrown(log, live, least, closing), expected, "{log} {live} {least} {closing}");
    }
}

/// A put of a number or a delete, at one of few keys.
type Step = (u8, Option<u16>);

/// Groups of batches.
fn histories() -> impl Strategy<Value = Vec<Vec<Vec<Step>>>> {
    let op = (0..6u8, proptest::option::weighted(0.7, any::<u16>()));
    let batch = proptest::collection::vec(op, 1..4);
    proptest::collection::vec(proptest::collection::vec(batch, 1..4), 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]

    #[test]
    fn a_replay_of_any_prefix_is_the_state_after_a_prefix_of_the_groups(history in histories()) {
        let (mut bytes, mut revision, mut model) = (begin(), 0, BTreeMap::new());
        // The state after each group, and where its frame ends.
        let mut states = vec![(bytes.len(), model.clone(), 0)];
        for batches in history {
            let mut entries = Vec::new();
            for batch in batches {
                revision += 1;
                let ops: Vec<Kept> = batch.into_iter().map(|(name, data)| match data {
                    Some(data) => put(&name.to_string(), &data.to_string()),
                    None => Kept { key: key(&name.to_string()), put: None },
                }).collect();
                for kept in &ops {
                    match &kept.put {
                        Some(object) => model.insert(kept.key.clone(), object.clone()),
                        None => model.remove(&kept.key),
                    };
                }
                entries.push(Entry { revision: Revision(revision), ops });
            }
            bytes.extend(group(&entries));
            states.push((bytes.len(), model.clone(), revision));
        }
        for cut in states[0].0..=bytes.len() {
            let mut replay = Replay::default();
            let read = replay.log(&bytes[..cut]).unwrap();
            let (end, state, revision) = states.iter().rev().find(|(end, ..)| *end <= cut).unwrap();
            prop_assert_eq!(&replay.objects, state);
            prop_assert_eq!((read.good, replay.revision, read.cut.is_some()), (*end as u64, Revision(*revision), cut > *end));
        }
    }

    #[test]
    fn no_bytes_make_the_reader_stumble(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0..200usize) {
        let mut mixed = [begin(), one(1, "a", "1")].concat();
        let at = at.min(mixed.len());
        mixed.splice(at..at, bytes.iter().copied());
        for bytes in [&bytes, &mixed] {
            let _ = Replay::default().log(bytes);
            let _ = Replay::default().checkpoint(bytes);
        }
    }
}
