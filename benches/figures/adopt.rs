//! An agent dies and is started again beside containers that run: how long until it has told of all pods as ready, and whether
//! any container was started again.
//!
//! The master marks a lost node's pods and takes the mark back at the first sign of life; so what counts here is what the new
//! agent itself reports, read from the broker as a person would.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bramble::link::bus::BusEvent;
use bramble::link::codec::decode;
use bramble::link::message::Report;
use bramble::link::mqtt::{self, MqttConfig};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::Setup;
use crate::alone::Alone;
use crate::cluster::{Cluster, Probes};
use crate::engine::{Engine, IMAGE};
use crate::process;
use crate::table::{Table, milliseconds, quantiles};

/// After that adopting has failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// The pods are steady by then, and the agent has told what it knows.
const SETTLE: Duration = Duration::from_secs(15);

/// Kills the agent of one node several times.
pub fn measure(setup: &Setup, table: &mut Table) -> anyhow::Result<()> {
    let pods = setup.choose(50, 10);
    let engine = Engine::start()?;
    let folder = tempfile::tempdir()?;
    let cluster = Cluster::docker(setup, &engine, 1)?;
    let mut agent = Alone::agent(setup, &cluster, &folder)?;
    let probes = Probes::Http(10);
    cluster.deploy("adopted", pods, pods, IMAGE, probes)?;
    std::thread::sleep(SETTLE);
    let before = engine.runs()?;
    anyhow::ensure!(before.len() == 2 * pods, "{} containers for {pods} pods", before.len());
    let (mut first, mut all, mut work) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..setup.choose(5, 2) {
        agent.kill()?;
        let mut reports = Reports::hear(&cluster)?;
        let begun = Instant::now();
        agent = Alone::start(&folder.path().join("bramble"), &["agent", "--config"], &Alone::config(&cluster), &folder)?;
        let mut ready = BTreeSet::new();
        while ready.len() < pods {
            let report = reports.next(PATIENCE.saturating_sub(begun.elapsed()))?;
            if ready.is_empty() {
                first.push(begun.elapsed());
            }
            for pod in report.pods {
                if is_ready(&pod.status) {
                    ready.insert(pod.uid)
                } else {
                    ready.remove(&pod.uid)
                };
            }
        }
        all.push(begun.elapsed());
        work.push(process::cpu(agent.pid())?);
        std::thread::sleep(SETTLE);
        let after = engine.runs()?;
        anyhow::ensure!(after == before, "containers were started again:\n{before:#?}\n{after:#?}");
    }
    table.row(
        &format!("adopting {} containers of {pods} pods", before.len()),
        "",
        &format!("{}, {} of CPU", quantiles(&all), milliseconds(work.iter().copied().max().unwrap_or_default())),
        &format!(
            "agent killed (KILL) and started again, {} times; from its start to its report that the last pod is ready, {} (the first after {}); no container was started again",
            all.len(),
            probes.words(),
            milliseconds(first.iter().copied().max().unwrap_or_default())
        ),
    );
    drop(agent);
    Ok(())
}

fn is_ready(status: &Value) -> bool {
    let conditions = status.get("conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|condition| {
        condition.get("type").is_some_and(|kind| kind == "Ready")
            && condition.get("status").is_some_and(|status| status == "True")
    })
}

/// What the nodes report, from now on.
struct Reports {
    runtime: tokio::runtime::Runtime,
    events: mpsc::Receiver<BusEvent>,
    stop: CancellationToken,
}

impl Reports {
    fn hear(cluster: &Cluster) -> anyhow::Result<Self> {
        let status = cluster.status()?;
        let address = status.get("mqtt").and_then(Value::as_str).context("status without mqtt")?;
        let port =
            address.rsplit(':').next().and_then(|port| port.parse().ok()).with_context(|| format!("no port in {address}"))?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let stop = CancellationToken::new();
        let config = MqttConfig {
            client_id: "figures".to_owned(),
            at: mqtt::Place { host: "127.0.0.1".to_owned(), port },
            moves: None,
            tls: None,
            login: None,
            filters: vec!["bramble/+/nodes/+/up/report".to_owned()],
            will: None,
        };
        let (_, events, link) = {
            let _inside = runtime.enter();
            mqtt::connect(config, stop.clone())
        };
        runtime.spawn(link);
        let mut reports = Self { runtime, events, stop };
        while reports.event(PATIENCE)? != BusEvent::Connected {}
        Ok(reports)
    }

    fn next(&mut self, limit: Duration) -> anyhow::Result<Report> {
        loop {
            match self.event(limit)? {
                BusEvent::Message { payload, .. } => return Ok(decode(&payload)?),
                BusEvent::Disconnected => bail!("the broker went away"),
                BusEvent::Connected | BusEvent::Alive { .. } => {}
            }
        }
    }

    fn event(&mut self, limit: Duration) -> anyhow::Result<BusEvent> {
        let events = &mut self.events;
        let event = self.runtime.block_on(async { tokio::time::timeout(limit, events.recv()).await });
        event.context("nothing was reported")?.context("the link ended")
    }
}

impl Drop for Reports {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
