//! What the node still has to tell: the newest report of each pod, events, and what was told already.
//!
//! In:       reports and events from `node.rs`; whether there is a link.
//! Out:      [`Report`] messages that fit; the digest for `health`.
//! Never:    keeps an old state of a pod when there is a newer one, or more events than a person reads.

use std::collections::{BTreeMap, VecDeque};

use crate::api::Uid;
use crate::link::codec::MOST_BYTES;
use crate::link::message::{NodeEvent, PodReport, Report, SCHEMA, VolumeReport};
use crate::link::report::Said;

/// Events that wait for the link; older ones are dropped, and counted.
const MOST_EVENTS: usize = 200;
/// Room in a message for all but reports and events; most of it for how the clock was set.
const ENVELOPE: usize = 1024;

/// What is to be told.
#[derive(Debug)]
pub struct Uplink {
    incarnation: u64,
    pods: BTreeMap<Uid, PodReport>,
    events: VecDeque<NodeEvent>,
    volumes: BTreeMap<String, VolumeReport>,
    anew: bool,
    said: Said,
    dropped_events: u64,
}

impl Uplink {
    /// Nothing to tell, in the agent process of this number.
    #[must_use]
    pub fn new(incarnation: u64) -> Self {
        Self {
            incarnation,
            pods: BTreeMap::new(),
            events: VecDeque::new(),
            volumes: BTreeMap::new(),
            anew: false,
            said: Said::default(),
            dropped_events: 0,
        }
    }

    /// A pod changed.
    pub fn report(&mut self, report: PodReport) {
        self.pods.insert(report.uid.clone(), report);
    }

    /// Something happened.
    pub fn event(&mut self, event: NodeEvent) {
        if self.events.len() >= MOST_EVENTS {
            self.events.pop_front();
            self.dropped_events += 1;
        }
        self.events.push_back(event);
    }

    /// What became of volumes that were to be removed: the newest of each.
    pub fn volumes(&mut self, volumes: Vec<VolumeReport>) {
        self.volumes.extend(volumes.into_iter().map(|volume| (volume.name.clone(), volume)));
    }

    /// Everything is told from the start: `all` are the newest reports of all pods. By a new number, so that a master that took
    /// somebody else's for this node's listens again.
    pub fn start_anew(&mut self, incarnation: u64, all: impl Iterator<Item = PodReport>) {
        self.anew = true;
        self.incarnation = incarnation;
        self.pods = all.map(|report| (report.uid.clone(), report)).collect();
    }

    /// Forgets pods that are no longer this node's.
    pub fn keep_only(&mut self, wanted: impl Fn(&Uid) -> bool) {
        self.said.keep_only(wanted);
    }

    /// The digest of what was told.
    #[must_use]
    pub fn digest(&self) -> String {
        self.said.digest()
    }

    /// Which agent process this is.
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// The next message, or `None` when all is told. What is in it counts as told: call [`Uplink::lost`] when it could not be sent.
    pub fn next_message(&mut self) -> Option<Report> {
        if self.pods.is_empty() && self.events.is_empty() && self.volumes.is_empty() && !self.anew {
            return None;
        }
        let mut report = Report {
            v: SCHEMA,
            incarnation: self.incarnation,
            anew: self.anew,
            clock: None,
            pods: Vec::new(),
            events: Vec::new(),
            volumes: Vec::new(),
        };
        if std::mem::take(&mut self.anew) {
            self.said.clear();
        }
        let mut room = MOST_BYTES - ENVELOPE;
        while let Some((_, first)) = self.pods.first_key_value() {
            let size = size(first);
            if size > MOST_BYTES - ENVELOPE {
                // A status that no message can hold: nothing sensible makes one. The pod stays as it was last told.
                tracing::warn!(pod = %first.name, bytes = size, "a status is too large to be told");
                self.pods.pop_first();
                continue;
            }
            if size > room {
                return Some(report);
            }
            room -= size;
            if let Some((_, pod)) = self.pods.pop_first() {
                self.said.take(&pod);
                report.pods.push(pod);
            }
        }
        while let Some(event) = self.events.front() {
            let size = size(event);
            if size > room && !report.events.is_empty() {
                break;
            }
            room = room.saturating_sub(size);
            if let Some(event) = self.events.pop_front()
                && size < MOST_BYTES / 2
            {
                report.events.push(event);
            }
        }
        while let Some((_, volume)) = self.volumes.first_key_value() {
            let size = size(volume);
            if size > room && !(report.pods.is_empty() && report.events.is_empty() && report.volumes.is_empty()) {
                break;
            }
            room = room.saturating_sub(size);
            report.volumes.extend(self.volumes.pop_first().map(|(_, volume)| volume));
        }
        Some(report)
    }

    /// A message could not be sent: what it told is still to be told, unless something newer is.
    pub fn lost(&mut self, report: Report) {
        self.anew |= report.anew;
        for pod in report.pods {
            self.pods.entry(pod.uid.clone()).or_insert(pod);
        }
        for volume in report.volumes {
            self.volumes.entry(volume.name.clone()).or_insert(volume);
        }
        for event in report.events.into_iter().rev() {
            self.events.push_front(event);
        }
    }
}

fn size(part: &impl serde::Serialize) -> usize {
    // String keys only: cannot fail.
    serde_json::to_vec(part).map_or(0, |bytes| bytes.len() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Generation;
    use crate::link::codec::encode;

    fn report(uid: &str, attempt: u64, text: &str) -> PodReport {
        PodReport {
            uid: uid.into(),
            namespace: "d".into(),
            name: uid.into(),
            generation: Generation(1),
            attempt,
            status: serde_json::json!({"message": text}),
            gone: false,
        }
    }

    #[test]
    fn only_the_newest_of_a_pod_is_told_and_the_digest_follows() {
        let mut uplink = Uplink::new(1);
        uplink.report(report("a", 1, "old"));
        uplink.report(report("a", 2, "new"));
        let before = uplink.digest();
        let message = uplink.next_message().unwrap();
        assert_eq!((message.pods.len(), message.pods[0].attempt), (1, 2));
        assert_ne!(uplink.digest(), before);
        assert!(uplink.next_message().is_none());
    }

    #[test]
    fn much_is_told_in_messages_that_fit() {
        let mut uplink = Uplink::new(1);
        for index in 0..100 {
            uplink.report(report(&format!("p{index}"), 1, &"x".repeat(3000)));
        }
        uplink.report(report("giant", 1, &"x".repeat(100_000)));
        let mut told = 0;
        while let Some(message) = uplink.next_message() {
            assert!(encode(&message).len() <= MOST_BYTES);
            told += message.pods.len();
        }
        assert_eq!(told, 100);
    }

    #[test]
    fn what_was_not_sent_is_told_later_but_never_over_something_newer() {
        let mut uplink = Uplink::new(1);
        uplink.report(report("a", 1, "one"));
        uplink.report(report("b", 1, "one"));
        let lost = uplink.next_message().unwrap();
        uplink.report(report("a", 2, "two"));
        uplink.lost(lost);
        let attempts: Vec<u64> = uplink.next_message().unwrap().pods.iter().map(|pod| pod.attempt).collect();
        assert_eq!(attempts, [2, 1]);
    }

    #[test]
    fn telling_everything_begins_by_saying_so() {
        let mut uplink = Uplink::new(1);
        uplink.start_anew(2, std::iter::empty());
        let message = uplink.next_message().unwrap();
        assert_eq!((message.anew, message.incarnation), (true, 2));
        assert!(uplink.next_message().is_none());
    }
}
