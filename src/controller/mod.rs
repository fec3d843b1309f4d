//! What makes the stored objects true to what people asked for: one small decider a subject, one driver for all.
//!
//! ```text
//! store ─ bell ─▶ run.rs ─▶ driver.rs: changes → keys → queue ─▶ reconcile(view, key, now) ─▶ plan ─▶ store.write
//!                    ▲                                                                                  │
//!                    └── timer: every key each 30 s, so that no signal is ever needed ◀─ conflict: look again
//! ```
//!
//! A reconciler is told *where* to look, never *what* changed; it reads the whole truth and answers with writes. So it may
//! be stopped at any point, asked twice, or asked for nothing. There are no caches and no expectations: each key is decided
//! and written before it is decided again, and a write that lost a race is simply looked at again.
//!
//! Flow:     stops 4 and 5 of the life of a pod: from `store/mod.rs`, on to `scheduler/cycle.rs`.

pub mod adoption;
pub mod bell;
pub mod certificates;
pub mod deletion;
pub mod deployment;
pub mod driver;
pub mod endpoint_mirror;
pub mod endpoint_slice;
pub mod endpoints;
pub mod ephemeral_volume;
pub mod event_expiry;
pub mod external_name;
pub mod garbage_collector;
pub mod ingress;
pub mod local_names;
pub mod namespace;
pub mod node_ipam;
pub mod node_lifecycle;
pub mod persistent_volume;
pub mod pod_gc;
pub mod queue;
pub mod replicaset;
pub mod rollout;
mod run;
pub mod service_lb;
mod serving;
pub mod signs;
pub mod taint_eviction;
#[cfg(test)]
#[allow(clippy::needless_pass_by_value)] // `json!(…)` reads best as it is
mod world;

use std::time::Duration;

use crate::api::core::address_pool::AddressPool;
use crate::api::core::event::Occurrence;
use crate::api::{Key, Object, Resource};
use crate::clock::{Now, Tick};
use crate::rng::Rng;
use crate::store::{ChangeEvent, Op, View};

pub use bell::SharedSigns;
pub use run::run;

/// What is to be done about one key.
#[derive(Debug, Default)]
pub struct Plan {
    /// What to write, together or not at all. What exceeds one batch is cut off by the driver, and the key looked at again.
    pub writes: Vec<Op>,
    /// What to tell about it, once it is written.
    pub events: Vec<Occurrence>,
    /// What is wrong for as long as it is so, all of it each time: the driver tells what is new of it, and tells what stays once an hour.
    pub standing: Vec<Occurrence>,
    /// When to look again, if nothing happens before.
    pub look_again: Option<Tick>,
}

impl Plan {
    /// Nothing to do.
    #[must_use]
    pub fn nothing() -> Self {
        Self::default()
    }

    /// Only look again then.
    #[must_use]
    pub fn look_again(at: Tick) -> Self {
        Self { look_again: Some(at), ..Self::default() }
    }

    /// Whether it changes nothing.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.writes.is_empty() && self.events.is_empty() && self.standing.is_empty()
    }

    /// Looks again at `at`, or earlier if that was said already.
    pub fn look_by(&mut self, at: Tick) {
        self.look_again = Some(self.look_again.map_or(at, |before| before.min(at)));
    }
}

/// Ids and name endings for objects that controllers make.
#[derive(Clone, Debug)]
pub struct Ids(Rng);

impl Ids {
    /// From a generator of their own.
    #[must_use]
    pub fn new(rng: Rng) -> Self {
        Self(rng)
    }

    /// A new uid.
    pub fn uid(&mut self) -> String {
        self.0.uuid()
    }

    /// Five characters that end a generated name.
    pub fn suffix(&mut self) -> String {
        self.0.name_suffix(5)
    }
}

/// One subject. `&mut self` is only for ticks that it noticed (a deadline must not hang on a wall clock that jumps); losing
/// them delays, and changes nothing else.
pub trait Reconciler: Send {
    /// Its name in logs.
    fn name(&self) -> &'static str;
    /// Whether changes of this resource can matter to it.
    fn watches(&self, resource: &Resource) -> bool;
    /// Where to look because of a change.
    fn keys(&self, event: &ChangeEvent, view: &View) -> Vec<Key>;
    /// Everywhere that something may have to be done: at the start, after lost signals, and on the timer.
    fn all_keys(&self, view: &View) -> Vec<Key>;
    /// What is to be done there.
    fn reconcile(&mut self, view: &View, key: &Key, now: Now, ids: &mut Ids) -> Plan;
}

/// What the master's configuration says to controllers: the durations by which nodes are judged (DESIGN §7), and the pod network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Silence after which a node is lost: `node.lost_seconds`.
    pub lost: Duration,
    /// After that, its pods are replaced: `node.evict_seconds`.
    pub evict: Duration,
    /// Pods leave a node that answers and is not ready after this. 300 s: upstream's default toleration. Longer than
    /// `evict`, because such a node still runs its pods.
    pub evict_not_ready: Duration,
    /// After a start of the master, no node that has not reported is judged before this: `master.grace_seconds`.
    pub grace: Duration,
    /// The addresses of all pods, of which each node has a part: `network.pods`.
    pub pods: ipnet::Ipv4Net,
    /// Their IPv6 addresses, the second range of `network.pods`; `None` in a cluster of IPv4 only.
    pub pods6: Option<ipnet::Ipv6Net>,
    /// The addresses for load balancers: `network.load_balancers`; without them they are reached at the nodes' own.
    pub load_balancers: Option<AddressPool>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lost: Duration::from_secs(10),
            evict: Duration::from_secs(8),
            evict_not_ready: Duration::from_secs(300),
            grace: Duration::from_secs(30),
            pods: node_ipam::default_pods(),
            pods6: None,
            load_balancers: None,
        }
    }
}

/// All controllers, in the order in which they are asked.
#[must_use]
pub fn all(settings: Settings, signs: &SharedSigns) -> Vec<Box<dyn Reconciler>> {
    let judged_from = signs.judged_from();
    vec![
        // Sets are counted before anything is concluded from their counts.
        Box::new(replicaset::ReplicaSets),
        Box::new(deployment::Deployments::new(judged_from)),
        Box::new(adoption::Adoption),
        Box::new(endpoint_slice::EndpointSlices::new(signs.signs())),
        Box::new(endpoints::Endpoints::new(signs.signs())),
        Box::new(endpoint_mirror::EndpointMirror),
        Box::new(node_ipam::NodeIpam::new(settings.pods, settings.pods6)),
        Box::new(ingress::Ingresses),
        Box::new(service_lb::ServiceLb::new(settings.load_balancers)),
        Box::new(local_names::LocalNames),
        Box::new(external_name::ExternalNames),
        Box::new(node_lifecycle::NodeLifecycle::new(signs.signs())),
        Box::new(taint_eviction::TaintEviction::new(settings, signs.signs())),
        Box::new(ephemeral_volume::EphemeralVolumes),
        Box::new(persistent_volume::PersistentVolumes),
        Box::new(garbage_collector::GarbageCollector),
        Box::new(namespace::Namespaces),
        Box::new(pod_gc::PodGc::default()),
        Box::new(event_expiry::EventExpiry),
        Box::new(certificates::Certificates),
    ]
}

/// Counts a change of what is wanted in `metadata.generation`, as the API server does for those who write through it.
fn bump_generation(object: &mut Object) {
    let next = object.generation().0.saturating_add(1);
    object.set_at(&["metadata", "generation"], next);
}

/// Replaces what was read; the store refuses when it has changed since.
fn update(key: &Key, read: &Object, object: Object) -> Op {
    Op::update(key.clone(), read.revision(), object)
}
