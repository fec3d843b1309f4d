//! The wire, pinned: every kind of message as it travels, beside `tests/golden/link/`. `GOLDEN=write` writes the files anew; the
//! diff is for a reviewer, who asks whether an older node still understands it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::call::{CallError, Identified, IdentifyQuestion, ImageQuestion, LogRequest, Question};
use super::codec::{decode, encode};
use super::message::{
    Ask, Assignment, AssignmentBody, CallBody, CallRequest, ClockJump, Credit, End, Head, Health, Info, NodeClock, NodeEvent,
    NodeImage, Numbered, PodReport, Report, SCHEMA, StreamFrame,
};
use super::share::{Share, ShareNames};
use crate::api::{Generation, Object, Uid};

/// Compares with the file, byte by byte, and reads the file back.
fn golden<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(name: &str, message: &T) {
    let path = format!("{}/tests/golden/link/{name}.json", env!("CARGO_MANIFEST_DIR"));
    // As it travels, with a new line for the reader of diffs.
    let text = String::from_utf8(encode(message).to_vec()).unwrap() + "\n";
    if std::env::var("GOLDEN").is_ok_and(|value| value == "write") {
        std::fs::write(&path, &text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(kept, text, "{path}");
    assert_eq!(&decode::<T>(kept.trim_end().as_bytes()).unwrap(), message, "{path} is not read as it was written");
}

fn head() -> Head {
    Head {
        v: SCHEMA,
        store: "dff88258-3f5b-4c9e-904c-ac90c46e18ef".into(),
        at: Numbered { epoch: 1_000_042, number: 7 },
        digest: share().digest(),
        adopt: false,
    }
}

fn share() -> Share {
    let object = |value| Arc::new(Object::from_value(value).unwrap());
    let pod = object(json!({"metadata": {"name": "web-1", "namespace": "default", "uid": "u1", "generation": 1},
        "spec": {"nodeName": "pi-1", "containers": [{"name": "main", "image": "web:1", "env": [{"name": "GREETING", "value": "grüß dich"}]}]}}));
    let config_map =
        object(json!({"metadata": {"name": "site", "namespace": "default"}, "data": {"index.html": "<p>\"1\"</p>\n"}}));
    let secret = object(json!({"metadata": {"name": "door", "namespace": "default"}, "data": {"code": "c3dvcmRmaXNo"}}));
    Share {
        pods: BTreeMap::from([(Uid::from("u1"), pod)]),
        config_maps: BTreeMap::from([("default/site".to_owned(), config_map)]),
        secrets: BTreeMap::from([("default/door".to_owned(), secret)]),
        ..Share::default()
    }
}

#[test]
fn what_the_master_says_of_a_share() {
    golden("head", &head());
    golden("head_adopt", &Head { adopt: true, ..head() });
    let unset = ShareNames {
        pods: BTreeSet::from([Uid::from("u0")]),
        config_maps: BTreeSet::from(["default/old".to_owned()]),
        secrets: BTreeSet::new(),
        ..ShareNames::default()
    };
    golden("assignment_change", &Assignment { head: head(), body: AssignmentBody::Change { from: 6, set: share(), unset } });
    let nothing = AssignmentBody::Change { from: 6, set: Share::default(), unset: ShareNames::default() };
    golden("assignment_change_empty", &Assignment { head: head(), body: nothing });
    let labels = Some(BTreeMap::from([("disk".to_owned(), "ssd".to_owned())]));
    let set = Share { labels, ..Share::default() };
    let with_labels = AssignmentBody::Change { from: 6, set, unset: ShareNames::default() };
    golden("assignment_change_labels", &Assignment { head: head(), body: with_labels });
    let unset = ShareNames { labels: true, ..ShareNames::default() };
    let without = AssignmentBody::Change { from: 6, set: Share::default(), unset };
    golden("assignment_change_no_labels", &Assignment { head: head(), body: without });
    let part = AssignmentBody::Part { part: 1, of: 2, text: share().canonical() };
    golden("assignment_part", &Assignment { head: head(), body: part });
}

#[test]
fn what_a_node_says_of_its_pods() {
    let pod = PodReport {
        uid: Uid::from("u1"),
        namespace: "default".into(),
        name: "web-1".into(),
        generation: Generation(1),
        attempt: 3,
        status: json!({"phase": "Running", "podIP": "172.18.0.5"}),
        gone: false,
    };
    let gone = PodReport { gone: true, ..pod.clone() };
    let event = NodeEvent {
        kind: "Pod".into(),
        uid: Uid::from("u1"),
        namespace: "default".into(),
        name: "web-1".into(),
        field_path: "spec.containers{main}".into(),
        warning: true,
        reason: "BackOff".into(),
        message: "Back-off restarting failed container".into(),
    };
    let of_a_service = NodeEvent { kind: "Service".into(), uid: Uid::default(), field_path: String::new(), ..event.clone() };
    let of_the_pod = NodeEvent { field_path: String::new(), warning: false, ..event.clone() };
    let report = Report {
        v: SCHEMA,
        incarnation: 81_985_529_216_486_895,
        anew: false,
        clock: Some(NodeClock {
            shows_milliseconds: 1_796_342_400_000,
            began_milliseconds: 60_000,
            jumps: vec![ClockJump { until_milliseconds: 70_000, by_milliseconds: 1_796_342_200_000 }],
        }),
        pods: vec![pod],
        events: Vec::new(),
        volumes: Vec::new(),
    };
    golden("report", &report);
    golden("report_anew", &Report { anew: true, pods: Vec::new(), ..report.clone() });
    golden("report_gone", &Report { pods: vec![gone], events: vec![event, of_the_pod, of_a_service], ..report });
    golden("ask", &Ask { v: SCHEMA, at: Numbered { epoch: 1_000_042, number: 6 } });
}

#[test]
fn what_a_node_says_of_itself() {
    let info = Info {
        volumes_dir: String::new(),
        v: SCHEMA,
        node: "pi-1".into(),
        board: "rpi-4b".into(),
        model: "Raspberry Pi 4 Model B Rev 1.4".into(),
        operating_system: "linux".into(),
        os_image: "Debian GNU/Linux 12 (bookworm)".into(),
        kernel_version: "6.6.31+rpt-rpi-v8".into(),
        architecture: "arm64".into(),
        cpu_milli: 3900,
        cpu_capacity_milli: 4000,
        memory_bytes: 3_500_000_000,
        memory_capacity_bytes: 4_000_000_000,
        storage_bytes: 31_000_000_000,
        pods: 110,
        addresses: vec!["192.168.1.21".into()],
        host_name: "pi-1".into(),
        boot_id: "0b3c2f6e-6a1f-4c0e-9d8b-5a4f6e7d8c9b".into(),
        machine_id: "9f2b7c1d4e5a4f6b8c9d0e1f2a3b4c5d".into(),
        container_runtime: "docker://20.10.24".into(),
        bramble_version: "0.1.0".into(),
        platforms: vec!["linux/arm64".into()],
        images: vec![NodeImage { names: vec!["nginx:1".into()], size_bytes: 50_000_000 }],
        labels: BTreeMap::from([("bramble/board".to_owned(), "rpi-4b".to_owned())]),
        serial: "10000000abcdef01".into(),
        revision: "c03114".into(),
        kernel_bits: Some(64),
        boot_medium: "sd".into(),
        boot_device: "mmcblk0".into(),
        card_name: "SC32G".into(),
        card_date: "03/2021".into(),
        card_manufacturer_id: "0x000003".into(),
        card_serial: "0x1f2e3d4c".into(),
        rtc: Some(false),
        memory_cgroup: Some(true),
        system_uuid: "4c4c4544-0042".into(),
        resources: BTreeMap::new(),
        resources_taken: BTreeMap::new(),
        wireguard: String::new(),
        network: false,
    };
    golden("info", &info);
    golden("info_network", &Info { network: true, ..info.clone() });
    golden("info_wireguard", &Info { wireguard: "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=:6264".into(), ..info.clone() });
    let counts = |name: &str| BTreeMap::from([(name.to_owned(), 1)]);
    let plugged =
        Info { resources: counts("bramble/serial"), resources_taken: counts("bramble/serial-usb-zigbee-if00"), ..info.clone() };
    golden("info_devices", &plugged);
    let plain = Health {
        v: SCHEMA,
        time: "2026-11-22T21:47:08Z".into(),
        boot_id: info.boot_id,
        uptime_seconds: 86_400,
        load_1m: 0.25,
        cpu_percent: 12.5,
        memory_total_bytes: 4_000_000_000,
        memory_available_bytes: 3_000_000_000,
        disk_total_bytes: 31_000_000_000,
        disk_available_bytes: 20_000_000_000,
        ready: true,
        pods: 3,
        at: Numbered { epoch: 1_000_042, number: 7 },
        pods_digest: "44136fa355b3678a1146ad16f7e8649e".into(),
        incarnation: 81_985_529_216_486_895,
        ..Health::default()
    };
    golden("health", &plain);
    let full = Health {
        temperature_celsius: Some(61.5),
        throttled: Some(true),
        under_voltage: Some(false),
        hot: Some(false),
        firmware_throttled: Some("0x50004".into()),
        under_voltage_since_boot: Some(true),
        frequency_capped_since_boot: Some(false),
        throttled_since_boot: Some(true),
        soft_temperature_limit_since_boot: Some(false),
        cpu_mhz: Some(600),
        cpu_max_mhz: Some(1500),
        boot_disk_written_bytes: Some(1 << 30),
        boot_disk_written_total_bytes: Some(1 << 40),
        emmc_life_used_percent: Some(10),
        emmc_spare: Some("normal".into()),
        wifi_signal_dbm: Some(-56),
        wifi_power_save: Some(true),
        time_synchronized: Some(true),
        agent_written_bytes: Some(4096),
        ready: false,
        not_ready_because: Some("Docker does not answer".into()),
        memory_pressure: true,
        disk_pressure: true,
        disk_pressure_because: Some("the disk with images and containers has little room left".into()),
        pid_pressure: true,
        foreign_store: Some("other".into()),
        ..plain
    };
    golden("health_full", &full);
}

#[test]
fn what_passes_in_a_call() {
    let logs = LogRequest {
        pod_uid: "u1".into(),
        container: "main".into(),
        follow: true,
        previous: false,
        tail_lines: Some(10),
        limit_bytes: None,
        since_seconds: Some(60),
        timestamps: true,
    };
    golden("call_request", &CallRequest { v: SCHEMA, body: CallBody::Logs(logs), credit: 262_144 });
    let image = ImageQuestion { image: "nginx:1".into(), secrets: vec![json!({"type": "kubernetes.io/dockercfg"})] };
    let body = CallBody::Ask(Question::ImagePlatforms(image));
    golden("call_image", &CallRequest { v: SCHEMA, body, credit: 262_144 });
    golden("call_ask", &CallRequest { v: SCHEMA, body: CallBody::Ask(Question::Stats), credit: 262_144 });
    let identify = CallBody::Ask(Question::Identify(IdentifyQuestion { seconds: 60 }));
    golden("call_identify", &CallRequest { v: SCHEMA, body: identify, credit: 262_144 });
    for (identified, text) in [
        (Identified { leds: 8, unlit: None }, r#"{"leds":8}"#),
        (Identified { leds: 0, unlit: Some("it has none".into()) }, r#"{"leds":0,"unlit":"it has none"}"#),
    ] {
        assert_eq!(serde_json::to_string(&identified).unwrap(), text);
        assert_eq!(serde_json::from_str::<Identified>(text).unwrap(), identified);
    }
    golden("credit", &Credit { v: SCHEMA, bytes: Some(24_576) });
    golden("credit_end", &Credit { v: SCHEMA, bytes: None });
    golden("frame", &StreamFrame { v: SCHEMA, sequence: 0, data: "bGluZSAxCg==".into(), end: None });
    golden("frame_done", &StreamFrame { v: SCHEMA, sequence: 1, data: String::new(), end: Some(End::Done) });
    let error = End::Error(CallError::NotFound("container nobody is not one of this pod's".into()));
    golden("frame_error", &StreamFrame { v: SCHEMA, sequence: 1, data: String::new(), end: Some(error) });
}

/// Names of fields that a newer node or master may add are passed over, so that both need not be replaced at once.
#[test]
fn what_a_newer_one_says_besides_is_passed_over() {
    let text = r#"{"v":1,"epoch":3,"number":4,"colour":"red"}"#;
    assert_eq!(decode::<Ask>(text.as_bytes()).unwrap(), Ask { v: SCHEMA, at: Numbered { epoch: 3, number: 4 } });
}
