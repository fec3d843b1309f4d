//! Steps in nft's own language, for people and for tests.
//!
//! In:       steps (`change.rs`), whose names are of letters, digits, `-`, `/` and `.` only (`table.rs` sees to it).
//! Out:      one command a line.
//! Source:   nft(8) 1.0.6; nothing that 0.9.8 does not know.

use std::fmt::{self, Display, Write as _};
use std::net::SocketAddr;

use super::change::Step;
use super::ruleset::{Key, MARK, Part, SetKind, Verdict};
use super::table::Backend;
use crate::agent::family::Family;

/// The commands of one transaction.
#[must_use]
pub fn text(family: Family, table: &str, steps: &[Step]) -> String {
    let mut out = String::new();
    for step in steps {
        // Writing to a String cannot fail.
        let _ = line(family, table, step, &mut out);
        out.push('\n');
    }
    out
}

fn line(family: Family, table: &str, step: &Step, out: &mut String) -> fmt::Result {
    let (ip, address) = (family.word(), family.address_type());
    match step {
        Step::AddTable => write!(out, "add table {ip} {table}"),
        Step::DeleteTable => write!(out, "delete table {ip} {table}"),
        Step::AddSet(name, kind) => match kind {
            SetKind::ByAddress => {
                write!(out, "add map {ip} {table} {name} {{ type {address} . inet_proto . inet_service : verdict; }}")
            }
            SetKind::ByPort => write!(out, "add map {ip} {table} {name} {{ type inet_proto . inet_service : verdict; }}"),
            SetKind::Pairs => write!(out, "add set {ip} {table} {name} {{ type {address} . {address}; }}"),
            SetKind::Clients(time) => write!(
                out,
                "add set {ip} {table} {name} {{ type {address}; size 65535; flags dynamic, timeout; timeout {}s; }}",
                time.as_secs()
            ),
        },
        Step::DeleteSet(name, SetKind::ByAddress | SetKind::ByPort) => write!(out, "delete map {ip} {table} {name}"),
        Step::DeleteSet(name, _) => write!(out, "delete set {ip} {table} {name}"),
        Step::AddChain(name, None) => write!(out, "add chain {ip} {table} {name}"),
        Step::AddChain(name, Some(hook)) => {
            let (kind, at, _, priority) = hook.facts();
            write!(out, "add chain {ip} {table} {name} {{ type {kind} hook {at} priority {priority}; policy accept; }}")
        }
        Step::FlushChain(name) => write!(out, "flush chain {ip} {table} {name}"),
        Step::DeleteChain(name) => write!(out, "delete chain {ip} {table} {name}"),
        Step::AddRule(chain, rule) => {
            write!(out, "add rule {ip} {table} {chain}")?;
            for part in *rule {
                out.push(' ');
                self::part(family, part, out)?;
            }
            Ok(())
        }
        Step::AddElements(set, _, elements) => {
            let element = |(key, verdict): &(Key, &Verdict), out: &mut String| match verdict {
                Verdict::Member => self::key(*key, out),
                Verdict::Drop => self::key(*key, out).and_then(|()| out.write_str(" : drop")),
                Verdict::Goto(chain) => self::key(*key, out).and_then(|()| write!(out, " : goto {chain}")),
            };
            write!(out, "add element {ip} {table} {set} {{ ")?;
            list(elements, out, element)?;
            out.write_str(" }")
        }
        Step::DeleteElements(set, _, elements) => {
            write!(out, "delete element {ip} {table} {set} {{ ")?;
            list(elements, out, |(key, _), out| self::key(*key, out))?;
            out.write_str(" }")
        }
    }
}

fn part(family: Family, part: &Part, out: &mut String) -> fmt::Result {
    let ip = family.word();
    match part {
        Part::From(range) => write!(out, "{ip} saddr {range}"),
        Part::NotFrom(range) => write!(out, "{ip} saddr != {range}"),
        Part::To(range) => write!(out, "{ip} daddr {range}"),
        Part::NotTo(range) => write!(out, "{ip} daddr != {range}"),
        Part::In(name) => write!(out, "iifname \"{name}\""),
        Part::NotIn(name) => write!(out, "iifname != \"{name}\""),
        Part::Out(name) => write!(out, "oifname \"{name}\""),
        Part::NotOut(name) => write!(out, "oifname != \"{name}\""),
        Part::InBridge => out.write_str("meta iifkind \"bridge\""),
        Part::FromHost => out.write_str("fib saddr type local"),
        Part::ToHost => out.write_str("fib daddr type local"),
        Part::New => out.write_str("ct state new"),
        Part::Turned => out.write_str("ct status dnat"),
        Part::Marked => write!(out, "meta mark and {MARK:#x} == {MARK:#x}"),
        Part::Is(protocol) => write!(out, "meta l4proto {}", protocol.name()),
        Part::Remembered(set) => write!(out, "{ip} saddr @{set}"),
        Part::Pair(set) => write!(out, "{ip} saddr . {ip} daddr @{set}"),
        Part::Remember(set) => write!(out, "update @{set} {{ {ip} saddr }}"),
        Part::Mark => write!(out, "meta mark set meta mark or {MARK:#x}"),
        Part::Unmark => write!(out, "meta mark set meta mark and {:#x}", !MARK),
        Part::ByAddress(map) => write!(out, "{ip} daddr . meta l4proto . th dport vmap @{map}"),
        Part::ByPort(map) => write!(out, "meta l4proto . th dport vmap @{map}"),
        Part::Goto(chain) => write!(out, "goto {chain}"),
        Part::GotoOne(chains) => {
            write!(out, "numgen random mod {} vmap {{ ", chains.len())?;
            numbered(chains, out, |chain, out| write!(out, "goto {chain}"))
        }
        Part::Dnat(backends) => match backends.as_slice() {
            [Backend { address, port }] => write!(out, "dnat to {}", SocketAddr::new(*address, *port)),
            _ => {
                write!(out, "dnat {ip} to numgen random mod {} map {{ ", backends.len())?;
                numbered(backends, out, |backend, out| write!(out, "{} . {}", backend.address, backend.port))
            }
        },
        Part::Snat(address) => write!(out, "snat to {address} fully-random"),
        Part::Masquerade => out.write_str("masquerade fully-random"),
        Part::Drop => out.write_str("drop"),
        Part::Reject => out.write_str("reject"),
        Part::Reset => out.write_str("reject with tcp reset"),
        Part::Redirect => out.write_str("icmp type redirect"),
    }
}

/// `0 : a, 1 : b }`.
fn numbered<T>(items: &[T], out: &mut String, mut item: impl FnMut(&T, &mut String) -> fmt::Result) -> fmt::Result {
    let pairs: Vec<(usize, &T)> = items.iter().enumerate().collect();
    list(&pairs, out, |(number, value), out| {
        write!(out, "{number} : ")?;
        item(value, out)
    })?;
    out.write_str(" }")
}

fn list<T>(items: &[T], out: &mut String, mut item: impl FnMut(&T, &mut String) -> fmt::Result) -> fmt::Result {
    for (number, value) in items.iter().enumerate() {
        if number > 0 {
            out.push_str(", ");
        }
        item(value, out)?;
    }
    Ok(())
}

fn key(key: Key, out: &mut String) -> fmt::Result {
    let mut dotted = |parts: &[&dyn Display]| list_dotted(parts, out);
    match key {
        Key::Address(address, protocol, port) => dotted(&[&address, &protocol.name(), &port]),
        Key::Port(protocol, port) => dotted(&[&protocol.name(), &port]),
        Key::Pair(from, to) => dotted(&[&from, &to]),
    }
}

fn list_dotted(parts: &[&dyn Display], out: &mut String) -> fmt::Result {
    for (number, part) in parts.iter().enumerate() {
        if number > 0 {
            out.write_str(" . ")?;
        }
        write!(out, "{part}")?;
    }
    Ok(())
}
