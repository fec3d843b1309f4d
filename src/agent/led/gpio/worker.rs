//! Hands: a thread for each part of a board's LEDs, so that a bus that is slow or gone holds up nobody.
//!
//! ```text
//! show ──▶ newest frame (one slot) ──▶ thread ──▶ Part::show ──▶ bus
//!   ▲                                    │
//!   └────────── what failed last ◀───────┘   tried again after 1, 2, 4 … 30 s, and with it what could not be opened
//! ```
//!
//! A thread waits for a frame; while nothing changes and nothing is broken it does not wake.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::super::{DriverError, Light};
use crate::clock::{Clock, SystemClock};

/// The first wait after a failure.
const FIRST: Duration = Duration::from_secs(1);
/// The longest: a HAT that is plugged in later burns after so long at most.
const LONGEST: Duration = Duration::from_secs(30);

/// Whether what is not open may be opened: that may take as long as a bus takes to give up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    /// Opens what is not open.
    Open,
    /// Leaves that closed.
    AsIs,
}

/// LEDs that are driven together. May block.
pub(super) trait Part: Send {
    /// Shows lights, one for each of its LEDs. What cannot be shown does not darken the others.
    fn show(&mut self, lights: &[Light], attempt: Attempt) -> Result<(), DriverError>;

    /// Whether any of its LEDs burns when it should.
    fn works(&self) -> bool;

    /// Another program had its LEDs meanwhile: nothing is open any more, and what they show is not known. Touches none.
    fn forget(&mut self);

    /// All dark, and what was taken is given back.
    fn leave(&mut self);
}

/// A part in its thread.
pub(super) struct Worker {
    shared: Arc<Shared>,
    /// Which lights of the board's frame are its own.
    lights: Vec<usize>,
    last: Vec<Light>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    bell: Condvar,
}

#[derive(Default)]
struct State {
    newest: Option<Vec<Light>>,
    /// Another program had the LEDs.
    anew: bool,
    fault: Option<DriverError>,
    works: bool,
    ends: bool,
    ended: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Worker {
    /// Opens the part, all dark, and gives it its thread. What fails here is its first fault.
    pub(super) fn start(mut part: Box<dyn Part>, lights: Vec<usize>) -> Self {
        let last = vec![Light::DARK; lights.len()];
        let shared = Arc::new(Shared::default());
        {
            let fault = part.show(&last, Attempt::Open).err();
            let mut state = shared.lock();
            (state.fault, state.works) = (fault, part.works());
        }
        let (of_thread, dark) = (shared.clone(), last.clone());
        let thread = std::thread::Builder::new().name("leds".to_owned()).stack_size(128 << 10);
        if let Err(error) = thread.spawn(move || run(&of_thread, part.as_mut(), dark)) {
            let mut state = shared.lock();
            state.fault =
                Some(DriverError { words: format!("no thread for LEDs: {error}; the machine is short of memory or of threads") });
            state.ended = true;
        }
        Self { shared, lights, last }
    }

    /// Hands over the part's lights of a frame, if they changed.
    pub(super) fn post(&mut self, frame: &[Light]) {
        let own: Vec<Light> = self.lights.iter().map(|index| frame.get(*index).copied().unwrap_or_default()).collect();
        if own != self.last {
            self.last.clone_from(&own);
            self.shared.lock().newest = Some(own);
            self.shared.bell.notify_all();
        }
    }

    /// Opens its LEDs anew and shows them as they should be: another program had them.
    pub(super) fn renew(&self) {
        self.shared.lock().anew = true;
        self.shared.bell.notify_all();
    }

    /// What failed when it was last tried.
    pub(super) fn fault(&self) -> Option<DriverError> {
        self.shared.lock().fault.clone()
    }

    /// Whether any of its LEDs burns when it should.
    pub(super) fn works(&self) -> bool {
        self.shared.lock().works
    }

    /// Asks for the end.
    pub(super) fn end(&self) {
        let mut state = self.shared.lock();
        state.ends = true;
        // The last frame must not come after the dark.
        state.newest = None;
        drop(state);
        self.shared.bell.notify_all();
    }

    /// Waits until it ended, so long at most.
    pub(super) fn ended_within(&self, most: Duration) -> bool {
        let state = self.shared.lock();
        let waited = self.shared.bell.wait_timeout_while(state, most, |state| !state.ended);
        waited.is_ok_and(|(state, _)| state.ended)
    }
}

fn run(shared: &Shared, part: &mut dyn Part, mut lights: Vec<Light>) {
    let clock = SystemClock::start();
    let in_a = |wait: Duration| clock.now().tick.after(wait);
    let mut wait = FIRST;
    let mut again = shared.lock().fault.is_some().then(|| in_a(wait));
    loop {
        let mut state = shared.lock();
        while !state.ends && !state.anew && state.newest.is_none() {
            let left = again.map(|at| at.since(clock.now().tick));
            state = match left {
                None => shared.bell.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => break,
                Some(left) => shared.bell.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
        if state.ends {
            break;
        }
        if let Some(newest) = state.newest.take() {
            lights = newest;
        }
        let anew = std::mem::take(&mut state.anew);
        drop(state);
        if anew {
            part.forget();
        }
        let is_due = anew || again.is_some_and(|at| at <= clock.now().tick);
        let shown = part.show(&lights, if is_due || again.is_none() { Attempt::Open } else { Attempt::AsIs });
        match &shown {
            Ok(()) => (again, wait) = (None, FIRST),
            Err(_) if is_due => {
                wait = (wait * 2).min(LONGEST);
                again = Some(in_a(wait));
            }
            Err(_) => again = again.or_else(|| Some(in_a(wait))),
        }
        let mut state = shared.lock();
        (state.fault, state.works) = (shown.err(), part.works());
    }
    part.leave();
    shared.lock().ended = true;
    shared.bell.notify_all();
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // these tests wait in real time
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;
    use std::time::Instant;

    use super::*;

    struct Fake {
        shown: mpsc::Sender<Vec<Light>>,
        gate: mpsc::Receiver<()>,
        broken: Arc<AtomicBool>,
    }

    impl Part for Fake {
        fn show(&mut self, lights: &[Light], _attempt: Attempt) -> Result<(), DriverError> {
            if self.broken.load(Ordering::SeqCst) {
                return Err(DriverError { words: "nobody answers".to_owned() });
            }
            let _ = self.shown.send(lights.to_vec());
            // As long as the test wants: a bus that is slow.
            let _ = self.gate.recv_timeout(Duration::from_secs(5));
            Ok(())
        }

        fn works(&self) -> bool {
            !self.broken.load(Ordering::SeqCst)
        }

        fn forget(&mut self) {}

        fn leave(&mut self) {
            let _ = self.shown.send(Vec::new());
        }
    }

    fn fake(lights: Vec<usize>, broken: bool) -> (Worker, mpsc::Receiver<Vec<Light>>, mpsc::Sender<()>, Arc<AtomicBool>) {
        let ((shown, told), (go, gate)) = (mpsc::channel(), mpsc::channel());
        go.send(()).unwrap();
        let broken = Arc::new(AtomicBool::new(broken));
        let part = Fake { shown, gate, broken: broken.clone() };
        (Worker::start(Box::new(part), lights), told, go, broken)
    }

    const LONG: Duration = Duration::from_secs(5);

    #[test]
    fn a_slow_part_holds_up_nobody_and_shows_the_newest_frame_next() {
        let (mut worker, told, go, _) = fake(vec![1], false);
        assert_eq!(told.recv_timeout(LONG).unwrap(), [Light::DARK], "it begins dark");
        let from = Instant::now();
        for level in 1..=100 {
            worker.post(&[Light::DARK, Light::white(level)]);
            if level == 1 {
                assert_eq!(told.recv_timeout(LONG).unwrap(), [Light::white(1)]);
            }
        }
        assert!(from.elapsed() < Duration::from_secs(1), "{:?}", from.elapsed());
        go.send(()).unwrap();
        assert_eq!(told.recv_timeout(LONG).unwrap(), [Light::white(100)], "98 frames were not worth showing");
        go.send(()).unwrap();
        worker.post(&[Light::white(7), Light::white(100)]);
        assert!(told.recv_timeout(Duration::from_millis(100)).is_err(), "its own light did not change");
        worker.end();
        assert!(worker.ended_within(LONG));
        assert_eq!(told.recv_timeout(LONG).unwrap(), [], "it left");
    }

    #[test]
    fn a_frame_that_did_not_change_is_shown_again_when_another_program_had_the_leds() {
        let (mut worker, told, go, _) = fake(vec![0], false);
        told.recv_timeout(LONG).unwrap();
        worker.post(&[Light::white(1)]);
        assert_eq!(told.recv_timeout(LONG).unwrap(), [Light::white(1)]);
        go.send(()).unwrap();
        worker.renew();
        assert_eq!(told.recv_timeout(LONG).unwrap(), [Light::white(1)]);
        go.send(()).unwrap();
        worker.end();
        assert!(worker.ended_within(LONG));
    }

    #[test]
    fn the_last_frame_does_not_come_after_the_dark() {
        let (mut worker, told, go, _) = fake(vec![0], false);
        told.recv_timeout(LONG).unwrap();
        worker.post(&[Light::white(1)]);
        told.recv_timeout(LONG).unwrap();
        worker.post(&[Light::white(2)]);
        worker.end();
        go.send(()).unwrap();
        assert!(worker.ended_within(LONG));
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [Vec::new()]);
    }

    #[test]
    fn what_fails_is_told_and_tried_again_with_the_newest_frame() {
        let (mut worker, told, go, broken) = fake(vec![0], true);
        assert_eq!(worker.fault().unwrap().words, "nobody answers");
        worker.post(&[Light::white(9)]);
        broken.store(false, Ordering::SeqCst);
        go.send(()).unwrap();
        // After a second, without another frame.
        assert_eq!(told.recv_timeout(LONG).unwrap(), [Light::white(9)]);
        worker.end();
        assert!(worker.ended_within(LONG));
        assert_eq!(worker.fault(), None);
    }
}
