//! Reads the peers out of the network's share: who has which part of the pod network, and where they are.
//!
//! In:       the share, the own node's name and network.
//! Out:      the peers that can be used, and of the others why not, in words.
//! Never:    decides which way leads to them (`plan.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde_json::Value;

use super::ANNOTATION;
use super::wireguard::Identity;
use crate::agent::node_network::NodeNetwork;
use crate::api::Object;
use crate::api::core::node::WIREGUARD_KEY;
use crate::link::share::Share;

/// How packets go to a peer, as a person set it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum BackEnd {
    /// Plain routes on one segment, VXLAN across.
    #[default]
    Auto,
    /// Plain routes only.
    Route,
    /// VXLAN also on one segment.
    Vxlan,
    /// Encrypted, on one segment as well; without a key nothing is sent.
    Wireguard,
}

impl BackEnd {
    /// From a setting or an annotation.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        // People write WireGuard and VXLAN as they are spelt.
        match text.trim().to_ascii_lowercase().as_str() {
            "auto" | "" => Some(Self::Auto),
            "route" => Some(Self::Route),
            "vxlan" => Some(Self::Vxlan),
            "wireguard" => Some(Self::Wireguard),
            _ => None,
        }
    }
}

/// Another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its part of the pod network.
    pub range: Ipv4Net,
    /// Where it is.
    pub address: Ipv4Addr,
    /// Its part of the IPv6 pod network; `None` in a cluster of IPv4 only, and when it cannot be right.
    pub range6: Option<Ipv6Net>,
    /// Its IPv6 address, if it has one.
    pub address6: Option<Ipv6Addr>,
    /// How to get there.
    pub back_end: BackEnd,
    /// Its end of WireGuard, if it has told one.
    pub wireguard: Option<Identity>,
}

/// The nodes of the cluster, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peers {
    /// The others, by name.
    pub others: BTreeMap<String, Peer>,
    /// Where the others think that this node is.
    pub own: Option<Ipv4Addr>,
    /// Whether somebody asked for encryption that this node is in: then it needs a key.
    pub encrypted: bool,
    /// Ranges that cannot be reached as they are told, and were to be encrypted: nothing goes there in the clear either.
    pub sealed: BTreeSet<IpNet>,
    /// Why others are left out; for people.
    pub refused: Vec<String>,
}

/// Reads the peers. Of two with overlapping ranges, or with one key, the first by name is right; nobody has a part of this node's, or its key.
#[must_use]
pub fn peers(share: &Share, node: &str, own: &NodeNetwork) -> Peers {
    let mut read = Peers::default();
    let network = share.network.as_ref();
    let all: Option<Ipv4Net> = network.and_then(|network| network.pods.parse().ok());
    let all6: Option<Ipv6Net> = network.and_then(|network| network.pods6.parse().ok());
    let setting = network.map_or("auto", |network| network.back_end.as_str());
    let setting = BackEnd::parse(setting).unwrap_or_else(|| {
        read.refused.push(format!("the network's back end {setting:?} is not known: it is taken for \"auto\""));
        BackEnd::Auto
    });
    let unread = |(name, object): (&String, &Arc<Object>)| {
        let wish = object.annotation(ANNOTATION).filter(|wish| BackEnd::parse(wish).is_none())?;
        Some(format!(
            "node {name}: the annotation {ANNOTATION}={wish:?} is not known (wireguard, vxlan or route): the network's setting counts"
        ))
    };
    read.refused.extend(share.peers.iter().filter_map(unread));
    let own_wish = share.peers.get(node).map_or(BackEnd::Auto, |own| wish(own));
    read.encrypted = setting == BackEnd::Wireguard || own_wish == BackEnd::Wireguard;
    let own_key = share.peers.get(node).and_then(|own| identity(own)).map(|own| own.key);
    for (name, object) in &share.peers {
        let address: Option<Ipv4Addr> = internal_ip(object);
        if name == node {
            read.own = address;
            continue;
        }
        // One that has no range yet, or has not said where it is, is no fault: it joins just now.
        let (Some(range), Some(address)) = (pod_range(object), address) else { continue };
        let others = read.others.iter().map(|(other, peer)| (other, peer.range.into()));
        let fault = if let Some(fault) = range_fault(range.into(), own.range.into(), others, all.map(IpNet::V4)) {
            Some(fault)
        } else if all.is_some_and(|all| all.contains(&address)) || !is_a_machines(address) {
            Some(format!("its address {address} cannot be a machine's"))
        } else {
            None
        };
        // Either side's word counts, and of two the later in the list, so that both take the same way.
        let back_end = match own_wish.max(wish(object)) {
            _ if setting == BackEnd::Wireguard => setting,
            BackEnd::Auto => setting,
            wish => wish,
        };
        if let Some(fault) = fault {
            read.refused.push(format!("node {name} is left out: {fault}"));
            let apart = |other: Ipv4Net| !other.contains(&range) && !range.contains(&other);
            if back_end == BackEnd::Wireguard && apart(own.range) && read.others.values().all(|other| apart(other.range)) {
                read.sealed.insert(range.into());
            }
            continue;
        }
        let mut range6 = own.v6.and_then(|_| pod_range6(object));
        if let (Some(range), Some(own)) = (range6, own.v6) {
            let others = read.others.iter().filter_map(|(other, peer)| Some((other, peer.range6?.into())));
            if let Some(fault) = range_fault(range.into(), own.range.into(), others, all6.map(IpNet::V6)) {
                read.refused.push(format!("pods on node {name} are not reached by IPv6: {fault}"));
                range6 = None;
            }
        }
        let address6 = internal_ip6(object).filter(|address| range6.is_some() && !all6.is_some_and(|all| all.contains(address)));
        read.encrypted |= back_end == BackEnd::Wireguard;
        let mut wireguard = identity(object);
        let has = |other: &Peer| other.wireguard.map(|told| told.key) == wireguard.map(|told| told.key);
        let copied = wireguard.is_some_and(|told| own_key == Some(told.key)) || read.others.values().any(has);
        if wireguard.is_some() && copied {
            // As on a card that was copied.
            let words = "of two nodes with one WireGuard key the second has none: remove wireguard.key from its data folder";
            read.refused.push(format!("node {name}: {words}, and start its agent again"));
            wireguard = None;
        }
        read.others.insert(name.clone(), Peer { range, address, range6, address6, back_end, wireguard });
    }
    read
}

/// Why a peer's range cannot be right: it is this node's, or that of one of the others, or outside of all.
fn range_fault<'a>(
    range: IpNet,
    own: IpNet,
    mut others: impl Iterator<Item = (&'a String, IpNet)>,
    all: Option<IpNet>,
) -> Option<String> {
    let overlaps = |other: &IpNet| other.contains(&range) || range.contains(other);
    if overlaps(&own) {
        Some(format!("its pods' range {range} overlaps this node's own, {own}"))
    } else if let Some((other, _)) = others.find(|(_, other)| overlaps(other)) {
        Some(format!("its pods' range {range} overlaps that of {other}"))
    } else {
        all.is_some_and(|all| !all.contains(&range))
            .then(|| format!("its pods' range {range} is not in the cluster's pod network"))
    }
}

fn wish(node: &Object) -> BackEnd {
    node.annotation(ANNOTATION).and_then(BackEnd::parse).unwrap_or_default()
}

fn identity(node: &Object) -> Option<Identity> {
    node.annotation(WIREGUARD_KEY).and_then(Identity::parse)
}

fn pod_range(node: &Object) -> Option<Ipv4Net> {
    let listed = node.list_at(&["spec", "podCIDRs"]).iter().filter_map(Value::as_str);
    let range = listed.chain([node.str_at(&["spec", "podCIDR"])]).find_map(|text| text.parse::<Ipv4Net>().ok())?;
    // A pod range of one address or of half the world is nobody's.
    (8..=30).contains(&range.prefix_len()).then(|| range.trunc())
}

fn pod_range6(node: &Object) -> Option<Ipv6Net> {
    let mut listed = node.list_at(&["spec", "podCIDRs"]).iter().filter_map(Value::as_str);
    let range = listed.find_map(|text| text.parse::<Ipv6Net>().ok())?;
    // As above: a part of a part, and more than a few addresses.
    (16..=126).contains(&range.prefix_len()).then(|| range.trunc())
}

fn internal_ip<A: FromStr>(node: &Object) -> Option<A> {
    let internal = node.list_at(&["status", "addresses"]).iter().filter(|address| address["type"] == "InternalIP");
    internal.filter_map(|address| address["address"].as_str()).find_map(|text| text.parse().ok())
}

/// Its IPv6 address, global or unique local: one that has a meaning on one link only cannot be told to others.
fn internal_ip6(node: &Object) -> Option<Ipv6Addr> {
    internal_ip(node).filter(|address: &Ipv6Addr| {
        let special = address.is_unspecified() || address.is_loopback() || address.is_multicast();
        !special && !address.is_unicast_link_local() && address.to_ipv4_mapped().is_none()
    })
}

fn is_a_machines(address: Ipv4Addr) -> bool {
    !(address.is_unspecified() || address.is_multicast() || address.is_broadcast() || address.octets()[0] == 0)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::super::wireguard::PublicKey;
    use super::*;
    use crate::agent::node_network::NodeNetwork6;
    use crate::link::network::ClusterNetwork;

    /// A share of these nodes: name, range, address, annotation.
    pub(crate) fn share(back_end: &str, nodes: &[(&str, &str, &str, &str)]) -> Share {
        let node = |(name, range, address, annotation): &(&str, &str, &str, &str)| {
            let object = json!({
                "metadata": {"name": name, "annotations": {ANNOTATION: annotation}},
                "spec": {"podCIDRs": [range]},
                "status": {"addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": address}]},
            });
            ((*name).to_owned(), Arc::new(Object::from_value(object).unwrap()))
        };
        let network = ClusterNetwork { pods: "10.244.0.0/16".into(), back_end: back_end.into(), ..ClusterNetwork::default() };
        Share { network: Some(network), peers: nodes.iter().map(node).collect(), ..Share::default() }
    }

    /// The same of a dual-stack cluster: of some nodes the IPv6 range and address, which may be empty.
    pub(crate) fn dual(mut share: Share, nodes: &[(&str, &str, &str)]) -> Share {
        share.network.as_mut().unwrap().pods6 = "fd12:0:0:100::/56".into();
        for (name, range, address) in nodes {
            let mut object = share.peers[*name].to_value();
            let listed = object["spec"]["podCIDRs"].as_array_mut().unwrap();
            listed.push(json!(range));
            let addresses = object["status"]["addresses"].as_array_mut().unwrap();
            addresses.push(json!({"type": "InternalIP", "address": address}));
            share.peers.insert((*name).to_owned(), Arc::new(Object::from_value(object).unwrap()));
        }
        share
    }

    /// The network of node `a`: 10.244.1.0/24, and fd12:0:0:101::/64.
    pub(crate) fn own(dual: bool) -> NodeNetwork {
        let v6 = NodeNetwork6 { range: "fd12:0:0:101::/64".parse().unwrap(), gateway: "fd12:0:0:101::1".parse().unwrap() };
        NodeNetwork {
            range: "10.244.1.0/24".parse().unwrap(),
            gateway: Ipv4Addr::new(10, 244, 1, 1),
            bridge: Some("br-bramble".into()),
            v6: dual.then_some(v6),
        }
    }

    fn read(back_end: &str, nodes: &[(&str, &str, &str, &str)]) -> Peers {
        peers(&share(back_end, nodes), "a", &own(false))
    }

    #[test]
    fn a_node_is_read_with_its_range_and_address_and_the_own_one_is_no_peer() {
        let peers = read("auto", &[("a", "10.244.1.0/24", "192.168.1.1", ""), ("b", "10.244.2.0/24", "192.168.1.2", "")]);
        assert_eq!(peers.own, Some(Ipv4Addr::new(192, 168, 1, 1)));
        let b = Peer {
            range: "10.244.2.0/24".parse().unwrap(),
            address: Ipv4Addr::new(192, 168, 1, 2),
            range6: None,
            address6: None,
            back_end: BackEnd::Auto,
            wireguard: None,
        };
        assert_eq!(peers.others, BTreeMap::from([("b".to_owned(), b)]));
        assert!(peers.refused.is_empty());
    }

    #[test]
    fn a_node_that_cannot_be_right_is_left_out_in_words_and_one_that_joins_just_now_without() {
        for (range, address, words) in [
            ("10.244.1.0/25", "192.168.1.9", "overlaps this node's own"),
            ("10.244.0.0/20", "192.168.1.9", "overlaps this node's own"),
            ("10.244.2.128/25", "192.168.1.9", "overlaps that of b"),
            ("192.168.0.0/16", "192.168.1.9", "not in the cluster's pod network"),
            ("10.244.9.0/24", "224.0.0.1", "cannot be a machine's"),
            ("10.244.9.0/24", "10.244.9.1", "cannot be a machine's"),
            ("10.244.9.0/24", "0.0.0.0", "cannot be a machine's"),
            ("", "192.168.1.9", ""),
            ("10.244.9.0/24", "", ""),
            ("fd00::/64", "192.168.1.9", ""),
            ("10.244.9.1/32", "192.168.1.9", ""),
            ("nonsense", "999.1.1.1", ""),
        ] {
            let peers = read("auto", &[("b", "10.244.2.0/24", "192.168.1.2", ""), ("c", range, address, "")]);
            assert_eq!(peers.others.len(), 1, "{range} {address}");
            let told = peers.refused.join("\n");
            assert!(told.contains(words) && told.is_empty() == words.is_empty(), "{range} {address}: {told}");
        }
    }

    #[test]
    fn of_ipv6_what_cannot_be_right_is_left_out_and_ipv4_stays() {
        let nodes = [("b", "10.244.2.0/24", "192.168.1.2", ""), ("c", "10.244.3.0/24", "192.168.1.3", "")];
        let of_c = |range: &str, address: &str| {
            let share = dual(share("auto", &nodes), &[("b", "fd12:0:0:102::/64", "fd00::2"), ("c", range, address)]);
            let mut peers = peers(&share, "a", &own(true));
            let c = peers.others.remove("c").unwrap();
            (c.range6, c.address6, peers.refused.join("\n"))
        };
        let (range, address): (Ipv6Net, Ipv6Addr) = ("fd12:0:0:103::/64".parse().unwrap(), "fd00::3".parse().unwrap());
        assert_eq!(of_c("fd12:0:0:103::/64", "fd00::3"), (Some(range), Some(address), String::new()));
        for (range, words) in [
            ("", ""),
            ("fd12::/8", ""),
            ("fd12:0:0:101::/80", "by IPv6: its pods' range fd12:0:0:101::/80 overlaps this node's own"),
            ("fd12:0:0:102::/64", "overlaps that of b"),
            ("fd99:0:0:103::/64", "not in the cluster's pod network"),
        ] {
            let (range6, address6, told) = of_c(range, "fd00::3");
            assert_eq!((range6, address6), (None, None), "{range}");
            assert!(told.contains(words) && told.is_empty() == words.is_empty(), "{range}: {told}");
        }
        for address in ["", "fe80::1", "::1", "ff02::1", "::", "::ffff:192.168.1.3", "fd12:0:0:103::9"] {
            assert_eq!(of_c("fd12:0:0:103::/64", address), (Some(range), None, String::new()), "{address}");
        }
        // A node that has no IPv6 network itself looks at none.
        let share = dual(share("auto", &nodes), &[("b", "fd12:0:0:102::/64", "fd00::2")]);
        assert_eq!(peers(&share, "a", &own(false)).others["b"].range6, None);
    }

    #[test]
    fn an_annotation_on_either_node_counts_for_the_pair_and_encryption_is_never_given_up() {
        let of = |setting: &str, a: &str, b: &str| {
            let peers = read(setting, &[("a", "10.244.1.0/24", "192.168.1.1", a), ("b", "10.244.2.0/24", "192.168.1.2", b)]);
            peers.others["b"].back_end
        };
        assert_eq!(of("auto", "", ""), BackEnd::Auto);
        assert_eq!(of("route", "", "vxlan"), BackEnd::Vxlan);
        assert_eq!(of("auto", "vxlan", ""), BackEnd::Vxlan);
        assert_eq!((of("auto", "vxlan", "route"), of("auto", "route", "vxlan")), (BackEnd::Vxlan, BackEnd::Vxlan));
        assert_eq!(of("wireguard", "route", ""), BackEnd::Wireguard);
        assert_eq!((of("route", "wireguard", ""), of("auto", "vxlan", "wireguard")), (BackEnd::Wireguard, BackEnd::Wireguard));
        assert_eq!((of("auto", "", "WireGuard "), of("auto", "", "pigeon")), (BackEnd::Wireguard, BackEnd::Auto));
        let told = read("auto", &[("b", "10.244.2.0/24", "192.168.1.2", "pigeon")]).refused;
        assert!(told[0].contains("node b") && told[0].contains("\"pigeon\" is not known"), "{told:?}");
        assert_eq!(of("pigeon", "", ""), BackEnd::Auto);
    }

    #[test]
    fn a_range_that_cannot_be_right_is_sealed_where_it_was_to_be() {
        let sealed = |setting: &str, range: &str, address: &str| {
            let nodes = [("b", "10.244.2.0/24", "192.168.1.2", ""), ("c", range, address, "")];
            let sealed = read(setting, &nodes).sealed;
            sealed.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(sealed("wireguard", "10.42.3.0/24", "192.168.1.3"), "10.42.3.0/24");
        assert_eq!(sealed("wireguard", "10.244.3.0/24", "0.0.0.0"), "10.244.3.0/24");
        assert_eq!(sealed("auto", "10.42.3.0/24", "192.168.1.3"), "");
        for overlapping in ["10.244.2.128/25", "10.244.1.0/24", "10.0.0.0/8"] {
            assert_eq!(sealed("wireguard", overlapping, "192.168.1.3"), "", "{overlapping}");
        }
    }

    /// The same share, with what nodes tell of their end.
    pub(crate) fn with_keys(mut share: Share, keys: &[(&str, Identity)]) -> Share {
        for (name, identity) in keys {
            let node = Arc::make_mut(share.peers.get_mut(*name).unwrap());
            node.set_at(&["metadata", "annotations", WIREGUARD_KEY], identity.to_string());
        }
        share
    }

    #[test]
    fn keys_are_read_and_one_that_two_have_is_the_firsts() {
        let identity = |number| Identity { key: PublicKey([number; 32]), port: 6264 };
        let nodes = ["a", "b", "c", "d"].map(|name| (name, format!("10.244.{}.0/24", name.as_bytes()[0] - 96)));
        let nodes: Vec<_> = nodes.iter().map(|(name, range)| (*name, range.as_str(), "192.168.1.9", "")).collect();
        let of = |keys: &[(&str, Identity)]| {
            let peers = peers(&with_keys(share("auto", &nodes), keys), "a", &own(false));
            let keys: Vec<_> = peers.others.values().map(|peer| peer.wireguard.map(|told| told.key.0[0])).collect();
            (keys, peers.refused.join("\n"))
        };
        assert_eq!(
            of(&[("a", identity(1)), ("b", identity(2)), ("c", identity(3))]),
            (vec![Some(2), Some(3), None], String::new())
        );
        let (keys, told) = of(&[("a", identity(1)), ("b", identity(1)), ("c", identity(3)), ("d", identity(3))]);
        assert_eq!(keys, [None, Some(3), None]);
        assert!(told.contains("node b: of two nodes with one WireGuard key") && told.contains("node d"), "{told}");
    }

    #[test]
    fn who_is_in_a_pair_with_encryption_needs_a_key() {
        for (setting, a, b, needed) in [
            ("auto", "", "", false),
            ("vxlan", "route", "vxlan", false),
            ("wireguard", "", "", true),
            ("auto", "wireguard", "", true),
            ("auto", "", "wireguard", true),
        ] {
            let nodes = [("a", "10.244.1.0/24", "192.168.1.1", a), ("b", "10.244.2.0/24", "192.168.1.2", b)];
            assert_eq!(read(setting, &nodes).encrypted, needed, "{setting} {a} {b}");
            assert_eq!(read(setting, &nodes[..1]).encrypted, needed && b.is_empty(), "alone: {setting} {a}");
        }
    }
}
