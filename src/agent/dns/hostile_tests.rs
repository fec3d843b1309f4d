//! Whatever bytes, names and files come, nothing panics, and what goes back can be read and fits.

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use proptest::prelude::*;

use super::NameServer;
use super::answer::{Found, lookup};
use super::forward::{self, stays};
use super::question::{Over, Read, read};
use super::resolv_conf::{ResolvConf, for_pod};
use super::zone::Zone;
use super::zone::tests::{service, share};
use crate::agent::holder;
use crate::agent::runtime::Dns;
use serde_json::json;

fn zone() -> Zone {
    Zone::of(&share(
        vec![
            service("web", json!({"clusterIP": "10.96.0.7", "ports": [{"name": "http", "port": 80}]})),
            service("loop", json!({"type": "ExternalName", "externalName": "loop.home.svc.cluster.local"})),
        ],
        vec![],
    ))
}

fn question(name: &Name, kind: u16) -> Vec<u8> {
    let mut message = Message::new(1, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(name.clone(), RecordType::from(kind)));
    message.set_edns(hickory_proto::op::Edns::new());
    message.to_vec().unwrap()
}

/// Does with bytes what the server does.
fn take(zone: &Zone, bytes: &[u8], over: Over) {
    let (reply, most) = match read(bytes, over) {
        Read::Nothing => return,
        Read::Refuse(reply) => (reply, usize::from(u16::MAX)),
        Read::Question(question) => {
            let (name, kind) = (question.query.name(), question.query.query_type());
            let reply = match lookup(zone, name, kind, 3) {
                Found::Answer(answer) => question.answered(answer),
                Found::NotOurs | Found::NotKnown => stays(name, kind, &[]).map_or_else(
                    || question.failed(hickory_proto::op::ResponseCode::ServFail),
                    |answer| question.answered(answer),
                ),
            };
            (reply, if over == Over::Udp { 1232 } else { usize::from(u16::MAX) })
        }
    };
    let read = Message::from_vec(&reply).unwrap();
    assert_eq!(read.metadata.message_type, MessageType::Response);
    assert_eq!(&reply[..2], &bytes[..2], "the id");
    assert!(reply.len() <= most);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_are_taken(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let zone = zone();
        take(&zone, &bytes, Over::Udp);
        take(&zone, &bytes, Over::Tcp);
        let _ = forward::reply(&bytes, 1, &Query::query(Name::root(), RecordType::A));
    }

    #[test]
    fn a_question_that_was_tampered_with_is_taken(
        label in "[a-z0-9]([a-z0-9_-]{0,18}[a-z0-9])?",
        below in prop::sample::select(vec!["svc.cluster.local.", "home.svc.cluster.local.", "web.home.svc.cluster.local.", "home.pod.cluster.local.", "in-addr.arpa.", "example."]),
        kind in any::<u16>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        more in proptest::collection::vec(any::<u8>(), 0..20),
    ) {
        let name = Name::from_ascii(format!("{label}.{below}")).unwrap();
        let whole = question(&name, kind);
        let mut bytes = whole.clone();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let zone = zone();
        take(&zone, &bytes, Over::Udp);
        bytes.truncate(cut.index(bytes.len()) + 1);
        bytes.extend(more);
        take(&zone, &bytes, Over::Tcp);
        let mut answer = whole;
        answer[2] |= 0x80;
        let _ = forward::reply(&answer, 1, &Query::query(name, RecordType::from(kind)));
    }

    #[test]
    fn labels_of_any_bytes_are_looked_up(labels in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..63), 0..4), ours in any::<bool>()) {
        let mut labels: Vec<&[u8]> = labels.iter().map(Vec::as_slice).collect();
        let end: [&[u8]; 3] = [b"svc", b"cluster", b"local"];
        if ours {
            labels.extend(end);
        }
        if let Ok(name) = Name::from_labels(labels) {
            take(&zone(), &question(&name, 1), Over::Udp);
        }
    }

    #[test]
    fn any_text_is_read_as_a_file(text in "\\PC{0,200}", lines in proptest::collection::vec("(nameserver|search|options|domain) \\PC{0,40}", 0..8)) {
        for text in [text, lines.join("\n")] {
            let conf = ResolvConf::read(&text);
            let _ = forward::servers(&conf, &[], 53);
            let asked = Dns { servers: conf.servers, searches: conf.searches, options: conf.options, ..Dns::default() };
            let _ = for_pod(&asked, "home", &NameServer::Host, &text);
            let _ = holder::listeners(&text).count();
            let _ = holder::socket(&text);
        }
    }
}
