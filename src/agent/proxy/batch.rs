//! Steps as one batch for the kernel's nftables: all of it holds, or nothing.
//!
//! In:       steps (`change.rs`).
//! Out:      the bytes of one batch. The message of step `n` has the sequence `n + 1`, so that a refusal names its step.
//! Source:   the kernel's nf_tables.h; the expressions are those that nft itself makes of `text.rs`'s words (`tests/network/proxy.rs`
//!           loads both and compares what nft then lists).
//! Flow:     from `change.rs`, on to `netlink.rs`.

use std::net::IpAddr;

use ipnet::IpNet;

use super::change::Step;
use super::message::{ACK, APPEND, CREATE, Writer};
use super::ruleset::{Key, MARK, Part, Rule, SetKind, Verdict};
use crate::agent::family::Family;

/// netfilter's number for nftables.
pub const SUBSYSTEM: u16 = 10;
const BEGIN: u16 = 16;
const END: u16 = 17;

const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const DELETE_CHAIN: u16 = 5;
const NEW_RULE: u16 = 6;
const DELETE_RULE: u16 = 8;
const NEW_SET: u16 = 9;
const DELETE_SET: u16 = 11;
const NEW_ELEMENTS: u16 = 12;
const DELETE_ELEMENTS: u16 = 14;

/// The data type "what happens".
const VERDICT: u32 = 0xffff_ff00;
/// nft's numbers of types, six bits each where several make a key.
const ADDRESS: u32 = 7;
const ADDRESS6: u32 = 8;
const PROTOCOL: u32 = 12;
const PORT: u32 = 13;
const INTEGER: u32 = 4;
const GOTO: i32 = -4;
const DROP: i32 = 0;
/// Registers: the verdict; the first and the second of 16 bytes; the same as words of four bytes each.
const R_VERDICT: u32 = 0;
const R1: u32 = 1;
const R2: u32 = 2;
const R_WORDS: u32 = 8;
/// The second word.
const R1_SECOND: u32 = R_WORDS + 1;
/// How many bytes of elements go into one message: an attribute holds less than 64 KiB, and a name has up to 220.
const ELEMENTS: usize = 32 * 1024;
/// How many clients of one backend are remembered, as nft has it.
const CLIENTS: u32 = 65_535;

/// The bytes of one transaction.
#[must_use]
pub fn batch(family: Family, table: &str, steps: &[Step]) -> Vec<u8> {
    let mut out = Batch { out: Writer::default(), family, table, sets: 0, sequence: 0 };
    out.edge(BEGIN);
    for (number, step) in steps.iter().enumerate() {
        out.sequence = u32::try_from(number + 1).unwrap_or(u32::MAX);
        out.step(step, number + 1 == steps.len());
    }
    out.edge(END);
    out.out.into_bytes()
}

struct Batch<'a> {
    out: Writer,
    family: Family,
    table: &'a str,
    /// Sets of this batch have numbers: those without a name are called by it.
    sets: u32,
    sequence: u32,
}

impl Batch<'_> {
    fn edge(&mut self, kind: u16) {
        self.out.message(kind, 0, 0, 0, SUBSYSTEM, |_| {});
    }

    fn message(&mut self, kind: u16, flags: u16, body: impl FnOnce(&mut Writer)) {
        self.out.message(SUBSYSTEM << 8 | kind, flags, self.sequence, self.family.number(), 0, |out| {
            out.text(1, self.table);
            body(out);
        });
    }

    fn step(&mut self, step: &Step, last: bool) {
        // The last one is answered in any case: so nothing is taken for done that was not even read.
        let ack = if last { ACK } else { 0 };
        match step {
            Step::AddTable => self.message(NEW_TABLE, CREATE | ack, |out| out.number(2, 0)),
            Step::DeleteTable => self.message(DELETE_TABLE, ack, |_| {}),
            Step::AddSet(name, kind) => self.add_set(name, *kind, ack),
            Step::DeleteSet(name, _) => self.message(DELETE_SET, ack, |out| out.text(2, name)),
            Step::AddChain(name, hook) => self.message(NEW_CHAIN, CREATE | ack, |out| {
                out.text(3, name);
                if let Some((kind, _, number, priority)) = hook.map(super::ruleset::Hook::facts) {
                    out.nest(4, |out| {
                        out.number(1, number);
                        out.bytes(2, &priority.to_be_bytes());
                    });
                    out.number(5, 1);
                    out.text(7, kind);
                }
            }),
            Step::FlushChain(name) => self.message(DELETE_RULE, ack, |out| out.text(2, name)),
            Step::DeleteChain(name) => self.message(DELETE_CHAIN, ack, |out| out.text(3, name)),
            Step::AddRule(chain, rule) => self.add_rule(chain, rule, ack),
            Step::AddElements(set, _, elements) => {
                let elements = elements.iter().map(|(key, verdict)| element(*key, Some(*verdict))).collect();
                self.elements(NEW_ELEMENTS, CREATE, set, None, elements, ack);
            }
            Step::DeleteElements(set, _, elements) => {
                let elements = elements.iter().map(|(key, _)| element(*key, None)).collect();
                self.elements(DELETE_ELEMENTS, 0, set, None, elements, ack);
            }
        }
    }

    fn add_set(&mut self, name: &str, kind: SetKind, ack: u16) {
        const MAP: u32 = 0x8;
        const TIMEOUT_AND_DYNAMIC: u32 = 0x30;
        let (address, bytes) = (address_type(self.family), self.family.length());
        let (flags, key, length) = match kind {
            SetKind::ByAddress => (MAP, address << 12 | PROTOCOL << 6 | PORT, bytes + 8),
            SetKind::ByPort => (MAP, PROTOCOL << 6 | PORT, 8),
            SetKind::Pairs => (0, address << 6 | address, 2 * bytes),
            SetKind::Clients(_) => (TIMEOUT_AND_DYNAMIC, address, bytes),
        };
        let set = self.next_set();
        self.message(NEW_SET, CREATE | ack, |out| {
            out.text(2, name);
            out.number(3, flags);
            out.number(4, key);
            out.number(5, length);
            if flags == MAP {
                out.number(6, VERDICT);
                out.number(7, 0);
            }
            out.number(10, set);
            if let SetKind::Clients(time) = kind {
                out.nest(9, |out| out.number(1, CLIENTS));
                out.bytes(11, &u64::try_from(time.as_millis()).unwrap_or(u64::MAX).to_be_bytes());
                // For nft, when it lists: a number in the network's order.
                out.bytes(13, &user_data(&[2]));
            }
        });
    }

    fn next_set(&mut self) -> u32 {
        self.sets += 1;
        self.sets
    }

    /// A map without a name, of the numbers from 0 on.
    fn numbered(&mut self, data_type: u32, length: u32, values: &[Vec<u8>]) -> u32 {
        const ANONYMOUS_CONSTANT_MAP: u32 = 0xb;
        let set = self.next_set();
        let size = u32::try_from(values.len()).unwrap_or(u32::MAX);
        self.message(NEW_SET, CREATE, |out| {
            out.text(2, "__map%d");
            out.number(3, ANONYMOUS_CONSTANT_MAP);
            out.number(4, INTEGER);
            out.number(5, 4);
            out.number(6, data_type);
            out.number(7, length);
            out.number(10, set);
            out.nest(9, |out| out.number(1, size));
            // For nft, when it lists: keys in the machine's order.
            out.bytes(13, &user_data(&[1, 0]));
        });
        let elements = (0u32..).zip(values).map(|(number, value)| {
            let mut out = Writer::default();
            out.nest(1, |out| {
                out.nest(1, |out| out.bytes(1, &number.to_ne_bytes()));
                out.nest(2, |out| out.raw(value));
            });
            out.into_bytes()
        });
        let elements = elements.collect();
        self.elements(NEW_ELEMENTS, CREATE, "__map%d", Some(set), elements, 0);
        set
    }

    /// Elements, in as many messages as they need.
    fn elements(&mut self, kind: u16, flags: u16, set: &str, id: Option<u32>, elements: Vec<Vec<u8>>, ack: u16) {
        let mut rest = elements.into_iter().peekable();
        while rest.peek().is_some() {
            let mut part = Vec::new();
            while let Some(element) = rest.next_if(|element| part.is_empty() || part.len() + element.len() <= ELEMENTS) {
                part.extend(element);
            }
            let ack = if rest.peek().is_none() { ack } else { 0 };
            self.message(kind, flags | ack, |out| {
                out.text(2, set);
                if let Some(id) = id {
                    out.number(4, id);
                }
                out.nest(3, |out| out.raw(&part));
            });
        }
    }

    fn add_rule(&mut self, chain: &str, rule: &Rule, ack: u16) {
        // A rule's maps come before it.
        let maps: Vec<u32> = rule
            .iter()
            .map(|part| match part {
                Part::GotoOne(chains) => {
                    let verdicts: Vec<Vec<u8>> = chains.iter().map(|chain| verdict(GOTO, Some(chain))).collect();
                    self.numbered(VERDICT, 0, &verdicts)
                }
                Part::Dnat(backends) if backends.len() != 1 => {
                    let values: Vec<Vec<u8>> = backends
                        .iter()
                        .map(|backend| {
                            let mut out = Writer::default();
                            out.bytes(1, &address_and_port(backend.address, backend.port));
                            out.into_bytes()
                        })
                        .collect();
                    self.numbered(address_type(self.family) << 6 | PORT, self.family.length() + 4, &values)
                }
                _ => 0,
            })
            .collect();
        let family = self.family;
        self.message(NEW_RULE, CREATE | APPEND | ack, |out| {
            out.text(2, chain);
            out.nest(4, |out| rule.iter().zip(maps).for_each(|(part, map)| expressions(out, family, part, map)));
        });
    }
}

/// nft's notes on a set: for each kind of note, from 0 on, its value.
fn user_data(values: &[u32]) -> Vec<u8> {
    (0u8..).zip(values).flat_map(|(kind, value)| [kind, 4].into_iter().chain(value.to_ne_bytes())).collect()
}

fn address_type(family: Family) -> u32 {
    match family {
        Family::V4 => ADDRESS,
        Family::V6 => ADDRESS6,
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn address_and_port(address: IpAddr, port: u16) -> Vec<u8> {
    [octets(address).as_slice(), &port.to_be_bytes(), &[0; 2]].concat()
}

/// Each field of a key has whole words of four bytes.
fn key_bytes(key: Key) -> Vec<u8> {
    match key {
        Key::Address(address, protocol, port) => [octets(address), key_bytes(Key::Port(protocol, port))].concat(),
        Key::Port(protocol, port) => {
            let [high, low] = port.to_be_bytes();
            vec![protocol.number(), 0, 0, 0, high, low, 0, 0]
        }
        Key::Pair(from, to) => [octets(from), octets(to)].concat(),
    }
}

fn element(key: Key, value: Option<&Verdict>) -> Vec<u8> {
    let mut out = Writer::default();
    out.nest(1, |out| {
        out.nest(1, |out| out.bytes(1, &key_bytes(key)));
        match value {
            None | Some(Verdict::Member) => {}
            Some(Verdict::Drop) => out.nest(2, |out| out.raw(&verdict(DROP, None))),
            Some(Verdict::Goto(chain)) => out.nest(2, |out| out.raw(&verdict(GOTO, Some(chain)))),
        }
    });
    out.into_bytes()
}

fn verdict(code: i32, chain: Option<&str>) -> Vec<u8> {
    let mut out = Writer::default();
    out.nest(2, |out| {
        out.bytes(1, &code.to_be_bytes());
        if let Some(chain) = chain {
            out.text(2, chain);
        }
    });
    out.into_bytes()
}

fn expression(out: &mut Writer, name: &str, body: impl FnOnce(&mut Writer)) {
    out.nest(1, |out| {
        out.text(1, name);
        out.nest(2, body);
    });
}

/// Loads bytes of the packet: of the network's header (1) or the transport's (2).
fn payload(out: &mut Writer, register: u32, base: u32, offset: u32, length: u32) {
    expression(out, "payload", |out| {
        [register, base, offset, length].iter().zip(1..).for_each(|(value, kind)| out.number(kind, *value));
    });
}

fn meta(out: &mut Writer, register: u32, key: u32) {
    expression(out, "meta", |out| {
        out.number(2, key);
        out.number(1, register);
    });
}

fn compare(out: &mut Writer, equal: bool, value: &[u8]) {
    expression(out, "cmp", |out| {
        out.number(1, R1);
        out.number(2, u32::from(!equal));
        out.nest(3, |out| out.bytes(1, value));
    });
}

/// Both are of the same length.
fn bitwise(out: &mut Writer, mask: &[u8], xor: &[u8]) {
    expression(out, "bitwise", |out| {
        out.number(1, R1);
        out.number(2, R1);
        out.number(3, u32::try_from(mask.len()).unwrap_or(u32::MAX));
        out.nest(4, |out| out.bytes(1, mask));
        out.nest(5, |out| out.bytes(1, xor));
    });
}

/// An address of the packet's header, into the register.
fn address(out: &mut Writer, family: Family, register: u32, end: End) {
    payload(out, register, 1, offset(family, end), family.length());
}

/// An end of a packet's way.
#[derive(Clone, Copy)]
enum End {
    Source,
    Destination,
}

/// Where the header of a packet has its addresses.
fn offset(family: Family, end: End) -> u32 {
    let source = match family {
        Family::V4 => 12,
        Family::V6 => 8,
    };
    match end {
        End::Source => source,
        End::Destination => source + family.length(),
    }
}

/// The first register of four bytes behind an address in [`R1`].
fn behind(family: Family) -> u32 {
    R_WORDS + family.length() / 4
}

fn range(out: &mut Writer, end: End, range: IpNet, equal: bool) {
    let family = Family::of(range.addr());
    let bytes = usize::from(range.prefix_len().div_ceil(8));
    let whole = range.prefix_len().is_multiple_of(8);
    let length = if whole { u32::from(range.prefix_len() / 8) } else { family.length() };
    if bytes == 0 {
        return;
    }
    payload(out, R1, 1, offset(family, end), length);
    let network = octets(range.network());
    if whole {
        compare(out, equal, network.get(..bytes).unwrap_or(&network));
    } else {
        bitwise(out, &octets(range.netmask()), &vec![0; network.len()]);
        compare(out, equal, &network);
    }
}

/// An interface's name, or its kind, in sixteen bytes.
fn name(out: &mut Writer, key: u32, name: &str, equal: bool) {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(16, 0);
    meta(out, R1, key);
    compare(out, equal, &bytes);
}

fn connection(out: &mut Writer, key: u32, bits: u32) {
    expression(out, "ct", |out| {
        out.number(2, key);
        out.number(1, R1);
    });
    bitwise(out, &bits.to_ne_bytes(), &[0; 4]);
    compare(out, false, &[0; 4]);
}

/// Whether an address is one of the host's: 1 for the source, 2 for the destination.
fn is_host(out: &mut Writer, which: u32) {
    expression(out, "fib", |out| {
        out.number(3, which);
        out.number(2, 3);
        out.number(1, R1);
    });
    compare(out, true, &2u32.to_ne_bytes());
}

fn lookup(out: &mut Writer, set: &str, id: u32, into: Option<u32>) {
    expression(out, "lookup", |out| {
        out.number(2, R1);
        if let Some(register) = into {
            out.number(3, register);
        }
        out.text(1, set);
        if id != 0 {
            out.number(4, id);
        }
    });
}

fn immediate(out: &mut Writer, register: u32, data: &[u8]) {
    expression(out, "immediate", |out| {
        out.number(1, register);
        out.nest(2, |out| out.raw(data));
    });
}

fn by_chance(out: &mut Writer, count: usize) {
    expression(out, "numgen", |out| {
        out.number(1, R1);
        out.number(2, u32::try_from(count).unwrap_or(u32::MAX));
        out.number(3, 1);
        out.number(4, 0);
    });
}

fn mark(out: &mut Writer, bits: u32) {
    meta(out, R1, 3);
    bitwise(out, &(!MARK).to_ne_bytes(), &bits.to_ne_bytes());
    expression(out, "meta", |out| {
        out.number(2, 3);
        out.number(3, R1);
    });
}

/// ICMP's code for it.
fn port_unreachable(family: Family) -> u8 {
    match family {
        Family::V4 => 3,
        Family::V6 => 4,
    }
}

/// The kernel's expressions for a part of a rule; `map` is the number of its map, if it has one.
fn expressions(out: &mut Writer, family: Family, part: &Part, map: u32) {
    match part {
        Part::From(net) => range(out, End::Source, *net, true),
        Part::NotFrom(net) => range(out, End::Source, *net, false),
        Part::To(net) => range(out, End::Destination, *net, true),
        Part::NotTo(net) => range(out, End::Destination, *net, false),
        Part::In(interface) => name(out, 6, interface, true),
        Part::NotIn(interface) => name(out, 6, interface, false),
        Part::Out(interface) => name(out, 7, interface, true),
        Part::NotOut(interface) => name(out, 7, interface, false),
        Part::InBridge => name(out, 26, "bridge", true),
        Part::FromHost => is_host(out, 1),
        Part::ToHost => is_host(out, 2),
        Part::New => connection(out, 0, 0x8),
        Part::Turned => connection(out, 2, 0x20),
        Part::Marked => {
            meta(out, R1, 3);
            bitwise(out, &MARK.to_ne_bytes(), &[0; 4]);
            compare(out, true, &MARK.to_ne_bytes());
        }
        Part::Is(protocol) => {
            meta(out, R1, 16);
            compare(out, true, &[protocol.number()]);
        }
        Part::Remembered(set) => {
            address(out, family, R1, End::Source);
            lookup(out, set, 0, None);
        }
        Part::Pair(set) => {
            address(out, family, R1, End::Source);
            address(out, family, behind(family), End::Destination);
            lookup(out, set, 0, None);
        }
        Part::Remember(set) => {
            address(out, family, R1, End::Source);
            expression(out, "dynset", |out| {
                out.number(4, R1);
                out.number(3, 1);
                out.text(1, set);
            });
        }
        Part::Mark => mark(out, MARK),
        Part::Unmark => mark(out, 0),
        Part::ByAddress(map) => {
            address(out, family, R1, End::Destination);
            meta(out, behind(family), 16);
            payload(out, behind(family) + 1, 2, 2, 2);
            lookup(out, map, 0, Some(R_VERDICT));
        }
        Part::ByPort(map) => {
            meta(out, R1, 16);
            payload(out, R1_SECOND, 2, 2, 2);
            lookup(out, map, 0, Some(R_VERDICT));
        }
        Part::Goto(chain) => immediate(out, R_VERDICT, &verdict(GOTO, Some(chain))),
        Part::GotoOne(chains) => {
            by_chance(out, chains.len());
            lookup(out, "__map%d", map, Some(R_VERDICT));
        }
        Part::Dnat(backends) => {
            let one = if let [backend] = backends.as_slice() { Some(backend) } else { None };
            if let Some(backend) = one {
                let mut value = Writer::default();
                value.bytes(1, &octets(backend.address));
                immediate(out, R1, &value.into_bytes());
                let mut value = Writer::default();
                value.bytes(1, &backend.port.to_be_bytes());
                immediate(out, R2, &value.into_bytes());
            } else {
                by_chance(out, backends.len());
                lookup(out, "__map%d", map, Some(R1));
            }
            expression(out, "nat", |out| {
                out.number(1, 1);
                out.number(2, u32::from(family.number()));
                out.number(3, R1);
                out.number(5, if one.is_some() { R2 } else { behind(family) });
                if one.is_some() {
                    out.number(7, 2);
                }
            });
        }
        Part::Snat(address) => {
            let mut value = Writer::default();
            value.bytes(1, &octets(*address));
            immediate(out, R1, &value.into_bytes());
            expression(out, "nat", |out| {
                out.number(1, 0);
                out.number(2, u32::from(family.number()));
                out.number(3, R1);
                out.number(7, 0x10);
            });
        }
        Part::Masquerade => expression(out, "masq", |out| out.number(1, 0x10)),
        Part::Drop => immediate(out, R_VERDICT, &verdict(DROP, None)),
        Part::Reject => expression(out, "reject", |out| {
            out.number(1, 0);
            out.bytes(2, &[port_unreachable(family)]);
        }),
        Part::Reset => expression(out, "reject", |out| {
            out.number(1, 1);
            out.bytes(2, &[0]);
        }),
        Part::Redirect => {
            meta(out, R1, 16);
            compare(out, true, &[1]);
            payload(out, R1, 2, 0, 1);
            compare(out, true, &[5]);
        }
    }
}
