//! [`Packet`] → bytes.

use bytes::{BufMut, BytesMut};

use super::wire::{put_binary, put_text, put_varint};
use super::{Ack, Connect, Disconnect, Options, Packet, Properties, Publish, RetainHandling, SubAck, Version};

/// Appends `packet` as the connection's protocol writes it; what 3.1.1 has no room for is left out.
pub fn encode(version: Version, packet: &Packet, out: &mut BytesMut) {
    let mut body = BytesMut::with_capacity(room(packet));
    let first = match packet {
        Packet::Connect(packet) => connect(packet, &mut body),
        Packet::ConnAck(packet) => {
            body.put_u8(packet.session_present.into());
            body.put_u8(packet.reason);
            properties(version, &packet.properties, &mut body);
            0x20
        }
        Packet::Publish(packet) => publish(version, packet, &mut body),
        Packet::PubAck(packet) => ack(version, packet, 0x40, &mut body),
        Packet::PubRec(packet) => ack(version, packet, 0x50, &mut body),
        Packet::PubRel(packet) => ack(version, packet, 0x62, &mut body),
        Packet::PubComp(packet) => ack(version, packet, 0x70, &mut body),
        Packet::Subscribe(packet) => {
            body.put_u16(packet.id);
            properties(version, &packet.properties, &mut body);
            for (filter, options) in &packet.filters {
                put_text(&mut body, filter);
                body.put_u8(option_bits(version, options));
            }
            0x82
        }
        Packet::SubAck(packet) => sub_ack(version, packet, 0x90, &mut body),
        Packet::Unsubscribe(packet) => {
            body.put_u16(packet.id);
            properties(version, &packet.properties, &mut body);
            for filter in &packet.filters {
                put_text(&mut body, filter);
            }
            0xa2
        }
        Packet::UnsubAck(packet) => sub_ack(version, packet, 0xb0, &mut body),
        Packet::PingReq => 0xc0,
        Packet::PingResp => 0xd0,
        Packet::Disconnect(packet) => disconnect(version, packet, 0xe0, &mut body),
        Packet::Auth(packet) => disconnect(version, packet, 0xf0, &mut body),
    };
    out.reserve(body.len() + 5);
    out.put_u8(first);
    put_varint(out, body.len());
    out.put_slice(&body);
}

fn room(packet: &Packet) -> usize {
    match packet {
        Packet::Publish(publish) => publish.topic.len() + publish.payload.len() + 64,
        _ => 64,
    }
}

fn properties(version: Version, properties: &Properties, out: &mut BytesMut) {
    if version == Version::V5 {
        properties.encode(out);
    }
}

fn connect(packet: &Connect, out: &mut BytesMut) -> u8 {
    put_text(out, "MQTT");
    out.put_u8(if packet.version == Version::V5 { 5 } else { 4 });
    let mut flags = u8::from(packet.clean) << 1 | u8::from(packet.username.is_some()) << 7;
    flags |= u8::from(packet.password.is_some()) << 6;
    if let Some(will) = &packet.will {
        flags |= 4 | will.qos.bits() << 3 | u8::from(will.retain) << 5;
    }
    out.put_u8(flags);
    out.put_u16(packet.keep_alive);
    properties(packet.version, &packet.properties, out);
    put_text(out, &packet.client_id);
    if let Some(will) = &packet.will {
        properties(packet.version, &will.properties, out);
        put_text(out, &will.topic);
        put_binary(out, &will.payload);
    }
    if let Some(username) = &packet.username {
        put_text(out, username);
    }
    if let Some(password) = &packet.password {
        put_binary(out, password);
    }
    0x10
}

fn publish(version: Version, packet: &Publish, out: &mut BytesMut) -> u8 {
    put_text(out, &packet.topic);
    if packet.qos.bits() > 0 {
        out.put_u16(packet.id);
    }
    properties(version, &packet.properties, out);
    out.put_slice(&packet.payload);
    0x30 | u8::from(packet.dup) << 3 | packet.qos.bits() << 1 | u8::from(packet.retain)
}

fn ack(version: Version, packet: &Ack, first: u8, out: &mut BytesMut) -> u8 {
    out.put_u16(packet.id);
    if version == Version::V5 && !(packet.reason == 0 && packet.properties.is_empty()) {
        out.put_u8(packet.reason);
        if !packet.properties.is_empty() {
            packet.properties.encode(out);
        }
    }
    first
}

fn sub_ack(version: Version, packet: &SubAck, first: u8, out: &mut BytesMut) -> u8 {
    out.put_u16(packet.id);
    properties(version, &packet.properties, out);
    out.put_slice(&packet.reasons);
    first
}

fn disconnect(version: Version, packet: &Disconnect, first: u8, out: &mut BytesMut) -> u8 {
    if version == Version::V5 && !(packet.reason == 0 && packet.properties.is_empty()) {
        out.put_u8(packet.reason);
        if !packet.properties.is_empty() {
            packet.properties.encode(out);
        }
    }
    first
}

fn option_bits(version: Version, options: &Options) -> u8 {
    let handling = match options.retain_handling {
        RetainHandling::Always => 0,
        RetainHandling::IfNew => 1,
        RetainHandling::Never => 2,
    };
    match version {
        Version::V311 => options.qos.bits(),
        Version::V5 => {
            options.qos.bits() | u8::from(options.no_local) << 2 | u8::from(options.retain_as_published) << 3 | handling << 4
        }
    }
}
