//! What becomes of one packet.

pub mod run;
