//! The last message of each topic, kept for those who subscribe later.
//!
//! In RAM only: after a restart nodes and master tell everything again.
//! What nodes keep is bounded by count and by bytes, each node by itself; the master's own is as large as the cluster.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::message::Message;
use super::topic;
use crate::clock::Tick;

/// How much one node may keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Topics.
    pub count: usize,
    /// Bytes, all topics together.
    pub bytes: usize,
}

/// The node has too much already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaExceeded;

/// A walk through what a filter gets, in steps, so that nobody holds the broker for long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    filter: String,
    after: Option<Arc<str>>,
}

impl Cursor {
    /// From the beginning.
    #[must_use]
    pub fn new(filter: &str) -> Self {
        Self { filter: filter.to_owned(), after: None }
    }

    /// Its filter.
    #[must_use]
    pub fn filter(&self) -> &str {
        &self.filter
    }
}

#[derive(Debug)]
struct Kept {
    message: Arc<Message>,
    owner: Option<String>,
}

/// All of them, by topic.
#[derive(Debug, Default)]
pub struct Retained {
    kept: BTreeMap<Arc<str>, Kept>,
    usage: BTreeMap<String, Quota>,
}

impl Retained {
    /// Keeps `message`, or forgets its topic when the payload is empty. `owner` is the node that pays for it.
    ///
    /// # Errors
    /// [`QuotaExceeded`]: nothing changed.
    pub fn set(&mut self, message: &Arc<Message>, owner: Option<&str>, quota: Quota) -> Result<(), QuotaExceeded> {
        if message.payload.is_empty() {
            self.forget(&message.topic);
            return Ok(());
        }
        if let Some(owner) = owner {
            let used = self.usage.get(owner).copied().unwrap_or(Quota { count: 0, bytes: 0 });
            let mine = self.kept.get(&message.topic).filter(|kept| kept.owner.as_deref() == Some(owner));
            let (count, bytes) = mine.map_or((0, 0), |kept| (1, kept.message.weight()));
            let fits = used.count - count < quota.count && used.bytes - bytes + message.weight() <= quota.bytes;
            if !fits {
                return Err(QuotaExceeded);
            }
        }
        self.forget(&message.topic);
        if let Some(owner) = owner {
            let used = self.usage.entry(owner.to_owned()).or_insert(Quota { count: 0, bytes: 0 });
            used.count += 1;
            used.bytes += message.weight();
        }
        self.kept.insert(message.topic.clone(), Kept { message: message.clone(), owner: owner.map(str::to_owned) });
        Ok(())
    }

    fn forget(&mut self, topic: &str) {
        let Some(kept) = self.kept.remove(topic) else { return };
        if let Some(owner) = kept.owner
            && let Some(used) = self.usage.get_mut(&owner)
        {
            used.count -= 1;
            used.bytes -= kept.message.weight();
            if used.count == 0 {
                self.usage.remove(&owner);
            }
        }
    }

    /// Forgets what nobody needs any more; tells how many.
    pub fn expire(&mut self, now: Tick) -> usize {
        let old: Vec<Arc<str>> =
            self.kept.iter().filter(|(_, kept)| kept.message.expired(now)).map(|(topic, _)| topic.clone()).collect();
        for topic in &old {
            self.forget(topic);
        }
        old.len()
    }

    /// The next message of a walk, looking at no more than `looks` topics (counted down). `Err` when it is at its end;
    /// `Ok(None)` when the looks are used up first.
    ///
    /// # Errors
    /// [`AtEnd`] when there are no more.
    pub fn next(&self, cursor: &mut Cursor, now: Tick, looks: &mut usize) -> Result<Option<Arc<Message>>, AtEnd> {
        let prefix = topic::literal_prefix(&cursor.filter).to_owned();
        let from = match &cursor.after {
            Some(after) => Bound::Excluded(&**after),
            None => Bound::Included(prefix.as_str()),
        };
        let mut last = None;
        for (topic, kept) in self.kept.range::<str, _>((from, Bound::Unbounded)) {
            if !topic.starts_with(&prefix) {
                break;
            }
            if *looks == 0 {
                cursor.after = last.or(cursor.after.take());
                return Ok(None);
            }
            *looks -= 1;
            if !kept.message.expired(now) && topic::matches(&cursor.filter, topic) {
                cursor.after = Some(topic.clone());
                return Ok(Some(kept.message.clone()));
            }
            last = Some(topic.clone());
        }
        Err(AtEnd)
    }

    /// How many topics are kept.
    #[must_use]
    pub fn count(&self) -> usize {
        self.kept.len()
    }
}

/// The walk is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtEnd;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::packet::{Id, Properties, Qos, Value};
    use super::*;

    const QUOTA: Quota = Quota { count: 3, bytes: 1000 };

    fn message(topic: &str, payload: &str, expiry: Option<u32>) -> Arc<Message> {
        let mut properties = Properties::default();
        if let Some(seconds) = expiry {
            properties.push(Id::MessageExpiry, Value::Four(seconds));
        }
        let payload = Bytes::copy_from_slice(payload.as_bytes());
        Arc::new(Message::new(topic.into(), payload, Qos::AtLeastOnce, true, properties, Tick(0)))
    }

    fn walk(retained: &Retained, filter: &str, now: Tick) -> Vec<String> {
        let (mut cursor, mut found) = (Cursor::new(filter), Vec::new());
        loop {
            // One look at a time: each step must go on where the last one ended.
            match retained.next(&mut cursor, now, &mut 1) {
                Ok(Some(message)) => found.push(format!("{}={}", message.topic, String::from_utf8_lossy(&message.payload))),
                Ok(None) => {}
                Err(AtEnd) => return found,
            }
        }
    }

    #[test]
    fn a_walk_finds_the_newest_of_each_topic_and_nothing_cleared_or_expired() {
        let mut retained = Retained::default();
        for (topic, payload, expiry) in [
            ("a", "1", None),
            ("a/x", "1", None),
            ("a/x", "2", None),
            ("a/y", "1", None),
            ("a/z", "1", Some(5)),
            ("b", "1", None),
        ] {
            retained.set(&message(topic, payload, expiry), None, QUOTA).unwrap();
        }
        retained.set(&message("a/y", "", None), None, QUOTA).unwrap();
        assert_eq!(walk(&retained, "a/#", Tick(0)), ["a=1", "a/x=2", "a/z=1"]);
        assert_eq!(walk(&retained, "a/+", Tick(5000)), ["a/x=2"]);
        assert_eq!(walk(&retained, "#", Tick(5000)), ["a=1", "a/x=2", "b=1"]);
        assert_eq!(walk(&retained, "a", Tick(0)), ["a=1"]);
        assert_eq!(retained.expire(Tick(5000)), 1);
        assert_eq!(retained.count(), 3);
    }

    #[test]
    fn a_node_keeps_no_more_than_its_quota_and_others_are_not_touched() {
        let mut retained = Retained::default();
        for topic in ["n/1", "n/2", "n/3"] {
            retained.set(&message(topic, "x", None), Some("n"), QUOTA).unwrap();
        }
        assert_eq!(retained.set(&message("n/4", "x", None), Some("n"), QUOTA), Err(QuotaExceeded));
        assert_eq!(retained.set(&message("n/3", &"x".repeat(900), None), Some("n"), QUOTA), Err(QuotaExceeded));
        retained.set(&message("n/3", "new", None), Some("n"), QUOTA).unwrap();
        retained.set(&message("m/1", "x", None), Some("m"), QUOTA).unwrap();
        retained.set(&message("n/1", "", None), Some("n"), QUOTA).unwrap();
        retained.set(&message("n/4", "x", None), Some("n"), QUOTA).unwrap();
        // The master takes a topic over: the node no longer pays.
        retained.set(&message("n/4", "y", None), None, QUOTA).unwrap();
        retained.set(&message("n/5", "x", None), Some("n"), QUOTA).unwrap();
        for topic in ["n/2", "n/3", "n/4", "n/5", "m/1"] {
            retained.set(&message(topic, "", None), None, QUOTA).unwrap();
        }
        assert!(retained.count() == 0 && retained.usage.is_empty());
    }
}
