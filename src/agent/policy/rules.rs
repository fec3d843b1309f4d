//! What the policies of the cluster come to for the pods of this node.
//!
//! In:       resolved policies, the node's range, the node's own pods as far as their addresses are known here.
//! Out:      [`Rules`]: by direction, which addresses are isolated, and what is allowed to each.
//! Never:    words them for the kernel (`nft.rs`).
//! Source:   Kubernetes' documentation of `NetworkPolicy`: policies add up; a pod that one selects is isolated in that direction.
//! Flow:     from `dispatcher/policy.rs` by way of the network's share, on to `nft.rs`.
//!
//! The node knows its own pods sooner than the master, and while the master is away: so a pod that is selected by a policy is isolated as
//! soon as its address is known here, and one that is known here not to be selected is not, whoever had its address before.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde_json::Value;

use crate::api::Object;
use crate::api::selector::Selector;
use crate::link::policy::{PortRange, ResolvedPolicy, Rule};
use crate::link::ranges::Ranges;
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
pub type LocalPods = BTreeMap<Ipv4Addr, LocalPod>;

/// What applies to the pods of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// To what reaches them.
    pub ingress: Isolation,
    /// To what they reach.
    pub egress: Isolation,
}

impl Rules {
    /// Whether everything is allowed to everyone.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ingress.pods.is_empty() && self.egress.pods.is_empty()
    }
}

/// One direction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Isolation {
    /// The isolated pods, with the place of what is allowed to them in `profiles`.
    pub pods: BTreeMap<Ipv4Addr, usize>,
    /// What is allowed: one for all pods with the same policies.
    pub profiles: Vec<Profile>,
}

/// By the ports that are connected to (`None`: everything) who may (`None`: everybody).
pub type Profile = BTreeMap<Option<BTreeSet<PortRange>>, Option<Ranges>>;

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

/// What applies to the pods of the node that has this range.
#[must_use]
pub fn rules_of(policies: &[Policy], range: Ipv4Net, local: &LocalPods) -> Rules {
    let (mut ingress, mut egress) = (Directed::default(), Directed::default());
    let range = Ranges::net(range);
    for policy in policies {
        let pods: Vec<Ipv4Addr> = policy.pods(&range, local);
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
    fn pods(&self, range: &Ranges, local: &LocalPods) -> Vec<Ipv4Addr> {
        let told = self.resolved.pods.and(range);
        let told: Vec<Ipv4Addr> = told.addresses().take(MOST_PODS).collect();
        let Some(selector) = &self.selector else { return told };
        let selects =
            |pod: &LocalPod| pod.namespace == self.namespace && selector.matches(|key| pod.labels.get(key).map(String::as_str));
        let own = local.iter().filter(|(_, pod)| selects(pod)).map(|(address, _)| *address);
        let told = told.into_iter().filter(|address| !local.contains_key(address));
        told.chain(own).collect()
    }
}

/// What is allowed to each isolated pod.
#[derive(Default)]
struct Directed(BTreeMap<Ipv4Addr, Profile>);

impl Directed {
    fn isolate(&mut self, pod: Ipv4Addr, rules: &[Rule]) {
        let profile = self.0.entry(pod).or_default();
        for rule in rules.iter().filter(|rule| rule.pods.as_ref().is_none_or(|pods| pods.contains(pod))) {
            let nobody = rule.peers.as_ref().is_some_and(Ranges::is_empty) || rule.ports.as_ref().is_some_and(BTreeSet::is_empty);
            if !nobody {
                let who = profile.entry(rule.ports.clone()).or_insert_with(|| Some(Ranges::default()));
                *who = who.take().zip(rule.peers.clone()).map(|(known, more)| known.or(more)).filter(|who| !who.is_all());
            }
        }
    }

    /// Equal profiles made one; a pod to which everything is allowed is not isolated at all.
    fn shared(self) -> Isolation {
        let mut places: BTreeMap<Profile, usize> = BTreeMap::new();
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
    fn told(isolation: &Isolation) -> Vec<String> {
        let words = |profile: &Profile| {
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
