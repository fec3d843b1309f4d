//! What is to be done about the node's network in the engine.
//!
//! In:       what it is to be, and what there is under its name.
//! Out:      a [`Step`].
//! Never:    asks the engine (`runtime/docker/network.rs`).

use ipnet::Ipv4Net;

use super::PodNetwork;
use crate::agent::node_network::NodeNetwork6;

/// The node's network as the engine has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The engine's id.
    pub id: String,
    /// Its addresses.
    pub range: Option<Ipv4Net>,
    /// The node's own one.
    pub gateway: String,
    /// Its IPv6 addresses with the node's own one; `None`: there are none, or they cannot be read.
    pub v6: Option<NodeNetwork6>,
    /// The largest packet; `None`: the engine does not say.
    pub mtu: Option<u16>,
    /// Whether the engine turns round what leaves it; `None`: it does not say.
    pub masquerade: Option<bool>,
    /// Whether no container is on it.
    pub empty: bool,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is none: make it.
    Make,
    /// It is as it should be.
    Use,
    /// It is another one, and nobody is on it: make it anew.
    Replace,
    /// It is another one, and pods are on it: it is used until they are gone. Why, in words for the log; `None`: nothing that matters.
    Keep(Option<String>),
}

/// Decides. `masquerade`: whether the engine has to turn round what leaves it, because this agent cannot.
#[must_use]
pub fn next(wanted: &PodNetwork, masquerade: bool, found: Option<&Found>) -> Step {
    let Some(found) = found else { return Step::Make };
    let same4 = found.range == Some(wanted.range) && found.gateway == wanted.gateway().to_string();
    let wanted6 = wanted.v6.map(|v6| v6.own);
    let same = same4 && found.v6 == wanted6;
    let fits = found.mtu.is_none_or(|mtu| mtu == wanted.mtu) && found.masquerade.is_none_or(|does| does == masquerade);
    match (same && fits, found.empty) {
        (true, _) => Step::Use,
        (false, true) => Step::Replace,
        // Paths that carry less tell the sender; and what we say of addresses comes before what the engine says.
        (false, false) if same => Step::Keep(None),
        (false, false) if same4 => {
            let words = |own: Option<NodeNetwork6>| own.map_or_else(|| "none".to_owned(), |own| own.range.to_string());
            Step::Keep(Some(until_gone("IPv6 pod network", &words(wanted6), &words(found.v6), "nobody reaches them by IPv6")))
        }
        (false, false) => {
            let there = found.range.map_or_else(|| "none that can be read".to_owned(), |range| range.to_string());
            Step::Keep(Some(until_gone("pod network", &wanted.range.to_string(), &there, "other nodes do not reach them")))
        }
    }
}

fn until_gone(what: &str, wanted: &str, there: &str, so: &str) -> String {
    format!(
        "this node's part of the {what} is {wanted} now, and its pods are on {there}: {so}. New pods join them there until all of them are gone; to hurry, drain the node (`kubectl drain`)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::pod_network::PodNetwork6;

    #[test]
    fn a_network_that_is_another_is_made_anew_when_nobody_is_on_it() {
        let (range, pods) = ("10.244.3.0/24".parse().unwrap(), "10.244.0.0/16".parse().unwrap());
        let wanted = PodNetwork { range, pods, mtu: 1450, v6: None };
        let found = |range: &str, gateway: &str, mtu, empty| Found {
            id: "id".into(),
            range: range.parse().ok(),
            gateway: gateway.into(),
            v6: None,
            mtu,
            masquerade: Some(false),
            empty,
        };
        assert_eq!(next(&wanted, false, None), Step::Make);
        for empty in [true, false] {
            assert_eq!(next(&wanted, false, Some(&found("10.244.3.0/24", "10.244.3.1", Some(1450), empty))), Step::Use);
            assert_eq!(next(&wanted, false, Some(&found("10.244.3.0/24", "10.244.3.1", None, empty))), Step::Use);
        }
        for other in [
            found("10.244.4.0/24", "10.244.4.1", Some(1450), true),
            found("10.244.3.0/24", "10.244.3.2", Some(1450), true),
            found("10.244.3.0/24", "10.244.3.1", Some(1500), true),
            found("nonsense", "", None, true),
        ] {
            assert_eq!(next(&wanted, false, Some(&other)), Step::Replace, "{other:?}");
        }
        let unable = found("10.244.3.0/24", "10.244.3.1", None, true);
        assert_eq!(next(&wanted, true, Some(&unable)), Step::Replace);
        assert_eq!(next(&wanted, true, Some(&Found { masquerade: None, ..unable })), Step::Use);
        let Step::Keep(Some(words)) = next(&wanted, false, Some(&found("10.244.4.0/24", "10.244.4.1", None, false))) else {
            panic!()
        };
        assert!(words.contains("10.244.3.0/24 now") && words.contains("on 10.244.4.0/24"), "{words}");
        assert_eq!(next(&wanted, false, Some(&found("10.244.3.0/24", "10.244.3.1", Some(1500), false))), Step::Keep(None));
    }

    #[test]
    fn a_network_of_ipv4_only_gets_ipv6_addresses_when_nobody_is_on_it() {
        let own = NodeNetwork6::of_range("fd00:0:0:103::/64".parse().unwrap()).unwrap();
        let dual = PodNetwork {
            range: "10.244.3.0/24".parse().unwrap(),
            pods: "10.244.0.0/16".parse().unwrap(),
            mtu: 1450,
            v6: Some(PodNetwork6 { own, pods: "fd00:0:0:100::/56".parse().unwrap() }),
        };
        let found = |v6, empty| Found { range: Some(dual.range), gateway: "10.244.3.1".into(), v6, empty, ..Found::default() };
        let other = NodeNetwork6::of_range("fd00:0:0:104::/64".parse().unwrap());
        for (there, empty, step) in
            [(Some(own), false, "Use"), (Some(own), true, "Use"), (None, true, "Replace"), (other, true, "Replace")]
        {
            assert_eq!(format!("{:?}", next(&dual, false, Some(&found(there, empty)))), step, "{there:?}");
        }
        for (there, words) in [(None, "on none"), (other, "on fd00:0:0:104::/64")] {
            let Step::Keep(Some(why)) = next(&dual, false, Some(&found(there, false))) else { panic!() };
            assert!(why.contains("fd00:0:0:103::/64 now") && why.contains(words), "{why}");
        }
        assert_eq!(next(&PodNetwork { v6: None, ..dual.clone() }, false, Some(&found(Some(own), true))), Step::Replace);
    }
}
