//! A runtime without containers: the same commands and outcomes, in a model with a clock that is given.
//!
//! In:       [`Input::Execute`]; what a pod does is scripted by its annotation `bramble/simulate`.
//! Out:      [`Effect::Outcome`], and [`Effect::Changed`] where there is something new to see.
//! Never:    sleeps or opens anything: `run.rs` beside it is the hand, the tests drive it by themselves.
//!
//! Words of `bramble/simulate`, divided by blanks: `exit=CODE` ends each container with that code, `after=2s` (also `ms`,
//! `m`) so long after its start, `only=NAME` just the one of that name; `pull-fails` finds no image; `offline` reaches no
//! registry; `unpacks=60s` has the files of image volumes unpacked for so long before each start; `deaf` ends on KILL only. Without it containers run for ever. What is asked of a container (probes, commands
//! that are run in it) goes well unless `sick` says otherwise: always, `sick-until=2s` or `sick-after=2s` of its running.

pub mod run;
mod usage;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{
    Command, ContainerPlan, Done, Failure, Limits, Listing, ObservedContainer, ObservedPod, ObservedSandbox, PodRef, RunState,
    Signal, naming,
};
use crate::api::Uid;
use crate::api::image::{Platform, Platforms};
use crate::clock::{Now, Tick, Wall};
use crate::step::Machine;

/// The annotation with a pod's script.
pub const ANNOTATION: &str = "bramble/simulate";

/// How the model behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long an image takes that is not here yet.
    pub pull: Duration,
    /// How large each image is.
    pub image_bytes: u64,
    /// Sets the pods' addresses of this node apart from others': the third number of `10.244.N.x`.
    pub subnet: u8,
    /// What the node is; without an architecture it runs everything.
    pub platform: Platform,
}

impl Default for Settings {
    fn default() -> Self {
        Self { pull: Duration::from_secs(2), image_bytes: 25_000_000, subnet: 0, platform: Platform::default() }
    }
}

/// What a pod's containers do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    /// Ends with this code.
    pub exit: Option<i64>,
    /// So long after its start.
    pub after: Duration,
    /// Only the container of this name ends.
    pub only: Option<String>,
    /// No image is found.
    pub pull_fails: bool,
    /// No registry is reached.
    pub offline: bool,
    /// Its volumes hold more than they may.
    pub fills: bool,
    /// So long the files of its image volumes are unpacked, before each start.
    pub unpacks: Option<Duration>,
    /// TERM is not heard.
    pub deaf: bool,
    /// What is asked of its containers fails until they have run so long.
    pub sick_until: Option<Duration>,
    /// What is asked of its containers fails from so long after their start.
    pub sick_after: Option<Duration>,
}

impl Script {
    /// Reads the annotation; words that are not known mean nothing.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut script = Self::default();
        for word in text.split_ascii_whitespace() {
            match word.split_once('=') {
                Some(("exit", code)) => script.exit = code.parse().ok(),
                Some(("only", name)) => script.only = Some(name.to_owned()),
                Some(("unpacks", time)) => script.unpacks = duration(time),
                Some(("after", time)) => script.after = duration(time).unwrap_or_default(),
                None if word == "fills" => script.fills = true,
                None if word == "pull-fails" => script.pull_fails = true,
                None if word == "offline" => script.offline = true,
                Some(("sick-until", time)) => script.sick_until = duration(time),
                Some(("sick-after", time)) => script.sick_after = duration(time),
                None if word == "sick" => script.sick_after = Some(Duration::ZERO),
                None if word == "deaf" => script.deaf = true,
                _ => {}
            }
        }
        script
    }
}

fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" | "" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_secs(number.checked_mul(60)?)),
        _ => None,
    }
}

/// What an image is made for, by the end of its tag, as many publishers name theirs: `tool:1-amd64`, `tool:1-arm64`, `tool:1-armv7`.
/// Any other image is for every machine: nothing.
#[must_use]
pub fn made_for(image: &str) -> Vec<Platform> {
    let tag = image.rsplit('/').next().and_then(|name| name.split_once(':')).map(|(_, tag)| tag).unwrap_or_default();
    let (architecture, variant) = match tag.rsplit('-').next().unwrap_or_default() {
        "armv6" => ("arm", "v6"),
        "armv7" => ("arm", "v7"),
        word @ ("amd64" | "arm64" | "386") => (word, ""),
        _ => return Vec::new(),
    };
    vec![Platform::new("linux", architecture, variant)]
}

/// What can happen to the model.
#[derive(Clone, Debug)]
pub enum Input {
    /// A command with a number that comes back.
    Execute {
        /// Comes back.
        id: u64,
        /// Whose.
        pod: PodRef,
        /// What.
        command: Command,
    },
    /// Somebody outside kills what has this id: `docker kill`.
    KillOutside(String),
    /// Somebody outside removes the container with this id: `docker rm -f`.
    RemoveOutside(String),
    /// Somebody outside takes the sandbox with this id off its network: `docker network disconnect`.
    DisconnectOutside(String),
}

/// What the model gives.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// A command is done.
    Outcome {
        /// The command's number.
        id: u64,
        /// What became of it.
        result: Result<Done, Failure>,
    },
    /// There is something new to see of this pod.
    Changed(Uid),
}

#[derive(Debug, Default)]
struct Pod {
    observed: ObservedPod,
    script: Script,
    /// What the pod asks for, by container's name: it uses about as much.
    wants: BTreeMap<String, Limits>,
}

/// The model.
#[derive(Debug)]
pub struct Simulated {
    settings: Settings,
    pods: BTreeMap<Uid, Pod>,
    images: BTreeSet<String>,
    /// Pulls under way: when they end, the command's number, the image.
    pulls: BTreeSet<(Tick, u64, String)>,
    /// Starts that wait for an image volume's files: until when, and by which number.
    unpacks: BTreeMap<(Tick, u64), (PodRef, Box<ContainerPlan>)>,
    /// Containers that will end: when, whose, the id.
    exits: BTreeSet<(Tick, Uid, String)>,
    stamp: u64,
    made: u64,
}

impl Simulated {
    /// An empty runtime.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            pods: BTreeMap::new(),
            images: BTreeSet::new(),
            pulls: BTreeSet::new(),
            unpacks: BTreeMap::new(),
            exits: BTreeSet::new(),
            stamp: 0,
            made: 0,
        }
    }

    /// What there is, of one pod or of all.
    pub fn listing(&mut self, only: Option<&Uid>) -> Listing {
        self.stamp += 1;
        let there = |pod: &Pod| {
            !(pod.observed.containers.is_empty() && pod.observed.sandboxes.is_empty() && pod.observed.volumes.is_empty())
        };
        let pods = match only {
            Some(uid) => self.pods.get_key_value(uid).into_iter().collect::<Vec<_>>(),
            None => self.pods.iter().collect(),
        };
        let pods = pods.into_iter().filter(|(_, pod)| there(pod)).map(|(uid, pod)| (uid.clone(), pod.observed.clone())).collect();
        Listing { stamp: self.stamp, only: only.cloned(), scheme: None, pods }
    }

    /// One container, newest run last.
    pub fn runs(&self, uid: &Uid, container: &str) -> impl Iterator<Item = &ObservedContainer> {
        let pod = self.pods.get(uid);
        pod.into_iter().flat_map(|pod| &pod.observed.containers).filter(move |run| run.name == container)
    }

    /// How a running container answers what it is asked: a command's exit code, by its pod's script. `None`: it does not run.
    #[must_use]
    pub fn answer(&self, now: Now, id: &str) -> Option<i64> {
        let (script, started) = self.pods.values().find_map(|pod| {
            let run = pod.observed.containers.iter().find(|run| run.id == id)?;
            let RunState::Running { started } = run.state else { return None };
            Some((&pod.script, started))
        })?;
        let ran = Duration::from_millis(u64::try_from(now.wall.0.saturating_sub(started.0)).unwrap_or_default());
        let sick = script.sick_until.is_some_and(|until| ran < until) || script.sick_after.is_some_and(|after| ran >= after);
        Some(i64::from(sick))
    }

    fn id(&mut self) -> String {
        self.made += 1;
        // As long as Docker's, so that tables look as they do there.
        format!("{:064x}", u128::from(self.made).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
    }

    /// Carries out what takes no time; `None`: it takes some.
    fn execute(&mut self, now: Now, id: u64, pod: &PodRef, command: Command) -> Option<Result<Done, Failure>> {
        Some(match command {
            Command::StartSandbox(plan) => {
                let sandbox_id = self.id();
                let address = format!("10.244.{}.{}", self.settings.subnet, self.made % 250 + 2);
                let known = self.pods.entry(pod.uid.clone()).or_default();
                known.observed.pod = plan.pod.clone();
                known.script = plan.annotations.get(ANNOTATION).map(|text| Script::parse(text)).unwrap_or_default();
                known.observed.volumes = plan.volumes.iter().map(|volume| naming::volume_name(pod, &volume.name)).collect();
                known.observed.sandboxes.push(ObservedSandbox {
                    id: sandbox_id.clone(),
                    attempt: plan.attempt,
                    pod_start: plan.pod_start,
                    grace: plan.grace,
                    state: RunState::Running { started: now.wall },
                    ip: (!plan.host_network).then_some(address),
                    ip6: None,
                    off_network: false,
                });
                Ok(Done::Started { id: sandbox_id, created: true, warnings: Vec::new() })
            }
            // It has no disk.
            Command::SetUpVolumes(_) => Ok(Done::Ok),
            Command::MeasureVolumes { volumes } => {
                let full = self.pods.get(&pod.uid).is_some_and(|pod| pod.script.fills);
                let bytes = if full { u64::MAX } else { 0 };
                Ok(Done::Measured(volumes.into_iter().map(|volume| (volume, bytes)).collect()))
            }
            Command::FindImage { image } => Ok(Done::Image { present: self.images.contains(&image), foreign: None }),
            Command::PullImage { image, .. } => {
                if self.pods.get(&pod.uid).is_some_and(|pod| pod.script.pull_fails) {
                    let text = format!("manifest for {image} not found: manifest unknown (simulated)");
                    return Some(Err(Failure::Refused(text)));
                }
                if self.pods.get(&pod.uid).is_some_and(|pod| pod.script.offline) {
                    return Some(Err(Failure::Failed("no route to host (simulated)".to_owned())));
                }
                let node = Platforms { own: self.settings.platform.clone(), emulated: Vec::new() };
                if let Some(why) = node.unfit(&image, &made_for(&image)) {
                    return Some(Err(Failure::Unfit(why)));
                }
                self.pulls.insert((now.tick.after(self.settings.pull), id, image));
                return None;
            }
            Command::Cancel => {
                let before = self.pulls.len() + self.unpacks.len();
                self.pulls.retain(|(_, pull, _)| *pull != id);
                self.unpacks.retain(|(_, unpack), _| *unpack != id);
                if self.pulls.len() + self.unpacks.len() == before {
                    // It is past that: its own outcome tells.
                    return None;
                }
                Err(Failure::given_up())
            }
            Command::StartContainer(plan) => {
                if let Some(time) = self.pods.get(&pod.uid).and_then(|pod| pod.script.unpacks) {
                    self.unpacks.insert((now.tick.after(time), id), (pod.clone(), plan));
                    return None;
                }
                self.start(now, pod, &plan)
            }
            Command::Signal { ids, signal } => {
                let deaf = self.pods.get(&pod.uid).is_some_and(|pod| pod.script.deaf) && signal == Signal::Term;
                let code = if signal == Signal::Term { 143 } else { 137 };
                for id in ids.iter().filter(|_| !deaf) {
                    self.end(now.wall, &pod.uid, id, code);
                }
                Ok(Done::Ok)
            }
            Command::RemoveContainers { ids } => {
                if let Some(known) = self.pods.get_mut(&pod.uid) {
                    known.observed.containers.retain(|run| !ids.contains(&run.id));
                    known.observed.sandboxes.retain(|sandbox| !ids.contains(&sandbox.id));
                }
                Ok(Done::Ok)
            }
            Command::RemovePod => {
                self.pods.remove(&pod.uid);
                Ok(Done::Ok)
            }
        })
    }

    /// A container runs from now on.
    fn start(&mut self, now: Now, pod: &PodRef, plan: &ContainerPlan) -> Result<Done, Failure> {
        let container_id = self.id();
        let Some(known) = self.pods.get_mut(&pod.uid) else {
            return Err(Failure::Failed("no such sandbox".to_owned()));
        };
        known.wants.insert(plan.name.clone(), plan.limits);
        known.observed.left.insert(plan.name.clone(), plan.attempt);
        known.observed.containers.push(ObservedContainer {
            id: container_id.clone(),
            name: plan.name.clone(),
            attempt: plan.attempt,
            streak: plan.streak,
            spec_hash: plan.spec_hash.clone(),
            image: plan.image.clone(),
            image_id: format!("simulated://{}", plan.image),
            sandbox_id: plan.sandbox_id.clone(),
            devices: plan.devices.clone(),
            state: RunState::Running { started: now.wall },
            ..ObservedContainer::default()
        });
        known.observed.containers.sort_by(|a, b| (&a.name, a.attempt).cmp(&(&b.name, b.attempt)));
        if known.script.exit.is_some() && known.script.only.as_ref().is_none_or(|only| *only == plan.name) {
            self.exits.insert((now.tick.after(known.script.after), pod.uid.clone(), container_id.clone()));
        }
        Ok(Done::Started { id: container_id, created: true, warnings: Vec::new() })
    }

    /// A container or a sandbox ends; `false` when it did not run.
    fn end(&mut self, wall: Wall, uid: &Uid, id: &str, exit_code: i64) -> bool {
        let Some(pod) = self.pods.get_mut(uid) else { return false };
        let containers = pod.observed.containers.iter_mut().map(|run| (&run.id, &mut run.state));
        let sandboxes = pod.observed.sandboxes.iter_mut().map(|sandbox| (&sandbox.id, &mut sandbox.state));
        for (known, state) in containers.chain(sandboxes) {
            if let (true, RunState::Running { started }) = (known == id, &*state) {
                *state = RunState::Exited { started: *started, finished: wall, exit_code, oom: false, error: None };
                return true;
            }
        }
        false
    }
}

impl Machine for Simulated {
    type Input = Input;
    type Effect = Effect;

    fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Execute { id, pod, command } => {
                if let Some(result) = self.execute(now, id, &pod, command) {
                    out.push(Effect::Outcome { id, result });
                    out.push(Effect::Changed(pod.uid));
                }
            }
            Input::KillOutside(id) => {
                let uids: Vec<Uid> = self.pods.keys().cloned().collect();
                out.extend(uids.into_iter().filter(|uid| self.end(now.wall, uid, &id, 137)).map(Effect::Changed));
            }
            Input::DisconnectOutside(id) => {
                for (uid, pod) in &mut self.pods {
                    for sandbox in pod.observed.sandboxes.iter_mut().filter(|sandbox| sandbox.id == id) {
                        (sandbox.ip, sandbox.off_network) = (None, true);
                        out.push(Effect::Changed(uid.clone()));
                    }
                }
            }
            Input::RemoveOutside(id) => {
                for (uid, pod) in &mut self.pods {
                    let before = pod.observed.containers.len();
                    pod.observed.containers.retain(|run| run.id != id);
                    if pod.observed.containers.len() < before {
                        out.push(Effect::Changed(uid.clone()));
                    }
                }
            }
        }
    }

    fn wake(&mut self, now: Now, out: &mut Vec<Effect>) {
        while let Some(pull) = self.pulls.first().filter(|pull| pull.0 <= now.tick).cloned() {
            self.pulls.remove(&pull);
            let (_, id, image) = pull;
            self.images.insert(image);
            let result = Ok(Done::Pulled { took: self.settings.pull, bytes: self.settings.image_bytes, foreign: None });
            out.push(Effect::Outcome { id, result });
        }
        while let Some(unpack) = self.unpacks.first_entry().filter(|unpack| unpack.key().0 <= now.tick) {
            let ((_, id), (pod, plan)) = unpack.remove_entry();
            let result = self.start(now, &pod, &plan);
            out.push(Effect::Outcome { id, result });
            out.push(Effect::Changed(pod.uid));
        }
        while let Some(exit) = self.exits.first().filter(|exit| exit.0 <= now.tick).cloned() {
            self.exits.remove(&exit);
            let (_, uid, id) = exit;
            let code = self.pods.get(&uid).and_then(|pod| pod.script.exit).unwrap_or_default();
            if self.end(now.wall, &uid, &id, code) {
                out.push(Effect::Changed(uid));
            }
        }
    }

    fn next_wake(&self) -> Option<Tick> {
        let pull = self.pulls.first().map(|pull| pull.0);
        let unpack = self.unpacks.keys().next().map(|unpack| unpack.0);
        let exit = self.exits.first().map(|exit| exit.0);
        pull.into_iter().chain(unpack).chain(exit).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_for_what_its_tag_ends_with() {
        for (image, platforms) in [
            ("tool", ""),
            ("tool:1", ""),
            ("tool-amd64", ""),
            ("tool:1-amd64", "linux/amd64"),
            ("home:5000/a/tool:arm64", "linux/arm64"),
            ("tool:1-armv7", "linux/arm/v7"),
        ] {
            let listed: Vec<String> = made_for(image).iter().map(ToString::to_string).collect();
            assert_eq!(listed.join(" "), platforms, "{image}");
        }
    }

    #[test]
    fn scripts_read_as_documented() {
        let exit = |exit, after| Script { exit: Some(exit), after: Duration::from_millis(after), ..Script::default() };
        for (text, script) in [
            ("", Script::default()),
            ("exit=1 after=2s", exit(1, 2000)),
            ("after=250ms exit=0", exit(0, 250)),
            ("exit=3 after=1m", exit(3, 60_000)),
            ("pull-fails", Script { pull_fails: true, ..Script::default() }),
            ("deaf", Script { deaf: true, ..Script::default() }),
            ("sick", Script { sick_after: Some(Duration::ZERO), ..Script::default() }),
            (
                "sick-until=1s sick-after=2s",
                Script {
                    sick_until: Some(Duration::from_secs(1)),
                    sick_after: Some(Duration::from_secs(2)),
                    ..Script::default()
                },
            ),
            ("exit=x after=9y what", Script::default()),
        ] {
            assert_eq!(Script::parse(text), script, "{text}");
        }
    }
}
