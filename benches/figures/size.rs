//! The programs on disk.

use std::path::Path;

use crate::Setup;
use crate::table::{Table, mib};

/// As they are shipped: stripped, optimised for size.
pub fn measure(setup: &Setup, table: &mut Table) -> anyhow::Result<()> {
    row(table, "the whole program", &setup.program)?;
    if let Some(agent) = &setup.agent {
        row(table, "the agent's program", agent)?;
    }
    Ok(())
}

fn row(table: &mut Table, what: &str, program: &Path) -> anyhow::Result<()> {
    let bytes = std::fs::metadata(program)?.len();
    let bytes_of = std::fs::read(program)?;
    // An ELF file names its interpreter when it is dynamic.
    let linked = if bytes_of.windows(8).any(|part| part == b"/ld-linu") { "dynamic" } else { "static" };
    table.row(what, "", &mib(bytes / 1024), &format!("{bytes} bytes, {linked}, {}", std::env::consts::ARCH));
    Ok(())
}
