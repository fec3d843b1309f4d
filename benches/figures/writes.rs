//! Bytes that reach the disk while nothing changes: none of ours may.

use std::time::Duration;

use anyhow::Context as _;

use crate::Setup;
use crate::cluster::{Cluster, Probes};
use crate::engine::{Engine, IMAGE};
use crate::process;
use crate::table::Table;

const SETTLE: Duration = Duration::from_secs(45);

/// Three nodes that run a pod each, simulated and in Docker.
pub fn measure(setup: &Setup, table: &mut Table) -> anyhow::Result<()> {
    let cluster = Cluster::simulated(setup, 3)?;
    cluster.deploy("idle", 3, 3, "any/image:1", Probes::None)?;
    idle(setup, table, &cluster, "simulated")?;
    drop(cluster);
    let engine = Engine::start()?;
    let cluster = Cluster::docker(setup, &engine, 3)?;
    cluster.deploy("idle", 3, 3, IMAGE, Probes::None)?;
    idle(setup, table, &cluster, "Docker")?;
    drop(cluster);
    drop(engine);
    steady(setup, table)
}

/// One node with ten pods that are probed: master and agent, and Docker beside them.
fn steady(setup: &Setup, table: &mut Table) -> anyhow::Result<()> {
    let engine = Engine::start()?;
    let cluster = Cluster::docker(setup, &engine, 1)?;
    let probes = Probes::Http(10);
    cluster.deploy("steady", 10, 10, IMAGE, probes)?;
    let parts = [
        ("master", vec![cluster.master()?]),
        ("agent", cluster.agents()?),
        ("dockerd", vec![engine.dockerd()]),
        ("containerd", vec![engine.containerd()]),
        ("shims", engine.shims()),
    ];
    std::thread::sleep(SETTLE);
    let written = || {
        let of = |pids: &[u32]| pids.iter().map(|pid| process::written(*pid)).sum::<anyhow::Result<u64>>();
        parts.iter().map(|(_, pids)| of(pids)).collect::<anyhow::Result<Vec<u64>>>()
    };
    let (before, grown) = (written()?, on_disk(&engine)?);
    let look = setup.choose(Duration::from_secs(300), Duration::from_secs(60));
    std::thread::sleep(look);
    let bytes: Vec<u64> = written()?.iter().zip(before).map(|(after, before)| after - before).collect();
    let grown = on_disk(&engine)?.saturating_sub(grown);
    let hour = |bytes: u64| bytes * 3600 / look.as_secs();
    let words: Vec<String> = parts.iter().zip(&bytes).map(|((name, _), bytes)| format!("{name} {bytes}")).collect();
    let (ours, theirs) = (bytes.iter().take(2).sum(), bytes.iter().skip(2).sum());
    table.row(
        &format!("written an hour, 10 steady pods, {}", probes.words()),
        "0 bytes of master and agent",
        &format!("{} bytes of master and agent, {} of Docker", hour(ours), hour(theirs)),
        &format!(
            "`write_bytes` of the processes over {} s after {} s of settling, times {}; in that time {}; Docker's folder grew by {grown} bytes",
            look.as_secs(),
            SETTLE.as_secs(),
            3600 / look.as_secs(),
            words.join(", ")
        ),
    );
    Ok(())
}

/// Bytes that Docker's folder takes on the disk.
fn on_disk(engine: &Engine) -> anyhow::Result<u64> {
    let said = std::process::Command::new("du")
        .args(["--one-file-system", "--block-size=1", "--summarize"])
        .arg(engine.data())
        .output()?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    text.split_whitespace().next().and_then(|bytes| bytes.parse().ok()).with_context(|| format!("du said {text:?}"))
}

fn idle(setup: &Setup, table: &mut Table, cluster: &Cluster, runtime: &str) -> anyhow::Result<()> {
    let pids: Vec<u32> = std::iter::once(cluster.master()?).chain(cluster.agents()?).collect();
    std::thread::sleep(SETTLE);
    let written = || pids.iter().map(|pid| process::written(*pid)).sum::<anyhow::Result<u64>>();
    let before = written()?;
    let look = setup.choose(Duration::from_secs(300), Duration::from_secs(120));
    std::thread::sleep(look);
    let bytes = written()? - before;
    table.row(
        &format!("written to disk, 3 idle nodes, {runtime}"),
        "0 bytes",
        &format!("{bytes} bytes"),
        &format!(
            "`write_bytes` of master and 3 agents with a pod each, over {} s after {} s of settling",
            look.as_secs(),
            SETTLE.as_secs()
        ),
    );
    Ok(())
}
