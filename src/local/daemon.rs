//! The daemons of a local cluster: started detached, found by their locks, ended with a deadline.
//!
//! A daemon is known by the lock that it holds (`crate::config::Claim`), never by a pid in a file alone: a pid may be somebody
//! else's by now, a lock is held by a living process.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::layout::Layout;
use crate::clock::{Clock, SystemClock};
use crate::error::Report;
use crate::telemetry::LOG_VARIABLE;

/// How long a daemon has between TERM and KILL.
pub const GRACE: Duration = Duration::from_secs(15);
/// How long the kernel may take to end a killed process.
const AFTER_KILL: Duration = Duration::from_secs(10);
/// A longer log is put aside (one old one is kept) before a daemon writes on.
const LOG_LIMIT: u64 = 4 << 20;

/// Begins the line that `start` writes before each run of a daemon.
const BEGIN: &str = "── bramble start";

/// Where a daemon sits: whoever holds this lock is it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Its data directory.
    pub dir: PathBuf,
    /// `master` or `agent`.
    pub role: &'static str,
}

impl Seat {
    /// The master's.
    #[must_use]
    pub fn master(layout: &Layout) -> Self {
        Self { dir: layout.root().to_path_buf(), role: "master" }
    }

    /// A node's.
    #[must_use]
    pub fn node(layout: &Layout, name: &str) -> Self {
        Self { dir: layout.node(name), role: "agent" }
    }

    /// The pid of who sits there.
    ///
    /// # Errors
    /// When the lock cannot be looked at, or its holder does not tell its pid.
    pub fn pid(&self) -> Result<Option<u32>, Report> {
        let failed = || Report::failed(format!("cannot tell whether a bramble {} lives in {}", self.role, self.dir.display()));
        // One that starts right now has the lock an instant before its pid is in it.
        for _ in 0..20 {
            match crate::config::holder(&self.dir, self.role) {
                Ok(None) => return Ok(None),
                // One that was killed holds the lock until the system has cleared it away.
                Ok(Some(Some(pid))) if is_ending(pid) => std::thread::sleep(Duration::from_millis(50)),
                Ok(Some(Some(pid))) => return Ok(Some(pid)),
                Ok(Some(None)) => std::thread::sleep(Duration::from_millis(50)),
                Err(error) => return Err(failed().because(error).fix("run this as the user who started the cluster")),
            }
        }
        let file = crate::config::lock_file(&self.dir, self.role);
        Err(failed().fix(format!("see who holds it with `fuser {}`", file.display())))
    }
}

/// Whether the system is clearing this process away (`PF_EXITING`, or a zombie), by `/proc/PID/stat`.
fn is_ending(pid: u32) -> bool {
    const EXITING: u64 = 0x4;
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return true };
    // After the name in brackets: state, ppid, pgrp, session, tty, tpgid, flags.
    let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let state = fields.next().unwrap_or_default();
    let flags: u64 = fields.nth(5).and_then(|flags| flags.parse().ok()).unwrap_or_default();
    matches!(state, "Z" | "X") || flags & EXITING != 0
}

/// Starts this same binary with `arguments`, detached: a process group of its own, so that Ctrl-C in this terminal does not
/// reach it, no stdin, and its log for the rest.
///
/// # Errors
/// When the log cannot be written or the process not be started.
pub fn spawn(layout: &Layout, process: &str, arguments: &[OsString]) -> Result<Child, Report> {
    let path = layout.log(process);
    let mut log = open_log(&path).map_err(|error| {
        Report::failed(format!("cannot write {}", path.display()))
            .because(error)
            .fix("make room on the disk, or make it writable")
    })?;
    let failed = |error| Report::failed(format!("cannot start {process}")).because(error);
    let now = crate::api::time::rfc3339(SystemClock::start().now().wall);
    writeln!(log, "{BEGIN} {now} {process}").map_err(failed)?;
    let errors = log.try_clone().map_err(failed)?;
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    command.args(arguments).current_dir(layout.root()).stdin(Stdio::null()).stdout(log).stderr(errors).process_group(0);
    // What this shell says to configure one daemon would hold for all of them.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("BRAMBLE_") && name != LOG_VARIABLE) {
            command.env_remove(name);
        }
    }
    // Nor are they services of whatever started this shell.
    for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"] {
        command.env_remove(name);
    }
    command.spawn().map_err(failed)
}

fn open_log(path: &Path) -> std::io::Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    if std::fs::metadata(path).is_ok_and(|log| log.len() > LOG_LIMIT) {
        std::fs::rename(path, path.with_extension("log.1"))?;
    }
    File::options().create(true).append(true).open(path)
}

/// The last lines of a daemon's last run, as the reason of a failure; says so when there are none. What a panic says is before
/// its backtrace.
#[must_use]
pub fn tail(path: &Path) -> String {
    const BYTES: u64 = 64 << 10;
    const LINES: usize = 12;
    let read = || {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(BYTES)))?;
        let mut bytes = Vec::new();
        file.take(BYTES).read_to_end(&mut bytes).map(|_| String::from_utf8_lossy(&bytes).into_owned())
    };
    let text: std::io::Result<String> = read();
    let text = text.unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let run = lines.rsplit(|line| line.starts_with(BEGIN)).next().unwrap_or_default();
    let from = match run.iter().rposition(|line| line.contains("panicked at")) {
        Some(panic) => panic,
        None => run.len().saturating_sub(LINES),
    };
    let last: Vec<&str> = run.iter().skip(from).take(LINES).take_while(|line| **line != "stack backtrace:").copied().collect();
    match last.is_empty() {
        true => format!("it wrote nothing into its log {}", path.display()),
        false => format!("its log {} ends with\n{}", path.display(), last.join("\n")),
    }
}

/// How daemons came to their end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Those that ended when asked to.
    pub asked: Vec<u32>,
    /// Those that had to be killed.
    pub killed: Vec<u32>,
}

/// Ends whoever sits on `seats`: TERM to all at once, KILL to those who still sit there after `grace`.
///
/// # Errors
/// When one may not be ended by this user, or does not even end when killed.
pub fn end(seats: &[Seat], grace: Duration) -> Result<Ended, Report> {
    let mut pids = living(seats)?;
    let asked = pids.clone();
    signal(&pids, Signal::TERM)?;
    pids = wait_until_gone(seats, grace)?;
    let killed = pids.clone();
    signal(&pids, Signal::KILL)?;
    pids = wait_until_gone(seats, AFTER_KILL)?;
    if !pids.is_empty() {
        return Err(Report::failed(format!("process {} does not end even when killed", list(&pids)))
            .fix("it waits for a disk or a device: see `dmesg`, and run the command again later"));
    }
    Ok(Ended { asked: asked.into_iter().filter(|pid| !killed.contains(pid)).collect(), killed })
}

fn wait_until_gone(seats: &[Seat], patience: Duration) -> Result<Vec<u32>, Report> {
    let clock = SystemClock::start();
    loop {
        let pids = living(seats)?;
        if pids.is_empty() || clock.now().tick.since(crate::clock::Tick(0)) >= patience {
            return Ok(pids);
        }
        std::thread::sleep(Duration::from_millis(30));
    }
}

/// Several seats may be one process.
fn living(seats: &[Seat]) -> Result<Vec<u32>, Report> {
    let mut pids = Vec::new();
    for seat in seats {
        pids.extend(seat.pid()?);
    }
    pids.sort_unstable();
    pids.dedup();
    Ok(pids)
}

fn signal(pids: &[u32], signal: Signal) -> Result<(), Report> {
    for pid in pids {
        let Some(target) = i32::try_from(*pid).ok().and_then(Pid::from_raw) else { continue };
        match kill_process(target, signal) {
            // Gone meanwhile.
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => {
                return Err(Report::failed(format!("cannot end process {pid}"))
                    .because(error)
                    .fix("run this as the user who started the cluster"));
            }
        }
    }
    Ok(())
}

/// `1, 2 and 3`.
#[must_use]
pub fn list<T: ToString>(items: &[T]) -> String {
    let words: Vec<String> = items.iter().map(ToString::to_string).collect();
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        Some((last, _)) => last.clone(),
        None => "none".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log_is_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        assert!(tail(&path).starts_with("it wrote nothing"));
        let lines: Vec<String> = (0..5000).map(|line| format!("line {line}")).collect();
        std::fs::write(&path, lines.join("\n")).unwrap();
        let told = tail(&path);
        assert!(told.ends_with("line 4998\nline 4999"), "{told}");
        assert_eq!(told.lines().count(), 13);
        std::fs::write(&path, format!("old\n{BEGIN} now a\n")).unwrap();
        assert!(tail(&path).starts_with("it wrote nothing"), "what an earlier run wrote is not the reason");
        let trace = "  12: at somewhere\n".repeat(50);
        std::fs::write(
            &path,
            format!("old\n{BEGIN} now a\nup\nthread 'main' panicked at x:1:\nout of luck\nstack backtrace:\n{trace}"),
        )
        .unwrap();
        assert!(tail(&path).ends_with("ends with\nthread 'main' panicked at x:1:\nout of luck"), "{}", tail(&path));
    }

    #[test]
    fn a_long_log_is_put_aside_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("logs/a.log");
        drop(open_log(&path).unwrap());
        File::options().write(true).open(&path).unwrap().set_len(LOG_LIMIT + 1).unwrap();
        assert_eq!(open_log(&path).unwrap().metadata().unwrap().len(), 0);
        assert!(dir.path().join("logs/a.log.1").exists());
    }

    #[test]
    fn an_empty_seat_has_nobody_to_end() {
        let dir = tempfile::tempdir().unwrap();
        let seat = Seat { dir: dir.path().to_path_buf(), role: "agent" };
        assert_eq!(seat.pid().unwrap(), None);
        assert_eq!(end(&[seat], Duration::ZERO).unwrap(), Ended::default());
    }

    /// `flock(1)` sits on a seat as a daemon does: a process that holds the lock and has its pid in the file.
    fn sit(seat: &Seat, deaf: bool) -> Child {
        std::fs::create_dir_all(&seat.dir).unwrap();
        let lock = crate::config::lock_file(&seat.dir, seat.role);
        let trap = if deaf { "trap '' TERM; " } else { "" };
        let script =
            format!("exec 9<>'{0}'; flock 9; {trap}printf $$ > '{0}'; while :; do read -t 1 x <> <(:); done", lock.display());
        let child = Command::new("bash").args(["-c", &script]).stdin(Stdio::null()).spawn().unwrap();
        while seat.pid().ok().flatten() != Some(child.id()) {
            std::thread::sleep(Duration::from_millis(10));
        }
        child
    }

    #[test]
    fn who_ends_when_asked_is_not_killed_and_who_does_not_is() {
        let dir = tempfile::tempdir().unwrap();
        let seat = |name| Seat { dir: dir.path().join(name), role: "agent" };
        let (mut polite, mut deaf) = (sit(&seat("a"), false), sit(&seat("b"), true));
        let ended = end(&[seat("a"), seat("b"), seat("c")], Duration::from_millis(300)).unwrap();
        assert_eq!(ended, Ended { asked: vec![polite.id()], killed: vec![deaf.id()] });
        assert!(!polite.wait().unwrap().success() && !deaf.wait().unwrap().success());
    }

    #[test]
    fn lists_are_words() {
        assert_eq!(list(&[1, 2, 3]), "1, 2 and 3");
        assert_eq!(list(&["a"]), "a");
    }
}
