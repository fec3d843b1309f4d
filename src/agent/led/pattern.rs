//! The one table of patterns (DESIGN §11): what is lit at which moment.
//!
//! In:       a pattern and how long it has been shown.
//! Out:      lit or dark, and when that changes next.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How an LED burns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pattern {
    /// Dark: shows nothing.
    #[default]
    Off,
    /// Solid: ready.
    Solid,
    /// Slow blink: starting, or fetching an image.
    SlowBlink,
    /// Double blink: running and not ready.
    DoubleBlink,
    /// Fast blink: crash loop.
    FastBlink,
    /// Long, short: the node has lost its link.
    LongShort,
    /// As fast as can be drawn: somebody asked which board this is.
    Identify,
}

impl Pattern {
    /// Milliseconds lit, dark, lit, dark, …; then from the start. Empty: steady.
    const fn steps(self) -> &'static [u64] {
        match self {
            Pattern::Off | Pattern::Solid => &[],
            Pattern::SlowBlink => &[500, 500],
            Pattern::DoubleBlink => &[150, 150, 150, 750],
            Pattern::FastBlink => &[100, 100],
            Pattern::LongShort => &[800, 200, 200, 300],
            Pattern::Identify => &[50, 50],
        }
    }

    /// Whether it is lit after being shown for `elapsed`, and how long that stays so; `None`: for ever.
    #[must_use]
    pub fn at(self, elapsed: Duration) -> (bool, Option<Duration>) {
        let steps = self.steps();
        let period: u64 = steps.iter().sum();
        if period == 0 {
            return (self == Pattern::Solid, None);
        }
        let mut left = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX) % period;
        for (index, &step) in steps.iter().enumerate() {
            if left < step {
                return (index % 2 == 0, Some(Duration::from_millis(step - left)));
            }
            left -= step;
        }
        (false, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Pattern; 7] = [
        Pattern::Off,
        Pattern::Solid,
        Pattern::SlowBlink,
        Pattern::DoubleBlink,
        Pattern::FastBlink,
        Pattern::LongShort,
        Pattern::Identify,
    ];

    fn drawn(pattern: Pattern) -> String {
        (0..40).map(|step| if pattern.at(Duration::from_millis(step * 50)).0 { '#' } else { '.' }).collect()
    }

    #[test]
    fn each_pattern_looks_like_its_name() {
        assert_eq!(drawn(Pattern::Off), ".".repeat(40));
        assert_eq!(drawn(Pattern::Solid), "#".repeat(40));
        assert_eq!(drawn(Pattern::SlowBlink), "##########..........##########..........");
        assert_eq!(drawn(Pattern::DoubleBlink), "###...###...............###...###.......");
        assert_eq!(drawn(Pattern::FastBlink), "##..".repeat(10));
        assert_eq!(drawn(Pattern::LongShort), "################....####......##########");
    }

    #[test]
    fn nothing_is_drawn_faster_than_20_hz_and_nothing_steady_is_drawn_again() {
        for pattern in ALL {
            let (_, first) = pattern.at(Duration::ZERO);
            assert_eq!(first.is_none(), matches!(pattern, Pattern::Off | Pattern::Solid));
            for step in pattern.steps() {
                assert!(*step >= 50, "{pattern:?}");
            }
        }
    }
}
