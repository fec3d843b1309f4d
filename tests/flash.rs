//! `bramble flash`: cards and images, the scripts of a first boot, and emulated machines that start from what was flashed.
//!
//! Needs: dosfstools, mtools, e2fsprogs, fdisk, busybox-static, cloud-init; for the boots mmdebstrap, arch-test, qemu-user-static, qemu-system-arm,
//! kmod, cpio, root, and the Rust target (Debian). `BRAMBLE_SKIP=flash` leaves the boots out.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::disallowed_methods)] // a test

#[path = "flash/boots.rs"]
mod boots;
#[path = "flash/cards.rs"]
mod cards;
#[path = "flash/command.rs"]
mod command;
#[path = "flash/fixture.rs"]
mod fixture;
#[path = "join/home.rs"]
#[allow(dead_code)] // the area of joining uses the rest
mod home;
#[path = "flash/scripts.rs"]
mod scripts;
#[path = "support/shipped.rs"]
mod shipped;
mod support;
