//! How much the device that the machine started from has been written since Bramble came to it, added up across boots.
//!
//! In:       what was kept, the device, the boot, and what the kernel counted in this boot.
//! Out:      the sum; whether it has grown enough to be kept anew.
//! Never:    writes for the sake of counting: what is kept is one small file, once a GiB (or a percent, if that is more) and at an
//!           orderly stop. A machine that writes nothing is not written to.
//!
//! A power cut loses what came after the last time it was kept: the sum is *at least* so much.

use serde::{Deserialize, Serialize};

/// The sum is kept when it has grown by so much: a file of one block, once a GiB, is nothing.
const GROWN_BYTES: u64 = 1 << 30;
/// At an orderly stop less is enough.
const AT_STOP_BYTES: u64 = 1 << 20;

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
        let mut wear = Self { kept_bytes: kept.total_bytes, newest: kept };
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

    /// What is to be kept now, if anything.
    #[must_use]
    pub fn to_keep(&self, stops: Stops) -> Option<&Kept> {
        let enough = match stops {
            Stops::No => GROWN_BYTES.max(self.kept_bytes / 100),
            Stops::Yes => AT_STOP_BYTES,
        };
        (self.newest.total_bytes - self.kept_bytes.min(self.newest.total_bytes) >= enough).then_some(&self.newest)
    }

    /// It is kept.
    pub fn kept(&mut self, total_bytes: u64) {
        self.kept_bytes = total_bytes;
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
        assert_eq!((wear.count(5 * GIB), wear.to_keep(Stops::Yes)), (5 * GIB, None), "nothing was written: nothing is written");
        assert_eq!(wear.count(5 * GIB + 7 * (GIB / 8)), 5 * GIB + 7 * (GIB / 8));
        assert_eq!(wear.to_keep(Stops::No), None);
        let kept = wear.to_keep(Stops::Yes).unwrap().clone();
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
        assert_eq!(wear.to_keep(Stops::No), None);
        wear.count(10 * GIB);
        let total = wear.to_keep(Stops::No).unwrap().total_bytes;
        wear.kept(total);
        assert_eq!((total, wear.to_keep(Stops::No)), (1010 * GIB, None));
    }

    #[test]
    fn numbers_without_sense_do_no_harm() {
        let kept = Kept { device: "card".into(), boot_id: "b".into(), boot_bytes: u64::MAX, total_bytes: u64::MAX };
        let mut wear = Wear::new(Some(kept), "card", "b", 7);
        assert_eq!((wear.count(u64::MAX), wear.to_keep(Stops::Yes)), (u64::MAX, None));
    }
}
