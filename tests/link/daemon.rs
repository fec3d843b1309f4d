//! Daemons that a test starts itself, with a configuration or a broker of its own.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::support::{Cluster, lives, signal, wait_until};

/// A child of the test: killed and waited for when it is dropped.
pub struct Daemon(Child);

impl Daemon {
    /// `bramble …`, logging to the end of `log`.
    pub fn bramble(log: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bramble"));
        command.args(arguments);
        Self::start(command, log)
    }

    /// Any program.
    pub fn start(mut command: Command, log: &Path) -> Self {
        let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self(child)
    }

    /// Whether it has ended by itself.
    pub fn ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The agent of a node of `cluster`, with another broker than its configuration names.
pub fn agent(cluster: &Cluster, node: &str, broker_port: u16) -> Daemon {
    let file = cluster.dir.join(format!("nodes/{node}/agent.toml"));
    let log = cluster.dir.join(format!("logs/{node}.log"));
    let broker = format!("mqtts://127.0.0.1:{broker_port}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_bramble"));
    command.args(["agent", "--node", node, "--broker", &broker]).arg("--config").arg(file);
    Daemon::start(command, &log)
}

/// Ends the agent that `bramble start` began, and starts it again behind `broker_port`.
pub fn agent_moved(cluster: &Cluster, node: &str, broker_port: u16) -> Daemon {
    let pid = cluster.agent_pid(node);
    signal(pid, "TERM");
    wait_until("the agent ends", Duration::from_secs(10), || if lives(pid) { Err(format!("{pid} lives")) } else { Ok(()) });
    agent(cluster, node, broker_port)
}

/// The port at the end of an address that `bramble status` tells.
pub fn port_of(cluster: &Cluster, key: &str) -> u16 {
    let status = cluster.status();
    let address = status[key].as_str().unwrap_or_else(|| panic!("{key} in {status}"));
    address.trim_end_matches('/').rsplit(':').next().unwrap().parse().unwrap()
}
