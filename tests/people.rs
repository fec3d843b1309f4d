//! What people do at the terminal, with real processes: the commands about a cluster on this machine, its LEDs, configurations
//! with faults, kubectl from the oldest to the newest, and machines on which something is wrong.

// Helpers of tests fail the test and read the clock, as tests do; clippy exempts `#[test]` functions only.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::disallowed_methods)]

mod support;

#[path = "people/circumstances.rs"]
mod circumstances;
#[path = "people/configuration.rs"]
mod configuration;
#[path = "people/doctor.rs"]
mod doctor;
#[path = "people/kubectl.rs"]
mod kubectl;
#[path = "people/leds.rs"]
mod leds;
#[path = "people/local.rs"]
mod local;
#[path = "people/services.rs"]
mod services;
#[path = "people/terminal.rs"]
mod terminal;
