//! Docker that hangs, breaks off or is restarted: it is noticed, and everything meets after.

use std::time::Duration;

use bramble::agent::runtime::Runtime;
use bramble::agent::runtime::docker::DockerRuntime;
use bramble::agent::runtime::run::Health;
use serde_json::{Value, json};

use crate::engine::Kind;
use crate::own_docker::OwnDocker;
use crate::proxy::{Mood, Proxy};
use crate::support::{Agent, Cluster, deleted, pod, share, skipped, socket};

pub const STAYS: &str = "trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; done";

/// A runtime behind the proxy that waits a small part of what a node waits.
pub fn hasty(cluster: &Cluster, proxy: &Proxy) -> DockerRuntime {
    let mut settings = cluster.settings();
    settings.socket = proxy.socket.to_string_lossy().into_owned();
    settings.haste = Kind::chosen().haste();
    DockerRuntime::new(settings)
}

async fn until_health(agent: &Agent, what: &str, wanted: impl FnMut(&Health) -> bool) {
    let mut health = agent.health.clone();
    let waited = tokio::time::timeout(Duration::from_secs(60), health.wait_for(wanted)).await;
    assert!(waited.is_ok(), "the runtime never came to be {what}: {:?}", *agent.health.borrow());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_docker_that_hangs_is_noticed_and_what_was_wanted_meanwhile_is_done_after() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let proxy = Proxy::start(&socket());
    let agent = Agent::start_on(hasty(&cluster, &proxy));
    let (old, new) = (pod("old", &[("main", STAYS)]), pod("new", &[("main", STAYS)]));
    agent.want(share(std::slice::from_ref(&old))).await;
    let before = agent.until_ready("old").await;

    for mood in [Mood::Hang, Mood::Cut, Mood::Gone] {
        proxy.set(mood);
        agent.want(share(&[old.clone(), new.clone()])).await;
        until_health(&agent, "away", |health| matches!(health, Health::Away(words) if words.contains("Docker"))).await;
        assert_eq!(agent.status("old")["containerStatuses"], before["containerStatuses"], "what was seen last is what is told");
        proxy.set(Mood::Pass);
        until_health(&agent, "back", |health| *health == Health::Ready).await;
        agent.until_ready("new").await;
        agent.want(share(&[old.clone(), deleted(new.clone())])).await;
        agent.until_gone("new").await;
        agent.want(share(std::slice::from_ref(&old))).await;
    }
    let after = agent.until_ready("old").await;
    assert_eq!(after["containerStatuses"], before["containerStatuses"], "nothing was restarted for it");
    agent.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_that_is_stopped_or_killed_and_started_again_has_each_pod_once() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let mut own = OwnDocker::start();
    let mut settings = cluster.settings();
    settings.socket = own.socket();
    let agent = Agent::start_on(DockerRuntime::new(settings));
    let mut pods: Vec<Value> = ["one", "two"].map(|name| pod(name, &[("main", STAYS)])).into();
    pods[1]["spec"]["volumes"] = json!([{"name": "scratch", "emptyDir": {}}]);
    pods[1]["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "scratch", "mountPath": "/scratch"}]);
    agent.want(share(&pods)).await;
    for name in ["one", "two"] {
        agent.until_ready(name).await;
    }
    own.docker(&["exec", &container_id(&agent.status("two")), "/bin/sh", "-c", "echo kept > /scratch/word"]);
    for kill in [false, true] {
        let restarts = |name: &str| agent.status(name)["containerStatuses"][0]["restartCount"].as_u64().unwrap();
        let before = [restarts("one"), restarts("two")];
        own.stop(kill);
        until_health(&agent, "away", |health| matches!(health, Health::Away(_))).await;
        own.run();
        until_health(&agent, "back", |health| *health == Health::Ready).await;
        for (name, before) in ["one", "two"].into_iter().zip(before) {
            agent
                .until(name, "running again", |status| status["containerStatuses"][0]["restartCount"].as_u64() > Some(before))
                .await;
            agent.until_ready(name).await;
        }
        let two = container_id(&agent.status("two"));
        assert_eq!(own.docker(&["exec", &two, "/bin/cat", "/scratch/word"]), "kept", "an emptyDir outlives its containers");
        let running = own.docker(&["ps", "--format", "{{.Names}}"]);
        assert_eq!(running.lines().count(), 4, "two pods, each with its sandbox: {running}");
    }
    assert!(agent.reasons().iter().any(|reason| reason == "SandboxChanged"));
    let runtime = std::sync::Arc::clone(&agent.runtime);
    agent.kill().await;
    runtime.teardown().await.unwrap();
    assert_eq!(own.docker(&["ps", "-aq"]), "");
}

fn container_id(status: &Value) -> String {
    status["containerStatuses"][0]["containerID"].as_str().unwrap().rsplit('/').next().unwrap().to_owned()
}
