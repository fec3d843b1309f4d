//! What stands below objects: `scale`, `binding`, `eviction`, `finalize`.

use serde_json::{Value, json};

use crate::api::status::{ApiError, MODIFIED};
use crate::api::validate::{FieldError, FieldErrorKind};
use crate::api::{Key, Object, registry, time};
use crate::apiserver::intake::Intake;
use crate::apiserver::options::{DeleteOptions, WriteOptions};
use crate::clock::Now;
use crate::store::{Op, View};

use super::update::{self, Part, Patch};
use super::{Answer, Body, Outcome, delete, read};

/// The `autoscaling/v1` Scale of a workload.
#[must_use]
pub fn scale_of(object: &Object) -> Value {
    let mut metadata = json!({});
    if let (Some(to), Some(from)) = (metadata.as_object_mut(), object.at(&["metadata"])) {
        for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
            if let Some(value) = from.get(field) {
                to.insert(field.to_owned(), value.clone());
            }
        }
    }
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": {"replicas": object.i64_at(&["spec", "replicas"]).unwrap_or_default()},
        "status": {
            "replicas": object.i64_at(&["status", "replicas"]).unwrap_or_default(),
            "selector": selector_text(object),
        },
    })
}

/// A workload's `spec.selector` in the grammar of queries.
fn selector_text(object: &Object) -> String {
    let equal = object.strings_at(&["spec", "selector", "matchLabels"]).map(|(key, value)| format!("{key}={value}"));
    let others = object.list_at(&["spec", "selector", "matchExpressions"]).iter().filter_map(|expression| {
        let text = |field: &str| expression.get(field).and_then(Value::as_str);
        let key = text("key")?;
        let values: Vec<&str> =
            expression.get("values").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        match text("operator")? {
            "In" => Some(format!("{key} in ({})", values.join(","))),
            "NotIn" => Some(format!("{key} notin ({})", values.join(","))),
            "Exists" => Some(key.to_owned()),
            "DoesNotExist" => Some(format!("!{key}")),
            _ => None,
        }
    });
    equal.chain(others).collect::<Vec<_>>().join(",")
}

/// What reading a scale comes to.
///
/// # Errors
/// 404.
pub fn get_scale(view: &View, key: &Key) -> Result<Answer, ApiError> {
    Ok(Answer::document(scale_of(read::get(view, key)?)))
}

/// What writing a whole scale comes to.
///
/// # Errors
/// 400, 404, 409 and 422.
pub fn put_scale(view: &View, key: &Key, scale: &Value, options: WriteOptions) -> Result<Outcome, ApiError> {
    let current = read::get(view, key)?;
    let named = scale.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    if named != key.name {
        return Err(ApiError::BadRequest(format!(
            "the name of the object ({named}) does not match the name on the URL ({})",
            key.name
        )));
    }
    set_scale(current, key, scale, options)
}

/// What patching a scale comes to.
///
/// # Errors
/// 400, 404, 409 and 422.
pub fn patch_scale(view: &View, key: &Key, patch: &Patch, options: WriteOptions) -> Result<Outcome, ApiError> {
    let current = read::get(view, key)?;
    let scale = patch.apply(key.resource, &key.name, &scale_of(current))?;
    set_scale(current, key, &scale, options)
}

fn set_scale(current: &Object, key: &Key, scale: &Value, options: WriteOptions) -> Result<Outcome, ApiError> {
    let invalid = |message: String| {
        let error = FieldError { kind: FieldErrorKind::Invalid, path: "spec.replicas".to_owned(), message };
        ApiError::Invalid {
            kind: "Scale".to_owned(),
            group: "autoscaling".to_owned(),
            name: key.name.clone(),
            errors: vec![error],
        }
    };
    let seen = scale.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or_default();
    if !seen.is_empty() && seen != current.revision().to_string() {
        return Err(ApiError::Conflict { resource: key.resource, name: key.name.clone(), why: MODIFIED.to_owned() });
    }
    let replicas = match scale.pointer("/spec/replicas") {
        None | Some(Value::Null) => 0,
        Some(value) => value.as_i64().filter(|number| i32::try_from(*number).is_ok()).ok_or_else(|| {
            ApiError::BadRequest(format!(
                "Scale in version \"v1\" cannot be handled as a Scale: spec.replicas is no whole number: {value}"
            ))
        })?,
    };
    if replicas < 0 {
        return Err(invalid(format!("Invalid value: {replicas}: must be greater than or equal to 0")));
    }
    let mut candidate = current.clone();
    candidate.set_at(&["spec", "replicas"], replicas);
    let as_scale = |answer: Answer| match &answer.body {
        Body::Object(object) => Answer { body: Body::Document(scale_of(object)), ..answer },
        _ => answer,
    };
    Ok(match update::replace(current, key, Part::Main, candidate, Vec::new(), options)? {
        Outcome::Answer(answer) => Outcome::Answer(as_scale(answer)),
        Outcome::Write(ops, answer) => Outcome::Write(ops, as_scale(answer)),
    })
}

/// A document's name, when it has one, must be that of the path.
fn same_name(key: &Key, body: &Value) -> Result<(), ApiError> {
    match body.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default() {
        "" => Ok(()),
        name if name == key.name => Ok(()),
        name => Err(ApiError::BadRequest(format!("name in URL does not match name in the object: {:?} and {name:?}", key.name))),
    }
}

/// What binding a pod to a node comes to.
///
/// # Errors
/// 400, 404, 409 and 422.
pub fn bind(view: &View, key: &Key, binding: &Value, options: WriteOptions, now: Now) -> Result<Outcome, ApiError> {
    same_name(key, binding)?;
    let pod = read::get(view, key)?;
    let target = |field: &str| binding.pointer(&format!("/target/{field}")).and_then(Value::as_str).unwrap_or_default();
    let node = target("name");
    let mut errors = Vec::new();
    if !matches!(target("kind"), "" | "Node") {
        let message = format!("Unsupported value: {:?}: supported values: \"Node\"", target("kind"));
        errors.push(FieldError { kind: FieldErrorKind::NotSupported, path: "target.kind".to_owned(), message });
    }
    if node.is_empty() {
        errors.push(FieldError {
            kind: FieldErrorKind::Required,
            path: "target.name".to_owned(),
            message: "Required value".to_owned(),
        });
    }
    if !errors.is_empty() {
        return Err(ApiError::Invalid { kind: "Binding".to_owned(), group: String::new(), name: key.name.clone(), errors });
    }
    let conflict = |why: String| Err(ApiError::Conflict { resource: key.resource, name: key.name.clone(), why });
    if pod.is_deleting() {
        return conflict(format!("pod {} is being deleted, cannot be assigned to a host", key.name));
    }
    let bound = pod.str_at(&["spec", "nodeName"]);
    if !bound.is_empty() {
        return conflict(format!("pod {} is already assigned to node {bound:?}", key.name));
    }
    let mut next = pod.as_ref().clone();
    next.set_at(&["spec", "nodeName"], node);
    set_condition(&mut next, json!({"type": "PodScheduled", "status": "True", "lastTransitionTime": time::rfc3339(now.wall)}));
    let answer =
        Answer::document(json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}));
    Ok(Outcome::write(options.dry_run, vec![Op::update(key.clone(), pod.revision(), next)], answer.with_code(201)))
}

/// What an eviction comes to: a deletion of the pod that says why it goes.
///
/// # Errors
/// 400, 404 and 409.
pub fn evict(view: &View, key: &Key, eviction: &Value, options: &DeleteOptions, now: Now) -> Result<Outcome, ApiError> {
    same_name(key, eviction)?;
    let pod = read::get(view, key)?;
    let answer =
        Answer::document(json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}))
            .with_code(201);
    let op = match delete::plan(pod, key, options, now)? {
        delete::Planned::AsItIs => return Ok(Outcome::Answer(answer)),
        delete::Planned::Removed => Op::delete(key.clone(), pod.revision()),
        delete::Planned::Marked(mut next) => {
            let condition = json!({
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "EvictionByEvictionAPI",
                "message": "Eviction API: evicting",
                "lastTransitionTime": time::rfc3339(now.wall),
            });
            set_condition(&mut next, condition);
            Op::update(key.clone(), pod.revision(), next)
        }
    };
    Ok(Outcome::write(options.dry_run, vec![op], answer))
}

fn set_condition(object: &mut Object, condition: Value) {
    let mut conditions: Vec<Value> = object.list_at(&["status", "conditions"]).to_vec();
    conditions.retain(|other| other.get("type") != condition.get("type"));
    conditions.push(condition);
    object.set_at(&["status", "conditions"], conditions);
}

/// What writing a namespace's finalizers comes to; without any it is over.
///
/// # Errors
/// 400, 404, 409 and 422.
pub fn finalize(view: &View, key: &Key, taken: &Intake, options: WriteOptions) -> Result<Outcome, ApiError> {
    debug_assert_eq!(*key.resource, registry::NAMESPACES);
    let current = read::get(view, key)?;
    let seen = taken.object.str_at(&["metadata", "resourceVersion"]);
    if !seen.is_empty() && seen != current.revision().to_string() {
        return Err(ApiError::Conflict { resource: key.resource, name: key.name.clone(), why: MODIFIED.to_owned() });
    }
    same_name(key, &taken.object.to_value())?;
    let mut next = current.as_ref().clone();
    let finalizers = taken.object.list_at(&["spec", "finalizers"]);
    if finalizers.is_empty() {
        next.remove_at(&["spec", "finalizers"]);
    } else {
        next.set_at(&["spec", "finalizers"], finalizers.to_vec());
    }
    let answer = Answer::object(next.clone());
    if next == **current {
        return Ok(Outcome::Answer(answer));
    }
    let op = if update::is_over(&next) {
        Op::delete(key.clone(), current.revision())
    } else {
        Op::update(key.clone(), current.revision(), next)
    };
    Ok(Outcome::write(options.dry_run, vec![op], answer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Revision;
    use crate::apiserver::patch::PatchKind;
    use crate::clock::{Tick, Wall};
    use crate::store::Change;

    const NOW: Now = Now { tick: Tick(0), wall: Wall(0) };

    fn world(resource: &'static crate::api::Resource, value: Value) -> (View, Key) {
        let mut view = View::new(Revision(0));
        let object = Object::from_value(value).unwrap();
        let key = Key::of(resource, &object);
        view.apply(Revision(7), Op::create(key.clone(), object).into());
        (view, key)
    }

    fn put(outcome: Outcome) -> (Option<Object>, Answer) {
        match outcome {
            Outcome::Write(mut ops, answer) => match ops.remove(0).change {
                Change::Put(object) => (Some(object), answer),
                Change::Delete => (None, answer),
            },
            Outcome::Answer(answer) => panic!("{answer:?}"),
        }
    }

    #[test]
    fn a_scale_reads_and_writes_the_replicas_of_its_workload() {
        let (view, key) = world(
            &registry::REPLICA_SETS,
            json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "web", "namespace": "a", "generation": 1},
                "spec": {"replicas": 2,
                    "selector": {"matchLabels": {"app": "web", "tier": "x"}, "matchExpressions": [{"key": "k", "operator": "NotIn", "values": ["a", "b"]}, {"key": "z", "operator": "Exists"}]},
                    "template": {"metadata": {"labels": {"app": "web", "tier": "x", "z": ""}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}},
                "status": {"replicas": 1}}),
        );
        let scale = scale_of(view.get(&key).unwrap());
        assert_eq!((&scale["spec"]["replicas"], &scale["status"]["replicas"]), (&json!(2), &json!(1)));
        assert_eq!(scale["status"]["selector"], "app=web,tier=x,k notin (a,b),z");
        let patch = Patch { kind: PatchKind::Merge, value: json!({"spec": {"replicas": 4}}), duplicates: vec![] };
        let (object, _) = put(patch_scale(&view, &key, &patch, WriteOptions::default()).unwrap());
        assert_eq!(object.unwrap().i64_at(&["spec", "replicas"]), Some(4));
        let with = |replicas: Value, revision: &str| json!({"metadata": {"name": "web", "resourceVersion": revision}, "spec": {"replicas": replicas}});
        let (object, answer) = put(put_scale(&view, &key, &with(json!(5), "7"), WriteOptions::default()).unwrap());
        assert_eq!(object.unwrap().i64_at(&["spec", "replicas"]), Some(5));
        let Body::Document(document) = answer.written_at(Revision(8)).body else { panic!("no scale") };
        assert_eq!((&document["spec"]["replicas"], &document["metadata"]["resourceVersion"]), (&json!(5), &json!("8")));
        for (scale, code) in [
            (with(json!(-1), ""), 422),
            (with(json!("x"), ""), 400),
            (with(json!(1), "6"), 409),
            (json!({"metadata": {"name": "b"}}), 400),
        ] {
            assert_eq!(put_scale(&view, &key, &scale, WriteOptions::default()).unwrap_err().code(), code, "{scale}");
        }
    }

    #[test]
    fn a_pod_is_bound_once() {
        let (mut view, key) = world(&registry::PODS, json!({"metadata": {"name": "web", "namespace": "a"}, "spec": {}}));
        let binding = json!({"metadata": {"name": "web"}, "target": {"kind": "Node", "name": "pi"}});
        let (bound, answer) = put(bind(&view, &key, &binding, WriteOptions::default(), NOW).unwrap());
        let bound = bound.unwrap();
        assert_eq!((bound.str_at(&["spec", "nodeName"]), answer.code), ("pi", 201));
        assert_eq!(bound.list_at(&["status", "conditions"])[0]["type"], "PodScheduled");
        view.apply(Revision(8), Op::update(key.clone(), Revision(7), bound).into());
        let error = bind(&view, &key, &binding, WriteOptions::default(), NOW).unwrap_err();
        assert_eq!(
            error.to_string(),
            "Operation cannot be fulfilled on pods \"web\": pod web is already assigned to node \"pi\""
        );
        assert_eq!(bind(&view, &key, &json!({"target": {}}), WriteOptions::default(), NOW).unwrap_err().code(), 422);
    }

    #[test]
    fn an_eviction_is_a_deletion_with_a_reason() {
        let (view, key) = world(
            &registry::PODS,
            json!({"metadata": {"name": "web", "namespace": "a"}, "spec": {"nodeName": "pi"}, "status": {"phase": "Running"}}),
        );
        let (evicted, answer) = put(evict(&view, &key, &json!({}), &DeleteOptions::default(), NOW).unwrap());
        let evicted = evicted.unwrap();
        assert!(evicted.is_deleting() && answer.code == 201);
        assert_eq!(evicted.list_at(&["status", "conditions"])[0]["reason"], "EvictionByEvictionAPI");
        assert_eq!(
            evict(&view, &key, &json!({"metadata": {"name": "b"}}), &DeleteOptions::default(), NOW).unwrap_err().code(),
            400
        );
    }

    #[test]
    fn a_namespace_without_finalizers_that_is_deleted_is_gone() {
        let namespace = json!({"kind": "Namespace", "metadata": {"name": "home", "deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 0},
            "spec": {"finalizers": ["kubernetes"]}});
        let (view, key) = world(&registry::NAMESPACES, namespace.clone());
        let mut without = Object::from_value(namespace).unwrap();
        without.remove_at(&["spec", "finalizers"]);
        let taken = Intake { object: without, warnings: vec![] };
        assert!(put(finalize(&view, &key, &taken, WriteOptions::default()).unwrap()).0.is_none());
    }
}
