//! Namespaces. Source: `SetDefaults_Namespace`, `SetDefaults_NamespaceStatus` and the namespace strategy.

use serde_json::{Value, json};

use super::{map_or_new, set_empty};
use crate::api::Object;

/// The label by which a selector can name one namespace.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// Fills in the defaults. A namespace that is being deleted has lost its finalizer for good and does not get it back.
pub fn fill(object: &mut Object) {
    let name = object.name().to_owned();
    if !name.is_empty()
        && let Some(labels) = map_or_new(object.raw_mut(), "metadata").and_then(|metadata| map_or_new(metadata, "labels"))
    {
        labels.insert(NAME_LABEL.to_owned(), name.into());
    }
    if object.is_deleting() {
        return;
    }
    if let Some(spec) = map_or_new(object.raw_mut(), "spec") {
        match spec.get_mut("finalizers") {
            None | Some(Value::Null) => _ = spec.insert("finalizers".to_owned(), json!(["kubernetes"])),
            Some(Value::Array(finalizers)) if !finalizers.contains(&json!("kubernetes")) => finalizers.push(json!("kubernetes")),
            Some(_) => {}
        }
    }
    if let Some(status) = map_or_new(object.raw_mut(), "status") {
        set_empty(status, "phase", "Active");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(namespace: Value) -> Value {
        let mut object = Object::from_value(namespace).unwrap();
        fill(&mut object);
        object.into_value()
    }

    #[test]
    fn a_namespace_is_active_and_can_be_selected_by_name() {
        assert_eq!(
            filled(json!({"metadata": {"name": "home", "labels": {"a": "b", "kubernetes.io/metadata.name": "other"}}})),
            json!({"metadata": {"name": "home", "labels": {"a": "b", "kubernetes.io/metadata.name": "home"}},
                "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}})
        );
        assert_eq!(
            filled(json!({"metadata": {"name": "a"}, "spec": {"finalizers": ["x/y"]}}))["spec"]["finalizers"],
            json!(["x/y", "kubernetes"])
        );
    }

    #[test]
    fn a_namespace_on_its_way_out_does_not_come_back() {
        let leaving = json!({"metadata": {"name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z", "labels": {"kubernetes.io/metadata.name": "a"}},
            "spec": {}, "status": {"phase": "Terminating"}});
        assert_eq!(filled(leaving.clone()), leaving);
    }
}
