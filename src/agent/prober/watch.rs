//! The probes of one pod: whose containers are asked what and when, and what the answers mean for the pod.
//!
//! In:       spec and observation whenever they change, answers, `now`, chance.
//! Out:      [`Order`]s for the hand; who has started, who is ready, who is to be killed; words for `kubectl describe`.
//! Never:    asks or kills by itself (`run.rs`, `pods/plan.rs`).
//! Source:   the kubelet's prober_manager.go and worker.go.
//!
//! * Readiness begins as "no", liveness as "yes"; startup holds both back, and is over for good once it succeeded. While a pod
//!   ends, only readiness goes on (upstream's StopLivenessAndStartup).
//! * **A container that ran before this agent did** (adoption). Nobody has kept whether it was ready: the share has no status,
//!   and writing each change to a card would wear it. Upstream begins at "not ready" and takes a healthy pod out of its
//!   services whenever a kubelet restarts. Here its startup and readiness probes are asked at once, and the pod's status is
//!   held back until the first answers (at most `HELD` each): the master keeps what it knew, and then hears what is true now.
//!   Failures are counted from 0, so that an agent's restart never makes a kill come sooner.
//! * What a probe says repeatedly is an event at once, and again when the verdict turns, when the words change (at most every
//!   `OTHER_WORDS`) and every `SAME_WORDS`: upstream sends each one and drops most of them later.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::agent::pods::lifecycle::PodState;
use crate::agent::pods::plan::newest;
use crate::agent::pods::spec::{ContainerSpec, PodSpec, Probe};
use crate::agent::runtime::{ObservedPod, RunState};
use crate::clock::{Now, Tick, Wall};
use crate::rng::Rng;

use super::verdict::{self, Answer, Sign};
use super::worker::{Verdict, Worker};
use super::{Ask, Kind, Order, Ticket};

/// The longest that a status is held back after adoption for one answer.
const HELD: Duration = Duration::from_secs(10);
/// What was just said is said again after this.
const SAME_WORDS: Duration = Duration::from_secs(60);
/// Something else may be said after this.
const OTHER_WORDS: Duration = Duration::from_secs(10);

/// A container that a probe condemned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failing {
    /// Which probe.
    pub kind: Kind,
    /// The probe's own grace.
    pub grace: Option<Duration>,
}

/// What an answer came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Whose it was.
    pub container: String,
    /// Reason and message of an event.
    pub words: Option<(&'static str, String)>,
    /// The pod is to be looked at anew.
    pub changed: bool,
    /// Nobody waited for it.
    pub late: bool,
}

/// The probes of one pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    /// By the runtime's id; running ones only.
    runs: BTreeMap<String, Run>,
    /// By the runtime's id, for as long as the runtime shows it.
    failing: BTreeMap<String, Failing>,
    /// By container: the id that we started last ourselves.
    born: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Run {
    container: String,
    /// How long it had run when it was first seen, and when that was.
    ran: Duration,
    seen: Tick,
    workers: BTreeMap<Kind, Worker>,
    started: bool,
    ready: bool,
    turned: Option<Wall>,
    adopted: bool,
    held: Option<Tick>,
    said: BTreeMap<Kind, (Tick, String)>,
}

fn of(container: &ContainerSpec, kind: Kind) -> Option<&Probe> {
    match kind {
        Kind::Startup => container.probes.startup.as_ref(),
        Kind::Liveness => container.probes.liveness.as_ref(),
        Kind::Readiness => container.probes.readiness.as_ref(),
    }
}

fn probed(spec: &PodSpec) -> impl Iterator<Item = &ContainerSpec> {
    let sidecars = spec.init.iter().filter(|container| container.sidecar);
    sidecars.chain(&spec.containers).filter(|container| !container.probes.is_empty())
}

impl Watch {
    /// We have just started this container, so it has never been ready.
    pub fn born(&mut self, container: &str, id: &str) {
        self.born.insert(container.to_owned(), id.to_owned());
    }

    /// Takes in what runs now.
    pub fn follow(
        &mut self,
        spec: &PodSpec,
        observed: &ObservedPod,
        state: PodState,
        now: Now,
        rng: &mut Rng,
        out: &mut Vec<Order>,
    ) {
        self.failing.retain(|id, _| observed.containers.iter().any(|run| run.id == *id));
        let alive = match state {
            PodState::Live | PodState::Ending { .. } | PodState::Terminating { .. } => true,
            PodState::Finished | PodState::Gone => false,
        };
        let mut there = BTreeSet::new();
        for container in probed(spec).filter(|_| alive) {
            let Some(run) = newest(observed, &container.name) else { continue };
            let RunState::Running { started } = run.state else { continue };
            there.insert(run.id.clone());
            if !self.runs.contains_key(&run.id) {
                let adopted = self.born.remove(&container.name).is_none_or(|id| id != run.id);
                self.runs.insert(run.id.clone(), Run::new(container, adopted, ran(started, now), now.tick, rng));
            }
        }
        self.runs.retain(|id, run| {
            if matches!(state, PodState::Ending { .. } | PodState::Terminating { .. }) {
                run.workers.retain(|kind, _| *kind == Kind::Readiness);
                run.held = None;
            }
            let stays = there.contains(id);
            if !stays {
                out.push(Order::Forget(id.clone()));
            }
            stays
        });
    }

    /// Asks what is due. `true`: what was held back is to be said now.
    pub fn due(&mut self, spec: &PodSpec, addresses: &[String], now: Tick, numbers: &mut u64, out: &mut Vec<Order>) -> bool {
        let mut released = false;
        for (id, run) in &mut self.runs {
            released |= run.held.take_if(|until| *until <= now).is_some();
            let condemned = self.failing.contains_key(id);
            let Some(container) = probed(spec).find(|container| container.name == run.container) else { continue };
            for (&kind, worker) in run.workers.iter_mut().filter(|(kind, _)| !condemned || **kind == Kind::Readiness) {
                let Some(probe) = of(container, kind) else { continue };
                if !worker.ask(probe, now, numbers.saturating_add(1)) {
                    continue;
                }
                *numbers = numbers.saturating_add(1);
                let ticket = Ticket { uid: spec.pod.uid.clone(), container: id.clone(), kind, number: *numbers };
                let (action, timeout) = (probe.action.clone(), probe.timeout);
                out.push(Order::Ask(Box::new(Ask { ticket, action, addresses: addresses.to_vec(), timeout })));
            }
        }
        released
    }

    /// When [`Watch::due`] has something to do.
    #[must_use]
    pub fn next_wake(&self) -> Option<Tick> {
        let workers = self.runs.iter().flat_map(|(id, run)| {
            let condemned = self.failing.contains_key(id);
            run.workers.iter().filter(move |(kind, _)| !condemned || **kind == Kind::Readiness).map(|(_, worker)| worker.due())
        });
        workers.chain(self.runs.values().filter_map(|run| run.held)).min()
    }

    /// Takes in an answer.
    pub fn answer(&mut self, spec: &PodSpec, answer: &Answer, now: Now, rng: &mut Rng) -> Heard {
        let Ticket { container: id, kind, number, uid: _ } = &answer.ticket;
        let late = Heard { late: true, ..Heard::default() };
        let Some(run) = self.runs.get_mut(id) else { return late };
        let Some(container) = probed(spec).find(|container| container.name == run.container) else { return late };
        let (Some(probe), Some(worker)) = (of(container, *kind), run.workers.get_mut(kind)) else { return late };
        if self.failing.contains_key(id) && *kind != Kind::Readiness {
            return late;
        }
        let before = worker.clone();
        let turn = worker.answer(probe, now.tick, *number, &answer.sign);
        if *worker == before {
            return late;
        }
        let (failures, first) = (worker.failures(), !before.answered());
        // A server that is still starting is not worth a word.
        let lenient = matches!(answer.sign, Sign::Bad(_)) && worker.lenient() < before.lenient();
        let mut changed = turn.is_some();
        match (kind, turn) {
            (_, None) => {}
            (Kind::Startup, Some(Verdict::Well)) => {
                // Readiness is asked only now, and has the whole time for its answer.
                if let Some(until) = &mut run.held {
                    *until = now.tick.after(HELD);
                }
                run.begin(container, now.tick, rng);
            }
            (Kind::Readiness, Some(verdict)) => {
                let ready = verdict == Verdict::Well;
                if run.ready != ready && !(run.adopted && first) {
                    run.turned = Some(now.wall);
                }
                run.ready = ready;
            }
            (Kind::Startup | Kind::Liveness, Some(Verdict::Ill)) => {
                self.failing.insert(id.clone(), Failing { kind: *kind, grace: probe.grace });
            }
            (Kind::Startup | Kind::Liveness, Some(Verdict::Open)) | (Kind::Liveness, Some(Verdict::Well)) => {}
        }
        // What was held back is known now, or will not be known soon.
        let known = match kind {
            Kind::Readiness => true,
            Kind::Startup => !run.started || container.probes.readiness.is_none(),
            Kind::Liveness => false,
        };
        changed |= known && run.held.take().is_some();
        let words = verdict::words(*kind, &answer.sign).filter(|_| !lenient).filter(|(_, text)| {
            let said = run.said.get(kind).map(|(at, before)| (now.tick.since(*at), before));
            turn.is_some()
                || failures == probe.failure_threshold
                || said.is_none_or(|(ago, before)| ago >= SAME_WORDS || (ago >= OTHER_WORDS && before != text))
        });
        if let Some((_, text)) = &words {
            run.said.insert(*kind, (now.tick, text.clone()));
        }
        Heard { container: run.container.clone(), words, changed, late: false }
    }

    /// Why a container is to be killed, or was.
    #[must_use]
    pub fn failing(&self, id: &str) -> Option<Failing> {
        self.failing.get(id).copied()
    }

    /// Whether a running container has started as its startup probe sees it.
    #[must_use]
    pub fn started(&self, container: &ContainerSpec, id: &str) -> bool {
        container.probes.startup.is_none() || self.runs.get(id).is_some_and(|run| run.started)
    }

    /// Whether a running container is ready.
    #[must_use]
    pub fn ready(&self, container: &ContainerSpec, id: &str) -> bool {
        self.started(container, id) && (container.probes.readiness.is_none() || self.runs.get(id).is_some_and(|run| run.ready))
    }

    /// The last time that any running container became ready or ceased to be; `None`: none did since it started.
    #[must_use]
    pub fn turned(&self) -> Option<Wall> {
        self.runs.values().filter_map(|run| run.turned).max()
    }

    /// Whether the pod's first status waits for the first answers.
    #[must_use]
    pub fn held(&self, now: Tick) -> bool {
        self.runs.values().any(|run| run.held.is_some_and(|until| until > now))
    }
}

impl Run {
    fn new(container: &ContainerSpec, adopted: bool, ran: Duration, now: Tick, rng: &mut Rng) -> Self {
        let mut run = Self {
            container: container.name.clone(),
            ran,
            seen: now,
            workers: BTreeMap::new(),
            started: false,
            ready: false,
            turned: None,
            adopted,
            held: None,
            said: BTreeMap::new(),
        };
        match &container.probes.startup {
            Some(probe) => {
                let worker = if adopted {
                    Worker::awaited(probe, ran, now)
                } else {
                    Worker::new(Kind::Startup, probe, ran, now, rng.unit())
                };
                run.workers.insert(Kind::Startup, worker);
            }
            None => run.begin(container, now, rng),
        }
        // Whose delay is not over was not ready before either: that may be said at once.
        let awaited = run.workers.iter().any(|(kind, worker)| *kind != Kind::Liveness && worker.due() <= now);
        run.held = (adopted && awaited).then(|| now.after(HELD));
        run
    }

    /// It has started: the other two begin. Somebody waits for readiness, so after startup it is asked at once.
    fn begin(&mut self, container: &ContainerSpec, now: Tick, rng: &mut Rng) {
        self.started = true;
        let after_startup = self.workers.remove(&Kind::Startup).is_some();
        let ran = self.ran + now.since(self.seen);
        for kind in [Kind::Liveness, Kind::Readiness] {
            let Some(probe) = of(container, kind) else { continue };
            let chance = rng.unit();
            let worker = if kind == Kind::Readiness && (self.adopted || after_startup) {
                Worker::awaited(probe, ran, now)
            } else {
                Worker::new(kind, probe, ran, now, chance)
            };
            self.workers.insert(kind, worker);
        }
    }
}

/// How long a container has run whose start the runtime tells by the wall. A wall that jumped in between makes a delay longer
/// by no more than itself.
fn ran(started: Wall, now: Now) -> Duration {
    now.wall.since(started)
}
