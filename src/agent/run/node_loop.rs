//! The node's loop: what comes from the link, from the runtime and from time goes through the deciders, and what they want is done.
//!
//! Nothing in here waits for anything but its inbox: orders go to the runtime's hand, messages into the bus's outbox, the share to the
//! task that keeps it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::agent::clock_watch::ClockWatch;
use crate::agent::config::AgentConfig;
use crate::agent::devices::Offer;
use crate::agent::devices::inventory::Inventory;
use crate::agent::health::judge::Pressures;
use crate::agent::health::sysinfo::watch::Seen;
use crate::agent::health::sysinfo::{Machine as Facts, Sensors};
use crate::agent::hooks::{HookEnd, HookOrder, HookOutcome};
use crate::agent::images::Wanted;
use crate::agent::led::panel::Panel;
use crate::agent::led::shelf::{PodLight, PodState, Shelf, ShelfEffect, ShelfInput};
use crate::agent::node::{self, Effect, Input, Node, Order, Outcome};
use crate::agent::past::Past;
use crate::agent::pods::status::LightState;
use crate::agent::policy::rules::LocalPods;
use crate::agent::prober;
use crate::agent::runtime::run::Health as RuntimeHealth;
use crate::agent::runtime::{Command, Failure, Runtime};
use crate::agent::streams::Streams;
use crate::agent::uplink::Uplink;
use crate::api::image::{Platforms, tagged};
use crate::api::time::rfc3339;
use crate::board::Board;
use crate::clock::{Clock, Now, SystemClock, Tick};
use crate::error::Chain;
use crate::link::bus::{Bus, BusEvent, Publish};
use crate::link::call::{Identified, Question};
use crate::link::codec::{decode, encode};
use crate::link::message::{
    Assignment, CallBody, CallRequest, Credit, Head, Health, Info, NodeEvent, NodeImage, SCHEMA, VolumeReport,
};
use crate::link::mqtt::Place;
use crate::link::session::{Session, SessionEffect, SessionInput};
use crate::link::share::Share;
use crate::link::{NodeTopic, Topics};
use crate::rng::Rng;
use crate::step::Machine;

/// `health` at most this often, however much flips (DESIGN §7).
const HEALTH_AT_MOST: Duration = Duration::from_secs(1);
/// What the bus could not take is offered again after this.
const RETRY: Duration = Duration::from_millis(200);
/// So many inputs are taken in at once, before the link is heard again.
const FLOCK: usize = 64;

/// One node's parts, and what they have to tell each other.
pub(super) struct Agent {
    pub(super) config: AgentConfig,
    pub(super) clock: SystemClock,
    /// How the clock was put right since the node began.
    pub(super) watch: ClockWatch,
    pub(super) node: Node,
    pub(super) session: Session,
    /// The conversation about the network.
    pub(super) net: Session,
    /// What is known of the network, for all who work by it.
    pub(super) net_share: watch::Sender<Arc<Share>>,
    /// The same with its store, for who keeps it.
    pub(super) net_keep: watch::Sender<Option<(String, Arc<Share>)>>,
    /// The pods of this node by their addresses, for who makes rules about them.
    pub(super) local_pods: watch::Sender<Arc<LocalPods>>,
    pub(super) shelf: Shelf,
    pub(super) uplink: Uplink,
    pub(super) streams: Streams,
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) sensors: Sensors,
    pub(super) machine: Facts,
    pub(super) board: Board,
    pub(super) addresses: Vec<String>,
    pub(super) panel: Panel,
    /// Why its LEDs cannot burn from the start.
    pub(super) unlit: Option<String>,
    pub(super) bus: Arc<dyn Bus>,
    pub(super) topics: Topics,
    pub(super) orders: mpsc::Sender<Order>,
    pub(super) hooks: mpsc::Sender<HookOrder>,
    pub(super) probes: mpsc::Sender<prober::Order>,
    pub(super) keep: watch::Sender<Option<(String, Arc<Share>)>>,
    /// What the next agent is to know of the pods.
    pub(super) remember: watch::Sender<Option<Arc<Past>>>,
    /// The images that pods name, for who removes the others.
    pub(super) wanted: watch::Sender<Wanted>,
    /// The images that are here.
    pub(super) images: watch::Receiver<Vec<NodeImage>>,
    /// What the node runs.
    pub(super) platforms: Platforms,
    pub(super) discard: watch::Sender<Arc<Share>>,
    pub(super) volumes_dir: String,
    pub(super) connected: bool,
    /// The same, for who looks for the master.
    pub(super) linked: watch::Sender<bool>,
    /// Where the broker is, if that is somewhere else than it was.
    pub(super) moved: watch::Receiver<Option<Place>>,
    /// The same, for who connects.
    pub(super) moves: watch::Sender<Option<Place>>,
    /// Counts up when the machine's interfaces or addresses changed.
    pub(super) interfaces: watch::Receiver<u64>,
    /// The node's end of WireGuard, as others should know it.
    pub(super) wireguard: watch::Receiver<String>,
    pub(super) info: Option<Info>,
    pub(super) pressures: watch::Receiver<Pressures>,
    /// What is seen of the board.
    pub(super) seen: watch::Receiver<Seen>,
    pub(super) runtime_is: RuntimeHealth,
    pub(super) health_at: Tick,
    pub(super) health_told: Option<Tick>,
    pub(super) retry_at: Option<Tick>,
    pub(super) unparsed: u64,
    /// The devices that the node offers.
    pub(super) offer: Offer,
    pub(super) devices: watch::Receiver<Inventory>,
    pub(super) rng: Rng,
}

/// Where the loop hears from the others.
pub(super) struct Inboxes {
    pub(super) events: mpsc::Receiver<BusEvent>,
    pub(super) inputs: mpsc::Receiver<Input>,
    pub(super) runtime_is: watch::Receiver<RuntimeHealth>,
    pub(super) discarded: mpsc::Receiver<Vec<VolumeReport>>,
    /// What people should know of services.
    pub(super) of_services: mpsc::Receiver<NodeEvent>,
}

impl Agent {
    /// Runs until `stop`.
    pub(super) async fn run(mut self, past: Past, kept: Option<Arc<Share>>, inboxes: Inboxes, stop: CancellationToken) {
        let Inboxes { mut events, mut inputs, mut runtime_is, mut discarded, mut of_services } = inboxes;
        self.light(ShelfInput::Link(false));
        self.feed(Input::Past(past));
        let inventory = self.devices.borrow_and_update().clone();
        self.feed(Input::Devices(inventory));
        let net = self.net_share.borrow().clone();
        self.feed(Input::Network(net));
        if let Some(share) = kept {
            tracing::info!(node = self.config.node, pods = share.pods.len(), "starts with the share that was kept");
            self.tell_wanted(&share);
            self.discard.send_replace(share.clone());
            self.feed(Input::Kept(share));
        }
        loop {
            let wake =
                [self.node.next_wake(), self.session.next_wake(), self.net.next_wake(), self.shelf.next_wake(), self.retry_at]
                    .into_iter()
                    .flatten()
                    .chain(self.connected.then_some(self.health_at))
                    .min();
            tokio::select! { biased;
                () = stop.cancelled() => break,
                Some(event) = events.recv() => {
                    if event == BusEvent::Connected {
                        self.learn_addresses().await;
                    }
                    self.hear(event);
                }
                Some(input) = inputs.recv() => {
                    self.feed(input);
                    // Answers of probes come in flocks: when to wake next is asked once for all of them.
                    for _ in 1..FLOCK {
                        let Ok(input) = inputs.try_recv() else { break };
                        self.feed(input);
                    }
                }
                Some(volumes) = discarded.recv() => self.uplink.volumes(volumes),
                Some(event) = of_services.recv() => self.uplink.event(event),
                Ok(()) = runtime_is.changed() => {
                    self.runtime_is = runtime_is.borrow_and_update().clone();
                    // One that is away says nothing: the node, once it has registered, does not wait for it.
                    if matches!(self.runtime_is, RuntimeHealth::Away(_)) && self.info.is_some() {
                        self.health_soon();
                    } else {
                        self.learn_runtime().await;
                    }
                }
                Ok(()) = self.pressures.changed() => self.health_soon(),
                Ok(()) = self.seen.changed() => self.health_soon(),
                Ok(()) = self.interfaces.changed() => {
                    if self.learn_addresses().await {
                        // A connection from an address that is no more says nothing for many seconds.
                        self.moves.send_modify(|_| {});
                    }
                }
                Ok(()) = self.wireguard.changed() => {
                    self.learn_runtime().await;
                }
                Ok(()) = self.images.changed() => {
                    self.learn_runtime().await;
                }
                Ok(()) = self.devices.changed() => {
                    let inventory = self.devices.borrow_and_update().clone();
                    self.feed(Input::Devices(inventory));
                }
                () = self.streams.ended() => {}
                () = self.clock.sleep_until(wake) => self.wake(),
                else => break,
            }
            self.tell_local_pods();
            self.tell();
        }
        let leaving = self.panel.leave();
        // A bus may hang for a second: not on a thread that others need.
        if let Err(error) = tokio::task::spawn_blocking(|| leaving.wait()).await {
            tracing::error!(%error, "leaving the LEDs died");
        }
    }

    /// Tells whoever asks which pods have which addresses, when that is something else than before.
    fn tell_local_pods(&self) {
        if self.local_pods.receiver_count() == 0 {
            return;
        }
        // Without policies nobody makes rules: nothing is collected then.
        let none = self.net_share.borrow().policies.is_empty();
        let pods = if none { LocalPods::new() } else { self.node.local_pods() };
        self.local_pods.send_if_modified(|known| {
            let other = **known != pods;
            if other {
                *known = Arc::new(pods);
            }
            other
        });
    }

    fn wake(&mut self) {
        let now = self.clock.now();
        let mut effects = Vec::new();
        self.node.wake(now, &mut effects);
        self.carry_out(effects);
        let mut effects = Vec::new();
        self.session.wake(now, &mut effects);
        self.follow(effects);
        self.wake_net();
        let mut effects = Vec::new();
        self.shelf.wake(now, &mut effects);
        self.show(effects);
        self.retry_at = None;
        if self.connected && self.health_at <= now.tick {
            self.tell_health(now);
        }
    }

    pub(super) fn feed(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.node.handle(self.clock.now(), input, &mut effects);
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        let (mut refused, mut unrun) = (Vec::new(), Vec::new());
        for effect in effects {
            match effect {
                Effect::Run(order) => {
                    if let Err(error) = self.orders.try_send(order) {
                        let (mpsc::error::TrySendError::Full(order) | mpsc::error::TrySendError::Closed(order)) = error;
                        // What could not be given up goes on, and its outcome comes.
                        if order.command != Command::Cancel {
                            refused.push(order);
                        }
                    }
                }
                Effect::Hook(hook) => {
                    if let Err(error) = self.hooks.try_send(hook) {
                        let (mpsc::error::TrySendError::Full(hook) | mpsc::error::TrySendError::Closed(hook)) = error;
                        unrun.push(hook);
                    }
                }
                Effect::Probe(order) => {
                    if let Err(error) = self.probes.try_send(order) {
                        // The decider gives up what is not answered, and asks again.
                        tracing::warn!(%error, "more is probed than this node can do");
                    }
                }
                Effect::Report(report) => self.uplink.report(report),
                Effect::Event(event) => self.uplink.event(event),
                Effect::Offer(offer) => self.offer(offer),
                Effect::Keep(past) => {
                    self.remember.send_replace(Some(Arc::new(past)));
                }
                Effect::Lights(lights) => self.light(ShelfInput::Pods(lights.into_iter().map(pod_light).collect())),
            }
        }
        for HookOrder { pod, start, .. } in unrun {
            let end = HookEnd::Failed("more hooks are under way than this node can run".to_owned());
            let outcome = HookOutcome { uid: pod.uid, container: start.container, moment: start.moment, end };
            self.feed(Input::Hooked(outcome));
        }
        for order in refused {
            let result = Err(Failure::Unavailable("more is under way than this node can do".to_owned()));
            self.feed(Input::Outcome(Outcome { ticket: order.ticket, uid: order.pod.uid, result, after: None }));
        }
    }

    fn light(&mut self, input: ShelfInput) {
        let mut effects = Vec::new();
        self.shelf.handle(self.clock.now(), input, &mut effects);
        self.show(effects);
    }

    /// Blinks for somebody who looks for this board.
    fn identify(&mut self, how_long: Duration) -> Identified {
        let leds = self.board.leds.len();
        if leds == 0 {
            return Identified { leds, unlit: Some(format!("its board is {:?}, which has none", self.board.name)) };
        }
        tracing::info!(node = self.config.node, seconds = how_long.as_secs(), "identifies itself");
        self.light(ShelfInput::Identify(how_long));
        let trouble = self.panel.trouble().filter(|_| !self.panel.works());
        let unlit = self.unlit.clone().or_else(|| trouble.map(ToString::to_string));
        Identified { leds, unlit }
    }

    fn show(&mut self, effects: Vec<ShelfEffect>) {
        for effect in effects {
            match effect {
                ShelfEffect::Show(frame) => {
                    if let Some(error) = self.panel.show(&frame, self.clock.now().tick) {
                        tracing::warn!(node = self.config.node, "{error}");
                    }
                }
                ShelfEffect::Tell(picture) => {
                    if self.connected && !picture.leds.is_empty() {
                        self.publish(&NodeTopic::Leds, encode(&picture), true);
                    }
                }
            }
        }
    }

    fn hear(&mut self, event: BusEvent) {
        match event {
            BusEvent::Connected => {
                self.connected = true;
                self.linked.send_replace(true);
                self.converse(SessionInput::Connected);
                self.converse_net(SessionInput::Connected);
                self.light(ShelfInput::Link(true));
                self.introduce();
            }
            BusEvent::Disconnected => {
                self.connected = false;
                self.linked.send_replace(false);
                self.streams.end_all();
                self.converse(SessionInput::Disconnected);
                self.converse_net(SessionInput::Disconnected);
                self.light(ShelfInput::Link(false));
            }
            BusEvent::Alive { .. } => {}
            BusEvent::Message { topic, payload, .. } => self.take(&topic, &payload),
        }
    }

    /// Says that it lives, what it is and how it is.
    fn introduce(&mut self) {
        self.publish(&NodeTopic::Availability, Bytes::from_static(b"online"), true);
        if let Some(info) = self.info.clone() {
            self.publish(&NodeTopic::Info, encode(&info), true);
        }
        if let Some(picture) = self.shelf.picture().filter(|picture| !picture.leds.is_empty()).cloned() {
            self.publish(&NodeTopic::Leds, encode(&picture), true);
        }
        self.health_at = self.clock.now().tick;
        self.health_told = None;
    }

    fn take(&mut self, topic: &str, payload: &[u8]) {
        let Some((node, topic)) = self.topics.parse(topic) else { return };
        if node != self.config.node || (payload.is_empty() && topic != NodeTopic::Availability) {
            return;
        }
        let taken = match topic {
            NodeTopic::Availability => {
                // A will that was late, or the node was deleted while it lives: then it registers again, as a kubelet does.
                if self.connected && payload != b"online" {
                    self.introduce();
                }
                Ok(())
            }
            NodeTopic::Head => decode::<Head>(payload).map(|head| self.converse(SessionInput::Head(head))),
            NodeTopic::Assignment => {
                decode::<Assignment>(payload).map(|assignment| self.converse(SessionInput::Assignment(Box::new(assignment))))
            }
            NodeTopic::NetHead => decode::<Head>(payload).map(|head| self.converse_net(SessionInput::Head(head))),
            NodeTopic::NetAssignment => {
                decode::<Assignment>(payload).map(|assignment| self.converse_net(SessionInput::Assignment(Box::new(assignment))))
            }
            NodeTopic::AskAll => {
                let incarnation = self.rng.bits().max(1);
                self.uplink.start_anew(incarnation, self.node.all_reports().cloned());
                // The digest follows what is told now.
                self.health_soon();
                Ok(())
            }
            NodeTopic::CallRequest(id) => decode::<CallRequest>(payload).map(|request| match (self.down(), &request.body) {
                // The board needs no runtime.
                (_, CallBody::Ask(Question::Identify(question))) => {
                    let identified = self.identify(Duration::from_secs(question.seconds.into()));
                    self.streams.reply(&id, &request, &json!(identified));
                }
                // Nobody waits for the time-out of a runtime that is known not to answer.
                (Some(words), _) => self.streams.refuse(&id, &request, words),
                (None, _) => self.streams.start(id, request),
            }),
            NodeTopic::CallCredit(id) => decode::<Credit>(payload).map(|credit| self.streams.credit(&id, credit)),
            NodeTopic::Info
            | NodeTopic::Health
            | NodeTopic::Report
            | NodeTopic::Leds
            | NodeTopic::Ask
            | NodeTopic::NetAsk
            | NodeTopic::CallData(_) => Ok(()),
        };
        if let Err(error) = taken {
            self.unparsed += 1;
            if self.unparsed.is_power_of_two() {
                tracing::warn!(error = %Chain(&error), dropped = self.unparsed, "a message was not understood and dropped");
            }
        }
    }

    /// Says which images pods name.
    fn tell_wanted(&self, share: &Share) {
        let lists = ["initContainers", "containers", "ephemeralContainers"];
        let containers = share.pods.values().flat_map(|pod| lists.into_iter().flat_map(|list| pod.list_at(&["spec", list])));
        let names = containers.filter_map(|container| container.get("image")?.as_str());
        let volumes = share.pods.values().flat_map(|pod| pod.list_at(&["spec", "volumes"]));
        let mounted = volumes.filter_map(|volume| volume.get("image")?.get("reference")?.as_str());
        self.wanted.send_replace(names.chain(mounted).map(tagged).collect());
    }

    fn converse(&mut self, input: SessionInput) {
        let mut effects = Vec::new();
        self.session.handle(self.clock.now(), input, &mut effects);
        self.follow(effects);
        if let Some(store) = self.session.store() {
            // One node, one store.
            self.net.bind(store);
        }
    }

    fn follow(&mut self, effects: Vec<SessionEffect>) {
        for effect in effects {
            match effect {
                SessionEffect::Desired { share, store } => {
                    tracing::info!(node = self.config.node, pods = share.pods.len(), "new share");
                    self.uplink.keep_only(|uid| share.pods.contains_key(uid));
                    self.keep.send_replace(Some((store, share.clone())));
                    self.tell_wanted(&share);
                    self.discard.send_replace(share.clone());
                    self.feed(Input::Desired(share));
                }
                SessionEffect::Confirmed => self.feed(Input::Confirmed),
                SessionEffect::Ask(ask) => {
                    self.publish(&NodeTopic::Ask, encode(&ask), false);
                }
                SessionEffect::Tell => {
                    if let Some(foreign) = self.session.foreign() {
                        tracing::error!(
                            node = self.config.node,
                            foreign,
                            ours = self.session.store().unwrap_or_default(),
                            "the master speaks for another store than the one this node was given to; its share is not obeyed and the pods run on"
                        );
                    }
                    self.health_soon();
                }
            }
        }
    }

    /// `health` as soon as it may be told again.
    pub(super) fn health_soon(&mut self) {
        let now = self.clock.now().tick;
        let soonest = self.health_told.map_or(now, |told| told.after(HEALTH_AT_MOST).max(now));
        self.health_at = self.health_at.min(soonest);
    }

    pub(super) fn publish(&mut self, topic: &NodeTopic, payload: Bytes, retain: bool) -> bool {
        let topic = self.topics.node(&self.config.node, topic);
        let expiry_seconds = (!retain).then_some(60);
        self.bus.publish(Publish { topic, payload, retain, expiry_seconds }).is_ok()
    }

    /// Tells what is to be told, as far as the bus takes it.
    fn tell(&mut self) {
        if !self.connected {
            return;
        }
        while let Some(mut report) = self.uplink.next_message() {
            report.clock = Some(self.watch.told(self.clock.now()));
            if !self.publish(&NodeTopic::Report, encode(&report), false) {
                self.uplink.lost(report);
                self.retry_at = Some(self.clock.now().tick.after(RETRY));
                return;
            }
        }
    }

    fn tell_health(&mut self, now: Now) {
        if let Some(words) = self.watch.look(now) {
            tracing::info!(node = self.config.node, "{words}");
        }
        // The digest is over what was told: tell that first.
        self.tell();
        let reading = self.sensors.read();
        let pressures = *self.pressures.borrow_and_update();
        let mut health = Health {
            v: SCHEMA,
            time: rfc3339(now.wall),
            boot_id: self.machine.boot_id.clone(),
            uptime_seconds: reading.uptime_seconds,
            load_1m: reading.load_1m,
            cpu_percent: reading.cpu_percent,
            memory_total_bytes: reading.memory_total_bytes,
            memory_available_bytes: reading.memory_available_bytes,
            disk_total_bytes: reading.disk_total_bytes,
            disk_available_bytes: reading.disk_available_bytes,
            agent_written_bytes: reading.agent_written_bytes,
            ready: self.runtime_is == RuntimeHealth::Ready,
            not_ready_because: self.down(),
            memory_pressure: pressures.memory,
            disk_pressure: pressures.disk.is_some(),
            disk_pressure_because: pressures.disk.map(|short| short.words().to_owned()),
            pid_pressure: pressures.pids,
            pods: u32::try_from(self.node.all_reports().count()).unwrap_or(u32::MAX),
            at: self.session.held(),
            pods_digest: self.uplink.digest(),
            incarnation: self.uplink.incarnation(),
            foreign_store: self.session.foreign().map(str::to_owned),
            ..Health::default()
        };
        self.seen.borrow_and_update().tell(&mut health);
        self.publish(&NodeTopic::Health, encode(&health), true);
        self.health_told = Some(now.tick);
        self.health_at = self.next_health(now.tick);
        // A HAT may be plugged, or a bus fail, while nothing changes that LEDs show.
        if let Some(error) = self.panel.look(now.tick) {
            tracing::warn!(node = self.config.node, "{error}");
        }
    }

    /// Why nothing is to be had of the runtime: the kubelet's words, and the reason.
    fn down(&self) -> Option<String> {
        match &self.runtime_is {
            RuntimeHealth::Away(words) => Some(format!("container runtime is down: {words}")),
            RuntimeHealth::Ready | RuntimeHealth::Unknown => None,
        }
    }

    /// On the node's own beat, so that a thousand nodes do not speak at once.
    fn next_health(&self, now: Tick) -> Tick {
        let interval = u64::try_from(self.config.health_interval.as_millis()).unwrap_or(10_000).max(1000);
        let beat = beat(&self.config.node) % interval;
        let next = (now.0 / interval) * interval + beat;
        Tick(if next > now.0 + 500 { next } else { next + interval })
    }
}

/// A number that is the node's own.
pub(super) fn beat(node: &str) -> u64 {
    node.bytes().fold(0u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)))
}

fn pod_light(light: node::PodLight) -> PodLight {
    PodLight {
        pod: format!("{}/{}", light.namespace, light.name),
        wants: light.led,
        state: match light.state {
            LightState::Pulling => PodState::Pulling,
            LightState::Starting => PodState::Starting,
            LightState::Ready => PodState::Ready,
            LightState::NotReady | LightState::Terminating => PodState::NotReady,
            LightState::CrashLoop => PodState::CrashLoop,
        },
    }
}
