//! What is asked of deployments in more than one place.

use serde_json::Value;

use crate::api::intstr::scaled;
use crate::api::object::Object;
use crate::api::selector::Selector;

/// The annotation with the number of a revision, on a deployment and on each of its replica sets.
pub const REVISION: &str = "deployment.kubernetes.io/revision";
/// The annotation with the earlier numbers of a template that came back.
pub const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// The annotation of a replica set with the deployment's replicas when it was last scaled.
pub const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
/// The annotation of a replica set with the most pods that the deployment allowed when it was last scaled.
pub const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";

/// How old pods give way to new ones, in pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// All old ones go before the first new one comes.
    Recreate,
    /// A few at a time.
    RollingUpdate {
        /// So many more than wanted may be there.
        max_surge: i64,
        /// So many fewer than wanted may be available.
        max_unavailable: i64,
    },
}

/// A deployment, read.
#[derive(Clone, Copy, Debug)]
pub struct Deployment<'a>(pub &'a Object);

impl<'a> Deployment<'a> {
    /// `spec.replicas`, 1 when it is not given.
    #[must_use]
    pub fn replicas(self) -> i64 {
        self.0.i64_at(&["spec", "replicas"]).unwrap_or(1).max(0)
    }

    /// `spec.strategy` for its replicas. Surge rounds up, unavailable rounds down; when both come out as nothing, one may
    /// be unavailable, or nothing would ever move. Source: upstream `deploymentutil.ResolveFenceposts`.
    #[must_use]
    pub fn strategy(self) -> Strategy {
        if self.0.str_at(&["spec", "strategy", "type"]) == "Recreate" {
            return Strategy::Recreate;
        }
        let quarter = Value::from("25%");
        let of = |field: &str, round_up: bool| {
            let value = self.0.at(&["spec", "strategy", "rollingUpdate", field]).unwrap_or(&quarter);
            scaled(value, self.replicas(), round_up).unwrap_or_default().max(0)
        };
        let (max_surge, max_unavailable) = (of("maxSurge", true), of("maxUnavailable", false));
        Strategy::RollingUpdate { max_surge, max_unavailable: if max_surge + max_unavailable == 0 { 1 } else { max_unavailable } }
    }

    /// How many more pods than wanted may be there.
    #[must_use]
    pub fn max_surge(self) -> i64 {
        match self.strategy() {
            Strategy::Recreate => 0,
            Strategy::RollingUpdate { max_surge, .. } => max_surge,
        }
    }

    /// How many fewer pods than wanted may be available; never more than are wanted.
    #[must_use]
    pub fn max_unavailable(self) -> i64 {
        match self.strategy() {
            Strategy::Recreate => 0,
            Strategy::RollingUpdate { max_unavailable, .. } => max_unavailable.min(self.replicas()),
        }
    }

    /// `spec.paused`.
    #[must_use]
    pub fn paused(self) -> bool {
        self.0.bool_at(&["spec", "paused"])
    }

    /// `spec.minReadySeconds`.
    #[must_use]
    pub fn min_ready_seconds(self) -> i64 {
        self.0.i64_at(&["spec", "minReadySeconds"]).unwrap_or_default()
    }

    /// `spec.revisionHistoryLimit`, 10 when it is not given.
    #[must_use]
    pub fn history_limit(self) -> i64 {
        self.0.i64_at(&["spec", "revisionHistoryLimit"]).unwrap_or(10)
    }

    /// `spec.progressDeadlineSeconds`, 600 when it is not given; `None` when it is the largest number, which means never.
    #[must_use]
    pub fn progress_deadline_seconds(self) -> Option<i64> {
        let seconds = self.0.i64_at(&["spec", "progressDeadlineSeconds"]).unwrap_or(600);
        (seconds < i64::from(i32::MAX)).then_some(seconds)
    }

    /// `spec.selector`; `None` when it is none or selects everything, which no controller may obey.
    #[must_use]
    pub fn selector(self) -> Option<Selector> {
        super::replicaset::selector(self.0)
    }

    /// `spec.template`.
    #[must_use]
    pub fn template(self) -> Option<&'a Value> {
        self.0.at(&["spec", "template"])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fenceposts_are_resolved_so_that_something_can_move() {
        for (replicas, surge, unavailable, want) in [
            (4, json!("25%"), json!("25%"), (1, 1)),
            (3, json!("25%"), json!("25%"), (1, 0)),
            (3, json!(0), json!("25%"), (0, 1)),
            (10, json!(2), json!("50%"), (2, 5)),
            (0, json!("25%"), json!("25%"), (0, 0)),
        ] {
            let object = Object::from_value(json!({"spec": {"replicas": replicas,
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}}}))
            .unwrap();
            let deployment = Deployment(&object);
            assert_eq!((deployment.max_surge(), deployment.max_unavailable()), want, "{replicas} {surge} {unavailable}");
        }
    }
}
