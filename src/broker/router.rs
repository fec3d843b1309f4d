//! Who subscribed to what: a tree of levels, so that a message costs by its depth and its readers, not by all filters.
//!
//! Never:    knows sessions (`session.rs`) or who may (`acl.rs`).

use std::collections::BTreeMap;

use super::packet::Options;

/// A session, for as long as the broker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionId(pub u64);

/// One filter of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// How.
    pub options: Options,
    /// MQTT 5's number for it.
    pub identifier: Option<u32>,
}

/// The tree. Filters are checked before they come here: at most [`super::topic::DEEPEST`] levels.
#[derive(Debug, Default)]
pub struct Router {
    root: Level,
}

#[derive(Debug, Default)]
struct Level {
    below: BTreeMap<Box<str>, Level>,
    here: BTreeMap<SessionId, Subscription>,
}

impl Level {
    fn is_empty(&self) -> bool {
        self.below.is_empty() && self.here.is_empty()
    }

    fn remove(&mut self, mut levels: std::str::Split<'_, char>, session: SessionId) -> bool {
        let Some(level) = levels.next() else { return self.here.remove(&session).is_some() };
        let Some(next) = self.below.get_mut(level) else { return false };
        let removed = next.remove(levels, session);
        if next.is_empty() {
            self.below.remove(level);
        }
        removed
    }

    fn collect(&self, mut levels: std::str::Split<'_, char>, wild: bool, found: &mut Vec<(SessionId, Subscription)>) {
        if wild && let Some(rest) = self.below.get("#") {
            found.extend(rest.here.iter().map(|(&session, &subscription)| (session, subscription)));
        }
        let Some(level) = levels.next() else {
            found.extend(self.here.iter().map(|(&session, &subscription)| (session, subscription)));
            return;
        };
        if let Some(next) = self.below.get(level) {
            next.collect(levels.clone(), true, found);
        }
        if wild && let Some(next) = self.below.get("+") {
            next.collect(levels, true, found);
        }
    }
}

impl Router {
    /// Adds or replaces; tells whether it was there.
    pub fn insert(&mut self, filter: &str, session: SessionId, subscription: Subscription) -> bool {
        let mut level = &mut self.root;
        for name in filter.split('/') {
            level = level.below.entry(name.into()).or_default();
        }
        level.here.insert(session, subscription).is_some()
    }

    /// Takes away; tells whether it was there.
    pub fn remove(&mut self, filter: &str, session: SessionId) -> bool {
        self.root.remove(filter.split('/'), session)
    }

    /// All subscriptions that get `topic`, by session; a session may stand there more than once.
    #[must_use]
    pub fn matching(&self, topic: &str) -> Vec<(SessionId, Subscription)> {
        let mut found = Vec::new();
        // Topics of the broker's own are no business of a filter that begins with a wildcard.
        self.root.collect(topic.split('/'), !topic.starts_with('$'), &mut found);
        found.sort_by_key(|&(session, _)| session);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::super::packet::{Qos, RetainHandling};
    use super::super::topic;
    use super::*;

    const SUBSCRIPTION: Subscription = Subscription {
        options: Options {
            qos: Qos::AtLeastOnce,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::Always,
        },
        identifier: None,
    };

    #[test]
    fn the_tree_agrees_with_the_plain_comparison() {
        let filters = ["#", "a/#", "a/+", "+/b", "a/b", "a/b/#", "+/+/+", "a", "/", "+", "$SYS/#", "$SYS/+", "a//b", "+/#"];
        let topics = ["a", "a/b", "a/b/c", "/", "b", "$SYS/x", "a//b", "x/b", "a/", "$SYS"];
        let mut router = Router::default();
        for (number, filter) in filters.iter().enumerate() {
            assert!(!router.insert(filter, SessionId(number as u64), SUBSCRIPTION));
        }
        for topic in topics {
            let found: Vec<&str> = router.matching(topic).iter().map(|(id, _)| filters[id.0 as usize]).collect();
            let expected: Vec<&str> = filters.into_iter().filter(|filter| topic::matches(filter, topic)).collect();
            assert_eq!(found, expected, "{topic}");
        }
    }

    #[test]
    fn what_is_taken_away_leaves_nothing_behind() {
        let mut router = Router::default();
        router.insert("a/+/c", SessionId(1), SUBSCRIPTION);
        assert!(router.insert("a/+/c", SessionId(1), SUBSCRIPTION));
        router.insert("a", SessionId(2), SUBSCRIPTION);
        assert!(!router.remove("a/+", SessionId(1)));
        assert!(router.remove("a/+/c", SessionId(1)));
        assert!(router.remove("a", SessionId(2)));
        assert!(router.root.is_empty());
    }
}
