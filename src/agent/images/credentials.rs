//! Pull secrets: which credentials a registry is shown for an image, and in which order.
//!
//! In:       secrets of type `kubernetes.io/dockerconfigjson` and `kubernetes.io/dockercfg`, the node's own `config.json`.
//! Out:      the credentials that match an image, the most specific first.
//! Never:    shows one: [`Credential`] prints without its content.
//! Source:   the kubelet's credential provider: host names match part by part, with `*`; ports are equal; the path is a prefix;
//!           longer keys come first; what names no registry is Docker Hub's. We differ in that `[…]` is no pattern.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use serde::Deserialize;

use crate::api::Object;
use crate::api::image::{DEFAULT_REGISTRY, repository};
use crate::link::share::Share;

/// What Docker Hub is called in configurations.
const HUB: &str = "index.docker.io";

/// What a registry is shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credential {
    /// User name.
    pub username: String,
    /// Password, or a token that takes its place.
    pub password: String,
    /// An OAuth refresh token, instead of both.
    pub identity_token: String,
    /// A bearer token that is sent as it is.
    pub registry_token: String,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(…)")
    }
}

/// Why a secret holds no credentials. Names no part of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// Of another type.
    #[error("it has neither .dockerconfigjson nor .dockercfg; `kubectl create secret docker-registry` makes one that has")]
    OtherType,
    /// Not base64.
    #[error("its data is not base64")]
    NotBase64,
    /// Not JSON, or JSON of another shape.
    #[error("it is not the JSON of Docker's config.json: {{\"auths\": {{\"registry\": {{\"auth\": \"…\"}}}}}}")]
    NotConfig,
    /// An `auth` that is not `user:password`.
    #[error("an \"auth\" in it is not the base64 of user:password")]
    Auth,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    username: String,
    password: String,
    auth: String,
    #[serde(rename = "identitytoken")]
    identity_token: String,
    #[serde(rename = "registrytoken")]
    registry_token: String,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

/// Credentials by the registries that they are for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keyring(Vec<(String, Credential)>);

impl Keyring {
    /// Adds what a secret holds.
    ///
    /// # Errors
    /// When it holds nothing that is understood; then nothing is added.
    pub fn add_secret(&mut self, secret: &Object) -> Result<(), KeyringError> {
        let data = |key| {
            let text = secret.str_at(&["data", key]);
            (!text.is_empty())
                .then(|| base64::engine::general_purpose::STANDARD.decode(text).map_err(|_| KeyringError::NotBase64))
        };
        match (data(".dockerconfigjson"), data(".dockercfg")) {
            (Some(config), _) => self.add_config(&config?),
            (None, Some(old)) => self.add(serde_json::from_slice(&old?).map_err(|_| KeyringError::NotConfig)?),
            (None, None) => Err(KeyringError::OtherType),
        }
    }

    /// Adds what Docker's `config.json` holds.
    ///
    /// # Errors
    /// When it is none.
    pub fn add_config(&mut self, json: &[u8]) -> Result<(), KeyringError> {
        let config: Config = serde_json::from_slice(json).map_err(|_| KeyringError::NotConfig)?;
        self.add(config.auths)
    }

    fn add(&mut self, entries: BTreeMap<String, Entry>) -> Result<(), KeyringError> {
        let read: Result<Vec<_>, _> = entries
            .into_iter()
            .filter(|(key, _)| !key.is_empty())
            .map(|(key, entry)| Ok((key_of(&key), credential(entry)?)))
            .collect();
        self.0.extend(read?);
        Ok(())
    }

    /// What the registry of an image is shown: all that match, the most specific first, those of one key in their order.
    #[must_use]
    pub fn lookup(&self, image: &str) -> Vec<Credential> {
        let name = repository(image);
        let mut found: Vec<_> = self.0.iter().filter(|(key, _)| matches(key, &name)).collect();
        if found.is_empty() && name.split('/').next() == Some(DEFAULT_REGISTRY) {
            found = self.0.iter().filter(|(key, _)| key == HUB).collect();
        }
        found.sort_by_key(|(key, _)| Reverse(key.clone()));
        found.into_iter().map(|(_, credential)| credential.clone()).collect()
    }
}

fn credential(entry: Entry) -> Result<Credential, KeyringError> {
    let Entry { mut username, mut password, auth, identity_token, registry_token } = entry;
    if !auth.is_empty() {
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(auth.trim())
            .or_else(|_| base64::engine::general_purpose::STANDARD_NO_PAD.decode(auth.trim()))
            .map_err(|_| KeyringError::Auth)?;
        let text = String::from_utf8(bytes).map_err(|_| KeyringError::Auth)?;
        let (user, pass) = text.split_once(':').ok_or(KeyringError::Auth)?;
        // Docker pads with NUL.
        (username, password) = (user.to_owned(), pass.trim_end_matches('\0').to_owned());
    }
    Ok(Credential { username, password, identity_token, registry_token })
}

/// A key of a configuration as host and path: `https://r.io/v2/` → `r.io`.
fn key_of(text: &str) -> String {
    let text = text.split_once("://").map_or(text, |(_, rest)| rest);
    let (host, path) = text.split_once('/').unwrap_or((text, ""));
    let path = ["v1/", "v2/"].iter().find_map(|version| path.strip_prefix(version)).unwrap_or(path);
    let path = if path == "v1" || path == "v2" { "" } else { path };
    if path.is_empty() { host.to_owned() } else { format!("{host}/{path}") }
}

/// Whether a key is for a repository.
fn matches(key: &str, name: &str) -> bool {
    let split = |text: &'_ str| {
        let (host, path) = text.split_once('/').unwrap_or((text, ""));
        let (host, port) = host.rsplit_once(':').unwrap_or((host, ""));
        (host.to_owned(), port.to_owned(), path.to_owned())
    };
    let ((host, port, path), (its_host, its_port, its_path)) = (split(key), split(name));
    let (parts, its_parts) = (host.split('.').collect::<Vec<_>>(), its_host.split('.').collect::<Vec<_>>());
    port == its_port
        && parts.len() == its_parts.len()
        && its_path.starts_with(&path)
        && parts.iter().zip(its_parts).all(|(pattern, part)| glob(pattern.as_bytes(), part.as_bytes()))
}

/// `*` is any text, `?` any character.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) if glob(rest, text) => true,
        (Some((b'*', _)), Some((_, after))) => glob(pattern, after),
        (Some((one, rest)), Some((other, after))) => (*one == b'?' || one == other) && glob(rest, after),
        _ => false,
    }
}

/// What a pod's pull secrets give for an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// In the order in which they are tried.
    pub credentials: Vec<Credential>,
    /// In words for the user: secrets that are missing, or hold nothing that is understood.
    pub troubles: Vec<String>,
}

/// The credentials for an image by the pull secrets of a pod.
#[must_use]
pub fn of_pod(share: &Share, namespace: &str, names: &[String], image: &str) -> Found {
    let mut keyring = Keyring::default();
    let (mut missing, mut troubles) = (Vec::new(), Vec::new());
    for name in names {
        match share.secrets.get(&format!("{namespace}/{name}")) {
            None => missing.push(name.as_str()),
            Some(secret) => {
                if let Err(error) = keyring.add_secret(secret) {
                    troubles.push(format!("Image pull secret \"{name}\" cannot be used: {error}"));
                }
            }
        }
    }
    if !missing.is_empty() {
        // Upstream's words.
        let text = format!(
            "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
            missing.join(", ")
        );
        troubles.insert(0, text);
    }
    Found { credentials: keyring.lookup(image), troubles }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::Arc;

    fn keyring(keys: &[&str]) -> Keyring {
        let auths: serde_json::Map<_, _> =
            keys.iter().map(|key| ((*key).to_owned(), json!({"username": key, "password": "p"}))).collect();
        let mut keyring = Keyring::default();
        keyring.add_config(json!({"auths": auths, "credsStore": "x"}).to_string().as_bytes()).unwrap();
        keyring
    }

    #[test]
    fn keys_match_images_as_the_kubelet_matches_them() {
        for (key, image, matched) in [
            ("https://index.docker.io/v1/", "nginx", true),
            ("https://index.docker.io/v1/", "a/b:1", true),
            ("https://index.docker.io/v1/", "r.io/a", false),
            ("docker.io", "nginx", true),
            ("index.docker.io", "docker.io/library/nginx", true),
            ("r.io", "r.io/a/b:1", true),
            ("http://r.io/v2/", "r.io/a", true),
            ("r.io:5000", "r.io:5000/a", true),
            ("r.io", "r.io:5000/a", false),
            ("r.io:5000", "r.io/a", false),
            ("*.r.io", "x.r.io/a", true),
            ("*.r.io", "r.io/a", false),
            ("*.r.io", "x.y.r.io/a", false),
            ("*.*.r.io", "x.y.r.io/a", true),
            ("pre?.r*.io:1", "prex.rest.io:1/a", true),
            ("r.io/team", "r.io/team/a", true),
            ("r.io/team", "r.io/teamster", true),
            ("r.io/team", "r.io/other", false),
            ("https://r.io/v2/team", "r.io/team/a", true),
            ("127.0.0.1:5000", "127.0.0.1:5000/a@sha256:0", true),
            ("r.io", "nginx", false),
        ] {
            assert_eq!(!keyring(&[key]).lookup(image).is_empty(), matched, "{key} for {image}");
        }
    }

    #[test]
    fn the_most_specific_comes_first_and_secrets_keep_their_order() {
        let users = |keyring: &Keyring, image: &str| -> Vec<String> {
            keyring.lookup(image).into_iter().map(|credential| credential.username).collect()
        };
        let ring = keyring(&["r.io", "r.io/a/b", "*.io", "r.io/a"]);
        assert_eq!(users(&ring, "r.io/a/b/c"), ["r.io/a/b", "r.io/a", "r.io", "*.io"]);
        let mut both = keyring(&["r.io"]);
        both.add_config(br#"{"auths": {"r.io": {"username": "second"}}}"#).unwrap();
        assert_eq!(users(&both, "r.io/a"), ["r.io", "second"]);
    }

    fn secret(key: &str, content: &str) -> Arc<Object> {
        let content = base64::engine::general_purpose::STANDARD.encode(content);
        Arc::new(Object::from_value(json!({"data": {key: content}})).unwrap())
    }

    #[test]
    fn secrets_are_read_and_bad_ones_named_without_their_content() {
        let auth = base64::engine::general_purpose::STANDARD.encode("ada:love:lace");
        let mut share = Share::default();
        for (name, key, content) in [
            ("new", ".dockerconfigjson", json!({"auths": {"r.io": {"auth": auth}}}).to_string()),
            ("old", ".dockercfg", json!({"r.io": {"username": "bob", "password": "b"}}).to_string()),
            ("json", ".dockerconfigjson", "hunter2".to_owned()),
            ("auth", ".dockerconfigjson", json!({"auths": {"r.io": {"auth": "aHVudGVyMg=="}}}).to_string()),
            ("type", "token", "hunter2".to_owned()),
        ] {
            share.secrets.insert(format!("default/{name}"), secret(key, &content));
        }
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let found = of_pod(&share, "default", &names(&["new", "old"]), "r.io/a");
        let pairs: Vec<_> = found.credentials.iter().map(|c| (c.username.as_str(), c.password.as_str())).collect();
        assert_eq!((pairs, found.troubles.len()), (vec![("ada", "love:lace"), ("bob", "b")], 0));
        let bad = of_pod(&share, "default", &names(&["json", "gone", "auth", "type", "lost", "old"]), "r.io/a");
        assert_eq!(bad.credentials.len(), 1, "the others are used all the same");
        assert_eq!(
            bad.troubles[0],
            "Unable to retrieve some image pull secrets (gone, lost); attempting to pull the image may not succeed."
        );
        assert_eq!(bad.troubles.len(), 4);
        assert!(!format!("{bad:?}{found:?}").contains("hunter2") && !format!("{found:?}").contains("love"));
    }
}
