//! A board that gets too little power: its file says so, and so does its node, until it is well again.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::SOON;
use super::agents;
use super::support::{Cluster, wait_until};

const THROTTLED: &str = "sys/devices/platform/soc/soc:firmware/get_throttled";

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// The condition's status, reason and time.
fn condition(node: &Value, kind: &str) -> Option<(String, String, String)> {
    let conditions = node["status"]["conditions"].as_array()?;
    let one = conditions.iter().find(|one| one["type"] == kind)?;
    let text = |field: &str| one[field].as_str().unwrap_or_default().to_owned();
    Some((text("status"), text("reason"), text("lastTransitionTime")))
}

#[test]
fn a_node_tells_of_a_weak_supply_and_of_heat_until_it_is_well_again() {
    let cluster = Cluster::started(&["--runtime", "simulated", "--nodes", "2"]);
    let tree = tempfile::tempdir().unwrap();
    let root = tree.path();
    write(root, THROTTLED, "0\n");
    write(root, "sys/class/thermal/thermal_zone0/type", "cpu-thermal\n");
    write(root, "sys/class/thermal/thermal_zone0/temp", "45000\n");
    write(root, "proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\0");
    write(root, "proc/sys/kernel/random/boot_id", "0b3c2f6e-6a1f-4c0e-9d8b-5a4f6e7d8c9b\n");
    let settings = [("BRAMBLE_HEALTH__ROOT", root.to_str().unwrap()), ("BRAMBLE_HEALTH__CLEAR_SECONDS", "3")];
    let _agent = agents::anew(&cluster, "bramble-1", &settings);
    let becomes = |kind: &str, status: &str| {
        let what = format!("{kind} is {status}");
        wait_until(&what, SOON, || {
            let found = condition(&cluster.get(&["node", "bramble-1"]), kind);
            found.clone().filter(|(is, ..)| is == status).ok_or_else(|| format!("{found:?}"))
        })
    };
    let events = |reason: &str| {
        let all = cluster.get(&["events", "--field-selector", &format!("involvedObject.kind=Node,reason={reason}")]);
        let events = all["items"].as_array().cloned().unwrap_or_default();
        let told = events.iter().map(|event| (event["type"].as_str().unwrap_or_default().to_owned(), event["count"].as_i64()));
        told.collect::<Vec<_>>()
    };
    let (_, reason, well_since) = becomes("UnderVoltage", "False");
    assert_eq!(reason, "PowerSupplyIsEnough");
    becomes("Hot", "False");
    assert_eq!(events("UnderVoltage"), [], "nothing has come yet");
    assert_eq!(condition(&cluster.get(&["node", "bramble-2"]), "UnderVoltage"), None, "it has no such sensor");

    // Times have whole seconds: the next one shows that it is another.
    std::thread::sleep(Duration::from_millis(1100));
    write(root, THROTTLED, "50005\n");
    let began = std::time::Instant::now();
    let (_, reason, since) = becomes("UnderVoltage", "True");
    assert!(began.elapsed() < Duration::from_secs(8), "sooner than the next health: {:?}", began.elapsed());
    assert_eq!(reason, "PowerSupplyTooWeak");
    assert!(since > well_since, "{since} {well_since}");
    becomes("Throttled", "True");
    wait_until("the event", SOON, || {
        let told = events("UnderVoltage");
        if told == [("Warning".to_owned(), Some(1))] { Ok(()) } else { Err(format!("{told:?}")) }
    });
    let described = cluster.kubectl(&["describe", "node", "bramble-1"]).expect();
    for words in ["UnderVoltage", "less than 4.63 V", "Warning  UnderVoltage"] {
        assert!(described.contains(words), "{words} in\n{described}");
    }

    // Nonsense, twice, and the good file again: it is what it was, and the agent lives.
    for nonsense in ["", "\u{0}\u{0}garbage", &"f".repeat(100_000)] {
        write(root, THROTTLED, nonsense);
        std::thread::sleep(Duration::from_millis(2500));
    }
    becomes("UnderVoltage", "Unknown");
    write(root, THROTTLED, "50000\n");
    becomes("UnderVoltage", "False");
    becomes("Throttled", "False");

    write(root, "sys/class/thermal/thermal_zone0/temp", "91000\n");
    assert_eq!(becomes("Hot", "True").1, "TooHot");
    write(root, "sys/class/thermal/thermal_zone0/temp", "50000\n");
    becomes("Hot", "False");
    wait_until("the event of its end", SOON, || {
        let told = events("CoolEnough");
        if told == [("Normal".to_owned(), Some(1))] { Ok(()) } else { Err(format!("{told:?}")) }
    });
    assert!(condition(&cluster.get(&["node", "bramble-1"]), "Ready").is_some_and(|(status, ..)| status == "True"));
}
