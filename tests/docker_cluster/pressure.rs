//! A whole node whose disk is full, on real Docker: the agent's data folder lies on a small file system of the test's own.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::devices::Agent;
use crate::support::{BUSYBOX, Cluster, deployment, docker, is_ready, summary, wait_until};
use crate::{SOON, on_docker};

/// A small file system in memory; gone with the test.
struct Small(tempfile::TempDir);

impl Small {
    fn mount(size: &str) -> Self {
        let place = tempfile::tempdir().unwrap();
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(place.path()).status();
        assert!(mount.unwrap().success(), "mounting a tmpfs needs root, as these tests do");
        Self(place)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }

    /// To the last byte, or so many MiB.
    fn fill(&self, most: usize) {
        let mut file = std::fs::File::options().create(true).append(true).open(self.filler()).unwrap();
        for _ in 0..most {
            if file.write_all(&[1; 1 << 20]).is_err() {
                break;
            }
        }
        while most == usize::MAX && file.write_all(&[1]).is_ok() {}
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

fn container(pod: &serde_json::Value) -> String {
    pod["status"]["containerStatuses"][0]["containerID"].as_str().unwrap().rsplit('/').next().unwrap().to_owned()
}

const PROBED: &str = "        command: [sh, -c, 'trap exit TERM; while true; do sleep 0.2; done']
        readinessProbe: {exec: {command: [ls, /bin]}, periodSeconds: 1, timeoutSeconds: 20}
        livenessProbe: {exec: {command: [ls, /bin]}, periodSeconds: 1, timeoutSeconds: 20}
";

#[test]
fn a_full_disk_stops_nothing_that_runs_and_is_written_to_again_when_there_is_room() {
    let Some(cluster) = on_docker(&[]) else { return };
    let small = Small::mount("4m");
    let data = small.path().to_str().unwrap().to_owned();
    let environment = [
        ("BRAMBLE_DATA_DIR", data.as_str()),
        ("BRAMBLE_EVICTION__NODEFS_AVAILABLE_PERCENT", "0"),
        ("BRAMBLE_EVICTION__NODEFS_INODES_FREE_PERCENT", "0"),
    ];
    let agent = Agent::anew(&cluster, "bramble-1", &environment);
    cluster.apply(&deployment("web", 1, BUSYBOX, PROBED));
    let first = container(&cluster.wait_ready("app=web", 1, SOON)[0]);
    let kept = || std::fs::read_to_string(small.path().join("share.json")).unwrap_or_default();
    wait_until("the share is kept", SOON, || if kept().contains("web-") { Ok(()) } else { Err(kept()) });

    small.fill(usize::MAX);
    // What dies comes back, and the master hears of it.
    docker(&["kill", &first]).expect();
    let again = wait_until("it was restarted", SOON, || {
        let pods = cluster.pods("app=web");
        let back = pods.len() == 1 && pods[0]["status"]["containerStatuses"][0]["restartCount"] == 1 && is_ready(&pods[0]);
        if back { Ok(pods[0].clone()) } else { Err(summary(&pods)) }
    });
    // What is new runs as well, though it cannot be kept.
    // More than the few blocks that a dead container's files leave behind.
    let large = format!("        env: [{{name: LARGE, value: {}}}]\n", "x".repeat(60_000));
    cluster.apply(&deployment("second", 1, BUSYBOX, &format!("{PROBED}{large}")));
    let unkept = container(&cluster.wait_ready("app=second", 1, SOON)[0]);
    let room = || Command::new("sh").args(["-c", &format!("df -k {data}; ls -lR {data}")]).output().unwrap().stdout;
    let (web, second) = (kept().contains("web-"), kept().contains("second-"));
    assert!(web && !second, "what was kept before is whole: {web} {second}\n{}", String::from_utf8_lossy(&room()));

    // Another agent on the full disk finds everything.
    drop(agent);
    let _agent = Agent::start(&cluster, "bramble-1", &environment);
    std::thread::sleep(Duration::from_secs(3));
    let runs = docker(&["inspect", "-f", "{{.State.Running}}", &unkept]).expect();
    assert_eq!(runs.trim(), "true", "what the disk does not tell of is not ended");
    let adopted = cluster.wait_ready("app=web", 1, SOON).remove(0);
    assert_eq!(container(&adopted), container(&again), "adopted, not restarted");
    // What could not be kept is not known to it: it is left alone until the master has spoken, and adopted then.
    let adopted = cluster.wait_ready("app=second", 1, SOON).remove(0);
    assert_eq!(container(&adopted), unkept, "adopted as well");
    assert_eq!(adopted["status"]["containerStatuses"][0]["restartCount"], 0);

    std::fs::remove_file(small.filler()).unwrap();
    wait_until(
        "the share is kept again",
        Duration::from_secs(70),
        || if kept().contains("second-") { Ok(()) } else { Err(kept()) },
    );
}

/// Status of a condition of the node, and its taints.
pub fn shown(cluster: &Cluster, condition: &str) -> (String, String) {
    let node = cluster.get(&["node", "bramble-1"]);
    let conditions = node["status"]["conditions"].as_array().unwrap();
    let status = conditions.iter().find(|one| one["type"] == condition).map(|one| one["status"].as_str().unwrap().to_owned());
    (status.unwrap_or_default(), node["spec"]["taints"].to_string())
}

pub fn until_pressure(cluster: &Cluster, condition: &str, taint: &str, there: bool) {
    let wanted = if there { "True" } else { "False" };
    wait_until(&format!("{condition} is {wanted}"), SOON, || {
        let (status, taints) = shown(cluster, condition);
        let good = status == wanted && taints.contains(taint) == there;
        if good { Ok(()) } else { Err(format!("{status} {taints}")) }
    });
}

#[test]
fn disk_pressure_is_a_condition_and_a_taint_evicts_who_uses_most_and_ends_with_room() {
    let Some(cluster) = on_docker(&[]) else { return };
    let small = Small::mount("64m");
    let environment = [
        ("BRAMBLE_DATA_DIR", small.path().to_str().unwrap()),
        ("BRAMBLE_EVICTION__NODEFS_AVAILABLE_PERCENT", "50"),
        ("BRAMBLE_EVICTION__PRESSURE_TRANSITION_SECONDS", "2"),
    ];
    let _agent = Agent::anew(&cluster, "bramble-1", &environment);
    let pod = |name: &str, more: &str, script: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\nspec:\n  terminationGracePeriodSeconds: 1\n{more}  containers:\n  \
             - {{name: main, image: {BUSYBOX}, command: [sh, -c, '{script} trap exit TERM; while true; do sleep 0.2; done']}}\n"
        )
    };
    cluster.apply(&pod("eats", "", "cat /bin/busybox /bin/busybox /bin/busybox > /tmp/much;"));
    cluster.apply(&pod("modest", "", ""));
    cluster.apply(&pod("needed", "  priorityClassName: system-node-critical\n", ""));
    let needed = container(&cluster.wait_ready("app=needed", 1, SOON)[0]);
    cluster.wait_ready("app in (eats,modest)", 2, SOON);
    until_pressure(&cluster, "DiskPressure", "disk-pressure", false);

    small.fill(48);
    until_pressure(&cluster, "DiskPressure", "node.kubernetes.io/disk-pressure", true);
    let described = cluster.kubectl(&["describe", "node", "bramble-1"]).expect();
    assert!(described.contains("KubeletHasDiskPressure") && described.contains("disk-pressure:NoSchedule"), "{described}");
    // First the images that nobody uses; when they do not make room enough, pods.
    let evicted = wait_until("who uses most is evicted first", Duration::from_secs(60), || {
        let pods = cluster.pods("app in (eats,modest)");
        pods.iter().find(|pod| pod["status"]["phase"] == "Failed").cloned().ok_or_else(|| summary(&pods))
    });
    std::fs::remove_file(small.filler()).unwrap();
    assert_eq!((&evicted["metadata"]["name"], &evicted["status"]["reason"]), (&"eats".into(), &"Evicted".into()), "{evicted:#}");
    let message = evicted["status"]["message"].as_str().unwrap();
    assert!(message.starts_with("The node was low on resource: ephemeral-storage. Threshold quantity: 335544"), "{message}");
    wait_until("the event", SOON, || {
        let text = cluster.kubectl(&["describe", "pod", "eats"]).out;
        if text.contains("Warning  Evicted") { Ok(()) } else { Err(text) }
    });
    until_pressure(&cluster, "DiskPressure", "disk-pressure", false);
    assert_eq!(container(&cluster.wait_ready("app=needed", 1, SOON)[0]), needed, "a critical pod never goes");
}

#[test]
fn pid_pressure_is_a_condition_and_a_taint_and_gone_with_its_cause() {
    let Some(cluster) = on_docker(&[]) else { return };
    // More than any machine has free.
    let agent = Agent::anew(
        &cluster,
        "bramble-1",
        &[("BRAMBLE_EVICTION__PID_AVAILABLE_PERCENT", "100"), ("BRAMBLE_EVICTION__PRESSURE_TRANSITION_SECONDS", "1")],
    );
    until_pressure(&cluster, "PIDPressure", "node.kubernetes.io/pid-pressure", true);
    let described = cluster.kubectl(&["describe", "node", "bramble-1"]).expect();
    assert!(described.contains("pid-pressure:NoSchedule"), "{described}");
    drop(agent);
    let _agent = Agent::start(&cluster, "bramble-1", &[]);
    until_pressure(&cluster, "PIDPressure", "pid-pressure", false);
}
