//! Bytes → [`Packet`]. Anything may come in; nothing here panics, and nothing is allocated for what did not arrive.

use std::sync::Arc;

use bytes::Bytes;

use super::properties::Place;
use super::wire::{Reader, varint};
use super::{
    Ack, ConnAck, Connect, DecodeError, Disconnect, Options, Packet, Properties, Publish, Qos, RetainHandling, SubAck, Subscribe,
    Unsubscribe, Version, Will,
};

/// The length of the packet that `bytes` begin with, header included; nothing when the header is not complete yet.
///
/// # Errors
/// When the header is wrong, or says that the packet is longer than `limit`: known before the packet is there.
pub fn frame(bytes: &[u8], limit: usize) -> Result<Option<usize>, DecodeError> {
    let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
    let flags = first & 0x0f;
    let flags_right = match first >> 4 {
        0 => return Err(DecodeError::Malformed("packet type 0")),
        3 => flags & 0x06 != 0x06,
        6 | 8 | 10 => flags == 2,
        _ => flags == 0,
    };
    if !flags_right {
        return Err(DecodeError::Malformed("wrong flags"));
    }
    let Some((remaining, length)) = varint(rest)? else { return Ok(None) };
    let whole = usize::try_from(remaining).unwrap_or(usize::MAX).saturating_add(1 + length);
    if whole > limit { Err(DecodeError::TooLarge(whole)) } else { Ok(Some(whole)) }
}

/// Reads one whole packet, as [`frame`] measured it.
///
/// # Errors
/// When it is none.
pub fn decode(version: Version, packet: &[u8]) -> Result<Packet, DecodeError> {
    let mut reader = Reader::new(packet);
    let first = reader.u8()?;
    let remaining = reader.varint()?;
    let mut reader = Reader::new(reader.take(usize::try_from(remaining).map_err(|_| DecodeError::Malformed("length"))?)?);
    let flags = first & 0x0f;
    let packet = match first >> 4 {
        1 => Packet::Connect(Box::new(connect(&mut reader)?)),
        2 => Packet::ConnAck(conn_ack(&mut reader, version)?),
        3 => Packet::Publish(publish(&mut reader, version, flags)?),
        4 => Packet::PubAck(ack(&mut reader, version)?),
        5 => Packet::PubRec(ack(&mut reader, version)?),
        6 => Packet::PubRel(ack(&mut reader, version)?),
        7 => Packet::PubComp(ack(&mut reader, version)?),
        8 => Packet::Subscribe(subscribe(&mut reader, version)?),
        9 => Packet::SubAck(sub_ack(&mut reader, version)?),
        10 => Packet::Unsubscribe(unsubscribe(&mut reader, version)?),
        11 => Packet::UnsubAck(sub_ack(&mut reader, version)?),
        12 => Packet::PingReq,
        13 => Packet::PingResp,
        14 => Packet::Disconnect(disconnect(&mut reader, version, Place::Disconnect)?),
        15 if version == Version::V5 => Packet::Auth(disconnect(&mut reader, version, Place::Auth)?),
        _ => return Err(DecodeError::Malformed("unknown packet type")),
    };
    if reader.is_empty() { Ok(packet) } else { Err(DecodeError::Malformed("bytes behind its end")) }
}

/// Which protocol a CONNECT asks for, when it is one that we do not speak: so that it can be told so in its own words.
#[must_use]
pub fn connect_version(packet: &[u8]) -> Option<u8> {
    let mut reader = Reader::new(packet);
    let _ = (reader.u8().ok()?, reader.varint().ok()?);
    (reader.text().ok()? == "MQTT").then_some(())?;
    reader.u8().ok()
}

fn properties(reader: &mut Reader<'_>, version: Version, place: Place) -> Result<Properties, DecodeError> {
    match version {
        Version::V311 => Ok(Properties::default()),
        Version::V5 => Properties::decode(reader, place),
    }
}

fn qos(bits: u8) -> Result<Qos, DecodeError> {
    match bits {
        0 => Ok(Qos::AtMostOnce),
        1 => Ok(Qos::AtLeastOnce),
        2 => Ok(Qos::ExactlyOnce),
        _ => Err(DecodeError::Malformed("quality of service 3")),
    }
}

fn connect(reader: &mut Reader<'_>) -> Result<Connect, DecodeError> {
    let name = reader.text()?;
    let version = match (name, reader.u8()?) {
        ("MQTT", 4) => Version::V311,
        ("MQTT", 5) => Version::V5,
        ("MQTT" | "MQIsdp", _) => return Err(DecodeError::UnsupportedVersion),
        _ => return Err(DecodeError::Malformed("protocol name")),
    };
    let flags = reader.u8()?;
    let (username, password, retain, will) = (flags & 0x80 != 0, flags & 0x40 != 0, flags & 0x20 != 0, flags & 0x04 != 0);
    let will_qos = qos((flags >> 3) & 3)?;
    if flags & 1 != 0 || (!will && (retain || will_qos != Qos::AtMostOnce)) {
        return Err(DecodeError::Malformed("connect flags"));
    }
    if version == Version::V311 && password && !username {
        return Err(DecodeError::Malformed("a password without a user name"));
    }
    let keep_alive = reader.u16()?;
    let connect_properties = properties(reader, version, Place::Connect)?;
    let client_id = reader.text()?.to_owned();
    let will = if will {
        let properties = properties(reader, version, Place::Will)?;
        Some(Will { properties, topic: Arc::from(reader.text()?), payload: reader.binary()?, qos: will_qos, retain })
    } else {
        None
    };
    Ok(Connect {
        version,
        clean: flags & 0x02 != 0,
        keep_alive,
        client_id,
        will,
        username: if username { Some(reader.text()?.to_owned()) } else { None },
        password: if password { Some(reader.binary()?) } else { None },
        properties: connect_properties,
    })
}

fn conn_ack(reader: &mut Reader<'_>, version: Version) -> Result<ConnAck, DecodeError> {
    let session_present = match reader.u8()? {
        0 => false,
        1 => true,
        _ => return Err(DecodeError::Malformed("acknowledge flags")),
    };
    Ok(ConnAck { session_present, reason: reader.u8()?, properties: properties(reader, version, Place::ConnAck)? })
}

fn publish(reader: &mut Reader<'_>, version: Version, flags: u8) -> Result<Publish, DecodeError> {
    let qos = qos((flags >> 1) & 3)?;
    let dup = flags & 8 != 0;
    if dup && qos == Qos::AtMostOnce {
        return Err(DecodeError::Malformed("a duplicate of quality 0"));
    }
    let topic = Arc::from(reader.text()?);
    let id = if qos == Qos::AtMostOnce { 0 } else { reader.id()? };
    let properties = properties(reader, version, Place::Publish)?;
    // Copied, so that a small message that is kept does not hold a whole read buffer.
    Ok(Publish { dup, qos, retain: flags & 1 != 0, topic, id, properties, payload: Bytes::copy_from_slice(reader.rest()) })
}

fn ack(reader: &mut Reader<'_>, version: Version) -> Result<Ack, DecodeError> {
    let id = reader.id()?;
    if version == Version::V311 || reader.is_empty() {
        return Ok(Ack::new(id, 0));
    }
    let reason = reader.u8()?;
    let properties = if reader.is_empty() { Properties::default() } else { Properties::decode(reader, Place::Ack)? };
    Ok(Ack { id, reason, properties })
}

fn subscribe(reader: &mut Reader<'_>, version: Version) -> Result<Subscribe, DecodeError> {
    let id = reader.id()?;
    let properties = properties(reader, version, Place::Subscribe)?;
    let mut filters = Vec::new();
    while !reader.is_empty() {
        let filter = reader.text()?.to_owned();
        let bits = reader.u8()?;
        let reserved = if version == Version::V311 { 0xfc } else { 0xc0 };
        if bits & reserved != 0 {
            return Err(DecodeError::Malformed("subscription options"));
        }
        let retain_handling = match (bits >> 4) & 3 {
            0 => RetainHandling::Always,
            1 => RetainHandling::IfNew,
            2 => RetainHandling::Never,
            _ => return Err(DecodeError::Protocol("retain handling 3")),
        };
        let options =
            Options { qos: qos(bits & 3)?, no_local: bits & 4 != 0, retain_as_published: bits & 8 != 0, retain_handling };
        filters.push((filter, options));
    }
    if filters.is_empty() {
        return Err(DecodeError::Protocol("a subscription without filters"));
    }
    Ok(Subscribe { id, properties, filters })
}

fn sub_ack(reader: &mut Reader<'_>, version: Version) -> Result<SubAck, DecodeError> {
    let id = reader.id()?;
    let properties = properties(reader, version, Place::SubAck)?;
    Ok(SubAck { id, properties, reasons: reader.rest().to_vec() })
}

fn unsubscribe(reader: &mut Reader<'_>, version: Version) -> Result<Unsubscribe, DecodeError> {
    let id = reader.id()?;
    let properties = properties(reader, version, Place::Unsubscribe)?;
    let mut filters = Vec::new();
    while !reader.is_empty() {
        filters.push(reader.text()?.to_owned());
    }
    if filters.is_empty() {
        return Err(DecodeError::Protocol("an unsubscription without filters"));
    }
    Ok(Unsubscribe { id, properties, filters })
}

fn disconnect(reader: &mut Reader<'_>, version: Version, place: Place) -> Result<Disconnect, DecodeError> {
    if version == Version::V311 || reader.is_empty() {
        return Ok(Disconnect::default());
    }
    let reason = reader.u8()?;
    let properties = if reader.is_empty() { Properties::default() } else { Properties::decode(reader, place)? };
    Ok(Disconnect { reason, properties })
}
