//! Hands: what the kernel's own files say of addresses, and of who holds a port. They are in memory: reading waits for no disk.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use crate::agent::holder::disk::{listening, processes};
use crate::mdns::interfaces;

/// This machine's addresses.
#[must_use]
pub fn own_addresses() -> BTreeSet<Ipv4Addr> {
    interfaces::own(&std::fs::read_to_string("/proc/net/fib_trie").unwrap_or_default())
}

/// The processes that hold a port of this address, like `dnsmasq (process 812)`; empty when that cannot be known. Looks through all
/// processes: call it off the runtime.
#[must_use]
pub fn holders(address: Ipv4Addr, port: u16) -> Vec<String> {
    let all = listening(&["udp", "udp6", "tcp", "tcp6"]);
    let inodes = all.iter().filter(|one| one.holds(address, port)).map(|one| one.inode).collect();
    processes(&inodes).into_iter().map(|(pid, name)| format!("{name} (process {pid})")).collect()
}
