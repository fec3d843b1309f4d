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

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_container_comes_back_and_a_new_agent_adopts_it() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start(&cluster);
    let web = pod("web", &[("app", "exec sleep 1000")]);
    agent.want(share(std::slice::from_ref(&web))).await;
    let first = agent.until_ready("web").await;
    let id = first["containerStatuses"][0]["containerID"].as_str().unwrap().strip_prefix("docker://").unwrap().to_owned();
    docker(&["kill", &id]);
    let second =
        agent.until("web", "restarted", |status| is_ready(status) && status["containerStatuses"][0]["restartCount"] == 1).await;
    assert_eq!(second["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 137);
    assert_eq!(second["containerStatuses"][0]["lastState"]["terminated"]["containerID"], format!("docker://{id}"));

    // The agent ends as by kill -9; the next one finds all as it was.
    let list = ["ps", "-q", "--no-trunc", "--filter"];
    let filter = format!("label=bramble/cluster={}", cluster.uid);
    let running = docker(&[&list[..], &[filter.as_str()]].concat());
    agent.kill().await;
    let agent = Agent::start(&cluster);
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(docker(&[&list[..], &[filter.as_str()]].concat()), running, "nothing is removed before a share came");
    agent.want(share(std::slice::from_ref(&web))).await;
    let third = agent.until_ready("web").await;
    assert_eq!(third, second);
    assert_eq!(docker(&[&list[..], &[filter.as_str()]].concat()), running);

    // What is no longer in the share goes.
    agent.want(share(&[])).await;
    for _ in 0..200 {
        if docker(&["ps", "-aq", "--filter", &filter]).is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(docker(&["ps", "-aq", "--filter", &filter]), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn config_maps_secrets_and_memory_appear_as_files_with_their_modes() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start(&cluster);
    let mut web = pod("files", &[("app", "exec sleep 1000")]);
    web["spec"]["volumes"] = json!([
        {"name": "conf", "configMap": {"name": "c", "items": [{"key": "k", "path": "deep/file", "mode": 0o640}]}},
        {"name": "key", "secret": {"secretName": "s", "defaultMode": 0o400}},
        {"name": "ram", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
    ]);
    web["spec"]["containers"][0]["volumeMounts"] = json!([
        {"name": "conf", "mountPath": "/conf"}, {"name": "key", "mountPath": "/key"}, {"name": "ram", "mountPath": "/ram"},
    ]);
    web["spec"]["containers"][0]["env"] = json!([{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]);
    let mut share = share(std::slice::from_ref(&web));
    let object = |value| std::sync::Arc::new(bramble::api::Object::from_value(value).unwrap());
    share.config_maps.insert("default/c".into(), object(json!({"data": {"k": "from-the-map"}})));
    share.secrets.insert("default/s".into(), object(json!({"data": {"p": "aHVudGVyMg=="}})));
    agent.want(share).await;
    let status = agent.until_ready("files").await;
    let id = status["containerStatuses"][0]["containerID"].as_str().unwrap().strip_prefix("docker://").unwrap().to_owned();
    let shell = |script: &str| docker(&["exec", &id, "/bin/sh", "-c", script]);
    assert_eq!(shell("cat /conf/deep/file; echo; stat -L -c %a /conf/deep/file"), "from-the-map\n640");
    assert_eq!(shell("cat /key/p; echo; stat -L -c %a /key/p"), "hunter2\n400");
    assert!(shell("mount").lines().any(|line| line.contains(" /key ") && line.contains("(ro,")), "nobody writes there");
    assert!(shell("mount").lines().any(|line| line.contains(" /ram ") && line.contains("size=1024k")));
    assert_eq!(shell("stat -c %a /ram"), "777");
    assert_eq!(shell("echo $IP"), status["podIP"].as_str().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_cannot_start_says_why_in_dockers_words() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start(&cluster);
    let mut web = pod("wrong", &[("app", "")]);
    web["spec"]["containers"][0]["command"] = json!(["/no/such/program"]);
    agent.want(share(&[web])).await;
    let status = agent
        .until("wrong", "CrashLoopBackOff", |status| {
            status["containerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff"
        })
        .await;
    let last = &status["containerStatuses"][0]["lastState"]["terminated"];
    assert_eq!(last["reason"], "StartError");
    assert!(last["message"].as_str().unwrap().contains("/no/such/program"), "{last}");
    assert!(agent.reasons().iter().any(|reason| reason == "Failed"));
}
