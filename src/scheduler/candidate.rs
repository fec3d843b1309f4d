//! A pod that looks for a node, with all that the rules ask of it read once.

use serde_json::Value;

use super::volumes::Needs;
use crate::api::core::node::Taint;
use crate::api::core::pod::{HostPort, Pod, Toleration};
use crate::api::core::resources::Resources;
use crate::api::image::Platform;
use crate::api::node_terms::{Preference, Selection};
use crate::api::{Object, Uid};

/// A pod, as the scheduler reads it.
#[derive(Clone, Debug)]
pub struct Candidate<'a> {
    /// The pod itself.
    pub object: &'a Object,
    /// What it asks for.
    pub requests: Resources,
    /// The ports of the node that it wants.
    pub host_ports: Vec<HostPort>,
    /// Its controller; pods of one controller are spread.
    pub owner: Option<Uid>,
    /// Which nodes it selects.
    pub selection: Selection,
    /// The node affinity that would be nice.
    pub preferred: Vec<Preference>,
    /// The images of all its containers, each once.
    pub images: Vec<String>,
    /// For each of these of which that is known, what it is made for.
    pub made_for: Vec<Vec<Platform>>,
    /// What its claims ask for; nothing until somebody has looked ([`Needs::of`]).
    pub volumes: Needs,
    tolerations: Vec<Toleration<'a>>,
}

impl<'a> Candidate<'a> {
    /// Reads a pod.
    #[must_use]
    pub fn of(object: &'a Object) -> Self {
        let pod = Pod(object);
        let affinity = object.at(&["spec", "affinity", "nodeAffinity"]);
        Self {
            object,
            requests: pod.requests(),
            host_ports: pod.host_ports().collect(),
            owner: pod.owner().map(|owner| Uid::from(owner.uid)),
            selection: Selection::of(object),
            preferred: affinity
                .and_then(|affinity| affinity.get("preferredDuringSchedulingIgnoredDuringExecution"))
                .and_then(Value::as_array)
                .map(|list| list.iter().map(Preference::read).collect())
                .unwrap_or_default(),
            images: images(object),
            made_for: Vec::new(),
            volumes: Needs::default(),
            tolerations: pod.tolerations().collect(),
        }
    }

    /// Whether it bears this taint.
    #[must_use]
    pub fn tolerates(&self, taint: &Taint) -> bool {
        self.tolerations.iter().any(|toleration| toleration.tolerates(taint))
    }
}

fn images(pod: &Object) -> Vec<String> {
    let containers = ["initContainers", "containers"].iter().flat_map(|list| pod.list_at(&["spec", list]));
    let mut images: Vec<String> = containers
        .filter_map(|container| container.get("image")?.as_str())
        .filter(|image| !image.is_empty())
        .map(str::to_owned)
        .collect();
    images.sort();
    images.dedup();
    images
}
