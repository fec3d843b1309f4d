//! Hands: runs the machine's own programs. Behind a trait, so that tests record what would have been run.

use std::process::{Command, Stdio};

use crate::agent::exec::{self, ExecError};

/// The machine's programs.
pub trait Programs {
    /// What one says, for looking; `None` when it is not there, refuses or hangs.
    fn ask(&self, program: &str, arguments: &[&str]) -> Option<String>;
    /// Has one change something.
    ///
    /// # Errors
    /// When it is not there, refuses or hangs.
    fn run(&self, program: &str, arguments: &[&str]) -> Result<(), ExecError>;
    /// Installs a Debian package; what it says goes to the terminal.
    ///
    /// # Errors
    /// When it cannot be.
    fn install(&self, package: &str) -> Result<(), ExecError>;
}

/// Those of the machine that this runs on.
pub struct Real(tokio::runtime::Runtime);

impl Real {
    /// Ready to run them.
    ///
    /// # Errors
    /// When there is no room for a runtime.
    pub fn new() -> std::io::Result<Self> {
        tokio::runtime::Builder::new_current_thread().enable_all().build().map(Self)
    }
}

impl Programs for Real {
    fn ask(&self, program: &str, arguments: &[&str]) -> Option<String> {
        self.0.block_on(exec::run(program, arguments, "")).ok()
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<(), ExecError> {
        self.0.block_on(exec::run(program, arguments, "")).map(drop)
    }

    fn install(&self, package: &str) -> Result<(), ExecError> {
        // Without a limit of time: a slow card and a slow line take their minutes, and the person sees it go on.
        let name = "apt-get".to_owned();
        let mut command = Command::new(&name);
        command.args(["install", "-y", package]).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
        // Standard output is the report's.
        command.stdout(std::io::stderr());
        match command.status() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(ExecError::Refused { program: name, words: status.to_string() }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(ExecError::Missing(name)),
            Err(source) => Err(ExecError::Run { program: name, source }),
        }
    }
}
