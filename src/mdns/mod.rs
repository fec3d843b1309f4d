//! Finding a master in the local network: DNS-SD over multicast DNS (RFC 6762 and 6763), IPv4.
//!
//! ```text
//!  agent                                                  master (udp.rs: serve)
//!    │ from each address of its own, an unused port          │ bound to 224.0.0.251:5353
//!    ├── PTR? _bramble._tcp.local ── multicast ─────────────▶│
//!    │◀─ PTR, SRV, TXT (id, version, api, ca, cluster), A ───┤ to the asker alone
//! ```
//! Nodes answer for names of services in the same way (`hosts.rs`, `agent/mdns`): what is answered is a [`Voice`].
//!
//! Nothing that is read here is believed: it says whom to ask, and TLS decides whom to trust. A responder keeps nothing of what it hears
//! and answers at most [`Answers::A_SECOND`] questions a second; an asker listens for two seconds, to at most `udp::MOST_PACKETS`.

pub mod hosts;
pub mod interfaces;
pub mod packet;
pub mod udp;

use std::net::Ipv4Addr;

use crate::clock::Tick;

/// The kind of service.
pub const SERVICE: &str = "_bramble._tcp.local";

/// What a master says of itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Announcement {
    /// `id`: the cluster's uid.
    pub uid: String,
    /// `cluster`: its name in topics, for people.
    pub cluster: String,
    /// `version`: of the master.
    pub version: String,
    /// `api`, and the port of the SRV record.
    pub port: u16,
    /// `ca`: the SHA-256 of the CA's key, 64 hex digits (`tls::pin`).
    pub ca: String,
}

impl Announcement {
    /// Whether each part is of the form that ours have. What is not is no announcement: it may end in a log or in a terminal.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let hex = |text: &str| text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let version = |text: &str| {
            (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'+'))
        };
        let label = !self.cluster.is_empty() && self.cluster.len() <= 63 && is_plain(&self.cluster);
        host_name(&self.uid).is_some() && label && version(&self.version) && self.port > 0 && hex(&self.ca)
    }
}

/// What is answered. Pure: the sockets are `udp.rs`'s.
pub trait Voice: Clone + Send + Sync {
    /// What of a packet is asked.
    type Asked: Send;
    /// What does not work while the sockets are refused.
    const CANNOT: &'static str;

    /// Whether nothing can be asked: then nothing listens.
    fn is_silent(&self) -> bool {
        false
    }
    /// What of a packet is asked of this one.
    fn asked(&self, packet: &[u8]) -> Option<Self::Asked>;
    /// The answer of one who is reached at `address`.
    fn answer(&self, asked: &Self::Asked, address: Ipv4Addr, to: packet::Asker) -> Option<Vec<u8>>;
    /// What is said unasked where `before` was known; `None`: nothing was.
    fn unasked(&self, _before: Option<&Self>) -> Vec<Vec<u8>> {
        Vec::new()
    }
    /// The name for which somebody else says something else.
    fn contradicted(&self, _packet: &[u8], _from: Ipv4Addr) -> Option<String> {
        None
    }
}

impl Voice for Announcement {
    type Asked = packet::Asked;
    const CANNOT: &'static str =
        "cannot announce itself by mDNS; nodes need join.master to find this master, and it is tried again";

    fn asked(&self, packet: &[u8]) -> Option<packet::Asked> {
        packet::asked(packet, self)
    }

    fn answer(&self, asked: &packet::Asked, address: Ipv4Addr, to: packet::Asker) -> Option<Vec<u8>> {
        packet::answer(asked, self, address, to)
    }
}

fn is_plain(text: &str) -> bool {
    let plain = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    plain && !text.starts_with('-') && !text.ends_with('-')
}

/// The name of a cluster's master in the local network. Its certificate bears it, so that a node knows it at any address. `None` for a
/// uid that cannot stand in a name.
#[must_use]
pub fn host_name(uid: &str) -> Option<String> {
    // With `bramble-` before it, it is a label.
    ((1..=55).contains(&uid.len()) && is_plain(uid)).then(|| format!("bramble-{uid}.local"))
}

/// How many questions are answered: a flood of them must not become a flood of answers.
#[derive(Debug, Default)]
pub struct Answers {
    given: u32,
    since: Tick,
}

impl Answers {
    /// So many a second; fifty nodes that start at once ask again a second later.
    pub const A_SECOND: u32 = 50;

    /// Whether one more is answered now.
    pub fn one_more(&mut self, now: Tick) -> bool {
        if now.since(self.since) >= std::time::Duration::from_secs(1) {
            *self = Self { given: 0, since: now };
        }
        self.given = self.given.saturating_add(1);
        self.given <= Self::A_SECOND
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_becomes_a_name_or_does_not() {
        assert_eq!(host_name("0b3c-1").as_deref(), Some("bramble-0b3c-1.local"));
        for uid in ["", "a b", "a.b", "-a", "A", &"a".repeat(56)] {
            assert_eq!(host_name(uid), None, "{uid}");
        }
    }

    #[test]
    fn what_is_not_of_our_form_is_no_announcement() {
        let good = Announcement {
            uid: "u-1".into(),
            cluster: "bramble".into(),
            version: "0.1.0".into(),
            port: 6443,
            ca: "0123456789abcdef".repeat(4),
        };
        assert!(good.is_sound());
        let spoilt: [fn(&mut Announcement); 6] = [
            |one| one.uid = "u\n1".into(),
            |one| one.cluster = "\u{1b}[31m".into(),
            |one| one.version = "1".repeat(33),
            |one| one.port = 0,
            |one| one.ca = "xyz".into(),
            |one| one.cluster = String::new(),
        ];
        for (number, spoil) in spoilt.iter().enumerate() {
            let mut bad = good.clone();
            spoil(&mut bad);
            assert!(!bad.is_sound(), "{number}");
        }
    }

    #[test]
    fn a_flood_of_questions_is_no_flood_of_answers() {
        let mut answers = Answers::default();
        let given = |tick, answers: &mut Answers| (0..1000).filter(|_| answers.one_more(Tick(tick))).count();
        assert_eq!(given(5_000, &mut answers), 50);
        assert_eq!(given(5_999, &mut answers), 0);
        assert_eq!(given(6_000, &mut answers), 50);
    }
}
