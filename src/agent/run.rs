//! The node put together: link, share, pods, runtime, LEDs and health in one loop, and the tasks around it.
//!
//! ```text
//!  bus ──▶ session ─▶ node ─▶ orders ─▶ runtime/run.rs ─▶ Docker
//!   ▲        │disk     │ ▲────────────── inputs ◀────────────┘
//!   │        ▼         ├─▶ shelf ─▶ LED driver
//!   └──── uplink ◀─────┘
//! ```

mod learning;
mod net;
pub mod network;
mod node_loop;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use node_loop::{Agent, Inboxes, beat};

use super::clock_watch::ClockWatch;
use super::config::{AgentConfig, Runtime as RuntimeKind};
use super::devices::{self, Offer};
use super::disk::{self, DiskError};
use super::dns::NameServer;
use super::health;
use super::health::judge::Pressures;
use super::health::sysinfo::Sensors;
use super::hooks;
use super::images::{self, Fetched, Wanted};
use super::last_words;
use super::led::night::{self, Zone};
use super::led::panel::Panel;
use super::led::shelf::Shelf;
use super::led::{disk as led_disk, gpio};
use super::node::{Node, NodeConfig};
use super::node_network::NodeNetwork;
use super::past::Past;
use super::pod_network::PodNetwork;
use super::pods::resource_field::NodeAmounts;
use super::prober;
use super::register;
use super::runtime::naming::Owner;
use super::runtime::run::{Health as RuntimeHealth, drive};
use super::runtime::{Runtime, simulated};
use super::search;
use super::streams::Streams;
use super::uplink::Uplink;
use super::volumes;
use crate::api::image::Platforms;
use crate::backoff::Policy;
use crate::board::Board;
use crate::clock::{Clock, SystemClock, Tick};
use crate::error::{Chain, Report};
use crate::link::mqtt::{self, MqttConfig, Place};
use crate::link::session::Session;
use crate::link::share::Share;
use crate::link::{NodeTopic, Topics};
use crate::mdns::host_name;
use crate::rng::Rng;
use crate::routes::{self, Route};
use crate::task::Supervisor;
use crate::tls::Credentials;

/// Orders on their way to the runtime, and to the hooks' hand: one a pod, and far more pods than a node may have.
const ORDERS: usize = 1024;
/// Images that were fetched and not yet noted: as many as can be fetched at once.
const FETCHES: usize = 16;
/// Questions on their way to the prober: at most three a container, and it takes them at once.
const PROBES: usize = 1024;
/// Events of services on their way to the link; what finds no room is told at the next look.
const EVENTS: usize = 64;
/// Outcomes, listings and answers on their way back.
const INPUTS: usize = 256;

/// Gives a node's tasks to the supervisor.
///
/// # Errors
/// When its board, certificates or data cannot be used.
pub fn spawn(config: &AgentConfig, clock: SystemClock, supervisor: &mut Supervisor) -> Result<(), Report> {
    let stop = supervisor.token();
    let (board, wrong_board) = led_disk::of_node_or_bare(config, Path::new("/"));
    if let Some(report) = &wrong_board {
        let (because, fix) = (report.why.as_deref().map(|why| Chain(why).to_string()), report.fix.as_deref());
        tracing::error!(
            node = config.node,
            because,
            fix,
            "{}; the node goes on as board {} without HATs",
            report.what,
            board.name
        );
    }
    let kept = disk::load(&config.data_dir).map_err(|error| {
        Report::failed(format!("node {} cannot read what it should run", config.node)).because(error).fix(
            "remove the file if its disk was repaired: the master sends the share again; without a master the pods stay stopped",
        )
    })?;
    let kept_net = net::kept(&config.data_dir, kept.as_ref());
    // Simulated nodes are on no network: a start of theirs has nothing to lose.
    let memory = (config.runtime == RuntimeKind::Docker)
        .then(|| disk::in_memory(&config.run_dir, Path::new(disk::RUN), &owner(config).id()))
        .flatten();
    let newest_net = memory.as_deref().and_then(|memory| net::kept_in_memory(memory, kept.as_ref())).or_else(|| kept_net.clone());
    // What is known of the network: for every part of the node that works by it.
    let net_share = watch::Sender::new(newest_net.as_ref().map(|kept| kept.share.clone()).unwrap_or_default());
    let (net_keep, net_changes) = watch::channel(None);
    // Of simulated containers nothing outlives the agent.
    let past = if config.runtime == RuntimeKind::Docker { past(config) } else { Past::default() };
    let credentials = credentials(config)?;
    let topics = Topics::new(&config.cluster);
    let at = Place { host: config.mqtt.broker.host.clone(), port: config.mqtt.broker.port };
    let (moves, moved) = watch::channel(None);
    let (linked, is_linked) = watch::channel(false);
    let (bus, events, link) = mqtt::connect(
        MqttConfig {
            client_id: config.node.clone(),
            at: at.clone(),
            moves: Some(moved.clone()),
            tls: credentials,
            login: None,
            filters: topics.node_filters(&config.node),
            will: Some((topics.node(&config.node, &NodeTopic::Availability), "offline")),
        },
        stop.clone(),
    );
    let (fetched, fetches) = mpsc::channel(FETCHES);
    let net = net_share.subscribe();
    let wanted_network = watch::Sender::new(PodNetwork::of_share(&net.borrow(), &config.node));
    let (made_network, network_made) = watch::channel(None);
    let names = watch::Sender::new(NameServer::default());
    let network = Network { wanted: wanted_network.subscribe(), told: made_network, names: names.subscribe() };
    let runtime = make_runtime(config, &board, clock, fetched, network);
    let (wanted, wanted_by_pods) = watch::channel(Wanted::new());
    let (told, images) = watch::channel(Vec::new());
    let parts = images::run::Parts {
        runtime: runtime.clone(),
        clock,
        data_dir: config.data_dir.clone(),
        limits: config.images.limits,
        fetched: fetches,
        wanted: wanted_by_pods,
        told,
    };
    let (collect_now, image_keeper) = images::run::make(parts, stop.clone());
    let (orders, orders_out) = mpsc::channel(ORDERS);
    let (hooks, hooks_out) = mpsc::channel(ORDERS);
    let (probes, probes_out) = mpsc::channel(PROBES);
    let (inputs, inputs_in) = mpsc::channel(INPUTS);
    let (runtime_health, runtime_is) = watch::channel(RuntimeHealth::Unknown);
    let (interfaces, interfaces_changed) = watch::channel(0);
    let (service_events, of_services) = mpsc::channel(EVENTS);
    let (wireguard, wireguard_told) = watch::channel(String::new());
    let (local_pods, pods_are) = watch::channel(Arc::default());
    // Simulated nodes and their pods are on no network.
    if config.runtime == RuntimeKind::Docker {
        let parts = network::Parts {
            runtime: runtime.clone(),
            share: net,
            wanted: wanted_network,
            made: network_made,
            health: runtime_is.clone(),
            pods: pods_are,
            names,
            interfaces,
            events: service_events,
            wireguard,
        };
        network::spawn(config, clock, parts, supervisor, &stop);
    }
    let (keep, kept_changes) = watch::channel(kept.as_ref().map(|kept| (kept.store.clone(), kept.share.clone())));
    let (remember, to_remember) = watch::channel(None);
    let (discard, to_discard) = watch::channel(Arc::new(Share::default()));
    // A list at a time: the next one is newer.
    let (discarded, discarded_in) = mpsc::channel(1);
    let volumes_dir = below(&config.data_dir, "volumes");
    let (pressures, pressures_are) = watch::channel(Pressures::default());

    let board_root = config.health_root.as_deref();
    let mut sensors = Sensors::new(board_root.unwrap_or(Path::new("/")), &config.data_dir);
    let machine = sensors.machine();
    let watched = board_root.map(|root| {
        health::sysinfo::watch::Watch::new(health::sysinfo::watch::Parts {
            root: root.to_owned(),
            boot: machine.boot.clone(),
            boot_id: machine.boot_id.clone(),
            data_dir: config.data_dir.clone(),
            hot_celsius: board.hot_celsius,
            clears: config.health_clears,
            clock,
        })
    });
    let (see, seen) = watch::channel(watched.as_ref().map(|(_, first)| *first).unwrap_or_default());
    if let Some((watched, _)) = watched {
        supervisor.spawn("board", watched.run(see, stop.clone()));
    }
    let (driver, words) = if config.leds_enabled { gpio::driver(&board, None) } else { gpio::none(&board) };
    let driven = driver.is_there();
    let (zone, zone_words) = zone(config);
    for words in words.iter().chain(&zone_words) {
        tracing::warn!(node = config.node, "{words}");
    }
    let words = wrong_board.map(|report| report.what).or(words);
    let unlit = if config.leds_enabled { words } else { Some("leds.enabled is false there".to_owned()) };
    let root = config.devices_root.clone();
    let (devices, plugged_in) = watch::channel(root.as_deref().map(devices::disk::look).unwrap_or_default());
    let addresses = addresses(&config.mqtt.broker.host);
    let amounts = {
        let facts = register::Facts {
            node: &config.node,
            machine: &machine,
            board: &board,
            capacity: config.capacity,
            runtime: config.runtime,
            container_runtime: "",
            addresses: Vec::new(),
            storage_bytes: sensors.read().disk_total_bytes,
            platforms: &Platforms::default(),
            images: &[],
            volumes_dir: "",
            wireguard: "",
            offer: Offer::default(),
        };
        NodeAmounts { pids: config.pods.pids_limit, ..register::amounts(&register::info(&facts)) }
    };
    let mut rng = Rng::from_os("agent");
    let agent = Agent {
        config: config.clone(),
        clock,
        watch: ClockWatch::begin(clock.now()),
        node: Node::new(NodeConfig {
            name: config.node.clone(),
            host_ips: addresses.clone(),
            scheme: match config.runtime {
                RuntimeKind::Docker => "docker",
                RuntimeKind::Simulated => "simulated",
            },
            pulls: config.images.pulls,
            amounts,
            allowed_sysctls: config.pods.allowed_sysctls.clone(),
            network: config.runtime == RuntimeKind::Docker,
        }),
        session: Session::new(kept.as_ref().map(|kept| (kept.store.clone(), kept.share.clone())), rng.clone()),
        net: net::session(kept.as_ref(), newest_net.as_ref(), rng.clone()),
        net_share,
        local_pods,
        net_keep,
        shelf: Shelf::with(board.clone(), config.leds.clone(), zone).driven(driven),
        uplink: Uplink::new(rng.bits().max(1)),
        streams: Streams::new(runtime.clone(), clock, bus.clone(), topics.clone(), config.node.clone()),
        runtime: runtime.clone(),
        sensors,
        machine,
        board,
        addresses,
        panel: Panel::new(driver),
        unlit,
        bus,
        topics,
        orders,
        hooks,
        probes,
        keep,
        remember,
        wanted,
        images,
        platforms: Platforms::default(),
        discard,
        volumes_dir: volumes_dir.to_string_lossy().into_owned(),
        connected: false,
        linked,
        moved,
        moves: moves.clone(),
        interfaces: interfaces_changed,
        wireguard: wireguard_told,
        info: None,
        pressures: pressures_are,
        seen,
        runtime_is: RuntimeHealth::Unknown,
        health_at: Tick(0),
        health_told: None,
        retry_at: None,
        unparsed: 0,
        offer: Offer::default(),
        devices: plugged_in,
        rng,
    };
    supervisor.spawn("link", link);
    if config.join.is_some() {
        let (data_dir, cluster_uid) = (config.data_dir.clone(), config.cluster_uid.clone());
        let parts = search::run::Parts { data_dir, cluster_uid, at, linked: is_linked, moves };
        supervisor.spawn("search", search::run::follow(parts, stop.clone()));
    }
    supervisor.spawn("hooks", hooks::run::serve(runtime.clone(), hooks_out, inputs.clone(), stop.clone()));
    supervisor.spawn("prober", prober::run::drive(runtime.clone(), probes_out, inputs.clone(), stop.clone()));
    // A simulated node is a guest of a machine whose levels are not its own.
    if config.runtime == RuntimeKind::Docker {
        let parts = health::run::Parts {
            runtime: runtime.clone(),
            clock,
            data_dir: config.data_dir.clone(),
            thresholds: config.eviction,
            shares: kept_changes.clone(),
            inputs: inputs.clone(),
            pressures,
            images: Some(collect_now),
        };
        supervisor.spawn("pressure", health::run::guard(parts, stop.clone()));
    }
    supervisor.spawn("runtime", drive(runtime, orders_out, inputs, runtime_health, stop.clone()));
    supervisor.spawn("images", image_keeper);
    if let Some(root) = root {
        supervisor.spawn("devices", devices::run::watch(root, devices, stop.clone()));
    }
    let directory = config.data_dir.clone();
    let save = move |(store, share): &(String, Arc<Share>)| disk::save(&directory, store, share);
    supervisor.spawn("checkpoint", keep_newest("the node's share", save, kept_changes, stop.clone()));
    if config.runtime == RuntimeKind::Docker {
        let (directory, node) = (config.data_dir.clone(), config.node.clone());
        if let Some(memory) = memory {
            let keeper = net::keep_lazily(memory, node.clone(), net_changes.clone(), None, net::MEMORY, stop.clone());
            supervisor.spawn("network's share in memory", keeper);
        }
        let keeper = net::keep_lazily(directory, node, net_changes, kept_net, net::DISK, stop.clone());
        supervisor.spawn("network's share", keeper);
        let directory = config.data_dir.clone();
        let save = move |past: &Arc<Past>| disk::save_past(&directory, past);
        supervisor.spawn("past", keep_newest("what ran", save, to_remember, stop.clone()));
        supervisor.spawn("last words", last_words::run::watch(config.run_dir.clone(), stop.clone()));
    }
    supervisor.spawn("volumes", volumes::discard::run(volumes_dir, to_discard, discarded, stop.clone()));
    let inboxes = Inboxes { events, inputs: inputs_in, runtime_is, discarded: discarded_in, of_services };
    supervisor.spawn("node", agent.run(past, kept.map(|kept| kept.share), inboxes, stop));
    Ok(())
}

/// What the agent before this one wrote down of the pods. Without it the pods run; at worst one that somebody removed runs again.
fn past(config: &AgentConfig) -> Past {
    match disk::load_past(&config.data_dir) {
        Ok(past) => past,
        Err(error) => {
            tracing::error!(node = config.node, error = %Chain(&error), "begins without knowing which containers ran that are no more");
            Past::default()
        }
    }
}

/// A folder of the agent's own, from the root on: others compare it, and the engine binds what is in it.
fn below(data_dir: &Path, name: &str) -> std::path::PathBuf {
    let absolute = std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.to_owned());
    // `.` and a last `/` are not for comparing.
    absolute.components().collect::<std::path::PathBuf>().join(name)
}

/// The zone of the night hours; only a node that has such hours asks for it.
fn zone(config: &AgentConfig) -> (Zone, Option<String>) {
    match config.leds.night {
        Some(_) => night::disk::zone(std::env::var("TZ").ok().as_deref(), Path::new("/")),
        None => (Zone::default(), None),
    }
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
    let also = host_name(&config.cluster_uid);
    let client = credentials
        .client_also(also.as_deref())
        .map_err(|error| Report::failed("cannot use the node's certificate").because(error))?;
    Ok(Some(client))
}

/// Where the runtime hears what the pods' network is to be, and tells what it is.
struct Network {
    wanted: watch::Receiver<Option<PodNetwork>>,
    told: watch::Sender<Option<NodeNetwork>>,
    names: watch::Receiver<NameServer>,
}

fn owner(config: &AgentConfig) -> Owner {
    Owner { cluster_uid: config.cluster_uid.clone(), node: config.node.clone() }
}

fn make_runtime(
    config: &AgentConfig,
    board: &Board,
    clock: SystemClock,
    fetched: mpsc::Sender<Fetched>,
    network: Network,
) -> Arc<dyn Runtime> {
    match config.runtime {
        #[cfg(feature = "docker")]
        RuntimeKind::Docker => {
            use super::runtime::docker;
            let socket = config.docker_socket.to_string_lossy().into_owned();
            let mut settings = docker::Settings::new(socket, owner(config), &config.run_dir);
            (settings.pod_network, settings.node_network) = (network.wanted, network.told);
            settings.name_server = Some(network.names);
            settings.auth_file = config.images.auth_file.clone();
            settings.emulated = config.images.emulated.clone();
            settings.fetched = Some(fetched);
            settings.seccomp_dir.clone_from(&config.pods.seccomp_dir);
            settings.logs = config.logs;
            settings.image_dir = below(&config.data_dir, "image-volumes");
            Arc::new(docker::DockerRuntime::new(settings))
        }
        _ => {
            // Nothing is fetched in earnest, and no pod has a network.
            let Network { wanted, told, names } = network;
            drop((fetched, wanted, told, names));
            let settings = simulated::Settings {
                pull: Duration::from_millis(board.simulated.pull_milliseconds),
                subnet: (beat(&config.node) % 250) as u8,
                platform: register::platform(board),
                ..simulated::Settings::default()
            };
            Arc::new(simulated::run::SimulatedRuntime::new(settings, clock))
        }
    }
}

/// The machine's addresses: the one of IPv4 towards the master, and the one of IPv6 that its interface has beside that. Asks the routing
/// table; sends nothing, and resolves no name.
fn addresses(broker: &str) -> Vec<String> {
    let towards = |target: IpAddr| {
        let any: IpAddr = if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = std::net::UdpSocket::bind((any, 0)).ok()?;
        socket.connect((target, 9)).ok()?;
        socket.local_addr().ok().map(|address| address.ip())
    };
    // A master on this machine says nothing about the LAN; TEST-NET-1 lies behind the default route.
    let master: Option<IpAddr> = broker.parse().ok().and_then(towards).filter(|address: &IpAddr| !address.is_loopback());
    let first = master.filter(IpAddr::is_ipv4).or_else(|| towards(Ipv4Addr::new(192, 0, 2, 1).into()));
    let first = first.filter(|address| !address.is_loopback() && !address.is_unspecified());
    let device = first.and_then(|first| {
        let near = |route: &Route| !route.forwarded && matches!(first, IpAddr::V4(first) if route.range.contains(&first));
        let nearest = routes::of_this_machine().into_iter().filter(near).max_by_key(|route| route.range.prefix_len());
        nearest.map(|route| route.device)
    });
    let second = match device {
        Some(device) => {
            let all = std::fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap_or_default();
            register::ipv6_of(&all, &device).map(IpAddr::V6)
        }
        // 2001:db8::/32 is the documentation's, and behind the default route too.
        None => towards(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()),
    };
    let second = second.filter(|address| !address.is_loopback() && !address.is_unspecified());
    let both: Vec<String> = first.into_iter().chain(second).map(|address| address.to_string()).collect();
    if both.is_empty() { vec![Ipv4Addr::LOCALHOST.to_string()] } else { both }
}

/// Between tries to write on a disk that refuses.
const UNKEPT: Policy = Policy { first: Duration::from_secs(1), cap: Duration::from_secs(60) };

/// Keeps the newest of something on disk. A write that fails is said once and tried again, less and less often, until it is kept: a full
/// disk stops nothing that runs.
async fn keep_newest<T: Clone + Send + Sync + 'static>(
    what: &'static str,
    save: impl Fn(&T) -> Result<(), DiskError> + Clone + Send + 'static,
    mut changes: watch::Receiver<Option<T>>,
    stop: CancellationToken,
) {
    let mut failures = 0u32;
    loop {
        let last = tokio::select! {
            () = stop.cancelled() => true,
            () = tokio::time::sleep(UNKEPT.delay(failures)), if failures > 0 => false,
            changed = changes.changed() => if changed.is_err() { return } else { false },
        };
        // What came in the moment of the stop is kept as well.
        if last && !changes.has_changed().unwrap_or_default() {
            return;
        }
        let Some(newest) = changes.borrow_and_update().clone() else { continue };
        let save = save.clone();
        match tokio::task::spawn_blocking(move || save(&newest)).await {
            Ok(Ok(())) => {
                if failures > 0 {
                    tracing::info!(what, "is kept again");
                }
                failures = 0;
            }
            Ok(Err(error)) => {
                if failures == 0 {
                    tracing::error!(what, error = %Chain(&error), "cannot be kept; pods run on, it is tried again, and until then a reboot without the master would bring back what was kept before");
                }
                failures = failures.saturating_add(1);
            }
            Err(error) => {
                tracing::error!(what, %error, "keeping it died");
                failures = failures.saturating_add(1);
            }
        }
        if last {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_changes_in_the_moment_of_the_stop_is_kept() {
        let place = tempfile::tempdir().unwrap();
        let (keep, changes) = watch::channel(None);
        let stop = CancellationToken::new();
        let directory = place.path().to_owned();
        let save = move |past: &Arc<Past>| disk::save_past(&directory, past);
        stop.cancel();
        let past = Past { pods: [("u".into(), super::super::past::PodPast::default())].into() };
        keep.send_replace(Some(Arc::new(past.clone())));
        keep_newest("what ran", save, changes, stop).await;
        assert_eq!(disk::load_past(place.path()).unwrap(), past);
    }

    #[tokio::test]
    async fn a_share_that_a_full_disk_refused_is_kept_when_there_is_room() {
        let place = tempfile::tempdir().unwrap();
        // A file where the directory should be refuses as a full disk does, for root as well.
        let data = place.path().join("data");
        std::fs::write(&data, b"").unwrap();
        let (keep, changes) = watch::channel(None);
        let stop = CancellationToken::new();
        let directory = data.clone();
        let save = move |(store, share): &(String, Arc<Share>)| disk::save(&directory, store, share);
        let task = tokio::spawn(keep_newest("the node's share", save, changes, stop.clone()));
        keep.send_replace(Some(("s1".to_owned(), Arc::new(Share::default()))));
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(data.is_file(), "refused");
        std::fs::remove_file(&data).unwrap();
        std::fs::create_dir(&data).unwrap();
        // No new share comes.
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if disk::load(&data).unwrap().is_some_and(|kept| kept.store == "s1") {
                stop.cancel();
                task.await.unwrap();
                return;
            }
        }
        panic!("never kept");
    }
}
