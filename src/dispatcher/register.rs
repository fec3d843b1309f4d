//! What a node says of itself, as its Node object and its Lease.
//!
//! In:       `info` and `health`, the objects as they stand.
//! Out:      the objects as they should stand.
//! Never:    judges whether the node is alive (`controller/node_lifecycle.rs`).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::strain::{self, Said};
use crate::api::core::join::{record_key, record_refuses};
use crate::api::core::node::{ADOPT, OTHER_STORE, PLATFORMS, WIREGUARD_KEY};
use crate::api::core::volume::{USUAL_VOLUMES_DIR, VOLUMES_DIR};
use crate::api::{Key, Object, registry, time};
use crate::clock::{Now, Wall};
use crate::link::message::{Health, Info};
use crate::store::{Op, View};

/// The namespace of the nodes' leases.
const LEASE_NAMESPACE: &str = "kube-node-lease";
/// What labels of devices begin with: one that is unplugged takes its label with it.
const DEVICE_LABELS: &str = "bramble/device-";

/// The longest that a key and a port are: `KEY:PORT`.
const LONGEST_KEY: usize = 50;

/// Whether a node tells a key that is another's already, or what cannot be one: keys are public, and who had it first keeps it.
fn is_anothers(view: &View, info: &Info) -> bool {
    let key = |text: &str| text.split(':').next().unwrap_or_default().to_owned();
    let told = key(&info.wireguard);
    let mut others = view.list(&registry::NODES, None).filter(|node| node.name() != info.node);
    info.wireguard.len() > LONGEST_KEY || others.any(|node| node.annotation(WIREGUARD_KEY).is_some_and(|text| key(text) == told))
}

/// Makes or changes the Node object by what the node says it is. `None` when it says nothing new.
#[must_use]
pub fn node(view: &View, info: &Info, now: Now, uid: impl FnOnce() -> String) -> Option<Op> {
    let key = Key::new(&registry::NODES, "", &info.node);
    // A node that a person removed does not come back by itself.
    if view.get(&record_key(&info.node)).is_some_and(|record| !record_refuses(record, "")) {
        return None;
    }
    let known = view.get(&key);
    let mut object = known.map_or_else(
        || {
            let mut fresh = Object::default();
            fresh.set_at(&["apiVersion"], "v1");
            fresh.set_at(&["kind"], "Node");
            fresh.set_at(&["metadata", "name"], info.node.as_str());
            fresh.set_at(&["metadata", "uid"], uid());
            fresh.set_at(&["metadata", "creationTimestamp"], time::rfc3339(now.wall));
            fresh.set_at(&["spec"], json!({}));
            fresh
        },
        |known| Object::clone(known),
    );
    let gone: Vec<String> = object
        .labels()
        .filter(|(label, _)| label.starts_with(DEVICE_LABELS) && !info.labels.contains_key(*label))
        .map(|(label, _)| label.to_owned())
        .collect();
    for label in gone {
        object.remove_at(&["metadata", "labels", &label]);
    }
    for (label, value) in &info.labels {
        object.set_at(&["metadata", "labels", label], value.as_str());
    }
    if info.volumes_dir.is_empty() || info.volumes_dir == USUAL_VOLUMES_DIR {
        object.remove_at(&["metadata", "annotations", VOLUMES_DIR]);
    } else {
        object.set_at(&["metadata", "annotations", VOLUMES_DIR], info.volumes_dir.as_str());
    }
    // An agent that has just started does not know yet whether it needs one: the key that it told before is its key still.
    if !info.wireguard.is_empty() && !is_anothers(view, info) {
        object.set_at(&["metadata", "annotations", WIREGUARD_KEY], info.wireguard.as_str());
    }
    let card = format!("{} {}", info.card_name, info.card_date).trim().to_owned();
    let told = [
        ("bramble/model", &info.model),
        ("bramble/serial", &info.serial),
        ("bramble/revision", &info.revision),
        ("bramble/card", &card),
    ];
    for (annotation, value) in told {
        if !value.is_empty() {
            object.set_at(&["metadata", "annotations", annotation], value.as_str());
        }
    }
    object.set_at(&["status", "capacity"], amounts(info, info.cpu_capacity_milli, info.memory_capacity_bytes, &BTreeMap::new()));
    object.set_at(&["status", "allocatable"], amounts(info, info.cpu_milli, info.memory_bytes, &info.resources_taken));
    let mut addresses: Vec<Value> =
        info.addresses.iter().map(|address| json!({"type": "InternalIP", "address": address})).collect();
    addresses.push(json!({"type": "Hostname", "address": info.host_name}));
    object.set_at(&["status", "addresses"], addresses);
    object.set_at(
        &["status", "nodeInfo"],
        json!({
            "machineID": info.machine_id, "systemUUID": if info.system_uuid.is_empty() { &info.machine_id } else { &info.system_uuid }, "bootID": info.boot_id, "kernelVersion": info.kernel_version,
            "osImage": info.os_image, "containerRuntimeVersion": info.container_runtime, "kubeletVersion": format!("v{}", info.bramble_version),
            "kubeProxyVersion": format!("v{}", info.bramble_version), "operatingSystem": info.operating_system, "architecture": info.architecture,
        }),
    );
    let images: Vec<Value> =
        info.images.iter().map(|image| json!({"names": image.names, "sizeBytes": image.size_bytes})).collect();
    object.set_at(&["status", "images"], images);
    if !info.platforms.is_empty() {
        object.set_at(&["metadata", "annotations", PLATFORMS], info.platforms.join(","));
    }
    changed(key, known.map(AsRef::as_ref), object)
}

fn amounts(info: &Info, cpu_milli: u64, memory_bytes: u64, taken: &BTreeMap<String, u64>) -> Value {
    let cpu = if cpu_milli.is_multiple_of(1000) { (cpu_milli / 1000).to_string() } else { format!("{cpu_milli}m") };
    let mut amounts = json!({"cpu": cpu, "memory": format!("{}Ki", memory_bytes / 1024), "pods": info.pods.to_string(),
        "ephemeral-storage": format!("{}Ki", info.storage_bytes / 1024)});
    if let Some(amounts) = amounts.as_object_mut() {
        // A device by its own names and no other: a node that says `cpu` here says nothing.
        for (name, count) in info.resources.iter().filter(|(name, _)| name.starts_with("bramble/")) {
            let left = count.saturating_sub(taken.get(name).copied().unwrap_or_default());
            amounts.insert(name.clone(), json!(left.to_string()));
        }
    }
    amounts
}

/// What is said of a node that obeys another store, behind `it` or `the node`.
#[must_use]
pub fn of_another_store(node: &str) -> String {
    format!("runs the pods of another store, and this master's share is not obeyed; if that is meant: bramble node adopt {node}")
}

/// The conditions by what the node says of its health. `None` when nothing flips, so that a steady node writes nothing. Of the `epoch` is
/// what a node holds that obeys this master.
#[must_use]
pub fn conditions(view: &View, node: &str, health: &Health, epoch: u64, now: Now) -> Option<Op> {
    let key = Key::new(&registry::NODES, "", node);
    let known = view.get(&key)?;
    let mut object = Object::clone(known);
    let mut conditions = object.list_at(&["status", "conditions"]).to_vec();
    let another = format!("the node {}", of_another_store(node));
    let mut told = said(health, &another);
    told.extend(strain::said(health, known));
    // Most nodes never had another.
    let known_other = conditions.iter().any(|known| known["type"] == OTHER_STORE);
    if health.foreign_store.is_some() {
        told.push((OTHER_STORE, "True", "NotObeyed", &another));
    } else if known_other && health.at.epoch == epoch {
        told.push((OTHER_STORE, "False", "Obeyed", "the node obeys this master's store"));
        object.remove_at(&["metadata", "annotations", ADOPT]);
    }
    for (name, status, reason, message) in told {
        let stamp = time::rfc3339(now.wall);
        let condition = json!({"type": name, "status": status, "reason": reason, "message": message,
            "lastHeartbeatTime": stamp, "lastTransitionTime": stamp});
        match conditions.iter_mut().find(|known| known["type"] == name) {
            Some(known) if known["status"] == status => {}
            Some(known) => *known = condition,
            None => conditions.push(condition),
        }
    }
    object.set_at(&["status", "conditions"], conditions);
    changed(key, Some(known), object)
}

fn pick<'a>(present: bool, name: &'static str, if_so: (&'static str, &'a str), if_not: (&'static str, &'a str)) -> Said<'a> {
    if present { (name, "True", if_so.0, if_so.1) } else { (name, "False", if_not.0, if_not.1) }
}

/// Each condition of a node as its agent says it, in the kubelet's words for reasons.
fn said<'a>(health: &'a Health, another: &'a str) -> Vec<Said<'a>> {
    let ready = if health.foreign_store.is_some() {
        // Pods that were bound to it would not start.
        ("Ready", "False", "OtherStore", another)
    } else if health.ready {
        ("Ready", "True", "KubeletReady", "the agent runs pods")
    } else {
        (
            "Ready",
            "False",
            "KubeletNotReady",
            health.not_ready_because.as_deref().unwrap_or("the container runtime has not answered yet"),
        )
    };
    vec![
        pick(
            health.memory_pressure,
            "MemoryPressure",
            ("KubeletHasInsufficientMemory", "the node has little memory left"),
            ("KubeletHasSufficientMemory", "the node has enough memory"),
        ),
        pick(
            health.disk_pressure,
            "DiskPressure",
            ("KubeletHasDiskPressure", health.disk_pressure_because.as_deref().unwrap_or("the node has little disk left")),
            ("KubeletHasNoDiskPressure", "the node has enough disk"),
        ),
        pick(
            health.pid_pressure,
            "PIDPressure",
            ("KubeletHasInsufficientPID", "the node has few process numbers left"),
            ("KubeletHasSufficientPID", "the node has enough process numbers"),
        ),
        ready,
    ]
}

/// The node's heartbeat, as `kubectl describe node` shows it. Volatile in the store.
#[must_use]
pub fn lease(view: &View, node: &str, now: Now, uid: impl FnOnce() -> String) -> Op {
    let key = Key::new(&registry::LEASES, LEASE_NAMESPACE, node);
    let mut object = view.get(&key).map_or_else(
        || {
            let fresh = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"name": node, "namespace": LEASE_NAMESPACE, "uid": uid(), "creationTimestamp": time::rfc3339(now.wall)},
                "spec": {"holderIdentity": node, "leaseDurationSeconds": 40}});
            Object::from_value(fresh).unwrap_or_default()
        },
        |known| Object::clone(known),
    );
    object.set_at(&["spec", "renewTime"], time::rfc3339_micro(Wall(now.wall.0)));
    Op { key, expect: crate::store::Expect::Any, change: crate::store::Change::Put(object) }
}

fn changed(key: Key, known: Option<&Object>, object: Object) -> Option<Op> {
    match known {
        None => Some(Op::create(key, object)),
        Some(known) if *known == object => None,
        Some(known) => Some(Op::update(key, known.revision(), object)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Revision;

    fn info() -> Info {
        Info {
            node: "pi".into(),
            cpu_milli: 3900,
            cpu_capacity_milli: 4000,
            memory_bytes: 1 << 30,
            memory_capacity_bytes: 2 << 30,
            pods: 110,
            addresses: vec!["192.168.1.5".into()],
            host_name: "pi".into(),
            ..Info::default()
        }
    }

    #[test]
    fn a_node_registers_once_and_then_only_what_changes_is_written() {
        let mut view = View::new(Revision(1));
        let op = node(&view, &info(), Now::default(), || "uid".into()).unwrap();
        view.apply(Revision(2), op.into());
        assert!(node(&view, &info(), Now::default(), || unreachable!("it is there")).is_none());
        let object = view.get(&Key::new(&registry::NODES, "", "pi")).unwrap();
        assert_eq!(
            (object.str_at(&["status", "capacity", "cpu"]), object.str_at(&["status", "allocatable", "cpu"])),
            ("4", "3900m")
        );
        let op = conditions(&view, "pi", &Health::default(), 7, Now::default()).unwrap();
        view.apply(Revision(3), op.into());
        assert!(conditions(&view, "pi", &Health::default(), 7, Now::default()).is_none());
        assert!(conditions(&view, "pi", &Health { disk_pressure: true, ..Health::default() }, 7, Now::default()).is_some());
        let weak = Health { under_voltage: Some(true), throttled: Some(false), ..Health::default() };
        view.apply(Revision(4), conditions(&view, "pi", &weak, 7, Now::default()).unwrap().into());
        let object = view.get(&Key::new(&registry::NODES, "", "pi")).unwrap();
        let told: Vec<_> = object
            .list_at(&["status", "conditions"])
            .iter()
            .map(|said| format!("{}={}", said["type"], said["status"]).replace('"', ""))
            .collect();
        assert_eq!(
            told,
            [
                "MemoryPressure=False",
                "DiskPressure=False",
                "PIDPressure=False",
                "Ready=False",
                "UnderVoltage=True",
                "Throttled=False"
            ]
        );
    }

    #[test]
    fn a_node_of_another_store_is_not_ready_until_it_holds_this_ones_share() {
        let mut view = View::new(Revision(1));
        view.apply(Revision(2), node(&view, &info(), Now::default(), || "uid".into()).unwrap().into());
        let key = Key::new(&registry::NODES, "", "pi");
        let of = |view: &View, kind: &str| {
            let object = view.get(&key).unwrap();
            crate::api::core::condition::Condition::of(object, kind).map(|one| format!("{} {}", one.status, one.message))
        };
        let well = Health { ready: true, ..Health::default() };
        let foreign = Health { foreign_store: Some("mine".into()), ..well.clone() };
        view.apply(Revision(3), conditions(&view, "pi", &foreign, 7, Now::default()).unwrap().into());
        let words = "the node runs the pods of another store, and this master's share is not obeyed; if that is meant: bramble node adopt pi";
        assert_eq!(of(&view, OTHER_STORE), Some(format!("True {words}")));
        assert_eq!(of(&view, "Ready"), Some(format!("False {words}")));
        let mut told = Object::clone(view.get(&key).unwrap());
        told.set_at(&["metadata", "annotations", ADOPT], "uid");
        assert!(crate::api::core::node::Node(&told).is_to_adopt());
        view.apply(Revision(4), Op::update(key.clone(), Revision(3), told).into());
        // It has just connected and heard nothing yet, or holds the other store's numbers.
        if let Some(op) = conditions(&view, "pi", &well, 7, Now::default()) {
            view.apply(Revision(5), op.into());
        }
        assert!(of(&view, OTHER_STORE).unwrap().starts_with("True") && view.get(&key).unwrap().annotation(ADOPT).is_some());
        let obeys = Health { at: crate::link::message::Numbered { epoch: 7, number: 1 }, ..well };
        view.apply(Revision(6), conditions(&view, "pi", &obeys, 7, Now::default()).unwrap().into());
        assert_eq!(of(&view, OTHER_STORE).as_deref(), Some("False the node obeys this master's store"));
        assert!(of(&view, "Ready").unwrap().starts_with("True") && view.get(&key).unwrap().annotation(ADOPT).is_none());
        assert!(conditions(&view, "pi", &obeys, 7, Now::default()).is_none());
    }

    #[test]
    fn the_images_of_a_node_are_in_its_status_as_kubectl_shows_them() {
        let view = View::new(Revision(1));
        let images = vec![crate::link::message::NodeImage { names: vec!["r/a@sha256:0".into(), "r/a:1".into()], size_bytes: 5 }];
        let info = Info { images, platforms: vec!["linux/arm64".into(), "linux/amd64".into()], ..info() };
        let Some(Op { change: crate::store::Change::Put(object), .. }) = node(&view, &info, Now::default(), String::new) else {
            panic!("a new node")
        };
        assert_eq!(object.list_at(&["status", "images"]), [json!({"names": ["r/a@sha256:0", "r/a:1"], "sizeBytes": 5})]);
        let read = crate::api::core::node::Node(&object);
        assert_eq!(read.platforms().unwrap().own.to_string(), "linux/arm64");
        assert_eq!(read.images().collect::<Vec<_>>(), [("r/a@sha256:0".to_owned(), 5), ("r/a:1".to_owned(), 5)]);
    }

    #[test]
    fn devices_come_are_taken_and_go() {
        let mut view = View::new(Revision(1));
        let counts = |list: &[(&str, u64)]| list.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        let mut with = info();
        with.resources = counts(&[("bramble/serial", 2), ("bramble/serial-a", 1), ("cpu", 99)]);
        with.resources_taken = counts(&[("bramble/serial", 1)]);
        with.labels.insert("bramble/device-serial-a".into(), "true".into());
        view.apply(Revision(2), node(&view, &with, Now::default(), || "uid".into()).unwrap().into());
        let key = Key::new(&registry::NODES, "", "pi");
        let object = view.get(&key).unwrap();
        let told = |object: &Object, list: &str, name: &str| object.str_at(&["status", list, name]).to_owned();
        assert_eq!(
            (told(object, "capacity", "bramble/serial"), told(object, "allocatable", "bramble/serial")),
            ("2".into(), "1".into())
        );
        assert_eq!((told(object, "allocatable", "bramble/serial-a"), told(object, "capacity", "cpu")), ("1".into(), "4".into()));
        assert_eq!(object.label("bramble/device-serial-a"), Some("true"));
        let mut mine = Object::clone(object);
        mine.set_at(&["metadata", "labels", "room"], "kitchen");
        view.apply(Revision(3), Op::update(key.clone(), Revision(2), mine).into());
        view.apply(Revision(4), node(&view, &info(), Now::default(), String::new).unwrap().into());
        let object = view.get(&key).unwrap();
        assert_eq!((told(object, "capacity", "bramble/serial"), object.label("bramble/device-serial-a")), (String::new(), None));
        assert!(object.at(&["status", "allocatable", "bramble/serial"]).is_none(), "not a zero: it is not there");
        assert_eq!(object.label("room"), Some("kitchen"));
    }

    #[test]
    fn a_nodes_key_is_its_own_word_and_stays_while_it_says_nothing() {
        let mut view = View::new(Revision(1));
        let key = Key::new(&registry::NODES, "", "pi");
        let keyed = Info { wireguard: "key".into(), ..info() };
        view.apply(Revision(2), node(&view, &keyed, Now::default(), || "uid".into()).unwrap().into());
        assert_eq!(view.get(&key).unwrap().annotation(WIREGUARD_KEY), Some("key"));
        let mut forged = Object::clone(view.get(&key).unwrap());
        forged.set_at(&["metadata", "annotations", WIREGUARD_KEY], "another");
        view.apply(Revision(3), Op::update(key.clone(), Revision(2), forged).into());
        view.apply(Revision(4), node(&view, &keyed, Now::default(), String::new).unwrap().into());
        assert_eq!(view.get(&key).unwrap().annotation(WIREGUARD_KEY), Some("key"));
        assert!(node(&view, &info(), Now::default(), String::new).is_none(), "an agent that has just started knows nothing yet");
        for told in ["key", "key:6264", &"k".repeat(51)] {
            let thief = Info { node: "another".into(), wireguard: told.into(), ..info() };
            let mut view = view.clone();
            view.apply(Revision(6), node(&view, &thief, Now::default(), || "uid2".into()).unwrap().into());
            let other = view.get(&Key::new(&registry::NODES, "", "another")).unwrap();
            assert_eq!(other.annotation(WIREGUARD_KEY), None, "{told}");
        }
    }

    #[test]
    fn what_a_person_set_on_a_node_stays() {
        let mut view = View::new(Revision(1));
        let op = node(&view, &info(), Now::default(), || "uid".into()).unwrap();
        view.apply(Revision(2), op.into());
        let key = Key::new(&registry::NODES, "", "pi");
        let mut mine = Object::clone(view.get(&key).unwrap());
        mine.set_at(&["spec", "unschedulable"], true);
        mine.set_at(&["metadata", "labels", "room"], "kitchen");
        view.apply(Revision(3), Op::update(key.clone(), Revision(2), mine).into());
        let newer = Info { kernel_version: "7".into(), ..info() };
        view.apply(Revision(4), node(&view, &newer, Now::default(), String::new).unwrap().into());
        let object = view.get(&key).unwrap();
        assert!(object.bool_at(&["spec", "unschedulable"]) && object.label("room") == Some("kitchen"));
    }
}
