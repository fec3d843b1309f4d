//! The part of the node that minds devices: who gets which, what is offered, and what becomes of a pod whose device is unplugged.
//!
//! In:       [`Inventory`] whenever `/dev` changes; what running containers were given, from their labels.
//! Out:      each pod's grant in its memory, for `pods/plan/turn.rs`; [`Effect::Offer`]; pods given up.
//! Never:    decides which device (`agent/devices/allocate.rs`).
//!
//! ```text
//!  a device of a live pod is gone ─┬─ back within 3 s, the same file ────▶ nothing (USB enumerates anew)
//!                                  ├─ back within 3 s as another file ───▶ its container is restarted with that one
//!                                  └─ not back ──▶ the pod fails: DeviceUnplugged; a controller makes another, which waits until
//!                                                  the device is offered by some node
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::agent::devices::allocate::{self, Asking};
use crate::agent::devices::inventory::Inventory;
use crate::agent::devices::{Held, Offer, PREFIX, any_of};
use crate::agent::pods::known::{Pod, Severity, event};
use crate::agent::pods::lifecycle::PodState;
use crate::agent::pods::plan::{self, PodFailure};
use crate::agent::pods::spec::PodSpec;
use crate::api::Uid;
use crate::clock::{Now, Tick};

use super::{Effect, Node};

/// A device may be away for so long: a USB hub that enumerates anew takes one or two seconds.
const GLITCH: Duration = Duration::from_secs(3);

/// What the node knows of devices.
#[derive(Debug, Default)]
pub(super) struct Devices {
    /// What is plugged in; `None` until somebody has looked.
    inventory: Option<Inventory>,
    /// Devices of pods that are gone, and until when that is borne with; `None` once it was not.
    missing: BTreeMap<String, Option<Tick>>,
    offer: Offer,
}

impl Devices {
    /// What a container has is its own, also when another agent gave it.
    pub(super) fn learn(&self, pod: &mut Pod) {
        for run in pod.observed.containers.iter().filter(|run| !run.devices.is_empty()) {
            let newest = plan::newest(&pod.observed, &run.name).is_some_and(|newest| newest.id == run.id);
            let keeps = run.state.is_running() || pod.state == PodState::Live;
            if newest && keeps && !pod.memory.devices.contains_key(&run.name) {
                let held = run.devices.iter().cloned().map(|held| self.renewed(held)).collect();
                pod.memory.devices.insert(run.name.clone(), held);
            }
        }
    }

    /// The same device under the number that it has now.
    fn renewed(&self, held: Held) -> Held {
        let found = self.inventory.as_ref().and_then(|inventory| inventory.get(&held.device.key())).cloned();
        Held { device: found.unwrap_or(held.device), resource: held.resource }
    }

    /// When the next missing device is missed for good.
    pub(super) fn next_wake(&self) -> Option<Tick> {
        self.missing.values().copied().flatten().min()
    }
}

impl Node {
    /// Something was plugged in or out.
    pub(super) fn devices_seen(&mut self, now: Now, inventory: Inventory, out: &mut Vec<Effect>) {
        self.devices.inventory = Some(inventory);
        for pod in self.pods.values_mut() {
            for held in pod.memory.devices.values_mut().flatten() {
                *held = self.devices.renewed(held.clone());
            }
        }
        self.settle_users(now, out);
    }

    fn settle_users(&mut self, now: Now, out: &mut Vec<Effect>) {
        let users: Vec<Uid> = self.pods.iter().filter(|(_, pod)| uses_devices(pod)).map(|(uid, _)| uid.clone()).collect();
        for uid in users {
            self.settle(now, &uid, out);
        }
    }

    /// Gives a pod the devices that it asks for, or writes down why not; takes them back when nothing of it runs any more.
    pub(super) fn allot(&mut self, uid: &Uid) {
        let Some(pod) = self.pods.get(uid).filter(|pod| uses_devices(pod)) else { return };
        let (devices, lack) = match self.allotted(uid, pod) {
            Ok(grant) => (grant, None),
            Err(words) => (None, Some(words)),
        };
        if let Some(pod) = self.pods.get_mut(uid) {
            if let Some(devices) = devices {
                pod.memory.devices = devices;
            }
            pod.memory.no_device = lack;
        }
    }

    /// What a pod is to have from now on, `None`: what it has. Or why it cannot have what it asks for, in words for a person.
    fn allotted(&self, uid: &Uid, pod: &Pod) -> Result<Option<allocate::Grant>, String> {
        if pod.state != PodState::Live {
            let over = !pod.observed.containers.iter().any(|run| run.state.is_running());
            return Ok(over.then(allocate::Grant::new));
        }
        let Some(spec) = &pod.spec else { return Ok(None) };
        let Some(inventory) = &self.devices.inventory else {
            return Err("this node has not looked for its devices yet".to_owned());
        };
        let mut mine = pod.memory.devices.values().flatten();
        if let Some(gone) = mine.find(|held| inventory.get(&held.device.key()).is_none()) {
            return Err(format!("{PREFIX}{} ({}) was unplugged", gone.device.key(), gone.device.path()));
        }
        let asking: Vec<Asking<'_>> = spec
            .all()
            .map(|container| Asking {
                container: &container.name,
                ends_first: !container.sidecar && spec.init.iter().any(|init| init.name == container.name),
                wants: &container.devices,
                has: pod.memory.devices.get(&container.name).map(Vec::as_slice).unwrap_or_default(),
            })
            .collect();
        let others = || self.pods.iter().filter(|(other, _)| *other != uid).map(|(_, pod)| pod);
        let taken: BTreeSet<String> = others().flat_map(held).map(|held| held.device.key()).collect();
        let named: BTreeSet<String> = others()
            .filter(|pod| pod.state == PodState::Live)
            .flat_map(|pod| pod.spec.iter().flat_map(PodSpec::all))
            .flat_map(|container| container.devices.keys())
            .filter(|resource| any_of(resource).is_none())
            .filter_map(|resource| Some(resource.strip_prefix(PREFIX)?.to_owned()))
            .collect();
        let grant = allocate::grant(&asking, &taken, &named, inventory);
        grant.map(Some).map_err(|resource| format!("no free {resource} on this node"))
    }

    /// Says what is offered, when that changed; who waits for a device may have it now.
    pub(super) fn mind_devices(&mut self, now: Now, out: &mut Vec<Effect>) {
        let Some(inventory) = &self.devices.inventory else { return };
        let held_now: BTreeSet<String> = self.pods.values().flat_map(held).map(|held| held.device.key()).collect();
        let gone = |key: &String| inventory.get(key).is_none();
        self.devices.missing.retain(|key, _| held_now.contains(key) && gone(key));
        for key in held_now.into_iter().filter(gone) {
            self.devices.missing.entry(key).or_insert_with(|| Some(now.tick.after(GLITCH)));
        }
        let offer = allocate::offer(inventory, self.pods.values().flat_map(held));
        if offer == self.devices.offer {
            return;
        }
        self.devices.offer.clone_from(&offer);
        out.push(Effect::Offer(offer));
        let waiting: Vec<Uid> =
            self.pods.iter().filter(|(_, pod)| pod.memory.no_device.is_some()).map(|(uid, _)| uid.clone()).collect();
        if waiting.is_empty() {
            return;
        }
        for uid in waiting {
            self.settle(now, &uid, out);
        }
        // Ends: a pod that was given a device waits no more.
        self.mind_devices(now, out);
    }

    /// Gives up the pods whose devices did not come back.
    pub(super) fn unplugged(&mut self, now: Now, out: &mut Vec<Effect>) {
        let mut gone = BTreeSet::new();
        for (key, due) in &mut self.devices.missing {
            if due.is_some_and(|due| due <= now.tick) {
                *due = None;
                gone.insert(key.clone());
            }
        }
        if gone.is_empty() {
            return;
        }
        let mut lost = Vec::new();
        for (uid, pod) in self.pods.iter().filter(|(_, pod)| pod.state == PodState::Live) {
            let Some(spec) = &pod.spec else { continue };
            let mut all = pod.memory.devices.iter().flat_map(|(name, held)| held.iter().map(move |held| (name, held)));
            let Some((container, held)) = all.find(|(_, held)| gone.contains(&held.device.key())) else { continue };
            let (resource, path) = (&held.resource, held.device.path());
            let message = format!("{path} ({resource}) of container {container} was unplugged from node {}", self.config.name);
            out.push(event(&spec.pod, None, Severity::Warning, "DeviceUnplugged", message.clone()));
            lost.push((uid.clone(), message, spec.grace));
        }
        for (uid, message, grace) in lost {
            let failure = PodFailure { reason: "DeviceUnplugged".to_owned(), message, ..PodFailure::default() };
            self.fail(now, &uid, failure, grace, out);
        }
        self.mind_devices(now, out);
    }
}

fn held(pod: &Pod) -> impl Iterator<Item = &Held> {
    pod.memory.devices.values().flatten()
}

fn uses_devices(pod: &Pod) -> bool {
    let asks = pod.spec.as_ref().is_some_and(|spec| spec.all().any(|container| !container.devices.is_empty()));
    asks || !pod.memory.devices.is_empty()
}
