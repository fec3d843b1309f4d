//! The same with Docker: from the signal that kills a container's process, and from its start, to the call of the LED driver.

use std::collections::BTreeMap;
use std::sync::mpsc::Receiver;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

use super::lamps::{Kind, Lamps, READY, Shown};
use super::latency::{clear, judged, moment, once};
use crate::Setup;
use crate::api::Client;
use crate::cluster::Cluster;
use crate::engine::{Engine, IMAGE};
use crate::table::{Table, quantiles};

/// So many pods at once.
const AT_ONCE: usize = 20;
/// A container that was made, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A container of ours, as Docker knows it.
struct Container {
    pid: i32,
    started: SystemTime,
    finished: SystemTime,
}

/// Turns of twenty pods: all are started at once, and then killed one by one.
pub fn measure(setup: &Setup, table: &mut Table) -> anyhow::Result<()> {
    let engine = Engine::start()?;
    let lamps = Lamps::new([Kind::Rgb; AT_ONCE])?;
    let folder = tempfile::tempdir()?;
    let cluster = Cluster::docker(setup, &engine, 1)?;
    cluster.wait_nodes(1)?;
    let agent = lamps.agent(setup, &cluster, folder.path(), "", "info")?;
    let shown = lamps.watch()?;
    let (mut starts, mut kills, mut told) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 0..setup.choose(13, 2) {
        let name = |number: usize| format!("killed-{turn}-{number}");
        let mut client = Client::connect(&cluster.address()?)?;
        for number in 0..AT_ONCE {
            client.post(super::latency::PODS, &once(&name(number), IMAGE, number + 1, ""))?;
        }
        let mut ready: BTreeMap<usize, SystemTime> = BTreeMap::new();
        while ready.len() < AT_ONCE {
            let call = shown.recv_timeout(PATIENCE).context("the pods do not become ready")?;
            if call.light == READY {
                ready.entry(call.led).or_insert(call.at);
            }
        }
        let running = containers(&engine, &name)?;
        let mut killed = Vec::new();
        for number in 0..AT_ONCE {
            let container = running.get(&number).with_context(|| format!("no container of {}", name(number)))?;
            let seen = ready.get(&(number + 1)).context("every LED was seen")?;
            starts.push(seen.duration_since(container.started)?);
            let process = Pid::from_raw(container.pid).context("a container without a process")?;
            let at = SystemTime::now();
            kill_process(process, Signal::KILL)?;
            let call = changed(&shown, number + 1)?;
            kills.push(call.at.duration_since(at)?);
            killed.push(call.at);
        }
        let over = containers(&engine, &name)?;
        for (number, at) in killed.into_iter().enumerate() {
            let container = over.get(&number).with_context(|| format!("no container of {}", name(number)))?;
            // Docker may write down the end after it has told of it.
            told.push(at.duration_since(container.finished).unwrap_or_default());
        }
        clear(&cluster, AT_ONCE, name)?;
        while shown.try_recv().is_ok() {}
    }
    drop(agent);
    table.row(
        "Docker: a container is killed to the LED driver's call",
        "p99 100 ms",
        &judged(&kills),
        &format!(
            "{} containers, one after the other; from the KILL of its process to the write of the driver for the kernel's LEDs (files here); \
             from the end as Docker gives it: {}",
            kills.len(),
            quantiles(&told)
        ),
    );
    table.row(
        "Docker: a container starts to the LED driver's call",
        "p99 100 ms",
        &judged(&starts),
        &format!("{} containers, {AT_ONCE} pods started at once; from the start as Docker gives it", starts.len()),
    );
    Ok(())
}

/// The next call that shows another light than that of a pod that is ready.
fn changed(shown: &Receiver<Shown>, led: usize) -> anyhow::Result<Shown> {
    loop {
        let call =
            shown.recv_timeout(PATIENCE).with_context(|| format!("LED {led} does not show that its container was killed"))?;
        if call.led == led && call.light != READY {
            return Ok(call);
        }
    }
}

/// The pods' own containers by the number of their pods, not the sandboxes.
fn containers(engine: &Engine, name: impl Fn(usize) -> String) -> anyhow::Result<BTreeMap<usize, Container>> {
    let ids = engine.docker(&["ps", "--all", "--quiet", "--no-trunc", "--filter", "label=bramble/container=main"])?;
    let format = "{{index .Config.Labels \"bramble/pod-name\"}} {{.State.Pid}} {{.State.StartedAt}} {{.State.FinishedAt}}";
    let mut arguments = vec!["inspect", "--format", format];
    arguments.extend(ids.lines());
    let mut found = BTreeMap::new();
    for line in engine.docker(&arguments)?.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [pod, pid, started, finished] = words[..] else { anyhow::bail!("docker inspect said {line:?}") };
        if let Some(number) = (0..AT_ONCE).find(|number| name(*number) == pod) {
            let container = Container { pid: pid.parse()?, started: moment(started)?, finished: moment(finished)? };
            anyhow::ensure!(found.insert(number, container).is_none(), "two containers of {pod}");
        }
    }
    Ok(found)
}
