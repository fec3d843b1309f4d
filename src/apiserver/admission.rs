//! What the server adds to new objects and which of them it lets in; and what stands in an empty cluster.
//!
//! In:       a new object, the view.
//! Out:      the object completed, warnings, or the reason why it is not let in.
//! Never:    checks fields (`api/validate`) or fills in documented defaults (`api/default`).

use serde_json::{Value, json};

use crate::api::registry::{self, Subresource};
use crate::api::status::ApiError;
use crate::api::{Key, Object, Resource, time};
use crate::clock::Wall;
use crate::rng::Rng;
use crate::store::{Op, View};

/// What a person is told who makes a service, as long as it is so.
pub const SERVICES_WAIT: &str =
    "services are stored, and nothing routes to them yet: reach pods by their own addresses or host ports";

/// Namespaces that cannot be deleted.
pub const IMMORTAL: &[&str] = &["default", "kube-system", "kube-public"];

/// What the server knows of itself and writes into the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    /// The cluster's CA, PEM: goes into `kube-root-ca.crt`.
    pub ca_pem: String,
    /// Where the API can be reached by pods: goes into `default/kubernetes`.
    pub advertise: Option<std::net::SocketAddr>,
}

/// Completes a new object before defaults and rules: status, system fields, what its kind needs.
pub fn complete(resource: &Resource, object: &mut Object) {
    // A node is registered together with its status; all others begin without one of the client's.
    if resource.has(Subresource::Status) && *resource != registry::NODES {
        object.remove_at(&["status"]);
    }
    if *resource == registry::NAMESPACES {
        object.set_at(&["spec", "finalizers"], json!(["kubernetes"]));
        object.set_at(&["status", "phase"], "Active");
        let name = object.name().to_owned();
        object.set_at(&["metadata", "labels", "kubernetes.io/metadata.name"], name);
    } else if *resource == registry::PODS {
        if object.str_at(&["spec", "serviceAccountName"]).is_empty() {
            let account = object.str_at(&["spec", "serviceAccount"]).to_owned();
            object.set_at(&["spec", "serviceAccountName"], if account.is_empty() { "default".to_owned() } else { account });
        }
        // The old name of the same field, which clients still read.
        let account = object.str_at(&["spec", "serviceAccountName"]).to_owned();
        object.set_at(&["spec", "serviceAccount"], account);
    } else if *resource == registry::SERVICES {
        object.set_at(&["status", "loadBalancer"], json!({}));
    } else if *resource == registry::DEPLOYMENTS || *resource == registry::REPLICA_SETS {
        object.set_at(&["status"], json!({}));
    }
}

/// The status of a pod that is new, once its spec has its defaults.
pub fn complete_pod_status(pod: &mut Object) {
    let status = crate::api::default::pod::initial_status(pod);
    crate::api::default::pod::tolerate_memory_pressure(pod);
    pod.set_at(&["status"], status);
}

/// Whether a new object may be made, by what else there is.
///
/// # Errors
/// 404 without its namespace, 403 when that one is on its way out or a rule says no.
pub fn admit(view: &View, resource: &'static Resource, object: &Object) -> Result<Vec<String>, ApiError> {
    if resource.namespaced {
        let namespace = object.namespace();
        let found = view
            .get(&Key::new(&registry::NAMESPACES, "", namespace))
            .ok_or_else(|| ApiError::NotFound { resource: &registry::NAMESPACES, name: namespace.to_owned() })?;
        // Events tell of the end, so they are let in.
        if found.is_deleting() && *resource != registry::EVENTS {
            return Err(ApiError::NamespaceTerminating {
                resource,
                name: object.name().to_owned(),
                namespace: namespace.to_owned(),
            });
        }
    }
    if *resource == registry::PODS {
        let account = object.str_at(&["spec", "serviceAccountName"]);
        let known = || view.get(&Key::new(&registry::SERVICE_ACCOUNTS, object.namespace(), account)).is_some();
        if account != "default" && !known() {
            let why = format!(
                "error looking up service account {0}/{account}: serviceaccount \"{account}\" not found",
                object.namespace()
            );
            return Err(ApiError::NotAdmitted { resource, name: object.name().to_owned(), why });
        }
    }
    Ok(if *resource == registry::SERVICES { vec![SERVICES_WAIT.to_owned()] } else { Vec::new() })
}

/// Gives an object that is about to be made its identity.
pub fn stamp(resource: &Resource, object: &mut Object, now: Wall, ids: &mut Rng) {
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "managedFields", "resourceVersion", "generation"]
    {
        object.remove_at(&["metadata", field]);
    }
    object.set_at(&["metadata", "uid"], ids.uuid());
    object.set_at(&["metadata", "creationTimestamp"], time::rfc3339(now));
    if resource.generation {
        object.set_at(&["metadata", "generation"], 1);
    }
}

/// What comes with a new namespace: its default service account and the cluster's CA. What is there already stays.
#[must_use]
pub fn with_namespace(view: &View, namespace: &str, cluster: &Cluster, now: Wall, ids: &mut Rng) -> Vec<Op> {
    let mut ops = Vec::new();
    let account = json!({"metadata": {"name": "default", "namespace": namespace}});
    ops.extend(absent(view, &registry::SERVICE_ACCOUNTS, account, now, ids));
    if !cluster.ca_pem.is_empty() {
        let map = json!({
            "metadata": {"name": "kube-root-ca.crt", "namespace": namespace, "annotations": {
                "kubernetes.io/description": "The certificate authority of this cluster's API server.",
            }},
            "data": {"ca.crt": cluster.ca_pem},
        });
        ops.extend(absent(view, &registry::CONFIG_MAPS, map, now, ids));
    }
    ops
}

/// What an empty cluster has to have: the four namespaces with what comes with them, and `default/kubernetes`. Nothing when
/// all of it is there.
#[must_use]
pub fn bootstrap(view: &View, cluster: &Cluster, now: Wall, ids: &mut Rng) -> Vec<Op> {
    let mut ops = Vec::new();
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        ops.extend(absent(view, &registry::NAMESPACES, json!({"metadata": {"name": name}}), now, ids));
        ops.extend(with_namespace(view, name, cluster, now, ids));
    }
    let labels = json!({"component": "apiserver", "provider": "kubernetes"});
    let port = cluster.advertise.map_or(6443, |address| address.port());
    // Without a cluster address: the name stands for the master's own address.
    let service = json!({
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
        "spec": {
            "clusterIP": "None",
            "ports": [{"name": "https", "port": port, "protocol": "TCP", "targetPort": port}],
        },
    });
    ops.extend(absent(view, &registry::SERVICES, service, now, ids));
    let subsets = match cluster.advertise.filter(|address| !address.ip().is_loopback() && !address.ip().is_unspecified()) {
        Some(address) => json!([{
            "addresses": [{"ip": address.ip().to_string()}],
            "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
        }]),
        None => json!([]),
    };
    let endpoints = json!({"metadata": {"name": "kubernetes", "namespace": "default"}, "subsets": subsets});
    ops.extend(absent(view, &registry::ENDPOINTS, endpoints, now, ids));
    ops
}

fn absent(view: &View, resource: &'static Resource, value: Value, now: Wall, ids: &mut Rng) -> Option<Op> {
    let mut object = Object::from_value(value)?;
    let key = Key::of(resource, &object);
    if view.get(&key).is_some() {
        return None;
    }
    object.set_at(&["apiVersion"], resource.api_version());
    object.set_at(&["kind"], resource.kind);
    complete(resource, &mut object);
    (resource.strategy.default)(&mut object);
    stamp(resource, &mut object, now, ids);
    Some(Op::create(key, object))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Revision;
    use crate::store::Batch;

    fn cluster() -> Cluster {
        Cluster { ca_pem: "PEM".into(), advertise: "192.168.1.5:6443".parse().ok() }
    }

    fn started() -> View {
        let mut view = View::new(Revision(0));
        let ops = bootstrap(&view, &cluster(), Wall(0), &mut Rng::seeded(1, "ids"));
        assert!(ops.len() <= crate::store::batch::MOST);
        view.apply(Revision(1), Batch(ops));
        view
    }

    #[test]
    fn an_empty_cluster_gets_its_namespaces_once() {
        let view = started();
        for (resource, count) in [
            (&registry::NAMESPACES, 4),
            (&registry::SERVICE_ACCOUNTS, 4),
            (&registry::CONFIG_MAPS, 4),
            (&registry::SERVICES, 1),
            (&registry::ENDPOINTS, 1),
        ] {
            assert_eq!(view.list(resource, None).count(), count, "{resource:?}");
        }
        let endpoints = view.get(&Key::new(&registry::ENDPOINTS, "default", "kubernetes")).unwrap();
        assert_eq!(endpoints.list_at(&["subsets"])[0]["addresses"][0]["ip"], "192.168.1.5");
        assert!(bootstrap(&view, &cluster(), Wall(0), &mut Rng::seeded(1, "ids")).is_empty());
    }

    #[test]
    fn a_pod_needs_its_namespace_and_its_service_account() {
        let mut view = started();
        let mut pod = Object::from_value(json!({"metadata": {"name": "web", "namespace": "default"}, "spec": {}})).unwrap();
        complete(&registry::PODS, &mut pod);
        assert_eq!(pod.str_at(&["spec", "serviceAccountName"]), "default");
        assert_eq!(admit(&view, &registry::PODS, &pod), Ok(vec![]));
        pod.set_at(&["spec", "serviceAccountName"], "robot");
        assert_eq!(
            admit(&view, &registry::PODS, &pod).unwrap_err().to_string(),
            "pods \"web\" is forbidden: error looking up service account default/robot: serviceaccount \"robot\" not found"
        );
        pod.set_at(&["metadata", "namespace"], "nowhere");
        assert_eq!(admit(&view, &registry::PODS, &pod).unwrap_err().to_string(), "namespaces \"nowhere\" not found");

        let key = Key::new(&registry::NAMESPACES, "", "default");
        let mut ending = view.get(&key).unwrap().as_ref().clone();
        ending.set_at(&["metadata", "deletionTimestamp"], "2026-01-01T00:00:00Z");
        view.apply(Revision(2), Op::update(key, Revision(1), ending).into());
        pod.set_at(&["metadata", "namespace"], "default");
        let status = admit(&view, &registry::PODS, &pod).unwrap_err().to_status();
        assert_eq!(status["details"]["causes"][0]["reason"], "NamespaceTerminating");
    }
}
