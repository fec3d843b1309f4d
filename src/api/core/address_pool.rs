//! The addresses that load balancers may have: `192.168.1.240-192.168.1.250`.

use std::fmt;
use std::net::Ipv4Addr;

/// A pool, from its first address to its last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressPool {
    first: u32,
    last: u32,
}

impl AddressPool {
    /// More than a home has devices; a search goes over all of them.
    pub const MOST: u32 = 4096;

    /// `None` for what is none: two addresses of one order, at most [`Self::MOST`] of them, none that no machine has.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last): (Ipv4Addr, Ipv4Addr) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        let odd = |one: Ipv4Addr| {
            one.is_loopback() || one.is_multicast() || one.is_unspecified() || one.is_link_local() || one.is_broadcast()
        };
        let (from, to) = (u32::from(first), u32::from(last));
        let count = to.checked_sub(from)?;
        (!odd(first) && !odd(last) && count < Self::MOST).then_some(Self { first: from, last: to })
    }

    /// Whether this address is one of them.
    #[must_use]
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&u32::from(address))
    }

    /// Whether a range has one of them.
    #[must_use]
    pub fn overlaps(&self, range: &ipnet::Ipv4Net) -> bool {
        self.first <= u32::from(range.broadcast()) && u32::from(range.network()) <= self.last
    }

    /// All of them, from a place on that follows from the name: who comes again gets the same, if it is free.
    pub fn from_name(self, name: &str) -> impl Iterator<Item = Ipv4Addr> {
        // FNV-1a: 32 bits.
        let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        let count = self.last - self.first + 1;
        (0..count).map(move |step| Ipv4Addr::from(self.first + (hash % count + step) % count))
    }
}

impl fmt::Display for AddressPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", Ipv4Addr::from(self.first), Ipv4Addr::from(self.last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_read_or_refused() {
        let pool = AddressPool::parse("192.168.1.240 - 192.168.1.250").unwrap();
        assert_eq!(pool.to_string(), "192.168.1.240-192.168.1.250");
        assert_eq!(AddressPool::parse(&pool.to_string()), Some(pool));
        assert!(pool.contains(Ipv4Addr::new(192, 168, 1, 250)) && !pool.contains(Ipv4Addr::new(192, 168, 1, 251)));
        assert_eq!(
            AddressPool::parse("192.168.1.9").unwrap().from_name("x").collect::<Vec<_>>(),
            [Ipv4Addr::new(192, 168, 1, 9)]
        );
        for odd in ["", "x", "192.168.1.9-192.168.1.8", "10.0.0.0-10.0.16.0", "127.0.0.1", "224.0.0.1-224.0.0.2", "::1"] {
            assert_eq!(AddressPool::parse(odd), None, "{odd}");
        }
    }

    #[test]
    fn the_search_sees_each_address_once_and_begins_at_the_names_place() {
        let pool = AddressPool::parse("10.0.0.250-10.0.1.4").unwrap();
        let all: Vec<Ipv4Addr> = pool.from_name("home/web").collect();
        assert_eq!(all, pool.from_name("home/web").collect::<Vec<_>>());
        let set: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!((set.len(), all.len()), (11, 11));
        assert!(all.iter().all(|one| pool.contains(*one)));
        let firsts: std::collections::BTreeSet<_> =
            ["a", "b", "c", "d"].iter().filter_map(|name| pool.from_name(name).next()).collect();
        assert!(firsts.len() > 1);
    }
}
