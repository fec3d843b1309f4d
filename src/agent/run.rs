//! The node put together: link, share, pods, runtime, LEDs and health in one loop, and the tasks around it.
//!
//! ```text
//!  bus ──▶ session ─▶ node ─▶ orders ─▶ runtime/run.rs ─▶ Docker
//!   ▲        │disk     │ ▲────────────── inputs ◀────────────┘
//!   │        ▼         ├─▶ shelf ─▶ LED driver
//!   └──── uplink ◀─────┘
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::config::{AgentConfig, Runtime as RuntimeKind};
use super::disk;
use super::health::judge::Pressures;
use super::health::sysinfo::{Machine as Facts, Sensors};
use super::led::shelf::{PodLight, PodState, Shelf, ShelfEffect, ShelfInput};
use super::led::{Driver, gpio};
use super::node::{self, Effect, Input, Node, NodeConfig, Order, Outcome};
use super::pods::status::LightState;
use super::register;
use super::runtime::run::{Health as RuntimeHealth, drive};
use super::runtime::{Failure, Runtime, simulated};
use super::streams::Streams;
use super::uplink::Uplink;
use crate::api::time::rfc3339;
use crate::board::Board;
use crate::clock::{Clock, Now, SystemClock, Tick};
use crate::error::{Chain, Report};
use crate::link::bus::{Bus, BusEvent, Publish};
use crate::link::codec::{decode, encode};
use crate::link::message::{Assignment, CallRequest, Credit, Head, Health, Info, SCHEMA};
use crate::link::mqtt::{self, MqttConfig};
use crate::link::session::{Session, SessionEffect, SessionInput};
use crate::link::share::Share;
use crate::link::{NodeTopic, Topics};
use crate::rng::Rng;
use crate::step::Machine;
use crate::task::Supervisor;
use crate::tls::Credentials;

/// Orders on their way to the runtime: one a pod, and far more pods than a node may have.
const ORDERS: usize = 1024;
/// Outcomes and listings on their way back.
const INPUTS: usize = 256;
/// `health` at most this often, however much flips (DESIGN §7).
const HEALTH_AT_MOST: Duration = Duration::from_secs(1);
/// What the bus could not take is offered again after this.
const RETRY: Duration = Duration::from_millis(200);

/// Gives a node's tasks to the supervisor.
///
/// # Errors
/// When its board, certificates or data cannot be used.
pub fn spawn(config: &AgentConfig, clock: SystemClock, supervisor: &mut Supervisor) -> Result<(), Report> {
    let stop = supervisor.token();
    let board = board(config)?;
    let kept = disk::load(&config.data_dir).map_err(|error| {
        Report::failed(format!("node {} cannot read what it should run", config.node)).because(error).fix(
            "remove the file if its disk was repaired: the master sends the share again; without a master the pods stay stopped",
        )
    })?;
    let credentials = credentials(config)?;
    let topics = Topics::new(&config.cluster);
    let (bus, events, link) = mqtt::connect(
        MqttConfig {
            client_id: config.node.clone(),
            host: config.mqtt.broker.host.clone(),
            port: config.mqtt.broker.port,
            tls: credentials,
            login: None,
            filters: topics.node_filters(&config.node),
            will: Some((topics.node(&config.node, &NodeTopic::Availability), "offline")),
        },
        stop.clone(),
    );
    let runtime = make_runtime(config, &board, clock);
    let (orders, orders_out) = mpsc::channel(ORDERS);
    let (inputs, inputs_in) = mpsc::channel(INPUTS);
    let (runtime_health, runtime_is) = watch::channel(RuntimeHealth::Unknown);
    let (keep, kept_changes) = watch::channel(None);

    let sensors = Sensors::new(Path::new("/"), &config.data_dir);
    let machine = sensors.machine();
    let (driver, words) = if config.leds_enabled { gpio::driver(&board) } else { gpio::none() };
    if let Some(words) = words {
        tracing::warn!(node = config.node, "{words}");
    }
    let addresses = addresses(&config.mqtt.broker.host);
    let mut rng = Rng::from_os("agent");
    let agent = Agent {
        config: config.clone(),
        clock,
        node: Node::new(NodeConfig { name: config.node.clone(), host_ips: addresses.clone() }),
        session: Session::new(kept.as_ref().map(|kept| (kept.store.clone(), kept.share.clone())), rng.clone()),
        shelf: Shelf::new(board.clone()),
        uplink: Uplink::new(rng.bits()),
        streams: Streams::new(runtime.clone(), bus.clone(), topics.clone(), config.node.clone()),
        runtime: runtime.clone(),
        sensors,
        machine,
        board,
        addresses,
        driver,
        bus,
        topics,
        orders,
        keep,
        connected: false,
        info: None,
        pressures: Pressures::default(),
        runtime_is: RuntimeHealth::Unknown,
        health_at: Tick(0),
        health_told: None,
        retry_at: None,
        unparsed: 0,
    };
    supervisor.spawn("link", link);
    supervisor.spawn("runtime", drive(runtime, orders_out, inputs, runtime_health, stop.clone()));
    supervisor.spawn("checkpoint", checkpoint(config.data_dir.clone(), kept_changes, stop.clone()));
    supervisor.spawn("node", agent.run(kept.map(|kept| kept.share), events, inputs_in, runtime_is, stop));
    Ok(())
}

fn board(config: &AgentConfig) -> Result<Board, Report> {
    let Some(name) = &config.board else {
        return Ok(match config.runtime {
            RuntimeKind::Docker => Board::detect(&Sensors::new(Path::new("/"), Path::new("/")).machine().compatible),
            RuntimeKind::Simulated => Board::named("simulated").unwrap_or_else(|| Board::detect(&[])),
        });
    };
    if let Some(board) = Board::named(name) {
        return Ok(board);
    }
    let known = || crate::board::EMBEDDED.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let text = std::fs::read_to_string(name).map_err(|error| {
        Report::usage(format!("there is no board {name:?}"))
            .because(error)
            .fix(format!("set board to \"auto\", to a known board ({}), or to the path of a board file", known()))
    })?;
    Board::parse(&text).map_err(|error| {
        Report::usage(format!("the board file {name} cannot be used"))
            .because(error)
            .fix("mend it; `bramble leds check FILE` tells when it is right")
    })
}

fn credentials(config: &AgentConfig) -> Result<Option<Arc<rustls::ClientConfig>>, Report> {
    if !config.mqtt.broker.tls {
        return Ok(None);
    }
    let read = |what: &str, path: &Path| {
        std::fs::read(path).map_err(|error| {
            Report::failed(format!("cannot read the node's {what} {}", path.display()))
                .because(error)
                .fix("the cluster's master makes it: `bramble node add`, or `bramble start` on one machine")
        })
    };
    let credentials = Credentials {
        ca: read("CA", &config.mqtt.ca)?,
        chain: read("certificate", &config.mqtt.certificate)?,
        key: read("private key", &config.mqtt.key)?,
    };
    let client = credentials.client().map_err(|error| Report::failed("cannot use the node's certificate").because(error))?;
    Ok(Some(client))
}

fn make_runtime(config: &AgentConfig, board: &Board, clock: SystemClock) -> Arc<dyn Runtime> {
    match config.runtime {
        #[cfg(feature = "docker")]
        RuntimeKind::Docker => {
            use super::runtime::{docker, naming};
            let owner = naming::Owner { cluster_uid: config.cluster_uid.clone(), node: config.node.clone() };
            let socket = config.docker_socket.to_string_lossy().into_owned();
            Arc::new(docker::DockerRuntime::new(docker::Settings::new(socket, owner)))
        }
        _ => {
            let settings = simulated::Settings {
                pull: Duration::from_millis(board.simulated.pull_milliseconds),
                subnet: (beat(&config.node) % 250) as u8,
                ..simulated::Settings::default()
            };
            Arc::new(simulated::run::SimulatedRuntime::new(settings, clock))
        }
    }
}

/// The machine's address towards the master first. Asks the routing table; sends nothing, and resolves no name.
fn addresses(broker: &str) -> Vec<String> {
    let towards = |target: IpAddr| {
        let any: IpAddr = if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = std::net::UdpSocket::bind((any, 0)).ok()?;
        socket.connect((target, 9)).ok()?;
        socket.local_addr().ok().map(|address| address.ip())
    };
    // A master on this machine says nothing about the LAN; TEST-NET-1 lies behind the default route.
    let master = broker.parse().ok().and_then(towards).filter(|address| !address.is_loopback());
    let address = master.or_else(|| towards(Ipv4Addr::new(192, 0, 2, 1).into()));
    vec![address.map_or_else(|| "127.0.0.1".to_owned(), |address| address.to_string())]
}

/// Keeps the newest share on disk. A write that fails is said and tried again with the next share.
async fn checkpoint(
    directory: std::path::PathBuf,
    mut changes: watch::Receiver<Option<(String, Arc<Share>)>>,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
        }
        let Some((store, share)) = changes.borrow_and_update().clone() else { continue };
        let directory = directory.clone();
        match tokio::task::spawn_blocking(move || disk::save(&directory, &store, &share)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(error = %Chain(&error), "cannot keep the node's share; after a reboot without the master it would run an older one");
            }
            Err(error) => tracing::error!(%error, "keeping the share died"),
        }
    }
}

struct Agent {
    config: AgentConfig,
    clock: SystemClock,
    node: Node,
    session: Session,
    shelf: Shelf,
    uplink: Uplink,
    streams: Streams,
    runtime: Arc<dyn Runtime>,
    sensors: Sensors,
    machine: Facts,
    board: Board,
    addresses: Vec<String>,
    driver: Box<dyn Driver>,
    bus: Arc<dyn Bus>,
    topics: Topics,
    orders: mpsc::Sender<Order>,
    keep: watch::Sender<Option<(String, Arc<Share>)>>,
    connected: bool,
    info: Option<Info>,
    pressures: Pressures,
    runtime_is: RuntimeHealth,
    health_at: Tick,
    health_told: Option<Tick>,
    retry_at: Option<Tick>,
    unparsed: u64,
}

impl Agent {
    async fn run(
        mut self,
        kept: Option<Arc<Share>>,
        mut events: mpsc::Receiver<BusEvent>,
        mut inputs: mpsc::Receiver<Input>,
        mut runtime_is: watch::Receiver<RuntimeHealth>,
        stop: CancellationToken,
    ) {
        self.light(ShelfInput::Link(false));
        if let Some(share) = kept {
            tracing::info!(node = self.config.node, pods = share.pods.len(), "starts with the share that was kept");
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
                Ok(()) = runtime_is.changed() => {
                    self.runtime_is = runtime_is.borrow_and_update().clone();
                    self.learn_runtime().await;
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
        let mut refused = Vec::new();
        for effect in effects {
            match effect {
                Effect::Run(order) => {
                    if let Err(error) = self.orders.try_send(order) {
                        let (mpsc::error::TrySendError::Full(order) | mpsc::error::TrySendError::Closed(order)) = error;
                        refused.push(order);
                    }
                }
                Effect::Report(report) => self.uplink.report(report),
                Effect::Event(event) => self.uplink.event(event),
                Effect::Lights(lights) => self.light(ShelfInput::Pods(lights.into_iter().map(pod_light).collect())),
            }
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
                self.publish(&NodeTopic::Availability, Bytes::from_static(b"online"), true);
                if let Some(info) = self.info.clone() {
                    self.publish(&NodeTopic::Info, encode(&info), true);
                }
                self.converse(SessionInput::Connected);
                self.light(ShelfInput::Link(true));
                if let Some(picture) = self.shelf.picture().filter(|picture| !picture.leds.is_empty()).cloned() {
                    self.publish(&NodeTopic::Leds, encode(&picture), true);
                }
                self.health_at = self.clock.now().tick;
                self.health_told = None;
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

    fn take(&mut self, topic: &str, payload: &[u8]) {
        let Some((node, topic)) = self.topics.parse(topic) else { return };
        if node != self.config.node || payload.is_empty() {
            return;
        }
        let taken = match topic {
            NodeTopic::Availability => {
                // A will that was late: we live.
                if payload != b"online" {
                    self.publish(&NodeTopic::Availability, Bytes::from_static(b"online"), true);
                }
                Ok(())
            }
            NodeTopic::Head => decode::<Head>(payload).map(|head| self.converse(SessionInput::Head(head))),
            NodeTopic::Assignment => {
                decode::<Assignment>(payload).map(|assignment| self.converse(SessionInput::Assignment(assignment)))
            }
            NodeTopic::AskAll => {
                self.uplink.start_anew(self.node.all_reports().cloned());
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
        self.pressures = self.pressures.after(&reading);
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
            memory_pressure: self.pressures.memory,
            disk_pressure: self.pressures.disk,
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
        let addresses = addresses(&self.config.mqtt.broker.host);
        if addresses != self.addresses {
            self.addresses.clone_from(&addresses);
            self.feed(Input::Addresses(addresses));
            self.learn_runtime().await;
        }
    }

    /// The runtime answers, or does not: say what it is.
    async fn learn_runtime(&mut self) {
        let version = self.runtime.version().await.unwrap_or_default();
        let facts = register::Facts {
            node: &self.config.node,
            machine: &self.machine,
            board: &self.board,
            capacity: self.config.capacity,
            runtime: self.config.runtime,
            container_runtime: &version,
            addresses: self.addresses.clone(),
            storage_bytes: self.sensors.read().disk_total_bytes,
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
fn beat(node: &str) -> u64 {
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
