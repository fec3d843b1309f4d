//! The signs of life of nodes, in ticks of this master: when each was last heard, and whether its last will came.
//!
//! In:       "heard", "gone" and "forget", from whoever hears the nodes (`dispatcher/run.rs`, by way of `bell.rs`).
//! Out:      from when on a node counts as lost, and from when on its loss may cost it its pods.
//! Never:    looks at a wall clock, at what a node says of itself, or at its leases.
//!
//! **Mass outage.** When no node at all is alive, it is most likely the broker, the switch or this master that is cut off,
//! not the nodes; and there is nowhere to put their pods. So nothing is evicted while all are silent, be it one node or a
//! hundred. When the first is heard again, the others get the whole eviction time once more, to be heard as well.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Settings;
use crate::api::Uid;
use crate::clock::Tick;

/// What is known of one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sign {
    /// The last packet of any kind since this master started.
    pub last_packet: Option<Tick>,
    /// When its last will came, if nothing was heard since.
    pub offline: Option<Tick>,
}

/// What is known of all nodes.
#[derive(Clone, Debug)]
pub struct Signs {
    /// Before this no node is judged that has not reported.
    judged_from: Tick,
    lost: Duration,
    nodes: BTreeMap<String, Sign>,
    /// Since when at least one node has been alive without a break; `None` before the first was heard.
    somebody_since: Option<Tick>,
    /// Nodes for which something changed that somebody should look at now.
    news: BTreeSet<String>,
    /// Pods that ran when this master started, and of which no node has said yet how they are.
    untold: BTreeSet<Uid>,
    /// Those of which one has said so since somebody looked.
    told: Vec<Uid>,
}

impl Signs {
    /// No sign yet, in a master that started at `started`.
    #[must_use]
    pub fn new(started: Tick, settings: Settings) -> Self {
        Self {
            judged_from: started.after(settings.grace),
            lost: settings.lost,
            nodes: BTreeMap::new(),
            somebody_since: None,
            news: BTreeSet::new(),
            untold: BTreeSet::new(),
            told: Vec::new(),
        }
    }

    /// These pods run, and it is not stored how they are.
    pub fn await_pods(&mut self, pods: impl IntoIterator<Item = Uid>) {
        self.untold.extend(pods);
    }

    /// How these pods are is known now, or they are no more. Returns whether that is news.
    pub fn pods_told(&mut self, pods: &[Uid]) -> bool {
        let before = self.told.len();
        self.told.extend(pods.iter().filter(|pod| self.untold.remove(*pod)).cloned());
        self.told.len() != before
    }

    /// The pods of which it is known now; empties the list.
    pub fn take_told(&mut self) -> Vec<Uid> {
        std::mem::take(&mut self.told)
    }

    /// Until when nothing is concluded from how this pod is; `None`: it is known, or was waited for long enough.
    #[must_use]
    pub fn untold_until(&self, pod: &Uid, now: Tick) -> Option<Tick> {
        (now < self.judged_from && self.untold.contains(pod)).then_some(self.judged_from)
    }

    /// Whether it is known of all pods how they are, as far as they are waited for.
    #[must_use]
    pub fn all_told(&self, now: Tick) -> bool {
        self.untold.is_empty() || self.judged_from <= now
    }

    /// The end of the grace after the start of the master.
    #[must_use]
    pub fn judged_from(&self) -> Tick {
        self.judged_from
    }

    /// A packet of any kind came. Returns whether that is news: the node was not known, or lost.
    pub fn heard(&mut self, node: &str, at: Tick) -> bool {
        if !self.anybody(at) {
            self.somebody_since = Some(at);
        }
        let known = self.nodes.get(node).is_some_and(|sign| sign.last_packet.is_some()) && !self.is_lost(node, at);
        let sign = self.nodes.entry(node.to_owned()).or_default();
        // A late word about an earlier moment takes nothing back.
        sign.last_packet = sign.last_packet.max(Some(at));
        if sign.offline.is_some_and(|offline| offline <= at) {
            sign.offline = None;
        }
        if !known {
            self.news.insert(node.to_owned());
        }
        !known
    }

    /// Its last will came. Returns whether that is news.
    pub fn gone(&mut self, node: &str, at: Tick) -> bool {
        let sign = self.nodes.entry(node.to_owned()).or_default();
        let news = sign.offline.is_none();
        if news {
            sign.offline = Some(at);
            self.news.insert(node.to_owned());
        }
        news
    }

    /// The node was removed.
    pub fn forget(&mut self, node: &str) {
        self.nodes.remove(node);
        self.news.remove(node);
    }

    /// The nodes with news; empties the list.
    pub fn take_news(&mut self) -> Vec<String> {
        std::mem::take(&mut self.news).into_iter().collect()
    }

    /// Whether it has been heard since this master started.
    #[must_use]
    pub fn reported(&self, node: &str) -> bool {
        self.nodes.get(node).is_some_and(|sign| sign.last_packet.is_some())
    }

    /// From when on it is lost if nothing more is heard.
    #[must_use]
    pub fn lost_at(&self, node: &str) -> Tick {
        let sign = self.nodes.get(node).copied().unwrap_or_default();
        match (sign.last_packet, sign.offline) {
            // Never heard: a will that the broker kept from an earlier day says nothing about today.
            (None, _) => self.judged_from,
            (Some(_), Some(offline)) => offline,
            (Some(last), None) => last.after(self.lost),
        }
    }

    /// Whether it is lost now.
    #[must_use]
    pub fn is_lost(&self, node: &str, now: Tick) -> bool {
        self.lost_at(node) <= now
    }

    /// From when on the time counts after which a lost node loses its pods; `None` while no node at all is alive.
    #[must_use]
    pub fn counts_from(&self, node: &str, now: Tick) -> Option<Tick> {
        let since = self.somebody_since.filter(|_| self.anybody(now))?;
        Some(self.lost_at(node).max(since))
    }

    /// Whether any node is alive.
    fn anybody(&self, at: Tick) -> bool {
        self.nodes.iter().any(|(node, sign)| sign.last_packet.is_some() && !self.is_lost(node, at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signs() -> Signs {
        Signs::new(Tick(0), Settings::default())
    }

    #[test]
    fn a_node_is_lost_by_its_will_or_by_silence_whichever_is_first() {
        let mut signs = signs();
        assert!(signs.heard("a", Tick(1000)));
        assert!(!signs.heard("a", Tick(2000)), "no news");
        assert_eq!(signs.lost_at("a"), Tick(12_000));
        assert!(signs.gone("a", Tick(5000)));
        assert!(!signs.gone("a", Tick(6000)));
        assert_eq!(signs.lost_at("a"), Tick(5000));
        assert!(signs.heard("a", Tick(7000)), "it is back");
        assert_eq!(signs.lost_at("a"), Tick(17_000));
        assert_eq!(signs.take_news(), ["a"]);
        assert!(signs.take_news().is_empty());
    }

    #[test]
    fn nobody_is_judged_before_the_grace_after_a_start_unless_he_reported() {
        let mut signs = signs();
        signs.gone("kept-will", Tick(100));
        for node in ["silent", "kept-will"] {
            assert!(!signs.is_lost(node, Tick(29_999)), "{node}");
            assert!(signs.is_lost(node, Tick(30_000)), "{node}");
        }
        signs.heard("reported", Tick(1000));
        assert!(signs.is_lost("reported", Tick(11_000)));
    }

    #[test]
    fn a_pod_that_ran_before_the_start_is_waited_for_until_it_is_told_or_the_grace_is_over() {
        let mut signs = signs();
        assert!(signs.all_told(Tick(0)));
        let (one, two) = (Uid::from("one"), Uid::from("two"));
        signs.await_pods([one.clone(), two.clone()]);
        assert_eq!((signs.all_told(Tick(0)), signs.untold_until(&one, Tick(0))), (false, Some(Tick(30_000))));
        assert_eq!(signs.untold_until(&Uid::from("new"), Tick(0)), None);
        assert!(signs.pods_told(&[one.clone(), Uid::from("new")]) && !signs.pods_told(std::slice::from_ref(&one)));
        assert_eq!((signs.take_told(), signs.take_told()), (vec![one.clone()], vec![]));
        assert_eq!((signs.untold_until(&one, Tick(0)), signs.all_told(Tick(29_999))), (None, false));
        assert_eq!((signs.untold_until(&two, Tick(30_000)), signs.all_told(Tick(30_000))), (None, true));
    }

    #[test]
    fn while_all_are_silent_no_time_counts_and_it_starts_anew_when_one_is_back() {
        let mut signs = signs();
        signs.heard("a", Tick(0));
        signs.heard("b", Tick(0));
        assert_eq!(signs.counts_from("a", Tick(60_000)), None, "all silent");
        signs.heard("b", Tick(100_000));
        assert_eq!(signs.counts_from("a", Tick(100_000)), Some(Tick(100_000)));
        signs.heard("b", Tick(108_000));
        assert_eq!(signs.counts_from("a", Tick(108_000)), Some(Tick(100_000)));
    }
}
