//! A stick is pulled from one node and put into another, on real Docker: device files made for the test, a tree for each node.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::{BUSYBOX, Cluster, deployment, docker, is_ready, lives, signal, summary, wait_until};
use crate::{SOON, on_docker};

const STICK: &str = "bramble/serial-usb-ITead_Sonoff_Zigbee-if00";
const NAME: &str = "usb-ITead_Sonoff_Zigbee-if00";

/// An agent of the test's own; killed when it is dropped.
pub struct Agent(pub Child);

impl Agent {
    /// The node's agent anew, with this in its environment.
    pub fn anew(cluster: &Cluster, node: &str, environment: &[(&str, &str)]) -> Self {
        let pid = cluster.agent_pid(node);
        signal(pid, "KILL");
        wait_until("the agent ends", SOON, || if lives(pid) { Err(format!("{pid} lives")) } else { Ok(()) });
        Self::start(cluster, node, environment)
    }

    /// Another agent for a node that has none.
    pub fn start(cluster: &Cluster, node: &str, environment: &[(&str, &str)]) -> Self {
        let log = std::fs::File::options().append(true).create(true).open(cluster.dir.join(format!("logs/{node}.log"))).unwrap();
        let agent = Command::new(&cluster.program)
            .args(["agent", "--config"])
            .arg(cluster.dir.join(format!("nodes/{node}/agent.toml")))
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        Self(agent.unwrap())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A character device that root may open and that no container may unless it is given (`/dev/fuse` under another name).
fn plug(root: &Path) {
    let by_id = root.join("dev/serial/by-id");
    std::fs::create_dir_all(&by_id).unwrap();
    let made = Command::new("mknod").arg(root.join("dev/ttyUSB0")).args(["c", "10", "229"]).status().unwrap();
    assert!(made.success(), "mknod needs root");
    std::os::unix::fs::symlink("../../ttyUSB0", by_id.join(NAME)).unwrap();
}

/// As udev does when the last stick goes.
fn unplug(root: &Path) {
    std::fs::remove_dir_all(root.join("dev/serial")).unwrap();
    std::fs::remove_file(root.join("dev/ttyUSB0")).unwrap();
}

#[test]
fn a_stick_that_is_moved_takes_its_pod_along_and_only_its_node_lets_it_be_opened() {
    let Some(cluster) = on_docker(&["--nodes", "2"]) else { return };
    let trees = tempfile::tempdir().unwrap();
    let roots = ["bramble-1", "bramble-2"].map(|node| trees.path().join(node));
    let _agents = [0, 1].map(|at| {
        std::fs::create_dir_all(roots[at].join("dev")).unwrap();
        let root = roots[at].to_str().unwrap();
        Agent::anew(
            &cluster,
            &format!("bramble-{}", at + 1),
            &[("BRAMBLE_DEVICES__ENABLED", "true"), ("BRAMBLE_DEVICES__ROOT", root)],
        )
    });
    cluster.apply(&deployment(
        "z2m",
        1,
        BUSYBOX,
        &format!(
            "        command: [sh, -c, 'trap exit TERM; while true; do sleep 0.2; done']\n        resources: {{limits: {{{STICK}: 1}}}}\n"
        ),
    ));
    let mut before: Option<String> = None;
    for at in [0, 1] {
        plug(&roots[at]);
        let node = format!("bramble-{}", at + 1);
        let pod = wait_until(&format!("the pod runs on {node}"), SOON, || {
            let pods = cluster.pods("app=z2m");
            let there = |pod: &&Value| is_ready(pod) && pod["spec"]["nodeName"] == node.as_str();
            pods.iter().find(there).cloned().ok_or_else(|| summary(&pods))
        });
        let id = pod["status"]["containerStatuses"][0]["containerID"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
        // Just this device: a neighbour's number is refused by the device cgroup.
        let opens = |script: &str| docker(&["exec", &id, "sh", "-c", script]);
        assert_eq!(opens(&format!(": < /dev/serial/by-id/{NAME} && echo opened")).expect().trim(), "opened");
        assert_eq!(
            opens("echo $BRAMBLE_DEVICE_SERIAL_USB_ITEAD_SONOFF_ZIGBEE_IF00; ls /dev/ttyUSB*").expect().lines().last(),
            Some("/dev/ttyUSB0")
        );
        let other = opens("busybox mknod /dev/other c 10 237 && : < /dev/other");
        assert!(!other.ok && other.err.contains("Operation not permitted"), "{}{}", other.out, other.err);
        let uid = pod["metadata"]["uid"].as_str().unwrap().to_owned();
        assert_ne!(before.as_ref(), Some(&uid), "another pod of the deployment, on another node");
        before = Some(uid.clone());

        unplug(&roots[at]);
        let failed = wait_until("the pod without its stick fails", SOON, || {
            let pods = cluster.pods("app=z2m");
            let failed = |pod: &&Value| pod["metadata"]["uid"] == uid && pod["status"]["phase"] == "Failed";
            pods.iter().find(failed).cloned().ok_or_else(|| summary(&pods))
        });
        assert_eq!(failed["status"]["reason"], "DeviceUnplugged", "{failed:#}");
        wait_until("the next one waits for a stick, and says so", SOON, || {
            let described = cluster.kubectl(&["describe", "pods", "-l", "app=z2m"]).out;
            if described.contains(&format!("Insufficient {STICK}")) { Ok(()) } else { Err(described) }
        });
        assert!(!docker(&["inspect", "-f", "{{.State.Running}}", &id]).out.contains("true"), "it was ended");
    }
    // Agents that `stop` does not know end before their containers are removed.
    cluster.kubectl(&["delete", "deployment", "z2m"]).expect();
    wait_until("no pod is left", SOON, || {
        let pods = cluster.pods("app=z2m");
        if pods.is_empty() { Ok(()) } else { Err(summary(&pods)) }
    });
}
