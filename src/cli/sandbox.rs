//! `bramble sandbox`: the process of a pod's sandbox container. Hidden: only the agent starts it, in Docker.

use crate::error::Report;

pub(super) fn run() -> Result<(), Report> {
    // WIRE AT MERGE: agent::runtime::sandbox::sandbox_main()
    Err(Report::failed("this build has no sandbox in it"))
}
