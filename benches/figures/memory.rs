//! PSS and idle CPU of the daemons, and of a whole node with Docker.

use std::time::Duration;

use crate::Setup;
use crate::alone::Alone;
use crate::cluster::{Cluster, Probes, wait};
use crate::engine::{Engine, IMAGE};
use crate::process::{self, Memory};
use crate::table::{Table, mib, quantile};

/// What the start itself costs is over after that.
const SETTLE: Duration = Duration::from_secs(45);
/// Idle CPU is looked at for so long.
const LOOK: Duration = Duration::from_secs(60);

/// A process while nothing happens.
pub struct Idle {
    memory: Memory,
    /// Of one core, in percent.
    cpu: f64,
    threads: usize,
}

/// Looks at processes for a while.
pub fn idle(setup: &Setup, pids: &[u32]) -> anyhow::Result<Vec<Idle>> {
    std::thread::sleep(setup.choose(SETTLE, SETTLE / 3));
    let look = setup.choose(LOOK, LOOK / 3);
    let before = pids.iter().map(|pid| process::cpu(*pid)).collect::<anyhow::Result<Vec<_>>>()?;
    std::thread::sleep(look);
    let mut seen = Vec::with_capacity(pids.len());
    for (pid, before) in pids.iter().zip(before) {
        let used = process::cpu(*pid)?.saturating_sub(before);
        let cpu = used.as_secs_f64() / look.as_secs_f64() * 100.0;
        seen.push(Idle { memory: process::memory(*pid)?, cpu, threads: process::threads(*pid) });
    }
    Ok(seen)
}

/// `5.9 MiB (2.1 MiB heap and stacks), 0.03 % of a core`.
pub fn told(idle: &Idle) -> String {
    format!("{} ({} of it heap and stacks), {:.2} % of a core", mib(idle.memory.pss), mib(idle.memory.anonymous), idle.cpu)
}

fn rows(table: &mut Table, nodes: &str, seen: &[Idle], how: &str) {
    let Some((master, agents)) = seen.split_first() else { return };
    let extra = |idle: &Idle| format!("{how}; RSS {}, threads: {}", mib(idle.memory.rss), idle.threads);
    let aim = if nodes.starts_with("10 sim") { "20 MiB, 0.5 %" } else { "" };
    table.row(&format!("master with broker, {nodes}"), aim, &told(master), &extra(master));
    // The one in the middle, by memory.
    let middle = quantile(&agents.iter().map(|agent| agent.memory.pss).collect::<Vec<_>>(), 0.5);
    if let Some(agent) = agents.iter().find(|agent| Some(agent.memory.pss) == middle) {
        table.row(&format!("agent, {nodes}"), "6 MiB, 0.1 %", &told(agent), &extra(agent));
    }
}

/// One and ten simulated nodes. The agents are as `bramble start` makes them; the master is started again from a file of its own.
pub fn simulated(setup: &Setup, table: &mut Table) -> anyhow::Result<()> {
    for (count, nodes) in [(1, "1 simulated node"), (10, "10 simulated nodes")] {
        let folder = tempfile::tempdir()?;
        let cluster = Cluster::simulated(setup, count)?;
        cluster.wait_nodes(count as usize)?;
        let config = cluster.dir().join("master.toml");
        let master = Alone::instead_of(cluster.master()?, &setup.program, &["master", "--config"], &config, &folder)?;
        wait("the master answers again", Duration::from_secs(20), || Ok(cluster.wait_nodes(count as usize).is_ok()))?;
        let pids: Vec<u32> = std::iter::once(master.pid()).chain(cluster.agents()?).collect();
        let seen = idle(setup, &pids)?;
        rows(
            table,
            nodes,
            &seen,
            "the master shares pages with none; simulated agents share those of the program among themselves",
        );
    }
    Ok(())
}

/// How much a master grows with its nodes.
pub fn link(setup: &Setup, table: &mut Table) -> anyhow::Result<()> {
    let (few, many) = (10, setup.choose(100, 30));
    let cluster = Cluster::simulated(setup, few)?;
    let settled = |count: u32| -> anyhow::Result<Memory> {
        cluster.wait_nodes(count as usize)?;
        std::thread::sleep(setup.choose(SETTLE, SETTLE / 3));
        process::memory(cluster.master()?)
    };
    let before = settled(few)?;
    cluster.start(&["--nodes", &many.to_string()])?;
    let after = settled(many)?;
    let each = after.anonymous.saturating_sub(before.anonymous) / u64::from(many - few);
    table.row(
        "one more connected node, in the master",
        "",
        &format!("{each} KiB"),
        &format!(
            "heap of the master at {few} nodes {}, at {many} {}: TLS and MQTT session, retained messages, node and lease",
            mib(before.anonymous),
            mib(after.anonymous)
        ),
    );
    Ok(())
}

/// One node with Docker, without pods.
pub fn docker_idle(setup: &Setup, table: &mut Table) -> anyhow::Result<()> {
    let engine = Engine::start()?;
    let folder = tempfile::tempdir()?;
    let cluster = Cluster::docker(setup, &engine, 1)?;
    let agent = Alone::agent(setup, &cluster, &folder)?;
    node(setup, table, &engine, &cluster, &agent, 0, Probes::None)
}

/// One node with Docker, with 10 and 50 pods that are probed by HTTP, with 10 that are probed otherwise.
pub fn docker_pods(setup: &Setup, table: &mut Table) -> anyhow::Result<()> {
    let engine = Engine::start()?;
    let folder = tempfile::tempdir()?;
    let cluster = Cluster::docker(setup, &engine, 1)?;
    let agent = Alone::agent(setup, &cluster, &folder)?;
    cluster.deploy("few", 10, 10, IMAGE, Probes::Http(10))?;
    node(setup, table, &engine, &cluster, &agent, 10, Probes::Http(10))?;
    cluster.deploy("many", 40, 50, IMAGE, Probes::Http(10))?;
    node(setup, table, &engine, &cluster, &agent, 50, Probes::Http(10))?;
    cluster.undeploy("many", 10)?;
    cluster.undeploy("few", 0)?;
    for (name, probes) in [("plain", Probes::None), ("tcp", Probes::Tcp(10)), ("exec", Probes::Exec(10))] {
        cluster.deploy(name, 10, 10, IMAGE, probes)?;
        node(setup, table, &engine, &cluster, &agent, 10, probes)?;
        cluster.undeploy(name, 0)?;
    }
    drop(agent);
    Ok(())
}

/// The rows of one node as it is now.
fn node(
    setup: &Setup,
    table: &mut Table,
    engine: &Engine,
    cluster: &Cluster,
    agent: &Alone,
    pods: usize,
    probes: Probes,
) -> anyhow::Result<()> {
    let which = if setup.agent.is_some() { "the agent's own program" } else { "a copy of the whole program" };
    let parts = [
        ("agent", vec![agent.pid()]),
        ("dockerd", vec![engine.dockerd()]),
        ("containerd", vec![engine.containerd()]),
        ("shims", engine.shims()),
        ("sandboxes", engine.sandboxes()),
    ];
    let pids: Vec<u32> = std::iter::once(cluster.master()?).chain(parts.iter().flat_map(|part| part.1.clone())).collect();
    let seen = idle(setup, &pids)?;
    let how = format!("{which}, in a process that shares pages with none, as on a Pi");
    let of = if pods == 0 { "0 pods".to_owned() } else { format!("{pods} pods, {}", probes.words()) };
    rows(table, &format!("1 node with Docker, {of}"), seen.get(..2).unwrap_or_default(), &how);
    let mut rest = seen.iter().skip(1);
    let (mut pss, mut cpu, mut words) = (0, 0.0, Vec::new());
    for (name, pids) in &parts {
        let part: Vec<&Idle> = rest.by_ref().take(pids.len()).collect();
        let (part_pss, part_cpu) =
            (part.iter().map(|one| one.memory.pss).sum::<u64>(), part.iter().map(|one| one.cpu).fold(0.0, |sum, one| sum + one));
        words.push(format!("{} {name} {} and {part_cpu:.2} %", part.len(), mib(part_pss)));
        pss += part_pss;
        cpu += part_cpu;
    }
    table.row(
        &format!("whole node (without master), {of}"),
        "published, and lowered",
        &format!("{}, {cpu:.2} % of a core", mib(pss)),
        &format!("{}; what runs in the pods is not counted", words.join(", ")),
    );
    Ok(())
}
