//! What the server adds to new objects and which of them it lets in; and what stands in an empty cluster.
//!
//! In:       a new object, the view.
//! Out:      the object completed, warnings, or the reason why it is not let in.
//! Never:    checks fields (`api/validate`) or fills in documented defaults (`api/default`).

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::api::core::priority;
use crate::api::core::service::{IPV4, SINGLE_STACK};
use crate::api::core::volume::{
    CLAIM_PROTECTION, Claim, DEFAULT_CLASS, LOCAL_CLASS, LOCAL_PROVISIONER, VOLUME_PROTECTION, default_class,
};
use crate::api::networking::ingress::{self, BRAMBLE_CLASS, CONTROLLER, Ingress};
use crate::api::registry::{self, Subresource};
use crate::api::status::ApiError;
use crate::api::{Key, Object, Resource, time};
use crate::apiserver::allocate::ServiceRanges;
use crate::clock::Wall;
use crate::rng::Rng;
use crate::store::{Op, View};

/// Namespaces that cannot be deleted.
pub const IMMORTAL: &[&str] = &["default", "kube-system", "kube-public"];

/// What the server knows of itself and writes into the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    /// The cluster's CA, PEM: goes into `kube-root-ca.crt`.
    pub ca_pem: String,
    /// Where the API can be reached by pods: goes into `default/kubernetes`.
    pub advertise: Option<SocketAddr>,
    /// The addresses of services.
    pub services: ServiceRanges,
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
    } else if *resource == registry::SERVICES || *resource == registry::INGRESSES {
        object.set_at(&["status", "loadBalancer"], json!({}));
    } else if *resource == registry::DEPLOYMENTS || *resource == registry::REPLICA_SETS {
        object.set_at(&["status"], json!({}));
    } else if *resource == registry::PERSISTENT_VOLUMES {
        hold(object, VOLUME_PROTECTION);
    } else if *resource == registry::PERSISTENT_VOLUME_CLAIMS {
        hold(object, CLAIM_PROTECTION);
    }
}

/// Holds a new object until somebody who watches its use lets it go.
fn hold(object: &mut Object, finalizer: &str) {
    if object.finalizers().any(|one| one == finalizer) {
        return;
    }
    let mut finalizers = object.list_at(&["metadata", "finalizers"]).to_vec();
    finalizers.push(finalizer.into());
    object.set_at(&["metadata", "finalizers"], finalizers);
}

/// Completes a new object by what else there is in the cluster: a pod's priority and pull secrets, the class of a claim or an
/// ingress. Before
/// defaults and rules.
///
/// # Errors
/// 403 when what it names is not there, or a rule says no.
pub fn complete_by_cluster(view: &View, resource: &'static Resource, object: &mut Object) -> Result<(), ApiError> {
    if *resource == registry::PODS {
        let account = Key::new(&registry::SERVICE_ACCOUNTS, object.namespace(), object.str_at(&["spec", "serviceAccountName"]));
        priority::pull_secrets(object, view.get(&account).map(AsRef::as_ref));
        let classes = view.list(&registry::PRIORITY_CLASSES, None).map(AsRef::as_ref);
        priority::resolve(object, classes).map_err(|why| ApiError::NotAdmitted {
            resource,
            name: object.name().to_owned(),
            why,
        })?;
    } else if *resource == registry::PERSISTENT_VOLUME_CLAIMS && Claim(object).class().is_none() {
        let classes = view.list(&registry::STORAGE_CLASSES, None).map(AsRef::as_ref);
        if let Some(class) = default_class(classes) {
            object.set_at(&["spec", "storageClassName"], class.name());
        }
    } else if *resource == registry::INGRESSES && Ingress(object).class().is_none() {
        let classes = view.list(&registry::INGRESS_CLASSES, None).map(AsRef::as_ref);
        if let Some(class) = ingress::default_class(classes) {
            object.set_at(&["spec", "ingressClassName"], class.name());
        }
    } else if *resource == registry::PRIORITY_CLASSES && object.bool_at(&["globalDefault"]) {
        only_default(view, object)?;
    }
    Ok(())
}

/// Whether a change may be made, by what else there is.
///
/// # Errors
/// 403 when a rule says no.
pub fn admit_change(view: &View, resource: &'static Resource, old: &Object, new: &Object) -> Result<(), ApiError> {
    let refuse = |why: &str| Err(ApiError::NotAdmitted { resource, name: new.name().to_owned(), why: why.to_owned() });
    if *resource == registry::PRIORITY_CLASSES && new.bool_at(&["globalDefault"]) {
        return only_default(view, new);
    }
    if *resource == registry::PERSISTENT_VOLUME_CLAIMS && Claim(new).request() > Claim(old).request() {
        if Claim(old).phase() != "Bound" {
            return refuse("Only bound persistent volume claims can be expanded");
        }
        let class = Key::new(&registry::STORAGE_CLASSES, "", Claim(old).class().unwrap_or_default());
        if !view.get(&class).is_some_and(|class| class.bool_at(&["allowVolumeExpansion"])) {
            return refuse(
                "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
            );
        }
    }
    Ok(())
}

fn only_default(view: &View, class: &Object) -> Result<(), ApiError> {
    let other = |one: &&std::sync::Arc<Object>| one.bool_at(&["globalDefault"]) && one.name() != class.name();
    match view.list(&registry::PRIORITY_CLASSES, None).find(other) {
        None => Ok(()),
        Some(other) => Err(ApiError::NotAdmitted {
            resource: &registry::PRIORITY_CLASSES,
            name: class.name().to_owned(),
            why: format!("PriorityClass {} is already marked as default. Only one default can exist", other.name()),
        }),
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
pub fn admit(view: &View, resource: &'static Resource, object: &Object) -> Result<(), ApiError> {
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
    Ok(())
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

/// What an empty cluster has to have: the four namespaces with what comes with them, `default/kubernetes`, the system's priority
/// classes, the storage class of directories on the nodes, and the ingress class that the nodes serve. Nothing when all of it is there.
#[must_use]
pub fn bootstrap(view: &View, cluster: &Cluster, now: Wall, ids: &mut Rng) -> Vec<Op> {
    let mut ops = Vec::new();
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        ops.extend(absent(view, &registry::NAMESPACES, json!({"metadata": {"name": name}}), now, ids));
        ops.extend(with_namespace(view, name, cluster, now, ids));
    }
    let labels = json!({"component": "apiserver", "provider": "kubernetes"});
    let port = cluster.advertise.map_or(6443, |address| address.port());
    let address = cluster.services.v4.kubernetes().to_string();
    let service = json!({
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
        "spec": {
            "clusterIP": address, "clusterIPs": [address], "ipFamilies": [IPV4], "ipFamilyPolicy": SINGLE_STACK,
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}],
        },
    });
    ops.extend(absent(view, &registry::SERVICES, service, now, ids));
    ops.extend(reached_at(view, cluster.advertise, now, ids));
    for (name, value) in priority::SYSTEM {
        let class = json!({"metadata": {"name": name}, "value": value, "description": "Used for system critical pods."});
        ops.extend(absent(view, &registry::PRIORITY_CLASSES, class, now, ids));
    }
    let class = json!({
        "metadata": {"name": LOCAL_CLASS, "annotations": {DEFAULT_CLASS: "true"}},
        "provisioner": LOCAL_PROVISIONER, "reclaimPolicy": "Delete", "volumeBindingMode": "WaitForFirstConsumer",
    });
    ops.extend(absent(view, &registry::STORAGE_CLASSES, class, now, ids));
    let class = json!({
        "metadata": {"name": BRAMBLE_CLASS, "annotations": {ingress::DEFAULT_CLASS: "true"}},
        "spec": {"controller": CONTROLLER},
    });
    ops.extend(absent(view, &registry::INGRESS_CLASSES, class, now, ids));
    ops
}

/// The endpoints of `default/kubernetes`, if they are others than this address. They follow: a machine may have another address at each
/// start, and at each lease.
#[must_use]
pub fn reached_at(view: &View, advertise: Option<SocketAddr>, now: Wall, ids: &mut Rng) -> Option<Op> {
    let subsets = match advertise.filter(|address| !address.ip().is_loopback() && !address.ip().is_unspecified()) {
        Some(address) => json!([{
            "addresses": [{"ip": address.ip().to_string()}],
            "ports": [{"name": "https", "port": address.port(), "protocol": "TCP"}],
        }]),
        None => json!([]),
    };
    let key = Key::new(&registry::ENDPOINTS, "default", "kubernetes");
    match view.get(&key) {
        Some(there) if there.at(&["subsets"]) != Some(&subsets) => {
            let mut after = there.as_ref().clone();
            after.set_at(&["subsets"], subsets);
            Some(Op::update(key, there.revision(), after))
        }
        Some(_) => None,
        None => {
            let endpoints = json!({"metadata": {"name": "kubernetes", "namespace": "default"}, "subsets": subsets});
            absent(view, &registry::ENDPOINTS, endpoints, now, ids)
        }
    }
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
        Cluster { ca_pem: "PEM".into(), advertise: "192.168.1.5:6443".parse().ok(), services: ServiceRanges::default() }
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
            (&registry::PRIORITY_CLASSES, 2),
            (&registry::STORAGE_CLASSES, 1),
            (&registry::INGRESS_CLASSES, 1),
        ] {
            assert_eq!(view.list(resource, None).count(), count, "{resource:?}");
        }
        let endpoints = view.get(&Key::new(&registry::ENDPOINTS, "default", "kubernetes")).unwrap();
        assert_eq!(endpoints.list_at(&["subsets"])[0]["addresses"][0]["ip"], "192.168.1.5");
        assert!(bootstrap(&view, &cluster(), Wall(0), &mut Rng::seeded(1, "ids")).is_empty());
        // Another lease, and another start.
        let moved = Cluster { advertise: "192.168.1.6:6443".parse().ok(), ..cluster() };
        let ops = bootstrap(&view, &moved, Wall(0), &mut Rng::seeded(1, "ids"));
        let mut view = view;
        assert_eq!(ops.len(), 1);
        view.apply(Revision(2), Batch(ops));
        let endpoints = view.get(&Key::new(&registry::ENDPOINTS, "default", "kubernetes")).unwrap();
        assert_eq!(endpoints.list_at(&["subsets"])[0]["addresses"][0]["ip"], "192.168.1.6");
    }

    #[test]
    fn a_claim_without_a_class_takes_the_default_one_and_is_held() {
        let view = started();
        for (spec, class) in [
            (json!({}), Some("local")),
            (json!({"storageClassName": ""}), Some("")),
            (json!({"storageClassName": "nfs"}), Some("nfs")),
        ] {
            let mut claim =
                Object::from_value(json!({"metadata": {"name": "data", "namespace": "default"}, "spec": spec})).unwrap();
            complete(&registry::PERSISTENT_VOLUME_CLAIMS, &mut claim);
            complete_by_cluster(&view, &registry::PERSISTENT_VOLUME_CLAIMS, &mut claim).unwrap();
            assert_eq!(Claim(&claim).class(), class);
            assert_eq!(claim.finalizers().collect::<Vec<_>>(), [CLAIM_PROTECTION]);
        }
    }

    #[test]
    fn an_ingress_without_a_class_takes_the_default_one() {
        let view = started();
        let annotated = json!({"annotations": {ingress::CLASS_ANNOTATION: "nginx"}});
        for (metadata, spec, class) in [
            (json!({}), json!({}), "bramble"),
            (json!({}), json!({"ingressClassName": "nginx"}), "nginx"),
            (annotated, json!({}), ""),
        ] {
            let mut ingress = Object::from_value(json!({"metadata": metadata, "spec": spec})).unwrap();
            complete_by_cluster(&view, &registry::INGRESSES, &mut ingress).unwrap();
            assert_eq!(ingress.str_at(&["spec", "ingressClassName"]), class);
        }
    }

    #[test]
    fn only_one_priority_class_is_the_default_and_a_pod_names_one_that_is_there() {
        let mut view = started();
        let class =
            |name: &str| Object::from_value(json!({"metadata": {"name": name}, "value": 5, "globalDefault": true})).unwrap();
        let key = Key::new(&registry::PRIORITY_CLASSES, "", "usual");
        view.apply(Revision(2), Op::create(key, class("usual")).into());
        let admit =
            |object: &mut Object, resource| complete_by_cluster(&view, resource, object).map_err(|error| error.to_string());
        assert_eq!(
            admit(&mut class("other"), &registry::PRIORITY_CLASSES).unwrap_err(),
            "priorityclasses.scheduling.k8s.io \"other\" is forbidden: PriorityClass usual is already marked as default. Only one default can exist"
        );
        let mut pod = Object::from_value(json!({"metadata": {"name": "p", "namespace": "default"}, "spec": {}})).unwrap();
        admit(&mut pod, &registry::PODS).unwrap();
        assert_eq!((pod.i64_at(&["spec", "priority"]), pod.str_at(&["spec", "priorityClassName"])), (Some(5), "usual"));
        pod.set_at(&["spec", "priorityClassName"], "gone");
        assert_eq!(
            admit(&mut pod, &registry::PODS).unwrap_err(),
            "pods \"p\" is forbidden: no PriorityClass with name gone was found"
        );
    }

    #[test]
    fn a_claim_grows_only_where_its_class_lets_it() {
        let view = started();
        let claim = |size: &str, phase: &str| {
            Object::from_value(json!({"metadata": {"name": "c"}, "spec": {"storageClassName": "local", "resources": {"requests": {"storage": size}}}, "status": {"phase": phase}})).unwrap()
        };
        let grow =
            |phase: &str| admit_change(&view, &registry::PERSISTENT_VOLUME_CLAIMS, &claim("1Gi", phase), &claim("2Gi", phase));
        assert!(grow("Pending").unwrap_err().to_string().ends_with("Only bound persistent volume claims can be expanded"));
        assert!(grow("Bound").unwrap_err().to_string().ends_with("the storageclass that provisions the pvc must support resize"));
        assert_eq!(
            admit_change(&view, &registry::PERSISTENT_VOLUME_CLAIMS, &claim("1Gi", "Bound"), &claim("1Gi", "Bound")),
            Ok(())
        );
    }

    #[test]
    fn a_pod_needs_its_namespace_and_its_service_account() {
        let mut view = started();
        let mut pod = Object::from_value(json!({"metadata": {"name": "web", "namespace": "default"}, "spec": {}})).unwrap();
        complete(&registry::PODS, &mut pod);
        assert_eq!(pod.str_at(&["spec", "serviceAccountName"]), "default");
        assert_eq!(admit(&view, &registry::PODS, &pod), Ok(()));
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
