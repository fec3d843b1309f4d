//! The programs on disk.

use std::path::Path;

use crate::Setup;
use crate::shipped;
use crate::table::{Table, mib};

/// As they are shipped: stripped, optimised for size.
pub fn measure(setup: &Setup, table: &mut Table) -> anyhow::Result<()> {
    row(table, "the whole program", &setup.program)?;
    if let Some(agent) = &setup.agent {
        row(table, "the agent's program", agent)?;
    }
    for board in shipped::BOARDS {
        match shipped::program(board) {
            Ok(program) => row(table, &format!("the agent's program for {board}"), &program)?,
            Err(why) => eprintln!("the agent's program for {board} is not measured: {why}"),
        }
    }
    Ok(())
}

fn row(table: &mut Table, what: &str, program: &Path) -> anyhow::Result<()> {
    let bytes = std::fs::read(program)?;
    let kind = shipped::kind(&bytes).unwrap_or_else(|| "no ELF file".to_owned());
    table.row(what, "", &mib(bytes.len() as u64 / 1024), &format!("{} bytes, {kind}", bytes.len()));
    Ok(())
}
