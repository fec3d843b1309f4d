//! The messages of the kernel's WireGuard: how a device is asked for, read and changed.
//!
//! In:       [`Change`]s, a key, a port; datagrams of the kernel.
//! Out:      bytes; a [`Device`].
//! Never:    sends (`netlink.rs`) or decides (`kernel.rs`).
//! Source:   the kernel's `linux/genetlink.h` and `linux/wireguard.h`, in the words of `netlink-packet-generic` and `netlink-packet-wireguard`.
//!
//! Nothing here is logged or has a `Debug` that is printed: a message to set the key has it, and so has the kernel's answer.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;

use defguard_boringtun::x25519::StaticSecret;
use ipnet::IpNet;
use netlink_packet_generic::ctrl::nlas::GenlCtrlAttrs;
use netlink_packet_generic::ctrl::{GenlCtrl, GenlCtrlCmd};
use netlink_packet_generic::{GenlFamily, GenlHeader, GenlMessage};
use netlink_packet_wireguard::{
    WireguardAddressFamily, WireguardAllowedIp, WireguardAllowedIpAttr, WireguardAttribute, WireguardCmd, WireguardMessage,
    WireguardPeer, WireguardPeerAttribute, WireguardPeerFlags, WireguardTimeSpec,
};
use rtnetlink::packet_core::{
    DecodeError, Emitable, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    ParseableParametrized,
};

use super::{Change, Device, Peer, PublicKey};
use crate::clock::Wall;

/// So many peers are changed by one message: a list's length has 16 bits, and a peer with two ranges takes some 150 bytes.
const PEERS: usize = 64;
/// Each question has a socket of its own.
const SEQUENCE: u32 = 1;

/// One thing that the kernel says.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer<F> {
    /// What was asked for, or a part of it.
    Part(F),
    /// There is no more; the number of an error, 0 for none.
    End(i32),
}

/// Which number the family has with this kernel.
#[must_use]
pub fn ask_family() -> Vec<u8> {
    let name = WireguardMessage::family_name().to_owned();
    let question = GenlCtrl { cmd: GenlCtrlCmd::GetFamily, nlas: vec![GenlCtrlAttrs::FamilyName(name)] };
    bytes(0, NLM_F_REQUEST | NLM_F_ACK, question)
}

/// That number, from an answer.
#[must_use]
pub fn family(answer: &GenlCtrl) -> Option<u16> {
    answer.nlas.iter().find_map(|attribute| match attribute {
        GenlCtrlAttrs::FamilyId(number) => Some(*number),
        _ => None,
    })
}

/// How a device is.
#[must_use]
pub fn ask_device(family: u16, link: u32) -> Vec<u8> {
    let attributes = vec![WireguardAttribute::IfIndex(link)];
    bytes(family, NLM_F_REQUEST | NLM_F_DUMP, WireguardMessage { cmd: WireguardCmd::GetDevice, attributes })
}

/// Sets the key, if one is given.
#[must_use]
pub fn set_key(family: u16, link: u32, key: &StaticSecret) -> Vec<u8> {
    set(family, link, WireguardAttribute::PrivateKey(key.to_bytes()))
}

/// Sets the UDP port.
#[must_use]
pub fn set_port(family: u16, link: u32, port: u16) -> Vec<u8> {
    set(family, link, WireguardAttribute::ListenPort(port))
}

/// Changes peers, by as many messages as it takes, in this order.
#[must_use]
pub fn set_peers(family: u16, link: u32, changes: &[Change]) -> Vec<Vec<u8>> {
    let message = |some: &[Change]| set(family, link, WireguardAttribute::Peers(some.iter().map(peer).collect()));
    changes.chunks(PEERS).map(message).collect()
}

fn set(family: u16, link: u32, what: WireguardAttribute) -> Vec<u8> {
    let attributes = vec![WireguardAttribute::IfIndex(link), what];
    bytes(family, NLM_F_REQUEST | NLM_F_ACK, WireguardMessage { cmd: WireguardCmd::SetDevice, attributes })
}

fn peer(change: &Change) -> WireguardPeer {
    use WireguardPeerAttribute as A;
    WireguardPeer(match change {
        Change::Remove(key) => vec![A::PublicKey(key.0), A::Flags(WireguardPeerFlags::RemoveMe)],
        Change::Keepalive(key, seconds) => {
            vec![A::PublicKey(key.0), A::Flags(WireguardPeerFlags::UpdateOnly), A::PersistentKeepalive(*seconds)]
        }
        Change::Set { key, endpoint, allowed } => {
            let mut all = vec![A::PublicKey(key.0)];
            if let Some(endpoint) = endpoint {
                all.push(A::Endpoint(SocketAddr::V4(*endpoint)));
            }
            if let Some(allowed) = allowed {
                all.push(A::Flags(WireguardPeerFlags::ReplaceAllowedIps));
                all.push(A::AllowedIps(allowed.iter().map(range).collect()));
            }
            all
        }
    })
}

fn range(range: &IpNet) -> WireguardAllowedIp {
    let family = match range {
        IpNet::V4(_) => WireguardAddressFamily::Ipv4,
        IpNet::V6(_) => WireguardAddressFamily::Ipv6,
    };
    WireguardAllowedIp(vec![
        WireguardAllowedIpAttr::Family(family),
        WireguardAllowedIpAttr::IpAddr(range.network()),
        WireguardAllowedIpAttr::Cidr(range.prefix_len()),
    ])
}

fn bytes<F: GenlFamily + Emitable + fmt::Debug>(family: u16, flags: u16, payload: F) -> Vec<u8> {
    let mut payload = GenlMessage::from_payload(payload);
    payload.set_resolved_family_id(family);
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    header.sequence_number = SEQUENCE;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(payload));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// What is in one datagram of the kernel.
///
/// # Errors
/// When it cannot be read.
pub fn answers<F>(datagram: &[u8]) -> Result<Vec<Answer<F>>, DecodeError>
where
    F: GenlFamily + Emitable + ParseableParametrized<[u8], GenlHeader> + fmt::Debug,
{
    let (mut rest, mut all) = (datagram, Vec::new());
    while !rest.is_empty() {
        let message = NetlinkMessage::<GenlMessage<F>>::deserialize(rest)?;
        // Each begins at a multiple of four. One of no length would be read for ever.
        let length = usize::try_from(message.header.length).unwrap_or(usize::MAX).next_multiple_of(4).max(4);
        rest = rest.get(length..).unwrap_or_default();
        match message.payload {
            NetlinkPayload::InnerMessage(part) => all.push(Answer::Part(part.payload)),
            NetlinkPayload::Error(error) => all.push(Answer::End(error.raw_code().saturating_neg())),
            NetlinkPayload::Done(done) => all.push(Answer::End(done.code.saturating_neg())),
            _ => {}
        }
    }
    Ok(all)
}

/// Adds what an answer says to a device. A peer with many ranges comes in several parts.
pub fn read(device: &mut Device, part: &WireguardMessage) {
    for attribute in &part.attributes {
        match attribute {
            WireguardAttribute::PublicKey(key) => device.key = Some(PublicKey(*key)),
            WireguardAttribute::ListenPort(port) => device.port = *port,
            WireguardAttribute::Peers(peers) => {
                for (key, peer) in peers.iter().filter_map(read_peer) {
                    let known = device.peers.entry(key).or_default();
                    known.endpoint = peer.endpoint.or(known.endpoint);
                    known.handshake = peer.handshake.or(known.handshake);
                    known.allowed.extend(peer.allowed);
                }
            }
            _ => {}
        }
    }
}

fn read_peer(told: &WireguardPeer) -> Option<(PublicKey, Peer)> {
    use WireguardPeerAttribute as A;
    let (mut key, mut peer) = (None, Peer::default());
    for attribute in &told.0 {
        match attribute {
            A::PublicKey(bytes) => key = Some(PublicKey(*bytes)),
            A::Endpoint(endpoint) => peer.endpoint = Some(*endpoint),
            A::LastHandshake(at) => peer.handshake = wall(at),
            A::AllowedIps(ranges) => peer.allowed = ranges.iter().filter_map(read_range).collect::<BTreeSet<_>>(),
            _ => {}
        }
    }
    Some((key?, peer))
}

fn read_range(told: &WireguardAllowedIp) -> Option<IpNet> {
    let (mut address, mut length) = (None, None);
    for attribute in &told.0 {
        match attribute {
            WireguardAllowedIpAttr::IpAddr(of) => address = Some(*of),
            WireguardAllowedIpAttr::Cidr(of) => length = Some(*of),
            _ => {}
        }
    }
    IpNet::new(address?, length?).ok()
}

/// 0 seconds after 1970 is how the kernel says "never".
fn wall(at: &WireguardTimeSpec) -> Option<Wall> {
    let milliseconds = at.seconds.saturating_mul(1000).saturating_add(at.nano_seconds / 1_000_000);
    (milliseconds != 0).then_some(Wall(milliseconds))
}

#[cfg(test)]
#[path = "message/tests.rs"]
mod tests;
