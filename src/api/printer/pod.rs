//! `kubectl get pods`: READY, STATUS and RESTARTS are computed here from the statuses of the containers.
//!
//! Source:   `printPod`; the order of its rules is kept, because the last rule that applies gives the word.

use serde_json::{Value, json};

use super::{AGE, Column, NAME, NONE, Printer, age_of, or, text};
use crate::api::{Object, time};
use crate::clock::Wall;

/// The columns.
pub static PRINTER: Printer = Printer {
    columns: &[
        NAME,
        Column::text("Ready"),
        Column::text("Status"),
        Column::text("Restarts"),
        AGE,
        Column::text("IP").wide(),
        Column::text("Node").wide(),
        Column::text("Nominated Node").wide(),
        Column::text("Readiness Gates").wide(),
    ],
    cells,
    conditions: |pod| match pod.str_at(&["status", "phase"]) {
        "Succeeded" => vec![completed("Succeeded", "The pod has completed successfully.")],
        "Failed" => vec![completed("Failed", "The pod failed.")],
        _ => Vec::new(),
    },
};

fn completed(reason: &str, message: &str) -> Value {
    json!({"type": "Completed", "status": "True", "reason": reason, "message": message})
}

fn cells(pod: &Object, now: Wall) -> Vec<Value> {
    let summary = summary(pod);
    let restarts = match summary.tally.last {
        Some(at) if summary.tally.restarts != 0 => format!("{} ({} ago)", summary.tally.restarts, time::age(at, now)),
        _ => summary.tally.restarts.to_string(),
    };
    let ip =
        pod.list_at(&["status", "podIPs"]).first().map_or_else(|| pod.str_at(&["status", "podIP"]), |entry| text(entry, "ip"));
    vec![
        pod.name().into(),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.status.into(),
        restarts.into(),
        age_of(pod, now),
        or(ip, NONE).into(),
        or(pod.str_at(&["spec", "nodeName"]), NONE).into(),
        or(pod.str_at(&["status", "nominatedNodeName"]), NONE).into(),
        readiness_gates(pod).into(),
    ]
}

/// Restarts, and when the last one was.
#[derive(Clone, Copy, Default)]
struct Tally {
    restarts: i64,
    last: Option<Wall>,
}

impl Tally {
    fn add(&mut self, container: &Value) {
        self.restarts = self.restarts.saturating_add(container.get("restartCount").and_then(Value::as_i64).unwrap_or_default());
        let finished =
            container.get("lastState").and_then(|state| state.get("terminated")).map(|ended| text(ended, "finishedAt"));
        self.last = self.last.max(finished.and_then(time::parse));
    }
}

struct Summary {
    ready: usize,
    total: usize,
    status: String,
    tally: Tally,
}

fn summary(pod: &Object) -> Summary {
    let status = ["phase", "reason"].map(|key| pod.str_at(&["status", key]));
    let [phase, why] = status;
    let gated = condition(pod, "PodScheduled").is_some_and(|condition| text(condition, "reason") == "SchedulingGated");
    let word = if gated { "SchedulingGated" } else { or(why, phase) };
    let sidecars: Vec<&str> = pod
        .list_at(&["spec", "initContainers"])
        .iter()
        .filter(|container| text(container, "restartPolicy") == "Always")
        .map(|it| text(it, "name"))
        .collect();
    let mut summary = Summary {
        ready: 0,
        total: pod.list_at(&["spec", "containers"]).len() + sidecars.len(),
        status: word.to_owned(),
        tally: Tally::default(),
    };
    let (initializing, of_sidecars) = init_containers(pod, &sidecars, &mut summary);
    if !initializing || condition(pod, "Initialized").is_some_and(is_true) {
        summary.tally = of_sidecars;
        containers(pod, &mut summary);
    }
    if pod.is_deleting() {
        if why == "NodeLost" {
            summary.status = "Unknown".to_owned();
        } else if !matches!(phase, "Succeeded" | "Failed") {
            summary.status = "Terminating".to_owned();
        }
    }
    summary
}

/// Looks for the first init container that has not done its part; answers whether there is one, and the sidecars' restarts.
fn init_containers(pod: &Object, sidecars: &[&str], summary: &mut Summary) -> (bool, Tally) {
    let mut of_sidecars = Tally::default();
    let all = pod.list_at(&["spec", "initContainers"]).len();
    for (index, container) in pod.list_at(&["status", "initContainerStatuses"]).iter().enumerate() {
        let is_sidecar = sidecars.contains(&text(container, "name"));
        summary.tally.add(container);
        if is_sidecar {
            of_sidecars.add(container);
        }
        let (terminated, waiting) = (state(container, "terminated"), state(container, "waiting"));
        if terminated.is_some_and(|ended| code(ended, "exitCode") == 0) {
            continue;
        }
        if is_sidecar && flag(container, "started") {
            summary.ready += usize::from(flag(container, "ready"));
            continue;
        }
        let waits = waiting.map(|waiting| text(waiting, "reason")).filter(|reason| !matches!(*reason, "" | "PodInitializing"));
        summary.status = match (terminated, waits) {
            (Some(ended), _) => format!("Init:{}", end(ended)),
            (None, Some(reason)) => format!("Init:{reason}"),
            (None, None) => format!("Init:{index}/{all}"),
        };
        return (true, of_sidecars);
    }
    (false, of_sidecars)
}

fn containers(pod: &Object, summary: &mut Summary) {
    let mut any_runs = false;
    // From the last to the first, so that the first container's word stands in the end.
    for container in pod.list_at(&["status", "containerStatuses"]).iter().rev() {
        summary.tally.add(container);
        let waits = state(container, "waiting").map(|waiting| text(waiting, "reason")).filter(|reason| !reason.is_empty());
        if let Some(reason) = waits {
            summary.status = reason.to_owned();
        } else if let Some(ended) = state(container, "terminated") {
            summary.status = end(ended);
        } else if flag(container, "ready") && state(container, "running").is_some() {
            any_runs = true;
            summary.ready += 1;
        }
    }
    // One container is done and another still runs.
    if summary.status == "Completed" && any_runs {
        summary.status = if condition(pod, "Ready").is_some_and(is_true) { "Running" } else { "NotReady" }.to_owned();
    }
}

/// How a container ended, in one word.
fn end(terminated: &Value) -> String {
    match (text(terminated, "reason"), code(terminated, "signal")) {
        ("", 0) => format!("ExitCode:{}", code(terminated, "exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

/// `2/3`: how many of the pod's own readiness conditions hold.
fn readiness_gates(pod: &Object) -> String {
    let gates = pod.list_at(&["spec", "readinessGates"]);
    if gates.is_empty() {
        return NONE.to_owned();
    }
    let open = gates.iter().filter(|gate| condition(pod, text(gate, "conditionType")).is_some_and(is_true)).count();
    format!("{open}/{}", gates.len())
}

fn condition<'a>(pod: &'a Object, kind: &str) -> Option<&'a Value> {
    pod.list_at(&["status", "conditions"]).iter().find(|condition| text(condition, "type") == kind)
}

fn is_true(condition: &Value) -> bool {
    text(condition, "status") == "True"
}

fn state<'a>(container: &'a Value, name: &str) -> Option<&'a Value> {
    container.get("state")?.get(name).filter(|state| !state.is_null())
}

fn code(terminated: &Value, key: &str) -> i64 {
    terminated.get(key).and_then(Value::as_i64).unwrap_or_default()
}

fn flag(container: &Value, key: &str) -> bool {
    container.get(key).and_then(Value::as_bool).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{NOW, headings, object, row};
    use super::*;

    /// READY, STATUS and RESTARTS of a pod.
    fn shown(spec: &Value, status: &Value, deleting: bool) -> String {
        let mut fields = json!({"spec": spec, "status": status, "metadata": {}});
        if deleting {
            fields["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:30:00Z");
        }
        let cells = (PRINTER.cells)(&object("web", fields), NOW);
        cells[1..4].iter().map(|cell| cell.as_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    fn runs(ready: bool) -> Value {
        json!({"name": "a", "ready": ready, "restartCount": 0, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}})
    }

    fn waits(reason: &str) -> Value {
        json!({"name": "a", "restartCount": 3, "state": {"waiting": {"reason": reason}}, "lastState": {"terminated": {"finishedAt": "2026-01-01T00:55:00Z"}}})
    }

    fn ended(reason: &str, exit: i64, signal: i64) -> Value {
        json!({"name": "a", "restartCount": 0, "state": {"terminated": {"reason": reason, "exitCode": exit, "signal": signal}}})
    }

    fn ready(status: &str) -> Value {
        json!([{"type": "Ready", "status": status}])
    }

    #[test]
    fn the_row_of_a_running_pod() {
        assert_eq!(headings(&PRINTER), "NAME|READY|STATUS|RESTARTS|AGE|IP*|NODE*|NOMINATED NODE*|READINESS GATES*");
        let pod = object(
            "web",
            json!({"spec": {"containers": [{}], "nodeName": "pi-1", "readinessGates": [{"conditionType": "a/b"}, {"conditionType": "a/c"}]},
                "status": {"phase": "Running", "podIPs": [{"ip": "10.1.0.5"}], "containerStatuses": [runs(true)],
                    "conditions": [{"type": "a/b", "status": "True"}, {"type": "a/c", "status": "False"}]}}),
        );
        assert_eq!(row(&PRINTER, &pod), "web|1/1|Running|0|60m|10.1.0.5|pi-1|<none>|1/2");
        let fresh = object("web", json!({"spec": {"containers": [{}]}, "status": {"phase": "Pending"}}));
        assert_eq!(row(&PRINTER, &fresh), "web|0/1|Pending|0|60m|<none>|<none>|<none>|<none>");
        let old = object("web", json!({"status": {"podIP": "10.1.0.6", "nominatedNodeName": "pi-2"}}));
        assert_eq!(row(&PRINTER, &old), "web|0/0||0|60m|10.1.0.6|<none>|pi-2|<none>");
    }

    #[test]
    fn the_status_is_one_word_from_all_containers() {
        let one = json!({"containers": [{"name": "a"}]});
        let two = json!({"containers": [{"name": "a"}, {"name": "b"}]});
        for (spec, status, words) in [
            (
                &one,
                json!({"phase": "Pending", "containerStatuses": [waits("ContainerCreating")]}),
                "0/1 ContainerCreating 3 (5m ago)",
            ),
            (
                &one,
                json!({"phase": "Running", "containerStatuses": [waits("CrashLoopBackOff")]}),
                "0/1 CrashLoopBackOff 3 (5m ago)",
            ),
            (&one, json!({"phase": "Pending", "containerStatuses": [waits("ErrImagePull")]}), "0/1 ErrImagePull 3 (5m ago)"),
            (&one, json!({"phase": "Running", "containerStatuses": [runs(false)]}), "0/1 Running 0"),
            (&one, json!({"phase": "Succeeded", "containerStatuses": [ended("Completed", 0, 0)]}), "0/1 Completed 0"),
            (&one, json!({"phase": "Failed", "containerStatuses": [ended("Error", 1, 0)]}), "0/1 Error 0"),
            (&one, json!({"phase": "Failed", "containerStatuses": [ended("OOMKilled", 137, 0)]}), "0/1 OOMKilled 0"),
            (&one, json!({"phase": "Failed", "containerStatuses": [ended("", 2, 0)]}), "0/1 ExitCode:2 0"),
            (&one, json!({"phase": "Failed", "containerStatuses": [ended("", 0, 9)]}), "0/1 Signal:9 0"),
            (&one, json!({"phase": "Failed", "reason": "Evicted"}), "0/1 Evicted 0"),
            (
                &one,
                json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}),
                "0/1 SchedulingGated 0",
            ),
            (
                &two,
                json!({"phase": "Running", "containerStatuses": [runs(true), waits("CrashLoopBackOff")]}),
                "1/2 CrashLoopBackOff 3 (5m ago)",
            ),
            // The first container has the last word.
            (
                &two,
                json!({"phase": "Running", "containerStatuses": [waits("ErrImagePull"), waits("CrashLoopBackOff")]}),
                "0/2 ErrImagePull 6 (5m ago)",
            ),
            (
                &two,
                json!({"phase": "Running", "conditions": ready("True"), "containerStatuses": [ended("Completed", 0, 0), runs(true)]}),
                "1/2 Running 0",
            ),
            (
                &two,
                json!({"phase": "Running", "conditions": ready("False"), "containerStatuses": [ended("Completed", 0, 0), runs(true)]}),
                "1/2 NotReady 0",
            ),
        ] {
            assert_eq!(shown(spec, &status, false), words, "{status}");
        }
    }

    #[test]
    fn a_pod_that_is_being_deleted_says_so_unless_it_is_over() {
        let one = json!({"containers": [{"name": "a"}]});
        for (status, words) in [
            (json!({"phase": "Running", "containerStatuses": [runs(true)]}), "1/1 Terminating 0"),
            (json!({"phase": "Pending"}), "0/1 Terminating 0"),
            (json!({"phase": "Running", "reason": "NodeLost", "containerStatuses": [runs(true)]}), "1/1 Unknown 0"),
            (json!({"phase": "Succeeded", "containerStatuses": [ended("Completed", 0, 0)]}), "0/1 Completed 0"),
            (json!({"phase": "Failed", "containerStatuses": [ended("Error", 1, 0)]}), "0/1 Error 0"),
        ] {
            assert_eq!(shown(&one, &status, true), words, "{status}");
        }
    }

    #[test]
    fn init_containers_are_told_of_while_they_work() {
        let spec = json!({"containers": [{"name": "a"}], "initContainers": [{"name": "i"}, {"name": "j"}]});
        let waiting = waits("PodInitializing");
        for (init, words) in [
            (json!([runs(false), waiting]), "0/1 Init:0/2 0"),
            (json!([ended("Completed", 0, 0), runs(false)]), "0/1 Init:1/2 0"),
            (json!([ended("Completed", 0, 0), waits("PodInitializing")]), "0/1 Init:1/2 3 (5m ago)"),
            (json!([waits("ImagePullBackOff")]), "0/1 Init:ImagePullBackOff 3 (5m ago)"),
            (json!([ended("Error", 1, 0)]), "0/1 Init:Error 0"),
            (json!([ended("", 3, 0)]), "0/1 Init:ExitCode:3 0"),
            (json!([ended("", 3, 15)]), "0/1 Init:Signal:15 0"),
        ] {
            let status =
                json!({"phase": "Pending", "initContainerStatuses": init, "containerStatuses": [waits("PodInitializing")]});
            assert_eq!(shown(&spec, &status, false), words, "{init}");
        }
        // Once all have done their part, only the containers count, restarts included.
        let status = json!({"phase": "Running", "initContainerStatuses": [ended("Completed", 0, 0), ended("Completed", 0, 0)], "containerStatuses": [runs(true)]});
        assert_eq!(shown(&spec, &status, false), "1/1 Running 0");
        // An init container that runs again (its node came back): the word stays its own, but the containers are counted again.
        let status = json!({"phase": "Running", "conditions": [{"type": "Initialized", "status": "True"}],
            "initContainerStatuses": [runs(false)], "containerStatuses": [runs(true)]});
        assert_eq!(shown(&spec, &status, false), "1/1 Init:0/2 0");
    }

    #[test]
    fn sidecars_count_as_containers() {
        let spec =
            json!({"containers": [{"name": "a"}], "initContainers": [{"name": "s", "restartPolicy": "Always"}, {"name": "i"}]});
        let sidecar = |ready: bool, restarts: i64| {
            json!({"name": "s", "started": true, "ready": ready, "restartCount": restarts, "state": {"running": {}},
                "lastState": {"terminated": {"finishedAt": "2026-01-01T00:30:00Z"}}})
        };
        let done = json!({"name": "i", "restartCount": 7, "state": {"terminated": {"exitCode": 0}}});
        let status =
            json!({"phase": "Running", "initContainerStatuses": [sidecar(true, 2), done], "containerStatuses": [runs(true)]});
        assert_eq!(shown(&spec, &status, false), "2/2 Running 2 (30m ago)");
        let status =
            json!({"phase": "Pending", "initContainerStatuses": [sidecar(false, 0), {"name": "i", "state": {"running": {}}}]});
        assert_eq!(shown(&spec, &status, false), "0/2 Init:1/2 0");
    }

    #[test]
    fn pods_that_are_over_are_marked() {
        for (phase, reason) in [("Succeeded", Some("Succeeded")), ("Failed", Some("Failed")), ("Running", None), ("", None)] {
            let conditions = (PRINTER.conditions)(&object("web", json!({"status": {"phase": phase}})));
            assert_eq!(conditions.first().map(|condition| text(condition, "reason")), reason, "{phase}");
            assert!(conditions.iter().all(|condition| text(condition, "type") == "Completed"));
        }
    }
}
