//! A cluster of the program that is measured: started in a folder of its own on ports of its own, deleted at the end.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::Setup;
use crate::api::{Address, Client};
use crate::engine::Engine;

/// Deleted when it is dropped.
pub struct Cluster {
    home: tempfile::TempDir,
    program: PathBuf,
    docker: Option<String>,
}

impl Cluster {
    /// `bramble start` with simulated nodes.
    pub fn simulated(setup: &Setup, nodes: u32) -> anyhow::Result<Self> {
        let cluster = Self { home: home()?, program: setup.program.clone(), docker: None };
        cluster.start(&["--runtime", "simulated", "--nodes", &nodes.to_string()])?;
        Ok(cluster)
    }

    /// `bramble start` with nodes that run containers in this engine.
    pub fn docker(setup: &Setup, engine: &Engine, nodes: u32) -> anyhow::Result<Self> {
        let cluster = Self { home: home()?, program: setup.program.clone(), docker: Some(engine.host()) };
        cluster.start(&["--runtime", "docker", "--nodes", &nodes.to_string()])?;
        Ok(cluster)
    }

    /// Where its data is.
    pub fn dir(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// `bramble start`; a cluster that stands grows.
    pub fn start(&self, flags: &[&str]) -> anyhow::Result<()> {
        let ports = ["--api-port", "0", "--mqtt-port", "0"];
        let ports: &[&str] = if self.dir().join("cluster.json").exists() { &[] } else { &ports };
        self.bramble(["start", "--timeout", "300"].iter().chain(ports).chain(flags)).map(|_| ())
    }

    /// `bramble status -o json`.
    pub fn status(&self) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&self.bramble(["status", "-o", "json"])?)?)
    }

    /// The master's process.
    pub fn master(&self) -> anyhow::Result<u32> {
        pid(self.status()?.pointer("/master/pid")).context("the master does not run")
    }

    /// The nodes' processes, each once.
    pub fn agents(&self) -> anyhow::Result<Vec<u32>> {
        let status = self.status()?;
        let nodes = status.get("nodes").and_then(Value::as_array).context("status without nodes")?;
        let mut pids: Vec<u32> = nodes.iter().filter_map(|node| pid(node.get("pid"))).collect();
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Where the API is, and who may use it.
    pub fn address(&self) -> anyhow::Result<Address> {
        let status = self.status()?;
        let api = status.get("api").and_then(Value::as_str).context("status without api")?;
        let port = api.rsplit(':').next().and_then(|port| port.parse().ok()).with_context(|| format!("no port in {api}"))?;
        Address::open(&self.dir().join("pki"), port)
    }

    /// Waits until every node is ready.
    pub fn wait_nodes(&self, count: usize) -> anyhow::Result<()> {
        let mut client = Client::connect(&self.address()?)?;
        wait(&format!("{count} ready nodes"), Duration::from_secs(120), || {
            let list = client.get("/api/v1/nodes")?;
            let items = list.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            Ok(items.iter().filter(|node| is(node, "Ready")).count() == count)
        })
    }

    /// Makes a deployment of pods that sleep, and waits until all are ready.
    pub fn deploy(&self, name: &str, replicas: usize, image: &str) -> anyhow::Result<()> {
        let mut client = Client::connect(&self.address()?)?;
        client.post("/apis/apps/v1/namespaces/default/deployments", &deployment(name, replicas, image))?;
        wait(&format!("{replicas} ready pods"), Duration::from_secs(300), || {
            let list = client.get("/api/v1/namespaces/default/pods")?;
            let items = list.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            Ok(items.iter().filter(|pod| is(pod, "Ready")).count() == replicas)
        })
    }

    fn bramble<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> anyhow::Result<String> {
        let mut command = Command::new(&self.program);
        let mut arguments = arguments.into_iter();
        command.args(arguments.next()).arg("--data-dir").arg(self.dir()).args(arguments);
        command.env("HOME", self.home.path()).env("KUBECONFIG", self.home.path().join("kubeconfig"));
        match &self.docker {
            Some(host) => command.env("DOCKER_HOST", host),
            None => command.env_remove("DOCKER_HOST"),
        };
        let said = command.stdin(Stdio::null()).output()?;
        if !said.status.success() {
            bail!("{command:?}\n{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
        }
        Ok(String::from_utf8_lossy(&said.stdout).into_owned())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(error) = self.bramble(["delete"]) {
            eprintln!("{error}");
        }
    }
}

fn home() -> anyhow::Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix("bramble-figures-").tempdir().context("cannot make a folder")
}

fn pid(value: Option<&Value>) -> Option<u32> {
    value.and_then(Value::as_u64).and_then(|pid| u32::try_from(pid).ok())
}

/// Whether a condition of an object is true.
pub fn is(object: &Value, condition: &str) -> bool {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    conditions
        .into_iter()
        .flatten()
        .any(|one| text(one, "type").as_deref() == Some(condition) && text(one, "status").as_deref() == Some("True"))
}

/// Looks until it holds.
pub fn wait(what: &str, most: Duration, mut holds: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let deadline = Instant::now() + most;
    while !holds()? {
        if Instant::now() > deadline {
            bail!("not within {most:?}: {what}");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// The program under another path, so that it shares no page with the one it is a copy of.
pub fn copied(program: &Path, folder: &Path) -> anyhow::Result<PathBuf> {
    let copy = folder.join("bramble");
    std::fs::copy(program, &copy).with_context(|| format!("cannot copy {}", program.display()))?;
    Ok(copy)
}

fn spec(image: &str) -> Value {
    serde_json::json!({"terminationGracePeriodSeconds": 1, "containers": [
        {"name": "main", "image": image, "imagePullPolicy": "IfNotPresent", "command": ["sleep", "3600"]},
    ]})
}

/// A deployment of pods that sleep.
pub fn deployment(name: &str, replicas: usize, image: &str) -> Value {
    serde_json::json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": spec(image)}},
    })
}

/// A pod that sleeps.
pub fn pod(name: &str, image: &str) -> Value {
    serde_json::json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": spec(image)})
}
