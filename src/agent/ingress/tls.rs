//! Which certificate a client is shown: by the name that it asks for (SNI), from the secrets of ingresses.
//!
//! In:       a share's ingresses and secrets.
//! Out:      one TLS configuration for the whole life of the node; what it shows follows the newest share, and no connection ends for it.
//! Never:    fails for a bad secret: its hosts are shown the node's own certificate, and the log says why, once. The master's events say it
//!           to the owner (`controller/ingress.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, RwLock};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::api::Object;
use crate::api::networking::ingress::Ingress;
use crate::link::share::Share;
use crate::pkcs10;
use crate::tls::{NoCertificate, TlsError, of_secret};

/// The name in the certificate of who has none for a name.
const NOBODY: &str = "no-certificate.bramble.invalid";

/// The certificates of one share.
#[derive(Debug)]
struct Certificates {
    /// By host.
    exact: BTreeMap<String, Arc<CertifiedKey>>,
    /// By what follows the star: `.example.com`.
    wildcard: BTreeMap<String, Arc<CertifiedKey>>,
    /// For all names that they bear themselves.
    any: Vec<Arc<CertifiedKey>>,
    own: Arc<CertifiedKey>,
}

/// What the node shows, changed while it listens.
#[derive(Debug)]
struct Shown(RwLock<Arc<Certificates>>);

/// Certificates from secrets, read once each.
pub(super) struct Wardrobe {
    provider: Arc<CryptoProvider>,
    shown: Arc<Shown>,
    own: Arc<CertifiedKey>,
    /// By `namespace/name`: what was read, and what came of it.
    read: BTreeMap<String, (Arc<Object>, Option<Arc<CertifiedKey>>)>,
    /// Those that the log told of.
    told: BTreeSet<String>,
}

impl Wardrobe {
    /// With the node's own certificate only, made now.
    ///
    /// # Errors
    /// When the system has no chance to give.
    pub fn new() -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let bad = || TlsError::Rustls(rustls::Error::General("no certificate of its own".to_owned()));
        let key = pkcs10::new_key().map_err(|_| bad())?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| bad())?;
        let certificate = pkcs10::self_signed(key.secret_der(), NOBODY).map_err(|_| bad())?;
        let own = Arc::new(CertifiedKey::from_der(vec![certificate.into()], key, &provider)?);
        let none = Certificates { exact: BTreeMap::new(), wildcard: BTreeMap::new(), any: Vec::new(), own: own.clone() };
        let shown = Arc::new(Shown(RwLock::new(Arc::new(none))));
        Ok(Self { provider, shown, own, read: BTreeMap::new(), told: BTreeSet::new() })
    }

    /// How to listen: HTTP/2 and HTTP/1.1, TLS 1.2 and 1.3.
    ///
    /// # Errors
    /// When the library refuses its own defaults.
    pub fn config(&self) -> Result<Arc<rustls::ServerConfig>, TlsError> {
        let builder = rustls::ServerConfig::builder_with_provider(self.provider.clone()).with_safe_default_protocol_versions()?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(self.shown.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// Follows a share.
    pub fn follow(&mut self, share: &Share) {
        let mut next = Certificates { exact: BTreeMap::new(), wildcard: BTreeMap::new(), any: Vec::new(), own: self.own.clone() };
        let mut named = BTreeSet::new();
        let mut sorted: Vec<(&String, &Arc<Object>)> = share.ingresses.iter().collect();
        sorted.sort_by_key(|(name, object)| (object.str_at(&["metadata", "creationTimestamp"]).to_owned(), (*name).clone()));
        for (name, object) in sorted {
            let namespace = name.split_once('/').map_or("", |(namespace, _)| namespace);
            for entry in Ingress(object).tls() {
                let Some(secret) = entry.secret() else { continue };
                let place = format!("{namespace}/{secret}");
                let key = self.read(share, &place);
                named.insert(place);
                let Some(key) = key else { continue };
                let mut for_all = true;
                for host in entry.hosts() {
                    for_all = false;
                    // Of two ingresses with one for the same host the older counts.
                    match host.strip_prefix('*') {
                        Some(rest) => _ = next.wildcard.entry(rest.to_ascii_lowercase()).or_insert_with(|| key.clone()),
                        None => _ = next.exact.entry(host.to_ascii_lowercase()).or_insert_with(|| key.clone()),
                    }
                }
                if for_all {
                    next.any.push(key);
                }
            }
        }
        self.read.retain(|place, _| named.contains(place));
        self.told.retain(|place| named.contains(place));
        let next = Arc::new(next);
        // A lock that a panic poisoned still holds whole certificates: they are exchanged as one.
        *self.shown.0.write().unwrap_or_else(std::sync::PoisonError::into_inner) = next;
    }

    fn read(&mut self, share: &Share, place: &str) -> Option<Arc<CertifiedKey>> {
        let secret = share.secrets.get(place);
        if let (Some(secret), Some((before, key))) = (secret, self.read.get(place))
            && before == secret
        {
            return key.clone();
        }
        let made = match secret {
            Some(secret) => of_secret(|key| secret.str_at(&["data", key]), &self.provider),
            None => Err(NoCertificate::Missing),
        };
        match &made {
            Ok(_) => _ = self.told.remove(place),
            Err(error) => {
                if self.told.insert(place.to_owned()) {
                    tracing::warn!(secret = place, %error, "no certificate for an ingress: its hosts are shown the node's own");
                }
            }
        }
        let key = made.ok();
        match secret {
            Some(secret) => _ = self.read.insert(place.to_owned(), (secret.clone(), key.clone())),
            None => _ = self.read.remove(place),
        }
        key
    }
}

impl Certificates {
    fn choose(&self, name: Option<&str>) -> Arc<CertifiedKey> {
        let Some(name) = name.map(str::to_ascii_lowercase) else { return self.own.clone() };
        let beyond = name.find('.').and_then(|at| name.get(at..)).unwrap_or_default();
        let found = self.exact.get(&name).or_else(|| self.wildcard.get(beyond));
        let bears = |key: &&Arc<CertifiedKey>| {
            let Ok(server) = ServerName::try_from(name.as_str()) else { return false };
            let parsed = key.end_entity_cert().and_then(ParsedCertificate::try_from);
            parsed.is_ok_and(|parsed| rustls::client::verify_server_name(&parsed, &server).is_ok())
        };
        found.or_else(|| self.any.iter().find(bears)).unwrap_or(&self.own).clone()
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let certificates = self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        Some(certificates.choose(hello.server_name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::json;

    fn secret(name: &str) -> (Object, Vec<u8>) {
        let key = pkcs10::new_key().unwrap();
        let parsed = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let certificate = pkcs10::self_signed(parsed.secret_der(), name).unwrap();
        let pem = pkcs10::pem("CERTIFICATE", &certificate);
        let data = json!({"tls.crt": STANDARD.encode(pem), "tls.key": STANDARD.encode(key)});
        (Object::from_value(json!({"data": data})).unwrap(), certificate)
    }

    #[test]
    fn a_name_is_shown_the_nearest_certificate() {
        let mut share = Share::default();
        let mut made = BTreeMap::new();
        for name in ["a.com", "star", "bearer.org"] {
            let (object, certificate) = secret(name);
            share.secrets.insert(format!("default/{name}"), Arc::new(object));
            made.insert(name, certificate);
        }
        let tls = json!([{"hosts": ["A.com"], "secretName": "a.com"}, {"hosts": ["*.a.com"], "secretName": "star"},
            {"secretName": "bearer.org"}, {"hosts": ["gone.com"], "secretName": "gone"}, {"hosts": ["x.com"]}]);
        let ingress = Object::from_value(json!({"metadata": {}, "spec": {"tls": tls}})).unwrap();
        share.ingresses.insert("default/web".into(), Arc::new(ingress));
        let mut wardrobe = Wardrobe::new().unwrap();
        wardrobe.follow(&share);
        assert_eq!(wardrobe.told.iter().collect::<Vec<_>>(), ["default/gone"]);
        let shown = wardrobe.shown.0.read().unwrap().clone();
        for (asked, expected) in [
            (Some("a.com"), Some("a.com")),
            (Some("www.a.com"), Some("star")),
            (Some("x.www.a.com"), None),
            (Some("Bearer.org"), Some("bearer.org")),
            (Some("gone.com"), None),
            (Some("x.com"), None),
            (None, None),
        ] {
            let certificate = shown.choose(asked).end_entity_cert().unwrap().to_vec();
            let expected = expected.map_or_else(|| shown.own.end_entity_cert().unwrap().to_vec(), |name| made[name].clone());
            assert!(certificate == expected, "{asked:?}");
        }
    }

    #[test]
    fn a_secret_that_is_no_certificate_has_a_word() {
        let provider = rustls::crypto::ring::default_provider();
        let (good, _) = secret("a");
        let (other, _) = secret("b");
        let with = |key: &str, value: serde_json::Value| {
            let mut object = good.clone();
            object.set_at(&["data", key], value);
            of_secret(|key| object.str_at(&["data", key]), &provider).map(drop).map_err(|error| error.to_string())
        };
        assert!(of_secret(|key| good.str_at(&["data", key]), &provider).is_ok());
        let pem = |text: &str| json!(STANDARD.encode(text));
        let nonsense = pkcs10::pem("CERTIFICATE", b"nonsense");
        for (key, value, words) in [
            ("tls.crt", json!(null), "it has no tls.crt"),
            ("tls.key", json!(""), "it has no tls.key"),
            ("tls.crt", json!("%"), "its tls.crt is no PEM"),
            ("tls.crt", pem("hello"), "its tls.crt is no PEM"),
            ("tls.key", pem("hello"), "its tls.key is no PEM"),
            (
                "tls.key",
                other.at(&["data", "tls.key"]).unwrap().clone(),
                "its certificate and key cannot be used: keys may not be consistent: KeyMismatch",
            ),
            ("tls.crt", pem(&nonsense), "its certificate and key cannot be used: invalid peer certificate: BadEncoding"),
        ] {
            assert_eq!(with(key, value.clone()).unwrap_err(), words, "{key} {value}");
        }
    }
}
