//! Chooses the way to each peer's pods, and what of the kernel has to change for it.
//!
//! In:       the peers, this node's own network, the kernel as read.
//! Out:      [`Wanted`], and by [`changes`] the steps from what is there to it, in an order that leaves no packet without a way for longer than it
//!           must be.
//! Never:    touches the kernel (`netlink.rs`) or writes rules (`filter.rs`). Removes nothing but what is this agent's, or what of the cluster's
//!           VXLAN device no agent's route leads by.
//! Source:   flannel's vxlan back end for the static entries (a peer's tunnel end has the first address of its range); addresses of devices and
//!           who owns what are ours (`mod.rs`).
//!
//! IPv6 follows IPv4: where that way is plain and the peer's IPv6 address is on the same segment, IPv6 is plain as well; else it takes the tunnel, to the
//! link-local address that the peer's device has of its own. Rejected: the first address of the peer's IPv6 range as the end, as for IPv4. The kernel
//! refuses it while another route leads there by another interface, as when a pair changes from one way to the other.
//!
//! A machine with two cards on one segment: the way leads through the one with the lower number that is plugged in.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use ipnet::IpNet;

use super::peers::{BackEnd, Peer, Peers};
use super::seen::{Route, Seen, Vxlan};
use super::wireguard::{self, Tunnel};
use super::{IPV6_BYTES, Ids, Mac, PORT, VXLAN_BYTES};
use crate::agent::node_network::NodeNetwork;

/// What the kernel should have for this agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The VXLAN device and its MTU, if a peer needs it.
    pub device: Option<(Vxlan, u32)>,
    /// The device's neighbours: tunnel end, and its device.
    pub neighbours: BTreeMap<IpAddr, Mac>,
    /// Behind which machine a peer's device is.
    pub forwards: BTreeMap<Mac, Ipv4Addr>,
    /// The ways to peers' pods.
    pub ways: BTreeMap<IpNet, Way>,
    /// Who may send VXLAN to this machine: every peer elsewhere, since a peer with several addresses may see the segments otherwise than we do.
    pub senders: BTreeSet<Ipv4Addr>,
    /// Whether pods here have IPv6. If not, nothing of IPv6 is made.
    pub dual: bool,
    /// The agent's end of WireGuard, if somebody asked for encryption.
    pub wireguard: Option<wireguard::Wanted>,
    /// Peers' pods to which, and from which, nothing goes but encrypted: whether there is a tunnel or not.
    pub encrypted: BTreeSet<IpNet>,
    /// What does not go, for people.
    pub faults: Vec<String>,
}

impl Wanted {
    /// The machines that pods here reach, and are reached from, without a tunnel.
    #[must_use]
    pub fn direct(&self) -> BTreeSet<Ipv4Addr> {
        let peer = |way: &Way| match way {
            Way::Direct(IpAddr::V4(peer), _) => Some(*peer),
            Way::Direct(IpAddr::V6(_), _) | Way::Tunnel(..) | Way::Encrypted(_) => None,
        };
        self.ways.values().filter_map(peer).collect()
    }

    /// Whether IPv6 goes through the tunnel.
    #[must_use]
    pub fn tunnels_ipv6(&self) -> bool {
        self.ways.iter().any(|(to, way)| matches!((to, way), (IpNet::V6(_), Way::Tunnel(..))))
    }
}

/// A way to a peer's pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By way of the peer, through this interface.
    Direct(IpAddr, u32),
    /// By way of the tunnel's other end; the machine itself speaks from this address, so that the answer takes the same way.
    Tunnel(IpAddr, Option<IpAddr>),
    /// Through the agent's WireGuard device; the machine speaks from this address.
    Encrypted(Option<IpAddr>),
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Makes the VXLAN device with this MTU, up. What needs its number comes with the next look.
    AddDevice(Vxlan, u32),
    /// Gives a device this MTU and sets it up.
    SetDevice(u32, u32),
    /// Removes the device.
    RemoveDevice(u32),
    /// Makes a neighbour of a device, in place of another one.
    SetNeighbour(u32, IpAddr, Mac),
    /// Removes one.
    RemoveNeighbour(u32, IpAddr, Mac),
    /// Says behind which machine a peer's device is.
    SetForward(u32, Mac, Ipv4Addr),
    /// Forgets that.
    RemoveForward(u32, Mac, Ipv4Addr),
    /// Makes a route, in place of the own one to the same addresses.
    SetRoute(Route),
    /// Removes a route.
    RemoveRoute(Route),
}

/// The largest packet that pods should send, on a machine whose card takes `underlay`. Where VXLAN is only for peers across segments, packets to them
/// that are too large are answered by the node, as a router does (path MTU discovery), and TCP is told at its start (`filter.rs`).
#[must_use]
pub fn pod_mtu(underlay: u32, back_end: BackEnd) -> u32 {
    match back_end {
        BackEnd::Auto | BackEnd::Route => underlay,
        BackEnd::Vxlan => underlay.saturating_sub(VXLAN_BYTES),
        BackEnd::Wireguard => underlay.saturating_sub(wireguard::BYTES),
    }
}

/// What is wanted. A node whose bridge is not in this network namespace wants nothing.
#[must_use]
pub fn wanted(ids: &Ids, peers: &Peers, own: &NodeNetwork, seen: &Seen) -> Wanted {
    let mut wanted = Wanted { faults: peers.refused.clone(), encrypted: peers.sealed.clone(), ..Wanted::default() };
    let Some(bridge) = &own.bridge else { return wanted };
    wanted.dual = own.v6.is_some();
    let mut tunnels: Vec<(IpNet, &Peer)> = Vec::new();
    let (mut encrypted, mut neighbours) = (BTreeMap::new(), Vec::new());
    let encrypted_mtu = pod_mtu(underlay(peers.own, seen), BackEnd::Wireguard);
    for (name, peer) in &peers.others {
        // An agent on the same machine: its bridge is here, and the kernel knows the way.
        if seen.has(peer.address) {
            let bridge_is_here = seen.addresses.iter().any(|(_, own, _)| IpNet::V4(peer.range).contains(own));
            if bridge_is_here || peer.back_end != BackEnd::Wireguard {
                neighbours.push(name.as_str());
            } else {
                // Or its address is this machine's by now: either way nothing for its pods leaves in the clear.
                wanted.encrypted.extend([Some(peer.range.into()), peer.range6.map(IpNet::V6)].into_iter().flatten());
                wanted
                    .faults
                    .push(format!("pods on node {name} are not reached: it has this machine's address, and no bridge here"));
            }
            continue;
        }
        wanted.senders.insert(peer.address);
        let range6 = peer.range6.map(IpNet::V6);
        match (peer.back_end, segment(peer.address.into(), bridge, seen)) {
            (BackEnd::Auto | BackEnd::Route, Some(link)) => {
                wanted.ways.insert(peer.range.into(), Way::Direct(peer.address.into(), link));
                let near = peer.address6.map(IpAddr::V6).filter(|address| segment(*address, bridge, seen) == Some(link));
                match (range6, near) {
                    (Some(range), Some(address)) => drop(wanted.ways.insert(range, Way::Direct(address, link))),
                    (Some(range), None) if peer.back_end == BackEnd::Auto => tunnels.push((range, peer)),
                    (Some(_), None) => wanted.faults.push(format!(
                        "pods on node {name} are not reached by IPv6: it has no IPv6 address on a network of this machine, and the network's back end is \"route\""
                    )),
                    (None, _) => {}
                }
            }
            (BackEnd::Auto | BackEnd::Vxlan, _) => {
                tunnels.extend([Some(peer.range.into()), range6].into_iter().flatten().map(|range| (range, peer)));
            }
            (BackEnd::Route, None) => wanted.faults.push(format!(
                "pods on node {name} are not reached: {} is on no network of this machine, and the network's back end is \"route\"",
                peer.address
            )),
            (BackEnd::Wireguard, _) => {
                let allowed: Vec<IpNet> = [Some(peer.range.into()), range6].into_iter().flatten().collect();
                wanted.encrypted.extend(&allowed);
                let Some(end) = peer.wireguard else {
                    wanted.faults.push(format!(
                        "pods on node {name} are not reached yet: it has not told its WireGuard key, and nothing is sent unencrypted instead"
                    ));
                    continue;
                };
                let endpoint = SocketAddrV4::new(peer.address, end.port);
                let carried = allowed.iter().filter(|range| encrypted_mtu >= IPV6_BYTES || matches!(range, IpNet::V4(_)));
                wanted.ways.extend(carried.map(|range| (*range, Way::Encrypted(source(*range, own, seen)))));
                encrypted.insert(name.clone(), Tunnel { key: end.key, endpoint, allowed });
            }
        }
    }
    if !encrypted.is_empty() && !neighbours.is_empty() {
        // The kernel knows one way to a peer for all of them, and a tunnel takes its own node's pods only.
        wanted.faults.push(format!(
            "this machine has several nodes (also {}): with WireGuard the pods of one of them reach other machines",
            neighbours.join(", ")
        ));
    }
    tunnel(&mut wanted, ids, tunnels, peers, own, seen);
    if peers.encrypted {
        if wanted.dual && encrypted_mtu < IPV6_BYTES && !encrypted.is_empty() {
            wanted.faults.push(format!(
                "nodes behind WireGuard are not reached by IPv6: packets of {encrypted_mtu} bytes fit through the tunnel, and IPv6 needs {IPV6_BYTES}"
            ));
        }
        let end = wireguard::Wanted { link: ids.wireguard(), address: own.gateway, mtu: encrypted_mtu, tunnels: encrypted };
        wanted.wireguard = Some(end);
    }
    wanted
}

/// What the machine itself speaks from to these pods: the gateway of their family. The bridge may come later than the first look.
fn source(range: IpNet, own: &NodeNetwork, seen: &Seen) -> Option<IpAddr> {
    let gateway = match range {
        IpNet::V4(_) => own.gateway.into(),
        IpNet::V6(_) => own.v6?.gateway.into(),
    };
    Some(gateway).filter(|gateway| seen.has(*gateway))
}

/// What the card takes that has the machine's address.
fn underlay(own: Option<Ipv4Addr>, seen: &Seen) -> u32 {
    let mut cards = seen.addresses.iter().filter(|(_, address, _)| own.is_some_and(|own| *address == own));
    cards.find_map(|(number, _, _)| seen.links.get(number)).map_or(1500, |link| link.mtu)
}

/// The interface that the address is on the segment of.
fn segment(address: IpAddr, bridge: &str, seen: &Seen) -> Option<u32> {
    let subnets = seen.addresses.iter().filter_map(|(number, own, length)| {
        let link = seen.links.get(number)?;
        let subnet = IpNet::new(*own, *length).ok()?;
        let alone = own.is_loopback() || *length == subnet.max_prefix_len();
        let reaches = link.up && link.name != bridge && link.vxlan.is_none() && !alone;
        (reaches && subnet.contains(&address)).then_some((std::cmp::Reverse(*length), *number))
    });
    subnets.min().map(|(_, number)| number)
}

fn tunnel(wanted: &mut Wanted, ids: &Ids, mut tunnels: Vec<(IpNet, &Peer)>, peers: &Peers, own: &NodeNetwork, seen: &Seen) {
    if tunnels.is_empty() {
        return;
    }
    let present = seen.named(&ids.link());
    let (vxlan, mtu) = match (present, peers.own.filter(|address| seen.has(*address))) {
        (Some((_, link)), _) if link.vxlan.is_none() => {
            wanted.faults.push(format!("the interface {} is not ours: nodes on other networks are not reached", ids.link()));
            return;
        }
        // Another agent of this cluster on this machine has another idea of its address: it stays as it is, rather than back and forth.
        (Some((_, link)), Some(address)) if is_a_neighbours(link.vxlan.as_ref(), address, peers) => {
            (link.vxlan.clone(), link.mtu)
        }
        (_, Some(address)) => {
            let mtu = pod_mtu(underlay(Some(address), seen), BackEnd::Vxlan);
            let mac = Some(Mac::of(address));
            (Some(Vxlan { vni: ids.vni, port: PORT, local: Some(address), mac, learning: false }), mtu)
        }
        // This machine has another address since a moment, and the master says the new one soon.
        (Some((_, link)), None) => (link.vxlan.clone(), link.mtu),
        (None, None) => {
            wanted
                .faults
                .push("nodes on other networks are not reached: this machine has no address that the others know it by".into());
            return;
        }
    };
    if mtu < IPV6_BYTES && tunnels.iter().any(|(range, _)| matches!(range, IpNet::V6(_))) {
        wanted.faults.push(format!(
            "nodes on other networks are not reached by IPv6: packets of {mtu} bytes fit through the tunnel, and IPv6 needs {IPV6_BYTES}"
        ));
        tunnels.retain(|(range, _)| matches!(range, IpNet::V4(_)));
        if tunnels.is_empty() {
            return;
        }
    }
    wanted.device = vxlan.map(|vxlan| (vxlan, mtu));
    for (range, peer) in tunnels {
        let mac = Mac::of(peer.address);
        let end: IpAddr = match range {
            IpNet::V4(range) => range.network().into(),
            IpNet::V6(_) => mac.link_local().into(),
        };
        wanted.neighbours.insert(end, mac);
        wanted.forwards.insert(mac, peer.address);
        wanted.ways.insert(range, Way::Tunnel(end, source(range, own, seen)));
    }
}

/// Whether the device is as another node on this machine wants it.
fn is_a_neighbours(device: Option<&Vxlan>, own: Ipv4Addr, peers: &Peers) -> bool {
    let local = device.and_then(|device| device.local).filter(|local| *local != own);
    local.is_some_and(|local| peers.others.values().any(|peer| peer.address == local))
}

/// The steps from what is there to what is wanted. After [`Change::AddDevice`] the kernel is to be read again: the rest follows then.
#[must_use]
pub fn changes(ids: &Ids, wanted: &Wanted, seen: &Seen) -> Vec<Change> {
    let mut changes = Vec::new();
    let present = seen.named(&ids.link()).filter(|(_, link)| link.vxlan.is_some());
    let mut device = present.map(|(number, _)| number);
    match (&wanted.device, present) {
        (Some((vxlan, mtu)), Some((number, link))) if link.vxlan.as_ref() == Some(vxlan) => {
            if link.mtu != *mtu || !link.up {
                changes.push(Change::SetDevice(number, *mtu));
            }
        }
        (Some((vxlan, mtu)), other) => {
            // With it go its routes, neighbours and entries.
            changes.extend(other.map(|(number, _)| Change::RemoveDevice(number)));
            changes.push(Change::AddDevice(vxlan.clone(), *mtu));
            device = None;
        }
        (None, _) => {}
    }
    // The device is made by who has its other end (`wireguard/run.rs`), and the kernel's own is set up by it as well, on its port.
    let encrypted = wanted.wireguard.as_ref().and_then(|end| Some((end, seen.named(&end.link)?)));
    let encrypted = encrypted.filter(|(_, (_, link))| link.up || !link.wireguard);
    if let Some((end, (number, _))) = encrypted.filter(|(end, (_, link))| link.mtu != end.mtu || !link.up) {
        changes.push(Change::SetDevice(number, end.mtu));
    }
    let encrypted = encrypted.map(|(_, (number, _))| number);
    let mut routes: BTreeSet<Route> =
        wanted.ways.iter().filter_map(|(to, way)| route(ids, *to, way, device, encrypted)).collect();
    routes.extend(wanted.encrypted.iter().map(|to| unreachable(ids, *to)));
    if let Some(device) = device {
        let set = |(end, mac): (&IpAddr, &Mac)| (device, *end, *mac);
        let neighbours = wanted.neighbours.iter().map(set).filter(|one| !seen.neighbours.contains(one));
        changes.extend(neighbours.map(|(device, end, mac)| Change::SetNeighbour(device, end, mac)));
        let forwards = wanted.forwards.iter().map(|(mac, address)| (device, *mac, *address));
        let missing = forwards.filter(|one| !seen.forwards.contains(one));
        changes.extend(missing.map(|(device, mac, address)| Change::SetForward(device, mac, address)));
    }
    changes.extend(routes.difference(&seen.routes).copied().map(Change::SetRoute));
    // One that is replaced is not removed.
    let own = seen.routes.iter().filter(|route| {
        let last = route.metric == ids.last_metric() && !wanted.encrypted.contains(&route.to);
        // One in the clear does not wait for the device.
        let other = wanted.ways.get(&route.to).is_none_or(|way| matches!(way, Way::Encrypted(_)) && route.link != encrypted);
        last || (route.metric == ids.metric && other)
    });
    changes.extend(own.copied().map(Change::RemoveRoute));
    if let Some(device) = device {
        changes.extend(leftovers(ids, wanted, seen, device));
    }
    if wanted.wireguard.is_none() {
        // The kernel's own stays when an agent ends; by now nobody asks for encryption any more.
        let left = seen.named(&ids.wireguard()).filter(|(_, link)| link.wireguard);
        changes.extend(left.map(|(number, _)| Change::RemoveDevice(number)));
    }
    changes
}

/// What of the device nobody needs: no way of ours, no route of another agent.
fn leftovers(ids: &Ids, wanted: &Wanted, seen: &Seen, device: u32) -> Vec<Change> {
    let others: BTreeSet<IpAddr> = seen
        .routes
        .iter()
        .filter(|route| route.metric != ids.metric && route.link == Some(device))
        .filter_map(|route| route.via)
        .collect();
    if wanted.device.is_none() && others.is_empty() {
        return vec![Change::RemoveDevice(device)];
    }
    // One that is replaced is not removed.
    let of_device =
        seen.neighbours.iter().copied().filter(|(number, end, _)| *number == device && !wanted.neighbours.contains_key(end));
    let (kept, gone): (Vec<_>, Vec<_>) = of_device.partition(|(_, end, _)| others.contains(end));
    let kept: BTreeSet<Mac> = kept.into_iter().map(|(_, _, mac)| mac).collect();
    let forwards = seen.forwards.iter().filter(|(number, mac, address)| {
        *number == device && wanted.forwards.get(mac).map_or(!kept.contains(mac), |wanted| wanted != address)
    });
    gone.into_iter()
        .map(|(device, end, mac)| Change::RemoveNeighbour(device, end, mac))
        .chain(forwards.map(|(device, mac, address)| Change::RemoveForward(*device, *mac, *address)))
        .collect()
}

fn route(ids: &Ids, to: IpNet, way: &Way, device: Option<u32>, encrypted: Option<u32>) -> Option<Route> {
    let (via, link, source) = match *way {
        Way::Direct(peer, link) => (Some(peer), link, None),
        Way::Tunnel(end, source) => (Some(end), device?, source),
        Way::Encrypted(source) => (None, encrypted?, source),
    };
    Some(Route { to, via, link: Some(link), source, metric: ids.metric })
}

fn unreachable(ids: &Ids, to: IpNet) -> Route {
    Route { to, via: None, link: None, source: None, metric: ids.last_metric() }
}

#[cfg(test)]
#[path = "plan/tests.rs"]
mod tests;
