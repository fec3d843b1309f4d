//! Tables: peers and a kernel, and what follows.

use super::super::peers::peers;
use super::super::peers::tests::{dual, own as own_network, share, with_keys};
use super::super::seen::Link;
use super::super::wireguard::{Identity, PublicKey};
use super::*;
use crate::link::share::Share;

const ETH0: u32 = 2;
const DEVICE: u32 = 9;
const ENCRYPTED: u32 = 10;

fn ids() -> Ids {
    Ids::new("cluster", "a")
}

fn own() -> NodeNetwork {
    own_network(false)
}

fn link(name: &str) -> Link {
    Link { name: name.into(), up: true, mtu: 1500, ..Link::default() }
}

/// This machine: 192.168.1.1/24 on its card, and its pods' bridge.
fn machine() -> Seen {
    let card = |number, address: &str, length| (number, address.parse().unwrap(), length);
    Seen {
        links: [(1, link("lo")), (ETH0, link("eth0")), (5, link("br-bramble"))].into(),
        addresses: [card(1, "127.0.0.1", 8), card(ETH0, "192.168.1.1", 24), card(5, "10.244.1.1", 24)].into(),
        ..Seen::default()
    }
}

fn with_own(back_end: &str, others: &[(&str, &str, &str, &str)]) -> Share {
    let mut nodes = vec![("a", "10.244.1.0/24", "192.168.1.1", "")];
    nodes.extend(others);
    share(back_end, &nodes)
}

fn plan(back_end: &str, others: &[(&str, &str, &str, &str)], seen: &Seen) -> Wanted {
    wanted(&ids(), &peers(&with_own(back_end, others), "a", &own()), &own(), seen)
}

const NEAR: (&str, &str, &str, &str) = ("b", "10.244.2.0/24", "192.168.1.2", "");
const FAR: (&str, &str, &str, &str) = ("c", "10.244.3.0/24", "192.168.2.3", "");

/// Carries the steps out on a kernel of words.
fn carry_out(seen: &mut Seen, changes: &[Change]) {
    for change in changes.iter().cloned() {
        match change {
            Change::AddDevice(vxlan, mtu) => {
                let device = Link { name: ids().link(), up: true, mtu, vxlan: Some(vxlan), ..Link::default() };
                assert!(seen.links.insert(DEVICE, device).is_none());
            }
            Change::SetDevice(number, mtu) => {
                let device = seen.links.get_mut(&number).unwrap();
                (device.up, device.mtu) = (true, mtu);
            }
            Change::RemoveDevice(number) => {
                seen.links.remove(&number).unwrap();
                seen.routes.retain(|route| route.link != Some(number));
                seen.neighbours.retain(|(device, _, _)| *device != number);
                seen.forwards.retain(|(device, _, _)| *device != number);
            }
            Change::SetNeighbour(device, end, mac) => {
                seen.neighbours.retain(|(_, other, _)| *other != end);
                seen.neighbours.insert((device, end, mac));
            }
            Change::RemoveNeighbour(device, end, mac) => assert!(seen.neighbours.remove(&(device, end, mac))),
            Change::SetForward(device, mac, address) => {
                seen.forwards.retain(|(_, other, _)| *other != mac);
                seen.forwards.insert((device, mac, address));
            }
            Change::RemoveForward(device, mac, address) => assert!(seen.forwards.remove(&(device, mac, address))),
            Change::SetRoute(route) => {
                seen.routes.retain(|other| (other.to, other.metric) != (route.to, route.metric));
                seen.routes.insert(route);
            }
            Change::RemoveRoute(route) => assert!(seen.routes.remove(&route)),
        }
    }
}

/// The same with a key of each peer, on a kernel that has the device or not.
fn sealed(back_end: &str, others: &[(&str, &str, &str, &str)], seen: &mut Seen) -> Wanted {
    let mut nodes = vec![("a", "10.244.1.0/24", "192.168.1.1", "")];
    nodes.extend(others);
    let keys: Vec<_> =
        others.iter().map(|(name, ..)| (*name, Identity { key: PublicKey([name.as_bytes()[0]; 32]), port: 6264 })).collect();
    let share = with_keys(share(back_end, &nodes), &keys);
    for _ in 0..4 {
        let wanted = wanted(&ids(), &peers(&share, "a", &own()), &own(), seen);
        let changes = changes(&ids(), &wanted, seen);
        if changes.is_empty() {
            return wanted;
        }
        carry_out(seen, &changes);
    }
    panic!("never settles");
}

/// The routes in words: `RANGE VIA INTERFACE METRIC`.
fn routes(seen: &Seen) -> Vec<String> {
    let word = |route: &Route| {
        let whose = if route.metric == ids().metric { "own" } else { "last" };
        format!("{} {:?} {:?} {whose}", route.to, route.via, route.link)
    };
    seen.routes.iter().map(word).collect()
}

#[test]
fn encryption_takes_the_agents_device_or_nothing_and_never_another_way() {
    let mut seen = machine();
    // A plain route is there already; the device is not.
    settle("auto", &[NEAR, FAR], &mut seen);
    let wanted = sealed("wireguard", &[NEAR, FAR], &mut seen);
    assert_eq!(routes(&seen), ["10.244.2.0/24 None None last", "10.244.3.0/24 None None last"]);
    let end = wanted.wireguard.unwrap();
    assert_eq!((end.mtu, end.address, end.tunnels.len()), (1420, own().gateway, 2));
    assert_eq!(end.tunnels["c"].endpoint, "192.168.2.3:6264".parse().unwrap());
    assert_eq!(end.tunnels["c"].allowed, ["10.244.3.0/24".parse().unwrap()]);
    assert!(!seen.links.contains_key(&DEVICE), "nobody needs VXLAN");
    // It comes, and somebody changed it.
    seen.links.insert(ENCRYPTED, Link { mtu: 1500, up: false, ..link(&ids().wireguard()) });
    sealed("wireguard", &[NEAR, FAR], &mut seen);
    let expected = [
        "10.244.2.0/24 None None last",
        "10.244.2.0/24 None Some(10) own",
        "10.244.3.0/24 None None last",
        "10.244.3.0/24 None Some(10) own",
    ];
    assert_eq!(routes(&seen), expected);
    let device = &seen.links[&ENCRYPTED];
    assert!(device.up && device.mtu == 1420);
    assert_eq!(seen.routes.iter().find(|route| route.link == Some(ENCRYPTED)).unwrap().source, Some(own().gateway.into()));
    // One of two.
    sealed("auto", &[("b", "10.244.2.0/24", "192.168.1.2", "wireguard"), FAR], &mut seen);
    let expected =
        ["10.244.2.0/24 None None last", "10.244.2.0/24 None Some(10) own", "10.244.3.0/24 Some(10.244.3.0) Some(9) own"];
    assert_eq!(routes(&seen), expected);
    // The agent's device goes with it, and the kernel takes the routes along.
    seen.links.remove(&ENCRYPTED);
    seen.routes.retain(|route| route.link != Some(ENCRYPTED));
    let gone = changes(&ids(), &Wanted::default(), &seen);
    carry_out(&mut seen, &gone);
    assert!(seen.routes.is_empty(), "{:?}", seen.routes);
}

#[test]
fn the_kernels_own_device_is_set_up_by_who_makes_it_and_goes_when_nobody_asks_for_encryption() {
    let mut seen = machine();
    let own = Link { wireguard: true, up: false, mtu: 1420, ..link(&ids().wireguard()) };
    seen.links.insert(ENCRYPTED, own.clone());
    sealed("wireguard", &[NEAR], &mut seen);
    assert_eq!(routes(&seen), ["10.244.2.0/24 None None last"], "no port yet: no way through it");
    assert!(!seen.links[&ENCRYPTED].up);
    seen.links.insert(ENCRYPTED, Link { up: true, mtu: 1400, ..own });
    sealed("wireguard", &[NEAR], &mut seen);
    assert_eq!(routes(&seen), ["10.244.2.0/24 None None last", "10.244.2.0/24 None Some(10) own"]);
    assert_eq!(seen.links[&ENCRYPTED].mtu, 1420);
    // One of another agent, and one that a person made, stay.
    let other = Link { wireguard: true, ..link("bwg-ffffffff") };
    seen.links.extend([(11, other), (12, Link { wireguard: true, ..link("wg0") })]);
    sealed("route", &[NEAR], &mut seen);
    assert_eq!(routes(&seen), ["10.244.2.0/24 Some(192.168.1.2) Some(2) own"]);
    assert_eq!(seen.links.keys().copied().collect::<Vec<_>>(), [1, ETH0, 5, 11, 12]);
    // Uninstalled.
    seen.links.insert(ENCRYPTED, Link { wireguard: true, ..link(&ids().wireguard()) });
    let gone = changes(&ids(), &Wanted::default(), &seen);
    carry_out(&mut seen, &gone);
    assert!(!seen.links.contains_key(&ENCRYPTED) && seen.routes.is_empty(), "{seen:?}");
}

#[test]
fn of_ipv6_nothing_goes_in_the_clear_either_with_a_key_or_without() {
    let mut seen = machine();
    seen.links.insert(ENCRYPTED, Link { mtu: 1420, ..link(&ids().wireguard()) });
    let share =
        dual(with_own("wireguard", &[NEAR, FAR]), &[("b", "fd12:0:0:102::/64", "fd00::2"), ("c", "fd12:0:0:103::/64", "")]);
    let share = with_keys(share, &[("c", Identity { key: PublicKey([3; 32]), port: 6263 })]);
    let wanted = settle_as(&share, &own_network(true), &mut seen);
    let expected = [
        "10.244.2.0/24 None None last",
        "10.244.3.0/24 None None last",
        "10.244.3.0/24 None Some(10) own",
        "fd12:0:0:102::/64 None None last",
        "fd12:0:0:103::/64 None None last",
        "fd12:0:0:103::/64 None Some(10) own",
    ];
    assert_eq!(routes(&seen), expected);
    let allowed = &wanted.wireguard.unwrap().tunnels["c"].allowed;
    assert_eq!(*allowed, ["10.244.3.0/24".parse().unwrap(), "fd12:0:0:103::/64".parse::<IpNet>().unwrap()]);
}

#[test]
fn a_peer_with_this_machines_address_is_a_neighbour_only_where_its_bridge_is() {
    let mut seen = machine();
    seen.links.insert(ENCRYPTED, Link { mtu: 1420, ..link(&ids().wireguard()) });
    let twin = ("b", "10.244.2.0/24", "192.168.1.1", "");
    let wanted = sealed("wireguard", &[twin], &mut seen);
    assert_eq!((routes(&seen), wanted.ways.len()), (vec!["10.244.2.0/24 None None last".to_owned()], 0), "nothing in the clear");
    assert!(wanted.faults[0].contains("has this machine's address"), "{:?}", wanted.faults);
    seen.addresses.insert((ETH0, Ipv4Addr::new(10, 244, 2, 1).into(), 24));
    assert!(sealed("wireguard", &[twin], &mut seen).faults.is_empty());
    assert!(seen.routes.is_empty(), "the kernel knows the way");
}

#[test]
fn a_card_of_small_packets_seals_ipv6_and_carries_ipv4() {
    let mut seen = machine();
    seen.links.get_mut(&ETH0).unwrap().mtu = 1300;
    seen.links.insert(ENCRYPTED, Link { mtu: 1220, ..link(&ids().wireguard()) });
    let share = dual(with_own("wireguard", &[FAR]), &[("c", "fd12:0:0:103::/64", "")]);
    let share = with_keys(share, &[("c", Identity { key: PublicKey([3; 32]), port: 6263 })]);
    let wanted = settle_as(&share, &own_network(true), &mut seen);
    let expected = ["10.244.3.0/24 None None last", "10.244.3.0/24 None Some(10) own", "fd12:0:0:103::/64 None None last"];
    assert_eq!(routes(&seen), expected);
    assert!(wanted.faults[0].contains("1220 bytes"), "{:?}", wanted.faults);
}

#[test]
fn a_peer_without_a_key_is_reached_by_nobody_and_the_others_are() {
    let mut seen = machine();
    seen.links.insert(ENCRYPTED, Link { mtu: 1420, ..link(&ids().wireguard()) });
    let mut nodes = vec![("a", "10.244.1.0/24", "192.168.1.1", "")];
    nodes.extend([NEAR, FAR]);
    let keyed = with_keys(share("wireguard", &nodes), &[("c", Identity { key: PublicKey([3; 32]), port: 6263 })]);
    let wanted = wanted(&ids(), &peers(&keyed, "a", &own()), &own(), &seen);
    assert_eq!(wanted.encrypted.len(), 2);
    assert_eq!(wanted.wireguard.as_ref().unwrap().tunnels.keys().collect::<Vec<_>>(), ["c"]);
    assert!(wanted.faults[0].contains("node b") && wanted.faults[0].contains("key"), "{:?}", wanted.faults);
    assert_eq!(wanted.ways.len(), 1);
}

fn settle(back_end: &str, others: &[(&str, &str, &str, &str)], seen: &mut Seen) -> Wanted {
    settle_as(&with_own(back_end, others), &own(), seen)
}

/// Looks and acts until nothing is left to do.
fn settle_as(share: &Share, own: &NodeNetwork, seen: &mut Seen) -> Wanted {
    for _ in 0..4 {
        let wanted = wanted(&ids(), &peers(share, "a", own), own, seen);
        let changes = changes(&ids(), &wanted, seen);
        if changes.is_empty() {
            return wanted;
        }
        carry_out(seen, &changes);
    }
    panic!("never settles");
}

#[test]
fn a_peer_on_the_segment_has_a_plain_route_and_one_elsewhere_the_tunnel() {
    let mut seen = machine();
    let wanted = settle("auto", &[NEAR, FAR], &mut seen);
    assert_eq!(wanted.faults, Vec::<String>::new());
    let routes: Vec<String> = seen
        .routes
        .iter()
        .map(|route| format!("{} {} {} {:?}", route.to, route.via.unwrap(), route.link.unwrap(), route.source))
        .collect();
    assert_eq!(routes, ["10.244.2.0/24 192.168.1.2 2 None", "10.244.3.0/24 10.244.3.0 9 Some(10.244.1.1)"]);
    let mac = Mac::of(Ipv4Addr::new(192, 168, 2, 3));
    assert_eq!(seen.neighbours, [(DEVICE, Ipv4Addr::new(10, 244, 3, 0).into(), mac)].into());
    assert_eq!(seen.forwards, [(DEVICE, mac, Ipv4Addr::new(192, 168, 2, 3))].into());
    let device = &seen.links[&DEVICE];
    assert_eq!((device.mtu, device.vxlan.as_ref().unwrap().local), (1450, Some(Ipv4Addr::new(192, 168, 1, 1))));
    // Both may send: the near one might see it otherwise.
    assert_eq!(wanted.senders.len(), 2);
}

#[test]
fn settings_and_annotations_choose_and_what_cannot_be_is_said() {
    let near = plan("vxlan", &[NEAR], &machine());
    assert!(matches!(near.ways.values().next(), Some(Way::Tunnel(..))), "{near:?}");
    let near = plan("auto", &[("b", "10.244.2.0/24", "192.168.1.2", "vxlan")], &machine());
    assert!(matches!(near.ways.values().next(), Some(Way::Tunnel(..))), "{near:?}");
    let far = plan("route", &[FAR], &machine());
    assert!(far.ways.is_empty() && far.device.is_none() && far.faults[0].contains("on no network of this machine"), "{far:?}");
    let secret = plan("wireguard", &[NEAR], &machine());
    assert!(secret.ways.is_empty() && secret.faults[0].contains("unencrypted") && secret.wireguard.is_some(), "{secret:?}");
    let mut nobody = own();
    nobody.bridge = None;
    let read = peers(&share("auto", &[NEAR]), "a", &nobody);
    assert_eq!(wanted(&ids(), &read, &nobody, &machine()), Wanted::default());
}

#[test]
fn a_peer_on_the_same_machine_needs_nothing() {
    let wanted = plan("vxlan", &[("b", "10.244.2.0/24", "192.168.1.1", "")], &machine());
    assert_eq!(wanted, Wanted::default());
}

#[test]
fn peers_that_leave_take_what_was_theirs_with_them_and_the_last_one_the_device() {
    let mut seen = machine();
    settle("auto", &[NEAR, FAR, ("d", "10.244.4.0/24", "192.168.2.4", "")], &mut seen);
    settle("auto", &[FAR], &mut seen);
    assert_eq!((seen.routes.len(), seen.neighbours.len(), seen.forwards.len()), (1, 1, 1));
    settle("auto", &[], &mut seen);
    assert_eq!(seen, machine());
}

#[test]
fn a_peer_with_a_new_address_or_range_is_followed() {
    let mut seen = machine();
    settle("auto", &[FAR], &mut seen);
    settle("auto", &[("c", "10.244.3.0/24", "192.168.2.77", "")], &mut seen);
    let mac = Mac::of(Ipv4Addr::new(192, 168, 2, 77));
    assert_eq!(seen.neighbours, [(DEVICE, Ipv4Addr::new(10, 244, 3, 0).into(), mac)].into());
    assert_eq!(seen.forwards, [(DEVICE, mac, Ipv4Addr::new(192, 168, 2, 77))].into());
    // It moves onto our segment.
    settle("auto", &[("c", "10.244.3.0/24", "192.168.1.77", "")], &mut seen);
    assert_eq!(seen.routes.iter().next().unwrap().via, Some(Ipv4Addr::new(192, 168, 1, 77).into()));
    assert!(!seen.links.contains_key(&DEVICE) && seen.neighbours.is_empty());
}

#[test]
fn an_own_new_address_remakes_the_device_once_the_others_know_it() {
    let mut seen = machine();
    settle("auto", &[FAR], &mut seen);
    let before = seen.links[&DEVICE].clone();
    seen.addresses.retain(|(number, _, _)| *number != ETH0);
    seen.addresses.insert((ETH0, Ipv4Addr::new(192, 168, 1, 50).into(), 24));
    settle("auto", &[FAR], &mut seen);
    assert_eq!(seen.links[&DEVICE], before, "the others still send to the old one");
    let nodes = [("a", "10.244.1.0/24", "192.168.1.50", ""), FAR];
    let read = peers(&share("auto", &nodes), "a", &own());
    let changes = changes(&ids(), &wanted(&ids(), &read, &own(), &seen), &seen);
    assert!(matches!(changes[..2], [Change::RemoveDevice(DEVICE), Change::AddDevice(..)]), "{changes:?}");
}

#[test]
fn what_others_have_stays() {
    let mut seen = machine();
    settle("auto", &[FAR], &mut seen);
    // Another agent's route leads by the device, and a third one's nowhere near it.
    let mut other = *seen.routes.iter().next().unwrap();
    other.metric += 1;
    seen.routes.insert(other);
    let stranger = Route { link: Some(ETH0), metric: 7, ..other };
    seen.routes.insert(stranger);
    settle("auto", &[], &mut seen);
    assert_eq!(seen.routes, [other, stranger].into());
    assert_eq!((seen.neighbours.len(), seen.forwards.len()), (1, 1));
    assert!(seen.links.contains_key(&DEVICE));
    seen.routes.remove(&other);
    settle("auto", &[], &mut seen);
    assert!(!seen.links.contains_key(&DEVICE));
    // Of our name and not ours.
    seen.links.insert(DEVICE, link(&ids().link()));
    let wanted = settle("auto", &[FAR], &mut seen);
    assert!(wanted.faults[0].contains("is not ours"), "{:?}", wanted.faults);
}

#[test]
fn what_was_done_away_with_behind_our_back_comes_again() {
    let mut seen = machine();
    settle("auto", &[NEAR, FAR], &mut seen);
    let whole = seen.clone();
    seen.routes.clear();
    seen.neighbours.clear();
    seen.forwards.clear();
    let device = seen.links.get_mut(&DEVICE).unwrap();
    (device.up, device.mtu) = (false, 1400);
    settle("auto", &[NEAR, FAR], &mut seen);
    assert_eq!(seen, whole);
}

#[test]
fn of_two_cards_on_one_segment_the_one_that_is_plugged_in_is_taken() {
    let mut seen = machine();
    seen.links.insert(3, link("wlan0"));
    seen.addresses.insert((3, Ipv4Addr::new(192, 168, 1, 100).into(), 24));
    settle("auto", &[NEAR], &mut seen);
    assert_eq!(seen.routes.iter().next().unwrap().link, Some(ETH0));
    seen.links.get_mut(&ETH0).unwrap().up = false;
    settle("auto", &[NEAR], &mut seen);
    assert_eq!(seen.routes.iter().next().unwrap().link, Some(3));
    assert_eq!(seen.routes.len(), 1);
}

/// The same machine in a dual-stack cluster: `fd00::1/64` on its card.
fn dual_machine() -> Seen {
    let mut seen = machine();
    let card = |number, address: &str| (number, address.parse().unwrap(), 64);
    seen.addresses.extend([card(ETH0, "fd00::1"), card(ETH0, "fe80::1"), card(5, "fd12:0:0:101::1")]);
    seen
}

/// Two nodes on the segment, of which `b` has an IPv6 address there, and one elsewhere.
fn dual_share(back_end: &str) -> Share {
    let share = with_own(back_end, &[NEAR, FAR, ("d", "10.244.4.0/24", "192.168.1.4", "")]);
    dual(share, &[("b", "fd12:0:0:102::/64", "fd00::2"), ("c", "fd12:0:0:103::/64", "fd00::3"), ("d", "fd12:0:0:104::/64", "")])
}

fn ways_of(seen: &Seen) -> Vec<String> {
    let of_ipv6 = seen.routes.iter().filter(|route| matches!(route.to, IpNet::V6(_)));
    let words = |route: &Route| format!("{} {} {} {:?}", route.to, route.via.unwrap(), route.link.unwrap(), route.source);
    of_ipv6.map(words).collect()
}

#[test]
fn ipv6_takes_a_plain_route_to_an_address_on_the_segment_and_else_the_tunnel() {
    let mut seen = dual_machine();
    let wanted = settle_as(&dual_share("auto"), &own_network(true), &mut seen);
    assert_eq!(wanted.faults, Vec::<String>::new());
    // That of c looks as if it were on the segment. Where its IPv4 is not, it is another network with the same numbers.
    let (c, d) = (Mac::of(Ipv4Addr::new(192, 168, 2, 3)), Mac::of(Ipv4Addr::new(192, 168, 1, 4)));
    let source = "Some(fd12:0:0:101::1)";
    assert_eq!(
        ways_of(&seen),
        [
            "fd12:0:0:102::/64 fd00::2 2 None".to_owned(),
            format!("fd12:0:0:103::/64 {} 9 {source}", c.link_local()),
            format!("fd12:0:0:104::/64 {} 9 {source}", d.link_local()),
        ]
    );
    let ends: BTreeSet<(IpAddr, Mac)> = seen.neighbours.iter().map(|(_, end, mac)| (*end, *mac)).collect();
    let end4 = Ipv4Addr::new(10, 244, 3, 0);
    assert_eq!(ends, [(end4.into(), c), (c.link_local().into(), c), (d.link_local().into(), d)].into());
    assert_eq!(seen.forwards.len(), 2);
    // The near ones have plain IPv4 routes both, and a node without IPv6 of its own leaves all of it as it is.
    assert_eq!(wanted.direct().len(), 2);
    // The bridge's own address is not to be had yet: its ways have no source until then.
    seen.addresses.retain(|(number, address, _)| *number != 5 || address.is_ipv4());
    settle_as(&dual_share("auto"), &own_network(true), &mut seen);
    assert!(ways_of(&seen)[2].ends_with("9 None"), "{:?}", ways_of(&seen));
    seen.addresses = dual_machine().addresses;
    // It gets no IPv6 address there any more.
    let moved = dual(with_own("auto", &[NEAR]), &[("b", "fd12:0:0:102::/64", "")]);
    settle_as(&moved, &own_network(true), &mut seen);
    let b = Mac::of(Ipv4Addr::new(192, 168, 1, 2)).link_local();
    assert_eq!(ways_of(&seen), [format!("fd12:0:0:102::/64 {b} 9 {source}")]);
    assert_eq!((seen.neighbours.len(), seen.forwards.len()), (1, 1));
    settle_as(&with_own("auto", &[]), &own_network(true), &mut seen);
    assert_eq!(seen, dual_machine());
}

#[test]
fn ipv6_follows_the_setting_and_what_cannot_be_is_said() {
    let mut seen = dual_machine();
    settle_as(&dual_share("vxlan"), &own_network(true), &mut seen);
    assert!(seen.routes.len() == 6 && seen.routes.iter().all(|route| route.link == Some(DEVICE)), "{:?}", seen.routes);
    let mut seen = dual_machine();
    let wanted = settle_as(&dual_share("route"), &own_network(true), &mut seen);
    assert_eq!(ways_of(&seen), ["fd12:0:0:102::/64 fd00::2 2 None"]);
    assert!(wanted.faults.len() == 2 && wanted.faults[1].contains("node d are not reached by IPv6"), "{:?}", wanted.faults);
    // A card that takes little: no IPv6 fits through the tunnel, and IPv4 does.
    let mut seen = dual_machine();
    seen.links.get_mut(&ETH0).unwrap().mtu = 1320;
    let wanted = settle_as(&dual_share("auto"), &own_network(true), &mut seen);
    assert!(wanted.faults[0].contains("1270 bytes") && !wanted.tunnels_ipv6(), "{:?}", wanted.faults);
    assert_eq!(seen.routes.len(), 4);
    // A node without an IPv6 network of its own.
    let mut seen = dual_machine();
    settle_as(&dual_share("auto"), &own(), &mut seen);
    assert_eq!(ways_of(&seen), Vec::<String>::new());
}

#[test]
fn pods_send_what_fits() {
    assert_eq!(pod_mtu(1500, BackEnd::Auto), 1500);
    assert_eq!(pod_mtu(1500, BackEnd::Vxlan), 1450);
    assert_eq!(pod_mtu(1400, BackEnd::Wireguard), 1320);
}
