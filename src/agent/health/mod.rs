//! How the node is: readings (`sysinfo.rs`) and what follows from them (`judge.rs`).

pub mod judge;
pub mod run;
pub mod sysinfo;
