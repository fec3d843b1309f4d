//! How the cluster on this machine is: what was chosen, who holds a lock, what the API says of the nodes.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::daemon::Seat;
use super::layout::Layout;
use super::probe::{Api, ProbeError};
use super::state::{Cluster, Runtime};
use crate::error::{Chain, Report};

/// What `bramble status` tells; as JSON, the form that DESIGN §4 gives.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    /// Whether the master and every node are ready.
    pub ready: bool,
    /// Where containers run.
    pub runtime: Runtime,
    /// The kubeconfig of this cluster alone.
    pub kubeconfig: String,
    /// HTTPS for kubectl.
    pub api: String,
    /// MQTT for people.
    pub mqtt: String,
    /// MQTT for nodes.
    pub mqtts: String,
    /// There is no dashboard yet.
    pub dashboard: Option<String>,
    /// Each node.
    pub nodes: Vec<NodeStatus>,
    /// The master.
    pub master: MasterStatus,
    /// Where the data is; told to people only.
    #[serde(skip)]
    pub data_dir: String,
    /// Why the API does not answer, while the master lives.
    #[serde(skip)]
    pub trouble: Option<String>,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// Whether the API says that it is ready.
    pub ready: bool,
    /// Its process; nodes of a fleet share one.
    pub pid: Option<u32>,
}

/// The master.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MasterStatus {
    /// Its process.
    pub pid: Option<u32>,
}

/// Looks.
///
/// # Errors
/// When there is no cluster, or it cannot be told what it is.
pub fn status(layout: &Layout) -> Result<Status, Report> {
    layout.expect_cluster()?;
    let Some(cluster) = Cluster::load(&layout.state())? else {
        return Err(Report::failed("the cluster went away while it was looked at"));
    };
    let pid = Seat::master(layout).pid()?;
    let asked = pid.map(|_| ask(layout, cluster.ports.api));
    let (told, trouble) = match asked {
        Some(Ok(told)) => (told, None),
        Some(Err(error)) => (BTreeMap::new(), Some(Chain(&error).to_string())),
        None => (BTreeMap::new(), None),
    };
    let mut nodes = Vec::with_capacity(cluster.nodes.len());
    for node in &cluster.nodes {
        let ready = told.get(&node.name).copied().unwrap_or(false);
        nodes.push(NodeStatus { name: node.name.clone(), ready, pid: Seat::node(layout, &node.name).pid()? });
    }
    Ok(Status {
        ready: pid.is_some() && trouble.is_none() && nodes.iter().all(|node| node.ready),
        runtime: cluster.runtime,
        kubeconfig: layout.kubeconfig().display().to_string(),
        api: cluster.api(),
        mqtt: cluster.mqtt(),
        mqtts: cluster.mqtts(),
        dashboard: None,
        nodes,
        master: MasterStatus { pid },
        data_dir: layout.root().display().to_string(),
        trouble,
    })
}

fn ask(layout: &Layout, port: u16) -> Result<BTreeMap<String, bool>, ProbeError> {
    let api = Api::open(&layout.pki(), port)?;
    api.ready()?;
    Ok(api.nodes()?.into_iter().map(|node| (node.name, node.ready)).collect())
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pid = |pid: Option<u32>| pid.map_or_else(|| "not running".to_owned(), |pid| format!("pid {pid}"));
        let living = self.nodes.iter().filter(|node| node.pid.is_some()).count();
        let state = match (self.ready, self.master.pid, living) {
            (true, ..) => "ready",
            (false, None, 0) => "stopped",
            (false, ..) => "not ready",
        };
        writeln!(f, "cluster     {state}")?;
        writeln!(f, "runtime     {}", self.runtime)?;
        writeln!(f, "master      {}", pid(self.master.pid))?;
        if let Some(trouble) = &self.trouble {
            writeln!(f, "            does not answer: {trouble}")?;
        }
        writeln!(f, "API         {}", self.api)?;
        writeln!(f, "MQTT        {} for people, {} for nodes", self.mqtt, self.mqtts)?;
        writeln!(f, "kubeconfig  {}", self.kubeconfig)?;
        writeln!(f, "data        {}", self.data_dir)?;
        let width = self.nodes.iter().map(|node| node.name.len()).max().unwrap_or(0).max(4);
        writeln!(f, "\n{:width$}  READY  PROCESS", "NODE")?;
        self.nodes.iter().try_for_each(|node| {
            let ready = if node.ready { "yes" } else { "no" };
            writeln!(f, "{:width$}  {ready:<5}  {}", node.name, pid(node.pid))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::Ports;
    use super::*;

    #[test]
    fn a_stopped_cluster_is_told_with_its_addresses_and_in_the_agreed_form() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::find(Some(dir.path().to_path_buf())).unwrap();
        assert_eq!(status(&layout).unwrap_err().exit.code(), 1);
        let mut cluster = Cluster::new("u".into(), String::new(), Runtime::Simulated, None, Ports { api: 1, mqtts: 2, mqtt: 3 });
        cluster.grow(1, None, None);
        cluster.save(&layout.state()).unwrap();
        let status = status(&layout).unwrap();
        let kubeconfig = layout.kubeconfig().display().to_string();
        assert_eq!(
            serde_json::to_string(&status).unwrap(),
            format!(
                r#"{{"ready":false,"runtime":"simulated","kubeconfig":"{kubeconfig}","api":"https://127.0.0.1:1","mqtt":"mqtt://127.0.0.1:3","mqtts":"mqtts://127.0.0.1:2","dashboard":null,"nodes":[{{"name":"bramble-1","ready":false,"pid":null}}],"master":{{"pid":null}}}}"#
            )
        );
        let text = status.to_string();
        assert!(text.starts_with("cluster     stopped\n") && text.contains("bramble-1  no     not running"), "{text}");
    }
}
