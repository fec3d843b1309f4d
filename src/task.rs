//! Who owns each task: a [`Supervisor`] gives every task a name and a stop token, says what its death means, and ends
//! them in order within a deadline.
//!
//! Tasks are born only here (and one a connection, inside the listener that owns it).

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The tasks of one daemon. A task that ends before it was told to ends the daemon: systemd, or a person, starts it again,
/// and everything here can be started again at any point.
pub struct Supervisor {
    stop: CancellationToken,
    tasks: JoinSet<&'static str>,
    running: Vec<&'static str>,
}

impl Default for Supervisor {
    fn default() -> Self {
        Self::new(CancellationToken::new())
    }
}

/// How a daemon's run ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// Every task finished after the stop was asked for.
    Finished,
    /// These tasks did not finish within the deadline and were cut off.
    CutOff(Vec<&'static str>),
}

impl Supervisor {
    /// A supervisor whose tasks end when `stop` is cancelled.
    #[must_use]
    pub fn new(stop: CancellationToken) -> Self {
        Self { stop, tasks: JoinSet::new(), running: Vec::new() }
    }

    /// The token that a task watches.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Starts a task under a name. Its early end, by return or by panic, stops the daemon.
    pub fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.running.push(name);
        self.tasks.spawn(async move {
            // Cancels on return and on panic alike.
            let _guard = stop.drop_guard();
            task.await;
            name
        });
    }

    /// Waits until something stops the daemon, then for its tasks, at most `deadline`.
    pub async fn run(self, deadline: Duration) -> Ended {
        self.stop.cancelled().await;
        let Self { mut tasks, mut running, .. } = self;
        let drained = tokio::time::timeout(deadline, async {
            while let Some(ended) = tasks.join_next().await {
                match ended {
                    Ok(name) => {
                        tracing::debug!(task = name, "finished");
                        if let Some(at) = running.iter().position(|&other| other == name) {
                            running.swap_remove(at);
                        }
                    }
                    Err(error) => tracing::error!(%error, "task died"),
                }
            }
        })
        .await;
        if drained.is_ok() {
            tracing::info!("finished");
            return Ended::Finished;
        }
        tracing::warn!(tasks = ?running, "cut off");
        tasks.shutdown().await;
        Ended::CutOff(running)
    }
}

/// Cancels `stop` at SIGTERM or SIGINT.
///
/// # Errors
/// When the handlers cannot be installed.
pub async fn stop_on_signal(stop: CancellationToken) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    tokio::select! {
        () = stop.cancelled() => {}
        _ = term.recv() => tracing::info!(signal = "TERM", "stopping"),
        _ = int.recv() => tracing::info!(signal = "INT", "stopping"),
    }
    stop.cancel();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stop_waits_for_those_who_finish_and_names_those_who_do_not() {
        let mut supervisor = Supervisor::default();
        let stop = supervisor.token();
        let watched = stop.clone();
        supervisor.spawn("polite", async move { watched.cancelled().await });
        supervisor.spawn("deaf", std::future::pending());
        stop.cancel();
        assert_eq!(supervisor.run(Duration::from_millis(50)).await, Ended::CutOff(vec!["deaf"]));
    }

    #[tokio::test]
    async fn a_task_that_dies_early_stops_the_daemon() {
        let mut supervisor = Supervisor::default();
        supervisor.spawn("short", async {});
        assert_eq!(supervisor.run(Duration::from_secs(5)).await, Ended::Finished);
    }
}
