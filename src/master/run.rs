//! The master put together: store, API, controllers, scheduler, dispatcher and broker, under one supervisor.
//!
//! Ports first, so that a port in use is said before anything is touched; then the store; then everything at once.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::config::MasterConfig;
use crate::api::Object;
use crate::api::image::Platform;
use crate::apiserver::{self, Api, Cluster};
use crate::broker;
use crate::clock::{Clock, SystemClock, Tick};
use crate::controller::{self, SharedSigns};
use crate::dispatcher;
use crate::error::Report;
use crate::link::Topics;
use crate::link::call::{Calls, ImageQuestion, Question};
use crate::link::mqtt::{self, MqttConfig};
use crate::scheduler;
use crate::store::{self, Store};
use crate::task::{Ended, Supervisor};
use crate::telemetry::Systemd;
use crate::tls::{ClientCertificate, Credentials};

/// Everything ends within this after a stop: watches end at once, a write to a slow card takes a second or two.
const STOP: Duration = Duration::from_secs(10);
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
    let systemd = Systemd::from_environment();
    let server = credentials(&config.tls.ca, &config.tls.certificate, &config.tls.key)?;
    let tls = server
        .server(ClientCertificate::Optional)
        .map_err(|error| Report::failed("cannot use the master's certificate").because(error))?;
    let bound = apiserver::bind(config.api.listen, Some(tls)).await.map_err(|error| Report::failed(error.to_string()))?;
    let topics = Topics::new(&config.cluster);
    let mut supervisor = Supervisor::new(stop.clone());

    let (bus, events) = match &config.mqtt.broker {
        None => {
            let mut settings = broker::Config::new(topics.base(), DISCOVERY_PREFIX);
            settings.plain = config.mqtt.viewer_listen;
            settings.tls = Some((config.mqtt.listen, server));
            settings.server_keep_alive = keep_alive_seconds(config.node.lost);
            let embedded = broker::bind(settings).await.map_err(|error| match std::error::Error::source(&error) {
                Some(_) => Report::failed("cannot start the broker").because(error),
                None => Report::failed(error.to_string()),
            })?;
            // The broker outlives the parts that speak through it by the supervisor's order: all hear the same stop.
            let running = embedded.run(topics.master_filters(), stop.clone(), clock);
            supervisor.spawn("broker", running.task);
            (running.bus, running.events)
        }
        Some(url) => {
            let client = credentials(&config.tls.ca, &config.tls.client_certificate, &config.tls.client_key)?;
            let tls =
                client.client().map_err(|error| Report::failed("cannot use the master's client certificate").because(error))?;
            let settings = MqttConfig {
                client_id: "bramble-master".to_owned(),
                host: url.host.clone(),
                port: url.port,
                tls: url.tls.then_some(tls),
                login: None,
                filters: topics.master_filters(),
                will: Some((format!("{}/bridge/state", topics.base()), "offline")),
            };
            let (bus, events, link) = mqtt::connect(settings, stop.clone());
            supervisor.spawn("broker link", link);
            (bus, events)
        }
    };

    let journal = store::disk::journal(&config.data_dir.join("store"));
    let store = Store::open(journal, store::Options::default()).await.map_err(|error| {
        let fix = error.fix();
        Report::failed("cannot open the store").because(error).fix(fix)
    })?;
    let settings = controller::Settings {
        lost: most_silence(config.node.lost, config.mqtt.broker.is_some()),
        evict: config.node.evict,
        grace: config.grace,
        ..controller::Settings::default()
    };
    let signs = SharedSigns::new(clock.now().tick, settings);
    let (calls, new_calls) = dispatcher::streams::channel();
    let ca_pem = read("CA", &config.tls.ca)?;
    let cluster = Cluster { ca_pem: String::from_utf8_lossy(&ca_pem).into_owned(), advertise: Some(bound.address()) };
    let api = Api::new(store.clone(), Arc::new(calls.clone()), Arc::new(clock), cluster);
    api.bootstrap().await.map_err(|error| Report::failed("cannot write the first objects").because(error))?;

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
