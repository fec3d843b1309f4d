//! Measures the shipped program: whole clusters of real processes, on this machine, in folders of their own.
//!
//! ```text
//! cargo bench --profile small --bench figures -- [--program FILE] [--agent-program FILE] [--out FILE] [--short] [NAME…]
//! ```
//!
//! Out:      a Markdown table, row by row as it is measured, and whole into `--out`.
//! Never:    fails because a figure is bad: it prints what it got beside the aim. It fails when something does not work.
//!
//! Other work on the same machine stretches wall time; so there is memory as PSS, work as CPU time, and what takes time is
//! compared with something that ran in the same minute. `docs/measurements.md` has the figures and their conditions.

// A program that measures reads the clock, and writes JSON by name.
#![allow(clippy::disallowed_methods, clippy::indexing_slicing)]

mod adopt;
mod alone;
mod api;
mod cluster;
mod emulated;
mod engine;
mod leds;
mod memory;
mod network;
mod pods;
mod process;
mod scheduling;
mod shipped;
mod size;
mod startup;
mod store;
mod table;
mod writes;

use std::path::PathBuf;

use anyhow::{Context, bail};

use table::Table;

/// What is measured with, and for how long.
pub struct Setup {
    /// The whole program.
    pub program: PathBuf,
    /// The agent's program as it is shipped to a Pi: `--no-default-features --features agent,docker,gpio`.
    pub agent: Option<PathBuf>,
    /// Less of everything, for a first look.
    pub short: bool,
}

impl Setup {
    /// The long one, or the short one.
    pub fn choose<T>(&self, long: T, short: T) -> T {
        if self.short { short } else { long }
    }
}

type Figure = fn(&Setup, &mut Table) -> anyhow::Result<()>;

const FIGURES: &[(&str, &str, Figure)] = &[
    ("sizes", "the programs, stripped", size::measure),
    ("startup", "process start to the first answer of the API", startup::measure),
    ("store", "writes a second, time and bytes of a durable write", store::measure),
    ("memory", "PSS and idle CPU of master and agents, simulated, at 1 and at 10 nodes", memory::simulated),
    ("link", "what one more connected node costs the master", memory::link),
    ("docker-idle", "PSS and idle CPU of a whole node without pods: agent, dockerd, containerd", memory::docker_idle),
    ("docker-pods", "the same and its shims, at 10 and 50 probed pods, and at 10 others", memory::docker_pods),
    ("leds-wakes", "how often an agent wakes without LEDs, with steady and with blinking ones", leds::wakes::measure),
    ("leds-latency", "from a simulated container's end to the call of the LED driver", leds::latency::measure),
    ("leds-docker", "from a container's start and its kill in Docker to the call of the LED driver", leds::docker::measure),
    ("emulated", "the agents for boards under user emulation: start to joined, memory", emulated::measure),
    ("writes", "bytes written to disk while nodes idle, and while ten probed pods run", writes::measure),
    ("pods", "create to running and to ready, against `docker run`", pods::measure),
    ("adopt", "an agent that is killed and started again: time until it has reported 50 running pods as ready", adopt::measure),
    ("scheduling", "1,000 pods on 100 simulated nodes, and one pod at a time", scheduling::measure),
    (
        "network-paths",
        "bytes and time from pod to pod and to services, against a bare pair of virtual cards",
        network::paths::measure,
    ),
    ("network-changes", "one change of the services in the kernel, at 10, 100 and 1,000 of them", network::changes::measure),
    ("network-names", "questions for names a second, and their time", network::names::measure),
    (
        "network-serving",
        "the agent's memory with 0 to 1,000 services; from a pod ready to the first connection through its service",
        network::serving::measure,
    ),
];

fn main() -> anyhow::Result<()> {
    if let Some(ended) = network::part() {
        return ended;
    }
    engine::alone()?;
    let mut setup = Setup { program: PathBuf::from(env!("CARGO_BIN_EXE_bramble")), agent: None, short: false };
    let mut out = None;
    let mut chosen: Vec<&(&str, &str, Figure)> = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} wants a value")).map(PathBuf::from);
        match argument.as_str() {
            "--program" => setup.program = value()?,
            "--agent-program" => setup.agent = Some(value()?),
            "--out" => out = Some(value()?),
            "--short" => setup.short = true,
            // Cargo adds it.
            "--bench" => {}
            "--help" | "--list" => {
                print!("{}", help());
                return Ok(());
            }
            name => {
                let before = chosen.len();
                chosen.extend(FIGURES.iter().filter(|(known, ..)| is_meant(known, name)));
                if chosen.len() == before {
                    bail!("there is no figure {name:?}\n{}", help());
                }
            }
        }
    }
    if !setup.program.is_file() {
        bail!("{} is not there; give --program FILE", setup.program.display());
    }
    setup.program = setup.program.canonicalize()?;
    if let Some(agent) = &mut setup.agent {
        *agent = agent.canonicalize().with_context(|| format!("--agent-program {}", agent.display()))?;
    }
    if chosen.is_empty() {
        chosen.extend(FIGURES);
    }
    let mut table = Table::begin(&setup)?;
    // A copy, so that what else runs of the same file on this machine shares no page with what is measured.
    let folder = tempfile::tempdir()?;
    setup.program = cluster::copied(&setup.program, folder.path())?;
    let mut failed = Vec::new();
    for (name, what, figure) in chosen {
        eprintln!("── {name}: {what}");
        // The others are measured all the same.
        if let Err(error) = figure(&setup, &mut table) {
            eprintln!("{name} could not be measured: {error:?}");
            failed.push(*name);
        }
    }
    if let Some(out) = out {
        std::fs::write(&out, table.text()).with_context(|| format!("cannot write {}", out.display()))?;
    }
    if failed.is_empty() { Ok(()) } else { bail!("not measured: {}", failed.join(", ")) }
}

/// `network` means all that begin so.
fn is_meant(figure: &str, name: &str) -> bool {
    figure.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

fn help() -> String {
    let mut text = "figures [--program FILE] [--agent-program FILE] [--out FILE] [--short] [NAME…]\n\n".to_owned();
    for (name, what, _) in FIGURES {
        text.push_str(&format!("  {name:15}  {what}\n"));
    }
    text
}
