//! One node's end of its tunnels: packets in, packets out.
//!
//! In:       packets that leave for peers' pods, datagrams from the network, which peers there are, and now.
//! Out:      [`Step`]s for a sink; when to be woken.
//! Never:    has a socket or a device (`tunnels/run.rs`), or decides who is a peer (`peers.rs`, `plan.rs`).
//! Source:   WireGuard's paper; the handshake and the ciphers are `boringtun`'s. It reads the process' monotonic clock itself, and chance; here are: who
//!           a datagram belongs to, which sources a peer may use, where a peer is by now, and when there is nothing to wake for.
//!
//! ```text
//!            packet, either way                no session and no handshake left
//!  asleep ───────────────────────▶ awake ──────────────────────────────────────▶ asleep
//!  no timer                        looked at each [`TICK`], at most [`AWAKE`] after the last packet
//! ```
//!
//! **A peer that starts again** has no session. Our data tells it nothing, but that there is somebody: it begins a handshake with whoever is known to
//! be where the data came from. By the paper alone the sender would notice after 15 s.
//!
//! **A peer whose clock went back** (a Pi has none of its own) sends handshakes older than its last one, which are no good: then we begin one, for
//! which only our clock counts.

pub mod run;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use defguard_boringtun::noise::errors::WireGuardError;
use defguard_boringtun::noise::handshake::parse_handshake_anon;
use defguard_boringtun::noise::rate_limiter::RateLimiter;
use defguard_boringtun::noise::{Packet, Tunn, TunnResult};
use defguard_boringtun::x25519::{PublicKey as X25519, StaticSecret};
use ipnet::IpNet;

use super::{PublicKey, Tunnel};
use crate::clock::Tick;

/// How often a tunnel that is awake is looked at: `boringtun`'s own.
const TICK: Duration = Duration::from_millis(250);
/// A session is good for 180 s (the paper's REJECT-AFTER-TIME); a tunnel with no packet for longer has none.
const AWAKE: Duration = Duration::from_secs(185);
/// Handshakes a second, of all peers together, before a sender must show that it is where it says (a cookie). `boringtun`'s device has 100; each
/// costs a Pi about a millisecond.
const HANDSHAKES: u64 = 100;
/// A datagram's largest size, and what is added to a packet.
const LARGEST: usize = 65_535 + 32;
/// Between two handshakes with a peer that others made us begin: the paper's REKEY-TIMEOUT.
const INVITE: Duration = Duration::from_secs(5);
/// Length of a cookie's message.
const COOKIE: usize = 64;
/// The numbers by which messages name a tunnel: 24 bits, the last 8 of 32 are the session's.
const NUMBERS: u32 = 1 << 24;

/// What is to be done with a packet.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Encrypted, to a peer.
    Send(SocketAddrV4, &'a [u8]),
    /// From a peer's pod, to the machine.
    Deliver(&'a [u8]),
}

struct Peer {
    name: String,
    told: Tunnel,
    /// Where it was heard last, or what the share says since.
    endpoint: SocketAddrV4,
    tunn: Tunn,
    /// Looked at until then, if it is awake.
    until: Tick,
    /// Not invited before then.
    invite: Tick,
}

/// All tunnels of this node.
pub struct Tunnels {
    secret: StaticSecret,
    public: X25519,
    /// Whether a handshake is looked at, whoever it is from.
    limiter: RateLimiter,
    /// The tunnels' own: those have passed already.
    passed: Arc<RateLimiter>,
    peers: BTreeMap<u32, Peer>,
    by_name: BTreeMap<String, u32>,
    by_key: BTreeMap<PublicKey, u32>,
    /// By a range's first address. Ranges have no address in common.
    by_range: BTreeMap<IpAddr, (IpNet, u32)>,
    awake: BTreeSet<u32>,
    next_look: Option<Tick>,
    next_number: u32,
    buffer: Vec<u8>,
    /// Datagrams and packets that were no good: forged, of a stranger, of a source that is not the peer's.
    refused: u64,
}

impl Tunnels {
    /// Without peers. The number is one by chance: what was meant for this node's last process fits nobody.
    #[must_use]
    pub fn new(secret: StaticSecret, number: u32) -> Self {
        let public = X25519::from(&secret);
        Self {
            limiter: RateLimiter::new(&public, HANDSHAKES),
            passed: Arc::new(RateLimiter::new(&public, u64::MAX)),
            secret,
            public,
            peers: BTreeMap::new(),
            by_name: BTreeMap::new(),
            by_key: BTreeMap::new(),
            by_range: BTreeMap::new(),
            awake: BTreeSet::new(),
            next_look: None,
            next_number: number % NUMBERS,
            buffer: vec![0; LARGEST],
            refused: 0,
        }
    }

    /// The key that peers know this node by.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.public.to_bytes())
    }

    /// What came and was no good, since the start.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Which peers there are. A tunnel whose peer stays who it is goes on.
    pub fn set(&mut self, wanted: &BTreeMap<String, Tunnel>) {
        let other = |peer: &Peer| wanted.get(&peer.name).is_none_or(|tunnel| tunnel.key != peer.told.key);
        let gone: Vec<u32> = self.peers.iter().filter(|(_, peer)| other(peer)).map(|(number, _)| *number).collect();
        for number in gone {
            self.awake.remove(&number);
            if let Some(peer) = self.peers.remove(&number) {
                self.by_name.remove(&peer.name);
                self.by_key.remove(&peer.told.key);
            }
        }
        for (name, tunnel) in wanted {
            let known = self.by_name.get(name).and_then(|number| self.peers.get_mut(number));
            if let Some(peer) = known {
                // Where it was heard counts until the share says something new.
                if peer.told.endpoint != tunnel.endpoint {
                    peer.endpoint = tunnel.endpoint;
                }
                peer.told.clone_from(tunnel);
                continue;
            }
            let number = self.free_number();
            let (secret, key) = (self.secret.clone(), X25519::from(tunnel.key.0));
            let tunn = Tunn::new(secret, key, None, None, number, Some(self.passed.clone()));
            self.by_name.insert(name.clone(), number);
            self.by_key.insert(tunnel.key, number);
            let peer = Peer {
                name: name.clone(),
                told: tunnel.clone(),
                endpoint: tunnel.endpoint,
                tunn,
                until: Tick(0),
                invite: Tick(0),
            };
            self.peers.insert(number, peer);
        }
        let ranges = self
            .peers
            .iter()
            .flat_map(|(number, peer)| peer.told.allowed.iter().map(|range| (range.network(), (*range, *number))));
        self.by_range = ranges.collect();
    }

    fn free_number(&mut self) -> u32 {
        loop {
            self.next_number = (self.next_number + 1) % NUMBERS;
            // A cluster has far fewer nodes than there are numbers.
            if !self.peers.contains_key(&self.next_number) {
                return self.next_number;
            }
        }
    }

    /// A packet for a peer's pod. One for nobody is dropped.
    pub fn outgoing(&mut self, now: Tick, packet: &[u8], sink: &mut impl FnMut(Step<'_>)) {
        let Some(number) = Tunn::dst_address(packet).and_then(|address| owner(&self.by_range, address)) else {
            self.refused += 1;
            return;
        };
        self.wake(number, now, sink);
        let Some(peer) = self.peers.get_mut(&number) else { return };
        // Without a session it waits within, and what comes out begins a handshake.
        if let TunnResult::WriteToNetwork(sealed) = peer.tunn.encapsulate(packet, &mut self.buffer) {
            sink(Step::Send(peer.endpoint, sealed));
        }
    }

    /// A datagram from the network.
    pub fn incoming(&mut self, now: Tick, from: SocketAddrV4, datagram: &[u8], sink: &mut impl FnMut(Step<'_>)) {
        // It counts by the second, and nobody else says when one is over.
        if matches!(datagram.first(), Some(1 | 2)) {
            self.limiter.reset_count();
        }
        let mut cookie = [0; COOKIE];
        let number = match self.limiter.verify_packet(Some(IpAddr::V4(*from.ip())), datagram, &mut cookie) {
            Ok(Packet::HandshakeInit(begin)) => parse_handshake_anon(&self.secret, &self.public, &begin)
                .ok()
                .and_then(|half| self.by_key.get(&PublicKey(half.peer_static_public)).copied()),
            Ok(Packet::HandshakeResponse(response)) => self.number(response.receiver_idx),
            Ok(Packet::PacketCookieReply(reply)) => self.number(reply.receiver_idx),
            // What was meant for the process before this one names a number that nobody has.
            Ok(Packet::PacketData(data)) => {
                let number = self.number(data.receiver_idx);
                if number.is_none() {
                    self.invite(now, self.at(from), sink);
                }
                number
            }
            Err(TunnResult::WriteToNetwork(reply)) => return sink(Step::Send(from, reply)),
            Err(_) => None,
        };
        let Some(number) = number else {
            self.refused += 1;
            return;
        };
        self.wake(number, now, sink);
        let Some(peer) = self.peers.get_mut(&number) else { return };
        // Only who has the key gets as far as to be heard, but for a cookie, which does not say where anybody is.
        let is_cookie = datagram.first() == Some(&3);
        match peer.tunn.decapsulate(None, datagram, &mut self.buffer) {
            TunnResult::Done if is_cookie => {}
            TunnResult::Done => peer.endpoint = from,
            // A first message can be a recorded one, sent again from anywhere: the next one says where the peer is.
            TunnResult::WriteToNetwork(answer) if datagram.first() == Some(&1) => sink(Step::Send(from, answer)),
            TunnResult::WriteToNetwork(answer) => {
                peer.endpoint = from;
                sink(Step::Send(from, answer));
                // There is a session now: what waited for it goes.
                while let TunnResult::WriteToNetwork(sealed) = peer.tunn.decapsulate(None, &[], &mut self.buffer) {
                    sink(Step::Send(from, sealed));
                }
            }
            TunnResult::WriteToTunnelV4(packet, source) => {
                peer.endpoint = from;
                self.refused += deliver(&self.by_range, number, source.into(), packet, sink);
            }
            TunnResult::WriteToTunnelV6(packet, source) => {
                peer.endpoint = from;
                self.refused += deliver(&self.by_range, number, source.into(), packet, sink);
            }
            TunnResult::Err(error) => {
                self.refused += 1;
                match error {
                    WireGuardError::WrongTai64nTimestamp => self.invite(now, Some(number), sink),
                    WireGuardError::NoCurrentSession | WireGuardError::WrongIndex => self.invite(now, self.at(from), sink),
                    _ => {}
                }
            }
        }
    }
    /// The tunnel that a message names.
    fn number(&self, receiver: u32) -> Option<u32> {
        Some(receiver >> 8).filter(|number| self.peers.contains_key(number))
    }

    /// The peer that is known to be there.
    fn at(&self, endpoint: SocketAddrV4) -> Option<u32> {
        self.peers.iter().find(|(_, peer)| peer.endpoint == endpoint).map(|(number, _)| *number)
    }

    /// Begins a handshake with a peer, unless one is under way: each [`INVITE`] at most, whoever makes us (who hears our packets can send them again).
    fn invite(&mut self, now: Tick, number: Option<u32>, sink: &mut impl FnMut(Step<'_>)) {
        let Some((number, peer)) = number.and_then(|number| Some((number, self.peers.get_mut(&number)?))) else { return };
        if now < peer.invite {
            return;
        }
        peer.invite = now.after(INVITE);
        self.wake(number, now, sink);
        let Some(peer) = self.peers.get_mut(&number) else { return };
        if let TunnResult::WriteToNetwork(begin) = peer.tunn.format_handshake_initiation(&mut self.buffer, false) {
            sink(Step::Send(peer.endpoint, begin));
        }
    }

    /// Sees to it that a tunnel is looked at. One that slept does not know how late it is, and is looked at first.
    fn wake(&mut self, number: u32, now: Tick, sink: &mut impl FnMut(Step<'_>)) {
        let Some(peer) = self.peers.get_mut(&number) else { return };
        if self.awake.insert(number)
            && let TunnResult::WriteToNetwork(sealed) = peer.tunn.update_timers(&mut self.buffer)
        {
            sink(Step::Send(peer.endpoint, sealed));
        }
        peer.until = now.after(AWAKE);
        self.next_look.get_or_insert(now.after(TICK));
    }

    /// When [`Tunnels::look`] is due; `None` while nothing goes on.
    #[must_use]
    pub fn next_wake(&self) -> Option<Tick> {
        self.next_look
    }

    /// Looks at the tunnels that are awake: handshakes that got no answer, keys that grow old, and who may sleep.
    pub fn look(&mut self, now: Tick, sink: &mut impl FnMut(Step<'_>)) {
        if self.next_look.is_none_or(|at| now < at) {
            return;
        }
        let Self { peers, awake, buffer, .. } = self;
        awake.retain(|number| {
            let Some(peer) = peers.get_mut(number) else { return false };
            match peer.tunn.update_timers(buffer) {
                TunnResult::WriteToNetwork(sealed) => {
                    sink(Step::Send(peer.endpoint, sealed));
                    peer.until = now.after(AWAKE);
                    true
                }
                // Nobody answered for 90 s, and what waited is given up. The next packet begins anew.
                TunnResult::Err(WireGuardError::ConnectionExpired) => false,
                _ => now < peer.until,
            }
        });
        self.next_look = (!self.awake.is_empty()).then(|| now.after(TICK));
    }
}

/// Whose pod has this address.
fn owner(ranges: &BTreeMap<IpAddr, (IpNet, u32)>, address: IpAddr) -> Option<u32> {
    let (_, (range, number)) = ranges.range(..=address).next_back()?;
    range.contains(&address).then_some(*number)
}

/// Delivers what a peer sent if its source is that peer's; how much was refused.
fn deliver(
    ranges: &BTreeMap<IpAddr, (IpNet, u32)>,
    number: u32,
    source: IpAddr,
    packet: &[u8],
    sink: &mut impl FnMut(Step<'_>),
) -> u64 {
    if owner(ranges, source) != Some(number) {
        return 1;
    }
    sink(Step::Deliver(packet));
    0
}

#[cfg(test)]
#[path = "tunnels/tests.rs"]
mod tests;
