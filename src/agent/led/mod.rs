//! LEDs: which one shows what, and when it is lit.
//!
//! ```text
//!  node.rs ── PodLight list ──▶ shelf.rs (which LED shows which pod) ──▶ pattern.rs (lit or dark now) ──▶ driver
//!  session ── link up, down ──▶                                        └▶ message `up/leds`: for drawings
//! ```
//!
//! LEDs never hold up pods: a missing pin is a warning with the fix, no more.

pub mod gpio;
pub mod pattern;
pub mod shelf;

/// What makes LEDs burn. The simulated one is [`NoPins`]: what it would show is told by messages.
pub trait Driver: Send {
    /// Lights the LEDs of the board, in its order. Must not block.
    fn show(&mut self, lit: &[bool]);
}

/// A board without pins.
pub struct NoPins;

impl Driver for NoPins {
    fn show(&mut self, _lit: &[bool]) {}
}
