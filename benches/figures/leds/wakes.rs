//! How often an agent wakes: without LEDs, while they are steady, and while they blink.

use std::time::Duration;

use super::lamps::{Kind, Lamps};
use crate::Setup;
use crate::alone::Alone;
use crate::api::Client;
use crate::cluster::{Cluster, Probes, annotated, pod};
use crate::process;
use crate::table::Table;

/// What the start itself costs is over after that.
const SETTLE: Duration = Duration::from_secs(20);
/// Wakes are counted for so long: a multiple of the 10 s between two tellings of the node's health.
const LOOK: Duration = Duration::from_secs(120);
/// As many as the HAT `plain` has LEDs for pods; one of them is for a pod that is starting.
const PODS: usize = 6;

/// One simulated node, first without LEDs, then with eight that are steady, of which one blinks slowly, and which all blink as fast as
/// can be: that is `bramble identify`.
pub fn measure(setup: &Setup, table: &mut Table) -> anyhow::Result<()> {
    let lamps = Lamps::new([Kind::Plain; PODS + 1])?;
    let cluster = Cluster::simulated(setup, 1)?;
    cluster.wait_nodes(1)?;
    cluster.deploy("calm", PODS, PODS, "calm:1", Probes::None)?;
    let off = tempfile::tempdir()?;
    let agent = lamps.agent(setup, &cluster, off.path(), "leds.enabled = false\n", "info")?;
    look(setup, table, &agent, "no LEDs (`leds.enabled = false`)")?;
    drop(agent);

    let on = tempfile::tempdir()?;
    let agent = lamps.agent(setup, &cluster, on.path(), "", "info")?;
    look(setup, table, &agent, "LEDs, all steady")?;
    let slow = annotated(pod("slow", "calm:1", Probes::None), serde_json::json!({"bramble/simulate": "unpacks=3600s"}));
    Client::connect(&cluster.address()?)?.post("/api/v1/namespaces/default/pods", &slow)?;
    look(setup, table, &agent, "LEDs, one of them blinking slowly, 2 frames a second")?;
    let path = format!("/api/v1/nodes/bramble-1/proxy/identify?seconds={}", (SETTLE + LOOK).as_secs() + 60);
    Client::connect(&cluster.address()?)?.ask("POST", &path, None)?;
    look(setup, table, &agent, "LEDs, all eight blinking, 20 frames a second")?;
    Ok(())
}

fn look(setup: &Setup, table: &mut Table, agent: &Alone, what: &str) -> anyhow::Result<()> {
    std::thread::sleep(setup.choose(SETTLE, SETTLE / 2));
    let look = setup.choose(LOOK, LOOK / 4);
    let before = (process::wakes(agent.pid())?, process::cpu(agent.pid())?);
    std::thread::sleep(look);
    let wakes = process::wakes(agent.pid())?.saturating_sub(before.0);
    let cpu = process::cpu(agent.pid())?.saturating_sub(before.1);
    table.row(
        &format!("agent, {PODS} pods, {what}"),
        "",
        &format!(
            "{:.2} wakes a second, {:.3} % of a core",
            wakes as f64 / look.as_secs_f64(),
            cpu.as_secs_f64() / look.as_secs_f64() * 100.0
        ),
        &format!(
            "{wakes} voluntary context switches of all {} threads in {} s; the link's keep-alive and the health each 10 s are among them",
            process::threads(agent.pid()),
            look.as_secs()
        ),
    );
    Ok(())
}
