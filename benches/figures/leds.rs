//! LEDs: what they cost an agent, and how soon they show a pod's change. The board is made of [`lamps`]; what drives them is what drives a
//! Pi's.

pub mod docker;
mod lamps;
pub mod latency;
pub mod wakes;
