//! Replica sets. Source: `SetDefaults_ReplicaSet` of apps/v1, which (unlike the beta versions) takes neither labels nor
//! selector from the template.

use super::{map, map_or_new, pod, set_unset};
use crate::api::Object;

/// Fills in the defaults.
pub fn fill(object: &mut Object) {
    let Some(spec) = map_or_new(object.raw_mut(), "spec") else { return };
    set_unset(spec, "replicas", 1);
    if let Some(template) = map(spec, "template") {
        pod::fill_template(template);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn one_replica_and_a_complete_template_and_no_selector() {
        let mut object = Object::from_value(json!({"spec": {"template": {"metadata": {"labels": {"a": "b"}}}}})).unwrap();
        fill(&mut object);
        assert_eq!(object.i64_at(&["spec", "replicas"]), Some(1));
        assert_eq!(object.str_at(&["spec", "template", "spec", "restartPolicy"]), "Always");
        assert_eq!(object.at(&["spec", "selector"]), None);
    }
}
