//! A pod's first container is made while its sandbox starts, and made anew when that sandbox is another by its turn.

use bramble::agent::runtime::docker::DockerRuntime;
use bramble::agent::runtime::{Command, ContainerPlan, Done, PodRef, RunState, Runtime, SandboxPlan};
use tokio_util::sync::CancellationToken;

use crate::engine::Kind;
use crate::support::{BUSYBOX, Cluster, docker, skipped};

fn app(pod: &PodRef) -> ContainerPlan {
    ContainerPlan {
        pod: pod.clone(),
        name: "app".to_owned(),
        spec_hash: "1".to_owned(),
        image: BUSYBOX.to_owned(),
        command: vec!["sleep".to_owned(), "1000".to_owned()],
        ..ContainerPlan::default()
    }
}

async fn started(runtime: &DockerRuntime, pod: &PodRef, command: Command) -> (String, bool) {
    match runtime.execute(pod, &command, &CancellationToken::new()).await.unwrap() {
        Done::Started { id, created, .. } => (id, created),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_made_beside_its_sandbox_is_started_in_it_and_no_other() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let runtime = cluster.runtime();
    let pod = PodRef { uid: "uid-early".into(), namespace: "default".to_owned(), name: "early".to_owned() };
    let sandbox = |attempt, next: Option<ContainerPlan>| {
        Command::StartSandbox(Box::new(SandboxPlan {
            pod: pod.clone(),
            attempt,
            next: next.map(Box::new),
            ..SandboxPlan::default()
        }))
    };
    let turn = |sandbox: &str| Command::StartContainer(Box::new(ContainerPlan { sandbox_id: sandbox.to_owned(), ..app(&pod) }));

    // With its first sandbox a runtime learns whether this host shelters; that start may be a second try.
    let (zeroth, _) = started(&runtime, &pod, sandbox(0, None)).await;
    docker(&["rm", "-f", &zeroth]);

    let (first, _) = started(&runtime, &pod, sandbox(0, Some(app(&pod)))).await;
    let listing = runtime.observe(Some(&pod.uid)).await.unwrap();
    let made = listing.pods[&pod.uid].containers.clone();
    assert_eq!(made.len(), 1);
    assert_eq!((&made[0].state, made[0].sandbox_id.as_str()), (&RunState::Created, first.as_str()));
    let (id, fresh) = started(&runtime, &pod, turn(&first)).await;
    assert_eq!((id.as_str(), fresh), (made[0].id.as_str(), true), "it has never run, so it has never been ready");
    assert_eq!(started(&runtime, &pod, turn(&first)).await, (id.clone(), false), "and now it runs");
    for one in [&id, &first] {
        docker(&["rm", "-f", one]);
    }

    // Its sandbox is lost before its turn comes.
    let (second, _) = started(&runtime, &pod, sandbox(1, Some(app(&pod)))).await;
    let lose: &[&str] = if Kind::chosen().removes_what_others_joined() { &["rm", "-f"] } else { &["kill"] };
    docker(&[lose, &[second.as_str()]].concat());
    let (third, _) = started(&runtime, &pod, sandbox(2, None)).await;
    let (again, fresh) = started(&runtime, &pod, turn(&third)).await;
    assert!(fresh);
    let network = docker(&["inspect", "--format", "{{.State.Running}} {{.HostConfig.NetworkMode}}", &again]);
    assert_eq!(network.trim(), format!("true container:{third}"));

    // An image that is not here is said in the container's turn, not the sandbox's.
    let absent = ContainerPlan { image: "bramble-test-absent:1".to_owned(), name: "absent".to_owned(), ..app(&pod) };
    let (fourth, _) = started(&runtime, &pod, sandbox(3, Some(absent))).await;
    assert_eq!(docker(&["inspect", "--format", "{{.State.Running}}", &fourth]).trim(), "true");
}
