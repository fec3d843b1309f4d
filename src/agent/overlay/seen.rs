//! The kernel's network as it was read: words between the hand and the decider.
//!
//! Never:    reads it (`netlink.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::Mac;

/// An interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Whether it is up.
    pub up: bool,
    /// The largest packet that it takes.
    pub mtu: u32,
    /// What it is, if it is VXLAN.
    pub vxlan: Option<Vxlan>,
    /// Whether the kernel's own WireGuard is behind it.
    pub wireguard: bool,
}

/// A VXLAN device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vxlan {
    /// Its network.
    pub vni: u32,
    /// The UDP port.
    pub port: u16,
    /// Whence it sends.
    pub local: Option<Ipv4Addr>,
    /// Its own address.
    pub mac: Option<Mac>,
    /// Whether it believes what strangers send about who is where.
    pub learning: bool,
}

/// A route that bears our protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// Where to.
    pub to: IpNet,
    /// By way of whom.
    pub via: Option<IpAddr>,
    /// Through which interface. Without one, and by way of nobody, it says "unreachable".
    pub link: Option<u32>,
    /// The address that the machine itself speaks from.
    pub source: Option<IpAddr>,
    /// Whose it is.
    pub metric: u32,
}

/// What of the kernel concerns the overlay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// By number.
    pub links: BTreeMap<u32, Link>,
    /// Addresses of the machine, each with its interface and subnet; of IPv6 those that may be spoken from by now.
    pub addresses: BTreeSet<(u32, IpAddr, u8)>,
    /// All routes of [`super::PROTOCOL`], other agents' too.
    pub routes: BTreeSet<Route>,
    /// Static neighbours on VXLAN devices: interface, address, and the peer's device.
    pub neighbours: BTreeSet<(u32, IpAddr, Mac)>,
    /// On VXLAN devices: behind which machine a peer's device is.
    pub forwards: BTreeSet<(u32, Mac, Ipv4Addr)>,
}

impl Seen {
    /// The interface with this name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<(u32, &Link)> {
        self.links.iter().find(|(_, link)| link.name == name).map(|(number, link)| (*number, link))
    }

    /// Whether the machine has this address.
    #[must_use]
    pub fn has(&self, address: impl Into<IpAddr>) -> bool {
        let address = address.into();
        self.addresses.iter().any(|(_, own, _)| *own == address)
    }
}
