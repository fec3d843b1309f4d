//! systemd's units as files: whether one is there, starts at boot, and what it sets.
//!
//! Source: systemd.unit(5), "Unit File Load Path" and the folders `NAME.wants`, `NAME.requires` and `NAME.d`.

use super::{Host, settings};

/// Where units lie, the strongest first.
const FOLDERS: &[&str] = &[
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// Whether there is such a unit, and nobody has masked it.
#[must_use]
pub fn installed(host: &dyn Host, unit: &str) -> bool {
    !masked(host, unit) && FOLDERS.iter().any(|folder| host.exists(&format!("{folder}/{unit}")))
}

/// Whether it was switched off for good.
#[must_use]
pub fn masked(host: &dyn Host, unit: &str) -> bool {
    FOLDERS.iter().take(2).any(|folder| host.link(&format!("{folder}/{unit}")).as_deref() == Some("/dev/null"))
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
