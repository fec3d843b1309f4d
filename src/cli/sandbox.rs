//! `bramble sandbox`: the process of a pod's sandbox container. Hidden: only the agent starts it, in Docker.

use crate::agent::runtime::exec::sandbox_main;
use crate::error::Report;

pub(super) fn run() -> Result<(), Report> {
    sandbox_main().map_err(|error| Report::failed("the sandbox cannot hear signals").because(error))
}
