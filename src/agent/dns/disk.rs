//! Hands: what the kernel's own files say of sockets and addresses. They are in memory: reading waits for no disk.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::holder::{inodes, socket};
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
    let table = |name| std::fs::read_to_string(format!("/proc/net/{name}")).unwrap_or_default();
    let wanted: BTreeSet<u64> = ["udp", "tcp"].into_iter().flat_map(|name| inodes(&table(name), address, port)).collect();
    let mut found = Vec::new();
    if wanted.is_empty() {
        return found;
    }
    for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let files = std::fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        let holds = files.filter_map(|file| std::fs::read_link(file.path()).ok()).any(|link| {
            let inode = link.to_str().and_then(socket);
            inode.is_some_and(|inode| wanted.contains(&inode))
        });
        if holds {
            let comm = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            found.push(format!("{} (process {pid})", comm.trim()));
        }
    }
    found
}
