//! How the node is: readings (`sysinfo.rs`, `sysinfo/`) and what follows from them (`judge.rs` for what runs short, `strain.rs` for
//! what a board suffers, `wear.rs` for what a card has been written).
//!
//! `docs/health.md` has a table of every reading, its source, and when it is unknown.

pub mod hardware;
pub mod judge;
pub mod run;
pub mod strain;
pub mod sysinfo;
pub mod wear;
