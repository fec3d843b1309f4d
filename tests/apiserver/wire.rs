//! What is not for kubectl to send: sizes, methods, content types, logs.

use bramble::api::registry;
use bramble::apiserver::{BindError, bind};

use crate::harness::{Server, each_kubectl};
use crate::objects::POD;

#[test]
fn a_log_comes_from_the_pods_node_or_says_why_it_does_not() {
    each_kubectl(|server, kubectl| {
        kubectl.input(&["create", "-f", "-"], POD).ok();
        kubectl.run(&["logs", "web"]).fails("container \"c\" in pod \"web\" is waiting to start");
        let bound_to = |node: &str| {
            server.change(&registry::PODS, "default", "web", |pod| {
                pod.set_at(&["spec", "nodeName"], node);
                pod.set_at(&["status", "containerStatuses"], serde_json::json!([{"name": "c", "state": {"running": {}}}]));
            });
        };
        bound_to("pi");
        kubectl.run(&["logs", "web", "--tail=3"]).says("c on pi, tail Some(3)");
        kubectl.run(&["logs", "-f", "web", "-c", "c"]).says("c on pi, tail None");
        kubectl.run(&["logs", "web", "-p"]).fails("previous terminated container \"c\" in pod \"web\" not found");
        bound_to("deaf");
        kubectl.run(&["logs", "web"]).fails("node deaf does not answer: its link is down");
    });
}

#[test]
fn a_body_over_the_limit_is_refused_by_its_size() {
    each_kubectl(|server, kubectl| {
        let big = format!(
            "{{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{{\"name\":\"big\"}},\"data\":{{\"a\":\"{}\"}}}}",
            "x".repeat(3_500_000)
        );
        kubectl.input(&["create", "-f", "-"], &big).fails("Request entity too large: limit is 3145728");
        assert_eq!(server.count("configmaps"), 4);
    });
}

#[test]
fn a_port_in_use_says_what_to_do() {
    let server = Server::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = runtime.block_on(bind(server.address, None)).map(|_| ()).unwrap_err();
    assert!(matches!(error, BindError::InUse { .. }));
    assert!(error.to_string().contains("--api-port"), "{error}");
}
