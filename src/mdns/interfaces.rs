//! Which addresses of this machine lie in a local network: pure over two files of `/proc/net`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

/// Networks within the machine: nobody there is a node or a master.
const WITHIN: [&str; 7] = ["docker", "br-", "veth", "virbr", "cni", "podman", "flannel"];
/// More than a machine has; each costs a socket while a node looks.
const MOST: usize = 16;

/// An address and the interface that has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interface {
    /// The address.
    pub address: Ipv4Addr,
    /// For example `eth0`.
    pub name: String,
}

/// Whether nobody but this machine is there.
#[must_use]
pub fn is_within(name: &str) -> bool {
    WITHIN.iter().any(|prefix| name.starts_with(prefix))
}

/// The addresses with their interfaces, by `fib_trie` (what is ours) and `route` (which network lies where); loopback first.
#[must_use]
pub fn interfaces(fib_trie: &str, route: &str) -> Vec<Interface> {
    let networks = networks(route);
    let named = |address: Ipv4Addr| {
        if address.is_loopback() {
            return Some("lo".to_owned());
        }
        let bits = u32::from(address);
        let within = networks.iter().filter(|((network, mask), _)| bits & mask == *network);
        within.max_by_key(|((_, mask), _)| *mask).map(|(_, name)| name.clone())
    };
    let own = own(fib_trie).into_iter();
    let mut all: Vec<Interface> = own.filter_map(|address| Some(Interface { address, name: named(address)? })).collect();
    all.retain(|one| !is_within(&one.name));
    all.sort_by_key(|one| (!one.address.is_loopback(), one.address));
    all.truncate(MOST);
    all
}

/// All of this machine's addresses: `|-- ADDRESS`, and below it `/32 host LOCAL` for what is ours.
#[must_use]
pub fn own(fib_trie: &str) -> BTreeSet<Ipv4Addr> {
    let mut own = BTreeSet::new();
    let mut last = None;
    for line in fib_trie.lines() {
        if let Some((_, address)) = line.split_once("|-- ") {
            last = address.trim().parse::<Ipv4Addr>().ok();
        } else if line.trim_start().starts_with("/32 host LOCAL") {
            own.extend(last);
        }
    }
    own
}

/// Networks without a gateway: interface, network, gateway, four numbers, mask; as the processor keeps them.
fn networks(route: &str) -> BTreeMap<(u32, u32), String> {
    let number = |text: Option<&&str>| u32::from_str_radix(text?, 16).ok().map(u32::from_be);
    let line = |line: &str| {
        let parts: Vec<&str> = line.split_whitespace().collect();
        let (network, gateway, mask) = (number(parts.get(1))?, number(parts.get(2))?, number(parts.get(7))?);
        (gateway == 0 && mask != 0).then(|| ((network, mask), parts.first().copied().unwrap_or_default().to_owned()))
    };
    route.lines().skip(1).filter_map(line).collect()
}

/// Of these, where somebody who listens on `listen` is reached. One who listens everywhere is not looked for on this machine alone.
#[must_use]
pub fn reached(all: &[Interface], listen: IpAddr) -> Vec<Ipv4Addr> {
    let on = |address: Ipv4Addr| match listen {
        ip if ip.is_unspecified() => !address.is_loopback(),
        ip => ip == IpAddr::V4(address),
    };
    all.iter().map(|one| one.address).filter(|&address| on(address)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIE: &str = "Main:\n  +-- 0.0.0.0/0 3 0 4\n     |-- 0.0.0.0\n        /0 universe UNICAST\n           |-- 127.0.0.1\n              /32 host LOCAL\n           |-- 172.17.0.1\n              /32 host LOCAL\n           |-- 192.0.2.0\n              /24 link UNICAST\n           |-- 192.0.2.2\n              /32 host LOCAL\n           |-- 198.51.100.7\n              /32 host LOCAL\nLocal:\n           |-- 192.0.2.2\n              /32 host LOCAL\n";
    // As a little-endian machine, which every Pi is, writes it.
    const ROUTE: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\n\
        eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
        docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
        eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";

    #[test]
    fn addresses_in_a_network_that_others_share_are_found() {
        let found = interfaces(TRIE, ROUTE);
        let told: Vec<String> = found.iter().map(|one| format!("{} {}", one.address, one.name)).collect();
        assert_eq!(told, ["127.0.0.1 lo", "192.0.2.2 eth0"], "not Docker's, not one without a network");
        for (listen, expected) in
            [("0.0.0.0", vec!["192.0.2.2"]), ("::", vec!["192.0.2.2"]), ("127.0.0.1", vec!["127.0.0.1"]), ("192.0.2.9", vec![])]
        {
            let told: Vec<String> = reached(&found, listen.parse().unwrap()).iter().map(ToString::to_string).collect();
            assert_eq!(told, expected, "{listen}");
        }
    }

    #[test]
    fn rubbish_is_nothing() {
        for (trie, route) in [("", ""), ("|-- x\n/32 host LOCAL", "a\nb"), (TRIE, "h\neth0 zz zz 1 1 1 1 zz")] {
            assert!(interfaces(trie, route).iter().all(|one| one.address.is_loopback()));
        }
    }
}
