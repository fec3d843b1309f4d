//! The life of pods in Docker.

use serde_json::json;

use crate::support::{Agent, Cluster, deleted, docker, is_ready, pod, share, skipped};

#[tokio::test(flavor = "multi_thread")]
async fn two_containers_share_localhost_and_a_volume_and_leave_nothing() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start(&cluster);
    let mut pair = pod(
        "pair",
        &[
            ("server", "echo from-the-server > /shared/greeting; exec nc -ll -p 8080 -e cat /shared/greeting"),
            (
                "client",
                "while [ ! -s /shared/answer ]; do nc 127.0.0.1 8080 > /tmp/a 2>/dev/null && cat /tmp/a > /shared/answer; sleep 0.2; done; sleep 1000",
            ),
        ],
    );
    pair["spec"]["volumes"] = json!([{"name": "shared", "emptyDir": {}}]);
    for container in pair["spec"]["containers"].as_array_mut().unwrap() {
        container["volumeMounts"] = json!([{"name": "shared", "mountPath": "/shared"}]);
    }
    agent.want(share(std::slice::from_ref(&pair))).await;
    let status = agent.until_ready("pair").await;
    assert_eq!(status["phase"], "Running");
    assert!(status["podIP"].as_str().is_some_and(|ip| ip.starts_with("1")), "{status:#}");
    let id = status["containerStatuses"][0]["containerID"].as_str().unwrap().strip_prefix("docker://").unwrap().to_owned();
    let mut answer = String::new();
    for _ in 0..100 {
        answer = docker(&["exec", &id, "/bin/sh", "-c", "cat /shared/answer 2>/dev/null || true"]);
        if !answer.is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(answer, "from-the-server");
    assert_eq!(docker(&["exec", &id, "/bin/sh", "-c", "stat -c %a /shared"]), "777");
    assert_eq!(docker(&["exec", &id, "/bin/hostname"]), "pair");
    assert!(is_ready(&agent.status("pair")));

    agent.want(share(&[deleted(pair)])).await;
    agent.until_gone("pair").await;
    assert_eq!(agent.report("pair").unwrap().status["phase"], "Failed", "killed after its grace");
    agent.want(share(&[])).await;
    use bramble::agent::runtime::Runtime;
    agent.runtime.teardown().await.unwrap();
    assert_eq!(cluster.left(), Vec::<String>::new());
    agent.kill().await;
}
