//! The `bramble` command.

fn main() {}
