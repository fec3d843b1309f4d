//! What a deployment says of itself: counts, `Available`, and how its rollout goes (`Progressing`).
//!
//! Source:   upstream `sync.go` (calculateStatus) and `progress.go`; reasons and messages are what `kubectl rollout status`
//!           and people look for.

use std::time::Duration;

use super::Step;
use crate::api::Object;
use crate::api::apps::replicaset::ReplicaSet;
use crate::api::core::condition::{self, Condition};
use crate::clock::Wall;

const PROGRESSING: &str = "Progressing";
const PAUSED: &str = "DeploymentPaused";
const RESUMED: &str = "DeploymentResumed";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const DONE: &str = "NewReplicaSetAvailable";

/// The counts of `status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counts {
    replicas: i64,
    updated: i64,
    ready: i64,
    available: i64,
}

impl Counts {
    fn of(object: &Object) -> Self {
        let number = |field: &str| object.i64_at(&["status", field]).unwrap_or_default();
        Self {
            replicas: number("replicas"),
            updated: number("updatedReplicas"),
            ready: number("readyReplicas"),
            available: number("availableReplicas"),
        }
    }
}

impl Step<'_> {
    /// The counts as the sets have them now.
    pub(super) fn counts(&self) -> Counts {
        let sum = |field: &str| self.sets().map(|set| ReplicaSet(set).status(field)).sum();
        Counts {
            replicas: sum("replicas"),
            updated: self.new.as_ref().map(|(_, set)| ReplicaSet(set).status("replicas")).unwrap_or_default(),
            ready: sum("readyReplicas"),
            available: sum("availableReplicas"),
        }
    }

    pub(super) fn is_complete(&self, counts: &Counts) -> bool {
        let wanted = self.deployment.replicas();
        // What the present set has counted must be about what is asked of it at present.
        let seen = self.new.as_ref().is_some_and(|(_, set)| ReplicaSet(set).status("observedGeneration") >= set.generation().0);
        seen && (counts.replicas, counts.updated, counts.available) == (wanted, wanted, wanted)
    }

    /// A rollout that is paused makes no progress, and that is no failure.
    pub(super) fn note_pause(&mut self) {
        if self.deployment.progress_deadline_seconds().is_none() {
            return;
        }
        let reason = Condition::of(self.object, PROGRESSING).map_or("", |condition| condition.reason);
        if self.deployment.paused() {
            if reason != PAUSED && reason != TIMED_OUT {
                self.progressing("Unknown", PAUSED, "Deployment is paused", false);
            }
        } else if reason == PAUSED {
            self.progressing("Unknown", RESUMED, "Deployment is resumed", false);
        }
    }

    pub(super) fn note_created(&mut self, set: &str) {
        if self.deployment.progress_deadline_seconds().is_some() {
            self.progressing("True", "NewReplicaSetCreated", &format!("Created new replica set \"{set}\""), false);
        }
    }

    pub(super) fn note_found(&mut self, set: &str) {
        if self.deployment.progress_deadline_seconds().is_some() && Condition::of(&self.after, PROGRESSING).is_none() {
            self.progressing("True", "FoundNewReplicaSet", &format!("Found new replica set \"{set}\""), false);
        }
    }

    /// Counts and `Available`.
    pub(super) fn sync_status(&mut self) {
        let counts = self.counts();
        let unavailable = (self.all_wanted() - counts.available).max(0);
        for (field, number) in [
            ("observedGeneration", self.object.generation().0),
            ("replicas", counts.replicas),
            ("updatedReplicas", counts.updated),
            ("readyReplicas", counts.ready),
            ("availableReplicas", counts.available),
            ("unavailableReplicas", unavailable),
        ] {
            // What is 0 is left out, as upstream does.
            if number == 0 {
                self.after.remove_at(&["status", field]);
            } else {
                self.after.set_at(&["status", field], number);
            }
        }
        let enough = counts.available >= self.deployment.replicas() - self.deployment.max_unavailable();
        let (status, reason, message) = if enough {
            ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
        } else {
            ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
        };
        Condition { kind: "Available", status, reason, message }.set_with_update_time(&mut self.after, self.now.wall, false);
    }

    /// Counts, `Available` and `Progressing`.
    pub(super) fn sync_progress(&mut self) {
        let before = Counts::of(self.object);
        self.sync_status();
        let Some(deadline) = self.deployment.progress_deadline_seconds() else {
            condition::remove(&mut self.after, PROGRESSING);
            return;
        };
        let now = self.counts();
        let current = Condition::of(&self.after, PROGRESSING).map(|condition| condition.reason.to_owned());
        if now.replicas == now.updated && current.as_deref() == Some(DONE) {
            return;
        }
        let name = match &self.new {
            Some((key, _)) => format!("ReplicaSet \"{}\"", key.name),
            None => format!("Deployment \"{}\"", self.key.name),
        };
        let moved = now.updated > before.updated
            || now.replicas - now.updated < before.replicas - before.updated
            || now.ready > before.ready
            || now.available > before.available;
        if self.is_complete(&now) {
            self.progressing("True", DONE, &format!("{name} has successfully progressed."), false);
        } else if moved {
            self.progressing("True", "ReplicaSetUpdated", &format!("{name} is progressing."), true);
        } else if self.is_late(current.as_deref(), deadline) {
            self.progressing("False", TIMED_OUT, &format!("{name} has timed out progressing."), false);
        }
        self.look_at_deadline(deadline);
    }

    fn is_late(&self, reason: Option<&str>, deadline: i64) -> bool {
        match reason {
            None | Some(DONE) => false,
            Some(TIMED_OUT) => true,
            Some(_) if self.now.tick < self.judged_from => false,
            Some(_) => condition::updated(&self.after, PROGRESSING).is_some_and(|last| self.missing(last, deadline) < 0),
        }
    }

    fn look_at_deadline(&mut self, deadline: i64) {
        let waits =
            Condition::of(&self.after, PROGRESSING).is_some_and(|condition| !matches!(condition.reason, DONE | TIMED_OUT));
        if let Some(last) = condition::updated(&self.after, PROGRESSING).filter(|_| waits) {
            // A second more, because the stamp is cut to seconds.
            let missing = u64::try_from(self.missing(last, deadline).max(0)).unwrap_or_default() + 1000;
            self.plan.look_by(self.now.tick.after(Duration::from_millis(missing)).max(self.judged_from));
        }
    }

    /// Milliseconds until the deadline.
    fn missing(&self, last: Wall, deadline: i64) -> i64 {
        last.0.saturating_add(deadline.saturating_mul(1000)).saturating_sub(self.now.wall.0)
    }

    fn progressing(&mut self, status: &str, reason: &str, message: &str, renew: bool) {
        Condition { kind: PROGRESSING, status, reason, message }.set_with_update_time(&mut self.after, self.now.wall, renew);
    }
}
