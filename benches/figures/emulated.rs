//! The agent as boards get it, on their processor as QEMU's user emulation has it: how soon it has joined, and its memory.
//!
//! The emulator is in the process that is measured: its own pages and what it has translated count as well. What a board itself would
//! need, `tests/emulated_pi` prints.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::Setup;
use crate::alone::Alone;
use crate::api::{self, Client};
use crate::cluster::{Cluster, is};
use crate::memory::{idle, told};
use crate::process;
use crate::shipped;
use crate::table::{Table, mib, milliseconds, quantile};

const NODES: &str = "/api/v1/nodes";

/// The emulator of a board's processor.
fn emulator(board: &str) -> &'static [&'static str] {
    match board {
        "rpi-zero-w" => &["qemu-arm-static", "-cpu", "arm1176"],
        _ => &["qemu-aarch64-static", "-cpu", "cortex-a72"],
    }
}

/// One board after the other, each some times.
pub fn measure(setup: &Setup, table: &mut Table) -> anyhow::Result<()> {
    for board in shipped::BOARDS {
        let qemu = emulator(board);
        let there = qemu.first().is_some_and(|name| {
            std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|folder| folder.join(name).is_file())
        });
        match shipped::program(board) {
            Err(why) => eprintln!("the agent for {board} is not measured: {why}"),
            Ok(_) if !there => eprintln!("the agent for {board} is not measured: {qemu:?} is missing (qemu-user-static)"),
            Ok(program) => on(setup, table, board, qemu, &program)?,
        }
    }
    Ok(())
}

fn on(setup: &Setup, table: &mut Table, board: &str, qemu: &[&str], program: &Path) -> anyhow::Result<()> {
    let cluster = Cluster::simulated(setup, 1)?;
    cluster.wait_nodes(1)?;
    let address = cluster.address()?;
    let mut times: Vec<Duration> = Vec::new();
    let mut work: Vec<Duration> = Vec::new();
    let mut seen = None;
    let count = setup.choose(5, 2);
    for turn in 0..count {
        let folder = tempfile::tempdir()?;
        let at = |name: &str| folder.path().join(name).display().to_string();
        // A board of its own, which no other node claims to be.
        std::fs::create_dir_all(folder.path().join("board/etc"))?;
        std::fs::write(folder.path().join("board/etc/machine-id"), format!("{board}-{turn}\n"))?;
        let (node, token) = (format!("{board}-{turn}"), cluster.token()?);
        let config = format!(
            "node = {node:?}\nruntime = \"simulated\"\nboard = {board:?}\ndata_dir = {:?}\n\n[join]\nmaster = \"{}\"\ntoken = {token:?}\nidentity_root = {:?}\n",
            at("data"),
            cluster.api()?,
            at("board")
        );
        std::fs::write(folder.path().join("agent.toml"), config)?;
        let events = api::watch(&address, NODES)?;
        let mut command = Command::new(qemu.first().copied().unwrap_or_default());
        command.args(qemu.iter().skip(1)).arg(program).args(["agent", "--config"]).arg(folder.path().join("agent.toml"));
        let begun = Instant::now();
        let agent = Alone::spawn(&mut command, folder.path())?;
        let ready = api::await_event(&events, "the node is ready", |event| {
            api::name(&event.object) == node && is(&event.object, "Ready")
        });
        let ready = ready.map_err(|error| error.context(Alone::log(folder.path())))?;
        times.push(ready.at.duration_since(begun));
        work.push(process::cpu(agent.pid())?);
        if turn + 1 == count {
            let rss = process::memory(agent.pid())?.rss;
            seen = idle(setup, &[agent.pid()])?.pop().map(|idle| (idle, rss));
        }
        drop(agent);
        Client::connect(&address)?.delete(&format!("{NODES}/{node}"))?;
    }
    let how = qemu.join(" ");
    let middle = |samples: &[Duration]| milliseconds(quantile(samples, 0.5).unwrap_or_default());
    let most = milliseconds(times.iter().max().copied().unwrap_or_default());
    table.row(
        &format!("agent for {board} under user emulation: start to joined"),
        "",
        &format!("{} (most {most})", middle(&times)),
        &format!(
            "{how}; {count} times with a token, a new key and an empty folder, until a watch says that the node is Ready; CPU time {}, the translation of the program among it",
            middle(&work)
        ),
    );
    if let Some((idle, rss)) = seen {
        table.row(
            &format!("agent for {board} under user emulation: memory, 0 pods"),
            "",
            &told(&idle),
            &format!("the emulator's process, with the emulator and what it has translated; RSS {} when it had joined", mib(rss)),
        );
    }
    Ok(())
}
