//! Pods and pod templates.
//!
//! In:       a pod, or the template of something that makes pods.
//! Out:      the same with all that the API server would say for itself; also the status of a fresh pod.
//! Differs:  no token volume, because there are no service account tokens yet. No `tolerations` for lost nodes are added
//!           (upstream's admission says 300 s): how long a pod may stay there is the cluster's own figure, 8 s by default.
//! Source:   `SetDefaults_PodSpec`, `SetDefaults_Pod`, `SetDefaults_Container`, … and the admission plug-ins
//!           ServiceAccount and Priority of Kubernetes 1.33.

use serde_json::{Value, json};

use super::{Fields, map, map_or_new, maps, resources, set_empty, set_unset, set_zero};
use crate::api::{Object, quantity::Quantity};

/// The two priority classes that every cluster has.
const SYSTEM_CLASSES: [(&str, i64); 2] = [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];

/// Fills in the defaults of a pod.
pub fn fill(object: &mut Object) {
    let Some(spec) = map_or_new(object.raw_mut(), "spec") else { return };
    template_spec(spec);
    for key in ["serviceAccountName", "serviceAccount"] {
        set_empty(spec, key, "default");
    }
    set_unset(spec, "enableServiceLinks", true);
    for key in ["containers", "initContainers"] {
        maps(spec, key).for_each(requests_from_limits);
    }
    if spec.get("hostNetwork").and_then(Value::as_bool) == Some(true) {
        for key in ["containers", "initContainers"] {
            maps(spec, key).for_each(host_ports);
        }
    }
    priority(spec);
}

/// Fills in the defaults of a pod template: those of a pod, but for what only an admitted pod gets.
pub(super) fn fill_template(template: &mut Fields) {
    if let Some(spec) = map_or_new(template, "spec") {
        template_spec(spec);
    }
}

fn template_spec(spec: &mut Fields) {
    set_empty(spec, "dnsPolicy", "ClusterFirst");
    set_empty(spec, "restartPolicy", "Always");
    set_empty(spec, "schedulerName", "default-scheduler");
    set_unset(spec, "securityContext", Fields::new());
    set_unset(spec, "terminationGracePeriodSeconds", 30);
    // The old name of the field is kept in step, as upstream does for old clients.
    if let Some(Value::String(account)) = spec.get("serviceAccountName").filter(|name| name.as_str() != Some("")).cloned() {
        spec.insert("serviceAccount".to_owned(), account.into());
    } else if let Some(Value::String(account)) = spec.get("serviceAccount").cloned() {
        spec.insert("serviceAccountName".to_owned(), account.into());
    }
    for key in ["containers", "initContainers", "ephemeralContainers"] {
        maps(spec, key).for_each(container);
    }
    maps(spec, "volumes").for_each(volume);
    if let Some(overhead) = map(spec, "overhead") {
        resources::canonical_list(overhead);
    }
}

fn container(container: &mut Fields) {
    let image = container.get("image").and_then(Value::as_str).unwrap_or_default();
    let policy = if tag(image) == "latest" { "Always" } else { "IfNotPresent" };
    set_empty(container, "imagePullPolicy", policy);
    set_empty(container, "terminationMessagePath", "/dev/termination-log");
    set_empty(container, "terminationMessagePolicy", "File");
    if let Some(resources) = map_or_new(container, "resources") {
        for key in ["limits", "requests"] {
            if let Some(list) = map(resources, key) {
                resources::canonical_list(list);
            }
        }
    }
    maps(container, "ports").for_each(|port| set_empty(port, "protocol", "TCP"));
    maps(container, "env").filter_map(|env| map(env, "valueFrom")).for_each(|from| {
        field_ref(from);
        divisor(from);
    });
    for key in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = map(container, key) {
            fill_probe(probe);
        }
    }
    if let Some(lifecycle) = map(container, "lifecycle") {
        for key in ["postStart", "preStop"] {
            if let Some(handler) = map(lifecycle, key) {
                http_get(handler);
            }
        }
    }
}

/// The tag of an image's name; `latest` when it has neither tag nor digest.
fn tag(image: &str) -> &str {
    let (name, digest) = image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
    // A colon before the last slash belongs to the port of the registry.
    let last = name.rsplit('/').next().unwrap_or(name);
    match last.split_once(':') {
        Some((_, tag)) => tag,
        None if digest.is_some() || image.is_empty() => "",
        None => "latest",
    }
}

fn fill_probe(probe: &mut Fields) {
    set_zero(probe, "timeoutSeconds", 1);
    set_zero(probe, "periodSeconds", 10);
    set_zero(probe, "successThreshold", 1);
    set_zero(probe, "failureThreshold", 3);
    http_get(probe);
    if let Some(grpc) = map(probe, "grpc") {
        set_unset(grpc, "service", "");
    }
}

fn http_get(handler: &mut Fields) {
    if let Some(get) = map(handler, "httpGet") {
        set_empty(get, "path", "/");
        set_empty(get, "scheme", "HTTP");
    }
}

fn field_ref(source: &mut Fields) {
    if let Some(reference) = map(source, "fieldRef") {
        set_empty(reference, "apiVersion", "v1");
    }
}

/// The divisor of a resource reference is a quantity without pointer upstream: absent is shown as 0.
fn divisor(source: &mut Fields) {
    if let Some(reference) = map(source, "resourceFieldRef") {
        set_unset(reference, "divisor", "0");
        if let Some(divisor) = reference.get_mut("divisor") {
            resources::canonical(divisor);
        }
    }
}

/// 0644, as files of config maps and secrets have it.
const FILE_MODE: i64 = 420;

fn volume(volume: &mut Fields) {
    if volume.iter().all(|(key, value)| key == "name" || value.is_null()) {
        volume.insert("emptyDir".to_owned(), Fields::new().into());
    }
    for key in ["configMap", "secret", "downwardAPI", "projected"] {
        if let Some(source) = map(volume, key) {
            set_unset(source, "defaultMode", FILE_MODE);
        }
    }
    if let Some(source) = map(volume, "hostPath") {
        set_unset(source, "type", "");
    }
    if let Some(source) = map(volume, "iscsi") {
        set_empty(source, "iscsiInterface", "default");
    }
    if let Some(size) = map(volume, "emptyDir").and_then(|source| source.get_mut("sizeLimit")) {
        resources::canonical(size);
    }
    if let Some(source) = map(volume, "image") {
        let policy = if tag(source.get("reference").and_then(Value::as_str).unwrap_or_default()) == "latest" {
            "Always"
        } else {
            "IfNotPresent"
        };
        set_empty(source, "pullPolicy", policy);
    }
    if let Some(source) = map(volume, "downwardAPI") {
        downward_items(source);
    }
    if let Some(projected) = map(volume, "projected") {
        for source in maps(projected, "sources") {
            if let Some(downward) = map(source, "downwardAPI") {
                downward_items(downward);
            }
            if let Some(token) = map(source, "serviceAccountToken") {
                set_unset(token, "expirationSeconds", 3600);
            }
        }
    }
}

fn downward_items(source: &mut Fields) {
    maps(source, "items").for_each(|item| {
        field_ref(item);
        divisor(item);
    });
}

/// Who limits a resource and asks for none of it asks for the limit.
fn requests_from_limits(container: &mut Fields) {
    let Some(resources) = map(container, "resources") else { return };
    let Some(limits) = map(resources, "limits").cloned() else { return };
    let Some(requests) = map_or_new(resources, "requests") else { return };
    for (name, amount) in limits {
        set_unset(requests, &name, amount);
    }
}

/// On the node's own network a container's port is the node's port.
fn host_ports(container: &mut Fields) {
    maps(container, "ports").for_each(|port| {
        if let Some(number) = port.get("containerPort").and_then(Value::as_i64) {
            set_zero(port, "hostPort", number);
        }
    });
}

fn priority(spec: &mut Fields) {
    let class = spec.get("priorityClassName").and_then(Value::as_str).unwrap_or_default();
    let value =
        if class.is_empty() { Some(0) } else { SYSTEM_CLASSES.iter().find(|(name, _)| *name == class).map(|(_, value)| *value) };
    if let Some(value) = value {
        set_unset(spec, "priority", value);
    }
    set_empty(spec, "preemptionPolicy", "PreemptLowerPriority");
}

/// The status of a pod that was just made: `{"phase": "Pending", "qosClass": …}`.
#[must_use]
pub fn initial_status(pod: &Object) -> Value {
    json!({"phase": "Pending", "qosClass": qos_class(pod)})
}

/// A pod that has asked for what it needs may go to a node with little memory left: it is not the first to be evicted there.
/// Source: the kubernetes.io page on taints, "Taint Nodes by Condition".
pub fn tolerate_memory_pressure(pod: &mut Object) {
    if qos_class(pod) == "BestEffort" {
        return;
    }
    let mut tolerations = pod.list_at(&["spec", "tolerations"]).to_vec();
    let wanted = json!({"key": crate::api::core::node::MEMORY_PRESSURE, "operator": "Exists", "effect": "NoSchedule"});
    if !tolerations.contains(&wanted) {
        tolerations.push(wanted);
        pod.set_at(&["spec", "tolerations"], tolerations);
    }
}

/// `Guaranteed`, `Burstable` or `BestEffort`: how a node under pressure ranks the pod.
///
/// Source: `ComputePodQOS`. Only CPU and memory count, amounts of 0 do not, init containers do.
#[must_use]
pub fn qos_class(pod: &Object) -> &'static str {
    let mut asked = [Quantity::default(); 2];
    let mut limited = [Quantity::default(); 2];
    let mut all_limited = true;
    for container in ["containers", "initContainers"].iter().flat_map(|key| pod.list_at(&["spec", key])) {
        let amount = |list: &str, name: &str| {
            let text = container.get("resources").and_then(|resources| resources.get(list)).and_then(|list| list.get(name));
            text.and_then(Value::as_str).and_then(Quantity::parse).filter(|quantity| quantity.milli > 0)
        };
        for (index, name) in ["cpu", "memory"].into_iter().enumerate() {
            if let (Some(sum), Some(request)) = (asked.get_mut(index), amount("requests", name)) {
                *sum = *sum + request;
            }
            match (limited.get_mut(index), amount("limits", name)) {
                (Some(sum), Some(limit)) => *sum = *sum + limit,
                _ => all_limited = false,
            }
        }
    }
    let none = [Quantity::default(); 2];
    if asked == none && limited == none {
        "BestEffort"
    } else if all_limited && asked == limited {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(pod: Value) -> Value {
        let mut object = Object::from_value(pod).unwrap();
        fill(&mut object);
        object.into_value()
    }

    #[test]
    fn the_smallest_pod_looks_as_a_real_cluster_shows_it() {
        let pod = filled(json!({"metadata": {"name": "web"}, "spec": {"containers": [{"name": "web", "image": "nginx"}]}}));
        assert_eq!(
            pod,
            json!({"metadata": {"name": "web"}, "spec": {
                "containers": [{"name": "web", "image": "nginx", "imagePullPolicy": "Always", "resources": {},
                    "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}],
                "dnsPolicy": "ClusterFirst",
                "enableServiceLinks": true,
                "preemptionPolicy": "PreemptLowerPriority",
                "priority": 0,
                "restartPolicy": "Always",
                "schedulerName": "default-scheduler",
                "securityContext": {},
                "serviceAccount": "default",
                "serviceAccountName": "default",
                "terminationGracePeriodSeconds": 30,
            }})
        );
    }

    #[test]
    fn what_a_manifest_says_stays() {
        let spec = json!({
            "containers": [{"name": "a", "image": "a", "imagePullPolicy": "Never", "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "500m"}},
                "terminationMessagePath": "/log", "terminationMessagePolicy": "FallbackToLogsOnError"}],
            "dnsPolicy": "Default", "enableServiceLinks": false, "preemptionPolicy": "Never", "priority": 7, "restartPolicy": "Never",
            "schedulerName": "mine", "securityContext": {"runAsUser": 1}, "serviceAccount": "robot", "serviceAccountName": "robot",
            "terminationGracePeriodSeconds": 0,
        });
        assert_eq!(filled(json!({"spec": spec}))["spec"], spec);
    }

    #[test]
    fn an_account_is_kept_under_both_its_names() {
        for (given, name) in [
            (json!({}), "default"),
            (json!({"serviceAccount": ""}), "default"),
            (json!({"serviceAccount": "robot"}), "robot"),
            (json!({"serviceAccountName": "robot"}), "robot"),
            (json!({"serviceAccount": "old", "serviceAccountName": "robot"}), "robot"),
        ] {
            let spec = filled(json!({"spec": given}))["spec"].take();
            assert_eq!((&spec["serviceAccount"], &spec["serviceAccountName"]), (&json!(name), &json!(name)), "{given}");
        }
    }

    #[test]
    fn the_pull_policy_follows_the_tag() {
        for (image, policy) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1.27", "IfNotPresent"),
            ("registry:5000/nginx", "Always"),
            ("registry:5000/a/nginx:1", "IfNotPresent"),
            ("nginx@sha256:0011", "IfNotPresent"),
            ("nginx:latest@sha256:0011", "Always"),
            ("", "IfNotPresent"),
        ] {
            let pod = filled(json!({"spec": {"containers": [{"image": image}]}}));
            assert_eq!(pod["spec"]["containers"][0]["imagePullPolicy"], policy, "{image}");
        }
    }

    #[test]
    fn every_part_of_a_container_is_completed() {
        let container = json!({
            "image": "a:1",
            "ports": [{"containerPort": 80}, {"containerPort": 53, "protocol": "UDP"}],
            "env": [{"name": "A", "value": "b"}, {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "C", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}],
            "livenessProbe": {"httpGet": {"port": 80}, "timeoutSeconds": 0},
            "readinessProbe": {"grpc": {"port": 1}, "periodSeconds": 3},
            "startupProbe": {"tcpSocket": {"port": 1}, "failureThreshold": 30},
            "lifecycle": {"preStop": {"httpGet": {"port": 1, "path": "/bye"}}},
            "resources": {"limits": {"cpu": 1, "memory": "1024Mi"}, "requests": {"memory": "512Mi"}},
        });
        let pod = filled(json!({"spec": {"containers": [container.clone()], "initContainers": [container]}}));
        let expected = json!({
            "image": "a:1", "imagePullPolicy": "IfNotPresent",
            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
            "ports": [{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 53, "protocol": "UDP"}],
            "env": [{"name": "A", "value": "b"}, {"name": "N", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}},
                {"name": "C", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "0"}}}],
            "livenessProbe": {"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1, "periodSeconds": 10,
                "successThreshold": 1, "failureThreshold": 3},
            "readinessProbe": {"grpc": {"port": 1, "service": ""}, "timeoutSeconds": 1, "periodSeconds": 3, "successThreshold": 1, "failureThreshold": 3},
            "startupProbe": {"tcpSocket": {"port": 1}, "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 30},
            "lifecycle": {"preStop": {"httpGet": {"port": 1, "path": "/bye", "scheme": "HTTP"}}},
            "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "512Mi"}},
        });
        assert_eq!(pod["spec"]["containers"][0], expected);
        assert_eq!(pod["spec"]["initContainers"][0], expected);
    }

    #[test]
    fn volumes_get_modes_and_a_source() {
        for (given, shown) in [
            (json!({"name": "v"}), json!({"name": "v", "emptyDir": {}})),
            (json!({"name": "v", "emptyDir": null}), json!({"name": "v", "emptyDir": {}})),
            (json!({"name": "v", "emptyDir": {"sizeLimit": "1024Mi"}}), json!({"name": "v", "emptyDir": {"sizeLimit": "1Gi"}})),
            (
                json!({"name": "v", "configMap": {"name": "c"}}),
                json!({"name": "v", "configMap": {"name": "c", "defaultMode": 420}}),
            ),
            (json!({"name": "v", "secret": {"defaultMode": 256}}), json!({"name": "v", "secret": {"defaultMode": 256}})),
            (json!({"name": "v", "hostPath": {"path": "/dev"}}), json!({"name": "v", "hostPath": {"path": "/dev", "type": ""}})),
            (
                json!({"downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}}),
                json!({"downwardAPI": {"defaultMode": 420, "items": [{"path": "l", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.labels"}}]}}),
            ),
            (
                json!({"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}, {"downwardAPI": {"items": [{"fieldRef": {}}]}}]}}),
                json!({"projected": {"defaultMode": 420, "sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}},
                    {"downwardAPI": {"items": [{"fieldRef": {"apiVersion": "v1"}}]}}]}}),
            ),
            (json!({"persistentVolumeClaim": {"claimName": "c"}}), json!({"persistentVolumeClaim": {"claimName": "c"}})),
        ] {
            let pod = filled(json!({"spec": {"volumes": [given.clone()]}}));
            assert_eq!(pod["spec"]["volumes"][0], shown, "{given}");
        }
    }

    #[test]
    fn on_the_nodes_network_ports_are_the_nodes() {
        let pod =
            |network: bool| filled(json!({"spec": {"hostNetwork": network, "containers": [{"ports": [{"containerPort": 80}]}]}}));
        assert_eq!(pod(true)["spec"]["containers"][0]["ports"][0]["hostPort"], 80);
        assert_eq!(pod(false)["spec"]["containers"][0]["ports"][0].get("hostPort"), None);
    }

    #[test]
    fn priority_comes_from_the_class_where_it_is_known() {
        for (class, priority) in [("", json!(0)), ("system-node-critical", json!(2_000_001_000)), ("mine", Value::Null)] {
            assert_eq!(filled(json!({"spec": {"priorityClassName": class}}))["spec"]["priority"], priority, "{class}");
        }
    }

    #[test]
    fn the_class_of_service_follows_requests_and_limits() {
        let both = json!({"cpu": "1", "memory": "1Gi"});
        for (class, resources) in [
            ("BestEffort", vec![json!({})]),
            ("BestEffort", vec![json!({"requests": {"cpu": "0"}, "limits": {"ephemeral-storage": "1Gi"}})]),
            ("Burstable", vec![json!({"requests": {"cpu": "100m"}})]),
            ("Burstable", vec![json!({"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": both})]),
            ("Burstable", vec![json!({"requests": both, "limits": both}), json!({})]),
            ("Burstable", vec![json!({"requests": {"cpu": "1"}, "limits": {"cpu": "1"}})]),
            ("Guaranteed", vec![json!({"requests": both, "limits": both})]),
            (
                "Guaranteed",
                vec![
                    json!({"requests": {"cpu": "1000m", "memory": "1024Mi"}, "limits": both}),
                    json!({"requests": both, "limits": both}),
                ],
            ),
        ] {
            let containers: Vec<Value> = resources.iter().map(|resources| json!({"resources": resources})).collect();
            let pod = Object::from_value(json!({"spec": {"containers": containers}})).unwrap();
            assert_eq!(initial_status(&pod), json!({"phase": "Pending", "qosClass": class}), "{resources:?}");
        }
    }
}
