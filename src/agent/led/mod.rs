//! LEDs: which one shows what, and when it is lit.
//!
//! ```text
//!  node.rs ── PodLight list ──▶ shelf.rs ──▶ pattern.rs (lit or dark now) ──▶ panel.rs ──▶ driver
//!  session ── link up, down ──▶  │  │ └▶ picture.rs: message `up/leds`, for drawings
//!  master ── identify ─────────▶ │  └ palette.rs (state → pattern, colour), night.rs (dark, dimmed)
//!                                └ places.rs (which LED is whose), pages.rs (whose turn it is)
//!
//!  driver: gpio.rs (a thread for each kind of LED) ──▶ protocol/ (bits and bytes) ──▶ pins, I2C, SPI, the kernel's LED class
//! ```
//!
//! LEDs never hold up pods: a missing pin is a warning with the fix, no more.

pub mod disk;
pub mod gpio;
pub mod night;
mod pages;
pub mod palette;
pub mod panel;
pub mod pattern;
pub mod picture;
mod places;
pub mod protocol;
pub mod settings;
pub mod shelf;

/// What one LED is to show at this moment. An LED of one colour burns as bright as the brightest of the three; one that can only be
/// on or off burns when any of them is above 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Light {
    /// 0 to 255.
    pub red: u8,
    /// 0 to 255.
    pub green: u8,
    /// 0 to 255.
    pub blue: u8,
}

impl Light {
    /// Dark.
    pub const DARK: Self = Self { red: 0, green: 0, blue: 0 };

    /// White, so bright.
    #[must_use]
    pub const fn white(level: u8) -> Self {
        Self { red: level, green: level, blue: level }
    }

    /// How bright an LED of one colour burns: 0 to 255.
    #[must_use]
    pub fn level(self) -> u8 {
        self.red.max(self.green).max(self.blue)
    }

    /// Whether an LED that is only on or off is on.
    #[must_use]
    pub fn is_lit(self) -> bool {
        self.level() > 0
    }
}

/// Why LEDs could not be shown. The pods go on; it is said once.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{words}")]
pub struct DriverError {
    /// What cannot be used, why, and what to do, for a person.
    pub words: String,
}

/// What makes LEDs burn. The simulated one is [`NoPins`]: what it would show is told by messages.
pub trait Driver: Send {
    /// Shows a frame: a light for each LED of the board, in its order. Must not block.
    ///
    /// # Errors
    /// When something of the frame could not be shown. What can be shown is shown; the next frame is tried as if nothing had been.
    fn show(&mut self, frame: &[Light]) -> Result<(), DriverError>;

    /// Whether there is anything that could burn: else no frame is for anybody.
    fn is_there(&self) -> bool {
        true
    }

    /// What cannot be used now: what the last frame met, or the opening. It may come and go between frames, as HATs are plugged.
    fn fault(&self) -> Option<DriverError> {
        None
    }

    /// A look between frames: mends what can be mended, and tells what [`Driver::fault`] does.
    fn look(&mut self) -> Option<DriverError> {
        self.fault()
    }

    /// Whether any LED burns when it should.
    fn works(&self) -> bool {
        false
    }

    /// The agent ends in order: all goes dark, and what was taken is given back. Must not block: who has to be sure waits for it.
    fn leave(&mut self) -> Leaving;
}

/// LEDs on their way to the dark. They get there without anybody's waiting, as long as the process lives.
#[must_use = "the process may end before the LEDs are dark"]
#[derive(Default)]
pub struct Leaving(Option<Box<dyn FnOnce() + Send>>);

impl Leaving {
    /// `wait` blocks until all is dark, or for as long as a bus may hang.
    pub fn by(wait: impl FnOnce() + Send + 'static) -> Self {
        Self(Some(Box::new(wait)))
    }

    /// Blocks until all is dark, not for long: not for a thread that has other work.
    pub fn wait(self) {
        if let Some(wait) = self.0 {
            wait();
        }
    }
}

/// A board without LEDs that could be driven.
pub struct NoPins;

impl Driver for NoPins {
    fn show(&mut self, _frame: &[Light]) -> Result<(), DriverError> {
        Ok(())
    }

    fn is_there(&self) -> bool {
        false
    }

    fn leave(&mut self) -> Leaving {
        Leaving::default()
    }
}
