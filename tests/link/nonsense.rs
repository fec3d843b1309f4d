//! What a node's own certificate allows and no agent of ours would say: nothing comes of it, and everything goes on.

use std::time::Duration;

use serde_json::{Value, json};

use super::client::Mqtt;
use super::daemon::port_of;
use super::support::{Cluster, deployment, lives, signal, wait_until};

const BASE: &str = "bramble/bramble";
const SOON: Duration = Duration::from_secs(20);

/// What a node last said of its health.
fn health(viewer: &mut Mqtt, node: &str) -> Value {
    let topic = format!("{BASE}/nodes/{node}/health");
    // To subscribe again brings what is kept.
    assert!(viewer.subscribe(&topic));
    let newest = viewer.heard(Duration::from_millis(300)).into_iter().rfind(|message| message.topic == topic);
    serde_json::from_slice(&newest.expect("health is kept").payload).unwrap()
}

/// Everything that must not change: pods without the moments, nodes without heartbeats, events of pods.
fn picture(cluster: &Cluster) -> Vec<String> {
    let mut all = Vec::new();
    for pod in cluster.pods("app=web") {
        all.push(format!(
            "{} {} {} {}",
            pod["metadata"]["uid"], pod["metadata"]["resourceVersion"], pod["spec"]["nodeName"], pod["status"]
        ));
    }
    for node in cluster.get(&["nodes"])["items"].as_array().unwrap() {
        let conditions: Vec<String> = node["status"]["conditions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|condition| format!("{}={}", condition["type"], condition["status"]))
            .collect();
        all.push(format!(
            "{} {} {} {conditions:?}",
            node["metadata"]["name"], node["metadata"]["labels"], node["status"]["capacity"]
        ));
    }
    for event in cluster.get(&["events", "-A"])["items"].as_array().unwrap() {
        all.push(format!("{} {} {}", event["involvedObject"]["name"], event["reason"], event["message"]));
    }
    all.sort();
    all
}

fn log(cluster: &Cluster) -> String {
    std::fs::read_to_string(cluster.dir.join("logs/master.log")).unwrap()
}

#[test]
fn nonsense_of_a_node_changes_nothing_is_counted_and_the_cluster_goes_on() {
    let cluster = Cluster::started(&["--runtime", "simulated", "--nodes", "2"]);
    let (tls, plain) = (port_of(&cluster, "mqtts"), port_of(&cluster, "mqtt"));
    cluster.apply(&deployment("web", 4, "web:1", ""));
    cluster.wait_ready("app=web", 4, SOON);
    let mut viewer = Mqtt::viewer(plain);

    // A second life of the agent, so that there is an older one to speak for.
    let older = health(&mut viewer, "bramble-1")["incarnation"].as_u64().unwrap();
    let pid = cluster.agent_pid("bramble-1");
    signal(pid, "TERM");
    wait_until("the agent ends", SOON, || if lives(pid) { Err("it lives".to_owned()) } else { Ok(()) });
    cluster.start(&[]).expect();
    cluster.wait_ready("app=web", 4, SOON);
    let newer = wait_until("the new agent's health", SOON, || {
        let said = health(&mut viewer, "bramble-1");
        let incarnation = said["incarnation"].as_u64().unwrap();
        if incarnation != older && said["pods"] == 2 { Ok(incarnation) } else { Err(said.to_string()) }
    });
    std::thread::sleep(Duration::from_secs(2));
    let before = picture(&cluster);

    let pods = cluster.pods("app=web");
    let on = |node: &str| pods.iter().find(|pod| pod["spec"]["nodeName"] == node).unwrap();
    let (own, foreign) = (on("bramble-1"), on("bramble-2"));
    let report = |incarnation: u64, pod: &Value, uid: &Value, attempt: u64, status: Value, gone: bool| {
        let pod = json!({"uid": uid, "namespace": "default", "name": pod["metadata"]["name"], "generation": 1, "attempt": attempt, "status": status, "gone": gone});
        json!({"v": 1, "incarnation": incarnation, "pods": [pod]}).to_string().into_bytes()
    };
    let failed = || json!({"phase": "Failed", "message": "nonsense"});
    let uid = |pod: &Value| pod["metadata"]["uid"].clone();
    let event = |pod: &Value, namespace: &str| {
        json!({"v": 1, "incarnation": newer, "events": [{"uid": pod["metadata"]["uid"], "namespace": namespace, "name": pod["metadata"]["name"],
            "warning": true, "reason": "Nonsense", "message": "nonsense"}]}).to_string().into_bytes()
    };
    let mut random = 1u64;
    let mut noise = |count: usize| -> Vec<u8> {
        (0..count)
            .map(|_| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (random >> 33) as u8
            })
            .collect()
    };
    let mut said: Vec<(&str, &str, Vec<u8>)> = Vec::new();
    for topic in ["up/report", "health", "info", "up/ask"] {
        said.extend((0..5).map(|_| ("noise", topic, noise(200))));
        said.push(("over-long", topic, noise(100_000)));
        said.push((
            "over-long JSON",
            topic,
            json!({"v": 1, "incarnation": newer, "node": "bramble-1", "text": "x".repeat(100_000)}).to_string().into_bytes(),
        ));
        said.push((
            "another schema",
            topic,
            json!({"v": 99, "incarnation": newer, "node": "bramble-1", "pods": []}).to_string().into_bytes(),
        ));
        said.push(("no schema", topic, b"{}".to_vec()));
        said.push(("half", topic, br#"{"v":1,"incarnation":"#.to_vec()));
        said.push(("deep", topic, [b"[".repeat(30_000), b"]".repeat(30_000)].concat()));
    }
    said.push(("somebody else's info", "info", json!({"v": 1, "node": "bramble-2", "cpu_milli": 1}).to_string().into_bytes()));
    said.push((
        "an older life's health",
        "health",
        json!({"v": 1, "incarnation": older, "ready": false, "disk_pressure": true}).to_string().into_bytes(),
    ));
    said.push(("an older life's report", "up/report", report(older, own, &uid(own), 1_000_000, failed(), false)));
    said.push(("an older state", "up/report", report(newer, own, &uid(own), 0, failed(), false)));
    said.push(("another node's pod", "up/report", report(newer, foreign, &uid(foreign), 1_000_000, failed(), false)));
    said.push(("another node's pod gone", "up/report", report(newer, foreign, &uid(foreign), 1_000_001, failed(), true)));
    said.push((
        "a pod of this name that is another",
        "up/report",
        report(newer, own, &json!("0-0-0"), 1_000_000, failed(), false),
    ));
    let nobody = json!({"metadata": {"name": "nobody", "uid": "1-2-3"}});
    said.push(("a pod that does not exist", "up/report", report(newer, &nobody, &uid(&nobody), 1, failed(), false)));
    said.push((
        "gone, though nobody deletes it",
        "up/report",
        report(newer, own, &uid(own), 1_000_000, own["status"].clone(), true),
    ));
    said.push((
        "a status that is none",
        "up/report",
        report(newer, own, &uid(own), 1_000_001, json!({"phase": "Running", "containerStatuses": 7, "podIP": {}}), false),
    ));
    said.push(("an event about another node's pod", "up/report", event(foreign, "default")));
    said.push(("an event about nobody", "up/report", event(&nobody, "no/such namespace")));

    let mut node = Mqtt::node(&cluster.dir, "bramble-1", "bramble-1-test", tls).unwrap();
    for (what, topic, payload) in &said {
        assert!(node.publish(&format!("{BASE}/nodes/bramble-1/{topic}"), payload.clone(), false), "{what}");
    }
    // Wait until all of it was looked at: the dispatcher takes one after the other, the agent's own next health too.
    std::thread::sleep(Duration::from_secs(2));
    let after = picture(&cluster);
    let new: Vec<&String> = after.iter().filter(|line| !before.contains(line)).collect();
    let lost: Vec<&String> = before.iter().filter(|line| !after.contains(line)).collect();
    assert!(new.is_empty() && lost.is_empty(), "new: {new:#?}\nlost: {lost:#?}");

    let log = log(&cluster);
    let told = |words: &str| log.lines().filter(|line| line.contains(words)).count();
    for words in ["not understood and dropped", "out of date and dropped", "not this node's and dropped"] {
        let lines = told(words);
        // Counted, and told at each doubling only.
        assert!((1..=7).contains(&lines), "{words}: {lines} lines of {} messages\n{log}", said.len());
    }

    // The cluster goes on: a life that never was, too, is overcome when the agent speaks again.
    let bogus = report(4711, own, &uid(own), 1, json!({"phase": "Pending"}), false);
    assert!(node.publish(&format!("{BASE}/nodes/bramble-1/up/report"), bogus, false));
    cluster.kubectl(&["scale", "deployment", "web", "--replicas=6"]).expect();
    cluster.wait_ready("app=web", 6, SOON);
    cluster.kubectl(&["delete", "pods", "-l", "app=web", "--wait=false"]).expect();
    let again = cluster.wait_ready("app=web", 6, SOON);
    assert!(again.iter().all(|pod| !pods.iter().any(|old| old["metadata"]["uid"] == pod["metadata"]["uid"])));
}
