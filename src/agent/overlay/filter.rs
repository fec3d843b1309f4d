//! Writes the overlay's nftables table: from whom VXLAN is taken, that nothing goes in the clear where encryption was asked for, and how large TCP's
//! segments are through a tunnel.
//!
//! Out:      a text for `nft -f -` that is one transaction: the table is what the text says, whatever it was before.
//! Never:    runs it (`exec.rs`).
//!
//! Packets of other VXLAN networks on the same port are not looked at: the rule names our network's number, at its place in the packet (UDP's eight
//! bytes, VXLAN's first four, then three of the number).

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::plan::Wanted;
use super::wireguard::LINK_PREFIX as ENCRYPTED;
use super::{Ids, PORT};

/// The table. Where nothing is to be kept out there is none.
#[must_use]
pub fn table(ids: &Ids, wanted: &Wanted) -> String {
    let mut text = removal(&ids.table());
    if !is_needed(wanted) {
        return text;
    }
    // Writing to a String cannot fail.
    let _ = writeln!(text, "table ip {} {{", ids.table());
    let mut links = Vec::new();
    if wanted.device.is_some() {
        links.push(ids.link());
        let _ = write!(
            text,
            "  set peers {{ type ipv4_addr;{} }}
  chain input {{
    type filter hook input priority -5; policy accept;
    udp dport {PORT} @th,96,24 {:#x} ip saddr != @peers counter drop
  }}
",
            elements(&wanted.senders),
            ids.vni,
        );
    }
    if !wanted.encrypted.is_empty() {
        links.push(ids.wireguard());
        // Another agent of this machine has a device of its own: by the kernel's routes its packets may take ours, and ours its.
        let _ = write!(
            text,
            "  set encrypted {{ type ipv4_addr; flags interval;{} }}
  chain arrives {{
    type filter hook prerouting priority -310; policy accept;
    ip saddr @encrypted iifname != \"{ENCRYPTED}*\" counter drop
  }}
  chain leaves {{
    type filter hook postrouting priority -310; policy accept;
    ip daddr @encrypted oifname != \"{ENCRYPTED}*\" counter drop
  }}
",
            elements(&wanted.encrypted),
        );
    }
    text.push_str("  chain forward {\n    type filter hook forward priority -150; policy accept;\n");
    for link in links {
        let _ = writeln!(text, "    oifname \"{link}\" tcp flags & (syn|rst) == syn tcp option maxseg size set rt mtu");
    }
    text.push_str("  }\n}\n");
    text
}

/// Whether there is a table.
#[must_use]
pub fn is_needed(wanted: &Wanted) -> bool {
    wanted.device.is_some() || !wanted.encrypted.is_empty()
}

/// What is in a set; the kernel takes no empty list.
fn elements<T: ToString>(all: &BTreeSet<T>) -> String {
    let all: Vec<String> = all.iter().map(ToString::to_string).collect();
    if all.is_empty() { String::new() } else { format!(" elements = {{ {} }}", all.join(", ")) }
}

/// Removes a table, be it there or not.
#[must_use]
pub fn removal(table: &str) -> String {
    removal_of("ip", table)
}

/// The same, of any family.
#[must_use]
pub fn removal_of(family: &str, table: &str) -> String {
    format!("table {family} {table}\ndelete table {family} {table}\n")
}

#[cfg(test)]
mod tests {
    use super::super::seen::Vxlan;
    use super::*;

    #[test]
    fn strangers_are_dropped_in_one_transaction_and_without_a_tunnel_there_is_no_table() {
        let ids = Ids::new("c", "a");
        let device = Vxlan { vni: ids.vni, port: PORT, local: None, mac: None, learning: false };
        let mut wanted = Wanted { device: Some((device, 1450)), ..Wanted::default() };
        let nobody = table(&ids, &wanted);
        assert!(nobody.contains("set peers { type ipv4_addr; }") && nobody.contains("@peers counter drop"), "{nobody}");
        wanted.senders = ["192.168.1.2".parse().unwrap(), "192.168.2.3".parse().unwrap()].into();
        let text = table(&ids, &wanted);
        let name = ids.table();
        assert!(text.starts_with(&format!("table ip {name}\ndelete table ip {name}\ntable ip {name} {{\n")), "{text}");
        assert!(text.contains("elements = { 192.168.1.2, 192.168.2.3 }"), "{text}");
        assert_eq!(table(&ids, &Wanted::default()), removal(&name));
    }

    #[test]
    fn where_encryption_was_asked_for_nothing_comes_or_goes_but_by_its_device() {
        let ids = Ids::new("c", "a");
        let ranges = ["10.244.2.0/24", "10.244.3.0/24"].map(|range| range.parse().unwrap());
        let text = table(&ids, &Wanted { encrypted: ranges.into(), ..Wanted::default() });
        for line in [
            "set encrypted { type ipv4_addr; flags interval; elements = { 10.244.2.0/24, 10.244.3.0/24 } }".to_owned(),
            "ip saddr @encrypted iifname != \"bwg-*\" counter drop".to_owned(),
            "ip daddr @encrypted oifname != \"bwg-*\" counter drop".to_owned(),
            format!("oifname \"{}\" tcp flags", ids.wireguard()),
        ] {
            assert!(text.contains(&line), "{line} in {text}");
        }
        assert!(!text.contains("@peers"), "{text}");
    }
}
