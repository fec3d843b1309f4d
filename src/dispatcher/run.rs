//! Hands: the loop between the store and the link.
//!
//! Flow:     stops 7 and 13: what the bell says goes down, what nodes say goes into the store.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::drops::{Cause, Drops};
use super::net::hold::Hold;
use super::net::run::Net;
use super::report::Heard;
use super::streams::{NewCall, Running};
use super::{assign, register, report, stamps, strain, volumes};
use crate::api::core::event::{Involved, Occurrence, Severity, record, recorded};
use crate::api::core::node::Node as NodeObject;
use crate::api::time::parse;
use crate::api::{Key, Object, Revision, Uid, registry};
use crate::clock::{Clock, Now, SystemClock, Tick};
use crate::error::Chain;
use crate::link::bus::{Bus, BusEvent, Publish};
use crate::link::codec::{decode, encode};
use crate::link::downlink::Downlink;
use crate::link::message::{Ask, Assignment, Health, Info, NodeEvent, Report, StreamFrame};
use crate::link::network::ClusterNetwork;
use crate::link::{NodeTopic, Topics};
use crate::rng::Rng;
use crate::store::batch::MOST;
use crate::store::{Batch, Op, Store, View, WriteError};

/// After this nobody needs a message to a node any more: by then it has asked again (DESIGN §7).
const EXPIRY_SECONDS: u32 = 60;
/// A node is asked to tell everything at most this often.
const ASK_ALL_EVERY: Duration = Duration::from_secs(2);
/// What could not be sent is tried again after this.
const RETRY: Duration = Duration::from_millis(500);
/// So much is looked through for signs of life before it is handled; the rest waits at the broker.
const MOST_WAITING: usize = 4096;
/// How often a write that lost a race is decided anew before the next message has to heal it.
const RACES: usize = 5;

/// Hears signs of life.
pub trait NodeSigns: Send + Sync + 'static {
    /// A packet of any kind came from a node.
    fn heard(&self, node: &str, at: Tick);
    /// A node's last will came, or it said goodbye.
    fn gone(&self, node: &str, at: Tick);
    /// How these pods are is known, and stands in the store; or they are no more.
    fn told(&self, pods: &[Uid]);
    /// Whether it is known of every pod that was there when the master started, or is not waited for any longer.
    fn all_told(&self, at: Tick) -> bool;
}

/// What the dispatcher works with.
pub struct Parts {
    /// The truth.
    pub store: Store,
    /// Towards the broker.
    pub bus: Arc<dyn Bus>,
    /// From the broker.
    pub events: mpsc::Receiver<BusEvent>,
    /// Of this cluster.
    pub topics: Topics,
    /// Who hears who lives.
    pub signs: Arc<dyn NodeSigns>,
    /// Calls to nodes.
    pub calls: mpsc::Receiver<NewCall>,
    /// The time.
    pub clock: SystemClock,
    /// What all nodes have to know of the network.
    pub network: ClusterNetwork,
    /// How long nodes are waited for after a start: `master.grace_seconds`.
    pub grace: Duration,
}

/// One node, as the dispatcher knows it.
struct Node {
    downlink: Downlink,
    head_told: bool,
    heard: Heard,
    info: Option<Info>,
    asked_all: Option<Tick>,
    /// Whether it obeys another store.
    foreign: bool,
    /// Whether its clock shows another time.
    astray: bool,
}

struct Dispatcher {
    store: Store,
    bus: Arc<dyn Bus>,
    topics: Topics,
    signs: Arc<dyn NodeSigns>,
    clock: SystemClock,
    epoch: u64,
    nodes: BTreeMap<String, Node>,
    cursor: Revision,
    /// Nodes whose head could not be sent.
    unsent: BTreeSet<String>,
    ids: Rng,
    drops: Drops,
    net: Net,
}

/// Runs until `stop`.
pub async fn run(parts: Parts, stop: CancellationToken) {
    let Parts { store, bus, mut events, topics, signs, mut calls, clock, network, grace } = parts;
    let mut bell = store.bell();
    let mut running = Running::new(bus.clone(), topics.clone());
    // A revision is never used twice, so the one at the start numbers this start.
    let epoch = store.view(View::revision).0;
    let hold = Hold::new(clock.now().tick, grace);
    let net = store.view(|view| Net::new(bus.clone(), topics.clone(), network, view, store.id(), epoch, hold));
    let mut this = Dispatcher {
        net,
        store,
        bus,
        topics,
        signs,
        clock,
        epoch,
        nodes: BTreeMap::new(),
        cursor: Revision(0),
        unsent: BTreeSet::new(),
        ids: Rng::from_os("dispatcher"),
        drops: Drops::default(),
    };
    this.look();
    let mut waiting = VecDeque::new();
    loop {
        tokio::select! { biased;
            () = stop.cancelled() => return,
            Some(event) = next(&waiting, &mut events) => {
                this.overhear(event, &mut events, &mut waiting);
                if let Some(event) = waiting.pop_front() {
                    this.hear(event, &mut running).await;
                }
            }
            Ok(()) = bell.changed() => this.look(),
            Some(call) = calls.recv() => running.start(call),
            () = running.ended() => {}
            () = tokio::time::sleep(RETRY), if !this.unsent.is_empty() => this.send_heads(),
            () = clock.sleep_until(this.net.due()) => {}
            else => return,
        }
        this.tell_network();
    }
}

/// The next event: one that was overheard already, or one that comes. Safe to drop half way.
async fn next(waiting: &VecDeque<BusEvent>, events: &mut mpsc::Receiver<BusEvent>) -> Option<Next> {
    if waiting.is_empty() { events.recv().await.map(Next::New) } else { Some(Next::Waiting) }
}

/// Where the next event is.
enum Next {
    Waiting,
    New(BusEvent),
}

impl Dispatcher {
    /// Takes from everything that has come, in its order, who lives and who is gone: what nodes *say* may wait for the disk
    /// behind what others said, and a node must not be taken for lost because of that.
    fn overhear(&mut self, next: Next, events: &mut mpsc::Receiver<BusEvent>, waiting: &mut VecDeque<BusEvent>) {
        let mut new = match next {
            Next::New(event) => Some(event),
            Next::Waiting => None,
        };
        while waiting.len() < MOST_WAITING {
            let Some(event) = new.take().or_else(|| events.try_recv().ok()) else { return };
            if !self.sign(&event) {
                waiting.push_back(event);
            }
        }
    }

    /// Finds out whose share may have changed since the last look, and sends what did.
    fn look(&mut self) {
        // First the revision, then the changes: what comes between is looked at twice, and nothing is missed.
        let cursor = self.store.view(View::revision);
        let changes = self.store.changes_since(self.cursor, usize::MAX);
        let net = &mut self.net;
        let mut ended = Vec::new();
        let (dirty, removed) = self.store.view(|view| {
            net.follow(view, changes.as_deref().ok());
            let mut dirty = BTreeSet::new();
            let mut removed = BTreeSet::new();
            match changes {
                Ok(changes) => {
                    for change in changes {
                        let resource = change.key.resource;
                        if *resource == registry::PODS {
                            ended.extend(change.before.as_ref().filter(|_| change.after.is_none()).map(|pod| pod.uid()));
                            for pod in [&change.before, &change.after].into_iter().flatten() {
                                dirty.insert(pod.str_at(&["spec", "nodeName"]).to_owned());
                            }
                        } else if *resource == registry::NODES {
                            if change.after.is_none() {
                                removed.insert(change.key.name);
                            } else {
                                let adopts =
                                    |node: &Option<Arc<Object>>| node.as_ref().is_some_and(|node| NodeObject(node).is_to_adopt());
                                let relabeled = labels(change.before.as_deref()) != labels(change.after.as_deref());
                                if change.before.is_none() || relabeled || adopts(&change.before) != adopts(&change.after) {
                                    dirty.insert(change.key.name);
                                }
                            }
                        } else if *resource == registry::PERSISTENT_VOLUMES || *resource == registry::PERSISTENT_VOLUME_CLAIMS {
                            dirty.extend(assign::concerned(view, &change.key, [change.before.as_ref(), change.after.as_ref()]));
                        } else if *resource == registry::CONFIG_MAPS || *resource == registry::SECRETS {
                            let pods = view.list(&registry::PODS, Some(&change.key.namespace));
                            dirty.extend(pods.map(|pod| pod.str_at(&["spec", "nodeName"]).to_owned()));
                        }
                    }
                }
                Err(_) => {
                    dirty.extend(view.list(&registry::NODES, None).map(|node| node.name().to_owned()));
                    dirty.extend(view.list(&registry::PODS, None).map(|pod| pod.str_at(&["spec", "nodeName"]).to_owned()));
                    dirty.extend(self.nodes.keys().cloned());
                }
            }
            (dirty, removed)
        });
        self.cursor = cursor;
        if !ended.is_empty() {
            self.signs.told(&ended);
        }
        for node in removed {
            self.clear(&node);
        }
        for node in dirty.iter().filter(|node| !node.is_empty()) {
            self.send_share(node);
        }
    }

    fn node(&mut self, name: &str) -> &mut Node {
        let (store, epoch) = (&self.store, self.epoch);
        self.nodes.entry(name.to_owned()).or_insert_with(|| Node {
            downlink: Downlink::new(store.id().to_owned(), epoch),
            head_told: false,
            heard: Heard::default(),
            info: None,
            asked_all: None,
            foreign: false,
            astray: false,
        })
    }

    fn send_share(&mut self, name: &str) {
        let (share, adopt) = self.store.view(|view| {
            let node = view.get(&Key::new(&registry::NODES, "", name));
            (Arc::new(assign::share_of(view, name)), node.is_some_and(|node| NodeObject(node).is_to_adopt()))
        });
        self.net.adopt(name, adopt);
        let node = self.node(name);
        node.heard.keep_only(|uid| share.pods.contains_key(uid));
        let adopts = node.downlink.adopt(adopt);
        let change = node.downlink.wants(share);
        // The first head is told whatever it says: an empty share is news for a node that holds another store's.
        if change.is_some() || adopts || !std::mem::replace(&mut node.head_told, true) {
            self.send(name, change.unwrap_or_default());
            self.send_head(name);
        }
    }

    /// Tells the network's share, when that is due.
    fn tell_network(&mut self) {
        let now = self.clock.now().tick;
        if self.net.due().is_none_or(|due| due > now) {
            return;
        }
        let all_told = self.signs.all_told(now);
        let (store, net) = (&self.store, &mut self.net);
        if !store.view(|view| net.held(view, all_told, now)) {
            net.tell(now);
        }
    }

    fn publish(&self, node: &str, topic: &NodeTopic, payload: Bytes, retain: bool) -> bool {
        let topic = self.topics.node(node, topic);
        // A retained head must outlive the node's absence.
        let expiry_seconds = (!retain).then_some(EXPIRY_SECONDS);
        self.bus.publish(Publish { topic, payload, retain, expiry_seconds }).is_ok()
    }

    fn send(&mut self, node: &str, assignments: Vec<Assignment>) {
        for assignment in assignments {
            // What is lost here is asked for when the head arrives.
            if !self.publish(node, &NodeTopic::Assignment, encode(&assignment), false) {
                break;
            }
        }
    }

    fn send_head(&mut self, name: &str) {
        let Some(node) = self.nodes.get(name) else { return };
        if self.publish(name, &NodeTopic::Head, encode(node.downlink.head()), true) {
            self.unsent.remove(name);
        } else {
            self.unsent.insert(name.to_owned());
        }
    }

    fn send_heads(&mut self) {
        for name in std::mem::take(&mut self.unsent) {
            self.send_head(&name);
        }
    }

    /// A node was removed: what is kept of it at the broker goes.
    fn clear(&mut self, name: &str) {
        self.unsent.remove(name);
        self.net.remove(name);
        if let Some(node) = self.nodes.get_mut(name) {
            // The numbers of its share go on: should it live and come back, it would not listen to lower ones.
            node.head_told = false;
            node.heard = Heard::default();
            node.info = None;
            node.asked_all = None;
        }
        // Its availability last: if it lives, that is what it answers to.
        for topic in [NodeTopic::Head, NodeTopic::Info, NodeTopic::Health, NodeTopic::Leds, NodeTopic::Availability] {
            self.publish(name, &topic, Bytes::new(), true);
        }
    }

    /// Who lives and who is gone, by one event. Whether that was all that it says.
    fn sign(&self, event: &BusEvent) -> bool {
        let now = self.clock.now().tick;
        match event {
            BusEvent::Alive { client } => {
                self.signs.heard(client, now);
                true
            }
            BusEvent::Message { topic, payload, retained } if !payload.is_empty() => {
                match self.topics.parse(topic) {
                    Some((node, NodeTopic::Availability)) if **payload == *b"offline" => self.signs.gone(node, now),
                    // What a broker kept says nothing about now, but for a will that it did not carry out.
                    Some((node, topic)) if !retained || topic == NodeTopic::Availability => self.signs.heard(node, now),
                    _ => {}
                }
                false
            }
            BusEvent::Message { .. } | BusEvent::Connected | BusEvent::Disconnected => false,
        }
    }

    async fn hear(&mut self, event: BusEvent, running: &mut Running) {
        match event {
            BusEvent::Connected => {
                self.unsent.extend(self.nodes.iter().filter(|(_, node)| node.head_told).map(|(name, _)| name.clone()));
                self.send_heads();
                self.net.connected();
            }
            BusEvent::Disconnected => {}
            // Only a sign of life.
            BusEvent::Alive { .. } => {}
            BusEvent::Message { topic, payload, retained } => {
                let Some((node, topic)) = self.topics.parse(&topic).map(|(node, topic)| (node.to_owned(), topic)) else { return };
                if payload.is_empty() {
                    return;
                }
                let now = self.clock.now();
                if topic == NodeTopic::Availability && *payload == *b"offline" {
                    running.node_lost(&node);
                } else if !retained && topic == NodeTopic::Availability {
                    // Its link is new: what it was asked before may have been lost on the old one.
                    self.node(&node).asked_all = None;
                }
                self.take(&node, topic, &payload, now, running).await;
            }
        }
    }

    async fn take(&mut self, node: &str, topic: NodeTopic, payload: &[u8], now: Now, running: &mut Running) {
        let taken = match topic {
            NodeTopic::Info => match decode::<Info>(payload) {
                Ok(info) => {
                    self.take_info(node, info, now).await;
                    Ok(())
                }
                Err(error) => Err(error),
            },
            NodeTopic::Health => match decode::<Health>(payload) {
                Ok(health) => {
                    self.take_health(node, health, now).await;
                    Ok(())
                }
                Err(error) => Err(error),
            },
            NodeTopic::Report => match decode::<Report>(payload) {
                Ok(report) => {
                    self.take_report(node, report, now).await;
                    Ok(())
                }
                Err(error) => Err(error),
            },
            NodeTopic::Ask => decode::<Ask>(payload).map(|_| {
                let whole = self.node(node).downlink.whole();
                self.send(node, whole);
            }),
            NodeTopic::NetAsk => decode::<Ask>(payload).map(|_| self.net.ask(node)),
            NodeTopic::CallData(id) => decode::<StreamFrame>(payload).map(|frame| running.frame(node, &id, frame)),
            NodeTopic::Availability | NodeTopic::Leds => Ok(()),
            // Ours, or nobody's.
            NodeTopic::Head
            | NodeTopic::Assignment
            | NodeTopic::NetHead
            | NodeTopic::NetAssignment
            | NodeTopic::AskAll
            | NodeTopic::CallRequest(_)
            | NodeTopic::CallCredit(_) => Ok(()),
        };
        if let Err(error) = taken {
            self.dropped(node, Cause::NotUnderstood, &Chain(&error));
        }
    }

    fn dropped(&mut self, node: &str, cause: Cause, what: &dyn std::fmt::Display) {
        if let Some(dropped) = self.drops.count(cause) {
            tracing::warn!(node, what = %what, dropped, "{}", cause.words());
        }
    }

    async fn take_info(&mut self, node: &str, info: Info, now: Now) {
        if info.node != node {
            self.dropped(node, Cause::NotItsOwn, &format_args!("info of {:?}", info.node));
            return;
        }
        let uid = self.ids.uuid();
        self.write(|view| register::node(view, &info, now, || uid.clone()).into_iter().collect()).await;
        // What it is told first has the node itself in it.
        self.look();
        self.net.wants(node, info.network);
        let adopt = self.store.view(|view| {
            let node = view.get(&Key::new(&registry::NODES, "", node));
            node.is_some_and(|node| NodeObject(node).is_to_adopt())
        });
        self.net.adopt(node, adopt);
        self.node(node).info = Some(info);
    }

    async fn take_health(&mut self, name: &str, health: Health, now: Now) {
        let uid = self.ids.uuid();
        let node = self.node(name);
        let info = node.info.clone();
        let current = node.heard.accepts(health.incarnation);
        let agrees = current && node.heard.digest() == health.pods_digest;
        let asked = node.asked_all.is_some_and(|at| now.tick.since(at) < ASK_ALL_EVERY);
        if !agrees && !asked {
            node.asked_all = Some(now.tick);
            tracing::debug!(node = name, "asked to tell everything");
            self.publish(name, &NodeTopic::AskAll, Bytes::from_static(b"{\"v\":1}"), false);
        }
        if !current {
            // If it is the agent that lives after all, it begins a new life when it is asked.
            self.dropped(name, Cause::OutOfDate, &"health of an earlier life of its agent");
            return;
        }
        if std::mem::replace(&mut self.node(name).foreign, health.foreign_store.is_some()) != health.foreign_store.is_some() {
            if health.foreign_store.is_some() {
                tracing::warn!(node = name, "it {}", register::of_another_store(name));
            } else {
                tracing::info!(node = name, "it obeys this master's store");
            }
        }
        if let Some(shows) = parse(&health.time) {
            let off = stamps::off_by(shows, now.wall);
            if std::mem::replace(&mut self.node(name).astray, off.is_some()) != off.is_some() {
                match off {
                    Some(words) => tracing::warn!(node = name, "its clock is {words}; the times of its pods are put right"),
                    None => tracing::info!(node = name, "its clock shows the master's time"),
                }
            }
        }
        let epoch = self.epoch;
        self.write(|view| {
            let registered = view.get(&Key::new(&registry::NODES, "", name)).is_some();
            // A node that was deleted while it lives registers again, as a kubelet does.
            let object = match (&info, registered) {
                (Some(info), false) => register::node(view, info, now, || uid.clone()),
                _ => register::conditions(view, name, &health, epoch, now),
            };
            let lease = registered.then(|| register::lease(view, name, now, || uid.clone()));
            let node = view.get(&Key::new(&registry::NODES, "", name));
            let flips = node.map(|node| strain::flips(&health, node)).unwrap_or_default();
            let events = recorded(|key| view.get(key).map(AsRef::as_ref), &flips, now.wall);
            let event = |(key, object)| Op { key, expect: crate::store::Expect::Any, change: crate::store::Change::Put(object) };
            object.into_iter().chain(lease).chain(events.into_iter().map(event)).collect()
        })
        .await;
    }

    async fn take_report(&mut self, name: &str, said: Report, now: Now) {
        let node = self.node(name);
        if !node.heard.accepts(said.incarnation) {
            self.dropped(name, Cause::OutOfDate, &"a report of an earlier life of its agent");
            return;
        }
        if said.anew {
            node.heard.start_anew();
        }
        let (checked, events) = self.store.view(|view| {
            let checked: Vec<_> = said.pods.iter().map(|pod| report::check(view, name, pod)).collect();
            let events: Vec<_> = said.events.iter().map(|event| report::check_event(view, name, event)).collect();
            (checked, events)
        });
        let mut pods = Vec::with_capacity(said.pods.len());
        for (pod, checked) in said.pods.into_iter().zip(checked) {
            match checked {
                Ok(()) if self.node(name).heard.takes(&pod) => pods.push(pod),
                Ok(()) => {
                    self.dropped(name, Cause::OutOfDate, &format_args!("an older state of pod {}/{}", pod.namespace, pod.name));
                }
                Err(cause) => self.dropped(name, cause, &format_args!("a state of pod {:?}/{:?}", pod.namespace, pod.name)),
            }
        }
        for pods in pods.chunks(MOST) {
            if self.write(|view| report::writes(view, name, pods, said.clock.as_ref(), now.wall)).await {
                let told: Vec<Uid> = pods.iter().map(|pod| pod.uid.clone()).collect();
                self.signs.told(&told);
            } else {
                // It is told again: the digest of the next health differs.
                self.node(name).heard.forget(pods);
            }
        }
        let mut heard = Vec::with_capacity(said.events.len());
        for (event, checked) in said.events.into_iter().zip(events) {
            match checked {
                Ok(()) => heard.push(event),
                Err(cause) => self.dropped(
                    name,
                    cause,
                    &format_args!("an event of {:?} {:?}/{:?}", event.kind, event.namespace, event.name),
                ),
            }
        }
        for reports in said.volumes.chunks(MOST / 2) {
            self.write(|view| volumes::writes(view, name, reports, now)).await;
        }
        for events in heard.chunks(MOST / 2) {
            self.write(|view| events.iter().map(|event| event_op(view, name, event, now)).collect()).await;
        }
    }

    /// Decides on the newest view and writes; again when a race was lost. Whether it is done.
    async fn write(&self, decide: impl Fn(&View) -> Vec<Op>) -> bool {
        for _ in 0..RACES {
            let ops = self.store.view(&decide);
            if ops.is_empty() {
                return true;
            }
            match self.store.write(Batch(ops)).await {
                Ok(_) => return true,
                Err(WriteError::Conflict { .. }) => {}
                Err(error) => {
                    tracing::error!(error = %Chain(&error), "cannot keep what a node said");
                    return false;
                }
            }
        }
        tracing::debug!("lost every race; the node will be asked again");
        false
    }
}

/// The Event object for what a node tells.
fn event_op(view: &View, node: &str, event: &NodeEvent, now: Now) -> Op {
    let service = view.get(&Key::new(&registry::SERVICES, &event.namespace, &event.name)).filter(|_| event.kind == "Service");
    let occurrence = Occurrence {
        involved: Involved {
            api_version: "v1".to_owned(),
            kind: event.kind.clone(),
            namespace: event.namespace.clone(),
            name: event.name.clone(),
            uid: service.map_or_else(|| event.uid.clone(), |service| service.uid()).0,
            field_path: event.field_path.clone(),
        },
        severity: if event.warning { Severity::Warning } else { Severity::Normal },
        reason: event.reason.clone(),
        message: event.message.clone(),
        component: if event.kind == "Service" { "kube-proxy" } else { "kubelet" },
        host: node.to_owned(),
    };
    let key = occurrence.key();
    let object = record(view.get(&key).map(AsRef::as_ref), &occurrence, now.wall);
    Op { key, expect: crate::store::Expect::Any, change: crate::store::Change::Put(object) }
}

/// What people and nodes have written on a node.
fn labels(node: Option<&Object>) -> Option<&Value> {
    node?.at(&["metadata", "labels"])
}
