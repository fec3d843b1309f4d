//! Pages of pods in turn, where there are more pods than LEDs and each is to be seen by itself.
//!
//! ```text
//!  page 1 ──(as long as a page lasts)──▶ mark ──(600 ms)──▶ page 2 ──▶ mark ──▶ … ──▶ page 1
//! ```
//! In:       how many pages there are, time.
//! Out:      which page is on, or the mark between two. During the mark the LEDs of pods are dark, so that a person can tell that the page
//!           was turned; an LED that has a crash loop on any page blinks fast instead: none is hidden for longer than a page lasts.
//! Never:    wakes anybody while there is one page.

use std::time::Duration;

use crate::clock::Tick;

/// Long enough to be seen, and three blinks of a crash loop.
const MARK: Duration = Duration::from_millis(600);

/// What is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// This page, from 0.
    Page(usize),
    /// Between this page and the next.
    Mark(usize),
}

impl Turn {
    /// The page that is on, or was.
    pub(super) fn page(self) -> usize {
        match self {
            Turn::Page(page) | Turn::Mark(page) => page,
        }
    }
}

/// The pages.
#[derive(Debug)]
pub(super) struct Pages {
    lasts: Duration,
    count: usize,
    turn: Turn,
    until: Tick,
}

impl Pages {
    /// One page.
    pub(super) fn new(lasts: Duration) -> Self {
        Self { lasts, count: 1, turn: Turn::Page(0), until: Tick(0) }
    }

    /// There are so many from now on. A page that is on stays, unless there is no such page any more.
    pub(super) fn set_count(&mut self, count: usize, now: Tick) {
        let count = count.max(1);
        if count == 1 || self.count == 1 || self.turn.page() >= count {
            (self.turn, self.until) = (Turn::Page(0), now.after(self.lasts));
        }
        self.count = count;
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Turns as far as it is time.
    pub(super) fn turn(&mut self, now: Tick) -> Turn {
        if self.count > 1 && now >= self.until {
            let round = u64::try_from((self.lasts + MARK).as_millis()).unwrap_or(u64::MAX);
            // Whoever slept through whole rounds of turns (a machine that was suspended) does not turn them one by one.
            if now.since(self.until).as_millis() > u128::from(round) {
                self.until = now;
            }
            while now >= self.until {
                let (turn, lasts) = match self.turn {
                    Turn::Page(page) => (Turn::Mark(page), MARK),
                    Turn::Mark(page) => (Turn::Page((page + 1) % self.count), self.lasts),
                };
                (self.turn, self.until) = (turn, self.until.after(lasts));
            }
        }
        self.turn
    }

    /// When it is time to turn.
    pub(super) fn next_wake(&self) -> Option<Tick> {
        (self.count > 1).then_some(self.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_page_is_on_in_its_turn_with_a_mark_between_two() {
        let mut pages = Pages::new(Duration::from_secs(4));
        pages.set_count(3, Tick(1000));
        let mut seen = Vec::new();
        for _ in 0..6 {
            let at = pages.next_wake().unwrap();
            seen.push((at.0, pages.turn(at)));
        }
        let expected = [
            (5000, Turn::Mark(0)),
            (5600, Turn::Page(1)),
            (9600, Turn::Mark(1)),
            (10_200, Turn::Page(2)),
            (14_200, Turn::Mark(2)),
            (14_800, Turn::Page(0)),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn one_page_never_wakes_anybody_and_a_page_that_is_no_more_is_not_shown() {
        let mut pages = Pages::new(Duration::from_secs(4));
        assert_eq!((pages.next_wake(), pages.turn(Tick(99_000))), (None, Turn::Page(0)));
        pages.set_count(3, Tick(0));
        assert_eq!((pages.turn(Tick(4_700)), pages.turn(Tick(9_300))), (Turn::Page(1), Turn::Page(2)));
        pages.set_count(5, Tick(9_400));
        assert_eq!(pages.turn(Tick(9_400)), Turn::Page(2), "a page more is no reason to begin anew");
        pages.set_count(2, Tick(9_500));
        assert_eq!((pages.turn(Tick(9_500)), pages.next_wake()), (Turn::Page(0), Some(Tick(13_500))));
        pages.set_count(0, Tick(9_600));
        assert_eq!((pages.turn(Tick(99_000)), pages.next_wake()), (Turn::Page(0), None));
    }

    #[test]
    fn who_slept_for_long_goes_on_with_the_next_turn() {
        let mut pages = Pages::new(Duration::from_secs(1));
        pages.set_count(2, Tick(0));
        let long = Tick(1 << 50);
        assert_eq!((pages.turn(long), pages.next_wake()), (Turn::Mark(0), Some(long.after(MARK))));
    }
}
