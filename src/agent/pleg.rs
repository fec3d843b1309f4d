//! Compares two looks at a pod: which containers started, died, were removed.
//!
//! Source: the kubelet's pod lifecycle event generator. Here nothing is decided from it: it is what an operator reads in
//! the log, the decisions look at what there is.

use super::runtime::{ObservedContainer, ObservedPod, RunState};

/// What happened to a container between two looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It runs now.
    Started {
        /// Its name.
        container: String,
        /// Restarts before it.
        attempt: u32,
    },
    /// It has ended.
    Died {
        /// Its name.
        container: String,
        /// Restarts before it.
        attempt: u32,
        /// What it said.
        exit_code: i64,
    },
    /// It is not there any more.
    Removed {
        /// Its name.
        container: String,
        /// Restarts before it.
        attempt: u32,
    },
}

/// The changes, in the order of the second look, removals last.
#[must_use]
pub fn changes(before: &ObservedPod, after: &ObservedPod) -> Vec<Change> {
    let find = |observed: &ObservedPod, id: &str| observed.containers.iter().find(|run| run.id == id).cloned();
    let name = |run: &ObservedContainer| (run.name.clone(), run.attempt);
    let mut changes = Vec::new();
    for run in &after.containers {
        let earlier = find(before, &run.id).map(|run| run.state);
        let (container, attempt) = name(run);
        match &run.state {
            RunState::Running { .. } if !earlier.as_ref().is_some_and(RunState::is_running) => {
                changes.push(Change::Started { container, attempt });
            }
            RunState::Exited { exit_code, .. } if !matches!(earlier, Some(RunState::Exited { .. })) => {
                changes.push(Change::Died { container, attempt, exit_code: *exit_code });
            }
            RunState::Created | RunState::Running { .. } | RunState::Exited { .. } => {}
        }
    }
    for run in before.containers.iter().filter(|run| find(after, &run.id).is_none()) {
        let (container, attempt) = name(run);
        changes.push(Change::Removed { container, attempt });
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Wall;

    fn pod(runs: &[(&str, RunState)]) -> ObservedPod {
        let run = |(id, state): &(&str, RunState)| ObservedContainer {
            id: (*id).to_owned(),
            name: "app".into(),
            state: state.clone(),
            ..ObservedContainer::default()
        };
        ObservedPod { containers: runs.iter().map(run).collect(), ..ObservedPod::default() }
    }

    #[test]
    fn two_looks_tell_who_started_died_and_went() {
        let running = RunState::Running { started: Wall(1) };
        let dead = RunState::Exited { started: Wall(1), finished: Wall(2), exit_code: 7, oom: false, error: None };
        let (container, attempt) = ("app".to_owned(), 0);
        let before = pod(&[("a", running.clone()), ("b", dead.clone()), ("c", RunState::Created)]);
        let after = pod(&[("a", dead.clone()), ("c", running.clone())]);
        assert_eq!(
            changes(&before, &after),
            [
                Change::Died { container: container.clone(), attempt, exit_code: 7 },
                Change::Started { container: container.clone(), attempt },
                Change::Removed { container, attempt },
            ]
        );
        assert_eq!(changes(&after, &after), []);
    }
}
