//! How a node becomes one: from a key of its own to a certificate of the cluster, by itself or with a person's yes.
//!
//! ```text
//!  join.json? ─ yes, of this board ──────────────────────────────────────────▶ the node runs (run.rs)
//!      │  of another board: a copied card; all of it is set aside
//!      ▼
//!  key (made here, stays here) ─▶ the master (join.master, or by mDNS) ─▶ cluster-info: its CA fits the token's pin?
//!      ─▶ ask (with the token, or without) ─▶ wait for yes ─▶ certificate, name, cluster ─▶ join.json ─▶ the node runs
//! ```
//! Deciders: [`fate`], `progress.rs`. Hands: `disk.rs`, `http.rs`, `run.rs`.

pub mod disk;
pub mod http;
pub mod progress;
pub mod run;

use std::path::PathBuf;

use crate::api::core::join::{Joined, Token};
use crate::config::BrokerUrl;

/// `[join]`: how a node that has no cluster yet gets into one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// `join.master`: where the API is; without it the master is looked for by mDNS.
    pub master: Option<Master>,
    /// `join.token`.
    pub token: Option<Token>,
    /// `join.identity_root`: below which folder the board's serial number and the machine's id are looked for.
    pub identity_root: PathBuf,
    /// `mqtt.broker`, where it was given: it wins over what the master says.
    pub broker: Option<BrokerUrl>,
    /// `mdns.look`: whether a master that is not where it was is looked for.
    pub look: bool,
}

/// Where a master's API is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Master {
    /// A name or an address, IPv6 without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl std::fmt::Display for Master {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "https://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "https://{}:{}", self.host, self.port)
        }
    }
}

impl Master {
    /// What is expected, for error messages.
    pub const EXPECTED: &'static str = "the master's API, like \"https://192.168.1.5:6443\"";

    /// Reads `https://host:port`; 6443 when no port is given.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("https://")?.trim_end_matches('/');
        let (host, port) = match rest.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']')?;
                (host, port.strip_prefix(':').or_else(|| port.is_empty().then_some(""))?)
            }
            None => rest.split_once(':').unwrap_or((rest, "")),
        };
        let port = if port.is_empty() { 6443 } else { port.parse().ok().filter(|&port: &u16| port > 0)? };
        let plain = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'_'));
        plain.then(|| Self { host: host.to_owned(), port })
    }
}

/// What becomes of an identity that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is this board's.
    Keep,
    /// It was made for a card and not yet for a board: this one has it from now on.
    Bind,
    /// It is another board's: this card was copied.
    SetAside,
    /// There is none.
    Join,
}

/// What becomes of what is kept, on the board with this serial number.
#[must_use]
pub fn fate(kept: Option<&Joined>, serial: &str) -> Fate {
    match kept {
        None => Fate::Join,
        Some(kept) if kept.serial == serial => Fate::Keep,
        Some(kept) if kept.serial.is_empty() => Fate::Bind,
        Some(_) => Fate::SetAside,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copied_card_is_told_from_the_one_it_was_copied_from() {
        let kept = |serial: &str| Some(Joined { serial: serial.into(), ..Joined::default() });
        for (kept, serial, expected) in [
            (None, "a", Fate::Join),
            (kept("a"), "a", Fate::Keep),
            (kept(""), "a", Fate::Bind),
            (kept("a"), "b", Fate::SetAside),
            (kept("a"), "", Fate::SetAside),
        ] {
            assert_eq!(fate(kept.as_ref(), serial), expected, "{kept:?} {serial}");
        }
    }

    #[test]
    fn a_master_is_an_address_with_https() {
        for (text, expected) in [
            ("https://pi:7443", Some("https://pi:7443")),
            ("https://pi.local", Some("https://pi.local:6443")),
            ("https://[fd00::1]:1/", Some("https://[fd00::1]:1")),
            ("https://[fd00::1]", Some("https://[fd00::1]:6443")),
            ("http://pi", None),
            ("pi:6443", None),
            ("https://", None),
            ("https://pi:0", None),
            ("https://p i", None),
        ] {
            assert_eq!(Master::parse(text).map(|master| master.to_string()).as_deref(), expected, "{text}");
        }
    }
}
