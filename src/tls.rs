//! TLS for both ends: `ring` only, the cluster's CA only, and clocks that may be wrong.
//!
//! A Pi without a battery clock starts on 1970-01-01. Certificates of the cluster are valid from 1970 on, so that an early
//! clock harms nothing.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, DigitallySignedStruct, SignatureScheme};

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
    /// The CA cannot verify the other end.
    #[error("cannot use this CA")]
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

    /// For somebody without a certificate, who knows the CA, and by which other name the server may be known: see `AlsoNamed`.
    ///
    /// # Errors
    /// When the CA cannot be used.
    pub fn stranger(ca: &[u8], also: Option<&str>) -> Result<Arc<rustls::ClientConfig>, TlsError> {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca) {
            roots.add(certificate.map_err(|source| TlsError::Pem { what: "CA", source })?)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = AlsoNamed::make(roots, also, provider.clone())?;
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        Ok(Arc::new(config))
    }

    /// For a connection to a listener of the cluster.
    ///
    /// # Errors
    /// When a part cannot be read or does not fit the others.
    pub fn client(&self) -> Result<Arc<rustls::ClientConfig>, TlsError> {
        self.client_also(None)
    }

    /// The same, to a listener that may be known by another name as well: see `AlsoNamed`.
    ///
    /// # Errors
    /// When a part cannot be read or does not fit the others.
    pub fn client_also(&self, also: Option<&str>) -> Result<Arc<rustls::ClientConfig>, TlsError> {
        let (roots, chain, key) = self.parse()?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = AlsoNamed::make(roots, also, provider.clone())?;
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_auth_cert(chain, key)?;
        Ok(Arc::new(config))
    }
}

/// Takes a server for the right one that its CA vouches for under the name by which it was called, or under one other name: that of the
/// cluster's master. So a master that got another address, which its certificate cannot know, is still known by its certificate.
#[derive(Debug)]
struct AlsoNamed {
    usual: Arc<WebPkiServerVerifier>,
    also: Option<ServerName<'static>>,
}

impl AlsoNamed {
    fn make(roots: rustls::RootCertStore, also: Option<&str>, provider: Arc<CryptoProvider>) -> Result<Arc<Self>, TlsError> {
        let usual = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
        Ok(Arc::new(Self { usual, also: also.and_then(|name| ServerName::try_from(name.to_owned()).ok()) }))
    }
}

impl ServerCertVerifier for AlsoNamed {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let usual = self.usual.verify_server_cert(certificate, between, name, ocsp, now);
        match (&usual, &self.also) {
            (
                Err(rustls::Error::InvalidCertificate(
                    CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
                )),
                Some(also),
            ) => self.usual.verify_server_cert(certificate, between, also, ocsp, now).or(usual),
            _ => usual,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.usual.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.usual.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}

/// Why a secret is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum NoCertificate {
    /// It is not there.
    #[error("there is no such secret")]
    Missing,
    /// A key is missing.
    #[error("it has no {0}")]
    Lacks(&'static str),
    /// A key holds something else.
    #[error("its {0} is no PEM")]
    Pem(&'static str),
    /// Certificate and key do not belong together, or are of a kind that is not served.
    #[error("its certificate and key cannot be used: {0}")]
    Refused(rustls::Error),
}

/// Reads a secret of type `kubernetes.io/tls`; `data` gives what is below a key, in base64, or `""`.
///
/// # Errors
/// When it is no certificate with its key.
pub fn of_secret<'a>(data: impl Fn(&str) -> &'a str, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, NoCertificate> {
    let part = |key: &'static str| match data(key) {
        "" => Err(NoCertificate::Lacks(key)),
        text => STANDARD.decode(text).map_err(|_| NoCertificate::Pem(key)),
    };
    let (chain, key) = (part("tls.crt")?, part("tls.key")?);
    let chain =
        CertificateDer::pem_slice_iter(&chain).collect::<Result<Vec<_>, _>>().map_err(|_| NoCertificate::Pem("tls.crt"))?;
    if chain.is_empty() {
        return Err(NoCertificate::Pem("tls.crt"));
    }
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| NoCertificate::Pem("tls.key"))?;
    let certified = CertifiedKey::from_der(chain, key, provider).map_err(NoCertificate::Refused)?;
    // What is no certificate at all is found here, not by the first client.
    certified.end_entity_cert().and_then(ParsedCertificate::try_from).map_err(NoCertificate::Refused)?;
    Ok(Arc::new(certified))
}

/// The beginning of the digest of a CA's key (hex, `digits` of it), by which a node knows its master; the whole has 64 digits.
///
/// # Errors
/// When it is no certificate.
pub fn pin(ca: &[u8], digits: usize) -> Result<String, TlsError> {
    let certificate = CertificateDer::from_pem_slice(ca).map_err(|source| TlsError::Pem { what: "CA", source })?;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate)?;
    let spki = roots.roots.first().map(|root| root.subject_public_key_info.as_ref().to_vec()).unwrap_or_default();
    // Without its outermost tag and length, which other programs digest as well.
    let mut whole = vec![0x30];
    match u16::try_from(spki.len()).unwrap_or(u16::MAX).to_be_bytes() {
        [0, low] if low < 0x80 => whole.push(low),
        [0, low] => whole.extend([0x81, low]),
        [high, low] => whole.extend([0x82, high, low]),
    }
    whole.extend(spki);
    let digest = ring::digest::digest(&ring::digest::SHA256, &whole);
    Ok(digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>().chars().take(digits).collect())
}

/// Says which certificates of nodes are not theirs any more.
pub trait Refusals: Send + Sync + 'static {
    /// Whether a certificate of this name and of a key with this fingerprint is refused.
    fn refuses(&self, common_name: &str, fingerprint: &str) -> bool;
}

/// The public key of a peer's certificate, SubjectPublicKeyInfo in DER.
///
/// # Errors
/// When it cannot be read.
#[cfg(feature = "master")]
pub fn public_key(certificate: &CertificateDer<'_>) -> Result<Vec<u8>, TlsError> {
    use x509_cert::der::{Decode, Encode};
    let parsed = x509_cert::Certificate::from_der(certificate).map_err(|error| TlsError::Subject(error.to_string()))?;
    parsed.tbs_certificate.subject_public_key_info.to_der().map_err(|error| TlsError::Subject(error.to_string()))
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
