//! What a trial on a real cluster brought up, on real Docker.

use std::sync::Arc;
use std::time::Duration;

use bramble::api::{Object, Uid};
use serde_json::{Value, json};

use crate::support::{Agent, Cluster, docker, is_ready, pod, share, shell, skipped};

/// What two looks and a new sandbox take on a busy machine, in halves of a second: far less than the node waits until it looks at
/// everything by itself (300 s), so that it has to have heard of it.
const HEARD: usize = 240;

/// Waits until the pod's status is as wanted, for longer than others wait.
async fn until(agent: &Agent, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..HEARD {
        let status = agent.status(name);
        if wanted(&status) {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    panic!("{name} never came to: {what}\n{:#}\n{:#?}", agent.status(name), agent.events());
}

/// The sandbox of a pod.
fn sandbox(cluster: &Cluster, uid: &Uid) -> String {
    let (cluster, pod) = (format!("label=bramble/cluster={}", cluster.uid), format!("label=bramble/pod-uid={uid}"));
    let all = docker(&[
        "ps",
        "-q",
        "--no-trunc",
        "--filter",
        &cluster,
        "--filter",
        &pod,
        "--filter",
        "label=bramble/container=SANDBOX",
    ]);
    all.lines().next().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_whose_sandbox_was_taken_off_its_network_is_made_anew() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start(&cluster);
    agent.want(share(&[pod("web", &[("app", "exec sleep 1000")])])).await;
    let before = agent.until_ready("web").await;
    let first = sandbox(&cluster, &"uid-web".into());
    let network = cluster.owner().network();
    // The network goes as well: the next sandbox needs another one.
    let lost = tokio::time::Instant::now();
    docker(&["network", "disconnect", "-f", &network, &first]);
    docker(&["network", "rm", &network]);
    let after = until(&agent, "web", "restarted", |status| {
        is_ready(status) && status["containerStatuses"][0]["restartCount"] == 1 && status["podIP"].is_string()
    })
    .await;
    println!("made anew {:.1} s after it was taken off", lost.elapsed().as_secs_f64());
    let second = sandbox(&cluster, &"uid-web".into());
    assert_ne!(second, first);
    let address = docker(&["inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", &second]);
    assert_eq!(after["podIP"], address);
    assert_ne!(before["containerStatuses"][0]["containerID"], after["containerStatuses"][0]["containerID"]);
    assert!(agent.reasons().iter().any(|reason| reason == "SandboxChanged"), "{:#?}", agent.events());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_whose_sandbox_was_taken_off_its_network_while_no_agent_was_there_is_made_anew() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start(&cluster);
    let wanted = || share(&[pod("web", &[("app", "exec sleep 1000")])]);
    agent.want(wanted()).await;
    agent.until_ready("web").await;
    agent.kill().await;
    let first = sandbox(&cluster, &"uid-web".into());
    docker(&["network", "disconnect", "-f", &cluster.owner().network(), &first]);
    // It has seen no address, and no other pod has one.
    let begun = tokio::time::Instant::now();
    let agent = Agent::start(&cluster);
    agent.want(wanted()).await;
    until(&agent, "web", "restarted", |status| {
        is_ready(status) && status["containerStatuses"][0]["restartCount"] == 1 && status["podIP"].is_string()
    })
    .await;
    println!("made anew {:.1} s after the agent's start", begun.elapsed().as_secs_f64());
    assert_ne!(sandbox(&cluster, &"uid-web".into()), first);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_mounted_below_a_config_map_is_there_and_stays_through_an_update() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start(&cluster);
    let mut web = pod("web", &[("app", "exec sleep 1000")]);
    web["spec"]["volumes"] = json!([
        {"name": "conf", "configMap": {"name": "c"}}, {"name": "key", "secret": {"secretName": "s"}}, {"name": "work", "emptyDir": {}},
        {"name": "unused", "secret": {"secretName": "nowhere"}},
    ]);
    web["spec"]["containers"][0]["volumeMounts"] = json!([
        {"name": "conf", "mountPath": "/etc/app"}, {"name": "key", "mountPath": "/etc/app/sec"},
        {"name": "work", "mountPath": "/etc/app/w/x"}, {"name": "key", "mountPath": "/etc/app/pass", "subPath": "p"},
        {"name": "work", "mountPath": "relative"},
    ]);
    let object = |value: Value| Arc::new(Object::from_value(value).unwrap());
    let with = |word: &str| {
        let mut share = share(std::slice::from_ref(&web));
        share.config_maps.insert("default/c".into(), object(json!({"data": {"a": word}})));
        share.secrets.insert("default/s".into(), object(json!({"data": {"p": "aHVudGVyMg=="}})));
        share
    };
    agent.want(with("one")).await;
    let status = agent.until_ready("web").await;
    let all = "echo mark > /etc/app/w/x/f; cat /etc/app/a /etc/app/sec/p /etc/app/pass /relative/f";
    assert_eq!(shell(&status, 0, all), "onehunter2hunter2mark");
    agent.want(with("two")).await;
    for _ in 0..100 {
        if shell(&status, 0, all) == "twohunter2hunter2mark" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the update never came: {}", shell(&status, 0, all));
}
