//! One probe of one run of a container: when it is asked, and what its answers amount to.
//!
//! In:       the probe, the container's start, answers, `now`.
//! Out:      whether to ask now, when to look again, and a `Turn` when the answers amount to something new.
//! Never:    knows what follows from it (`watch.rs`).
//! Source:   the kubelet's prober/worker.go. We differ in five things: what is due at the container's start is due then, and
//!           not at the next beat of a clock that began with the pod; the spread over time is at most a second for the probes
//!           that somebody waits for (startup, readiness) and a whole period for liveness; an answer that never comes is given
//!           up, so that nothing can silence a probe; readiness over the network is asked at once, and while the server is still
//!           starting a few times soon after, which does not count; and what is asked over the network keeps a beat of the node
//!           (a tenth of its period, at most a second), so that fifty pods wake it once a second and not ten times.
//!
//! ```text
//!   start ── initial delay ── spread ──▶ ask ──(period)──▶ ask ──(period)──▶ …
//!                                         └─▶ answer: so many alike in a row turn the verdict
//! ```

use std::time::Duration;

use crate::agent::pods::spec::{Action, Probe};
use crate::clock::Tick;

use super::{Kind, Sign};

/// The most that the first readiness and startup probes of containers that start together are spread by.
const SPREAD: Duration = Duration::from_secs(1);
/// Askings over the network are moved by half as much at most, so that they meet.
const BEAT: Duration = Duration::from_secs(1);
/// How long after bad answers a server that has just been started is asked again.
static SOON: [Duration; 4] =
    [Duration::from_millis(100), Duration::from_millis(200), Duration::from_millis(400), Duration::from_millis(800)];
/// An answer that is so much later than its time-out is not coming: the runtime's own time-outs are below.
const LOST: Duration = Duration::from_secs(180);

/// What answers amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not enough of them yet.
    Open,
    /// Enough good ones in a row.
    Well,
    /// Enough bad ones in a row.
    Ill,
}

/// One probe's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    verdict: Verdict,
    /// The next asking; while a question is out: when it is given up.
    due: Tick,
    /// The question that is out, and since when.
    flight: Option<(u64, Tick)>,
    /// What the last answers were, and how many alike in a row.
    streak: Option<(bool, u32)>,
    answered: bool,
    /// What is left of [`SOON`].
    soon: &'static [Duration],
}

impl Worker {
    /// A worker for a container that has run for `ran`; `chance` in `0.0..1.0` spreads it.
    #[must_use]
    pub fn new(kind: Kind, probe: &Probe, ran: Duration, now: Tick, chance: f64) -> Self {
        let most = match kind {
            Kind::Liveness => probe.period,
            Kind::Readiness if over_network(probe) => Duration::ZERO,
            Kind::Startup | Kind::Readiness => probe.period.min(SPREAD),
        };
        let soon: &[Duration] = if kind == Kind::Readiness && over_network(probe) { &SOON } else { &[] };
        let due = now.after(probe.initial_delay.saturating_sub(ran)).after(most.mul_f64(chance.clamp(0.0, 1.0)));
        Self { verdict: Verdict::Open, due, flight: None, streak: None, answered: false, soon }
    }

    /// A worker whose answer is awaited: it is asked as soon as its delay is over.
    #[must_use]
    pub fn awaited(probe: &Probe, ran: Duration, now: Tick) -> Self {
        let due = now.after(probe.initial_delay.saturating_sub(ran));
        Self { verdict: Verdict::Open, due, flight: None, streak: None, answered: false, soon: &[] }
    }

    /// What is known.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Whether any answer has come, of whatever kind.
    #[must_use]
    pub fn answered(&self) -> bool {
        self.answered
    }

    /// When it has something to do.
    #[must_use]
    pub fn due(&self) -> Tick {
        self.due
    }

    /// Asks under this number, if it is time.
    pub fn ask(&mut self, probe: &Probe, now: Tick, number: u64) -> bool {
        if self.due > now {
            return false;
        }
        self.flight = Some((number, now));
        self.due = now.after(probe.timeout).after(LOST);
        true
    }

    /// Takes in an answer; `None`: it is late, or changes nothing. Good and bad ones count only in a row; an error counts as
    /// neither and leaves the row as it is.
    pub fn answer(&mut self, probe: &Probe, now: Tick, number: u64, sign: &Sign) -> Option<Verdict> {
        let (_, asked) = self.flight.take_if(|(out, _)| *out == number)?;
        self.due = next(probe, asked).max(now);
        self.answered = true;
        let good = match sign {
            Sign::Good | Sign::Warning(_) => true,
            Sign::Bad(_) => false,
            Sign::Errored(_) => return None,
        };
        match self.soon.split_first() {
            Some((pause, rest)) if !good => {
                self.soon = rest;
                self.due = self.due.min(now.after(*pause));
                return None;
            }
            _ => self.soon = &[],
        }
        let alike = match self.streak {
            Some((before, alike)) if before == good => alike.saturating_add(1),
            _ => 1,
        };
        self.streak = Some((good, alike));
        let (enough, verdict) =
            if good { (probe.success_threshold, Verdict::Well) } else { (probe.failure_threshold, Verdict::Ill) };
        if alike < enough || self.verdict == verdict {
            return None;
        }
        self.verdict = verdict;
        Some(verdict)
    }

    /// How many more bad answers are put down to a server that is still starting.
    #[must_use]
    pub fn lenient(&self) -> usize {
        self.soon.len()
    }

    /// How many bad answers came in a row.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.streak.filter(|(good, _)| !good).map_or(0, |(_, alike)| alike)
    }
}

/// A command costs processes, which had better not start all at once; a call over the network costs next to nothing but its wake.
fn over_network(probe: &Probe) -> bool {
    !matches!(probe.action, Action::Exec(_))
}

/// A period after it was asked, on the beat if it keeps one.
fn next(probe: &Probe, asked: Tick) -> Tick {
    let due = asked.after(probe.period);
    let beat = if over_network(probe) { u64::try_from((probe.period / 10).min(BEAT).as_millis()).unwrap_or(1) } else { 1 };
    let beat = beat.max(1);
    Tick(due.0.saturating_add(beat / 2) / beat * beat)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn probe(success: u32, failure: u32) -> Probe {
        Probe {
            action: Action::Exec(vec!["true".into()]),
            initial_delay: Duration::from_secs(5),
            period: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            success_threshold: success,
            failure_threshold: failure,
            grace: None,
        }
    }

    fn bad() -> Sign {
        Sign::Bad("no".into())
    }

    #[test]
    fn the_first_time_is_after_the_delay_and_spread_by_kind() {
        let probe = probe(1, 3);
        for (kind, chance, due) in [
            (Kind::Readiness, 0.0, 6000),
            (Kind::Readiness, 0.5, 6500),
            (Kind::Startup, 1.0, 7000),
            (Kind::Liveness, 0.5, 11_000),
            (Kind::Liveness, 1.0, 16_000),
        ] {
            assert_eq!(Worker::new(kind, &probe, Duration::ZERO, Tick(1000), chance).due(), Tick(due), "{kind:?} {chance}");
        }
        // A delay that is over does not send it into the past.
        let (long, short) = (Duration::from_secs(60), Duration::from_secs(2));
        assert_eq!(Worker::new(Kind::Readiness, &probe, long, Tick(500), 0.0).due(), Tick(500));
        assert_eq!(Worker::awaited(&probe, long, Tick(500)).due(), Tick(500));
        assert_eq!(Worker::awaited(&probe, short, Tick(500)).due(), Tick(3500));
        let quick = Probe { period: Duration::from_millis(100), ..probe };
        assert_eq!(Worker::new(Kind::Readiness, &quick, Duration::ZERO, Tick(0), 1.0).due(), Tick(5100));
    }

    #[test]
    fn it_keeps_its_beat_and_a_slow_answer_is_followed_at_once() {
        let probe = probe(1, 3);
        let mut worker = Worker::new(Kind::Readiness, &probe, Duration::ZERO, Tick(0), 0.0);
        assert!(!worker.ask(&probe, Tick(4999), 1));
        assert!(worker.ask(&probe, Tick(5000), 1));
        assert!(!worker.ask(&probe, Tick(5001), 2), "one question at a time");
        assert_eq!(worker.answer(&probe, Tick(5400), 1, &Sign::Good), Some(Verdict::Well));
        assert_eq!(worker.due(), Tick(15_000));
        assert!(worker.ask(&probe, Tick(15_000), 2));
        assert_eq!(worker.answer(&probe, Tick(31_000), 2, &Sign::Good), None);
        assert_eq!(worker.due(), Tick(31_000));
    }

    #[test]
    fn an_answer_that_never_comes_is_given_up_and_is_late_when_it_comes() {
        let probe = probe(1, 1);
        let mut worker = Worker::new(Kind::Liveness, &probe, Duration::ZERO, Tick(0), 0.0);
        assert!(worker.ask(&probe, Tick(5000), 1));
        assert_eq!(worker.due(), Tick(186_000));
        assert!(worker.ask(&probe, Tick(186_000), 2));
        assert_eq!(worker.answer(&probe, Tick(186_001), 1, &bad()), None);
        assert_eq!(worker.answer(&probe, Tick(186_001), 2, &bad()), Some(Verdict::Ill));
    }

    fn call(period: Duration) -> Probe {
        Probe { action: Action::Tcp { host: None, port: 80 }, initial_delay: Duration::ZERO, period, ..probe(1, 3) }
    }

    #[test]
    fn calls_over_the_network_come_to_a_beat_and_keep_their_period() {
        for (period, first, dues) in [(10_000, 3456, [13_000, 23_000, 33_000]), (1000, 3456, [4500, 5500, 6500])] {
            let probe = call(Duration::from_millis(period));
            let mut worker = Worker::new(Kind::Liveness, &probe, Duration::ZERO, Tick(first), 0.0);
            for due in dues {
                // The wake is a little late, each time.
                let now = Tick(worker.due().0 + 3);
                assert!(worker.ask(&probe, now, 1));
                worker.answer(&probe, now, 1, &Sign::Good);
                assert_eq!(worker.due(), Tick(due));
            }
        }
    }

    #[test]
    fn a_server_that_is_still_starting_is_asked_again_soon_and_that_does_not_count() {
        let probe = call(Duration::from_secs(10));
        let mut worker = Worker::new(Kind::Readiness, &probe, Duration::ZERO, Tick(1000), 0.9);
        for due in [1000, 1100, 1300, 1700, 2500] {
            assert_eq!((worker.due(), worker.failures()), (Tick(due), 0));
            assert!(worker.ask(&probe, worker.due(), due));
            assert_eq!(worker.answer(&probe, Tick(due), due, &bad()), None);
        }
        assert_eq!((worker.due(), worker.failures()), (Tick(13_000), 1));
        let mut worker = Worker::new(Kind::Readiness, &probe, Duration::ZERO, Tick(1000), 0.9);
        assert!(worker.ask(&probe, Tick(1000), 1));
        assert_eq!(worker.answer(&probe, Tick(1000), 1, &Sign::Good), Some(Verdict::Well));
        assert!(worker.ask(&probe, Tick(11_000), 2));
        worker.answer(&probe, Tick(11_000), 2, &bad());
        assert_eq!((worker.due(), worker.failures()), (Tick(21_000), 1), "once it was well every answer counts");
    }

    /// Answers in order (good, bad, error) and what each turns the verdict to.
    #[test]
    fn so_many_in_a_row_turn_it() {
        let (g, b, e) = (Sign::Good, bad(), Sign::Errored("away".into()));
        let (well, ill) = (Some(Verdict::Well), Some(Verdict::Ill));
        let warning = Sign::Warning("elsewhere".into());
        for (success, failure, row) in [
            (1, 3, vec![(&b, None), (&b, None), (&b, ill), (&b, None), (&g, well), (&b, None)]),
            (1, 3, vec![(&b, None), (&b, None), (&g, well), (&b, None), (&b, None), (&g, None), (&b, None)]),
            (3, 1, vec![(&g, None), (&g, None), (&b, ill), (&g, None), (&g, None), (&g, well)]),
            (1, 2, vec![(&g, well), (&b, None), (&e, None), (&b, ill)]),
            (1, 1, vec![(&e, None), (&warning, well), (&e, None), (&b, ill)]),
        ] {
            let probe = probe(success, failure);
            let mut worker = Worker::new(Kind::Readiness, &probe, Duration::ZERO, Tick(0), 0.0);
            for (index, (sign, turn)) in row.into_iter().enumerate() {
                let now = worker.due();
                assert!(worker.ask(&probe, now, index as u64));
                assert_eq!(worker.answer(&probe, now, index as u64, sign), turn, "{success} {failure} answer {index}");
            }
        }
    }

    proptest! {
        /// Whatever the answers, in time or late: nothing is ill before so many bad ones in a row, and then it is.
        #[test]
        fn never_ill_before_the_threshold(failure in 1u32..5, answers in prop::collection::vec((0u8..3, any::<bool>()), 0..80)) {
            let probe = probe(1, failure);
            let mut worker = Worker::new(Kind::Liveness, &probe, Duration::ZERO, Tick(0), 0.0);
            let mut row = 0;
            for (index, (what, late)) in answers.into_iter().enumerate() {
                let number = index as u64;
                let now = worker.due();
                prop_assert!(worker.ask(&probe, now, number));
                let sign = match what { 0 => Sign::Good, 1 => bad(), _ => Sign::Errored(String::new()) };
                if late {
                    prop_assert_eq!(worker.answer(&probe, now, number.wrapping_sub(1), &bad()), None);
                }
                let turn = worker.answer(&probe, now, number, &sign);
                match sign { Sign::Bad(_) => row += 1, Sign::Good => row = 0, _ => {} }
                prop_assert_eq!(worker.failures(), row);
                prop_assert_eq!(turn == Some(Verdict::Ill), row == failure && matches!(sign, Sign::Bad(_)));
            }
        }
    }
}
