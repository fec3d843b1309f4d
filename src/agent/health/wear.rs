//! How much the device that the machine started from has been written since Bramble came to it, added up across boots.
//!
//! In:       what was kept, the device, the boot, what the kernel counted in this boot; whether keeping it worked, and when.
//! Out:      the sum; whether it has grown enough to be kept anew; what is worth a word.
//! Never:    writes for the sake of counting: what is kept is one small file, once a GiB (or a percent, if that is more) and at an
//!           orderly stop. A machine that writes nothing is not written to.
//!
//! A power cut loses what came after the last time it was kept: the sum is *at least* so much.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::backoff::Policy;
use crate::clock::Tick;

/// The sum is kept when it has grown by so much: a file of one block, once a GiB, is nothing.
const GROWN_BYTES: u64 = 1 << 30;
/// At an orderly stop less is enough.
const AT_STOP_BYTES: u64 = 1 << 20;
/// A card that is full, or has gone read-only, stays so for a while: each try writes to it.
const RETRY: Policy = Policy { first: Duration::from_secs(60), cap: Duration::from_secs(6 * 3600) };

/// What is kept, as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Of which device: another one begins anew.
    pub device: String,
    /// In which boot it was counted.
    pub boot_id: String,
    /// What the kernel had counted then.
    pub boot_bytes: u64,
    /// The sum.
    pub total_bytes: u64,
}

/// The sum over time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wear {
    newest: Kept,
    kept_bytes: u64,
    /// How often in a row it could not be kept, and when it is tried again.
    failures: u32,
    again: Option<Tick>,
}

/// What is worth a word about keeping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// It cannot be kept; said once.
    Unkept,
    /// It could not, and is again.
    KeptAgain,
}

impl Wear {
    /// Goes on from what was kept. Without anything the sum begins with what was written in this boot.
    #[must_use]
    pub fn new(kept: Option<Kept>, device: &str, boot_id: &str, boot_bytes: u64) -> Self {
        let kept = kept.filter(|kept| kept.device == device).unwrap_or_else(|| Kept {
            device: device.to_owned(),
            boot_id: boot_id.to_owned(),
            boot_bytes,
            total_bytes: boot_bytes,
        });
        let mut wear = Self { kept_bytes: kept.total_bytes, newest: kept, failures: 0, again: None };
        if wear.newest.boot_id != boot_id {
            wear.newest.boot_id = boot_id.to_owned();
            wear.newest.boot_bytes = 0;
        }
        wear.count(boot_bytes);
        wear
    }

    /// The kernel has counted so much in this boot; the sum. A count that goes back began anew.
    pub fn count(&mut self, boot_bytes: u64) -> u64 {
        let more = boot_bytes.checked_sub(self.newest.boot_bytes).unwrap_or(boot_bytes);
        self.newest.boot_bytes = boot_bytes;
        self.newest.total_bytes = self.newest.total_bytes.saturating_add(more);
        self.newest.total_bytes
    }

    /// What is to be kept now, if anything. At the end it is tried once more, whatever failed before.
    #[must_use]
    pub fn to_keep(&self, stops: Stops, now: Tick) -> Option<&Kept> {
        let (enough, waits) = match stops {
            Stops::No => (GROWN_BYTES.max(self.kept_bytes / 100), self.again.is_some_and(|again| now < again)),
            Stops::Yes => (AT_STOP_BYTES, false),
        };
        let grown = self.newest.total_bytes - self.kept_bytes.min(self.newest.total_bytes);
        (grown >= enough && !waits).then_some(&self.newest)
    }

    /// It is kept.
    pub fn kept(&mut self, total_bytes: u64) -> Option<Word> {
        self.kept_bytes = total_bytes;
        self.again = None;
        (std::mem::take(&mut self.failures) > 0).then_some(Word::KeptAgain)
    }

    /// It could not be kept: it is tried again later and later, from a minute to six hours.
    pub fn not_kept(&mut self, now: Tick) -> Option<Word> {
        self.failures = self.failures.saturating_add(1);
        self.again = Some(now.after(RETRY.delay(self.failures)));
        (self.failures == 1).then_some(Word::Unkept)
    }
}

/// Whether the agent is about to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stops {
    /// It goes on.
    No,
    /// It ends.
    Yes,
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn the_sum_goes_on_across_boots_and_stops_and_begins_anew_with_another_card() {
        let mut wear = Wear::new(None, "card", "boot 1", 5 * GIB);
        let now = Tick(0);
        assert_eq!(
            (wear.count(5 * GIB), wear.to_keep(Stops::Yes, now)),
            (5 * GIB, None),
            "nothing was written: nothing is written"
        );
        assert_eq!(wear.count(5 * GIB + 7 * (GIB / 8)), 5 * GIB + 7 * (GIB / 8));
        assert_eq!(wear.to_keep(Stops::No, now), None);
        let kept = wear.to_keep(Stops::Yes, now).unwrap().clone();
        // The same boot, another agent.
        let mut same = Wear::new(Some(kept.clone()), "card", "boot 1", 6 * GIB);
        assert_eq!(same.count(6 * GIB), 6 * GIB);
        let mut next = Wear::new(Some(kept.clone()), "card", "boot 2", 100);
        assert_eq!(next.count(300), kept.total_bytes + 300);
        assert_eq!(next.count(200), kept.total_bytes + 500, "a count that goes back began anew");
        assert_eq!(Wear::new(Some(kept), "another", "boot 2", 7).count(7), 7);
    }

    #[test]
    fn a_large_sum_is_kept_less_often() {
        let kept = Kept { device: "card".into(), boot_id: "b".into(), boot_bytes: 0, total_bytes: 1000 * GIB };
        let mut wear = Wear::new(Some(kept), "card", "b", 0);
        wear.count(9 * GIB);
        let now = Tick(0);
        assert_eq!(wear.to_keep(Stops::No, now), None);
        wear.count(10 * GIB);
        let total = wear.to_keep(Stops::No, now).unwrap().total_bytes;
        assert_eq!(wear.kept(total), None);
        assert_eq!((total, wear.to_keep(Stops::No, now)), (1010 * GIB, None));
    }

    #[test]
    fn what_cannot_be_kept_is_said_once_and_tried_later_and_later_and_once_more_at_the_end() {
        let mut wear = Wear::new(None, "card", "b", 0);
        wear.count(5 * GIB);
        let minutes = |minutes: u64| Tick(minutes * 60_000);
        // A look each 10 s for two days: at which minutes is it tried, and at which is a word said?
        let (mut tried, mut said) = (Vec::new(), Vec::new());
        for look in 0..2 * 24 * 360 {
            let now = Tick(look * 10_000);
            if wear.to_keep(Stops::No, now).is_some() {
                tried.push(now.0 / 60_000);
                said.extend(wear.not_kept(now).map(|word| (now.0 / 60_000, word)));
            }
        }
        assert_eq!(tried[..10], [0, 1, 3, 7, 15, 31, 63, 127, 255, 511]);
        assert_eq!((tried[10], tried.len(), said), (511 + 360, 16, vec![(0, Word::Unkept)]));
        let total = wear.to_keep(Stops::Yes, minutes(2 * 24 * 60)).unwrap().total_bytes;
        assert_eq!((wear.kept(total), wear.kept(total)), (Some(Word::KeptAgain), None));
        wear.count(9 * GIB);
        assert!(wear.to_keep(Stops::No, minutes(2 * 24 * 60)).is_some(), "it waits no more");
        assert_eq!(wear.not_kept(minutes(0)), Some(Word::Unkept), "another trouble is another word");
    }

    #[test]
    fn numbers_without_sense_do_no_harm() {
        let kept = Kept { device: "card".into(), boot_id: "b".into(), boot_bytes: u64::MAX, total_bytes: u64::MAX };
        let mut wear = Wear::new(Some(kept), "card", "b", 7);
        assert_eq!((wear.count(u64::MAX), wear.to_keep(Stops::Yes, Tick(0))), (u64::MAX, None));
    }
}
