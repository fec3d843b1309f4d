//! Network namespaces of a figure, and this program's own parts in them. All of it goes with the [`Lab`].

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;

use super::part::PART;
use crate::cluster::wait;

/// Namespaces.
pub struct Lab {
    prefix: String,
    names: Vec<String>,
    links: usize,
}

impl Lab {
    /// Nothing yet.
    pub fn new() -> Self {
        Self { prefix: format!("bramble-fig-{}", std::process::id()), names: Vec::new(), links: 0 }
    }

    fn name(&self, host: &str) -> String {
        format!("{}-{host}", self.prefix)
    }

    /// A namespace with only loopback.
    pub fn add(&mut self, host: &str) -> anyhow::Result<()> {
        ended(Command::new("ip").args(["netns", "add", &self.name(host)]))?;
        self.names.push(host.to_owned());
        self.inside(host, "ip link set lo up").map(drop)
    }

    /// A bridge on a host.
    pub fn bridge(&self, host: &str, bridge: &str) -> anyhow::Result<()> {
        let line = format!("ip link add {bridge} type bridge mcast_snooping 0 forward_delay 0 && ip link set {bridge} up");
        self.inside(host, &line).map(drop)
    }

    /// A cable between a bridge and a host's new `eth0`.
    pub fn plug(&mut self, at: &str, bridge: &str, host: &str, address: &str) -> anyhow::Result<()> {
        self.links += 1;
        let (port, own) = (format!("v{}", self.links), self.name(host));
        self.inside(
            at,
            &format!(
                "ip link add {port} type veth peer name eth0 netns {own} && ip link set {port} master {bridge} && ip link set {port} up"
            ),
        )?;
        self.inside(host, &format!("ip addr add {address} dev eth0 && ip link set eth0 up")).map(drop)
    }

    /// A cable between two hosts, and nothing else.
    pub fn cable(&self, (one, at_one): (&str, &str), (other, at_other): (&str, &str)) -> anyhow::Result<()> {
        self.inside(one, &format!("ip link add bare type veth peer name bare netns {}", self.name(other)))?;
        for (host, address) in [(one, at_one), (other, at_other)] {
            self.inside(host, &format!("ip addr add {address} dev bare && ip link set bare up"))?;
        }
        Ok(())
    }

    /// Runs a line of shell on a host, to its good end; what it printed.
    pub fn inside(&self, host: &str, line: &str) -> anyhow::Result<String> {
        ended(self.command(host, "sh").args(["-c", line]))
    }

    fn command(&self, host: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(host), program]);
        command
    }

    /// Starts this program as a part on a host; it has said that it is there.
    pub fn start(&self, host: &str, words: &str) -> anyhow::Result<Running> {
        let own = std::env::current_exe()?;
        let mut command = self.command(host, &own.display().to_string());
        let mut child = command.env(PART, words).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        let into = child.stdin.take();
        let mut running = Running { child, into, lines };
        let first = running.line().with_context(|| format!("{words} on {host}"))?;
        anyhow::ensure!(first == "ready", "{words} on {host}: {first}");
        Ok(running)
    }

    /// Runs this program as a part on a host, to its end; what it found.
    pub fn figures(&self, host: &str, words: &str) -> anyhow::Result<Value> {
        let own = std::env::current_exe()?;
        let said = ended(self.command(host, &own.display().to_string()).env(PART, words))?;
        let last = said.lines().last().unwrap_or_default();
        serde_json::from_str(last).with_context(|| format!("{words} on {host} said {said:?}"))
    }

    /// Waits until a part on a host succeeds.
    pub fn until(&self, host: &str, words: &str) -> anyhow::Result<()> {
        wait(&format!("{words} on {host}"), Duration::from_secs(20), || Ok(self.figures(host, words).is_ok()))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for host in self.names.iter().rev() {
            // One that is gone already is as wanted.
            let _ = Command::new("ip").args(["netns", "delete", &self.name(host)]).status();
        }
    }
}

/// A part that runs, is told lines and says lines; killed when it is dropped.
pub struct Running {
    child: Child,
    into: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Tells a line.
    pub fn tell(&mut self, line: &str) -> anyhow::Result<()> {
        Ok(writeln!(self.into.as_mut().context("closed")?, "{line}")?)
    }

    /// The next line that it says.
    pub fn line(&mut self) -> anyhow::Result<String> {
        Ok(self.lines.next().context("it has ended")??)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended already is as wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ended(command: &mut Command) -> anyhow::Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {command:?}"))?;
    anyhow::ensure!(output.status.success(), "{command:?} (as root): {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
