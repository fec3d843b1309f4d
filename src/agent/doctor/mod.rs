//! `bramble doctor`: finds what is wrong with this machine as a home for pods, and knows how it is mended.
//!
//! In:       a [`Host`]: the machine's files and programs, as they are seen from a root.
//! Out:      one [`Finding`] a check: how it is, why it matters, what would be done ([`Act`]s), how that is undone.
//! Never:    writes, or runs what changes something: `disk.rs` carries acts out, and only when it is asked to.
//!
//! ```text
//! look(host) ──▶ findings ──▶ acts of those that can be mended ──▶ disk.rs, exec.rs ──▶ look(host) again
//! ```
//!
//! One file a check. A check reads what is stored *and* what runs now: the root may be a card in a reader, where nothing runs.

use serde::Serialize;

use crate::terminal;

pub mod agent_unit;
pub mod card;
pub mod clock;
pub mod cmdline;
pub mod data_dir;
pub mod disk;
pub mod docker;
pub mod docker_logs;
pub mod exec;
pub mod json_text;
pub mod kernel;
pub mod medium;
pub mod memory_cgroup;
pub mod network_manager;
pub mod pins;
pub mod power;
pub mod run;
pub mod swap;
#[cfg(test)]
mod tests;
pub mod unit;
pub mod wifi;

/// What was seen of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Its whole text.
    Text(String),
    /// It is not there.
    Missing,
    /// This user may not read it.
    Denied,
    /// It is there and cannot be used: why.
    Strange(String),
}

impl Seen {
    /// The text, if it could be read.
    #[must_use]
    pub fn text(self) -> Option<String> {
        match self {
            Seen::Text(text) => Some(text),
            Seen::Missing | Seen::Denied | Seen::Strange(_) => None,
        }
    }
}

/// Room on a file system, in bytes and in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Room {
    pub total_bytes: u64,
    pub available_bytes: u64,
    pub files: u64,
    pub files_free: u64,
}

/// A machine that is looked at: this one, one whose card is in a reader, or a test's. Paths begin with `/` and are below its root.
pub trait Host {
    /// A text file of at most 1 MiB.
    fn read(&self, path: &str) -> Seen;
    /// Names in a folder, sorted; none, when it is not there or may not be read.
    fn list(&self, folder: &str) -> Vec<String>;
    /// Whether something is there, if only a link that leads nowhere.
    fn exists(&self, path: &str) -> bool;
    /// Where a symbolic link points, as it is written.
    fn link(&self, path: &str) -> Option<String>;
    /// Room on the file system of a path.
    fn room(&self, path: &str) -> Option<Room>;
    /// Whether this is the machine that this program runs on.
    fn runs(&self) -> bool;
    /// What a program of the machine says; `None` when it is not there, says no, or the machine does not run.
    fn ask(&self, program: &str, arguments: &[&str]) -> Option<String>;
    /// A path as the person at the terminal types it.
    fn shown(&self, path: &str) -> String;
    /// Where a path leads when links are followed, below the root still; itself, when nothing is there.
    fn resolved(&self, path: &str) -> String;
    /// Where a copy of a file is put before it is changed: a name beside the real one that is free.
    fn backup(&self, path: &str) -> String;
}

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// This machine has no such thing.
    Absent,
    /// Good.
    Ok,
    /// It could not be seen.
    Unseen,
    /// It works and does harm, or soon will.
    Warning,
    /// Something does not work.
    Problem,
}

impl State {
    /// Whether something is wrong.
    #[must_use]
    pub fn is_wrong(self) -> bool {
        self >= State::Warning
    }

    /// One word for a table.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            State::Absent => "-",
            State::Ok => "ok",
            State::Unseen => "unseen",
            State::Warning => "warning",
            State::Problem => "problem",
        }
    }
}

/// One thing that is done to a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// A file gets this content; what it was is kept beside it.
    Write {
        /// Below the root.
        path: String,
        /// All of it.
        content: String,
    },
    /// A systemd unit is started, now and at each boot.
    Enable(&'static str),
    /// A systemd unit is stopped, now and at each boot.
    Disable(&'static str),
    /// A program that changes what runs now; nothing is done where nothing runs.
    Now {
        /// By name.
        program: &'static str,
        /// Its arguments.
        arguments: Vec<String>,
    },
    /// A Debian package is installed. The only act that needs the network.
    Install(&'static str),
}

/// Who mends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// `--fix` does.
    Doctor(Vec<Act>),
    /// `--fix ID` does; a bare `--fix` is not enough.
    WhenNamed(Vec<Act>),
    /// A person has to.
    Person,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which check: what `--fix` takes.
    pub id: &'static str,
    /// How it is.
    pub state: State,
    /// What was found, without full stop.
    pub what: String,
    /// Why it matters; empty when nothing is wrong.
    pub why: String,
    /// What mends it: what is done by `--fix`, or what to do.
    pub fix: String,
    /// Who mends it.
    pub remedy: Remedy,
    /// What still has to be done after the fix, such as a reboot; or empty.
    pub then: String,
    /// Commands that undo the fix, or one that was made before; one a line, or empty.
    pub undo: String,
}

impl Finding {
    fn new(id: &'static str, state: State, what: impl Into<String>) -> Self {
        let none = String::new;
        Self { id, state, what: what.into(), why: none(), fix: none(), remedy: Remedy::Person, then: none(), undo: none() }
    }

    fn ok(id: &'static str, what: impl Into<String>) -> Self {
        Self::new(id, State::Ok, what)
    }

    fn absent(id: &'static str, what: impl Into<String>) -> Self {
        Self::new(id, State::Absent, what)
    }

    fn unseen(id: &'static str, what: impl Into<String>) -> Self {
        Self::new(id, State::Unseen, what)
    }

    fn because(mut self, why: impl Into<String>) -> Self {
        self.why = why.into();
        self
    }

    /// A person has to do it.
    fn todo(mut self, what: impl Into<String>) -> Self {
        self.fix = what.into();
        self
    }

    /// The doctor can do it.
    fn mended_by(mut self, host: &dyn Host, does: impl Into<String>, acts: Vec<Act>) -> Self {
        self.fix = does.into();
        self.undo = undo(host, &acts);
        self.remedy = Remedy::Doctor(acts);
        self
    }

    fn then(mut self, what: impl Into<String>) -> Self {
        self.then = what.into();
        self
    }

    /// A change that was made before can be undone.
    fn undoable(mut self, commands: Option<String>) -> Self {
        self.undo = commands.unwrap_or_default();
        self
    }

    /// What is done about it when `--fix` names these checks (none: every check); nothing when a person has to.
    #[must_use]
    pub fn acts(&self, named: &[String]) -> &[Act] {
        let named_here = named.iter().any(|name| name == self.id);
        match &self.remedy {
            Remedy::Doctor(acts) if named.is_empty() || named_here => acts,
            Remedy::WhenNamed(acts) if named_here => acts,
            Remedy::Doctor(_) | Remedy::WhenNamed(_) | Remedy::Person => &[],
        }
    }
}

/// One check.
pub struct Check {
    /// Its name, as `--fix` takes it.
    pub id: &'static str,
    /// What it looks at.
    pub title: &'static str,
    /// Looks.
    pub look: fn(&dyn Host) -> Finding,
}

/// Every check, in the order in which they are told.
pub static CHECKS: &[Check] = &[
    Check { id: memory_cgroup::ID, title: "the kernel can limit and count memory", look: memory_cgroup::look },
    Check { id: clock::ID, title: "the clock is set from the network", look: clock::look },
    Check { id: wifi::ID, title: "the Wi-Fi chip does not doze", look: wifi::look },
    Check { id: swap::ID, title: "no swap on an SD card", look: swap::look },
    Check { id: docker::ID, title: "a container engine is there and starts at boot", look: docker::look },
    Check { id: docker_logs::ID, title: "Docker bounds the logs of containers", look: docker_logs::look },
    Check { id: power::ID, title: "the supply and the cooling suffice", look: power::look },
    Check { id: card::ID, title: "the SD card or eMMC is not worn out", look: card::look },
    Check { id: kernel::ID, title: "a 64-bit board runs a 64-bit kernel", look: kernel::look },
    Check { id: data_dir::ID, title: "the agent's data folder can be written and has room", look: data_dir::look },
    Check { id: agent_unit::ID, title: "the agent starts at boot", look: agent_unit::look },
    Check { id: pins::ID, title: "the agent may use the GPIO pins", look: pins::look },
];

/// Looks at everything.
#[must_use]
pub fn look(host: &dyn Host) -> Vec<Finding> {
    CHECKS.iter().map(|check| (check.look)(host)).collect()
}

/// Commands that undo acts, the last first; one a line.
fn undo(host: &dyn Host, acts: &[Act]) -> String {
    let lines = acts.iter().rev().filter_map(|act| match act {
        Act::Write { path, .. } => {
            let backup = host.exists(path).then(|| host.backup(path));
            Some(put_back(host, path, backup.as_deref()))
        }
        Act::Enable(unit) => Some(systemctl(host, "disable", unit)),
        Act::Disable(unit) => Some(systemctl(host, "enable", unit)),
        // What runs now is over at the next boot.
        Act::Now { .. } => None,
        Act::Install(package) => Some(format!("sudo apt-get remove {package}")),
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn put_back(host: &dyn Host, path: &str, backup: Option<&str>) -> String {
    // Not onto the link that leads to it.
    let path = terminal::quoted(&host.shown(&host.resolved(path)));
    match backup {
        Some(backup) => format!("sudo mv {} {path}", terminal::quoted(&host.shown(backup))),
        None => format!("sudo rm {path}"),
    }
}

/// `systemctl enable`, `disable` or `unmask`, as a person types it: on a machine that does not run, only its files are changed.
fn systemctl(host: &dyn Host, verb: &str, unit: &str) -> String {
    match host.runs() {
        true if verb.starts_with("unmask") => format!("sudo systemctl {verb} {unit}"),
        true => format!("sudo systemctl {verb} --now {unit}"),
        false => format!("sudo systemctl --root={} {verb} {unit}", terminal::quoted(&host.shown("/"))),
    }
}

/// The command that undoes a change of a file made earlier, when its copy is still there.
fn undo_of_file(host: &dyn Host, path: &str) -> Option<String> {
    let path = host.resolved(path);
    let (folder, name) = path.rsplit_once('/')?;
    let copy = format!("{name}{BACKUP}");
    // Of several the newest: they are numbered.
    let backup = host.list(if folder.is_empty() { "/" } else { folder });
    let backup = backup.into_iter().filter(|name| name.starts_with(&copy)).max_by_key(|name| (name.len(), name.clone()))?;
    Some(put_back(host, &path, Some(&format!("{folder}/{backup}"))))
}

/// Behind the name of a file that is kept as it was.
pub const BACKUP: &str = ".before-bramble";

/// Whether this is a Raspberry Pi, by its device tree, or by the boot files of one whose card is looked at.
fn is_pi(host: &dyn Host) -> bool {
    let tree = host.read("/proc/device-tree/compatible").text().or_else(|| host.read("/proc/device-tree/model").text());
    match tree {
        Some(text) => text.to_lowercase().contains("raspberry"),
        None => !host.runs() && cmdline::place(host).is_some(),
    }
}

/// Lines of a configuration file without comments and blanks at their ends.
fn settings(text: &str) -> impl DoubleEndedIterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';']))
}
