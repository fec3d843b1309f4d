//! How containers are ended: the preStop hook, TERM, a deadline of our own, KILL.
//!
//! ```text
//!  Hook ──(it has ended, or the time is over)──▶ Turn ──(those before it have ended, or the time is over)──▶ Term ──▶ Kill ⟲
//! ```
//! Source: the kubelet's killContainer and its termination ordering. The hook counts within the grace; all containers' hooks begin
//! at once, sidecars then wait for the main containers and for the sidecars after them, and whoever had to wait has
//! [`LEAST`] for TERM even if the grace is over. A grace of 0 is a KILL at once.

use std::time::Duration;

use super::memory::{Kill, Memory, Stage};
use super::{About, HookStart, Moment, Next, View, surplus};
use crate::agent::pods::spec::PodSpec;
use crate::agent::runtime::naming::SANDBOX;
use crate::agent::runtime::{Command, ObservedContainer, ObservedPod, Signal};
use crate::clock::Tick;

/// What is left for TERM when a hook, or those before it, used the grace up. Source: the kubelet's minimumGracePeriodInSeconds.
const LEAST: Duration = Duration::from_secs(2);
/// A KILL that has not worked is sent again after so long.
const KILL_AGAIN: Duration = Duration::from_secs(10);

/// Stops the containers; then everything is removed.
pub(super) fn terminating(view: View<'_>, deadline: Tick, memory: &mut Memory) -> Next {
    let running = running(view.observed, |_| true);
    if !running.is_empty() {
        return stop_in_order(view, &running, deadline, memory);
    }
    match memory.trouble.get(SANDBOX).filter(|trouble| trouble.due > view.now.tick) {
        Some(trouble) => Next::wait(trouble.due),
        None => Next::order(Command::RemovePod, About::Cleanup),
    }
}

/// What still runs is stopped.
pub(super) fn ending(view: View<'_>, deadline: Tick, memory: &mut Memory) -> Next {
    let running = running(view.observed, |_| true);
    if running.is_empty() { Next::default() } else { stop_in_order(view, &running, deadline, memory) }
}

/// The sandbox is stopped; the dead stay for their logs.
pub(super) fn finished(view: View<'_>, memory: &mut Memory) -> Next {
    let running = running(view.observed, |_| true);
    if !running.is_empty() {
        return stop(view, &running, view.now.tick, memory);
    }
    let sandboxes: Vec<String> =
        view.observed.sandboxes.iter().filter(|sandbox| sandbox.state.is_running()).map(|sandbox| sandbox.id.clone()).collect();
    if sandboxes.is_empty() {
        return surplus(view.observed);
    }
    stop(view, &sandboxes, view.now.tick, memory)
}

/// Ends these, each for itself.
pub(super) fn stop(view: View<'_>, ids: &[String], deadline: Tick, memory: &mut Memory) -> Next {
    end(view, ids, deadline, memory, |_| false)
}

/// Ends these, sidecars last and in reverse order.
fn stop_in_order(view: View<'_>, ids: &[String], deadline: Tick, memory: &mut Memory) -> Next {
    let before: Vec<&String> = ids.iter().filter(|id| view.spec.is_some_and(|spec| waits(spec, view.observed, id))).collect();
    end(view, ids, deadline, memory, |id| before.contains(&id))
}

/// Whether a sidecar still has to wait: for a main container, or for a sidecar that comes after it.
fn waits(spec: &PodSpec, observed: &ObservedPod, id: &str) -> bool {
    let Some(run) = observed.containers.iter().find(|run| run.id == id) else { return false };
    let Some(place) = spec.init.iter().position(|init| init.name == run.name && init.sidecar) else { return false };
    observed.containers.iter().filter(|other| other.state.is_running()).any(|other| {
        let later = spec.init.iter().skip(place + 1).any(|init| init.sidecar && init.name == other.name);
        later || spec.containers.iter().any(|main| main.name == other.name)
    })
}

fn end(view: View<'_>, ids: &[String], deadline: Tick, memory: &mut Memory, waits: impl Fn(&String) -> bool) -> Next {
    let now = view.now.tick;
    let mut next = Next::default();
    let (mut term, mut kill) = (Vec::new(), Vec::new());
    for id in ids {
        let known = memory.kills.entry(id.clone()).or_insert_with(|| {
            let hook = (deadline > now).then(|| pre_stop(view, id, deadline)).flatten();
            let stage = if hook.is_some() { Stage::Hook } else { Stage::Turn { waited: false } };
            next.hooks.extend(hook);
            Kill { deadline, told: false, retry: Tick(0), stage }
        });
        known.deadline = known.deadline.min(deadline.max(now));
        let over = known.deadline <= now;
        let mut due = known.retry;
        match known.stage {
            Stage::Hook if !over => {
                next.wakes(known.deadline);
                continue;
            }
            Stage::Hook => known.stage = Stage::Turn { waited: true },
            Stage::Turn { .. } if !over && waits(id) => {
                known.stage = Stage::Turn { waited: true };
                next.wakes(known.deadline);
                continue;
            }
            Stage::Turn { .. } => {}
            Stage::Term { since, least } => due = due.max(known.deadline.max(since.after(least))),
            Stage::Kill { again } => due = due.max(again),
        }
        if due > now {
            next.wakes(due);
            continue;
        }
        match known.stage {
            // Without a grace there is nothing to wait for.
            Stage::Turn { waited: false } if over => kill.push(id.clone()),
            Stage::Hook | Stage::Turn { .. } => term.push(id.clone()),
            Stage::Term { .. } | Stage::Kill { .. } => kill.push(id.clone()),
        }
    }
    // One order at a time: what is not sent now is due at the next look.
    let (ids, signal) = if term.is_empty() { (kill, Signal::Kill) } else { (term, Signal::Term) };
    if ids.is_empty() {
        return next;
    }
    for id in &ids {
        let Some(known) = memory.kills.get_mut(id) else { continue };
        known.stage = match (signal, known.stage) {
            (Signal::Kill, _) => Stage::Kill { again: now.after(KILL_AGAIN) },
            (Signal::Term, Stage::Turn { waited: true }) => Stage::Term { since: now, least: LEAST },
            (Signal::Term, _) => Stage::Term { since: now, least: Duration::ZERO },
        };
    }
    next.order = Some((Command::Signal { ids: ids.clone(), signal }, About::Stop(ids)));
    next
}

/// The hook before a container's end.
fn pre_stop(view: View<'_>, id: &str, deadline: Tick) -> Option<HookStart> {
    let run = view.observed.containers.iter().find(|run| run.id == id)?;
    let hook = view.spec?.any(&run.name)?.lifecycle.pre_stop.clone()?;
    let limit = deadline.since(view.now.tick);
    Some(HookStart { container: id.to_owned(), name: run.name.clone(), moment: Moment::PreStop, hook, limit })
}

/// The signals were not sent: they are due again from `retry` on.
pub fn unsent(ids: &[String], retry: Tick, memory: &mut Memory) {
    for id in ids {
        let Some(known) = memory.kills.get_mut(id) else { continue };
        known.retry = retry;
        known.stage = match known.stage {
            Stage::Term { least, .. } => Stage::Turn { waited: !least.is_zero() },
            Stage::Kill { .. } => Stage::Kill { again: retry },
            Stage::Hook | Stage::Turn { .. } => known.stage,
        };
    }
}

pub(super) fn running(observed: &ObservedPod, which: impl Fn(&ObservedContainer) -> bool) -> Vec<String> {
    observed.containers.iter().filter(|run| run.state.is_running() && which(run)).map(|run| run.id.clone()).collect()
}
