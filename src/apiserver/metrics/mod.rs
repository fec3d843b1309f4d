//! `metrics.k8s.io/v1beta1`: what nodes and pods use, for `kubectl top`. Read-only, in no store: made up of the nodes' answers.
//!
//! In:       a target, the nodes and pods of the view, the answers of the nodes that gave one.
//! Out:      whom to ask, and the objects.
//! Never:    asks (`run.rs`).
//! Source:   k8s.io/metrics `v1beta1`.

pub mod run;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::api::registry::{self, ROW};
use crate::api::time::rfc3339;
use crate::api::{Object, Resource};
use crate::clock::Wall;
use crate::link::stats::NodeStats;
use crate::store::View;

use super::options::Selectors;
use super::route::Target;

const GROUP: &str = "metrics.k8s.io";

/// NodeMetrics.
pub static NODE_METRICS: Resource =
    Resource { group: GROUP, version: "v1beta1", kind: "NodeMetrics", plural: "nodes", namespaced: false, ..ROW };
/// PodMetrics.
pub static POD_METRICS: Resource = Resource { group: GROUP, version: "v1beta1", kind: "PodMetrics", plural: "pods", ..ROW };
/// Both: they are served beside the registry's, and never stored.
pub static ALL: &[&Resource] = &[&NODE_METRICS, &POD_METRICS];

/// The one at a path.
#[must_use]
pub fn by_path(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
    ALL.iter().copied().find(|row| (row.group, row.version, row.plural) == (group, version, plural))
}

/// Whether a resource is one of these.
#[must_use]
pub fn has(resource: &Resource) -> bool {
    resource.group == GROUP
}

/// What a request is about: nodes or pods of the store, and whom to ask for their figures.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// The nodes or pods that are meant.
    pub objects: Vec<std::sync::Arc<Object>>,
    /// The nodes that may know them; those that are lost are left out, for they do not answer.
    pub nodes: BTreeSet<String>,
}

/// Whom a request is about. A name that is not there gives nothing.
#[must_use]
pub fn asked(view: &View, target: &Target, selectors: &Selectors) -> Asked {
    let of_nodes = *target.resource == NODE_METRICS;
    let stored = if of_nodes { &registry::NODES } else { &registry::PODS };
    let meant = |object: &Object| {
        target.name.as_deref().is_none_or(|name| name == object.name())
            && selectors.select(object)
            // A pod that runs nothing has no figures.
            && (of_nodes || object.str_at(&["status", "phase"]) == "Running")
    };
    let objects: Vec<_> = view.list(stored, target.namespace.as_deref()).filter(|object| meant(object)).cloned().collect();
    let node_of =
        |object: &Object| if of_nodes { object.name().to_owned() } else { object.str_at(&["spec", "nodeName"]).to_owned() };
    let lives = |name: &String| {
        let node = view.get(&crate::api::Key::new(&registry::NODES, "", name));
        node.is_some_and(|node| crate::api::core::node::Node(node).ready() != "Unknown")
    };
    let nodes = objects.iter().map(|object| node_of(object)).filter(lives).collect();
    Asked { objects, nodes }
}

/// The objects for what a node answered.
#[must_use]
pub fn objects(resource: &Resource, asked: &Asked, node: &str, stats: &NodeStats, now: Wall) -> Vec<Object> {
    // The node's own clock may be wrong; the moment of the answer is near enough.
    let stamp = rfc3339(now);
    let window = format!("{:.3}s", stats.window_milliseconds as f64 / 1000.0);
    let about = |object: &Object, rest: Value| {
        let mut metadata = json!({"name": object.name(), "creationTimestamp": stamp});
        if let (Some(map), false) = (metadata.as_object_mut(), object.namespace().is_empty()) {
            map.insert("namespace".to_owned(), object.namespace().into());
        }
        if let (Some(map), Some(labels)) = (metadata.as_object_mut(), object.at(&["metadata", "labels"])) {
            map.insert("labels".to_owned(), labels.clone());
        }
        let mut value = json!({"kind": resource.kind, "apiVersion": resource.api_version(), "metadata": metadata,
            "timestamp": stamp, "window": window});
        if let (Some(map), Value::Object(rest)) = (value.as_object_mut(), rest) {
            map.extend(rest);
        }
        Object::from_value(value)
    };
    if *resource == NODE_METRICS {
        let node = asked.objects.iter().find(|object| object.name() == node);
        return node
            .and_then(|node| about(node, json!({"usage": usage(stats.cpu_nanocores, stats.memory_bytes)})))
            .into_iter()
            .collect();
    }
    let mine = asked.objects.iter().filter(|pod| pod.str_at(&["spec", "nodeName"]) == node);
    mine.filter_map(|pod| {
        let uid = pod.uid();
        let known = stats.pods.iter().find(|known| known.uid == uid)?;
        let containers: Vec<Value> = known
            .containers
            .iter()
            .map(|container| json!({"name": container.name, "usage": usage(container.cpu_nanocores, container.memory_bytes)}))
            .collect();
        about(pod, json!({"containers": containers}))
    })
    .collect()
}

fn usage(cpu_nanocores: u64, memory_bytes: u64) -> Value {
    json!({"cpu": format!("{cpu_nanocores}n"), "memory": format!("{}Ki", memory_bytes / 1024)})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Key, Revision};
    use crate::apiserver::route::Query;
    use crate::link::stats::{ContainerStats, PodStats};
    use crate::store::{Batch, Op};

    fn view() -> View {
        let mut view = View::new(Revision(1));
        let put = |resource, value: Value| {
            let object = Object::from_value(value).unwrap();
            Op::create(Key::of(resource, &object), object)
        };
        let node = |name: &str, ready: &str| {
            put(
                &registry::NODES,
                json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}, "status": {"conditions": [{"type": "Ready", "status": ready}]}}),
            )
        };
        let pod = |name: &str, namespace: &str, node: &str, phase: &str| {
            put(
                &registry::PODS,
                json!({"metadata": {"name": name, "namespace": namespace, "uid": format!("u-{name}"), "labels": {"app": name}},
                "spec": {"nodeName": node}, "status": {"phase": phase}}),
            )
        };
        view.apply(
            Revision(2),
            Batch(vec![
                node("a", "True"),
                node("lost", "Unknown"),
                pod("busy", "default", "a", "Running"),
                pod("done", "default", "a", "Succeeded"),
                pod("other", "system", "a", "Running"),
                pod("away", "default", "lost", "Running"),
            ]),
        );
        view
    }

    fn told(resource: &'static Resource, namespace: Option<&str>, name: Option<&str>, query: &str) -> (Vec<String>, Vec<String>) {
        let target =
            Target { resource, namespace: namespace.map(str::to_owned), name: name.map(str::to_owned), subresource: None };
        let selectors = Selectors::parse(&Query::parse(query), resource).unwrap();
        let asked = asked(&view(), &target, &selectors);
        (asked.objects.iter().map(|object| object.name().to_owned()).collect(), asked.nodes.into_iter().collect())
    }

    #[test]
    fn only_those_are_asked_that_may_know_and_live() {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        assert_eq!(told(&NODE_METRICS, None, None, ""), (names(&["a", "lost"]), names(&["a"])));
        assert_eq!(told(&NODE_METRICS, None, Some("lost"), ""), (names(&["lost"]), names(&[])));
        assert_eq!(told(&POD_METRICS, None, None, "").0, names(&["away", "busy", "other"]));
        assert_eq!(told(&POD_METRICS, Some("default"), None, "labelSelector=app%3Dbusy"), (names(&["busy"]), names(&["a"])));
        assert_eq!(told(&POD_METRICS, Some("system"), Some("busy"), ""), (names(&[]), names(&[])));
    }

    #[test]
    fn a_nodes_answer_becomes_objects_as_kubectl_reads_them() {
        let container = ContainerStats { name: "c".into(), cpu_nanocores: 12_345, memory_bytes: 8 << 20 };
        let stats = NodeStats {
            window_milliseconds: 500,
            cpu_nanocores: 250_000_000,
            memory_bytes: 1 << 30,
            pods: vec![PodStats { uid: "u-busy".into(), containers: vec![container], ..PodStats::default() }],
            ..NodeStats::default()
        };
        let target = Target { resource: &POD_METRICS, namespace: None, name: None, subresource: None };
        let meant = asked(&view(), &target, &Selectors::default());
        let pods = objects(&POD_METRICS, &meant, "a", &stats, Wall(0));
        assert_eq!(
            serde_json::to_value(&pods).unwrap(),
            json!([{"kind": "PodMetrics", "apiVersion": "metrics.k8s.io/v1beta1",
                "metadata": {"name": "busy", "namespace": "default", "labels": {"app": "busy"}, "creationTimestamp": "1970-01-01T00:00:00Z"},
                "timestamp": "1970-01-01T00:00:00Z", "window": "0.500s",
                "containers": [{"name": "c", "usage": {"cpu": "12345n", "memory": "8192Ki"}}]}])
        );
        let meant = asked(&view(), &Target { resource: &NODE_METRICS, ..target }, &Selectors::default());
        let nodes = objects(&NODE_METRICS, &meant, "a", &stats, Wall(0));
        assert_eq!((nodes.len(), nodes[0].at(&["usage"]).unwrap()), (1, &json!({"cpu": "250000000n", "memory": "1048576Ki"})));
    }
}
