//! The master's end of the downward conversation with one node: numbers its share and says what changed.
//!
//! Flow:     from `dispatcher/assign.rs`, on to `link/bus.rs` (stops 7 → 8).

use std::sync::Arc;

use super::codec;
use super::message::{Assignment, AssignmentBody, Head, Numbered, SCHEMA};
use super::share::Share;

/// What one node should have, and under which number.
pub struct Downlink {
    head: Head,
    share: Arc<Share>,
}

impl Downlink {
    /// For a master of this store that started with this epoch; the node should have nothing yet.
    #[must_use]
    pub fn new(store: String, epoch: u64) -> Self {
        let share = Arc::new(Share::default());
        let head = Head { v: SCHEMA, store, at: Numbered { epoch, number: 0 }, digest: share.digest(), adopt: false };
        Self { head, share }
    }

    /// Says whether the node is to obey this store whichever it obeyed before; whether that is another word than before, and the head is to
    /// be told again.
    pub fn adopt(&mut self, adopt: bool) -> bool {
        std::mem::replace(&mut self.head.adopt, adopt) != adopt
    }

    /// What to keep on `down/head`.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Takes what the node should have from now on. If that is something else than before: what to publish on
    /// `down/assignment` before the new head. Nothing when the node has to ask because the change is too large.
    pub fn wants(&mut self, share: Arc<Share>) -> Option<Vec<Assignment>> {
        let digest = share.digest();
        if digest == self.head.digest {
            return None;
        }
        let (set, unset) = self.share.difference(&share);
        let from = self.head.at.number;
        self.head.at.number += 1;
        self.head.digest = digest;
        self.share = share;
        let change = Assignment { head: self.head.clone(), body: AssignmentBody::Change { from, set, unset } };
        Some(if codec::encode(&change).len() <= codec::MOST_BYTES { vec![change] } else { self.whole() })
    }

    /// The whole share in parts, for a node that asks.
    #[must_use]
    pub fn whole(&self) -> Vec<Assignment> {
        let parts = self.share.parts();
        let of = u32::try_from(parts.len()).unwrap_or(u32::MAX);
        (1..)
            .zip(parts)
            .map(|(part, text)| Assignment { head: self.head.clone(), body: AssignmentBody::Part { part, of, text } })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::share::tests::share;

    #[test]
    fn a_number_is_used_once_and_only_for_a_change() {
        let mut link = Downlink::new("s".into(), 7);
        assert!(link.wants(Arc::new(Share::default())).is_none());
        assert!(link.wants(Arc::new(share(&[("a", 1)]))).is_some());
        assert!(link.wants(Arc::new(share(&[("a", 1)]))).is_none());
        assert_eq!(link.head().at, Numbered { epoch: 7, number: 1 });
    }

    #[test]
    fn every_message_of_a_large_share_fits() {
        let mut link = Downlink::new("s".into(), 7);
        let mut large = share(&[]);
        let object = crate::api::Object::from_value(serde_json::json!({"data": {"text": "\"".repeat(300_000)}})).unwrap();
        large.config_maps.insert("default/large".into(), Arc::new(object));
        let messages = link.wants(Arc::new(large)).unwrap();
        assert!(messages.len() > 1);
        assert!(messages.iter().all(|message| codec::encode(message).len() <= codec::MOST_BYTES));
    }
}
