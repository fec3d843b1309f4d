//! Deleting, waiting and watching.

use bramble::api::registry;

use crate::harness::each_kubectl;
use crate::objects::{DEPLOYMENT, POD};

#[test]
fn a_running_pod_is_given_its_grace_and_force_does_not_wait() {
    each_kubectl(|server, kubectl| {
        let run = || {
            kubectl.input(&["create", "-f", "-"], POD).says("pod/web created");
            server.change(&registry::PODS, "default", "web", |pod| {
                pod.set_at(&["spec", "nodeName"], "pi");
                pod.set_at(&["status", "phase"], "Running");
            });
        };
        run();
        kubectl.run(&["delete", "pod", "web", "--wait=false", "--grace-period=20"]).says("pod \"web\" deleted");
        assert!(kubectl.run(&["get", "pod", "web"]).ok().contains("Terminating"));
        kubectl.run(&["get", "pod", "web", "-o", "jsonpath={.metadata.deletionGracePeriodSeconds}"]).says("20");
        kubectl.run(&["delete", "pod", "web", "--wait=false", "--grace-period=5"]).ok();
        kubectl.run(&["get", "pod", "web", "-o", "jsonpath={.metadata.deletionGracePeriodSeconds}"]).says("5");
        assert!(kubectl.run(&["delete", "pod", "web", "--force", "--grace-period=0"]).ok().contains("pod \"web\" force deleted"));
        assert_eq!(server.count("pods"), 0);

        run();
        let mut waiting = kubectl.start(&["delete", "pod", "web"]);
        waiting.until("pod \"web\" deleted");
        // What a node does when the containers have ended.
        server.change(&registry::PODS, "default", "web", |pod| pod.set_at(&["metadata", "deletionGracePeriodSeconds"], 0));
        kubectl.run(&["label", "pod", "web", "over=yes"]).ok();
        waiting.end();
        assert_eq!(server.count("pods"), 0);
    });
}

#[test]
fn finalizers_hold_an_object_until_the_last_is_gone() {
    each_kubectl(|server, kubectl| {
        kubectl.input(&["create", "-f", "-"], DEPLOYMENT).ok();
        kubectl
            .run(&["patch", "deploy", "web", "--type=merge", "-p", r#"{"metadata":{"finalizers":["example.org/hold"]}}"#])
            .ok();
        kubectl.run(&["delete", "deploy", "web", "--wait=false"]).ok();
        assert!(!kubectl.run(&["get", "deploy", "web", "-o", "jsonpath={.metadata.deletionTimestamp}"]).ok().is_empty());
        let more = r#"{"metadata":{"finalizers":["example.org/hold","example.org/more"]}}"#;
        kubectl.run(&["patch", "deploy", "web", "--type=merge", "-p", more]).fails("no new finalizers can be added");
        kubectl.run(&["patch", "deploy", "web", "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#]).ok();
        assert_eq!(server.count("deployments"), 0);
        kubectl.input(&["create", "-f", "-"], DEPLOYMENT).ok();
        kubectl.run(&["delete", "deploy", "web", "--cascade=orphan", "--wait=false"]).ok();
        kubectl.run(&["get", "deploy", "web", "-o", "jsonpath={.metadata.finalizers}"]).says("[\"orphan\"]");
    });
}

#[test]
fn a_namespace_is_marked_and_takes_nothing_new() {
    each_kubectl(|_, kubectl| {
        kubectl.run(&["create", "ns", "home"]).ok();
        kubectl.run(&["delete", "ns", "home", "--wait=false"]).says("namespace \"home\" deleted");
        kubectl.run(&["get", "ns", "home", "-o", "jsonpath={.status.phase}"]).says("Terminating");
        kubectl
            .input(&["create", "-n", "home", "-f", "-"], POD)
            .fails("unable to create new content in namespace home because it is being terminated");
        kubectl.run(&["delete", "ns", "default"]).fails("this namespace may not be deleted");
    });
}

#[test]
fn watches_and_waits_see_what_happens() {
    each_kubectl(|server, kubectl| {
        let mut watch = kubectl.start(&["get", "pods", "-w"]);
        let mut selected = kubectl.start(&["get", "pods", "-w", "-l", "tier=front", "--output-watch-events", "-o", "json"]);
        std::thread::sleep(std::time::Duration::from_millis(500));
        kubectl.input(&["create", "-f", "-"], POD).ok();
        watch.until("web");
        kubectl.run(&["label", "pod", "web", "tier=front"]).ok();
        selected.until("ADDED");
        kubectl.run(&["label", "pod", "web", "tier=back", "--overwrite"]).ok();
        selected.until("DELETED");
        let mut wait = kubectl.start(&["wait", "--for=condition=Ready", "pod/web", "--timeout=20s"]);
        std::thread::sleep(std::time::Duration::from_millis(300));
        server.change(&registry::PODS, "default", "web", |pod| {
            pod.set_at(&["status", "conditions"], serde_json::json!([{"type": "Ready", "status": "True"}]));
        });
        wait.until("pod/web condition met");
        let mut gone = kubectl.start(&["wait", "--for=delete", "pod/web", "--timeout=20s"]);
        std::thread::sleep(std::time::Duration::from_secs(1));
        kubectl.run(&["delete", "pod", "web"]).ok();
        gone.until("pod/web condition met");
    });
}

#[test]
fn a_stop_ends_watches_at_once() {
    let Some((_, program)) = crate::harness::kubectls().pop_last() else { return };
    let mut server = crate::harness::Server::start();
    let kubectl = server.kubectl(&program);
    let mut watch = kubectl.start(&["get", "ns", "-w"]);
    watch.until("kube-system");
    let took = server.stop();
    assert!(took < std::time::Duration::from_secs(4), "{took:?}");
    watch.end();
}
