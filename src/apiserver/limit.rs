//! How often somebody who is nobody yet may ask: a bucket for each address, and one for all of them.
//!
//! In:       an address, now.
//! Out:      whether it is heard. Bad tokens and requests without one count, good ones do not.
//! Never:    grows with the number of addresses: the ones that are full again are forgotten, and when too many are not, all share
//!           the common bucket.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::clock::Tick;

/// So many at once from one address.
const BURST: f64 = 30.0;
/// And so many a second.
const PER_SECOND: f64 = 3.0;
/// From all addresses together: ten times as much.
const ALL: f64 = 10.0;
/// Addresses that are remembered.
const ADDRESSES: usize = 1024;

#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    at: Tick,
}

impl Bucket {
    fn refilled(self, now: Tick, factor: f64) -> Self {
        let left = (self.left + now.since(self.at).as_secs_f64() * PER_SECOND * factor).min(BURST * factor);
        Self { left, at: now }
    }
}

/// The buckets.
#[derive(Debug)]
pub struct Limiter {
    all: Bucket,
    each: BTreeMap<IpAddr, Bucket>,
}

impl Default for Limiter {
    fn default() -> Self {
        Self { all: Bucket { left: BURST * ALL, at: Tick(0) }, each: BTreeMap::new() }
    }
}

impl Limiter {
    /// Takes one from the buckets of this address; false when there is nothing left.
    pub fn takes(&mut self, from: IpAddr, now: Tick) -> bool {
        self.all = self.all.refilled(now, ALL);
        if self.each.len() >= ADDRESSES {
            self.each.retain(|_, bucket| bucket.refilled(now, 1.0).left < BURST);
        }
        if self.all.left < 1.0 {
            return false;
        }
        if self.each.len() < ADDRESSES || self.each.contains_key(&from) {
            let bucket = self.each.entry(from).or_insert(Bucket { left: BURST, at: now });
            *bucket = bucket.refilled(now, 1.0);
            if bucket.left < 1.0 {
                return false;
            }
            bucket.left -= 1.0;
        }
        self.all.left -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> IpAddr {
        IpAddr::from(std::net::Ipv4Addr::from(number))
    }

    #[test]
    fn one_address_is_heard_so_often_and_others_all_the_same() {
        let mut limiter = Limiter::default();
        let heard = (0..100).filter(|_| limiter.takes(address(1), Tick(0))).count();
        assert_eq!(heard, 30);
        assert!(limiter.takes(address(2), Tick(0)));
        assert!(!limiter.takes(address(1), Tick(100)) && limiter.takes(address(1), Tick(500)));
    }

    #[test]
    fn many_addresses_share_a_bound_and_are_forgotten() {
        let mut limiter = Limiter::default();
        let heard = (0..100_000).filter(|&number| limiter.takes(address(number), Tick(0))).count();
        assert_eq!(heard, 300);
        assert!(limiter.each.len() <= ADDRESSES);
        assert!(limiter.takes(address(7), Tick(60_000)));
        let heard = (0..5_000).filter(|&number| limiter.takes(address(number), Tick(1_000_000))).count();
        assert!(heard <= 300 && limiter.each.len() <= ADDRESSES);
    }
}
