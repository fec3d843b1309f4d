//! For which processor a program is, by its ELF header.

use std::fmt;

/// What a program runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// 64-bit ARM.
    Aarch64,
    /// 32-bit ARM.
    Arm,
    /// A PC.
    X86,
    /// Another processor, by ELF's number.
    Other(u16),
    /// No program for Linux at all.
    None,
}

impl Machine {
    /// Reads a program's header. Source: elf(5): `e_ident`, `e_machine`.
    #[must_use]
    pub fn of(program: &[u8]) -> Self {
        let &[0x7f, b'E', b'L', b'F', class, 1, _, _, _, _, _, _, _, _, _, _, _, _, low, high, ..] = program else {
            return Self::None;
        };
        match (class, u16::from_le_bytes([low, high])) {
            (2, 183) => Self::Aarch64,
            (1, 40) => Self::Arm,
            (1 | 2, 3 | 62) => Self::X86,
            (_, other) => Self::Other(other),
        }
    }

    /// The board whose name `cross/build.sh` takes for a program for this.
    #[must_use]
    pub fn board(self) -> &'static str {
        if self == Self::Arm { "rpi-zero-w" } else { "rpi-4b" }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aarch64 => f.write_str("for 64-bit ARM"),
            Self::Arm => f.write_str("for 32-bit ARM"),
            Self::X86 => f.write_str("for a PC"),
            Self::Other(number) => write!(f, "for another processor (ELF machine {number})"),
            Self::None => f.write_str("no program for Linux"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_tells_the_processor() {
        let header = |class: u8, machine: u8| {
            let mut bytes = b"\x7fELF".to_vec();
            bytes.extend([class, 1]);
            bytes.resize(18, 0);
            bytes.extend([machine, 0]);
            bytes
        };
        assert_eq!(Machine::of(&header(2, 183)), Machine::Aarch64);
        assert_eq!(Machine::of(&header(1, 40)), Machine::Arm);
        assert_eq!(Machine::of(&header(2, 62)), Machine::X86);
        assert_eq!(Machine::of(&header(2, 243)), Machine::Other(243));
        assert_eq!(Machine::of(&header(2, 183)[..19]), Machine::None);
        assert_eq!(Machine::of(b"#!/bin/sh\n"), Machine::None);
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let here = if cfg!(target_arch = "x86_64") { Machine::X86 } else { Machine::Aarch64 };
        assert_eq!(Machine::of(&own), here);
    }
}
