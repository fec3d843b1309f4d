//! Hands: asks by a command in the container; exit code 0 is good.

use std::time::Duration;

use super::Sign;
use crate::agent::runtime::{Executed, Runtime};

/// Asks once.
pub(super) async fn ask(runtime: &dyn Runtime, container: &str, command: &[String], timeout: Duration) -> Sign {
    match runtime.exec(container, command, timeout).await {
        Ok(Executed { exit_code: Some(0), .. }) => Sign::Good,
        Ok(Executed { exit_code: Some(code), output }) if output.trim().is_empty() => {
            Sign::Bad(format!("command {:?} terminated with exit code {code}", command.join(" ")))
        }
        Ok(Executed { exit_code: Some(_), output }) => Sign::Bad(output),
        Ok(Executed { exit_code: None, .. }) => {
            Sign::Bad(format!("command timed out: {:?} timed out after {}s", command.join(" "), timeout.as_secs()))
        }
        Err(failure) => Sign::Errored(failure.to_string()),
    }
}
