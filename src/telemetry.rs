//! What the daemons tell: log lines on stderr or to systemd's journal, and their state to systemd.
//!
//! In:       `BRAMBLE_LOG` (level, or `target=level,…`; default `info`), `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `JOURNAL_STREAM` from
//!           systemd.
//! Never:    writes files: `bramble start` points stderr at one, systemd at its journal.

mod journal;

use std::io::IsTerminal;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// The variable that says how much is logged.
pub const LOG_VARIABLE: &str = "BRAMBLE_LOG";

/// The crate of WireGuard's tunnels: heard when it is asked for by name.
const TUNNELS: &str = "defguard_boringtun";

/// Why logging was not set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The variable is no filter.
    #[error("{LOG_VARIABLE}: expected a level (error, warn, info, debug, trace, off) or target=level,…, found {found:?}")]
    Filter {
        /// What it says.
        found: String,
        /// What the parser says.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Something in this process already logs.
    #[error("logging is already set up")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Starts logging for this process.
///
/// # Errors
/// When the filter cannot be read, or logging is set up already.
pub fn init() -> Result<(), TelemetryError> {
    let wanted = std::env::var(LOG_VARIABLE).ok().filter(|wanted| !wanted.trim().is_empty());
    let filter = filter(wanted.as_deref().unwrap_or("info"))?;
    if let Some(journal) = journal::Journal::of_stderr() {
        tracing_subscriber::registry().with(journal).with(filter).try_init()?;
        return Ok(());
    }
    let stderr = std::io::stderr();
    let lines = tracing_subscriber::fmt::layer().compact().with_ansi(stderr.is_terminal()).with_writer(std::io::stderr);
    tracing_subscriber::registry().with(lines).with(filter).try_init()?;
    Ok(())
}

/// An error's words as they go to stderr: where that is systemd's journal, each line bears the priority of an error.
#[must_use]
pub fn as_error(text: &str) -> String {
    if journal::is_stderr() { journal::prefixed(3, text) } else { text.to_owned() }
}

fn filter(wanted: &str) -> Result<Targets, TelemetryError> {
    let targets: Targets = wanted.parse().map_err(|source| TelemetryError::Filter { found: wanted.to_owned(), source })?;
    // A peer that is switched off is an error to it, again and again.
    let asked = wanted.contains(TUNNELS);
    Ok(if asked { targets } else { targets.with_target(TUNNELS, LevelFilter::OFF) })
}

/// The service manager, when it started us and wants to know (sd_notify's protocol: one datagram a message).
#[derive(Debug)]
pub struct Systemd {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

impl Systemd {
    /// Reads what systemd left in the environment; without it, everything here does nothing.
    #[must_use]
    pub fn from_environment() -> Self {
        let socket = std::env::var("NOTIFY_SOCKET").ok().and_then(|name| match connect(&name) {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::warn!(%error, socket = name, "cannot reach systemd");
                None
            }
        });
        let for_us = std::env::var("WATCHDOG_PID").ok().is_none_or(|pid| pid == std::process::id().to_string());
        let watchdog = std::env::var("WATCHDOG_USEC").ok().filter(|_| for_us).and_then(|micros| micros.parse().ok());
        Self { socket, watchdog: watchdog.filter(|&micros| micros > 0).map(Duration::from_micros) }
    }

    /// The daemon serves now.
    pub fn ready(&self) {
        self.say("READY=1");
    }

    /// What it is doing, for `systemctl status`.
    pub fn status(&self, words: &str) {
        self.say(&format!("STATUS={}", words.replace('\n', " ")));
    }

    /// The daemon is on its way out.
    pub fn stopping(&self) {
        self.say("STOPPING=1");
    }

    /// The task that says we live, twice in the time that systemd allows. It runs on the same runtime as everything else, so a
    /// runtime that hangs is seen.
    pub async fn watchdog(&self, stop: CancellationToken) {
        let Some(period) = self.watchdog.filter(|_| self.socket.is_some()) else {
            stop.cancelled().await;
            return;
        };
        let mut ticks = tokio::time::interval(period / 2);
        loop {
            tokio::select! { biased;
                () = stop.cancelled() => break,
                _ = ticks.tick() => self.say("WATCHDOG=1"),
            }
        }
    }

    fn say(&self, message: &str) {
        // A manager that does not read is not our fault and stops nothing here.
        if let Some(error) = self.socket.as_ref().and_then(|socket| socket.send(message.as_bytes()).err()) {
            tracing::debug!(%error, message, "systemd was not told");
        }
    }
}

fn connect(name: &str) -> std::io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    match name.strip_prefix('@') {
        Some(name) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        None => socket.connect(name)?,
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_levels_or_targets_with_levels() {
        for good in ["info", "debug", "off", "bramble::link=trace,warn"] {
            assert!(filter(good).is_ok(), "{good}");
        }
        let told = filter("bramble=loud").unwrap_err().to_string();
        assert!(told.contains("found \"bramble=loud\""), "{told}");
    }

    #[tokio::test]
    async fn systemd_hears_ready_then_the_watchdog() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let systemd_end = UnixDatagram::bind(&path).unwrap();
        systemd_end.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let us = Systemd { socket: Some(connect(path.to_str().unwrap()).unwrap()), watchdog: Some(Duration::from_millis(20)) };
        us.ready();
        let stop = CancellationToken::new();
        let _ = tokio::time::timeout(Duration::from_millis(50), us.watchdog(stop)).await;
        us.stopping();
        let mut heard = Vec::new();
        while heard.last().is_none_or(|last| last != "STOPPING=1") {
            let mut buffer = [0; 64];
            let length = systemd_end.recv(&mut buffer).unwrap();
            heard.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        assert_eq!(heard.first().map(String::as_str), Some("READY=1"));
        assert!(heard.iter().filter(|message| *message == "WATCHDOG=1").count() >= 2, "{heard:?}");
    }

    #[tokio::test]
    async fn without_systemd_nothing_happens() {
        let alone = Systemd { socket: None, watchdog: Some(Duration::from_millis(1)) };
        alone.ready();
        let stop = CancellationToken::new();
        stop.cancel();
        alone.watchdog(stop).await;
    }
}
