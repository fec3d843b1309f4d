//! Hands: speaks with the master's API as somebody who is nobody yet.
//!
//! The first question is asked of whoever answers, and tells nothing: it brings the CA. What is told and asked afterwards goes over
//! connections that this CA vouches for.
//! Source:   kubeadm's discovery by token, with the pin in the token's place of `--discovery-token-ca-cert-hash`.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use serde_json::{Value, json};

use super::Master;
use super::progress::Outcome;
use crate::api::Object;
use crate::api::certificates::Request;
use crate::api::core::join::{CLUSTER_INFO, ClusterInfo, MODEL, NODE, SERIAL, SIGNER, Token, secret_text};
use crate::error::Chain;
use crate::https::{self, Call, Server};
use crate::mdns::host_name;
use crate::tls::{Credentials, pin};

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

/// A request to join.
#[derive(Clone, Debug)]
pub struct Asking {
    /// Its name.
    pub name: String,
    /// PEM.
    pub pem: String,
    /// The board's serial number.
    pub serial: String,
    /// The board's model.
    pub model: String,
}

/// A certificate that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// PEM.
    pub certificate: String,
    /// The name in it.
    pub node: String,
}

/// A master whose CA is known.
pub struct Session {
    master: Master,
    tls: Arc<ClientConfig>,
    bearer: Option<String>,
}

/// Asks whoever is there for the cluster's CA, and looks whether it is the one that was meant: by the pin, or because it was trusted
/// before. Then asks again over a connection that it vouches for.
///
/// # Errors
/// What came of it, when it is not good.
pub fn look(master: &Master, token: Option<&Token>, trusted: Option<&[u8]>) -> Result<(Session, ClusterInfo), Outcome> {
    let first = info(master, &unchecked()?, None)?;
    let ca = first.ca.as_bytes();
    let found = pin(ca, 64).map_err(|error| Outcome::Distrusted(Chain(&error).to_string()))?;
    if let Some(wanted) = token.and_then(|token| token.pin.as_ref()).filter(|wanted| !found.starts_with(wanted.as_str())) {
        return Err(Outcome::Distrusted(format!(
            "{master} belongs to the CA {found}, the token to {wanted}…; make a token on the right master, or find out who answers there"
        )));
    }
    if trusted.is_some_and(|before| pin(before, 64).is_ok_and(|before| before != found)) {
        return Err(Outcome::Distrusted(format!(
            "{master} belongs to the CA {found}, which is another than at first; if the master was made anew, remove pki/ca.crt from this node's data directory"
        )));
    }
    // What it says that it is called counts only if the CA says so too.
    let also = host_name(&first.cluster_uid);
    let tls = Credentials::stranger(ca, also.as_deref()).map_err(|error| Outcome::Distrusted(Chain(&error).to_string()))?;
    // Its CA is known now, so the token may be told; who has a good one is not held up with the strangers.
    let bearer = token.map(Token::bearer);
    let info = info(master, &tls, bearer.as_deref())?;
    if info.ca != first.ca {
        return Err(Outcome::Distrusted(format!("{master} names two CAs")));
    }
    Ok((Session { master: master.clone(), tls, bearer }, info))
}

fn info(master: &Master, tls: &Arc<ClientConfig>, bearer: Option<&str>) -> Result<ClusterInfo, Outcome> {
    let path = format!("/api/v1/namespaces/{}/configmaps/{}", CLUSTER_INFO.0, CLUSTER_INFO.1);
    let to = Server { host: &master.host, port: master.port };
    let (code, body) = https::call(tls, to, &Call { method: "GET", path: &path, bearer, ..Call::default() })
        .map_err(|error| unreached(master, &error))?;
    let object = parsed(&body);
    if code == 401 {
        return Err(unknown_token());
    }
    if code != 200 {
        return Err(Outcome::Unreached(format!("{master} answered {code}: {}", message(&object))));
    }
    ClusterInfo::read(&object).ok_or_else(|| Outcome::Unreached(format!("{master} does not say which cluster it is")))
}

fn unknown_token() -> Outcome {
    Outcome::Refused("it does not know the token, or its time is over: make another one with `bramble token create`".to_owned())
}

fn unreached(master: &Master, error: &std::io::Error) -> Outcome {
    let words = format!("{master}: {}", Chain(error));
    // A certificate that the CA does not vouch for, or of another name.
    let tls = error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<rustls::Error>);
    if tls { Outcome::Distrusted(words) } else { Outcome::Unreached(words) }
}

impl Session {
    fn call(&self, method: &str, path: &str, body: &[u8]) -> Result<(u16, Object), Outcome> {
        let to = Server { host: &self.master.host, port: self.master.port };
        let call = Call { method, path, content_type: "application/json", bearer: self.bearer.as_deref(), body };
        let (code, body) = https::call(&self.tls, to, &call).map_err(|error| unreached(&self.master, &error))?;
        let object = parsed(&body);
        match code {
            401 => Err(unknown_token()),
            429 => Err(Outcome::Refused(message(&object))),
            500.. => Err(Outcome::Unreached(format!("{} answered {code}: {}", self.master, message(&object)))),
            _ => Ok((code, object)),
        }
    }

    /// Asks to join.
    #[must_use]
    pub fn ask(&self, asking: &Asking) -> Outcome {
        use base64::Engine as _;
        let body = json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
            "metadata": {"name": asking.name, "annotations": {SERIAL: asking.serial, MODEL: asking.model}},
            "spec": {"request": base64::engine::general_purpose::STANDARD.encode(&asking.pem), "signerName": SIGNER,
                "usages": ["digital signature", "client auth"]}});
        match self.call("POST", REQUESTS, body.to_string().as_bytes()) {
            Ok((201 | 409, _)) => Outcome::Asked,
            Ok((code, said)) => Outcome::Refused(format!("it answered {code}: {}", message(&said))),
            Err(outcome) => outcome,
        }
    }

    /// What became of it: the certificate, or how far it is.
    ///
    /// # Errors
    /// How far it is.
    pub fn poll(&self, name: &str) -> Result<Issued, Outcome> {
        let (code, object) = self.call("GET", &format!("{REQUESTS}/{name}"), &[])?;
        match code {
            200 => {}
            404 => return Err(Outcome::Gone),
            code => return Err(Outcome::Refused(format!("it answered {code}: {}", message(&object)))),
        }
        let request = Request(&object);
        if request.is("Denied") {
            return Err(Outcome::Denied(request.message("Denied").to_owned()));
        }
        if request.is("Failed") {
            return Err(Outcome::Failed(request.message("Failed").to_owned()));
        }
        if !request.is_issued() {
            return Err(if request.is("Approved") { Outcome::Approved } else { Outcome::Pending });
        }
        let status = json!({"data": {"certificate": object.str_at(&["status", "certificate"])}});
        let certificate = secret_text(&Object::from_value(status).unwrap_or_default(), "certificate");
        Ok(Issued { certificate, node: object.annotation(NODE).unwrap_or_default().to_owned() })
    }
}

fn parsed(body: &[u8]) -> Object {
    serde_json::from_slice::<Value>(body).ok().and_then(Object::from_value).unwrap_or_default()
}

fn message(status: &Object) -> String {
    status.str_at(&["message"]).chars().take(300).collect()
}

fn unchecked() -> Result<Arc<ClientConfig>, Outcome> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| Outcome::Unreached(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Accepts any server while the CA is not known yet: no secret is told to it, and the CA that it names is held against the token's pin, or
/// against the one that was trusted before, ahead of anything else.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
