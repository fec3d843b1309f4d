//! One request: from whom it is for, to a pod, and the answer back. Bodies flow as they come, both ways.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::TrySendError;
use hyper::header::{self, HeaderValue};
use hyper::http::uri::Authority;
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use super::backends::Upstream;
use super::headers::{self, Came};
use super::table::Table;
use super::tcp::{Passing, Pool, Sender, Tasks, lock};

/// So many pods are asked for one request, one after the other, when they cannot be reached.
const TRIES: usize = 3;

/// What all requests share.
pub(super) struct Proxy {
    /// The newest.
    pub table: RwLock<Arc<Table>>,
    /// Connections to pods.
    pub pool: Pool,
    /// Where connections that became something else go on.
    pub tasks: Tasks,
    /// Where TLS is; `None`: nowhere.
    pub https_port: Option<u16>,
}

/// How a connection came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Door {
    /// From whom.
    pub peer: IpAddr,
    /// To which port.
    pub port: u16,
    /// Whether it is encrypted.
    pub tls: bool,
}

type Reply = Response<UnsyncBoxBody<Bytes, hyper::Error>>;

impl Proxy {
    /// Answers a request. Every failure is an answer, in words.
    pub async fn answer(&self, request: Request<Incoming>, door: Door) -> Result<Reply, Infallible> {
        Ok(self.relayed(request, door).await.unwrap_or_else(|(status, words)| said(status, &words)))
    }

    async fn relayed(&self, mut request: Request<Incoming>, door: Door) -> Result<Reply, (StatusCode, String)> {
        let bad = |words: &str| (StatusCode::BAD_REQUEST, words.to_owned());
        if request.method() == Method::CONNECT {
            return Err((StatusCode::METHOD_NOT_ALLOWED, "this is no proxy for other places".to_owned()));
        }
        let authority = authority(&request).ok_or_else(|| bad("the request's host is none"))?;
        let path = request.uri().path().to_owned();
        if !path.starts_with('/') {
            return Err(bad("the request's path is none"));
        }
        let host =
            authority.as_ref().map(|authority| authority.host().trim_end_matches('.').to_ascii_lowercase()).unwrap_or_default();
        let table = self.table.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let Some(route) = table.choose(&host, &path).cloned() else {
            return Err((StatusCode::NOT_FOUND, "no ingress is for this host and path".to_owned()));
        };
        drop(table);
        if let Some(port) = self.https_port.filter(|_| !door.tls && !host.is_empty() && route.ingress.redirects(&host)) {
            return Ok(redirect(&host, port, request.uri()));
        }
        let as_written = authority.as_ref().map(Authority::as_str).unwrap_or_default();
        let upgrade = headers::upgrade(request.headers()).filter(|_| request.version() == Version::HTTP_11);
        let client = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
        headers::forward(request.headers_mut(), Came { peer: door.peer, tls: door.tls, port: door.port, host: as_written });
        if let Some(to) = &upgrade {
            headers::set_upgrade(request.headers_mut(), to.clone());
        }
        let target = request.uri().path_and_query().map_or(path.as_str(), |target| target.as_str());
        let target: Uri = target.parse().map_err(|_| bad("the request's path is none"))?;
        let (mut head, body) = request.into_parts();
        (head.uri, head.version) = (target, Version::HTTP_11);
        let (body, moved) = Passing::new(body);
        let sent = self.send(Request::from_parts(head, body), &route.upstream, door.peer, &moved, route.ingress.patience).await;
        let mut response = sent.inspect_err(|(status, words)| {
            tracing::debug!(ingress = route.ingress.name, %status, words, "a request failed");
        })?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return self.tunnel(client, response);
        }
        headers::strip(response.headers_mut());
        let (mut head, body) = response.into_parts();
        head.version = Version::HTTP_11;
        Ok(Response::from_parts(head, body.boxed_unsync()))
    }

    /// Sends it to the first pod that can be reached. Once a pod has a part of it, nobody else gets it.
    async fn send(
        &self,
        mut request: Request<Passing>,
        upstream: &Upstream,
        client: IpAddr,
        moved: &Mutex<Instant>,
        patience: Duration,
    ) -> Result<Response<Incoming>, (StatusCode, String)> {
        let order = upstream.order(client, |one| self.pool.is_shunned(one), TRIES);
        if order.is_empty() {
            return Err((
                StatusCode::SERVICE_UNAVAILABLE,
                format!("nobody answers for service {}: {}", upstream.title, upstream.lack),
            ));
        }
        for to in order {
            let mut kept = self.pool.kept(to);
            loop {
                let is_kept = kept.is_some();
                let sender = match kept.take() {
                    Some(sender) => sender,
                    None => match self.pool.connect(to).await {
                        Ok(sender) => sender,
                        Err(error) => {
                            tracing::debug!(%to, %error, service = upstream.title, "a pod cannot be reached");
                            break;
                        }
                    },
                };
                // A connection that was kept may be closed by the pod in this very moment. What changes nothing is then asked anew.
                let again =
                    (is_kept && may_repeat(&request)).then(|| Request::from_parts(parts_of(&request), Passing::nothing()));
                match self.exchange(sender, to, request, moved, patience).await {
                    Exchange::Answered(response) => return Ok(response),
                    Exchange::Unsent(back) => {
                        request = back;
                        if !is_kept {
                            break;
                        }
                    }
                    Exchange::BrokenOff => match again {
                        Some(again) => request = again,
                        None => {
                            let words = format!("a pod of service {} broke off before it answered", upstream.title);
                            return Err((StatusCode::BAD_GATEWAY, words));
                        }
                    },
                    Exchange::Late => {
                        let words = format!("a pod of service {} did not answer in time", upstream.title);
                        return Err((StatusCode::GATEWAY_TIMEOUT, words));
                    }
                }
            }
        }
        Err((StatusCode::BAD_GATEWAY, format!("no pod of service {} can be reached", upstream.title)))
    }

    async fn exchange(
        &self,
        mut sender: Sender,
        to: SocketAddr,
        request: Request<Passing>,
        moved: &Mutex<Instant>,
        patience: Duration,
    ) -> Exchange {
        // Time counts from when the last of the request went out.
        let late = async {
            loop {
                let until = *lock(moved) + patience;
                if until <= Instant::now() {
                    return;
                }
                tokio::time::sleep_until(until).await;
            }
        };
        *lock(moved) = Instant::now();
        let answer = sender.try_send_request(request);
        let answer: Result<Response<Incoming>, TrySendError<Request<Passing>>> = tokio::select! {
            answer = answer => answer,
            () = late => return Exchange::Late,
        };
        match answer {
            Ok(response) => {
                if response.status() != StatusCode::SWITCHING_PROTOCOLS {
                    self.pool.keep(to, sender);
                }
                Exchange::Answered(response)
            }
            Err(mut failed) => match failed.take_message() {
                Some(back) => Exchange::Unsent(back),
                None => {
                    tracing::debug!(%to, error = %failed.into_error(), "a pod broke off");
                    Exchange::BrokenOff
                }
            },
        }
    }

    /// Both ends have changed to something else, such as WebSocket: bytes go to and fro until one of them ends it.
    fn tunnel(
        &self,
        client: Option<hyper::upgrade::OnUpgrade>,
        mut response: Response<Incoming>,
    ) -> Result<Reply, (StatusCode, String)> {
        let (Some(client), Some(to)) = (client, headers::upgrade(response.headers())) else {
            return Err((StatusCode::BAD_GATEWAY, "the pod changed to something that was not asked for".to_owned()));
        };
        let pod = hyper::upgrade::on(&mut response);
        self.tasks.spawn(async move {
            match tokio::try_join!(client, pod) {
                Ok((client, pod)) => {
                    let (mut client, mut pod) = (TokioIo::new(client), TokioIo::new(pod));
                    if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut pod).await {
                        tracing::debug!(%error, "a changed connection broke off");
                    }
                }
                Err(error) => tracing::debug!(%error, "a connection was not changed"),
            }
        });
        headers::strip(response.headers_mut());
        headers::set_upgrade(response.headers_mut(), to);
        Ok(response.map(|_| nothing()))
    }
}

/// How one try ended.
enum Exchange {
    Answered(Response<Incoming>),
    /// Nothing of it went out.
    Unsent(Request<Passing>),
    /// Some of it may have gone out, and no answer came.
    BrokenOff,
    /// No answer came in time.
    Late,
}

/// Whether a request asks only (RFC 9110 §9.2.1) and has no body.
fn may_repeat(request: &Request<Passing>) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) && request.body().is_end_stream()
}

fn parts_of(request: &Request<Passing>) -> hyper::http::request::Parts {
    let mut copy = Request::new(());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy.into_parts().0
}

/// The host, as the client wrote it: of the target (HTTP/2, or an absolute one), else of the header. `None` when it is not readable or
/// there are two.
fn authority(request: &Request<Incoming>) -> Option<Option<Authority>> {
    if let Some(authority) = request.uri().authority() {
        return Some(Some(authority.clone()));
    }
    let mut hosts = request.headers().get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => Some(None),
        (Some(one), None) if one.is_empty() => Some(None),
        (Some(one), None) => Some(Some(Authority::try_from(one.as_bytes()).ok()?)),
        _ => None,
    }
}

fn redirect(host: &str, port: u16, uri: &Uri) -> Reply {
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let mut reply = said(StatusCode::PERMANENT_REDIRECT, "this host is served with TLS");
    if let Ok(location) = HeaderValue::from_str(&format!("https://{host}{port}{target}")) {
        reply.headers_mut().insert(header::LOCATION, location);
    }
    reply
}

fn nothing() -> UnsyncBoxBody<Bytes, hyper::Error> {
    Full::new(Bytes::new()).map_err(|never| match never {}).boxed_unsync()
}

/// A failure in words.
fn said(status: StatusCode, words: &str) -> Reply {
    let text = format!("{status}: {words}\n");
    let mut reply = Response::new(Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync());
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    reply
}
