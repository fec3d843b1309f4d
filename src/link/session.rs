//! The node's end of the downward conversation: which share it holds, and what to ask for.
//!
//! In:       heads and assignments as they arrive, in any order, lost or doubled; connections; time.
//! Out:      the whole new share, when there is one; asks; what to keep on disk.
//! Never:    obeys a share of another store than the one it was bound to first (an empty or foreign master must not wipe a
//!           house), until a person said on that master that it shall (`adopt` in the head).
//! Flow:     from `link/mqtt.rs`, on to `agent/node.rs` (stops 8 → 9).
//!
//! ```text
//!   master                                    node
//!     │  assignment (change from n to n+1) ─────▶│ holds n: applies, checks the digest
//!     │  head (n+1, digest), retained ──────────▶│ equal digest: adopts epoch and number, says nothing
//!     │                                          │ else: waits a moment for the change, then
//!     │◀───────────── ask (I hold epoch, number) │
//!     │  assignment (part 1 … part m) ──────────▶│ joins them, checks the digest
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::message::{Ask, Assignment, AssignmentBody, Head, Numbered, SCHEMA};
use super::share::Share;
use crate::clock::{Now, Tick};
use crate::rng::Rng;
use crate::step::Machine;

/// How long a change may trail the head that announces it.
const CHANGE_MAY_TRAIL: Duration = Duration::from_millis(500);
/// Again, when an ask was not answered.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// After a broker's restart every node comes back at once: they ask spread over this time (DESIGN §7).
const JITTER: Duration = Duration::from_secs(5);

/// What can happen.
#[derive(Debug)]
pub enum SessionInput {
    /// A session with the broker stands.
    Connected,
    /// It is gone.
    Disconnected,
    /// `down/head`.
    Head(Head),
    /// `down/assignment`.
    Assignment(Box<Assignment>),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum SessionEffect {
    /// There is a new share: run it, and keep it on disk with the id of its store.
    Desired {
        /// All of it.
        share: Arc<Share>,
        /// Whose.
        store: String,
    },
    /// The master's head names the share that is held: the one from the disk is no old one.
    Confirmed,
    /// Publish on `up/ask`.
    Ask(Ask),
    /// The number held changed, or a foreign store was seen: say it in `health` at once.
    Tell,
}

/// The node's end.
pub struct Session {
    store: Option<String>,
    /// The disk knows another store, or none.
    unkept: bool,
    held: Numbered,
    share: Arc<Share>,
    digest: String,
    head: Option<Head>,
    foreign: Option<String>,
    parts: Option<Parts>,
    connected: bool,
    ever_connected: bool,
    ask_at: Option<Tick>,
    rng: Rng,
}

struct Parts {
    head: Head,
    of: u32,
    texts: BTreeMap<u32, String>,
}

impl Session {
    /// Starts with what the disk holds: the bound store and the last share.
    #[must_use]
    pub fn new(kept: Option<(String, Arc<Share>)>, rng: Rng) -> Self {
        let (store, share) = kept.map_or((None, Arc::default()), |(store, share)| (Some(store), share));
        let digest = share.digest();
        Self {
            unkept: store.is_none(),
            store,
            held: Numbered::default(),
            share,
            digest,
            head: None,
            foreign: None,
            parts: None,
            connected: false,
            ever_connected: false,
            ask_at: None,
            rng,
        }
    }

    /// What `health` says it holds.
    #[must_use]
    pub fn held(&self) -> Numbered {
        self.held
    }

    /// The store whose shares are not obeyed, if one tries.
    #[must_use]
    pub fn foreign(&self) -> Option<&str> {
        self.foreign.as_deref()
    }

    /// The store whose shares are obeyed, once there was one.
    #[must_use]
    pub fn store(&self) -> Option<&str> {
        self.store.as_deref()
    }

    /// Obeys this store from now on, as the node does in its other conversation.
    pub fn bind(&mut self, store: &str) {
        if self.store.as_deref() == Some(store) {
            return;
        }
        // Numbers of the other store say nothing here.
        self.store = Some(store.to_owned());
        self.unkept = true;
        self.held = Numbered::default();
        self.head = None;
        self.parts = None;
        self.foreign = None;
        self.ask_at = None;
    }

    fn take_head(&mut self, now: Now, head: Head, out: &mut Vec<SessionEffect>) {
        let foreign = self.store.as_ref().is_some_and(|store| *store != head.store);
        if foreign && head.adopt {
            // Numbers of the other store say nothing here.
            self.store = Some(head.store.clone());
            self.unkept = true;
            self.held = Numbered::default();
            self.head = None;
            self.parts = None;
        } else if foreign {
            if self.foreign.as_ref() != Some(&head.store) {
                self.foreign = Some(head.store);
                out.push(SessionEffect::Tell);
            }
            return;
        }
        if self.foreign.take().is_some() {
            out.push(SessionEffect::Tell);
        }
        // A head of an earlier start of the master, or of an earlier change, says nothing any more.
        if self.head.as_ref().is_some_and(|known| head.at < known.at) {
            return;
        }
        // A master that started again has lost its connections to all nodes at once.
        let started = self.head.as_ref().map_or(self.ever_connected, |known| known.at.epoch != head.at.epoch);
        self.head = Some(head);
        if !self.settled(out) && (self.ask_at.is_none() || started) {
            let wait = if started { self.jitter() } else { CHANGE_MAY_TRAIL };
            self.ask_at = Some(now.tick.after(wait));
        }
    }

    fn jitter(&mut self) -> Duration {
        JITTER.mul_f64(self.rng.unit())
    }

    /// Whether what is held is what the head names; takes over its number.
    fn settled(&mut self, out: &mut Vec<SessionEffect>) -> bool {
        let Some(head) = &self.head else { return true };
        if head.digest != self.digest {
            return false;
        }
        if self.held != head.at || self.unkept {
            self.held = head.at;
            if std::mem::take(&mut self.unkept) {
                self.store = Some(head.store.clone());
                out.push(SessionEffect::Desired { share: self.share.clone(), store: head.store.clone() });
            }
            out.extend([SessionEffect::Confirmed, SessionEffect::Tell]);
        }
        self.ask_at = None;
        self.parts = None;
        true
    }

    fn take_assignment(&mut self, now: Now, assignment: Assignment, out: &mut Vec<SessionEffect>) {
        let head = assignment.head;
        if self.store.as_ref().is_some_and(|store| *store != head.store) || head.at < self.held {
            return;
        }
        let share = match assignment.body {
            AssignmentBody::Change { from, set, unset } => {
                let base = Numbered { epoch: head.at.epoch, number: from };
                // A gap: the head that follows leads to an ask.
                if self.held != base || self.store.is_none() {
                    return;
                }
                self.share.changed(set, &unset)
            }
            AssignmentBody::Part { part, of, text } => match self.join(head.clone(), part, of, text) {
                Some(share) => share,
                None => return,
            },
        };
        let digest = share.digest();
        if digest != head.digest {
            // It was changed on the way, or we disagree on what we hold: ask for all of it.
            self.held = Numbered::default();
            self.ask_at = Some(now.tick.after(CHANGE_MAY_TRAIL));
            return;
        }
        self.share = Arc::new(share);
        self.digest = digest;
        self.held = head.at;
        self.parts = None;
        self.store = Some(head.store.clone());
        self.unkept = false;
        out.push(SessionEffect::Desired { share: self.share.clone(), store: head.store.clone() });
        out.push(SessionEffect::Tell);
        if self.head.as_ref().is_none_or(|known| known.at <= head.at) {
            self.head = Some(head);
        }
        if !self.settled(out) && self.ask_at.is_none() {
            self.ask_at = Some(now.tick.after(CHANGE_MAY_TRAIL));
        }
    }

    fn join(&mut self, head: Head, part: u32, of: u32, text: String) -> Option<Share> {
        // 64 MB of share is more than any node can run; a broken sender cannot fill our memory.
        const MOST_PARTS: u32 = 2400;
        if part == 0 || part > of || of > MOST_PARTS {
            return None;
        }
        let fits = self.parts.as_ref().is_some_and(|parts| parts.head == head && parts.of == of);
        if !fits {
            self.parts = Some(Parts { head, of, texts: BTreeMap::new() });
        }
        let parts = self.parts.as_mut()?;
        parts.texts.insert(part, text);
        if parts.texts.len() < of as usize {
            return None;
        }
        let whole: String = std::mem::take(&mut parts.texts).into_values().collect();
        self.parts = None;
        serde_json::from_str(&whole).ok()
    }
}

impl Machine for Session {
    type Input = SessionInput;
    type Effect = SessionEffect;

    fn handle(&mut self, now: Now, input: SessionInput, out: &mut Vec<SessionEffect>) {
        match input {
            SessionInput::Connected => {
                self.connected = true;
                // The retained head comes by itself in a moment, and tells whether there is something to ask.
                if self.head.is_some() && !self.settled(out) {
                    self.ask_at = Some(now.tick.after(CHANGE_MAY_TRAIL));
                }
            }
            SessionInput::Disconnected => {
                self.connected = false;
                self.ever_connected = true;
                self.ask_at = None;
            }
            SessionInput::Head(head) => self.take_head(now, head, out),
            SessionInput::Assignment(assignment) => self.take_assignment(now, *assignment, out),
        }
    }

    fn wake(&mut self, now: Now, out: &mut Vec<SessionEffect>) {
        if self.ask_at.is_some_and(|at| at <= now.tick) {
            self.ask_at = None;
            if self.connected && !self.settled(out) {
                out.push(SessionEffect::Ask(Ask { v: SCHEMA, at: self.held }));
                self.ask_at = Some(now.tick.after(ASK_AGAIN));
            }
        }
    }

    fn next_wake(&self) -> Option<Tick> {
        self.ask_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Wall;
    use crate::link::downlink::Downlink;
    use crate::link::share::tests::share;

    fn at(tick: u64) -> Now {
        Now { tick: Tick(tick), wall: Wall(0) }
    }

    struct Node {
        session: Session,
        shares: Vec<Arc<Share>>,
        asks: usize,
        confirmed: bool,
    }

    impl Node {
        fn new() -> Self {
            let mut node =
                Self { session: Session::new(None, Rng::seeded(1, "test")), shares: Vec::new(), asks: 0, confirmed: false };
            node.give(0, SessionInput::Connected);
            node
        }
        fn take(&mut self, effects: Vec<SessionEffect>) -> bool {
            let mut asked = false;
            for effect in effects {
                match effect {
                    SessionEffect::Desired { share, .. } => self.shares.push(share),
                    SessionEffect::Ask(_) => asked = true,
                    SessionEffect::Confirmed => self.confirmed = true,
                    SessionEffect::Tell => {}
                }
            }
            self.asks += usize::from(asked);
            asked
        }
        fn give(&mut self, tick: u64, input: SessionInput) {
            let mut out = Vec::new();
            self.session.handle(at(tick), input, &mut out);
            self.take(out);
        }
        fn wake(&mut self, tick: u64) -> bool {
            let mut out = Vec::new();
            self.session.wake(at(tick), &mut out);
            self.take(out)
        }
    }

    #[test]
    fn a_new_node_asks_once_and_then_follows_changes_without_asking() {
        let mut master = Downlink::new("s1".into(), 100);
        let mut node = Node::new();
        master.wants(Arc::new(share(&[("a", 1)])));
        node.give(0, SessionInput::Head(master.head().clone()));
        let due = node.session.next_wake().unwrap();
        assert!(node.wake(due.0));
        for part in master.whole() {
            node.give(due.0, SessionInput::Assignment(Box::new(part)));
        }
        assert_eq!(node.shares.last().unwrap().pods.len(), 1);
        let change = master.wants(Arc::new(share(&[("a", 1), ("b", 1)]))).unwrap();
        for assignment in change {
            node.give(due.0 + 1, SessionInput::Assignment(Box::new(assignment)));
        }
        node.give(due.0 + 1, SessionInput::Head(master.head().clone()));
        assert_eq!((node.shares.last().unwrap().pods.len(), node.asks, node.session.next_wake()), (2, 1, None));
    }

    #[test]
    fn a_master_that_starts_again_costs_an_up_to_date_node_nothing() {
        let wanted = Arc::new(share(&[("a", 1)]));
        let mut node = Node {
            session: Session::new(Some(("s1".into(), wanted.clone())), Rng::seeded(1, "t")),
            shares: vec![],
            asks: 0,
            confirmed: false,
        };
        node.give(0, SessionInput::Connected);
        let mut master = Downlink::new("s1".into(), 200);
        master.wants(wanted);
        assert!(!node.confirmed);
        node.give(1, SessionInput::Head(master.head().clone()));
        assert_eq!((node.session.held(), node.session.next_wake(), node.shares.len()), (master.head().at, None, 0));
        assert!(node.confirmed, "what was kept is known to be what is wanted");
        assert!(node.confirmed, "what was kept is known to be what is wanted");
    }

    #[test]
    fn a_share_of_a_foreign_store_is_not_obeyed_until_a_person_says_so() {
        let mut node = Node {
            session: Session::new(Some(("mine".into(), Arc::new(share(&[("a", 1)])))), Rng::seeded(1, "t")),
            shares: vec![],
            asks: 0,
            confirmed: false,
        };
        node.give(0, SessionInput::Connected);
        let mut foreign = Downlink::new("other".into(), 999);
        foreign.wants(Arc::new(Share::default()));
        node.give(1, SessionInput::Head(foreign.head().clone()));
        for part in foreign.whole() {
            node.give(1, SessionInput::Assignment(Box::new(part)));
        }
        assert!(node.shares.is_empty() && !node.confirmed);
        assert_eq!(node.session.foreign(), Some("other"));
        assert!(foreign.adopt(true) && !foreign.adopt(true));
        node.give(2, SessionInput::Head(foreign.head().clone()));
        assert_eq!((node.session.foreign(), node.session.store()), (None, Some("other")));
        let due = node.session.next_wake().unwrap();
        assert!(node.wake(due.0), "it asks for what it does not hold");
        for part in foreign.whole() {
            node.give(3, SessionInput::Assignment(Box::new(part)));
        }
        assert_eq!(node.shares.last().unwrap().pods.len(), 0);
        // The word is for the store that it came from: the one before is foreign now.
        let mut before = Downlink::new("mine".into(), 5000);
        before.wants(Arc::new(share(&[("a", 1)])));
        node.give(4, SessionInput::Head(before.head().clone()));
        assert_eq!((node.session.foreign(), node.shares.len()), (Some("mine"), 1));
    }

    #[test]
    fn a_session_that_is_bound_to_another_store_obeys_that_one_from_then_on() {
        let mut session = Session::new(Some(("mine".into(), Arc::new(share(&[("a", 1)])))), Rng::seeded(1, "t"));
        let mut other = Downlink::new("other".into(), 7);
        other.wants(Arc::new(share(&[("b", 1)])));
        let mut out = Vec::new();
        session.handle(at(1), SessionInput::Connected, &mut out);
        session.handle(at(1), SessionInput::Head(other.head().clone()), &mut out);
        assert_eq!((out.as_slice(), session.foreign()), (&[SessionEffect::Tell][..], Some("other")));
        session.bind("mine");
        assert_eq!(session.foreign(), Some("other"), "that is the same");
        session.bind("other");
        session.handle(at(2), SessionInput::Head(other.head().clone()), &mut out);
        assert_eq!((session.foreign(), session.store(), session.next_wake()), (None, Some("other"), Some(Tick(502))));
        for part in other.whole() {
            session.handle(at(3), SessionInput::Assignment(Box::new(part)), &mut out);
        }
        assert_eq!(session.held(), other.head().at);
    }

    #[test]
    fn an_adopted_store_that_wants_the_same_is_kept_as_the_one_that_is_obeyed() {
        let same = Arc::new(share(&[("a", 1)]));
        let mut session = Session::new(Some(("mine".into(), same.clone())), Rng::seeded(1, "t"));
        let mut restored = Downlink::new("other".into(), 7);
        restored.wants(same.clone());
        restored.adopt(true);
        let mut out = Vec::new();
        for _ in 0..2 {
            session.handle(at(1), SessionInput::Head(restored.head().clone()), &mut out);
        }
        let kept = SessionEffect::Desired { share: same, store: "other".into() };
        assert_eq!(out, [kept, SessionEffect::Confirmed, SessionEffect::Tell], "once");
    }

    #[test]
    fn after_a_cut_it_asks_at_once_and_after_a_restart_of_the_master_in_its_turn() {
        let mut waits = Vec::new();
        for epoch in [100, 200] {
            for seed in 0..20 {
                let mut master = Downlink::new("s1".into(), 100);
                let mut node = Node::new();
                node.session.rng = Rng::seeded(seed, "turn");
                node.give(0, SessionInput::Head(master.head().clone()));
                node.give(1000, SessionInput::Disconnected);
                let mut after = Downlink::new("s1".into(), 200);
                let newer = if epoch == 100 { &mut master } else { &mut after };
                newer.wants(Arc::new(share(&[("a", 1)])));
                node.give(2000, SessionInput::Connected);
                node.give(2000, SessionInput::Head(newer.head().clone()));
                waits.push(node.session.next_wake().unwrap().0 - 2000);
            }
        }
        let (cut, restarted) = waits.split_at(20);
        assert!(cut.iter().all(|wait| *wait == 500), "{cut:?}");
        assert!(restarted.iter().all(|wait| *wait <= 5000), "{restarted:?}");
        assert!(restarted.iter().max().unwrap() - restarted.iter().min().unwrap() > 2000, "spread: {restarted:?}");
    }

    #[test]
    fn loss_repetition_and_any_order_end_in_the_share_that_is_wanted() {
        for seed in 0..200 {
            let mut rng = Rng::seeded(seed, "wire");
            let mut master = Downlink::new("s1".into(), 1);
            let mut node = Node::new();
            let mut wire: Vec<SessionInput> = Vec::new();
            let mut tick = 0;
            for round in 0..30 {
                let names: Vec<String> = (0..rng.below(6)).map(|i| format!("p{i}")).collect();
                let wanted: Vec<(&str, u32)> = names.iter().map(|name| (name.as_str(), round / 3)).collect();
                for assignment in master.wants(Arc::new(share(&wanted))).unwrap_or_default() {
                    wire.push(SessionInput::Assignment(Box::new(assignment)));
                }
                wire.push(SessionInput::Head(master.head().clone()));
                // The wire loses, doubles and swaps.
                while !wire.is_empty() {
                    let input = wire.swap_remove(rng.below(wire.len()));
                    if rng.below(3) == 0 {
                        continue;
                    }
                    if rng.below(4) == 0
                        && let SessionInput::Head(head) = &input
                    {
                        wire.push(SessionInput::Head(head.clone()));
                    }
                    tick += 10;
                    node.give(tick, input);
                }
            }
            // Quiet: the retained head arrives, and what is asked for is answered.
            for _ in 0..4 {
                node.give(tick, SessionInput::Head(master.head().clone()));
                if let Some(due) = node.session.next_wake() {
                    tick = tick.max(due.0);
                    if node.wake(tick) {
                        for part in master.whole() {
                            node.give(tick, SessionInput::Assignment(Box::new(part)));
                        }
                    }
                }
            }
            assert_eq!(node.session.digest, master.head().digest, "seed {seed}");
            assert_eq!(node.session.held(), master.head().at, "seed {seed}");
        }
    }
}
