//! What a board suffers: too little voltage, a processor that is slowed down, heat. Judged over time, so that nothing flaps.
//!
//! In:       readings, and when they were taken.
//! Out:      a [`Strain`] for the node's conditions, and what has been since the machine was started.
//! Never:    reads a sensor (`sysinfo/`).
//!
//! ```text
//!   well ──── one sign ───▶ there ──── no sign for `clears` ───▶ well
//!     └──────── no reading for `clears` ───▶ unknown ◀──────────┘        (heat: 5 °C below the limit is no sign any more)
//! ```
//!
//! A dip of the voltage lasts milliseconds, and comes again with the next peak of load: one sign is enough, and it has to stay away
//! for a while. A sign is a flag of now; one that was, if the firmware was made to forget what is older than seconds, or if it was
//! not there at the look before.

use std::time::Duration;

use super::hardware::{Flag, Hardware, SLOWS, Throttle};
use crate::clock::Tick;

/// So much below the limit it has to be before it is no longer hot. Source: the firmware's own throttling has no such gap, and a
/// board that is throttled at 80 °C swings by two or three degrees around that.
const COOLER_CELSIUS: f32 = 5.0;

/// What there is of each. `None`: not known, or there is no such sensor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strain {
    /// The supply is too weak.
    pub under_voltage: Option<bool>,
    /// The processor is slowed down.
    pub throttled: Option<bool>,
    /// It is hotter than its board should be.
    pub hot: Option<bool>,
}

/// One of the three, over time.
#[derive(Clone, Copy, Debug, Default)]
struct Trouble {
    /// The last sign of it.
    last: Option<Tick>,
    /// The last reading.
    read: Option<Tick>,
}

impl Trouble {
    /// What there is after a look that found a sign, found none, or found nothing to read.
    fn after(&mut self, now: Tick, sign: Option<bool>, clears: Duration) -> Option<bool> {
        if sign.is_some() {
            self.read = Some(now);
        }
        // One that cannot be read for a moment is what it was.
        if self.read.is_none_or(|read| now.since(read) > clears) {
            *self = Self::default();
            return None;
        }
        if sign == Some(true) {
            self.last = Some(now);
        } else if self.last.is_some_and(|last| now.since(last) >= clears) {
            self.last = None;
        }
        Some(self.last.is_some())
    }
}

/// What a board suffers, over time.
#[derive(Clone, Debug)]
pub struct Judge {
    hot_celsius: f32,
    clears: Duration,
    under_voltage: Trouble,
    throttled: Trouble,
    heat: Trouble,
    hot: bool,
    previous: Option<Throttle>,
    since_boot: Option<u32>,
}

impl Judge {
    /// Nothing was seen yet. From `hot_celsius` on it is too hot; a trouble is over when there was no sign of it for `clears`.
    #[must_use]
    pub fn new(hot_celsius: f32, clears: Duration) -> Self {
        let none = Trouble::default();
        Self {
            hot_celsius,
            clears,
            under_voltage: none,
            throttled: none,
            heat: none,
            hot: false,
            previous: None,
            since_boot: None,
        }
    }

    /// What there is after a look.
    pub fn after(&mut self, now: Tick, hardware: &Hardware) -> Strain {
        let throttle = hardware.throttle;
        let previous = self.previous;
        let sign = |flag: Flag| {
            throttle.map(|throttle| {
                let news = throttle.forgets || previous.is_some_and(|previous| !previous.before(flag));
                throttle.now(flag) || (throttle.before(flag) && news)
            })
        };
        let slows = throttle.map(|_| SLOWS.into_iter().any(|flag| sign(flag) == Some(true)));
        if let Some(Throttle { bits, .. }) = throttle {
            *self.since_boot.get_or_insert_default() |= (bits | bits >> 16) & 0xf;
            self.previous = throttle;
        }
        let hot = hardware.temperature_celsius.map(|celsius| {
            self.hot = celsius >= self.hot_celsius || (self.hot && celsius >= self.hot_celsius - COOLER_CELSIUS);
            self.hot
        });
        Strain {
            under_voltage: self.under_voltage.after(now, sign(Flag::UnderVoltage), self.clears),
            throttled: self.throttled.after(now, slows, self.clears),
            hot: self.heat.after(now, hot, self.clears),
        }
    }

    /// Whether it has been so since the machine was started, as far as the firmware remembers and this judge has seen. `None` when
    /// nothing was ever read.
    #[must_use]
    pub fn since_boot(&self, flag: Flag) -> Option<bool> {
        self.since_boot.map(|bits| bits & (1 << flag as u32) != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLEARS: Duration = Duration::from_secs(60);

    fn firmware(bits: u32, forgets: bool) -> Hardware {
        Hardware { throttle: Some(Throttle { bits, forgets }), ..Hardware::default() }
    }

    /// Under-voltage and throttling after each look, as one letter each: `U`, `T` when there, `-` when well, `?` when not known.
    fn looks(forgets: bool, looks: &[(u64, Option<u32>)]) -> String {
        let mut judge = Judge::new(80.0, CLEARS);
        let letter = |known: Option<bool>, there| known.map_or('?', |is| if is { there } else { '-' });
        let told = looks.iter().map(|&(second, bits)| {
            let hardware = bits.map_or_else(Hardware::default, |bits| firmware(bits, forgets));
            let strain = judge.after(Tick(second * 1000), &hardware);
            format!("{}{}", letter(strain.under_voltage, 'U'), letter(strain.throttled, 'T'))
        });
        told.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_dip_is_told_at_once_and_is_over_after_a_minute_without_another() {
        let dip = [(0, Some(0)), (10, Some(1)), (20, Some(0)), (60, Some(0)), (65, Some(5)), (124, Some(0)), (125, Some(0))];
        assert_eq!(looks(false, &dip), "-- U- U- U- UT UT --");
    }

    #[test]
    fn a_dip_between_two_looks_is_seen_by_what_the_firmware_remembers() {
        // It was so before the first look, nobody knows when: that is history. What is new at the next look is not.
        let seen = [(0, Some(0x5_0000)), (10, Some(0x5_0000)), (20, Some(0x7_0000)), (80, Some(0x7_0000))];
        assert_eq!(looks(false, &seen), "-- -- -T --");
        let first = [(0, Some(0)), (10, Some(0x1_0000)), (70, Some(0x1_0000))];
        assert_eq!(looks(false, &first), "-- U- --");
        // With the kernel's driver the firmware remembers the last two seconds only.
        assert_eq!(looks(true, &[(0, Some(0x1_0000)), (10, Some(0)), (69, Some(0)), (70, Some(0))]), "U- U- -- --");
    }

    #[test]
    fn a_sensor_that_is_silent_for_a_moment_changes_nothing_and_then_nobody_knows() {
        assert_eq!(
            looks(false, &[(0, None), (10, Some(1)), (20, None), (70, None), (71, None), (80, Some(0))]),
            "?? U- U- -- ?? --"
        );
    }

    #[test]
    fn heat_has_two_limits_and_a_pause() {
        let mut judge = Judge::new(80.0, CLEARS);
        let mut hot = |second: u64, celsius: f32| {
            let hardware = Hardware { temperature_celsius: Some(celsius), ..Hardware::default() };
            judge.after(Tick(second * 1000), &hardware).hot.unwrap()
        };
        let seen = [(0, 79.9), (10, 80.0), (20, 75.0), (100, 76.0), (110, 74.9), (159, 79.0), (160, 79.0), (170, 80.5)]
            .map(|(second, celsius)| hot(second, celsius));
        assert_eq!(seen, [false, true, true, true, true, true, false, true]);
    }

    #[test]
    fn what_was_since_boot_is_kept_though_the_firmware_forgets() {
        let mut judge = Judge::new(80.0, CLEARS);
        assert_eq!(judge.since_boot(Flag::UnderVoltage), None);
        for (second, bits) in [(0, 0x8_0000), (10, 0x1_0001), (20, 0)] {
            judge.after(Tick(second * 1000), &firmware(bits, true));
        }
        let seen = [Flag::UnderVoltage, Flag::Capped, Flag::Throttled, Flag::SoftLimit].map(|flag| judge.since_boot(flag));
        assert_eq!(seen, [Some(true), Some(false), Some(false), Some(true)]);
    }
}
