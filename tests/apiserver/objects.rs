//! Making, showing and changing objects.

use bramble::api::registry;
use serde_json::{Value, json};

use crate::harness::each_kubectl;

pub const POD: &str = "
apiVersion: v1
kind: Pod
metadata:
  name: web
  labels: {app: web}
spec:
  containers:
  - name: c
    image: example/web:1
    resources: {requests: {cpu: 100m, memory: 64Mi}}
";

pub const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: c
        image: example/web:1
        ports: [{containerPort: 80}]
";

#[test]
fn pods_are_made_shown_labelled_and_deleted() {
    each_kubectl(|server, kubectl| {
        kubectl.input(&["create", "-f", "-"], POD).says("pod/web created");
        kubectl.input(&["create", "-f", "-"], POD).fails("pods \"web\" already exists");
        let table = kubectl.run(&["get", "pods"]).ok();
        assert!(table.starts_with("NAME ") && table.contains("STATUS") && table.contains("\nweb "), "{table}");
        assert!(kubectl.run(&["get", "po", "-A"]).ok().starts_with("NAMESPACE "));
        assert!(kubectl.run(&["get", "po", "-o", "wide"]).ok().contains("NODE"));
        kubectl.run(&["get", "pods", "-o", "name"]).says("pod/web");
        kubectl.run(&["get", "pod", "web", "-o", "jsonpath={.status.phase}"]).says("Pending");
        assert!(kubectl.run(&["get", "pod", "web", "-o", "yaml"]).ok().contains("kind: Pod\n"));
        let pod: Value = serde_json::from_str(&kubectl.run(&["get", "pod", "web", "-o", "json"]).ok()).unwrap();
        assert_eq!((&pod["spec"]["serviceAccountName"], &pod["spec"]["restartPolicy"]), (&json!("default"), &json!("Always")));
        assert_eq!((&pod["status"]["qosClass"], &pod["metadata"]["namespace"]), (&json!("Burstable"), &json!("default")));
        kubectl.run(&["get", "pods", "-l", "app in (web,db)", "-o", "name"]).says("pod/web");
        kubectl.run(&["get", "pods", "-l", "app!=web", "-o", "name"]).says("");
        kubectl.run(&["get", "pods", "--field-selector", "status.phase=Pending", "-o", "name"]).says("pod/web");
        kubectl.run(&["label", "pod", "web", "tier=front"]).says("pod/web labeled");
        kubectl.run(&["annotate", "pod", "web", "note=hi"]).ok();
        assert!(kubectl.run(&["get", "pods", "--show-labels"]).ok().contains("app=web,tier=front"));
        assert!(kubectl.run(&["describe", "pod", "web"]).ok().contains("note: hi"));
        assert!(kubectl.run(&["get", "all"]).ok().contains("pod/web"));
        kubectl.run(&["delete", "pod", "web"]).says("pod \"web\" deleted");
        kubectl.run(&["get", "pod", "web"]).fails("Error from server (NotFound): pods \"web\" not found");
        assert_eq!(server.count("pods"), 0);
    });
}

#[test]
fn an_applied_manifest_is_changed_by_its_next_version_and_left_alone_by_the_same() {
    each_kubectl(|server, kubectl| {
        let generation = || kubectl.run(&["get", "deploy", "web", "-o", "jsonpath={.metadata.generation}/{.spec.replicas}"]).ok();
        kubectl.input(&["apply", "-f", "-"], DEPLOYMENT).says("deployment.apps/web created");
        kubectl.input(&["apply", "-f", "-"], DEPLOYMENT).says("deployment.apps/web unchanged");
        assert_eq!(generation(), "1/2");
        let next = DEPLOYMENT.replace("example/web:1", "example/web:2").replace("replicas: 2", "replicas: 3");
        kubectl.input(&["apply", "-f", "-"], &next).says("deployment.apps/web configured");
        assert_eq!(generation(), "2/3");
        let revision = server.store.view(bramble::store::View::revision);
        kubectl
            .input(&["apply", "--dry-run=server", "-f", "-"], DEPLOYMENT)
            .says("deployment.apps/web configured (server dry run)");
        assert_eq!(server.store.view(bramble::store::View::revision), revision, "a dry run wrote");
        kubectl.run(&["scale", "deploy", "web", "--replicas=5"]).says("deployment.apps/web scaled");
        assert_eq!(generation(), "3/5");
        kubectl
            .run(&["scale", "deploy", "web", "--current-replicas=4", "--replicas=1"])
            .fails("Expected replicas to be 4, was 5");
        kubectl.run(&["set", "image", "deploy/web", "c=example/web:3"]).says("deployment.apps/web image updated");
        kubectl.run(&["get", "deploy", "web", "-o", "jsonpath={.spec.template.spec.containers[*].image}"]).says("example/web:3");
        kubectl.run(&["rollout", "restart", "deploy/web"]).says("deployment.apps/web restarted");
        kubectl.input(&["replace", "-f", "-"], DEPLOYMENT).says("deployment.apps/web replaced");
        assert!(kubectl.run(&["describe", "deploy", "web"]).ok().contains("example/web:1"));
        server.change(&registry::DEPLOYMENTS, "default", "web", |object| {
            let generation = object.generation().0;
            let status = json!({"observedGeneration": generation, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2});
            object.set_at(&["status"], status);
        });
        kubectl.run(&["rollout", "status", "deploy/web"]).says("deployment \"web\" successfully rolled out");
        kubectl.run(&["delete", "deploy", "web"]).says("deployment.apps \"web\" deleted");
    });
}

#[test]
fn the_three_patches_do_what_they_do_in_kubernetes() {
    each_kubectl(|_, kubectl| {
        kubectl.input(&["create", "-f", "-"], DEPLOYMENT).says("deployment.apps/web created");
        let strategic = r#"{"spec":{"template":{"spec":{"containers":[{"name":"side","image":"example/side:1"}]}}}}"#;
        kubectl.run(&["patch", "deploy", "web", "-p", strategic]).says("deployment.apps/web patched");
        let names = || kubectl.run(&["get", "deploy", "web", "-o", "jsonpath={.spec.template.spec.containers[*].name}"]).ok();
        assert!(["side c", "c side"].contains(&names().as_str()), "{}", names());
        let merge = r#"{"spec":{"template":{"spec":{"containers":[{"name":"only","image":"example/only:1"}]}}}}"#;
        kubectl.run(&["patch", "deploy", "web", "--type=merge", "-p", merge]).says("deployment.apps/web patched");
        assert_eq!(names(), "only");
        let json = r#"[{"op":"replace","path":"/spec/replicas","value":7}]"#;
        kubectl.run(&["patch", "deploy", "web", "--type=json", "-p", json]).says("deployment.apps/web patched");
        kubectl.run(&["get", "deploy", "web", "-o", "jsonpath={.spec.replicas}"]).says("7");
        kubectl.run(&["patch", "deploy", "web", "-p", "{}"]).says("deployment.apps/web patched (no change)");
        let stale = r#"{"metadata":{"resourceVersion":"1"},"spec":{"replicas":1}}"#;
        kubectl.run(&["patch", "deploy", "web", "--type=merge", "-p", stale]).fails("the object has been modified");
        kubectl
            .run(&[
                "patch",
                "deploy",
                "web",
                "--subresource=status",
                "--type=merge",
                "-p",
                r#"{"status":{"replicas":3},"spec":{"replicas":1}}"#,
            ])
            .ok();
        kubectl.run(&["get", "deploy", "web", "-o", "jsonpath={.spec.replicas}/{.status.replicas}"]).says("7/3");
    });
}

#[test]
fn typed_commands_make_what_they_name() {
    each_kubectl(|_, kubectl| {
        kubectl.run(&["create", "namespace", "home"]).says("namespace/home created");
        kubectl.run(&["get", "sa,cm", "-n", "home", "-o", "name"]).says("serviceaccount/default\nconfigmap/kube-root-ca.crt");
        kubectl.run(&["create", "configmap", "c", "--from-literal=a=b"]).says("configmap/c created");
        kubectl.run(&["get", "cm", "c", "-o", "jsonpath={.data.a}"]).says("b");
        kubectl.run(&["create", "secret", "generic", "s", "--from-literal=a=b"]).says("secret/s created");
        kubectl.run(&["get", "secret", "s", "-o", "jsonpath={.data.a}/{.type}"]).says("Yg==/Opaque");
        kubectl
            .run(&["create", "deployment", "web", "--image=example/web:1", "--replicas=2"])
            .says("deployment.apps/web created");
        kubectl
            .run(&["get", "deploy", "web", "-o", "jsonpath={.spec.replicas}/{.spec.template.spec.containers[0].image}"])
            .says("2/example/web:1");
        kubectl.run(&["create", "serviceaccount", "robot"]).says("serviceaccount/robot created");
        kubectl.run(&["run", "one", "--image=example/one:1"]).says("pod/one created");
        let service = kubectl.run(&["create", "service", "clusterip", "web", "--tcp=80:80"]);
        assert_eq!(service.err, "", "no warning");
        service.says("service/web created");
        let exposed = kubectl.run(&["expose", "deploy", "web", "--name=web2", "--port=80"]);
        exposed.says("service/web2 exposed");
    });
}

#[test]
fn nodes_are_cordoned_and_described() {
    each_kubectl(|server, kubectl| {
        server.put(
            &registry::NODES,
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "pi", "uid": "u-pi", "labels": {"kubernetes.io/hostname": "pi"}, "creationTimestamp": "2026-01-01T00:00:00Z"},
                "spec": {}, "status": {"conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": null, "lastTransitionTime": null}], "capacity": {"cpu": "4", "memory": "4Gi", "pods": "110"},
                    "allocatable": {"cpu": "4", "memory": "4Gi", "pods": "110"}, "nodeInfo": {"kubeletVersion": "v1.33.0"}, "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}}),
        );
        kubectl.run(&["cordon", "pi"]).says("node/pi cordoned");
        assert!(kubectl.run(&["get", "nodes"]).ok().contains("Ready,SchedulingDisabled"));
        kubectl.run(&["get", "nodes", "--field-selector", "spec.unschedulable=true", "-o", "name"]).says("node/pi");
        kubectl.run(&["uncordon", "pi"]).says("node/pi uncordoned");
        kubectl.run(&["taint", "node", "pi", "a=b:NoSchedule"]).says("node/pi tainted");
        let described = kubectl.run(&["describe", "node", "pi"]).ok();
        assert!(described.contains("a=b:NoSchedule") && described.contains("Non-terminated Pods:"), "{described}");
        for how in [None, Some("--disable-eviction")] {
            kubectl.input(&["create", "-f", "-"], POD).ok();
            server.change(&registry::PODS, "default", "web", |pod| {
                pod.set_at(&["spec", "nodeName"], "pi");
                pod.set_at(&["status", "phase"], "Failed");
            });
            let args: Vec<&str> = ["drain", "pi", "--force", "--timeout=20s"].into_iter().chain(how).collect();
            assert!(kubectl.run(&args).ok().contains("node/pi drained"));
            assert_eq!(server.count("pods"), 0);
        }
        kubectl.run(&["get", "node", "pi", "-o", "jsonpath={.status.nodeInfo.kubeletVersion}"]).says("v1.33.0");
    });
}

#[test]
fn the_cluster_tells_about_itself() {
    each_kubectl(|_, kubectl| {
        let resources = kubectl.run(&["api-resources"]).ok();
        for row in ["pods ", "deployments ", "leases ", "events "] {
            assert!(resources.contains(row), "{resources}");
        }
        assert!(kubectl.run(&["api-versions"]).ok().contains("apps/v1"));
        assert!(
            kubectl.run(&["version"]).ok().contains("Server Version: v1.33.0+bramble-")
                || kubectl.run(&["version", "-o", "yaml"]).ok().contains("v1.33.0+bramble-")
        );
        assert!(kubectl.run(&["cluster-info"]).ok().contains("is running at"));
        kubectl
            .run(&["get", "ns", "-o", "name"])
            .says("namespace/default\nnamespace/kube-node-lease\nnamespace/kube-public\nnamespace/kube-system");
        kubectl.run(&["get", "--raw", "/readyz"]).says("ok");
        kubectl.run(&["auth", "can-i", "create", "pods"]).says("yes");
        assert!(kubectl.run(&["auth", "whoami"]).ok().contains("bramble-admin"));
        kubectl.run(&["get", "events"]).ok();
        assert!(kubectl.run(&["describe", "ns", "default"]).ok().contains("Status:       Active"));
    });
}

#[test]
fn a_long_list_comes_in_pages() {
    each_kubectl(|server, kubectl| {
        for at in 0..12 {
            let name = format!("c{at:02}");
            server.put(
                &registry::CONFIG_MAPS,
                json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "kube-public"}}),
            );
        }
        let names = kubectl.run(&["get", "cm", "-n", "kube-public", "--chunk-size=5", "-o", "name"]).ok();
        assert_eq!(names.lines().count(), 13);
    });
}

#[test]
fn a_debug_container_is_added_to_a_pod_and_stays_as_it_came() {
    each_kubectl(|server, kubectl| {
        kubectl.input(&["create", "-f", "-"], POD).says("pod/web created");
        let debug =
            ["debug", "web", "--image=example/busybox:1", "--target=c", "-c", "dbg", "--attach=false", "--", "sleep", "5"];
        kubectl.run(&debug).ok();
        let pod: Value = serde_json::from_str(&kubectl.run(&["get", "pod", "web", "-o", "json"]).ok()).unwrap();
        let added = &pod["spec"]["ephemeralContainers"][0];
        assert_eq!((&added["name"], &added["targetContainerName"]), (&json!("dbg"), &json!("c")));
        assert_eq!((&added["imagePullPolicy"], &added["command"]), (&json!("IfNotPresent"), &json!(["sleep", "5"])));
        assert_eq!(pod["metadata"]["generation"], 2);
        assert!(kubectl.run(&["describe", "pod", "web"]).ok().contains("Ephemeral Containers:\n  dbg:"));

        let path = "/api/v1/namespaces/default/pods/web/ephemeralcontainers";
        kubectl.run(&["get", "--raw", path]).ok();
        let patch = |containers: Value| {
            let patch = json!({"spec": {"ephemeralContainers": containers}}).to_string();
            let headers = [("content-type", "application/merge-patch+json")];
            let answer = server.raw("PATCH", path, &headers, &patch);
            (answer.code, answer.json()["message"].as_str().unwrap_or_default().to_owned())
        };
        let one = |name: &str| json!({"name": name, "image": "example/busybox:1"});
        for (containers, words) in [
            (json!([]), "existing ephemeral containers \"dbg\" may not be removed"),
            (json!([{"name": "dbg", "image": "other"}]), "existing ephemeral containers \"dbg\" may not be changed"),
            (json!([added, one("c")]), "Duplicate value: \"c\""),
            (json!([added, {"name": "more", "image": "i", "targetContainerName": "none"}]), "Not found: \"none\""),
            (
                json!([added, {"name": "more", "image": "i", "ports": [{"containerPort": 1}]}]),
                "cannot be set for an Ephemeral Container",
            ),
            (json!([added, {"name": "more"}]), "image: Required value"),
        ] {
            let (status, message) = patch(containers);
            assert!(status == 422 && message.contains(words), "{status} {message}");
        }
        assert_eq!(patch(json!([added, one("more")])).0, 200);
        // Not by way of the pod itself.
        let pod = json!({"spec": {"ephemeralContainers": [one("sly")]}}).to_string();
        kubectl.run(&["patch", "pod", "web", "--type=merge", "-p", &pod]).fails("pod updates may not change fields other than");
    });
}
