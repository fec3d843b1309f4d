//! The node: from the share that the master mails to containers in Docker, and the truth back.

pub mod checkpoint;
pub mod config;
pub mod disk;
pub mod health;
pub mod led;
