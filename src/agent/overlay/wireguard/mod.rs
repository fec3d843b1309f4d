//! WireGuard between nodes: what leaves for a peer's pods is encrypted, and what comes from them was sent by that peer. The kernel does it where it can,
//! else the agent itself, in user space; the one at one end does not know which is at the other.
//!
//! ```text
//!  plan.rs ─▶ Wanted ─▶ run.rs: key (disk.rs), then one of
//!              kernel.rs: the kernel's device `bwg-…`, told over netlink
//!              tunnels.rs: a TUN device `bwg-…` and a UDP socket of the agent's
//!
//!  pods ─▶ route ─▶ device ─▶ UDP ─▶ the peer's ─▶ its device ─▶ its pods
//!
//!  own key and port ─▶ Info ─▶ the Node's annotation ─▶ network's share ─▶ the peers
//! ```
//!
//! One tunnel a peer; which one a packet takes follows from its destination, and what comes out of one must bear a source of that peer's pods.
//! Nothing is configured but by the share: who is where, and with which key.
//!
//! The device and the port are this agent's own: several agents of a machine have ports that follow each other, each tells its own.
//!
//! The kernel's device stays when the agent ends, and goes on. Rejected: the same of user space (packets into it would wait for a process that may never
//! come; without it the kernel says at once that nothing is reached); ranges of all agents of a machine behind one key (a node could say that it is on
//! another's machine, and send as that one).

pub mod disk;
pub mod kernel;
pub mod run;
pub mod tunnels;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ipnet::IpNet;

/// The UDP port between nodes, beside VXLAN's. Not 51820, which a person's own WireGuard has.
pub const PORT: u16 = 6263;
/// So many ports from [`PORT`] on are tried: for more agents on one machine.
pub const PORTS: u16 = 16;
/// What names of our devices begin with; behind it stand the agent's eight digits.
pub const LINK_PREFIX: &str = "bwg-";
/// What WireGuard adds to a packet: 60 bytes over IPv4. 80 over IPv6 is what all WireGuards of the world leave free, and so do we.
pub const BYTES: u32 = 80;

/// Who does it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The kernel, if it has WireGuard; else the agent.
    #[default]
    Auto,
    /// The kernel, or nobody.
    Kernel,
    /// The agent, in user space.
    User,
}

impl Choice {
    /// From a setting.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "auto" => Some(Self::Auto),
            "kernel" => Some(Self::Kernel),
            "user" => Some(Self::User),
            _ => None,
        }
    }
}

/// The public half of a node's key (X25519).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PublicKey(pub [u8; 32]);

impl fmt::Display for PublicKey {
    /// Base64, as `wg` shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a node tells of its end: `KEY`, or `KEY:PORT` where the port is not the usual one. At most 50 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its key.
    pub key: PublicKey,
    /// Its UDP port.
    pub port: u16,
}

impl Identity {
    /// From the annotation; `None` when it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (key, port) = match text.split_once(':') {
            Some((key, port)) => (key, port.parse().ok().filter(|port| *port > 0)?),
            None => (text, PORT),
        };
        let key = BASE64.decode(key).ok()?.try_into().ok()?;
        Some(Self { key: PublicKey(key), port })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            PORT => write!(f, "{}", self.key),
            port => write!(f, "{}:{port}", self.key),
        }
    }
}

/// The tunnel to one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// Whose it is.
    pub key: PublicKey,
    /// Where the share says that it is. It may move before the share knows.
    pub endpoint: SocketAddrV4,
    /// The addresses of its pods: what goes there takes the tunnel, and nothing else comes out of it. No two peers have one in common.
    pub allowed: Vec<IpNet>,
}

/// What this agent's end should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The device's name.
    pub link: String,
    /// The device's own address, the gateway's: so what the node itself sends, or masquerades, bears it.
    pub address: Ipv4Addr,
    /// The largest packet into the tunnel.
    pub mtu: u32,
    /// By the peer's name.
    pub tunnels: BTreeMap<String, Tunnel>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_read_as_it_was_told_and_nothing_else_is_one() {
        for port in [PORT, 7000] {
            let told = Identity { key: PublicKey([7; 32]), port };
            assert_eq!(Identity::parse(&told.to_string()), Some(told));
        }
        assert!(Identity { key: PublicKey([255; 32]), port: 65535 }.to_string().len() <= 50);
        let key = PublicKey([7; 32]).to_string();
        for text in
            ["", "key", "AAAA", &key[..40], &format!("{key}:"), &format!("{key}:0"), &format!("{key}:70000"), &format!("{key}x")]
        {
            assert_eq!(Identity::parse(text), None, "{text}");
        }
    }
}
