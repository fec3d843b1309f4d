//! The node's loop: what comes from the link, from the runtime and from time goes through the deciders, and what they want is done.
//!
//! Nothing in here waits for anything but its inbox: orders go to the runtime's hand, messages into the bus's outbox, the share to the
//! task that keeps it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::agent::config::AgentConfig;
use crate::agent::devices::Offer;
use crate::agent::devices::inventory::Inventory;
use crate::agent::health::judge::Pressures;
use crate::agent::health::sysinfo::{Machine as Facts, Sensors};
use crate::agent::hooks::{HookEnd, HookOrder, HookOutcome};
use crate::agent::images::Wanted;
use crate::agent::led::Driver;
use crate::agent::led::shelf::{PodLight, PodState, Shelf, ShelfEffect, ShelfInput};
use crate::agent::node::{self, Effect, Input, Node, Order, Outcome};
use crate::agent::pods::status::LightState;
use crate::agent::prober;
use crate::agent::register;
use crate::agent::runtime::run::Health as RuntimeHealth;
use crate::agent::runtime::{Failure, Runtime};
use crate::agent::streams::Streams;
use crate::agent::uplink::Uplink;
use crate::api::image::{Platforms, tagged};
use crate::api::time::rfc3339;
use crate::board::Board;
use crate::clock::{Clock, Now, SystemClock, Tick};
use crate::error::Chain;
use crate::link::bus::{Bus, BusEvent, Publish};
use crate::link::codec::{decode, encode};
use crate::link::message::{Assignment, CallRequest, Credit, Head, Health, Info, NodeImage, SCHEMA, VolumeReport};
use crate::link::session::{Session, SessionEffect, SessionInput};
use crate::link::share::Share;
use crate::link::{NodeTopic, Topics};
use crate::rng::Rng;
use crate::step::Machine;

/// `health` at most this often, however much flips (DESIGN §7).
const HEALTH_AT_MOST: Duration = Duration::from_secs(1);
/// What the bus could not take is offered again after this.
const RETRY: Duration = Duration::from_millis(200);
/// A runtime that does not say its version by then is asked again when it answers anew.
const VERSION: Duration = Duration::from_secs(2);

/// One node's parts, and what they have to tell each other.
pub(super) struct Agent {
    pub(super) config: AgentConfig,
    pub(super) clock: SystemClock,
    pub(super) node: Node,
    pub(super) session: Session,
    pub(super) shelf: Shelf,
    pub(super) uplink: Uplink,
    pub(super) streams: Streams,
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) sensors: Sensors,
    pub(super) machine: Facts,
    pub(super) board: Board,
    pub(super) addresses: Vec<String>,
    pub(super) driver: Box<dyn Driver>,
    pub(super) bus: Arc<dyn Bus>,
    pub(super) topics: Topics,
    pub(super) orders: mpsc::Sender<Order>,
    pub(super) hooks: mpsc::Sender<HookOrder>,
    pub(super) probes: mpsc::Sender<prober::Order>,
    pub(super) keep: watch::Sender<Option<(String, Arc<Share>)>>,
    /// The images that pods name, for who removes the others.
    pub(super) wanted: watch::Sender<Wanted>,
    /// The images that are here.
    pub(super) images: watch::Receiver<Vec<NodeImage>>,
    /// What the node runs.
    pub(super) platforms: Platforms,
    pub(super) discard: watch::Sender<Arc<Share>>,
    pub(super) volumes_dir: String,
    pub(super) connected: bool,
    pub(super) info: Option<Info>,
    pub(super) pressures: watch::Receiver<Pressures>,
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
}

impl Agent {
    /// Runs until `stop`.
    pub(super) async fn run(mut self, kept: Option<Arc<Share>>, inboxes: Inboxes, stop: CancellationToken) {
        let Inboxes { mut events, mut inputs, mut runtime_is, mut discarded } = inboxes;
        self.light(ShelfInput::Link(false));
        let inventory = self.devices.borrow_and_update().clone();
        self.feed(Input::Devices(inventory));
        if let Some(share) = kept {
            tracing::info!(node = self.config.node, pods = share.pods.len(), "starts with the share that was kept");
            self.tell_wanted(&share);
            self.discard.send_replace(share.clone());
            self.feed(Input::Desired(share));
        }
        loop {
            let wake = [self.node.next_wake(), self.session.next_wake(), self.shelf.next_wake(), self.retry_at]
                .into_iter()
                .flatten()
                .chain(self.connected.then_some(self.health_at))
                .min();
            tokio::select! { biased;
                () = stop.cancelled() => return,
                Some(event) = events.recv() => {
                    if event == BusEvent::Connected {
                        self.learn_addresses().await;
                    }
                    self.hear(event);
                }
                Some(input) = inputs.recv() => self.feed(input),
                Some(volumes) = discarded.recv() => self.uplink.volumes(volumes),
                Ok(()) = runtime_is.changed() => {
                    self.runtime_is = runtime_is.borrow_and_update().clone();
                    self.learn_runtime().await;
                }
                Ok(()) = self.pressures.changed() => self.health_soon(),
                Ok(()) = self.images.changed() => {
                    self.learn_runtime().await;
                }
                Ok(()) = self.devices.changed() => {
                    let inventory = self.devices.borrow_and_update().clone();
                    self.feed(Input::Devices(inventory));
                }
                () = self.streams.ended() => {}
                () = self.clock.sleep_until(wake) => self.wake(),
                else => return,
            }
            self.tell();
        }
    }

    fn wake(&mut self) {
        let now = self.clock.now();
        let mut effects = Vec::new();
        self.node.wake(now, &mut effects);
        self.carry_out(effects);
        let mut effects = Vec::new();
        self.session.wake(now, &mut effects);
        self.follow(effects);
        let mut effects = Vec::new();
        self.shelf.wake(now, &mut effects);
        self.show(effects);
        self.retry_at = None;
        if self.connected && self.health_at <= now.tick {
            self.tell_health(now);
        }
    }

    fn feed(&mut self, input: Input) {
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
                        refused.push(order);
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

    fn show(&mut self, effects: Vec<ShelfEffect>) {
        for effect in effects {
            match effect {
                ShelfEffect::Show(lit) => self.driver.show(&lit),
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
                self.converse(SessionInput::Connected);
                self.light(ShelfInput::Link(true));
                self.introduce();
            }
            BusEvent::Disconnected => {
                self.connected = false;
                self.streams.end_all();
                self.converse(SessionInput::Disconnected);
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
            NodeTopic::AskAll => {
                let incarnation = self.rng.bits().max(1);
                self.uplink.start_anew(incarnation, self.node.all_reports().cloned());
                // The digest follows what is told now.
                self.health_soon();
                Ok(())
            }
            NodeTopic::CallRequest(id) => decode::<CallRequest>(payload).map(|request| self.streams.start(id, request)),
            NodeTopic::CallCredit(id) => decode::<Credit>(payload).map(|credit| self.streams.credit(&id, credit)),
            NodeTopic::Info
            | NodeTopic::Health
            | NodeTopic::Report
            | NodeTopic::Leds
            | NodeTopic::Ask
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
    fn health_soon(&mut self) {
        let now = self.clock.now().tick;
        let soonest = self.health_told.map_or(now, |told| told.after(HEALTH_AT_MOST).max(now));
        self.health_at = self.health_at.min(soonest);
    }

    fn publish(&mut self, topic: &NodeTopic, payload: Bytes, retain: bool) -> bool {
        let topic = self.topics.node(&self.config.node, topic);
        let expiry_seconds = (!retain).then_some(60);
        self.bus.publish(Publish { topic, payload, retain, expiry_seconds }).is_ok()
    }

    /// Tells what is to be told, as far as the bus takes it.
    fn tell(&mut self) {
        if !self.connected {
            return;
        }
        while let Some(report) = self.uplink.next_message() {
            if !self.publish(&NodeTopic::Report, encode(&report), false) {
                self.uplink.lost(report);
                self.retry_at = Some(self.clock.now().tick.after(RETRY));
                return;
            }
        }
    }

    fn tell_health(&mut self, now: Now) {
        // The digest is over what was told: tell that first.
        self.tell();
        let reading = self.sensors.read();
        let pressures = *self.pressures.borrow_and_update();
        let health = Health {
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
            temperature_celsius: reading.temperature_celsius,
            throttled: reading.throttled,
            under_voltage: reading.under_voltage,
            agent_written_bytes: reading.agent_written_bytes,
            ready: self.runtime_is == RuntimeHealth::Ready,
            not_ready_because: match &self.runtime_is {
                RuntimeHealth::Away(words) => Some(words.clone()),
                RuntimeHealth::Ready | RuntimeHealth::Unknown => None,
            },
            memory_pressure: pressures.memory,
            disk_pressure: pressures.disk,
            pid_pressure: pressures.pids,
            pods: u32::try_from(self.node.all_reports().count()).unwrap_or(u32::MAX),
            at: self.session.held(),
            pods_digest: self.uplink.digest(),
            incarnation: self.uplink.incarnation(),
            foreign_store: self.session.foreign().map(str::to_owned),
        };
        self.publish(&NodeTopic::Health, encode(&health), true);
        self.health_told = Some(now.tick);
        self.health_at = self.next_health(now.tick);
    }

    /// On the node's own beat, so that a thousand nodes do not speak at once.
    fn next_health(&self, now: Tick) -> Tick {
        let interval = u64::try_from(self.config.health_interval.as_millis()).unwrap_or(10_000).max(1000);
        let beat = beat(&self.config.node) % interval;
        let next = (now.0 / interval) * interval + beat;
        Tick(if next > now.0 + 500 { next } else { next + interval })
    }

    /// A new connection may be over another network, or the first since the network came up.
    async fn learn_addresses(&mut self) {
        let addresses = super::addresses(&self.config.mqtt.broker.host);
        if addresses != self.addresses {
            self.addresses.clone_from(&addresses);
            self.feed(Input::Addresses(addresses));
            self.learn_runtime().await;
        }
    }

    /// Says what it has of devices now.
    fn offer(&mut self, offer: Offer) {
        if let Some(info) = &mut self.info {
            register::offer(info, &offer);
            let info = encode(info);
            if self.connected {
                self.publish(&NodeTopic::Info, info, true);
            }
        }
        self.offer = offer;
    }

    /// The runtime answers, or does not: say what it is.
    async fn learn_runtime(&mut self) {
        // Docker that hangs must not hold up the node.
        let asked = tokio::time::timeout(VERSION, self.runtime.version()).await;
        let version = asked.ok().and_then(Result::ok).unwrap_or_default();
        if let Ok(Ok(platforms)) = tokio::time::timeout(VERSION, self.runtime.platforms()).await {
            self.platforms = platforms;
        }
        let images = self.images.borrow().clone();
        let facts = register::Facts {
            node: &self.config.node,
            machine: &self.machine,
            board: &self.board,
            capacity: self.config.capacity,
            runtime: self.config.runtime,
            container_runtime: &version,
            addresses: self.addresses.clone(),
            storage_bytes: self.sensors.read().disk_total_bytes,
            platforms: &self.platforms,
            images: &images,
            volumes_dir: &self.volumes_dir,
            offer: self.offer.clone(),
        };
        let info = register::info(&facts);
        if self.info.as_ref() != Some(&info) && !(version.is_empty() && self.info.is_some()) {
            if self.connected {
                self.publish(&NodeTopic::Info, encode(&info), true);
            }
            self.info = Some(info);
        }
        self.health_soon();
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
