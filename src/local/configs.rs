//! Writes what the daemons of a local cluster are told: `master.toml`, and `agent.toml` for each node.

use std::path::{Path, PathBuf};

use super::layout::Layout;
use super::share::{Machine, capacity};
use super::state::{Cluster, Node};
use crate::master::authority::write_file;

/// The cluster's name in topics.
pub const CLUSTER: &str = "bramble";
/// The board of nodes that share a machine.
const SIMULATED_BOARD: &str = "simulated";

/// Whether a configuration is another than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It was that already.
    Same,
    /// A daemon that runs has another one.
    Changed,
}

/// The master's configuration.
#[must_use]
pub fn master(layout: &Layout, cluster: &Cluster) -> String {
    let ports = cluster.ports;
    let network = cluster.network.as_ref().map_or_else(String::new, |network| {
        format!("\n[network]\npods = {}\nservices = {}\n", quoted(&network.pods), quoted(&network.services))
    });
    format!(
        "{HEADER}data_dir = {}\ncluster = {}\ncluster_uid = {}\n\n[api]\nlisten = \"127.0.0.1:{}\"\n\n\
         [mqtt]\nlisten = \"127.0.0.1:{}\"\nviewer_listen = \"127.0.0.1:{}\"\n{network}",
        path(layout.root()),
        quoted(CLUSTER),
        quoted(&cluster.uid),
        ports.api,
        ports.mqtts,
        ports.mqtt,
    )
}

/// A node's configuration.
#[must_use]
pub fn agent(layout: &Layout, cluster: &Cluster, node: &Node, machine: Machine) -> String {
    let dir = layout.node(&node.name);
    let pki = dir.join("pki");
    let mut text = format!(
        "{HEADER}node = {}\ncluster = {}\ncluster_uid = {}\ndata_dir = {}\nruntime = \"{}\"\n",
        quoted(&node.name),
        quoted(CLUSTER),
        quoted(&cluster.uid),
        path(&dir),
        cluster.runtime,
    );
    // Several nodes on one machine cannot share its pins: each gets LEDs that `bramble leds show` draws.
    text.push_str(&format!("board = \"{SIMULATED_BOARD}\"\n"));
    text.push_str(&format!(
        "\n[mqtt]\nbroker = {}\nca = {}\ncertificate = {}\nkey = {}\n",
        quoted(&cluster.mqtts()),
        path(&layout.pki().join("ca.crt")),
        path(&pki.join("node.crt")),
        path(&pki.join("node.key")),
    ));
    if let Some(socket) = &cluster.docker_socket {
        text.push_str(&format!("\n[docker]\nsocket = {}\n", path(socket)));
    }
    // Nor its sticks and cameras: they are the first node's.
    if cluster.nodes.first().is_some_and(|first| first.name != node.name) {
        text.push_str("\n[devices]\nenabled = false\n");
    }
    let (cpus, memory_mib) = capacity(cluster, node, machine);
    if cpus.is_some() || memory_mib.is_some() {
        text.push_str("\n[capacity]\n");
        text.extend(cpus.map(|cpus| format!("cpus = {cpus:?}\n")));
        text.extend(memory_mib.map(|mib| format!("memory_mib = {mib}\n")));
    }
    text
}

const HEADER: &str = "# Written by `bramble start`, which writes it again: changes here are lost.\n";

/// Puts a configuration in its place, unless it is there.
///
/// # Errors
/// When it cannot be written.
pub fn write(file: &PathBuf, text: &str) -> std::io::Result<Written> {
    if std::fs::read(file).is_ok_and(|before| before == text.as_bytes()) {
        return Ok(Written::Same);
    }
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    write_file(file, text.as_bytes(), 0o644)?;
    Ok(Written::Changed)
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn path(path: &Path) -> String {
    quoted(&path.display().to_string())
}

#[cfg(all(test, feature = "agent"))]
mod tests {
    use super::super::state::{Network, Ports, Runtime};
    use super::*;
    use crate::agent::config::AgentConfig;
    use crate::config::FileMay;
    use crate::master::config::MasterConfig;

    #[test]
    fn the_daemons_take_what_start_writes() {
        let ports = Ports { api: 1, mqtts: 2, mqtt: 3 };
        for runtime in [Runtime::Docker, Runtime::Simulated] {
            let dir = tempfile::tempdir().unwrap();
            let layout = Layout::find(Some(dir.path().join("it's \"here\""))).unwrap();
            let socket = (runtime == Runtime::Docker).then(|| "/run/d.sock".into());
            let mut cluster = Cluster::new("uid-1".into(), String::new(), runtime, socket, ports);
            cluster.grow(3, None, None);
            let (pods, services) = ("10.42.0.0/16,fd00:0:0:100::/56", "10.43.0.0/16,fd00::/112");
            cluster.network = Some(Network { pods: pods.into(), services: services.into() });
            assert_eq!(write(&layout.master_config(), &master(&layout, &cluster)).unwrap(), Written::Changed);
            assert_eq!(write(&layout.master_config(), &master(&layout, &cluster)).unwrap(), Written::Same);
            let config = MasterConfig::load(Some((&layout.master_config(), FileMay::NotBeMissing)), [], &[]).unwrap();
            assert_eq!((config.data_dir.as_path(), config.api.listen.port()), (layout.root(), 1));
            assert_eq!(config.tls.ca, layout.pki().join("ca.crt"));
            let given = [
                format!("{},{}", config.network.pods, config.network.pods6.unwrap()),
                format!("{},{}", config.services.v4, config.services.v6.unwrap()),
            ];
            assert_eq!(given, [pods, services]);
            let node = &cluster.nodes[1];
            let text = agent(&layout, &cluster, node, Machine { cores: 4, memory_mib: 4608 });
            write(&layout.node_config(&node.name), &text).unwrap();
            let config = AgentConfig::load(Some((&layout.node_config(&node.name), FileMay::NotBeMissing)), [], &[]).unwrap();
            assert_eq!((config.node.as_str(), config.cluster_uid.as_str()), ("bramble-2", "uid-1"));
            assert_eq!(config.mqtt.broker.to_string(), "mqtts://127.0.0.1:2");
            assert_eq!((config.data_dir, config.devices_root), (layout.node("bramble-2"), None));
            match runtime {
                Runtime::Docker => assert_eq!((config.capacity.cpus, config.capacity.memory_mib), (Some(1.333), Some(1365))),
                Runtime::Simulated => assert_eq!((config.board.as_deref(), config.capacity.cpus), (Some("simulated"), None)),
            }
        }
    }
}
