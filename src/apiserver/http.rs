//! The listener: TLS, HTTP/1.1, limits and deadlines; requests in, replies out.
//!
//! One task a connection, all of them in the `JoinSet` of [`Bound::run`]. A stop ends watches and logs, lets answers that
//! are being made go out, and cuts off what is left after a few seconds.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::api::status::ApiError;
use crate::error::Chain;
use crate::tls;

use super::auth::{Impersonation, User};
use super::route::Method;
use super::run::{Api, Reply, ReplyBody, Request};

/// The most bytes of a body.
pub const BODY_LIMIT: usize = 3 * 1024 * 1024;
/// The most bytes of a body of somebody without a certificate: a request to join is a tenth of it.
pub const STRANGERS_LIMIT: usize = 16 * 1024;
/// What of a body over the limit is still read, so that the client hears why instead of a broken connection.
const BODY_DRAIN: usize = 32 * 1024 * 1024;
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a connection may be silent between requests, or take to send a request's headers.
const HEADERS: Duration = Duration::from_secs(90);
/// How long a body may take: a slow Wi-Fi sends 3 MiB in this time.
const BODY: Duration = Duration::from_secs(60);
/// How long what is under way may take after a stop.
const DRAIN: Duration = Duration::from_secs(5);
/// The most connections at once. A thousand nodes do not connect here, people and a few controllers do.
const CONNECTIONS: usize = 2048;

/// Why the server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another program has the port.
    #[error(
        "cannot listen on {address}: another program uses this port; stop it, or choose another one with --api-listen ADDRESS:PORT (`bramble start`: --api-port PORT; 0 takes any free one)"
    )]
    InUse {
        /// The address.
        address: SocketAddr,
    },
    /// The port is one of the system's.
    #[error("cannot listen on {address}: ports below 1024 are for root; choose another one with --api-listen ADDRESS:PORT")]
    NotAllowed {
        /// The address.
        address: SocketAddr,
    },
    /// Anything else.
    #[error("cannot listen on {address}")]
    Other {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// A listener that has its port.
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Arc<rustls::ServerConfig>>,
}

/// Takes the port. Without `tls` everybody is admin: for tests on loopback, never in product.
///
/// # Errors
/// When the port cannot be had.
pub async fn bind(address: SocketAddr, tls: Option<Arc<rustls::ServerConfig>>) -> Result<Bound, BindError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse { address },
        io::ErrorKind::PermissionDenied => BindError::NotAllowed { address },
        _ => BindError::Other { address, source },
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok(Bound { listener, address, tls })
}

impl Bound {
    /// Where it listens: the port that was chosen when 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is cancelled.
    pub async fn run(self, api: Api, stop: CancellationToken) {
        let acceptor = self.tls.map(TlsAcceptor::from);
        let mut connections = JoinSet::new();
        tracing::info!(address = %self.address, "API server listens");
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(ended) = connections.join_next() => if let Err(error) = ended {
                    tracing::error!(%error, "connection died");
                },
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, peer)) if connections.len() < CONNECTIONS => {
                        connections.spawn(connection(stream, peer, acceptor.clone(), api.clone(), stop.clone()));
                    }
                    Ok((_, peer)) => tracing::warn!(%peer, most = CONNECTIONS, "too many connections, one refused"),
                    // Out of file descriptors, mostly: the ones that end give some back.
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
        drop(self.listener);
        let drained = tokio::time::timeout(DRAIN, async { while connections.join_next().await.is_some() {} }).await;
        if drained.is_err() {
            tracing::warn!(connections = connections.len(), "connections cut off");
            connections.shutdown().await;
        }
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, tls: Option<TlsAcceptor>, api: Api, stop: CancellationToken) {
    // Watch lines are small and must not wait for each other.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "cannot set TCP_NODELAY");
    }
    let Some(acceptor) = tls else {
        return serve(stream, peer, Some(User::admin()), api, stop).await;
    };
    let handshake = tokio::select! {
        done = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)) => done,
        () = stop.cancelled() => return,
    };
    match handshake {
        Ok(Ok(stream)) => {
            let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
            let user = match certificate.map(|certificate| Ok((tls::identity(certificate)?, tls::public_key(certificate)?))) {
                None => None,
                Some(Ok((identity, key))) => Some(User { key: crate::pkcs10::fingerprint(&key), ..User::of(&identity) }),
                Some(Err::<_, tls::TlsError>(error)) => {
                    tracing::warn!(%peer, error = %Chain(&error), "certificate without a readable subject");
                    None
                }
            };
            serve(stream, peer, user, api, stop).await;
        }
        Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake failed"),
        Err(_) => tracing::debug!(%peer, "TLS handshake took too long"),
    }
}

async fn serve<S>(stream: S, peer: SocketAddr, user: Option<User>, api: Api, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let (api, user, stop) = (api.clone(), user.clone(), stop.clone());
        async move { Ok::<_, Infallible>(answer(request, peer, user, &api, &stop).await) }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADERS);
    let mut served = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, error = %Chain(&error), "connection ended");
    }
}

type Response = hyper::Response<UnsyncBoxBody<Bytes, Infallible>>;

async fn answer(
    request: hyper::Request<Incoming>,
    peer: SocketAddr,
    user: Option<User>,
    api: &Api,
    stop: &CancellationToken,
) -> Response {
    let (head, body) = request.into_parts();
    // Whoever is nobody yet has little to say.
    let limit = if user.is_some() { BODY_LIMIT } else { STRANGERS_LIMIT };
    let reply = match read(body, limit).await {
        Ok(body) => {
            let request = Request {
                method: method(&head.method),
                path: head.uri.path().to_owned(),
                query: head.uri.query().unwrap_or_default().to_owned(),
                accept: joined(&head.headers, &header::ACCEPT),
                content_type: joined(&head.headers, &header::CONTENT_TYPE),
                if_none_match: joined(&head.headers, &header::IF_NONE_MATCH),
                user,
                peer: Some(peer.ip()),
                bearer: bearer(&head.headers),
                instead: instead(&head.headers),
                body,
            };
            api.handle(request, stop).await
        }
        Err(error) => Reply::failure(&error),
    };
    response(reply)
}

async fn read(body: Incoming, limit: usize) -> Result<Bytes, ApiError> {
    tokio::time::timeout(BODY, within_limit(body, limit))
        .await
        .unwrap_or_else(|_| Err(ApiError::Timeout("the request's body took too long to arrive".to_owned())))
}

async fn within_limit(mut body: Incoming, limit: usize) -> Result<Bytes, ApiError> {
    let mut whole = BytesMut::new();
    let mut length: usize = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| ApiError::BadRequest(format!("the request's body broke off: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        length = length.saturating_add(data.len());
        if length <= limit {
            whole.extend_from_slice(&data);
        } else if length > BODY_DRAIN.min(limit * 16) {
            break;
        }
    }
    if length > limit { Err(ApiError::TooLarge { limit }) } else { Ok(whole.freeze()) }
}

fn method(method: &hyper::Method) -> Method {
    match *method {
        hyper::Method::GET => Method::Get,
        hyper::Method::POST => Method::Post,
        hyper::Method::PUT => Method::Put,
        hyper::Method::PATCH => Method::Patch,
        hyper::Method::DELETE => Method::Delete,
        _ => Method::Other,
    }
}

fn joined(headers: &HeaderMap, name: &HeaderName) -> String {
    let values: Vec<&str> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    values.join(",")
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    value.strip_prefix("Bearer ").map(|token| token.trim().to_owned())
}

fn instead(headers: &HeaderMap) -> Option<Impersonation> {
    let text = |value: &HeaderValue| value.to_str().map(str::to_owned).ok();
    let user = headers.get("impersonate-user").and_then(text)?;
    Some(Impersonation { user, groups: headers.get_all("impersonate-group").iter().filter_map(text).collect() })
}

fn response(reply: Reply) -> Response {
    let body = match reply.body {
        ReplyBody::Whole(bytes) => Full::new(bytes).boxed_unsync(),
        ReplyBody::Stream(lines) => StreamBody::new(lines.map(|line| Ok(Frame::data(line)))).boxed_unsync(),
    };
    let mut response = hyper::Response::new(body);
    *response.status_mut() = hyper::StatusCode::from_u16(reply.code).unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(reply.content_type));
    for (name, value) in reply.headers {
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            headers.append(HeaderName::from_static(name), value);
        }
    }
    response
}
