//! Devices given to pods, on a real container runtime: device files made for the test, in a tree of their own.

use std::path::Path;
use std::process::Command;

use bramble::agent::devices::disk::look;
use bramble::agent::node::Input;
use bramble::agent::runtime::Runtime as _;
use serde_json::{Value, json};

use crate::support::{Agent, Cluster, deleted, docker, pod, share, skipped};

/// A stick that is no stick: a character device that may be opened by root and does nothing for it. Not one of those that every
/// container may open.
fn plug(root: &Path, file: &str, name: &str, minor: &str) {
    let (dev, by_id) = (root.join("dev"), root.join("dev/serial/by-id"));
    std::fs::create_dir_all(&by_id).unwrap();
    let made = Command::new("mknod").arg(dev.join(file)).args(["c", "10", minor]).status().unwrap();
    assert!(made.success(), "mknod needs root");
    std::os::unix::fs::symlink(format!("../../{file}"), by_id.join(name)).unwrap();
}

fn unplug(root: &Path, file: &str, name: &str) {
    std::fs::remove_file(root.join("dev").join(file)).unwrap();
    std::fs::remove_file(root.join("dev/serial/by-id").join(name)).unwrap();
}

fn asks(name: &str, resource: &str) -> Value {
    let mut pod = pod(name, &[("app", "trap exit TERM; while true; do sleep 0.1; done")]);
    pod["spec"]["containers"][0]["resources"] = json!({"limits": {resource: "1"}});
    pod
}

fn id(status: &Value) -> String {
    status["containerStatuses"][0]["containerID"].as_str().unwrap().rsplit('/').next().unwrap().to_owned()
}

const FUSE: &str = "229";
const LOOP_CONTROL: &str = "237";

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_has_its_device_and_no_other_alone_until_it_is_unplugged() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let tree = tempfile::tempdir().unwrap();
    let root = tree.path();
    plug(root, "ttyUSB0", "usb-zigbee", FUSE);
    let agent = Agent::start(&cluster);
    agent.input(Input::Devices(look(root))).await;
    let pods = [asks("first", "bramble/serial-usb-zigbee"), asks("second", "bramble/serial")];
    agent.want(share(&pods[..1])).await;
    let first = id(&agent.until_ready("first").await);
    let opens = |file: &str| {
        let script = format!(": < {file} && echo opened");
        let out = crate::support::docker_command().args(["exec", &first, "/bin/sh", "-c", &script]).output().unwrap();
        String::from_utf8_lossy(&out.stdout).trim().to_owned() + String::from_utf8_lossy(&out.stderr).trim()
    };
    assert_eq!(opens("/dev/ttyUSB0"), "opened");
    assert_eq!(opens("/dev/serial/by-id/usb-zigbee"), "opened");
    assert_eq!(docker(&["exec", &first, "/bin/sh", "-c", "echo $BRAMBLE_DEVICE_SERIAL"]), "/dev/serial/by-id/usb-zigbee");
    // A device that exists on the host and was not given: made inside, the device cgroup does not let it be opened. The one that
    // was given may be, under whatever name, so that it is no other rule that stops the first.
    docker(&["exec", &first, "/bin/busybox", "mknod", "/dev/other", "c", "10", LOOP_CONTROL]);
    docker(&["exec", &first, "/bin/busybox", "mknod", "/dev/same", "c", "10", FUSE]);
    assert_eq!(opens("/dev/same"), "opened");
    assert!(opens("/dev/other").contains("Operation not permitted"), "{}", opens("/dev/other"));

    // One stick, one pod: the other one waits, and says for what.
    agent.want(share(&pods)).await;
    let waits = |status: &Value| {
        let waiting = &status["containerStatuses"][0]["state"]["waiting"];
        waiting["message"] == "no free bramble/serial on this node"
    };
    agent.until("second", "waiting for a stick", waits).await;
    // Another agent finds who has it.
    agent.kill().await;
    let agent = Agent::start(&cluster);
    agent.input(Input::Devices(look(root))).await;
    agent.want(share(&pods)).await;
    agent.until("second", "waiting again", waits).await;
    assert_eq!(id(&agent.until_ready("first").await), first, "adopted, not restarted");

    // A second stick is the second pod's.
    plug(root, "ttyUSB1", "usb-zwave", LOOP_CONTROL);
    agent.input(Input::Devices(look(root))).await;
    let second = id(&agent.until_ready("second").await);
    assert_eq!(docker(&["exec", &second, "/bin/sh", "-c", "ls /dev/serial/by-id; ls /dev/ttyUSB*"]), "usb-zwave\n/dev/ttyUSB1");

    // Pulled: the pod that had it fails, the other one does not mind.
    unplug(root, "ttyUSB0", "usb-zigbee");
    agent.input(Input::Devices(look(root))).await;
    let failed = agent.until("first", "failed", |status| status["phase"] == "Failed").await;
    assert_eq!(failed["reason"], "DeviceUnplugged", "{failed:#}");
    assert!(failed["message"].as_str().unwrap().contains("unplugged"));
    assert_eq!(id(&agent.until_ready("second").await), second);
    assert!(agent.reasons().iter().any(|reason| reason == "DeviceUnplugged"));

    // The other stick comes back as another file: its container is restarted with that one.
    unplug(root, "ttyUSB1", "usb-zwave");
    plug(root, "ttyUSB5", "usb-zwave", LOOP_CONTROL);
    agent.input(Input::Devices(look(root))).await;
    let again = agent
        .until("second", "restarted", |status| {
            status["containerStatuses"][0]["restartCount"] == 1 && crate::support::is_ready(status)
        })
        .await;
    assert_eq!(docker(&["exec", &id(&again), "/bin/sh", "-c", "ls /dev/ttyUSB*"]), "/dev/ttyUSB5");

    let [first, second] = pods;
    agent.want(share(&[deleted(first), deleted(second)])).await;
    agent.until_gone("first").await;
    agent.until_gone("second").await;
    agent.runtime.teardown().await.unwrap();
    assert_eq!(cluster.left(), Vec::<String>::new());
}
