//! A door on loopback with a share of the test's making, back ends, and curl.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bramble::agent::ingress::run::{Open, Settings, serve};
use bramble::api::Object;
use bramble::link::share::Share;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longer than anything that works takes.
pub const SOON: Duration = Duration::from_secs(20);

/// A share in the making.
#[derive(Clone, Default)]
pub struct Sketch(pub Share);

fn object(value: Value) -> Arc<Object> {
    Arc::new(Object::from_value(value).unwrap())
}

impl Sketch {
    /// A service with port 80 that these serve; each at a port of its own, so a slice of its own.
    pub fn service(&mut self, name: &str, backends: &[&Backend]) {
        let ports = json!({"ports": [{"port": 80, "protocol": "TCP"}]});
        self.0.services.insert(format!("default/{name}"), object(json!({"metadata": {"name": name}, "spec": ports})));
        self.0.endpoint_slices.retain(|key, _| !key.starts_with(&format!("default/{name}-")));
        for backend in backends {
            let slice = json!({"metadata": {"labels": {"kubernetes.io/service-name": name}}, "addressType": "IPv4",
                "ports": [{"name": "", "port": backend.address.port(), "protocol": "TCP"}],
                "endpoints": [{"addresses": [backend.address.ip().to_string()], "conditions": {"ready": true}}]});
            self.0.endpoint_slices.insert(format!("default/{name}-{}", backend.address.port()), object(slice));
        }
    }

    /// An ingress.
    pub fn ingress(&mut self, name: &str, spec: Value) {
        self.annotated(name, json!({}), spec);
    }

    /// An ingress with annotations.
    pub fn annotated(&mut self, name: &str, annotations: Value, spec: Value) {
        let value = json!({"metadata": {"name": name, "namespace": "default", "annotations": annotations}, "spec": spec});
        self.0.ingresses.insert(format!("default/{name}"), object(value));
    }

    /// A secret.
    pub fn secret(&mut self, name: &str, data: Value) {
        self.0.secrets.insert(format!("default/{name}"), object(json!({"type": "kubernetes.io/tls", "data": data})));
    }
}

/// A door that is open.
pub struct World {
    pub share: watch::Sender<Arc<Share>>,
    pub sketch: Sketch,
    pub open: watch::Receiver<Open>,
    pub stop: CancellationToken,
    pub task: JoinHandle<()>,
}

impl World {
    /// Opens, and waits until it is open.
    pub async fn new(fill: impl FnOnce(&mut Sketch)) -> Self {
        let anybody: fn(&IpAddr) -> bool = |_| true;
        let address = Some(Ipv4Addr::LOCALHOST.into());
        let world = Self::with(Settings { http: Some(0), https: Some(0), address, may_reach: anybody }, fill);
        let mut open = world.open.clone();
        tokio::time::timeout(SOON, open.wait_for(|open| open.http.is_some() && open.https.is_some())).await.unwrap().unwrap();
        world
    }

    /// Begins.
    pub fn with(settings: Settings, fill: impl FnOnce(&mut Sketch)) -> Self {
        let mut sketch = Sketch::default();
        fill(&mut sketch);
        let (share, shares) = watch::channel(Arc::new(sketch.0.clone()));
        let (opened, open) = watch::channel(Open::default());
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve(settings, shares, opened, stop.clone()));
        Self { share, sketch, open, stop, task }
    }

    /// Another share.
    pub fn change(&mut self, change: impl FnOnce(&mut Sketch)) {
        change(&mut self.sketch);
        self.share.send_replace(Arc::new(self.sketch.0.clone()));
    }

    /// A rule of a host with one path to port 80 of a service.
    pub fn rule(host: &str, kind: &str, path: &str, service: &str) -> Value {
        let backend = json!({"service": {"name": service, "port": {"number": 80}}});
        json!({"host": host, "http": {"paths": [{"path": path, "pathType": kind, "backend": backend}]}})
    }

    pub fn http(&self) -> SocketAddr {
        self.open.borrow().http.unwrap()
    }

    pub fn https(&self) -> SocketAddr {
        self.open.borrow().https.unwrap()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http())
    }

    /// GET of a host's path.
    pub async fn get(&self, host: &str, path: &str) -> Said {
        curl(&["-H", &format!("Host: {host}"), &self.url(path)]).await
    }

    /// Bytes as they are; what comes until the end, or until nothing more comes.
    pub async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.http()).await.unwrap();
        // Who is refused early may not have read all.
        let _ = stream.write_all(bytes).await;
        let (mut said, mut buffer) = (Vec::new(), [0; 4096]);
        let mut patience = SOON;
        while let Ok(Ok(read)) = tokio::time::timeout(patience, stream.read(&mut buffer)).await
            && read > 0
        {
            said.extend_from_slice(&buffer[..read]);
            patience = Duration::from_millis(300);
        }
        String::from_utf8_lossy(&said).into_owned()
    }

    /// Stops, and waits until it has stopped.
    pub async fn end(self) {
        self.stop.cancel();
        tokio::time::timeout(SOON, self.task).await.unwrap().unwrap();
    }
}

/// What curl got.
#[derive(Debug)]
pub struct Said {
    pub status: u16,
    pub version: String,
    pub location: String,
    pub body: String,
}

/// Asks with curl.
pub async fn curl(arguments: &[&str]) -> Said {
    let mut command = tokio::process::Command::new("curl");
    command.args(["-sS", "--noproxy", "*", "-m", "20", "-w", "\n%{http_code} %{http_version} %{redirect_url}"]).args(arguments);
    let output = command.output().await.expect("Debian's curl");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, last) = text.rsplit_once('\n').unwrap_or(("", &text));
    let mut parts = last.split(' ').map(str::to_owned);
    let mut next = || parts.next().unwrap_or_default();
    let (status, version, location) = (next().parse().unwrap_or_default(), next(), next());
    Said { status, version, location, body: format!("{body}{}", String::from_utf8_lossy(&output.stderr)) }
}

/// A pod.
pub struct Backend {
    pub address: SocketAddr,
    pub asked: Arc<AtomicUsize>,
    pub peers: Arc<std::sync::Mutex<BTreeSet<SocketAddr>>>,
    task: JoinHandle<()>,
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Backend {
    async fn listen() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    fn of(address: SocketAddr, task: JoinHandle<()>) -> Self {
        Self { address, asked: Arc::default(), peers: Arc::default(), task }
    }

    /// Answers with what it was asked, as text, and its name in `x-pod`.
    pub async fn echo(name: &'static str) -> Self {
        let (listener, address) = Self::listen().await;
        let (asked, peers): (Arc<AtomicUsize>, Arc<std::sync::Mutex<BTreeSet<SocketAddr>>>) = Default::default();
        let (counter, seen) = (asked.clone(), peers.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                seen.lock().unwrap().insert(peer);
                let counter = counter.clone();
                let service = service_fn(move |request: hyper::Request<Incoming>| {
                    counter.fetch_add(1, Ordering::SeqCst);
                    async move { Ok::<_, Infallible>(echoed(name, request).await) }
                });
                tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, asked, peers, task }
    }

    /// Accepts, and never answers.
    pub async fn silent() -> Self {
        let (listener, address) = Self::listen().await;
        let task = tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                held.push(stream);
            }
        });
        Self::of(address, task)
    }

    /// An address at which nobody is.
    pub async fn closed() -> Self {
        let (listener, address) = Self::listen().await;
        drop(listener);
        Self::of(address, tokio::spawn(async {}))
    }

    /// Does with each connection what it is told.
    pub async fn raw<F>(each: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (listener, address) = Self::listen().await;
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(each(stream));
            }
        });
        Self::of(address, task)
    }
}

async fn echoed(name: &'static str, request: hyper::Request<Incoming>) -> hyper::Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let mut text = format!("{} {}\n", head.method, head.uri);
    for (name, value) in &head.headers {
        text.push_str(&format!("{name}: {}\n", value.to_str().unwrap_or("?")));
    }
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    text.push_str(&format!("\n{}", String::from_utf8_lossy(&body)));
    hyper::Response::builder().header("x-pod", name).header("keep-alive", "timeout=5").body(Full::new(text.into())).unwrap()
}
