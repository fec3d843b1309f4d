//! Names with addresses, as multicast DNS asks for them: `NAME.local`. Pure; what comes in may be anything.
//!
//! Source:   RFC 6762: 6.1 (that there is no other record is said by NSEC), 7.1 (who knows it is not told again), 8.3 (said unasked when
//!           it is new), 10.1 (taken back by a TTL of 0).
//! Names are not probed for: what two of our nodes say of a name is the same, and somebody else's is told in the log.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use simple_dns::rdata::{A, NSEC, NsecTypeBitMap, RData};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, ResourceRecord, TYPE};

use super::Voice;
use super::packet::{Asker, LEGACY_TTL, TTL, parse};

/// Addresses of one name: more than a program tries.
const MOST_ADDRESSES: usize = 16;
/// Questions of one packet.
const MOST_QUESTIONS: usize = 8;
/// Names that are said unasked at once; the others are answered when they are asked for.
const MOST_UNASKED: usize = 256;

/// The names that are answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts {
    /// By the label before `.local`, in lower case: where it is.
    pub names: BTreeMap<String, BTreeSet<Ipv4Addr>>,
    /// Names that others of us answer.
    pub elsewhere: BTreeSet<String>,
    /// Where these others are: what they say is no contradiction.
    pub friends: BTreeSet<Ipv4Addr>,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    id: u16,
    questions: Vec<(String, QTYPE)>,
}

fn wants_address(kind: QTYPE) -> bool {
    matches!(kind, QTYPE::ANY | QTYPE::TYPE(TYPE::A))
}

fn full(label: &str) -> Option<Name<'static>> {
    Some(Name::new(&format!("{label}.local")).ok()?.into_owned())
}

fn record(name: &Name<'static>, data: RData<'static>, ttl: u32, own: bool) -> ResourceRecord<'static> {
    ResourceRecord::new(name.clone(), CLASS::IN, ttl, data).with_cache_flush(own)
}

fn addresses(name: &Name<'static>, all: &BTreeSet<Ipv4Addr>, ttl: u32, own: bool) -> Vec<ResourceRecord<'static>> {
    let data = |address: &Ipv4Addr| RData::A(A { address: u32::from(*address) });
    all.iter().take(MOST_ADDRESSES).map(|address| record(name, data(address), ttl, own)).collect()
}

/// That a name has addresses of IPv4 and nothing else.
fn nothing_else(name: &Name<'static>) -> ResourceRecord<'static> {
    // The bit of type 1.
    let bits = NsecTypeBitMap { window_block: 0, bitmap: Cow::Owned(vec![0x40]) };
    record(name, RData::NSEC(NSEC { next_name: name.clone(), type_bit_maps: vec![bits] }), TTL, true)
}

fn reply(id: u16) -> Packet<'static> {
    let mut packet = Packet::new_reply(id);
    packet.set_flags(PacketFlag::AUTHORITATIVE_ANSWER);
    packet
}

impl Hosts {
    /// The label of a name that is answered here.
    fn label(&self, name: &Name<'_>) -> Option<String> {
        let name = name.to_string().to_ascii_lowercase();
        let label = name.trim_end_matches('.').strip_suffix(".local")?;
        self.names.contains_key(label).then(|| label.to_owned())
    }
}

impl Voice for Hosts {
    type Asked = Asked;
    const CANNOT: &'static str = "cannot answer for names of services by mDNS (bramble/mdns): who asks for them here gets no answer, and it is tried again";

    fn is_silent(&self) -> bool {
        self.names.is_empty()
    }

    fn asked(&self, packet: &[u8]) -> Option<Asked> {
        let packet = parse(packet)?;
        if packet.has_flags(PacketFlag::RESPONSE) {
            return None;
        }
        let known = |label: &str, all: &BTreeSet<Ipv4Addr>| {
            let of = packet.answers.iter().filter(|record| record.ttl >= TTL / 2);
            let of = of.filter(|record| self.label(&record.name).is_some_and(|name| name == label));
            let said: BTreeSet<Ipv4Addr> = of
                .filter_map(|record| if let RData::A(data) = &record.rdata { Some(Ipv4Addr::from(data.address)) } else { None })
                .collect();
            all.iter().take(MOST_ADDRESSES).all(|address| said.contains(address))
        };
        let wanted = packet.questions.iter().filter_map(|question| {
            let label = self.label(&question.qname)?;
            let all = self.names.get(&label)?;
            let told = wants_address(question.qtype) && known(&label, all);
            (!told).then_some((label, question.qtype))
        });
        let questions: Vec<(String, QTYPE)> = wanted.take(MOST_QUESTIONS).collect();
        (!questions.is_empty()).then(|| Asked { id: packet.id(), questions })
    }

    fn answer(&self, asked: &Asked, _address: Ipv4Addr, to: Asker) -> Option<Vec<u8>> {
        let mut packet = reply(if to == Asker::Legacy { asked.id } else { 0 });
        for (label, kind) in &asked.questions {
            let (name, all) = (full(label)?, self.names.get(label)?);
            match (to, wants_address(*kind)) {
                (Asker::Legacy, true) => packet.answers.extend(addresses(&name, all, LEGACY_TTL, false)),
                // An ordinary answer without records says the same.
                (Asker::Legacy, false) => {}
                (Asker::Peer, true) => {
                    packet.answers.extend(addresses(&name, all, TTL, true));
                    packet.additional_records.push(nothing_else(&name));
                }
                (Asker::Peer, false) => packet.answers.push(nothing_else(&name)),
            }
            if to == Asker::Legacy {
                packet.questions.push(Question::new(name, *kind, QCLASS::CLASS(CLASS::IN), false));
            }
        }
        packet.build_bytes_vec_compressed().ok()
    }

    fn unasked(&self, before: Option<&Self>) -> Vec<Vec<u8>> {
        let known = |label: &str| before.and_then(|before| before.names.get(label));
        let new = self.names.iter().filter(|(label, all)| known(label) != Some(all)).map(|(label, all)| (label, all, TTL));
        let old = before.iter().flat_map(|before| &before.names);
        // A name that another node answers to now is not taken back: that would be told of the other's as well.
        let gone = old.filter(|(label, _)| !self.names.contains_key(*label) && !self.elsewhere.contains(*label));
        let gone = gone.map(|(label, all)| (label, all, 0));
        let said = new.chain(gone).filter_map(|(label, all, ttl)| {
            let name = full(label)?;
            let mut packet = reply(0);
            packet.answers = addresses(&name, all, ttl, true);
            packet.build_bytes_vec_compressed().ok()
        });
        said.take(MOST_UNASKED).collect()
    }

    fn contradicted(&self, packet: &[u8], from: Ipv4Addr) -> Option<String> {
        if self.friends.contains(&from) {
            return None;
        }
        let packet = parse(packet).filter(|packet| packet.has_flags(PacketFlag::RESPONSE))?;
        packet.answers.iter().filter(|record| record.ttl > 0).find_map(|record| {
            let label = self.label(&record.name)?;
            let all = self.names.get(&label)?;
            let other = matches!(&record.rdata, RData::A(data) if !all.contains(&Ipv4Addr::from(data.address)));
            other.then(|| format!("{label}.local"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::packet::question;
    use super::*;

    const HERE: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 8);
    const THERE: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 9);

    fn hosts(names: &[(&str, &[Ipv4Addr])]) -> Hosts {
        let names = names.iter().map(|(name, all)| ((*name).to_owned(), all.iter().copied().collect())).collect();
        Hosts { names, ..Hosts::default() }
    }

    fn ask(names: &[(&str, TYPE)]) -> Vec<u8> {
        let mut packet = Packet::new_query(7);
        packet.questions.extend(names.iter().filter_map(|(name, kind)| question(name, *kind)));
        packet.build_bytes_vec().unwrap()
    }

    fn found(bytes: &[u8]) -> Vec<(String, Ipv4Addr, u32)> {
        let packet = Packet::parse(bytes).unwrap();
        let address = |record: &ResourceRecord<'_>| match &record.rdata {
            RData::A(data) => Some((record.name.to_string(), Ipv4Addr::from(data.address), record.ttl)),
            _ => None,
        };
        packet.answers.iter().filter_map(address).collect()
    }

    #[test]
    fn a_name_is_answered_with_all_of_its_addresses() {
        let hosts = hosts(&[("web", &[HERE, THERE]), ("door", &[HERE])]);
        let asked = hosts.asked(&ask(&[("WEB.local", TYPE::A), ("door.local", TYPE::A), ("other.local", TYPE::A)])).unwrap();
        for (to, ttl) in [(Asker::Peer, 120), (Asker::Legacy, 10)] {
            let told = found(&hosts.answer(&asked, HERE, to).unwrap());
            let expected = [("web.local", HERE), ("web.local", THERE), ("door.local", HERE)];
            assert_eq!(told, expected.map(|(name, address)| (name.to_owned(), address, ttl)), "{to:?}");
        }
        for (name, kind) in [("other.local", TYPE::A), ("a.web.local", TYPE::A), ("web", TYPE::A), ("local", TYPE::A)] {
            assert_eq!(hosts.asked(&ask(&[(name, kind)])), None, "{name}");
        }
    }

    #[test]
    fn that_there_is_no_other_record_is_said() {
        let hosts = hosts(&[("web", &[HERE])]);
        let asked = hosts.asked(&ask(&[("web.local", TYPE::AAAA)])).unwrap();
        let peer = hosts.answer(&asked, HERE, Asker::Peer).unwrap();
        let peer = Packet::parse(&peer).unwrap();
        assert!(matches!(&peer.answers[0].rdata, RData::NSEC(nsec) if nsec.type_bit_maps[0].bitmap == vec![0x40]));
        let legacy = hosts.answer(&asked, HERE, Asker::Legacy).unwrap();
        let legacy = Packet::parse(&legacy).unwrap();
        assert_eq!((legacy.id(), legacy.questions.len(), legacy.answers.len()), (7, 1, 0));
    }

    #[test]
    fn who_knows_all_of_it_is_not_told_again() {
        let all = hosts(&[("web", &[HERE, THERE])]);
        let asked = |known: &Hosts| {
            let told = known.unasked(None).remove(0);
            let mut packet = Packet::parse(&told).unwrap();
            packet.remove_flags(PacketFlag::RESPONSE);
            packet.questions.extend(question("web.local", TYPE::A));
            all.asked(&packet.build_bytes_vec().unwrap())
        };
        assert_eq!(asked(&all), None);
        assert!(asked(&hosts(&[("web", &[HERE])])).is_some(), "it knows the half");
        assert_eq!(all.asked(&all.unasked(None)[0]), None, "an answer is no question");
    }

    #[test]
    fn what_is_new_is_said_and_what_is_gone_is_taken_back() {
        let before = hosts(&[("a", &[HERE]), ("b", &[HERE]), ("c", &[HERE]), ("d", &[HERE])]);
        let mut after = hosts(&[("a", &[HERE]), ("b", &[THERE]), ("e", &[HERE])]);
        after.elsewhere.insert("c".to_owned());
        let said: Vec<_> = after.unasked(Some(&before)).iter().flat_map(|bytes| found(bytes)).collect();
        let expected = [("b.local", THERE, 120), ("e.local", HERE, 120), ("d.local", HERE, 0)];
        assert_eq!(said, expected.map(|(name, address, ttl)| (name.to_owned(), address, ttl)));
        assert!(after.unasked(Some(&after)).is_empty());
        assert_eq!(after.unasked(None).len(), 3);
    }

    #[test]
    fn somebody_elses_name_is_noticed_and_a_friends_is_not() {
        let mut ours = hosts(&[("web", &[HERE])]);
        ours.friends.insert(THERE);
        let theirs = hosts(&[("web", &[Ipv4Addr::new(192, 168, 1, 77)])]).unasked(None).remove(0);
        let stranger = Ipv4Addr::new(192, 168, 1, 77);
        assert_eq!(ours.contradicted(&theirs, stranger).as_deref(), Some("web.local"));
        assert_eq!(ours.contradicted(&theirs, THERE), None);
        assert_eq!(ours.contradicted(&ours.unasked(None)[0], stranger), None, "the same");
        assert_eq!(ours.contradicted(&ask(&[("web.local", TYPE::A)]), stranger), None, "a question");
    }

    #[test]
    fn rubbish_is_read_without_harm() {
        let hosts = hosts(&[("web", &[HERE, THERE])]);
        let good = [ask(&[("web.local", TYPE::A)]), hosts.unasked(None).remove(0)];
        let mut rng = crate::rng::Rng::seeded(1, "rubbish");
        for round in 0..100_000 {
            let mut bytes = good[round % 2].clone();
            for _ in 0..=rng.below(6) {
                let at = rng.below(bytes.len());
                bytes[at] = u8::try_from(rng.below(256)).unwrap();
            }
            bytes.truncate(1 + rng.below(bytes.len()));
            if let Some(asked) = hosts.asked(&bytes) {
                let _ = hosts.answer(&asked, HERE, Asker::Peer);
                let _ = hosts.answer(&asked, HERE, Asker::Legacy);
            }
            let _ = hosts.contradicted(&bytes, THERE);
        }
    }
}
