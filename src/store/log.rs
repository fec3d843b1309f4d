//! Records as bytes, and bytes as records again.
//!
//! In:       what a group of batches leaves at its keys.
//! Out:      one frame a group; from the bytes of a file the state that its frames build.
//! Never:    touches a disk (`embedded.rs`).
//!
//! ```text
//! mark 4 │ length 4 │ newest revision 8 │ crc32 of the body 4 │ crc32 of the 20 bytes before 4 │ body: JSON
//! ```
//! All numbers are little-endian. The mark begins with a control character, which JSON text never holds, so that no frame
//! can stand within another's body.
//!
//! Why a group is one frame: a power cut may leave the later pages of an append and lose the earlier ones. With a frame a
//! batch that would look like a damaged record before a whole one. With one frame a group, whatever is not whole is the last
//! frame, since the next is only begun when it was synced. So when a flaw has a whole frame behind it, it is damage, and when
//! it has none, it is a write that was never acknowledged. (Damage in the very last frame cannot be told from that.)

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::api::{Key, Object, Revision, registry};

/// The bytes before a frame's body.
pub const HEADER: usize = 24;
/// The version of what is written here. A reader refuses a higher one.
pub const FORMAT: u32 = 1;
/// The deepest nesting of an object that can be stored: the JSON reader stops at 128, and a record nests around it.
pub const DEEPEST: usize = 100;

const MARK: [u8; 4] = [0x1e, b'B', b'r', 0x01];

/// What one batch leaves behind, in the order of its operations.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Entry {
    /// The batch's revision.
    pub revision: Revision,
    /// The stored operations of the batch.
    pub ops: Vec<Kept>,
}

/// What stands at a key from now on.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Kept {
    /// Where.
    #[serde(with = "path")]
    pub key: Key,
    /// The whole object; nothing when it was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub put: Option<Arc<Object>>,
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sort {
    /// Changes.
    Log,
    /// Everything at one moment.
    Checkpoint,
}

/// The first record of every file.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Begin {
    /// What the file is.
    pub file: Sort,
    /// How it is written.
    pub format: u32,
    /// The store's id.
    pub store: String,
    /// The number in its name.
    pub sequence: u64,
    /// No revision above this one was given out when the file was begun.
    pub ceiling: Revision,
}

/// The body of a frame.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// First in every file.
    Begin(Begin),
    /// Batches that shared one sync.
    Group {
        /// Revisions up to this one may be given out from now on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ceiling: Option<Revision>,
        /// The batches, by revision.
        entries: Vec<Entry>,
    },
    /// A piece of a checkpoint.
    Objects(Vec<Kept>),
    /// Last in every checkpoint, and in every log that has a next one.
    End {
        /// How many objects a checkpoint has; the number of the next log.
        next: u64,
    },
}

/// A record as a frame. `revision` is the newest one in it.
///
/// # Errors
/// When it is no JSON that could be read again, or 4 GiB and more.
pub fn frame(revision: Revision, record: &Record) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0; HEADER];
    serde_json::to_writer(&mut bytes, record).map_err(|error| error.to_string())?;
    let body = bytes.get(HEADER..).unwrap_or_default();
    let length = u32::try_from(body.len()).map_err(|_| format!("{} bytes are too many", body.len()))?;
    let mut header = Vec::with_capacity(HEADER);
    header.extend(MARK);
    header.extend(length.to_le_bytes());
    header.extend(revision.0.to_le_bytes());
    header.extend(crc32fast::hash(body).to_le_bytes());
    header.extend(crc32fast::hash(&header).to_le_bytes());
    bytes.splice(..HEADER, header);
    Ok(bytes)
}

/// Why bytes are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// They end too early.
    Short,
    /// They do not begin like one.
    Header,
    /// The body is not the one that was written.
    Body,
}

impl Flaw {
    /// In words.
    #[must_use]
    pub fn why(self) -> &'static str {
        match self {
            Flaw::Short => "the record is cut short",
            Flaw::Header => "no record begins here",
            Flaw::Body => "the record fails its checksum",
        }
    }
}

/// A whole frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame<'a> {
    revision: Revision,
    body: &'a [u8],
}

/// The frame that begins with these bytes.
fn first_frame(bytes: &[u8]) -> Result<Frame<'_>, Flaw> {
    let (header, rest) = bytes.split_first_chunk::<HEADER>().ok_or(Flaw::Short)?;
    let (covered, check) = header.split_last_chunk::<4>().ok_or(Flaw::Header)?;
    let fields = || {
        let (mark, rest) = covered.split_first_chunk::<4>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (revision, rest) = rest.split_first_chunk::<8>()?;
        let (sum, _) = rest.split_first_chunk::<4>()?;
        Some((mark, u32::from_le_bytes(*length), u64::from_le_bytes(*revision), u32::from_le_bytes(*sum)))
    };
    let (mark, length, revision, sum) = fields().ok_or(Flaw::Header)?;
    if *mark != MARK || u32::from_le_bytes(*check) != crc32fast::hash(covered) {
        return Err(Flaw::Header);
    }
    let body = usize::try_from(length).ok().and_then(|length| rest.get(..length)).ok_or(Flaw::Short)?;
    if crc32fast::hash(body) != sum {
        return Err(Flaw::Body);
    }
    Ok(Frame { revision: Revision(revision), body })
}

/// Whether a whole frame begins anywhere in these bytes but at their begin.
fn has_frame_behind(bytes: &[u8]) -> bool {
    let rest = bytes.get(1..).unwrap_or_default();
    rest.windows(MARK.len())
        .enumerate()
        .filter(|(_, window)| *window == MARK)
        .any(|(at, _)| rest.get(at..).is_some_and(|bytes| first_frame(bytes).is_ok()))
}

/// What is wrong with a file.
#[derive(Debug)]
pub enum Damage {
    /// It is not what was written.
    Broken {
        /// Where the record begins.
        offset: u64,
        /// What is wrong with it.
        why: &'static str,
    },
    /// It is what was written, by somebody who knew more.
    Unknown {
        /// Where the record begins.
        offset: u64,
        /// What the reader said.
        source: serde_json::Error,
    },
}

/// What a log holds beside its changes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct LogRead {
    /// Its first record, if it has one.
    pub begin: Option<Begin>,
    /// How many groups it holds. A log that was used has one at least: the ceiling.
    pub groups: usize,
    /// The number of the next log, if this one was ended.
    pub end: Option<u64>,
    /// The length of what is whole.
    pub good: u64,
    /// Why the rest was left out, if there is one.
    pub cut: Option<Flaw>,
}

/// The state that files build, one after the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Replay {
    /// What stands at each key.
    pub objects: BTreeMap<Key, Arc<Object>>,
    /// The newest revision of a change.
    pub revision: Revision,
    /// The highest revision that may have been given out.
    pub ceiling: Revision,
}

impl Replay {
    /// Plays a log. A last frame that is not whole is left out and told.
    ///
    /// # Errors
    /// When a flaw has a whole frame behind it, or the records make no sense.
    pub fn log(&mut self, bytes: &[u8]) -> Result<LogRead, Damage> {
        let mut read = LogRead::default();
        let mut rest = bytes;
        while !rest.is_empty() {
            let offset = read.good;
            let frame = match first_frame(rest) {
                Ok(frame) => frame,
                Err(flaw) if read.end.is_some() || has_frame_behind(rest) => {
                    return Err(Damage::Broken { offset, why: flaw.why() });
                }
                Err(flaw) => {
                    read.cut = Some(flaw);
                    break;
                }
            };
            if read.end.is_some() {
                return Err(Damage::Broken { offset, why: "the log goes on after its end" });
            }
            if frame.revision < self.revision {
                return Err(Damage::Broken { offset, why: "its revision is lower than the one before" });
            }
            match serde_json::from_slice(frame.body).map_err(|source| Damage::Unknown { offset, source })? {
                Record::Begin(begin) if read.begin.is_none() => {
                    known(&begin, offset)?;
                    self.ceiling = self.ceiling.max(begin.ceiling);
                    read.begin = Some(begin);
                }
                Record::Group { ceiling, entries } if read.begin.is_some() => {
                    self.ceiling = self.ceiling.max(ceiling.unwrap_or_default());
                    read.groups += 1;
                    entries.into_iter().for_each(|entry| self.entry(entry));
                }
                Record::End { next } if read.begin.is_some() => read.end = Some(next),
                _ => return Err(Damage::Broken { offset, why: "a record stands where it does not belong" }),
            }
            let length = HEADER + frame.body.len();
            rest = rest.get(length..).unwrap_or_default();
            read.good += length as u64;
        }
        Ok(read)
    }

    /// Plays a checkpoint, which is whole or damaged.
    ///
    /// # Errors
    /// When it is not whole.
    pub fn checkpoint(&mut self, bytes: &[u8]) -> Result<Begin, Damage> {
        let mut begun = None;
        let (mut rest, mut offset) = (bytes, 0);
        loop {
            let frame = first_frame(rest).map_err(|flaw| Damage::Broken { offset, why: flaw.why() })?;
            match serde_json::from_slice(frame.body).map_err(|source| Damage::Unknown { offset, source })? {
                Record::Begin(begin) if begun.is_none() => {
                    known(&begin, offset)?;
                    self.revision = frame.revision;
                    self.ceiling = begin.ceiling;
                    begun = Some(begin);
                }
                Record::Objects(objects) if begun.is_some() => objects.into_iter().for_each(|kept| self.kept(kept)),
                Record::End { next } if next == self.objects.len() as u64 => {
                    if let Some(begin) = begun {
                        return Ok(begin);
                    }
                    return Err(Damage::Broken { offset, why: "it ends before it begins" });
                }
                _ => return Err(Damage::Broken { offset, why: "a record stands where it does not belong" }),
            }
            let length = HEADER + frame.body.len();
            rest = rest.get(length..).unwrap_or_default();
            offset += length as u64;
        }
    }

    fn entry(&mut self, entry: Entry) {
        self.revision = self.revision.max(entry.revision);
        entry.ops.into_iter().for_each(|kept| self.kept(kept));
    }

    fn kept(&mut self, kept: Kept) {
        match kept.put {
            Some(object) => self.objects.insert(kept.key, object),
            None => self.objects.remove(&kept.key),
        };
    }
}

fn known(begin: &Begin, offset: u64) -> Result<(), Damage> {
    if begin.format > FORMAT {
        let why = format!("format {} is newer than {FORMAT}", begin.format);
        return Err(Damage::Unknown { offset, source: serde::de::Error::custom(why) });
    }
    Ok(())
}

/// Whether the log has outgrown the live data, so that a checkpoint saves more than it writes. `log` is what was written
/// since the newest checkpoint began, `live` the length of that checkpoint.
///
/// Twice the live data: then checkpoints add at most half of what the log writes anyway, and a start reads at most three
/// times what it needs. On the way out half of that will do, since the next start is quicker for it.
#[must_use]
pub fn has_outgrown(log: u64, live: u64, least: u64, closing: bool) -> bool {
    let bound = live.saturating_mul(2).max(least);
    log >= if closing { bound / 2 } else { bound }
}

/// Keys in records: `/registry/core/pods/default/web`.
mod path {
    use super::{Key, fmt, registry};

    pub(super) fn serialize<S: serde::Serializer>(key: &Key, serializer: S) -> Result<S::Ok, S::Error> {
        if key.namespace.contains('/') || (!key.resource.namespaced && !key.namespace.is_empty()) {
            return Err(serde::ser::Error::custom(format!("{key} cannot be read again")));
        }
        serializer.collect_str(key)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Key, D::Error> {
        struct Path;
        impl serde::de::Visitor<'_> for Path {
            type Value = Key;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the key of a known kind")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Key, E> {
                parse(text).ok_or_else(|| E::custom(format!("{text} is the key of no known kind")))
            }
        }
        deserializer.deserialize_str(Path)
    }

    fn parse(text: &str) -> Option<Key> {
        let (group, rest) = text.strip_prefix("/registry/")?.split_once('/')?;
        let (plural, rest) = rest.split_once('/')?;
        let resource = registry::by_plural(if group == "core" { "" } else { group }, plural)?;
        let (namespace, name) = if resource.namespaced { rest.split_once('/')? } else { ("", rest) };
        Some(Key::new(resource, namespace, name))
    }
}

#[cfg(test)]
mod tests;
