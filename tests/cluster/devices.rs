//! A stick is moved from one node to another, and its pod follows.

use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::Value;

use super::SOON;
use super::agents::{self, Agent};
use super::support::{Cluster, deployment, is_ready, summary, wait_until};

const STICK: &str = "bramble/serial-usb-ITead_Sonoff_Zigbee-if00";

/// The node's agent anew, looking for its devices in a tree of the test's.
fn looking_at(cluster: &Cluster, node: &str, root: &Path) -> Agent {
    agents::anew(cluster, node, &[("BRAMBLE_DEVICES__ENABLED", "true"), ("BRAMBLE_DEVICES__ROOT", root.to_str().unwrap())])
}

fn plug(root: &Path) {
    // Any character device does: nothing opens it on a simulated node.
    symlink("/dev/null", root.join("dev/ttyUSB0")).unwrap();
    std::fs::create_dir_all(root.join("dev/serial/by-id")).unwrap();
    symlink("../../ttyUSB0", root.join("dev/serial/by-id/usb-ITead_Sonoff_Zigbee-if00")).unwrap();
}

/// As udev does when the last stick goes.
fn unplug(root: &Path) {
    std::fs::remove_dir_all(root.join("dev/serial")).unwrap();
    std::fs::remove_file(root.join("dev/ttyUSB0")).unwrap();
}

#[test]
fn a_stick_that_is_moved_takes_its_pod_along() {
    let cluster = Cluster::started(&["--runtime", "simulated", "--nodes", "2"]);
    let trees = tempfile::tempdir().unwrap();
    let roots = ["bramble-1", "bramble-2"].map(|node| trees.path().join(node));
    let _agents = [0, 1].map(|at| {
        std::fs::create_dir_all(roots[at].join("dev")).unwrap();
        looking_at(&cluster, &format!("bramble-{}", at + 1), &roots[at])
    });
    let offers = |node: &str, wanted: Option<&str>| {
        wait_until(&format!("{node} offers {wanted:?}"), SOON, || {
            let node = cluster.get(&["node", node]);
            let counts = [&node["status"]["capacity"][STICK], &node["status"]["allocatable"][STICK]];
            let label = &node["metadata"]["labels"]["bramble/device-serial-usb-ITead_Sonoff_Zigbee-if00"];
            let expected = wanted.map_or(Value::Null, Value::from);
            let right = counts == [&expected, &expected] && label.is_string() == wanted.is_some();
            if right { Ok(()) } else { Err(format!("{} {label}", node["status"])) }
        });
    };
    plug(&roots[0]);
    offers("bramble-1", Some("1"));
    cluster.apply(&deployment("z2m", 1, "z2m:1", &format!("        resources: {{limits: {{{STICK}: 1}}}}\n")));
    let pods = cluster.wait_ready("app=z2m", 1, SOON);
    assert_eq!(pods[0]["spec"]["nodeName"], "bramble-1");
    // One stick, one pod.
    cluster.kubectl(&["scale", "deployment", "z2m", "--replicas=2"]).expect();
    let insufficient = || {
        wait_until("the pod that finds no stick", SOON, || {
            let pods = cluster.pods("app=z2m");
            let waits = |pod: &&Value| {
                pod["status"]["conditions"].as_array().into_iter().flatten().any(|condition| {
                    condition["type"] == "PodScheduled"
                        && condition["message"].as_str().is_some_and(|text| text.contains(&format!("Insufficient {STICK}")))
                })
            };
            if pods.iter().any(|pod| waits(&pod)) { Ok(()) } else { Err(summary(&pods)) }
        });
    };
    insufficient();
    cluster.kubectl(&["scale", "deployment", "z2m", "--replicas=1"]).expect();
    cluster.wait_ready("app=z2m", 1, SOON);

    unplug(&roots[0]);
    offers("bramble-1", None);
    let failed = wait_until("the pod fails", SOON, || {
        let pods = cluster.pods("app=z2m");
        pods.iter().find(|pod| pod["status"]["phase"] == "Failed").cloned().ok_or_else(|| summary(&pods))
    });
    assert_eq!(failed["status"]["reason"], "DeviceUnplugged", "{failed:#}");
    insufficient();

    plug(&roots[1]);
    offers("bramble-2", Some("1"));
    wait_until("the pod runs where the stick is", SOON, || {
        let pods = cluster.pods("app=z2m");
        let there = pods.iter().any(|pod| is_ready(pod) && pod["spec"]["nodeName"] == "bramble-2");
        if there { Ok(()) } else { Err(summary(&pods)) }
    });
    // A glitch: pulled and back before anybody minds.
    let before = cluster.pods("app=z2m");
    unplug(&roots[1]);
    plug(&roots[1]);
    std::thread::sleep(std::time::Duration::from_secs(4));
    let told = |pods: &[Value]| {
        let mut told: Vec<String> = pods
            .iter()
            .filter(|pod| pod["status"]["phase"] == "Running")
            .map(|pod| format!("{} {}", pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["restartCount"]))
            .collect();
        told.sort();
        told
    };
    assert_eq!(told(&cluster.pods("app=z2m")), told(&before));
}
