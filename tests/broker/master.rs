//! The master's end, in process, and the broker's own end. Ours only.

use std::time::Duration;

use bramble::broker::packet::{Options, Qos, Version};
use bramble::link::bus::{BusEvent, Full, Publish};
use bytes::Bytes;
use tokio::time::{Instant, timeout};

use super::client::{Client, HANG, OPTIONS, Place, hello, hello_with, publish, retained, will};
use super::servers::{BASE, Ours};

fn node(server: &Ours, name: &str) -> Place {
    Place::tls(server.tls, server.pki.credentials(name, None))
}

async fn next(server: &mut Ours) -> BusEvent {
    timeout(HANG, server.events.recv()).await.expect("nothing came").expect("the end")
}

fn message(topic: &str, payload: &'static str) -> BusEvent {
    BusEvent::Message { topic: format!("{BASE}/{topic}"), payload: Bytes::from_static(payload.as_bytes()), retained: false }
}

fn down(topic: &str, payload: &'static str, retain: bool) -> Publish {
    let payload = Bytes::from_static(payload.as_bytes());
    Publish { topic: format!("{BASE}/{topic}"), payload, retain, expiry_seconds: Some(60) }
}

#[tokio::test]
async fn master_and_node_talk_without_a_socket_on_the_masters_side() {
    let mut server = Ours::start().await;
    assert_eq!(next(&mut server).await, BusEvent::Connected);
    server.bus.publish(down("nodes/n1/down/head", "7", true)).unwrap();
    let place = node(&server, "n1");
    let mut n1 =
        Client::enter(&place, hello_with(Version::V5, "n1", Some(will("bramble/test/nodes/n1/availability", "offline")))).await;
    assert_eq!(next(&mut server).await, BusEvent::Alive { client: "n1".into() });
    n1.subscribe("bramble/test/nodes/n1/down/#").await;
    assert_eq!(n1.text().await, "bramble/test/nodes/n1/down/head=7");
    server.bus.publish(down("nodes/n1/down/assignment", "{}", false)).unwrap();
    server.bus.publish(down("nodes/n2/down/assignment", "{}", false)).unwrap();
    assert_eq!(n1.text().await, "bramble/test/nodes/n1/down/assignment={}");
    n1.publish(publish("bramble/test/nodes/n1/up/report", "r")).await;
    n1.publish(retained("bramble/test/nodes/n1/health", "not asked for")).await;
    n1.publish(retained("bramble/test/nodes/n1/availability", "online")).await;
    assert_eq!(next(&mut server).await, message("nodes/n1/up/report", "r"));
    assert_eq!(next(&mut server).await, message("nodes/n1/availability", "online"));
    // What the master itself writes does not come back to it.
    server.bus.publish(down("nodes/n1/availability", "", true)).unwrap();
    drop(n1);
    assert_eq!(next(&mut server).await, message("nodes/n1/availability", "offline"));
    server.bus.publish(down("../elsewhere/+", "x", false)).unwrap();
    assert_eq!(server.handle.counters().refused_publishes, 1, "a wrong topic of the master's is counted");
}

#[tokio::test]
async fn a_master_that_does_not_keep_up_is_told_everything_again() {
    let mut server = Ours::start().await;
    let mut n1 = Client::enter(&node(&server, "n1"), hello(Version::V5, "n1")).await;
    n1.publish(retained("bramble/test/nodes/n1/availability", "online")).await;
    let mut sent = 0;
    while server.handle.counters().resyncs == 0 {
        n1.publish(publish("bramble/test/nodes/n1/up/report", vec![0; 200_000])).await;
        sent += 1;
        assert!(sent < 1000, "never full");
    }
    let mut seen = Vec::new();
    while !(seen.contains(&BusEvent::Disconnected)
        && seen.iter().any(|event| matches!(event, BusEvent::Message { retained: true, .. })))
    {
        seen.push(next(&mut server).await);
    }
    let cut = seen.iter().position(|event| *event == BusEvent::Disconnected).unwrap();
    assert_eq!(seen.get(cut + 1), Some(&BusEvent::Connected));
    assert!(matches!(seen.last(), Some(BusEvent::Message { topic, .. }) if topic.ends_with("n1/availability")));
}

#[tokio::test]
async fn a_stop_tells_everybody_and_sends_no_wills() {
    let mut server = Ours::start().await;
    let last = || Some(will("bramble/test/nodes/n1/availability", "offline"));
    let mut n1 = Client::enter(&node(&server, "n1"), hello_with(Version::V5, "n1", last())).await;
    let viewer = Place::plain(server.plain);
    let mut watcher = Client::enter(&viewer, hello(Version::V5, "v")).await;
    watcher.subscribe_as("#", Options { qos: Qos::AtMostOnce, ..OPTIONS }).await;
    // One that has not logged in yet holds nothing up.
    let _silent = tokio::net::TcpStream::connect(server.tls).await.unwrap();
    let start = Instant::now();
    server.stop.cancel();
    assert_eq!(n1.farewell().await, Some(0x8B));
    assert_eq!(watcher.farewell().await, Some(0x8B));
    drop((n1, watcher));
    timeout(HANG, &mut server.task).await.expect("it never ended").unwrap();
    assert!(start.elapsed() < Duration::from_secs(4));
    assert_eq!(server.bus.publish(down("bridge/state", "x", true)), Err(Full));
    assert!(tokio::net::TcpStream::connect(server.plain).await.is_err(), "nobody listens");
    while let Ok(event) = server.events.try_recv() {
        assert!(!matches!(event, BusEvent::Message { .. }), "{event:?}");
    }
}
