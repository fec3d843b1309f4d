//! A node's agent, started anew by the test with settings of the test's own.

use std::process::{Child, Command, Stdio};

use super::SOON;
use super::support::{Cluster, lives, signal, wait_until};

/// An agent of the test's own; killed when it is dropped.
pub struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Ends the node's agent and starts it from the same file, these variables of its environment set besides.
pub fn anew(cluster: &Cluster, node: &str, settings: &[(&str, &str)]) -> Agent {
    let pid = cluster.agent_pid(node);
    signal(pid, "TERM");
    wait_until("the agent ends", SOON, || if lives(pid) { Err(format!("{pid} lives")) } else { Ok(()) });
    let log = std::fs::File::options().append(true).create(true).open(cluster.dir.join(format!("logs/{node}.log"))).unwrap();
    let agent = Command::new(&cluster.program)
        .args(["agent", "--config"])
        .arg(cluster.dir.join(format!("nodes/{node}/agent.toml")))
        .envs(settings.iter().copied())
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    Agent(agent)
}
