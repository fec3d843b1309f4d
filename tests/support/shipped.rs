//! The agent as `cross/build.sh` makes it for a board.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)] // a test's tool

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// What is shipped for a board. Built in the same target folder as this test, so that it is built anew only when
/// something changed. Who works on a test and not on the program may name a folder with programs by board: `BRAMBLE_SHIPPED=DIR`.
pub fn built(board: &str) -> PathBuf {
    if let Some(folder) = std::env::var_os("BRAMBLE_SHIPPED") {
        let program = Path::new(&folder).join(board);
        println!("{}: as it was given", program.display());
        return program;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = Path::new(env!("CARGO_BIN_EXE_bramble")).ancestors();
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| folders.into_iter().nth(2).unwrap().to_owned(), PathBuf::from);
    let mut command = Command::new(root.join("cross/build.sh"));
    command.arg(board).current_dir(root).stdin(Stdio::null()).stderr(Stdio::inherit());
    // What cargo tells this test about itself would make build scripts run again.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "NEXTEST"].iter().any(|own| name.starts_with(own)) {
            command.env_remove(&*name);
        }
    }
    let from = Instant::now();
    let said = command.env_remove("LD_LIBRARY_PATH").env("CARGO_TARGET_DIR", target).output().unwrap();
    assert!(said.status.success(), "cross/build.sh failed ({}); what it said stands above", said.status);
    let program = root.join(String::from_utf8(said.stdout).unwrap().trim_end());
    let size = program.metadata().unwrap_or_else(|error| panic!("{}: {error}", program.display())).len();
    println!("{}: {size} bytes, built in {:.1} s", program.display(), from.elapsed().as_secs_f64());
    program
}
