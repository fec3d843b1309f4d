//! What the host's rules must say so that packets between pods arrive as they were sent, and packets to the outside bear the node's
//! address.
//!
//! In:       the node's range and bridge, the addresses of all pods, and what `iptables -S` shows; IPv4 and IPv6 have a guard each, with
//!           `ip6tables` for the one of IPv6.
//! Out:      a batch for `nft -f -` that makes our own table, whole; lists of arguments for `iptables`.
//! Never:    runs either (`exec.rs`). Nobody else's rules are read for more than where ours belong, or changed.
//! Source:   iptables-extensions(8), nft(8); docs.docker.com on the chain DOCKER-USER, which is made for others' rules.
//!
//! Why two programs: an `accept` of nftables holds in its own table only, so what Docker's tables drop (`FORWARD`'s policy, and all
//! between two of Docker's networks) can be let through in Docker's tables alone. To turn addresses round, a table of our own is enough.
//!
//! The chain of addresses comes before everybody else's (`srcnat - 4`), and says of packets between pods that they stay as they are
//! (`snat to ip saddr`): the kernel asks the next chain only for a connection of which nothing is said yet. So neither Podman, which
//! masquerades whatever leaves its bridge, nor a firewall of the LAN's hides a pod from another. Connections to services are left to
//! who made them so.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::agent::family::Family;

/// Docker's chain for others' rules, asked before its own.
const DOCKER_USER: &str = "DOCKER-USER";
/// Where the rules go on a host without Docker whose `FORWARD` lets nothing through by itself.
const FORWARD: &str = "FORWARD";
/// Source: RFC 4861, 4.3 and 4.4.
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// A route that came with a router's word. Source: the kernel's uapi/linux/ipv6_route.h.
const RTF_ADDRCONF: u32 = 0x0004_0000;
/// The chains by which Docker and Podman's CNI keep their networks apart.
const APART: [&str; 3] = ["DOCKER-ISOLATION-STAGE-1", "DOCKER-FORWARD", "CNI-ISOLATION-STAGE-1"];

/// A node's network in one family of addresses, and whom its pods meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// This node in this cluster: `Owner::id`.
    pub id: String,
    /// Its pods' addresses.
    pub range: IpNet,
    /// Their bridge.
    pub bridge: String,
    /// All pods' addresses.
    pub pods: IpNet,
    /// Nodes that have a plain route to this node's pods: to them these keep their own addresses.
    pub direct: BTreeSet<IpAddr>,
}

/// The name of a node's table, which is the same in both families.
#[must_use]
pub fn table_name(id: &str) -> String {
    format!("bramble-{id}-pods")
}

/// By what our rules are known in others' chains.
#[must_use]
pub fn comment(id: &str) -> String {
    format!("bramble-{id}")
}

impl Guard {
    /// What its addresses are.
    #[must_use]
    pub fn family(&self) -> Family {
        Family::of(self.range.addr())
    }

    /// The whole table, in place of the one that is there, in one transaction.
    #[must_use]
    pub fn batch(&self) -> String {
        let Self { id, range, bridge, pods, direct } = self;
        let (name, ip) = (table_name(id), self.family().word());
        let everybody = match self.family() {
            Family::V4 => "224.0.0.0/4",
            Family::V6 => "ff00::/8",
        };
        let mut lines = vec![
            // Made first, so that the removal finds one.
            format!("table {ip} {name} {{ }}"),
            format!("delete table {ip} {name}"),
            format!("table {ip} {name} {{"),
            "  chain addresses {".to_owned(),
            "    type nat hook postrouting priority srcnat - 4; policy accept;".to_owned(),
            format!("    {ip} saddr != {range} return"),
            format!("    {ip} daddr {everybody} return"),
            format!("    {ip} daddr {pods} ct status & dnat == dnat return"),
            format!("    {ip} daddr {pods} snat to {ip} saddr"),
        ];
        if !direct.is_empty() {
            let all = direct.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            lines.push(format!("    {ip} daddr {{ {all} }} snat to {ip} saddr"));
        }
        lines.extend([format!("    oifname \"{bridge}\" return"), "    masquerade".to_owned(), "  }".to_owned(), "}".to_owned()]);
        let mut batch = String::new();
        for line in lines {
            // Writing to a String cannot fail.
            let _ = writeln!(batch, "{line}");
        }
        batch
    }

    /// What is let through, as `iptables -S` shows it without the chain.
    fn rules(&self, chain: &str) -> Vec<String> {
        let Self { id, range, pods, bridge, .. } = self;
        let comment = format!("-m comment --comment {} -j ACCEPT", comment(id));
        let once = |one: String, other: String| if one == other { vec![one] } else { vec![one, other] };
        let mut rules = once(format!("-s {range} -d {pods} {comment}"), format!("-s {pods} -d {range} {comment}"));
        rules.extend([
            // A node port whose pod is here, or on another node.
            format!("-d {pods} -m conntrack --ctstate DNAT {comment}"),
            // And the answers: to it, and to what pods asked outside.
            format!("-s {pods} -m conntrack --ctstate RELATED,ESTABLISHED {comment}"),
            format!("-d {range} -m conntrack --ctstate RELATED,ESTABLISHED {comment}"),
        ]);
        if self.family() == Family::V6 {
            // Where packets on a bridge pass the rules, so do the questions by which pods find each other there (of IPv4, ARP does not).
            let question = |kind| format!("-i {bridge} -o {bridge} -p ipv6-icmp -m icmp6 --icmpv6-type {kind} {comment}");
            rules.extend([NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT].map(question));
            if chain == FORWARD {
                // Docker before 27 lets its networks out by IPv4 only. Where it has its chain for IPv6 it does so, after what others say there.
                rules.push(format!("-s {range} -i {bridge} ! -o {bridge} {comment}"));
            }
        }
        rules
    }

    /// What `iptables` is to be told, one call a list; none: all is as it should be. `listing`: what `iptables -S` shows.
    #[must_use]
    pub fn calls(&self, listing: &str) -> Vec<Vec<String>> {
        let mut calls = Vec::new();
        let there = ours(listing, &self.id);
        let wanted: Vec<(String, String)> = chain(listing)
            .into_iter()
            .flat_map(|chain| self.rules(chain).into_iter().map(move |rule| (chain.to_owned(), rule)))
            .collect();
        for (chain, rule) in there.iter().filter(|rule| !wanted.contains(rule)) {
            calls.push(call("-D", chain, rule));
        }
        for (chain, rule) in wanted.iter().filter(|rule| !there.contains(rule)) {
            // First: what was there before may send away.
            calls.push(call("-I", chain, rule));
        }
        calls
    }
}

/// What takes away all that is ours in these chains.
#[must_use]
pub fn removals(listing: &str, id: &str) -> Vec<Vec<String>> {
    ours(listing, id).iter().map(|(chain, rule)| call("-D", chain, rule)).collect()
}

/// Where our rules belong; `None`: nothing is dropped here. Docker's chain serves where it is asked before those that keep networks apart;
/// after a restart of a Docker without its default network it is not (seen with 20.10).
fn chain(listing: &str) -> Option<&'static str> {
    let place = |target: &str| {
        let jump = format!("-j {target}");
        listing.lines().filter(|line| line.starts_with("-A FORWARD ")).position(|line| line.ends_with(&jump))
    };
    let apart = APART.iter().filter_map(|target| place(target)).min();
    let drops = listing.lines().any(|line| line.starts_with("-P FORWARD ") && line != "-P FORWARD ACCEPT");
    if place(DOCKER_USER).is_some_and(|user| apart.is_none_or(|apart| user < apart)) {
        Some(DOCKER_USER)
    } else if drops || apart.is_some() {
        Some(FORWARD)
    } else {
        None
    }
}

/// The chain and the rest of each rule with our comment.
fn ours(listing: &str, id: &str) -> Vec<(String, String)> {
    let comment = format!(" --comment {} ", comment(id));
    listing
        .lines()
        .filter(|line| line.contains(&comment))
        .filter_map(|line| line.strip_prefix("-A ")?.split_once(' '))
        .map(|(chain, rule)| (chain.to_owned(), rule.to_owned()))
        .collect()
}

/// The interfaces that have a route which a router has told, by the text of `/proc/net/ipv6_route`.
#[must_use]
pub fn told_by_a_router(routes: &str) -> BTreeSet<String> {
    // Destination, its length, source, its length, next hop, metric, two counters, flags, interface.
    let flags = |line: &str| {
        let mut words = line.split_whitespace().skip(8);
        Some((u32::from_str_radix(words.next()?, 16).ok()?, words.next()?.to_owned()))
    };
    routes.lines().filter_map(flags).filter(|(flags, _)| flags & RTF_ADDRCONF != 0).map(|(_, interface)| interface).collect()
}

fn call(act: &str, chain: &str, rule: &str) -> Vec<String> {
    // None of our words has a space in it.
    [act, chain].into_iter().chain(rule.split(' ')).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard() -> Guard {
        Guard {
            id: "0a1b2c3d".into(),
            range: "10.244.3.0/24".parse().unwrap(),
            bridge: "brm-0a1b2c3d".into(),
            pods: "10.244.0.0/16".parse().unwrap(),
            direct: BTreeSet::new(),
        }
    }

    #[test]
    fn the_table_is_replaced_whole_and_turns_round_only_what_leaves_the_pods() {
        let table = "table ip bramble-0a1b2c3d-pods { }\n\
            delete table ip bramble-0a1b2c3d-pods\n\
            table ip bramble-0a1b2c3d-pods {\n\
            \x20 chain addresses {\n\
            \x20   type nat hook postrouting priority srcnat - 4; policy accept;\n\
            \x20   ip saddr != 10.244.3.0/24 return\n\
            \x20   ip daddr 224.0.0.0/4 return\n\
            \x20   ip daddr 10.244.0.0/16 ct status & dnat == dnat return\n\
            \x20   ip daddr 10.244.0.0/16 snat to ip saddr\n\
            \x20   oifname \"brm-0a1b2c3d\" return\n\
            \x20   masquerade\n\
            \x20 }\n\
            }\n";
        assert_eq!(guard().batch(), table);
        let direct = ["192.168.1.6", "192.168.1.5"].iter().map(|text| text.parse().unwrap()).collect();
        let batch = Guard { direct, ..guard() }.batch();
        assert!(batch.contains("    ip daddr { 192.168.1.5, 192.168.1.6 } snat to ip saddr\n"), "{batch}");
    }

    #[test]
    fn the_same_of_ipv6_is_a_table_of_its_own() {
        let (range, pods) = ("fd00:0:0:103::/64".parse().unwrap(), "fd00:0:0:100::/56".parse().unwrap());
        let guard = Guard { range, pods, ..guard() };
        let table = "table ip6 bramble-0a1b2c3d-pods { }\n\
            delete table ip6 bramble-0a1b2c3d-pods\n\
            table ip6 bramble-0a1b2c3d-pods {\n\
            \x20 chain addresses {\n\
            \x20   type nat hook postrouting priority srcnat - 4; policy accept;\n\
            \x20   ip6 saddr != fd00:0:0:103::/64 return\n\
            \x20   ip6 daddr ff00::/8 return\n\
            \x20   ip6 daddr fd00:0:0:100::/56 ct status & dnat == dnat return\n\
            \x20   ip6 daddr fd00:0:0:100::/56 snat to ip6 saddr\n\
            \x20   oifname \"brm-0a1b2c3d\" return\n\
            \x20   masquerade\n\
            \x20 }\n\
            }\n";
        assert_eq!(guard.batch(), table);
        let first = "-I FORWARD -s fd00:0:0:103::/64 -d fd00:0:0:100::/56 -m comment --comment bramble-0a1b2c3d -j ACCEPT";
        let calls: Vec<String> = guard.calls("-P FORWARD DROP\n").iter().map(|call| call.join(" ")).collect();
        let question = "-I FORWARD -i brm-0a1b2c3d -o brm-0a1b2c3d -p ipv6-icmp -m icmp6 --icmpv6-type 136 -m comment --comment bramble-0a1b2c3d -j ACCEPT";
        let out =
            "-I FORWARD -s fd00:0:0:103::/64 -i brm-0a1b2c3d ! -o brm-0a1b2c3d -m comment --comment bramble-0a1b2c3d -j ACCEPT";
        assert_eq!((calls[0].as_str(), calls[6].as_str(), calls[7].as_str(), calls.len()), (first, question, out, 8));
        let docker = "-P FORWARD DROP\n-N DOCKER-USER\n-A FORWARD -j DOCKER-USER\n";
        assert_eq!(guard.calls(docker).len(), 7, "it lets its networks out itself");
    }

    #[test]
    fn what_docker_drops_is_let_through_in_its_own_chain_for_others_and_only_what_is_missing_is_added() {
        let docker =
            "-P INPUT ACCEPT\n-P FORWARD DROP\n-N DOCKER\n-N DOCKER-USER\n-A FORWARD -j DOCKER-USER\n-A DOCKER-USER -j RETURN\n";
        let calls = guard().calls(docker);
        let first = "-I DOCKER-USER -s 10.244.3.0/24 -d 10.244.0.0/16 -m comment --comment bramble-0a1b2c3d -j ACCEPT";
        assert_eq!((calls.len(), calls[0].join(" ").as_str()), (5, first));
        // What was told is shown.
        let mut after = docker.to_owned();
        for call in &calls {
            after.push_str(&format!("-A {}\n", call[1..].join(" ")));
        }
        after.push_str("-A DOCKER-USER -s 10.1.0.0/16 -m comment --comment bramble-99999999 -j ACCEPT\n-A DOCKER-USER -s 10.2.0.0/16 -j DROP\n");
        assert!(guard().calls(&after).is_empty());
        let moved = Guard { range: "10.244.9.0/24".parse().unwrap(), ..guard() };
        let calls: Vec<String> = moved.calls(&after).iter().map(|call| call[0].clone()).collect();
        assert_eq!(calls, ["-D", "-D", "-D", "-I", "-I", "-I"], "and what has only the pod network in it stays");
        let removed: Vec<String> = removals(&after, "0a1b2c3d").iter().map(|call| call[0].clone()).collect();
        assert_eq!(removed, ["-D"; 5]);
    }

    #[test]
    fn without_docker_the_rules_go_where_packets_would_be_dropped_or_nowhere() {
        assert!(guard().calls("-P FORWARD ACCEPT\n").is_empty());
        let first = |listing: &str| guard().calls(listing).first().map(|call| call[..2].join(" "));
        assert_eq!(first("-P FORWARD DROP\n").as_deref(), Some("-I FORWARD"));
        let podman = "-P FORWARD ACCEPT\n-N CNI-ISOLATION-STAGE-1\n-A FORWARD -m comment --comment \"CNI firewall plugin rules\" -j CNI-ISOLATION-STAGE-1\n";
        assert_eq!(first(podman).as_deref(), Some("-I FORWARD"));
        // Docker asks its own chain first.
        let late = "-P FORWARD DROP\n-N DOCKER-USER\n-A FORWARD -j DOCKER-ISOLATION-STAGE-1\n-A FORWARD -j DOCKER-USER\n";
        assert_eq!(first(late).as_deref(), Some("-I FORWARD"));
        let right = "-P FORWARD DROP\n-N DOCKER-USER\n-A FORWARD -j DOCKER-USER\n-A FORWARD -j DOCKER-ISOLATION-STAGE-1\n";
        assert_eq!(first(right).as_deref(), Some("-I DOCKER-USER"));
        // Docker came later.
        let listing = "-P FORWARD DROP\n-N DOCKER-USER\n-A FORWARD -j DOCKER-USER\n-A FORWARD -s 10.244.3.0/24 -d 10.244.0.0/16 -m comment --comment bramble-0a1b2c3d -j ACCEPT\n";
        let calls: Vec<String> = guard().calls(listing).iter().map(|call| call[..2].join(" ")).collect();
        assert_eq!(calls[0], "-D FORWARD");
        assert!(calls[1..].iter().all(|call| call == "-I DOCKER-USER") && calls.len() == 6);
    }

    #[test]
    fn only_what_a_router_has_told_counts_as_its_word() {
        let (any, link) = ("0".repeat(32), format!("fe80{}", "0".repeat(28)));
        let routes = format!(
            "{any} 00 {any} 00 {link} 00000400 00000001 00000000 00450003    wlan0\n{link} 40 {any} 00 {any} 00000100 00000001 00000000 00000001     eth0\n{any} 00 {any} 00 {any} ffffffff 00000001 00000000 00200200       lo\nnonsense\n"
        );
        assert_eq!(told_by_a_router(&routes), ["wlan0".to_owned()].into());
    }

    #[test]
    fn a_node_that_is_the_whole_network_says_nothing_twice() {
        let alone = Guard { pods: guard().range, ..guard() };
        let calls = alone.calls("-P FORWARD DROP\n");
        let once: BTreeSet<&Vec<String>> = calls.iter().collect();
        assert_eq!(once.len(), calls.len());
    }
}
