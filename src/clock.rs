//! Time as a value.
//!
//! Deciders never read a clock: they are given [`Now`]. Two times, two types: a [`Tick`] is monotonic and serves every
//! deadline and age; a [`Wall`] is only for what people read, because a Pi has no battery clock and its wall time
//! jumps at the first NTP answer.
//!
//! Never:    sleeps (that is the hand that owns the wait).

use std::time::Duration;

/// Milliseconds on the monotonic clock of one process; meaningless outside of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(pub u64);

impl Tick {
    /// The tick `after` this one; saturates.
    #[must_use]
    pub fn after(self, delay: Duration) -> Tick {
        Tick(self.0.saturating_add(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long ago `earlier` was; zero when it lies in the future.
    #[must_use]
    pub fn since(self, earlier: Tick) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Milliseconds since 1970-01-01 UTC, as far as this machine knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Wall(pub i64);

impl Wall {
    /// 2026-01-01T00:00:00Z. A clock that shows less was never set: there was no Bramble before.
    pub const WRITTEN: Wall = Wall(1_767_225_600_000);

    /// Whether the clock that shows this may be right.
    #[must_use]
    pub fn is_set(self) -> bool {
        self >= Wall::WRITTEN
    }

    /// How long ago `earlier` was, as far as these two can tell: nothing when it lies in the future, or was read from a clock that was
    /// set only later.
    #[must_use]
    pub fn since(self, earlier: Wall) -> Duration {
        if self.is_set() != earlier.is_set() {
            return Duration::ZERO;
        }
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or_default())
    }
}

/// One moment on both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For deadlines and ages.
    pub tick: Tick,
    /// For what people read.
    pub wall: Wall,
}

/// Where hands get [`Now`] from.
pub trait Clock: Send + Sync + 'static {
    /// This moment.
    fn now(&self) -> Now;
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    base: tokio::time::Instant,
}

impl SystemClock {
    /// Starts the monotonic clock at tick 0.
    #[must_use]
    pub fn start() -> Self {
        Self { base: tokio::time::Instant::now() }
    }

    /// Waits until `tick`, or for ever when there is none. Safe to drop half way.
    pub async fn sleep_until(&self, tick: Option<Tick>) {
        match tick {
            // One millisecond more, so that the tick has come when we wake: the timer rounds down.
            Some(Tick(ms)) => tokio::time::sleep_until(self.base + Duration::from_millis(ms.saturating_add(1))).await,
            None => std::future::pending().await,
        }
    }
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // the one place
    fn now(&self) -> Now {
        let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Now {
            tick: Tick(u64::try_from(self.base.elapsed().as_millis()).unwrap_or(u64::MAX)),
            wall: Wall(i64::try_from(wall.as_millis()).unwrap_or(i64::MAX)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_meanwhile_does_not_tell_how_long_ago_something_was() {
        let (minute, today) = (Duration::from_secs(60), Wall(Wall::WRITTEN.0 + 3_600_000));
        assert_eq!(Wall(90_000).since(Wall(30_000)), minute, "in 1970, both");
        assert_eq!(today.since(Wall(today.0 - 60_000)), minute);
        assert_eq!(today.since(Wall(30_000)), Duration::ZERO, "56 years");
        assert_eq!(Wall(30_000).since(today), Duration::ZERO, "set back");
        assert_eq!(Wall(30_000).since(Wall(90_000)), Duration::ZERO, "in the future");
    }

    #[test]
    fn the_year_before_bramble_was_written_is_no_time() {
        // 2025-12-31T23:59:59.999Z, one millisecond before.
        assert!(!Wall(Wall::WRITTEN.0 - 1).is_set() && Wall::WRITTEN.is_set() && !Wall(0).is_set());
    }
}
