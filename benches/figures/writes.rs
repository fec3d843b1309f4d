//! Bytes that reach the disk while nothing changes: none may.

use std::time::Duration;

use crate::Setup;
use crate::cluster::Cluster;
use crate::engine::{Engine, IMAGE};
use crate::process;
use crate::table::Table;

const SETTLE: Duration = Duration::from_secs(45);

/// Three nodes that run a pod each, simulated and in Docker.
pub fn measure(setup: &Setup, table: &mut Table) -> anyhow::Result<()> {
    let cluster = Cluster::simulated(setup, 3)?;
    cluster.deploy("idle", 3, "any/image:1")?;
    idle(setup, table, &cluster, "simulated")?;
    drop(cluster);
    let engine = Engine::start()?;
    let cluster = Cluster::docker(setup, &engine, 3)?;
    cluster.deploy("idle", 3, IMAGE)?;
    idle(setup, table, &cluster, "Docker")
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
