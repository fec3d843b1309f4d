//! Deployments. Source: `SetDefaults_Deployment` of apps/v1.

use serde_json::Value;

use super::{map, map_or_new, pod, set_empty, set_unset};
use crate::api::Object;

/// Fills in the defaults.
pub fn fill(object: &mut Object) {
    let Some(spec) = map_or_new(object.raw_mut(), "spec") else { return };
    set_unset(spec, "replicas", 1);
    set_unset(spec, "revisionHistoryLimit", 10);
    set_unset(spec, "progressDeadlineSeconds", 600);
    if let Some(strategy) = map_or_new(spec, "strategy") {
        set_empty(strategy, "type", "RollingUpdate");
        if strategy.get("type").and_then(Value::as_str) == Some("RollingUpdate")
            && let Some(rolling) = map_or_new(strategy, "rollingUpdate")
        {
            set_unset(rolling, "maxUnavailable", "25%");
            set_unset(rolling, "maxSurge", "25%");
        }
    }
    if let Some(template) = map(spec, "template") {
        pod::fill_template(template);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn filled(spec: &Value) -> Value {
        let mut object = Object::from_value(json!({"spec": spec})).unwrap();
        fill(&mut object);
        object.into_value()["spec"].take()
    }

    #[test]
    fn a_deployment_rolls_by_quarters() {
        assert_eq!(
            filled(
                &json!({"template": {"spec": {"containers": [{"name": "a", "image": "a:1", "resources": {"limits": {"cpu": "1"}}}]}}})
            ),
            json!({
                "replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600,
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
                // No requests, account or priority: these come when the pod itself is made.
                "template": {"spec": {
                    "containers": [{"name": "a", "image": "a:1", "imagePullPolicy": "IfNotPresent", "resources": {"limits": {"cpu": "1"}},
                        "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}],
                    "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler", "securityContext": {},
                    "terminationGracePeriodSeconds": 30,
                }},
            })
        );
    }

    #[test]
    fn what_was_said_stays() {
        assert_eq!(filled(&json!({"strategy": {"type": "Recreate"}}))["strategy"], json!({"type": "Recreate"}));
        let zero = filled(&json!({"replicas": 0, "revisionHistoryLimit": 0, "strategy": {"rollingUpdate": {"maxSurge": 0}}}));
        assert_eq!(zero["replicas"], 0);
        assert_eq!(zero["revisionHistoryLimit"], 0);
        assert_eq!(zero["strategy"]["rollingUpdate"], json!({"maxSurge": 0, "maxUnavailable": "25%"}));
    }

    #[test]
    fn the_old_name_of_the_account_is_kept_in_step() {
        for given in [json!({"serviceAccountName": "robot"}), json!({"serviceAccount": "robot"})] {
            let spec = filled(&json!({"template": {"spec": given}}))["template"]["spec"].take();
            assert_eq!((&spec["serviceAccount"], &spec["serviceAccountName"]), (&json!("robot"), &json!("robot")));
        }
    }
}
