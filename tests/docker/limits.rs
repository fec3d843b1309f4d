//! What a container may use, as it finds it in its own cgroup: of version 1 or 2, whichever this Docker has.

use bramble::agent::node::NodeConfig;
use bramble::agent::pods::resource_field::NodeAmounts;
use serde_json::json;

use crate::support::{Agent, Cluster, container_id, deleted, docker, pod, share, shell, skipped};

fn node(pids: u64) -> NodeConfig {
    let amounts = NodeAmounts {
        cpu_milli: 3900,
        memory_bytes: 100 << 20,
        memory_capacity_bytes: 128 << 20,
        storage_bytes: 1 << 30,
        pids: Some(pids),
    };
    NodeConfig { amounts, ..NodeConfig::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_what_the_container_finds_in_its_cgroup() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start_as(cluster.runtime(), node(50));
    let mut mixed = pod("mixed", &[("limited", "exec sleep 1000"), ("free", "exec sleep 1000")]);
    mixed["spec"]["containers"][0]["resources"] =
        json!({"limits": {"cpu": "500m", "memory": "64Mi"}, "requests": {"cpu": "250m", "memory": "32Mi"}});
    let field = |name: &str, resource: &str, divisor: &str| json!({"name": name, "valueFrom": {"resourceFieldRef": {"resource": resource, "divisor": divisor, "containerName": "limited"}}});
    mixed["spec"]["containers"][1]["env"] = json!([
        field("CPU", "limits.cpu", "1m"),
        field("MEMORY", "requests.memory", "1Mi"),
        {"name": "ALL", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
    ]);
    let mut sure = pod("sure", &[("app", "exec sleep 1000")]);
    let both = json!({"cpu": "100m", "memory": "16Mi"});
    sure["spec"]["containers"][0]["resources"] = json!({"limits": both.clone(), "requests": both});
    let any = pod("any", &[("app", "exec sleep 1000")]);
    agent.want(share(&[mixed, sure, any])).await;

    let status = agent.until_ready("mixed").await;
    assert_eq!(status["qosClass"], "Burstable");
    let read = |at: usize, file: &str| shell(&status, at, &format!("cat /sys/fs/cgroup/{file}"));
    if std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        assert_eq!(read(0, "cpu.max"), "50000 100000");
        assert_eq!((read(0, "memory.max"), read(0, "memory.swap.max")), ("67108864".into(), "0".into()));
        assert_eq!((read(0, "memory.low"), read(0, "pids.max")), ("33554432".into(), "50".into()));
        assert_eq!((read(1, "memory.max"), read(1, "pids.max")), ("max".into(), "50".into()));
    } else {
        let quota: f64 = read(0, "cpu/cpu.cfs_quota_us").parse().unwrap();
        assert_eq!(quota / read(0, "cpu/cpu.cfs_period_us").parse::<f64>().unwrap(), 0.5);
        assert_eq!((read(0, "cpu/cpu.shares"), read(1, "cpu/cpu.shares")), ("256".into(), "2".into()));
        for (file, bytes) in [
            ("memory.limit_in_bytes", "67108864"),
            ("memory.memsw.limit_in_bytes", "67108864"),
            ("memory.soft_limit_in_bytes", "33554432"),
        ] {
            assert_eq!(read(0, &format!("memory/{file}")), bytes, "{file}");
        }
        assert_eq!((read(0, "pids/pids.max"), read(1, "pids/pids.max")), ("50".into(), "50".into()));
    }
    assert_eq!(shell(&status, 1, "echo $CPU $MEMORY $ALL"), "500 32 100", "what is not limited has what the node has for pods");

    // The kernel ends first who asked for nothing: 1000 less what was asked for of the node's memory.
    let score = |status: &serde_json::Value, at: usize| shell(status, at, "cat /proc/1/oom_score_adj");
    assert_eq!((score(&status, 0), score(&status, 1)), ("750".into(), "999".into()));
    let any = agent.until_ready("any").await;
    assert_eq!((any["qosClass"].as_str(), score(&any, 0)), (Some("BestEffort"), "1000".into()));
    let sure = agent.until_ready("sure").await;
    assert_eq!(sure["qosClass"], "Guaranteed");
    // -997 where Docker may; else as any process of the host.
    assert!(["-997", "0"].contains(&score(&sure, 0).as_str()), "{}", score(&sure, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_bomb_does_not_take_the_node() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start_as(cluster.runtime(), node(50));
    // Only what the shell does by itself works afterwards.
    let script = "( i=0; while [ $i -lt 200 ]; do sleep 1000 & i=$((i+1)); done ); \
                  if [ -e /sys/fs/cgroup/pids.current ]; then read n < /sys/fs/cgroup/pids.current; \
                  else read n < /sys/fs/cgroup/pids/pids.current; fi; echo pids $n; exec sleep 1000";
    let (bomb_pod, calm_pod) = (pod("bomb", &[("app", script)]), pod("calm", &[("app", "exec sleep 1000")]));
    agent.want(share(&[bomb_pod.clone(), calm_pod.clone()])).await;
    let bomb = agent.until_ready("bomb").await;
    let calm = agent.until_ready("calm").await;
    let id = container_id(&bomb, 0);
    let mut log = String::new();
    for _ in 0..200 {
        log = docker(&["logs", &id]);
        if log.contains("pids ") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let pids: u64 = log.split("pids ").nth(1).unwrap_or_else(|| panic!("{log}")).trim().parse().unwrap();
    assert!((40..=50).contains(&pids), "{pids}");
    assert_eq!(shell(&calm, 0, "echo well"), "well");
    // All of it ends with its pod, and the other one has not noticed.
    agent.want(share(&[deleted(bomb_pod), calm_pod])).await;
    agent.until_gone("bomb").await;
    assert_eq!(agent.status("calm"), calm);
    agent.kill().await;
}
