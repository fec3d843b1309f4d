//! A whole cluster on Podman's likeness of Docker's socket.

use std::path::Path;
use std::time::Duration;

use crate::podman_service::Podman;
use crate::support::{BUSYBOX, Cluster, busybox_image_at, cluster_uid, deployment, docker, skipped};

const SOON: Duration = Duration::from_secs(60);

#[test]
fn a_cluster_on_podman_runs_a_deployment_says_its_engine_and_leaves_nothing() {
    if skipped("podman") {
        return;
    }
    let podman = Podman::start(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("podman"));
    let engine = format!("unix://{}", podman.socket());
    busybox_image_at(&engine);
    let mut cluster = Cluster::new();
    cluster.engine = Some(engine.clone());
    cluster.start(&["--runtime", "docker"]).expect();
    cluster.apply(&deployment(
        "web",
        2,
        BUSYBOX,
        "        command: [sh, -c, 'trap exit TERM; while true; do sleep 0.2; done']\n",
    ));
    for pod in cluster.wait_ready("app=web", 2, SOON) {
        let id = pod["status"]["containerStatuses"][0]["containerID"].as_str().unwrap_or_default().to_owned();
        assert!(id.starts_with("podman://"), "{id}");
    }
    let node = cluster.get(&["node", "bramble-1"]);
    let version = node["status"]["nodeInfo"]["containerRuntimeVersion"].as_str().unwrap_or_default();
    assert!(version.starts_with("podman://"), "{version}");

    let filter = format!("label=bramble/cluster={}", cluster_uid(&cluster));
    let left = |lists: &[&[&str]]| -> String {
        let list = |list: &&[&str]| docker(&[&["-H", &engine], *list, &["-q", "--filter", &filter]].concat()).expect();
        lists.iter().map(list).collect()
    };
    let all: [&[&str]; 3] = [&["ps", "-a"], &["volume", "ls"], &["network", "ls"]];
    assert_eq!(left(&all[..1]).lines().count(), 4, "two pods, each with its sandbox");
    cluster.kubectl(&["delete", "deployment", "web", "--timeout=30s"]).expect();
    crate::support::wait_until("the pods are gone", SOON, || match left(&all[..1]) {
        none if none.is_empty() => Ok(()),
        some => Err(some),
    });
    cluster.bramble(["delete"]).expect();
    assert_eq!(left(&all), "", "nothing of the cluster is left in Podman");
}
