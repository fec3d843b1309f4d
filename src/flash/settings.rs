//! What a node is to be, checked: its name, who may log in, the Wi-Fi, how it joins.
//!
//! In:       what was typed.
//! Out:      [`Settings`], or every fault at once.
//! Never:    reads a file. There is no default password: who gives neither key nor hash gets no user.

use std::num::NonZeroU32;

use ring::pbkdf2;

use crate::api::core::join::{Token, is_node_name};

/// Checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The node's name, and the host's.
    pub name: String,
    /// Who may log in.
    pub user: Option<User>,
    /// The network that it joins by radio.
    pub wifi: Option<Wifi>,
    /// The agent's configuration.
    pub agent_toml: String,
    /// What `bramble node add` made for the agent's data directory: paths in it, and contents. Empty: the Pi makes its own key.
    pub node_files: Vec<(String, Vec<u8>)>,
}

/// A person's account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Public keys, a line each.
    pub keys: Vec<String>,
    /// As in /etc/shadow.
    pub password_hash: Option<String>,
}

/// A wireless network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wifi {
    /// Its name.
    pub ssid: String,
    /// 64 hexadecimal digits: the key that the passphrase gives, so that the passphrase itself is nowhere on the card. `None`: an open network.
    pub key: Option<String>,
    /// Whose rules the radio follows: two letters.
    pub country: String,
}

/// What was typed, with files already read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Typed {
    /// The node's name.
    pub name: String,
    /// `--user`.
    pub user: Option<String>,
    /// The text of each `--ssh-key`.
    pub keys: Vec<String>,
    /// `--password-hash`.
    pub password_hash: Option<String>,
    /// `--wifi`.
    pub ssid: Option<String>,
    /// The passphrase, or 64 hexadecimal digits.
    pub passphrase: Option<String>,
    /// `--wifi-country`.
    pub country: Option<String>,
    /// `--master`.
    pub master: Option<String>,
    /// `--token`.
    pub token: Option<String>,
    /// The text of `--config`.
    pub config: String,
    /// The text of the node folder's `agent.toml`, and its data directory.
    pub node: Option<(String, NodeFiles)>,
}

/// Files below a node's data directory: path and content.
pub type NodeFiles = Vec<(String, Vec<u8>)>;

impl Typed {
    /// Checks.
    ///
    /// # Errors
    /// Every fault that was found: what, and what was expected.
    pub fn check(self) -> Result<Settings, Vec<String>> {
        let mut faults = Vec::new();
        let mut fault = |text: String| faults.push(text);
        let name = self.name;
        if !is_node_name(&name) {
            fault(format!("the name {name:?}: expected a DNS-1123 label (lower case letters, digits and `-`, at most 63)"));
        }
        let user = match self.user {
            Some(user) => Some(checked_user(user, self.keys, self.password_hash, &mut fault)),
            None if !self.keys.is_empty() || self.password_hash.is_some() => {
                fault("a key or a password without --user: whose is it?".to_owned());
                None
            }
            None => None,
        };
        let wifi = match self.ssid {
            Some(ssid) => checked_wifi(ssid, self.passphrase, self.country, &mut fault),
            None => {
                if self.passphrase.is_some() || self.country.is_some() {
                    fault("a Wi-Fi passphrase or country without --wifi: which network?".to_owned());
                }
                None
            }
        };
        let (base, node_files) = self.node.unwrap_or_default();
        if !node_files.is_empty() && self.token.is_some() {
            fault("--token beside a node's certificate: it needs none".to_owned());
        }
        if self.token.as_deref().is_some_and(|token| Token::parse(token).is_none()) {
            fault(format!("--token: expected {}", Token::EXPECTED));
        }
        let join = [("master", self.master), ("token", self.token)];
        let agent_toml = match agent_toml(&base, &self.config, &name, join) {
            Ok(text) => text,
            Err(text) => {
                fault(text);
                String::new()
            }
        };
        if faults.is_empty() { Ok(Settings { name, user, wifi, agent_toml, node_files }) } else { Err(faults) }
    }
}

fn checked_user(name: String, keys: Vec<String>, password_hash: Option<String>, fault: &mut impl FnMut(String)) -> User {
    // Source: useradd(8), and the length that utmp keeps.
    let first = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    let rest = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-');
    if !first || !rest || name.len() > 32 || name == "root" {
        fault(format!("--user {name:?}: expected lower case letters, digits, `_` and `-`, at most 32, and not root"));
    }
    if keys.is_empty() && password_hash.is_none() {
        fault(format!("nobody could log in as {name}: give --ssh-key FILE (or --password-hash)"));
    }
    let keys_of = |text: &str| -> Vec<String> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.map(str::to_owned).collect()
    };
    let is_key = |key: &String| {
        let mut words = key.split_whitespace();
        let kind =
            words.next().is_some_and(|kind| kind.starts_with("ssh-") || kind.starts_with("ecdsa-") || kind.starts_with("sk-"));
        // Each begins with the length of its kind's name.
        kind && words.next().is_some_and(|data| data.starts_with("AAAA")) && !key.chars().any(char::is_control)
    };
    let keys: Vec<Vec<String>> = keys.iter().map(|text| keys_of(text)).collect();
    // Each file once. What it is instead is not shown: it may be the private one.
    for of_file in &keys {
        let instead = match of_file.iter().find(|key| !is_key(key)) {
            None if of_file.is_empty() => ", and there is no key in it",
            None => continue,
            Some(_) => "",
        };
        fault(format!(
            "--ssh-key: expected a file of public keys (`ssh-ed25519 AAAA… name`), like ~/.ssh/id_ed25519.pub{instead}"
        ));
    }
    let keys = keys.concat();
    if let Some(hash) = &password_hash {
        // Source: crypt(5): what comes last is the hash itself.
        let of_crypt = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '/';
        let hashed = hash.rsplit('$').next().is_some_and(|last| !last.is_empty() && last.chars().all(of_crypt));
        let crypt = hash.starts_with('$') && hash.matches('$').count() >= 3;
        if !crypt || !hashed || hash.chars().any(|c| !c.is_ascii_graphic() || c == ':') {
            fault("--password-hash: expected a hash as `openssl passwd -6` prints it ($6$…), not a password".to_owned());
        }
    }
    User { name, keys, password_hash }
}

fn checked_wifi(
    ssid: String,
    passphrase: Option<String>,
    country: Option<String>,
    fault: &mut impl FnMut(String),
) -> Option<Wifi> {
    if ssid.is_empty() || ssid.len() > 32 || ssid.chars().any(char::is_control) {
        fault(format!("--wifi {ssid:?}: expected a network's name of 1 to 32 bytes"));
    }
    let country = country.unwrap_or_default();
    if country.len() != 2 || !country.chars().all(|c| c.is_ascii_uppercase()) {
        fault("--wifi-country: expected the two letters of the country where the Pi stands, like DE: without it the radio stays off".to_owned());
    }
    let key = match passphrase.as_deref() {
        None => None,
        // Of a file that was to have one: an open network is asked for by naming none.
        Some("") => {
            fault("the Wi-Fi passphrase is empty; a network without one has no --wifi-passphrase-file".to_owned());
            None
        }
        Some(hex) if hex.len() == 64 && hex.chars().all(|c| c.is_ascii_hexdigit()) => Some(hex.to_ascii_lowercase()),
        Some(text) if (8..=63).contains(&text.len()) && text.chars().all(|c| c == ' ' || c.is_ascii_graphic()) => {
            Some(wifi_key(&ssid, text))
        }
        Some(_) => {
            fault("the Wi-Fi passphrase: expected 8 to 63 ASCII characters, or 64 hexadecimal digits".to_owned());
            None
        }
    };
    Some(Wifi { ssid, key, country })
}

/// The key of a network by its passphrase. Source: IEEE 802.11-2020, J.4.1: PBKDF2 with HMAC-SHA1, 4096 rounds, 32 bytes.
fn wifi_key(ssid: &str, passphrase: &str) -> String {
    let mut key = [0; 32];
    let rounds = NonZeroU32::MIN.saturating_add(4095);
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA1, rounds, ssid.as_bytes(), passphrase.as_bytes(), &mut key);
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The node folder's configuration, over it the one that was given, over it the name and how to join.
fn agent_toml(base: &str, given: &str, name: &str, join: [(&str, Option<String>); 2]) -> Result<String, String> {
    let parse = |text: &str, whose: &str| {
        text.parse::<toml::Table>().map_err(|error| format!("{whose}: {}", error.to_string().trim_end()))
    };
    let mut table = parse(base, "the node folder's agent.toml")?;
    if let Some(other) = table.get("node").and_then(toml::Value::as_str).filter(|other| *other != name) {
        return Err(format!("the node folder is node {other}'s, and the name is {name}"));
    }
    merge(&mut table, parse(given, "--config")?);
    table.insert("node".to_owned(), name.to_owned().into());
    for (key, value) in join.into_iter().filter_map(|(key, value)| Some((key, value?))) {
        let section = table.entry("join").or_insert_with(|| toml::Table::new().into());
        let Some(section) = section.as_table_mut() else { return Err("--config: join: expected a section".to_owned()) };
        section.insert(key.to_owned(), value.into());
    }
    let body = toml::to_string(&table).map_err(|error| error.to_string())?;
    Ok(format!("# {}.\n{body}", super::plan::MARK))
}

fn merge(into: &mut toml::Table, from: toml::Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(toml::Value::Table(old)), toml::Value::Table(new)) => merge(old, new),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}
