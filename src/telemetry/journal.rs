//! Log lines for systemd's journal: each fact is a field of its own, so that `journalctl BRAMBLE_POD=default/web` finds a pod's lines.
//!
//! In:       events of `tracing`.
//! Out:      one datagram an event to journald's socket; where that cannot be, a line on stderr that begins with its priority (`<3>`).
//! Never:    waits long: a journal that does not read costs one short wait, then lines are counted instead of written.
//! Source:   systemd's "Native Journal Protocol"; systemd.exec(5) for `JOURNAL_STREAM`; sd-daemon(3) for the prefixes.
//!
//! Not the crate `tracing-journald`: it has `unsafe` code for messages of more than a datagram, which ours never are.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Where journald listens.
const SOCKET: &str = "/run/systemd/journal/socket";
/// What `journalctl -t` asks for.
const IDENTIFIER: &str = "bramble";
/// Ours are marked, so that none is taken for one of journald's own (`MESSAGE`, `UNIT`, …).
const PREFIX: &str = "BRAMBLE_";
/// The journal cuts names of fields there (systemd: journal_field_valid).
const NAME_BYTES: usize = 64;
/// Of one value so much is written: all of a line stays far below a datagram's usual limit of 208 KiB.
const VALUE_BYTES: usize = 16 << 10;
/// So long a journal that is busy is waited for.
const PATIENCE: Duration = Duration::from_millis(200);

/// The layer that writes to the journal.
#[derive(Debug)]
pub(super) struct Journal {
    socket: Option<UnixDatagram>,
    path: PathBuf,
    stuck: AtomicBool,
    lost: AtomicU64,
}

impl Journal {
    /// When what this process says on stderr goes to the journal: the same, with fields.
    pub(super) fn of_stderr() -> Option<Self> {
        is_stderr().then(|| Self::at(Path::new(SOCKET)))
    }

    fn at(path: &Path) -> Self {
        let socket = path
            .exists()
            .then(UnixDatagram::unbound)
            .and_then(Result::ok)
            .filter(|socket| socket.set_write_timeout(Some(PATIENCE)).is_ok());
        Self { socket, path: path.to_owned(), stuck: AtomicBool::new(false), lost: AtomicU64::new(0) }
    }

    fn write(&self, line: &Line) {
        let Some(socket) = &self.socket else {
            on_stderr(line);
            return;
        };
        let lost = self.lost.load(Ordering::Relaxed);
        // By name each time: the journal may have been started anew, with another socket.
        match socket.send_to(&line.datagram(lost), &self.path) {
            Ok(_) => {
                self.lost.fetch_sub(lost, Ordering::Relaxed);
                if self.stuck.swap(false, Ordering::Relaxed) {
                    let _ = socket.set_nonblocking(false);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // Stderr leads to the same journal, and would hold us up for ever.
                self.lost.fetch_add(1, Ordering::Relaxed);
                if !self.stuck.swap(true, Ordering::Relaxed) {
                    let _ = socket.set_nonblocking(true);
                }
            }
            Err(_) => on_stderr(line),
        }
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.write(&Line::of(event));
    }
}

/// Whether this process' stderr is the journal: systemd says which file that is, and somebody may have led stderr elsewhere since.
pub(super) fn is_stderr() -> bool {
    std::env::var("JOURNAL_STREAM").is_ok_and(|stream| is_stream(&stream, io::stderr()))
}

fn is_stream(stream: &str, file: impl AsFd) -> bool {
    let Some((device, inode)) = stream.split_once(':') else { return false };
    let (Ok(device), Ok(inode)) = (device.parse::<u64>(), inode.parse::<u64>()) else { return false };
    // Both are as wide as the platform has them.
    #[allow(clippy::useless_conversion)]
    rustix::fs::fstat(file).is_ok_and(|found| u64::from(found.st_dev) == device && u64::from(found.st_ino) == inode)
}

fn on_stderr(line: &Line) {
    // One write a line, so that those of several threads do not mix; with nobody to read there is nothing to do.
    let _ = io::stderr().write_all(line.prefixed().as_bytes());
}

/// An event in words.
#[derive(Debug)]
struct Line {
    priority: u8,
    target: &'static str,
    message: String,
    facts: String,
    fields: Vec<(String, String)>,
}

impl Line {
    fn of(event: &Event<'_>) -> Self {
        let metadata = event.metadata();
        let mut line = Self {
            priority: priority(*metadata.level()),
            target: metadata.target(),
            message: String::new(),
            facts: String::new(),
            fields: Vec::new(),
        };
        event.record(&mut line);
        line
    }

    /// What a person reads: the message, and the facts behind it as on a terminal.
    fn text(&self) -> String {
        format!("{}{}", self.message, self.facts)
    }

    fn take(&mut self, field: &Field, mut value: String, shown: &dyn fmt::Debug) {
        let mut end = VALUE_BYTES.min(value.len());
        while !value.is_char_boundary(end) {
            end -= 1;
        }
        value.truncate(end);
        if field.name() == "message" {
            self.message = value;
            return;
        }
        let _ = write!(self.facts, " {}={shown:?}", field.name());
        let mut end = VALUE_BYTES.min(self.facts.len());
        while !self.facts.is_char_boundary(end) {
            end -= 1;
        }
        self.facts.truncate(end);
        self.fields.push((field_name(field.name()), value));
    }

    fn datagram(&self, lost: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(256);
        put(&mut bytes, "PRIORITY", &self.priority.to_string());
        put(&mut bytes, "SYSLOG_IDENTIFIER", IDENTIFIER);
        put(&mut bytes, "BRAMBLE_TARGET", self.target);
        let text = self.text();
        if lost > 0 {
            put(&mut bytes, "BRAMBLE_LOST", &lost.to_string());
            put(&mut bytes, "MESSAGE", &format!("{text} (before this {lost} lines were lost: the journal did not read)"));
        } else {
            put(&mut bytes, "MESSAGE", &text);
        }
        for (name, value) in &self.fields {
            put(&mut bytes, name, value);
        }
        bytes
    }

    /// For a journal that reads lines: each of them has the priority before it.
    fn prefixed(&self) -> String {
        let text = self.text();
        prefixed(self.priority, &text)
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field, format!("{value:?}"), value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, value.to_owned(), &value);
    }
}

/// Lines as a journal takes them that reads stderr: each with its priority, as syslog counts (3 is an error).
pub(super) fn prefixed(priority: u8, text: &str) -> String {
    text.lines().fold(String::new(), |mut all, line| {
        let _ = writeln!(all, "<{priority}>{line}");
        all
    })
}

/// Syslog's numbers.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

/// A field's name as the journal allows it: capitals, digits and underscores.
fn field_name(name: &str) -> String {
    let plain = name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    PREFIX.chars().chain(plain).take(NAME_BYTES).collect()
}

/// `NAME=value`, or with its length before it where a line's end is in it.
fn put(bytes: &mut Vec<u8>, name: &str, value: &str) {
    bytes.extend(name.as_bytes());
    if value.contains('\n') {
        bytes.push(b'\n');
        bytes.extend((value.len() as u64).to_le_bytes());
    } else {
        bytes.push(b'=');
    }
    bytes.extend(value.as_bytes());
    bytes.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use tracing_subscriber::layer::SubscriberExt;

    /// Reads a datagram as journald does.
    fn read(mut bytes: &[u8]) -> BTreeMap<String, String> {
        let mut fields = BTreeMap::new();
        while !bytes.is_empty() {
            let end = bytes.iter().position(|byte| *byte == b'\n').unwrap();
            let line = std::str::from_utf8(&bytes[..end]).unwrap();
            bytes = &bytes[end + 1..];
            if let Some((name, value)) = line.split_once('=') {
                fields.insert(name.to_owned(), value.to_owned());
                continue;
            }
            let length = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
            fields.insert(line.to_owned(), String::from_utf8(bytes[8..8 + length].to_vec()).unwrap());
            assert_eq!(bytes[8 + length], b'\n');
            bytes = &bytes[8 + length + 1..];
        }
        fields
    }

    fn journald() -> (tempfile::TempDir, PathBuf, UnixDatagram) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let end = UnixDatagram::bind(&path).unwrap();
        end.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        (folder, path, end)
    }

    fn receive(end: &UnixDatagram) -> BTreeMap<String, String> {
        let mut buffer = vec![0; 256 << 10];
        let length = end.recv(&mut buffer).unwrap();
        read(&buffer[..length])
    }

    #[test]
    fn facts_are_fields_and_stand_in_the_message_too() {
        let (_folder, path, end) = journald();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(Journal::at(&path)), || {
            tracing::warn!(node = "pi-1", pod = %"default/web", attempt = 3u64, error = "first\nsecond", "does not start");
        });
        let fields = receive(&end);
        let expected = [
            ("BRAMBLE_ATTEMPT", "3"),
            ("BRAMBLE_ERROR", "first\nsecond"),
            ("BRAMBLE_NODE", "pi-1"),
            ("BRAMBLE_POD", "default/web"),
            ("BRAMBLE_TARGET", "bramble::telemetry::journal::tests"),
            ("MESSAGE", r#"does not start node="pi-1" pod=default/web attempt=3 error="first\nsecond""#),
            ("PRIORITY", "4"),
            ("SYSLOG_IDENTIFIER", "bramble"),
        ];
        assert_eq!(fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_is_very_long_is_cut_and_arrives() {
        let (_folder, path, end) = journald();
        let long = "ä".repeat(1 << 20);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(Journal::at(&path)), || {
            tracing::info!(one = long, two = %long, "{long}");
        });
        let fields = receive(&end);
        assert_eq!(fields["BRAMBLE_TWO"].len(), VALUE_BYTES);
        assert!(fields["MESSAGE"].len() <= 2 * VALUE_BYTES);
    }

    #[test]
    #[allow(clippy::disallowed_methods)] // measured in real time, asserted only against a hang
    fn a_journal_that_does_not_read_holds_nobody_up_and_hears_later_what_was_lost() {
        let (_folder, path, end) = journald();
        let begun = std::time::Instant::now();
        let sent = 2000u64;
        tracing::subscriber::with_default(tracing_subscriber::registry().with(Journal::at(&path)), || {
            for number in 0..sent {
                tracing::info!(number, "one of many");
            }
            // A wait a line would be 400 s.
            assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
            end.set_nonblocking(true).unwrap();
            let mut buffer = [0; 1024];
            let mut heard = 0u64;
            while end.recv(&mut buffer).is_ok() {
                heard += 1;
            }
            assert!(heard > 0 && heard < sent, "{heard}");
            tracing::info!("it reads again");
            end.set_nonblocking(false).unwrap();
            assert_eq!(receive(&end)["BRAMBLE_LOST"], (sent - heard).to_string());
            tracing::info!("and all is well");
            assert!(!receive(&end).contains_key("BRAMBLE_LOST"));
        });
    }

    #[test]
    fn stderr_is_the_journal_only_if_it_is_the_very_file() {
        let file = tempfile::tempfile().unwrap();
        let found = rustix::fs::fstat(&file).unwrap();
        assert!(is_stream(&format!("{}:{}", found.st_dev, found.st_ino), &file));
        for other in [format!("{}:{}", found.st_dev, found.st_ino + 1), "rubbish".to_owned(), "1:x".to_owned(), String::new()] {
            assert!(!is_stream(&other, &file), "{other}");
        }
    }

    #[test]
    fn without_a_socket_each_line_has_its_priority_before_it() {
        assert!(Journal::at(Path::new("/nowhere/socket")).socket.is_none());
        assert_eq!(prefixed(3, "cannot start\nbecause of this\n"), "<3>cannot start\n<3>because of this\n");
    }

    #[test]
    fn names_of_fields_are_as_the_journal_allows_them() {
        assert_eq!(field_name("its_board"), "BRAMBLE_ITS_BOARD");
        assert_eq!(field_name("http.status-code"), "BRAMBLE_HTTP_STATUS_CODE");
        assert_eq!(field_name(&"x".repeat(100)).len(), NAME_BYTES);
    }
}
