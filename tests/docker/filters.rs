//! What an engine is asked for by labels: an answer that has more in it (Podman's, of volumes and events) is not taken for ours.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bramble::agent::runtime::docker::DockerRuntime;
use bramble::agent::runtime::{Changed, Command, Runtime};
use bramble::api::Uid;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::faults::STAYS;
use crate::support::{Agent, Cluster, docker, pod, share, skipped};

/// A pod with scratch space.
fn scratched(name: &str) -> Value {
    let mut made = pod(name, &[("main", STAYS)]);
    made["spec"]["volumes"] = json!([{"name": "scratch", "emptyDir": {}}]);
    made["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "scratch", "mountPath": "/scratch"}]);
    made
}

#[tokio::test(flavor = "multi_thread")]
async fn who_looks_at_one_pod_sees_one_pod_and_its_removal_leaves_the_volumes_of_the_others() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start_on(cluster.runtime());
    agent.want(share(&[scratched("one"), scratched("other")])).await;
    agent.until_ready("one").await;
    agent.until_ready("other").await;
    let runtime = Arc::clone(&agent.runtime);
    agent.kill().await;

    let (one, other) = (Uid("uid-one".to_owned()), Uid("uid-other".to_owned()));
    let seen = runtime.observe(Some(&one)).await.unwrap();
    assert_eq!(seen.pods.keys().collect::<Vec<_>>(), [&one], "{seen:#?}");
    assert_eq!(seen.pods[&one].volumes.len(), 1);
    let disk = runtime.disk(Some(&one)).await.unwrap();
    assert_eq!(disk.iter().map(|used| used.pod.uid.0.as_str()).collect::<Vec<_>>(), ["uid-one"]);

    // Between two sandboxes nothing holds a pod's volume but the node.
    let all = runtime.observe(None).await.unwrap();
    let (gone, kept) = (&all.pods[&one], &all.pods[&other]);
    for id in kept.containers.iter().map(|run| &run.id).chain(kept.sandboxes.iter().map(|sandbox| &sandbox.id)) {
        docker(&["rm", "-f", id]);
    }
    runtime.execute(&gone.pod, &Command::RemovePod, &CancellationToken::new()).await.unwrap();
    let left = runtime.observe(None).await.unwrap();
    assert!(left.pods.get(&one).is_none_or(|pod| pod.volumes.is_empty()), "{left:#?}");
    assert_eq!(left.pods[&other].volumes, kept.volumes);
    runtime.teardown().await.unwrap();
    assert_eq!(cluster.left(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_does_not_hear_what_happens_to_another_nodes_pods() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let mut settings = cluster.settings();
    settings.owner.node = "test-2".to_owned();
    let second = DockerRuntime::new(settings);
    let mut events = second.events().await.unwrap();
    let heard = Arc::new(Mutex::new(BTreeSet::new()));
    let hears = Arc::clone(&heard);
    let listening = tokio::spawn(async move {
        while let Some(change) = events.next().await {
            hears.lock().unwrap().insert(format!("{change:?}"));
        }
    });
    let of = |name: &str| format!("{:?}", Changed::Pod(Uid(format!("uid-{name}"))));
    let until_heard = async |name: &str| {
        for _ in 0..600 {
            if heard.lock().unwrap().contains(&of(name)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("nothing was told of {name}: {heard:?}");
    };
    let wanted = |name: &str| share(&[pod(name, &[("main", STAYS)])]);

    let (first, own) = (Agent::start_on(cluster.runtime()), Agent::start_on(second.clone()));
    own.want(wanted("early")).await;
    own.until_ready("early").await;
    // The end of this one is told at the latest, and whatever comes from now on.
    own.want(wanted("ours")).await;
    until_heard("early").await;
    first.want(wanted("theirs")).await;
    first.until_ready("theirs").await;
    own.until_ready("ours").await;
    own.want(wanted("late")).await;
    own.until_ready("late").await;
    until_heard("late").await;
    assert!(!heard.lock().unwrap().contains(&of("theirs")), "{heard:?}");
    listening.abort();
    first.kill().await;
    own.kill().await;
    second.teardown().await.unwrap();
    cluster.runtime().teardown().await.unwrap();
    assert_eq!(cluster.left(), Vec::<String>::new());
}
