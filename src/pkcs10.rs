//! Requests for a certificate (PKCS#10, RFC 2986): a node writes one, the master reads it. And the one certificate that a node makes for
//! itself, for who asks its HTTP door by a name that nobody has a certificate for.
//!
//! In:       a key of the curve P-256 and a name; or PEM from anybody.
//! Out:      PEM, DER; or the name, the public key and that its owner signed it.
//! Never:    keeps a key: `agent/join/disk.rs` does.
//! Rejected: `rcgen` in the agent. All that is written is one structure of fixed shape, and `ring` signs it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};

/// Before the point of a P-256 key in a SubjectPublicKeyInfo: SEQUENCE { SEQUENCE { ecPublicKey, prime256v1 }, BIT STRING.
const SPKI_P256: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03,
    0x01, 0x07, 0x03, 0x42, 0x00,
];
/// SEQUENCE { ecdsa-with-SHA256 }
const ECDSA_SHA256: &[u8] = &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
/// OBJECT IDENTIFIER commonName
const COMMON_NAME: &[u8] = &[0x06, 0x03, 0x55, 0x04, 0x03];

/// A key cannot be made or used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this key cannot be used: expected an ECDSA key of the curve P-256 as PKCS#8")]
pub struct KeyError;

/// A new private key, PKCS#8 in PEM.
///
/// # Errors
/// When the system has no chance to give.
pub fn new_key() -> Result<String, KeyError> {
    let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new()).map_err(|_| KeyError)?;
    Ok(pem("PRIVATE KEY", made.as_ref()))
}

/// The fingerprint of a public key, as people compare it: `SHA256:` and 64 hex digits of its SubjectPublicKeyInfo.
#[must_use]
pub fn fingerprint(spki: &[u8]) -> String {
    format!("SHA256:{}", hex(digest(&SHA256, spki).as_ref()))
}

/// Lower case hex digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A request for this name by this key (PKCS#8, DER): PEM, and the public key.
///
/// # Errors
/// When the key is none.
pub fn write(pkcs8: &[u8], common_name: &str) -> Result<(String, Vec<u8>), KeyError> {
    let random = SystemRandom::new();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8, &random).map_err(|_| KeyError)?;
    let spki = [SPKI_P256, key.public_key().as_ref()].concat();
    let attribute = der(0x30, &[COMMON_NAME, &der(0x0c, &[common_name.as_bytes()])]);
    let subject = der(0x30, &[&der(0x31, &[&attribute])]);
    let info = der(0x30, &[&[0x02, 0x01, 0x00], &subject, &spki, &[0xa0, 0x00]]);
    let signature = key.sign(&random, &info).map_err(|_| KeyError)?;
    let request = der(0x30, &[&info, ECDSA_SHA256, &der(0x03, &[&[0], signature.as_ref()])]);
    Ok((pem("CERTIFICATE REQUEST", &request), spki))
}

/// A certificate for this name by this key (PKCS#8, DER), which nobody vouches for: DER. Valid at any time, whatever the clock says.
///
/// # Errors
/// When the key is none.
pub fn self_signed(pkcs8: &[u8], common_name: &str) -> Result<Vec<u8>, KeyError> {
    /// OBJECT IDENTIFIER subjectAltName
    const ALTERNATIVE_NAME: &[u8] = &[0x06, 0x03, 0x55, 0x1d, 0x11];
    let random = SystemRandom::new();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8, &random).map_err(|_| KeyError)?;
    let spki = [SPKI_P256, key.public_key().as_ref()].concat();
    let attribute = der(0x30, &[COMMON_NAME, &der(0x0c, &[common_name.as_bytes()])]);
    let name = der(0x30, &[&der(0x31, &[&attribute])]);
    // Its number is the beginning of its key's digest: no two have the same. The first byte keeps it above zero.
    let sum = digest(&SHA256, &spki);
    let number = der(0x02, &[&[0x01], sum.as_ref().get(..8).unwrap_or_default()]);
    // RFC 5280 §4.1.2.5: the second is the time that says "never".
    let validity = der(0x30, &[&der(0x17, &[b"700101000000Z"]), &der(0x18, &[b"99991231235959Z"])]);
    let names = der(0x30, &[&der(0x82, &[common_name.as_bytes()])]);
    let extension = der(0x30, &[ALTERNATIVE_NAME, &der(0x04, &[&names])]);
    let extensions = der(0xa3, &[&der(0x30, &[&extension])]);
    let version = [0xa0, 0x03, 0x02, 0x01, 0x02];
    let signed = der(0x30, &[&version, &number, ECDSA_SHA256, &name, &validity, &name, &spki, &extensions]);
    let signature = key.sign(&random, &signed).map_err(|_| KeyError)?;
    Ok(der(0x30, &[&signed, ECDSA_SHA256, &der(0x03, &[&[0], signature.as_ref()])]))
}

fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = u16::try_from(content.len()).unwrap_or(u16::MAX);
    let [high, low] = length.to_be_bytes();
    let mut out = vec![tag];
    match length {
        0..=0x7f => out.push(low),
        0x80..=0xff => out.extend([0x81, low]),
        _ => out.extend([0x82, high, low]),
    }
    out.extend(content);
    out
}

/// PEM of these bytes.
#[must_use]
pub fn pem(what: &str, bytes: &[u8]) -> String {
    let text = STANDARD.encode(bytes);
    let mut out = format!("-----BEGIN {what}-----\n");
    for line in text.as_bytes().chunks(64) {
        out.push_str(&String::from_utf8_lossy(line));
        out.push('\n');
    }
    out.push_str(&format!("-----END {what}-----\n"));
    out
}

/// What somebody asks for.
#[cfg(feature = "master")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The subject's CN; empty when it has none.
    pub common_name: String,
    /// The public key, SubjectPublicKeyInfo in DER.
    pub spki: Vec<u8>,
    /// The point of the key alone, as signers want it.
    pub point: Vec<u8>,
}

/// Why a request cannot be taken.
#[cfg(feature = "master")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No PEM block `CERTIFICATE REQUEST`.
    #[error("PEM block type must be CERTIFICATE REQUEST")]
    Pem,
    /// Bytes that are no request.
    #[error("it is no PKCS#10 request")]
    Der,
    /// A key that we do not sign.
    #[error("its key is none of the curve P-256")]
    Key,
    /// Its owner did not sign it.
    #[error("its signature does not fit its key")]
    Signature,
}

/// Reads a request whatever its key and signature are.
///
/// # Errors
/// When it is none.
#[cfg(feature = "master")]
pub fn parse(text: &str) -> Result<x509_cert::request::CertReq, Refused> {
    use x509_cert::der::Decode as _;
    let inner = text.split("-----BEGIN CERTIFICATE REQUEST-----").nth(1).ok_or(Refused::Pem)?;
    let inner = inner.split("-----END CERTIFICATE REQUEST-----").next().ok_or(Refused::Pem)?;
    let text: String = inner.split_whitespace().collect();
    let bytes = STANDARD.decode(text).map_err(|_| Refused::Pem)?;
    x509_cert::request::CertReq::from_der(&bytes).map_err(|_| Refused::Der)
}

/// Reads a request of a node, and checks that the owner of the key signed it.
///
/// # Errors
/// When it is none, of another kind of key, or not signed.
#[cfg(feature = "master")]
pub fn read(text: &str) -> Result<Asked, Refused> {
    use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
    use x509_cert::der::Encode as _;
    use x509_cert::der::asn1::{PrintableStringRef, Utf8StringRef};
    let request = parse(text)?;
    let spki = request.info.public_key.to_der().map_err(|_| Refused::Der)?;
    if !spki.starts_with(SPKI_P256) {
        return Err(Refused::Key);
    }
    let point = spki.get(SPKI_P256.len()..).unwrap_or_default().to_vec();
    let info = request.info.to_der().map_err(|_| Refused::Der)?;
    let signature = request.signature.as_bytes().ok_or(Refused::Signature)?;
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &point).verify(&info, signature).map_err(|_| Refused::Signature)?;
    let cn = x509_cert::der::oid::ObjectIdentifier::new_unwrap("2.5.4.3");
    let attribute = request.info.subject.0.iter().flat_map(|part| part.0.iter()).find(|attribute| attribute.oid == cn);
    let text = attribute.and_then(|attribute| {
        let utf8 = attribute.value.decode_as::<Utf8StringRef<'_>>().map(|text| text.as_str().to_owned());
        utf8.or_else(|_| attribute.value.decode_as::<PrintableStringRef<'_>>().map(|text| text.as_str().to_owned())).ok()
    });
    Ok(Asked { common_name: text.unwrap_or_default(), spki, point })
}

#[cfg(feature = "master")]
#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::PrivateKeyDer;
    use rustls::pki_types::pem::PemObject;

    fn request(name: &str) -> (String, Vec<u8>) {
        let key = new_key().unwrap();
        write(PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap().secret_der(), name).unwrap()
    }

    #[test]
    fn what_a_node_writes_the_master_reads() {
        for name in ["shed", &"a".repeat(63)] {
            let (text, spki) = request(name);
            let asked = read(&text).unwrap();
            assert_eq!((asked.common_name.as_str(), &asked.spki), (name, &spki));
            assert_eq!(fingerprint(&spki).len(), 7 + 64);
        }
    }

    #[test]
    fn a_certificate_of_ones_own_is_one() {
        use x509_cert::der::Decode as _;
        let key = new_key().unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let der = self_signed(key.secret_der(), "node.example").unwrap();
        let read = x509_cert::Certificate::from_der(&der).unwrap();
        assert_eq!(read.tbs_certificate.subject.to_string(), "CN=node.example");
        let provider = rustls::crypto::ring::default_provider();
        let certified = rustls::sign::CertifiedKey::from_der(vec![der.into()], key, &provider).unwrap();
        let parsed = rustls::server::ParsedCertificate::try_from(certified.end_entity_cert().unwrap()).unwrap();
        rustls::client::verify_server_name(&parsed, &"node.example".try_into().unwrap()).unwrap();
    }

    #[test]
    fn a_request_that_its_key_did_not_sign_is_refused() {
        let (text, _) = request("shed");
        let block = text.lines().filter(|line| !line.starts_with('-')).collect::<String>();
        let mut bytes = STANDARD.decode(block).unwrap();
        let at = bytes.windows(4).position(|window| window == b"shed").unwrap();
        bytes[at] = b't';
        assert_eq!(read(&pem("CERTIFICATE REQUEST", &bytes)), Err(Refused::Signature));
        bytes.truncate(40);
        assert_eq!(read(&pem("CERTIFICATE REQUEST", &bytes)), Err(Refused::Der));
        assert_eq!(read("hello"), Err(Refused::Pem));
        assert_eq!(read(&pem("CERTIFICATE", &bytes)), Err(Refused::Pem));
    }
}
