//! (skeleton)

pub mod decode;
pub mod patch;
