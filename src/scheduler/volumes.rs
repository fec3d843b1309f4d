//! What a pod's claims ask of its node, and what has to be done about claims that wait for their first pod.
//!
//! ```text
//! claim is bound ─────────────────────────▶ only nodes that its volume can be on
//! claim waits for its first pod ─▶ a node is chosen ─▶ a volume there is kept for it, or `selected-node` is written on it
//!                                                       └─▶ controller/persistent_volume binds it ─▶ the pod is tried again, and bound
//! any other unbound claim ────────────────▶ no node
//! ```
//!
//! In:       the pod, the view, and who uses which claim already.
//! Out:      [`Needs`], read once a pod; asked of each node by `filter/volumes.rs`; writes on claims and volumes.
//! Source:   kube-scheduler `volumebinding`, `volumerestrictions`.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::api::core::volume::{BOUND_BY_CONTROLLER, Claim, Class, SELECTED_NODE, Volume, claims_of, was_made_for};
use crate::api::node_terms::Terms;
use crate::api::registry::{PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, STORAGE_CLASSES};
use crate::api::{Key, Object};
use crate::store::{Op, View};

/// The provisioner that makes nothing: volumes are there before their claims.
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// What a pod's claims ask for.
#[derive(Clone, Debug, Default)]
pub struct Needs {
    /// No node will do, for this reason.
    pub impossible: Option<String>,
    /// A claim for one pod at a time is taken.
    pub taken: bool,
    /// Where the volumes are that its claims have: each must be there.
    pub bound: Vec<Terms>,
    /// The claims that wait for it.
    open: Vec<Open>,
}

/// A claim that waits for its first pod.
#[derive(Clone, Debug)]
struct Open {
    claim: Arc<Object>,
    /// The node that was chosen before, if any.
    selected: Option<String>,
    /// Volumes that it might have, smallest first.
    volumes: Vec<(Arc<Object>, Option<Terms>)>,
    /// Where a volume can be made for it; `None` for nowhere, no terms for everywhere.
    made_on: Option<Vec<Value>>,
}

/// What a claim gets on a node.
enum Gets<'a> {
    Volume(&'a Arc<Object>),
    /// One that is made for it.
    New,
}

impl Needs {
    /// Reads a pod's claims. `users` says how many other pods have a claim, by `namespace/name`.
    #[must_use]
    pub fn of(view: &View, pod: &Object, users: impl Fn(&str) -> usize) -> Self {
        let mut needs = Self::default();
        for needed in claims_of(pod) {
            let name = needed.name;
            let Some(claim) = view.get(&Key::new(&PERSISTENT_VOLUME_CLAIMS, pod.namespace(), &name)) else {
                return Self::never(match needed.ephemeral {
                    Some(_) => format!("waiting for ephemeral volume controller to create the persistentvolumeclaim \"{name}\""),
                    None => format!("persistentvolumeclaim \"{name}\" not found"),
                });
            };
            if needed.ephemeral.is_some() && !was_made_for(claim, pod) {
                return Self::never(format!("PVC \"{name}\" was not created for pod \"{}\" (pod is not owner)", pod.name()));
            }
            if claim.is_deleting() {
                return Self::never(format!("persistentvolumeclaim \"{name}\" is being deleted"));
            }
            needs.taken |= Claim(claim).has_mode("ReadWriteOncePod") && users(&format!("{}/{name}", pod.namespace())) > 0;
            if Claim(claim).is_bound() {
                let volume = Claim(claim).volume_name();
                match view.get(&Key::new(&PERSISTENT_VOLUMES, "", volume)) {
                    Some(volume) if Volume(volume).is_for(claim) => needs.bound.extend(Volume(volume).nodes().map(Terms::read)),
                    _ => {
                        let words =
                            format!("persistentvolumeclaim \"{name}\" bound to non-existent persistentvolume \"{volume}\"");
                        return Self::never(words);
                    }
                }
                continue;
            }
            let class = Claim(claim).class().and_then(|class| view.get(&Key::new(&STORAGE_CLASSES, "", class)));
            match class.filter(|class| Class(class).waits() && Claim(claim).volume_name().is_empty()) {
                Some(class) => needs.open.push(Open::read(view, claim, class)),
                None => return Self::never("pod has unbound immediate PersistentVolumeClaims".to_owned()),
            }
        }
        needs
    }

    fn never(why: String) -> Self {
        Self { impossible: Some(why), ..Self::default() }
    }

    /// Whether claims wait for this pod.
    #[must_use]
    pub fn waits(&self) -> bool {
        !self.open.is_empty()
    }

    /// Whether the claims that wait can have volumes on this node.
    #[must_use]
    pub fn can_be_met(&self, node: &Object) -> bool {
        self.met(node).is_some()
    }

    /// What has to be written so that they get them there; nothing when it was written before.
    #[must_use]
    pub fn steps(&self, node: &Object) -> Vec<Op> {
        let met = self.met(node).unwrap_or_default();
        self.open.iter().zip(met).filter_map(|(open, gets)| open.step(&gets, node.name())).collect()
    }

    /// What each gets on this node, no volume twice; `None` when one of them gets nothing.
    fn met(&self, node: &Object) -> Option<Vec<Gets<'_>>> {
        let mut given: Vec<&str> = Vec::new();
        let mut met = Vec::with_capacity(self.open.len());
        for open in &self.open {
            let fits = |(volume, nodes): &&(Arc<Object>, Option<Terms>)| {
                !given.contains(&volume.name()) && nodes.as_ref().is_none_or(|nodes| nodes.fit(node))
            };
            if let Some((volume, _)) = open.volumes.iter().find(fits) {
                given.push(volume.name());
                met.push(Gets::Volume(volume));
            } else if open.can_be_made_on(node) {
                met.push(Gets::New);
            } else {
                return None;
            }
        }
        Some(met)
    }
}

impl Open {
    fn read(view: &View, claim: &Arc<Object>, class: &Object) -> Self {
        let free = |volume: &&Arc<Object>| {
            let whose = Volume(volume).claim().is_none() || Volume(volume).is_for(claim);
            whose && !volume.is_deleting() && Volume(volume).phase() != "Failed" && Volume(volume).satisfies(Claim(claim))
        };
        let mut volumes: Vec<_> = view
            .list(&PERSISTENT_VOLUMES, None)
            .filter(free)
            .map(|volume| (volume.clone(), Volume(volume).nodes().map(Terms::read)))
            .collect();
        // One that is kept for it comes first.
        volumes
            .sort_by_key(|(volume, _)| (Volume(volume).claim().is_none(), Volume(volume).capacity(), volume.name().to_owned()));
        let topologies = || class.list_at(&["allowedTopologies"]).to_vec();
        Self {
            claim: claim.clone(),
            selected: claim.annotation(SELECTED_NODE).map(str::to_owned),
            volumes,
            made_on: (Class(class).provisioner() != NO_PROVISIONER).then(topologies),
        }
    }

    fn can_be_made_on(&self, node: &Object) -> bool {
        let Some(topologies) = &self.made_on else { return false };
        let is_selected = self.selected.as_ref().is_none_or(|selected| selected == node.name());
        is_selected && (topologies.is_empty() || topologies.iter().any(|term| is_in(term, node)))
    }

    fn step(&self, gets: &Gets<'_>, node: &str) -> Option<Op> {
        match gets {
            Gets::Volume(volume) => {
                if volume.str_at(&["spec", "claimRef", "uid"]) == self.claim.uid().0 {
                    return None;
                }
                let mut kept = Object::clone(volume);
                if Volume(volume).claim().is_none() {
                    kept.set_at(&["metadata", "annotations", BOUND_BY_CONTROLLER], "yes");
                }
                let claim = &self.claim;
                kept.set_at(
                    &["spec", "claimRef"],
                    json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": claim.namespace(), "name": claim.name(),
                        "uid": claim.uid().0, "resourceVersion": claim.revision().to_string()}),
                );
                Some(Op::update(Key::of(&PERSISTENT_VOLUMES, volume), volume.revision(), kept))
            }
            Gets::New if self.selected.is_some() => None,
            Gets::New => {
                let mut chosen = Object::clone(&self.claim);
                chosen.set_at(&["metadata", "annotations", SELECTED_NODE], node);
                Some(Op::update(Key::of(&PERSISTENT_VOLUME_CLAIMS, &self.claim), self.claim.revision(), chosen))
            }
        }
    }
}

/// Whether a node is in a place where a class makes volumes: a `TopologySelectorTerm`.
fn is_in(term: &Value, node: &Object) -> bool {
    let expressions = term.get("matchLabelExpressions").and_then(Value::as_array);
    expressions.into_iter().flatten().all(|expression| {
        let label = expression.get("key").and_then(Value::as_str).and_then(|key| node.label(key));
        let values = expression.get("values").and_then(Value::as_array);
        values.into_iter().flatten().any(|value| value.as_str().is_some() && value.as_str() == label)
    })
}
