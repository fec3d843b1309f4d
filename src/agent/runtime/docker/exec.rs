//! Hands: a command in a running container, with a limit.
//!
//! Docker has no way to end what it was asked to run: past its limit the process is killed by us, with its whole group, when
//! it is a process of this machine and surely of that container. Where Docker runs on another machine (or in another process
//! namespace) it is left to its container's end.

use std::collections::BTreeSet;
use std::time::Duration;

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, StartExecResults};
use futures_util::StreamExt;
use rustix::process::{Pid, Signal, kill_process_group};

use super::{QUICK, Shared};
use crate::agent::runtime::{Executed, Failure, OUTPUT_LIMIT};

impl Shared {
    /// Docker tells the end of a stream some moments before the exit code.
    const SETTLES: Duration = Duration::from_secs(2);

    pub(super) async fn exec(&self, container: &str, command: &[String], limit: Duration) -> Result<Executed, Failure> {
        let docker = self.client().await?;
        let options = CreateExecOptions {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(command.to_vec()),
            ..CreateExecOptions::default()
        };
        let id = self.ask(QUICK, docker.create_exec(container, options)).await?.id;
        let begun = tokio::time::Instant::now();
        let StartExecResults::Attached { output, input: _input } = self.ask(QUICK, docker.start_exec(&id, None)).await? else {
            return Err(Failure::Failed("Docker started the command without us".to_owned()));
        };
        let mut kept = Vec::new();
        let reading = read(output, &mut kept);
        let ended = tokio::time::timeout_at(begun + limit, reading).await;
        let exit_code = match ended {
            Ok(Ok(())) => self.exit_code(&docker, &id).await?,
            Ok(Err(error)) => return Err(self.failure(&error)),
            Err(_) => {
                self.end(&docker, &id, container).await?;
                None
            }
        };
        Ok(Executed { exit_code, output: String::from_utf8_lossy(&kept).into_owned() })
    }

    async fn exit_code(&self, docker: &Docker, id: &str) -> Result<Option<i64>, Failure> {
        let deadline = tokio::time::Instant::now() + Self::SETTLES;
        loop {
            let seen = self.ask(QUICK, docker.inspect_exec(id)).await?;
            if seen.running != Some(true) && seen.exit_code.is_some() {
                return Ok(seen.exit_code);
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(Failure::Failed("Docker does not say how the command ended".to_owned()));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn end(&self, docker: &Docker, id: &str, container: &str) -> Result<(), Failure> {
        let seen = self.ask(QUICK, docker.inspect_exec(id)).await?;
        // A name may have been given for the id.
        let container = seen.container_id.as_deref().unwrap_or(container);
        let pid = seen.pid.filter(|_| seen.running == Some(true)).and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        let Some(pid) = pid else { return Ok(()) };
        let groups = tokio::fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_nonzero())).await.unwrap_or_default();
        if !belongs(&groups, container) {
            tracing::warn!(container, "a command in a container outlived its limit, and it is not ours to kill: it runs on");
            return Ok(());
        }
        // What is run so leads a session of its own: its children are in its group.
        if let Err(error) = kill_process_group(pid, Signal::KILL) {
            tracing::debug!(container, %error, "a command that outlived its limit has ended by itself");
        }
        Ok(())
    }
}

/// Whether a process with these control groups is of the container: their paths end with its id, in one of the engines' ways.
fn belongs(groups: &str, container: &str) -> bool {
    let parts: BTreeSet<&str> = groups.split(['/', '\n', '-', '.']).collect();
    container.len() >= 32 && parts.contains(container)
}

async fn read<S>(mut output: S, kept: &mut Vec<u8>) -> Result<(), bollard::errors::Error>
where
    S: futures_util::Stream<Item = Result<LogOutput, bollard::errors::Error>> + Unpin,
{
    while let Some(part) = output.next().await {
        let part = part?.into_bytes();
        let room = OUTPUT_LIMIT.saturating_sub(kept.len()).min(part.len());
        kept.extend_from_slice(part.get(..room).unwrap_or_default());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_process_of_the_container_is_killed() {
        let id = "4b2f0a1b2c3d4e5f60718293a4b5c6d7e8f9012345678901234567890abcdef0";
        for (groups, ours) in [
            (format!("12:pids:/docker/{id}\n1:name=systemd:/docker/{id}\n"), true),
            (format!("0::/system.slice/docker-{id}.scope\n"), true),
            (format!("0::/machine.slice/libpod-{id}.scope/container\n"), true),
            (format!("0::/../{id}\n"), true),
            ("0::/user.slice/session-1.scope\n".to_owned(), false),
            (String::new(), false),
            (format!("0::/docker/{id}0\n"), false),
        ] {
            assert_eq!(belongs(&groups, id), ours, "{groups}");
        }
        assert!(!belongs("0::/a\n", "a"), "a short id could be any part of a path");
    }
}
