//! From a packet to the question in it, and from what was found to a packet.
//!
//! In:       bytes from anybody.
//! Out:      a [`Question`], or what is answered to what is none; replies that fit where they go.
//! Never:    panics over bytes (`hostile_tests.rs`), or answers an answer.
//! Source:   RFC 1035, 6891 (EDNS0), 8482 is not followed: ANY gives what there is.

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Record, RecordType};

use super::UDP_BYTES;
use super::answer::Answer;

/// The smallest largest answer.
const PLAIN_BYTES: u16 = 512;
/// A header alone.
const HEADER_BYTES: usize = 12;

/// How a question came, and so how much its answer may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// In one packet.
    Udp,
    /// On a connection.
    Tcp,
}

/// A question that can be answered.
#[derive(Clone, Debug)]
pub struct Question {
    /// What is asked, in the letters in which it was asked.
    pub query: Query,
    request: Metadata,
    edns: bool,
    room: u16,
}

/// What is in a packet.
#[derive(Debug)]
pub enum Read {
    /// A question.
    Question(Box<Question>),
    /// None that we answer: this goes back.
    Refuse(Vec<u8>),
    /// None at all; nothing goes back.
    Nothing,
}

/// Reads a packet.
#[must_use]
pub fn read(bytes: &[u8], over: Over) -> Read {
    let (Some(&[high, low]), Some(flags)) = (bytes.first_chunk::<2>(), bytes.get(2)) else { return Read::Nothing };
    // Two that answer each other's answers would never end.
    let is_answer = flags & 0x80 != 0;
    if is_answer || bytes.len() < HEADER_BYTES {
        return Read::Nothing;
    }
    let Ok(message) = Message::from_vec(bytes) else {
        return refuse(&Message::error_msg(u16::from_be_bytes([high, low]), OpCode::Query, ResponseCode::FormErr));
    };
    if message.metadata.message_type != MessageType::Query {
        return Read::Nothing;
    }
    let room = match (over, &message.edns) {
        (Over::Tcp, _) => u16::MAX,
        (Over::Udp, None) => PLAIN_BYTES,
        (Over::Udp, Some(edns)) => edns.max_payload().clamp(PLAIN_BYTES, UDP_BYTES),
    };
    let question = |query: Query| Question { query, request: message.metadata, edns: message.edns.is_some(), room };
    let refused = |code| {
        let query = message.queries.first().cloned().unwrap_or_default();
        let mut reply = question(query).head(code);
        reply.queries.clone_from(&message.queries);
        refuse(&reply)
    };
    if message.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        return refused(ResponseCode::BADVERS);
    }
    if message.metadata.op_code != OpCode::Query {
        return refused(ResponseCode::NotImp);
    }
    let [query] = message.queries.as_slice() else { return refused(ResponseCode::FormErr) };
    let transfer = matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR);
    if transfer || query.query_class() != DNSClass::IN {
        return refused(ResponseCode::Refused);
    }
    Read::Question(Box::new(question(query.clone())))
}

fn refuse(reply: &Message) -> Read {
    reply.to_vec().map_or(Read::Nothing, Read::Refuse)
}

impl Question {
    /// Whether others may be asked.
    #[must_use]
    pub fn wants_recursion(&self) -> bool {
        self.request.recursion_desired
    }

    fn head(&self, code: ResponseCode) -> Message {
        let mut reply = Message::response(self.request.id, self.request.op_code);
        reply.metadata = Metadata::response_from_request(&self.request);
        reply.metadata.recursion_available = true;
        reply.metadata.response_code = code;
        reply.add_query(self.query.clone());
        if self.edns {
            let mut edns = Edns::new();
            edns.set_max_payload(UDP_BYTES);
            // The upper bits of a code such as BADVERS are here.
            edns.set_rcode_high(code.high());
            reply.set_edns(edns);
        }
        reply
    }

    /// The reply with nothing but a code.
    #[must_use]
    pub fn failed(&self, code: ResponseCode) -> Vec<u8> {
        self.head(code).to_vec().unwrap_or_default()
    }

    /// The reply with what the zone has, and what others said of the name where its chain leads.
    #[must_use]
    pub fn answered(&self, answer: Answer) -> Vec<u8> {
        let mut reply = self.head(answer.code);
        reply.metadata.authoritative = true;
        reply.answers = answer.answers;
        reply.authorities.extend(answer.authority);
        reply.additionals = answer.additionals;
        self.fitted(reply)
    }

    /// The reply with what others said.
    #[must_use]
    pub fn forwarded(&self, code: ResponseCode, answers: Vec<Record>, authorities: Vec<Record>) -> Vec<u8> {
        let mut reply = self.head(code);
        reply.answers = answers;
        reply.authorities = authorities;
        self.fitted(reply)
    }

    /// What saves a question may be left out. If the answer itself does not fit, as much of it is told as fits, and that it is not all.
    fn fitted(&self, mut reply: Message) -> Vec<u8> {
        let room = usize::from(self.room);
        // One too large for any message is an error.
        let fits = |reply: &Message| reply.to_vec().ok().filter(|bytes| bytes.len() <= room);
        if let Some(bytes) = fits(&reply) {
            return bytes;
        }
        reply.additionals.clear();
        if let Some(bytes) = fits(&reply) {
            return bytes;
        }
        reply.authorities.clear();
        reply.metadata.truncation = true;
        // Between what fits for sure and what does not.
        let all = std::mem::take(&mut reply.answers);
        let mut best = reply.to_vec().unwrap_or_default();
        let (mut low, mut high) = (0, all.len());
        while high - low > 1 {
            let middle = usize::midpoint(low, high);
            reply.answers = all.iter().take(middle).cloned().collect();
            match fits(&reply) {
                Some(bytes) => {
                    best = bytes;
                    low = middle;
                }
                None => high = middle,
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::rr::Name;
    use std::net::Ipv4Addr;

    fn asked(name: &str, edns: Option<u16>) -> Message {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
        if let Some(bytes) = edns {
            let mut edns = Edns::new();
            edns.set_max_payload(bytes);
            message.set_edns(edns);
        }
        message
    }

    fn question(message: &Message, over: Over) -> Question {
        let Read::Question(question) = read(&message.to_vec().unwrap(), over) else { panic!("{message:?}") };
        *question
    }

    fn refused(bytes: &[u8]) -> Message {
        let Read::Refuse(bytes) = read(bytes, Over::Udp) else { panic!() };
        Message::from_vec(&bytes).unwrap()
    }

    #[test]
    fn what_is_no_question_is_refused_or_left_alone() {
        let mut many = asked("a.", None);
        many.add_query(Query::query(Name::root(), RecordType::A));
        let mut none = asked("a.", None);
        none.queries.clear();
        let mut update = asked("a.", None);
        update.metadata.op_code = OpCode::Notify;
        let mut chaos = asked("version.bind.", None);
        chaos.queries[0].set_query_class(DNSClass::CH);
        let mut transfer = asked("cluster.local.", None);
        transfer.queries[0].set_query_type(RecordType::AXFR);
        let mut newer = asked("a.", Some(1232));
        newer.edns.as_mut().unwrap().set_version(1);
        for (message, code) in [
            (many, ResponseCode::FormErr),
            (none, ResponseCode::FormErr),
            (update, ResponseCode::NotImp),
            (chaos, ResponseCode::Refused),
            (transfer, ResponseCode::Refused),
            (newer, ResponseCode::BADVERS),
        ] {
            let reply = refused(&message.to_vec().unwrap());
            // 16 has two names.
            assert_eq!((reply.metadata.id, u16::from(reply.metadata.response_code)), (7, u16::from(code)), "{message:?}");
        }
        let mut cut = asked("example.com.", None).to_vec().unwrap();
        cut.truncate(20);
        assert_eq!(refused(&cut).metadata.response_code, ResponseCode::FormErr);
        let mut answer = asked("a.", None);
        answer.metadata.message_type = MessageType::Response;
        for nothing in [answer.to_vec().unwrap(), Vec::new(), vec![0], vec![0; 11]] {
            assert!(matches!(read(&nothing, Over::Udp), Read::Nothing), "{nothing:?}");
        }
    }

    #[test]
    fn an_answer_takes_no_more_room_than_there_is_and_says_what_is_missing() {
        let record =
            |n: u8| super::super::answer::record(&Name::from_ascii("db.home.").unwrap(), Ipv4Addr::new(10, 0, 0, n).into());
        let answer =
            |count: u8| Answer { answers: (0..count).map(record).collect(), additionals: vec![record(255)], ..Answer::default() };
        for (edns, over, count, kept, cut, most) in [
            (None, Over::Udp, 3, 3, false, 512),
            (None, Over::Udp, 200, 29, true, 512),
            (Some(4096), Over::Udp, 60, 60, false, 1232),
            (Some(4096), Over::Udp, 200, 70, true, 1232),
            (Some(100), Over::Udp, 200, 28, true, 512),
            (None, Over::Tcp, 200, 200, false, 65535),
        ] {
            let bytes = question(&asked("db.home.", edns), over).answered(answer(count));
            let reply = Message::from_vec(&bytes).unwrap();
            assert!(bytes.len() <= most, "{}", bytes.len());
            assert_eq!(reply.metadata.truncation, cut, "{count} {over:?}");
            assert!(reply.answers.len().abs_diff(kept) <= 5, "{} {kept}", reply.answers.len());
            assert_eq!(reply.edns.is_some(), edns.is_some());
        }
    }

    #[test]
    fn a_reply_keeps_id_letters_and_wishes() {
        let question = question(&asked("ExAmple.COM.", None), Over::Udp);
        let reply = Message::from_vec(&question.failed(ResponseCode::ServFail)).unwrap();
        assert_eq!(reply.queries[0].name().to_ascii(), "ExAmple.COM.");
        assert!(reply.metadata.recursion_desired && reply.metadata.recursion_available && reply.metadata.id == 7);
        assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    }
}
