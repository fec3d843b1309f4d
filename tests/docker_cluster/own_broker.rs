//! Debian's Mosquitto as the broker, killed and started again under running pods.

use std::time::Duration;

use crate::daemon::agent;
use crate::mosquitto::{installed, master, mosquitto};
use crate::on_docker;
use crate::support::{BUSYBOX, Cluster, containers, deployment, docker, is_ready, summary, wait_until};

const SOON: Duration = Duration::from_secs(60);
const STAYS: &str = "        command: [sh, -c, 'trap exit TERM; while true; do sleep 0.2; done']\n";
const PROBED: &str = "        command: [sh, -c, 'trap exit TERM; while true; do sleep 0.2; done']
        livenessProbe: {exec: {command: [sh, -c, '! test -e /tmp/sick']}, periodSeconds: 1, timeoutSeconds: 10, failureThreshold: 2}
";

/// The containers of this name that run: id, start time, name.
fn of(cluster: &Cluster, deployment: &str) -> Vec<(String, String, String)> {
    let prefix = format!("bramble_main_{deployment}-");
    containers(cluster).into_iter().filter(|(_, _, name)| name.trim_start_matches('/').starts_with(&prefix)).collect()
}

fn until_another(cluster: &Cluster, deployment: &str, old: &str) {
    wait_until(&format!("{deployment} was restarted"), SOON, || {
        let now = of(cluster, deployment);
        if now.len() == 1 && now[0].0 != old { Ok(()) } else { Err(format!("{now:?}")) }
    });
}

#[test]
fn with_the_broker_killed_pods_are_probed_and_restarted_and_all_meets_when_it_is_back() {
    if !installed() {
        return;
    }
    let Some(cluster) = on_docker(&[]) else { return };
    cluster.bramble(["stop"]).expect();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let broker = mosquitto(&cluster, port);
    let _master = master(&cluster, port);
    let _agent = agent(&cluster, "bramble-1", port);
    for (name, replicas, extra) in [("probed", 1, PROBED), ("hurt", 1, STAYS), ("few", 2, STAYS), ("goes", 1, STAYS)] {
        cluster.apply(&deployment(name, replicas, BUSYBOX, extra));
    }
    cluster.wait_ready("app in (probed,hurt,few,goes)", 5, SOON);
    let before = containers(&cluster);
    assert_eq!(before.len(), 10, "five containers and five sandboxes: {before:?}");
    let (probed, hurt) = (of(&cluster, "probed").remove(0).0, of(&cluster, "hurt").remove(0).0);

    broker.kill();
    docker(&["kill", &hurt]).expect();
    docker(&["exec", &probed, "touch", "/tmp/sick"]).expect();
    // The master lives, and takes what people want.
    cluster.kubectl(&["delete", "deployment", "goes", "--cascade=foreground", "--wait=false"]).expect();
    cluster.kubectl(&["scale", "deployment", "few", "--replicas=3"]).expect();
    until_another(&cluster, "hurt", &hurt);
    until_another(&cluster, "probed", &probed);
    // Longer than silence takes to make a node lost, and than a lost node's pods are kept.
    std::thread::sleep(Duration::from_secs(40));
    assert_eq!(of(&cluster, "goes").len(), 1, "it cannot know of it yet");
    assert_eq!(of(&cluster, "few").len(), 2, "nor of that");

    let broker = mosquitto(&cluster, port);
    let pods = wait_until("everything meets", SOON, || {
        let pods = cluster.pods("app in (probed,hurt,few,goes)");
        let restarts = |name: &str| -> u64 {
            let of = pods.iter().filter(|pod| pod["metadata"]["labels"]["app"] == name);
            of.map(|pod| pod["status"]["containerStatuses"][0]["restartCount"].as_u64().unwrap_or(99)).sum()
        };
        let counted = (restarts("probed"), restarts("hurt"), restarts("few")) == (1, 1, 0);
        if pods.len() == 5 && pods.iter().all(is_ready) && counted { Ok(pods) } else { Err(summary(&pods)) }
    });
    let ready = || cluster.kubectl(&["get", "nodes", "--no-headers"]).expect();
    wait_until("the node is ready", SOON, || if ready().contains(" Ready ") { Ok(()) } else { Err(ready()) });
    wait_until("what was deleted is gone", SOON, || {
        let now = containers(&cluster);
        if now.len() == 10 { Ok(()) } else { Err(format!("{now:?}")) }
    });
    let now = containers(&cluster);
    let gone = |id: &str, name: &str| id == probed || id == hurt || name.contains("_goes-");
    for old in before.iter().filter(|(id, _, name)| !gone(id, name)) {
        assert!(now.contains(old), "restarted needlessly: {old:?}\n{}", summary(&pods));
    }

    // A quick death changes nothing at all.
    broker.kill();
    std::thread::sleep(Duration::from_secs(1));
    let _broker = mosquitto(&cluster, port);
    cluster.kubectl(&["scale", "deployment", "few", "--replicas=4"]).expect();
    cluster.wait_ready("app in (probed,hurt,few)", 6, SOON);
    std::thread::sleep(Duration::from_secs(5));
    let last = containers(&cluster);
    assert!(now.iter().all(|old| last.contains(old)) && last.len() == 12, "{now:?}\n{last:?}");
    cluster.kubectl(&["delete", "deployments", "--all", "--wait=false"]).expect();
    wait_until("no pod is left", SOON, || {
        let pods = cluster.get(&["pods"])["items"].as_array().unwrap().clone();
        if pods.is_empty() { Ok(()) } else { Err(summary(&pods)) }
    });
}
