//! The master against Debian's Mosquitto as the external broker: a whole cluster, lost and returning nodes included.

use std::time::{Duration, Instant};

use super::client::Mqtt;
use super::daemon::agent;
use super::mosquitto::{installed, master, mosquitto};
use super::support::{Cluster, deployment, is_ready, summary, wait_until};

const SOON: Duration = Duration::from_secs(20);
const BASE: &str = "bramble/bramble";

/// How often each node was lost.
fn lost(cluster: &Cluster) -> std::collections::BTreeMap<String, u64> {
    let events = cluster.get(&["events", "-A", "--field-selector", "reason=NodeNotReady"]);
    let mut lost = std::collections::BTreeMap::new();
    for event in events["items"].as_array().unwrap() {
        let node = event["involvedObject"]["name"].as_str().unwrap().to_owned();
        *lost.entry(node).or_default() += event["count"].as_u64().unwrap_or(1);
    }
    lost
}

#[test]
fn a_whole_cluster_runs_over_mosquitto() {
    if !installed() {
        return;
    }
    let cluster = Cluster::started(&["--runtime", "simulated", "--nodes", "2"]);
    cluster.bramble(["stop"]).expect();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let broker = mosquitto(&cluster, port);
    let _master = master(&cluster, port);
    let _one = agent(&cluster, "bramble-1", port);
    let two = agent(&cluster, "bramble-2", port);
    let ready = |node: &str, wanted: bool| {
        wait_until(&format!("{node} ready: {wanted}"), SOON, || {
            let nodes = cluster.kubectl(&["get", "node", node, "--no-headers"]).out;
            if nodes.contains(" Ready ") == wanted && !nodes.is_empty() { Ok(()) } else { Err(nodes) }
        });
    };
    ready("bramble-1", true);
    ready("bramble-2", true);
    // The cluster before this broker may have been stopped in an order of its own.
    let lost_before = lost(&cluster);

    // A deployment, more of it, and its logs.
    cluster.apply(&deployment("web", 4, "web:1", ""));
    let pods = cluster.wait_ready("app=web", 4, SOON);
    let on = |pods: &[serde_json::Value], node: &str| pods.iter().filter(|pod| pod["spec"]["nodeName"] == node).count();
    assert_eq!((on(&pods, "bramble-1"), on(&pods, "bramble-2")), (2, 2), "{}", summary(&pods));
    cluster.kubectl(&["scale", "deployment", "web", "--replicas=6"]).expect();
    let pods = cluster.wait_ready("app=web", 6, SOON);
    for node in ["bramble-1", "bramble-2"] {
        let pod = pods.iter().find(|pod| pod["spec"]["nodeName"] == node).unwrap();
        let log = cluster.kubectl(&["logs", pod["metadata"]["name"].as_str().unwrap()]).expect();
        assert!(log.contains("web:1"), "{log}");
    }

    // The printed rules hold: what is another's is refused or not delivered.
    let mut node = Mqtt::node(&cluster.dir, "bramble-1", "bramble-1-test", port).unwrap();
    for topic in ["nodes/bramble-2/up/report", "nodes/bramble-2/availability", "nodes/bramble-1/down/head", "bridge/state"] {
        assert!(!node.publish(&format!("{BASE}/{topic}"), "offline", true), "{topic}");
    }
    for filter in ["nodes/+/down/#", "nodes/bramble-2/#", "#"] {
        node.subscribe(&format!("{BASE}/{filter}"));
    }
    cluster.kubectl(&["scale", "deployment", "web", "--replicas=8"]).expect();
    cluster.wait_ready("app=web", 8, SOON);
    let heard = node.heard(Duration::from_millis(500));
    assert!(heard.iter().all(|message| message.topic.contains("nodes/bramble-1/")), "{heard:?}");
    drop(node);

    // A node is lost: Mosquitto tells its will, and its pods go elsewhere.
    let lost_at = Instant::now();
    two.kill();
    wait_until("eight ready pods on the other node", Duration::from_secs(40), || {
        let pods = cluster.pods("app=web");
        let elsewhere = pods.iter().filter(|pod| pod["spec"]["nodeName"] == "bramble-1" && is_ready(pod)).count();
        if elsewhere == 8 { Ok(()) } else { Err(summary(&pods)) }
    });
    println!("replaced {:.1} s after the kill", lost_at.elapsed().as_secs_f64());
    ready("bramble-2", false);
    let _two = agent(&cluster, "bramble-2", port);
    ready("bramble-2", true);
    let before = cluster.wait_ready("app=web", 8, SOON);

    // The broker is restarted, and nothing that it kept is left: everybody comes back and nobody is moved.
    broker.kill();
    std::thread::sleep(Duration::from_secs(1));
    let from = Instant::now();
    let _broker = mosquitto(&cluster, port);
    cluster.kubectl(&["scale", "deployment", "web", "--replicas=10"]).expect();
    cluster.wait_ready("app=web", 10, Duration::from_secs(30));
    println!("a change came through {:.1} s after the broker's restart", from.elapsed().as_secs_f64());

    // Between two of its words a living node is not taken for lost: each speaks every 10 s only.
    std::thread::sleep(Duration::from_secs(15));
    let after = cluster.wait_ready("app=web", 10, SOON);
    let kept = before.iter().filter(|old| after.iter().any(|new| new["metadata"]["uid"] == old["metadata"]["uid"])).count();
    assert_eq!(kept, 8, "no pod was replaced");
    let mut wanted = lost_before;
    *wanted.entry("bramble-2".to_owned()).or_default() += 1;
    assert_eq!(lost(&cluster), wanted, "only the killed one was lost, once");
}
