//! `bramble completion SHELL`: the script that completes commands and flags.

use clap_complete::Shell;

use crate::error::Report;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// bash, elvish, fish, powershell or zsh
    shell: Shell,
}

pub(super) fn run(args: &Args, mut command: clap::Command) -> Result<(), Report> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "bramble", &mut script);
    super::print(&String::from_utf8_lossy(&script));
    Ok(())
}
