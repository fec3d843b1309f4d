//! Hands: runs this host's own programs for its network, `nft` and `iptables`, and what several parts ask `nft`.
//!
//! Both are Debian's packages (`nftables`, `iptables`); a host without them is told so once, by who asks.

use std::ffi::OsStr;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// One that takes longer is ended: a lock that somebody keeps, a kernel module that does not load.
const PATIENCE: Duration = Duration::from_secs(20);
/// Where they are, when the agent's own PATH does not lead there.
const SYSTEM: &str = "/usr/sbin:/sbin:/usr/local/sbin";
/// So much of its complaints is kept.
const WORDS: usize = 500;

/// Why a program did not do it.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// It is not here.
    #[error("the program {0} is not on this host")]
    Missing(String),
    /// It could not be run.
    #[error("cannot run {program}")]
    Run {
        /// Which.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// It did not end.
    #[error("the program {0} did not end in time")]
    Slow(String),
    /// It refused.
    #[error("{program} says: {}", first_line(words))]
    Refused {
        /// Which.
        program: String,
        /// All that it said, or how it ended.
        words: String,
    },
}

/// The first line says it; what follows points into the batch.
fn first_line(words: &str) -> &str {
    words.lines().find(|line| !line.starts_with('#')).unwrap_or(words).trim()
}

/// Runs a program to its good end; what it printed.
///
/// # Errors
/// When it is not here, says no, or hangs.
pub async fn run(program: impl AsRef<OsStr>, arguments: &[&str], input: &str) -> Result<String, ExecError> {
    let (program, name) = (program.as_ref(), program.as_ref().to_string_lossy().into_owned());
    let path = std::env::var("PATH").unwrap_or_default();
    let spawned = Command::new(program)
        .args(arguments)
        .env("PATH", format!("{path}:{SYSTEM}"))
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(ExecError::Missing(name)),
        Err(source) => return Err(ExecError::Run { program: name, source }),
    };
    let stdin = child.stdin.take();
    let whole = async {
        if let Some(mut stdin) = stdin {
            // One that does not read what it is given says why by itself.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        child.wait_with_output().await
    };
    let output = match tokio::time::timeout(PATIENCE, whole).await {
        Ok(Ok(output)) => output,
        Ok(Err(source)) => return Err(ExecError::Run { program: name, source }),
        Err(_) => return Err(ExecError::Slow(name)),
    };
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let words: String = String::from_utf8_lossy(&output.stderr).trim().chars().take(WORDS).collect();
    Err(ExecError::Refused { program: name, words: if words.is_empty() { output.status.to_string() } else { words } })
}

/// Carries out a batch of nftables' own language, as one transaction.
///
/// # Errors
/// When there is no `nft`, or it refuses; then nothing of it is done.
pub async fn transaction(batch: &str) -> Result<(), ExecError> {
    run("nft", &["-f", "-"], batch).await.map(drop)
}

/// All tables of nftables: family and name.
///
/// # Errors
/// When there is no `nft`, or it cannot be asked.
pub async fn tables() -> Result<Vec<(String, String)>, ExecError> {
    let text = run("nft", &["list", "tables"], "").await?;
    let read = |line: &str| {
        let mut words = line.strip_prefix("table ")?.split_whitespace();
        Some((words.next()?.to_owned(), words.next()?.to_owned()))
    };
    Ok(text.lines().filter_map(read).collect())
}

/// Whether a table of the family `ip` is there.
///
/// # Errors
/// When there is no `nft`, or it cannot be asked.
pub async fn has_table(name: &str) -> Result<bool, ExecError> {
    Ok(tables().await?.iter().any(|(family, table)| family == "ip" && table == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_program_says_is_told_and_one_that_is_not_here_is_named() {
        assert_eq!(run("cat", &[], "given").await.unwrap(), "given");
        let refused = run("sh", &["-c", "echo '# a warning' >&2; echo no such table >&2; echo below >&2; exit 3"], "").await;
        assert_eq!(refused.unwrap_err().to_string(), "sh says: no such table");
        let silent = run("sh", &["-c", "exit 3"], "").await.unwrap_err().to_string();
        assert_eq!(silent, "sh says: exit status: 3");
        let missing = run("/nowhere/nft", &[], "").await.unwrap_err().to_string();
        assert_eq!(missing, "the program /nowhere/nft is not on this host");
    }
}
