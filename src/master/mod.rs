//! The master: what decides, and what people talk to. All of layer 4's master side, put together.

pub mod acl;
pub mod authority;
pub mod config;
pub mod ranges;
pub mod run;
pub mod signer;
