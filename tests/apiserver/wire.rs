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
fn a_node_is_made_to_blink_by_administrators_or_it_is_said_why_not() {
    let server = Server::start();
    for node in ["pi", "bare", "deaf"] {
        server.put(&registry::NODES, serde_json::json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}}));
    }
    for (method, node, query, code, words) in [
        ("POST", "pi", "?seconds=7", 200, "{\"leds\":7}"),
        ("POST", "pi", "", 200, "{\"leds\":60}"),
        ("GET", "pi", "", 405, "does not allow this method"),
        ("POST", "pi", "?seconds=0", 400, "seconds must be from 1 to 3600, and it is 0"),
        ("POST", "nobody", "", 404, "nodes \\\"nobody\\\" not found"),
        ("POST", "bare", "", 409, "it has no LEDs: its board has none"),
        ("POST", "deaf", "", 503, "node deaf does not answer: its link is down"),
    ] {
        let raw = server.raw(method, &format!("/api/v1/nodes/{node}/proxy/identify{query}"), &[], "");
        assert!(raw.code == code && raw.body.contains(words), "{method} {node}{query}: {} {}", raw.code, raw.body);
    }
    each_kubectl(|server, kubectl| {
        server.put(&registry::NODES, serde_json::json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "pi"}}));
        let path = "/api/v1/nodes/pi/proxy/identify?seconds=9";
        kubectl.input(&["create", "--raw", path, "-f", "-"], " ").says("{\"leds\":9}");
        let node = server.kubectl_as(&kubectl.program, "bramble-1", Some("system:nodes"));
        node.input(&["create", "--raw", path, "-f", "-"], " ").fails("cannot create resource \"nodes/proxy\"");
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

const MAP: &str = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"m"},"data":{"a":"b"}}"#;
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const JSON: (&str, &str) = ("Content-Type", "application/json");
const TABLE: (&str, &str) = ("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io");

#[test]
fn requests_that_mean_nothing_get_the_status_of_their_kind() {
    let server = Server::start();
    let review = r#"{"apiVersion":"authorization.k8s.io/v1","kind":"SelfSubjectAccessReview"}"#;
    for (method, path, headers, body, code, reason) in [
        ("PUT", MAPS, vec![JSON], MAP, 405, "MethodNotAllowed"),
        ("HEAD", MAPS, vec![], "", 405, ""),
        ("POST", MAPS, vec![("Content-Type", "text/plain")], MAP, 415, "UnsupportedMediaType"),
        ("PATCH", "/api/v1/namespaces/default", vec![JSON], "{}", 415, "UnsupportedMediaType"),
        ("POST", MAPS, vec![JSON], "{", 400, "BadRequest"),
        ("POST", MAPS, vec![JSON], "", 400, "BadRequest"),
        ("POST", "/api/v1/configmaps", vec![JSON], MAP, 405, "MethodNotAllowed"),
        ("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", vec![JSON, TABLE], review, 406, "NotAcceptable"),
        ("GET", MAPS, vec![("Accept", "text/html")], "", 406, "NotAcceptable"),
        ("GET", "/apis/none.io/v1/things", vec![], "", 404, "NotFound"),
        // There is no resize in place.
        ("PATCH", "/api/v1/namespaces/default/pods/web/resize", vec![JSON], "{}", 404, "NotFound"),
        ("GET", "/api/v1/configmaps?watch=1&sendInitialEvents=true", vec![], "", 422, "Invalid"),
        ("GET", "/api/v1/configmaps?resourceVersion=999999", vec![], "", 504, "Timeout"),
        ("POST", "/api/v1/namespaces/default/configmaps?dryRun=Some", vec![JSON], MAP, 422, "Invalid"),
    ] {
        let answer = server.raw(method, path, &headers, body);
        assert_eq!(answer.code, code, "{method} {path}: {}", answer.body);
        if !reason.is_empty() {
            let status = answer.json();
            assert_eq!((status["kind"].as_str(), status["reason"].as_str()), (Some("Status"), Some(reason)), "{method} {path}");
        }
    }
    assert_eq!(server.count("configmaps"), 4);
}

#[test]
fn writes_are_answered_as_kubernetes_answers_them() {
    let server = Server::start();
    let with_typo = MAP.replace("\"data\"", "\"dataa\"");
    let warned = server.raw("POST", &format!("{MAPS}?dryRun=All"), &[JSON], &with_typo);
    assert_eq!(
        (warned.code, warned.headers.get("warning").map(String::as_str)),
        (201, Some("299 - \"unknown field \\\"dataa\\\"\""))
    );
    let made = server.raw(
        "POST",
        MAPS,
        &[("Content-Type", "application/yaml")],
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: m}}",
    );
    assert_eq!((made.code, made.headers["cache-control"].as_str()), (201, "no-cache, private"));
    let made = made.json();
    let update = |revision: &str, value: &str| {
        let mut body = made.clone();
        body["metadata"]["resourceVersion"] = revision.into();
        body["data"] = serde_json::json!({"a": value});
        server.raw("PUT", &format!("{MAPS}/m"), &[JSON], &body.to_string())
    };
    let revision = made["metadata"]["resourceVersion"].as_str().unwrap();
    let changed = update(revision, "1");
    assert_eq!(changed.code, 200);
    let newer = changed.json()["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    assert_ne!(newer, revision);
    let stale = update(revision, "2");
    assert_eq!((stale.code, stale.json()["details"]["kind"].as_str()), (409, Some("configmaps")));
    assert_eq!(update(&newer, "1").json()["metadata"]["resourceVersion"], newer.as_str(), "nothing changed, and it was written");
    let wrong_uid = server.raw("DELETE", &format!("{MAPS}/m"), &[JSON], r#"{"preconditions":{"uid":"other"}}"#);
    assert_eq!(wrong_uid.code, 409);
    assert_eq!(server.raw("DELETE", &format!("{MAPS}/m?dryRun=All"), &[], "").json()["status"], "Success");
    let gone = server.raw("DELETE", &format!("{MAPS}/m"), &[], "").json();
    assert_eq!((gone["kind"].as_str(), gone["details"]["uid"].as_str()), (Some("Status"), made["metadata"]["uid"].as_str()));
    for name in ["a", "b", "c"] {
        let map = MAP.replace("\"name\":\"m\"", &format!("\"name\":\"{name}\",\"labels\":{{\"l\":\"{name}\"}}"));
        assert_eq!(server.raw("POST", MAPS, &[JSON], &map).code, 201);
    }
    assert_eq!(server.raw("DELETE", &format!("{MAPS}?labelSelector=l%20in%20(a,b)"), &[], "").code, 200);
    let left = server.raw("GET", &format!("{MAPS}?labelSelector=l"), &[], "").json();
    assert_eq!(
        left["items"].as_array().map(|items| items.iter().map(|item| item["metadata"]["name"].clone()).collect()),
        Some(vec![serde_json::json!("c")])
    );
}

#[test]
fn a_watch_ends_in_time_and_says_when_it_is_too_late() {
    let server = Server::start();
    let revision = server.raw("GET", MAPS, &[], "").json()["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    server.raw("POST", MAPS, &[JSON], MAP);
    let from = |query: &str| server.raw("GET", &format!("{MAPS}?watch=1&timeoutSeconds=1&{query}"), &[], "");
    let since = from(&format!("resourceVersion={revision}&allowWatchBookmarks=true"));
    assert_eq!((since.code, since.headers["content-type"].as_str()), (200, "application/json"));
    let kinds =
        |lines: &[serde_json::Value]| lines.iter().map(|line| line["type"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(kinds(&since.lines()), ["ADDED", "BOOKMARK"]);
    assert_eq!(kinds(&from("").lines()), ["ADDED", "ADDED"], "what is there comes first, and no bookmark that nobody asked for");
    let late = from("resourceVersion=5").lines();
    assert_eq!((kinds(&late), late[0]["object"]["code"].as_u64()), (vec!["ERROR".to_owned()], Some(410)));
    let one = server.raw("GET", &format!("{MAPS}/m?watch=1&timeoutSeconds=1"), &[], "").lines();
    assert_eq!((one.len(), one[0]["object"]["metadata"]["name"].as_str()), (1, Some("m")));
    let table = server.raw("GET", &format!("{MAPS}?watch=1&timeoutSeconds=1"), &[TABLE], "").lines();
    assert_eq!(table[0]["object"]["kind"], "Table");
}

#[test]
fn what_a_client_has_is_not_sent_again() {
    let server = Server::start();
    let v2 = ("Accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json");
    let first = server.raw("GET", "/apis", &[v2], "");
    assert_eq!(first.headers["content-type"], "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList");
    assert_eq!(server.raw("GET", "/apis", &[v2, ("If-None-Match", &first.headers["etag"])], "").code, 304);
    assert_ne!(server.raw("GET", "/apis", &[], "").headers["etag"], first.headers["etag"]);
    let index = server.raw("GET", "/openapi/v3", &[], "").json();
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap().to_owned();
    let document = server.raw("GET", &url, &[], "");
    assert_eq!((document.code, document.headers["cache-control"].as_str()), (200, "public, immutable"));
    assert!(document.headers.contains_key("expires") && document.headers.contains_key("etag"));
}

#[test]
fn pods_are_bound_and_evicted_below_their_path() {
    let server = Server::start();
    let pod = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web"},"spec":{"containers":[{"name":"c","image":"i"}]}}"#;
    let pods = "/api/v1/namespaces/default/pods";
    assert_eq!(server.raw("POST", pods, &[JSON], pod).code, 201);
    let binding = r#"{"apiVersion":"v1","kind":"Binding","metadata":{"name":"web"},"target":{"kind":"Node","name":"pi"}}"#;
    assert_eq!(server.raw("POST", &format!("{pods}/web/binding"), &[JSON], binding).code, 201);
    assert_eq!(server.raw("POST", &format!("{pods}/web/binding"), &[JSON], binding).code, 409);
    let eviction = r#"{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"web"}}"#;
    assert_eq!(server.raw("POST", &format!("{pods}/web/eviction"), &[JSON], eviction).code, 201);
    let pod = server.raw("GET", &format!("{pods}/web"), &[], "").json();
    assert_eq!(
        (pod["spec"]["nodeName"].as_str(), pod["metadata"]["deletionGracePeriodSeconds"].as_i64()),
        (Some("pi"), Some(30))
    );
}

#[test]
fn patches_that_race_are_all_there_in_the_end() {
    let server = Server::start();
    server.raw("POST", MAPS, &[JSON], MAP);
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let server = &server;
            scope.spawn(move || {
                for turn in 0..10 {
                    let patch = format!(r#"{{"data":{{"k{writer}-{turn}":"x"}}}}"#);
                    let answer =
                        server.raw("PATCH", &format!("{MAPS}/m"), &[("Content-Type", "application/merge-patch+json")], &patch);
                    assert_eq!(answer.code, 200, "{}", answer.body);
                    assert_eq!(server.raw("GET", &format!("{MAPS}?limit=1"), &[], "").code, 200);
                }
            });
        }
    });
    let map = server.raw("GET", &format!("{MAPS}/m"), &[], "").json();
    assert_eq!(map["data"].as_object().unwrap().len(), 81);
}

#[test]
fn a_quiet_watch_whose_client_left_is_let_go() {
    let server = Server::start();
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = open();
    let clients: Vec<_> = (0..10).map(|_| server.open("/api/v1/namespaces/default/pods?watch=1")).collect();
    assert!(open() >= before + 20);
    drop(clients);
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while open() > before {
        assert!(std::time::Instant::now() < end, "{} file descriptors, {before} before", open());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
