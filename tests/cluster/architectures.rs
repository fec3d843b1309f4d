//! A shelf of boards of several architectures: who gets which image, and what is said where none fits.

use serde_json::Value;

use super::support::{Cluster, deployment, summary, wait_until};
use super::{SOON, agents};

/// A board with a 32-bit ARM, from a file of its owner's.
const PI_2: &str = r#"name = "rpi-2b"
title = "Raspberry Pi 2 Model B"
instance_type = "raspberry-pi-2b"
match = []
target = "armv7-unknown-linux-musleabihf"
hot_celsius = 80.0

[reserved]
cpu_milli = 100
memory_mib = 100

[simulated]
cpus = 4
memory_mib = 1024
pull_milliseconds = 400
"#;

/// `bramble-1` is a PC, `bramble-2` a Pi of 64 bits, `bramble-3` one of 32.
const SHELF: [(&str, &str); 3] = [("bramble-1", "amd64"), ("bramble-2", "arm64"), ("bramble-3", "arm")];

/// What the pod's only container waits for: reason and message.
fn waits_for(pod: &Value) -> (&str, &str) {
    let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
    (waiting["reason"].as_str().unwrap_or_default(), waiting["message"].as_str().unwrap_or_default())
}

/// Waits for an event about a pod that says all of this.
fn told(cluster: &Cluster, pod: &str, reason: &str, parts: &[&str]) {
    wait_until(&format!("{reason} of {pod}: {parts:?}"), SOON, || {
        let selector = format!("--field-selector=involvedObject.name={pod},reason={reason}");
        let said = cluster.kubectl(&["get", "events", &selector, "-o", "jsonpath={range .items[*]}{.message}{\"\\n\"}{end}"]).out;
        if said.lines().any(|line| parts.iter().all(|part| line.contains(part))) { Ok(()) } else { Err(said) }
    });
}

#[test]
fn a_pod_comes_to_a_board_that_its_image_is_made_for() {
    let cluster = Cluster::started(&["--runtime", "simulated", "--nodes", "3"]);
    let folder = tempfile::tempdir().unwrap();
    let pi_2 = folder.path().join("rpi-2b.toml");
    std::fs::write(&pi_2, PI_2).unwrap();
    let _agents = [("bramble-2", "rpi-4b"), ("bramble-3", pi_2.to_str().unwrap())]
        .map(|(node, board)| agents::anew(&cluster, node, &[("BRAMBLE_BOARD", board)]));
    wait_until("three architectures are shown", SOON, || {
        let table = cluster.kubectl(&["get", "nodes", "-L", "kubernetes.io/arch"]).out;
        let shown = |node: &str, architecture: &str| {
            table.lines().any(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                words.first() == Some(&node) && words.get(1) == Some(&"Ready") && words.last() == Some(&architecture)
            })
        };
        if SHELF.iter().all(|(node, architecture)| shown(node, architecture)) { Ok(()) } else { Err(table) }
    });

    // More pods than would come to one node by chance. A Pi of 64 bits runs what is made for one of 32, not the other way round.
    let kinds = [("amd64", &["bramble-1"][..]), ("arm64", &["bramble-2"]), ("armv7", &["bramble-2", "bramble-3"])];
    for (kind, _) in kinds {
        cluster.apply(&deployment(kind, 5, &format!("tool:1-{kind}"), ""));
    }
    for (kind, fitting) in kinds {
        let pods = cluster.wait_ready(&format!("app={kind}"), 5, SOON);
        let astray = |pod: &Value| pod["spec"]["nodeName"].as_str().is_none_or(|node| !fitting.contains(&node));
        assert!(!pods.iter().any(astray), "{kind} runs on {fitting:?} only: {}", summary(&pods));
    }

    no_board_fits(&cluster);
    a_board_refuses_what_the_scheduler_did_not_place(&cluster);
}

/// The PC takes no more pods: what is made for it waits, with words, until it does again.
fn no_board_fits(cluster: &Cluster) {
    cluster.kubectl(&["cordon", "bramble-1"]).expect();
    cluster.apply("apiVersion: v1\nkind: Pod\nmetadata: {name: late, labels: {app: late}}\nspec: {containers: [{name: main, image: 'late:1-amd64'}]}\n");
    let why =
        ["0/3 nodes are available", "1 node(s) were unschedulable", "2 node(s) had an architecture the image is not made for"];
    told(cluster, "late", "FailedScheduling", &why);
    let pod = cluster.get(&["pod", "late"]);
    assert_eq!((pod["status"]["phase"].as_str(), &pod["spec"]["nodeName"]), (Some("Pending"), &Value::Null));
    let scheduled = pod["status"]["conditions"].as_array().into_iter().flatten().find(|one| one["type"] == "PodScheduled");
    let message = scheduled.and_then(|one| one["message"].as_str()).unwrap_or_default();
    assert!(why.iter().all(|part| message.contains(part)), "{message}");

    cluster.kubectl(&["uncordon", "bramble-1"]).expect();
    let pods = cluster.wait_ready("app=late", 1, SOON);
    assert_eq!(pods[0]["spec"]["nodeName"], "bramble-1");
}

/// A pod that names its node passes no scheduler: the node itself says why it does not run it.
fn a_board_refuses_what_the_scheduler_did_not_place(cluster: &Cluster) {
    for (node, image, why) in [
        ("bramble-2", "bound:1-amd64", "is for linux/amd64 only; this node is linux/arm64"),
        ("bramble-3", "bound:1-arm64", "is for linux/arm64 only; this node is linux/arm/v7"),
    ] {
        let name = format!("bound-{node}");
        cluster.apply(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{nodeName: {node}, containers: [{{name: main, image: '{image}'}}]}}\n"
        ));
        wait_until(&format!("{node} refuses {image}"), SOON, || {
            let pod = cluster.get(&["pod", &name]);
            let (reason, message) = waits_for(&pod);
            let refused = ["ErrImagePull", "ImagePullBackOff"].contains(&reason) && message.contains(why);
            if refused && pod["status"]["phase"] == "Pending" { Ok(()) } else { Err(pod["status"].to_string()) }
        });
        told(cluster, &name, "Failed", &["Failed to pull image", image, why]);
    }
}
