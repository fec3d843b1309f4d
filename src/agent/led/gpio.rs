//! Hands: makes a board's LEDs burn, whatever they are on.
//!
//! ```text
//! frame ──▶ Composite ──┬─▶ thread: class.rs    LEDs of the kernel's class
//!                       ├─▶ thread: pins.rs     plain LEDs on the header
//!                       └─▶ thread: strips.rs   one for each strip; what is said to it: led/protocol/
//! ```
//!
//! One part that fails does not darken the others. Of two programs that drive LEDs the second one says so, and draws all anew when the first
//! is done (`claim.rs`). Pins and buses are reached through `Hardware`: rppal and the kernel's character device, or a test's bench.

mod claim;
mod class;
#[cfg_attr(not(feature = "gpio"), path = "gpio/absent.rs")]
mod hardware;
mod pins;
mod strips;
mod worker;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::protocol::{Bytes, I2c, Output};
use super::{Driver, DriverError, Leaving, Light, NoPins};
use crate::board::{Board, ClassLed, I2cAddress, Led, Place};
use crate::clock::{Clock, SystemClock};
pub use claim::Claim;
use worker::{Part, Worker};

/// How long the end waits for LEDs to be dark, of all parts together: a bus may hang for a second.
const DARK_WITHIN: Duration = Duration::from_millis(1500);

/// Said of another program that has the claim.
const ELSEWHERE: &str = "another program drives this machine's LEDs too, and each undoes what the other shows: a `bramble leds test`, which is \
                         over soon, or a second agent, which wants `leds.enabled = false`";

/// The pins and buses of a board.
pub(crate) trait Hardware: Send + Sync {
    /// A pin as an output, at once at this level.
    fn output(&self, pin: u8, high: bool) -> Result<Box<dyn Output>, DriverError>;

    /// A chip on I2C. That it opens does not say that it answers.
    fn i2c(&self, at: I2cAddress) -> Result<Box<dyn I2c>, DriverError>;

    /// A device on SPI, at this clock.
    fn spi(&self, bus: u8, select: u8, hz: u32) -> Result<Box<dyn Bytes>, DriverError>;
}

/// What burns the LEDs of this board, and what to say once about a machine that has none. What cannot be used is the driver's
/// [`Driver::fault`]; pods do not mind either. `claim`: the one on the machine's LEDs, where the caller has it; it is held until all is dark.
#[must_use]
pub fn driver(board: &Board, claim: Option<Claim>) -> (Box<dyn Driver>, Option<String>) {
    let root = Path::new("/");
    class::wake_up(root, class_leds(&board.resting));
    if board.leds.iter().all(|led| led.place == Place::Message) {
        let words = (board.name != "simulated").then(|| format!("board {}: no LEDs; pods run without", board.name));
        return (Box::new(NoPins), words);
    }
    let mut composite = Composite::start(parts(board, &hardware(board), root));
    composite.claims = claim.map_or(Claims::Wanted(Claim::take), Claims::Held);
    composite.claim();
    (Box::new(composite), None)
}

/// No LEDs, because the owner wants none: the kernel's own show what they show without us, also after an agent that died.
#[must_use]
pub fn none(board: &Board) -> (Box<dyn Driver>, Option<String>) {
    class::wake_up(Path::new("/"), class_leds(&board.leds).chain(class_leds(&board.resting)));
    (Box::new(NoPins), None)
}

/// After an agent that died: the kernel shows it by the board's own LED, all others are dark. Gives what could not be done.
#[must_use]
pub fn died(board: &Board) -> Vec<String> {
    let root = Path::new("/");
    died_on(board, &hardware(board), root)
}

fn died_on(board: &Board, hardware: &Arc<dyn Hardware>, root: &Path) -> Vec<String> {
    class::leave_to_the_kernel(root, class_leds(&board.leds).chain(class_leds(&board.resting)));
    let others = board.leds.iter().filter(|led| !matches!(led.place, Place::Class(_))).cloned().collect();
    let others = Board { leds: others, ..board.clone() };
    let mut composite = Composite::start(parts(&others, hardware, root));
    let faults = composite.parts.iter().filter_map(|part| part.fault().map(|fault| fault.words)).collect();
    composite.leave().wait();
    faults
}

fn hardware(board: &Board) -> Arc<dyn Hardware> {
    Arc::new(hardware::Pi::new(board))
}

fn class_leds(leds: &[Led]) -> impl Iterator<Item = &ClassLed> {
    leds.iter().filter_map(|led| match &led.place {
        Place::Class(class) => Some(class),
        _ => None,
    })
}

/// The parts of a board, each with the places of its lights in a frame.
fn parts(board: &Board, hardware: &Arc<dyn Hardware>, root: &Path) -> Vec<(Box<dyn Part>, Vec<usize>)> {
    let (mut of_kernel, mut of_header) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
    let mut of_strips: Vec<Vec<usize>> = board.strips.iter().map(|strip| vec![usize::MAX; strip.pixels]).collect();
    for (index, led) in board.leds.iter().enumerate() {
        match &led.place {
            Place::Message => {}
            Place::Class(class) => {
                of_kernel.0.push((led.name.clone(), class.clone()));
                of_kernel.1.push(index);
            }
            Place::Pin { pin, active_low } => {
                of_header.0.push((led.name.clone(), *pin, *active_low));
                of_header.1.push(index);
            }
            Place::Pixel { strip, pixel } => {
                if let Some(slot) = of_strips.get_mut(*strip).and_then(|pixels| pixels.get_mut(*pixel)) {
                    *slot = index;
                }
            }
        }
    }
    let mut parts: Vec<(Box<dyn Part>, Vec<usize>)> = Vec::new();
    if !of_kernel.0.is_empty() {
        parts.push((Box::new(class::ClassPart::new(root, of_kernel.0)), of_kernel.1));
    }
    if !of_header.0.is_empty() {
        parts.push((Box::new(pins::PinPart::new(hardware.clone(), of_header.0)), of_header.1));
    }
    for (strip, lights) in board.strips.iter().zip(of_strips) {
        parts.push((Box::new(strips::StripPart::new(strip.clone(), hardware.clone(), root)), lights));
    }
    parts
}

/// All parts of a board.
struct Composite {
    parts: Vec<Worker>,
    claims: Claims,
}

/// How it stands with the claim on the machine's LEDs.
enum Claims {
    /// Not for those who come after an agent that died.
    Needless,
    /// It was not asked for yet: by this.
    Wanted(fn() -> std::io::Result<Option<Claim>>),
    /// Another program has it: `bramble leds test`, or another agent. Both drive the LEDs until it ends.
    Elsewhere(fn() -> std::io::Result<Option<Claim>>),
    Held(#[allow(dead_code)] Claim), // what counts is that it is there
}

impl Composite {
    fn start(parts: Vec<(Box<dyn Part>, Vec<usize>)>) -> Self {
        let parts = parts.into_iter().map(|(part, lights)| Worker::start(part, lights)).collect();
        Self { parts, claims: Claims::Needless }
    }

    /// Tells other programs that these LEDs are in use. Whoever has told so first does not keep an agent from its LEDs; once he is done,
    /// which darkened them, they are drawn anew.
    fn claim(&mut self) {
        let (Claims::Wanted(take) | Claims::Elsewhere(take)) = self.claims else { return };
        match take() {
            Ok(Some(claim)) => {
                if matches!(self.claims, Claims::Elsewhere(_)) {
                    self.parts.iter().for_each(Worker::renew);
                }
                self.claims = Claims::Held(claim);
            }
            Ok(None) => self.claims = Claims::Elsewhere(take),
            // Without it LEDs burn all the same.
            Err(_) => {}
        }
    }
}

impl Driver for Composite {
    fn show(&mut self, frame: &[Light]) -> Result<(), DriverError> {
        self.claim();
        self.parts.iter_mut().for_each(|part| part.post(frame));
        self.fault().map_or(Ok(()), Err)
    }

    fn fault(&self) -> Option<DriverError> {
        let elsewhere = matches!(self.claims, Claims::Elsewhere(_)).then(|| ELSEWHERE.to_owned());
        let of_parts = self.parts.iter().filter_map(|part| part.fault().map(|fault| fault.words));
        let faults: Vec<String> = elsewhere.into_iter().chain(of_parts).collect();
        (!faults.is_empty()).then(|| DriverError { words: faults.join("; ") })
    }

    fn look(&mut self) -> Option<DriverError> {
        self.claim();
        self.fault()
    }

    fn works(&self) -> bool {
        self.parts.iter().any(Worker::works)
    }

    fn leave(&mut self) -> Leaving {
        // All at once, so that one that hangs costs the others nothing.
        self.parts.iter().for_each(Worker::end);
        let (parts, claim) = (std::mem::take(&mut self.parts), std::mem::replace(&mut self.claims, Claims::Needless));
        Leaving::by(move || {
            let clock = SystemClock::start();
            let until = clock.now().tick.after(DARK_WITHIN);
            let hanging = parts.iter().filter(|part| !part.ended_within(until.since(clock.now().tick))).count();
            if hanging > 0 {
                tracing::warn!(hanging, "a bus hangs: its LEDs stay as they are");
            }
            drop(claim);
        })
    }
}

impl Drop for Composite {
    fn drop(&mut self) {
        self.parts.iter().for_each(Worker::end);
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // these tests wait in real time
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;
    use std::time::{Duration, Instant};

    use super::super::protocol::tests::Recorded;
    use super::class::tests::{reads, tree};
    use super::*;
    use crate::board::Hat;

    /// A board on a bench: pins whose levels are recorded, and one chip for every bus.
    #[derive(Default)]
    pub(super) struct Bench {
        levels: Arc<Mutex<BTreeMap<u8, bool>>>,
        /// Every change: pin and level.
        edges: Arc<Mutex<Vec<(u8, bool)>>>,
        pub(super) refused: Mutex<BTreeMap<u8, String>>,
        pub(super) chip: Recorded,
    }

    impl Bench {
        pub(super) fn levels(&self) -> Vec<(u8, bool)> {
            self.levels.lock().unwrap().clone().into_iter().collect()
        }

        pub(super) fn refuse(&self, pin: u8, words: &str) {
            self.refused.lock().unwrap().insert(pin, words.to_owned());
        }

        /// The level of `data` at each rising edge of `clock`.
        pub(super) fn clocked(&self, data: u8, clock: u8) -> Vec<bool> {
            let (mut level, mut bits) = (false, Vec::new());
            for (pin, high) in self.edges.lock().unwrap().iter() {
                if *pin == data {
                    level = *high;
                } else if *pin == clock && *high {
                    bits.push(level);
                }
            }
            bits
        }
    }

    struct Wire {
        pin: u8,
        levels: Arc<Mutex<BTreeMap<u8, bool>>>,
        edges: Arc<Mutex<Vec<(u8, bool)>>>,
    }

    impl Output for Wire {
        fn set(&mut self, high: bool) -> std::io::Result<()> {
            self.levels.lock().unwrap().insert(self.pin, high);
            self.edges.lock().unwrap().push((self.pin, high));
            Ok(())
        }
    }

    impl Hardware for Bench {
        fn output(&self, pin: u8, high: bool) -> Result<Box<dyn Output>, DriverError> {
            if let Some(words) = self.refused.lock().unwrap().get(&pin) {
                return Err(DriverError { words: words.clone() });
            }
            let mut wire = Wire { pin, levels: self.levels.clone(), edges: self.edges.clone() };
            wire.set(high).unwrap();
            Ok(Box::new(wire))
        }

        fn i2c(&self, _at: I2cAddress) -> Result<Box<dyn I2c>, DriverError> {
            Ok(Box::new(self.chip.clone()))
        }

        fn spi(&self, _bus: u8, _select: u8, _hz: u32) -> Result<Box<dyn Bytes>, DriverError> {
            Ok(Box::new(self.chip.clone()))
        }
    }

    fn board(hats: &[&str]) -> Board {
        let hats: Vec<Hat> = hats.iter().map(|name| Hat::named(name).unwrap()).collect();
        Board::named("rpi-4b").unwrap().with_hats(&hats).unwrap()
    }

    fn until(what: &str, mut done: impl FnMut() -> bool) {
        let from = Instant::now();
        while !done() {
            assert!(from.elapsed() < Duration::from_secs(10), "{what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn leds_of_the_kernel_on_pins_and_on_a_strip_burn_together_and_one_that_fails_darkens_none() {
        let root = tree(&[("ACT", "[mmc0] timer", "255"), ("PWR", "[default-on]", "255")]);
        let bench = Arc::new(Bench::default());
        bench.chip.gone.store(true, std::sync::atomic::Ordering::SeqCst);
        // The Cluster HAT shows pods only: ACT shows the node. Its chip does not answer; the LED on a pin and ACT burn all the same.
        let pin =
            Hat::parse("kind = 'hat'\nname = 'x'\ntitle = 'x'\n[[led]]\nname = 'pod-1'\npin = 17\ncolour = 'red'\nshows = 'pod'")
                .unwrap();
        let board = board(&[]).with_hats(&[Hat::named("clusterhat").unwrap(), pin]).unwrap();
        let names: Vec<&str> = board.leds.iter().map(|led| led.name.as_str()).collect();
        assert_eq!(names, ["node", "alert", "pod-1"]);
        let hardware: Arc<dyn Hardware> = bench.clone();
        let mut driver = Composite::start(parts(&board, &hardware, root.path()));
        let told = driver.fault().unwrap().words;
        assert!(told.contains("address 0x20 on i2c-1"), "{told}");
        assert_eq!(driver.show(&[Light::white(255); 3]).unwrap_err().words, told, "the same fault, told in the same words");
        until("both burn", || bench.levels() == [(17, true)] && reads(root.path(), "ACT/brightness") == "255");
        // It is plugged in: within a second or so it burns, without another frame.
        bench.chip.registers.lock().unwrap().extend([(1, 0), (3, 0)]);
        bench.chip.gone.store(false, std::sync::atomic::Ordering::SeqCst);
        until("the chip burns", || bench.chip.registers.lock().unwrap().get(&1) == Some(&0b0100_0000));
        until("no fault is left", || driver.fault().is_none());
        driver.leave().wait();
        assert_eq!((bench.levels(), reads(root.path(), "ACT/trigger")), (vec![(17, false)], "mmc0".to_owned()));
        assert_eq!((bench.chip.registers.lock().unwrap()[&1], reads(root.path(), "PWR/trigger").as_str()), (0, "[default-on]"));
    }

    #[test]
    fn a_pi_by_itself_touches_no_pin_and_no_bus() {
        let root = tree(&[("led0", "[mmc0]", "255"), ("led1", "[default-on]", "255")]);
        let bench = Arc::new(Bench::default());
        let hardware: Arc<dyn Hardware> = bench.clone();
        let mut driver = Composite::start(parts(&board(&[]), &hardware, root.path()));
        driver.show(&[Light::white(255); 2]).unwrap();
        until("both burn", || ["led0", "led1"].iter().all(|led| reads(root.path(), &format!("{led}/brightness")) == "255"));
        driver.leave().wait();
        assert!(bench.levels().is_empty() && bench.chip.take().is_empty());
    }

    #[test]
    fn beside_another_program_it_says_so_once_and_draws_all_anew_when_that_one_is_done() {
        // Another name than this machine's: an agent may run here.
        const NAME: &str = "bramble-leds-test-of-two";
        let root = tree(&[("ACT", "none [mmc0] timer", "255")]);
        let act = |file: &str| reads(root.path(), &format!("ACT/{file}"));
        let bench = Arc::new(Bench::default());
        let hardware: Arc<dyn Hardware> = bench.clone();
        let pin =
            Hat::parse("kind = 'hat'\nname = 'x'\ntitle = 'x'\n[[led]]\nname = 'pod-1'\npin = 17\ncolour = 'red'\nshows = 'pod'")
                .unwrap();
        let board = Board::named("rpi-3b").unwrap().with_hats(&[pin]).unwrap();
        let other = Claim::named(NAME).unwrap().unwrap();
        let mut driver = Composite::start(parts(&board, &hardware, root.path()));
        driver.claims = Claims::Wanted(|| Claim::named(NAME));
        let told = driver.show(&[Light::white(255); 2]).unwrap_err();
        assert!(told.words.contains("another program") && driver.look() == Some(told), "the same words: it is said once");
        until("both burn", || bench.levels() == [(17, true)] && act("brightness") == "255");
        // The other one ends: all is dark, and the kernel has its LED again.
        bench.levels.lock().unwrap().insert(17, false);
        for (file, text) in [("brightness", "0"), ("trigger", "none [mmc0] timer")] {
            std::fs::write(root.path().join("sys/class/leds/ACT").join(file), text).unwrap();
        }
        assert!(driver.look().is_some());
        drop(other);
        assert_eq!(driver.look(), None);
        until("both burn again, though no light changed", || {
            bench.levels() == [(17, true)] && (act("brightness"), act("trigger")) == ("255".into(), "none".into())
        });
        assert!(Claim::named(NAME).unwrap().is_none(), "now it has the claim");
        driver.leave().wait();
        assert_eq!((bench.levels(), act("trigger")), (vec![(17, false)], "mmc0".to_owned()));
        assert!(Claim::named(NAME).unwrap().is_some());
    }

    #[test]
    fn after_a_death_the_board_blinks_and_the_hat_is_dark() {
        let root = tree(&[("ACT", "[none] timer", "255"), ("PWR", "[none] default-on", "255")]);
        let bench = Arc::new(Bench::default());
        let hardware: Arc<dyn Hardware> = bench.clone();
        assert_eq!(died_on(&board(&["plain", "blinkt"]), &hardware, root.path()), Vec::<String>::new());
        assert_eq!((reads(root.path(), "ACT/trigger"), reads(root.path(), "PWR/trigger")), ("timer".into(), "default-on".into()));
        assert_eq!(reads(root.path(), "ACT/delay_on"), "100");
        let levels = bench.levels();
        assert!(levels.len() == 10 && levels.iter().all(|(_, high)| !high), "{levels:?}");
        // The pixels were told to be dark, too: only the bits of the brightness are set.
        assert!(bench.clocked(23, 24).len() >= (4 + 32 + 5) * 8);
    }

    #[test]
    fn a_machine_without_pins_says_so_once_and_goes_on() {
        let (_, words) = driver(&Board::named("generic").unwrap(), None);
        assert!(words.unwrap().contains("no LEDs"));
        assert!(driver(&Board::named("simulated").unwrap(), None).1.is_none());
        // Not on a Pi: whatever hangs on its pins is somebody's.
        if Path::new("/dev/gpiochip0").exists() || Path::new("/dev/gpiomem").exists() {
            println!("NOT RUN: this machine has pins");
            return;
        }
        // A board with pins says why it has none, and what to do.
        let (mut none, words) = driver(&board(&["plain"]), None);
        let told = none.fault().unwrap().words;
        assert!(
            words.is_none()
                && told.contains("8 LEDs on pins: cannot use the GPIO pins of board rpi-4b")
                && told.contains("group gpio"),
            "{told}"
        );
        assert_eq!(none.show(&[Light::white(255); 8]).unwrap_err().words, told);
        none.leave().wait();
    }

    /// A bus that does not come back once it is spoken to.
    struct Hangs;

    impl Part for Hangs {
        fn show(&mut self, lights: &[Light], _attempt: worker::Attempt) -> Result<(), DriverError> {
            if lights.iter().any(|light| light.is_lit()) {
                std::thread::sleep(DARK_WITHIN * 4);
            }
            Ok(())
        }

        fn works(&self) -> bool {
            true
        }

        fn forget(&mut self) {}

        fn leave(&mut self) {}
    }

    #[test]
    fn several_buses_that_hang_cost_the_end_no_more_than_one_and_the_caller_nothing() {
        let bench = Arc::new(Bench::default());
        let on_pin = pins::PinPart::new(bench.clone(), vec![("x".to_owned(), 17, false)]);
        let mut all: Vec<(Box<dyn Part>, Vec<usize>)> = (0..3).map(|_| (Box::new(Hangs) as Box<dyn Part>, vec![0])).collect();
        all.push((Box::new(on_pin), vec![0]));
        let mut driver = Composite::start(all);
        driver.show(&[Light::white(255)]).unwrap();
        until("it burns", || bench.levels() == [(17, true)]);
        let from = Instant::now();
        let leaving = driver.leave();
        assert!(from.elapsed() < DARK_WITHIN / 2, "the caller waited: {:?}", from.elapsed());
        until("what does not hang is dark, though nobody waits", || bench.levels() == [(17, false)]);
        leaving.wait();
        let took = from.elapsed();
        assert!(took > DARK_WITHIN / 2 && took < DARK_WITHIN * 2, "three that hang: {took:?}");
    }
}
