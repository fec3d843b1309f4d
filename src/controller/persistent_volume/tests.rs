//! Claims and volumes in a small world: reconciled until nothing is left to do.

use serde_json::{Value, json};

use super::*;
use crate::api::Revision;
use crate::api::registry::NODES;
use crate::rng::Rng;
use crate::store::{Batch, Change, Op, batch};

struct World {
    view: View,
    ids: Ids,
    told: Vec<String>,
}

impl World {
    fn new(objects: Vec<(&'static Resource, Value)>) -> Self {
        let mut world = Self { view: View::new(Revision(1)), ids: Ids::new(Rng::seeded(1, "ids")), told: Vec::new() };
        world.add(
            &NODES,
            json!({"metadata": {"name": "pi", "labels": {"kubernetes.io/hostname": "pi"},
            "annotations": {"bramble/volumes-dir": "/home/me/volumes"}}}),
        );
        world.add(
            &STORAGE_CLASSES,
            json!({"metadata": {"name": "local"}, "provisioner": "bramble/local", "reclaimPolicy": "Delete",
            "volumeBindingMode": "WaitForFirstConsumer"}),
        );
        for (resource, value) in objects {
            world.add(resource, value);
        }
        world.settle();
        world
    }

    fn add(&mut self, resource: &'static Resource, value: Value) {
        let mut object = Object::from_value(value).unwrap();
        if object.uid().0.is_empty() {
            object.set_at(&["metadata", "uid"], format!("uid-{}", object.name()));
        }
        object.set_at(&["kind"], resource.kind);
        (resource.strategy.default)(&mut object);
        self.write(vec![Op::create(Key::of(resource, &object), object)]);
    }

    fn write(&mut self, ops: Vec<Op>) {
        batch::check(&self.view, &Batch(ops.clone())).unwrap();
        self.view.apply(self.view.revision().next(), Batch(ops));
    }

    fn change(&mut self, key: &Key, change: impl FnOnce(&mut Object)) {
        let before = self.get(key).clone();
        let mut after = before.clone();
        change(&mut after);
        self.write(vec![Op::update(key.clone(), before.revision(), after)]);
        self.settle();
    }

    fn remove(&mut self, key: &Key) {
        self.write(vec![Op { key: key.clone(), expect: crate::store::Expect::Any, change: Change::Delete }]);
        self.settle();
    }

    fn settle(&mut self) {
        for _ in 0..20 {
            let mut idle = true;
            self.told.clear();
            for key in PersistentVolumes.all_keys(&self.view) {
                let plan = PersistentVolumes.reconcile(&self.view, &key, Now::default(), &mut self.ids);
                self.told.extend(plan.events.iter().map(|event| format!("{}: {}", event.reason, event.message)));
                if !plan.writes.is_empty() {
                    idle = false;
                    self.write(plan.writes);
                }
            }
            if idle {
                return;
            }
        }
        panic!("it never rests");
    }

    fn get(&self, key: &Key) -> &Object {
        self.view.get(key).unwrap_or_else(|| panic!("{key}"))
    }

    /// `claim phase volume, …; volume phase claim, …`
    fn shown(&self) -> String {
        let claims = self.view.list(&PERSISTENT_VOLUME_CLAIMS, None);
        let claims = claims.map(|claim| format!("{} {} {}", claim.name(), Claim(claim).phase(), Claim(claim).volume_name()));
        let volumes = self.view.list(&PERSISTENT_VOLUMES, None);
        let volumes = volumes.map(|one| {
            let claim =
                Volume(one).claim().map(|(_, name, uid)| if uid.is_empty() { format!("({name})") } else { name.to_owned() });
            format!("{} {} {}", one.name(), Volume(one).phase(), claim.unwrap_or_default())
        });
        let (claims, volumes): (Vec<_>, Vec<_>) = (claims.collect(), volumes.collect());
        format!("{}; {}", claims.join(", "), volumes.join(", "))
    }
}

fn key(resource: &'static Resource, name: &str) -> Key {
    Key::new(resource, if resource.namespaced { "default" } else { "" }, name)
}

fn claim(name: &str, class: &str, change: Value) -> (&'static Resource, Value) {
    let mut value = json!({"metadata": {"name": name, "namespace": "default", "finalizers": ["kubernetes.io/pvc-protection"]},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": class, "resources": {"requests": {"storage": "1Gi"}}}});
    json_patch::merge(&mut value, &change);
    (&PERSISTENT_VOLUME_CLAIMS, value)
}

fn volume(name: &str, size: &str, change: Value) -> (&'static Resource, Value) {
    let mut value = json!({"metadata": {"name": name, "finalizers": ["kubernetes.io/pv-protection"]},
        "spec": {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "nfs": {"server": "nas", "path": "/a"}}});
    json_patch::merge(&mut value, &change);
    (&PERSISTENT_VOLUMES, value)
}

fn pod(node: &str) -> (&'static Resource, Value) {
    (
        &PODS,
        json!({"metadata": {"name": "web", "namespace": "default"}, "spec": {"nodeName": node,
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]}}),
    )
}

#[test]
fn a_claim_takes_the_smallest_volume_that_fits_or_the_one_that_is_meant() {
    let none = || json!({});
    for (what, objects, shown) in [
        (
            "smallest",
            vec![
                claim("c", "", none()),
                volume("big", "5Gi", none()),
                volume("fits", "2Gi", none()),
                volume("small", "1Mi", none()),
            ],
            "c Bound fits; big Available , fits Bound c, small Available ",
        ),
        ("nothing fits", vec![claim("c", "", none()), volume("small", "1Mi", none())], "c Pending ; small Available "),
        (
            "kept for it",
            vec![
                claim("c", "", none()),
                volume("fits", "1Gi", none()),
                volume("kept", "5Gi", json!({"spec": {"claimRef": {"namespace": "default", "name": "c"}}})),
            ],
            "c Bound kept; fits Available , kept Bound c",
        ),
        (
            "kept for another",
            vec![
                claim("c", "", none()),
                volume("kept", "5Gi", json!({"spec": {"claimRef": {"namespace": "default", "name": "d"}}})),
            ],
            "c Pending ; kept Available (d)",
        ),
        (
            "named",
            vec![
                claim("c", "", json!({"spec": {"volumeName": "big"}})),
                volume("big", "5Gi", none()),
                volume("fits", "1Gi", none()),
            ],
            "c Bound big; big Bound c, fits Available ",
        ),
        (
            "named, and too small",
            vec![claim("c", "", json!({"spec": {"volumeName": "small"}})), volume("small", "1Mi", none())],
            "c Pending small; small Available ",
        ),
        (
            "one for two",
            vec![claim("c", "", none()), claim("d", "", none()), volume("v", "1Gi", none())],
            "c Bound v, d Pending ; v Bound c",
        ),
        (
            "another class",
            vec![
                claim("c", "nfs", none()),
                volume("v", "1Gi", none()),
                volume("w", "1Gi", json!({"spec": {"storageClassName": "nfs"}})),
            ],
            "c Bound w; v Available , w Bound c",
        ),
        (
            "waits for its first pod",
            vec![claim("c", "local", none()), volume("w", "1Gi", json!({"spec": {"storageClassName": "local"}}))],
            "c Pending ; w Available ",
        ),
    ] {
        assert_eq!(World::new(objects).shown(), shown, "{what}");
    }
}

#[test]
fn what_a_claim_waits_for_is_told_in_the_words_of_kubernetes() {
    for (objects, told) in [
        (
            vec![claim("c", "", json!({}))],
            "FailedBinding: no persistent volumes available for this claim and no storage class is set",
        ),
        (vec![claim("c", "gone", json!({}))], "ProvisioningFailed: storageclass.storage.k8s.io \"gone\" not found"),
        (vec![claim("c", "local", json!({}))], "WaitForFirstConsumer: waiting for first consumer to be created before binding"),
        (vec![claim("data", "local", json!({})), pod("")], "WaitForPodScheduled: waiting for pod web to be scheduled"),
    ] {
        assert_eq!(World::new(objects).told, [told]);
    }
}

#[test]
fn a_directory_is_made_on_the_chosen_node_and_given_back_when_its_claim_goes() {
    let chosen = json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "pi"}}});
    let mut world = World::new(vec![claim("data", "local", chosen), pod("pi")]);
    let name = "pvc-uid-data";
    assert_eq!(world.shown(), format!("data Bound {name}; {name} Bound data"));
    let made = world.get(&key(&PERSISTENT_VOLUMES, name)).clone();
    let start: String = made.uid().0.chars().take(8).collect();
    assert_eq!(made.str_at(&["spec", "local", "path"]), format!("/home/me/volumes/default_data_{start}"));
    assert_eq!(made.annotation("pv.kubernetes.io/provisioned-by"), Some("bramble/local"));
    assert!((PERSISTENT_VOLUMES.strategy.validate)(&made).is_empty());

    // While its pod is there, the claim stays.
    let claim_key = key(&PERSISTENT_VOLUME_CLAIMS, "data");
    world.change(&claim_key, |claim| claim.set_at(&["metadata", "deletionTimestamp"], "1970-01-01T00:00:00Z"));
    assert_eq!(world.shown(), format!("data Bound {name}; {name} Bound data"));
    world.remove(&key(&PODS, "web"));
    assert_eq!(world.shown(), format!("; {name} Released data"));
    let released = world.get(&key(&PERSISTENT_VOLUMES, name)).clone();
    assert!(Volume(&released).is_discarded());
    // Deleted by hand, it waits for its node; without that node it goes.
    world.change(&key(&PERSISTENT_VOLUMES, name), |volume| {
        volume.set_at(&["metadata", "deletionTimestamp"], "1970-01-01T00:00:00Z");
    });
    assert_eq!(world.shown(), format!("; {name} Released data"));
    world.remove(&key(&NODES, "pi"));
    assert_eq!(world.shown(), "; ");
}

#[test]
fn a_claim_that_no_directory_can_serve_says_why() {
    let on = |node: &str| json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": node}}});
    let with = |change: Value| {
        let mut value = on("pi");
        json_patch::merge(&mut value, &change);
        value
    };
    for (change, words) in [
        (with(json!({"spec": {"accessModes": ["ReadWriteMany"]}})), "only ReadWriteOnce and ReadWriteOncePod are possible"),
        (with(json!({"spec": {"volumeMode": "Block"}})), "only volumeMode Filesystem is possible"),
        (with(json!({"spec": {"selector": {"matchLabels": {"a": "b"}}}})), "claim.spec.selector is not possible"),
    ] {
        let world = World::new(vec![claim("c", "local", change)]);
        assert!(
            world.told[0].starts_with("ProvisioningFailed: failed to provision volume with StorageClass \"local\": "),
            "{:?}",
            world.told
        );
        assert!(world.told[0].contains(words), "{:?}", world.told);
    }
    // A node that is gone: the scheduler is asked again.
    let world = World::new(vec![claim("c", "local", on("gone"))]);
    assert_eq!(world.get(&key(&PERSISTENT_VOLUME_CLAIMS, "c")).annotation("volume.kubernetes.io/selected-node"), None);
}

#[test]
fn a_volume_that_is_kept_stays_released_and_a_lost_one_makes_its_claim_lost() {
    let mut world = World::new(vec![claim("c", "", json!({})), volume("v", "1Gi", json!({}))]);
    let (claim_key, volume_key) = (key(&PERSISTENT_VOLUME_CLAIMS, "c"), key(&PERSISTENT_VOLUMES, "v"));
    world.remove(&claim_key);
    assert_eq!(world.shown(), "; v Released c");
    // A person frees it for others.
    world.change(&volume_key, |volume| {
        volume.remove_at(&["spec", "claimRef"]);
    });
    assert_eq!(world.shown(), "; v Available ");
    let (resource, again) = claim("c", "", json!({"metadata": {"uid": "second"}}));
    world.add(resource, again);
    world.settle();
    assert_eq!(world.shown(), "c Bound v; v Bound c");
    // A bound volume that is deleted stays until its claim goes.
    world.change(&volume_key, |volume| volume.set_at(&["metadata", "deletionTimestamp"], "1970-01-01T00:00:00Z"));
    assert_eq!(world.shown(), "c Bound v; v Bound c");
    world.remove(&volume_key);
    assert_eq!(world.shown(), "c Lost v; ");
}

#[test]
fn what_nobody_can_delete_fails_with_words() {
    let mut world = World::new(vec![
        claim("c", "", json!({})),
        volume("v", "1Gi", json!({"spec": {"persistentVolumeReclaimPolicy": "Delete"}})),
    ]);
    world.remove(&key(&PERSISTENT_VOLUME_CLAIMS, "c"));
    assert_eq!(world.shown(), "; v Failed c");
    let words = world.get(&key(&PERSISTENT_VOLUMES, "v")).str_at(&["status", "message"]).to_owned();
    assert!(words.starts_with("nothing can delete a volume of this kind"), "{words}");
}
