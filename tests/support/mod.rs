//! A whole cluster of real processes for tests: `bramble start` in a folder of its own, on ports of its own, and gone at the end.
#![allow(dead_code, clippy::disallowed_methods, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a test's tools: each area uses some

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Waits for a state, not for a change; says what was waited for, and what was last seen.
pub fn wait_until<T>(what: &str, most: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + most;
    loop {
        match look() {
            Ok(value) => return value,
            Err(seen) if Instant::now() >= deadline => panic!("not within {most:?}: {what}\nlast seen: {seen}"),
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// Whether `BRAMBLE_SKIP` names this part. Says so, and it counts as not run.
pub fn skipped(part: &str) -> bool {
    let skipped = std::env::var("BRAMBLE_SKIP").is_ok_and(|list| list.split(',').any(|name| name.trim() == part));
    if skipped {
        println!("NOT RUN: BRAMBLE_SKIP names {part}");
    }
    skipped
}

/// The kubectl programs that are here, by minor version: beside the one on PATH (`kubectl.1.27`), in `KUBECTL_DIR`, and the one on
/// PATH itself.
pub fn kubectls() -> Vec<(String, PathBuf)> {
    let mut folders: Vec<PathBuf> = std::env::var_os("KUBECTL_DIR").map(PathBuf::from).into_iter().collect();
    let on_path = std::env::var_os("PATH")
        .and_then(|path| std::env::split_paths(&path).map(|folder| folder.join("kubectl")).find(|program| program.is_file()));
    folders.extend(
        on_path.as_ref().and_then(|program| program.canonicalize().ok()).and_then(|real| real.parent().map(Path::to_owned)),
    );
    let mut found: Vec<(String, PathBuf)> = Vec::new();
    for entry in folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(version) = name.strip_prefix("kubectl.1.").filter(|minor| minor.parse::<u32>().is_ok()) {
            found.push((format!("1.{version}"), entry.path()));
        }
    }
    found.sort();
    found.dedup_by(|a, b| a.0 == b.0);
    if found.is_empty() {
        found.extend(on_path.map(|program| ("on PATH".to_owned(), program)));
    }
    assert!(!found.is_empty(), "no kubectl: put one on PATH, or kubectl.1.27, kubectl.1.33, … into KUBECTL_DIR");
    found
}

/// The oldest and the newest kubectl that are here.
pub fn oldest_and_newest_kubectl() -> Vec<(String, PathBuf)> {
    let all = kubectls();
    let mut ends = vec![all[0].clone()];
    if all.len() > 1 {
        ends.push(all[all.len() - 1].clone());
    }
    println!("kubectl: {}", ends.iter().map(|(version, _)| version.as_str()).collect::<Vec<_>>().join(", "));
    ends
}

/// What a program said.
pub struct Said {
    pub ok: bool,
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    pub fn of(output: Output) -> Self {
        Self {
            ok: output.status.success(),
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Its standard output; panics with everything when it failed.
    #[track_caller]
    pub fn expect(self) -> String {
        assert!(self.ok, "exit {}\n{}\n{}", self.code, self.out, self.err);
        self.out
    }
}

/// A cluster of this machine, deleted when it is dropped.
pub struct Cluster {
    pub dir: PathBuf,
    home: tempfile::TempDir,
    pub kubectl: PathBuf,
    /// The program that is run.
    pub program: PathBuf,
    /// The engine that is not this machine's own, as `DOCKER_HOST` names it.
    pub engine: Option<String>,
}

impl Cluster {
    /// A folder for a cluster that is not started.
    pub fn new() -> Self {
        let home = tempfile::Builder::new().prefix("bramble-test-").tempdir().unwrap();
        let newest = kubectls().pop().unwrap().1;
        Self { dir: home.path().join("data"), home, kubectl: newest, program: env!("CARGO_BIN_EXE_bramble").into(), engine: None }
    }

    /// Starts with these flags on free ports.
    pub fn started(flags: &[&str]) -> Self {
        let cluster = Self::new();
        cluster.start(flags).expect();
        cluster
    }

    /// From now on another build of the program is run: the same code in a file of other content, as after an upgrade.
    pub fn replace_program(&mut self) {
        let mut bytes = std::fs::read(&self.program).unwrap();
        // What stands behind the last section is nobody's, and makes it another file.
        bytes.extend_from_slice(b"another build");
        self.program = self.home.path().join("bramble-upgraded");
        std::fs::write(&self.program, bytes).unwrap();
        std::fs::set_permissions(&self.program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }

    /// `bramble start` on free ports with these flags.
    pub fn start(&self, flags: &[&str]) -> Said {
        let ports = ["--api-port", "0", "--mqtt-port", "0", "--dashboard-port", "0"];
        // A cluster that stands keeps its ports.
        let ports: &[&str] = if self.dir.join("cluster.json").exists() { &[] } else { &ports };
        self.bramble(["start"].iter().chain(ports).chain(flags))
    }

    /// Runs the program about this cluster.
    pub fn bramble<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Said {
        let mut arguments = arguments.into_iter();
        let mut command = Command::new(&self.program);
        command.arg(arguments.next().unwrap()).arg("--data-dir").arg(&self.dir).args(arguments);
        self.environment(&mut command);
        Said::of(command.stdin(Stdio::null()).output().unwrap())
    }

    fn environment(&self, command: &mut Command) {
        command.env("HOME", self.home.path()).env("KUBECONFIG", self.kubeconfig());
        command.envs(self.engine.iter().map(|engine| ("DOCKER_HOST", engine)));
    }

    /// The user's kubeconfig that `start` merged its context into.
    pub fn kubeconfig(&self) -> PathBuf {
        self.home.path().join("kubeconfig")
    }

    /// A kubectl command, ready to be changed or started.
    pub fn kubectl_command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null());
        self.environment(&mut command);
        command
    }

    /// The newest kubectl.
    pub fn kubectl(&self, arguments: &[&str]) -> Said {
        Said::of(self.kubectl_command(&self.kubectl, arguments).output().unwrap())
    }

    /// This kubectl, with something on its standard input.
    pub fn kubectl_in(&self, program: &Path, arguments: &[&str], input: &str) -> Said {
        use std::io::Write as _;
        let mut command = self.kubectl_command(program, arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        Said::of(child.wait_with_output().unwrap())
    }

    /// `kubectl get … -o json`.
    #[track_caller]
    pub fn get(&self, what: &[&str]) -> Value {
        let arguments: Vec<&str> = ["get"].iter().chain(what).chain(&["-o", "json"]).copied().collect();
        serde_json::from_str(&self.kubectl(&arguments).expect()).unwrap()
    }

    /// Applies a manifest.
    #[track_caller]
    pub fn apply(&self, manifest: &str) -> String {
        self.kubectl_in(&self.kubectl, &["apply", "-f", "-"], manifest).expect()
    }

    /// `bramble status -o json`.
    #[track_caller]
    pub fn status(&self) -> Value {
        let said = self.bramble(["status", "-o", "json"]);
        serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {}\n{}", said.out, said.err))
    }

    /// The pid of the master.
    pub fn master_pid(&self) -> i32 {
        i32::try_from(self.status()["master"]["pid"].as_i64().unwrap()).unwrap()
    }

    /// The pid of a node's agent.
    pub fn agent_pid(&self, node: &str) -> i32 {
        let status = self.status();
        let node = status["nodes"].as_array().unwrap().iter().find(|known| known["name"] == node).unwrap().clone();
        i32::try_from(node["pid"].as_i64().unwrap()).unwrap()
    }

    /// All pids of the cluster.
    pub fn pids(&self) -> Vec<i32> {
        let status = self.status();
        let all =
            status["nodes"].as_array().unwrap().iter().map(|node| node["pid"].clone()).chain([status["master"]["pid"].clone()]);
        let mut pids: Vec<i32> = all.filter_map(|pid| i32::try_from(pid.as_i64()?).ok()).collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// The pods that a selector names, as JSON.
    #[track_caller]
    pub fn pods(&self, selector: &str) -> Vec<Value> {
        self.get(&["pods", "-A", "-l", selector])["items"].as_array().unwrap().clone()
    }

    /// Waits until just so many pods of a selector are ready, none of them being deleted; gives them.
    #[track_caller]
    pub fn wait_ready(&self, selector: &str, count: usize, most: Duration) -> Vec<Value> {
        wait_until(&format!("{count} ready pods of {selector}"), most, || {
            let pods = self.pods(selector);
            let good =
                pods.len() == count && pods.iter().all(|pod| is_ready(pod) && pod["metadata"]["deletionTimestamp"].is_null());
            if good { Ok(pods) } else { Err(summary(&pods)) }
        })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for log in walk(&self.dir).into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "log")) {
                let text = std::fs::read_to_string(&log).unwrap_or_default();
                let tail: Vec<&str> = text.lines().rev().take(25).collect();
                eprintln!("── end of {}\n{}", log.display(), tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
            }
        }
        let said = self.bramble(["delete"]);
        if !said.ok {
            eprintln!("bramble delete: {}\n{}", said.out, said.err);
        }
    }
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .flat_map(|entry| if entry.path().is_dir() { walk(&entry.path()) } else { vec![entry.path()] })
        .collect()
}

/// Whether a pod's Ready condition is true.
pub fn is_ready(pod: &Value) -> bool {
    pod["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// One line a pod.
pub fn summary(pods: &[Value]) -> String {
    let line = |pod: &Value| {
        format!(
            "{} on {} {} ready={} deleting={} {}",
            pod["metadata"]["name"],
            pod["spec"]["nodeName"],
            pod["status"]["phase"],
            is_ready(pod),
            !pod["metadata"]["deletionTimestamp"].is_null(),
            pod["status"]["containerStatuses"]
        )
    };
    format!("{} pods\n{}", pods.len(), pods.iter().map(line).collect::<Vec<_>>().join("\n"))
}

/// Sends a signal to a process that a test started.
pub fn signal(pid: i32, signal: &str) {
    let said = Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).output().unwrap();
    assert!(said.status.success(), "kill -{signal} {pid}");
}

/// Whether a process lives. One that ended and was not yet asked for its exit code does not.
pub fn lives(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z'))
}

/// A deployment's manifest.
pub fn deployment(name: &str, replicas: u32, image: &str, extra: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec:\n  replicas: {replicas}\n  selector: {{matchLabels: {{app: {name}}}}}\n  \
         template:\n    metadata: {{labels: {{app: {name}}}}}\n    spec:\n      terminationGracePeriodSeconds: 1\n      containers:\n      - name: main\n        image: {image}\n        \
         imagePullPolicy: IfNotPresent\n{extra}"
    )
}

// ── Docker ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// The image that tests run: a small busybox root, imported once.
pub const BUSYBOX: &str = "bramble-test/busybox:1";

/// Runs the docker client.
pub fn docker(arguments: &[&str]) -> Said {
    Said::of(Command::new("docker").args(arguments).stdin(Stdio::null()).output().unwrap())
}

/// Imports [`BUSYBOX`] from Debian's static busybox unless it is there.
pub fn busybox_image() {
    busybox_image_at("unix:///var/run/docker.sock");
}

/// The same, for an engine that `DOCKER_HOST` names.
pub fn busybox_image_at(engine: &str) {
    if docker(&["-H", engine, "image", "inspect", BUSYBOX]).ok {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    for folder in ["bin", "tmp", "etc", "proc", "sys", "dev", "root", "var"] {
        std::fs::create_dir(root.path().join(folder)).unwrap();
    }
    std::fs::copy("/bin/busybox", root.path().join("bin/busybox")).expect("Debian's busybox-static");
    for name in [
        "sh", "sleep", "cat", "echo", "wget", "nc", "httpd", "ls", "true", "false", "seq", "kill", "env", "touch", "test",
        "hostname", "ps", "date", "mkdir", "id", "tee",
    ] {
        std::os::unix::fs::symlink("busybox", root.path().join("bin").join(name)).unwrap();
    }
    let script = format!(
        "tar -C {} -c . | docker -H {engine} import --change 'ENV PATH=/bin' --change 'CMD [\"/bin/sh\"]' --change 'LABEL bramble-test=1' - {BUSYBOX}",
        root.path().display()
    );
    let said = Said::of(Command::new("sh").args(["-c", &script]).output().unwrap());
    assert!(said.ok, "{}", said.err);
}

/// The same, for an engine's socket.
pub fn import_busybox_into(socket: &str) {
    busybox_image_at(&format!("unix://{socket}"));
}

/// The containers of a cluster, without its sandboxes: id, start time, name.
pub fn containers(cluster: &Cluster) -> Vec<(String, String, String)> {
    let uid = cluster_uid(cluster);
    let ids = docker(&["ps", "-q", "--no-trunc", "--filter", &format!("label=bramble/cluster={uid}")]).expect();
    let mut all: Vec<(String, String, String)> = ids
        .lines()
        .filter_map(|id| {
            let said = docker(&["inspect", "--format", "{{.State.StartedAt}} {{.Name}}", id]);
            let (started, name) = said.out.trim().split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned()))?;
            Some((id.to_owned(), started, name))
        })
        .collect();
    all.sort();
    all
}

/// The cluster's uid, as its labels in Docker have it.
pub fn cluster_uid(cluster: &Cluster) -> String {
    let state: Value = serde_json::from_str(&std::fs::read_to_string(cluster.dir.join("cluster.json")).unwrap()).unwrap();
    state["uid"].as_str().unwrap().to_owned()
}
