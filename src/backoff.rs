//! A delay that doubles up to a cap, with jitter from a passed generator.
//!
//! Source: AWS architecture note "Exponential Backoff And Jitter", the "equal jitter" form, so that a delay is never
//! shorter than half of its nominal value.

use std::time::Duration;

use crate::rng::Rng;

/// How delays grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The first delay.
    pub first: Duration,
    /// No delay is longer.
    pub cap: Duration,
}

impl Policy {
    /// The nominal delay before attempt number `failures + 1`, for `failures` ≥ 1; zero before the first failure.
    #[must_use]
    pub fn delay(&self, failures: u32) -> Duration {
        if failures == 0 {
            return Duration::ZERO;
        }
        let factor = 1u32.checked_shl(failures - 1).unwrap_or(u32::MAX);
        self.first.checked_mul(factor).unwrap_or(self.cap).min(self.cap)
    }

    /// [`Policy::delay`], shortened at random by up to a half.
    pub fn jittered(&self, failures: u32, rng: &mut Rng) -> Duration {
        let full = self.delay(failures);
        let half = full / 2;
        half + half.mul_f64(rng.unit())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy { first: Duration::from_secs(1), cap: Duration::from_secs(60) };

    #[test]
    fn doubles_from_the_first_failure_up_to_the_cap() {
        let seconds: Vec<u64> = (0..9).map(|failures| POLICY.delay(failures).as_secs()).collect();
        assert_eq!(seconds, [0, 1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(POLICY.delay(u32::MAX), POLICY.cap);
    }

    #[test]
    fn jitter_keeps_at_least_half() {
        let mut rng = Rng::seeded(7, "test");
        for failures in 1..20 {
            let delay = POLICY.jittered(failures, &mut rng);
            assert!(delay >= POLICY.delay(failures) / 2 && delay <= POLICY.delay(failures));
        }
    }
}
