//! Hands: what the kernel's own files say of sockets and who has them. They are in memory: reading waits for no disk.

use std::collections::BTreeSet;

use super::{Listener, listeners, socket};

/// Who listens, by these tables of `/proc/net`.
#[must_use]
pub fn listening(tables: &[&str]) -> Vec<Listener> {
    let read = |name: &&str| std::fs::read_to_string(format!("/proc/net/{name}")).unwrap_or_default();
    tables.iter().map(read).flat_map(|table| listeners(&table).collect::<Vec<_>>()).collect()
}

/// The processes that have one of these sockets, with their names, the lowest number first; empty when that cannot be known. Looks
/// through all processes: call it off the runtime.
#[must_use]
pub fn processes(inodes: &BTreeSet<u64>) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    if inodes.is_empty() {
        return found;
    }
    for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let files = std::fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        let holds = files.filter_map(|file| std::fs::read_link(file.path()).ok()).any(|link| {
            let inode = link.to_str().and_then(socket);
            inode.is_some_and(|inode| inodes.contains(&inode))
        });
        if holds {
            let comm = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            found.push((pid, comm.trim().to_owned()));
        }
    }
    found.sort_unstable();
    found
}
