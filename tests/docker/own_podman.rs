//! Podman's service stopped and killed: the twin of what `faults.rs` does to a dockerd. Containers are conmon's, and live on.

use std::time::Duration;

use bramble::agent::runtime::Runtime;
use bramble::agent::runtime::docker::DockerRuntime;
use bramble::agent::runtime::run::Health;

use crate::engine::{Kind, folder};
use crate::podman::Podman;
use crate::support::{Agent, Cluster, deleted, pod, share, skipped};

async fn until_health(agent: &Agent, wanted: impl FnMut(&Health) -> bool) {
    let mut health = agent.health.clone();
    let waited = tokio::time::timeout(Duration::from_secs(60), health.wait_for(wanted)).await;
    assert!(waited.is_ok(), "{:?}", *agent.health.borrow());
}

#[tokio::test(flavor = "multi_thread")]
async fn podmans_service_that_is_stopped_or_killed_restarts_nothing() {
    if skipped() {
        return;
    }
    if Kind::chosen() == Kind::Docker {
        eprintln!("of Podman only; its twin is docker_that_is_stopped_or_killed_and_started_again_has_each_pod_once");
        return;
    }
    let cluster = Cluster::new();
    // A second service over the same containers: the test's own commands go to the first.
    let mut own = Podman::start(&folder());
    let mut settings = cluster.settings();
    settings.socket = own.socket();
    let agent = Agent::start_on(DockerRuntime::new(settings));
    let (stays, goes) = (pod("stays", &[("main", "exec sleep 1000")]), pod("goes", &[("main", "exec sleep 1000")]));
    agent.want(share(&[stays.clone(), goes.clone()])).await;
    let before = agent.until_ready("stays").await;
    agent.until_ready("goes").await;
    for kill in [false, true] {
        own.stop(kill);
        until_health(&agent, |health| matches!(health, Health::Away(_))).await;
        assert_eq!(agent.status("stays")["containerStatuses"], before["containerStatuses"]);
        if kill {
            agent.want(share(&[stays.clone(), deleted(goes.clone())])).await;
        }
        own.run();
        until_health(&agent, |health| *health == Health::Ready).await;
    }
    agent.until_gone("goes").await;
    let after = agent.until_ready("stays").await;
    assert_eq!(after["containerStatuses"], before["containerStatuses"], "nothing was restarted");
    let runtime = std::sync::Arc::clone(&agent.runtime);
    agent.kill().await;
    runtime.teardown().await.unwrap();
    assert_eq!(cluster.left(), Vec::<String>::new());
}
