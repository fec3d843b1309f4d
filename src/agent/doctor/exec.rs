//! Hands: runs the machine's own programs. Behind a trait, so that tests record what would have been run.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::agent::exec::{self, ExecError};

/// For one that changes something: swap that is read back from a card, and a daemon's first start, take minutes.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// Where they are, when this user's PATH does not lead there.
const SYSTEM: &str = "/usr/sbin:/sbin:/usr/local/sbin";

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
        self.0.block_on(change(program, arguments, PATIENCE))
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

/// Runs what changes something to its good end. One that takes too long is no longer waited for, and goes on: half a change is worse
/// than a late one.
async fn change(program: &str, arguments: &[&str], patience: Duration) -> Result<(), ExecError> {
    let name = program.to_owned();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).env("PATH", format!("{path}:{SYSTEM}")).env("LC_ALL", "C").stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let output = match tokio::time::timeout(patience, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => return Err(ExecError::Missing(name)),
        Ok(Err(source)) => return Err(ExecError::Run { program: name, source }),
        Err(_) => return Err(ExecError::Slow(name)),
    };
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(ExecError::Refused { program: name, words: if words.is_empty() { output.status.to_string() } else { words } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_changes_something_is_not_cut_off_half_way() {
        let folder = tempfile::tempdir().unwrap();
        let ended = folder.path().join("ended");
        let script = format!("sleep 0.5; : > {}", ended.display());
        let late = change("sh", &["-c", &script], Duration::from_millis(50)).await;
        assert!(matches!(late, Err(ExecError::Slow(_))), "{late:?}");
        assert!(!ended.exists());
        for _ in 0..200 {
            if ended.exists() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(ended.exists(), "it went on");
    }

    #[tokio::test]
    async fn how_a_change_ended_is_told() {
        change("sh", &["-c", "echo fine"], PATIENCE).await.unwrap();
        let refused = change("sh", &["-c", "echo not so >&2; exit 1"], PATIENCE).await.unwrap_err();
        assert_eq!(refused.to_string(), "sh says: not so");
        let missing = change("/nowhere/systemctl", &[], PATIENCE).await;
        assert!(matches!(missing, Err(ExecError::Missing(_))), "{missing:?}");
    }
}
