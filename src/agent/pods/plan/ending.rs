//! How containers are ended: TERM, a deadline of our own, KILL.

use std::time::Duration;

use super::{About, Next, View, surplus};
use crate::agent::pods::plan::memory::{Kill, Memory};
use crate::agent::runtime::naming::SANDBOX;
use crate::agent::runtime::{Command, ObservedContainer, ObservedPod, Signal};
use crate::clock::{Now, Tick};

/// A KILL that has not worked is sent again after so long.
const KILL_AGAIN: Duration = Duration::from_secs(10);

/// Stops the containers; then everything is removed.
pub(super) fn terminating(view: View<'_>, deadline: Tick, memory: &mut Memory) -> Next {
    let running = running(view.observed, |_| true);
    if !running.is_empty() {
        return stop(&running, deadline, view.now, memory);
    }
    match memory.trouble.get(SANDBOX).filter(|trouble| trouble.due > view.now.tick) {
        Some(trouble) => Next::wait(trouble.due),
        None => Next::order(Command::RemovePod, About::Cleanup),
    }
}

/// What still runs is stopped.
pub(super) fn ending(view: View<'_>, deadline: Tick, memory: &mut Memory) -> Next {
    let running = running(view.observed, |_| true);
    if running.is_empty() { Next::default() } else { stop(&running, deadline, view.now, memory) }
}

/// The sandbox is stopped; the dead stay for their logs.
pub(super) fn finished(view: View<'_>, memory: &mut Memory) -> Next {
    let running = running(view.observed, |_| true);
    if !running.is_empty() {
        return stop(&running, view.now.tick, view.now, memory);
    }
    let sandboxes: Vec<String> =
        view.observed.sandboxes.iter().filter(|sandbox| sandbox.state.is_running()).map(|sandbox| sandbox.id.clone()).collect();
    if sandboxes.is_empty() {
        return surplus(view.observed);
    }
    stop(&sandboxes, view.now.tick, view.now, memory)
}

/// TERM first, KILL at the deadline, and again.
pub(super) fn stop(ids: &[String], deadline: Tick, now: Now, memory: &mut Memory) -> Next {
    let fresh: Vec<String> = ids.iter().filter(|id| !memory.kills.contains_key(*id)).cloned().collect();
    let signal = |ids: Vec<String>, signal| Next::order(Command::Signal { ids: ids.clone(), signal }, About::Stop(ids));
    if !fresh.is_empty() && deadline > now.tick {
        memory.kills.extend(fresh.iter().map(|id| (id.clone(), Kill { deadline })));
        return signal(fresh, Signal::Term);
    }
    let mut overdue = fresh;
    let mut wake: Option<Tick> = None;
    for id in ids {
        let Some(kill) = memory.kills.get_mut(id) else { continue };
        kill.deadline = kill.deadline.min(deadline.max(now.tick));
        if kill.deadline <= now.tick {
            overdue.push(id.clone());
        } else {
            wake = Some(wake.map_or(kill.deadline, |wake| wake.min(kill.deadline)));
        }
    }
    if overdue.is_empty() {
        return Next { wake, ..Next::default() };
    }
    signal(overdue, Signal::Kill)
}

/// Remembers that a KILL was sent, so that the next one has time to come.
pub fn killed(ids: &[String], now: Tick, memory: &mut Memory) {
    memory.kills.extend(ids.iter().map(|id| (id.clone(), Kill { deadline: now.after(KILL_AGAIN) })));
}

pub(super) fn running(observed: &ObservedPod, which: impl Fn(&ObservedContainer) -> bool) -> Vec<String> {
    observed.containers.iter().filter(|run| run.state.is_running() && which(run)).map(|run| run.id.clone()).collect()
}
