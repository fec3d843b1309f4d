//! TLS for the nodes' listener: a client certificate is required, its CN says who comes.
//!
//! Flow:     called in the connection's own task (`tcp.rs`), so that a peer that says nothing holds up nobody else.

use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::acl::Client;
use crate::pkcs10::fingerprint;
use crate::tls::{ClientCertificate, Credentials, Refusals, TlsError, identity, public_key};

/// Turns sockets into clients with a name.
#[derive(Clone)]
pub(super) struct Acceptor(TlsAcceptor, Option<Arc<dyn Refusals>>);

/// Why a peer is not let in.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    /// No TLS, or no certificate of this cluster.
    #[error("the TLS handshake failed")]
    Handshake(#[from] std::io::Error),
    /// A certificate that cannot be read.
    #[error("the client's certificate cannot be read")]
    Certificate(#[from] TlsError),
    /// A certificate of this cluster that is neither a node's nor the master's.
    #[error("the certificate of {0:?} is no node's")]
    NoNode(String),
    /// The node was removed, or has another key now.
    #[error("the certificate of {0:?} is not that node's any more: it was removed, or joined again with another key")]
    NotItsOwn(String),
}

impl Acceptor {
    pub fn new(credentials: &Credentials, refusals: Option<Arc<dyn Refusals>>) -> Result<Self, TlsError> {
        Ok(Self(TlsAcceptor::from(credentials.server(ClientCertificate::Required)?), refusals))
    }

    pub async fn accept(&self, socket: TcpStream) -> Result<(TlsStream<TcpStream>, Client), Refused> {
        let stream = self.0.accept(socket).await?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let subject = certificate.map(identity).transpose()?.unwrap_or_default();
        if let (Some(refusals), Some(certificate)) = (&self.1, certificate)
            && refusals.refuses(&subject.common_name, &fingerprint(&public_key(certificate)?))
        {
            return Err(Refused::NotItsOwn(subject.common_name));
        }
        match Client::from_subject(&subject.common_name, &subject.organizations) {
            Some(client) => Ok((stream, client)),
            None => Err(Refused::NoNode(subject.common_name)),
        }
    }
}
