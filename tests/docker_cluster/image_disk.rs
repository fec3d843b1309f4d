//! A whole node whose images and containers lie on a small disk of their own: an engine of the test's own on a small file system in memory.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::daemon::Daemon;
use crate::devices::Agent;
use crate::own_docker::OwnDocker;
use crate::pressure::{shown, until_pressure};
use crate::support::{BUSYBOX, Cluster, skipped, summary, wait_until};

const SOON: Duration = Duration::from_secs(90);
/// In the engine's own network namespace: nobody else's port.
const REGISTRY: &str = "127.0.0.1:5000";

/// A cluster of one node on this engine, with an agent that has this in its environment.
pub fn cluster_on(own: &OwnDocker, environment: &[(&str, &str)]) -> (Cluster, Agent) {
    let mut cluster = Cluster::new();
    cluster.engine = Some(format!("unix://{}", own.socket()));
    cluster.start(&["--runtime", "docker"]).expect();
    let pause = ("BRAMBLE_EVICTION__PRESSURE_TRANSITION_SECONDS", "10");
    let agent = Agent::anew(&cluster, "bramble-1", &[environment, &[pause]].concat());
    (cluster, agent)
}

fn pod(name: &str, image: &str, script: &str, volume: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{{name: data, emptyDir: {{{volume}}}}}]
  containers:
  - name: main
    image: {image}
    imagePullPolicy: IfNotPresent
    command: [sh, -c, '{script} trap exit TERM; while true; do sleep 0.2; done']
    volumeMounts: [{{name: data, mountPath: /data}}]
"
    )
}

/// Debian's registry where only the engine reaches it.
fn registry(own: &OwnDocker, home: &Path) -> Daemon {
    let config = home.join("config.yml");
    let text = format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{REGISTRY}'}}\nlog: {{level: error}}\n",
        home.join("data").display()
    );
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new("nsenter");
    command.args(["--target", &own.pid().to_string(), "--net", "--", "docker-registry", "serve"]).arg(&config);
    Daemon::start(command, &home.join("log"))
}

/// An image of so many MiB that the registry has and the engine has not.
fn published(own: &OwnDocker, name: &str, mib: u32) -> String {
    let image = format!("{REGISTRY}/{name}:1");
    let fill = format!("busybox dd if=/dev/zero of=/filler bs=1M count={mib} 2>&1");
    own.docker(&["run", "--network", "none", "--name", name, BUSYBOX, "sh", "-c", &fill]);
    own.docker(&["commit", name, &image]);
    own.docker(&["rm", name]);
    wait_until("the registry takes it", SOON, || {
        let pushed = Command::new("docker").args(["-H", &format!("unix://{}", own.socket()), "push", &image]).output().unwrap();
        if pushed.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&pushed.stderr).into_owned()) }
    });
    own.docker(&["rmi", &image]);
    image
}

fn images(own: &OwnDocker) -> String {
    own.docker(&["images", "--format", "{{.Repository}}:{{.Tag}}"])
}

/// Bytes and files that can still be had on a file system.
fn room(path: &Path) -> (u64, u64) {
    let room = rustix::fs::statvfs(path).unwrap();
    (room.f_bavail * room.f_frsize, room.f_favail)
}

/// Until only so many MiB are left.
fn fill(own: &OwnDocker, leave_mib: u64) -> PathBuf {
    let file = own.data().join("filler");
    let all = room(&own.data()).0.saturating_sub(leave_mib << 20);
    let more = std::fs::metadata(&file).map_or(0, |file| file.len()) + all;
    let made = Command::new("fallocate").args(["-l", &more.to_string()]).arg(&file).stdout(Stdio::null()).status().unwrap();
    assert!(made.success(), "fallocate, of util-linux");
    file
}

/// What the node says about its disk.
fn words(cluster: &Cluster) -> String {
    let path = "jsonpath={.status.conditions[?(@.type=='DiskPressure')].message}";
    cluster.kubectl(&["get", "node", "bramble-1", "-o", path]).expect()
}

fn evicted(cluster: &Cluster, selector: &str) -> (String, String) {
    let pod = wait_until("one is evicted", SOON, || {
        let pods = cluster.pods(selector);
        pods.iter().find(|pod| pod["status"]["phase"] == "Failed").cloned().ok_or_else(|| summary(&pods))
    });
    assert_eq!(pod["status"]["reason"], "Evicted", "{pod:#}");
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    (text(&pod["metadata"]["name"]), text(&pod["status"]["message"]))
}

#[test]
fn images_go_between_their_thresholds_and_pods_only_when_the_disk_of_images_is_short_without_them() {
    if skipped("docker") {
        return;
    }
    let own = OwnDocker::start_on(Some("size=1g"));
    let home = tempfile::tempdir().unwrap();
    let _registry = registry(&own, home.path());
    let [one, two, three] = [("one", 150), ("two", 151), ("three", 152)].map(|(name, mib)| published(&own, name, mib));
    let (cluster, _agent) = cluster_on(
        &own,
        &[
            ("BRAMBLE_IMAGES__HIGH_PERCENT", "50"),
            // Two of the three and the sandbox's image, which holds the program (of up to 150 MiB, with all that helps to find faults).
            ("BRAMBLE_IMAGES__LOW_PERCENT", "45"),
            ("BRAMBLE_IMAGES__MINIMUM_AGE_SECONDS", "1"),
        ],
    );
    // Each is used once, and left. With the third, more than half of the disk is in use.
    for (name, image) in [("first", &one), ("second", &two)] {
        cluster.apply(&pod(name, image, "", ""));
        cluster.wait_ready(&format!("app={name}"), 1, SOON);
        cluster.kubectl(&["delete", "pod", name, "--timeout=60s"]).expect();
        assert!(images(&own).contains(image.as_str()), "below the threshold an unused image stays");
    }
    cluster.apply(&pod("third", &three, "", ""));
    cluster.wait_ready("app=third", 1, SOON);
    wait_until("the image that was longest unused goes", SOON, || {
        let there = images(&own);
        if there.contains(&one) { Err(format!("{there}\n{:?}", room(&own.data()))) } else { Ok(()) }
    });
    let there = images(&own);
    assert!(there.contains(&two), "down to the lower threshold, and no further: {there}");
    assert!(there.contains(&three) && there.contains(BUSYBOX), "what is used stays, and what is not Bramble's: {there}");
    assert_eq!(shown(&cluster, "DiskPressure").0, "False", "{}", words(&cluster));

    // Short of room: what images can give is taken first, and is enough.
    cluster.apply(&pod("eats", BUSYBOX, "busybox dd if=/dev/zero of=/tmp/much bs=1M count=40 2>&1;", ""));
    cluster.apply(&pod("modest", BUSYBOX, "", ""));
    let pods = "app in (third,eats,modest)";
    cluster.wait_ready(pods, 3, SOON);
    fill(&own, 100);
    until_pressure(&cluster, "DiskPressure", "node.kubernetes.io/disk-pressure", true);
    assert_eq!(words(&cluster), "the disk with images and containers has little room left");
    let described = cluster.kubectl(&["describe", "node", "bramble-1"]).expect();
    assert!(described.contains("the disk with images and containers has little room left"), "{described}");
    until_pressure(&cluster, "DiskPressure", "disk-pressure", false);
    let there = images(&own);
    assert!(!there.contains(&two) && there.contains(&three), "{there}");
    cluster.wait_ready(pods, 3, SOON);

    // No image is left to go: who uses most.
    let filler = fill(&own, 100);
    let (name, message) = evicted(&cluster, pods);
    std::fs::remove_file(filler).unwrap();
    assert_eq!(name, "eats", "{message}");
    assert!(message.starts_with("The node was low on resource: ephemeral-storage. Threshold quantity: "), "{message}");
    assert!(
        message.contains("Container main was using 4") && message.contains("has larger consumption of ephemeral-storage"),
        "{message}"
    );
    until_pressure(&cluster, "DiskPressure", "disk-pressure", false);
    assert!(images(&own).contains(&three));
    cluster.kubectl(&["delete", "pods", "--all", "--timeout=60s"]).expect();
}

#[test]
fn a_disk_of_images_that_can_hold_few_more_files_evicts_who_has_most_of_them() {
    if skipped("docker") {
        return;
    }
    let own = OwnDocker::start_on(Some("size=1g,nr_inodes=6000"));
    let (cluster, _agent) = cluster_on(&own, &[]);
    let litter = |count: u32| format!("i=0; while [ $i -lt {count} ]; do : > /data/$i; i=$((i+1)); done; touch /data/done;");
    cluster.apply(&pod("litters", BUSYBOX, &litter(2500), ""));
    // More bytes, and few files.
    cluster.apply(&pod("large", BUSYBOX, "busybox dd if=/dev/zero of=/data/much bs=1M count=40 2>&1;", ""));
    cluster.wait_ready("app in (litters,large)", 2, SOON);
    wait_until("it has littered", SOON, || {
        let left = room(&own.data()).1;
        if left < 3500 { Ok(()) } else { Err(format!("{left} files can be made")) }
    });
    assert_eq!(shown(&cluster, "DiskPressure").0, "False", "{}", words(&cluster));

    let folder = own.data().join("fillers");
    std::fs::create_dir(&folder).unwrap();
    let mut made = 0;
    while room(&own.data()).1 > 200 {
        std::fs::write(folder.join(made.to_string()), b"").unwrap();
        made += 1;
    }
    until_pressure(&cluster, "DiskPressure", "node.kubernetes.io/disk-pressure", true);
    assert_eq!(words(&cluster), "the disk with images and containers can hold few more files");
    let (name, message) = evicted(&cluster, "app in (litters,large)");
    std::fs::remove_dir_all(folder).unwrap();
    assert_eq!(name, "litters", "{message}");
    assert!(message.starts_with("The node was low on resource: inodes. Threshold quantity: 300, available: "), "{message}");
    until_pressure(&cluster, "DiskPressure", "disk-pressure", false);
    cluster.wait_ready("app=large", 1, SOON);
    cluster.kubectl(&["delete", "pods", "--all", "--timeout=60s"]).expect();
}
