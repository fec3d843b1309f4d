//! How far a long step is, in the terminal.

use std::io::{IsTerminal as _, Write as _};

/// How far it is: one line that moves on a terminal, else a line each quarter.
pub(super) struct Meter {
    what: &'static str,
    terminal: bool,
    shown: u64,
}

impl Meter {
    pub(super) fn new(what: &'static str) -> Self {
        Self { what, terminal: std::io::stdout().is_terminal(), shown: 0 }
    }

    pub(super) fn at(&mut self, done: u64, all: u64) {
        let percent = (done * 100).checked_div(all).unwrap_or(100).min(100);
        let step = if self.terminal { 1 } else { 25 };
        if percent / step <= self.shown / step && self.shown > 0 {
            return;
        }
        self.shown = percent.max(1);
        let mib = |bytes: u64| bytes >> 20;
        let text = format!("{}: {} of {} MiB, {percent} %", self.what, mib(done), mib(all));
        crate::cli::print(&if self.terminal { format!("\r\x1b[2K{text}") } else { format!("{text}\n") });
        // A terminal that is gone needs no meter.
        let _ = std::io::stdout().flush();
    }

    pub(super) fn end(&self) {
        if self.terminal {
            crate::cli::print("\r\x1b[2K");
        }
    }
}
