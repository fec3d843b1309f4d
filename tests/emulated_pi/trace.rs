//! What pins did, as it was sampled, and whether it is a pattern.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::wait_until;

/// The level of all pins at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub at: Instant,
    /// GPLEV0: bit N is pin N.
    pub levels: u32,
}

/// All samples of one machine. Clones share them.
#[derive(Clone, Default)]
pub struct Trace(Arc<Mutex<Vec<Sample>>>);

/// A time in which a pin did not change.
#[derive(Clone, Copy, PartialEq)]
pub struct Run {
    pub lit: bool,
    pub length: Duration,
}

impl std::fmt::Debug for Run {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}{}", if self.lit { '#' } else { '.' }, self.length.as_millis())
    }
}

impl Trace {
    pub fn push(&self, sample: Sample) {
        self.0.lock().unwrap().push(sample);
    }

    /// What a pin did from a moment on: lit and dark by turns. The first and the last time may have been longer.
    pub fn runs(&self, pin: u8, since: Instant) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        let mut last: Option<Sample> = None;
        for sample in self.0.lock().unwrap().iter().filter(|sample| sample.at >= since) {
            let lit = sample.levels >> pin & 1 == 1;
            match (runs.last_mut(), last) {
                // The change lies between the two samples.
                (Some(run), Some(before)) => {
                    let passed = sample.at - before.at;
                    if run.lit == lit {
                        run.length += passed;
                    } else {
                        run.length += passed / 2;
                        runs.push(Run { lit, length: passed / 2 });
                    }
                }
                _ => runs.push(Run { lit, length: Duration::ZERO }),
            }
            last = Some(*sample);
        }
        runs
    }

    /// All pins that were ever lit since a moment, as bits.
    pub fn ever_lit(&self, since: Instant) -> u32 {
        self.0.lock().unwrap().iter().filter(|sample| sample.at >= since).fold(0, |all, sample| all | sample.levels)
    }

    /// How many samples there are since a moment, and the longest time between two of them.
    pub fn quality(&self, since: Instant) -> (usize, Duration) {
        let samples = self.0.lock().unwrap();
        let samples: Vec<&Sample> = samples.iter().filter(|sample| sample.at >= since).collect();
        let longest = samples.windows(2).map(|pair| pair[1].at - pair[0].at).max().unwrap_or_default();
        (samples.len(), longest)
    }

    /// Waits until a pin has shown a pattern (milliseconds lit, dark, lit, …) so many times without a break; gives what was measured.
    #[track_caller]
    pub fn wait_pattern(&self, pin: u8, since: Instant, steps: &[u64], times: usize, most: Duration) -> Measured {
        wait_until(&format!("pin {pin} shows {steps:?} {times} times"), most, || {
            let runs = self.runs(pin, since);
            find(&runs, steps, times).ok_or_else(|| format!("{:?}", &runs[runs.len().saturating_sub(60)..]))
        })
    }

    /// Waits until a pin has been lit, or dark, for so long, and still is.
    #[track_caller]
    pub fn wait_steady(&self, pin: u8, since: Instant, lit: bool, length: Duration, most: Duration) {
        let word = if lit { "lit" } else { "dark" };
        wait_until(&format!("pin {pin} is steadily {word} for {length:?}"), most, || {
            let runs = self.runs(pin, since);
            let good = runs.last().is_some_and(|run| run.lit == lit && run.length >= length);
            if good { Ok(()) } else { Err(format!("{:?}", &runs[runs.len().saturating_sub(60)..])) }
        });
    }
}

/// A pattern that was seen.
#[derive(Debug, PartialEq)]
pub struct Measured {
    /// The middle of what was measured, for each step, in milliseconds.
    pub steps: Vec<u128>,
    /// The mean time of all steps together, in milliseconds.
    pub period: u128,
    /// The index of the first run.
    pub at: usize,
}

/// Where runs show a pattern: so often in a row that the middle of each step is as long as it should be, and the whole as well.
/// Single steps may be off: the guest shares this machine with others.
pub fn find(runs: &[Run], steps: &[u64], times: usize) -> Option<Measured> {
    let needed = steps.len() * times;
    // The first and the last were not seen whole.
    let whole = runs.get(1..runs.len().saturating_sub(1))?;
    whole.windows(needed).enumerate().find_map(|(index, window)| {
        if !window[0].lit {
            return None;
        }
        let middles: Vec<u128> = (0..steps.len())
            .map(|step| {
                let mut all: Vec<u128> = window[step..].iter().step_by(steps.len()).map(|run| run.length.as_millis()).collect();
                all.sort_unstable();
                all[all.len() / 2]
            })
            .collect();
        let total: Duration = window.iter().map(|run| run.length).sum();
        let period = total.as_millis() / times as u128;
        let near = |found: u128, wanted: u64, slack: u128| found.abs_diff(u128::from(wanted)) <= slack;
        let good = middles.iter().zip(steps).all(|(&found, &wanted)| near(found, wanted, 30 + u128::from(wanted) / 10));
        let whole: u64 = steps.iter().sum();
        (good && near(period, whole, 20 + u128::from(whole) / 10)).then_some(Measured { steps: middles, period, at: index + 1 })
    })
}

/// A pin's function: 000 input, 001 output, others a bus's (BCM2835 ARM Peripherals, table 6-2).
pub fn function(words: [u32; 6], pin: u8) -> u32 {
    words[usize::from(pin / 10)] >> (u32::from(pin % 10) * 3) & 7
}

/// The pins whose function is another than before: pin, before, now.
pub fn changed(before: [u32; 6], now: [u32; 6]) -> Vec<(u8, u32, u32)> {
    (0..54).map(|pin| (pin, function(before, pin), function(now, pin))).filter(|(_, before, now)| before != now).collect()
}

#[test]
fn a_pattern_is_found_among_others_and_not_taken_for_one_like_it() {
    let runs = |lengths: &[u64]| -> Vec<Run> {
        let runs = lengths.iter().enumerate();
        runs.map(|(index, &length)| Run { lit: index % 2 == 1, length: Duration::from_millis(length) }).collect()
    };
    let slow = runs(&[70, 512, 490, 505, 480, 3000, 100]);
    assert_eq!(find(&slow, &[500, 500], 2).unwrap(), Measured { steps: vec![512, 490], period: 993, at: 1 });
    assert_eq!(find(&slow, &[500, 500], 3), None, "it was seen twice only");
    assert_eq!(find(&slow, &[100, 100], 1), None);
    let double = runs(&[0, 150, 150, 150, 750, 150, 150, 150, 750, 9]);
    assert!(find(&double, &[150, 150, 150, 750], 2).is_some());
    assert_eq!(find(&double, &[100, 100], 2), None);
    assert_eq!(find(&runs(&[0, 300, 300, 300, 300, 9]), &[500, 500], 2), None);
    assert_eq!(find(&runs(&[0, 9]), &[500, 500], 1), None);
}

#[test]
fn the_pins_that_are_outputs_now_are_told_by_the_registers() {
    // Pin 17 became an output; pin 14 is what it was.
    assert_eq!(changed([0, 0x4000, 0, 0, 0, 0], [0, 0x20_4000, 0, 0, 0, 0]), [(17, 0, 1)]);
}
