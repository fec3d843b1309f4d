//! Emulated Raspberry Pis: the agent as it is shipped, on QEMU's machines, joins a master of this machine; what it does to the
//! LEDs is read from the registers of the emulated processor.
//!
//! Needs: what `tests/cross.rs` needs, qemu-system-arm, device-tree-compiler, kmod, cpio (Debian), Debian's packages by apt, kubectl.
//! QEMU has no Pi 4 and 5, and no firmware: what firmware tells (throttling, the firmware's own LEDs) is proven elsewhere.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::disallowed_methods)] // a test; it waits in real time

#[path = "emulated_pi/alone.rs"]
mod alone;
#[path = "emulated_pi/cluster.rs"]
mod cluster;
#[path = "emulated_pi/guest.rs"]
mod guest;
#[path = "join/home.rs"]
#[allow(dead_code)] // of a master and its nodes, a Pi is but one
mod home;
#[path = "emulated_pi/machine.rs"]
mod machine;
#[path = "support/shipped.rs"]
mod shipped;
mod support;
#[path = "emulated_pi/trace.rs"]
mod trace;
#[path = "emulated_pi/zero.rs"]
mod zero;
