//! What the policies of the cluster come to for the pods of this node.
//!
//! In:       resolved policies, the node's range, the node's own pods as far as their addresses are known here.
//! Out:      [`Rules`] of one family of addresses: by direction, which addresses are isolated, and what is allowed to each.
//! Never:    words them for the kernel (`nft.rs`).
//! Source:   Kubernetes' documentation of `NetworkPolicy`: policies add up; a pod that one selects is isolated in that direction.
//! Flow:     from `dispatcher/policy.rs` by way of the network's share, on to `nft.rs`.
//!
//! The node knows its own pods sooner than the master, and while the master is away: so a pod that is selected by a policy is isolated as
//! soon as its address is known here, and one that is known here not to be selected is not, whoever had its address before.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::Value;

use crate::agent::node_network::NodeNetwork;
use crate::api::Object;
use crate::api::selector::Selector;
use crate::link::policy::{PortRange, ResolvedPolicy, Rule};
use crate::link::ranges::{Address, Ranges};
use crate::link::share::Share;

/// More addresses than any node has pods; what is beyond is not looked at.
const MOST_PODS: usize = 1 << 16;

/// A pod of this node whose address is known here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalPod {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
}

impl LocalPod {
    /// Of a pod's object.
    #[must_use]
    pub fn of(pod: &Object) -> Self {
        let labels = pod.labels().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        Self { namespace: pod.namespace().to_owned(), labels }
    }
}

/// The node's own pods, by address.
pub type LocalPods<A = Ipv4Addr> = BTreeMap<A, LocalPod>;

/// The same pods by their addresses of IPv6, which have the same numbers in the node's range as those of IPv4.
#[must_use]
pub fn in_ipv6(local: &LocalPods, own: &NodeNetwork) -> LocalPods<Ipv6Addr> {
    let Some(v6) = own.v6 else { return LocalPods::new() };
    let here = local.iter().filter(|(address, _)| own.range.contains(*address));
    here.filter_map(|(address, pod)| Some((v6.of_pod(own.range, *address)?, pod.clone()))).collect()
}

/// What applies to the pods of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules<A = Ipv4Addr> {
    /// To what reaches them.
    pub ingress: Isolation<A>,
    /// To what they reach.
    pub egress: Isolation<A>,
}

impl<A> Rules<A> {
    /// Whether everything is allowed to everyone.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ingress.pods.is_empty() && self.egress.pods.is_empty()
    }
}

/// One direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Isolation<A = Ipv4Addr> {
    /// The isolated pods, with the place of what is allowed to them in `profiles`.
    pub pods: BTreeMap<A, usize>,
    /// What is allowed: one for all pods with the same policies.
    pub profiles: Vec<Profile<A>>,
}

impl<A> Default for Isolation<A> {
    fn default() -> Self {
        Self { pods: BTreeMap::new(), profiles: Vec::new() }
    }
}

/// By the ports that are connected to (`None`: everything) who may (`None`: everybody).
pub type Profile<A = Ipv4Addr> = BTreeMap<Option<BTreeSet<PortRange>>, Option<Ranges<A>>>;

/// A policy, and whose pods it is about.
#[derive(Clone, Debug)]
pub struct Policy {
    namespace: String,
    /// `None`: it was not told; then the master's word of its pods is all there is.
    selector: Option<Selector>,
    resolved: ResolvedPolicy,
}

/// The policies of a share, and the names of those that cannot be read.
#[must_use]
pub fn read(share: &Share) -> (Vec<Policy>, Vec<String>) {
    let (mut policies, mut unreadable) = (Vec::new(), Vec::new());
    for (place, object) in &share.policies {
        let read = || {
            let resolved: ResolvedPolicy = serde_json::from_value(object.to_value()).ok()?;
            let selector = match &resolved.selector {
                Value::Null => None,
                selector => Some(Selector::from_object(selector).ok()?),
            };
            Some(Policy { namespace: place.split_once('/')?.0.to_owned(), selector, resolved })
        };
        match read() {
            Some(policy) => policies.push(policy),
            None => unreadable.push(place.clone()),
        }
    }
    (policies, unreadable)
}

/// What applies to the pods of the node that has this range, in the range's family.
#[must_use]
pub fn rules_of<A: Address>(policies: &[Policy], range: A::Net, local: &LocalPods<A>) -> Rules<A> {
    let (mut ingress, mut egress) = (Directed::default(), Directed::default());
    let range = Ranges::<A>::net(range);
    for policy in policies {
        let pods: Vec<A> = policy.pods(&range, local);
        let directions = [(&mut ingress, &policy.resolved.ingress), (&mut egress, &policy.resolved.egress)];
        for (direction, rules) in directions.into_iter().filter_map(|(direction, rules)| Some((direction, rules.as_ref()?))) {
            for pod in &pods {
                direction.isolate(*pod, rules);
            }
        }
    }
    Rules { ingress: ingress.shared(), egress: egress.shared() }
}

impl Policy {
    /// The pods of this node that it selects.
    fn pods<A: Address>(&self, range: &Ranges<A>, local: &LocalPods<A>) -> Vec<A> {
        let told = self.resolved.pods_of::<A>().and(range);
        let told: Vec<A> = told.addresses().take(MOST_PODS).collect();
        let Some(selector) = &self.selector else { return told };
        let selects =
            |pod: &LocalPod| pod.namespace == self.namespace && selector.matches(|key| pod.labels.get(key).map(String::as_str));
        let own = local.iter().filter(|(_, pod)| selects(pod)).map(|(address, _)| *address);
        let told = told.into_iter().filter(|address| !local.contains_key(address));
        told.chain(own).collect()
    }
}

/// What is allowed to each isolated pod.
struct Directed<A>(BTreeMap<A, Profile<A>>);

impl<A> Default for Directed<A> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<A: Address> Directed<A> {
    fn isolate(&mut self, pod: A, rules: &[Rule]) {
        let profile = self.0.entry(pod).or_default();
        for rule in rules.iter().filter(|rule| rule.pods_of::<A>().is_none_or(|pods| pods.contains(pod))) {
            let peers = rule.peers_of::<A>();
            let nobody = peers.is_some_and(Ranges::is_empty) || rule.ports.as_ref().is_some_and(BTreeSet::is_empty);
            if !nobody {
                let who = profile.entry(rule.ports.clone()).or_insert_with(|| Some(Ranges::default()));
                *who = who.take().zip(peers.cloned()).map(|(known, more)| known.or(more)).filter(|who| !who.is_all());
            }
        }
    }

    /// Equal profiles made one; a pod to which everything is allowed is not isolated at all.
    fn shared(self) -> Isolation<A> {
        let mut places: BTreeMap<Profile<A>, usize> = BTreeMap::new();
        let mut isolation = Isolation::default();
        for (pod, profile) in self.0 {
            if profile.get(&None) == Some(&None) {
                continue;
            }
            let place = *places.entry(profile).or_insert_with_key(|profile| {
                isolation.profiles.push(profile.clone());
                isolation.profiles.len() - 1
            });
            isolation.pods.insert(pod, place);
        }
        isolation
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::node_network::NodeNetwork6;
    use serde_json::json;
    use std::sync::Arc;

    fn share(policies: &[(&str, Value)]) -> Share {
        let object = |value: &Value| Arc::new(Object::from_value(value.clone()).unwrap());
        Share {
            policies: policies.iter().map(|(place, value)| ((*place).to_owned(), object(value))).collect(),
            ..Share::default()
        }
    }

    fn rules(policies: &[(&str, Value)], local: &[(&str, &str, &str)]) -> Rules {
        let (policies, unreadable) = read(&share(policies));
        assert!(unreadable.is_empty(), "{unreadable:?}");
        let local = local.iter().map(|(address, namespace, app)| {
            let labels = [("app".to_owned(), (*app).to_owned())].into();
            (address.parse().unwrap(), LocalPod { namespace: (*namespace).to_owned(), labels })
        });
        rules_of(&policies, "10.244.1.0/24".parse().unwrap(), &local.collect())
    }

    /// Each isolated pod with what is allowed to it, in words.
    fn told<A: Address>(isolation: &Isolation<A>) -> Vec<String> {
        let words = |profile: &Profile<A>| {
            let allowed = profile.iter().map(|(ports, who)| {
                let ports = ports
                    .as_ref()
                    .map_or("all".to_owned(), |ports| ports.iter().map(ToString::to_string).collect::<Vec<_>>().join("+"));
                let who = who.as_ref().map_or("everybody".to_owned(), |who| who.texts().collect::<Vec<_>>().join("+"));
                format!("{ports} from {who}")
            });
            allowed.collect::<Vec<_>>().join(", ")
        };
        isolation.pods.iter().map(|(pod, place)| format!("{pod}: {}", words(&isolation.profiles[*place]))).collect()
    }

    #[test]
    fn only_pods_of_the_own_range_are_isolated_and_each_direction_by_itself() {
        let policy = json!({"pods": ["10.244.0.9", "10.244.1.5-10.244.1.6", "10.244.2.1"], "ingress": []});
        let rules = rules(&[("a/p", policy)], &[]);
        assert_eq!(told(&rules.ingress), ["10.244.1.5: ", "10.244.1.6: "]);
        assert_eq!((rules.ingress.profiles.len(), &rules.egress), (1, &Isolation::default()));
    }

    #[test]
    fn policies_add_up() {
        let pods = json!(["10.244.1.5"]);
        for (what, one, two, allowed) in [
            ("nothing and something", json!([]), json!([{"peers": ["10.0.0.1"]}]), Some("all from 10.0.0.1")),
            (
                "the same ports",
                json!([{"peers": ["10.0.0.1"], "ports": ["tcp/80"]}]),
                json!([{"peers": ["10.0.0.2"], "ports": ["tcp/80"]}]),
                Some("tcp/80 from 10.0.0.1-10.0.0.2"),
            ),
            (
                "everybody wins",
                json!([{"peers": ["10.0.0.1"], "ports": ["tcp/80"]}]),
                json!([{"ports": ["tcp/80"]}]),
                Some("tcp/80 from everybody"),
            ),
            (
                "whatever the order",
                json!([{"ports": ["tcp/80"]}]),
                json!([{"peers": ["10.0.0.1"], "ports": ["tcp/80"]}]),
                Some("tcp/80 from everybody"),
            ),
            (
                "other ports",
                json!([{"peers": ["10.0.0.1"]}]),
                json!([{"ports": ["udp", "tcp/80"]}]),
                Some("all from 10.0.0.1, tcp/80+udp from everybody"),
            ),
            ("all is no isolation", json!([{"peers": ["10.0.0.1"]}]), json!([{}]), None),
            (
                "two halves are all",
                json!([{"peers": ["0.0.0.0-127.255.255.255"]}]),
                json!([{"peers": ["128.0.0.0-255.255.255.255"]}]),
                None,
            ),
            ("peers or ports that are none", json!([{"peers": []}]), json!([{"ports": []}]), Some("")),
        ] {
            let policies = [("a/one", json!({"pods": pods, "egress": one})), ("a/two", json!({"pods": pods, "egress": two}))];
            let wanted: Vec<String> = allowed.iter().map(|allowed| format!("10.244.1.5: {allowed}")).collect();
            assert_eq!(told(&rules(&policies, &[]).egress), wanted, "{what}");
        }
    }

    #[test]
    fn a_rule_for_some_pods_is_theirs_only() {
        let policy = json!({"pods": ["10.244.1.5-10.244.1.7"], "ingress": [{"ports": ["tcp/443"]}, {"pods": ["10.244.1.6"], "ports": ["tcp/80"]}]});
        let rules = rules(&[("a/p", policy)], &[]);
        assert_eq!(rules.ingress.profiles.len(), 2);
        assert_eq!(
            told(&rules.ingress),
            [
                "10.244.1.5: tcp/443 from everybody",
                "10.244.1.6: tcp/80 from everybody, tcp/443 from everybody",
                "10.244.1.7: tcp/443 from everybody"
            ]
        );
    }

    #[test]
    fn the_nodes_own_word_of_its_pods_comes_first() {
        let policy = json!({"selector": {"matchLabels": {"app": "db"}}, "pods": ["10.244.1.5-10.244.1.6"], "ingress": []});
        let local = [("10.244.1.6", "a", "web"), ("10.244.1.7", "a", "db"), ("10.244.1.8", "b", "db")];
        let rules = rules(&[("a/p", policy.clone())], &local);
        assert_eq!(
            told(&rules.ingress),
            ["10.244.1.5: ", "10.244.1.7: "],
            "6 has another pod now, 7 is new, 8 is of another namespace"
        );
    }

    #[test]
    fn in_ipv6_a_pod_has_the_same_number_and_rules_of_its_own() {
        let policy = json!({"selector": {"matchLabels": {"app": "db"}}, "pods": ["10.244.1.5"], "pods6": ["fd00:0:0:1::5"], "ingress": [
            {"peers": ["10.244.0.1"], "ports": ["tcp/80"]},
            {"pods": ["10.244.1.5"], "pods6": ["fd00:0:0:1::5"], "peers": ["10.244.0.2"], "peers6": ["fd00::2"], "ports": ["tcp/81"]},
            {"ports": ["tcp/82"]}]});
        let (policies, _) = read(&share(&[("a/p", policy)]));
        let v6 = NodeNetwork6 { range: "fd00:0:0:1::/64".parse().unwrap(), gateway: "fd00:0:0:1::1".parse().unwrap() };
        let own = NodeNetwork {
            range: "10.244.1.0/24".parse().unwrap(),
            gateway: "10.244.1.1".parse().unwrap(),
            bridge: None,
            v6: Some(v6),
        };
        let pod = LocalPod { namespace: "a".to_owned(), labels: [("app".to_owned(), "db".to_owned())].into() };
        let known = ["10.244.1.17", "10.244.2.9"].map(|address| (address.parse().unwrap(), pod.clone()));
        let local = in_ipv6(&known.into(), &own);
        assert_eq!(local, [("fd00:0:0:1::11".parse().unwrap(), pod)].into(), "an address of an older range has none");
        let rules = rules_of(&policies, v6.range, &local);
        assert_eq!(
            told(&rules.ingress),
            ["fd00:0:0:1::5: tcp/81 from fd00::2, tcp/82 from everybody", "fd00:0:0:1::11: tcp/82 from everybody"]
        );
    }

    #[test]
    fn what_cannot_be_read_is_named_and_holds_up_nothing() {
        let broken = [
            ("a/pods", json!({"pods": ["10.244"], "ingress": []})),
            ("a/ports", json!({"ingress": [{"ports": ["icmp"]}]})),
            ("a/selector", json!({"selector": 7})),
            ("nowhere", json!({})),
            ("z/good", json!({"pods": ["10.244.1.5"], "ingress": [], "later": "field"})),
        ];
        let (policies, unreadable) = read(&share(&broken));
        assert_eq!((policies.len(), unreadable), (1, ["a/pods", "a/ports", "a/selector", "nowhere"].map(str::to_owned).into()));
    }
}
