//! What was chosen once and is kept: `cluster.json`.
//!
//! Never:    says what lives; that is the locks' to tell.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::master::authority::write_file;

/// Up to so many simulated nodes are processes of their own.
pub const OWN_PROCESSES: usize = 10;

/// The form of the file; a newer one is not guessed at.
const VERSION: u32 = 1;

/// Where containers run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// In Docker.
    Docker,
    /// Nowhere.
    Simulated,
}

impl std::fmt::Display for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Runtime::Docker => "docker",
            Runtime::Simulated => "simulated",
        })
    }
}

/// The ports, all on loopback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// HTTPS for kubectl.
    pub api: u16,
    /// MQTT over TLS for nodes.
    pub mqtts: u16,
    /// Plain MQTT for people.
    pub mqtt: u16,
}

/// The addresses that its pods and services have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// The master's `network.pods`.
    pub pods: String,
    /// The master's `network.services`.
    pub services: String,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Its name in the cluster.
    pub name: String,
    /// The process that it runs in: its own name, or a fleet's.
    pub process: String,
    /// Cores that it was given, when it is no share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<f64>,
    /// Memory that it was given, when it is no share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u64>,
}

/// A local cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// The form of the file.
    pub version: u32,
    /// Marks what belongs to it.
    pub uid: String,
    /// When it was made, RFC 3339.
    pub created: String,
    /// Where containers run.
    pub runtime: Runtime,
    /// Docker's socket, with that runtime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docker_socket: Option<PathBuf>,
    /// Its ports.
    pub ports: Ports,
    /// Chosen when it was made, free of what the machine had then; `None`: it was made before that, and has what a master has by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// Its nodes.
    pub nodes: Vec<Node>,
}

/// Why the state cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It cannot be read or written.
    #[error("cannot {act} {}", path.display())]
    Io {
        /// `read` or `write`.
        act: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is something else.
    #[error("{} is not what bramble wrote", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// It was written by a later bramble.
    #[error("{} has form {found}, and this bramble knows {VERSION} only", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its form.
        found: u32,
    },
}

impl From<StateError> for crate::error::Report {
    fn from(error: StateError) -> Self {
        let fix = match &error {
            StateError::Io { path, .. } => {
                format!("see that this user may read and write {} and that the disk is not full", path.display())
            }
            StateError::Damaged { path, .. } => format!(
                "mend {}, or remove the whole directory; containers of it are found with `docker ps -a --filter label=bramble/cluster`",
                path.display()
            ),
            StateError::Newer { .. } => "use the bramble that made this cluster, or a later one".into(),
        };
        crate::error::Report::failed("cannot tell what this cluster is").because(error).fix(fix)
    }
}

impl Cluster {
    /// A new one without nodes.
    #[must_use]
    pub fn new(uid: String, created: String, runtime: Runtime, docker_socket: Option<PathBuf>, ports: Ports) -> Self {
        Self { version: VERSION, uid, created, runtime, docker_socket, ports, network: None, nodes: Vec::new() }
    }

    /// Reads it; `None` when there is none.
    ///
    /// # Errors
    /// When it is there and cannot be used.
    pub fn load(path: &Path) -> Result<Option<Self>, StateError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StateError::Io { act: "read", path: path.into(), source }),
        };
        let cluster: Self = serde_json::from_str(&text).map_err(|source| StateError::Damaged { path: path.into(), source })?;
        if cluster.version > VERSION {
            return Err(StateError::Newer { path: path.into(), found: cluster.version });
        }
        Ok(Some(cluster))
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), StateError> {
        let text = serde_json::to_string_pretty(self).map_err(|source| StateError::Damaged { path: path.into(), source })?;
        write_file(path, format!("{text}\n").as_bytes(), 0o644).map_err(|source| StateError::Io {
            act: "write",
            path: path.into(),
            source,
        })
    }

    /// Adds nodes until there are `wanted`, named `bramble-1…`. Simulated ones beyond [`OWN_PROCESSES`] share a process: one
    /// for each time that nodes were added, so that a standing fleet is left alone.
    pub fn grow(&mut self, wanted: usize, cpus: Option<f64>, memory_mib: Option<u64>) {
        let fleets = self.processes().iter().filter(|process| process.starts_with("fleet-")).count();
        while self.nodes.len() < wanted {
            let number = self.nodes.len() + 1;
            let name = format!("bramble-{number}");
            let own = self.runtime == Runtime::Docker || number <= OWN_PROCESSES;
            let process = if own { name.clone() } else { format!("fleet-{}", fleets + 1) };
            self.nodes.push(Node { name, process, cpus, memory_mib });
        }
    }

    /// The processes that nodes run in, in the nodes' order.
    #[must_use]
    pub fn processes(&self) -> Vec<&str> {
        let mut processes: Vec<&str> = self.nodes.iter().map(|node| node.process.as_str()).collect();
        processes.dedup();
        processes
    }

    /// The API's address.
    #[must_use]
    pub fn api(&self) -> String {
        format!("https://127.0.0.1:{}", self.ports.api)
    }

    /// Where nodes find the broker.
    #[must_use]
    pub fn mqtts(&self) -> String {
        format!("mqtts://127.0.0.1:{}", self.ports.mqtts)
    }

    /// Where people find it.
    #[must_use]
    pub fn mqtt(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.ports.mqtt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(runtime: Runtime) -> Cluster {
        Cluster::new("u".into(), "2026-01-01T00:00:00Z".into(), runtime, None, Ports { api: 1, mqtts: 2, mqtt: 3 })
    }

    #[test]
    fn ten_simulated_nodes_are_processes_and_the_rest_a_fleet_each_time() {
        let mut it = cluster(Runtime::Simulated);
        it.grow(3, None, None);
        assert_eq!(it.processes(), ["bramble-1", "bramble-2", "bramble-3"]);
        it.grow(12, None, None);
        assert_eq!(it.processes().len(), 11);
        assert_eq!(it.processes().last(), Some(&"fleet-1"));
        it.grow(100, Some(0.5), None);
        assert_eq!(it.processes().last(), Some(&"fleet-2"));
        assert_eq!((it.nodes[11].process.as_str(), it.nodes[12].process.as_str()), ("fleet-1", "fleet-2"));
        it.grow(2, None, None);
        assert_eq!(it.nodes.len(), 100, "it never takes any away");
        let mut docker = cluster(Runtime::Docker);
        docker.grow(20, None, None);
        assert_eq!(docker.processes().len(), 20);
    }

    #[test]
    fn it_comes_back_as_it_was_written_and_a_strange_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cluster.json");
        assert_eq!(Cluster::load(&path).unwrap(), None);
        let mut it = cluster(Runtime::Docker);
        it.grow(2, Some(1.5), Some(512));
        it.network = Some(Network { pods: "10.42.0.0/16".into(), services: "10.43.0.0/16".into() });
        it.save(&path).unwrap();
        assert_eq!(Cluster::load(&path).unwrap().as_ref(), Some(&it));
        it.version = 2;
        it.save(&path).unwrap();
        assert!(matches!(Cluster::load(&path), Err(StateError::Newer { found: 2, .. })));
        std::fs::write(&path, "{").unwrap();
        assert!(matches!(Cluster::load(&path), Err(StateError::Damaged { .. })));
    }
}
