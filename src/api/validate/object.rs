//! Rules for the metadata of every object: names, labels, annotations, owner references, finalizers.
//!
//! Source:   `ValidateObjectMeta`, `ValidateObjectMetaUpdate` of apimachinery and core.

use super::at::At;
use super::{Errors, FieldError, each, immutable, labels, name};
use crate::api::{Object, Resource, registry};

/// The finalizers that need no domain before them.
const STANDARD_FINALIZERS: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];

/// What is wrong with the metadata of a new object of this resource.
#[must_use]
pub fn errors(resource: &Resource, object: &Object) -> Vec<FieldError> {
    let mut out = Vec::new();
    let meta = At::field(object, "metadata");
    names(resource, &meta, &mut out);
    let namespace = meta.get("namespace");
    if !resource.namespaced {
        if !namespace.text().is_empty() {
            out.push(namespace.forbidden("not allowed on this type"));
        }
    } else if namespace.text().is_empty() {
        out.push(namespace.required());
    } else {
        each(&namespace, name::dns1123_label(namespace.text()), &mut out);
    }
    labels::labels(&meta.get("labels"), &mut out);
    labels::annotations(&meta.get("annotations"), &mut out);
    owners(&meta.get("ownerReferences"), &mut out);
    finalizers(&meta.get("finalizers"), &mut out);
    out
}

/// How the objects of a resource may be called.
fn rule(resource: &Resource) -> fn(&str) -> Vec<String> {
    if *resource == registry::NAMESPACES {
        name::dns1123_label
    } else if *resource == registry::SERVICES {
        // A service's name becomes the first label of a DNS name, and of environment variables.
        name::dns1035_label
    } else {
        name::dns1123_subdomain
    }
}

fn names(resource: &Resource, meta: &At<'_>, out: &mut Errors) {
    let (name, generate) = (meta.get("name"), meta.get("generateName"));
    let rule = rule(resource);
    if !generate.text().is_empty() {
        // A dash at the end is fine: something will follow it.
        let text = generate.text();
        let probe = text.strip_suffix('-').map_or_else(|| text.to_owned(), |head| format!("{head}a"));
        each(&generate, rule(&probe), out);
    }
    if !name.text().is_empty() {
        each(&name, rule(name.text()), out);
    } else if generate.text().is_empty() {
        out.push(FieldError::required(&name.path, "name or generateName is required"));
    }
}

fn owners(at: &At<'_>, out: &mut Errors) {
    let mut controller: Option<&str> = None;
    for owner in at.items() {
        let version = owner.get("apiVersion");
        if version.text().is_empty() || version.text().ends_with('/') {
            out.push(FieldError::invalid(&version.path, version.text(), "version must not be empty"));
        }
        for key in ["kind", "name", "uid"] {
            let field = owner.get(key);
            if field.text().is_empty() {
                out.push(FieldError::invalid(&field.path, "", "must not be empty"));
            }
        }
        if (version.text(), owner.get("kind").text()) == ("v1", "Event") {
            out.push(owner.invalid("/v1, Kind=Event is disallowed from being an owner"));
        }
        if owner.get("controller").flag() {
            let name = owner.get("name").text();
            if let Some(first) = controller {
                let words = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {name}"
                );
                out.push(at.invalid(&words));
            } else {
                controller = Some(name);
            }
        }
    }
}

fn finalizers(at: &At<'_>, out: &mut Errors) {
    let (mut orphan, mut foreground) = (false, false);
    for finalizer in at.texts() {
        out.extend(name::qualified(finalizer).iter().map(|fault| FieldError::invalid(&at.path, finalizer, fault)));
        if !finalizer.contains('/') && !STANDARD_FINALIZERS.contains(&finalizer) {
            out.push(FieldError::invalid(
                &at.path,
                finalizer,
                "name is neither a standard finalizer name nor is it fully qualified",
            ));
        }
        orphan |= finalizer == "orphan";
        foreground |= finalizer == "foregroundDeletion";
    }
    if orphan && foreground {
        out.push(at.invalid("finalizer orphan and foregroundDeletion cannot be both set"));
    }
}

/// What is wrong with a change of metadata (uid, name, creationTimestamp, … never change). Only the change is judged:
/// [`errors`] is called as well.
#[must_use]
pub fn update_errors(_resource: &Resource, old: &Object, new: &Object) -> Vec<FieldError> {
    let mut out = Vec::new();
    let (before, after) = (At::field(old, "metadata"), At::field(new, "metadata"));
    if old.is_deleting() {
        let added: Vec<&str> = new.finalizers().filter(|finalizer| !old.finalizers().any(|had| had == *finalizer)).collect();
        if !added.is_empty() {
            let words = format!("no new finalizers can be added if the object is being deleted, found new finalizers {added:?}");
            out.push(after.get("finalizers").forbidden(&words));
        }
    }
    for key in ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        let field = after.get(key);
        // Who leaves it out means "as it is".
        if field.is_set() && field.value() != "" {
            immutable(&before.get(key), &field, &mut out);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::validate::sentence;
    use serde_json::{Value, json};

    fn found(resource: &Resource, metadata: &Value) -> String {
        sentence(&errors(resource, &Object::from_value(json!({"metadata": metadata})).unwrap()))
    }

    #[test]
    fn names_follow_the_kind() {
        for (resource, name, fault) in [
            (&registry::PODS, "web-1.a", None),
            (&registry::PODS, "1", None),
            (&registry::PODS, "Web_1", Some("a lowercase RFC 1123 subdomain must consist of")),
            (&registry::SERVICES, "web", None),
            (&registry::SERVICES, "1web", Some("a DNS-1035 label must consist of")),
            (&registry::SERVICES, "web.a", Some("a DNS-1035 label must consist of")),
        ] {
            let text = found(resource, &json!({"name": name, "namespace": "default"}));
            match fault {
                None => assert_eq!(text, "[]", "{name}"),
                Some(fault) => assert!(text.starts_with(&format!("metadata.name: Invalid value: {name:?}: {fault}")), "{text}"),
            }
        }
        assert_eq!(found(&registry::NAMESPACES, &json!({"name": "home"})), "[]");
        assert!(found(&registry::NAMESPACES, &json!({"name": "a.b"})).contains("a lowercase RFC 1123 label must"));
        assert_eq!(found(&registry::NODES, &json!({"name": "pi.local"})), "[]");
    }

    #[test]
    fn a_name_or_its_beginning_is_needed() {
        assert_eq!(found(&registry::NODES, &json!({})), "metadata.name: Required value: name or generateName is required");
        assert_eq!(found(&registry::NODES, &json!({"generateName": "pi-"})), "[]");
        assert_eq!(
            found(&registry::NODES, &json!({"generateName": "pi."})).matches("metadata.generateName: Invalid value").count(),
            1
        );
        assert_eq!(
            found(&registry::NODES, &json!({"generateName": "Pi-"})).matches("metadata.generateName: Invalid value").count(),
            1
        );
    }

    #[test]
    fn namespaces_belong_to_namespaced_kinds() {
        assert_eq!(found(&registry::PODS, &json!({"name": "a"})), "metadata.namespace: Required value");
        assert_eq!(
            found(&registry::NODES, &json!({"name": "a", "namespace": "b"})),
            "metadata.namespace: Forbidden: not allowed on this type"
        );
        assert!(found(&registry::PODS, &json!({"name": "a", "namespace": "B"})).starts_with("metadata.namespace: Invalid value"));
    }

    #[test]
    fn owners_are_complete_and_one_of_them_rules() {
        let owner = |controller: bool| json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "1", "controller": controller});
        assert_eq!(found(&registry::NODES, &json!({"name": "a", "ownerReferences": [owner(true), owner(false)]})), "[]");
        assert!(
            found(&registry::NODES, &json!({"name": "a", "ownerReferences": [owner(true), owner(true)]}))
                .ends_with("Only one reference can have Controller set to true. Found \"true\" in references for web and web")
        );
        assert_eq!(
            found(&registry::NODES, &json!({"name": "a", "ownerReferences": [{"apiVersion": "", "name": "b"}]})),
            "[metadata.ownerReferences[0].apiVersion: Invalid value: \"\": version must not be empty, \
             metadata.ownerReferences[0].kind: Invalid value: \"\": must not be empty, \
             metadata.ownerReferences[0].uid: Invalid value: \"\": must not be empty]"
        );
        let event = json!({"apiVersion": "v1", "kind": "Event", "name": "web", "uid": "1"});
        assert!(
            found(&registry::NODES, &json!({"name": "a", "ownerReferences": [event]})).contains("disallowed from being an owner")
        );
    }

    #[test]
    fn finalizers_are_standard_or_qualified() {
        assert_eq!(found(&registry::NODES, &json!({"name": "a", "finalizers": ["orphan", "example.com/x"]})), "[]");
        assert_eq!(
            found(&registry::NODES, &json!({"name": "a", "finalizers": ["mine"]})),
            "metadata.finalizers: Invalid value: \"mine\": name is neither a standard finalizer name nor is it fully qualified"
        );
        assert!(
            found(&registry::NODES, &json!({"name": "a", "finalizers": ["orphan", "foregroundDeletion"]}))
                .ends_with("cannot be both set")
        );
    }

    #[test]
    fn what_makes_an_object_itself_never_changes() {
        let change = |old: Value, new: Value| {
            let object = |metadata: Value| Object::from_value(json!({"metadata": metadata})).unwrap();
            sentence(&update_errors(&registry::PODS, &object(old), &object(new)))
        };
        let stored = json!({"name": "a", "namespace": "b", "uid": "1", "creationTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["x/y"]});
        assert_eq!(change(stored.clone(), stored.clone()), "[]");
        assert_eq!(change(stored.clone(), json!({"name": "a", "labels": {"x": "y"}})), "[]");
        assert_eq!(
            change(stored.clone(), json!({"name": "a", "uid": "2"})),
            "metadata.uid: Invalid value: \"2\": field is immutable"
        );
        assert_eq!(
            change(stored.clone(), json!({"deletionTimestamp": "2026-01-01T00:00:00Z"})),
            "metadata.deletionTimestamp: Invalid value: \"2026-01-01T00:00:00Z\": field is immutable"
        );
        let mut leaving = stored;
        leaving["deletionTimestamp"] = json!("2026-01-02T00:00:00Z");
        assert_eq!(change(leaving.clone(), json!({"finalizers": []})), "[]");
        assert_eq!(
            change(leaving, json!({"finalizers": ["x/y", "x/z"]})),
            "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers [\"x/z\"]"
        );
    }
}
