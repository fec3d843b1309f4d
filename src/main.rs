//! The `bramble` command: parses arguments, calls one function of `cli`, prints what went wrong once.

use std::process::ExitCode;

fn main() -> ExitCode {
    bramble::cli::main()
}
