//! Who holds a port that we want: pure over the kernel's tables of sockets.
//!
//! Source:   proc(5), `/proc/net/udp`, `/proc/net/tcp`.

use std::net::Ipv4Addr;

/// The inodes of the sockets that keep somebody from listening at this address.
#[must_use]
pub fn inodes(table: &str, address: Ipv4Addr, port: u16) -> Vec<u64> {
    let line = |line: &str| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (ip, of) = words.next()?.split_once(':')?;
        let ip = Ipv4Addr::from(u32::from_str_radix(ip, 16).ok()?.to_ne_bytes());
        let state = words.nth(1)?;
        // 07: a UDP socket without a peer; 0A: one of TCP that listens.
        let there = matches!(state, "07" | "0A") && (ip == address || ip.is_unspecified());
        let of = u16::from_str_radix(of, 16).ok()?;
        // sl, local, remote, st, queues, timer, retransmits, uid, timeout, inode
        (there && of == port).then(|| words.nth(5)?.parse().ok())?
    };
    table.lines().skip(1).filter_map(line).collect()
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

    #[test]
    fn whoever_listens_there_or_everywhere_is_found() {
        assert_eq!(inodes(TABLE, Ipv4Addr::new(10, 244, 3, 1), 53), [4712]);
        assert_eq!(inodes(TABLE, Ipv4Addr::LOCALHOST, 53), [4711, 4712]);
        assert!(inodes("", Ipv4Addr::LOCALHOST, 53).is_empty());
        assert_eq!((socket("socket:[4712]"), socket("/dev/null"), socket("socket:[x]")), (Some(4712), None, None));
    }
}
