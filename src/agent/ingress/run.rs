//! The doors: ports that are open while there is an ingress, the connections that come in, and the newest table for all of them.
//!
//! One task a connection, all of them in the `JoinSet` of [`serve`]. A stop closes the doors, lets answers that are being made go out,
//! and cuts off what is left after a few seconds.

use std::future::pending;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::backends::is_reachable;
use super::http::{Door, Proxy};
use super::table::Table;
use super::tcp::{Pool, Tasks, tune};
use super::tls::Wardrobe;
use crate::backoff::Policy;
use crate::error::Chain;
use crate::link::share::Share;

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a connection may be silent between requests, or take to send a request's headers. Source: nginx's 60 s.
const HEADERS: Duration = Duration::from_secs(60);
/// The most bytes of a request's or an answer's headers.
const HEADER_BYTES: usize = 64 * 1024;
/// The same over HTTP/2, where each client has many requests at once.
const H2_HEADER_BYTES: u32 = 32 * 1024;
/// Requests of one HTTP/2 client at once.
const H2_STREAMS: u32 = 100;
/// The most connections from outside at once: some 20 MiB with TLS.
const CONNECTIONS: usize = 1024;
/// How long what is under way may take after a stop.
const DRAIN: Duration = Duration::from_secs(5);
/// Between tries to open a port that somebody else has.
const CLOSED: Policy = Policy { first: Duration::from_secs(2), cap: Duration::from_secs(60) };
/// What is kept and of no use goes after this.
const TIDY: Duration = Duration::from_secs(10);

/// Where the node is asked.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// `ingress.http_port`; 0 takes any free one, which only a test wants.
    pub http: Option<u16>,
    /// `ingress.https_port`; the same.
    pub https: Option<u16>,
    /// At which address; `None`: at all of them.
    pub address: Option<IpAddr>,
    /// Which addresses of endpoints may be asked.
    pub may_reach: fn(&IpAddr) -> bool,
}

impl Settings {
    /// At these ports of all addresses.
    #[must_use]
    pub fn at(http: Option<u16>, https: Option<u16>) -> Self {
        Self { http, https, address: None, may_reach: is_reachable }
    }
}

/// Which doors are open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Open {
    /// HTTP.
    pub http: Option<SocketAddr>,
    /// HTTPS.
    pub https: Option<SocketAddr>,
}

/// One door.
struct Port {
    number: Option<u16>,
    address: Option<IpAddr>,
    listener: Option<TcpListener>,
    failures: u32,
    try_at: Instant,
}

impl Port {
    fn new(number: Option<u16>, address: Option<IpAddr>) -> Self {
        Self { number, address, listener: None, failures: 0, try_at: Instant::now() }
    }

    fn at(&self) -> Option<SocketAddr> {
        self.listener.as_ref()?.local_addr().ok()
    }

    /// When it is to be tried, if it is wanted and not open.
    fn due(&self) -> Option<Instant> {
        (self.number.is_some() && self.listener.is_none()).then_some(self.try_at)
    }

    /// Opens or closes it.
    async fn set(&mut self, wanted: bool) {
        if !wanted {
            if self.listener.take().is_some() {
                tracing::info!(port = self.number, "no ingress is left: the port is closed");
            }
            (self.failures, self.try_at) = (0, Instant::now());
            return;
        }
        let Some(number) = self.number.filter(|_| self.listener.is_none() && self.try_at <= Instant::now()) else { return };
        match bind(self.address, number).await {
            Ok(listener) => {
                tracing::info!(address = ?listener.local_addr().ok(), "the port is open for ingresses");
                self.listener = Some(listener);
                self.failures = 0;
            }
            Err(error) => {
                if self.failures == 0 {
                    let fix = match error.kind() {
                        io::ErrorKind::AddrInUse => {
                            "another program has this port: stop it, or set ingress.http_port and ingress.https_port; it is tried again"
                        }
                        io::ErrorKind::PermissionDenied => {
                            "ports below 1024 are for root: set ingress.http_port and ingress.https_port to higher ones; it is tried again"
                        }
                        _ => "it is tried again",
                    };
                    tracing::warn!(port = number, %error, "ingresses are not served at this port: {fix}");
                }
                self.try_at = Instant::now() + CLOSED.delay(self.failures);
                self.failures = self.failures.saturating_add(1);
            }
        }
    }

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        match &self.listener {
            Some(listener) => listener.accept().await,
            None => pending().await,
        }
    }
}

async fn bind(address: Option<IpAddr>, port: u16) -> io::Result<TcpListener> {
    if let Some(address) = address {
        return TcpListener::bind((address, port)).await;
    }
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Err(error) if !matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied) => {
            // A machine without IPv6.
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await
        }
        bound => bound,
    }
}

/// Serves the ingresses of the newest share until `stop`; `open` says at which addresses.
pub async fn serve(
    settings: Settings,
    mut shares: watch::Receiver<Arc<Share>>,
    open: watch::Sender<Open>,
    stop: CancellationToken,
) {
    let prepared = Wardrobe::new().and_then(|wardrobe| Ok((wardrobe.config()?, wardrobe)));
    let (config, mut wardrobe) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            tracing::error!(error = %Chain(&error), "ingresses are not served: TLS cannot be set up");
            return stop.cancelled().await;
        }
    };
    let acceptor = TlsAcceptor::from(config);
    let tasks = Tasks::new(CancellationToken::new());
    let proxy = Arc::new(Proxy {
        table: RwLock::default(),
        pool: Pool::new(tasks.clone()),
        tasks: tasks.clone(),
        https_port: settings.https,
    });
    let (mut http, mut https) = (Port::new(settings.http, settings.address), Port::new(settings.https, settings.address));
    let mut connections = JoinSet::new();
    let mut tidy = tokio::time::interval(TIDY);
    tidy.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    shares.mark_changed();
    let mut wanted = false;
    loop {
        let due = [&http, &https].into_iter().filter(|_| wanted).filter_map(Port::due).min();
        let retry = async {
            match due {
                Some(at) => tokio::time::sleep_until(at).await,
                None => pending().await,
            }
        };
        let (accepted, tls) = tokio::select! { biased;
            () = stop.cancelled() => break,
            changed = shares.changed() => {
                if changed.is_err() {
                    stop.cancelled().await;
                    break;
                }
                let share = shares.borrow_and_update().clone();
                wanted = !share.ingresses.is_empty();
                let table = if wanted { Table::of(&share, settings.may_reach, fastrand::usize(..)) } else { Table::default() };
                *proxy.table.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Arc::new(table);
                wardrobe.follow(&share);
                http.set(wanted).await;
                https.set(wanted).await;
                tell(&open, &http, &https);
                continue;
            }
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a connection died");
                }
                continue;
            }
            () = retry => {
                http.set(wanted).await;
                https.set(wanted).await;
                tell(&open, &http, &https);
                continue;
            }
            _ = tidy.tick(), if wanted => {
                proxy.pool.tidy();
                continue;
            }
            accepted = http.accept() => (accepted, false),
            accepted = https.accept() => (accepted, true),
        };
        match accepted {
            Ok((stream, peer)) if connections.len() < CONNECTIONS => {
                let port = stream.local_addr().map_or(0, |address| address.port());
                let door = Door { peer: peer.ip().to_canonical(), port, tls };
                let tls = tls.then(|| acceptor.clone());
                connections.spawn(connection(stream, door, tls, proxy.clone(), stop.clone()));
            }
            Ok((_, peer)) => tracing::warn!(%peer, most = CONNECTIONS, "too many connections, one refused"),
            // Out of file descriptors, mostly: the ones that end give some back.
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop((http, https));
    open.send_replace(Open::default());
    let drained = tokio::time::timeout(DRAIN, async { while connections.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        tracing::warn!(connections = connections.len(), "connections of ingresses cut off");
        connections.shutdown().await;
    }
    tasks.end().await;
}

fn tell(open: &watch::Sender<Open>, http: &Port, https: &Port) {
    let now = Open { http: http.at(), https: https.at() };
    open.send_if_modified(|told| std::mem::replace(told, now) != now);
}

async fn connection(stream: TcpStream, door: Door, tls: Option<TlsAcceptor>, proxy: Arc<Proxy>, stop: CancellationToken) {
    tune(&stream);
    let Some(acceptor) = tls else { return http1(stream, door, proxy, stop).await };
    let handshake = tokio::select! {
        done = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)) => done,
        () = stop.cancelled() => return,
    };
    match handshake {
        Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => http2(stream, door, proxy, stop).await,
        Ok(Ok(stream)) => http1(stream, door, proxy, stop).await,
        Ok(Err(error)) => tracing::debug!(peer = %door.peer, %error, "TLS handshake failed"),
        Err(_) => tracing::debug!(peer = %door.peer, "TLS handshake took too long"),
    }
}

async fn http1<S>(stream: S, door: Door, proxy: Arc<Proxy>, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request| {
        let proxy = proxy.clone();
        async move { proxy.answer(request, door).await }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADERS).max_header_size(HEADER_BYTES);
    let mut served = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service).with_upgrades());
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(peer = %door.peer, error = %Chain(&error), "connection ended");
    }
}

async fn http2<S>(stream: S, door: Door, proxy: Arc<Proxy>, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let tasks = proxy.tasks.clone();
    let service = service_fn(move |request| {
        let proxy = proxy.clone();
        async move { proxy.answer(request, door).await }
    });
    let mut builder = hyper::server::conn::http2::Builder::new(tasks);
    builder
        .timer(TokioTimer::new())
        .max_header_list_size(H2_HEADER_BYTES)
        .max_concurrent_streams(H2_STREAMS)
        // Who does not answer a ping is gone; a client that is there and silent keeps its one connection.
        .keep_alive_interval(HEADERS)
        .keep_alive_timeout(HANDSHAKE);
    let mut served = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(peer = %door.peer, error = %Chain(&error), "connection ended");
    }
}
