//! What a node says of its pods, as writes.
//!
//! In:       reports, the view.
//! Out:      operations on pods: a new status, or the removal of a pod whose deletion is done.
//! Never:    lets an older word win: reports carry uid, incarnation and attempt, and a pod that has ended stays ended.
//! Flow:     from `agent/pods/status.rs` over the link, on to `apiserver/watch.rs` by way of the store (stops 12 → 13 → 14).

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Value, json};

use super::drops::Cause;
use super::stamps;
use crate::api::{Key, Object, Uid, registry, schema};
use crate::clock::Wall;
use crate::link::message::{NodeClock, NodeEvent, PodReport};
use crate::link::report::Said;
use crate::store::{Op, View};

/// How many ended lives of an agent are remembered, so that a late word of one is known as such.
const ENDED: usize = 16;

/// What one node has said, for freshness and for the digest.
#[derive(Debug, Default)]
pub struct Heard {
    incarnation: u64,
    ended: VecDeque<u64>,
    attempts: BTreeMap<Uid, u64>,
    said: Said,
}

impl Heard {
    /// Whether a message of this life of an agent is to be listened to. A new one is; those before it no longer. An agent that
    /// lives and is taken for ended (somebody else spoke with its certificate) begins a new life when it is asked for everything.
    pub fn accepts(&mut self, incarnation: u64) -> bool {
        if incarnation == 0 || self.ended.contains(&incarnation) {
            return false;
        }
        if incarnation != self.incarnation {
            if self.ended.len() == ENDED {
                self.ended.pop_front();
            }
            self.ended.push_back(std::mem::replace(&mut self.incarnation, incarnation));
            self.attempts.clear();
            self.said.clear();
        }
        true
    }

    /// Takes a report in if it is newer than what was heard of its pod.
    pub fn takes(&mut self, report: &PodReport) -> bool {
        let last = self.attempts.entry(report.uid.clone()).or_default();
        let fresh = report.attempt >= *last;
        if fresh {
            *last = report.attempt;
            self.said.take(report);
        }
        fresh
    }

    /// What was said of these pods could not be kept: the digest must not say that it was.
    pub fn forget<'a>(&mut self, pods: impl IntoIterator<Item = &'a PodReport>) {
        for report in pods {
            self.said.forget(&report.uid);
        }
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

/// Whether a report is one that this node may give of this pod as it stands, and that says something.
///
/// # Errors
/// Why not.
pub fn check(view: &View, node: &str, report: &PodReport) -> Result<(), Cause> {
    let key = Key::new(&registry::PODS, &report.namespace, &report.name);
    // A pod that is no longer there: its node may not know it yet.
    let pod = view.get(&key).filter(|pod| pod.uid() == report.uid).ok_or(Cause::OutOfDate)?;
    if pod.str_at(&["spec", "nodeName"]) != node {
        return Err(Cause::NotItsOwn);
    }
    if report.gone && !pod.is_deleting() {
        return Err(Cause::OutOfDate);
    }
    // Clients refuse a whole list for one value of a wrong type.
    let mut like_it = json!({"apiVersion": "v1", "kind": "Pod", "status": report.status});
    let is_status = report.status.is_object() && schema::prune(&registry::PODS, &mut like_it).wrong_type.is_none();
    if is_status { Ok(()) } else { Err(Cause::NotUnderstood) }
}

/// Whether this node may tell of this event: it is about a pod of its own or one that has just gone, or about a service, which every
/// node serves.
///
/// # Errors
/// Why not.
pub fn check_event(view: &View, node: &str, event: &NodeEvent) -> Result<(), Cause> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    if event.name.is_empty() || event.name.len() > 253 || !event.name.chars().all(plain) {
        return Err(Cause::NotUnderstood);
    }
    if view.get(&Key::new(&registry::NAMESPACES, "", &event.namespace)).is_none() {
        return Err(Cause::OutOfDate);
    }
    if event.kind == "Service" {
        let there = view.get(&Key::new(&registry::SERVICES, &event.namespace, &event.name)).is_some();
        return if there { Ok(()) } else { Err(Cause::OutOfDate) };
    }
    if event.kind != "Pod" {
        return Err(Cause::NotUnderstood);
    }
    match view.get(&Key::new(&registry::PODS, &event.namespace, &event.name)) {
        Some(pod) if pod.uid() == event.uid && pod.str_at(&["spec", "nodeName"]) != node => Err(Cause::NotItsOwn),
        _ => Ok(()),
    }
}

/// What reports of `node` change in the store. One pod, one operation; a pod that is not this node's, or is another by now, is
/// left alone. `clock` is how the node's clock stands, `now` the master's time.
#[must_use]
pub fn writes(view: &View, node: &str, reports: &[PodReport], clock: Option<&NodeClock>, now: Wall) -> Vec<Op> {
    reports.iter().filter_map(|report| write(view, node, report, clock, now)).collect()
}

fn write(view: &View, node: &str, report: &PodReport, clock: Option<&NodeClock>, now: Wall) -> Option<Op> {
    let key = Key::new(&registry::PODS, &report.namespace, &report.name);
    let pod = view.get(&key)?;
    if pod.uid() != report.uid || pod.str_at(&["spec", "nodeName"]) != node {
        return None;
    }
    if report.gone && pod.is_deleting() && pod.finalizers().next().is_none() {
        return Some(Op::delete(key, pod.revision()));
    }
    let mut next = Object::clone(pod);
    let mut told = report.status.clone();
    stamps::put_right(&mut told, pod, clock, now);
    if let Some(status) = merged_status(pod, &told) {
        next.set_at(&["status"], status);
    }
    if report.gone && pod.is_deleting() {
        // Only finalizers hold it now: with the last of them it goes.
        next.set_at(&["metadata", "deletionGracePeriodSeconds"], 0);
    }
    (next != **pod).then(|| Op::update(key, pod.revision(), next))
}

/// The reported status with the conditions and fields that only the master knows; `None` when it must not be taken.
fn merged_status(pod: &Object, reported: &Value) -> Option<Value> {
    let Value::Object(mut status) = reported.clone() else { return None };
    let known_phase = pod.str_at(&["status", "phase"]);
    let phase = status.get("phase").and_then(Value::as_str).unwrap_or_default();
    if (known_phase == "Succeeded" || known_phase == "Failed") && phase != known_phase {
        return None;
    }
    // Of a pod that has ended its node may have nothing left but how it ended: what it said before that stays.
    let ended = matches!(known_phase, "Succeeded" | "Failed") && !status.contains_key("containerStatuses");
    let said = ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses", "startTime"];
    for kept in ["qosClass", "nominatedNodeName"].into_iter().chain(said.into_iter().filter(|_| ended)) {
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

    fn writes(view: &View, node: &str, reports: &[PodReport]) -> Vec<Op> {
        super::writes(view, node, reports, None, Wall(0))
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
        let ops = writes(&view(deleting), "pi", &[gone]);
        let Change::Put(held) = &ops[0].change else { panic!("its finalizer holds it") };
        assert_eq!(held.i64_at(&["metadata", "deletionGracePeriodSeconds"]), Some(0), "and nothing else");
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
        assert!(heard.takes(&report("u1", 5, status.clone(), false)));
        assert!(!heard.takes(&report("u1", 4, status.clone(), false)));
        assert!(heard.accepts(8) && heard.accepts(9) && !heard.accepts(7) && !heard.accepts(8) && !heard.accepts(0));
        assert!(heard.takes(&report("u1", 1, status, false)));
    }

    #[test]
    fn what_could_not_be_kept_was_not_heard() {
        let (mut heard, report) = (Heard::default(), report("u1", 5, json!({"phase": "Running"}), false));
        let nothing = heard.digest();
        heard.takes(&report);
        assert_ne!(heard.digest(), nothing);
        heard.forget([&report]);
        assert_eq!(heard.digest(), nothing);
        assert!(heard.takes(&report), "and is taken when it is told again");
    }

    #[test]
    fn a_report_is_refused_with_the_reason() {
        let view = view(pod(json!({"phase": "Pending"})));
        let running = json!({"phase": "Running"});
        for (node, report, expected) in [
            ("pi", report("u1", 1, running.clone(), false), Ok(())),
            ("pj", report("u1", 1, running.clone(), false), Err(Cause::NotItsOwn)),
            ("pi", report("u0", 1, running.clone(), false), Err(Cause::OutOfDate)),
            ("pi", report("u1", 1, running, true), Err(Cause::OutOfDate)),
            ("pi", report("u1", 1, json!({"phase": {}}), false), Err(Cause::NotUnderstood)),
            ("pi", report("u1", 1, json!({"containerStatuses": 7}), false), Err(Cause::NotUnderstood)),
            ("pi", report("u1", 1, json!("Running"), false), Err(Cause::NotUnderstood)),
        ] {
            assert_eq!(check(&view, node, &report), expected, "{node} {report:?}");
        }
    }

    #[test]
    fn an_event_is_about_a_pod_of_the_node_or_one_that_has_just_gone_or_about_a_service() {
        let mut view = view(pod(json!({})));
        let namespace = Object::from_value(json!({"metadata": {"name": "a"}})).unwrap();
        view.apply(Revision(3), Op::create(Key::of(&registry::NAMESPACES, &namespace), namespace).into());
        let service = Object::from_value(json!({"metadata": {"name": "shop", "namespace": "a"}})).unwrap();
        view.apply(Revision(4), Op::create(Key::of(&registry::SERVICES, &service), service).into());
        let event = |namespace: &str, name: &str| NodeEvent {
            kind: "Pod".into(),
            uid: Uid::from("u1"),
            namespace: namespace.into(),
            name: name.into(),
            field_path: String::new(),
            warning: false,
            reason: "Killing".into(),
            message: String::new(),
        };
        for (node, event, expected) in [
            ("pi", event("a", "web"), Ok(())),
            ("pi", event("a", "gone"), Ok(())),
            ("pj", event("a", "web"), Err(Cause::NotItsOwn)),
            ("pi", event("b", "web"), Err(Cause::OutOfDate)),
            ("pi", event("a", "no name"), Err(Cause::NotUnderstood)),
            ("pj", NodeEvent { kind: "Service".into(), ..event("a", "shop") }, Ok(())),
            ("pj", NodeEvent { kind: "Service".into(), ..event("a", "web") }, Err(Cause::OutOfDate)),
            ("pi", NodeEvent { kind: "Node".into(), ..event("a", "web") }, Err(Cause::NotUnderstood)),
        ] {
            assert_eq!(check_event(&view, node, &event), expected, "{node} {event:?}");
        }
    }
}
