//! The master put together: store, API, controllers, scheduler, dispatcher and broker, under one supervisor.
//!
//! Ports first, so that a port in use is said before anything is touched; then the store; then everything at once.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio_util::sync::CancellationToken;

use super::authority::Authority;
use super::config::MasterConfig;
use super::ranges::{self, Ranges};
use super::signer;
use crate::api::core::join::ClusterInfo;
use crate::api::core::pod::Pod;
use crate::api::image::Platform;
use crate::api::registry::PODS;
use crate::api::{Object, Uid};
use crate::apiserver::{self, Api, Cluster};
use crate::broker;
use crate::clock::{Clock, SystemClock, Tick};
use crate::controller::{self, SharedSigns};
use crate::dispatcher;
use crate::error::{Chain, Report};
use crate::link::Topics;
use crate::link::call::{Calls, ImageQuestion, Question};
use crate::link::mqtt::{self, MqttConfig, Place};
use crate::link::network::ClusterNetwork;
use crate::mdns::{self, Announcement};
use crate::routes;
use crate::scheduler;
use crate::store::{self, Store, View};
use crate::task::{Ended, Supervisor};
use crate::telemetry::Systemd;
use crate::tls::{ClientCertificate, Credentials, pin};

/// Everything ends within this after a stop: watches end at once, a write to a slow card takes a second or two.
const STOP: Duration = Duration::from_secs(10);
/// How often is looked whether this machine has another address.
const ADDRESS: Duration = Duration::from_secs(15);
/// Home Assistant's prefix.
pub(crate) const DISCOVERY_PREFIX: &str = "homeassistant";

/// Silence on an external broker says little: it does not tell of a client's pings, and a node speaks by itself only each 10 s
/// (`health.interval_seconds`). Two of its words may be lost before the third is missed; a pulled plug is found by the last will
/// long before, after 7.5 s.
const LEAST_SILENCE_EXTERNAL: Duration = Duration::from_secs(25);

/// How long a node may say nothing until it counts as lost.
fn most_silence(lost: Duration, external: bool) -> Duration {
    if external { lost.max(LEAST_SILENCE_EXTERNAL) } else { lost }
}

/// What nodes are told to ping by, when their own 5 s would be too slow for an owner who wants to know sooner: within the time
/// until a node is lost two pings come.
fn keep_alive_seconds(lost: Duration) -> Option<u16> {
    let half = lost.as_secs() / 2;
    u16::try_from(half.max(1)).ok().filter(|seconds| *seconds < 5)
}

struct Hears(SharedSigns);

impl dispatcher::run::NodeSigns for Hears {
    fn heard(&self, node: &str, at: Tick) {
        self.0.heard(node, at);
    }
    fn gone(&self, node: &str, at: Tick) {
        self.0.gone(node, at);
    }
    fn told(&self, pods: &[Uid]) {
        self.0.pods_told(pods);
    }
    fn all_told(&self, at: Tick) -> bool {
        self.0.all_told(at)
    }
}

struct AsksNodes(dispatcher::streams::NodeCalls);

impl scheduler::images::Asks for AsksNodes {
    fn ask(&self, node: &str, image: &str, secrets: Vec<Object>) -> scheduler::images::Answered {
        let secrets = secrets.into_iter().map(|secret| secret.raw().clone().into()).collect();
        let question = Question::ImagePlatforms(ImageQuestion { image: image.to_owned(), secrets });
        let answer = self.0.ask(node, question, scheduler::images::PATIENCE);
        Box::pin(async move {
            let list = answer.await.unwrap_or_default();
            list.as_array().into_iter().flatten().filter_map(|text| Platform::parse(text.as_str()?)).collect()
        })
    }
}

/// Runs the master until `stop`, or until one of its parts dies.
///
/// # Errors
/// When it cannot start: a port, a certificate, the store.
pub async fn run(config: MasterConfig, stop: CancellationToken) -> Result<Ended, Report> {
    let clock = SystemClock::start();
    look_for_clashes(&config)?;
    let systemd = Systemd::from_environment();
    let server = credentials(&config.tls.ca, &config.tls.certificate, &config.tls.key)?;
    let tls = server
        .server(ClientCertificate::Optional)
        .map_err(|error| Report::failed("cannot use the master's certificate").because(error))?;
    let bound = apiserver::bind(config.api.listen, Some(tls)).await.map_err(|error| Report::failed(error.to_string()))?;
    let bound_to = bound.address();
    let topics = Topics::new(&config.cluster);
    let mut supervisor = Supervisor::new(stop.clone());

    let mut brokers_task = None;
    let records = signer::Records::default();
    let (bus, events, handle, broker_at) = match &config.mqtt.broker {
        None => {
            let mut settings = broker::Config::new(topics.base(), DISCOVERY_PREFIX);
            settings.plain = config.mqtt.viewer_listen;
            settings.tls = Some((config.mqtt.listen, server));
            settings.refusals = Some(Arc::new(records.clone()));
            settings.server_keep_alive = keep_alive_seconds(config.node.lost);
            let embedded = broker::bind(settings).await.map_err(|error| match std::error::Error::source(&error) {
                Some(_) => Report::failed("cannot start the broker").because(error),
                None => Report::failed(error.to_string()),
            })?;
            let port = embedded.tls().map_or(config.mqtt.listen.port(), |address| address.port());
            // The broker outlives the parts that speak through it by the supervisor's order: all hear the same stop.
            let running = embedded.run(topics.master_filters(), stop.clone(), clock);
            brokers_task = Some(running.task);
            (running.bus, running.events, Some(running.handle), format!("mqtts://*:{port}"))
        }
        Some(url) => {
            let client = credentials(&config.tls.ca, &config.tls.client_certificate, &config.tls.client_key)?;
            let tls =
                client.client().map_err(|error| Report::failed("cannot use the master's client certificate").because(error))?;
            let settings = MqttConfig {
                client_id: "bramble-master".to_owned(),
                at: Place { host: url.host.clone(), port: url.port },
                moves: None,
                tls: url.tls.then_some(tls),
                login: None,
                filters: topics.master_filters(),
                will: Some((format!("{}/bridge/state", topics.base()), "offline")),
            };
            let (bus, events, link) = mqtt::connect(settings, stop.clone());
            supervisor.spawn("broker link", link);
            (bus, events, None, url.to_string())
        }
    };

    let journal = store::disk::journal(&config.data_dir.join("store"));
    let store = Store::open(journal, store::Options::default()).await.map_err(|error| {
        let fix = error.fix();
        Report::failed("cannot open the store").because(error).fix(fix)
    })?;
    records.open(store.clone());
    // Not before it is known whom it refuses.
    if let Some(task) = brokers_task {
        supervisor.spawn("broker", task);
    }
    let settings = controller::Settings {
        lost: most_silence(config.node.lost, config.mqtt.broker.is_some()),
        evict: config.node.evict,
        grace: config.grace,
        pods: config.network.pods,
        pods6: config.network.pods6,
        load_balancers: config.network.load_balancers,
        ..controller::Settings::default()
    };
    let signs = SharedSigns::new(clock.now().tick, settings);
    // How they are is not stored: their nodes say it.
    signs.await_pods(store.view(running_pods));
    let (calls, new_calls) = dispatcher::streams::channel();
    let ca_pem = read("CA", &config.tls.ca)?;
    let info = ClusterInfo {
        ca: String::from_utf8_lossy(&ca_pem).into_owned(),
        cluster: config.cluster.clone(),
        cluster_uid: config.cluster_uid.clone().unwrap_or_default(),
        broker: broker_at,
    };
    let cluster = Cluster {
        ca_pem: String::from_utf8_lossy(&ca_pem).into_owned(),
        advertise: Some(advertised(bound.address(), outward_address())),
        services: config.services,
    };
    let api = Api::new(store.clone(), Arc::new(calls.clone()), Arc::new(clock), cluster);
    api.bootstrap().await.map_err(|error| Report::failed("cannot write the first objects").because(error))?;

    let authority = if config.tls.own {
        let opened = Authority::open_or_create(&config.data_dir.join("pki"), &config.cluster);
        Some(opened.map_err(|error| Report::failed("cannot use the cluster's CA").because(error))?)
    } else {
        None
    };
    let signing = signer::Parts { store: store.clone(), clock, authority, broker: handle, info };
    supervisor.spawn("signer", signer::run(signing, stop.clone()));
    if config.announce {
        let what = Announcement {
            uid: config.cluster_uid.clone().unwrap_or_default(),
            cluster: config.cluster.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            port: bound.address().port(),
            ca: pin(&ca_pem, 64).map_err(|error| Report::failed("cannot use the CA").because(error))?,
        };
        if what.is_sound() {
            let serve = mdns::udp::serve(what, config.api.listen.ip(), mdns::udp::PORT, clock, stop.clone());
            supervisor.spawn("mdns", serve);
        } else {
            tracing::warn!(uid = what.uid, "this cluster's uid cannot stand in a host name: the master is not announced by mDNS");
        }
    }
    if bound.address().ip().is_unspecified() {
        supervisor.spawn("own address", follow_address(api.clone(), bound.address(), outward_address, ADDRESS, stop.clone()));
    }
    supervisor.spawn("api", bound.run(api, stop.clone()));
    supervisor.spawn("scheduler", scheduler::run(store.clone(), clock, Arc::new(AsksNodes(calls.clone())), stop.clone()));
    supervisor.spawn("controllers", controller::run(store.clone(), clock, stop.clone(), settings, signs.clone()));
    let parts = dispatcher::run::Parts {
        store: store.clone(),
        bus,
        events,
        topics,
        signs: Arc::new(Hears(signs)),
        calls: new_calls,
        clock,
        network: cluster_network(&config, bound_to),
        grace: config.grace,
    };
    supervisor.spawn("dispatcher", dispatcher::run::run(parts, stop.clone()));
    systemd.ready();
    tracing::info!(api = %config.api.listen, store = store.id(), "the master runs");

    tokio::select! {
        () = systemd.watchdog(stop.clone()) => {}
        () = stop.cancelled() => {}
    }
    stop.cancelled().await;
    systemd.stopping();
    let ended = supervisor.run(STOP).await;
    store.close().await.map_err(|error| Report::failed("the store could not be closed").because(error))?;
    Ok(ended)
}

/// Says which of the cluster's addresses this machine already knows the way to. It goes on, unless its own address is one of them: no node
/// would find the API, nor the LAN that machine.
fn look_for_clashes(config: &MasterConfig) -> Result<(), Report> {
    let ranges = Ranges { pods: config.network.pods, services: config.services.v4_net() };
    let own = [Some(config.api.listen.ip()), outward_address(), outward_address6()];
    let second =
        [("network.pods", config.network.pods6.map(IpNet::from)), ("network.services", config.services.v6.map(IpNet::from))];
    let second = second.into_iter().filter_map(|(key, range)| Some((key, range?)));
    let first = [("network.pods", ranges.pods.into()), ("network.services", ranges.services.into())];
    for (key, range) in first.into_iter().chain(second) {
        let inside = own.iter().flatten().find(|address| range.contains(*address));
        if let Some(address) = inside {
            return Err(Report::usage(format!("{key} is {range}, and this machine's own address {address} lies in it"))
                .because("pods and nodes would look for it within the cluster and find nobody")
                .fix(format!("set {key} to ranges that nobody at home uses, like \"10.42.0.0/16\"")));
        }
    }
    let routes = routes::of_this_machine();
    for clash in ranges::clashes(&ranges, &routes) {
        tracing::warn!(
            "{clash}: from pods, and from the nodes, those machines may be out of reach; a cluster made anew with other ranges (network.pods, network.services) has no such trouble"
        );
    }
    Ok(())
}

/// The pods that nodes had when this master started, and that have not ended.
fn running_pods(view: &View) -> Vec<Uid> {
    let bound = |pod: &&Arc<Object>| !Pod(pod).node_name().is_empty() && !Pod(pod).is_terminal();
    view.list(&PODS, None).filter(bound).map(|pod| pod.uid()).collect()
}

/// This machine's address towards the outside: asks the routing table, and sends nothing.
fn outward_address() -> Option<IpAddr> {
    towards("0.0.0.0:0", "192.0.2.1:9")
}

/// The same by IPv6, if it has one.
fn outward_address6() -> Option<IpAddr> {
    towards("[::]:0", "[2001:db8::1]:9")
}

fn towards(from: &str, to: &str) -> Option<IpAddr> {
    let socket = std::net::UdpSocket::bind(from).ok()?;
    socket.connect(to).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Where pods reach an API that listens there: one that listens at every address is told at that of the LAN.
fn advertised(bound: SocketAddr, outward: Option<IpAddr>) -> SocketAddr {
    match outward {
        Some(address) if bound.ip().is_unspecified() => SocketAddr::new(address, bound.port()),
        _ => bound,
    }
}

/// Tells pods the API's new address when this machine has another one. One that has none, between two leases, is told as before.
async fn follow_address(
    api: Api,
    bound: SocketAddr,
    outward: impl Fn() -> Option<IpAddr>,
    every: Duration,
    stop: CancellationToken,
) {
    let mut told = None;
    while stop.run_until_cancelled(tokio::time::sleep(every)).await.is_some() {
        let Some(now) = outward().filter(|now| told != Some(*now)) else { continue };
        let address = advertised(bound, Some(now));
        match api.reached_at(address).await {
            Ok(()) => {
                if told.is_some() {
                    tracing::info!(%address, "this machine has another address: pods reach the API there");
                }
                told = Some(now);
            }
            Err(error) => tracing::warn!(%address, error = %Chain(&error), "pods are not told the API's address; tried again"),
        }
    }
}

/// What all nodes have to know of the network.
fn cluster_network(config: &MasterConfig, api: SocketAddr) -> ClusterNetwork {
    ClusterNetwork {
        pods: config.network.pods.to_string(),
        services: config.services.v4.to_string(),
        dns: config.services.v4.dns().to_string(),
        domain: config.network.domain.clone(),
        back_end: config.network.back_end.clone(),
        load_balancers: config.network.load_balancers.map(|pool| pool.to_string()).unwrap_or_default(),
        pods6: config.network.pods6.map(|range| range.to_string()).unwrap_or_default(),
        services6: config.services.v6.map(|range| range.to_string()).unwrap_or_default(),
        dns6: config.services.v6.map(|range| range.dns().to_string()).unwrap_or_default(),
        api_on_loopback: if api.ip().is_loopback() { api.port() } else { 0 },
    }
}

fn credentials(ca: &Path, chain: &Path, key: &Path) -> Result<Credentials, Report> {
    Ok(Credentials { ca: read("CA", ca)?, chain: read("certificate", chain)?, key: read("private key", key)? })
}

fn read(what: &str, path: &Path) -> Result<Vec<u8>, Report> {
    std::fs::read(path).map_err(|error| {
        Report::failed(format!("cannot read the {what} {}", path.display()))
            .because(error)
            .fix("name readable files in [tls], or leave [tls] out: the master makes its own")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use crate::api::Key;
    use crate::api::registry::ENDPOINTS;

    #[test]
    fn an_api_at_every_address_is_told_at_the_one_of_the_lan() {
        let outward = "192.168.1.5".parse().ok();
        for (bound, told) in [
            ("0.0.0.0:6443", "192.168.1.5:6443"),
            ("[::]:6443", "192.168.1.5:6443"),
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("10.0.0.7:2", "10.0.0.7:2"),
        ] {
            assert_eq!(advertised(bound.parse().unwrap(), outward).to_string(), told);
        }
        assert_eq!(advertised("0.0.0.0:1".parse().unwrap(), None).to_string(), "0.0.0.0:1");
    }

    #[tokio::test]
    async fn the_apis_endpoints_follow_this_machines_address() {
        let place = tempfile::tempdir().unwrap();
        let store = Store::open(store::disk::journal(&place.path().join("store")), store::Options::default()).await.unwrap();
        let (calls, _asked) = dispatcher::streams::channel();
        let bound: SocketAddr = "0.0.0.0:6443".parse().unwrap();
        let cluster = Cluster { advertise: Some(advertised(bound, "192.168.1.5".parse().ok())), ..Cluster::default() };
        let api = Api::new(store.clone(), Arc::new(calls), Arc::new(SystemClock::start()), cluster);
        api.bootstrap().await.unwrap();
        let told = || {
            let key = Key::new(&ENDPOINTS, "default", "kubernetes");
            store.view(|view| view.get(&key).unwrap().at(&["subsets"]).cloned().unwrap())
        };
        let at = |ip: &str| serde_json::json!([{"addresses": [{"ip": ip}], "ports": [{"name": "https", "port": 6443, "protocol": "TCP"}]}]);
        assert_eq!(told(), at("192.168.1.5"));
        // The lease ends, and there is another one.
        let looks = Arc::new(AtomicUsize::new(0));
        let counted = looks.clone();
        let outward = move || {
            let leases = ["192.168.1.5", "", "192.168.1.6"];
            leases.get(counted.fetch_add(1, Ordering::Relaxed).min(2)).and_then(|lease| lease.parse().ok())
        };
        let stop = CancellationToken::new();
        let task = tokio::spawn(follow_address(api, bound, outward, Duration::from_millis(50), stop.clone()));
        let mut seen = vec![told()];
        while looks.load(Ordering::Relaxed) < 8 {
            tokio::time::sleep(Duration::from_millis(5)).await;
            if seen.last() != Some(&told()) {
                seen.push(told());
            }
        }
        assert_eq!(seen, [at("192.168.1.5"), at("192.168.1.6")]);
        stop.cancel();
        task.await.unwrap();
    }

    #[test]
    fn two_pings_come_before_a_silent_node_is_lost() {
        for (lost, expected) in [(2, Some(1)), (3, Some(1)), (5, Some(2)), (9, Some(4)), (10, None), (60, None)] {
            assert_eq!(keep_alive_seconds(Duration::from_secs(lost)), expected, "{lost}");
        }
    }

    #[test]
    fn on_an_external_broker_a_node_is_not_lost_between_two_of_its_words() {
        let seconds = Duration::from_secs;
        assert_eq!((most_silence(seconds(10), false), most_silence(seconds(2), false)), (seconds(10), seconds(2)));
        assert_eq!((most_silence(seconds(10), true), most_silence(seconds(60), true)), (seconds(25), seconds(60)));
    }
}
