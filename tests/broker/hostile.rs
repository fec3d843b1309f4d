//! Who means harm, or is just broken, hurts nobody else. Ours only, but for [`garbage`].

use std::time::Duration;

use bramble::broker::packet::{Connect, Packet, Qos, Version, encode};
use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::client::{Client, HANG, OPTIONS, Place, hello, publish, retained, will};
use super::servers::Ours;

/// Random bytes, cut packets, lengths that lie; the same each time.
pub fn garbage(count: usize) -> Vec<Vec<u8>> {
    let mut rng = fastrand::Rng::with_seed(4711);
    let mut connect = BytesMut::new();
    let packet =
        Connect { will: Some(will("bramble/test/nodes/n1/availability", "x")), ..hello(Version::V5, "bramble-master-g") };
    encode(Version::V5, &Packet::Connect(Box::new(packet)), &mut connect);
    let random = |rng: &mut fastrand::Rng| (0..rng.usize(1..200)).map(|_| rng.u8(..)).collect::<Vec<u8>>();
    (0..count)
        .map(|number| match number % 5 {
            0 => random(&mut rng),
            1 => connect[..rng.usize(1..connect.len())].to_vec(),
            2 => [&[0x10, 0xff, 0xff, 0xff, 0xff, 0x7f][..], &random(&mut rng)].concat(),
            3 => [&[0x30, 0xff, 0xff, 0xff, 0x7f][..], &random(&mut rng)].concat(),
            _ => {
                let mut changed = connect.to_vec();
                let at = rng.usize(..changed.len());
                changed[at] = rng.u8(..);
                changed
            }
        })
        .collect()
}

fn master(server: &Ours) -> Place {
    Place::tls(server.tls, server.pki.credentials("bramble-master", None))
}

#[tokio::test]
async fn garbage_on_the_open_door_costs_nothing() {
    let server = Ours::start().await;
    for bytes in garbage(150) {
        let mut socket = TcpStream::connect(server.plain).await.unwrap();
        let _ = socket.write_all(&bytes).await;
    }
    let mut viewer = Client::enter(&Place::plain(server.plain), hello(Version::V5, "v")).await;
    viewer.subscribe("#").await;
    timeout(HANG, async {
        while server.handle.counters().malformed + server.handle.counters().refused_connections < 150 {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("each is counted");
    assert_eq!(server.handle.counters().connections, 1);
}

#[tokio::test]
async fn a_giant_packet_is_refused_when_its_header_is_there() {
    let server = Ours::with(|config| config.max_packet = 100_000).await;
    let place = master(&server);
    let mut client = Client::enter(&place, hello(Version::V5, "bramble-master")).await;
    assert_eq!(client.hello.properties.number(bramble::broker::packet::Id::MaximumPacketSize), Some(100_000));
    assert_eq!(client.publish(publish("bramble/test/x", vec![0; 99_900])).await, 0, "just fits");
    // Only the header and a little of 256 MiB: the answer comes without the rest.
    client.write(b"\x30\xff\xff\xff\x7f\x00\x01a").await.unwrap();
    assert_eq!(client.farewell().await, Some(0x95));
    // Before the login the limit is lower still, and nobody is told anything.
    let mut socket = TcpStream::connect(server.plain).await.unwrap();
    socket.write_all(b"\x10\xff\xff\xff\x7f\x00\x04MQTT\x05").await.unwrap();
    assert_eq!(timeout(HANG, socket.read(&mut [0; 10])).await.unwrap().unwrap_or(0), 0);
    assert_eq!(server.handle.counters().too_large, 1);
}

#[tokio::test]
async fn a_broken_packet_is_answered_with_its_reason() {
    let server = Ours::start().await;
    let place = master(&server);
    for (bytes, expected) in [(&b"\x00\x00"[..], 0x81), (b"\x32\x05\x00\x01a\x00\x00", 0x82), (b"\x20\x03\x00\x00\x00", 0x82)] {
        let mut client = Client::enter(&place, hello(Version::V5, "bramble-master")).await;
        client.write(bytes).await.unwrap();
        assert_eq!(client.farewell().await, Some(expected), "{bytes:?}");
    }
    // Another protocol version is told so in words that it may understand.
    for (level, expected) in [(3u8, &b"\x20\x02\x00\x01"[..]), (6, b"\x20\x03\x00\x84\x00")] {
        let mut socket = TcpStream::connect(server.plain).await.unwrap();
        socket.write_all(&[&b"\x10\x0d\x00\x04MQTT"[..], &[level], &b"\x02\x00\x3c\x00\x01a"[..]].concat()).await.unwrap();
        let mut answer = vec![0; 20];
        let length = timeout(HANG, socket.read(&mut answer)).await.unwrap().unwrap();
        assert_eq!(&answer[..length], expected, "level {level}");
    }
}

#[tokio::test]
async fn who_says_nothing_blocks_nobody_and_is_let_go() {
    let server = Ours::with(|config| config.login = Duration::from_millis(600)).await;
    let mut silent = Vec::new();
    for address in [server.tls, server.tls, server.tls, server.plain, server.plain] {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    // One that begins a CONNECT and never ends it.
    silent[4].write_all(b"\x10\x20\x00\x04MQTT\x05").await.unwrap();
    let start = Instant::now();
    let place = master(&server);
    let client = Client::enter(&place, hello(Version::V5, "bramble-master")).await;
    assert!(start.elapsed() < Duration::from_millis(600), "it waited for somebody: {:?}", start.elapsed());
    for mut socket in silent {
        let mut rest = Vec::new();
        let _ = timeout(HANG, socket.read_to_end(&mut rest)).await.expect("never let go");
    }
    assert_eq!(server.handle.counters().refused_connections, 5);
    drop(client);
}

#[tokio::test]
async fn too_many_connections_are_turned_away_until_one_leaves() {
    let server = Ours::with(|config| config.max_connections = 3).await;
    let place = Place::plain(server.plain);
    let mut clients = Vec::new();
    for number in 0..3 {
        clients.push(Client::enter(&place, hello(Version::V5, &number.to_string())).await);
    }
    let mut socket = TcpStream::connect(server.plain).await.unwrap();
    assert_eq!(timeout(HANG, socket.read(&mut [0; 1])).await.unwrap().unwrap_or(0), 0);
    clients.pop().unwrap().leave().await;
    // The task behind it may end a moment later.
    timeout(HANG, async {
        loop {
            let mut socket = TcpStream::connect(server.plain).await.unwrap();
            let mut connect = BytesMut::new();
            encode(Version::V5, &Packet::Connect(Box::new(hello(Version::V5, "again"))), &mut connect);
            let _ = socket.write_all(&connect).await;
            if socket.read(&mut [0; 1]).await.unwrap_or(0) == 1 {
                break;
            }
        }
    })
    .await
    .expect("the place is never free again");
}

#[tokio::test]
async fn a_reader_that_does_not_read_is_dropped_and_holds_up_nobody() {
    let server = Ours::with(|config| config.write = Duration::from_millis(300)).await;
    let place = Place::plain(server.plain);
    let mut lazy = Client::enter(&place, hello(Version::V5, "lazy")).await;
    let mut quick = Client::enter(&place, hello(Version::V5, "quick")).await;
    for client in [&mut lazy, &mut quick] {
        let options = bramble::broker::packet::Options { qos: Qos::AtMostOnce, ..OPTIONS };
        client.subscribe_as("bramble/test/#", options).await;
    }
    let mut writer = Client::enter(&master(&server), hello(Version::V5, "bramble-master")).await;
    let mut number = 0u32;
    timeout(HANG, async {
        while server.handle.counters().slow == 0 {
            number += 1;
            let payload = [&number.to_be_bytes()[..], &[0; 60_000]].concat();
            assert_eq!(writer.publish(publish("bramble/test/x", payload)).await, 0);
            assert_eq!(quick.message().await.payload[..4], number.to_be_bytes());
        }
    })
    .await
    .expect("never dropped");
    assert_eq!(server.handle.counters().connections, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_subscribers_get_a_thousand_kept_messages_each() {
    let server = Ours::start().await;
    let mut writer = Client::enter(&master(&server), hello(Version::V5, "bramble-master")).await;
    for number in 0..1000 {
        writer.publish(retained(&format!("bramble/test/pods/d/{number}"), vec![b'x'; 200])).await;
    }
    let place = Place::plain(server.plain);
    let mut readers = tokio::task::JoinSet::new();
    for number in 0..200 {
        let place = place.clone();
        readers.spawn(async move {
            let version = if number % 2 == 0 { Version::V5 } else { Version::V311 };
            let mut reader = Client::enter(&place, hello(version, &number.to_string())).await;
            // Most without acknowledgements and only counted: it is the broker that is tried here, not this machine.
            if number >= 10 {
                let options = bramble::broker::packet::Options { qos: Qos::AtMostOnce, ..OPTIONS };
                reader.subscribe_as("bramble/test/#", options).await;
                return reader.count(1000).await;
            }
            reader.subscribe("bramble/test/#").await;
            let mut topics = std::collections::BTreeSet::new();
            for _ in 0..1000 {
                topics.insert(reader.message().await.topic);
            }
            topics.len()
        });
    }
    while let Some(topics) = readers.join_next().await {
        assert_eq!(topics.unwrap(), 1000);
    }
    assert_eq!(server.handle.counters().dropped, 0);
}
