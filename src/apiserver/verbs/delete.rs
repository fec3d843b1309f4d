//! `delete` and `deletecollection`.
//!
//! ```text
//! asked ─▶ preconditions ─▶ finalizers by propagation policy ─▶ grace (pods only)
//!            │ 409              orphan / foregroundDeletion        │
//!                                                                  ├─ nothing holds it: removed at once
//!                                                                  └─ else marked: deletionTimestamp, the rest is others' work
//! ```
//! A second deletion can only shorten a pod's grace. A namespace is marked, and emptied by its controller.
//! Source: the API machinery's graceful deletion and the pod strategy's grace.

use crate::api::status::{self, ApiError};
use crate::api::{Key, Object, registry, time};
use crate::apiserver::admission::IMMORTAL;
use crate::apiserver::options::{DeleteOptions, ListOptions, Propagation};
use crate::apiserver::route::Target;
use crate::clock::{Now, Wall};
use crate::store::{Op, View};

use super::{Answer, Outcome, read, update};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// What deleting one object comes to.
///
/// # Errors
/// 403 for what cannot be deleted, 404, and 409 when a precondition does not hold.
pub fn delete(view: &View, key: &Key, options: &DeleteOptions, now: Now) -> Result<Outcome, ApiError> {
    let current = read::get(view, key)?;
    let planned = plan(current, key, options, now)?;
    Ok(answered(key, current, options, planned))
}

fn answered(key: &Key, current: &Object, options: &DeleteOptions, planned: Planned) -> Outcome {
    match planned {
        Planned::Removed => {
            let answer = Answer::document(status::success(key.resource, &key.name, &current.uid().0));
            Outcome::write(options.dry_run, vec![Op::delete(key.clone(), current.revision())], answer)
        }
        Planned::Marked(object) => {
            let op = Op::update(key.clone(), current.revision(), object.clone());
            Outcome::write(options.dry_run, vec![op], Answer::object(object))
        }
        Planned::AsItIs => Outcome::Answer(Answer::object(current.clone())),
    }
}

/// What deleting all that is selected comes to; more operations than one batch may have.
///
/// # Errors
/// As for one.
pub fn delete_collection(
    view: &View,
    target: &Target,
    list: &ListOptions,
    options: &DeleteOptions,
    now: Now,
) -> Result<Outcome, ApiError> {
    let mut ops = Vec::new();
    for object in view.list(target.resource, target.namespace.as_deref()).filter(|object| list.selectors.select(object)) {
        let key = Key::of(target.resource, object);
        match plan(object, &key, options, now)? {
            Planned::Removed => ops.push(Op::delete(key, object.revision())),
            Planned::Marked(marked) => ops.push(Op::update(key, object.revision(), marked)),
            Planned::AsItIs => {}
        }
    }
    Ok(Outcome::write(options.dry_run, ops, Answer::document(status::success(target.resource, "", ""))))
}

/// What becomes of one object.
#[derive(Clone, Debug, PartialEq)]
pub enum Planned {
    /// It goes at once.
    Removed,
    /// It stays until its finalizers are gone, like this.
    Marked(Object),
    /// It is on its way out already.
    AsItIs,
}

/// What becomes of an object that is to be deleted.
///
/// # Errors
/// 403 and 409.
pub fn plan(current: &Object, key: &Key, options: &DeleteOptions, now: Now) -> Result<Planned, ApiError> {
    preconditions(current, key, options)?;
    if *key.resource == registry::NAMESPACES && IMMORTAL.contains(&key.name.as_str()) {
        let why = "this namespace may not be deleted".to_owned();
        return Err(ApiError::NotAdmitted { resource: key.resource, name: key.name.clone(), why });
    }
    let mut next = current.clone();
    propagate(&mut next, options.propagation);
    if *key.resource == registry::NAMESPACES {
        next.set_at(&["status", "phase"], "Terminating");
    }
    match (current.is_deleting(), grace_seconds(current, key, options)) {
        (true, grace) => shorten(&mut next, options.grace_seconds.and(Some(grace))),
        (false, grace) => mark(&mut next, grace, now.wall),
    }
    if update::is_over(&next) {
        return Ok(Planned::Removed);
    }
    Ok(if next == *current { Planned::AsItIs } else { Planned::Marked(next) })
}

fn preconditions(current: &Object, key: &Key, options: &DeleteOptions) -> Result<(), ApiError> {
    let conflict = |why| Err(ApiError::Conflict { resource: key.resource, name: key.name.clone(), why });
    let (uid, revision) = (current.uid().0, current.revision().to_string());
    match (&options.uid, &options.resource_version) {
        (Some(wanted), _) if *wanted != uid => {
            conflict(format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {uid}"))
        }
        (_, Some(wanted)) if *wanted != revision => conflict(format!(
            "Precondition failed: ResourceVersion in precondition: {wanted}, ResourceVersion in object meta: {revision}"
        )),
        _ => Ok(()),
    }
}

/// The garbage collector reads from these finalizers what is to become of dependents.
fn propagate(object: &mut Object, propagation: Option<Propagation>) {
    let Some(propagation) = propagation else { return };
    let mut finalizers: Vec<String> =
        object.finalizers().filter(|name| !matches!(*name, ORPHAN | FOREGROUND)).map(str::to_owned).collect();
    match propagation {
        Propagation::Background => {}
        Propagation::Foreground => finalizers.push(FOREGROUND.to_owned()),
        Propagation::Orphan => finalizers.push(ORPHAN.to_owned()),
    }
    if finalizers.is_empty() {
        object.remove_at(&["metadata", "finalizers"]);
    } else {
        object.set_at(&["metadata", "finalizers"], finalizers);
    }
}

/// How long it may take to stop: only a pod that may run on a node takes any time.
fn grace_seconds(object: &Object, key: &Key, options: &DeleteOptions) -> i64 {
    if *key.resource != registry::PODS
        || object.str_at(&["spec", "nodeName"]).is_empty()
        || matches!(object.str_at(&["status", "phase"]), "Succeeded" | "Failed")
    {
        return 0;
    }
    let own = || object.i64_at(&["spec", "terminationGracePeriodSeconds"]);
    match options.grace_seconds.or_else(own).unwrap_or(30) {
        // A negative period means "as soon as can be", which is not "without asking the node".
        negative if negative < 0 => 1,
        seconds => seconds,
    }
}

fn mark(object: &mut Object, grace: i64, now: Wall) {
    object.set_at(&["metadata", "deletionTimestamp"], time::rfc3339(later(now, grace)));
    object.set_at(&["metadata", "deletionGracePeriodSeconds"], grace);
    let generation = object.generation().0;
    if generation > 0 {
        object.set_at(&["metadata", "generation"], generation + 1);
    }
}

/// `grace` is what this deletion asked for, `None` when it left that open.
fn shorten(object: &mut Object, grace: Option<i64>) {
    let Some(now_grace) = object.i64_at(&["metadata", "deletionGracePeriodSeconds"]) else { return };
    let Some(grace) = grace.filter(|grace| *grace < now_grace) else { return };
    if let Some(end) = object.deletion_timestamp().and_then(time::parse) {
        object.set_at(&["metadata", "deletionTimestamp"], time::rfc3339(later(end, grace - now_grace)));
    }
    object.set_at(&["metadata", "deletionGracePeriodSeconds"], grace);
}

fn later(wall: Wall, seconds: i64) -> Wall {
    Wall(wall.0.saturating_add(seconds.saturating_mul(1000)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Tick;
    use serde_json::{Value, json};

    fn pod(change: &Value) -> Object {
        let mut pod = json!({
            "metadata": {"name": "web", "namespace": "a", "uid": "u1", "resourceVersion": "7", "generation": 1},
            "spec": {"nodeName": "pi", "terminationGracePeriodSeconds": 30},
            "status": {"phase": "Running"},
        });
        json_patch::merge(&mut pod, change);
        Object::from_value(pod).unwrap()
    }

    fn planned(object: &Object, options: &DeleteOptions) -> Result<Planned, (u16, String)> {
        let now = Now { tick: Tick(0), wall: Wall(1_000_000) };
        plan(object, &Key::new(&registry::PODS, "a", "web"), options, now).map_err(|error| (error.code(), error.to_string()))
    }

    fn grace(seconds: i64) -> DeleteOptions {
        DeleteOptions { grace_seconds: Some(seconds), ..DeleteOptions::default() }
    }

    #[test]
    fn a_pod_goes_at_once_or_after_its_grace() {
        let bound = pod(&json!({}));
        for (name, object, options, left) in [
            ("running", bound.clone(), DeleteOptions::default(), Some(30)),
            ("asked for five seconds", bound.clone(), grace(5), Some(5)),
            ("negative", bound.clone(), grace(-1), Some(1)),
            ("force", bound, grace(0), None),
            ("not bound", pod(&json!({"spec": {"nodeName": null}})), DeleteOptions::default(), None),
            ("ended", pod(&json!({"status": {"phase": "Failed"}})), DeleteOptions::default(), None),
            (
                "ended, but held",
                pod(&json!({"status": {"phase": "Failed"}, "metadata": {"finalizers": ["a.io/b"]}})),
                DeleteOptions::default(),
                Some(0),
            ),
        ] {
            match planned(&object, &options).unwrap() {
                Planned::Removed => assert_eq!(left, None, "{name}"),
                Planned::Marked(marked) => {
                    assert_eq!(marked.i64_at(&["metadata", "deletionGracePeriodSeconds"]), left, "{name}");
                    assert_eq!(marked.generation().0, 2, "{name}");
                    let end = time::rfc3339(Wall(1_000_000 + left.unwrap() * 1000));
                    assert_eq!(marked.deletion_timestamp(), Some(end.as_str()), "{name}");
                }
                Planned::AsItIs => panic!("{name}"),
            }
        }
    }

    #[test]
    fn a_second_deletion_only_shortens() {
        let going = pod(&json!({"metadata": {"deletionTimestamp": "1970-01-01T00:30:00Z", "deletionGracePeriodSeconds": 30}}));
        assert_eq!(planned(&going, &DeleteOptions::default()), Ok(Planned::AsItIs));
        assert_eq!(planned(&going, &grace(60)), Ok(Planned::AsItIs));
        assert_eq!(planned(&going, &grace(0)), Ok(Planned::Removed));
        let Ok(Planned::Marked(shorter)) = planned(&going, &grace(10)) else { panic!("not shortened") };
        assert_eq!(shorter.deletion_timestamp(), Some("1970-01-01T00:29:40Z"));
    }

    #[test]
    fn the_propagation_policy_becomes_a_finalizer() {
        let ended = pod(&json!({"status": {"phase": "Failed"}}));
        for (policy, finalizer) in [(Propagation::Foreground, FOREGROUND), (Propagation::Orphan, ORPHAN)] {
            let options = DeleteOptions { propagation: Some(policy), ..DeleteOptions::default() };
            let Ok(Planned::Marked(marked)) = planned(&ended, &options) else { panic!("{policy:?}") };
            assert_eq!(marked.finalizers().collect::<Vec<_>>(), [finalizer]);
            let background = DeleteOptions { propagation: Some(Propagation::Background), ..DeleteOptions::default() };
            assert_eq!(planned(&marked, &background), Ok(Planned::Removed));
        }
    }

    #[test]
    fn preconditions_hold_or_it_is_a_conflict() {
        for (options, words) in [
            (DeleteOptions { uid: Some("u2".into()), ..grace(0) }, "UID in precondition: u2, UID in object meta: u1"),
            (DeleteOptions { resource_version: Some("6".into()), ..grace(0) }, "ResourceVersion in precondition: 6"),
        ] {
            let (code, message) = planned(&pod(&json!({})), &options).unwrap_err();
            assert_eq!(code, 409);
            assert!(message.contains(words), "{message}");
        }
    }

    #[test]
    fn a_namespace_is_marked_and_the_first_ones_stay() {
        let namespace = |name: &str| {
            Object::from_value(json!({"kind": "Namespace", "metadata": {"name": name}, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}})).unwrap()
        };
        let now = Now { tick: Tick(0), wall: Wall(0) };
        let run = |name: &str| plan(&namespace(name), &Key::new(&registry::NAMESPACES, "", name), &DeleteOptions::default(), now);
        let Ok(Planned::Marked(marked)) = run("home") else { panic!("not marked") };
        assert_eq!(marked.str_at(&["status", "phase"]), "Terminating");
        assert_eq!(
            run("default").unwrap_err().to_string(),
            "namespaces \"default\" is forbidden: this namespace may not be deleted"
        );
    }
}
