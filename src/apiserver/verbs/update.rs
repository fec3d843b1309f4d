//! `update` and `patch`: an object anew, or a part of it; also of its status alone.
//!
//! Both make a candidate, which goes through [`replace`]: what clients may not change is put back, generation and
//! finalizers are seen to, and a change that changes nothing is not written.

use serde_json::{Map, Value};

use crate::api::registry::Subresource;
use crate::api::status::{ApiError, MODIFIED};
use crate::api::validate::{self, FieldError, FieldErrorKind};
use crate::api::{Key, Object, Resource, registry};
use crate::apiserver::admission::{self, Cluster};
use crate::apiserver::allocate;
use crate::apiserver::decode;
use crate::apiserver::intake::{self, Intake};
use crate::apiserver::options::WriteOptions;
use crate::apiserver::patch::{self, PatchError, PatchKind};
use crate::store::{Op, View};

use super::{Answer, Body, Outcome, read};

/// Which part of an object a write may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All but the status.
    Main,
    /// The status, labels and annotations.
    Status,
    /// A pod's ephemeral containers.
    EphemeralContainers,
    /// The conditions of a request for a certificate.
    Approval,
}

/// The part that a path names.
#[must_use]
pub fn part(subresource: Option<Subresource>) -> Part {
    match subresource {
        Some(Subresource::Status) => Part::Status,
        Some(Subresource::EphemeralContainers) => Part::EphemeralContainers,
        Some(Subresource::Approval) => Part::Approval,
        _ => Part::Main,
    }
}

/// What replacing an object by this one comes to.
///
/// # Errors
/// 400, 404, 409 and 422.
pub fn update(
    view: &View,
    key: &Key,
    part: Part,
    taken: &Intake,
    cluster: &Cluster,
    options: WriteOptions,
) -> Result<Outcome, ApiError> {
    let current = read::get(view, key)?;
    let candidate = completed(view, current, key, part, taken.object.clone(), cluster)?;
    let outcome = replace(current, key, part, candidate, taken.warnings.clone(), options)?;
    admitted(view, current, key, part, outcome)
}

/// A patch that was read.
#[derive(Clone, Debug)]
pub struct Patch {
    /// How it is applied.
    pub kind: PatchKind,
    /// What it says.
    pub value: Value,
    /// Paths of keys that stood twice in it.
    pub duplicates: Vec<String>,
}

impl Patch {
    /// Reads a patch by its content type.
    ///
    /// # Errors
    /// 400 when it is broken, 415 for another content type.
    pub fn read(content_type: &str, bytes: &[u8]) -> Result<Self, ApiError> {
        let kind =
            PatchKind::from_content_type(content_type).ok_or(ApiError::UnsupportedMediaType { accepted: PatchKind::ACCEPTED })?;
        // Keys that stand twice are looked for where there are keys of the object.
        let keyed = (kind != PatchKind::Json).then(|| decode::body("application/json", bytes).ok()).flatten();
        if let Some(decoded) = keyed {
            return Ok(Self { kind, value: decoded.value, duplicates: decoded.duplicates });
        }
        let value = decode::patch(bytes).map_err(|error| ApiError::BadRequest(error.to_string()))?;
        Ok(Self { kind, value, duplicates: Vec::new() })
    }

    /// The value after the patch.
    ///
    /// # Errors
    /// 400 when it is malformed, 422 when it does not fit.
    pub fn apply(&self, resource: &Resource, name: &str, value: &Value) -> Result<Value, ApiError> {
        patch::apply(self.kind, resource, value, &self.value).map_err(|error| match error {
            PatchError::Malformed(why) => ApiError::BadRequest(why),
            PatchError::DoesNotFit(message) => ApiError::invalid(
                resource,
                name,
                vec![FieldError { kind: FieldErrorKind::Invalid, path: "patch".to_owned(), message }],
            ),
        })
    }
}

/// What patching an object comes to.
///
/// # Errors
/// 400, 404, 409 and 422.
pub fn patch(
    view: &View,
    key: &Key,
    part: Part,
    patch: &Patch,
    cluster: &Cluster,
    options: WriteOptions,
) -> Result<Outcome, ApiError> {
    let current = read::get(view, key)?;
    let value = patch.apply(key.resource, &key.name, &current.to_value())?;
    let taken = intake::pruned(key.resource, value, &patch.duplicates, options.validation)?;
    let candidate = completed(view, current, key, part, taken.object, cluster)?;
    let outcome = replace(current, key, part, candidate, taken.warnings, options)?;
    admitted(view, current, key, part, outcome)
}

/// The candidate with what it is given by what else there is in the cluster.
fn completed(
    view: &View,
    current: &Object,
    key: &Key,
    part: Part,
    mut candidate: Object,
    cluster: &Cluster,
) -> Result<Object, ApiError> {
    if part == Part::Main && *key.resource == registry::SERVICES {
        // Its place, where the body leaves it out.
        candidate.set_at(&["metadata", "namespace"], key.namespace.as_str());
        (key.resource.strategy.default)(&mut candidate);
        allocate::allot(view, cluster.services, Some(current), &mut candidate)
            .map_err(|errors| ApiError::invalid(key.resource, &key.name, errors))?;
    }
    Ok(candidate)
}

/// The outcome, when the rest of the cluster has nothing against it.
fn admitted(view: &View, current: &Object, key: &Key, part: Part, outcome: Outcome) -> Result<Outcome, ApiError> {
    if let (Part::Main, Outcome::Answer(answer) | Outcome::Write(_, answer)) = (part, &outcome)
        && let Body::Object(next) = &answer.body
    {
        admission::admit_change(view, key.resource, current, next)?;
    }
    Ok(outcome)
}

/// What it comes to when `candidate` is to stand where `current` does.
///
/// # Errors
/// 400 for another name or namespace, 409 for a stale revision or another uid, 422 for what is not valid.
pub fn replace(
    current: &Object,
    key: &Key,
    part: Part,
    candidate: Object,
    warnings: Vec<String>,
    options: WriteOptions,
) -> Result<Outcome, ApiError> {
    let resource = key.resource;
    same_object(current, key, &candidate)?;
    let mut next = match part {
        Part::Main => main_part(resource, current, candidate),
        Part::Status => status_part(current, &candidate),
        Part::EphemeralContainers => ephemeral_part(current, &candidate),
        Part::Approval => approval_part(current, &candidate),
    };
    keep_identity(current, &mut next);
    if !matches!(part, Part::Status | Part::Approval) {
        (resource.strategy.default)(&mut next);
    }
    if next == *current {
        return Ok(Outcome::Answer(Answer::object(next).with_warnings(warnings)));
    }
    if resource.generation && wanted(current) != wanted(&next) {
        next.set_at(&["metadata", "generation"], current.generation().0 + 1);
    }
    let errors = update_errors(resource, part, current, &next);
    if !errors.is_empty() {
        return Err(ApiError::invalid(resource, &key.name, errors));
    }
    let op = if is_over(&next) {
        Op::delete(key.clone(), current.revision())
    } else {
        Op::update(key.clone(), current.revision(), next.clone())
    };
    Ok(Outcome::write(options.dry_run, vec![op], Answer::object(next).with_warnings(warnings)))
}

fn same_object(current: &Object, key: &Key, candidate: &Object) -> Result<(), ApiError> {
    let conflict = |why: String| ApiError::Conflict { resource: key.resource, name: key.name.clone(), why };
    if candidate.name() != key.name {
        let named = candidate.name();
        return Err(ApiError::BadRequest(if named.is_empty() {
            "the name of the object (based on URL) was undeterminable: name must be provided".to_owned()
        } else {
            format!("the name of the object ({named}) does not match the name on the URL ({})", key.name)
        }));
    }
    if key.resource.namespaced && !candidate.namespace().is_empty() && candidate.namespace() != key.namespace {
        return Err(ApiError::BadRequest(format!(
            "the namespace of the object ({}) does not match the namespace on the URL ({})",
            candidate.namespace(),
            key.namespace
        )));
    }
    let uid = candidate.uid();
    if !uid.0.is_empty() && uid != current.uid() {
        return Err(conflict(format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {}", current.uid())));
    }
    let seen = candidate.str_at(&["metadata", "resourceVersion"]);
    if !matches!(seen, "" | "0") && seen != current.revision().to_string() {
        return Err(conflict(MODIFIED.to_owned()));
    }
    Ok(())
}

/// The candidate with the status that is there.
fn main_part(resource: &Resource, current: &Object, mut candidate: Object) -> Object {
    if resource.has(Subresource::Status) {
        put_back(current.raw(), candidate.raw_mut(), "status");
    }
    if *resource == registry::NAMESPACES {
        // Only `finalize` takes a namespace's own finalizers away.
        put_back(current.raw(), candidate.raw_mut(), "spec");
    }
    candidate
}

/// What is there with the candidate's status, labels and annotations.
fn status_part(current: &Object, candidate: &Object) -> Object {
    let mut next = current.clone();
    put_back(candidate.raw(), next.raw_mut(), "status");
    if let (Some(from), Some(Value::Object(to))) =
        (candidate.at(&["metadata"]).and_then(Value::as_object), next.raw_mut().get_mut("metadata"))
    {
        for field in ["labels", "annotations"] {
            put_back(from, to, field);
        }
    }
    next
}

/// What is there with the candidate's ephemeral containers.
fn ephemeral_part(current: &Object, candidate: &Object) -> Object {
    const PATH: [&str; 2] = ["spec", "ephemeralContainers"];
    let mut next = current.clone();
    match candidate.at(&PATH) {
        Some(containers) => next.set_at(&PATH, containers.clone()),
        None => drop(next.remove_at(&PATH)),
    }
    next
}

/// What is there with the candidate's conditions.
fn approval_part(current: &Object, candidate: &Object) -> Object {
    const PATH: [&str; 2] = ["status", "conditions"];
    let mut next = current.clone();
    next.set_at(&PATH, candidate.list_at(&PATH).to_vec());
    next
}

fn put_back(from: &Map<String, Value>, to: &mut Map<String, Value>, field: &str) {
    match from.get(field) {
        Some(value) => to.insert(field.to_owned(), value.clone()),
        None => to.remove(field),
    };
}

/// What no client changes.
fn keep_identity(current: &Object, next: &mut Object) {
    next.remove_at(&["metadata", "managedFields"]);
    let Some(from) = current.at(&["metadata"]).and_then(Value::as_object) else { return };
    if let Some(Value::Object(to)) = next.raw_mut().get_mut("metadata") {
        let kept = [
            "uid",
            "creationTimestamp",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "generation",
            "namespace",
            "resourceVersion",
            "generateName",
        ];
        for field in kept {
            put_back(from, to, field);
        }
    }
}

/// Everything that says what is wanted: neither metadata nor status.
fn wanted(object: &Object) -> Vec<(&String, &Value)> {
    object.raw().iter().filter(|(key, _)| !matches!(key.as_str(), "metadata" | "status" | "kind" | "apiVersion")).collect()
}

fn update_errors(resource: &Resource, part: Part, current: &Object, next: &Object) -> Vec<FieldError> {
    let mut errors = validate::object::update_errors(resource, current, next);
    if part == Part::Main {
        errors.extend(validate::object::errors(resource, next));
        errors.extend((resource.strategy.validate)(next));
        errors.extend((resource.strategy.validate_update)(current, next));
    }
    if *resource == registry::CERTIFICATE_SIGNING_REQUESTS && part != Part::Main {
        errors.extend(validate::certificate::answer_errors(current, next));
    }
    if part == Part::EphemeralContainers {
        errors.extend((resource.strategy.validate)(next));
        errors.extend(validate::pod::ephemeral_errors(current, next));
    }
    let path = "metadata.finalizers";
    let added: Vec<&str> = next.finalizers().filter(|new| !current.finalizers().any(|old| old == *new)).collect();
    if current.is_deleting() && !added.is_empty() && !errors.iter().any(|error| error.path == path) {
        let message =
            format!("Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers {added:?}");
        errors.push(FieldError { kind: FieldErrorKind::Forbidden, path: path.to_owned(), message });
    }
    errors
}

/// Whether nothing holds an object back any more whose deletion was asked for.
#[must_use]
pub fn is_over(object: &Object) -> bool {
    object.is_deleting()
        && object.finalizers().next().is_none()
        && object.i64_at(&["metadata", "deletionGracePeriodSeconds"]).unwrap_or_default() == 0
        && (object.kind() != registry::NAMESPACES.kind || object.list_at(&["spec", "finalizers"]).is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Revision;
    use crate::apiserver::options::DryRun;
    use crate::store::Change;
    use serde_json::json;

    fn deployment() -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "a", "uid": "u1", "generation": 3, "resourceVersion": "7", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {
                "replicas": 1, "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
            },
            "status": {"replicas": 1},
        })
    }

    /// The stored deployment, with its defaults.
    fn stored() -> Object {
        let mut object = Object::from_value(deployment()).unwrap();
        (registry::DEPLOYMENTS.strategy.default)(&mut object);
        object
    }

    fn replaced(part: Part, change: impl Fn(&mut Object)) -> Result<Outcome, (u16, String)> {
        let current = stored();
        let mut candidate = current.clone();
        change(&mut candidate);
        let key = Key::new(&registry::DEPLOYMENTS, "a", "web");
        replace(&current, &key, part, candidate, vec![], WriteOptions::default())
            .map_err(|error| (error.code(), error.to_string()))
    }

    fn written(outcome: Outcome) -> Object {
        match outcome {
            Outcome::Write(ops, _) => match &ops[0].change {
                Change::Put(object) => object.clone(),
                Change::Delete => panic!("deleted"),
            },
            Outcome::Answer(answer) => panic!("not written: {answer:?}"),
        }
    }

    #[test]
    fn generation_counts_changes_of_what_is_wanted_only() {
        let object = written(replaced(Part::Main, |object| object.set_at(&["spec", "replicas"], 5)).unwrap());
        assert_eq!(object.generation().0, 4);
        let object = written(replaced(Part::Main, |object| object.set_at(&["metadata", "labels", "a"], "b")).unwrap());
        assert_eq!((object.generation().0, object.label("a")), (3, Some("b")));
        let object = written(replaced(Part::Status, |object| object.set_at(&["status", "replicas"], 2)).unwrap());
        assert_eq!((object.generation().0, object.i64_at(&["status", "replicas"])), (3, Some(2)));
    }

    #[test]
    fn the_status_and_the_rest_are_written_apart() {
        let both = |object: &mut Object| {
            object.set_at(&["spec", "replicas"], 5);
            object.set_at(&["status", "replicas"], 5);
        };
        let main = written(replaced(Part::Main, both).unwrap());
        assert_eq!((main.i64_at(&["spec", "replicas"]), main.i64_at(&["status", "replicas"])), (Some(5), Some(1)));
        let status = written(replaced(Part::Status, both).unwrap());
        assert_eq!((status.i64_at(&["spec", "replicas"]), status.i64_at(&["status", "replicas"])), (Some(1), Some(5)));
    }

    #[test]
    fn what_changes_nothing_is_not_written() {
        let forged = |object: &mut Object| {
            object.set_at(&["metadata", "creationTimestamp"], "1999-01-01T00:00:00Z");
            object.set_at(&["metadata", "generation"], 99);
            object.remove_at(&["metadata", "resourceVersion"]);
            object.remove_at(&["metadata", "uid"]);
        };
        match replaced(Part::Main, forged).unwrap() {
            Outcome::Answer(Answer { body: Body::Object(object), .. }) => assert_eq!(*object, stored()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn stale_or_foreign_writes_are_conflicts() {
        for (field, value, code, words) in [
            (
                "resourceVersion",
                "6",
                409,
                "Operation cannot be fulfilled on deployments.apps \"web\": the object has been modified",
            ),
            ("uid", "u2", 409, "UID in precondition: u2, UID in object meta: u1"),
            ("name", "other", 400, "the name of the object (other) does not match the name on the URL (web)"),
            ("namespace", "b", 400, "does not match the namespace on the URL"),
        ] {
            let (found, message) = replaced(Part::Main, |object| object.set_at(&["metadata", field], value)).unwrap_err();
            assert_eq!(found, code, "{message}");
            assert!(message.contains(words), "{message}");
        }
    }

    #[test]
    fn the_last_finalizer_to_go_takes_the_object_along() {
        let mut current = stored();
        current.set_at(&["metadata", "deletionTimestamp"], "2026-01-02T00:00:00Z");
        current.set_at(&["metadata", "deletionGracePeriodSeconds"], 0);
        current.set_at(&["metadata", "finalizers"], json!(["a.io/b"]));
        let key = Key::new(&registry::DEPLOYMENTS, "a", "web");
        let run = |finalizers: Value| {
            let mut candidate = current.clone();
            candidate.set_at(&["metadata", "finalizers"], finalizers);
            replace(&current, &key, Part::Main, candidate, vec![], WriteOptions::default())
        };
        match run(json!([])).unwrap() {
            Outcome::Write(ops, _) => assert!(matches!(ops[0].change, Change::Delete)),
            Outcome::Answer(answer) => panic!("{answer:?}"),
        }
        let error = run(json!(["a.io/b", "c.io/d"])).unwrap_err();
        assert_eq!(error.code(), 422);
        assert!(error.to_string().contains("no new finalizers can be added"), "{error}");
    }

    #[test]
    fn a_try_writes_nothing_and_answers_as_if() {
        let current = stored();
        let mut candidate = current.clone();
        candidate.set_at(&["spec", "replicas"], 9);
        let options = WriteOptions { dry_run: DryRun::All, ..WriteOptions::default() };
        let key = Key::new(&registry::DEPLOYMENTS, "a", "web");
        match replace(&current, &key, Part::Main, candidate, vec![], options).unwrap() {
            Outcome::Answer(Answer { body: Body::Object(object), .. }) => {
                assert_eq!((object.i64_at(&["spec", "replicas"]), object.revision()), (Some(9), Revision(7)));
            }
            other => panic!("{other:?}"),
        }
    }
}
