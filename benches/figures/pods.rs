//! From the request that makes a pod to its container running, and to the pod ready, against `docker run` in the same minutes.

use std::time::{Duration, Instant};

use crate::Setup;
use crate::api::{self, Client};
use crate::cluster::{Cluster, Probes, SERVES, is, pod};
use crate::engine::{Engine, IMAGE};
use crate::table::{Table, milliseconds, quantile, quantiles};

const PODS: &str = "/api/v1/namespaces/default/pods";
/// As people write it who want to know soon.
const PROBES: Probes = Probes::Http(1);

/// Turn by turn, so that what else runs here meets both.
pub fn measure(setup: &Setup, table: &mut Table) -> anyhow::Result<()> {
    let engine = Engine::start()?;
    let cluster = Cluster::docker(setup, &engine, 1)?;
    cluster.wait_nodes(1)?;
    let address = cluster.address()?;
    let mut client = Client::connect(&address)?;
    let events = api::watch(&address, PODS)?;
    let (mut plain, mut two, mut running, mut ready) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    // The first of each warms up and does not count: the sandbox's image is imported once, files come into the cache.
    for turn in 0..=setup.choose(30, 5) {
        let once = docker_run(&engine, &format!("plain-{turn}"))?;
        let twice = docker_run(&engine, &format!("first-{turn}"))? + docker_run(&engine, &format!("second-{turn}"))?;
        let name = format!("pod-{turn}");
        let begun = Instant::now();
        client.post(PODS, &pod(&name, IMAGE, PROBES))?;
        let (mut runs, mut is_ready) = (None, None);
        while is_ready.is_none() {
            let event = api::await_event(&events, "the pod is ready", |event| api::name(&event.object) == name)?;
            if event.object.pointer("/status/phase").is_some_and(|phase| phase == "Running") {
                runs.get_or_insert(event.at.duration_since(begun));
            }
            is_ready = is(&event.object, "Ready").then(|| event.at.duration_since(begun));
        }
        if turn > 0 {
            plain.push(once);
            two.push(twice);
            running.extend(runs);
            ready.extend(is_ready);
        }
        client.delete(&format!("{PODS}/{name}"))?;
        api::await_event(&events, "the pod is gone", |event| api::name(&event.object) == name && event.kind == "DELETED")?;
        engine.docker(&["rm", "--force", &format!("plain-{turn}"), &format!("first-{turn}"), &format!("second-{turn}")])?;
    }
    let what = format!("{} pods, image present; {} in each, {}", running.len(), SERVES.first().unwrap_or(&""), PROBES.words());
    for (name, aim, samples, until) in [
        ("create to container running", "`docker run` + 150 ms", &running, "`Running`"),
        ("create to pod ready", "", &ready, "the condition `Ready`"),
    ] {
        table.row(
            name,
            aim,
            &against(samples, &plain),
            &format!("POST on a kept connection until a watch tells {until}; {what}"),
        );
    }
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
    let arguments = [&["run", "--detach", "--name", name, IMAGE][..], &SERVES].concat();
    engine.docker(&arguments)?;
    Ok(begun.elapsed())
}

/// `p50 501 ms, p99 653 ms = 1.84 × and 1.84 × `docker run`, + 229 ms and + 299 ms`.
fn against(ours: &[Duration], plain: &[Duration]) -> String {
    let at = |samples: &[Duration], share| quantile(samples, share).unwrap_or_default();
    let ratio = |share| at(ours, share).as_secs_f64() / at(plain, share).as_secs_f64().max(f64::EPSILON);
    let more = |share| milliseconds(at(ours, share).saturating_sub(at(plain, share)));
    format!(
        "{} = {:.2} × and {:.2} × `docker run`, + {} and + {}",
        quantiles(ours),
        ratio(0.5),
        ratio(0.99),
        more(0.5),
        more(0.99)
    )
}
