//! A daemon of a cluster in a process of its own, that shares no page with another.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;

use crate::Setup;
use crate::cluster::{Cluster, copied, wait};
use crate::process;

/// A daemon that runs from a file of its own in place of the one that `bramble start` made, so that it shares no page with
/// another: as on a Pi of its own.
pub struct Alone(Child);

impl Alone {
    /// The agent of a cluster's only node, as the program that goes onto a Pi if that was given.
    pub fn agent(setup: &Setup, cluster: &Cluster, folder: &tempfile::TempDir) -> anyhow::Result<Self> {
        let program = Self::vacate(setup, cluster, folder.path())?;
        let agent = Self::start(&program, &["agent", "--config"], &Self::config(cluster), folder)?;
        cluster.wait_nodes(1)?;
        Ok(agent)
    }

    /// Ends the agent of a cluster's only node, if it runs; gives a copy of the program that is to take its seat.
    pub fn vacate(setup: &Setup, cluster: &Cluster, folder: &Path) -> anyhow::Result<PathBuf> {
        if let Some(running) = cluster.agents()?.first() {
            end(*running)?;
        }
        copied(setup.agent.as_ref().unwrap_or(&setup.program), folder)
    }

    /// The configuration of a cluster's only node.
    pub fn config(cluster: &Cluster) -> PathBuf {
        cluster.dir().join("nodes/bramble-1/agent.toml")
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Ends it without a word, as a crash would.
    pub fn kill(mut self) -> anyhow::Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }

    /// In place of a process.
    pub fn instead_of(
        pid: u32,
        program: &Path,
        arguments: &[&str],
        config: &Path,
        folder: &tempfile::TempDir,
    ) -> anyhow::Result<Self> {
        end(pid)?;
        let program = copied(program, folder.path())?;
        Self::start(&program, arguments, config, folder)
    }

    /// Starts it.
    pub fn start(program: &Path, arguments: &[&str], config: &Path, folder: &tempfile::TempDir) -> anyhow::Result<Self> {
        Self::spawn(Command::new(program).args(arguments).arg(config), folder.path())
    }

    /// Starts a command whose process is the daemon.
    pub fn spawn(command: &mut Command, folder: &Path) -> anyhow::Result<Self> {
        let log = std::fs::File::create(folder.join("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(Self(command.spawn().with_context(|| format!("cannot run {command:?}"))?))
    }

    /// What the daemon that was started last in this folder has logged.
    pub fn log(folder: &Path) -> String {
        std::fs::read_to_string(folder.join("log")).unwrap_or_default()
    }
}

fn end(pid: u32) -> anyhow::Result<()> {
    process::signal(pid, "TERM")?;
    wait("the daemon ends", Duration::from_secs(20), || Ok(!process::lives(pid)))
}

impl Drop for Alone {
    fn drop(&mut self) {
        // One that was killed is no more.
        if process::lives(self.0.id()) && process::signal(self.0.id(), "TERM").is_err() {
            let _ = self.0.kill();
        }
        let _ = self.0.wait();
    }
}
