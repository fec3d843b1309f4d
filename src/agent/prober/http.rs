//! Hands: asks by HTTP or HTTPS; 200 to 399 is good.
//!
//! Redirects within the host are followed, ten at most; one to another host is good, and said. Of a certificate nothing is
//! verified, as upstream has it: a probe asks whether somebody answers, not who. One connection a time, none is kept.
//! Source:   the kubelet's probe/http.

mod url;

use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONNECTION, HOST, HeaderName, HeaderValue, LOCATION, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::{Sign, tcp};
use crate::agent::pods::spec::HttpGet;
use crate::agent::runtime::OUTPUT_LIMIT;
use crate::error::Chain;
use url::Url;

/// How the kubelet names itself; servers tell probes from people by it.
pub(super) const AGENT: &str = concat!("kube-probe/1.33+bramble-", env!("CARGO_PKG_VERSION"));
/// Redirects that are followed.
const REDIRECTS: usize = 10;

/// What a server said.
struct Reply {
    status: StatusCode,
    location: Option<String>,
    body: String,
}

/// Asks once.
pub(super) async fn ask(get: &HttpGet, addresses: &[String], timeout: Duration) -> Sign {
    let named = get.host.as_deref();
    let hosts = super::run::hosts(named, addresses);
    let Some(host) = hosts.first() else { return Sign::Bad("the pod has no address".to_owned()) };
    let first = Url { tls: get.tls, host: host.clone(), port: get.port, path: url::escaped(&get.path) };
    match tokio::time::timeout(timeout, follow(get, &hosts, first.clone())).await {
        Ok(sign) => sign,
        Err(_) => {
            Sign::Bad(format!("Get \"{first}\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)"))
        }
    }
}

/// Asks once, for a hook: any answer will do, and redirects are not followed. Source: the kubelet's lifecycle handlers.
///
/// # Errors
/// Why there was no answer, in words.
pub(in crate::agent) async fn tell(get: &HttpGet, addresses: &[String]) -> Result<(), String> {
    let hosts = super::run::hosts(get.host.as_deref(), addresses);
    let host = hosts.first().ok_or("the pod has no address")?;
    let url = Url { tls: get.tls, host: host.clone(), port: get.port, path: url::escaped(&get.path) };
    exchange(get, &hosts, &url).await.map(drop).map_err(|why| format!("Get \"{url}\": {why}"))
}

async fn follow(get: &HttpGet, hosts: &[String], first: Url) -> Sign {
    let mut url = first.clone();
    for _ in 0..=REDIRECTS {
        let hosts = if url.host == first.host { hosts } else { std::slice::from_ref(&url.host) };
        let reply = match exchange(get, hosts, &url).await {
            Ok(reply) => reply,
            Err(text) => return Sign::Bad(format!("Get \"{url}\": {text}")),
        };
        if reply.status.is_success() {
            return Sign::Good;
        }
        if !reply.status.is_redirection() {
            return Sign::Bad(format!("HTTP probe failed with statuscode: {}", reply.status.as_u16()));
        }
        let moved = matches!(reply.status.as_u16(), 301 | 302 | 303 | 307 | 308);
        let next = reply.location.filter(|_| moved).and_then(|location| url.join(&location));
        match next {
            Some(next) if next.host == first.host => url = next,
            _ => return Sign::Warning(format!("Probe terminated redirects, Response body: {}", reply.body)),
        }
    }
    Sign::Bad(format!("Get \"{first}\": stopped after {REDIRECTS} redirects"))
}

async fn exchange(get: &HttpGet, hosts: &[String], url: &Url) -> Result<Reply, String> {
    let request = request(get, url)?;
    let stream = tcp::connect(hosts, url.port).await?;
    if !url.tls {
        return talk(stream, request).await;
    }
    let name = ServerName::try_from(url.host.clone()).map_err(|error| error.to_string())?;
    let connector = TlsConnector::from(trusting()?);
    let stream = connector.connect(name, stream).await.map_err(|error| Chain(&error).to_string())?;
    talk(stream, request).await
}

fn request(get: &HttpGet, url: &Url) -> Result<Request<Empty<Bytes>>, String> {
    let mut request = Request::get(&url.path).body(Empty::new()).map_err(|error| error.to_string())?;
    let headers = request.headers_mut();
    for (name, value) in &get.headers {
        let name = HeaderName::try_from(name.as_str()).map_err(|error| format!("header {name:?}: {error}"))?;
        let value = HeaderValue::try_from(value.as_str()).map_err(|error| format!("header {name}: {error}"))?;
        headers.append(name, value);
    }
    for (name, usual) in [(USER_AGENT, AGENT), (ACCEPT, "*/*")] {
        // An empty value asks for none.
        match headers.get(&name) {
            None => drop(headers.insert(name, HeaderValue::from_static(usual))),
            Some(value) if value.is_empty() => drop(headers.remove(name)),
            Some(_) => {}
        }
    }
    if !headers.contains_key(HOST) {
        headers.insert(HOST, HeaderValue::try_from(url.authority()).map_err(|error| error.to_string())?);
    }
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    Ok(request)
}

async fn talk<S>(stream: S, request: Request<Empty<Bytes>>) -> Result<Reply, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let words = |error: hyper::Error| Chain(&error).to_string();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(words)?;
    let mut exchange = pin!(async move { Ok(read(sender.send_request(request).await.map_err(words)?).await) });
    let mut connection = pin!(connection);
    let mut open = true;
    loop {
        tokio::select! { biased;
            reply = &mut exchange => return reply,
            // What was read before the end waits for the exchange; an error reaches it as well.
            _ = &mut connection, if open => open = false,
        }
    }
}

/// The first of the body; the rest is left unread, and the connection closed.
async fn read(response: Response<hyper::body::Incoming>) -> Reply {
    let (head, mut body) = response.into_parts();
    let location = head.headers.get(LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let mut kept = Vec::new();
    // Only a redirect's body is ever shown.
    while head.status.is_redirection() && kept.len() < OUTPUT_LIMIT {
        let Some(Ok(frame)) = body.frame().await else { break };
        kept.extend_from_slice(&frame.into_data().unwrap_or_default());
    }
    kept.truncate(OUTPUT_LIMIT);
    Reply { status: head.status, location, body: String::from_utf8_lossy(&kept).into_owned() }
}

/// TLS that believes everybody; made once.
fn trusting() -> Result<Arc<ClientConfig>, String> {
    static CONFIG: OnceLock<Result<Arc<ClientConfig>, String>> = OnceLock::new();
    CONFIG
        .get_or_init(|| {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
                .with_safe_default_protocol_versions()
                .map_err(|error| error.to_string())?;
            let verifier = Arc::new(Anybody(provider));
            Ok(Arc::new(config.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()))
        })
        .clone()
}

/// Takes any certificate.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
