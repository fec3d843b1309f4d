//! The one Machine of a node: from its share and from what it sees to commands, reports, events and lights.
//!
//! In:       the whole share, whenever it changes; listings; outcomes of commands.
//! Out:      [`Effect`]s: orders for the runtime, statuses for the master, words for people, states for LEDs.
//! Never:    talks to anybody, or decides what one pod needs (`pods/plan.rs`).
//! Flow:     stop 9: from `link`, on to `pods/plan.rs`; stop 12 goes out from here to `link`.
//!
//! * Nothing is done before the first full listing, and nothing is removed before the first share: an agent that has just
//!   started adopts what runs. A share that was kept may be old (a full disk takes no newer one): what it does not name is left
//!   as it is until the master has spoken.
//! * A pod has at most one order out. Orders carry a ticket; an outcome with another one is dropped and counted.
//! * Listings carry a stamp, taken when they began: what an older one says about a pod is dropped.

mod devices;
mod local_pods;
mod settle;
mod telling;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

pub use words::{Effect, Input, MostPulls, NodeConfig, Order, Outcome, PodLight};

use crate::api::Uid;
use crate::clock::{Now, Tick};
use crate::link::message::PodReport;
use crate::link::share::Share;
use crate::rng::Rng;
use crate::step::Machine;

use super::images::credentials::Credential;
use super::images::progress::{Progress, Told};
use super::past::Past;
use super::pleg;
use super::pods::image;
use super::pods::known::{Pod, Severity, event, expect_start, field_path, hooked, keep_lost, learn, tell_exec_format, tell_oom};
use super::pods::lifecycle::PodState;
use super::pods::mount;
use super::pods::need;
use super::pods::plan::{self, About, PodFailure};
use super::pods::ports;
use super::pods::spec;
use super::runtime::{Done, Failure, Listing, RunState};

/// The node.
#[derive(Debug)]
pub struct Node {
    config: NodeConfig,
    share: Option<Arc<Share>>,
    /// What is known of the network: nothing, when its `network` is not there.
    net: Arc<Share>,
    /// Until when pods wait for that, once one did.
    network_until: Option<Tick>,
    /// The master stands behind the share: what it does not name may be removed.
    confirmed: bool,
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
    past: Past,
    past_changed: bool,
    /// The runtime has told the address of a sandbox.
    tells_addresses: bool,
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
            net: Arc::default(),
            network_until: None,
            confirmed: false,
            pods: BTreeMap::new(),
            listed: None,
            tickets: 0,
            lights: Vec::new(),
            lights_changed: false,
            dropped: 0,
            devices: devices::Devices::default(),
            past: Past::default(),
            past_changed: false,
            tells_addresses: false,
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
            if !self.pods.contains_key(uid) {
                let mut pod = self.remembered(uid);
                if let Some(stamp) = listed {
                    let before = std::mem::replace(&mut pod.observed, plan::nothing(uid));
                    keep_lost(&before, &mut pod.observed, now);
                    (pod.stamp, pod.seen) = (stamp, true);
                }
                self.pods.insert(uid.clone(), pod);
            }
            let Some(pod) = self.pods.get_mut(uid) else { continue };
            if pod.raw.as_ref().is_none_or(|known| **known != **raw) {
                // Another annotation may name another LED.
                self.lights_changed = true;
                let before = pod.spec.replace(spec::read(raw));
                image::other_images(pod, before.as_ref());
                pod.raw = Some(Arc::clone(raw));
            }
            pod.memory.mounts.looked = false;
            if pod.observed.pod.name.is_empty() {
                pod.observed.pod = pod.pod_ref();
            }
        }
        if self.confirmed {
            self.past.pods.retain(|uid, _| share.pods.contains_key(uid));
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
        self.config.scheme = listing.scheme.unwrap_or(self.config.scheme);
        let touched: BTreeSet<Uid> = match &listing.only {
            // Who looked for one pod has not looked for another, whatever the engine showed.
            Some(uid) => BTreeSet::from([uid.clone()]),
            None => {
                self.listed = Some(self.listed.unwrap_or_default().max(stamp));
                listing.pods.keys().chain(self.pods.keys()).cloned().collect()
            }
        };
        let mut found = listing.pods;
        for uid in &touched {
            if !self.pods.contains_key(uid) {
                self.pods.insert(uid.clone(), self.remembered(uid));
            }
            let Some(pod) = self.pods.get_mut(uid) else { continue };
            // What is not seen now was seen once: an older listing tells nothing of it either.
            if stamp <= pod.stamp && (pod.seen || pod.stamp > 0) {
                self.dropped += 1;
                continue;
            }
            let after = found.remove(uid).unwrap_or_else(|| {
                let mut nothing = plan::nothing(uid);
                nothing.pod = pod.pod_ref();
                nothing
            });
            let mut after = after;
            if !matches!(pod.state, PodState::Terminating { .. } | PodState::Gone) {
                keep_lost(&pod.observed, &mut after, now);
            }
            for change in pleg::changes(&pod.observed, &after) {
                if pod.seen {
                    tracing::debug!(pod = %format_args!("{}/{}", after.pod.namespace, after.pod.name), ?change, "container changed");
                }
            }
            tell_exec_format(pod, &after, out);
            // One that was made in advance and has not run is no attempt yet.
            for run in after.containers.iter().filter(|run| run.state != RunState::Created) {
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
            expect_start(pod, &after);
            if pod.seen {
                tell_oom(pod, &after, out);
            }
            self.tells_addresses |= after.sandboxes.iter().any(|sandbox| sandbox.ip.is_some());
            pod.memory.address.see(after.sandboxes.last(), self.tells_addresses, now.tick);
            // What is there when it is first seen was left by an earlier agent; later on a directory may be of a run that was not made.
            if !pod.seen && pod.stamp == 0 {
                pod.memory.left.clone_from(&after.left);
            }
            pod.memory.sandboxed |= after.sandboxes.iter().any(|sandbox| sandbox.state != RunState::Created);
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
            // An engine that hides what it says it has started must not be asked again without a pause.
            (About::Sandbox, Ok(_)) if after.as_ref().is_some_and(|listing| shows_no_sandbox(listing, &uid)) => {
                Err(Failure::Failed("the sandbox was started, and the container engine does not show it".to_owned()))
            }
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
            let fetched = need::find(spec, name)?.image;
            Some((fetched.to_owned(), image::credentials_of(spec, fetched, share).credentials))
        });
        if let Some(pod) = self.pods.get_mut(&uid) {
            // Not looked at afterwards: what is known of it is old. A listing comes.
            pod.seen = after.is_some();
            // What was given up with its pod is nobody's failure.
            if pod.given_up != Some(ticket) || result.is_ok() {
                learn(pod, about, &result, now, out);
            }
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
            let failure = PodFailure { reason: "Evicted".to_owned(), message, ..PodFailure::default() };
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
}

/// Whether a listing has no sandbox of a pod, not even a dead one.
fn shows_no_sandbox(listing: &Listing, uid: &Uid) -> bool {
    listing.pods.get(uid).is_none_or(|pod| pod.sandboxes.is_empty())
}

impl Machine for Node {
    type Input = Input;
    type Effect = Effect;

    fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Past(past) => self.past = past,
            Input::Kept(share) => self.desired(now, share, out),
            Input::Desired(share) => {
                self.confirmed = true;
                self.desired(now, share, out);
            }
            Input::Confirmed => {
                if let (false, Some(share)) = (self.confirmed, self.share.clone()) {
                    self.confirmed = true;
                    self.desired(now, share, out);
                }
            }
            Input::Observed(listing) => self.observed(now, listing, out),
            Input::Outcome(outcome) => self.outcome(now, outcome, out),
            Input::Progress { ticket, uid, progress } => self.progress(now, ticket, &uid, progress, out),
            Input::Probed(answer) => self.probed(now, &answer, out),
            Input::Fail { uid, reason, message, grace, condition } => {
                let pod = self.pods.get(&uid).filter(|pod| pod.memory.failure.is_none() && reason == "Evicted");
                if let Some(spec) = pod.and_then(|pod| pod.spec.as_ref()) {
                    out.push(event(&spec.pod, None, Severity::Warning, "Evicted", message.clone()));
                }
                let failure =
                    PodFailure { reason, message, condition: condition.map(|condition| (condition, now.wall)), refused: None };
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
            Input::Network(net) => self.network(now, net, out),
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
        self.keep_past(out);
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
        self.tell_again(now, out);
        self.unplugged(now, out);
        self.mind_devices(now, out);
        self.light(out);
        self.keep_past(out);
    }

    fn next_wake(&self) -> Option<Tick> {
        let pods =
            self.pods.values().flat_map(|pod| [pod.wake, pod.memory.probes.next_wake(), pod.lasting.next_wake()]).flatten();
        pods.chain(self.devices.next_wake()).min()
    }
}
