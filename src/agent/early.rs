//! A clock that is not set: a Pi has no battery for one, and begins in 1970, or when it was last switched off.
//!
//! In:       the moment in which the node began, and this one.
//! Out:      how wrong the clock was, for the master, which knows the time and puts right what people read; words for the log.
//! Never:    decides anything about pods: every deadline runs on ticks, and the cluster's certificates are good from 1970 on.

pub mod run;

use crate::api::time::rfc3339;
use crate::clock::{Now, Wall};
use crate::link::message::Early;

/// When the node began, if its clock was not set then.
#[derive(Clone, Copy, Debug)]
pub struct Began(Option<Now>);

impl Began {
    /// The node begins.
    #[must_use]
    pub fn at(now: Now) -> Self {
        Self((!now.wall.is_set()).then_some(now))
    }

    /// How wrong the clock is, or was. What was set meanwhile is seen by the ticks, which do not jump.
    #[must_use]
    pub fn early(self, now: Now) -> Option<Early> {
        let began = self.0?;
        if !now.wall.is_set() {
            return Some(Early::ShowsMilliseconds(now.wall.0));
        }
        let passed = i64::try_from(now.tick.since(began.tick).as_millis()).unwrap_or(i64::MAX);
        Some(Early::ByMilliseconds(now.wall.0.saturating_sub(began.wall.0).saturating_sub(passed)))
    }
}

/// What a person is told of a clock that is not set.
#[must_use]
pub fn words(wall: Wall) -> String {
    format!(
        "the clock is not set, it shows {}: the node joins and runs pods all the same, and the master puts its times right; registries may refuse until a time server answers",
        rfc3339(wall)
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
    fn the_jump_is_what_the_wall_went_further_than_the_ticks() {
        let began = Began::at(now(1_000, 60_000));
        assert_eq!(began.early(now(6_000, 65_000)), Some(Early::ShowsMilliseconds(65_000)));
        let true_time = Wall::WRITTEN.0 + 5_000_000;
        let set = Some(Early::ByMilliseconds(true_time - 70_000));
        assert_eq!(began.early(now(11_000, true_time)), set);
        assert_eq!(began.early(now(21_000, true_time + 10_000)), set, "for as long as the process lives");
    }

    #[test]
    fn of_a_clock_that_was_right_nothing_is_said() {
        let began = Began::at(now(0, Wall::WRITTEN.0));
        assert_eq!(began.early(now(5, Wall::WRITTEN.0 + 5)), None);
        assert_eq!(began.early(now(5, 0)), None, "and nobody sets one back to 1970");
    }
}
