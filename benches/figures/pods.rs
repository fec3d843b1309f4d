//! From the request that makes a pod to its container running, against `docker run` in the same minutes.

use std::time::{Duration, Instant};

use crate::Setup;
use crate::api::{self, Client};
use crate::cluster::{Cluster, pod};
use crate::engine::{Engine, IMAGE};
use crate::table::{Table, milliseconds, quantile, quantiles};

const PODS: &str = "/api/v1/namespaces/default/pods";

/// Turn by turn, so that what else runs here meets both.
pub fn measure(setup: &Setup, table: &mut Table) -> anyhow::Result<()> {
    let engine = Engine::start()?;
    let cluster = Cluster::docker(setup, &engine, 1)?;
    cluster.wait_nodes(1)?;
    let address = cluster.address()?;
    let mut client = Client::connect(&address)?;
    let events = api::watch(&address, PODS)?;
    let (mut plain, mut two, mut ours) = (Vec::new(), Vec::new(), Vec::new());
    // The first of each warms up and does not count: the sandbox's image is imported once, files come into the cache.
    for turn in 0..=setup.choose(30, 5) {
        let once = docker_run(&engine, &format!("plain-{turn}"))?;
        let twice = docker_run(&engine, &format!("first-{turn}"))? + docker_run(&engine, &format!("second-{turn}"))?;
        let name = format!("pod-{turn}");
        let begun = Instant::now();
        client.post(PODS, &pod(&name, IMAGE))?;
        let running = api::await_event(&events, "the pod runs", |event| {
            api::name(&event.object) == name && event.object.pointer("/status/phase").is_some_and(|phase| phase == "Running")
        })?;
        let time = running.at.duration_since(begun);
        if turn > 0 {
            plain.push(once);
            two.push(twice);
            ours.push(time);
        }
        client.delete(&format!("{PODS}/{name}"))?;
        api::await_event(&events, "the pod is gone", |event| api::name(&event.object) == name && event.kind == "DELETED")?;
        engine.docker(&["rm", "--force", &format!("plain-{turn}"), &format!("first-{turn}"), &format!("second-{turn}")])?;
    }
    let middle = |samples: &[Duration]| quantile(samples, 0.5).unwrap_or_default();
    let (docker, pod) = (middle(&plain), middle(&ours));
    table.row(
        "create to container running",
        "`docker run` + 150 ms",
        &format!(
            "{} = {:.1} × `docker run`, + {}",
            quantiles(&ours),
            ratio(pod, docker),
            milliseconds(pod.saturating_sub(docker))
        ),
        &format!("POST on a kept connection until a watch tells `Running`; {} pods, image present", ours.len()),
    );
    table.row(
        "`docker run -d` of the same image",
        "",
        &quantiles(&plain),
        &format!("turn by turn with the pods; two one after the other (a pod is sandbox and container): {}", quantiles(&two)),
    );
    Ok(())
}

fn docker_run(engine: &Engine, name: &str) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    engine.docker(&["run", "--detach", "--name", name, IMAGE, "sleep", "3600"])?;
    Ok(begun.elapsed())
}

fn ratio(a: Duration, b: Duration) -> f64 {
    a.as_secs_f64() / b.as_secs_f64().max(f64::EPSILON)
}
