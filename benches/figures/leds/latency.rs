//! From a pod's change to the call of the LED driver, natively: simulated containers that end, each at a moment of its own.
//!
//! The runtime logs each change as it happens, at the level `trace`, and what the driver writes is seen by inotify: both by the
//! machine's clock.

use std::collections::BTreeMap;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::lamps::{Kind, Lamps, Shown};
use crate::Setup;
use crate::alone::Alone;
use crate::api::Client;
use crate::cluster::{Cluster, Probes, annotated, pod, wait};
use crate::table::{Table, milliseconds, quantile, quantiles};

pub const PODS: &str = "/api/v1/namespaces/default/pods";
/// So many pods at once, each on an LED of its own; a multiple of four ([`Sort::of`]).
const AT_ONCE: usize = 40;
/// The first container ends so long after its start: all run by then.
const FIRST: Duration = Duration::from_secs(3);
/// Between two that end.
const STEP: Duration = Duration::from_millis(45);
/// Nothing that is waited for takes so long.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the aim is.
pub const AIM: Duration = Duration::from_millis(100);

/// A sort of changes that LEDs may show differently soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Sort {
    rgb: bool,
    fails: bool,
}

impl Sort {
    /// Of the pod with this number: as many of each.
    fn of(number: usize) -> Self {
        Self { rgb: number.is_multiple_of(2), fails: number / 2 % 2 == 1 }
    }

    fn words(self) -> &'static str {
        match (self.rgb, self.fails) {
            (false, false) => "a plain LED, solid → dark (done)",
            (false, true) => "a plain LED, solid → double blink (failed)",
            (true, false) => "an LED of any colour, green → dark (done)",
            (true, true) => "an LED of any colour, green → orange (failed)",
        }
    }
}

/// At least 500 changes in turns of forty pods.
pub fn measure(setup: &Setup, table: &mut Table) -> anyhow::Result<()> {
    let lamps = Lamps::new((0..AT_ONCE).map(|number| if Sort::of(number).rgb { Kind::Rgb } else { Kind::Plain }))?;
    let folder = tempfile::tempdir()?;
    let cluster = Cluster::simulated(setup, 1)?;
    cluster.wait_nodes(1)?;
    let agent = lamps.agent(setup, &cluster, folder.path(), "", "info,bramble::agent::runtime::simulated=trace")?;
    let shown = lamps.watch()?;
    let mut samples: BTreeMap<Sort, Vec<Duration>> = BTreeMap::new();
    for turn in 0..setup.choose(13, 3) {
        let uids = create(&cluster, turn)?;
        let calls = listen(&shown, FIRST + STEP * u32::try_from(AT_ONCE)? + Duration::from_secs(5));
        let ended = ends(&Alone::log(folder.path()))?;
        for (number, uid) in uids.iter().enumerate() {
            let end =
                ended.get(uid).with_context(|| format!("the runtime did not tell that pod {number} of turn {turn} ended"))?;
            let call = calls.iter().find(|call| call.led == number + 1 && call.at >= *end);
            let call = call.with_context(|| format!("no LED shows that pod {number} of turn {turn} ended"))?;
            samples.entry(Sort::of(number)).or_default().push(call.at.duration_since(*end)?);
        }
        clear(&cluster, uids.len(), |number| name(turn, number))?;
        while shown.try_recv().is_ok() {}
    }
    drop(agent);
    let all: Vec<Duration> = samples.values().flatten().copied().collect();
    let how = format!(
        "{} simulated containers that end, one each {} ms; from the runtime's own change of state to the write of the driver for the \
         kernel's LEDs (files here, {} of them), of which up to 20 ms is the agent's wait for more changes at once",
        all.len(),
        STEP.as_millis(),
        AT_ONCE + 1
    );
    table.row("a container ends to the LED driver's call", "p99 100 ms", &judged(&all), &how);
    for (sort, samples) in &samples {
        let how = format!("{} of them", samples.len());
        table.row(&format!("of these: {}", sort.words()), "p99 100 ms", &judged(samples), &how);
    }
    Ok(())
}

/// `p50 21.0 ms, p99 24.1 ms, most 30.2 ms: p99 is under 100 ms`.
pub fn judged(samples: &[Duration]) -> String {
    let p99 = quantile(samples, 0.99).unwrap_or_default();
    let word = if p99 < AIM { "under" } else { "**not** under" };
    let most = samples.iter().max().copied().unwrap_or_default();
    format!("{}, most {}: p99 is {word} {}", quantiles(samples), milliseconds(most), milliseconds(AIM))
}

fn name(turn: usize, number: usize) -> String {
    format!("ends-{turn}-{number}")
}

/// Makes the pods of a turn; their uids.
fn create(cluster: &Cluster, turn: usize) -> anyhow::Result<Vec<String>> {
    let mut client = Client::connect(&cluster.address()?)?;
    let mut uids = Vec::new();
    for number in 0..AT_ONCE {
        let after = FIRST + STEP * u32::try_from(number)?;
        let script = format!("exit={} after={}ms", u8::from(Sort::of(number).fails), after.as_millis());
        let pod = once(&name(turn, number), "ends:1", number + 1, &script);
        let made = client.post(PODS, &pod)?;
        let uid = made.pointer("/metadata/uid").and_then(Value::as_str).context("a pod without a uid")?;
        uids.push(uid.to_owned());
    }
    Ok(uids)
}

/// A pod that is not started again, on this LED.
pub fn once(name: &str, image: &str, led: usize, script: &str) -> Value {
    let annotations = json!({"bramble/led": Lamps::name(led), "bramble/simulate": script});
    let mut pod = annotated(pod(name, image, Probes::None), annotations);
    pod["spec"]["restartPolicy"] = json!("Never");
    pod
}

/// Deletes the pods of a turn, and waits until nothing is left.
pub fn clear(cluster: &Cluster, count: usize, name: impl Fn(usize) -> String) -> anyhow::Result<()> {
    let mut client = Client::connect(&cluster.address()?)?;
    for number in 0..count {
        client.delete(&format!("{PODS}/{}?gracePeriodSeconds=1", name(number)))?;
    }
    wait("the pods are gone", PATIENCE * 5, || {
        let list = client.get(PODS)?;
        Ok(list.get("items").and_then(Value::as_array).is_some_and(Vec::is_empty))
    })
}

/// What the driver is told in this time.
fn listen(shown: &Receiver<Shown>, time: Duration) -> Vec<Shown> {
    let until = Instant::now() + time;
    std::iter::from_fn(|| shown.recv_timeout(until.saturating_duration_since(Instant::now())).ok()).collect()
}

/// When containers ended without having been told to, by their pods' uids.
fn ends(log: &str) -> anyhow::Result<BTreeMap<String, SystemTime>> {
    let mut ends = BTreeMap::new();
    // 2026-11-30T04:00:00.123456Z TRACE bramble::agent::runtime::simulated::run: a container changed by itself uid=…
    for line in log.lines().filter(|line| line.contains("changed by itself")) {
        let time = line.split_whitespace().next().unwrap_or_default();
        let uid = line.split_whitespace().find_map(|word| word.strip_prefix("uid="));
        let Some(uid) = uid else { bail!("a line of the agent's log without a uid: {line}") };
        ends.insert(uid.to_owned(), moment(time)?);
    }
    Ok(ends)
}

/// As logs and Docker write it.
pub fn moment(text: &str) -> anyhow::Result<SystemTime> {
    Ok(OffsetDateTime::parse(text, &Rfc3339).with_context(|| format!("no time: {text:?}"))?.into())
}
