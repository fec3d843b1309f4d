//! In place of `containers.rs` in a bramble that was built without Docker: such a one never starts a cluster on Docker, and
//! says so when it is to end one that another bramble started.

use std::path::Path;

use crate::error::Report;

/// Whether this bramble can run containers in Docker.
pub const BUILT_IN: bool = false;

/// Refused.
///
/// # Errors
/// Always.
pub fn stop(_socket: &Path, _uid: &str) -> Result<String, Report> {
    Err(refused())
}

/// Refused.
///
/// # Errors
/// Always.
pub fn remove(_socket: &Path, _uid: &str, _nodes: &[String]) -> Result<String, Report> {
    Err(refused())
}

fn refused() -> Report {
    Report::failed("this cluster runs in Docker, and this bramble was built without it")
        .fix("use a bramble with the feature `docker`, like the one that started the cluster")
}
