//! The node's HTTP door on loopback: real sockets, curl and openssl as clients, back ends of the tests' own.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::disallowed_methods)] // a test may die of what it did not expect

#[path = "ingress/world.rs"]
mod world;

#[path = "ingress/changes.rs"]
mod changes;
#[path = "ingress/flow.rs"]
mod flow;
#[path = "ingress/tls.rs"]
mod tls;

use serde_json::json;

use world::{Backend, World, curl};

#[tokio::test(flavor = "multi_thread")]
async fn a_request_reaches_the_pod_with_what_it_should_know_of_the_client() {
    let backend = Backend::echo("web").await;
    let world = World::new(|share| {
        share.service("web", &[&backend]);
        share.ingress("web", json!({"rules": [World::rule("a.example", "Prefix", "/app", "web")]}));
    })
    .await;
    let said = curl(&[
        "-H",
        "X-Forwarded-For: 1.2.3.4",
        "-H",
        "Connection: X-Secret, close",
        "-H",
        "X-Secret: 1",
        "-H",
        "Keep-Alive: 5",
        "-H",
        "Te: trailers",
        "-H",
        "Host: A.Example:81",
        &world.url("/app/x?y=%20z"),
    ])
    .await;
    assert_eq!(said.status, 200, "{}", said.body);
    let lines: Vec<&str> = said.body.lines().collect();
    for line in [
        "GET /app/x?y=%20z",
        "host: A.Example:81",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-proto: http",
        "x-forwarded-host: A.Example:81",
    ] {
        assert!(lines.contains(&line), "{line} in {}", said.body);
    }
    for gone in ["x-secret", "keep-alive", "te:", "connection", "1.2.3.4"] {
        assert!(!lines.iter().any(|line| line.starts_with(gone) || line.ends_with(gone)), "{gone} in {}", said.body);
    }
    for (host, path, status) in
        [("a.example", "/", 404), ("b.example", "/app", 404), ("a.example", "/app", 200), ("a b", "/", 400)]
    {
        assert_eq!(curl(&["-H", &format!("Host: {host}"), &world.url(path)]).await.status, status, "{host}{path}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_be_reached_is_passed_over_and_what_fails_is_said_in_words() {
    let good = Backend::echo("good").await;
    let slow = Backend::silent().await;
    let dead = Backend::closed().await;
    let world = World::new(|share| {
        share.service("some", &[&dead, &good]);
        share.service("none", &[]);
        share.service("dead", &[&dead]);
        share.service("slow", &[&slow]);
        let rules: Vec<_> = ["some", "none", "dead", "missing"]
            .iter()
            .map(|name| World::rule(&format!("{name}.example"), "Prefix", "/", name))
            .collect();
        share.ingress("web", json!({"rules": rules}));
        share.annotated(
            "slow",
            json!({"nginx.ingress.kubernetes.io/proxy-read-timeout": "1"}),
            json!({"rules": [World::rule("slow.example", "Prefix", "/", "slow")]}),
        );
    })
    .await;
    for _ in 0..6 {
        let said = world.get("some.example", "/").await;
        assert_eq!(said.status, 200, "{}", said.body);
    }
    // A body that was not yet sent goes to the next one whole.
    let said = curl(&["-H", "Host: some.example", "-d", "hello", &world.url("/")]).await;
    assert!(said.body.ends_with("\n\nhello"), "{}", said.body);
    for (name, status, words) in [
        ("none", 503, "none of its pods is ready"),
        ("missing", 503, "there is no such service"),
        ("dead", 502, "no pod of service default/dead can be reached"),
        ("slow", 504, "did not answer in time"),
    ] {
        let said = world.get(&format!("{name}.example"), "/").await;
        assert!(said.status == status && said.body.contains(words), "{name}: {} {}", said.status, said.body);
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_refused_and_disturbs_nobody() {
    let backend = Backend::echo("web").await;
    let world = World::new(|share| {
        share.service("web", &[&backend]);
        share.ingress("web", json!({"defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}}));
    })
    .await;
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(500));
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "400"),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", "405"),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
        ("nonsense\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", "400"),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", "400"),
        (long.as_str(), "431"),
        (many.as_str(), "431"),
        ("\x16\x03\x01\x02\x00", "400"),
    ] {
        let said = world.raw(request.as_bytes()).await;
        let first = said.lines().next().unwrap_or_default();
        assert!(first.contains(status), "{}: {said}", request.chars().take(60).collect::<String>());
    }
    // A length beside a coding: the coding counts, and the pod sees one of them.
    let said = world
        .raw(b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
        .await;
    assert!(said.contains("400") || (said.contains("hello") && !said.contains("content-length: 3")), "{said}");
    // An old client, without a host.
    assert!(world.raw(b"GET /old HTTP/1.0\r\n\r\n").await.contains("GET /old"));
    assert_eq!(world.get("any.example", "/").await.status, 200);
    world.end().await;
}
