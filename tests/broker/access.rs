//! Who may what, over real TLS with real certificates, and as a viewer on the plain listener. Ours only.

use std::process::{Command, Stdio};

use bramble::broker::packet::{Packet, Publish, Qos, Version};
use bramble::broker::{BrokerError, Config, bind};
use bramble::link::bus;
use bytes::Bytes;
use tokio::time::timeout;

use super::client::{Client, HANG, OPTIONS, Place, hello, hello_with, publish, retained, will};
use super::servers::{BASE, Ours, Pki, loopback};

fn place(server: &Ours, name: &str) -> Place {
    Place::tls(server.tls, server.pki.credentials(name, None))
}

fn viewer(server: &Ours) -> Place {
    Place::plain(server.plain)
}

#[tokio::test]
async fn a_node_can_neither_read_nor_write_what_is_anothers() {
    let server = Ours::start().await;
    let mut watcher = Client::enter(&viewer(&server), hello(Version::V5, "watcher")).await;
    watcher.subscribe("#").await;
    let mut node = Client::enter(&place(&server, "n1"), hello(Version::V5, "n1")).await;
    for topic in ["nodes/n2/health", "nodes/n1/down/head", "nodes/n1/x", "bridge/event", "pods/d/web"] {
        assert_eq!(node.publish(retained(&format!("{BASE}/{topic}"), "x")).await, 0x87, "{topic}");
    }
    for topic in ["homeassistant/x", "elsewhere", "bramble/other/nodes/n1/health"] {
        assert_eq!(node.publish(retained(topic, "x")).await, 0x87, "{topic}");
    }
    for filter in
        ["#", "bramble/test/#", "bramble/test/nodes/+/down/#", "bramble/test/nodes/n2/down/#", "bramble/test/nodes/n1/#"]
    {
        assert_eq!(node.subscribe_as(filter, OPTIONS).await, 0x87, "{filter}");
    }
    assert_eq!(server.handle.counters().refused_publishes, 8);
    assert_eq!(server.handle.counters().refused_subscriptions, 5);
    // Its own, on the other hand.
    for topic in ["availability", "info", "health", "up/report"] {
        assert_eq!(node.publish(retained(&format!("{BASE}/nodes/n1/{topic}"), "{}")).await, 0, "{topic}");
        assert_eq!(watcher.text().await, format!("{BASE}/nodes/n1/{topic}={{}}"));
    }
    watcher.silence().await;
    // An old client cannot be told; it is acknowledged, and nothing comes of it.
    let mut old = Client::enter(&place(&server, "n3"), hello(Version::V311, "n3")).await;
    assert_eq!(old.publish(publish(&format!("{BASE}/nodes/n2/health"), "x")).await, 0);
    assert_eq!(old.subscribe_as("bramble/test/#", OPTIONS).await, 0x80);
    old.send(&Packet::Publish(Publish { qos: Qos::ExactlyOnce, id: 9, ..publish(&format!("{BASE}/nodes/n2/health"), "x") }))
        .await;
    assert!(matches!(old.next().await, Some(Packet::PubRec(_))));
    watcher.silence().await;
}

#[tokio::test]
async fn a_name_a_will_and_a_session_belong_to_their_certificate() {
    let server = Ours::start().await;
    let n1 = place(&server, "n1");
    for (packet, expected) in [
        (hello(Version::V5, "n2"), 0x85),
        (hello(Version::V311, "n2"), 2),
        (hello_with(Version::V5, "n1", Some(will("bramble/test/nodes/n2/availability", "offline"))), 0x87),
        (hello_with(Version::V311, "n1", Some(will("bramble/test/nodes/n2/availability", "offline"))), 5),
    ] {
        assert_eq!(Client::knock(&n1, packet).await.hello.reason, expected);
    }
    // A viewer that calls itself like a node does not take its session over.
    let mut node = Client::enter(&n1, hello(Version::V5, "n1")).await;
    let _viewer = Client::enter(&viewer(&server), hello(Version::V5, "n1")).await;
    assert_eq!(node.publish(publish(&format!("{BASE}/nodes/n1/health"), "x")).await, 0);
    assert_eq!(server.handle.counters().taken_over, 0);
}

#[tokio::test]
async fn who_has_no_certificate_of_the_cluster_or_no_nodes_one_stays_outside() {
    let server = Ours::start().await;
    let foreign = Place::tls(server.tls, Pki::new().credentials("n1", None));
    let foreign_client = {
        // Trusts our server, but comes with another CA's certificate.
        let ours = server.pki.credentials("x", None);
        let theirs = Pki::new().credentials("n1", None);
        Place { credentials: Some(bramble::tls::Credentials { ca: ours.ca, ..theirs }), ..foreign.clone() }
    };
    let administrator =
        Place { credentials: Some(server.pki.credentials("bramble-admin", Some("system:masters"))), ..foreign.clone() };
    assert!(foreign.try_socket().await.is_err(), "it does not trust our server");
    for place in [foreign_client, administrator, Place { credentials: None, ..foreign }] {
        // With TLS 1.3 a client learns only afterwards that its certificate was refused.
        if let Ok(mut socket) = place.try_socket().await {
            let mut connect = bytes::BytesMut::new();
            bramble::broker::packet::encode(Version::V5, &Packet::Connect(Box::new(hello(Version::V5, "n1"))), &mut connect);
            let _ = tokio::io::AsyncWriteExt::write_all(&mut socket, &connect).await;
            let mut answer = Vec::new();
            let _ = timeout(HANG, tokio::io::AsyncReadExt::read_to_end(&mut socket, &mut answer)).await.unwrap();
            assert!(answer.first() != Some(&0x20), "it was let in: {answer:?}");
        }
    }
    timeout(HANG, async {
        while server.handle.counters().refused_connections < 4 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("each is counted");
    assert_eq!(server.handle.counters().sessions, 0);
}

#[tokio::test]
async fn a_viewer_reads_all_but_shares_and_calls_and_writes_nothing() {
    let server = Ours::start().await;
    let send = |topic: &str, retain| {
        let (topic, payload) = (format!("{BASE}/{topic}"), Bytes::from_static(b"1"));
        server.bus.publish(bus::Publish { topic, payload, retain, expiry_seconds: None }).unwrap();
    };
    send("nodes/n1/down/head", true);
    send("bridge/state", true);
    let mut viewer = Client::enter(&viewer(&server), hello(Version::V5, "v")).await;
    for filter in
        ["bramble/test/nodes/+/down/#", "bramble/test/nodes/n1/down/head", "bramble/test/nodes/+/up/call/#", "homeassistant/#"]
    {
        assert_eq!(viewer.subscribe_as(filter, OPTIONS).await, 0x87, "{filter}");
    }
    viewer.subscribe("bramble/test/#").await;
    assert_eq!(viewer.text().await, "bramble/test/bridge/state=1");
    for topic in ["nodes/n1/down/assignment", "nodes/n1/up/call/7/out", "nodes/n1/up/report"] {
        send(topic, false);
    }
    assert_eq!(viewer.text().await, "bramble/test/nodes/n1/up/report=1");
    viewer.silence().await;
    assert_eq!(viewer.publish(publish("bramble/test/bridge/request/scale", "{}")).await, 0x87);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_mosquitto_tools_see_readable_json_and_cannot_write() {
    if super::servers::skipped() {
        return;
    }
    let server = Ours::start().await;
    let mut node = Client::enter(&place(&server, "n1"), hello(Version::V5, "n1")).await;
    node.publish(retained(&format!("{BASE}/nodes/n1/health"), r#"{"load":0.5,"temperature_celsius":48.2}"#)).await;
    let port = server.plain.port().to_string();
    let topic = format!("{BASE}/nodes/+/health");
    let heard = tokio::task::spawn_blocking({
        let port = port.clone();
        move || {
            // `-C 1 -W 5`: one message, or five seconds.
            Command::new("mosquitto_sub")
                .args(["-h", "127.0.0.1", "-p", &port, "-v", "-t", &topic, "-C", "1", "-W", "5"])
                .stdin(Stdio::null())
                .output()
                .expect("mosquitto_sub is missing: install the package `mosquitto-clients`")
        }
    })
    .await
    .unwrap();
    let text = String::from_utf8(heard.stdout).unwrap();
    let (topic, payload) = text.trim().split_once(' ').expect("topic and payload");
    assert_eq!(topic, "bramble/test/nodes/n1/health");
    let value: serde_json::Value = serde_json::from_str(payload).unwrap();
    assert_eq!(value["temperature_celsius"], 48.2);
    let refused = tokio::task::spawn_blocking(move || {
        Command::new("mosquitto_pub")
            .args(["-h", "127.0.0.1", "-p", &port, "-V", "5", "-q", "1", "-t", "bramble/test/bridge/request/scale", "-m", "{}"])
            .stdin(Stdio::null())
            .output()
            .unwrap()
    })
    .await
    .unwrap();
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(words.contains("Not authorized"), "{words:?}");
    assert_eq!(server.handle.counters().refused_publishes, 1);
}

#[tokio::test]
async fn a_port_in_use_or_an_open_address_is_said_with_what_to_do() {
    let taken = std::net::TcpListener::bind(loopback()).unwrap();
    let address = taken.local_addr().unwrap();
    let refuse = |plain: std::net::SocketAddr| async move {
        let config = Config { plain: Some(plain), ..Config::new(BASE, "homeassistant") };
        match bind(config).await {
            Err(error) => error,
            Ok(_) => panic!("it was taken"),
        }
    };
    let error = refuse(address).await;
    assert!(matches!(error, BrokerError::InUse { .. }));
    assert!(error.to_string().contains(&address.to_string()) && error.to_string().contains("another port"), "{error}");
    let error = refuse("0.0.0.0:0".parse().unwrap()).await;
    assert!(matches!(error, BrokerError::NotLoopback { .. }) && error.to_string().contains("127.0.0.1"), "{error}");
    let config = Config::new("bramble/+", "homeassistant");
    assert!(matches!(bind(config).await, Err(BrokerError::Base(_))));
}
