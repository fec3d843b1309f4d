//! Connections to pods: made within a time, kept for the next request, and the tasks that drive them.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a pod may take to accept a connection. Source: nginx's `proxy_connect_timeout`.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a connection is kept for the next request. Shorter than what servers close theirs after (5 s and up are usual).
const KEPT: Duration = Duration::from_secs(4);
/// So many are kept for each address, of which some still carry an answer.
const MOST_KEPT: usize = 32;
/// One that could not be reached is asked last for so long.
const SHUNNED: Duration = Duration::from_secs(10);
/// What is sent and not acknowledged for so long ends a connection: who does not read, or is gone.
const UNHEARD: Duration = Duration::from_secs(60);
/// Who says nothing is asked, after this, whether he is there.
const SILENT: Duration = Duration::from_secs(60);

/// Tasks of the door beside its connections: all of them end when it is cut off.
#[derive(Clone)]
pub(super) struct Tasks {
    tracker: TaskTracker,
    cut: CancellationToken,
}

impl Tasks {
    /// None yet; `cut` ends them all.
    pub fn new(cut: CancellationToken) -> Self {
        Self { tracker: TaskTracker::new(), cut }
    }

    /// Starts one.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let cut = self.cut.clone();
        self.tracker.spawn(async move {
            tokio::select! {
                () = cut.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// Ends them, and waits until they have ended.
    pub async fn end(&self) {
        self.cut.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

// HTTP/2 has a task for each request.
impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, task: F) {
        self.spawn(task);
    }
}

/// A request's body on its way, which tells when it last moved.
pub(super) struct Passing {
    body: Option<Incoming>,
    moved: Arc<Mutex<Instant>>,
}

impl Passing {
    /// The body, and when it last moved.
    pub fn new(body: Incoming) -> (Self, Arc<Mutex<Instant>>) {
        let moved = Arc::new(Mutex::new(Instant::now()));
        (Self { body: Some(body), moved: moved.clone() }, moved)
    }

    /// No body.
    pub fn nothing() -> Self {
        Self { body: None, moved: Arc::new(Mutex::new(Instant::now())) }
    }
}

impl Body for Passing {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(cx);
        if polled.is_ready() {
            *lock(&self.moved) = Instant::now();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

/// A lock that a panic poisoned still holds something whole: each change is one step.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The other end of a connection to a pod.
pub(super) type Sender = SendRequest<Passing>;

/// Connections that wait for their next request, and who could not be reached.
pub(super) struct Pool {
    idle: Mutex<BTreeMap<SocketAddr, Vec<(Sender, Instant)>>>,
    shunned: Mutex<BTreeMap<SocketAddr, Instant>>,
    tasks: Tasks,
}

impl Pool {
    /// Empty.
    pub fn new(tasks: Tasks) -> Self {
        Self { idle: Mutex::default(), shunned: Mutex::default(), tasks }
    }

    /// One that is kept, if there is one.
    pub fn kept(&self, to: SocketAddr) -> Option<Sender> {
        let mut idle = lock(&self.idle);
        let all = idle.get_mut(&to)?;
        all.retain(is_of_use);
        let at = all.iter().rposition(|(sender, _)| sender.is_ready())?;
        Some(all.swap_remove(at).0)
    }

    /// Keeps one; its answer may still be under way.
    pub fn keep(&self, to: SocketAddr, sender: Sender) {
        let mut idle = lock(&self.idle);
        let all = idle.entry(to).or_default();
        all.retain(is_of_use);
        if all.len() < MOST_KEPT {
            all.push((sender, Instant::now()));
        }
    }

    /// A new one.
    ///
    /// # Errors
    /// When the pod does not accept it in time.
    pub async fn connect(&self, to: SocketAddr) -> io::Result<Sender> {
        let connecting = tokio::time::timeout(CONNECT, TcpStream::connect(to)).await;
        let stream = match connecting.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(stream) => stream,
            Err(error) => {
                lock(&self.shunned).insert(to, Instant::now());
                return Err(error);
            }
        };
        lock(&self.shunned).remove(&to);
        tune(&stream);
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        self.tasks.spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%to, %error, "a connection to a pod ended");
            }
        });
        Ok(sender)
    }

    /// Whether it could not be reached a moment ago.
    pub fn is_shunned(&self, to: &SocketAddr) -> bool {
        lock(&self.shunned).get(to).is_some_and(|since| since.elapsed() < SHUNNED)
    }

    /// Forgets what is too old to be of use.
    pub fn tidy(&self) {
        lock(&self.shunned).retain(|_, since| since.elapsed() < SHUNNED);
        lock(&self.idle).retain(|_, all| {
            all.retain(is_of_use);
            !all.is_empty()
        });
    }
}

/// Not closed, and either carrying an answer or kept for a short time only.
fn is_of_use((sender, since): &(Sender, Instant)) -> bool {
    !sender.is_closed() && (!sender.is_ready() || since.elapsed() < KEPT)
}

/// Small writes go out at once; who is gone is found out.
pub(super) fn tune(stream: &TcpStream) {
    let socket = socket2::SockRef::from(stream);
    let set = stream
        .set_nodelay(true)
        .and_then(|()| socket.set_tcp_user_timeout(Some(UNHEARD)))
        .and_then(|()| socket.set_tcp_keepalive(&socket2::TcpKeepalive::new().with_time(SILENT).with_interval(SILENT / 6)));
    if let Err(error) = set {
        tracing::debug!(%error, "cannot tune a connection");
    }
}
