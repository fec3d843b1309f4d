//! The same with Docker: from the signal that kills a container's process, and from its start, to the call of the LED driver.

use std::collections::BTreeMap;
use std::sync::mpsc::Receiver;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

use super::lamps::{Kind, Lamps, READY, Shown};
use super::latency::{clear, judged, moment, once};
use crate::Setup;
use crate::api::Client;
use crate::cluster::Cluster;
use crate::engine::{Engine, IMAGE};
use crate::table::Table;

/// So many pods at once.
const AT_ONCE: usize = 20;
/// A container that was made, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// After the starts, and between two kills: Docker has tidied up by then.
const CALM: [Duration; 2] = [Duration::from_secs(3), Duration::from_millis(300)];

/// A container of ours, as Docker knows it.
struct Container {
    pid: i32,
    started: SystemTime,
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
    let (mut starts, mut kills, mut ours) = (Vec::new(), Vec::new(), Vec::new());
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
        let running = containers(&engine, name)?;
        std::thread::sleep(CALM[0]);
        let (since, mut killed) = (SystemTime::now(), Vec::new());
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
            std::thread::sleep(CALM[1]);
        }
        let told = deaths(&engine, since)?;
        for (number, at) in killed.into_iter().enumerate() {
            let told = told.get(&name(number)).with_context(|| format!("Docker told nothing of {}", name(number)))?;
            ours.push(at.duration_since(*told)?);
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
            "{} containers, one after the other with {} ms between; from the KILL of its process to the write of the driver for the kernel's LEDs (files here); \
             of that from Docker's own event `die` on: {}",
            kills.len(),
            CALM[1].as_millis(),
            judged(&ours)
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
    let format = "{{index .Config.Labels \"bramble/pod-name\"}} {{.State.Pid}} {{.State.StartedAt}}";
    let mut arguments = vec!["inspect", "--format", format];
    arguments.extend(ids.lines());
    let mut found = BTreeMap::new();
    for line in engine.docker(&arguments)?.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [pod, pid, started] = words[..] else { anyhow::bail!("docker inspect said {line:?}") };
        if let Some(number) = (0..AT_ONCE).find(|number| name(*number) == pod) {
            let container = Container { pid: pid.parse()?, started: moment(started)? };
            anyhow::ensure!(found.insert(number, container).is_none(), "two containers of {pod}");
        }
    }
    Ok(found)
}

/// When Docker told of the ends of the pods' own containers, by their pods' names. It remembers its last 256 events.
fn deaths(engine: &Engine, since: SystemTime) -> anyhow::Result<BTreeMap<String, SystemTime>> {
    let unix = |at: SystemTime| anyhow::Ok(format!("{:.9}", at.duration_since(UNIX_EPOCH)?.as_secs_f64()));
    let (since, until) = (unix(since)?, unix(SystemTime::now())?);
    let format = "{{.TimeNano}} {{index .Actor.Attributes \"bramble/pod-name\"}}";
    let only = ["--filter", "event=die", "--filter", "label=bramble/container=main", "--format", format];
    let said = engine.docker(&[&["events", "--since", &since, "--until", &until], &only[..]].concat())?;
    let mut deaths = BTreeMap::new();
    for line in said.lines() {
        let (nanoseconds, pod) = line.split_once(' ').with_context(|| format!("docker events said {line:?}"))?;
        deaths.insert(pod.to_owned(), UNIX_EPOCH + Duration::from_nanos(nanoseconds.parse()?));
    }
    Ok(deaths)
}
