//! The rules in nftables' words: one table, replaced as a whole.
//!
//! In:       the table's name, the bridge of the pods, [`Rules`] of one family of addresses, which has a table of its own.
//! Out:      text for `nft -f -`, which is one transaction.
//! Never:    names any table but its own.
//! Flow:     from `rules.rs`, on to `run.rs`.
//!
//! ```text
//!   forward ─ established? ─▶ accept
//!           ─ in IPv6: a neighbour's question or answer? ─▶ accept; else by an address of the link only? ─▶ drop
//!           ─ from an isolated pod to itself? ─▶ accept (a pod is never kept from itself)
//!           ─ source in map "egress" ─▶ chain "out0": allowed? on to "inward" : drop
//!           ─ source in set "isolated_out" ─▶ drop
//!   inward  ─ destination in map "ingress" ─▶ chain "in0": allowed? accept : drop
//!           ─ destination in set "isolated_in" ─▶ drop
//! ```
//!
//! The sets hold what the maps hold. They are asked only in the moment of a replacement: the kernel lets a packet end its way through the
//! old chains, but the old map's elements are gone for it already, and it would pass (seen: once in 5 million packets, 6,600 changes).
//! A set's elements stay; so in that moment the first packet of a connection is lost rather than let through.
//!
//! Of IPv6 each pod has an address of its link besides, which nobody here knows: packets from those are held on our bridge altogether, as soon
//! as one pod is isolated. Neighbours find each other nevertheless: such packets have the hop limit 255, which no router has touched.
//!
//! "Accepted" is only our own word: the chains of others (Docker's) are asked as well. The hook's priority is just before theirs.
//! A port of a rule is the one that is connected to; a protocol without ports (ICMP) passes only where a rule asks for none.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::rules::{Isolation, Profile, Rules};
use crate::agent::family::Family;
use crate::link::policy::{PortRange, Protocol};
use crate::link::ranges::{Address, Ranges};

/// An address whose family nft has words for.
pub trait Worded: Address {
    /// Its family.
    const FAMILY: Family;
}

impl Worded for Ipv4Addr {
    const FAMILY: Family = Family::V4;
}

impl Worded for Ipv6Addr {
    const FAMILY: Family = Family::V6;
}

/// What takes a family's table away, whether it is there or not.
#[must_use]
pub fn removal(family: Family, table: &str) -> String {
    let ip = family.word();
    // Adding what is there is no error, removing what is not there would be one.
    format!("add table {ip} {table}\ndelete table {ip} {table}\n")
}

/// What puts these rules in place of those before; nothing is left when there are none.
#[must_use]
pub fn replacement<A: Worded>(table: &str, bridge: &str, rules: &Rules<A>) -> String {
    let (ip, address) = (A::FAMILY.word(), A::FAMILY.address_type());
    let mut text = removal(A::FAMILY, table);
    if rules.is_empty() {
        return text;
    }
    let mut sets = Sets(BTreeMap::new());
    let ingress = chains(&rules.ingress, Way { chain: "in", peer: "saddr", allowed: "accept" }, &mut sets);
    let egress = chains(&rules.egress, Way { chain: "out", peer: "daddr", allowed: "goto inward" }, &mut sets);
    line(&mut text, format_args!("table {ip} {table} {{"));
    for (peers, name) in &sets.0 {
        set(&mut text, &format!("set peers{name}"), &format!("{address}; flags interval"), peers.texts());
    }
    for (name, isolation) in [("isolated_out", &rules.egress), ("isolated_in", &rules.ingress)] {
        set(&mut text, &format!("set {name}"), address, isolation.pods.keys().map(ToString::to_string));
    }
    let isolated = rules.ingress.pods.keys().chain(rules.egress.pods.keys()).collect::<BTreeSet<_>>();
    set(&mut text, "set self", &format!("{address} . {address}"), isolated.into_iter().map(|pod| format!("{pod} . {pod}")));
    text.push_str(&egress);
    text.push_str(&ingress);
    for (map, chain, isolation) in [("egress", "out", &rules.egress), ("ingress", "in", &rules.ingress)] {
        let elements = isolation.pods.iter().map(|(pod, place)| format!("{pod} : goto {chain}{place}"));
        set(&mut text, &format!("map {map}"), &format!("{address} : verdict"), elements);
    }
    let link = match A::FAMILY {
        Family::V4 => String::new(),
        Family::V6 => link(bridge),
    };
    line(&mut text, format_args!("{}", way(ip, &link)));
    text
}

/// The way of every packet.
fn way(ip: &str, link: &str) -> String {
    format!(
        "  chain inward {{
    {ip} daddr vmap @ingress
    {ip} daddr @isolated_in counter drop
  }}
  chain forward {{
    type filter hook forward priority -10; policy accept;
    ct state established,related accept
{link}    {ip} saddr . {ip} daddr @self accept
    {ip} saddr vmap @egress
    {ip} saddr @isolated_out counter drop
    goto inward
  }}
}}"
    )
}

/// What IPv6 has besides: the search for neighbours, and addresses of the link.
fn link(bridge: &str) -> String {
    format!(
        "    ip6 hoplimit 255 icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
    iifname \"{bridge}\" ip6 saddr fe80::/10 counter drop
    iifname \"{bridge}\" ip6 daddr {{ fe80::/10, ff00::/8 }} counter drop
"
    )
}

/// Sets of peers, each once, with the number in its name.
struct Sets<'a, A>(BTreeMap<&'a Ranges<A>, usize>);

impl<'a, A: Ord> Sets<'a, A> {
    fn number(&mut self, peers: &'a Ranges<A>) -> usize {
        let next = self.0.len();
        *self.0.entry(peers).or_insert(next)
    }
}

/// What differs between the directions.
#[derive(Clone, Copy)]
struct Way {
    /// How its chains are named, before their number.
    chain: &'static str,
    /// Where the peer's address stands in a packet.
    peer: &'static str,
    /// What becomes of a packet that is allowed.
    allowed: &'static str,
}

/// A chain for each profile: what is allowed goes on, all else is dropped and counted.
fn chains<'a, A: Worded>(isolation: &'a Isolation<A>, way: Way, sets: &mut Sets<'a, A>) -> String {
    let mut text = String::new();
    for (place, profile) in isolation.profiles.iter().enumerate() {
        line(&mut text, format_args!("  chain {}{place} {{", way.chain));
        allow(&mut text, profile, way, sets);
        text.push_str("    counter drop\n  }\n");
    }
    text
}

fn allow<'a, A: Worded>(text: &mut String, profile: &'a Profile<A>, Way { peer, allowed, .. }: Way, sets: &mut Sets<'a, A>) {
    let ip = A::FAMILY.word();
    for (ports, who) in profile {
        let who = who.as_ref().map(|peers| format!("{ip} {peer} @peers{} ", sets.number(peers))).unwrap_or_default();
        let Some(ports) = ports else {
            line(text, format_args!("    {who}{allowed}"));
            continue;
        };
        for protocol in Protocol::ALL {
            let of_it: Vec<&PortRange> = ports.iter().filter(|ports| ports.protocol == protocol).collect();
            let word = protocol.word();
            if of_it.iter().any(|ports| ports.ports.is_none()) {
                line(text, format_args!("    {who}meta l4proto {word} {allowed}"));
            } else if !of_it.is_empty() {
                let numbers = joined(of_it.iter().filter_map(|ports| ports.ports));
                line(text, format_args!("    {who}{word} dport {{ {numbers} }} {allowed}"));
            }
        }
    }
}

/// Ranges of ports, which come in order; those that meet are one, since a set takes no two that do.
fn joined(ports: impl Iterator<Item = (u16, u16)>) -> String {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for (first, last) in ports {
        match ranges.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => ranges.push((first, last)),
        }
    }
    let words = ranges.into_iter().map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") });
    words.collect::<Vec<_>>().join(", ")
}

fn set(text: &mut String, name: &str, kind: &str, elements: impl Iterator<Item = String>) {
    line(text, format_args!("  {name} {{\n    type {kind}"));
    let elements: Vec<String> = elements.collect();
    if !elements.is_empty() {
        line(text, format_args!("    elements = {{ {} }}", elements.join(", ")));
    }
    text.push_str("  }\n");
}

fn line(text: &mut String, words: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{words}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::policy::rules::{LocalPods, read, rules_of};
    use crate::api::Object;
    use crate::link::share::Share;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn text(policies: &[(&str, Value)]) -> String {
        let object = |value: &Value| Arc::new(Object::from_value(value.clone()).unwrap());
        let policies = policies.iter().map(|(place, value)| ((*place).to_owned(), object(value))).collect();
        let (policies, _) = read(&Share { policies, ..Share::default() });
        let rules = rules_of::<Ipv4Addr>(&policies, "10.244.1.0/24".parse().unwrap(), &LocalPods::new());
        replacement("bramble-1234abcd-policy", "br0", &rules)
    }

    #[test]
    fn ipv6_has_the_same_table_and_its_neighbours_find_each_other() {
        let policy = json!({"pods": [], "pods6": ["fd00::5"], "ingress": [{"peers": [], "peers6": ["fd00::7-fd00::9"], "ports": ["tcp/80"]}]});
        let policies = [("a/p".to_owned(), Arc::new(Object::from_value(policy).unwrap()))].into();
        let (policies, _) = read(&Share { policies, ..Share::default() });
        let wanted = "\
add table ip6 t
delete table ip6 t
table ip6 t {
  set peers0 {
    type ipv6_addr; flags interval
    elements = { fd00::7-fd00::9 }
  }
  set isolated_out {
    type ipv6_addr
  }
  set isolated_in {
    type ipv6_addr
    elements = { fd00::5 }
  }
  set self {
    type ipv6_addr . ipv6_addr
    elements = { fd00::5 . fd00::5 }
  }
  chain in0 {
    ip6 saddr @peers0 tcp dport { 80 } accept
    counter drop
  }
  map egress {
    type ipv6_addr : verdict
  }
  map ingress {
    type ipv6_addr : verdict
    elements = { fd00::5 : goto in0 }
  }
  chain inward {
    ip6 daddr vmap @ingress
    ip6 daddr @isolated_in counter drop
  }
  chain forward {
    type filter hook forward priority -10; policy accept;
    ct state established,related accept
    ip6 hoplimit 255 icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
    iifname \"br0\" ip6 saddr fe80::/10 counter drop
    iifname \"br0\" ip6 daddr { fe80::/10, ff00::/8 } counter drop
    ip6 saddr . ip6 daddr @self accept
    ip6 saddr vmap @egress
    ip6 saddr @isolated_out counter drop
    goto inward
  }
}
";
        let rules = rules_of::<Ipv6Addr>(&policies, "fd00::/64".parse().unwrap(), &LocalPods::new());
        assert_eq!(replacement("t", "br0", &rules), wanted);
    }

    #[test]
    fn the_table_is_replaced_as_a_whole() {
        let policies = [
            (
                "a/db",
                json!({"pods": ["10.244.1.5-10.244.1.6"], "ingress": [{"peers": ["10.244.0.3", "172.17.0.0-172.17.0.255"], "ports": ["tcp/80", "tcp/81", "tcp/8000-8010", "udp"]}]}),
            ),
            ("a/deny", json!({"pods": ["10.244.1.5-10.244.1.7"], "ingress": [], "egress": []})),
            (
                "a/out",
                json!({"pods": ["10.244.1.7"], "egress": [{"peers": ["10.244.0.3", "172.17.0.0-172.17.0.255"]}, {"ports": ["udp/53"]}]}),
            ),
        ];
        let wanted = "\
add table ip bramble-1234abcd-policy
delete table ip bramble-1234abcd-policy
table ip bramble-1234abcd-policy {
  set peers0 {
    type ipv4_addr; flags interval
    elements = { 10.244.0.3, 172.17.0.0-172.17.0.255 }
  }
  set isolated_out {
    type ipv4_addr
    elements = { 10.244.1.5, 10.244.1.6, 10.244.1.7 }
  }
  set isolated_in {
    type ipv4_addr
    elements = { 10.244.1.5, 10.244.1.6, 10.244.1.7 }
  }
  set self {
    type ipv4_addr . ipv4_addr
    elements = { 10.244.1.5 . 10.244.1.5, 10.244.1.6 . 10.244.1.6, 10.244.1.7 . 10.244.1.7 }
  }
  chain out0 {
    counter drop
  }
  chain out1 {
    ip daddr @peers0 goto inward
    udp dport { 53 } goto inward
    counter drop
  }
  chain in0 {
    ip saddr @peers0 tcp dport { 80-81, 8000-8010 } accept
    ip saddr @peers0 meta l4proto udp accept
    counter drop
  }
  chain in1 {
    counter drop
  }
  map egress {
    type ipv4_addr : verdict
    elements = { 10.244.1.5 : goto out0, 10.244.1.6 : goto out0, 10.244.1.7 : goto out1 }
  }
  map ingress {
    type ipv4_addr : verdict
    elements = { 10.244.1.5 : goto in0, 10.244.1.6 : goto in0, 10.244.1.7 : goto in1 }
  }
  chain inward {
    ip daddr vmap @ingress
    ip daddr @isolated_in counter drop
  }
  chain forward {
    type filter hook forward priority -10; policy accept;
    ct state established,related accept
    ip saddr . ip daddr @self accept
    ip saddr vmap @egress
    ip saddr @isolated_out counter drop
    goto inward
  }
}
";
        assert_eq!(text(&policies), wanted);
    }

    #[test]
    fn nothing_is_left_where_nothing_is_isolated() {
        let removed = "add table ip bramble-1234abcd-policy\ndelete table ip bramble-1234abcd-policy\n";
        assert_eq!(text(&[]), removed);
        assert_eq!(text(&[("a/other", json!({"pods": ["10.244.0.5"], "ingress": []}))]), removed, "another node's pods");
        assert_eq!(text(&[("a/all", json!({"pods": ["10.244.1.5"], "ingress": [{}]}))]), removed, "all is allowed");
    }
}
