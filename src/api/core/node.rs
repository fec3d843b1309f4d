//! What is asked of nodes in more than one place. A lens: it borrows the object and keeps nothing.
//!
//! Never:    judges whether a node lives (`controller/node_lifecycle.rs`).

use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Value, json};

use super::condition::Condition;
use super::resources::{Resources, quantity};
use super::service::{IPV4, IPV6, family_of};
use crate::api::image::Platforms;
use crate::api::object::Object;
use crate::api::quantity::Quantity;
use crate::api::time::rfc3339;
use crate::clock::Wall;

/// The annotation that says which images a node runs, its own platform first: `linux/arm64,linux/amd64`.
pub const PLATFORMS: &str = "bramble/platforms";
/// The annotation by which a person says that this node shall obey the master's store, whichever it obeyed before: the uid of the Node
/// object, so that it counts in no other store. It goes when the node obeys.
pub const ADOPT: &str = "bramble/adopt";
/// The annotation with a node's end of WireGuard, `KEY` or `KEY:PORT`: its own agent's word, and nobody else's.
pub const WIREGUARD_KEY: &str = "bramble/wireguard-public-key";
/// The condition of a node that obeys another store than its master's.
pub const OTHER_STORE: &str = "OtherStore";
/// The taint of a node that does not answer.
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// The taint of a node that answers and says that it is not ready.
pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// The taint of a cordoned node.
pub const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// The conditions by which a node says what it is short of, each with the taint that keeps new pods away as long as it is so.
pub const PRESSURES: [(&str, &str); 3] = [
    ("MemoryPressure", MEMORY_PRESSURE),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
];
/// The conditions by which a node says what its board suffers. One without the sensor for it has no such condition.
pub const STRAINS: [&str; 3] = ["UnderVoltage", "Throttled", "Hot"];
/// The taint of a node with little memory left. Pods that have asked for some tolerate it.
pub const MEMORY_PRESSURE: &str = "node.kubernetes.io/memory-pressure";

/// The label of a node that load balancers leave out.
pub const NO_BALANCER: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// A node, read.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a>(pub &'a Object);

impl<'a> Node<'a> {
    /// The status of condition `Ready`; `Unknown` when nothing was said yet.
    #[must_use]
    pub fn ready(self) -> &'a str {
        Condition::of(self.0, "Ready").map_or("Unknown", |ready| ready.status)
    }

    /// Whether condition `Ready` is `True`.
    #[must_use]
    pub fn is_ready(self) -> bool {
        self.ready() == "True"
    }

    /// Whether its pods are only a model.
    #[must_use]
    pub fn is_simulated(self) -> bool {
        self.0.str_at(&["status", "nodeInfo", "containerRuntimeVersion"]).starts_with("simulated")
    }

    /// Its own addresses, the one towards the master first.
    pub fn addresses(self) -> impl Iterator<Item = &'a str> {
        let entries = self.0.list_at(&["status", "addresses"]).iter();
        let own = |entry: &&Value| entry.get("type").and_then(Value::as_str) == Some("InternalIP");
        entries.filter(own).filter_map(|entry| entry.get("address")?.as_str())
    }

    /// Whether it serves now what its pods offer.
    #[must_use]
    pub fn serves(self) -> bool {
        self.is_ready() && !self.is_simulated() && !self.0.is_deleting()
    }

    /// Where those outside reach what it serves; `None` when it serves nothing now.
    #[must_use]
    pub fn reached_at(self) -> Option<&'a str> {
        self.addresses().next().filter(|_| self.serves())
    }

    /// Its first address of a family.
    #[must_use]
    pub fn address_of(self, family: &str) -> Option<IpAddr> {
        self.addresses().filter_map(|text| text.parse().ok()).find(|address| family_of(*address) == family)
    }

    /// Where those outside reach what it serves, by its first address of each family, IPv4 first.
    pub fn reached_at_each(self) -> impl Iterator<Item = IpAddr> {
        [IPV4, IPV6].into_iter().filter_map(move |family| self.address_of(family)).filter(move |_| self.serves())
    }

    /// The same, by IPv4.
    #[must_use]
    pub fn reached_at_ipv4(self) -> Option<Ipv4Addr> {
        self.addresses().find_map(|address| address.parse().ok()).filter(|_| self.serves())
    }

    /// Whether a person wants it to obey this store.
    #[must_use]
    pub fn is_to_adopt(self) -> bool {
        self.0.annotation(ADOPT).is_some_and(|uid| !uid.is_empty() && uid == self.0.uid().0)
    }

    /// Whether it obeys another store.
    #[must_use]
    pub fn is_of_another_store(self) -> bool {
        Condition::of(self.0, OTHER_STORE).is_some_and(|condition| condition.status == "True")
    }

    /// What images it runs; `None` while it has not said.
    #[must_use]
    pub fn platforms(self) -> Option<Platforms> {
        let said = self.0.str_at(&["metadata", "annotations", PLATFORMS]);
        Platforms::parse(said).or_else(|| {
            let architecture = self.0.str_at(&["status", "nodeInfo", "architecture"]);
            Platforms::parse(&format!("{}/{architecture}", self.0.str_at(&["status", "nodeInfo", "operatingSystem"])))
        })
    }

    /// The images that it has: each name, with the bytes that it takes.
    pub fn images(self) -> impl Iterator<Item = (String, i64)> + use<'a> {
        self.0.list_at(&["status", "images"]).iter().flat_map(|image| {
            let size = image.get("sizeBytes").and_then(Value::as_i64).unwrap_or_default();
            let names = image.get("names").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
            names.map(move |name| (name.to_owned(), size))
        })
    }

    /// Whether it is cordoned.
    #[must_use]
    pub fn unschedulable(self) -> bool {
        self.0.bool_at(&["spec", "unschedulable"])
    }

    /// `spec.taints`; one with an unknown effect is left out.
    pub fn taints(self) -> impl Iterator<Item = Taint> + use<'a> {
        self.0.list_at(&["spec", "taints"]).iter().filter_map(Taint::read)
    }

    /// What pods may ask for: `status.allocatable`, else `status.capacity`.
    #[must_use]
    pub fn allocatable(self) -> Resources {
        Resources::read(self.allocatable_map())
    }

    /// How many pods it takes; upstream's 110 when it does not say.
    #[must_use]
    pub fn pod_limit(self) -> i64 {
        self.allocatable_map().and_then(|map| map.get("pods")).and_then(quantity).map_or(110, Quantity::units)
    }

    fn allocatable_map(self) -> Option<&'a Value> {
        self.0.at(&["status", "allocatable"]).or_else(|| self.0.at(&["status", "capacity"]))
    }
}

/// What a taint does to pods that do not tolerate it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// They are not put there.
    NoSchedule,
    /// They are put there last.
    PreferNoSchedule,
    /// They are not put there, and those that are there go.
    NoExecute,
}

impl Effect {
    /// Reads its name.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        Some(match text {
            "NoSchedule" => Self::NoSchedule,
            "PreferNoSchedule" => Self::PreferNoSchedule,
            "NoExecute" => Self::NoExecute,
            _ => return None,
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NoSchedule => "NoSchedule",
            Self::PreferNoSchedule => "PreferNoSchedule",
            Self::NoExecute => "NoExecute",
        }
    }
}

/// One entry of `spec.taints`. Kept, not borrowed: the scheduler remembers taints between passes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Taint {
    /// For example `node.kubernetes.io/unreachable`.
    pub key: String,
    /// Often empty.
    pub value: String,
    /// What it does.
    pub effect: Effect,
}

impl Taint {
    /// A taint without a value.
    #[must_use]
    pub fn new(key: &str, effect: Effect) -> Self {
        Self { key: key.to_owned(), value: String::new(), effect }
    }

    fn read(raw: &Value) -> Option<Self> {
        let text = |key: &str| raw.get(key).and_then(Value::as_str).unwrap_or_default();
        Some(Self { key: text("key").to_owned(), value: text("value").to_owned(), effect: Effect::read(text("effect"))? })
    }
}

/// Puts these taints in place of all taints with one of the keys `ours`; whether that changed anything. A taint that stands
/// keeps its `timeAdded`.
pub fn set_taints(node: &mut Object, ours: &[&str], wanted: &[Taint], now: Wall) -> bool {
    let before = node.list_at(&["spec", "taints"]).to_vec();
    let mut after: Vec<Value> = before
        .iter()
        .filter(|raw| match Taint::read(raw) {
            Some(taint) => !ours.contains(&taint.key.as_str()) || wanted.contains(&taint),
            None => true,
        })
        .cloned()
        .collect();
    for taint in wanted {
        if !after.iter().filter_map(Taint::read).any(|stands| stands == *taint) {
            let mut raw = json!({"key": taint.key, "effect": taint.effect.name()});
            if !taint.value.is_empty()
                && let Some(map) = raw.as_object_mut()
            {
                map.insert("value".to_owned(), taint.value.clone().into());
            }
            if taint.effect == Effect::NoExecute
                && let Some(map) = raw.as_object_mut()
            {
                map.insert("timeAdded".to_owned(), rfc3339(now).into());
            }
            after.push(raw);
        }
    }
    if after == before {
        return false;
    }
    if after.is_empty() {
        node.remove_at(&["spec", "taints"]);
    } else {
        node.set_at(&["spec", "taints"], after);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_taints_come_and_go_and_others_stay() {
        let mut node =
            Object::from_value(json!({"spec": {"taints": [{"key": "mine", "effect": "NoSchedule", "value": "v"}]}})).unwrap();
        let lost = [Taint::new(UNREACHABLE, Effect::NoSchedule), Taint::new(UNREACHABLE, Effect::NoExecute)];
        assert!(set_taints(&mut node, &[UNREACHABLE, NOT_READY], &lost, Wall(0)));
        assert!(!set_taints(&mut node, &[UNREACHABLE, NOT_READY], &lost, Wall(5000)), "they stand");
        assert_eq!(Node(&node).taints().count(), 3);
        assert_eq!(node.at(&["spec", "taints"]).unwrap()[2]["timeAdded"], "1970-01-01T00:00:00Z");
        assert!(set_taints(&mut node, &[UNREACHABLE, NOT_READY], &[], Wall(0)));
        assert_eq!(Node(&node).taints().map(|t| t.key).collect::<Vec<_>>(), ["mine"]);
    }

    #[test]
    fn a_node_that_said_nothing_is_unknown() {
        let node = Object::default();
        assert_eq!((Node(&node).ready(), Node(&node).is_ready(), Node(&node).pod_limit()), ("Unknown", false, 110));
    }
}
