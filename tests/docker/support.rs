//! An agent's heart (node, runtime hand, Docker) without link and disk, and what tests ask of it.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bramble::agent::devices::Offer;
use bramble::agent::node::{Effect, Input, Node, NodeConfig, PodLight};
use bramble::agent::past::Past;
use bramble::agent::prober;
use bramble::agent::runtime::Runtime;
use bramble::agent::runtime::docker::{DockerRuntime, Settings};
use bramble::agent::runtime::naming::Owner;
use bramble::agent::runtime::run::{Health, drive};
use bramble::agent::runtime::tar::Tar;
use bramble::api::{Object, Uid};
use bramble::clock::{Clock, SystemClock};
use bramble::link::message::{NodeEvent, PodReport};
use bramble::link::share::Share;
use bramble::step::Machine;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::engine::{Engine, Kind};

/// An image of busybox alone.
pub const BUSYBOX: &str = "bramble-test-busybox:1";

/// Whether these tests are left out.
pub fn skipped() -> bool {
    let engine = Kind::chosen().word();
    let skip = std::env::var("BRAMBLE_SKIP").is_ok_and(|list| list.split(',').any(|part| part == engine));
    if skip {
        eprintln!("SKIPPED: {engine} (BRAMBLE_SKIP)");
    }
    skip
}

/// What stands before `://` in the ids of its containers.
pub fn engine_word() -> &'static str {
    Kind::chosen().word()
}

/// The socket of the engine that the test's cluster has.
pub fn socket() -> String {
    Engine::start().socket()
}

/// The `docker` command against that engine.
pub fn docker_command() -> Command {
    Engine::start().docker()
}

/// Runs the `docker` command; its output, trimmed.
pub fn docker(args: &[&str]) -> String {
    let output = docker_command().args(args).output().expect("the docker command");
    assert!(output.status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A cluster of one test; everything of it is removed at the end, also of a test that fails.
pub struct Cluster {
    pub uid: String,
    /// The agent's `run_dir`.
    pub run: tempfile::TempDir,
    engine: Engine,
}

impl Cluster {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let uid = format!("{:04x}{:04x}-test", std::process::id() & 0xffff, COUNT.fetch_add(1, Ordering::SeqCst));
        let engine = Engine::start();
        import_busybox_into(&engine.socket());
        Self { uid, run: tempfile::tempdir().unwrap(), engine }
    }

    pub fn owner(&self) -> Owner {
        Owner { cluster_uid: self.uid.clone(), node: "test-1".to_owned() }
    }

    pub fn runtime(&self) -> DockerRuntime {
        DockerRuntime::new(self.settings())
    }

    pub fn settings(&self) -> Settings {
        let mut settings = Settings::new(self.engine.socket(), self.owner(), self.run.path());
        settings.sandbox_command = ["/bramble", "--ignored", "--exact", "sandbox_process", "--nocapture", "--test-threads=1"]
            .map(str::to_owned)
            .to_vec();
        settings
    }

    /// Ids of everything of this cluster in Docker.
    pub fn left(&self) -> Vec<String> {
        let filter = format!("label=bramble/cluster={}", self.uid);
        let mut left = Vec::new();
        for list in [&["ps", "-aq"][..], &["volume", "ls", "-q"], &["network", "ls", "-q"]] {
            let args: Vec<&str> = list.iter().copied().chain(["--filter", &filter]).collect();
            left.extend(docker(&args).lines().map(|id| format!("{} {id}", list[0])));
        }
        left
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A request of an agent that a failed test dropped may still be on its way in Docker.
        if std::thread::panicking() {
            std::thread::sleep(Duration::from_secs(2));
        }
        // Podman removes a sandbox only after the containers that joined it.
        for _ in 0..3 {
            for line in self.left() {
                let (kind, id) = line.split_once(' ').unwrap();
                let args: &[&str] = match kind {
                    "ps" => &["rm", "-fv"],
                    "volume" => &["volume", "rm", "-f"],
                    _ => &["network", "rm"],
                };
                let _ = docker_command().args(args).arg(id).stdout(Stdio::null()).stderr(Stdio::null()).status();
            }
        }
        // This program's image; refused while another test uses it, and imported anew by one that comes later. The tests' own Podman
        // keeps it for the next test.
        if let (Engine::Docker, Ok((image, _))) = (&self.engine, bramble::agent::runtime::exec::own_image()) {
            let _ = docker_command().args(["image", "rm", &image]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
    }
}

/// The image of busybox alone, imported when it is not there.
pub fn import_busybox_into(socket: &str) {
    let host = format!("unix://{socket}");
    let there = Command::new("docker")
        .args(["-H", &host, "image", "inspect", BUSYBOX])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !there.expect("the docker command").success() {
        import_busybox_as(socket, BUSYBOX, &[]);
    }
}

/// An image of busybox alone, with these lines of a Dockerfile.
pub fn import_busybox_as(socket: &str, image: &str, lines: &[&str]) {
    let host = format!("unix://{socket}");
    let mut tar = Tar::default();
    for folder in ["bin", "tmp", "etc"] {
        tar.directory(folder, 0o755);
    }
    tar.file("bin/busybox", 0o755, &std::fs::read("/bin/busybox").expect("busybox-static is installed"));
    for name in ["sh", "sleep", "cat", "echo", "nc", "ls", "stat", "hostname", "env", "seq", "wget", "httpd", "id", "mount"] {
        tar.link(&format!("bin/{name}"), "busybox");
    }
    let mut import = Command::new("docker")
        .args(["-H", &host, "import"])
        .args(lines.iter().flat_map(|line| ["--change", line]))
        .args(["-", image])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("the docker command");
    std::io::Write::write_all(import.stdin.as_mut().unwrap(), &tar.finish()).unwrap();
    drop(import.stdin.take());
    assert!(import.wait().unwrap().success());
}

/// What an agent has said.
#[derive(Default)]
pub struct Said {
    pub reports: std::collections::BTreeMap<String, PodReport>,
    pub events: Vec<NodeEvent>,
    pub lights: Vec<PodLight>,
    pub offer: Offer,
    pub past: Past,
}

/// A running agent.
pub struct Agent {
    inputs: mpsc::Sender<Input>,
    said: Arc<Mutex<Said>>,
    stop: CancellationToken,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    pub runtime: Arc<DockerRuntime>,
    /// Whether Docker answers.
    pub health: watch::Receiver<Health>,
}

impl Agent {
    pub fn start(cluster: &Cluster) -> Self {
        Self::start_on(cluster.runtime())
    }

    /// An agent whose Docker is reached in another way.
    pub fn start_on(runtime: DockerRuntime) -> Self {
        Self::start_as(runtime, NodeConfig::default())
    }

    /// A node that has something of its own.
    pub fn start_as(runtime: DockerRuntime, config: NodeConfig) -> Self {
        let runtime = Arc::new(runtime);
        let (inputs, mut inbox) = mpsc::channel(64);
        let (orders, order_box) = mpsc::channel(1024);
        let (hooks, hook_box) = mpsc::channel(1024);
        let (health, healthy) = watch::channel(Health::Unknown);
        let stop = CancellationToken::new();
        let said = Arc::new(Mutex::new(Said::default()));
        let hand = tokio::spawn(drive(Arc::clone(&runtime) as Arc<dyn Runtime>, order_box, inputs.clone(), health, stop.clone()));
        let hooked = tokio::spawn(bramble::agent::hooks::run::serve(
            Arc::clone(&runtime) as Arc<dyn Runtime>,
            hook_box,
            inputs.clone(),
            stop.clone(),
        ));
        let (probes, probe_box) = mpsc::channel(1024);
        let asking =
            tokio::spawn(prober::run::drive(Arc::clone(&runtime) as Arc<dyn Runtime>, probe_box, inputs.clone(), stop.clone()));
        let (stopped, told) = (stop.clone(), Arc::clone(&said));
        let brain = tokio::spawn(async move {
            let clock = SystemClock::start();
            let mut node =
                Node::new(NodeConfig { name: "test-1".into(), host_ips: vec!["192.0.2.1".into()], scheme: "docker", ..config });
            let mut effects = Vec::new();
            loop {
                tokio::select! { biased;
                    () = stopped.cancelled() => return,
                    Some(input) = inbox.recv() => node.handle(clock.now(), input, &mut effects),
                    () = clock.sleep_until(node.next_wake()) => node.wake(clock.now(), &mut effects),
                }
                // What one input comes to is seen whole.
                let mut told = told.lock().unwrap();
                for effect in effects.drain(..) {
                    match effect {
                        Effect::Run(order) => orders.try_send(order).unwrap(),
                        Effect::Hook(order) => hooks.try_send(order).unwrap(),
                        Effect::Probe(order) => probes.try_send(order).unwrap(),
                        Effect::Report(report) => {
                            told.reports.insert(report.name.clone(), report);
                        }
                        Effect::Event(event) => told.events.push(event),
                        Effect::Lights(lights) => told.lights = lights,
                        Effect::Offer(offer) => told.offer = offer,
                        Effect::Keep(past) => told.past = past,
                    }
                }
            }
        });
        Self { inputs, said, stop, tasks: vec![hand, hooked, asking, brain], runtime, health: healthy }
    }

    pub async fn want(&self, share: Share) {
        self.inputs.send(Input::Desired(Arc::new(share))).await.unwrap();
    }

    /// Ends without touching Docker, as `kill -9` would.
    pub async fn kill(mut self) {
        self.stop.cancel();
        for task in self.tasks.drain(..) {
            task.abort();
            let _ = task.await;
        }
    }

    /// Where others put what they have for the node.
    pub fn inputs(&self) -> mpsc::Sender<Input> {
        self.inputs.clone()
    }

    pub fn report(&self, name: &str) -> Option<PodReport> {
        self.said.lock().unwrap().reports.get(name).cloned()
    }

    pub fn status(&self, name: &str) -> Value {
        self.report(name).map(|report| report.status).unwrap_or_default()
    }

    pub fn reasons(&self) -> Vec<String> {
        self.said.lock().unwrap().events.iter().map(|event| event.reason.clone()).collect()
    }

    /// What the next agent would find on its disk.
    pub fn past(&self) -> Past {
        self.said.lock().unwrap().past.clone()
    }

    pub fn lights(&self) -> Vec<PodLight> {
        self.said.lock().unwrap().lights.clone()
    }

    pub fn events(&self) -> Vec<NodeEvent> {
        self.said.lock().unwrap().events.clone()
    }

    /// Waits until the pod's status is as wanted.
    pub async fn until(&self, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..2400 {
            let status = self.status(name);
            if wanted(&status) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{name} never came to: {what}\n{:#}\n{:#?}", self.status(name), self.events());
    }

    pub async fn until_ready(&self, name: &str) -> Value {
        self.until(name, "ready", is_ready).await
    }

    pub async fn input(&self, input: Input) {
        self.inputs.send(input).await.unwrap();
    }

    pub async fn until_gone(&self, name: &str) {
        for _ in 0..2400 {
            if self.report(name).is_some_and(|report| report.gone) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{name} never went\n{:#}\n{:#?}", self.status(name), self.events());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop.cancel();
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

pub fn is_ready(status: &Value) -> bool {
    status["conditions"]
        .as_array()
        .is_some_and(|all| all.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True"))
}

/// The Docker id of the container at a place of a status.
pub fn container_id(status: &Value, at: usize) -> String {
    let id = status["containerStatuses"][at]["containerID"].as_str().unwrap_or_default();
    id.strip_prefix(engine_word())
        .and_then(|id| id.strip_prefix("://"))
        .unwrap_or_else(|| panic!("no container at {at}: {status:#}"))
        .to_owned()
}

/// What a shell script says in the container at a place of a status.
pub fn shell(status: &Value, at: usize, script: &str) -> String {
    docker(&["exec", &container_id(status, at), "/bin/sh", "-c", script])
}

/// A pod of busybox containers: name and shell script each.
pub fn pod(name: &str, containers: &[(&str, &str)]) -> Value {
    let containers: Vec<Value> = containers
        .iter()
        .map(|(name, script)| json!({"name": name, "image": BUSYBOX, "command": ["/bin/sh", "-c", script]}))
        .collect();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}"), "generation": 1},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": containers},
    })
}

pub fn share(pods: &[Value]) -> Share {
    let mut share = Share::default();
    for pod in pods {
        let object = Object::from_value(pod.clone()).unwrap();
        share.pods.insert(Uid(object.uid().0), Arc::new(object));
    }
    share
}

pub fn deleted(mut pod: Value) -> Value {
    pod["metadata"]["deletionTimestamp"] = json!("2026-11-22T20:00:00Z");
    pod["metadata"]["deletionGracePeriodSeconds"] = json!(1);
    pod
}
