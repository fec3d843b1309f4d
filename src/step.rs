//! The shape of every decider that keeps state.
//!
//! A hand's loop is always the same four lines: wait for (stop | input | [`Machine::next_wake`]), call the machine
//! with the clock's now, carry out the effects, feed outcomes back as the next input.

use crate::clock::{Now, Tick};

/// State + now + input → effects. No async, no sockets, no clock, no randomness from nowhere.
pub trait Machine {
    /// What can happen to it.
    type Input;
    /// What it wants done.
    type Effect;
    /// Takes one input and appends what is to be done.
    fn handle(&mut self, now: Now, input: Self::Input, out: &mut Vec<Self::Effect>);
    /// Called when [`Machine::next_wake`] has come; harmless at any other time.
    fn wake(&mut self, now: Now, out: &mut Vec<Self::Effect>);
    /// When it wants to be woken if nothing happens before.
    fn next_wake(&self) -> Option<Tick>;
}
