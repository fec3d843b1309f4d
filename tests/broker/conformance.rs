//! What a broker must do for Bramble: each case runs against ours and against Mosquitto, over TLS, as the master.

use std::sync::Arc;
use std::time::Duration;

use bramble::broker::packet::{
    Ack, Disconnect, Id, Options, Packet, Properties, Publish, Qos, RetainHandling, Unsubscribe, Value, Version, Will,
};
use rumqttc::v5::mqttbytes::QoS;
use tokio::time::{sleep, timeout};

use super::client::{Client, HANG, OPTIONS, Place, four, hello, publish, retained, will};
use super::servers::{Mosquitto, Ours};

macro_rules! both {
    ($($name:ident),* $(,)?) => {
        mod ours {
            $(#[tokio::test]
            async fn $name() {
                let server = super::Ours::start().await;
                let credentials = server.pki.credentials("bramble-master", None);
                super::$name(super::Place::tls(server.tls, credentials)).await;
            })*
        }
        mod mosquitto {
            $(#[tokio::test]
            async fn $name() {
                let Some(server) = super::Mosquitto::start() else { return };
                let credentials = server.pki.credentials("bramble-master", None);
                super::$name(super::Place { strict: false, ..super::Place::tls(server.tls, credentials) }).await;
            })*
        }
    };
}

both! {
    the_last_message_is_kept_until_it_is_cleared,
    retained_messages_come_as_the_subscription_asks,
    a_will_is_sent_when_the_client_dies_and_not_when_it_leaves,
    a_session_is_taken_over_and_its_next_death_sends_the_will,
    a_late_will_is_cancelled_by_coming_back,
    messages_wait_in_order_for_sessions_that_are_kept,
    what_was_not_acknowledged_comes_again,
    a_session_ends_with_its_time,
    quality_2_is_taken_once,
    request_and_response_pass_through,
    filters_and_topics_that_are_none_are_refused,
    one_subscriber_gets_thousands_of_kept_messages,
    silence_is_death,
    the_receivers_limits_hold,
    garbage_ends_only_its_own_connection,
    rumqttc_5_survives_a_cut,
    rumqttc_4_talks_with_5,
}

const ID: &str = "bramble-master";

fn id(suffix: &str) -> String {
    format!("{ID}-{suffix}")
}

async fn v5(place: &Place, suffix: &str) -> Client {
    Client::enter(place, hello(Version::V5, &id(suffix))).await
}

async fn v311(place: &Place, suffix: &str) -> Client {
    Client::enter(place, hello(Version::V311, &id(suffix))).await
}

async fn the_last_message_is_kept_until_it_is_cleared(place: Place) {
    let mut writer = v5(&place, "w").await;
    for (topic, payload) in [("bramble/test/k/a", "1"), ("bramble/test/k/a", "2"), ("bramble/test/k/b", "1")] {
        assert_eq!(writer.publish(retained(topic, payload)).await, 0);
    }
    writer.publish(retained("bramble/test/k/b", "")).await;
    for mut reader in [v5(&place, "r5").await, v311(&place, "r4").await] {
        // Again on the same subscription made anew.
        for _ in 0..2 {
            reader.subscribe("bramble/test/k/#").await;
            let message = reader.message().await;
            assert_eq!((&*message.topic, &message.payload[..], message.retain), ("bramble/test/k/a", &b"2"[..], true));
            reader.silence().await;
        }
        // What comes now is news, not kept.
        writer.publish(retained("bramble/test/k/a", "3")).await;
        let message = reader.message().await;
        assert_eq!((&message.payload[..], message.retain), (&b"3"[..], false));
        writer.publish(retained("bramble/test/k/a", "2")).await;
        assert_eq!(reader.text().await, "bramble/test/k/a=2");
    }
}

async fn retained_messages_come_as_the_subscription_asks(place: Place) {
    let mut writer = v5(&place, "w").await;
    writer.publish(retained("bramble/test/k/a", "1")).await;
    let mut reader = v5(&place, "r").await;
    let with = |retain_handling| Options { retain_handling, retain_as_published: true, ..OPTIONS };
    for (handling, comes) in [
        (RetainHandling::Never, false),
        (RetainHandling::IfNew, false),
        (RetainHandling::Always, true),
        (RetainHandling::IfNew, false),
    ] {
        assert_eq!(reader.subscribe_as("bramble/test/k/+", with(handling)).await, 1);
        if comes {
            assert!(reader.message().await.retain);
        }
        reader.silence().await;
    }
    writer.publish(retained("bramble/test/k/a", "2")).await;
    assert!(reader.message().await.retain, "as published");
    writer.publish(publish("bramble/test/k/a", "3")).await;
    assert!(!reader.message().await.retain, "as published");
    // No Local: not its own, but others'.
    assert_eq!(reader.subscribe_as("bramble/test/l", Options { no_local: true, ..OPTIONS }).await, 1);
    assert_eq!(reader.publish(publish("bramble/test/l", "own")).await, 0);
    writer.publish(publish("bramble/test/l", "other")).await;
    assert_eq!(reader.text().await, "bramble/test/l=other");
    reader
        .send(&Packet::Unsubscribe(Unsubscribe {
            id: 77,
            properties: Properties::default(),
            filters: vec!["bramble/test/l".into(), "bramble/test/never".into()],
        }))
        .await;
    assert!(matches!(reader.next().await, Some(Packet::UnsubAck(ack)) if ack.id == 77 && ack.reasons == [0, 0x11]));
    writer.publish(publish("bramble/test/l", "other")).await;
    reader.silence().await;
}

async fn a_will_is_sent_when_the_client_dies_and_not_when_it_leaves(place: Place) {
    let mut witness = v5(&place, "witness").await;
    witness.subscribe("bramble/test/will/#").await;
    for version in [Version::V5, Version::V311] {
        let with = |payload| {
            let will = Some(Will { retain: true, ..will("bramble/test/will/n", payload) });
            Client::enter(&place, super::client::hello_with(version, &id("n"), will))
        };
        with("left").await.leave().await;
        drop(with("died").await);
        assert_eq!(witness.text().await, "bramble/test/will/n=died");
    }
    let mut stays =
        Client::enter(&place, super::client::hello_with(Version::V5, &id("n"), Some(will("bramble/test/will/n", "told")))).await;
    stays.send(&Packet::Disconnect(Disconnect { reason: 4, properties: Properties::default() })).await;
    assert_eq!(witness.text().await, "bramble/test/will/n=told");
    let mut late = v5(&place, "late").await;
    late.subscribe("bramble/test/will/n").await;
    assert_eq!(late.text().await, "bramble/test/will/n=died");
}

async fn a_session_is_taken_over_and_its_next_death_sends_the_will(place: Place) {
    let mut witness = v5(&place, "witness").await;
    witness.subscribe("bramble/test/will/#").await;
    let enter = |payload| {
        let mut packet = super::client::hello_with(Version::V5, &id("n"), Some(will("bramble/test/will/n", payload)));
        packet.clean = false;
        packet.properties = four(Id::SessionExpiry, 60);
        Client::enter(&place, packet)
    };
    let mut old = enter("first").await;
    let new = enter("second").await;
    assert!(new.hello.session_present);
    assert_eq!(old.farewell().await.or((!place.strict).then_some(0x8E)), Some(0x8E));
    drop(old);
    // The client lives: nobody hears of its death.
    witness.silence().await;
    drop(new);
    assert_eq!(witness.text().await, "bramble/test/will/n=second");
}

async fn a_late_will_is_cancelled_by_coming_back(place: Place) {
    let mut witness = v5(&place, "witness").await;
    witness.subscribe("bramble/test/will/#").await;
    let enter = || {
        let mut last = will("bramble/test/will/n", "died");
        last.properties = four(Id::WillDelay, 1);
        let mut packet = super::client::hello_with(Version::V5, &id("n"), Some(last));
        packet.clean = false;
        packet.properties = four(Id::SessionExpiry, 60);
        Client::enter(&place, packet)
    };
    drop(enter().await);
    sleep(Duration::from_millis(300)).await;
    let back = enter().await;
    sleep(Duration::from_millis(1500)).await;
    witness.silence().await;
    drop(back);
    witness.silence().await;
    assert_eq!(witness.text().await, "bramble/test/will/n=died");
}

async fn messages_wait_in_order_for_sessions_that_are_kept(place: Place) {
    let enter5 = || {
        let mut packet = hello(Version::V5, &id("r5"));
        (packet.clean, packet.properties) = (false, four(Id::SessionExpiry, 60));
        Client::enter(&place, packet)
    };
    let enter4 = || {
        let mut packet = hello(Version::V311, &id("r4"));
        packet.clean = false;
        Client::enter(&place, packet)
    };
    for mut reader in [enter5().await, enter4().await] {
        assert!(!reader.hello.session_present);
        reader.subscribe("bramble/test/q/#").await;
        reader.leave().await;
    }
    let mut writer = v5(&place, "w").await;
    for number in 0..300 {
        writer.publish(publish("bramble/test/q/x", number.to_string())).await;
    }
    for mut reader in [enter5().await, enter4().await] {
        assert!(reader.hello.session_present);
        for number in 0..300 {
            assert_eq!(reader.text().await, format!("bramble/test/q/x={number}"));
        }
        reader.leave().await;
    }
    // A clean start forgets it.
    let mut reader = v311(&place, "r4").await;
    assert!(!reader.hello.session_present);
    writer.publish(publish("bramble/test/q/x", "late")).await;
    reader.silence().await;
}

async fn what_was_not_acknowledged_comes_again(place: Place) {
    let enter = || {
        let mut packet = hello(Version::V5, &id("r"));
        (packet.clean, packet.properties) = (false, four(Id::SessionExpiry, 60));
        Client::enter(&place, packet)
    };
    let mut reader = enter().await;
    reader.subscribe("bramble/test/q/#").await;
    let mut writer = v5(&place, "w").await;
    for number in 0..3 {
        writer.publish(publish("bramble/test/q/x", number.to_string())).await;
    }
    let first = reader.message().await;
    let second = reader.unacknowledged().await;
    assert!(!first.dup && !second.dup);
    // So that the acknowledgement of the first has arrived before the cut.
    reader.send(&Packet::PingReq).await;
    while reader.next().await != Some(Packet::PingResp) {}
    drop(reader);
    let mut reader = enter().await;
    let again = reader.message().await;
    assert_eq!((&again.payload[..], again.dup, again.id), (&b"1"[..], true, second.id));
    assert_eq!(reader.text().await, "bramble/test/q/x=2");
    reader.silence().await;
}

async fn a_session_ends_with_its_time(place: Place) {
    let enter = |seconds| {
        let mut packet = hello(Version::V5, &id("r"));
        (packet.clean, packet.properties) = (false, four(Id::SessionExpiry, seconds));
        Client::enter(&place, packet)
    };
    drop(enter(1).await);
    sleep(Duration::from_millis(200)).await;
    let back = enter(1).await;
    assert!(back.hello.session_present);
    drop(back);
    // Mosquitto looks every now and then.
    sleep(Duration::from_millis(if place.strict { 1200 } else { 3200 })).await;
    let late = enter(0).await;
    assert!(!late.hello.session_present);
    drop(late);
    sleep(Duration::from_millis(200)).await;
    assert!(!enter(0).await.hello.session_present, "0: it ends with the connection");
}

async fn quality_2_is_taken_once(place: Place) {
    let mut reader = v5(&place, "r").await;
    reader.subscribe("bramble/test/q/#").await;
    let mut old = v311(&place, "w").await;
    let message = |dup| Packet::Publish(Publish { dup, qos: Qos::ExactlyOnce, id: 5, ..publish("bramble/test/q/x", "once") });
    for dup in [false, true] {
        old.send(&message(dup)).await;
        assert_eq!(old.next().await, Some(Packet::PubRec(Ack::new(5, 0))));
    }
    old.send(&Packet::PubRel(Ack::new(5, 0))).await;
    assert_eq!(old.next().await, Some(Packet::PubComp(Ack::new(5, 0))));
    let got = reader.message().await;
    assert_eq!((&got.payload[..], got.qos), (&b"once"[..], Qos::AtLeastOnce));
    reader.silence().await;
    // The identifier is free again.
    old.send(&message(false)).await;
    assert_eq!(old.next().await, Some(Packet::PubRec(Ack::new(5, 0))));
    old.send(&Packet::PubRel(Ack::new(5, 0))).await;
    assert_eq!(old.next().await, Some(Packet::PubComp(Ack::new(5, 0))));
    assert_eq!(reader.text().await, "bramble/test/q/x=once");
}

async fn request_and_response_pass_through(place: Place) {
    let mut reader = v5(&place, "r").await;
    reader.subscribe("bramble/test/q/#").await;
    let mut old = v311(&place, "old").await;
    old.subscribe("bramble/test/q/#").await;
    let mut writer = v5(&place, "w").await;
    let properties = Properties::default()
        .with(Id::PayloadFormat, Value::Flag(1))
        .with(Id::ContentType, Value::Text("application/json".into()))
        .with(Id::ResponseTopic, Value::Text("bramble/test/answer".into()))
        .with(Id::CorrelationData, Value::Binary("4711".into()))
        .with(Id::UserProperty, Value::Pair("key".into(), "value".into()))
        .with(Id::MessageExpiry, Value::Four(100));
    let message = Publish { properties: properties.clone(), ..publish("bramble/test/q/x", "{}") };
    writer.publish(message.clone()).await;
    let got = reader.message().await;
    for name in [Id::PayloadFormat, Id::ContentType, Id::ResponseTopic, Id::CorrelationData, Id::UserProperty] {
        assert_eq!(got.properties.get(name), properties.get(name), "{name:?}");
    }
    assert!(matches!(got.properties.number(Id::MessageExpiry), Some(98..=100)));
    assert_eq!(old.text().await, "bramble/test/q/x={}");
}

async fn filters_and_topics_that_are_none_are_refused(place: Place) {
    let refused = |answer| match answer {
        Some(Packet::SubAck(ack)) => ack.reasons == [0x8F] || ack.reasons == [0x80],
        Some(Packet::Disconnect(_)) | None => true,
        _ => false,
    };
    for version in [Version::V5, Version::V311] {
        for filter in ["bramble/#/x", "bramble/x#", "bramble/+x", ""] {
            let mut client = Client::enter(&place, hello(version, &id("x"))).await;
            let filters = vec![(filter.to_owned(), OPTIONS)];
            let packet = bramble::broker::packet::Subscribe { id: 1, properties: Properties::default(), filters };
            client.send(&Packet::Subscribe(packet)).await;
            let answer = client.next().await;
            assert!(refused(answer.clone()), "{filter:?}: {answer:?}");
        }
        for topic in ["bramble/test/#", "bramble/+/x", ""] {
            let mut client = Client::enter(&place, hello(version, &id("x"))).await;
            client.send(&Packet::Publish(Publish { id: 1, ..publish(topic, "x") })).await;
            let answer = client.next().await;
            assert!(matches!(answer, Some(Packet::Disconnect(_)) | None), "{topic:?}: {answer:?}");
        }
    }
}

async fn one_subscriber_gets_thousands_of_kept_messages(place: Place) {
    let mut writer = v5(&place, "w").await;
    for number in 0..3000u16 {
        let message = retained(&format!("bramble/test/k/{number:04}"), vec![b'x'; 100]);
        writer.send(&Packet::Publish(Publish { id: number + 1, ..message })).await;
    }
    for _ in 0..3000 {
        assert!(matches!(writer.next().await, Some(Packet::PubAck(_))));
    }
    for qos in [Qos::AtLeastOnce, Qos::AtMostOnce] {
        let mut reader = v5(&place, "r").await;
        reader.subscribe_as("bramble/test/k/+", Options { qos, ..OPTIONS }).await;
        let mut topics = std::collections::BTreeSet::new();
        for _ in 0..3000 {
            topics.insert(reader.message().await.topic);
        }
        assert_eq!(topics.len(), 3000);
        reader.silence().await;
    }
}

async fn silence_is_death(place: Place) {
    let mut witness = v5(&place, "witness").await;
    witness.subscribe("bramble/test/will/#").await;
    let mut packet = super::client::hello_with(Version::V5, &id("n"), Some(will("bramble/test/will/n", "died")));
    packet.keep_alive = 1;
    let start = tokio::time::Instant::now();
    let mut silent = Client::enter(&place, packet).await;
    sleep(Duration::from_millis(900)).await;
    silent.send(&Packet::PingReq).await;
    assert_eq!(silent.next().await, Some(Packet::PingResp));
    assert_eq!(witness.text().await, "bramble/test/will/n=died");
    assert!(start.elapsed() > Duration::from_millis(2300), "{:?}", start.elapsed());
    assert_eq!(silent.farewell().await.or((!place.strict).then_some(0x8D)), Some(0x8D));
}

async fn the_receivers_limits_hold(place: Place) {
    let enter = |suffix, properties| {
        let mut packet = hello(Version::V5, &id(suffix));
        packet.properties = properties;
        Client::enter(&place, packet)
    };
    let mut small = enter("small", four(Id::MaximumPacketSize, 200)).await;
    let mut slow = enter("slow", Properties::default().with(Id::ReceiveMaximum, Value::Two(2))).await;
    small.subscribe("bramble/test/s/#").await;
    slow.subscribe("bramble/test/q/#").await;
    let mut writer = v5(&place, "w").await;
    writer.publish(publish("bramble/test/s/x", vec![b'x'; 1000])).await;
    writer.publish(publish("bramble/test/s/x", "fits")).await;
    assert_eq!(small.text().await, "bramble/test/s/x=fits");
    for number in 0..4 {
        writer.publish(publish("bramble/test/q/x", number.to_string())).await;
    }
    let (first, second) = (slow.unacknowledged().await, slow.unacknowledged().await);
    assert_eq!((&first.payload[..], &second.payload[..]), (&b"0"[..], &b"1"[..]));
    slow.silence().await;
    slow.send(&Packet::PubAck(Ack::new(first.id, 0))).await;
    assert_eq!(&slow.unacknowledged().await.payload[..], b"2");
    if place.strict {
        slow.silence().await;
    }
    slow.send(&Packet::PubAck(Ack::new(second.id, 0))).await;
    assert_eq!(&slow.unacknowledged().await.payload[..], b"3");
}

async fn garbage_ends_only_its_own_connection(place: Place) {
    let mut witness = v5(&place, "witness").await;
    witness.subscribe("bramble/test/q/#").await;
    for bytes in super::hostile::garbage(40) {
        let mut client = v5(&place, "x").await;
        let _ = client.write(&bytes).await;
        let mut socket = place.socket().await;
        let _ = tokio::io::AsyncWriteExt::write_all(&mut socket, &bytes).await;
    }
    let mut writer = v5(&place, "w").await;
    writer.publish(publish("bramble/test/q/x", "alive")).await;
    assert_eq!(witness.text().await, "bramble/test/q/x=alive");
}

fn rumqttc_5(place: &Place, suffix: &str) -> rumqttc::v5::MqttOptions {
    let mut options = rumqttc::v5::MqttOptions::new(id(suffix), "localhost", place.address.port());
    let config = place.credentials.as_ref().unwrap().client().unwrap();
    options.set_transport(rumqttc::Transport::tls_with_config(rumqttc::TlsConfiguration::Rustls(config)));
    options.set_keep_alive(Duration::from_secs(5));
    options.set_outgoing_inflight_upper_limit(100);
    options.set_clean_start(false);
    options.set_connect_properties(rumqttc::v5::mqttbytes::v5::ConnectProperties {
        session_expiry_interval: Some(60),
        max_packet_size: Some(256 << 10),
        receive_maximum: None,
        topic_alias_max: None,
        request_response_info: None,
        request_problem_info: None,
        user_properties: Vec::new(),
        authentication_method: None,
        authentication_data: None,
    });
    options
}

/// Polls until `wanted` messages came, and says what they were.
async fn hear(events: &mut rumqttc::v5::EventLoop, wanted: usize) -> Vec<String> {
    use rumqttc::v5::{Event, Incoming};
    let mut heard = Vec::new();
    timeout(HANG, async {
        while heard.len() < wanted {
            if let Event::Incoming(Incoming::Publish(publish)) = events.poll().await.unwrap() {
                heard.push(String::from_utf8_lossy(&publish.payload).into_owned());
            }
        }
    })
    .await
    .expect("messages are missing");
    heard
}

async fn until_suback(events: &mut rumqttc::v5::EventLoop) {
    use rumqttc::v5::{Event, Incoming};
    timeout(HANG, async { while !matches!(events.poll().await.unwrap(), Event::Incoming(Incoming::SubAck(_))) {} })
        .await
        .unwrap();
}

async fn rumqttc_5_survives_a_cut(place: Place) {
    let (reader, mut events) = rumqttc::v5::AsyncClient::new(rumqttc_5(&place, "r"), 100);
    reader.subscribe("bramble/test/q/#", QoS::AtLeastOnce).await.unwrap();
    until_suback(&mut events).await;
    let (writer, mut outgoing) = rumqttc::v5::AsyncClient::new(rumqttc_5(&place, "w"), 100);
    let pump = tokio::spawn(async move { while outgoing.poll().await.is_ok() {} });
    writer.publish("bramble/test/q/x", QoS::AtLeastOnce, false, vec![b'y'; 100_000]).await.unwrap();
    assert_eq!(hear(&mut events, 1).await[0].len(), 100_000, "larger than rumqttc's own limit");
    // Cut: another connection of the same name takes the session and goes without a word.
    drop(
        Client::enter(&place, {
            let mut packet = hello(Version::V5, &id("r"));
            (packet.clean, packet.properties) = (false, four(Id::SessionExpiry, 60));
            packet
        })
        .await,
    );
    for number in 0..50 {
        writer.publish("bramble/test/q/x", QoS::AtLeastOnce, false, number.to_string()).await.unwrap();
    }
    // The first poll tells of the cut, the next ones connect again.
    timeout(HANG, async { while events.poll().await.is_ok() {} }).await.unwrap();
    let expected: Vec<String> = (0..50).map(|number| number.to_string()).collect();
    let mut heard = hear(&mut events, 50).await;
    heard.dedup();
    assert_eq!(heard, expected);
    pump.abort();
}

async fn rumqttc_4_talks_with_5(place: Place) {
    let mut options = rumqttc::MqttOptions::new(id("old"), "localhost", place.address.port());
    let config: Arc<_> = place.credentials.as_ref().unwrap().client().unwrap();
    options.set_transport(rumqttc::Transport::tls_with_config(rumqttc::TlsConfiguration::Rustls(config)));
    options.set_keep_alive(Duration::from_secs(5));
    let (old, mut events) = rumqttc::AsyncClient::new(options, 100);
    old.subscribe("bramble/test/q/#", rumqttc::QoS::ExactlyOnce).await.unwrap();
    let granted = timeout(HANG, async {
        loop {
            if let rumqttc::Event::Incoming(rumqttc::Incoming::SubAck(ack)) = events.poll().await.unwrap() {
                break ack.return_codes;
            }
        }
    })
    .await
    .unwrap();
    assert!(matches!(granted.as_slice(), [rumqttc::SubscribeReasonCode::Success(_)]), "{granted:?}");
    let (new, mut outgoing) = rumqttc::v5::AsyncClient::new(rumqttc_5(&place, "w"), 100);
    new.subscribe("bramble/test/back", QoS::AtLeastOnce).await.unwrap();
    until_suback(&mut outgoing).await;
    new.publish("bramble/test/q/x", QoS::AtLeastOnce, true, "hello").await.unwrap();
    old.publish("bramble/test/back", rumqttc::QoS::ExactlyOnce, false, "back").await.unwrap();
    let (there, back) = tokio::join!(
        async {
            timeout(HANG, async {
                let mut heard = None;
                let mut released = false;
                while heard.is_none() || !released {
                    match events.poll().await.unwrap() {
                        rumqttc::Event::Incoming(rumqttc::Incoming::Publish(publish)) => heard = Some(publish.payload),
                        rumqttc::Event::Incoming(rumqttc::Incoming::PubComp(_)) => released = true,
                        _ => {}
                    }
                }
                heard
            })
            .await
            .expect("message or PUBCOMP is missing")
        },
        hear(&mut outgoing, 1)
    );
    assert_eq!(there.as_deref(), Some(&b"hello"[..]));
    assert_eq!(back, ["back"]);
}
