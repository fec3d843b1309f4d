//! Reads the peers out of the network's share: who has which part of the pod network, and where they are.
//!
//! In:       the share, the own node's name and range.
//! Out:      the peers that can be used, and of the others why not, in words.
//! Never:    decides which way leads to them (`plan.rs`).

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde_json::Value;

use super::ANNOTATION;
use super::wireguard::Identity;
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
        match text {
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
    /// Why others are left out; for people.
    pub refused: Vec<String>,
}

/// Reads the peers. Of two with overlapping ranges, or with one key, the first by name is right; nobody has a part of this node's, or its key.
#[must_use]
pub fn peers(share: &Share, node: &str, own_range: Ipv4Net) -> Peers {
    let mut read = Peers::default();
    let network = share.network.as_ref();
    let all: Option<Ipv4Net> = network.and_then(|network| network.pods.parse().ok());
    let setting = network.map_or("auto", |network| network.back_end.as_str());
    let setting = BackEnd::parse(setting).unwrap_or_else(|| {
        read.refused.push(format!("the network's back end {setting:?} is not known: it is taken for \"auto\""));
        BackEnd::Auto
    });
    let own_wish = share.peers.get(node).map_or(BackEnd::Auto, |own| wish(own));
    read.encrypted = setting == BackEnd::Wireguard || own_wish == BackEnd::Wireguard;
    let own_key = share.peers.get(node).and_then(|own| identity(own)).map(|own| own.key);
    for (name, object) in &share.peers {
        let address = internal_ip(object);
        if name == node {
            read.own = address;
            continue;
        }
        // One that has no range yet, or has not said where it is, is no fault: it joins just now.
        let (Some(range), Some(address)) = (pod_range(object), address) else { continue };
        let overlaps = |other: Ipv4Net| other.contains(&range) || range.contains(&other);
        let fault = if overlaps(own_range) {
            Some(format!("its pods' range {range} overlaps this node's own, {own_range}"))
        } else if let Some((other, _)) = read.others.iter().find(|(_, other)| overlaps(other.range)) {
            Some(format!("its pods' range {range} overlaps that of {other}"))
        } else if all.is_some_and(|all| !all.contains(&range)) {
            Some(format!("its pods' range {range} is not in the cluster's pod network"))
        } else if all.is_some_and(|all| all.contains(&address)) || !is_a_machines(address) {
            Some(format!("its address {address} cannot be a machine's"))
        } else {
            None
        };
        if let Some(fault) = fault {
            read.refused.push(format!("node {name} is left out: {fault}"));
            continue;
        }
        // Either side's word counts, and of two the later in the list, so that both take the same way.
        let back_end = match own_wish.max(wish(object)) {
            _ if setting == BackEnd::Wireguard => setting,
            BackEnd::Auto => setting,
            wish => wish,
        };
        read.encrypted |= back_end == BackEnd::Wireguard;
        let mut wireguard = identity(object);
        if let Some(Identity { key, .. }) = wireguard {
            if own_key == Some(key) || read.others.values().any(|other| other.wireguard.is_some_and(|other| other.key == key)) {
                // As on a card that was copied.
                let words = "of two nodes with one WireGuard key the second has none: remove wireguard.key from its data folder";
                read.refused.push(format!("node {name}: {words}, and start its agent again"));
                wireguard = None;
            }
        }
        read.others.insert(name.clone(), Peer { range, address, back_end, wireguard });
    }
    read
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

fn internal_ip(node: &Object) -> Option<Ipv4Addr> {
    let internal = node.list_at(&["status", "addresses"]).iter().filter(|address| address["type"] == "InternalIP");
    internal.filter_map(|address| address["address"].as_str()).find_map(|text| text.parse().ok())
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

    fn read(back_end: &str, nodes: &[(&str, &str, &str, &str)]) -> Peers {
        peers(&share(back_end, nodes), "a", "10.244.1.0/24".parse().unwrap())
    }

    #[test]
    fn a_node_is_read_with_its_range_and_address_and_the_own_one_is_no_peer() {
        let peers = read("auto", &[("a", "10.244.1.0/24", "192.168.1.1", ""), ("b", "10.244.2.0/24", "192.168.1.2", "")]);
        assert_eq!(peers.own, Some(Ipv4Addr::new(192, 168, 1, 1)));
        let b = Peer {
            range: "10.244.2.0/24".parse().unwrap(),
            address: Ipv4Addr::new(192, 168, 1, 2),
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
        assert_eq!(of("auto", "", "pigeon"), BackEnd::Auto);
        assert_eq!(of("pigeon", "", ""), BackEnd::Auto);
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
            let peers = peers(&with_keys(share("auto", &nodes), keys), "a", "10.244.1.0/24".parse().unwrap());
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
