//! Phases and conditions for every policy, as a table. Source of the rows: upstream's tests of getPhase and of the conditions.

use serde_json::{Value, json};

use super::{View, pod_status};
use crate::agent::pods::lifecycle::PodState;
use crate::agent::pods::plan::{Memory, PostStart};
use crate::agent::pods::spec;
use crate::agent::runtime::{ObservedContainer, ObservedPod, ObservedSandbox, RunState, Trace};
use crate::api::{Object, registry, schema};
use crate::clock::{Now, Tick, Wall};

/// The runs of one container: `-` none, `c` made, `r` runs, `h` runs and its hook too, a digit ended with it. More than one: a run each.
fn runs(name: &str, text: &str, memory: &mut Memory) -> Vec<ObservedContainer> {
    let started = Wall(2_000);
    let mut all = Vec::new();
    for (attempt, letter) in text.chars().filter(|letter| *letter != '-').enumerate() {
        let id = format!("{name}-{attempt}");
        if letter == 'h' {
            memory.post_start.insert(id.clone(), PostStart::Runs);
        }
        let state = match letter {
            'c' => RunState::Created,
            'r' | 'h' => RunState::Running { started },
            code => RunState::Exited {
                started,
                finished: Wall(3_000),
                exit_code: i64::from(code.to_digit(10).unwrap()),
                oom: false,
                error: None,
            },
        };
        let attempt = u32::try_from(attempt).unwrap();
        all.push(ObservedContainer { id, name: name.into(), attempt, sandbox_id: "s".into(), state, ..Default::default() });
    }
    all
}

/// `init:r side*:r | a:1r b:-` as a pod of this policy; its status.
fn status(policy: &str, text: &str, state: PodState) -> Value {
    let (init, main) = text.split_once('|').unwrap();
    let mut memory = Memory::default();
    let mut observed = ObservedPod::default();
    let mut containers = |part: &str| -> Vec<Value> {
        let mut list = Vec::new();
        for word in part.split_whitespace() {
            let (name, text) = word.split_once(':').unwrap();
            let plain = name.trim_end_matches('*');
            let mut container = json!({"name": plain, "image": "i"});
            if name.ends_with('*') {
                container["restartPolicy"] = json!("Always");
            }
            observed.containers.extend(runs(plain, text, &mut memory));
            list.push(container);
        }
        list
    };
    let raw = json!({"metadata": {"name": "w", "uid": "u"},
        "spec": {"restartPolicy": policy, "initContainers": containers(init), "containers": containers(main)}});
    let spec = spec::read(&Object::from_value(raw).unwrap());
    let sandbox = RunState::Running { started: Wall(1_000) };
    observed.sandboxes.push(ObservedSandbox { id: "s".into(), state: sandbox, ..Default::default() });
    let view = View {
        spec: &spec,
        observed: &observed,
        memory: &memory,
        state,
        pulling: false,
        starting: false,
        host_ips: &[],
        scheme: "docker",
        now: Now { tick: Tick(9_000), wall: Wall(9_000) },
    };
    pod_status(view).status
}

/// `True`, or the reason why not.
fn said(status: &Value, kind: &str) -> String {
    let all = status["conditions"].as_array().unwrap();
    let condition = all.iter().find(|condition| condition["type"] == kind).unwrap();
    let reason = condition["reason"].as_str().unwrap_or_default();
    if condition["status"] == "True" { format!("True{reason}") } else { reason.to_owned() }
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            map.iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| (key.clone(), without_nulls(value))).collect()
        }
        Value::Array(list) => list.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}

/// What the master's schema leaves of a status.
fn as_stored(status: &Value) -> Value {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "status": status});
    let pruned = schema::prune(&registry::PODS, &mut pod);
    assert!(pruned.wrong_type.is_none(), "{:?}", pruned.wrong_type);
    pod["status"].clone()
}

#[test]
fn phases_and_conditions_follow_the_containers_and_the_policy() {
    let every = ["Always", "OnFailure", "Never"];
    let (not_ready, not_init) = ("ContainersNotReady", "ContainersNotInitialized");
    let live = PodState::Live;
    let over = PodState::Finished;
    for (policies, text, state, phase, initialized, ready) in [
        (&every[..], "| a:- b:-", live, "Pending", "True", not_ready),
        (&every, "| a:c b:r", live, "Pending", "True", not_ready),
        (&every, "| a:- b:r", live, "Pending", "True", not_ready),
        (&every, "| a:h b:-", live, "Pending", "True", not_ready),
        (&every, "| a:r b:r", live, "Running", "True", "True"),
        (&every, "| a:r b:0", live, "Running", "True", not_ready),
        (&every, "| a:r b:1", live, "Running", "True", not_ready),
        (&["Always"], "| a:1r b:1c", live, "Running", "True", not_ready),
        (&["Always"], "| a:0 b:0", live, "Running", "True", not_ready),
        (&["Always"], "| a:1 b:0", live, "Running", "True", not_ready),
        (&["OnFailure"], "| a:0 b:1", live, "Running", "True", not_ready),
        (&["OnFailure", "Never"], "| a:0 b:0", live, "Succeeded", "TruePodCompleted", "PodCompleted"),
        (&["Never"], "| a:0 b:1", live, "Failed", "True", "PodFailed"),
        (&["Never"], "| a:0 b:r", live, "Running", "True", not_ready),
        // What is over ends as one or the other, whatever its policy.
        (&every, "| a:0 b:0", over, "Succeeded", "TruePodCompleted", "PodCompleted"),
        (&every, "| a:0 b:1", over, "Failed", "True", "PodFailed"),
        (&every, "| a:- b:0", over, "Failed", "True", "PodFailed"),
        (&every, "| a:-", PodState::Terminating { deadline: Tick(0) }, "Failed", "True", "PodFailed"),
        (&every, "| a:r", PodState::Terminating { deadline: Tick(0) }, "Running", "True", "True"),
        // Init containers come first.
        (&every, "i:- | a:-", live, "Pending", not_init, not_ready),
        (&every, "i:r | a:-", live, "Pending", not_init, not_ready),
        (&every, "i:0 j:r | a:-", live, "Pending", not_init, not_ready),
        (&["Always", "OnFailure"], "i:1 | a:-", live, "Pending", not_init, not_ready),
        (&["Always", "OnFailure"], "i:1r | a:-", live, "Pending", not_init, not_ready),
        (&["Never"], "i:1 | a:-", live, "Failed", not_init, "PodFailed"),
        (&every, "i:0 | a:-", live, "Pending", "True", not_ready),
        (&every, "i:0 | a:r", live, "Running", "True", "True"),
        // A main container that ran proves that they did their part.
        (&every, "i:- | a:r", live, "Running", "True", "True"),
        // Sidecars count for readiness, and hold an end back while they run.
        (&every, "s*:- | a:-", live, "Pending", not_init, not_ready),
        (&every, "s*:h | a:-", live, "Pending", not_init, not_ready),
        (&every, "s*:r i:r | a:-", live, "Pending", not_init, not_ready),
        (&every, "s*:r i:0 | a:r", live, "Running", "True", "True"),
        (&every, "s*:1 i:0 | a:r", live, "Running", "True", not_ready),
        (&["OnFailure", "Never"], "s*:r | a:0", live, "Running", "True", not_ready),
        (&["OnFailure", "Never"], "s*:1 | a:0", over, "Succeeded", "TruePodCompleted", "PodCompleted"),
    ] {
        for policy in policies {
            let status = status(policy, text, state);
            let told = (status["phase"].as_str().unwrap(), said(&status, "Initialized"), said(&status, "Ready"));
            assert_eq!(told, (phase, initialized.to_owned(), ready.to_owned()), "{policy} {text} {state:?}");
            assert_eq!(said(&status, "ContainersReady"), ready, "{policy} {text}");
            assert_eq!(as_stored(&status), without_nulls(&status), "every field is one of the API's");
            assert_eq!(
                (said(&status, "PodScheduled"), said(&status, "PodReadyToStartContainers")),
                ("True".into(), "True".into())
            );
        }
    }
}

#[test]
fn an_end_is_named_by_what_the_runtime_tells_of_it() {
    let no_file = || Some("no such file".to_owned());
    for (exit_code, oom, told_later, error, trace, reason, message) in [
        (0, false, false, None, Trace::There, "Completed", "words"),
        (3, false, false, None, Trace::There, "Error", "words"),
        (137, false, false, None, Trace::There, "Error", "words"),
        (137, true, false, None, Trace::There, "OOMKilled", "words"),
        (1, true, false, None, Trace::There, "OOMKilled", "words"),
        (137, false, true, None, Trace::There, "OOMKilled", "words"),
        // A child was, long before.
        (0, true, true, None, Trace::There, "Completed", "words"),
        (1, false, true, None, Trace::There, "Error", "words"),
        (127, false, false, no_file(), Trace::There, "StartError", "no such file"),
        (3, false, false, None, Trace::Lost, "Error", "words"),
        (
            137,
            false,
            false,
            None,
            Trace::LostRunning,
            "ContainerStatusUnknown",
            "The container could not be located: it was removed by somebody else",
        ),
    ] {
        let (started, finished) = (Wall(1_000), Wall(2_000));
        let state = RunState::Exited { started, finished, exit_code, oom, error };
        let run =
            ObservedContainer { id: "x".into(), oom: told_later, message: "words".into(), trace, state, ..Default::default() };
        let ended = super::container::state(&run, "docker", 4096)["terminated"].clone();
        let expected = json!({"exitCode": exit_code, "reason": reason, "message": message, "containerID": "docker://x",
            "startedAt": "1970-01-01T00:00:01Z", "finishedAt": "1970-01-01T00:00:02Z"});
        assert_eq!(ended, expected);
    }
}

#[test]
fn the_message_names_who_is_not_ready() {
    let message = |status: &Value, kind: &str| {
        let all = status["conditions"].as_array().unwrap();
        all.iter().find(|condition| condition["type"] == kind).unwrap()["message"].clone()
    };
    let first = status("Always", "s*:r i:r | a:- b:-", PodState::Live);
    assert_eq!(message(&first, "Initialized"), "containers with incomplete status: [i]");
    assert_eq!(message(&first, "Ready"), "containers with unready status: [a b]");
    let second = status("Always", "s*:1 i:0 | a:r b:1", PodState::Live);
    assert_eq!(message(&second, "ContainersReady"), "containers with unready status: [s b]");
}
