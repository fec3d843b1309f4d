//! Watches the wall clock by the one that does not jump: a Pi has no battery for a clock, and begins in 1970, when systemd was built, or when
//! it was last switched off.
//!
//! In:       moments.
//! Out:      how the clock was put forward since the node began, for the master, which knows the time and puts right what people read; words.
//! Never:    decides anything about pods: every deadline runs on ticks, and the cluster's certificates are good from 1970 on.

pub mod run;

use std::time::Duration;

use crate::api::time::rfc3339;
use crate::clock::{Now, Wall};
use crate::link::message::{ClockJump, NodeClock};

/// A clock that differs from the ticks by less since the last look was slewed, or is a bad one; by more it was set.
const JUMP_MILLISECONDS: i64 = 10_000;
/// So many jumps are remembered: a time server makes one, people a few.
const MOST_JUMPS: usize = 8;

/// How the clock went since the node began.
#[derive(Clone, Debug)]
pub struct ClockWatch {
    began: Wall,
    /// What the wall shows more than the ticks.
    ahead: i64,
    jumps: Vec<ClockJump>,
}

impl ClockWatch {
    /// The node begins.
    #[must_use]
    pub fn begin(now: Now) -> Self {
        Self { began: now.wall, ahead: ahead(now), jumps: Vec::new() }
    }

    /// Looks whether the clock was set since the last look, and says it then.
    pub fn look(&mut self, now: Now) -> Option<String> {
        let by = ahead(now).saturating_sub(self.ahead);
        let showed = now.wall.0.saturating_sub(by);
        self.ahead = ahead(now);
        if by.saturating_abs() < JUMP_MILLISECONDS {
            return None;
        }
        // Of one that was put back it cannot be told which times are from before: the master lets none lie in the future.
        if by > 0 {
            if self.jumps.len() == MOST_JUMPS {
                self.jumps.remove(0);
            }
            self.jumps.push(ClockJump { until_milliseconds: showed, by_milliseconds: by });
        }
        let distance = Duration::from_secs(by.unsigned_abs() / 1000);
        let way = if by > 0 { "forward" } else { "back" };
        Some(format!("the clock was set from {} to {}, {distance:?} {way}", rfc3339(Wall(showed)), rfc3339(now.wall)))
    }

    /// What the master is told with each report.
    pub fn told(&mut self, now: Now) -> NodeClock {
        // A report may be the first after a jump; it is said at the next look anyway.
        let mut seen = self.clone();
        seen.look(now);
        NodeClock { shows_milliseconds: now.wall.0, began_milliseconds: self.began.0, jumps: seen.jumps }
    }
}

fn ahead(now: Now) -> i64 {
    now.wall.0.saturating_sub(i64::try_from(now.tick.0).unwrap_or(i64::MAX))
}

/// Why a clock is not trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// It shows a time in which there was no Bramble.
    NotSet,
    /// systemd's time service runs, and has no answer yet.
    NotSynchronized,
}

/// What a person is told of a clock that is in doubt.
#[must_use]
pub fn words(doubt: Doubt, wall: Wall) -> String {
    let shown = rfc3339(wall);
    let what = match doubt {
        Doubt::NotSet => format!("the clock is not set, it shows {shown}"),
        Doubt::NotSynchronized => format!("no time server has answered yet, the clock shows {shown}"),
    };
    format!(
        "{what}: the node joins and runs pods all the same, and the master puts its times right; registries may refuse until the time is known"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Tick;

    fn now(tick: u64, wall: i64) -> Now {
        Now { tick: Tick(tick), wall: Wall(wall) }
    }

    #[test]
    fn a_jump_is_what_the_wall_went_further_than_the_ticks() {
        let mut watch = ClockWatch::begin(now(1_000, 60_000));
        assert_eq!(watch.look(now(6_000, 65_000)), None);
        let set = Wall::WRITTEN.0 + 5_000_000;
        // A report that is made before anybody looked.
        let jump = ClockJump { until_milliseconds: 70_000, by_milliseconds: set - 70_000 };
        let told = NodeClock { shows_milliseconds: set, began_milliseconds: 60_000, jumps: vec![jump] };
        assert_eq!(watch.told(now(11_000, set)), told);
        let words = watch.look(now(11_000, set)).unwrap();
        assert!(words.starts_with("the clock was set from 1970-01-01T00:01:10Z to 2026-01-01T01:23:20Z"), "{words}");
        assert_eq!(watch.look(now(21_000, set + 10_000)), None, "once");
        assert_eq!(watch.told(now(21_000, set + 10_000)).jumps, [jump], "for as long as the process lives");
    }

    #[test]
    fn a_clock_that_is_slewed_a_whole_day_never_jumps() {
        let mut watch = ClockWatch::begin(now(0, Wall::WRITTEN.0));
        // 500 ppm, the most that the kernel does: 43 s a day.
        for look in 1..8640u64 {
            let wall = i64::try_from(look * 10_005).unwrap();
            assert_eq!(watch.look(now(look * 10_000, Wall::WRITTEN.0 + wall)), None);
        }
        assert!(watch.told(now(86_400_000, Wall::WRITTEN.0 + 86_443_200)).jumps.is_empty());
    }

    #[test]
    fn a_clock_that_is_put_back_is_said_and_tells_nothing_of_times_before() {
        let mut watch = ClockWatch::begin(now(0, Wall::WRITTEN.0 + 3_600_000));
        let words = watch.look(now(1_000, Wall::WRITTEN.0 + 1_000)).unwrap();
        assert!(words.ends_with("3600s back"), "{words}");
        assert!(watch.told(now(1_000, Wall::WRITTEN.0 + 1_000)).jumps.is_empty());
    }

    #[test]
    fn a_clock_that_is_set_again_and_again_fills_no_memory() {
        let mut watch = ClockWatch::begin(now(0, 0));
        for jump in 1..100 {
            assert!(watch.look(now(0, jump * 60_000)).is_some());
        }
        let told = watch.told(now(0, 99 * 60_000));
        assert_eq!((told.jumps.len(), told.jumps[7].by_milliseconds), (MOST_JUMPS, 60_000));
    }
}
