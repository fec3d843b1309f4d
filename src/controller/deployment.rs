//! A replica set for each template of a deployment, and as many replicas in each as the rollout allows.
//!
//! In:       a deployment and the replica sets that it owns.
//! Out:      a set to create, sets to scale, old sets to forget; revisions for `kubectl rollout history`; status and
//!           conditions for `kubectl rollout status`.
//! Never:    touches pods (`replicaset.rs`).
//! Source:   upstream `pkg/controller/deployment`: sync.go, rolling.go, recreate.go, progress.go. The steps and words are its
//!           own; the hash of a template is not (nobody can rely on it).
//! Flow:     stop 4 of the life of a pod: from `store/mod.rs`, on to `controller/replicaset.rs`.

mod status;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::adoption::adopted;
use super::deletion::{Propagation, delete};
use super::replicaset::owner_reference;
use super::rollout::{self, Count};
use super::{Ids, Plan, Reconciler, bump_generation, update};
use crate::api::apps::deployment::{DESIRED_REPLICAS, Deployment, MAX_REPLICAS, REVISION, REVISION_HISTORY, Strategy};
use crate::api::apps::replicaset::{POD_TEMPLATE_HASH, ReplicaSet, selects};
use crate::api::core::event::Occurrence;
use crate::api::core::pod::Pod;
use crate::api::registry::{DEPLOYMENTS, NAMESPACES, PODS, REPLICA_SETS};
use crate::api::time::rfc3339;
use crate::api::{Key, Object, Resource};
use crate::clock::Now;
use crate::store::{ChangeEvent, Op, View};

const COMPONENT: &str = "deployment-controller";

/// Annotations of a deployment that its sets do not get.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    "deprecated.deployment.rollback.to",
];

/// The controller.
pub struct Deployments;

impl Reconciler for Deployments {
    fn name(&self) -> &'static str {
        "deployment"
    }

    fn watches(&self, resource: &Resource) -> bool {
        *resource == DEPLOYMENTS || *resource == REPLICA_SETS || *resource == PODS
    }

    fn keys(&self, event: &ChangeEvent, view: &View) -> Vec<Key> {
        if *event.key.resource == DEPLOYMENTS {
            return vec![event.key.clone()];
        }
        let owner = |object: &Object, of: &'static Resource| {
            object.controller().filter(|owner| owner.kind == of.kind).map(|owner| Key::new(of, &event.key.namespace, owner.name))
        };
        let objects = [&event.before, &event.after].into_iter().flatten();
        let mut keys: Vec<Key> = if *event.key.resource == REPLICA_SETS {
            objects.filter_map(|set| owner(set, &DEPLOYMENTS)).collect()
        } else if event.after.is_some() {
            // What pods do comes by way of their set's status; only `Recreate` waits for the very end of a pod.
            Vec::new()
        } else {
            let sets = objects.filter_map(|pod| view.get(&owner(pod, &REPLICA_SETS)?));
            sets.filter_map(|set| owner(set, &DEPLOYMENTS)).collect()
        };
        keys.dedup();
        keys
    }

    fn all_keys(&self, view: &View) -> Vec<Key> {
        view.list(&DEPLOYMENTS, None).map(|object| Key::of(&DEPLOYMENTS, object)).collect()
    }

    fn reconcile(&mut self, view: &View, key: &Key, now: Now, ids: &mut Ids) -> Plan {
        let Some(object) = view.get(key) else { return Plan::nothing() };
        let Some(selector) = Deployment(object).selector() else { return Plan::nothing() };
        let mut claims = Plan::nothing();
        let mut sets = Vec::new();
        for set in view.list(&REPLICA_SETS, Some(&key.namespace)) {
            let set_key = Key::of(&REPLICA_SETS, set);
            match set.controller() {
                Some(owner) if owner.uid == object.uid().0 => sets.push((set_key, set)),
                None if !object.is_deleting() && !set.is_deleting() && selects(&selector, set) => {
                    claims.writes.push(update(&set_key, set, adopted(set, object)));
                }
                _ => {}
            }
        }
        if !claims.writes.is_empty() {
            claims.look_by(now.tick);
            return claims;
        }
        let mut step = Step::new(key, object, sets, now);
        step.decide(view, ids);
        step.plan()
    }
}

/// One look at one deployment. Changes are collected in copies and become one write an object.
struct Step<'a> {
    key: &'a Key,
    object: &'a Arc<Object>,
    deployment: Deployment<'a>,
    now: Now,
    /// Oldest first, without the new one.
    old: Vec<(Key, &'a Arc<Object>)>,
    /// The set of the template of now, when there is one.
    new: Option<(Key, &'a Arc<Object>)>,
    /// The deployment as it should be.
    after: Object,
    /// Sets as they should be.
    changed: BTreeMap<Key, Object>,
    plan: Plan,
}

impl<'a> Step<'a> {
    fn new(key: &'a Key, object: &'a Arc<Object>, mut sets: Vec<(Key, &'a Arc<Object>)>, now: Now) -> Self {
        let deployment = Deployment(object);
        sets.sort_by(|(a_key, a), (b_key, b)| {
            ReplicaSet(a).created().cmp(&ReplicaSet(b).created()).then_with(|| a_key.cmp(b_key))
        });
        let template = deployment.template().map(without_hash);
        let at = sets.iter().position(|(_, set)| ReplicaSet(set).template().map(without_hash) == template);
        let new = at.map(|at| sets.remove(at));
        let after = Object::clone(object);
        Self { key, object, deployment, now, old: sets, new, after, changed: BTreeMap::new(), plan: Plan::nothing() }
    }

    fn decide(&mut self, view: &View, ids: &mut Ids) {
        if self.object.is_deleting() {
            return self.sync_status();
        }
        self.note_pause();
        if self.deployment.paused() || self.is_scaled() {
            self.sync_revision();
            self.scale_all();
            if self.deployment.paused() {
                self.forget_old();
            }
            return self.sync_status();
        }
        let going = view.get(&Key::new(&NAMESPACES, "", &self.key.namespace)).is_some_and(|namespace| namespace.is_deleting());
        match self.deployment.strategy() {
            Strategy::Recreate => {
                self.sync_revision();
                if !self.old_are_gone(view) {
                    return self.sync_progress();
                }
                self.ensure_new(view, going, ids);
                self.scale_new(self.deployment.replicas());
            }
            Strategy::RollingUpdate { max_surge, .. } => {
                self.ensure_new(view, going, ids);
                let new = self.new_count();
                let next = rollout::new_set(self.deployment.replicas(), max_surge, self.all_wanted(), new.wanted);
                let scaled = self.new.is_some() && next != new.wanted;
                if scaled {
                    self.scale_new(next);
                } else if self.new.is_some() {
                    self.shrink_old(new);
                }
            }
        }
        if self.complete() {
            self.forget_old();
        }
        self.sync_progress();
    }

    /// Whether some set was last scaled for another number of replicas.
    fn is_scaled(&self) -> bool {
        self.sets().any(|set| {
            let desired = set.annotation(DESIRED_REPLICAS).and_then(|text| text.parse::<i64>().ok());
            ReplicaSet(set).replicas() > 0 && desired.is_some_and(|desired| desired != self.deployment.replicas())
        })
    }

    fn sets(&self) -> impl Iterator<Item = &'a Arc<Object>> + use<'_, 'a> {
        self.old.iter().chain(&self.new).map(|(_, set)| *set)
    }

    fn all_wanted(&self) -> i64 {
        self.sets().map(|set| ReplicaSet(set).replicas()).sum()
    }

    fn new_count(&self) -> Count {
        self.new.as_ref().map(|(_, set)| count(set)).unwrap_or_default()
    }

    fn complete(&self) -> bool {
        self.is_complete(&self.counts())
    }

    // ---- the new set

    fn next_revision(&self) -> i64 {
        self.old.iter().map(|(_, set)| revision(set)).max().unwrap_or_default() + 1
    }

    /// Numbers the new set after all old ones, and gives it what the deployment says of itself.
    fn sync_revision(&mut self) {
        let Some((key, set)) = self.new.clone() else { return };
        let mut after = self.edited(&key, set);
        copy_annotations(self.object, &mut after);
        let (before, next) = (revision(set), self.next_revision());
        if before < next {
            after.set_at(&["metadata", "annotations", REVISION], next.to_string());
            if before > 0 {
                let history = match set.annotation(REVISION_HISTORY) {
                    Some(earlier) if !earlier.is_empty() => format!("{earlier},{before}"),
                    _ => before.to_string(),
                };
                after.set_at(&["metadata", "annotations", REVISION_HISTORY], history);
            }
        }
        let seconds = self.deployment.min_ready_seconds();
        if ReplicaSet(set).min_ready_seconds() != seconds {
            after.set_at(&["spec", "minReadySeconds"], seconds);
            bump_generation(&mut after);
        }
        self.after.set_at(&["metadata", "annotations", REVISION], revision(&after).to_string());
        self.keep(key, set, after);
    }

    fn ensure_new(&mut self, view: &View, going: bool, ids: &mut Ids) {
        if let Some((key, _)) = &self.new {
            self.note_found(&key.name.clone());
            return self.sync_revision();
        }
        if going {
            return;
        }
        let Some(template) = self.deployment.template() else { return };
        let collisions = self.object.i64_at(&["status", "collisionCount"]).unwrap_or_default();
        let hash = template_hash(template, collisions);
        let key = Key::new(&REPLICA_SETS, &self.key.namespace, &format!("{}-{hash}", self.key.name));
        if view.get(&key).is_some() {
            // Another template, or somebody else, has this name: the next try makes another one.
            self.after.set_at(&["status", "collisionCount"], collisions + 1);
            self.plan.look_by(self.now.tick);
            return;
        }
        let replicas = match self.deployment.strategy() {
            Strategy::Recreate => self.deployment.replicas(),
            Strategy::RollingUpdate { max_surge, .. } => {
                rollout::new_set(self.deployment.replicas(), max_surge, self.all_wanted(), 0)
            }
        };
        let revision = self.next_revision().to_string();
        let mut set = new_set(self.object, template, &hash, &key.name, replicas, ids);
        set.set_at(&["metadata", "creationTimestamp"], rfc3339(self.now.wall));
        set.set_at(&["metadata", "annotations", REVISION], revision.clone());
        self.note_scale(&mut set);
        self.after.set_at(&["metadata", "annotations", REVISION], revision);
        if replicas > 0 {
            self.tell_scaled(&key.name, 0, replicas);
        }
        self.note_created(&key.name);
        self.plan.writes.push(Op::create(key, set));
    }

    // ---- numbers

    fn scale_new(&mut self, replicas: i64) {
        if let Some((key, set)) = self.new.clone() {
            self.scale(&key, set, replicas);
        }
    }

    fn shrink_old(&mut self, new: Count) {
        let counts: Vec<Count> = self.old.iter().map(|(_, set)| count(set)).collect();
        let next = rollout::old_sets(self.deployment.replicas(), self.deployment.max_unavailable(), new, &counts);
        for ((key, set), replicas) in self.old.clone().into_iter().zip(next) {
            if ReplicaSet(set).replicas() != replicas {
                self.scale(&key, set, replicas);
            }
        }
    }

    /// After the deployment was scaled: one set takes it all, or each its part.
    fn scale_all(&mut self) {
        let replicas = self.deployment.replicas();
        let mut active: Vec<(Key, &'a Arc<Object>)> =
            self.old.iter().chain(&self.new).filter(|(_, set)| ReplicaSet(set).replicas() > 0).cloned().collect();
        if active.len() <= 1 {
            let latest = active.pop().or_else(|| self.new.clone()).or_else(|| self.old.last().cloned());
            if let Some((key, set)) = latest {
                self.scale(&key, set, replicas);
            }
            return;
        }
        if let Some((key, set)) = self.new.clone() {
            let desired = set.annotation(DESIRED_REPLICAS).and_then(|text| text.parse::<i64>().ok());
            let saturated =
                ReplicaSet(set).replicas() == replicas && desired == Some(replicas) && count(set).available == replicas;
            if saturated {
                for (key, set) in active.into_iter().filter(|(other, _)| *other != key) {
                    self.scale(&key, set, 0);
                }
                return;
            }
        }
        if self.deployment.strategy() == Strategy::Recreate {
            // The old ones go anyway; only note that the new size was seen.
            for (key, set) in active {
                self.scale(&key, set, ReplicaSet(set).replicas());
            }
            return;
        }
        // The largest take what rounding leaves; of equal ones the newer when it grows, the older when it shrinks.
        let grows = replicas + self.deployment.max_surge() > self.all_wanted();
        active.sort_by_key(|(_, set)| {
            let created = ReplicaSet(set).created().0;
            (std::cmp::Reverse(ReplicaSet(set).replicas()), if grows { -created } else { created })
        });
        let counts: Vec<Count> = active.iter().map(|(_, set)| count(set)).collect();
        let has = self.object.i64_at(&["status", "replicas"]).unwrap_or_default();
        let sizes = rollout::proportional(replicas, self.deployment.max_surge(), has, &counts);
        for ((key, set), size) in active.into_iter().zip(sizes) {
            self.scale(&key, set, size);
        }
    }

    /// Sets what a set wants, and notes for which size of the deployment it was.
    fn scale(&mut self, key: &Key, set: &'a Arc<Object>, replicas: i64) {
        let mut after = self.edited(key, set);
        let before = ReplicaSet(set).replicas();
        if before != replicas {
            after.set_at(&["spec", "replicas"], replicas);
            bump_generation(&mut after);
            self.tell_scaled(&key.name, before, replicas);
        }
        self.note_scale(&mut after);
        self.keep(key.clone(), set, after);
    }

    fn note_scale(&self, set: &mut Object) {
        let replicas = self.deployment.replicas();
        set.set_at(&["metadata", "annotations", DESIRED_REPLICAS], replicas.to_string());
        set.set_at(&["metadata", "annotations", MAX_REPLICAS], (replicas + self.deployment.max_surge()).to_string());
    }

    /// For `Recreate`: scales the old sets to nothing, and says whether all of their pods are gone.
    fn old_are_gone(&mut self, view: &View) -> bool {
        let mut gone = true;
        for (key, set) in self.old.clone() {
            if ReplicaSet(set).replicas() > 0 {
                self.scale(&key, set, 0);
                gone = false;
            }
            gone &= !view.owned_by(&set.uid()).any(|(key, pod)| *key.resource == PODS && !Pod(pod).is_terminal());
        }
        gone
    }

    /// Deletes the oldest of the old sets that nobody needs, as far as they are more than are to be remembered.
    fn forget_old(&mut self) {
        let unused = |set: &Object| {
            let set = ReplicaSet(set);
            set.replicas() == 0 && set.status("replicas") == 0 && set.0.generation().0 <= set.status("observedGeneration")
        };
        let mut old: Vec<(Key, &'a Arc<Object>)> = self.old.iter().filter(|(_, set)| !set.is_deleting()).cloned().collect();
        let surplus = old.len().saturating_sub(usize::try_from(self.deployment.history_limit()).unwrap_or_default());
        old.sort_by_key(|(_, set)| revision(set));
        for (key, set) in old.into_iter().take(surplus).filter(|(_, set)| unused(set)) {
            if let Some(op) = delete(&key, set, Propagation::Background, self.now.wall) {
                self.changed.remove(&key);
                self.plan.writes.push(op);
            }
        }
    }

    // ---- the end

    fn tell_scaled(&mut self, set: &str, from: i64, to: i64) {
        let way = if to > from { "up" } else { "down" };
        let message = format!("Scaled {way} replica set {set} from {from} to {to}");
        self.plan.events.push(Occurrence::normal(self.object, COMPONENT, "ScalingReplicaSet", message));
    }

    fn edited(&self, key: &Key, set: &Object) -> Object {
        self.changed.get(key).cloned().unwrap_or_else(|| set.clone())
    }

    fn keep(&mut self, key: Key, before: &Object, after: Object) {
        if after != *before {
            self.changed.insert(key, after);
        }
    }

    fn plan(mut self) -> Plan {
        for (key, after) in std::mem::take(&mut self.changed) {
            let seen = after.revision();
            self.plan.writes.push(Op::update(key, seen, after));
        }
        if self.after != **self.object {
            self.plan.writes.push(update(self.key, self.object, self.after));
        }
        self.plan
    }
}

fn count(set: &Object) -> Count {
    Count {
        wanted: ReplicaSet(set).replicas(),
        available: ReplicaSet(set).status("availableReplicas"),
        allowed_then: set.annotation(MAX_REPLICAS).and_then(|text| text.parse().ok()),
    }
}

fn revision(object: &Object) -> i64 {
    object.annotation(REVISION).and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// A template as the deployment has it: without the label that tells its sets apart.
fn without_hash(template: &Value) -> Value {
    let mut template = template.clone();
    if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove(POD_TEMPLATE_HASH);
    }
    template
}

/// Ten characters at most that stand for a template: FNV-1a of its canonical JSON and of the collisions so far, its decimal
/// digits in letters that make no words.
fn template_hash(template: &Value, collisions: i64) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let text = format!("{}{}", without_hash(template), if collisions == 0 { String::new() } else { collisions.to_string() });
    let hash = text.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash.to_string()
        .bytes()
        .filter_map(|digit| LETTERS.get(usize::from(digit) % LETTERS.len()))
        .map(|&letter| char::from(letter))
        .collect()
}

fn copy_annotations(from: &Object, to: &mut Object) {
    for (name, value) in from.strings_at(&["metadata", "annotations"]).filter(|(name, _)| !NOT_COPIED.contains(name)) {
        to.set_at(&["metadata", "annotations", name], value);
    }
}

fn new_set(deployment: &Object, template: &Value, hash: &str, name: &str, replicas: i64, ids: &mut Ids) -> Object {
    let mut template = template.clone();
    let labels = template.pointer("/metadata/labels").and_then(Value::as_object).cloned().unwrap_or_default();
    let labels: Map<String, Value> = labels.into_iter().chain([(POD_TEMPLATE_HASH.to_owned(), hash.into())]).collect();
    let mut with_labels = Object::from_value(template.take()).unwrap_or_default();
    with_labels.set_at(&["metadata", "labels"], labels.clone());
    let mut selector = Object::from_value(deployment.at(&["spec", "selector"]).cloned().unwrap_or_default()).unwrap_or_default();
    selector.set_at(&["matchLabels", POD_TEMPLATE_HASH], hash);
    let mut set = Object::from_value(json!({
        "apiVersion": REPLICA_SETS.api_version(),
        "kind": REPLICA_SETS.kind,
        "metadata": {
            "name": name,
            "namespace": deployment.namespace(),
            "uid": ids.uid(),
            "generation": 1,
            "labels": labels,
            "ownerReferences": [owner_reference(deployment)],
        },
        "spec": {"replicas": replicas, "selector": selector.into_value(), "template": with_labels.into_value()},
        "status": {"replicas": 0},
    }))
    .unwrap_or_default();
    copy_annotations(deployment, &mut set);
    let seconds = Deployment(deployment).min_ready_seconds();
    if seconds != 0 {
        set.set_at(&["spec", "minReadySeconds"], seconds);
    }
    set
}
