//! Brings one pod up to date: how far it has come, what is ordered for it, what is asked of it.
//!
//! In:       what is wanted and what there is of it, whenever one of them changed, and the answers of probes.
//! Out:      its state, at most one order, hooks and probes; then its status is worded (`telling.rs`).
//! Never:    decides which order (`pods/plan.rs`).

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::agent::hooks::HookOrder;
use crate::agent::images::progress::Told;
use crate::agent::past::{self, GivenUp};
use crate::agent::pods::admission::{self, Capacity, Rejection};
use crate::agent::pods::env::Sources;
use crate::agent::pods::image::{self, Fetches};
use crate::agent::pods::known::{Pod, Severity, event, expire, field_path, tell, tell_ending};
use crate::agent::pods::lifecycle::PodState;
use crate::agent::pods::plan::{self, About, Memory, PodFailure};
use crate::agent::prober::Answer;
use crate::agent::register;
use crate::agent::runtime::Command;
use crate::api::Uid;
use crate::api::image::repository;
use crate::clock::{Now, Tick};
use crate::link::share::Share;

use super::{Effect, Node, Order};

/// So long a node that was never told of the network waits for that before it begins its first pods.
const NETWORK: Duration = Duration::from_secs(5);

impl Node {
    /// The node gives a pod up.
    pub(super) fn fail(&mut self, now: Now, uid: &Uid, failure: PodFailure, grace: Duration, out: &mut Vec<Effect>) {
        let Some(pod) = self.pods.get_mut(uid) else { return };
        match pod.state {
            PodState::Live => pod.memory.failure = Some(GivenUp::new(failure, grace)),
            // It ends already, and not sooner by itself.
            PodState::Ending { .. } if pod.memory.failure.is_some() => {}
            PodState::Ending { .. } | PodState::Finished | PodState::Terminating { .. } | PodState::Gone => return,
        }
        pod.state = pod.state.end(now.tick, grace);
        self.settle(now, uid, out);
    }

    /// Brings one pod's state, order, status and light up to date.
    pub(super) fn settle(&mut self, now: Now, uid: &Uid, out: &mut Vec<Effect>) {
        let Some(share) = self.share.clone() else { return };
        let free = self.pods.values().filter(|pod| pod.pulls()).count() < self.config.pulls.0;
        let under_way: BTreeSet<String> = self.pods.values().filter_map(Pod::pulled_image).map(repository).collect();
        let no_place = self.no_place(uid, &share);
        let Some(pod) = self.pods.get_mut(uid) else { return };
        let wanted = share.pods.contains_key(uid);
        if self.listed.is_none() || !pod.seen || !(wanted || self.confirmed) {
            return;
        }
        // Given up by the agent before this one, which did not live to see its end.
        if let Some(given_up) = &pod.memory.failure
            && pod.state == PodState::Live
        {
            pod.state = pod.state.end(now.tick, given_up.grace());
        }
        if wanted && pod.state == PodState::Live {
            pod.memory.begun.get_or_insert(now.wall);
        }
        // What runs was taken once, by this agent or by the one before it.
        if let Some(spec) = &pod.spec
            && wanted
            && pod.state == PodState::Live
            && pod.observed.is_nothing()
            && pod.flight.is_none()
            && spec.final_status.is_none()
            && let Some(Rejection { reason, message }) = admission::rejection(spec, &self.config.allowed_sysctls).or(no_place)
        {
            out.push(event(&spec.pod, None, Severity::Warning, reason, message.clone()));
            let message = format!("Pod was rejected: {message}");
            let failure = PodFailure { reason: reason.to_owned(), message, refused: Some(now.wall), ..PodFailure::default() };
            pod.memory.failure = Some(GivenUp::new(failure, Duration::ZERO));
            pod.state = pod.state.end(now.tick, Duration::ZERO);
        }
        if let Some(spec) = &pod.spec
            && plan::is_finished(spec, &pod.observed, &pod.memory.probes)
        {
            pod.state = pod.state.end(now.tick, spec.grace);
        }
        let active_until = if pod.state == PodState::Live { expire(pod, now, out) } else { None };
        if !pod.observed.containers.iter().any(|run| run.state.is_running()) {
            pod.state = pod.state.finish();
        }
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
            self.past.pods.remove(uid);
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
        let waits = self.waits_for_network(now, uid);
        let Some(pod) = self.pods.get_mut(uid) else { return };
        let host_ip = self.config.host_ips.first().map(String::as_str).unwrap_or_default();
        let sandbox = pod.observed.sandboxes.last().filter(|sandbox| sandbox.ip.is_some());
        let address = sandbox.and_then(|sandbox| sandbox.ip.clone()).unwrap_or_else(|| host_ip.to_owned());
        let pod_ips = sandbox.map_or_else(|| self.config.host_ips.join(","), |sandbox| sandbox.addresses().join(","));
        let net = self.net.clone();
        let sources = Sources {
            share: &share,
            net: &net,
            node_name: &self.config.name,
            host_ips: &self.config.host_ips,
            pod_ips: &pod_ips,
            node: self.config.amounts,
        };
        pod.wants_slot = false;
        pod.wake = active_until;
        // A pod that ends wants no image any more, nor the files of one.
        if let Some((ticket, About::Pull(_) | About::Start(_))) = pod.flight
            && pod.state != PodState::Live
            && pod.given_up.replace(ticket) != Some(ticket)
        {
            out.push(Effect::Run(Order { ticket, pod: pod.pod_ref(), command: Command::Cancel }));
        }
        if let Some(until) = waits {
            pod.wake = pod.wake.into_iter().chain([until]).min();
        } else if pod.flight.is_none() {
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
        self.remember(uid);
        self.word(now, uid, out);
    }

    /// Until when a pod that has not begun waits, on a node that was never told of the network: it would lack the variables of services.
    /// Source: the kubelet waits until services have synced once. Differs: not for ever.
    fn waits_for_network(&mut self, now: Now, uid: &Uid) -> Option<Tick> {
        if !self.config.network || self.net.network.is_some() {
            return None;
        }
        let pod = self.pods.get(uid)?;
        let begins = pod.state == PodState::Live && pod.observed.is_nothing() && pod.flight.is_none();
        if !begins {
            return None;
        }
        let until = *self.network_until.get_or_insert(now.tick.after(NETWORK));
        (now.tick < until).then_some(until)
    }

    /// The network is known, or another: who waits for it begins.
    pub(super) fn network(&mut self, now: Now, net: Arc<Share>, out: &mut Vec<Effect>) {
        let first = self.net.network.is_none();
        self.net = net;
        if first {
            let uids: Vec<Uid> = self.pods.keys().cloned().collect();
            for uid in uids {
                self.settle(now, &uid, out);
            }
        }
    }

    /// Whether there is no place for a pod that is here for the first time. What ran here once was taken then.
    fn no_place(&self, uid: &Uid, share: &Share) -> Option<Rejection> {
        let (pod, wanted) = (self.pods.get(uid)?, share.pods.get(uid)?);
        let is_new = |pod: &Pod| pod.memory.begun.is_none() && pod.observed.is_nothing();
        let ran = pod.spec.as_ref().is_some_and(|spec| !spec.known_restarts.is_empty() || spec.deletion.is_some());
        if !is_new(pod) || ran || self.listed.is_none() || !pod.seen || pod.state != PodState::Live {
            return None;
        }
        let holds = |pod: &Pod| {
            let over = matches!(pod.state, PodState::Finished | PodState::Gone)
                || pod.memory.failure.as_ref().is_some_and(|given_up| given_up.failure.refused.is_some())
                || pod.spec.as_ref().is_some_and(|spec| spec.final_status.is_some());
            !is_new(pod) && !over
        };
        let taken = share.pods.iter().filter(|(other, _)| *other != uid && self.pods.get(other).is_some_and(holds));
        let capacity = Capacity { amounts: self.config.amounts, pods: register::PODS };
        let node = share.labels.as_ref().map(|labels| admission::node(&self.config.name, labels));
        admission::no_place(wanted, taken.map(|(_, pod)| &**pod), capacity, node.as_ref())
    }

    /// Takes a pod up of which no agent's life has told yet: with what the agent before this one wrote down of it.
    pub(super) fn remembered(&self, uid: &Uid) -> Pod {
        let mut pod = Pod::new(uid);
        if let Some(past) = self.past.pods.get(uid) {
            pod.observed.containers.extend(past.containers());
            pod.memory.failure.clone_from(&past.failure);
            pod.memory.address.last = past.addresses().cloned().collect();
        }
        pod
    }

    /// Has written down what decides whether something of it runs again.
    fn remember(&mut self, uid: &Uid) {
        let Some(pod) = self.pods.get(uid) else { return };
        let Some(spec) = &pod.spec else { return };
        if spec.final_status.is_some() {
            // The master knows how it ended, and the share says so: it goes with the next change.
            self.past.pods.remove(uid);
            return;
        }
        // Of what is to go nothing has to be known any more.
        if matches!(pod.state, PodState::Terminating { .. } | PodState::Gone) {
            return;
        }
        let past = past::of_pod(spec, &pod.observed, pod.memory.failure.as_ref(), &pod.memory.address.last);
        if past.as_ref() == self.past.pods.get(uid) {
            return;
        }
        self.past_changed = true;
        match past {
            Some(past) => self.past.pods.insert(uid.clone(), past),
            None => self.past.pods.remove(uid),
        };
    }

    /// Asks what is due of a pod; `true` when its status is to be worded now.
    pub(super) fn probe(&mut self, now: Now, uid: &Uid, out: &mut Vec<Effect>) -> bool {
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
    pub(super) fn probed(&mut self, now: Now, answer: &Answer, out: &mut Vec<Effect>) {
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::node::{Input, NodeConfig};
    use crate::agent::runtime::Listing;
    use crate::api::Object;
    use crate::clock::Wall;
    use crate::link::network::ClusterNetwork;
    use crate::step::Machine;
    use serde_json::json;

    #[test]
    fn the_first_pods_of_a_node_wait_for_the_network_but_not_for_ever() {
        let pod = json!({"metadata": {"name": "web", "namespace": "a", "uid": "u"},
            "spec": {"nodeName": "pi", "containers": [{"name": "c", "image": "web:1"}]}});
        let share = Share { pods: [("u".into(), Arc::new(Object::from_value(pod).unwrap()))].into(), ..Share::default() };
        let net = Arc::new(Share { network: Some(ClusterNetwork::default()), ..Share::default() });
        let run = |network: bool, told: Option<u64>| -> Vec<u64> {
            let mut node = Node::new(NodeConfig { name: "pi".into(), network, ..NodeConfig::default() });
            let mut ordered = Vec::new();
            for tick in (0..8000).step_by(500) {
                let now = Now { tick: Tick(tick), wall: Wall(0) };
                let mut out = Vec::new();
                if tick == 0 {
                    node.handle(now, Input::Desired(Arc::new(share.clone())), &mut out);
                    let listing = Listing { pods: [].into(), stamp: 1, only: None, scheme: None };
                    node.handle(now, Input::Observed(listing), &mut out);
                }
                if told == Some(tick) {
                    node.handle(now, Input::Network(net.clone()), &mut out);
                }
                node.wake(now, &mut out);
                ordered.extend(out.iter().filter(|effect| matches!(effect, Effect::Run(_))).map(|_| tick));
            }
            ordered
        };
        assert_eq!(run(false, None), [0], "nobody tells it of the network");
        assert_eq!(run(true, Some(1000)), [1000]);
        assert_eq!(run(true, None), [5000]);
    }
}
