//! The kernel's own WireGuard: what of its device has to change.
//!
//! In:       the tunnels that are wanted, the device as read, and now.
//! Out:      [`Change`]s; none when all is as it should be.
//! Never:    speaks to the kernel (`kernel/run.rs`, `kernel/netlink.rs`) or knows its bytes (`kernel/message.rs`).
//! Source:   the kernel's `drivers/net/wireguard` and `include/uapi/linux/wireguard.h`.
//!
//! ```text
//!  Wanted ─▶ kernel/run.rs ─▶ link, address, port (kernel/netlink.rs)
//!                 │  ▲
//!                 │  └─ Device, as read ◀─ kernel/message.rs ◀─ generic netlink
//!                 └─▶ Ends::changes ─▶ kernel/message.rs ─▶ generic netlink
//! ```
//!
//! The device stays when the agent ends, with its keys and its sessions: pairs go on being sealed. An agent that starts adopts it, and changes only what
//! is otherwise than wanted. It goes when nobody asks for encryption any more (`plan.rs`), and with the node.
//!
//! **Where a peer is.** The kernel follows who moves, by itself. What the share says counts for a peer that is new, when the share says another thing than
//! before, and when the peer was not heard for so long that no session is left. An agent that starts does not know what the share said before.
//!
//! **A machine that starts again** has no session, and the kernel answers nothing to data that it cannot read: the sender would notice after 15 s. So on
//! a device that was just made each peer is invited: a keepalive is switched on, which is sent at once and needs a handshake, and off again.

pub mod message;
pub mod netlink;
pub mod run;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, SocketAddrV4};
use std::time::Duration;

use ipnet::IpNet;

use super::{PublicKey, Tunnel};
use crate::clock::Wall;

/// So old a handshake may be at most while its session is good: the paper's REJECT-AFTER-TIME.
const SESSION: Duration = Duration::from_secs(180);
/// Any number of seconds would do: it is switched off at once.
const KEEPALIVE_SECONDS: u16 = 25;

/// A peer as the kernel has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Where it was heard, or was said to be.
    pub endpoint: Option<SocketAddr>,
    /// The addresses that are its.
    pub allowed: BTreeSet<IpNet>,
    /// When the last handshake with it was, by the machine's clock; `None`: none yet.
    pub handshake: Option<Wall>,
}

/// The device as the kernel has it. Its private key is not kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// The public half of its key; `None`: it has none.
    pub key: Option<PublicKey>,
    /// Its UDP port.
    pub port: u16,
    /// Its peers.
    pub peers: BTreeMap<PublicKey, Peer>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Forgets a peer.
    Remove(PublicKey),
    /// Makes a peer, or changes what is told of it.
    Set {
        /// Whose it is.
        key: PublicKey,
        /// Where it is.
        endpoint: Option<SocketAddrV4>,
        /// The addresses that are its, and no others.
        allowed: Option<Vec<IpNet>>,
    },
    /// Sends a peer an empty packet each so many seconds, the first at once; 0: none any more.
    Keepalive(PublicKey, u16),
}

/// What the share said of the peers' places.
#[derive(Debug, Default)]
pub struct Ends {
    told: BTreeMap<PublicKey, SocketAddrV4>,
}

impl Ends {
    /// From what is there to what is wanted. Peers are removed first: what is theirs may be another's by now.
    pub fn changes(&mut self, wanted: &BTreeMap<String, Tunnel>, there: &BTreeMap<PublicKey, Peer>, now: Wall) -> Vec<Change> {
        let keys: BTreeSet<PublicKey> = wanted.values().map(|tunnel| tunnel.key).collect();
        let mut changes: Vec<Change> = there.keys().filter(|key| !keys.contains(key)).copied().map(Change::Remove).collect();
        for tunnel in wanted.values() {
            let known = there.get(&tunnel.key);
            let said = self.told.insert(tunnel.key, tunnel.endpoint);
            let is_new_word = said.is_some_and(|said| said != tunnel.endpoint);
            let is_there = known.is_some_and(|peer| peer.endpoint == Some(tunnel.endpoint.into()));
            let is_heard = known.is_some_and(|peer| peer.endpoint.is_some() && is_fresh(peer.handshake, now));
            let endpoint = (!is_there && (is_new_word || !is_heard)).then_some(tunnel.endpoint);
            let ranges: BTreeSet<IpNet> = tunnel.allowed.iter().map(IpNet::trunc).collect();
            let allowed = known.is_none_or(|peer| peer.allowed != ranges).then(|| ranges.into_iter().collect());
            if endpoint.is_some() || allowed.is_some() {
                changes.push(Change::Set { key: tunnel.key, endpoint, allowed });
            }
        }
        self.told.retain(|key, _| keys.contains(key));
        changes
    }
}

/// Whether a session can be left. A clock that was set since says no, and the share's word counts.
fn is_fresh(handshake: Option<Wall>, now: Wall) -> bool {
    let age = handshake.map(|at| now.0.saturating_sub(at.0));
    age.and_then(|age| u64::try_from(age).ok()).is_some_and(|age| Duration::from_millis(age) <= SESSION)
}

/// Begins a handshake with each of these: the keepalive on, and off again, in two turns.
#[must_use]
pub fn invitations(wanted: &BTreeMap<String, Tunnel>) -> [Vec<Change>; 2] {
    [KEEPALIVE_SECONDS, 0].map(|seconds| wanted.values().map(|tunnel| Change::Keepalive(tunnel.key, seconds)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Wall = Wall(1_700_000_000_000);

    fn tunnel(key: u8, endpoint: &str, allowed: &[&str]) -> (String, Tunnel) {
        let allowed = allowed.iter().map(|range| range.parse().unwrap()).collect();
        (format!("node-{key}"), Tunnel { key: PublicKey([key; 32]), endpoint: endpoint.parse().unwrap(), allowed })
    }

    fn peer(key: u8, endpoint: &str, allowed: &[&str], age_seconds: Option<i64>) -> (PublicKey, Peer) {
        let handshake = age_seconds.map(|age| Wall(NOW.0 - age * 1000));
        let allowed = allowed.iter().map(|range| range.parse().unwrap()).collect();
        (PublicKey([key; 32]), Peer { endpoint: endpoint.parse().ok(), allowed, handshake })
    }

    fn set(key: u8, endpoint: Option<&str>, allowed: Option<&[&str]>) -> Change {
        Change::Set {
            key: PublicKey([key; 32]),
            endpoint: endpoint.map(|at| at.parse().unwrap()),
            allowed: allowed.map(|all| all.iter().map(|range| range.parse().unwrap()).collect()),
        }
    }

    const HERE: &str = "192.168.1.2:6263";
    const THERE: &str = "192.168.1.9:6263";
    const PODS: [&str; 2] = ["10.244.2.0/24", "fd12:0:0:102::/64"];

    #[test]
    fn what_an_agent_that_starts_changes_of_a_device_that_it_finds() {
        let wanted = [tunnel(2, HERE, &PODS)].into();
        type Case = (&'static str, Vec<(PublicKey, Peer)>, Vec<Change>);
        let cases: [Case; 10] = [
            ("an empty one", vec![], vec![set(2, Some(HERE), Some(&PODS))]),
            ("as it should be", vec![peer(2, HERE, &PODS, None)], vec![]),
            ("the peer was heard elsewhere", vec![peer(2, THERE, &PODS, Some(100))], vec![]),
            ("and by IPv6", vec![peer(2, "[fd00::2]:6263", &PODS, Some(100))], vec![]),
            ("heard elsewhere, long ago", vec![peer(2, THERE, &PODS, Some(181))], vec![set(2, Some(HERE), None)]),
            ("never heard", vec![peer(2, THERE, &PODS, None)], vec![set(2, Some(HERE), None)]),
            ("heard tomorrow: the clock was set", vec![peer(2, THERE, &PODS, Some(-9000))], vec![set(2, Some(HERE), None)]),
            ("nobody knows where", vec![peer(2, "", &PODS, Some(1))], vec![set(2, Some(HERE), None)]),
            ("other pods", vec![peer(2, HERE, &["10.244.7.0/24"], Some(1))], vec![set(2, None, Some(&PODS))]),
            (
                "another key: the tunnel of the old one goes first",
                vec![peer(9, HERE, &PODS, Some(1))],
                vec![Change::Remove(PublicKey([9; 32])), set(2, Some(HERE), Some(&PODS))],
            ),
        ];
        for (what, there, changes) in cases {
            assert_eq!(Ends::default().changes(&wanted, &there.into_iter().collect(), NOW), changes, "{what}");
        }
    }

    #[test]
    fn what_the_share_says_anew_counts_and_what_it_repeats_does_not() {
        let mut ends = Ends::default();
        let there = [peer(2, THERE, &PODS, Some(1))].into();
        let wanted = |endpoint| [tunnel(2, endpoint, &PODS)].into();
        assert_eq!(ends.changes(&wanted(HERE), &there, NOW), []);
        assert_eq!(ends.changes(&wanted(HERE), &there, NOW), []);
        let moved = "192.168.1.77:6263";
        assert_eq!(ends.changes(&wanted(moved), &there, NOW), [set(2, Some(moved), None)]);
        // It has moved on since, and was heard there.
        assert_eq!(ends.changes(&wanted(moved), &there, NOW), []);
        // A peer that was removed is a new one when it comes again.
        assert_eq!(ends.changes(&BTreeMap::new(), &there, NOW), [Change::Remove(PublicKey([2; 32]))]);
        assert_eq!(ends.changes(&wanted(HERE), &BTreeMap::new(), NOW), [set(2, Some(HERE), Some(&PODS))]);
    }

    #[test]
    fn two_that_change_their_pods_have_each_others_in_the_end() {
        let (one, other) = (["10.244.2.0/24"], ["10.244.3.0/24"]);
        let wanted = [tunnel(2, HERE, &other), tunnel(3, THERE, &one)].into();
        let there = [peer(2, HERE, &one, Some(1)), peer(3, THERE, &other, Some(1))].into();
        let changes = Ends::default().changes(&wanted, &there, NOW);
        assert_eq!(changes, [set(2, None, Some(&other)), set(3, None, Some(&one))]);
        assert_eq!(
            invitations(&wanted),
            [25, 0].map(|seconds| [2, 3].map(|key| Change::Keepalive(PublicKey([key; 32]), seconds)).to_vec())
        );
    }
}
