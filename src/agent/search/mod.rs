//! Which of the masters that answer by mDNS is meant.
//!
//! ```text
//!  no join.master   ─▶ run.rs: find   ─▶ join/run.rs asks that one
//!  a node whose link is down for long ─▶ run.rs: follow ─▶ link/mqtt.rs goes to where it is now
//! ```
//! In:       announcements as they arrive, from anybody; what is known of the one that is wanted.
//! Out:      the one that is meant, with its addresses; or that there is none, or more than one.
//! Never:    chooses between two clusters, and never trusts: an announcement is copied by whoever likes to. TLS decides.

pub mod run;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use crate::agent::join::Master;
use crate::mdns::Announcement;

/// Clusters that are told apart; a house has one or two.
const MOST_MASTERS: usize = 16;
/// Addresses of one.
const MOST_ADDRESSES: usize = 16;

/// What is known of the one that is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// How its CA's fingerprint begins: a token's pin, or all of it.
    pub ca: Option<String>,
    /// Its cluster's uid.
    pub uid: Option<String>,
}

impl Wanted {
    fn fits(&self, master: &Announcement) -> bool {
        self.ca.as_ref().is_none_or(|ca| master.ca.starts_with(ca.as_str()))
            && self.uid.as_ref().is_none_or(|uid| *uid == master.uid)
    }
}

/// What came of a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody who could be meant; so many others answered.
    Nobody {
        /// How many clusters.
        others: usize,
    },
    /// This one, at these addresses.
    One {
        /// What it says of itself.
        announcement: Announcement,
        /// Where it may be; one of them is.
        at: Vec<Master>,
    },
    /// More than one cluster: a person says which.
    Several(Vec<String>),
}

/// Where one of them may be.
type Places = BTreeSet<(Ipv4Addr, u16)>;

/// Gathers what answers.
#[derive(Debug)]
pub struct Hunt {
    wanted: Wanted,
    found: BTreeMap<(String, String), (Announcement, Places)>,
    others: BTreeSet<(String, String)>,
}

impl Hunt {
    /// For this one.
    #[must_use]
    pub fn new(wanted: Wanted) -> Self {
        Self { wanted, found: BTreeMap::new(), others: BTreeSet::new() }
    }

    /// Takes in what somebody at `from` says.
    pub fn take(&mut self, master: Announcement, from: Ipv4Addr) {
        let who = (master.ca.clone(), master.uid.clone());
        if !self.wanted.fits(&master) {
            if self.others.len() < MOST_MASTERS {
                self.others.insert(who);
            }
            return;
        }
        if self.found.len() == MOST_MASTERS && !self.found.contains_key(&who) {
            return;
        }
        let place = (from, master.port);
        let (_, places) = self.found.entry(who).or_insert_with(|| (master, BTreeSet::new()));
        if places.len() < MOST_ADDRESSES {
            places.insert(place);
        }
    }

    /// Who is meant.
    #[must_use]
    pub fn verdict(self) -> Verdict {
        let named = self.wanted.ca.is_some();
        let master = |&(address, port): &(Ipv4Addr, u16)| Master { host: address.to_string(), port };
        if !named && self.found.len() > 1 {
            return Verdict::Several(self.found.values().map(|(one, places)| words(one, places.first().map(master))).collect());
        }
        // All with the CA that is wanted: whoever only says so fails the handshake, and the next one is asked.
        let at = self.found.values().flat_map(|(_, places)| places).take(MOST_ADDRESSES).map(master).collect();
        match self.found.into_values().next() {
            Some((announcement, _)) => Verdict::One { announcement, at },
            None => Verdict::Nobody { others: self.others.len() },
        }
    }
}

fn words(one: &Announcement, at: Option<Master>) -> String {
    let at = at.map(|at| at.to_string()).unwrap_or_default();
    let ca: String = one.ca.chars().take(16).collect();
    format!("{at} (cluster {}, CA {ca}…)", one.cluster)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn master(uid: &str, ca: char) -> Announcement {
        let ca = ca.to_string().repeat(64);
        Announcement { uid: uid.into(), cluster: "bramble".into(), version: "0.1.0".into(), port: 6443, ca }
    }

    fn at(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 0, last)
    }

    fn verdict(ca: Option<&str>, uid: Option<&str>, heard: &[(&str, char, u8)]) -> Verdict {
        let mut hunt = Hunt::new(Wanted { ca: ca.map(str::to_owned), uid: uid.map(str::to_owned) });
        for &(uid, ca, last) in heard {
            hunt.take(master(uid, ca), at(last));
        }
        hunt.verdict()
    }

    fn urls(verdict: Verdict) -> Vec<String> {
        match verdict {
            Verdict::One { at, .. } => at.iter().map(ToString::to_string).collect(),
            Verdict::Several(words) => words,
            Verdict::Nobody { others } => vec![format!("nobody, {others} others")],
        }
    }

    #[test]
    fn one_is_meant_by_being_alone_or_by_its_ca() {
        let both = [("u1", 'a', 1), ("u2", 'b', 2), ("u1", 'a', 1), ("u1", 'a', 3)];
        let pin = |ca: char| ca.to_string().repeat(32);
        assert_eq!(urls(verdict(None, None, &both[..1])), ["https://10.0.0.1:6443"]);
        assert_eq!(urls(verdict(Some(&pin('b')), None, &both)), ["https://10.0.0.2:6443"]);
        assert_eq!(urls(verdict(Some(&pin('a')), None, &both)), ["https://10.0.0.1:6443", "https://10.0.0.3:6443"]);
        assert_eq!(urls(verdict(Some(&pin('c')), None, &both)), ["nobody, 2 others"]);
        assert_eq!(urls(verdict(Some(&pin('a')), Some("u2"), &both)), ["nobody, 2 others"]);
        assert_eq!(urls(verdict(None, None, &[])), ["nobody, 0 others"]);
    }

    #[test]
    fn between_two_clusters_nothing_is_chosen() {
        let told = urls(verdict(None, None, &[("u1", 'a', 1), ("u2", 'b', 2)]));
        assert_eq!(
            told,
            [
                "https://10.0.0.1:6443 (cluster bramble, CA aaaaaaaaaaaaaaaa…)",
                "https://10.0.0.2:6443 (cluster bramble, CA bbbbbbbbbbbbbbbb…)"
            ]
        );
    }

    #[test]
    fn who_copies_the_fingerprint_is_one_address_more_and_not_a_second_cluster() {
        let told = urls(verdict(Some(&"a".repeat(64)), None, &[("u1", 'a', 9), ("fake", 'a', 2)]));
        assert_eq!(told.len(), 2, "{told:?}");
    }

    #[test]
    fn thousands_of_them_are_a_few() {
        let mut hunt = Hunt::new(Wanted::default());
        let mut other = Hunt::new(Wanted { ca: Some("f".repeat(64)), uid: None });
        for number in 0..5_000_u16 {
            for hunt in [&mut hunt, &mut other] {
                hunt.take(master(&format!("u{number}"), 'a'), Ipv4Addr::from(u32::from(number)));
                hunt.take(master("u1", 'a'), Ipv4Addr::from(u32::from(number)));
            }
        }
        // The right one comes last.
        other.take(master("mine", 'f'), at(1));
        assert!(hunt.found.len() <= MOST_MASTERS && hunt.found.values().all(|(_, places)| places.len() <= MOST_ADDRESSES));
        assert_eq!(urls(other.verdict()), ["https://10.0.0.1:6443"]);
        assert_eq!(urls(hunt.verdict()).len(), MOST_MASTERS);
    }
}
