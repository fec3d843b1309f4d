//! `create`: a new object.
//!
//! Order: identity of the request, what the server adds, defaults, namespace and rules of admission, validation, write.

use crate::api::status::ApiError;
use crate::api::validate::{self, FieldError, FieldErrorKind};
use crate::api::{Key, Object, Resource, registry};
use crate::apiserver::admission::{self, Cluster};
use crate::apiserver::allocate;
use crate::apiserver::intake::Intake;
use crate::apiserver::options::{DryRun, WriteOptions};
use crate::clock::Now;
use crate::rng::Rng;
use crate::store::{Op, View};

use super::{Answer, Outcome};

/// Names are cut to this before five letters are added, so that they fit a label.
const GENERATED_STEM: usize = 58;
/// How often a generated name is drawn anew when it is taken.
const DRAWS: usize = 8;

/// What is to be made.
#[derive(Clone, Copy, Debug)]
pub struct New<'a> {
    /// Of which resource.
    pub resource: &'static Resource,
    /// The namespace of the path; empty for cluster scope.
    pub namespace: &'a str,
    /// The body.
    pub taken: &'a Intake,
    /// How.
    pub options: WriteOptions,
}

/// What making this object comes to.
///
/// # Errors
/// 400, 403, 404, 409 and 422.
pub fn create(view: &View, new: &New<'_>, cluster: &Cluster, now: Now, ids: &mut Rng) -> Result<Outcome, ApiError> {
    let New { resource, namespace, taken, options } = *new;
    let mut object = taken.object.clone();
    place(resource, namespace, &mut object)?;
    let asked = object.str_at(&["metadata", "resourceVersion"]);
    if !matches!(asked, "" | "0") {
        return Err(ApiError::BadRequest("resourceVersion should not be set on objects to be created".to_owned()));
    }
    let key = name(view, resource, &mut object, ids)?;
    admission::complete(resource, &mut object);
    admission::complete_by_cluster(view, resource, &mut object)?;
    (resource.strategy.default)(&mut object);
    if *resource == registry::PODS {
        admission::complete_pod_status(&mut object);
    } else if *resource == registry::SERVICES {
        allocate::allot(view, cluster.services, None, &mut object)
            .map_err(|errors| ApiError::invalid(resource, object.name(), errors))?;
    }
    admission::stamp(resource, &mut object, now.wall, ids);
    admission::admit(view, resource, &object)?;
    let mut errors = validate::object::errors(resource, &object);
    errors.extend((resource.strategy.validate)(&object));
    if *resource == registry::PODS {
        errors.extend(validate::pod::create_errors(&object));
    }
    if !errors.is_empty() {
        return Err(ApiError::invalid(resource, object.name(), errors));
    }
    if view.get(&key).is_some() {
        return Err(ApiError::AlreadyExists { resource, name: key.name });
    }
    let mut ops = vec![Op::create(key, object.clone())];
    if *resource == registry::NAMESPACES && options.dry_run == DryRun::No {
        ops.extend(admission::with_namespace(view, object.name(), cluster, now.wall, ids));
    }
    Ok(Outcome::write(options.dry_run, ops, Answer::object(object).with_code(201).with_warnings(taken.warnings.clone())))
}

/// Puts an object into the namespace of the path.
///
/// # Errors
/// 400 when it says that it belongs elsewhere.
pub fn place(resource: &Resource, namespace: &str, object: &mut Object) -> Result<(), ApiError> {
    if !resource.namespaced {
        object.remove_at(&["metadata", "namespace"]);
        return Ok(());
    }
    match object.namespace() {
        "" => object.set_at(&["metadata", "namespace"], namespace),
        own if own == namespace => {}
        _ => {
            return Err(ApiError::BadRequest(
                "the namespace of the provided object does not match the namespace sent on the request".to_owned(),
            ));
        }
    }
    Ok(())
}

fn name(view: &View, resource: &'static Resource, object: &mut Object, ids: &mut Rng) -> Result<Key, ApiError> {
    if object.name().is_empty() {
        let stem = object.str_at(&["metadata", "generateName"]);
        if stem.is_empty() {
            let message = "Required value: name or generateName is required".to_owned();
            let error = FieldError { kind: FieldErrorKind::Required, path: "metadata.name".to_owned(), message };
            return Err(ApiError::invalid(resource, "", vec![error]));
        }
        let stem: String = stem.chars().take(GENERATED_STEM).collect();
        let mut drawn = format!("{stem}{}", ids.name_suffix(5));
        for _ in 0..DRAWS {
            if view.get(&Key::new(resource, object.namespace(), &drawn)).is_none() {
                break;
            }
            drawn = format!("{stem}{}", ids.name_suffix(5));
        }
        object.set_at(&["metadata", "name"], drawn);
    }
    Ok(Key::of(resource, object))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Revision;
    use crate::apiserver::verbs::Body;
    use crate::clock::{Tick, Wall};
    use crate::store::Batch;
    use serde_json::{Value, json};

    fn world() -> View {
        let mut view = View::new(Revision(0));
        let ops = admission::bootstrap(&view, &Cluster::default(), Wall(0), &mut Rng::seeded(1, "ids"));
        view.apply(Revision(1), Batch(ops));
        view
    }

    /// Operations, the object, warnings.
    type Made = (Vec<Op>, Object, Vec<String>);

    fn made(view: &View, resource: &'static Resource, namespace: &str, value: Value) -> Result<Made, (u16, String)> {
        let taken = Intake { object: Object::from_value(value).unwrap(), warnings: vec![] };
        let now = Now { tick: Tick(0), wall: Wall(1_000_000) };
        let new = New { resource, namespace, taken: &taken, options: WriteOptions::default() };
        match create(view, &new, &Cluster::default(), now, &mut Rng::seeded(2, "ids")) {
            Ok(Outcome::Write(ops, Answer { body: Body::Object(object), warnings, code: 201 })) => {
                Ok((ops, object.as_ref().clone(), warnings))
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err((error.code(), error.to_string())),
        }
    }

    #[test]
    fn a_new_object_gets_its_identity_from_the_server() {
        let body = json!({"metadata": {"name": "c", "uid": "mine", "deletionTimestamp": "2020-01-01T00:00:00Z", "generation": 9}, "data": {"a": "b"}});
        let (ops, object, _) = made(&world(), &registry::CONFIG_MAPS, "default", body).unwrap();
        assert_eq!((ops.len(), object.namespace(), object.is_deleting()), (1, "default", false));
        assert_eq!(object.uid().0.len(), 36);
        assert_eq!(object.str_at(&["metadata", "creationTimestamp"]), "1970-01-01T00:16:40Z");
        assert_eq!(object.at(&["metadata", "generation"]), None);
    }

    #[test]
    fn names_are_generated_and_long_stems_are_cut() {
        let (_, object, _) =
            made(&world(), &registry::CONFIG_MAPS, "default", json!({"metadata": {"generateName": "c-"}})).unwrap();
        assert!(object.name().starts_with("c-") && object.name().len() == 7, "{}", object.name());
        let (_, object, _) =
            made(&world(), &registry::CONFIG_MAPS, "default", json!({"metadata": {"generateName": "x".repeat(70)}})).unwrap();
        assert_eq!(object.name().len(), 63);
    }

    #[test]
    fn what_cannot_be_made_is_refused_with_its_code() {
        let map = &registry::CONFIG_MAPS;
        for (resource, namespace, body, code, words) in [
            (map, "nowhere", json!({"metadata": {"name": "c"}}), 404, "namespaces \"nowhere\" not found"),
            (map, "default", json!({"metadata": {"name": "c", "namespace": "other"}}), 400, "does not match the namespace sent"),
            (map, "default", json!({"metadata": {}}), 422, "name or generateName is required"),
            (
                map,
                "default",
                json!({"metadata": {"name": "c", "resourceVersion": "5"}}),
                400,
                "resourceVersion should not be set",
            ),
            (&registry::NAMESPACES, "", json!({"metadata": {"name": "default"}}), 409, "namespaces \"default\" already exists"),
        ] {
            let (found, message) = made(&world(), resource, namespace, body).unwrap_err();
            assert_eq!(found, code, "{message}");
            assert!(message.contains(words), "{message}");
        }
    }

    #[test]
    fn a_namespace_comes_with_its_service_account_and_a_service_without_a_warning() {
        let (ops, object, _) = made(&world(), &registry::NAMESPACES, "", json!({"metadata": {"name": "home"}})).unwrap();
        assert_eq!(ops.len(), 2);
        assert_eq!((object.label("kubernetes.io/metadata.name"), object.str_at(&["status", "phase"])), (Some("home"), "Active"));
        let service =
            json!({"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}]}});
        let (_, _, warnings) = made(&world(), &registry::SERVICES, "default", service).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
    }
}
