//! The API server in process on loopback, over a store in memory, driven by the real kubectl.
//!
//! Every case runs with each kubectl of [`harness::WANTED`] that is on this machine: beside the `kubectl` on PATH (as
//! `kubectl.1.27`) or in the folder `KUBECTL_DIR`, else with the one on PATH. The versions that ran are printed.
//! `BRAMBLE_SKIP=kubectl` leaves the cases out.

// Helpers of tests fail the test and read the clock, as tests do; clippy exempts `#[test]` functions only.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::disallowed_methods)]

#[path = "apiserver/bad_input.rs"]
mod bad_input;
#[path = "apiserver/deletion.rs"]
mod deletion;
#[path = "apiserver/dual_stack.rs"]
mod dual_stack;
#[path = "apiserver/harness.rs"]
mod harness;
#[path = "apiserver/identity.rs"]
mod identity;
#[path = "apiserver/objects.rs"]
mod objects;
#[path = "apiserver/storage.rs"]
mod storage;
#[path = "apiserver/wire.rs"]
mod wire;
