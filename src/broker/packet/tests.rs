//! The codec against bytes: what it reads, what it writes, and what it refuses.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;

fn round(version: Version, packet: &Packet) -> Packet {
    let mut out = BytesMut::new();
    encode(version, packet, &mut out);
    assert_eq!(frame(&out, usize::MAX), Ok(Some(out.len())));
    decode(version, &out).unwrap()
}

#[test]
fn bytes_of_the_standard_are_read_as_it_says() {
    // CONNECT of 3.1.1 §3.1.2.12 with a will: "a", clean, keep-alive 10.
    let bytes = b"\x10\x13\x00\x04MQTT\x04\x0e\x00\x0a\x00\x01a\x00\x01w\x00\x01x";
    let Ok(Packet::Connect(connect)) = decode(Version::V5, bytes) else { panic!() };
    assert_eq!((connect.version, connect.clean, connect.keep_alive), (Version::V311, true, 10));
    let will = connect.will.unwrap();
    assert_eq!((&*will.topic, will.qos, will.retain), ("w", Qos::AtLeastOnce, false));
    // PUBLISH "a/b", id 10, payload "x".
    let Ok(Packet::Publish(publish)) = decode(Version::V311, b"\x32\x08\x00\x03a/b\x00\x0ax") else { panic!() };
    assert_eq!((&*publish.topic, publish.id, &publish.payload[..]), ("a/b", 10, &b"x"[..]));
    // PUBACK of MQTT 5, reason 0x87, no property length.
    let Ok(Packet::PubAck(ack)) = decode(Version::V5, b"\x40\x03\x00\x01\x87") else { panic!() };
    assert_eq!(ack, Ack::new(1, reason::NOT_AUTHORIZED));
}

#[test]
fn what_the_grammar_forbids_is_refused() {
    let cases: [(&str, &[u8], Version); 16] = [
        ("type 0", b"\x00\x00", Version::V5),
        ("a subscribe with wrong flags", b"\x80\x05\x00\x01\x00\x01a\x00", Version::V311),
        ("quality 3", b"\x36\x05\x00\x01a\x00\x01", Version::V311),
        ("a duplicate of quality 0", b"\x38\x03\x00\x01a", Version::V311),
        ("identifier 0", b"\x32\x05\x00\x01a\x00\x00", Version::V311),
        ("a topic that is cut off", b"\x30\x03\x00\x09a", Version::V311),
        ("a topic with U+0000", b"\x30\x03\x00\x01\x00", Version::V311),
        ("a topic that is not UTF-8", b"\x30\x03\x00\x01\xff", Version::V311),
        ("a subscribe without filters", b"\x82\x02\x00\x01", Version::V311),
        ("reserved option bits", b"\x82\x06\x00\x01\x00\x01a\x04", Version::V311),
        ("bytes behind the end", b"\x40\x03\x00\x01\x00", Version::V311),
        ("an unknown property", b"\x30\x06\x00\x01a\x02\x7f\x00", Version::V5),
        ("a property in the wrong place", b"\x30\x09\x00\x01a\x05\x11\x00\x00\x00\x01", Version::V5),
        ("a property that stands twice", b"\x30\x08\x00\x01a\x04\x01\x00\x01\x00", Version::V5),
        ("properties longer than the packet", b"\x30\x04\x00\x01a\x7f", Version::V5),
        ("receive maximum 0", b"\x10\x10\x00\x04MQTT\x05\x02\x00\x00\x03\x21\x00\x00\x00\x00", Version::V5),
    ];
    for (what, bytes, version) in cases {
        assert!(frame(bytes, 1024).is_err() || decode(version, bytes).is_err(), "{what}");
    }
    assert_eq!(decode(Version::V5, b"\x10\x0c\x00\x04MQTT\x06\x02\x00\x00\x00\x00"), Err(DecodeError::UnsupportedVersion));
    assert_eq!(connect_version(b"\x10\x0c\x00\x04MQTT\x06\x02\x00\x00\x00\x00"), Some(6));
}

#[test]
fn a_packet_is_measured_before_it_is_there() {
    for (bytes, expected) in [
        (&b""[..], Ok(None)),
        (b"\x30", Ok(None)),
        (b"\x30\x80", Ok(None)),
        (b"\x30\x05", Ok(Some(7))),
        (b"\x30\xff\xff\xff\x7f", Err(DecodeError::TooLarge(268_435_460))),
        (b"\x30\xff\xff\xff\xff\x01", Err(DecodeError::Malformed("a length of more than four bytes"))),
    ] {
        assert_eq!(frame(bytes, 1 << 20), expected, "{bytes:?}");
    }
}

fn text() -> impl Strategy<Value = String> {
    "[a-zà-ü/+#]{0,12}"
}

fn data() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn message_properties() -> impl Strategy<Value = Properties> {
    (prop::option::of(0u8..2), prop::option::of(any::<u32>()), prop::option::of(text()), prop::option::of(data()), pairs())
        .prop_map(|(format, expiry, response, correlation, pairs)| {
            let mut properties = Properties::default();
            format.into_iter().for_each(|flag| properties.push(Id::PayloadFormat, Value::Flag(flag)));
            expiry.into_iter().for_each(|seconds| properties.push(Id::MessageExpiry, Value::Four(seconds)));
            response.into_iter().for_each(|topic| properties.push(Id::ResponseTopic, Value::Text(topic)));
            correlation.into_iter().for_each(|data| properties.push(Id::CorrelationData, Value::Binary(data)));
            pairs.into_iter().for_each(|(key, value)| properties.push(Id::UserProperty, Value::Pair(key, value)));
            properties
        })
}

fn pairs() -> impl Strategy<Value = Vec<(String, String)>> {
    prop::collection::vec((text(), text()), 0..3)
}

fn answer_properties() -> impl Strategy<Value = Properties> {
    (prop::option::of(text()), pairs()).prop_map(|(words, pairs)| {
        let mut properties = Properties::default();
        words.into_iter().for_each(|words| properties.push(Id::ReasonString, Value::Text(words)));
        pairs.into_iter().for_each(|(key, value)| properties.push(Id::UserProperty, Value::Pair(key, value)));
        properties
    })
}

fn qos() -> impl Strategy<Value = Qos> {
    prop_oneof![Just(Qos::AtMostOnce), Just(Qos::AtLeastOnce), Just(Qos::ExactlyOnce)]
}

fn options() -> impl Strategy<Value = Options> {
    let handling = prop_oneof![Just(RetainHandling::Always), Just(RetainHandling::IfNew), Just(RetainHandling::Never)];
    (qos(), any::<bool>(), any::<bool>(), handling).prop_map(|(qos, no_local, retain_as_published, retain_handling)| Options {
        qos,
        no_local,
        retain_as_published,
        retain_handling,
    })
}

fn will() -> impl Strategy<Value = Will> {
    (text(), data(), qos(), any::<bool>(), message_properties()).prop_map(|(topic, payload, qos, retain, properties)| Will {
        topic: topic.into(),
        payload,
        qos,
        retain,
        properties: properties.with(Id::WillDelay, Value::Four(7)),
    })
}

fn connect() -> impl Strategy<Value = Packet> {
    let login = (prop::option::of(text()), prop::option::of(data()));
    (any::<bool>(), any::<u16>(), text(), prop::option::of(will()), login, pairs()).prop_map(
        |(clean, keep_alive, client_id, will, (username, password), pairs)| {
            let mut properties = Properties::default().with(Id::SessionExpiry, Value::Four(9));
            properties.push(Id::ReceiveMaximum, Value::Two(3));
            pairs.into_iter().for_each(|(key, value)| properties.push(Id::UserProperty, Value::Pair(key, value)));
            let version = Version::V5;
            Packet::Connect(Box::new(Connect { version, clean, keep_alive, client_id, will, username, password, properties }))
        },
    )
}

fn publish() -> impl Strategy<Value = Packet> {
    (any::<bool>(), qos(), any::<bool>(), text(), 1u16.., message_properties(), data()).prop_map(
        |(dup, qos, retain, topic, id, properties, payload)| {
            let properties = properties.with(Id::SubscriptionIdentifier, Value::Varint(300));
            let (dup, id) = if qos == Qos::AtMostOnce { (false, 0) } else { (dup, id) };
            Packet::Publish(Publish { dup, qos, retain, topic: topic.into(), id, properties, payload })
        },
    )
}

fn packet() -> impl Strategy<Value = Packet> {
    let ack = || (1u16.., any::<u8>(), answer_properties()).prop_map(|(id, reason, properties)| Ack { id, reason, properties });
    let sub_ack = || {
        (1u16.., answer_properties(), prop::collection::vec(any::<u8>(), 0..4)).prop_map(|(id, properties, reasons)| SubAck {
            id,
            properties,
            reasons,
        })
    };
    let end = || (any::<u8>(), answer_properties()).prop_map(|(reason, properties)| Disconnect { reason, properties });
    prop_oneof![
        connect(),
        publish(),
        (any::<bool>(), any::<u8>(), answer_properties()).prop_map(|(session_present, reason, properties)| {
            let properties = properties.with(Id::ServerKeepAlive, Value::Two(1)).with(Id::MaximumQos, Value::Flag(1));
            Packet::ConnAck(ConnAck { session_present, reason, properties })
        }),
        ack().prop_map(Packet::PubAck),
        ack().prop_map(Packet::PubRec),
        ack().prop_map(Packet::PubRel),
        ack().prop_map(Packet::PubComp),
        (1u16.., prop::collection::vec((text(), options()), 1..4)).prop_map(|(id, filters)| {
            let properties = Properties::default().with(Id::SubscriptionIdentifier, Value::Varint(200_000));
            Packet::Subscribe(Subscribe { id, properties, filters })
        }),
        sub_ack().prop_map(Packet::SubAck),
        (1u16.., prop::collection::vec(text(), 1..4))
            .prop_map(|(id, filters)| { Packet::Unsubscribe(Unsubscribe { id, properties: Properties::default(), filters }) }),
        sub_ack().prop_map(Packet::UnsubAck),
        Just(Packet::PingReq),
        Just(Packet::PingResp),
        end().prop_map(Packet::Disconnect),
        end().prop_map(Packet::Auth),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(packet in packet()) {
        prop_assert_eq!(round(Version::V5, &packet), packet);
    }

    #[test]
    fn a_publish_of_3_1_1_is_written_without_properties(packet in publish()) {
        let Packet::Publish(expected) = packet.clone() else { unreachable!() };
        let expected = Publish { properties: Properties::default(), ..expected };
        prop_assert_eq!(round(Version::V311, &packet), Packet::Publish(expected));
    }

    #[test]
    fn any_bytes_are_a_packet_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for version in [Version::V311, Version::V5] {
            let _ = (frame(&bytes, 1 << 20), decode(version, &bytes), connect_version(&bytes));
        }
    }

    #[test]
    fn a_packet_with_one_byte_changed_or_cut_is_a_packet_or_an_error(packet in packet(), at in any::<prop::sample::Index>(), byte: u8) {
        let mut out = BytesMut::new();
        encode(Version::V5, &packet, &mut out);
        let at = at.index(out.len());
        prop_assert!(decode(Version::V5, &out[..at]).is_err());
        out[at] = byte;
        if let Ok(read) = decode(Version::V5, &out) {
            // What is understood is written so that it is understood again.
            prop_assert_eq!(round(Version::V5, &read), read);
        }
    }
}
