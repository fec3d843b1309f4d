//! The whole decider of the broker, driven by inputs: who gets what, when, and who is refused.

use bytes::{Bytes, BytesMut};

use super::*;
use crate::broker::packet::{self, Ack, Disconnect, Id, Options, Properties, Publish, Qos, RetainHandling, Subscribe, Value};
use crate::clock::Wall;
use crate::link::bus::BusEvent;

const OPTIONS: Options =
    Options { qos: Qos::AtLeastOnce, no_local: false, retain_as_published: false, retain_handling: RetainHandling::Always };

struct World {
    broker: Broker,
    now: Now,
    rung: Vec<Effect>,
    last: u64,
}

fn rules() -> Rules {
    Rules {
        acl: Acl::new("b/c", "ha"),
        max_packet: 1 << 20,
        server_keep_alive: None,
        session_expiry: Duration::from_secs(100),
        detached_sessions: 2,
        limits: Limits { messages: 10, bytes: 10_000, flying: 5, subscriptions: 3 },
        quota: Quota { count: 2, bytes: 10_000 },
    }
}

fn node(name: &str) -> Client {
    Client::Node(name.to_owned())
}

fn connect(client_id: &str) -> Connect {
    Connect {
        version: Version::V5,
        clean: true,
        keep_alive: 0,
        client_id: client_id.to_owned(),
        will: None,
        username: None,
        password: None,
        properties: Properties::default(),
    }
}

fn will(topic: &str, delay: u32) -> Option<Will> {
    let properties = Properties::default().with(Id::WillDelay, Value::Four(delay));
    Some(Will { topic: topic.into(), payload: Bytes::from_static(b"offline"), qos: Qos::AtLeastOnce, retain: true, properties })
}

fn kept(seconds: u32) -> Properties {
    Properties::default().with(Id::SessionExpiry, Value::Four(seconds))
}

fn publish(topic: &str, payload: &'static str, qos: Qos, retain: bool) -> Packet {
    let id = qos.bits().into();
    let payload = Bytes::from_static(payload.as_bytes());
    Packet::Publish(Publish { dup: false, qos, retain, topic: topic.into(), id, properties: Properties::default(), payload })
}

fn subscribe(filter: &str, options: Options) -> Packet {
    Packet::Subscribe(Subscribe { id: 9, properties: Properties::default(), filters: vec![(filter.to_owned(), options)] })
}

impl World {
    fn new(rules: Rules) -> Self {
        let now = Now { tick: Tick(1), wall: Wall(0) };
        let filters = vec!["b/c/nodes/+/availability".to_owned(), "b/c/nodes/+/up/#".to_owned()];
        Self { broker: Broker::new(rules, filters, now), now, rung: Vec::new(), last: 0 }
    }

    fn pass(&mut self, seconds: u64) {
        // In small steps, as the timer's task does it.
        for _ in 0..seconds * 10 {
            self.now.tick = self.now.tick.after(Duration::from_millis(100));
            self.broker.wake(self.now, &mut self.rung);
        }
    }

    fn give(&mut self, input: Input) {
        self.broker.handle(self.now, input, &mut self.rung);
    }

    fn enter(&mut self, client: Client, packet: Connect) -> ConnectionId {
        self.last += 1;
        let connection = ConnectionId(self.last);
        self.give(Input::Connect { connection, client, packet: Box::new(packet) });
        connection
    }

    fn send(&mut self, connection: ConnectionId, packet: Packet) {
        self.give(Input::Packet { connection, packet });
    }

    /// Everything that the connection is sent now, in short: and whether it ends.
    fn hear(&mut self, version: Version, connection: ConnectionId) -> (Vec<Packet>, bool) {
        let mut out = BytesMut::new();
        let end = loop {
            match self.broker.pull(self.now.tick, connection, &mut out, usize::MAX) {
                Pulled::More => {}
                pulled => break pulled == Pulled::End,
            }
        };
        let mut packets = Vec::new();
        while let Some(length) = packet::frame(&out, usize::MAX).unwrap() {
            packets.push(packet::decode(version, &out.split_to(length)).unwrap());
        }
        (packets, end)
    }

    fn messages(&mut self, connection: ConnectionId) -> Vec<String> {
        let (packets, _) = self.hear(Version::V5, connection);
        let of = |packet| match packet {
            Packet::Publish(publish) => Some(format!(
                "{}={}{}{}",
                publish.topic,
                String::from_utf8_lossy(&publish.payload),
                if publish.retain { " kept" } else { "" },
                if publish.dup { " again" } else { "" }
            )),
            _ => None,
        };
        packets.into_iter().filter_map(of).collect()
    }

    fn master(&mut self) -> Vec<String> {
        let of = |event| match event {
            BusEvent::Connected => "connected".to_owned(),
            BusEvent::Disconnected => "disconnected".to_owned(),
            BusEvent::Message { topic, payload, retained } => {
                format!("{topic}={}{}", String::from_utf8_lossy(&payload), if retained { " kept" } else { "" })
            }
            BusEvent::Alive { client } => format!("{client} lives"),
        };
        self.broker.take_events(self.now.tick, 1000).into_iter().map(of).collect()
    }

    fn reasons(&mut self, connection: ConnectionId) -> Vec<u8> {
        let (packets, _) = self.hear(Version::V5, connection);
        let of = |packet| match packet {
            Packet::ConnAck(ack) => vec![ack.reason],
            Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubComp(ack) => vec![ack.reason],
            Packet::SubAck(ack) | Packet::UnsubAck(ack) => ack.reasons,
            Packet::Disconnect(end) => vec![end.reason],
            _ => vec![],
        };
        packets.into_iter().flat_map(of).collect()
    }
}

#[test]
fn a_connect_is_answered_with_what_we_do_not_offer() {
    let mut world = World::new(Rules { server_keep_alive: Some(1), ..rules() });
    let id = world.enter(node("n1"), Connect { client_id: String::new(), properties: kept(1000), ..connect("") });
    let (packets, end) = world.hear(Version::V5, id);
    let [Packet::ConnAck(ack)] = packets.as_slice() else { panic!("{packets:?}") };
    assert!(!end && ack.reason == 0 && !ack.session_present);
    for (name, expected) in [
        (Id::MaximumQos, Some(1)),
        (Id::TopicAliasMaximum, Some(0)),
        (Id::SharedAvailable, Some(0)),
        (Id::MaximumPacketSize, Some(1 << 20)),
        (Id::ServerKeepAlive, Some(1)),
        (Id::SessionExpiry, Some(100)),
    ] {
        assert_eq!(ack.properties.number(name), expected, "{name:?}");
    }
    assert_eq!(ack.properties.text(Id::AssignedClientId), Some("n1-auto-1"));
}

#[test]
fn who_may_not_come_in_is_told_why() {
    let v311 = |packet: Connect| Connect { version: Version::V311, ..packet };
    let qos2 = will("b/c/nodes/n1/availability", 0).map(|will| Will { qos: Qos::ExactlyOnce, ..will });
    let method = Properties::default().with(Id::AuthenticationMethod, Value::Text("x".into()));
    for (packet, expected) in [
        (connect("n2"), reason::CLIENT_ID_INVALID),
        (v311(connect("n2")), 2),
        (v311(Connect { clean: false, ..connect("") }), 2),
        (Connect { will: will("b/c/nodes/n2/availability", 0), ..connect("n1") }, reason::NOT_AUTHORIZED),
        (v311(Connect { will: will("b/c/nodes/n2/availability", 0), ..connect("n1") }), 5),
        (Connect { will: will("b/#", 0), ..connect("n1") }, reason::TOPIC_INVALID),
        (Connect { will: qos2, ..connect("n1") }, reason::QOS_NOT_SUPPORTED),
        (Connect { properties: method, ..connect("n1") }, reason::BAD_AUTHENTICATION_METHOD),
    ] {
        let mut world = World::new(rules());
        let version = packet.version;
        let id = world.enter(node("n1"), packet);
        let (packets, end) = world.hear(version, id);
        assert!(end && matches!(packets.as_slice(), [Packet::ConnAck(ack)] if ack.reason == expected), "{packets:?}");
        assert_eq!(world.broker.counters().refused_connections, 1);
    }
}

#[test]
fn a_session_is_taken_over_only_by_its_own_identity_and_no_will_is_sent_for_it() {
    let mut world = World::new(rules());
    let with_will = || Connect { will: will("b/c/nodes/a/availability", 0), ..connect("a-b") };
    let old = world.enter(node("a"), with_will());
    let stranger = world.enter(node("a-b"), connect("a-b"));
    let viewer = world.enter(Client::Viewer, connect("a-b"));
    assert_eq!(world.broker.counters().taken_over, 0);
    let new = world.enter(node("a"), with_will());
    assert_eq!(world.reasons(old), [0, reason::SESSION_TAKEN_OVER][1..]);
    for id in [stranger, viewer, new] {
        assert_eq!(world.reasons(id), [0]);
    }
    assert!(!world.master().iter().any(|event| event.ends_with("offline")));
    // The old socket's end changes nothing; the new one's does.
    world.give(Input::Closed { connection: old });
    world.give(Input::Closed { connection: new });
    assert_eq!(world.master(), ["b/c/nodes/a/availability=offline"]);
    assert_eq!(world.broker.counters().sessions, 2);
}

#[test]
fn a_will_is_sent_at_once_or_late_or_never() {
    let leave = |reason| Some(Packet::Disconnect(Disconnect { reason, properties: Properties::default() }));
    for (delay, expiry, last, after, expected) in [
        (0, 0, None, 0, true),
        (0, 0, leave(0), 0, false),
        (0, 0, leave(reason::DISCONNECT_WITH_WILL), 0, true),
        (5, 50, None, 4, false),
        (5, 50, None, 6, true),
        // The session ends before.
        (50, 3, None, 2, false),
        (50, 3, None, 4, true),
        (5, 50, leave(0), 6, false),
    ] {
        let mut world = World::new(rules());
        let packet = Connect { will: will("b/c/nodes/n1/availability", delay), properties: kept(expiry), ..connect("n1") };
        let id = world.enter(node("n1"), packet);
        if let Some(packet) = last {
            world.send(id, packet);
        }
        world.give(Input::Closed { connection: id });
        world.pass(after);
        let sent = world.master().contains(&"b/c/nodes/n1/availability=offline".to_owned());
        assert_eq!(sent, expected, "delay {delay} expiry {expiry} after {after}");
    }
}

#[test]
fn a_late_will_is_forgotten_when_the_client_comes_back() {
    let mut world = World::new(rules());
    let packet = || Connect { clean: false, will: will("b/c/nodes/n1/availability", 5), properties: kept(50), ..connect("n1") };
    let id = world.enter(node("n1"), packet());
    world.give(Input::Closed { connection: id });
    world.pass(4);
    world.enter(node("n1"), packet());
    world.pass(20);
    assert!(!world.master().iter().any(|event| event.ends_with("offline")));
}

#[test]
fn a_stop_sends_no_will_and_takes_no_more_clients() {
    let mut world = World::new(rules());
    let id = world.enter(node("n1"), Connect { will: will("b/c/nodes/n1/availability", 0), ..connect("n1") });
    world.give(Input::Stop);
    assert_eq!(world.reasons(id), [reason::SERVER_SHUTTING_DOWN]);
    world.give(Input::Closed { connection: id });
    assert!(!world.master().iter().any(|event| event.ends_with("offline")));
    let late = world.enter(node("n1"), connect("n1"));
    assert_eq!(world.reasons(late), [reason::SERVER_SHUTTING_DOWN]);
}

#[test]
fn silence_of_one_and_a_half_keep_alives_is_death() {
    let mut world = World::new(rules());
    let packet = Connect { keep_alive: 4, will: will("b/c/nodes/n1/availability", 0), ..connect("n1") };
    let id = world.enter(node("n1"), packet);
    world.pass(5);
    world.send(id, Packet::PingReq);
    world.pass(5);
    assert_eq!(world.broker.counters().connections, 1);
    world.pass(2);
    assert_eq!(world.broker.counters().silent, 1);
    assert!(world.master().contains(&"b/c/nodes/n1/availability=offline".to_owned()));
    assert_eq!(world.reasons(id), [reason::KEEP_ALIVE_TIMEOUT]);
    assert_eq!(world.broker.timers.len(), 1, "only the sweep is left");
}

#[test]
fn the_master_hears_a_sign_of_life_at_most_once_a_second() {
    let mut world = World::new(rules());
    let id = world.enter(node("n1"), connect("n1"));
    let viewer = world.enter(Client::Viewer, connect("v"));
    for _ in 0..3 {
        world.send(id, Packet::PingReq);
        world.send(viewer, Packet::PingReq);
    }
    assert_eq!(world.master(), ["connected", "n1 lives"]);
    world.pass(1);
    world.send(id, Packet::PingReq);
    world.send(id, Packet::PingReq);
    assert_eq!(world.master(), ["n1 lives"]);
}

#[test]
fn a_refused_publish_is_answered_and_goes_nowhere() {
    let mut world = World::new(rules());
    let viewer = world.enter(Client::Viewer, connect("v"));
    world.send(viewer, subscribe("#", OPTIONS));
    let id = world.enter(node("n1"), connect("n1"));
    world.send(id, publish("b/c/nodes/n2/health", "x", Qos::AtLeastOnce, true));
    world.send(id, publish("elsewhere", "x", Qos::AtMostOnce, false));
    world.send(viewer, publish("b/c/bridge/request/scale", "x", Qos::AtLeastOnce, false));
    assert_eq!(world.reasons(id), [0, reason::NOT_AUTHORIZED]);
    assert_eq!(world.reasons(viewer), [0, 1, reason::NOT_AUTHORIZED]);
    assert_eq!(world.messages(viewer), Vec::<String>::new());
    assert_eq!(world.broker.counters().refused_publishes, 3);
    assert_eq!(world.broker.counters().retained, 0);
}

#[test]
fn quality_2_of_an_old_client_is_delivered_once_with_quality_1() {
    let mut world = World::new(rules());
    let id = world.enter(node("n1"), Connect { version: Version::V311, ..connect("n1") });
    world.hear(Version::V311, id);
    world.master();
    for _ in 0..2 {
        world.send(id, publish("b/c/nodes/n1/up/x", "once", Qos::ExactlyOnce, false));
    }
    let (packets, _) = world.hear(Version::V311, id);
    assert_eq!(packets, [Packet::PubRec(Ack::new(2, 0)), Packet::PubRec(Ack::new(2, 0))]);
    for _ in 0..2 {
        world.send(id, Packet::PubRel(Ack::new(2, 0)));
    }
    let (packets, _) = world.hear(Version::V311, id);
    assert_eq!(packets, [Packet::PubComp(Ack::new(2, 0)), Packet::PubComp(Ack::new(2, 0))]);
    assert_eq!(world.master(), ["b/c/nodes/n1/up/x=once"]);
    world.send(id, publish("b/c/nodes/n1/up/x", "next", Qos::ExactlyOnce, false));
    assert_eq!(world.master(), ["b/c/nodes/n1/up/x=next"]);
}

#[test]
fn what_breaks_the_rules_ends_the_connection_with_its_reason() {
    let alias = Properties::default().with(Id::TopicAlias, Value::Two(1));
    let with = |properties| {
        Packet::Publish(Publish {
            dup: false,
            qos: Qos::AtMostOnce,
            retain: false,
            topic: "b/c/nodes/n1/health".into(),
            id: 0,
            properties,
            payload: Bytes::new(),
        })
    };
    for (packet, expected) in [
        (publish("b/c/nodes/n1/health", "x", Qos::ExactlyOnce, false), reason::QOS_NOT_SUPPORTED),
        (publish("b/+/x", "x", Qos::AtMostOnce, false), reason::TOPIC_INVALID),
        (publish("", "x", Qos::AtMostOnce, false), reason::TOPIC_INVALID),
        (with(alias), reason::TOPIC_ALIAS_INVALID),
        (with(Properties::default().with(Id::ResponseTopic, Value::Text("a/#".into()))), reason::PROTOCOL_ERROR),
        (Packet::Connect(Box::new(connect("n1"))), reason::PROTOCOL_ERROR),
        (Packet::PingResp, reason::PROTOCOL_ERROR),
        (Packet::Disconnect(Disconnect { reason: 0, properties: kept(5) }), reason::PROTOCOL_ERROR),
    ] {
        let mut world = World::new(rules());
        let id = world.enter(node("n1"), connect("n1"));
        world.hear(Version::V5, id);
        world.send(id, packet.clone());
        let (packets, end) = world.hear(Version::V5, id);
        assert!(
            end && matches!(packets.as_slice(), [Packet::Disconnect(end)] if end.reason == expected),
            "{packet:?} {packets:?}"
        );
        assert_eq!(world.broker.counters().malformed, 1);
    }
}

#[test]
fn subscriptions_are_granted_or_refused_one_by_one() {
    let mut world = World::new(rules());
    let id = world.enter(node("n1"), connect("n1"));
    let filters = ["b/c/nodes/n1/down/#", "b/c/nodes/n2/down/#", "a/#/b", "$share/g/b/c/nodes/n1/down/#", ""];
    let two = Options { qos: Qos::ExactlyOnce, ..OPTIONS };
    let filters = filters.map(|filter| (filter.to_owned(), two)).to_vec();
    world.send(id, Packet::Subscribe(Subscribe { id: 1, properties: Properties::default(), filters }));
    let refused = [reason::NOT_AUTHORIZED, reason::FILTER_INVALID, reason::SHARED_NOT_SUPPORTED, reason::FILTER_INVALID];
    assert_eq!(world.reasons(id), [vec![0, 1], refused.to_vec()].concat());
    for name in ["x", "y", "z"] {
        world.send(id, subscribe(&format!("b/c/nodes/n1/down/{name}"), OPTIONS));
    }
    assert_eq!(world.reasons(id), [1, 1, reason::QUOTA_EXCEEDED]);
    assert_eq!(world.broker.counters().refused_subscriptions, 5);
}

#[test]
fn retained_messages_come_as_the_subscription_asks() {
    let mut world = World::new(rules());
    let id = world.enter(node("n1"), connect("n1"));
    world.send(id, publish("b/c/nodes/n1/health", "1", Qos::AtLeastOnce, true));
    let viewer = world.enter(Client::Viewer, connect("v"));
    let with = |retain_handling| subscribe("b/c/nodes/+/health", Options { retain_handling, ..OPTIONS });
    let mut heard = |handling| {
        world.send(viewer, with(handling));
        world.messages(viewer)
    };
    assert_eq!(heard(RetainHandling::Never), Vec::<String>::new());
    assert_eq!(heard(RetainHandling::IfNew), Vec::<String>::new());
    assert_eq!(heard(RetainHandling::Always), ["b/c/nodes/n1/health=1 kept"]);
    assert_eq!(heard(RetainHandling::Always), ["b/c/nodes/n1/health=1 kept"]);
    world.send(id, publish("b/c/nodes/n1/health", "2", Qos::AtLeastOnce, true));
    assert_eq!(world.messages(viewer), ["b/c/nodes/n1/health=2"]);
    world.send(viewer, subscribe("b/c/nodes/+/health", Options { retain_as_published: true, ..OPTIONS }));
    world.messages(viewer);
    world.send(id, publish("b/c/nodes/n1/health", "3", Qos::AtMostOnce, true));
    assert_eq!(world.messages(viewer), ["b/c/nodes/n1/health=3 kept"]);
    // More than its share, and then cleared.
    world.send(id, publish("b/c/nodes/n1/info", "x", Qos::AtLeastOnce, true));
    world.reasons(id);
    world.send(id, publish("b/c/nodes/n1/up/x", "x", Qos::AtLeastOnce, true));
    assert_eq!(world.reasons(id), [reason::QUOTA_EXCEEDED]);
    world.send(id, publish("b/c/nodes/n1/info", "", Qos::AtLeastOnce, true));
    assert_eq!(world.broker.counters().retained, 1);
}

#[test]
fn no_local_and_overlapping_filters() {
    let mut world = World::new(rules());
    let id = world.enter(Client::Master, connect("bramble-master"));
    world.send(id, subscribe("b/c/x/#", Options { no_local: true, ..OPTIONS }));
    let mut second = subscribe("b/c/+/y", Options { qos: Qos::AtMostOnce, ..OPTIONS });
    if let Packet::Subscribe(subscribe) = &mut second {
        subscribe.properties.push(Id::SubscriptionIdentifier, Value::Varint(7));
    }
    world.hear(Version::V5, id);
    world.send(id, publish("b/c/x/y", "own", Qos::AtMostOnce, false));
    assert_eq!(world.messages(id), Vec::<String>::new());
    world.send(id, second);
    world.send(id, publish("b/c/x/y", "own", Qos::AtMostOnce, false));
    assert_eq!(world.messages(id), ["b/c/x/y=own"]);
    // From another: once, with the better quality.
    let message =
        bus::Publish { topic: "b/c/x/y".into(), payload: Bytes::from_static(b"m"), retain: false, expiry_seconds: None };
    world.give(Input::Publish(message));
    let (packets, _) = world.hear(Version::V5, id);
    let [Packet::Publish(got)] = packets.as_slice() else { panic!("{packets:?}") };
    assert_eq!((got.qos, got.properties.number(Id::SubscriptionIdentifier)), (Qos::AtLeastOnce, Some(7)));
}

#[test]
fn a_viewer_never_sees_shares_and_calls() {
    let mut world = World::new(rules());
    let viewer = world.enter(Client::Viewer, connect("v"));
    for (topic, retain) in [("b/c/nodes/n1/down/head", true), ("b/c/nodes/n1/down/assignment", false), ("b/c/pods/d/web", true)] {
        let message = bus::Publish { topic: topic.into(), payload: Bytes::from_static(b"1"), retain, expiry_seconds: None };
        world.give(Input::Publish(message));
    }
    world.send(viewer, subscribe("#", OPTIONS));
    assert_eq!(world.messages(viewer), ["b/c/pods/d/web=1 kept"]);
    let message = |topic: &str| bus::Publish {
        topic: topic.into(),
        payload: Bytes::from_static(b"2"),
        retain: false,
        expiry_seconds: None,
    };
    world.give(Input::Publish(message("b/c/nodes/n1/down/call/1/in")));
    world.give(Input::Publish(message("b/c/nodes/n1/up/call/1/out")));
    world.give(Input::Publish(message("ha/sensor/x")));
    world.give(Input::Publish(message("b/c/bridge/event")));
    assert_eq!(world.messages(viewer), ["b/c/bridge/event=2"]);
}

#[test]
fn messages_wait_for_a_session_that_is_kept_and_expire() {
    let mut world = World::new(rules());
    let packet = || Connect { clean: false, properties: kept(50), ..connect("n1") };
    let id = world.enter(node("n1"), packet());
    world.send(id, subscribe("b/c/nodes/n1/down/#", OPTIONS));
    let down = |payload: &'static str, expiry_seconds| {
        let topic = "b/c/nodes/n1/down/x".to_owned();
        Input::Publish(bus::Publish { topic, payload: Bytes::from_static(payload.as_bytes()), retain: false, expiry_seconds })
    };
    world.give(down("sent", Some(60)));
    assert_eq!(world.messages(id), ["b/c/nodes/n1/down/x=sent"]);
    world.give(Input::Closed { connection: id });
    world.give(down("old", Some(5)));
    world.give(down("new", Some(60)));
    world.pass(10);
    let id = world.enter(node("n1"), packet());
    let (packets, _) = world.hear(Version::V5, id);
    let [Packet::ConnAck(ack), Packet::Publish(first), Packet::Publish(second)] = packets.as_slice() else {
        panic!("{packets:?}")
    };
    assert!(ack.session_present && first.dup && !second.dup);
    assert_eq!((&first.payload[..], &second.payload[..]), (&b"sent"[..], &b"new"[..]));
    assert_eq!(second.properties.number(Id::MessageExpiry), Some(50));
    assert_eq!(world.broker.counters().expired, 1);
    // Not kept for ever.
    world.give(Input::Closed { connection: id });
    world.pass(51);
    let id = world.enter(node("n1"), packet());
    let (packets, _) = world.hear(Version::V5, id);
    assert!(matches!(packets.as_slice(), [Packet::ConnAck(ack)] if !ack.session_present));
}

#[test]
fn detached_sessions_of_one_identity_are_bounded() {
    let mut world = World::new(rules());
    for name in ["a", "b", "c"] {
        let id = world.enter(Client::Viewer, Connect { properties: kept(50), ..connect(name) });
        world.give(Input::Closed { connection: id });
        world.pass(1);
    }
    let other = world.enter(node("n1"), Connect { properties: kept(50), ..connect("n1") });
    world.give(Input::Closed { connection: other });
    assert_eq!(world.broker.counters().sessions, 3);
    assert!(!world.broker.by_name.contains_key(&(Client::Viewer, "a".to_owned())));
}

#[test]
fn what_is_too_large_for_its_receiver_is_left_out_and_the_next_one_comes() {
    let mut world = World::new(rules());
    let small = Properties::default().with(Id::MaximumPacketSize, Value::Four(60)).with(Id::ReceiveMaximum, Value::Two(1));
    let id = world.enter(node("n1"), Connect { properties: small, ..connect("n1") });
    world.send(id, subscribe("b/c/nodes/n1/down/#", OPTIONS));
    world.hear(Version::V5, id);
    for payload in ["x".repeat(100), "fits".to_owned(), "later".to_owned()] {
        let topic = "b/c/nodes/n1/down/x".to_owned();
        world.give(Input::Publish(bus::Publish { topic, payload: payload.into(), retain: false, expiry_seconds: None }));
    }
    assert_eq!(world.messages(id), ["b/c/nodes/n1/down/x=fits"]);
    assert_eq!(world.broker.counters().too_large_for_receiver, 1);
    world.send(id, Packet::PubAck(Ack::new(2, 0)));
    assert_eq!(world.messages(id), ["b/c/nodes/n1/down/x=later"]);
}
