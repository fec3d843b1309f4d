//! A cluster of the program that is measured: started in a folder of its own on ports of its own, deleted at the end.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
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
        // One that is not ready yet is told as well, with another exit code.
        let said = self.run(["status", "-o", "json"])?;
        serde_json::from_slice(&said.stdout).with_context(|| String::from_utf8_lossy(&said.stderr).into_owned())
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

    /// The API's URL.
    pub fn api(&self) -> anyhow::Result<String> {
        Ok(self.status()?.get("api").and_then(Value::as_str).context("status without api")?.to_owned())
    }

    /// A token that lets a node in.
    pub fn token(&self) -> anyhow::Result<String> {
        let said = self.run_command(["token", "create"], ["-o", "json"])?;
        let made: Value =
            serde_json::from_slice(&said.stdout).with_context(|| String::from_utf8_lossy(&said.stderr).into_owned())?;
        Ok(made.get("token").and_then(Value::as_str).context("no token")?.to_owned())
    }

    /// Where the API is, and who may use it.
    pub fn address(&self) -> anyhow::Result<Address> {
        let api = self.api()?;
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

    /// Makes a deployment, and waits until all pods of the cluster, `total`, are ready.
    pub fn deploy(&self, name: &str, replicas: usize, total: usize, image: &str, probes: Probes) -> anyhow::Result<()> {
        let mut client = Client::connect(&self.address()?)?;
        client.post(DEPLOYMENTS, &deployment(name, replicas, image, probes))?;
        self.wait_pods(&mut client, total)
    }

    /// Removes a deployment, and waits until `left` pods are there, all ready.
    pub fn undeploy(&self, name: &str, left: usize) -> anyhow::Result<()> {
        let mut client = Client::connect(&self.address()?)?;
        client.delete(&format!("{DEPLOYMENTS}/{name}"))?;
        self.wait_pods(&mut client, left)
    }

    fn wait_pods(&self, client: &mut Client, total: usize) -> anyhow::Result<()> {
        wait(&format!("{total} ready pods"), Duration::from_secs(600), || {
            let list = client.get("/api/v1/namespaces/default/pods")?;
            let items = list.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            Ok(items.len() == total && items.iter().all(|pod| is(pod, "Ready")))
        })
    }

    fn bramble<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> anyhow::Result<String> {
        let said = self.run(arguments)?;
        let (out, error) = (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
        anyhow::ensure!(said.status.success(), "{}\n{out}{error}", said.status);
        Ok(out.into_owned())
    }

    fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> anyhow::Result<Output> {
        let mut arguments = arguments.into_iter();
        let command = arguments.by_ref().take(1).collect::<Vec<S>>();
        self.run_command(command, arguments)
    }

    /// A command of one word or more, with its flags.
    fn run_command<S: AsRef<OsStr>>(
        &self,
        words: impl IntoIterator<Item = S>,
        flags: impl IntoIterator<Item = S>,
    ) -> anyhow::Result<Output> {
        let mut command = Command::new(&self.program);
        command.args(words).arg("--data-dir").arg(self.dir()).args(flags);
        command.env("HOME", self.home.path()).env("KUBECONFIG", self.home.path().join("kubeconfig"));
        match &self.docker {
            Some(host) => command.env("DOCKER_HOST", host),
            None => command.env_remove("DOCKER_HOST"),
        };
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {command:?}"))
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

/// How the pods of a figure are probed: by a readiness and a liveness probe each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probes {
    /// Not at all.
    None,
    /// By HTTP, each so many seconds.
    Http(u32),
    /// By opening a connection, each so many seconds.
    Tcp(u32),
    /// By a command in the container, each so many seconds.
    Exec(u32),
}

impl Probes {
    /// For the table.
    pub fn words(self) -> String {
        match self {
            Probes::None => "without probes".to_owned(),
            Probes::Http(seconds) => format!("HTTP readiness and liveness every {seconds} s"),
            Probes::Tcp(seconds) => format!("TCP readiness and liveness every {seconds} s"),
            Probes::Exec(seconds) => format!("exec readiness and liveness every {seconds} s"),
        }
    }

    fn probe(self) -> Option<Value> {
        Some(match self {
            Probes::None => return None,
            Probes::Http(seconds) => serde_json::json!({"httpGet": {"path": "/", "port": PORT}, "periodSeconds": seconds}),
            Probes::Tcp(seconds) => serde_json::json!({"tcpSocket": {"port": PORT}, "periodSeconds": seconds}),
            Probes::Exec(seconds) => serde_json::json!({"exec": {"command": ["true"]}, "periodSeconds": seconds}),
        })
    }
}

/// What runs in a pod: a small web server.
pub const SERVES: [&str; 6] = ["httpd", "-f", "-p", "8080", "-h", "/www"];
const PORT: u16 = 8080;
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn spec(image: &str, probes: Probes) -> Value {
    let mut container = serde_json::json!({"name": "main", "image": image, "imagePullPolicy": "IfNotPresent", "command": SERVES});
    if let Some(probe) = probes.probe() {
        container["readinessProbe"] = probe.clone();
        container["livenessProbe"] = probe;
    }
    serde_json::json!({"terminationGracePeriodSeconds": 1, "containers": [container]})
}

/// A deployment of pods.
pub fn deployment(name: &str, replicas: usize, image: &str, probes: Probes) -> Value {
    serde_json::json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": spec(image, probes)}},
    })
}

/// A pod.
pub fn pod(name: &str, image: &str, probes: Probes) -> Value {
    let metadata = serde_json::json!({"name": name, "labels": {"app": name}});
    serde_json::json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec(image, probes)})
}

/// The same pod with annotations.
pub fn annotated(mut pod: Value, annotations: Value) -> Value {
    pod["metadata"]["annotations"] = annotations;
    pod
}
