//! What is shipped to boards: the static programs that `cross/build.sh` makes.

use std::path::{Path, PathBuf};

use bramble::board::Board;

/// One for each target there is: 64 and 32 bits.
pub const BOARDS: [&str; 2] = ["rpi-4b", "rpi-zero-w"];

/// Names a folder with the programs by board.
const VARIABLE: &str = "BRAMBLE_SHIPPED";

/// The program of a board, or in words why it is not there.
pub fn program(board: &str) -> Result<PathBuf, String> {
    let there = |program: PathBuf, fix: String| {
        if program.is_file() { Ok(program) } else { Err(format!("{} is not there; {fix}", program.display())) }
    };
    if let Some(folder) = std::env::var_os(VARIABLE) {
        return there(Path::new(&folder).join(board), format!("{VARIABLE} names a folder with programs by board"));
    }
    let target = Board::named(board).ok_or_else(|| format!("no board {board}"))?.target;
    // target/release/bramble
    let folder = Path::new(env!("CARGO_BIN_EXE_bramble")).ancestors().nth(2).unwrap_or(Path::new("target"));
    // As cross/build.sh has it: zig builds in a folder of its own.
    let folder = if target.starts_with("aarch64") { folder.to_owned() } else { folder.join("zig") };
    there(
        folder.join(target).join("small/bramble"),
        format!("`cross/build.sh {board}` makes it, or {VARIABLE} names a folder that has it"),
    )
}

/// What a program is: `static, aarch64`. `None`: no ELF file.
pub fn kind(bytes: &[u8]) -> Option<String> {
    let number = |at: usize, length: usize| {
        let part = bytes.get(at..at.checked_add(length)?)?;
        part.iter().rev().try_fold(0usize, |sum, byte| sum.checked_mul(256)?.checked_add(usize::from(*byte)))
    };
    if bytes.get(..4)? != b"\x7fELF" {
        return None;
    }
    let is_64 = bytes.get(4)? == &2;
    let architecture = match number(18, 2)? {
        40 => "ARM, 32 bits".to_owned(),
        62 => "x86-64".to_owned(),
        183 => "aarch64".to_owned(),
        other => format!("processor {other}"),
    };
    // Program headers: one that names an interpreter (3) makes the program dynamic.
    let (start, size, count) =
        if is_64 { (number(32, 8)?, number(54, 2)?, number(56, 2)?) } else { (number(28, 4)?, number(42, 2)?, number(44, 2)?) };
    let dynamic = (0..count).any(|index| number(start.saturating_add(index.saturating_mul(size)), 4) == Some(3));
    Some(format!("{}, {architecture}", if dynamic { "dynamic" } else { "static" }))
}
