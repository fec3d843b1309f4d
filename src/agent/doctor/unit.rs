//! systemd's units as files: whether one is there, starts at boot, and what it sets.
//!
//! Source: systemd.unit(5), "Unit File Load Path" and the folders `NAME.wants`, `NAME.requires` and `NAME.d`.

use super::{Host, Seen, settings};
use crate::terminal;

/// Where units lie, the strongest first.
const FOLDERS: &[&str] = &[
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// Whether there is such a unit, and nothing masks it.
#[must_use]
pub fn installed(host: &dyn Host, unit: &str) -> bool {
    mask(host, unit).is_none() && FOLDERS.iter().any(|folder| host.exists(&format!("{folder}/{unit}")))
}

/// A file that keeps systemd from loading a unit: a link to `/dev/null`, or one of 0 bytes, as a power cut leaves them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mask<'a> {
    unit: &'a str,
    folder: &'static str,
    empty: bool,
    /// A weaker folder has the unit itself.
    covers: bool,
}

/// What masks a unit; of several files of its name the strongest counts.
#[must_use]
pub fn mask<'a>(host: &dyn Host, unit: &'a str) -> Option<Mask<'a>> {
    let mut there = FOLDERS.iter().filter(|folder| host.exists(&format!("{folder}/{unit}")));
    let void = |folder: &str| {
        let path = format!("{folder}/{unit}");
        let empty = host.read(&path) == Seen::Text(String::new());
        (empty || host.link(&path).as_deref() == Some("/dev/null")).then_some(empty)
    };
    let folder = there.next()?;
    let empty = void(folder)? && host.link(&format!("{folder}/{unit}")).is_none();
    Some(Mask { unit, folder, empty, covers: there.any(|folder| void(folder).is_none()) })
}

impl Mask<'_> {
    fn path(&self, host: &dyn Host) -> String {
        host.shown(&format!("{}/{}", self.folder, self.unit))
    }

    /// What is seen, without full stop.
    #[must_use]
    pub fn seen(&self, host: &dyn Host) -> String {
        match self.empty {
            true => format!("{} has 0 bytes, which masks the unit", self.path(host)),
            false => format!("{} masks the unit", self.path(host)),
        }
    }

    /// What takes it away and has the unit start at boot.
    #[must_use]
    pub fn lifted(&self, host: &dyn Host) -> String {
        // systemctl(1): `unmask` takes it from `/etc`, with `--runtime` from `/run`, and from nowhere else.
        let unmask = match self.folder {
            "/etc/systemd/system" => super::systemctl(host, "unmask", self.unit),
            "/run/systemd/system" => super::systemctl(host, "unmask --runtime", self.unit),
            _ => format!("sudo rm {}", terminal::quoted(&self.path(host))),
        };
        match self.covers {
            true => format!("{unmask} && {}", super::systemctl(host, "enable", self.unit)),
            false => format!("{unmask}, then install {} again: no other file has it", self.unit),
        }
    }
}

/// Whether something that is reached at boot wants it.
#[must_use]
pub fn enabled(host: &dyn Host, unit: &str) -> bool {
    let wants = |folder: &str| {
        let mut names = host.list(folder).into_iter();
        names.any(|name| {
            (name.ends_with(".wants") || name.ends_with(".requires")) && host.exists(&format!("{folder}/{name}/{unit}"))
        })
    };
    installed(host, unit) && FOLDERS.iter().any(|folder| wants(folder))
}

/// Every value of a key, of the unit and then of what was put upon it; an empty one takes back those before it.
#[must_use]
pub fn values(host: &dyn Host, unit: &str, key: &str) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    texts.extend(FOLDERS.iter().find_map(|folder| host.read(&format!("{folder}/{unit}")).text()));
    for folder in FOLDERS.iter().rev().map(|folder| format!("{folder}/{unit}.d")) {
        let names = host.list(&folder).into_iter().filter(|name| name.ends_with(".conf"));
        texts.extend(names.filter_map(|name| host.read(&format!("{folder}/{name}")).text()));
    }
    let mut values: Vec<String> = Vec::new();
    for text in texts {
        // A backslash at the end of a line joins it with the next.
        let text = text.replace("\\\n", " ");
        for (name, value) in settings(&text).filter_map(|line| line.split_once('=')) {
            match value.trim() {
                _ if name.trim() != key => {}
                "" => values.clear(),
                value => values.push(value.to_owned()),
            }
        }
    }
    values
}
