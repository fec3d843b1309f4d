//! A master and boards of the test's own, each in a folder of its own.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::support::{kubectls, wait_until};

pub const SOON: Duration = Duration::from_secs(40);

/// A process of the test: ended when it is dropped.
pub struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    fn start(log: PathBuf, arguments: &[String]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bramble"));
        command.args(arguments);
        Self::spawn(log, command)
    }

    /// Starts a command whose process is the program.
    pub fn spawn(log: PathBuf, mut command: Command) -> Self {
        let out = std::fs::File::options().create(true).append(true).open(&log).unwrap();
        let child = command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out).spawn().unwrap();
        Self { child, log }
    }

    /// All that it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until these words stand in its log.
    #[track_caller]
    pub fn says(&self, words: &str) {
        wait_until(&format!("{words:?} in {}", self.log.display()), SOON, || {
            let log = self.log();
            if log.contains(words) { Ok(()) } else { Err(log) }
        });
    }

    /// Kills it, as a lack of memory does.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Ends it as a person would.
    pub fn stop(&mut self) {
        super::support::signal(i32::try_from(self.child.id()).unwrap(), "TERM");
        self.child.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("── {}\n{}", self.log.display(), std::fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}

/// What a program said.
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    /// Its output; panics when it failed.
    #[track_caller]
    pub fn good(self) -> String {
        assert_eq!(self.code, 0, "{}\n{}", self.out, self.err);
        self.out
    }
}

/// Runs a program to its end.
pub fn run(program: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Said {
    let mut command = Command::new(program);
    command.args(arguments).envs(environment.iter().copied());
    said(command)
}

/// Runs a command to its end.
pub fn said(mut command: Command) -> Said {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
}

/// A master.
pub struct Home {
    pub dir: tempfile::TempDir,
    pub api: u16,
    /// Of the listener for viewers.
    pub viewer: u16,
    pub master: Daemon,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Home {
    /// A master on free ports, once it answers.
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("bramble-join-").tempdir().unwrap();
        let (api, mqtt, viewer) = (free_port(), free_port(), free_port());
        let data = dir.path().join("master");
        std::fs::create_dir(&data).unwrap();
        let config = format!(
            "data_dir = {:?}\n[api]\nlisten = \"127.0.0.1:{api}\"\n[mqtt]\nlisten = \"127.0.0.1:{mqtt}\"\nviewer_listen = \"127.0.0.1:{viewer}\"\n",
            data.display().to_string()
        );
        std::fs::write(data.join("master.toml"), config).unwrap();
        let master = Self::started(dir.path(), &data);
        let home = Self { dir, api, viewer, master };
        home.answers();
        home
    }

    /// The master loses all that it has but its configuration and its certificates, and is started again.
    pub fn lose_store(&mut self) {
        self.master.stop();
        let data = self.dir.path().join("master");
        for entry in std::fs::read_dir(&data).unwrap() {
            let path = entry.unwrap().path();
            match path.file_name().unwrap().to_str().unwrap() {
                "pki" | "master.toml" => {}
                _ if path.is_dir() => std::fs::remove_dir_all(path).unwrap(),
                _ => std::fs::remove_file(path).unwrap(),
            }
        }
        self.master = Self::started(self.dir.path(), &data);
        self.answers();
    }

    /// What a node's LEDs show.
    pub fn leds(&self, node: &str) -> String {
        let mqtt = format!("127.0.0.1:{}", self.viewer);
        let show = ["leds", "show", node, "--seconds", "2", "--mqtt", &mqtt];
        run(Path::new(env!("CARGO_BIN_EXE_bramble")), &show, &[]).good()
    }

    fn started(dir: &Path, data: &Path) -> Daemon {
        Daemon::start(
            dir.join("master.log"),
            &["master".into(), "--config".into(), data.join("master.toml").display().to_string()],
        )
    }

    fn answers(&self) {
        wait_until("the master answers", SOON, || {
            let said = self.bramble(&["token", "list"]);
            if said.code == 0 { Ok(()) } else { Err(said.err) }
        });
    }

    /// `bramble GROUP COMMAND …` about this master.
    pub fn bramble(&self, arguments: &[&str]) -> Said {
        let data = self.dir.path().join("master").display().to_string();
        let (head, rest) = arguments.split_at(2);
        let all: Vec<&str> = head.iter().copied().chain(["--data-dir", data.as_str()]).chain(rest.iter().copied()).collect();
        run(Path::new(env!("CARGO_BIN_EXE_bramble")), &all, &[])
    }

    /// A new token.
    pub fn token(&self, more: &[&str]) -> String {
        let made = self.bramble(&[&["token", "create", "-o", "json"], more].concat()).good();
        serde_json::from_str::<Value>(&made).unwrap()["token"].as_str().unwrap().to_owned()
    }

    /// `kubectl get … -o json`.
    #[track_caller]
    pub fn get(&self, what: &[&str]) -> Value {
        let arguments: Vec<&str> = ["get"].iter().chain(what).chain(&["-o", "json"]).copied().collect();
        serde_json::from_str(&self.kubectl(&arguments).good()).unwrap()
    }

    /// kubectl as administrator.
    pub fn kubectl_of(&self, program: &Path, arguments: &[&str]) -> Said {
        let pki = self.dir.path().join("master/pki");
        let file = |name: &str| pki.join(name).display().to_string();
        let server = format!("--server=https://127.0.0.1:{}", self.api);
        let (ca, certificate, key) = (
            format!("--certificate-authority={}", file("ca.crt")),
            format!("--client-certificate={}", file("bramble-admin.crt")),
            format!("--client-key={}", file("bramble-admin.key")),
        );
        let cache = format!("--cache-dir={}", self.dir.path().join("cache").display());
        let all: Vec<&str> = arguments.iter().copied().chain([&*server, &*ca, &*certificate, &*key, &*cache]).collect();
        run(program, &all, &[("KUBECONFIG", "/dev/null")])
    }

    /// The newest kubectl.
    pub fn kubectl(&self, arguments: &[&str]) -> Said {
        self.kubectl_of(&kubectls().pop().unwrap().1, arguments)
    }

    /// The names of all ready nodes.
    pub fn ready_nodes(&self) -> Vec<String> {
        let nodes: Value = serde_json::from_str(&self.bramble(&["node", "list", "-o", "json"]).good()).unwrap();
        let ready = nodes.as_array().unwrap().iter().filter(|node| node["status"] == "Ready");
        ready.map(|node| node["name"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until just these nodes are ready.
    #[track_caller]
    pub fn wait_ready(&self, names: &[&str]) {
        wait_until(&format!("{names:?} are ready"), SOON, || {
            let ready = self.ready_nodes();
            if ready == names { Ok(()) } else { Err(format!("{ready:?}")) }
        });
    }

    /// A node that waits to be let in, as `bramble node list` shows it.
    #[track_caller]
    pub fn wait_waiting(&self, name: &str) -> Value {
        wait_until(&format!("{name} waits"), SOON, || {
            let nodes: Value = serde_json::from_str(&self.bramble(&["node", "list", "-o", "json"]).good()).unwrap();
            let found = nodes.as_array().unwrap().iter().find(|node| node["name"] == name && node["status"] == "Waiting");
            found.cloned().ok_or_else(|| nodes.to_string())
        })
    }

    /// The agent on a board with this serial number, whose host name is `name`.
    pub fn agent(&self, card: &str, name: &str, serial: &str, more: &[&str]) -> Daemon {
        Daemon::start(self.log(card, serial), &self.arguments(card, name, serial, more))
    }

    /// The same, by a command that is given the program and its arguments.
    pub fn agent_by(&self, mut command: Command, card: &str, name: &str, serial: &str, more: &[&str]) -> Daemon {
        command.arg(env!("CARGO_BIN_EXE_bramble")).args(self.arguments(card, name, serial, more));
        Daemon::spawn(self.log(card, serial), command)
    }

    fn log(&self, card: &str, serial: &str) -> PathBuf {
        self.dir.path().join(format!("{card}-{serial}.log"))
    }

    fn arguments(&self, card: &str, name: &str, serial: &str, more: &[&str]) -> Vec<String> {
        let board = self.dir.path().join(format!("board-{serial}"));
        std::fs::create_dir_all(board.join("etc")).unwrap();
        std::fs::write(board.join("etc/machine-id"), format!("{serial}\n")).unwrap();
        let config = self.dir.path().join(format!("{card}-{serial}.toml"));
        std::fs::write(&config, format!("[join]\nidentity_root = {:?}\n", board.display().to_string())).unwrap();
        let mut all: Vec<String> = ["agent", "--runtime", "simulated", "--node", name].map(str::to_owned).to_vec();
        all.extend(["--config".to_owned(), config.display().to_string()]);
        all.extend(["--data-dir".to_owned(), self.card(card).display().to_string()]);
        if !more.contains(&"--join") {
            all.extend(["--join".to_owned(), format!("https://127.0.0.1:{}", self.api)]);
        }
        all.extend(more.iter().map(|&one| one.to_owned()));
        all
    }

    /// The data of a node.
    pub fn card(&self, card: &str) -> PathBuf {
        self.dir.path().join(card)
    }
}
