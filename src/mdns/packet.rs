//! Questions and answers as bytes. Pure; what comes in may be anything.

use std::net::Ipv4Addr;

use simple_dns::rdata::{A, PTR, RData, SRV, TXT};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, ResourceRecord, TYPE};

use super::{Announcement, SERVICE, host_name};

/// What lists all kinds of services (RFC 6763, 9).
const SERVICES: &str = "_services._dns-sd._udp.local";
/// Seconds: RFC 6762, 10, for records that name a host, and the same for the others, so that a master that moved is soon forgotten.
pub(super) const TTL: u32 = 120;
/// Seconds, for who asks from another port than 5353 (RFC 6762, 6.7).
pub(super) const LEGACY_TTL: u32 = 10;
/// Records of one packet: ours has four, and a network's worth of them is not in one packet.
const MOST_RECORDS: u16 = 256;
/// Masters of one packet.
const MOST_MASTERS: usize = 8;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// A multicast DNS program, at port 5353: it hears what is said to all.
    Peer,
    /// Somebody at another port, who wants an ordinary DNS answer.
    Legacy,
}

/// A question that a master answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    id: u16,
    name: String,
    about: About,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    /// Which kinds of services there are.
    Kinds,
    /// Which masters there are.
    Service,
    /// Where this one is.
    Instance,
    /// The host's address.
    Host,
}

/// The question of a node that looks for masters.
#[must_use]
pub fn query(id: u16) -> Vec<u8> {
    let mut packet = Packet::new_query(id);
    packet.questions.extend(question(SERVICE, TYPE::PTR));
    packet.build_bytes_vec().unwrap_or_default()
}

pub(super) fn question(name: &str, kind: TYPE) -> Option<Question<'_>> {
    Some(Question::new(Name::new(name).ok()?, QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN), false))
}

/// A packet, unless it promises more records than it can hold: room is made for them before they are read.
pub(super) fn parse(bytes: &[u8]) -> Option<Packet<'_>> {
    let counts: u32 = bytes.get(4..12)?.chunks_exact(2).map(|pair| pair.iter().fold(0, |sum, &b| sum << 8 | u32::from(b))).sum();
    if counts > u32::from(MOST_RECORDS) {
        return None;
    }
    Packet::parse(bytes).ok()
}

/// What of a packet is asked of this master; `None` when nothing is, or when the asker says that it knows the answer.
#[must_use]
pub fn asked(bytes: &[u8], of: &Announcement) -> Option<Asked> {
    let packet = parse(bytes)?;
    if packet.has_flags(PacketFlag::RESPONSE) {
        return None;
    }
    let (instance, host) = (instance(of), host_name(&of.uid)?);
    let names = [(SERVICES, About::Kinds), (SERVICE, About::Service), (&*instance, About::Instance), (&*host, About::Host)];
    let (name, about) = packet.questions.iter().find_map(|asked| {
        let (name, about) = names.iter().find(|(name, _)| Name::new(name).is_ok_and(|name| name == asked.qname))?;
        let fits =
            |kinds: &[TYPE]| matches!(asked.qtype, QTYPE::ANY) || kinds.iter().any(|kind| asked.qtype == QTYPE::TYPE(*kind));
        let fits = match about {
            About::Kinds | About::Service => fits(&[TYPE::PTR]),
            About::Instance => fits(&[TYPE::SRV, TYPE::TXT]),
            About::Host => fits(&[TYPE::A]),
        };
        fits.then(|| ((*name).to_owned(), *about))
    })?;
    let known = packet.answers.iter().any(|record| {
        let same = matches!(&record.rdata, RData::PTR(PTR(name)) if name.to_string().eq_ignore_ascii_case(&instance));
        same && record.ttl >= TTL / 2
    });
    (!known || about != About::Service).then(|| Asked { id: packet.id(), name, about })
}

fn instance(of: &Announcement) -> String {
    format!("{}.{SERVICE}", of.uid)
}

/// The answer of the master that is reached at `address`. `None` for one whose uid cannot stand in a name.
#[must_use]
pub fn answer(asked: &Asked, of: &Announcement, address: Ipv4Addr, to: Asker) -> Option<Vec<u8>> {
    let (instance, host) = (instance(of), host_name(&of.uid)?);
    let (ttl, own) = match to {
        Asker::Legacy => (LEGACY_TTL, false),
        Asker::Peer => (TTL, true),
    };
    let name = |text| Name::new(text).ok();
    let record = |of: Name<'static>, data: RData<'static>, unique: bool| {
        ResourceRecord::new(of, CLASS::IN, ttl, data).with_cache_flush(unique && own)
    };
    let owned = |text: &str| Name::new(text).ok().map(Name::into_owned);
    let pointer = |from: &str, to: &str| Some(record(owned(from)?, RData::PTR(PTR(owned(to)?)), false));
    let port = of.port.to_string();
    let said = [("id", &of.uid), ("cluster", &of.cluster), ("version", &of.version), ("api", &port), ("ca", &of.ca)];
    let mut text = TXT::new();
    for (key, value) in said {
        text.add_attribute(key, Some(value.as_bytes())).ok()?;
    }
    let place = SRV { priority: 0, weight: 0, port: of.port, target: owned(&host)? };
    let place = record(owned(&instance)?, RData::SRV(place), true);
    let text = record(owned(&instance)?, RData::TXT(text), true);
    let address = record(owned(&host)?, RData::A(A { address: u32::from(address) }), true);
    let mut packet = Packet::new_reply(if to == Asker::Legacy { asked.id } else { 0 });
    packet.set_flags(PacketFlag::AUTHORITATIVE_ANSWER);
    let (answers, more) = match asked.about {
        About::Kinds => (vec![pointer(SERVICES, SERVICE)?], vec![]),
        About::Service => (vec![pointer(SERVICE, &instance)?], vec![place, text, address]),
        About::Instance => (vec![place, text], vec![address]),
        About::Host => (vec![address], vec![]),
    };
    if to == Asker::Legacy {
        let kind = match asked.about {
            About::Kinds | About::Service => TYPE::PTR,
            About::Instance => TYPE::SRV,
            About::Host => TYPE::A,
        };
        packet.questions.push(Question::new(name(&asked.name)?, QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN), false));
    }
    packet.answers = answers;
    packet.additional_records = more;
    packet.build_bytes_vec_compressed().ok()
}

/// The masters that an answer names.
#[must_use]
pub fn masters(bytes: &[u8]) -> Vec<Announcement> {
    let Some(packet) = parse(bytes).filter(|packet| packet.has_flags(PacketFlag::RESPONSE)) else { return Vec::new() };
    let Ok(service) = Name::new(SERVICE) else { return Vec::new() };
    let records = || packet.answers.iter().chain(&packet.additional_records);
    let instances = records().filter(|record| record.name == service).filter_map(|record| match &record.rdata {
        RData::PTR(PTR(name)) => Some(name),
        _ => None,
    });
    let read = |instance: &Name<'_>| {
        let of = || records().filter(|record| record.name == *instance);
        let port = of().find_map(|record| if let RData::SRV(place) = &record.rdata { Some(place.port) } else { None })?;
        let text = of().find_map(|record| if let RData::TXT(text) = &record.rdata { Some(text) } else { None })?;
        let value = |key: &str| {
            let found = text.iter_raw().find(|(name, _)| name.eq_ignore_ascii_case(key.as_bytes()));
            found.and_then(|(_, value)| String::from_utf8(value?.to_vec()).ok())
        };
        let read =
            Announcement { uid: value("id")?, cluster: value("cluster")?, version: value("version")?, port, ca: value("ca")? };
        read.is_sound().then_some(read)
    };
    instances.take(MOST_MASTERS).filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn master() -> Announcement {
        Announcement {
            uid: "0b3c2f6e-6a1f-4c0e-9d8b-5a4f6e7d8c9b".into(),
            cluster: "bramble".into(),
            version: "0.1.0".into(),
            port: 6443,
            ca: "0123456789abcdef".repeat(4),
        }
    }

    const HERE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

    #[test]
    fn who_asks_is_told_all_of_it_in_one_packet() {
        let asked = asked(&query(7), &master()).unwrap();
        for to in [Asker::Legacy, Asker::Peer] {
            let bytes = answer(&asked, &master(), HERE, to).unwrap();
            assert_eq!(masters(&bytes), [master()], "{to:?}");
            let packet = Packet::parse(&bytes).unwrap();
            let ttl = packet.answers[0].ttl;
            let expected = if to == Asker::Legacy { (7, 1, 10) } else { (0, 0, 120) };
            assert_eq!((packet.id(), packet.questions.len(), ttl), expected);
            assert!(packet.additional_records.iter().any(|one| one.rdata == RData::A(A { address: u32::from(HERE) })));
        }
    }

    #[test]
    fn what_dns_sd_programs_ask_is_answered_and_nothing_else() {
        let ask = |name: &str, kind| {
            let mut packet = Packet::new_query(1);
            packet.questions.extend(question(name, kind));
            asked(&packet.build_bytes_vec().unwrap(), &master())
        };
        let (of, host) = (instance(&master()), host_name(&master().uid).unwrap());
        for (name, kind, answers) in [
            ("_BRAMBLE._tcp.local", TYPE::PTR, 1),
            (SERVICES, TYPE::PTR, 1),
            (&*of, TYPE::SRV, 2),
            (&*of, TYPE::TXT, 2),
            (&*host, TYPE::A, 1),
            (&*host, TYPE::AAAA, 0),
            (SERVICE, TYPE::A, 0),
            ("_http._tcp.local", TYPE::PTR, 0),
            ("bramble-other.local", TYPE::A, 0),
        ] {
            let told = ask(name, kind).map(|asked| answer(&asked, &master(), HERE, Asker::Peer).unwrap());
            let count = told.map_or(0, |bytes| Packet::parse(&bytes).unwrap().answers.len());
            assert_eq!(count, answers, "{name} {kind:?}");
        }
    }

    #[test]
    fn who_knows_it_is_not_told_again_and_an_answer_is_no_question() {
        let told = answer(&asked(&query(1), &master()).unwrap(), &master(), HERE, Asker::Peer).unwrap();
        assert_eq!(asked(&told, &master()), None);
        let mut packet = Packet::parse(&told).unwrap();
        packet.remove_flags(PacketFlag::RESPONSE);
        packet.questions.extend(question(SERVICE, TYPE::PTR));
        assert_eq!(asked(&packet.build_bytes_vec().unwrap(), &master()), None);
        packet.answers[0].ttl = 10;
        assert!(asked(&packet.build_bytes_vec().unwrap(), &master()).is_some(), "it will soon forget");
        assert!(masters(&query(1)).is_empty());
    }

    #[test]
    fn rubbish_is_read_without_harm() {
        let good = answer(&asked(&query(1), &master()).unwrap(), &master(), HERE, Asker::Peer).unwrap();
        let mut rng = crate::rng::Rng::seeded(1, "rubbish");
        for round in 0..200_000 {
            let mut bytes = if round % 2 == 0 { good.clone() } else { query(1) };
            for _ in 0..=rng.below(6) {
                let at = rng.below(bytes.len());
                bytes[at] = u8::try_from(rng.below(256)).unwrap();
            }
            bytes.truncate(1 + rng.below(bytes.len()));
            // That it returns at all is what is tested.
            let _ = asked(&bytes, &master());
            assert!(masters(&bytes).iter().all(Announcement::is_sound));
        }
        // It promises 65,535 records of each kind and has none.
        assert!(masters(&[0, 0, 0x84, 0, 255, 255, 255, 255, 255, 255, 255, 255]).is_empty());
        assert!(masters(&[]).is_empty() && asked(&[0; 12], &master()).is_none());
        // A name that points at itself.
        assert!(masters(&[0, 0, 0x84, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0xc0, 12, 0, 12, 0, 1, 0, 0, 0, 9, 0, 2, 0xc0, 12]).is_empty());
    }
}
