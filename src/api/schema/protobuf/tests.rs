//! Bodies of the real kubectl, and bytes made by hand.
//!
//! `tests/golden/protobuf/x.bin` is what kubectl 1.33 sent for a command, `x.json` what kubectl 1.31, which still writes JSON,
//! sent for the same one.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{ProtobufError, read};
use crate::api::schema::prune_kind;

macro_rules! golden {
    ($($name:literal),* $(,)?) => {
        &[$((
            $name,
            include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/protobuf/", $name, ".bin")),
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/protobuf/", $name, ".json")),
        )),*]
    };
}

const GOLDEN: &[(&str, &[u8], &str)] = golden![
    "clusterrole",
    "clusterrolebinding",
    "configmap",
    "cronjob",
    "deployment",
    "deployment-zero",
    "ingress",
    "job",
    "namespace",
    "poddisruptionbudget",
    "poddisruptionbudget-max",
    "priorityclass",
    "resourcequota",
    "role",
    "rolebinding",
    "secret",
    "selfsubjectaccessreview",
    "selfsubjectreview",
    "selfsubjectrulesreview",
    "service",
    "service-nodeport",
    "serviceaccount",
    "tokenrequest",
];

/// JSON writes structs without content where the wire leaves us to drop them; they mean the same.
fn without_empty_objects(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(without_empty_objects);
            map.retain(|_, value| value != &json!({}));
        }
        Value::Array(list) => list.iter_mut().for_each(without_empty_objects),
        _ => {}
    }
}

#[test]
fn protobuf_bodies_of_kubectl_say_what_its_json_bodies_say() {
    for (name, bytes, json) in GOLDEN {
        let mut read = Value::Object(read(bytes).unwrap_or_else(|error| panic!("{name}: {error}")));
        let mut sent: Value = serde_json::from_str(json).expect("the golden file is JSON");
        let (api_version, kind) =
            (sent["apiVersion"].as_str().expect("has one").to_owned(), sent["kind"].as_str().expect("has one").to_owned());
        for object in [&mut read, &mut sent] {
            assert_eq!(prune_kind(&api_version, &kind, object), Some(Default::default()), "{name}");
            without_empty_objects(object);
        }
        assert_eq!(read, sent, "{name}");
    }
}

/// A field with a length.
fn bytes_field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2, u8::try_from(content.len()).expect("tests are short")];
    bytes.extend_from_slice(content);
    bytes
}

fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let meta = [bytes_field(1, api_version.as_bytes()), bytes_field(2, kind.as_bytes())].concat();
    [b"k8s\0".to_vec(), bytes_field(1, &meta), bytes_field(2, raw)].concat()
}

fn read_as(api_version: &str, kind: &str, raw: &[u8]) -> Value {
    let mut object = read(&envelope(api_version, kind, raw)).unwrap_or_else(|error| panic!("{kind}: {error}"));
    object.remove("apiVersion");
    object.remove("kind");
    Value::Object(object)
}

#[test]
fn each_type_of_the_wire_is_read() {
    let pod = |spec: &[u8]| read_as("v1", "Pod", &bytes_field(2, spec))["spec"].clone();
    // An empty message behind a pointer means something, and its fields stand in the parent.
    let volume = [bytes_field(1, b"v"), bytes_field(2, &bytes_field(2, &[]))].concat();
    assert_eq!(pod(&bytes_field(1, &volume)), json!({"volumes": [{"name": "v", "emptyDir": {}}]}));
    // A zero behind a pointer is a zero, another is not set; negative numbers fill ten bytes.
    assert_eq!(pod(&[4 << 3, 0, 11 << 3, 0]), json!({"terminationGracePeriodSeconds": 0}));
    let minus_one = [&[0xff; 9][..], &[1]].concat();
    assert_eq!(pod(&[&[25 << 3 & 0x7f | 0x80, 1][..], &minus_one].concat()), json!({"priority": -1}));
    // Lists of numbers, one by one and packed; a field that we do not know is skipped.
    let groups = [vec![4 << 3, 1, 4 << 3, 2], bytes_field(4, &[3, 0x80, 1]), bytes_field(15, b"new")].concat();
    assert_eq!(pod(&bytes_field(14, &groups)), json!({"securityContext": {"supplementalGroups": [1, 2, 3, 128]}}));
    // Maps, with what stands for an absent key and value.
    let labels = |entry: &[u8]| read_as("v1", "Pod", &bytes_field(1, &bytes_field(11, entry)))["metadata"]["labels"].clone();
    assert_eq!(labels(&[bytes_field(1, b"k"), bytes_field(2, b"v")].concat()), json!({"k": "v"}));
    assert_eq!(labels(&[]), json!({"": ""}));
    // Times.
    let lease = |spec: &[u8]| read_as("coordination.k8s.io/v1", "Lease", &bytes_field(2, spec))["spec"].clone();
    assert_eq!(
        lease(&bytes_field(3, &[1 << 3, 10, 2 << 3, 0x80, 0xa0, 0x90, 0xc3, 1])),
        json!({"acquireTime": "1970-01-01T00:00:10.409210Z"})
    );
    let created = |time: &[u8]| read_as("v1", "Pod", &bytes_field(1, &bytes_field(8, time)));
    assert_eq!(created(&[]), json!({}));
    assert_eq!(created(&[1 << 3, 0, 2 << 3, 0]), json!({"metadata": {"creationTimestamp": "1970-01-01T00:00:00Z"}}));
    // Bytes are base64, raw extensions JSON.
    assert_eq!(
        read_as("v1", "Secret", &bytes_field(2, &[bytes_field(1, b"k"), bytes_field(2, b"\0\xff")].concat())),
        json!({"data": {"k": "AP8="}})
    );
    let revision = [bytes_field(2, &bytes_field(1, br#"{"spec":[1]}"#)), vec![3 << 3, 7]].concat();
    assert_eq!(read_as("apps/v1", "ControllerRevision", &revision), json!({"data": {"spec": [1]}, "revision": 7}));
    // A list that is a message on the wire.
    let scopes = [bytes_field(1, b"s"), bytes_field(2, &bytes_field(1, b"a"))].concat();
    let review = read_as("authorization.k8s.io/v1", "SubjectAccessReview", &bytes_field(2, &bytes_field(5, &scopes)));
    assert_eq!(review, json!({"spec": {"extra": {"s": ["a"]}}}));
    // Two pieces of one message are one.
    let pieces = [bytes_field(1, &bytes_field(1, b"n")), bytes_field(1, &bytes_field(3, b"ns"))].concat();
    assert_eq!(read_as("v1", "Pod", &pieces), json!({"metadata": {"name": "n", "namespace": "ns"}}));
}

#[test]
fn delete_options_are_read_in_every_group() {
    let options = [vec![1 << 3, 0], bytes_field(4, b"Foreground"), bytes_field(5, b"All")].concat();
    for group in ["v1", "policy/v1", "meta.k8s.io/v1"] {
        assert_eq!(
            read_as(group, "DeleteOptions", &options),
            json!({"gracePeriodSeconds": 0, "propagationPolicy": "Foreground", "dryRun": ["All"]})
        );
    }
}

#[test]
fn broken_bytes_are_refused() {
    assert_eq!(read(b"{}"), Err(ProtobufError::NoEnvelope));
    assert_eq!(read(b"k8s"), Err(ProtobufError::NoEnvelope));
    for empty in [b"k8s\0".to_vec(), envelope("v1", "Lamp", &[])] {
        assert!(matches!(read(&empty), Err(ProtobufError::UnknownKind { .. })));
    }
    for raw in [
        &[0x0a][..],                                       // a length without number
        &[0x0a, 5, 1],                                     // shorter than it says
        &[0x0b],                                           // a group
        &[0x02, 0],                                        // field 0
        &[0x08, 1],                                        // a number where metadata should be
        &[0x0a, 2, 0x08, 1],                               // a number where the name should be
        &[0x0a, 3, 0x0a, 1, 0xff],                         // a name that is no UTF-8
        &[0xff; 11],                                       // a tag without end
        &[0x0a, 7, 0x42, 5, 0x08, 0xff, 0xff, 0xff, 0xff], // a time that stops
    ] {
        assert!(matches!(read(&envelope("v1", "Pod", raw)), Err(ProtobufError::Broken(_))), "{raw:?}");
    }
    let never = [&[1 << 3][..], &[0xff; 9], &[1]].concat().repeat(1);
    let far = bytes_field(1, &bytes_field(8, &[&[1 << 3][..], &[0xff; 8], &[0x7f]].concat()));
    assert!(matches!(read(&envelope("v1", "Pod", &far)), Err(ProtobufError::Broken(_))), "{never:?}");
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for kind in ["Pod", "DeleteOptions", "ResourceQuota", "Event"] {
            let mut body = b"k8s\0\x0a".to_vec();
            let meta = [bytes_field(1, b"v1"), bytes_field(2, kind.as_bytes())].concat();
            body.push(u8::try_from(meta.len()).expect("short"));
            body.extend(meta);
            body.extend([0x12, u8::try_from(bytes.len() & 0x7f).expect("short")]);
            body.extend(&bytes);
            drop(read(&body));
        }
        drop(read(&bytes));
    }

    #[test]
    fn real_bodies_with_a_fault_do_not_panic(which in 0..GOLDEN.len(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut bytes = GOLDEN[which].1.to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if cut {
            bytes.truncate(at);
        }
        drop(read(&bytes));
    }
}
