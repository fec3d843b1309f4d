//! Who holds a port of the machine: pure over the kernel's tables of sockets.
//!
//! Source:   proc(5), `/proc/net/{tcp,tcp6,udp,udp6}`.

pub mod disk;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A socket that waits for whoever comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Where; unspecified: at each address.
    pub address: IpAddr,
    /// At that address.
    pub port: u16,
    /// The kernel's number of the socket.
    pub inode: u64,
}

impl Listener {
    /// Whether nobody else can listen at this address and port. One at `::` has IPv4 as well, unless its program wanted otherwise,
    /// which the table does not say.
    #[must_use]
    pub fn holds(&self, address: Ipv4Addr, port: u16) -> bool {
        self.port == port && (self.address == address || self.address.is_unspecified())
    }
}

/// Who listens, by the text of such a table.
pub fn listeners(table: &str) -> impl Iterator<Item = Listener> {
    let line = |line: &str| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (address, port) = words.next()?.split_once(':')?;
        // 07: a UDP socket without a peer; 0A: one of TCP that listens.
        words.nth(1).filter(|state| matches!(*state, "07" | "0A"))?;
        // sl, local, remote, st, queues, timer, retransmits, uid, timeout, inode
        let inode = words.nth(5)?.parse().ok()?;
        Some(Listener { address: address_of(address)?, port: u16::from_str_radix(port, 16).ok()?, inode })
    };
    table.lines().skip(1).filter_map(line)
}

/// Words of four bytes, each in the machine's own order. IPv4 that is written as IPv6 is IPv4.
fn address_of(text: &str) -> Option<IpAddr> {
    let word = |at: usize| Some(u32::from_str_radix(text.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    match text.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let mut bytes = [0; 16];
            for (place, part) in bytes.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(place * 8)?);
            }
            Some(Ipv6Addr::from(bytes).to_canonical())
        }
        _ => None,
    }
}

/// The socket's inode that a link in `/proc/PID/fd` names.
#[must_use]
pub fn socket(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
        \x20 101: 0100007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000   0        0 4711 2 0000000000000000 0\n\
        \x20 102: 00000000:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000   0        0 4712 2 0000000000000000 0\n\
        \x20 103: 0103F40A:0035 0100007F:1234 01 00000000:00000000 00:00000000 00000000   0        0 4713 2 0000000000000000 0\n\
        \x20 104: 0103F40A:0044 00000000:0000 07 00000000:00000000 00:00000000 00000000   0        0 4714 2 0000000000000000 0\nrubbish\n";

    const SIX: &str = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
        \x20  0: 00000000000000000000000000000000:0035 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4715 1\n\
        \x20  1: 0000000000000000FFFF00000103F40A:0035 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4716 1\n\
        \x20  2: 00000000000000000000000001000000:0035 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4717 1\n";

    #[test]
    fn whoever_listens_there_or_everywhere_is_found() {
        let inodes = |table: &str, address| -> Vec<u64> {
            listeners(table).filter(|one| one.holds(address, 53)).map(|one| one.inode).collect()
        };
        let gateway = Ipv4Addr::new(10, 244, 3, 1);
        assert_eq!(inodes(TABLE, gateway), [4712]);
        assert_eq!(inodes(TABLE, Ipv4Addr::LOCALHOST), [4711, 4712]);
        assert_eq!(inodes(SIX, gateway), [4715, 4716], "::1 is not the node");
        assert!(inodes("", Ipv4Addr::LOCALHOST).is_empty());
        assert_eq!((socket("socket:[4712]"), socket("/dev/null"), socket("socket:[x]")), (Some(4712), None, None));
    }
}
