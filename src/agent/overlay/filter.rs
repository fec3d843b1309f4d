//! Writes the overlay's nftables tables: from whom VXLAN is taken, and how large TCP's segments are through the tunnel.
//!
//! Out:      a text for `nft -f -` that is one transaction: the tables are what the text says, whatever they were before.
//! Never:    runs it (`exec.rs`).
//!
//! Packets of other VXLAN networks on the same port are not looked at: the rule names our network's number, at its place in the packet (UDP's eight
//! bytes, VXLAN's first four, then three of the number).

use std::fmt::Write as _;

use super::plan::Wanted;
use super::{Ids, PORT};

/// The table, and in a dual-stack cluster one of IPv6, where IPv6 goes through the tunnel. Without a device there is none.
#[must_use]
pub fn table(ids: &Ids, wanted: &Wanted) -> String {
    let mut text = removal(&ids.table());
    if wanted.dual {
        text.push_str(&removal_of("ip6", &ids.table()));
    }
    if wanted.device.is_none() {
        return text;
    }
    // What a tunnel's TCP may send is told at its beginning.
    let segments = format!(
        "  chain forward {{
    type filter hook forward priority -150; policy accept;
    oifname \"{}\" tcp flags & (syn|rst) == syn tcp option maxseg size set rt mtu
  }}
}}
",
        ids.link()
    );
    let senders: Vec<String> = wanted.senders.iter().map(ToString::to_string).collect();
    let elements = if senders.is_empty() { String::new() } else { format!(" elements = {{ {} }}", senders.join(", ")) };
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "table ip {table} {{
  set peers {{ type ipv4_addr;{elements} }}
  chain input {{
    type filter hook input priority -5; policy accept;
    udp dport {PORT} @th,96,24 {vni:#x} ip saddr != @peers counter drop
  }}
{segments}",
        table = ids.table(),
        vni = ids.vni,
    );
    if wanted.tunnels_ipv6() {
        let _ = write!(text, "table ip6 {} {{\n{segments}", ids.table());
    }
    text
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
    use super::super::plan::Way;
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
        assert!(!text.contains("ip6"), "{text}");
        // Of IPv6 only TCP is told something: the tunnel's packets themselves are IPv4.
        let way = Way::Tunnel("fe80::1".parse().unwrap(), None);
        wanted = Wanted { dual: true, ways: [("fd12:0:0:102::/64".parse().unwrap(), way)].into(), ..wanted };
        let both = table(&ids, &wanted);
        let of_ipv6 = both.split(&format!("\ntable ip6 {name} {{\n")).nth(1).unwrap();
        assert!(of_ipv6.contains("maxseg size set rt mtu") && !of_ipv6.contains("peers"), "{both}");
        wanted.ways.clear();
        assert!(!table(&ids, &wanted).contains(&format!("table ip6 {name} {{")), "only removed");
    }
}
