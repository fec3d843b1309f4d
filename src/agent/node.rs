//! The one Machine of a node: from its share and from what it sees to commands, reports, events and lights.
//!
//! In:       the whole share, whenever it changes; listings; outcomes of commands.
//! Out:      [`Effect`]s: orders for the runtime, statuses for the master, words for people, states for LEDs.
//! Never:    talks to anybody, or decides what one pod needs (`pods/plan.rs`).
//! Flow:     stop 9: from `link`, on to `pods/plan.rs`; stop 12 goes out from here to `link`.
//!
//! * Nothing is done before the first full listing, and nothing is removed before the first share: an agent that has just
//!   started adopts what runs.
//! * A pod has at most one order out. Orders carry a ticket; an outcome with another one is dropped and counted.
//! * Listings carry a stamp, taken when they began: what an older one says about a pod is dropped.

mod devices;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::api::Uid;
use crate::clock::{Now, Tick};
use crate::link::message::{NodeEvent, PodReport};
use crate::link::share::Share;
use crate::rng::Rng;
use crate::step::Machine;

use super::devices::Offer;
use super::devices::inventory::Inventory;
use super::hooks::{HookOrder, HookOutcome};
use super::images::credentials::Credential;
use super::images::progress::{Progress, Told};
use super::pleg;
use super::pods::admission::{self, Rejection};
use super::pods::env::{ConfigError, Sources};
use super::pods::image::{self, Fetches};
use super::pods::known::{
    Pod, Severity, event, expire, field_path, hooked, keep_lost, learn, tell, tell_ending, tell_exec_format, tell_oom,
};
use super::pods::lifecycle::PodState;
use super::pods::mount;
use super::pods::plan::{self, About, FailureCondition, Memory, PodFailure};
use super::pods::ports;
use super::pods::resource_field::NodeAmounts;
use super::pods::spec;
use super::pods::status::{self, LightState};
use super::prober::{self, Answer};
use super::runtime::{Command, Done, Failure, Listing, PodRef, RunState};

/// How many images are fetched at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MostPulls(pub usize);

impl Default for MostPulls {
    /// A card and a home's line take no more.
    fn default() -> Self {
        Self(2)
    }
}

/// What a node is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeConfig {
    /// Its name.
    pub name: String,
    /// Its addresses, the main one first.
    pub host_ips: Vec<String>,
    /// What container ids begin with: `docker` or `simulated`.
    pub scheme: &'static str,
    /// How many images it fetches at the same time.
    pub pulls: MostPulls,
    /// What it has.
    pub amounts: NodeAmounts,
    /// Sysctls that its pods may set beyond the safe ones.
    pub allowed_sysctls: Vec<String>,
}

/// What can happen to a node.
#[derive(Clone, Debug)]
pub enum Input {
    /// The whole share, as the master mailed it or as it was kept.
    Desired(Arc<Share>),
    /// A listing, of all or of one pod.
    Observed(Listing),
    /// An order was carried out, or not.
    Outcome(Outcome),
    /// How far a fetch is.
    Progress {
        /// The order's.
        ticket: u64,
        /// The pod's.
        uid: Uid,
        /// How far.
        progress: Progress,
    },
    /// A probe was answered.
    Probed(Answer),
    /// The node gives a pod up: what runs of it is ended within the grace and not started again, and once nothing runs its phase
    /// is `Failed` with these words. Its dead containers stay for their logs until it is deleted. A pod that has ended already,
    /// is being deleted, or is not known, is left as it is; of several failures the first one's words stay.
    Fail {
        /// Which.
        uid: Uid,
        /// `status.reason`, as the kubelet words it: `Evicted`, `DeadlineExceeded`.
        reason: String,
        /// `status.message`.
        message: String,
        /// TERM at once, KILL after so long.
        grace: Duration,
        /// One more condition that is true of it, such as `DisruptionTarget`.
        condition: Option<FailureCondition>,
    },
    /// A hook has ended.
    Hooked(HookOutcome),
    /// What is plugged in, whenever that changed.
    Devices(Inventory),
    /// The node's addresses changed.
    Addresses(Vec<String>),
    /// The master asks for every status.
    ReportAll,
}

/// An order for the runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Comes back with the outcome.
    pub ticket: u64,
    /// Whose.
    pub pod: PodRef,
    /// What.
    pub command: Command,
}

/// What became of an order.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The order's.
    pub ticket: u64,
    /// The pod's.
    pub uid: Uid,
    /// What the runtime said.
    pub result: Result<Done, Failure>,
    /// The pod as it is afterwards; `None`: it could not be looked at, a listing follows.
    pub after: Option<Listing>,
}

/// What a node wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// For the runtime.
    Run(Order),
    /// For the hooks' hand; its outcome comes as [`Input::Hooked`].
    Hook(HookOrder),
    /// For the prober's hand.
    Probe(prober::Order),
    /// For the master: the newest status of a pod, because it changed.
    Report(PodReport),
    /// For `kubectl describe`.
    Event(NodeEvent),
    /// For the master: what the node offers of devices, because that changed.
    Offer(Offer),
    /// For the LEDs: all pods, because one changed.
    Lights(Vec<PodLight>),
}

/// One pod for the LEDs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodLight {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The annotation `bramble/led`: the LED that it asks for.
    pub led: Option<String>,
    /// What it shows.
    pub state: LightState,
}

/// The node.
#[derive(Debug)]
pub struct Node {
    config: NodeConfig,
    share: Option<Arc<Share>>,
    pods: BTreeMap<Uid, Pod>,
    /// The stamp of the newest full listing.
    listed: Option<u64>,
    tickets: u64,
    /// Spreads probes over time.
    rng: Rng,
    lights: Vec<PodLight>,
    lights_changed: bool,
    dropped: u64,
    devices: devices::Devices,
}

impl Node {
    /// A node that knows nothing yet.
    #[must_use]
    pub fn new(config: NodeConfig) -> Self {
        Self {
            // Equal nodes behave alike, and others do not probe in step with them.
            rng: Rng::seeded(0, &config.name),
            config,
            share: None,
            pods: BTreeMap::new(),
            listed: None,
            tickets: 0,
            lights: Vec::new(),
            lights_changed: false,
            dropped: 0,
            devices: devices::Devices::default(),
        }
    }

    /// The newest report of every pod: "everything when asked".
    pub fn all_reports(&self) -> impl Iterator<Item = &PodReport> {
        self.pods.values().filter_map(|pod| pod.reported.as_ref())
    }

    /// The newest status by uid, for the digest.
    #[must_use]
    pub fn statuses(&self) -> BTreeMap<&Uid, &Value> {
        self.pods.iter().filter_map(|(uid, pod)| Some((uid, &pod.reported.as_ref()?.status))).collect()
    }

    /// Outcomes and listings that came too late.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn desired(&mut self, now: Now, share: Arc<Share>, out: &mut Vec<Effect>) {
        let listed = self.listed;
        for (uid, raw) in &share.pods {
            let pod = self.pods.entry(uid.clone()).or_insert_with(|| Pod {
                stamp: listed.unwrap_or_default(),
                seen: listed.is_some(),
                ..Pod::new(uid)
            });
            if pod.raw.as_ref().is_none_or(|known| **known != **raw) {
                // Another annotation may name another LED.
                self.lights_changed = true;
                pod.spec = Some(spec::read(raw));
                pod.raw = Some(Arc::clone(raw));
            }
            pod.memory.mounts.looked = false;
            if pod.observed.pod.name.is_empty() {
                pod.observed.pod = pod.pod_ref();
            }
        }
        let before = self.share.replace(Arc::clone(&share));
        for pod in self.pods.values_mut() {
            let Some(spec) = &pod.spec else { continue };
            let places = spec.pull_secrets.iter().map(|name| format!("{}/{name}", spec.pod.namespace));
            let other =
                |place: String| before.as_ref().and_then(|before| before.secrets.get(&place)) != share.secrets.get(&place);
            if places.into_iter().any(other) {
                image::secrets_changed(pod);
            }
        }
        let uids: Vec<Uid> = self.pods.keys().cloned().collect();
        for uid in uids {
            self.settle(now, &uid, out);
        }
    }

    fn observed(&mut self, now: Now, listing: Listing, out: &mut Vec<Effect>) {
        let stamp = listing.stamp;
        let mut touched: BTreeSet<Uid> = listing.pods.keys().cloned().collect();
        match &listing.only {
            Some(uid) => {
                touched.insert(uid.clone());
            }
            None => {
                self.listed = Some(self.listed.unwrap_or_default().max(stamp));
                touched.extend(self.pods.keys().cloned());
            }
        }
        let mut found = listing.pods;
        for uid in &touched {
            let pod = self.pods.entry(uid.clone()).or_insert_with(|| Pod::new(uid));
            if stamp <= pod.stamp && pod.seen {
                self.dropped += 1;
                continue;
            }
            let after = found.remove(uid).unwrap_or_else(|| {
                let mut nothing = plan::nothing(uid);
                nothing.pod = pod.pod_ref();
                nothing
            });
            let mut after = after;
            if pod.seen && !matches!(pod.state, PodState::Terminating { .. } | PodState::Gone) {
                keep_lost(&pod.observed, &mut after, now);
            }
            for change in pleg::changes(&pod.observed, &after) {
                if pod.seen {
                    tracing::debug!(pod = %format_args!("{}/{}", after.pod.namespace, after.pod.name), ?change, "container changed");
                }
            }
            tell_exec_format(pod, &after, out);
            for run in &after.containers {
                let highest = pod.memory.attempts.entry(run.name.clone()).or_default();
                *highest = (*highest).max(run.attempt);
                // It shows by itself that it could not start, and waits for its next turn as any dead container.
                if run.attempt == *highest && matches!(run.state, RunState::Exited { error: Some(_), .. }) {
                    pod.memory.trouble.remove(&run.name);
                }
            }
            let ids: BTreeSet<&String> =
                after.containers.iter().map(|run| &run.id).chain(after.sandboxes.iter().map(|sandbox| &sandbox.id)).collect();
            pod.memory.dues.retain(|id, _| ids.contains(id));
            pod.memory.kills.retain(|id, _| ids.contains(id));
            pod.memory.post_start.retain(|id, _| ids.contains(id));
            if pod.seen {
                tell_oom(pod, &after, out);
            }
            pod.observed = after;
            self.devices.learn(pod);
            pod.stamp = stamp;
            pod.seen = true;
        }
        for uid in &touched {
            self.settle(now, uid, out);
        }
    }

    fn outcome(&mut self, now: Now, outcome: Outcome, out: &mut Vec<Effect>) {
        let Outcome { ticket, uid, result, after } = outcome;
        let expected = self.pods.get(&uid).and_then(|pod| pod.flight.as_ref()).is_some_and(|(out, _)| *out == ticket);
        let flight = if expected { self.pods.get_mut(&uid).and_then(|pod| pod.flight.take()) } else { None };
        let Some((_, about)) = flight else {
            self.dropped += 1;
            return;
        };
        let result = match (&about, result) {
            (About::Sandbox, Err(failure)) => Err(self.name_holder(&uid, failure)),
            (_, result) => result,
        };
        let overfull = match (&about, &result) {
            (About::Usage, Ok(Done::Measured(measured))) => {
                self.pods.get(&uid).and_then(|pod| mount::exceeded(pod.spec.as_ref()?, measured))
            }
            _ => None,
        };
        // Which image is here now, if this was a fetch at all, and what its registry was shown.
        let fetch_ended = matches!(about, About::Pull(_)).then(|| {
            let (share, pod) = (self.share.as_ref()?, self.pods.get(&uid)?);
            let (spec, About::Pull(name), Ok(Done::Pulled { .. })) = (pod.spec.as_ref()?, &about, &result) else { return None };
            let container = spec.any(name)?;
            let shown = image::credentials_of(spec, &container.image, share).credentials;
            Some((container.image.clone(), shown))
        });
        if let Some(pod) = self.pods.get_mut(&uid) {
            // Not looked at afterwards: what is known of it is old. A listing comes.
            pod.seen = after.is_some();
            learn(pod, about, &result, now, out);
        }
        match after {
            Some(listing) => self.observed(now, listing, out),
            None => self.settle(now, &uid, out),
        }
        if let Some(fetched) = fetch_ended {
            self.next_fetch(now, fetched, out);
        }
        if let Some(message) = overfull {
            if let Some(spec) = self.pods.get(&uid).and_then(|pod| pod.spec.as_ref()) {
                out.push(event(&spec.pod, None, Severity::Warning, "Evicted", message.clone()));
            }
            let failure = PodFailure { reason: "Evicted".to_owned(), message, condition: None };
            self.fail(now, &uid, failure, mount::EVICTION_GRACE, out);
        }
    }

    /// Says who has the port, when a sandbox could not start because another pod has it.
    fn name_holder(&self, uid: &Uid, failure: Failure) -> Failure {
        let Some(wanted) = self.pods.get(uid).and_then(|pod| pod.raw.as_deref()) else { return failure };
        let holds = |pod: &&Pod| pod.observed.sandboxes.iter().any(|sandbox| sandbox.state.is_running());
        let others = self.pods.iter().filter(|(other, _)| *other != uid).map(|(_, pod)| pod).filter(holds);
        ports::with_holder(failure, wanted, others.filter_map(|pod| pod.raw.as_deref()))
    }

    /// A fetch has ended, well when the image is named: who wants the same finds it, and the first of the others is next.
    fn next_fetch(&mut self, now: Now, fetched: Option<(String, Vec<Credential>)>, out: &mut Vec<Effect>) {
        let Some(share) = self.share.clone() else { return };
        let mut waiting = Vec::new();
        for (uid, pod) in self.pods.iter_mut().filter(|(_, pod)| pod.wants_slot) {
            let found = fetched.as_ref().is_some_and(|(image, shown)| image::fetched_by_another(pod, image, shown, &share, out));
            waiting.push((!found, uid.clone()));
        }
        waiting.sort();
        for (other, uid) in waiting {
            if other && self.pods.values().filter(|pod| pod.pulls()).count() >= self.config.pulls.0 {
                break;
            }
            self.settle(now, &uid, out);
        }
    }

    /// A fetch goes on: now and then that is told.
    fn progress(&mut self, now: Now, ticket: u64, uid: &Uid, progress: Progress, out: &mut Vec<Effect>) {
        let Some(pod) = self.pods.get_mut(uid) else { return };
        let Some((_, About::Pull(name))) = pod.flight.as_ref().filter(|(flight, _)| *flight == ticket) else { return };
        let Some((spec, image)) = pod.spec.as_ref().zip(pod.pulled_image()) else { return };
        let mut told = pod.told.unwrap_or_else(|| Told::begins(now.tick));
        if told.worth(now.tick, &progress) {
            let text = format!("Pulling image \"{image}\": {progress}");
            out.push(event(&spec.pod, field_path(spec, name), Severity::Normal, "Pulling", text));
            pod.told = Some(told);
        }
    }

    /// The node gives a pod up.
    fn fail(&mut self, now: Now, uid: &Uid, failure: PodFailure, grace: Duration, out: &mut Vec<Effect>) {
        let Some(pod) = self.pods.get_mut(uid) else { return };
        match pod.state {
            PodState::Live => pod.memory.failure = Some(failure),
            // It ends already, and not sooner by itself.
            PodState::Ending { .. } if pod.memory.failure.is_some() => {}
            PodState::Ending { .. } | PodState::Finished | PodState::Terminating { .. } | PodState::Gone => return,
        }
        pod.state = pod.state.end(now.tick, grace);
        self.settle(now, uid, out);
    }

    /// Brings one pod's state, order, status and light up to date.
    fn settle(&mut self, now: Now, uid: &Uid, out: &mut Vec<Effect>) {
        let Some(share) = self.share.clone() else { return };
        let free = self.pods.values().filter(|pod| pod.pulls()).count() < self.config.pulls.0;
        let under_way: BTreeSet<String> = self.pods.values().filter_map(Pod::pulled_image).map(str::to_owned).collect();
        let Some(pod) = self.pods.get_mut(uid) else { return };
        let wanted = share.pods.contains_key(uid);
        if self.listed.is_none() || !pod.seen {
            return;
        }
        // What runs was taken once, by this agent or by the one before it.
        if let Some(spec) = &pod.spec
            && wanted
            && pod.state == PodState::Live
            && pod.observed.is_nothing()
            && pod.flight.is_none()
            && spec.final_status.is_none()
            && let Some(Rejection { reason, message }) = admission::rejection(spec, &self.config.allowed_sysctls)
        {
            out.push(event(&spec.pod, None, Severity::Warning, reason, message.clone()));
            let message = format!("Pod was rejected: {message}");
            pod.memory.failure = Some(PodFailure { reason: reason.to_owned(), message, condition: None });
            pod.state = pod.state.end(now.tick, Duration::ZERO);
        }
        if let Some(spec) = &pod.spec
            && plan::is_finished(spec, &pod.observed, &pod.memory.probes)
        {
            pod.state = pod.state.end(now.tick, spec.grace);
        }
        if !pod.observed.containers.iter().any(|run| run.state.is_running()) {
            pod.state = pod.state.finish();
        }
        let active_until = if pod.state == PodState::Live { expire(pod, now, out) } else { None };
        let ending = match &pod.spec {
            Some(spec) if wanted => spec.deletion,
            Some(spec) => Some(spec.deletion.unwrap_or(spec.grace)),
            None => Some(pod.observed.sandboxes.last().map_or(Duration::from_secs(30), |sandbox| sandbox.grace)),
        };
        if let Some(grace) = ending {
            pod.state = pod.state.terminate(now.tick, grace);
        }
        let nothing = pod.observed.is_nothing();
        if nothing && pod.flight.is_none() {
            pod.state = pod.state.vanish();
        }
        if let Some(spec) = &pod.spec {
            let mut orders = Vec::new();
            // Whose postStart hook is not behind it does not count as running yet.
            let mut begun = Cow::Borrowed(&pod.observed);
            if !pod.memory.post_start.is_empty() {
                begun.to_mut().containers.retain(|run| plan::has_started(&pod.memory, run));
            }
            pod.memory.probes.follow(spec, &begun, pod.state, now, &mut self.rng, &mut orders);
            out.extend(orders.into_iter().map(Effect::Probe));
        }
        if pod.state == PodState::Gone && !wanted {
            self.pods.remove(uid);
            self.lights_changed = true;
            return;
        }
        if pod.state == PodState::Gone && pod.spec.as_ref().is_some_and(|spec| spec.deletion.is_none()) {
            // It left the share and came back: a life of its own.
            pod.state = PodState::Live;
            pod.memory = Memory::default();
            pod.removal = None;
        }
        self.allot(uid);
        let Some(pod) = self.pods.get_mut(uid) else { return };
        let host_ip = self.config.host_ips.first().map(String::as_str).unwrap_or_default();
        let pod_ip = pod.observed.sandboxes.last().and_then(|sandbox| sandbox.ip.clone());
        let address = pod_ip.clone().unwrap_or_else(|| host_ip.to_owned());
        let sources = Sources {
            share: &share,
            node_name: &self.config.name,
            host_ips: &self.config.host_ips,
            pod_ip: pod_ip.as_deref().unwrap_or(host_ip),
            node: self.config.amounts,
        };
        pod.wants_slot = false;
        pod.wake = active_until;
        // A pod that ends wants no image any more.
        if let Some((ticket, About::Pull(_))) = pod.flight
            && pod.state != PodState::Live
            && pod.given_up.replace(ticket) != Some(ticket)
        {
            out.push(Effect::Run(Order { ticket, pod: pod.pod_ref(), command: Command::Cancel }));
        }
        if pod.flight.is_none() {
            let view = plan::View {
                spec: pod.spec.as_ref(),
                observed: &pod.observed,
                state: pod.state,
                sources,
                fetches: Fetches { free, under_way: &under_way },
                now,
            };
            let next = plan::next(view, &mut pod.memory);
            pod.wake = next.wake.into_iter().chain(pod.wake).min();
            pod.wants_slot = next.wants_slot;
            for start in next.hooks {
                tell_ending(pod, std::slice::from_ref(&start.container), out);
                out.push(Effect::Hook(HookOrder { pod: pod.pod_ref(), address: address.clone(), start }));
            }
            if let Some((command, about)) = next.order {
                if command == Command::RemovePod {
                    pod.removal.get_or_insert(pod.observed.containers.len());
                }
                self.tickets += 1;
                if let Command::PullImage { image, .. } = &command {
                    image::tell_secrets(pod, image, &share, out);
                    pod.told = Some(Told::begins(now.tick));
                }
                tell(pod, &command, &about, out);
                let order = Order { ticket: self.tickets, pod: pod.pod_ref(), command };
                pod.flight = Some((self.tickets, about));
                out.push(Effect::Run(order));
            }
        }
        self.probe(now, uid, out);
        self.word(now, uid, out);
    }

    /// Asks what is due of a pod; `true` when its status is to be worded now.
    fn probe(&mut self, now: Now, uid: &Uid, out: &mut Vec<Effect>) -> bool {
        let Some(pod) = self.pods.get_mut(uid) else { return false };
        let (Some(spec), Some(_)) = (&pod.spec, pod.memory.probes.next_wake().filter(|due| *due <= now.tick)) else {
            return false;
        };
        let addresses: Vec<String> = if spec.host_network {
            // Its own address may be gone with the cable; most servers listen on every one.
            ["127.0.0.1".to_owned()].into_iter().chain(self.config.host_ips.first().cloned()).collect()
        } else {
            pod.observed.sandboxes.last().and_then(|sandbox| sandbox.ip.clone()).into_iter().collect()
        };
        let mut orders = Vec::new();
        let released = pod.memory.probes.due(spec, &addresses, now.tick, &mut self.tickets, &mut orders);
        out.extend(orders.into_iter().map(Effect::Probe));
        released
    }

    /// Takes in a probe's answer.
    fn probed(&mut self, now: Now, answer: &Answer, out: &mut Vec<Effect>) {
        let uid = &answer.ticket.uid;
        let Some(pod) = self.pods.get_mut(uid) else {
            self.dropped += 1;
            return;
        };
        let Some(spec) = &pod.spec else { return };
        let heard = pod.memory.probes.answer(spec, answer, now, &mut self.rng);
        self.dropped += u64::from(heard.late);
        if let Some((reason, text)) = heard.words {
            out.push(event(&spec.pod, field_path(spec, &heard.container), Severity::Warning, reason, text));
        }
        if heard.changed {
            self.settle(now, uid, out);
        }
    }

    /// Words the status and reports it when it changed.
    fn word(&mut self, now: Now, uid: &Uid, out: &mut Vec<Effect>) {
        let Some(pod) = self.pods.get_mut(uid) else { return };
        let pulling = pod.pulls() || pod.wants_slot;
        let Some(spec) = &pod.spec else { return };
        for ignored in &spec.ignored {
            if pod.warned.insert(ignored.clone()) {
                out.push(event(&spec.pod, None, Severity::Warning, "FieldIgnored", ignored.clone()));
            }
        }
        // Said now, it could take back what the master knows: that a container is ready which we have not asked yet.
        if pod.reported.is_none() && pod.memory.probes.held(now.tick) {
            return;
        }
        let worded = status::pod_status(status::View {
            spec,
            observed: &pod.observed,
            memory: &pod.memory,
            state: pod.state,
            pulling,
            host_ips: &self.config.host_ips,
            scheme: self.config.scheme,
            now,
        });
        for (name, (reason, message)) in &worded.waits {
            // A container that is being made may wait for a volume as well, or for one thing after the other: then the words are new.
            let tells = |reason: &str| matches!(reason, "ContainerCreating" | "CreateContainerConfigError");
            let same = |(before, words): &(String, String)| before == reason && (!tells(reason) || words == message);
            if pod.waits.get(name).is_some_and(same) {
                continue;
            }
            let path = field_path(spec, name);
            match reason.as_str() {
                "CrashLoopBackOff" => {
                    let text = format!(
                        "Back-off restarting failed container {name} in pod {}_{}({})",
                        spec.pod.name, spec.pod.namespace, spec.pod.uid
                    );
                    out.push(event(&spec.pod, path, Severity::Warning, "BackOff", text));
                }
                "ImagePullBackOff" => out.push(event(&spec.pod, path, Severity::Normal, "BackOff", message.clone())),
                "ErrImagePull" | "ErrImageNeverPull" => {
                    out.push(event(&spec.pod, path, Severity::Warning, "Failed", format!("Error: {reason}")));
                }
                "CreateContainerConfigError" => {
                    out.push(event(&spec.pod, path, Severity::Warning, "Failed", format!("Error: {message}")));
                }
                "ContainerCreating" if matches!(pod.memory.config.get(name), Some(ConfigError::Volume { .. })) => {
                    out.push(event(&spec.pod, None, Severity::Warning, "FailedMount", message.clone()));
                }
                _ => {}
            }
        }
        pod.waits = worded.waits;
        let gone = pod.state == PodState::Gone;
        let light = worded.light.filter(|_| !gone);
        self.lights_changed |= pod.light != light || pod.reported.is_none();
        pod.light = light;
        // With its containers its last words are gone from the runtime: the status before stays.
        let emptied = gone || pod.removal.is_some_and(|before| pod.observed.containers.len() < before);
        let before = pod.reported.as_ref();
        let status = match before {
            Some(before) if emptied => before.status.clone(),
            _ => worded.status,
        };
        if before.is_some_and(|before| before.status == status && before.gone == gone && before.generation == spec.generation) {
            return;
        }
        pod.reports += 1;
        let report = PodReport {
            uid: uid.clone(),
            namespace: spec.pod.namespace.clone(),
            name: spec.pod.name.clone(),
            generation: spec.generation,
            attempt: pod.reports,
            status,
            gone,
        };
        pod.reported = Some(report.clone());
        // Nobody waits for the status of a pod that is no longer in the share.
        if self.share.as_ref().is_some_and(|share| share.pods.contains_key(uid)) {
            out.push(Effect::Report(report));
        }
    }

    /// Tells the lights when one of them changed; once per input.
    fn light(&mut self, out: &mut Vec<Effect>) {
        if !std::mem::take(&mut self.lights_changed) {
            return;
        }
        let lights: Vec<PodLight> = self
            .pods
            .values()
            .filter_map(|pod| {
                let spec = pod.spec.as_ref()?;
                Some(PodLight {
                    namespace: spec.pod.namespace.clone(),
                    name: spec.pod.name.clone(),
                    led: spec.annotations.get("bramble/led").cloned(),
                    state: pod.light?,
                })
            })
            .collect();
        if lights != self.lights {
            self.lights.clone_from(&lights);
            out.push(Effect::Lights(lights));
        }
    }
}

impl Machine for Node {
    type Input = Input;
    type Effect = Effect;

    fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Desired(share) => self.desired(now, share, out),
            Input::Observed(listing) => self.observed(now, listing, out),
            Input::Outcome(outcome) => self.outcome(now, outcome, out),
            Input::Progress { ticket, uid, progress } => self.progress(now, ticket, &uid, progress, out),
            Input::Probed(answer) => self.probed(now, &answer, out),
            Input::Fail { uid, reason, message, grace, condition } => {
                let pod = self.pods.get(&uid).filter(|pod| pod.memory.failure.is_none() && reason == "Evicted");
                if let Some(spec) = pod.and_then(|pod| pod.spec.as_ref()) {
                    out.push(event(&spec.pod, None, Severity::Warning, "Evicted", message.clone()));
                }
                let failure = PodFailure { reason, message, condition: condition.map(|condition| (condition, now.wall)) };
                self.fail(now, &uid, failure, grace, out);
            }
            Input::Hooked(outcome) => {
                let uid = outcome.uid.clone();
                if let Some(pod) = self.pods.get_mut(&uid)
                    && hooked(pod, outcome, out)
                {
                    self.settle(now, &uid, out);
                }
            }
            Input::Devices(inventory) => self.devices_seen(now, inventory, out),
            Input::Addresses(host_ips) => {
                self.config.host_ips = host_ips;
                let uids: Vec<Uid> = self.pods.keys().cloned().collect();
                for uid in uids {
                    self.word(now, &uid, out);
                }
            }
            Input::ReportAll => out.extend(self.all_reports().cloned().map(Effect::Report)),
        }
        self.mind_devices(now, out);
        self.light(out);
    }

    fn wake(&mut self, now: Now, out: &mut Vec<Effect>) {
        let due: Vec<Uid> = self
            .pods
            .iter()
            .filter(|(_, pod)| pod.wake.is_some_and(|wake| wake <= now.tick))
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in due {
            self.settle(now, &uid, out);
        }
        let due = |pod: &Pod| pod.memory.probes.next_wake().is_some_and(|wake| wake <= now.tick);
        let probing: Vec<Uid> = self.pods.iter().filter(|(_, pod)| due(pod)).map(|(uid, _)| uid.clone()).collect();
        for uid in probing {
            if self.probe(now, &uid, out) {
                self.settle(now, &uid, out);
            }
        }
        self.unplugged(now, out);
        self.mind_devices(now, out);
        self.light(out);
    }

    fn next_wake(&self) -> Option<Tick> {
        let pods = self.pods.values().flat_map(|pod| [pod.wake, pod.memory.probes.next_wake()]).flatten();
        pods.chain(self.devices.next_wake()).min()
    }
}
