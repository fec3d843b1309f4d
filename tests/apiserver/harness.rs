//! The server, and each kubectl on this machine with a home and a kubeconfig of its own.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use bramble::api::{Key, Object, Resource, Revision, registry};
use bramble::apiserver::allocate::ServiceRanges;
use bramble::apiserver::{Api, Cluster, bind};
use bramble::clock::SystemClock;
use bramble::link::call::{Answer, CallError, Calls, Chunks, LogRequest, Question};
use bramble::store::{Op, Store};
use bramble::tls::{ClientCertificate, Credentials};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// The versions that every case runs with, if they are here.
pub const WANTED: [&str; 3] = ["1.27", "1.30", "1.33"];

/// The kubectls of this machine by version.
pub fn kubectls() -> BTreeMap<String, PathBuf> {
    let on_path = std::env::var_os("PATH").into_iter().flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
    let main = on_path.map(|folder| folder.join("kubectl")).find(|path| path.is_file());
    let real = main.as_ref().and_then(|path| path.canonicalize().ok());
    let beside = real.as_ref().and_then(|path| path.parent()).map(Path::to_path_buf);
    let own = std::env::var_os("KUBECTL_DIR").map(PathBuf::from);
    let mut found: BTreeMap<String, PathBuf> = BTreeMap::new();
    for folder in own.into_iter().chain(beside) {
        for version in WANTED {
            for name in [format!("kubectl.{version}"), format!("kubectl-{version}"), format!("kubectl{version}")] {
                let path = folder.join(name);
                if path.is_file() {
                    found.entry(version.to_owned()).or_insert(path);
                }
            }
        }
    }
    if found.is_empty()
        && let Some(main) = main
    {
        found.insert("PATH".to_owned(), main);
    }
    found
}

/// Runs a case with each kubectl, each with a fresh server.
pub fn each_kubectl(case: impl Fn(&Server, &Kubectl)) {
    each_kubectl_where(ServiceRanges::default(), case);
}

/// The same, with these addresses of services.
pub fn each_kubectl_where(services: ServiceRanges, case: impl Fn(&Server, &Kubectl)) {
    if std::env::var("BRAMBLE_SKIP").is_ok_and(|skip| skip.split(',').any(|part| part == "kubectl")) {
        println!("skipped: kubectl (BRAMBLE_SKIP)");
        return;
    }
    let found = kubectls();
    assert!(!found.is_empty(), "no kubectl on PATH; install one, name a folder in KUBECTL_DIR, or set BRAMBLE_SKIP=kubectl");
    for (version, path) in found {
        println!("kubectl {version}");
        let server = Server::start_with(services);
        case(&server, &server.kubectl(&path));
    }
}

/// Logs by container, for tests.
#[derive(Default)]
struct Logs;

impl Calls for Logs {
    fn logs(&self, node: &str, request: LogRequest) -> Chunks {
        let (send, receive) = tokio::sync::mpsc::channel(4);
        let line = match node {
            "deaf" => Err(CallError::NoAnswer(node.to_owned())),
            _ => Ok(format!("{} on {node}, tail {:?}\n", request.container, request.tail_lines).into()),
        };
        send.try_send(line).unwrap();
        receive
    }

    fn ask(&self, node: &str, question: Question, _within: std::time::Duration) -> Answer {
        let answer = match (node, question) {
            ("pi", Question::Identify(asked)) => Ok(serde_json::json!({"leds": asked.seconds})),
            ("bare", Question::Identify(_)) => Ok(serde_json::json!({"leds": 0, "unlit": "its board has none"})),
            _ => Err(CallError::NoAnswer(node.to_owned())),
        };
        Box::pin(async move { answer })
    }
}

/// A running API server with TLS.
pub struct Server {
    runtime: tokio::runtime::Runtime,
    pub store: Store,
    pub address: std::net::SocketAddr,
    plain: std::net::SocketAddr,
    stop: CancellationToken,
    task: Option<tokio::task::JoinHandle<()>>,
    home: tempfile::TempDir,
    ca: Authority,
}

struct Authority {
    pem: String,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "test-ca");
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: rcgen::Issuer::new(params, key) }
    }

    /// Chain and key, PEM.
    fn sign(&self, name: &str, group: Option<&str>, addresses: &[&str]) -> (String, String) {
        let mut params =
            rcgen::CertificateParams::new(addresses.iter().map(|address| (*address).to_owned()).collect::<Vec<_>>()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        if let Some(group) = group {
            params.distinguished_name.push(rcgen::DnType::OrganizationName, group);
        }
        let key = rcgen::KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

impl Server {
    /// Starts one on a free port, with what an empty cluster has.
    pub fn start() -> Self {
        Self::start_with(ServiceRanges::default())
    }

    fn start_with(services: ServiceRanges) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let ca = Authority::new();
        let (chain, key) = ca.sign("apiserver", None, &["127.0.0.1"]);
        let credentials = Credentials { ca: ca.pem.clone().into(), chain: chain.into(), key: key.into() };
        let tls = credentials.server(ClientCertificate::Optional).unwrap();
        let store = Store::in_memory("test", Revision(1000));
        let stop = CancellationToken::new();
        let (address, plain, task) = runtime.block_on(async {
            let cluster = Cluster { ca_pem: ca.pem.clone(), services, ..Cluster::default() };
            let api = Api::new(store.clone(), Arc::new(Logs), Arc::new(SystemClock::start()), cluster);
            api.bootstrap().await.unwrap();
            let loopback = "127.0.0.1:0".parse().unwrap();
            let (bound, open) = (bind(loopback, Some(tls)).await.unwrap(), bind(loopback, None).await.unwrap());
            let (address, plain) = (bound.address(), open.address());
            tokio::spawn(open.run(api.clone(), stop.clone()));
            (address, plain, tokio::spawn(bound.run(api, stop.clone())))
        });
        Self { plain, runtime, store, address, stop, task: Some(task), home: tempfile::tempdir().unwrap(), ca }
    }

    /// Sends a request as it stands to a listener without TLS, where everybody is admin; reads until the end.
    pub fn raw(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Raw {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut request =
            format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str(&format!("\r\n{body}"));
        let bytes = self.runtime.block_on(async {
            let mut stream = tokio::net::TcpStream::connect(self.plain).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut bytes = Vec::new();
            tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut bytes))
                .await
                .expect("the answer ends")
                .unwrap();
            bytes
        });
        Raw::parse(&String::from_utf8(bytes).unwrap())
    }

    /// Opens a connection without TLS, asks for this, and reads until the answer's headers are there.
    pub fn open(&self, path: &str) -> std::net::TcpStream {
        let mut stream = std::net::TcpStream::connect(self.plain).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes()).unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            seen.extend_from_slice(&byte);
        }
        stream
    }

    /// How many objects of a resource there are, by its plural.
    pub fn count(&self, plural: &str) -> usize {
        let resource: &'static Resource = registry::ALL.iter().copied().find(|row| row.plural == plural).unwrap();
        self.store.view(|view| view.list(resource, None).count())
    }

    /// Changes an object in the store itself, as a controller or a node does.
    pub fn change(&self, resource: &'static Resource, namespace: &str, name: &str, change: impl FnOnce(&mut Object)) {
        let key = Key::new(resource, namespace, name);
        let mut object = self.store.view(|view| view.get(&key).unwrap().as_ref().clone());
        let seen = object.revision();
        change(&mut object);
        self.runtime.block_on(self.store.write(Op::update(key, seen, object).into())).unwrap();
    }

    /// Puts an object into the store itself.
    pub fn put(&self, resource: &'static Resource, value: Value) {
        let object = Object::from_value(value).unwrap();
        self.runtime.block_on(self.store.write(Op::create(Key::of(resource, &object), object).into())).unwrap();
    }

    /// Ends it, as a daemon's stop does; how long that took.
    pub fn stop(&mut self) -> Duration {
        let began = Instant::now();
        self.stop.cancel();
        if let Some(task) = self.task.take() {
            self.runtime.block_on(task).unwrap();
        }
        began.elapsed()
    }

    /// A kubectl as admin.
    pub fn kubectl(&self, program: &Path) -> Kubectl {
        self.kubectl_as(program, "bramble-admin", Some("system:masters"))
    }

    /// A kubectl with a certificate for this name and group.
    pub fn kubectl_as(&self, program: &Path, name: &str, group: Option<&str>) -> Kubectl {
        let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let (chain, key) = self.ca.sign(name, group, &[]);
        let user = format!("{{client-certificate-data: {}, client-key-data: {}}}", base64(&chain), base64(&key));
        self.kubectl_with(program, name, &user)
    }

    /// A kubectl whose kubeconfig says this of its user.
    pub fn kubectl_with(&self, program: &Path, name: &str, user: &str) -> Kubectl {
        let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let home = self.home.path().join(name);
        std::fs::create_dir_all(&home).unwrap();
        let config = home.join("kubeconfig");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters: [{{name: c, cluster: {{server: 'https://{}', certificate-authority-data: {}}}}}]\n\
             users: [{{name: u, user: {user}}}]\n\
             contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n",
            self.address,
            base64(&self.ca.pem),
        );
        std::fs::write(&config, text).unwrap();
        Kubectl { program: program.to_owned(), home, config }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// One kubectl with its kubeconfig.
pub struct Kubectl {
    pub program: PathBuf,
    pub home: PathBuf,
    config: PathBuf,
}

/// An answer, taken apart.
pub struct Raw {
    pub code: u16,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Raw {
    fn parse(text: &str) -> Self {
        let (head, rest) = text.split_once("\r\n\r\n").unwrap();
        let mut lines = head.lines();
        let code = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: BTreeMap<String, String> =
            lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
        let chunked = headers.get("transfer-encoding").is_some_and(|value| value == "chunked");
        Self { code, headers, body: if chunked { dechunked(rest) } else { rest.to_owned() } }
    }

    /// Its body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// Its body as lines of JSON.
    pub fn lines(&self) -> Vec<Value> {
        self.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn dechunked(mut rest: &str) -> String {
    let mut out = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        out.push_str(&after[..size]);
        rest = after[size..].trim_start_matches("\r\n");
    }
    out
}

/// What a command said.
pub struct Said {
    command: String,
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Kubectl {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args).env("HOME", &self.home).env("KUBECONFIG", &self.config).current_dir(&self.home);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command.
    pub fn run(&self, args: &[&str]) -> Said {
        self.input(args, "")
    }

    /// Runs a command with this standard input; one that hangs for a minute is ended.
    pub fn input(&self, args: &[&str], input: &str) -> Said {
        let mut child = self.command(args).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let text = input.to_owned();
        let writer = std::thread::spawn(move || drop(stdin.write_all(text.as_bytes())));
        let mut err = child.stderr.take().unwrap();
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            err.read_to_string(&mut text).map(|_| text)
        });
        let id = child.id().to_string();
        let (done, timer) = std::sync::mpsc::channel::<()>();
        let watchdog = std::thread::spawn(move || {
            if timer.recv_timeout(Duration::from_secs(60)).is_err() {
                let _ = Command::new("kill").args(["-9", &id]).status();
            }
        });
        let mut out = String::new();
        child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        let status = child.wait().unwrap();
        let _ = done.send(());
        watchdog.join().unwrap();
        writer.join().unwrap();
        let err = reader.join().unwrap().unwrap();
        Said { command: format!("kubectl {}", args.join(" ")), code: status.code().unwrap_or(-1), out, err }
    }

    /// Starts a command that goes on.
    pub fn start(&self, args: &[&str]) -> Running {
        let mut child = self.command(args).spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let (send, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stdout.read(&mut buffer) {
                if send.send(String::from_utf8_lossy(&buffer[..count]).into_owned()).is_err() {
                    return;
                }
            }
        });
        Running { child, lines, seen: String::new() }
    }
}

/// A command that goes on.
pub struct Running {
    child: Child,
    lines: std::sync::mpsc::Receiver<String>,
    pub seen: String,
}

impl Running {
    /// Waits until it has said this.
    pub fn until(&mut self, words: &str) {
        let end = Instant::now() + Duration::from_secs(20);
        while !self.seen.contains(words) {
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(more) => self.seen.push_str(&more),
                Err(error) => panic!("never said {words:?} ({error}), but:\n{}", self.seen),
            }
        }
    }

    /// Waits until it ends by itself.
    pub fn end(&mut self) {
        let end = Instant::now() + Duration::from_secs(20);
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < end, "it goes on");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Said {
    /// Its output; it must have succeeded.
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}\n{}{}", self.command, self.out, self.err);
        self.out
    }

    /// It succeeded and said just this.
    pub fn says(self, words: &str) {
        let command = self.command.clone();
        assert_eq!(self.ok().trim_end(), words, "{command}");
    }

    /// It failed, and its complaint contains this.
    pub fn fails(self, words: &str) {
        assert_ne!(self.code, 0, "{}\n{}{}", self.command, self.out, self.err);
        assert!(self.err.contains(words), "{}\nwanted: {words}\ngot: {}", self.command, self.err);
    }
}
