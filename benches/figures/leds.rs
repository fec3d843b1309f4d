//! What LEDs cost an agent: how often it wakes while they are steady, and while they blink.

use std::time::Duration;

use crate::Setup;
use crate::alone::Alone;
use crate::api::Client;
use crate::cluster::{Cluster, Probes};
use crate::process;
use crate::table::Table;

/// What the start itself costs is over after that.
const SETTLE: Duration = Duration::from_secs(15);
/// Wakes are counted for so long.
const LOOK: Duration = Duration::from_secs(60);
/// As many as a board has LEDs for pods.
const PODS: usize = 7;

/// A simulated node whose LEDs are all steady; then all eight blink as fast as can be, which is what `bramble identify` does.
pub fn measure(setup: &Setup, table: &mut Table) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let cluster = Cluster::simulated(setup, 1)?;
    cluster.wait_nodes(1)?;
    let agent = Alone::agent(setup, &cluster, &folder)?;
    cluster.deploy("calm", PODS, PODS, "calm:1", Probes::None)?;
    let look = setup.choose(LOOK, LOOK / 4);
    std::thread::sleep(setup.choose(SETTLE, SETTLE / 3));
    let steady = woken(agent.pid(), look)?;
    let path = format!("/api/v1/nodes/bramble-1/proxy/identify?seconds={}", look.as_secs() + 30);
    Client::connect(&cluster.address()?)?.ask("POST", &path, None)?;
    let blinking = woken(agent.pid(), look)?;
    for (what, seen) in [("steady", &steady), ("all eight blinking, 20 frames a second", &blinking)] {
        table.row(
            &format!("agent, {PODS} pods, LEDs {what}"),
            "",
            &format!("{:.1} wakes a second, {:.3} % of a core", seen.wakes, seen.cpu_percent),
            &format!(
                "voluntary context switches of all threads in {} s; the link and the health every 10 s are among them",
                look.as_secs()
            ),
        );
    }
    Ok(())
}

struct Woken {
    /// A second.
    wakes: f64,
    cpu_percent: f64,
}

fn woken(pid: u32, look: Duration) -> anyhow::Result<Woken> {
    let before = (process::wakes(pid)?, process::cpu(pid)?);
    std::thread::sleep(look);
    let wakes = process::wakes(pid)?.saturating_sub(before.0);
    let cpu = process::cpu(pid)?.saturating_sub(before.1);
    Ok(Woken { wakes: wakes as f64 / look.as_secs_f64(), cpu_percent: cpu.as_secs_f64() / look.as_secs_f64() * 100.0 })
}
