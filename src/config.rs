//! Configuration: flags over the environment over a file, with every fault told at once; and the claim on a data directory.
//!
//! In:       one TOML file, the environment (`BRAMBLE_SECTION__KEY`), flags; merged by the `config` crate.
//! Out:      a [`Reader`], from which `master/config.rs` and `agent/config.rs` take one key after the other, each with
//!           what is expected of it. Nothing stops at the first fault: [`Reader::finish`] has them all.
//! Never:    opens what a key names: that is the daemon's, after all keys are known to be good.
//!
//! A struct with `deny_unknown_fields` would stop at its first fault, and would not know which of the three sources a value
//! came from. So keys are taken one by one; what nobody took is unknown.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::config::{Environment, FileFormat, Source, Value, ValueKind};

use crate::error::Report;

/// What `config` calls the origin of a variable.
const ENVIRONMENT: &str = "the environment";
/// Before each variable's name.
const PREFIX: &str = "BRAMBLE_";
/// What any time of the configuration may be at most, in seconds: eleven days.
const MOST_SECONDS: u64 = 1_000_000;

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file, the variable or the flag.
    pub place: String,
    /// The dotted key; empty when it is the whole file.
    pub key: String,
    /// What is wrong: what is expected and what was found.
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            return write!(f, "{}: {}", self.place, self.what);
        }
        write!(f, "{}: {}: {}", self.place, self.key, self.what)
    }
}

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => write!(f, "the configuration has a fault")?,
            n => write!(f, "the configuration has {n} faults")?,
        }
        self.0.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

impl From<Faults> for Report {
    fn from(faults: Faults) -> Self {
        Report::usage(faults.to_string()).fix("mend the lines above; `--check` tries a configuration without starting anything")
    }
}

/// A value that was given on the command line.
#[derive(Clone, Debug)]
pub struct Flag {
    /// As typed: `--data-dir`.
    pub name: &'static str,
    /// The key that it sets.
    pub key: &'static str,
    /// Its value; `None` when the flag was not given.
    pub value: Option<String>,
}

/// Whether the file has to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileMay {
    /// A person named it: that it is missing is a fault.
    NotBeMissing,
    /// It is the default place: without it the rest counts.
    BeMissing,
}

/// The merged values, and what was found wrong with them so far.
pub struct Reader {
    file: Option<PathBuf>,
    values: BTreeMap<String, Value>,
    known: BTreeSet<&'static str>,
    faults: Vec<Fault>,
    /// The file could not be taken: what it may have said is not missed.
    unread: bool,
}

impl Reader {
    /// Merges the three sources. What cannot be read or parsed is the first fault.
    #[must_use]
    pub fn open(file: Option<(&Path, FileMay)>, environment: impl IntoIterator<Item = (String, String)>, flags: &[Flag]) -> Self {
        let mut reader = Self {
            file: file.map(|(path, _)| path.to_path_buf()),
            values: BTreeMap::new(),
            known: BTreeSet::new(),
            faults: Vec::new(),
            unread: false,
        };
        let mut builder = ::config::Config::builder();
        if let Some((path, may)) = file {
            match std::fs::read_to_string(path) {
                Ok(text) => {
                    let source = ::config::File::from_str(&text, FileFormat::Toml);
                    match source.collect() {
                        Ok(_) => builder = builder.add_source(source),
                        Err(error) => reader.whole_file(format!("expected TOML: {}", error.to_string().trim_end())),
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && may == FileMay::BeMissing => {}
                Err(error) => reader.whole_file(format!("expected a file that can be read: {error}")),
            }
        }
        let variables = environment.into_iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
        builder =
            builder.add_source(Environment::with_prefix("BRAMBLE").prefix_separator("_").separator("__").source(Some(variables)));
        for flag in flags {
            let Some(value) = &flag.value else { continue };
            let value = Value::new(Some(&flag.name.to_owned()), value.as_str());
            builder = match builder.set_override(flag.key, value) {
                Ok(builder) => builder,
                Err(error) => {
                    reader.faults.push(Fault { place: flag.name.into(), key: flag.key.into(), what: error.to_string() });
                    return reader;
                }
            };
        }
        match builder.build().and_then(|merged| merged.collect()) {
            Ok(table) => flatten("", table, &mut reader.values),
            Err(error) => reader.faults.push(Fault {
                place: ENVIRONMENT.into(),
                key: String::new(),
                what: format!("expected variables named {PREFIX}SECTION__KEY: {error}"),
            }),
        }
        reader
    }

    fn whole_file(&mut self, what: String) {
        let place = self.file.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        self.faults.push(Fault { place, key: String::new(), what });
        self.unread = true;
    }

    /// The value of `key`, when it is there and `parse` takes it; a fault when it refuses. `expected` completes
    /// "expected …". `parse` gets the text of a string, a number or a boolean.
    pub fn parsed<T>(&mut self, key: &'static str, expected: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        self.known.insert(key);
        let value = self.values.get(key)?;
        let text = match &value.kind {
            ValueKind::String(text) => Some(text.clone()),
            ValueKind::Boolean(value) => Some(value.to_string()),
            ValueKind::I64(number) => Some(number.to_string()),
            ValueKind::Float(number) => Some(number.to_string()),
            _ => None,
        };
        let parsed = text.as_deref().and_then(parse);
        if parsed.is_none() {
            let what = format!("expected {expected}, found {}", found(&value.kind));
            let place = self.place(key, Some(value));
            self.faults.push(Fault { place, key: key.into(), what });
        }
        parsed
    }

    /// A text that is not empty. A number is no text, so that `node = 1` is asked about.
    pub fn text(&mut self, key: &'static str, expected: &str) -> Option<String> {
        let is_text = self.values.get(key).is_none_or(|value| matches!(value.kind, ValueKind::String(_)));
        self.parsed(key, expected, |text| (is_text && !text.is_empty()).then(|| text.to_owned()))
    }

    /// A list of texts that are not empty: of TOML, or with commas between them, as a variable has it.
    pub fn list(&mut self, key: &'static str, expected: &str) -> Option<Vec<String>> {
        let Some(ValueKind::Array(items)) = self.values.get(key).map(|value| value.kind.clone()) else {
            return self.parsed(key, expected, |text| {
                Some(text.split(',').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect())
            });
        };
        self.known.insert(key);
        let text = |item: &Value| match &item.kind {
            ValueKind::String(text) if !text.is_empty() => Some(text.clone()),
            _ => None,
        };
        let list: Option<Vec<String>> = items.iter().map(text).collect();
        if list.is_none() {
            let place = self.place(key, self.values.get(key));
            self.faults.push(Fault {
                place,
                key: key.into(),
                what: format!("expected {expected}, found a list with something else in it"),
            });
        }
        list
    }

    /// A path; a relative one counts from the file's folder, so that a configuration can be moved with its keys.
    pub fn path(&mut self, key: &'static str, expected: &str) -> Option<PathBuf> {
        let from_file = self.values.get(key).is_some_and(|value| value.origin().is_none());
        let path = PathBuf::from(self.text(key, expected)?);
        let folder = self.file.as_ref().filter(|_| from_file).and_then(|file| file.parent());
        Some(folder.map_or_else(|| path.clone(), |folder| folder.join(&path)))
    }

    /// Whole seconds, at least `least`; more than `MOST_SECONDS` is a slip of the hand.
    pub fn seconds(&mut self, key: &'static str, least: u64) -> Option<Duration> {
        let expected = format!("a whole number of seconds, {least} to {MOST_SECONDS}");
        self.parsed(key, &expected, |text| text.parse().ok().filter(|seconds| (least..=MOST_SECONDS).contains(seconds)))
            .map(Duration::from_secs)
    }

    /// `true` or `false`.
    pub fn switch(&mut self, key: &'static str) -> Option<bool> {
        self.parsed(key, "true or false", |text| text.parse().ok())
    }

    /// `value`, or a fault when nobody gave the key (and neither it nor the whole file was faulty already).
    pub fn required<T>(&mut self, key: &'static str, expected: &str, value: Option<T>) -> Option<T> {
        if value.is_none() && !self.unread && !self.values.contains_key(key) {
            let place = match &self.file {
                Some(file) => file.display().to_string(),
                None => variable(key),
            };
            self.faults.push(Fault { place, key: key.into(), what: format!("expected {expected}, found nothing") });
        }
        value
    }

    /// Whether the configuration names this key, well or not.
    #[must_use]
    pub fn names(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// Every key that was asked for so far.
    #[must_use]
    pub fn known(&self) -> &BTreeSet<&'static str> {
        &self.known
    }

    /// Notes a fault that only shows when keys are seen together.
    pub fn fault(&mut self, key: &'static str, what: impl Into<String>) {
        let place = self.place(key, self.values.get(key));
        self.faults.push(Fault { place, key: key.into(), what: what.into() });
    }

    /// The configuration, if it was made and nothing at all is wrong; else every fault.
    ///
    /// # Errors
    /// All faults, unknown keys among them.
    pub fn finish<T>(mut self, made: Option<T>) -> Result<T, Faults> {
        let mut unknown = Vec::new();
        for (key, value) in &self.values {
            if self.known.contains(key.as_str()) {
                continue;
            }
            let section = format!("{key}.");
            let is_section = self.known.iter().any(|known| known.starts_with(&section));
            let empty = matches!(&value.kind, ValueKind::Table(table) if table.is_empty());
            if is_section && empty {
                continue;
            }
            let near = nearest(key, &self.known);
            // `BRAMBLE_LOG` and what others keep in the environment is no configuration of a daemon.
            let foreign = value.origin() == Some(ENVIRONMENT) && !key.contains('.') && !is_section && near.is_none();
            if foreign {
                continue;
            }
            let what = match near {
                _ if is_section => format!("expected a section with keys, found {}", found(&value.kind)),
                Some(near) => format!("unknown key; did you mean `{near}`?"),
                None => "unknown key".to_owned(),
            };
            unknown.push(Fault { place: self.place(key, Some(value)), key: key.clone(), what });
        }
        self.faults.append(&mut unknown);
        match made {
            Some(made) if self.faults.is_empty() => Ok(made),
            _ => Err(Faults(self.faults)),
        }
    }

    fn place(&self, key: &str, value: Option<&Value>) -> String {
        match value.map(Value::origin) {
            Some(Some(ENVIRONMENT)) => variable(key),
            Some(Some(flag)) => flag.to_owned(),
            _ => self.file.as_ref().map_or_else(|| variable(key), |file| file.display().to_string()),
        }
    }
}

/// The variable that sets `key`.
fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_uppercase().replace('.', "__"))
}

/// Tables become dotted keys; an empty table stays, so that an unknown empty section is seen.
fn flatten(prefix: &str, table: ::config::Map<String, Value>, out: &mut BTreeMap<String, Value>) {
    for (name, value) in table {
        let key = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
        match value.kind {
            ValueKind::Table(inner) if !inner.is_empty() => flatten(&key, inner, out),
            _ => {
                out.insert(key, value);
            }
        }
    }
}

fn found(kind: &ValueKind) -> String {
    match kind {
        ValueKind::Nil => "nothing".into(),
        ValueKind::String(text) if text.is_empty() => "an empty text".into(),
        ValueKind::String(text) => format!("the text {text:?}"),
        ValueKind::Boolean(value) => format!("{value}"),
        ValueKind::Table(_) => "a section".into(),
        ValueKind::Array(_) => "a list".into(),
        other => format!("the number {other}"),
    }
}

/// The known key that differs from `key` by at most a quarter of its letters, but two at least; or has the same last part.
fn nearest<'a>(key: &str, known: &BTreeSet<&'a str>) -> Option<&'a str> {
    let (distance, best) = known.iter().map(|candidate| (edits(key, candidate), *candidate)).min()?;
    if distance <= (key.len() / 4).max(2).min(key.len().saturating_sub(1)) {
        return Some(best);
    }
    let last = key.rsplit('.').next()?;
    known.iter().find(|candidate| key.contains('.') && candidate.rsplit('.').next() == Some(last)).copied()
}

/// How many letters to add, drop or change (Levenshtein).
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut next = vec![i + 1];
        for ((b, above), diagonal) in to.iter().zip(row.iter().skip(1)).zip(row.iter()) {
            let left = next.last().copied().unwrap_or(0);
            next.push((diagonal + usize::from(a != *b)).min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

/// Where a broker is: `mqtts://host:port` or `mqtt://host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerUrl {
    /// Whether it is spoken to over TLS.
    pub tls: bool,
    /// A name or an address; without brackets.
    pub host: String,
    /// Its port; 8883 or 1883 when the URL has none.
    pub port: u16,
}

impl BrokerUrl {
    /// What a URL has to look like, to complete "expected …".
    pub const EXPECTED: &'static str = "a URL like \"mqtts://host:8883\" or \"mqtt://host:1883\"";

    /// Reads a URL; `None` for anything but scheme, host and port.
    #[must_use]
    pub fn parse(url: &str) -> Option<Self> {
        let (tls, rest) = match url.split_once("://")? {
            ("mqtts", rest) => (true, rest),
            ("mqtt", rest) => (false, rest),
            _ => return None,
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, port)) => {
                address.parse::<std::net::Ipv6Addr>().ok()?;
                (address, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
            }
            None => rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
        };
        let bad = |c: char| c.is_whitespace() || "/@?#:[]".contains(c);
        if host.is_empty() || (!rest.starts_with('[') && host.contains(bad)) {
            return None;
        }
        let port = match port {
            Some(port) => port.parse().ok().filter(|&port| port != 0)?,
            None if tls => 8883,
            None => 1883,
        };
        Some(Self { tls, host: host.to_owned(), port })
    }
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "mqtts" } else { "mqtt" };
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}", self.host, self.port),
            false => write!(f, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

/// A daemon's claim on its data directory: an exclusive `flock` on a file with our pid in it. The kernel drops it with the
/// process, however that ends; the file itself stays.
#[derive(Debug)]
pub struct Claim {
    _file: File,
}

/// Why a directory cannot be claimed.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Somebody has it.
    #[error("another bramble {role} (pid {}) already uses {}", pid.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string()), dir.display())]
    Taken {
        /// `master`, `agent` or `start`.
        role: &'static str,
        /// The directory.
        dir: PathBuf,
        /// Who, when it has said so.
        pid: Option<u32>,
    },
    /// The directory or the lock file cannot be written.
    #[error("cannot write {}", path.display())]
    Io {
        /// The lock file or the directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// The file that stands where a directory has to be on the way to `path`, if that is what was wrong.
#[must_use]
pub fn in_the_way<'a>(path: &'a Path, error: &std::io::Error) -> Option<&'a Path> {
    if !matches!(error.kind(), std::io::ErrorKind::NotADirectory | std::io::ErrorKind::AlreadyExists) {
        return None;
    }
    path.ancestors().find(|place| std::fs::metadata(place).is_ok_and(|found| !found.is_dir()))
}

/// What to do about it.
#[must_use]
pub fn not_a_directory(file: &Path) -> String {
    format!("{} is a file, and has to be a directory: choose another one with --data-dir, or move the file away", file.display())
}

impl From<ClaimError> for Report {
    fn from(error: ClaimError) -> Self {
        let fix = match &error {
            ClaimError::Taken { role: "start", .. } => "wait until it has ended, then run the command again".to_owned(),
            ClaimError::Taken { pid: Some(pid), .. } => {
                format!("stop it (`kill {pid}`, or `bramble stop` for a local cluster), or give this one another --data-dir")
            }
            ClaimError::Taken { pid: None, .. } => "stop it, or give this one another --data-dir".to_owned(),
            ClaimError::Io { path, source } if source.kind() == std::io::ErrorKind::StorageFull => {
                format!("make room on the disk that holds {} (`df -h`), then try again", path.display())
            }
            ClaimError::Io { path, source } => in_the_way(path, source).map_or_else(
                || {
                    let folder = path.parent().unwrap_or(path).display();
                    format!("make {folder} writable for this user, or choose another directory with --data-dir")
                },
                not_a_directory,
            ),
        };
        let report = Report::failed(error.to_string()).fix(fix);
        match error {
            ClaimError::Io { source, .. } => report.because(source),
            ClaimError::Taken { .. } => report,
        }
    }
}

/// The lock file of `role` in `dir`. One each, because a Pi may run master and agent on one directory.
#[must_use]
pub fn lock_file(dir: &Path, role: &str) -> PathBuf {
    dir.join(format!("{role}.lock"))
}

impl Claim {
    /// Claims `dir` for `role`, making the directory if need be. Waits half a second for those who only look
    /// ([`holder`] takes the lock for an instant).
    ///
    /// # Errors
    /// When another process holds it, or it cannot be written.
    pub fn take(dir: &Path, role: &'static str) -> Result<Self, ClaimError> {
        let path = lock_file(dir, role);
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |source| ClaimError::Io { path, source }
        };
        // What lies in it is for this user alone.
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed(dir))?;
        let mut file = File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed(&path))?;
        let mut tries = 10_u32;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(std::fs::TryLockError::WouldBlock) if tries > 0 => {
                    tries -= 1;
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(std::fs::TryLockError::WouldBlock) => {
                    return Err(ClaimError::Taken { role, dir: dir.to_path_buf(), pid: pid_in(&mut file) });
                }
                Err(std::fs::TryLockError::Error(source)) => return Err(ClaimError::Io { path, source }),
            }
        }
        file.set_len(0).and_then(|()| write!(file, "{}", std::process::id())).map_err(failed(&path))?;
        Ok(Self { _file: file })
    }
}

/// Who holds `role`'s claim on `dir`: `None` when nobody lives there; `Some(None)` when its pid is not written yet.
///
/// # Errors
/// When the lock file is there and cannot be looked at.
pub fn holder(dir: &Path, role: &str) -> std::io::Result<Option<Option<u32>>> {
    let mut file = match File::open(lock_file(dir, role)) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(std::fs::TryLockError::WouldBlock) => Ok(Some(pid_in(&mut file))),
        Err(std::fs::TryLockError::Error(error)) => Err(error),
    }
}

fn pid_in(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests;
