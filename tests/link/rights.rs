//! Who may what on our broker, with the certificates that `bramble start` gave to two nodes; and a last will that comes late.

use std::time::{Duration, Instant};

use super::client::Mqtt;
use super::daemon::port_of;
use super::support::{Cluster, deployment, wait_until};

const BASE: &str = "bramble/bramble";
const SOON: Duration = Duration::from_secs(20);
/// Longer than a message takes on loopback.
const A_MOMENT: Duration = Duration::from_millis(700);

#[test]
fn a_node_neither_reads_nor_writes_what_is_anothers_and_a_viewer_writes_nothing() {
    let cluster = Cluster::started(&["--runtime", "simulated", "--nodes", "2"]);
    let (tls, plain) = (port_of(&cluster, "mqtts"), port_of(&cluster, "mqtt"));
    let mut node = Mqtt::node(&cluster.dir, "bramble-1", "bramble-1-test", tls).unwrap();

    // Another's name is refused at the door, and takes nobody's session over.
    for stolen in ["bramble-2", "bramble-master", "somebody"] {
        assert!(Mqtt::node(&cluster.dir, "bramble-1", stolen, tls).is_err(), "{stolen}");
    }

    // Writing: each of another's topics, and what is the master's to say, also about this node itself.
    let mut forbidden: Vec<String> =
        ["availability", "info", "health", "up/report", "up/ask", "up/leds", "up/call/1/data", "down/head", "down/assignment"]
            .iter()
            .map(|last| format!("{BASE}/nodes/bramble-2/{last}"))
            .collect();
    forbidden.extend(
        ["down/head", "down/assignment", "down/ask", "other"].iter().map(|last| format!("{BASE}/nodes/bramble-1/{last}")),
    );
    forbidden.extend(["bridge/state", "bridge/request/scale", "pods/default/web"].iter().map(|last| format!("{BASE}/{last}")));
    forbidden.extend(["homeassistant/sensor/x/config", "bramble/other/nodes/bramble-1/health", "elsewhere"].map(str::to_owned));
    for topic in &forbidden {
        assert!(!node.publish(topic, "offline", false), "{topic} was taken");
        assert!(!node.publish(topic, "offline", true), "{topic} was taken and kept");
    }

    // Reading: refused, and nothing arrives, though something passes there.
    for filter in ["#", "bramble/#", "+/+/nodes/+/down/#"] {
        assert!(!node.subscribe(filter), "{filter}");
    }
    for last in [
        "nodes/#",
        "nodes/+/down/#",
        "nodes/bramble-2/#",
        "nodes/bramble-2/down/head",
        "nodes/bramble-2/availability",
        "nodes/bramble-1/#",
        "pods/#",
    ] {
        assert!(!node.subscribe(&format!("{BASE}/{last}")), "{last}");
    }
    let mut viewer = Mqtt::viewer(plain);
    assert!(viewer.subscribe(&format!("{BASE}/#")));
    for filter in ["nodes/+/down/#", "nodes/bramble-2/down/head", "nodes/bramble-2/up/call/#"] {
        assert!(!viewer.subscribe(&format!("{BASE}/{filter}")), "{filter}");
    }
    cluster.kubectl(&["create", "secret", "generic", "door", "--from-literal=code=swordfish"]).expect();
    let env = "        envFrom: [{secretRef: {name: door}}]\n";
    cluster.apply(&deployment("web", 4, "web:1", env));
    cluster.wait_ready("app=web", 4, SOON);
    let others = node.heard(A_MOMENT);
    assert!(others.is_empty(), "a node reads what is not its own: {others:?}");
    let seen = viewer.heard(A_MOMENT);
    assert!(seen.iter().any(|message| message.topic.ends_with("nodes/bramble-2/health")), "the viewer sees how nodes are");
    for message in &seen {
        let text = String::from_utf8_lossy(&message.payload);
        assert!(!message.topic.contains("/down/") && !text.contains("swordfish"), "{}: {text}", message.topic);
    }

    // The viewer may read all that and write none of it, and be called as a node without being one.
    for topic in
        ["nodes/bramble-1/availability", "nodes/bramble-1/up/report", "nodes/bramble-1/down/head", "bridge/request/scale", "x"]
    {
        assert!(!viewer.publish(&format!("{BASE}/{topic}"), "offline", true), "{topic}");
    }
    // Nothing of all that was believed.
    let nodes = cluster.kubectl(&["get", "nodes", "--no-headers"]).expect();
    assert_eq!(nodes.matches(" Ready ").count(), 2, "{nodes}");
    cluster.wait_ready("app=web", 4, SOON);
}

#[test]
fn a_late_last_will_does_not_mark_a_living_node_offline_for_good() {
    let cluster = Cluster::started(&["--runtime", "simulated", "--nodes", "2"]);
    cluster.apply(&deployment("web", 4, "web:1", ""));
    let before = cluster.wait_ready("app=web", 4, SOON);
    let mut viewer = Mqtt::viewer(port_of(&cluster, "mqtt"));
    let topic = format!("{BASE}/nodes/bramble-1/availability");
    assert!(viewer.subscribe(&topic));
    let mut late = Mqtt::node(&cluster.dir, "bramble-1", "bramble-1-old", port_of(&cluster, "mqtts")).unwrap();
    let from = Instant::now();
    assert!(late.publish(&topic, "offline", true));
    let mut last = String::new();
    wait_until("the node contradicts", SOON, || {
        last = viewer
            .heard(Duration::from_millis(100))
            .pop()
            .map_or(last.clone(), |message| String::from_utf8(message.payload).unwrap());
        let nodes = cluster.kubectl(&["get", "node", "bramble-1", "--no-headers"]).out;
        if last == "online" && nodes.contains(" Ready ") { Ok(()) } else { Err(format!("{last}, {nodes}")) }
    });
    println!("online and Ready again after {:.1} s", from.elapsed().as_secs_f64());
    // For longer than it would take to be evicted, it stays so, and so do its pods.
    std::thread::sleep(Duration::from_secs(10));
    let after = cluster.wait_ready("app=web", 4, SOON);
    let uids = |pods: &[serde_json::Value]| {
        let mut uids: Vec<String> = pods.iter().map(|pod| pod["metadata"]["uid"].to_string()).collect();
        uids.sort();
        uids
    };
    assert_eq!(uids(&before), uids(&after), "no pod was replaced");
    let taints = cluster.get(&["node", "bramble-1"])["spec"]["taints"].clone();
    assert!(taints.is_null() || taints.as_array().is_some_and(Vec::is_empty), "{taints}");

    // Who is deleted while it lives registers again, as a kubelet does.
    let from = Instant::now();
    cluster.kubectl(&["delete", "node", "bramble-2"]).expect();
    wait_until("bramble-2 registers again", SOON, || {
        let nodes = cluster.kubectl(&["get", "nodes", "--no-headers"]).out;
        if nodes.lines().any(|line| line.starts_with("bramble-2 ") && line.contains(" Ready ")) { Ok(()) } else { Err(nodes) }
    });
    println!("registered again after {:.1} s", from.elapsed().as_secs_f64());
    cluster.wait_ready("app=web", 4, SOON);
}
