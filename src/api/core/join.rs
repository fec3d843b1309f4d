//! Words of joining: tokens, names of nodes, what a node is handed out, what is kept of who joined.
//!
//! Shapes:   a token's text is `<id>.<secret>` as kubeadm has it, here with `.<pin>` behind it: the beginning of the SHA-256 of the
//!           CA's SubjectPublicKeyInfo in hex (128 bits), so that a node knows its master before it tells the secret.
//! Source:   Kubernetes' bootstrap tokens and the TLS bootstrapping of kubelets.

use serde::{Deserialize, Serialize};

use crate::api::{Key, Object, registry, time};
use crate::clock::Wall;

/// Who signs certificates of nodes.
pub const SIGNER: &str = "bramble/node";
/// Where tokens and the records of nodes are.
pub const NAMESPACE: &str = "kube-system";
/// The type of a token's secret.
pub const TOKEN_TYPE: &str = "bootstrap.kubernetes.io/token";
/// What a token's user is called, before its id.
pub const TOKEN_USER: &str = "system:bootstrap:";
/// The group of everybody who comes with a token.
pub const TOKEN_GROUP: &str = "system:bootstrappers";
/// Who comes without anything.
pub const ANONYMOUS: &str = "system:anonymous";
/// On a request: the board's serial number or the machine's id.
pub const SERIAL: &str = "bramble/serial";
/// On a request: the board's model.
pub const MODEL: &str = "bramble/model";
/// On a request: where it came from.
pub const ADDRESS: &str = "bramble/address";
/// On a request: the fingerprint of its key.
pub const FINGERPRINT: &str = "bramble/key-fingerprint";
/// On a signed request: the name that the node was given.
pub const NODE: &str = "bramble/node";
/// The config map that tells a node what it needs to know.
pub const CLUSTER_INFO: (&str, &str) = ("kube-public", "cluster-info");
/// Hex digits of a pin: 128 bits.
pub const PIN_DIGITS: usize = 32;

/// A token as a person copies it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// Six characters; not secret.
    pub id: String,
    /// Sixteen characters.
    pub secret: String,
    /// Who the master must be; may be missing.
    pub pin: Option<String>,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The secret is never shown.
        f.debug_struct("Token").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Token {
    /// What is expected, for error messages.
    pub const EXPECTED: &'static str = "a token as `bramble token create` prints it: 6 and 16 lower case letters or digits and 32 hex digits, with dots between them";

    /// Reads a token's text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let (id, secret, pin) = (parts.next()?, parts.next()?, parts.next());
        let plain =
            |text: &str, length| text.len() == length && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let hex =
            |pin: &str| (PIN_DIGITS..=64).contains(&pin.len()) && pin.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let good = parts.next().is_none() && plain(id, 6) && plain(secret, 16) && pin.is_none_or(hex);
        good.then(|| Self { id: id.to_owned(), secret: secret.to_owned(), pin: pin.map(str::to_owned) })
    }

    /// What the API is told: without the pin.
    #[must_use]
    pub fn bearer(&self) -> String {
        format!("{}.{}", self.id, self.secret)
    }

    /// Where its secret is.
    #[must_use]
    pub fn key(id: &str) -> Key {
        Key::new(&registry::SECRETS, NAMESPACE, &format!("bootstrap-token-{id}"))
    }
}

/// Whether a token's secret says that its time is over. One without `expiration` has none.
#[must_use]
pub fn token_expired(secret: &Object, now: Wall) -> bool {
    let text = secret_text(secret, "expiration");
    !text.is_empty() && time::parse(&text).is_none_or(|at| at.0 <= now.0)
}

/// A value of a secret, decoded; empty when it is not there.
#[must_use]
pub fn secret_text(secret: &Object, key: &str) -> String {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(secret.str_at(&["data", key])).unwrap_or_default();
    String::from_utf8(bytes).unwrap_or_default()
}

/// Whether these are equal, in a time that does not tell where they differ.
#[must_use]
pub fn same_secret(one: &str, other: &str) -> bool {
    one.len() == other.len() && one.bytes().zip(other.bytes()).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

/// Whether `name` may be a node's: a DNS-1123 label, so that it may stand in a topic and in a host name.
#[must_use]
pub fn is_node_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 63 && dns_label(name) == name
}

/// The nearest DNS-1123 label: `Living Room_Pi` → `living-room-pi`. Empty when nothing is left.
#[must_use]
pub fn dns_label(host: &str) -> String {
    let mapped = host.chars().map(|c| c.to_ascii_lowercase()).map(|c| if c.is_ascii_alphanumeric() { c } else { '-' });
    let label: String = mapped.take(63).collect();
    label.trim_matches('-').to_owned()
}

/// The request's name of this node and key: one a key.
#[must_use]
pub fn request_name(node: &str, fingerprint: &str) -> String {
    let digits: String = fingerprint.trim_start_matches("SHA256:").chars().take(10).collect();
    format!("{node}-{digits}")
}

/// Where it is kept which key a node's name belongs to.
#[must_use]
pub fn record_key(node: &str) -> Key {
    Key::new(&registry::CONFIG_MAPS, NAMESPACE, &format!("bramble-node-{node}"))
}

/// The node of a record's key.
#[must_use]
pub fn record_of(key: &Key) -> Option<&str> {
    (*key.resource == registry::CONFIG_MAPS && key.namespace == NAMESPACE).then(|| key.name.strip_prefix("bramble-node-"))?
}

/// Whether a record says that a certificate with this key is not that node's any more. A removed node has an empty key.
#[must_use]
pub fn record_refuses(record: &Object, fingerprint: &str) -> bool {
    record.str_at(&["data", "key"]) != fingerprint
}

/// What a node keeps of its joining, `join.json` in its data directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// The board's serial number or the machine's id; empty: of whichever board starts it first.
    pub serial: String,
    /// The name that the master gave.
    pub node: String,
    /// The cluster's name in topics.
    pub cluster: String,
    /// The cluster's uid.
    pub cluster_uid: String,
    /// `mqtts://host:port`
    pub broker: String,
}

/// What the master tells everybody: the data of [`CLUSTER_INFO`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterInfo {
    /// PEM.
    pub ca: String,
    /// The cluster's name in topics.
    pub cluster: String,
    /// The cluster's uid.
    pub cluster_uid: String,
    /// Where the broker is; `mqtts://*:8883`: on the master itself.
    pub broker: String,
}

impl ClusterInfo {
    /// As the config map's `data`.
    #[must_use]
    pub fn data(&self) -> serde_json::Value {
        serde_json::json!({"ca.crt": self.ca, "cluster": self.cluster, "cluster-uid": self.cluster_uid, "broker": self.broker})
    }

    /// From the config map; nothing when something is missing.
    #[must_use]
    pub fn read(map: &Object) -> Option<Self> {
        let text = |key| Some(map.str_at(&["data", key]).to_owned()).filter(|text| !text.is_empty());
        Some(Self { ca: text("ca.crt")?, cluster: text("cluster")?, cluster_uid: text("cluster-uid")?, broker: text("broker")? })
    }

    /// Where the broker is for somebody who reached the API at `host`.
    #[must_use]
    pub fn broker_from(&self, host: &str) -> String {
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        self.broker.replace("//*:", &format!("//{host}:"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_or_refused() {
        let pin = "0123456789abcdef".repeat(2);
        for (text, good) in [
            ("abcdef.0123456789abcdef".to_owned(), true),
            (format!("abcdef.0123456789abcdef.{pin}"), true),
            (format!("abcdef.0123456789abcdef.{}", &pin[1..]), false),
            (format!("abcdef.0123456789abcdef.{pin}.x"), false),
            ("abcdef".to_owned(), false),
            ("ABCDEF.0123456789abcdef".to_owned(), false),
            ("abcdef.0123456789abcde".to_owned(), false),
            (String::new(), false),
        ] {
            assert_eq!(Token::parse(&text).is_some(), good, "{text}");
        }
        let token = Token::parse(&format!("abcdef.0123456789abcdef.{pin}")).unwrap();
        assert_eq!((token.bearer().as_str(), token.pin), ("abcdef.0123456789abcdef", Some(pin)));
        assert!(!format!("{:?}", Token::parse("abcdef.0123456789abcdef")).contains("0123456789"));
    }

    #[test]
    fn secrets_are_the_same_or_not() {
        assert!(same_secret("a1", "a1"));
        for other in ["a2", "a", "", "a11"] {
            assert!(!same_secret("a1", other), "{other}");
        }
    }

    #[test]
    fn the_broker_is_where_the_api_was_found() {
        let info = ClusterInfo { broker: "mqtts://*:8883".into(), ..ClusterInfo::default() };
        assert_eq!(info.broker_from("10.0.0.1"), "mqtts://10.0.0.1:8883");
        assert_eq!(info.broker_from("fd00::1"), "mqtts://[fd00::1]:8883");
        let own = ClusterInfo { broker: "mqtts://home:1".into(), ..ClusterInfo::default() };
        assert_eq!(own.broker_from("10.0.0.1"), "mqtts://home:1");
    }

    #[test]
    fn a_record_is_found_by_its_name_and_refuses_every_other_key() {
        let key = record_key("shed");
        assert_eq!(record_of(&key), Some("shed"));
        assert_eq!(record_of(&Key::new(&registry::CONFIG_MAPS, "default", "bramble-node-shed")), None);
        let record = Object::from_value(serde_json::json!({"data": {"key": "SHA256:a"}})).unwrap();
        assert!(!record_refuses(&record, "SHA256:a") && record_refuses(&record, "SHA256:b"));
    }
}
