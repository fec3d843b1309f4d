//! TLS for both ends: `ring` only, the cluster's CA only, and clocks that may be wrong.
//!
//! A Pi without a battery clock starts on 1970-01-01. Certificates of the cluster are valid from 1970 on, so that an early
//! clock harms nothing.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;

/// Who the other end is, by its certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// CN: the user or the node.
    pub common_name: String,
    /// O: the groups.
    pub organizations: Vec<String>,
}

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file that holds something else.
    #[error("cannot read the {what}")]
    Pem {
        /// Which of them.
        what: &'static str,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// rustls refuses it.
    #[error("cannot use these certificates")]
    Rustls(#[from] rustls::Error),
    /// The CA cannot verify clients.
    #[error("cannot use this CA for clients")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    /// A certificate that cannot be read.
    #[error("cannot read the subject of a certificate: {0}")]
    Subject(String),
}

/// Whether a client without a certificate gets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificate {
    /// Refused in the handshake.
    Required,
    /// Let in without an identity.
    Optional,
}

/// A certificate chain, its key, and the CA that the other end must come from; all PEM.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The CA.
    pub ca: Vec<u8>,
    /// Our chain, leaf first.
    pub chain: Vec<u8>,
    /// Our private key.
    pub key: Vec<u8>,
}

type Parsed = (rustls::RootCertStore, Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Credentials {
    fn parse(&self) -> Result<Parsed, TlsError> {
        let pem = |what| move |source| TlsError::Pem { what, source };
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&self.ca) {
            roots.add(certificate.map_err(pem("CA"))?)?;
        }
        let chain = CertificateDer::pem_slice_iter(&self.chain).collect::<Result<Vec<_>, _>>().map_err(pem("certificate"))?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(pem("private key"))?;
        Ok((roots, chain, key))
    }

    /// For a listener.
    ///
    /// # Errors
    /// When a part cannot be read or does not fit the others.
    pub fn server(&self, client: ClientCertificate) -> Result<Arc<rustls::ServerConfig>, TlsError> {
        let (roots, chain, key) = self.parse()?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let verifier = match client {
            ClientCertificate::Required => verifier.build()?,
            ClientCertificate::Optional => verifier.allow_unauthenticated().build()?,
        };
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)?;
        Ok(Arc::new(config))
    }

    /// For a connection to a listener of the cluster.
    ///
    /// # Errors
    /// When a part cannot be read or does not fit the others.
    pub fn client(&self) -> Result<Arc<rustls::ClientConfig>, TlsError> {
        let (roots, chain, key) = self.parse()?;
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        Ok(Arc::new(config))
    }
}

/// Reads the subject of a peer's certificate.
///
/// # Errors
/// When it cannot be read.
#[cfg(feature = "master")]
pub fn identity(certificate: &CertificateDer<'_>) -> Result<Identity, TlsError> {
    use x509_cert::der::asn1::{PrintableStringRef, Utf8StringRef};
    use x509_cert::der::{Decode, oid::ObjectIdentifier};
    const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
    const ORGANIZATION: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.10");
    let parsed = x509_cert::Certificate::from_der(certificate).map_err(|error| TlsError::Subject(error.to_string()))?;
    let mut identity = Identity::default();
    for attribute in parsed.tbs_certificate.subject.0.iter().flat_map(|rdn| rdn.0.iter()) {
        let text = attribute
            .value
            .decode_as::<Utf8StringRef<'_>>()
            .map(|text| text.as_str().to_owned())
            .or_else(|_| attribute.value.decode_as::<PrintableStringRef<'_>>().map(|text| text.as_str().to_owned()))
            .map_err(|error| TlsError::Subject(error.to_string()))?;
        match attribute.oid {
            COMMON_NAME => identity.common_name = text,
            ORGANIZATION => identity.organizations.push(text),
            _ => {}
        }
    }
    Ok(identity)
}
