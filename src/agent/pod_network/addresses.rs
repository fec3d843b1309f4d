//! Which pod has which address.
//!
//! In:       the node's range, a pod's uid, and what its sandboxes' labels say of the time before this agent.
//! Out:      an address that is the pod's for as long as it lives, whichever sandbox it has.
//! Never:    asks the engine whether somebody else has taken it; that is told by [`Addresses::refused`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::api::Uid;

/// So many that were given back are not given again: who knew a pod by its address must not find another one there at once.
const RESTING: usize = 64;

/// The addresses of a node's pods.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    held: BTreeMap<Uid, Ipv4Addr>,
    /// Given back, the oldest first.
    resting: VecDeque<Ipv4Addr>,
}

impl Addresses {
    /// A sandbox that was there before has this address. The first that says so has it.
    pub fn found(&mut self, uid: &Uid, address: Ipv4Addr) {
        if !self.held.values().any(|held| *held == address) {
            self.held.entry(uid.clone()).or_insert(address);
        }
    }

    /// The pod's address; `None`: all are taken. A pod without one gets the free one at which a search for its uid ends: should all that
    /// is remembered be lost, it is most often found again.
    pub fn pick(&mut self, range: Ipv4Net, uid: &Uid) -> Option<Ipv4Addr> {
        // The first is the node's own.
        let own = range.hosts().next();
        if let Some(held) = self.held.get(uid).filter(|held| range.contains(*held) && Some(**held) != own) {
            return Some(*held);
        }
        self.held.remove(uid);
        let taken: BTreeSet<Ipv4Addr> = self.held.values().copied().collect();
        let first = u32::from(range.network()).checked_add(2)?;
        let count = u32::from(range.broadcast()).checked_sub(first).filter(|count| *count > 0)?;
        // FNV-1a: 32 bits.
        let hash = uid.0.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        let all = || (0..count).map(|step| Ipv4Addr::from(first + (hash % count + step) % count));
        let free = |address: &Ipv4Addr| !taken.contains(address);
        let rested = |address: &Ipv4Addr| !self.resting.contains(address);
        // One that rests is better than none: the one that has rested longest.
        let tired = || self.resting.iter().copied().find(|address| range.contains(address) && free(address));
        let address = all().find(|address| free(address) && rested(address)).or_else(tired)?;
        self.resting.retain(|other| *other != address);
        self.held.insert(uid.clone(), address);
        Some(address)
    }

    /// The pod is gone.
    pub fn release(&mut self, uid: &Uid) {
        if let Some(address) = self.held.remove(uid) {
            self.rest(address);
        }
    }

    /// Somebody else on that network has it: the next pick is another one.
    pub fn refused(&mut self, uid: &Uid) {
        self.release(uid);
    }

    fn rest(&mut self, address: Ipv4Addr) {
        self.resting.retain(|other| *other != address);
        self.resting.push_back(address);
        while self.resting.len() > RESTING {
            self.resting.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    fn uid(number: u32) -> Uid {
        Uid(format!("uid-{number}"))
    }

    #[test]
    fn every_pod_has_an_address_of_its_own_for_as_long_as_it_lives() {
        let (mut all, range) = (Addresses::default(), range("10.244.3.0/24"));
        let first: Vec<Option<Ipv4Addr>> = (0..254).map(|number| all.pick(range, &uid(number))).collect();
        let given: BTreeSet<Ipv4Addr> = first.iter().flatten().copied().collect();
        assert_eq!(given.len(), 253, "256 but the network's, the node's and the broadcast address");
        assert!(!given.contains(&range.network()) && !given.contains(&"10.244.3.1".parse().unwrap()));
        assert!(given.iter().all(|address| range.contains(address) && *address != range.broadcast()));
        assert_eq!(first.last(), Some(&None));
        for number in 0..253 {
            assert_eq!(all.pick(range, &uid(number)), first[number as usize]);
        }
    }

    #[test]
    fn one_that_was_given_back_rests_while_there_are_others() {
        let (mut all, range) = (Addresses::default(), range("10.0.0.0/29"));
        let mut last = Vec::new();
        for number in 0..5 {
            last.push(all.pick(range, &uid(number)).unwrap());
        }
        assert_eq!(all.pick(range, &uid(9)), None);
        all.release(&uid(1));
        all.release(&uid(3));
        assert_eq!(all.pick(range, &uid(10)), Some(last[1]), "the one that has rested longest");
        assert_eq!(all.pick(range, &uid(11)), Some(last[3]));
        let (mut all, range) = (Addresses::default(), self::range("10.244.3.0/24"));
        let before = all.pick(range, &uid(1)).unwrap();
        all.refused(&uid(1));
        assert_ne!(all.pick(range, &uid(1)), Some(before));
    }

    #[test]
    fn what_an_agent_finds_is_kept_unless_the_range_is_another() {
        let mut all = Addresses::default();
        all.found(&uid(1), "10.244.3.77".parse().unwrap());
        all.found(&uid(2), "10.244.3.77".parse().unwrap());
        all.found(&uid(1), "10.244.3.78".parse().unwrap());
        assert_eq!(all.pick(range("10.244.3.0/24"), &uid(1)), "10.244.3.77".parse().ok());
        assert_ne!(all.pick(range("10.244.3.0/24"), &uid(2)), "10.244.3.77".parse().ok());
        assert!(range("10.244.4.0/24").contains(&all.pick(range("10.244.4.0/24"), &uid(1)).unwrap()));
        all.found(&uid(5), "10.244.3.1".parse().unwrap());
        assert_ne!(all.pick(range("10.244.3.0/24"), &uid(5)), "10.244.3.1".parse().ok(), "never the node's own");
        // Forgotten by everybody, and most often the same.
        let once = Addresses::default().pick(range("10.244.3.0/24"), &uid(7));
        assert_eq!(Addresses::default().pick(range("10.244.3.0/24"), &uid(7)), once);
        assert_eq!(Addresses::default().pick(range("10.244.3.0/31"), &uid(7)), None);
    }
}
