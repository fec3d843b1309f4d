//! The files in which containers leave their last words (`terminationMessagePath`).
//!
//! Each is a file of the agent that is bound into its container, so no container can exchange it for something else, but one can
//! write to it without an end. It lies in the agent's `run_dir`: in memory under systemd, else on the card. Docker has no way to
//! bound one file, so `run.rs` has the kernel wake it when one is written to, and cuts what is too long down to its end, which is
//! all that is told. A writer has the room of 0.2 s; every ten seconds all files are looked at, whoever woke us or not.

pub mod disk;
pub mod run;

/// What is told of a file, from its end, in bytes. Source: the kubelet's MaxContainerTerminationMessageLength.
pub const TOLD: u64 = 4096;
/// A file may take so many bytes of the disk until it is cut.
pub const MOST: u64 = 64 << 10;
/// The file's name in the directory of the run.
pub const FILE: &str = "termination-log";
