//! What a node says of its pods, as writes.
//!
//! In:       reports, the view.
//! Out:      operations on pods: a new status, or the removal of a pod whose deletion is done.
//! Never:    lets an older word win: reports carry uid, incarnation and attempt, and a pod that has ended stays ended.
//! Flow:     from `agent/pods/status.rs` over the link, on to `apiserver/watch.rs` by way of the store (stops 12 → 13 → 14).

use std::collections::BTreeMap;

use serde_json::Value;

use crate::api::{Key, Object, Uid, registry};
use crate::link::message::PodReport;
use crate::link::report::Said;
use crate::store::{Op, View};

/// What one node has said, for freshness and for the digest.
#[derive(Debug, Default)]
pub struct Heard {
    incarnation: u64,
    before: u64,
    attempts: BTreeMap<Uid, u64>,
    said: Said,
}

impl Heard {
    /// Whether a message of this agent process is to be listened to. A new process is; the one before it no longer.
    pub fn accepts(&mut self, incarnation: u64) -> bool {
        if incarnation == self.incarnation {
            return true;
        }
        if incarnation == self.before && self.before != 0 {
            return false;
        }
        self.before = std::mem::replace(&mut self.incarnation, incarnation);
        self.attempts.clear();
        self.said.clear();
        true
    }

    /// Takes in those reports that are newer than what was heard of their pods; the others are dropped.
    pub fn fresh(&mut self, reports: Vec<PodReport>) -> Vec<PodReport> {
        reports
            .into_iter()
            .filter(|report| {
                let last = self.attempts.entry(report.uid.clone()).or_default();
                let fresh = report.attempt >= *last;
                if fresh {
                    *last = report.attempt;
                    self.said.take(report);
                }
                fresh
            })
            .collect()
    }

    /// Everything is told again from here on.
    pub fn start_anew(&mut self) {
        self.said.clear();
    }

    /// Forgets pods that are no longer this node's.
    pub fn keep_only(&mut self, wanted: impl Fn(&Uid) -> bool) {
        self.attempts.retain(|uid, _| wanted(uid));
        self.said.keep_only(wanted);
    }

    /// Over what was heard; `health` says what the node thinks it is.
    #[must_use]
    pub fn digest(&self) -> String {
        self.said.digest()
    }
}

/// What reports of `node` change in the store. One pod, one operation; a pod that is not this node's, or is another by now, is
/// left alone.
#[must_use]
pub fn writes(view: &View, node: &str, reports: &[PodReport]) -> Vec<Op> {
    reports.iter().filter_map(|report| write(view, node, report)).collect()
}

fn write(view: &View, node: &str, report: &PodReport) -> Option<Op> {
    let key = Key::new(&registry::PODS, &report.namespace, &report.name);
    let pod = view.get(&key)?;
    if pod.uid() != report.uid || pod.str_at(&["spec", "nodeName"]) != node {
        return None;
    }
    if report.gone && pod.is_deleting() && pod.finalizers().next().is_none() {
        return Some(Op::delete(key, pod.revision()));
    }
    let status = merged_status(pod, &report.status)?;
    if pod.at(&["status"]) == Some(&status) {
        return None;
    }
    let mut next = Object::clone(pod);
    next.set_at(&["status"], status);
    Some(Op::update(key, pod.revision(), next))
}

/// The reported status with the conditions and fields that only the master knows; `None` when it must not be taken.
fn merged_status(pod: &Object, reported: &Value) -> Option<Value> {
    let Value::Object(mut status) = reported.clone() else { return None };
    let known_phase = pod.str_at(&["status", "phase"]);
    let phase = status.get("phase").and_then(Value::as_str).unwrap_or_default();
    if (known_phase == "Succeeded" || known_phase == "Failed") && phase != known_phase {
        return None;
    }
    for kept in ["qosClass", "nominatedNodeName"] {
        if !status.contains_key(kept)
            && let Some(value) = pod.at(&["status", kept])
        {
            status.insert(kept.to_owned(), value.clone());
        }
    }
    let condition_type = |condition: &Value| condition.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    let reported: Vec<Value> = status.get("conditions").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut conditions: Vec<Value> = pod
        .list_at(&["status", "conditions"])
        .iter()
        // The master decides on scheduling; the node on everything that it names itself.
        .filter(|mine| {
            condition_type(mine) == "PodScheduled"
                || !reported.iter().any(|theirs| condition_type(theirs) == condition_type(mine))
        })
        .cloned()
        .collect();
    for condition in reported {
        if !conditions.iter().any(|known| condition_type(known) == condition_type(&condition)) {
            conditions.push(condition);
        }
    }
    conditions.sort_by_key(condition_type);
    status.insert("conditions".to_owned(), Value::Array(conditions));
    Some(Value::Object(status))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Generation, Revision};
    use crate::store::Change;
    use serde_json::json;

    fn view(pod: Value) -> View {
        let mut view = View::new(Revision(1));
        let object = Object::from_value(pod).unwrap();
        view.apply(Revision(2), Op::create(Key::of(&registry::PODS, &object), object).into());
        view
    }

    fn report(uid: &str, attempt: u64, status: Value, gone: bool) -> PodReport {
        PodReport {
            uid: Uid::from(uid),
            namespace: "a".into(),
            name: "web".into(),
            generation: Generation(1),
            attempt,
            status,
            gone,
        }
    }

    fn pod(status: impl Into<Value>) -> Value {
        let status: Value = status.into();
        json!({"metadata": {"namespace": "a", "name": "web", "uid": "u1"}, "spec": {"nodeName": "pi"}, "status": status})
    }

    #[test]
    fn only_the_node_of_the_pod_with_this_uid_is_heard() {
        let view = view(pod(json!({"phase": "Pending"})));
        let running = json!({"phase": "Running"});
        assert_eq!(writes(&view, "pi", &[report("u1", 1, running.clone(), false)]).len(), 1);
        assert!(writes(&view, "pj", &[report("u1", 1, running.clone(), false)]).is_empty());
        assert!(writes(&view, "pi", &[report("u0", 1, running, false)]).is_empty());
    }

    #[test]
    fn a_pod_goes_when_its_deletion_is_done_and_not_before_it_was_asked_for() {
        let gone = report("u1", 1, json!({"phase": "Running"}), true);
        assert!(
            !writes(&view(pod(json!({}))), "pi", std::slice::from_ref(&gone))
                .iter()
                .any(|op| matches!(op.change, Change::Delete))
        );
        let mut deleting = pod(json!({}));
        deleting["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        assert!(matches!(writes(&view(deleting.clone()), "pi", std::slice::from_ref(&gone))[0].change, Change::Delete));
        deleting["metadata"]["finalizers"] = json!(["a/b"]);
        assert!(!writes(&view(deleting), "pi", &[gone]).iter().any(|op| matches!(op.change, Change::Delete)));
    }

    #[test]
    fn an_end_is_an_end_and_the_masters_conditions_stay() {
        let ended = view(pod(json!({"phase": "Failed"})));
        assert!(writes(&ended, "pi", &[report("u1", 1, json!({"phase": "Running"}), false)]).is_empty());
        let scheduled = json!({"type": "PodScheduled", "status": "True", "lastTransitionTime": "t"});
        let view = view(pod(json!({"phase": "Pending", "conditions": [scheduled]})));
        let status = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}, {"type": "PodScheduled", "status": "False"}]});
        let ops = writes(&view, "pi", &[report("u1", 1, status, false)]);
        let Change::Put(next) = &ops[0].change else { panic!("a put") };
        assert_eq!(next.list_at(&["status", "conditions"]), [scheduled, json!({"type": "Ready", "status": "True"})]);
    }

    #[test]
    fn old_words_are_dropped() {
        let mut heard = Heard::default();
        assert!(heard.accepts(7));
        let status = json!({});
        assert_eq!(heard.fresh(vec![report("u1", 5, status.clone(), false)]).len(), 1);
        assert_eq!(heard.fresh(vec![report("u1", 4, status.clone(), false)]).len(), 0);
        assert!(heard.accepts(8) && !heard.accepts(7));
        assert_eq!(heard.fresh(vec![report("u1", 1, status, false)]).len(), 1);
    }
}
