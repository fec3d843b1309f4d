//! A hundred simulated nodes: a thousand pods at once, and one at a time.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Setup;
use crate::api::{self, Client, Event};
use crate::cluster::{Cluster, Probes, deployment, pod, wait};
use crate::process;
use crate::table::{Table, quantiles};

const PODS: &str = "/api/v1/namespaces/default/pods";
const IMAGE: &str = "any/image:1";

pub fn measure(setup: &Setup, table: &mut Table) -> anyhow::Result<()> {
    let (nodes, pods) = setup.choose((100, 1000), (20, 200));
    let cluster = Cluster::simulated(setup, nodes)?;
    cluster.wait_nodes(nodes as usize)?;
    let master = cluster.master()?;
    let address = cluster.address()?;
    let mut client = Client::connect(&address)?;
    let events = api::watch(&address, PODS)?;

    let mut single = Vec::new();
    for turn in 0..setup.choose(200, 50) {
        let name = format!("single-{turn}");
        let begun = Instant::now();
        client.post(PODS, &pod(&name, IMAGE, Probes::None))?;
        let bound = api::await_event(&events, "a pod is bound", |event| api::name(&event.object) == name && is_bound(event))?;
        single.push(bound.at.duration_since(begun));
    }
    table.row(
        "create to bound, one pod at a time",
        "p50 3 ms, p99 20 ms",
        &quantiles(&single),
        &format!("{} pods on {nodes} simulated nodes; POST on a kept connection until a watch tells the node", single.len()),
    );
    for turn in 0..single.len() {
        client.delete(&format!("{PODS}/single-{turn}?gracePeriodSeconds=0"))?;
    }
    wait("the single pods are gone", Duration::from_secs(60), || Ok(count(&client.get(PODS)?, |_| true) == 0))?;
    while events.try_recv().is_ok() {}

    let used = process::cpu(master)?;
    let begun = Instant::now();
    client.post("/apis/apps/v1/namespaces/default/deployments", &deployment("many", pods, IMAGE, Probes::None))?;
    let (mut bound, mut first, mut last) = (BTreeSet::new(), None, begun);
    while bound.len() < pods {
        let event = api::await_event(&events, "the pods are bound", is_bound)?;
        if bound.insert(api::name(&event.object).to_owned()) {
            first.get_or_insert(event.at);
            last = event.at;
        }
    }
    let work = process::cpu(master)?.saturating_sub(used);
    let time = last.duration_since(begun);
    table.row(
        &format!("{pods} pods of a deployment bound on {nodes} simulated nodes"),
        "2,000 a second",
        &format!("{:.2} s: {:.0} a second", time.as_secs_f64(), pods as f64 / time.as_secs_f64()),
        &format!(
            "from the POST of the deployment to the watch's last bound pod (the first after {:.0} ms); the agents start pods meanwhile; CPU time of the master {:.2} s",
            first.unwrap_or(last).duration_since(begun).as_secs_f64() * 1000.0,
            work.as_secs_f64()
        ),
    );
    wait("all pods run", Duration::from_secs(180), || Ok(count(&client.get(PODS)?, is_running) == pods))?;
    let time = begun.elapsed();
    let memory = process::memory(master)?;
    table.row(
        &format!("the same {pods} pods running"),
        "",
        &format!("{:.1} s", time.as_secs_f64()),
        &format!("simulated containers; master then {:.1} MiB PSS", memory.pss as f64 / 1024.0),
    );
    Ok(())
}

fn is_bound(event: &Event) -> bool {
    event.object.pointer("/spec/nodeName").and_then(Value::as_str).is_some_and(|node| !node.is_empty())
}

fn is_running(pod: &Value) -> bool {
    pod.pointer("/status/phase").is_some_and(|phase| phase == "Running")
}

fn count(list: &Value, what: impl Fn(&Value) -> bool) -> usize {
    list.get("items").and_then(Value::as_array).map_or(0, |items| items.iter().filter(|item| what(item)).count())
}
