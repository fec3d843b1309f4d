//! (skeleton)
pub mod checkpoint;
pub mod disk;
pub mod health;
pub mod led;
