//! Names that are not the cluster's: whom to ask for them, and what to believe of what comes back.
//!
//! In:       the host's `resolv.conf`, which server answered and which did not, packets.
//! Out:      the order in which servers are asked; [`Reply`]; names that nobody is asked for ([`stays`]).
//! Never:    sends anything (`forward/run.rs`).
//!
//! A server that did not answer is asked last, for 1 s that double to 30 s: so a dead first server costs one question in a while, and
//! not every one. Letters are not mixed for safety (draft "0x20"): some home routers do not keep them. A packet has to come from the
//! server that was asked, to the port that asked, with the random id and the question itself.

pub mod run;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::PTR;
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::answer::{Answer, record};
use super::cache::Said;
use super::resolv_conf::ResolvConf;
use super::{TTL_SECONDS, UDP_BYTES};
use crate::backoff::Policy;
use crate::clock::Tick;

/// How many servers are asked. Source: resolv.conf(5), MAXNS.
const MOST: usize = 3;
/// How long a server that did not answer is asked last.
const REST: Policy = Policy { first: Duration::from_secs(1), cap: Duration::from_secs(30) };

/// The host's servers, and who of them answers.
#[derive(Clone, Debug, Default)]
pub struct Upstreams {
    servers: Vec<Server>,
}

#[derive(Clone, Debug)]
struct Server {
    address: SocketAddr,
    failures: u32,
    rests_until: Tick,
}

impl Upstreams {
    /// Takes another list; who is in both stays as known as it was. Whether anything changed.
    pub fn set(&mut self, addresses: &[SocketAddr]) -> bool {
        if self.servers.iter().map(|server| &server.address).eq(addresses) {
            return false;
        }
        let known = |address: &SocketAddr| self.servers.iter().find(|server| server.address == *address).cloned();
        let new = |address: &SocketAddr| Server { address: *address, failures: 0, rests_until: Tick(0) };
        self.servers = addresses.iter().map(|address| known(address).unwrap_or_else(|| new(address))).collect();
        true
    }

    /// Whom to ask first, and then.
    #[must_use]
    pub fn order(&self, now: Tick) -> Vec<SocketAddr> {
        let mut servers: Vec<&Server> = self.servers.iter().collect();
        servers.sort_by_key(|server| if now < server.rests_until { server.rests_until } else { Tick(0) });
        servers.into_iter().map(|server| server.address).collect()
    }

    /// One answered.
    pub fn answered(&mut self, address: SocketAddr) {
        if let Some(server) = self.servers.iter_mut().find(|server| server.address == address) {
            server.failures = 0;
            server.rests_until = Tick(0);
        }
    }

    /// One did not.
    pub fn failed(&mut self, address: SocketAddr, now: Tick) {
        if let Some(server) = self.servers.iter_mut().find(|server| server.address == address) {
            server.failures = server.failures.saturating_add(1);
            server.rests_until = now.after(REST.delay(server.failures));
        }
    }
}

/// The servers that a `resolv.conf` names, without ourselves: a host that asks this node for names would ask in a circle.
#[must_use]
pub fn servers(conf: &ResolvConf, own: &[IpAddr], port: u16) -> Vec<SocketAddr> {
    let addresses = conf.servers.iter().filter_map(|server| server.parse::<IpAddr>().ok());
    let others = addresses.filter(|address| !own.contains(address) && !address.is_unspecified());
    others.take(MOST).map(|address| SocketAddr::new(address, port)).collect()
}

/// A question as a packet. Few old servers mind what EDNS adds; these are asked without.
#[must_use]
pub fn packet(id: u16, query: &Query, edns: bool) -> Option<Vec<u8>> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(query.clone());
    if edns {
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_BYTES);
        message.set_edns(edns);
    }
    message.to_vec().ok()
}

/// What came back.
#[derive(Debug, PartialEq)]
pub enum Reply {
    /// Not what was waited for: another one may come.
    Other,
    /// It does not fit into a packet.
    Cut,
    /// The server cannot say.
    Failed(ResponseCode),
    /// This.
    Said(Said),
}

/// Reads what came back on this question.
#[must_use]
pub fn reply(bytes: &[u8], id: u16, query: &Query) -> Reply {
    let Ok(message) = Message::from_vec(bytes) else { return Reply::Other };
    let head = &message.metadata;
    if head.id != id || head.message_type != MessageType::Response || head.op_code != OpCode::Query {
        return Reply::Other;
    }
    // One that did not understand the question may leave it out.
    if head.response_code == ResponseCode::FormErr && message.queries.is_empty() {
        return Reply::Failed(ResponseCode::FormErr);
    }
    let [asked] = message.queries.as_slice() else { return Reply::Other };
    let same = asked.name().to_lowercase() == query.name().to_lowercase() && asked.query_type() == query.query_type();
    if !same || asked.query_class() != query.query_class() {
        return Reply::Other;
    }
    if head.truncation {
        return Reply::Cut;
    }
    let code = head.response_code;
    match code {
        ResponseCode::NoError | ResponseCode::NXDomain => {
            let is_soa = |record: &Record| record.record_type() == RecordType::SOA;
            let authorities = message.authorities.into_iter().filter(is_soa).collect();
            Reply::Said(Said { code, answers: message.answers, authorities })
        }
        code => Reply::Failed(code),
    }
}

/// What is said of a name for which nobody is asked. `searches`: domains of the host's own; who has one below `local` means it.
/// Source: RFC 6761 (localhost, invalid), 6762 §22.1 (local), 7686 (onion).
#[must_use]
pub fn stays(name: &Name, kind: RecordType, searches: &[String]) -> Option<Answer> {
    let labels: Vec<String> = name.iter().map(|label| String::from_utf8_lossy(label).to_ascii_lowercase()).collect();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let mut answer = Answer::default();
    match labels.as_slice() {
        [.., "localhost"] => {
            let address = match kind {
                RecordType::A => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
                RecordType::AAAA => Some(IpAddr::V6(Ipv6Addr::LOCALHOST)),
                _ => None,
            };
            answer.answers.extend(address.map(|address| record(name, address)));
            Some(answer)
        }
        ["1", "0", "0", "127", "in-addr", "arpa"] => {
            let localhost = Name::from_ascii("localhost.").ok().filter(|_| kind == RecordType::PTR);
            let pointer = |to| Record::from_rdata(name.clone(), TTL_SECONDS, RData::PTR(PTR(to)));
            answer.answers.extend(localhost.map(pointer));
            Some(answer)
        }
        [.., last @ ("invalid" | "onion" | "local")] => {
            let text = labels.join(".");
            let meant = |search: &String| {
                let search = search.trim_matches('.').to_ascii_lowercase();
                text == search || text.ends_with(&format!(".{search}"))
            };
            if *last == "local" && searches.iter().any(meant) {
                return None;
            }
            answer.code = ResponseCode::NXDomain;
            Some(answer)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    #[test]
    fn a_server_that_did_not_answer_is_asked_last_for_a_while() {
        let [a, b] = ["192.0.2.1:53", "192.0.2.2:53"].map(|text| text.parse::<SocketAddr>().unwrap());
        let mut all = Upstreams::default();
        assert!(all.set(&[a, b]) && !all.set(&[a, b]));
        assert_eq!(all.order(Tick(0)), [a, b]);
        all.failed(a, Tick(1000));
        assert_eq!(all.order(Tick(1500)), [b, a]);
        assert_eq!(all.order(Tick(2000)), [a, b]);
        all.failed(a, Tick(2000));
        assert_eq!(all.order(Tick(3500)), [b, a], "two seconds then");
        all.failed(b, Tick(3500));
        assert_eq!(all.order(Tick(3600)), [a, b], "whoever rests least");
        all.answered(a);
        assert!(all.set(&[b, a]));
        assert_eq!(all.order(Tick(3600)), [a, b], "what is known of b stays");
    }

    #[test]
    fn nobody_asks_himself() {
        let conf = ResolvConf::read(
            "nameserver 10.244.0.1\nnameserver 127.0.0.53\nnameserver fe80::1%eth0\nnameserver x\nnameserver 10.96.0.10\nnameserver 9.9.9.9\nnameserver ::1\nnameserver 8.8.8.8\n",
        );
        let own = ["10.244.0.1", "10.96.0.10"].map(|text| text.parse().unwrap());
        let found: Vec<String> = servers(&conf, &own, 53).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["127.0.0.53:53", "9.9.9.9:53", "[::1]:53"]);
    }

    #[test]
    fn only_what_was_asked_is_believed() {
        let query = Query::query(name("a.example."), RecordType::A);
        let answer = || {
            let mut message = Message::new(5, MessageType::Response, OpCode::Query);
            message.add_query(query.clone());
            message.answers.push(record(&name("a.example."), [192, 0, 2, 1].into()));
            message.additionals.push(record(&name("evil.example."), [192, 0, 2, 66].into()));
            message
        };
        let read = |change: &dyn Fn(&mut Message)| {
            let mut message = answer();
            change(&mut message);
            reply(&message.to_vec().unwrap(), 5, &query)
        };
        assert!(matches!(read(&|_| {}), Reply::Said(said) if said.answers.len() == 1));
        let cased = |message: &mut Message| message.queries = vec![Query::query(name("A.Example."), RecordType::A)];
        assert!(matches!(read(&cased), Reply::Said(_)));
        for other in [
            &(|message: &mut Message| message.metadata.id = 6) as &dyn Fn(&mut Message),
            &|message| message.metadata.message_type = MessageType::Query,
            &|message| message.queries.clear(),
            &|message| message.queries = vec![Query::query(name("b.example."), RecordType::A)],
            &|message| message.queries = vec![Query::query(name("a.example."), RecordType::AAAA)],
        ] {
            assert_eq!(read(other), Reply::Other);
        }
        assert_eq!(read(&|message| message.metadata.truncation = true), Reply::Cut);
        let fails = |message: &mut Message| message.metadata.response_code = ResponseCode::ServFail;
        assert_eq!(read(&fails), Reply::Failed(ResponseCode::ServFail));
        assert_eq!(reply(b"rubbish", 5, &query), Reply::Other);
    }

    #[test]
    fn names_of_the_house_itself_are_not_asked_for_outside() {
        let told = |text: &str, kind, searches: &[&str]| {
            let searches: Vec<String> = searches.iter().map(|search| (*search).to_owned()).collect();
            stays(&name(text), kind, &searches).map(|answer| match answer.answers.first() {
                Some(record) => record.data.to_string(),
                None => format!("{:?}", answer.code),
            })
        };
        for (text, kind, searches, expected) in [
            ("localhost.", RecordType::A, vec![], Some("127.0.0.1")),
            ("x.LocalHost.", RecordType::AAAA, vec![], Some("::1")),
            ("localhost.", RecordType::MX, vec![], Some("NoError")),
            ("1.0.0.127.in-addr.arpa.", RecordType::PTR, vec![], Some("localhost.")),
            ("printer.local.", RecordType::A, vec![], Some("NXDomain")),
            ("printer.home.local.", RecordType::A, vec!["home.local"], None),
            ("printer.local.", RecordType::A, vec!["home.local"], Some("NXDomain")),
            ("a.invalid.", RecordType::A, vec![], Some("NXDomain")),
            ("example.com.", RecordType::A, vec![], None),
            (".", RecordType::NS, vec![], None),
        ] {
            assert_eq!(told(text, kind, &searches).as_deref(), expected, "{text}");
        }
    }
}
