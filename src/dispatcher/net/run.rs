//! Hands: tells the network's share to the nodes that want it.
//!
//! One conversation for all: the share is computed, compared and encoded once, and the bytes go to each node's topics. What changes
//! in a storm is told together, ten times a second at most; the first change at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::NetShare;
use super::hold::Hold;
use crate::clock::Tick;
use crate::link::bus::{Bus, Publish};
use crate::link::codec::encode;
use crate::link::downlink::Downlink;
use crate::link::message::Head;
use crate::link::network::ClusterNetwork;
use crate::link::{NodeTopic, Topics};
use crate::store::{ChangeEvent, View};

/// Changes within this time are told together.
const TOGETHER: Duration = Duration::from_millis(100);
/// After a start it is looked so often whether the network may be told, and after that whether what could not be sent can be.
const LOOK: Duration = Duration::from_millis(100);
/// After this nobody needs a message to a node any more: by then it has asked again (DESIGN §7).
const EXPIRY_SECONDS: u32 = 60;

/// A node that wants the network's share.
#[derive(Default)]
struct Listener {
    /// It is to obey this store, whichever it obeyed before.
    adopt: bool,
}

/// The network's conversation with all nodes.
pub struct Net {
    bus: Arc<dyn Bus>,
    topics: Topics,
    network: ClusterNetwork,
    net: NetShare,
    downlink: Downlink,
    hold: Hold,
    listeners: BTreeMap<String, Listener>,
    /// Nodes whose head is to be told.
    headless: BTreeSet<String>,
    /// The whole share as messages, since somebody asked for it as it is now.
    whole: Option<Vec<Bytes>>,
    /// Who has got how many of these, and is to get the others when the outbox takes them.
    partly: BTreeMap<String, usize>,
    /// The share is another than the one that was told.
    other: bool,
    told: Option<Tick>,
    looked: Option<Tick>,
}

impl Net {
    /// Of a master with this store and epoch. Nobody listens yet.
    pub fn new(
        bus: Arc<dyn Bus>,
        topics: Topics,
        network: ClusterNetwork,
        view: &View,
        store: &str,
        epoch: u64,
        hold: Hold,
    ) -> Self {
        Self {
            bus,
            topics,
            net: NetShare::of(view, &network),
            network,
            downlink: Downlink::new(store.to_owned(), epoch),
            hold,
            listeners: BTreeMap::new(),
            headless: BTreeSet::new(),
            whole: None,
            partly: BTreeMap::new(),
            other: true,
            told: None,
            looked: None,
        }
    }

    /// Follows what changed in the store; everything, when that is not known.
    pub fn follow(&mut self, view: &View, changes: Option<&[ChangeEvent]>) {
        if let Some(changes) = changes {
            self.other |= self.net.follow(view, changes);
        } else {
            self.net = NetShare::of(view, &self.network);
            self.other = true;
        }
    }

    /// A node says whether it wants the share.
    pub fn wants(&mut self, node: &str, wants: bool) {
        match (self.listeners.contains_key(node), wants) {
            (false, true) => {
                self.listeners.insert(node.to_owned(), Listener::default());
                self.headless.insert(node.to_owned());
            }
            (true, false) => self.remove(node),
            _ => {}
        }
    }

    /// Whether a node is to obey this store whichever it obeyed before.
    pub fn adopt(&mut self, node: &str, adopt: bool) {
        if let Some(listener) = self.listeners.get_mut(node)
            && std::mem::replace(&mut listener.adopt, adopt) != adopt
        {
            self.headless.insert(node.to_owned());
        }
    }

    /// A node was removed, or does not want it any more: what is kept of it at the broker goes.
    pub fn remove(&mut self, node: &str) {
        self.headless.remove(node);
        self.partly.remove(node);
        if self.listeners.remove(node).is_some() {
            self.publish(node, &NodeTopic::NetHead, Bytes::new(), true);
        }
    }

    /// A session with the broker stands: nothing that was told is sure.
    pub fn connected(&mut self) {
        self.headless.extend(self.listeners.keys().cloned());
    }

    /// When there is something to be done; `None` while nothing is to be told.
    #[must_use]
    pub fn due(&self) -> Option<Tick> {
        let after = |since: Option<Tick>, wait: Duration| since.map_or(Tick(0), |since| since.after(wait));
        if !self.hold.is_over() {
            return Some(after(self.looked, LOOK));
        }
        let change = (self.other && !self.listeners.is_empty()).then(|| after(self.told, TOGETHER));
        let heads = (!self.headless.is_empty() || !self.partly.is_empty()).then(|| after(self.looked, LOOK));
        change.into_iter().chain(heads).min()
    }

    /// Whether the network may be told yet; looked at when it is due. `all_told`: of each pod it is known how it is.
    pub fn held(&mut self, view: &View, all_told: bool, now: Tick) -> bool {
        let before = self.hold.is_over();
        let over = self.hold.ends(view, all_told, now);
        if over && !before {
            tracing::debug!("the network is told from now on");
        }
        self.looked = Some(now);
        !over
    }

    /// Tells what is to be told.
    pub fn tell(&mut self, now: Tick) {
        if self.other && !self.listeners.is_empty() && self.told.is_none_or(|told| told.after(TOGETHER) <= now) {
            self.other = false;
            let first = self.told.replace(now).is_none();
            if let Some(change) = self.downlink.wants(Arc::new(self.net.share().clone())) {
                self.whole = None;
                // They ask for what it is now.
                self.partly.clear();
                self.headless.extend(self.listeners.keys().cloned());
                // After a start most nodes hold what they should: the head tells them, and who does not hold it asks.
                if !first {
                    let messages: Vec<Bytes> = change.iter().map(encode).collect();
                    for node in self.listeners.keys() {
                        self.send(node, &messages);
                    }
                }
            }
        }
        if self.told.is_some() {
            self.tell_heads();
            for (node, from) in std::mem::take(&mut self.partly) {
                self.send_whole(&node, from);
            }
        }
    }

    /// A node asks for the whole share.
    pub fn ask(&mut self, node: &str) {
        // Before the first head there is nothing to ask for.
        // What is on its way comes.
        if self.told.is_none() || !self.listeners.contains_key(node) || self.partly.contains_key(node) {
            return;
        }
        self.send_whole(node, 0);
    }

    /// Sends the whole share from this part on, as far as the outbox takes it now.
    fn send_whole(&mut self, node: &str, from: usize) {
        let whole = self.whole.take().unwrap_or_else(|| self.downlink.whole().iter().map(encode).collect());
        let sent = from + self.send(node, whole.get(from..).unwrap_or_default());
        if sent < whole.len() {
            self.partly.insert(node.to_owned(), sent);
        }
        self.whole = Some(whole);
    }

    fn tell_heads(&mut self) {
        if self.headless.is_empty() {
            return;
        }
        let [usual, adopting] = [false, true].map(|adopt| encode(&Head { adopt, ..self.downlink.head().clone() }));
        for node in std::mem::take(&mut self.headless) {
            let Some(listener) = self.listeners.get(&node) else { continue };
            let head = if listener.adopt { &adopting } else { &usual };
            if !self.publish(&node, &NodeTopic::NetHead, head.clone(), true) {
                self.headless.insert(node);
            }
        }
    }

    /// How many of these the outbox took. What is lost here is asked for when the head arrives.
    fn send(&self, node: &str, messages: &[Bytes]) -> usize {
        messages.iter().take_while(|message| self.publish(node, &NodeTopic::NetAssignment, (*message).clone(), false)).count()
    }

    fn publish(&self, node: &str, topic: &NodeTopic, payload: Bytes, retain: bool) -> bool {
        let topic = self.topics.node(node, topic);
        let expiry_seconds = (!retain).then_some(EXPIRY_SECONDS);
        self.bus.publish(Publish { topic, payload, retain, expiry_seconds }).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Key, Object, Revision, registry};
    use crate::clock::{Now, Wall};
    use crate::link::bus::Full;
    use crate::link::codec::decode;
    use crate::link::message::Assignment;
    use crate::link::session::{Session, SessionEffect, SessionInput};
    use crate::link::share::Share;
    use crate::rng::Rng;
    use crate::step::Machine;
    use crate::store::{Batch, Change, Expect, Op};
    use serde_json::json;
    use std::sync::Mutex;

    /// Keeps what is sent, as much as there is room for.
    struct Wire {
        sent: Mutex<Vec<Publish>>,
        room: Mutex<usize>,
    }

    impl Bus for Wire {
        fn publish(&self, message: Publish) -> Result<(), Full> {
            let mut sent = self.sent.lock().unwrap();
            if sent.len() >= *self.room.lock().unwrap() {
                return Err(Full);
            }
            sent.push(message);
            Ok(())
        }
    }

    struct World {
        view: View,
        wire: Arc<Wire>,
        net: Net,
        nodes: BTreeMap<String, Session>,
        asks: usize,
    }

    impl World {
        fn new() -> Self {
            let (view, wire) = (View::new(Revision(1)), Arc::new(Wire { sent: Mutex::default(), room: Mutex::new(1000) }));
            let hold = Hold::new(Tick(0), Duration::from_secs(30));
            let network = ClusterNetwork { pods: "10.244.0.0/16".into(), ..ClusterNetwork::default() };
            let net = Net::new(wire.clone(), Topics::new("home"), network, &view, "s1", 7, hold);
            Self { view, wire, net, nodes: BTreeMap::new(), asks: 0 }
        }
        fn service(&mut self, name: &str, port: u16) {
            let service = json!({"metadata": {"name": name, "namespace": "a"}, "spec": {"ports": [{"port": port}]}});
            let object = Object::from_value(service).unwrap();
            let op = Op { key: Key::of(&registry::SERVICES, &object), expect: Expect::Any, change: Change::Put(object) };
            let changes = self.view.apply(self.view.revision().next(), Batch(vec![op]));
            self.net.follow(&self.view, Some(&changes));
        }
        fn listens(&mut self, node: &str, kept: Option<Arc<Share>>) {
            let mut session = Session::new(kept.map(|share| ("s1".to_owned(), share)), Rng::seeded(1, node));
            session.handle(at(Tick(0)), SessionInput::Connected, &mut Vec::new());
            self.nodes.insert(node.to_owned(), session);
            self.net.wants(node, true);
        }
        /// As the dispatcher's loop does it; what was sent since.
        fn look(&mut self, tick: u64) -> Vec<Publish> {
            let tick = Tick(tick);
            if self.net.due().is_some_and(|due| due <= tick) && !self.net.held(&self.view, true, tick) {
                self.net.tell(tick);
            }
            std::mem::take(&mut *self.wire.sent.lock().unwrap())
        }
        /// Gives the nodes what was sent, and answers them, until all is quiet.
        fn settle(&mut self, tick: u64, mut sent: Vec<Publish>) {
            loop {
                let mut asks = Vec::new();
                for (name, session) in &mut self.nodes {
                    let mut out = Vec::new();
                    let of = |topic: &NodeTopic| Topics::new("home").node(name, topic);
                    for message in &sent {
                        if message.topic == of(&NodeTopic::NetHead) && !message.payload.is_empty() {
                            session.handle(at(Tick(tick)), SessionInput::Head(decode(&message.payload).unwrap()), &mut out);
                        } else if message.topic == of(&NodeTopic::NetAssignment) {
                            let assignment: Assignment = decode(&message.payload).unwrap();
                            session.handle(at(Tick(tick)), SessionInput::Assignment(Box::new(assignment)), &mut out);
                        }
                    }
                    session.wake(at(Tick(tick + 600)), &mut out);
                    asks.extend(out.iter().any(|effect| matches!(effect, SessionEffect::Ask(_))).then(|| name.clone()));
                }
                if asks.is_empty() {
                    return;
                }
                self.asks += asks.len();
                asks.iter().for_each(|node| self.net.ask(node));
                sent = std::mem::take(&mut *self.wire.sent.lock().unwrap());
            }
        }
        fn all_hold(&self) -> bool {
            self.nodes.values().all(|session| session.held() == self.net.downlink.head().at)
        }
    }

    fn at(tick: Tick) -> Now {
        Now { tick, wall: Wall(0) }
    }

    fn topics(sent: &[Publish]) -> Vec<&str> {
        sent.iter().map(|message| message.topic.strip_prefix("bramble/home/nodes/").unwrap()).collect()
    }

    #[test]
    fn all_nodes_are_told_the_same_and_a_change_once_in_a_while() {
        let mut world = World::new();
        world.service("web", 80);
        assert!(world.look(0).is_empty() && world.net.due().is_none(), "nobody listens");
        world.listens("one", None);
        world.listens("two", None);
        let sent = world.look(100);
        assert_eq!(topics(&sent), ["one/down/net/head", "two/down/net/head"]);
        assert!(sent.iter().all(|message| message.retain) && sent[0].payload == sent[1].payload);
        world.settle(100, sent);
        assert!(world.all_hold() && world.asks == 2);

        // The first change at once, a storm after it together.
        world.service("web", 81);
        let sent = world.look(1000);
        assert_eq!(
            topics(&sent),
            ["one/down/net/assignment", "two/down/net/assignment", "one/down/net/head", "two/down/net/head"]
        );
        world.settle(1000, sent);
        for port in 0..50 {
            world.service("web", 100 + port);
            assert!(world.look(1000 + u64::from(port)).is_empty());
        }
        let sent = world.look(1100);
        assert_eq!(sent.len(), 4);
        world.settle(1100, sent);
        assert!(world.all_hold() && world.asks == 2, "nobody had to ask");
        assert_eq!(world.net.due(), None);

        world.net.remove("two");
        let sent = world.look(1200);
        assert_eq!((topics(&sent), sent[0].payload.len()), (vec!["two/down/net/head"], 0));
        world.net.wants("two", true);
        assert_eq!(topics(&world.look(1300)), ["two/down/net/head"], "it came back, and nothing else changed");
    }

    #[test]
    fn a_node_that_holds_it_is_told_no_more_than_the_head_and_a_full_outbox_delays() {
        let mut world = World::new();
        world.service("web", 80);
        let kept = Arc::new(world.net.net.share().clone());
        world.listens("one", Some(kept));
        *world.wire.room.lock().unwrap() = 0;
        assert!(world.look(0).is_empty());
        *world.wire.room.lock().unwrap() = 1000;
        assert!(world.net.due().is_some(), "it is tried again");
        let sent = world.look(200);
        assert_eq!(topics(&sent), ["one/down/net/head"]);
        world.settle(200, sent);
        assert!(world.all_hold() && world.asks == 0);
    }

    #[test]
    fn who_is_to_obey_this_store_is_told_so_alone() {
        let mut world = World::new();
        world.listens("one", None);
        world.listens("two", None);
        world.look(0);
        world.net.adopt("two", true);
        world.net.adopt("one", false);
        let sent = world.look(500);
        assert_eq!(topics(&sent), ["two/down/net/head"]);
        assert!(decode::<Head>(&sent[0].payload).unwrap().adopt);
        world.net.connected();
        let adopting = world.look(1000).iter().map(|message| decode::<Head>(&message.payload).unwrap().adopt).collect::<Vec<_>>();
        assert_eq!(adopting, [false, true]);
    }

    #[test]
    fn a_large_network_arrives_whole() {
        let mut world = World::new();
        for number in 0..2000 {
            world.service(&format!("service-{number}"), 80);
        }
        world.listens("one", None);
        let sent = world.look(0);
        // Two messages have room at a time: the rest follows, and it is asked once.
        *world.wire.room.lock().unwrap() = 2;
        world.settle(0, sent);
        let mut tick = 0;
        while !world.all_hold() && tick < 10_000 {
            tick += 100;
            let sent = world.look(tick);
            assert!(sent.len() <= 2);
            world.settle(0, sent);
        }
        assert!(world.all_hold() && world.net.whole.as_ref().unwrap().len() > 3);
        assert_eq!((world.asks, world.net.due()), (1, None));
    }
}
