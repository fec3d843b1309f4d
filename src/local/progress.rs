//! What a person sees while they wait: a line a step, with how long it took; on a terminal, one that moves meanwhile.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use crate::error::Report;

const FRAMES: [char; 10] = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
/// To the line's begin, and empty it.
const CLEAR: &str = "\r\x1b[2K";

/// Writes to stdout.
pub struct Progress {
    terminal: bool,
    clock: SystemClock,
}

/// The step that is being taken; its text may change on the way.
pub struct Step {
    text: Mutex<String>,
    done: AtomicBool,
}

impl Step {
    /// Says something more precise.
    pub fn say(&self, text: impl Into<String>) {
        if let Ok(mut held) = self.text.lock() {
            *held = text.into();
        }
    }

    fn text(&self) -> String {
        self.text.lock().map(|text| text.clone()).unwrap_or_default()
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self { terminal: std::io::stdout().is_terminal(), clock: SystemClock::start() }
    }
}

/// Ends the moving line even when the step panics; else the scope would wait for it for ever.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Progress {
    /// A line for the user.
    pub fn say(&self, line: &str) {
        write(&format!("{line}\n"));
    }

    /// Since the beginning.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.clock.now().tick.since(crate::clock::Tick(0))
    }

    /// Takes a step: `✓ text  0.2 s`, or `✗ text` when it fails.
    ///
    /// # Errors
    /// What the step gives.
    pub fn step<T>(&self, text: &str, work: impl FnOnce(&Step) -> Result<T, Report>) -> Result<T, Report> {
        let begin = self.clock.now().tick;
        let step = Step { text: Mutex::new(text.to_owned()), done: AtomicBool::new(false) };
        let result = std::thread::scope(|scope| {
            let _done = Done(&step.done);
            if self.terminal {
                scope.spawn(|| self.spin(&step));
            }
            work(&step)
        });
        let took = self.clock.now().tick.since(begin).as_secs_f64();
        let clear = if self.terminal { CLEAR } else { "" };
        match &result {
            Ok(_) => write(&format!("{clear}✓ {}  {took:.1} s\n", step.text())),
            Err(_) => write(&format!("{clear}✗ {}\n", step.text())),
        }
        result
    }

    fn spin(&self, step: &Step) {
        for frame in FRAMES.iter().cycle() {
            if step.done.load(Ordering::Acquire) {
                return;
            }
            write(&format!("{CLEAR}{frame} {}", step.text()));
            std::thread::sleep(Duration::from_millis(80));
        }
    }
}

/// Who stopped reading does not stop us.
fn write(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Ctrl-C ends this command only: daemons are process groups of their own. Says so, in `words`, and ends with 130.
///
/// # Errors
/// When the handler cannot be set up.
pub fn on_interrupt(words: String) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut interrupt = {
        let _inside = runtime.enter();
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?
    };
    std::thread::Builder::new().name("interrupt".into()).spawn(move || {
        if runtime.block_on(interrupt.recv()).is_some() {
            write(&format!("\n{words}\n"));
            std::process::exit(130);
        }
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_gives_what_its_work_gives() {
        for terminal in [false, true] {
            let progress = Progress { terminal, ..Progress::default() };
            let given = progress.step("adding", |step| {
                step.say("added");
                Ok(2)
            });
            assert_eq!(given.unwrap(), 2);
            let failed = progress.step("failing", |_| Err::<(), _>(Report::failed("no")));
            assert_eq!(failed.unwrap_err().what, "no");
        }
    }
}
