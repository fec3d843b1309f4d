//! Writes the overlay's nftables tables: from whom VXLAN is taken, that nothing goes in the clear where encryption was asked for, and how large TCP's
//! segments are through a tunnel.
//!
//! Out:      a text for `nft -f -` that is one transaction: the tables are what the text says, whatever they were before.
//! Never:    runs it (`exec.rs`).
//!
//! Packets of other VXLAN networks on the same port are not looked at: the rule names our network's number, at its place in the packet (UDP's eight
//! bytes, VXLAN's first four, then three of the number).

use std::fmt::Write as _;

use ipnet::IpNet;

use super::plan::Wanted;
use super::wireguard::LINK_PREFIX as ENCRYPTED;
use super::{Ids, PORT};

/// The table, and in a dual-stack cluster one of IPv6. Where nothing is to be kept out, and nothing goes through a tunnel, there is none.
#[must_use]
pub fn table(ids: &Ids, wanted: &Wanted) -> String {
    let mut text = removal(&ids.table());
    if wanted.dual {
        text.push_str(&removal_of("ip6", &ids.table()));
    }
    for family in families(wanted) {
        let ipv6 = family == "ip6";
        let ranges: Vec<IpNet> = wanted.encrypted.iter().copied().filter(|range| matches!(range, IpNet::V6(_)) == ipv6).collect();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "table {family} {} {{", ids.table());
        if wanted.device.is_some() && !ipv6 {
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
        text.push_str(&encrypted(family, &ranges));
        let vxlan = if ipv6 { wanted.tunnels_ipv6() } else { wanted.device.is_some() };
        text.push_str(&segments(ids, vxlan, !ranges.is_empty()));
    }
    text
}

/// That nothing goes in the clear to these ranges, or comes from them. Another agent of this machine has a device of its own: by the kernel's routes its
/// packets may take ours, and ours its.
fn encrypted(family: &str, ranges: &[IpNet]) -> String {
    if ranges.is_empty() {
        return String::new();
    }
    let kind = if family == "ip" { "ipv4_addr" } else { "ipv6_addr" };
    format!(
        "  set encrypted {{ type {kind}; flags interval;{} }}
  chain arrives {{
    type filter hook prerouting priority -310; policy accept;
    {family} saddr @encrypted iifname != \"{ENCRYPTED}*\" counter drop
  }}
  chain leaves {{
    type filter hook postrouting priority -310; policy accept;
    {family} daddr @encrypted oifname != \"{ENCRYPTED}*\" counter drop
  }}
",
        elements(ranges),
    )
}

/// What TCP may send through a tunnel is told at its beginning. Closes the table.
fn segments(ids: &Ids, vxlan: bool, encrypted: bool) -> String {
    let links = [vxlan.then(|| ids.link()), encrypted.then(|| ids.wireguard())].into_iter().flatten();
    let rule = |link| format!("    oifname \"{link}\" tcp flags & (syn|rst) == syn tcp option maxseg size set rt mtu\n");
    let rules: String = links.map(rule).collect();
    format!("  chain forward {{\n    type filter hook forward priority -150; policy accept;\n{rules}  }}\n}}\n")
}

/// Of which families there is a table. The tunnel's own packets are IPv4: of IPv6 nobody sends VXLAN.
#[must_use]
pub fn families(wanted: &Wanted) -> Vec<&'static str> {
    let sealed = |ipv6: bool| wanted.encrypted.iter().any(|range| matches!(range, IpNet::V6(_)) == ipv6);
    let ipv4 = wanted.device.is_some() || sealed(false);
    let ipv6 = wanted.dual && (wanted.tunnels_ipv6() || sealed(true));
    [(ipv4, "ip"), (ipv6, "ip6")].into_iter().filter_map(|(needed, family)| needed.then_some(family)).collect()
}

/// What is in a set; the kernel takes no empty list.
fn elements<'a, T: ToString + 'a>(all: impl IntoIterator<Item = &'a T>) -> String {
    let all: Vec<String> = all.into_iter().map(ToString::to_string).collect();
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
        assert!(!text.contains("@peers") && !text.contains("ip6"), "{text}");
        // Of both families.
        let ranges = ["10.244.2.0/24", "fd12:0:0:102::/64"].map(|range| range.parse().unwrap());
        let both = table(&ids, &Wanted { dual: true, encrypted: ranges.into(), ..Wanted::default() });
        let of_ipv6 = both.split(&format!("\ntable ip6 {} {{\n", ids.table())).nth(1).unwrap();
        for line in [
            "set encrypted { type ipv6_addr; flags interval; elements = { fd12:0:0:102::/64 } }".to_owned(),
            "ip6 saddr @encrypted iifname != \"bwg-*\" counter drop".to_owned(),
            "ip6 daddr @encrypted oifname != \"bwg-*\" counter drop".to_owned(),
            format!("oifname \"{}\" tcp flags", ids.wireguard()),
        ] {
            assert!(of_ipv6.contains(&line), "{line} in {both}");
        }
    }
}
