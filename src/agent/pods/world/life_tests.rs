//! Hooks, the order of ends, deadlines, gates, and containers that somebody else removed.

use super::*;

/// A pod of one container `app` with these hooks.
fn hooked_pod(name: &str, script: &str, lifecycle: Value) -> Value {
    let mut pod = pod(name, script);
    pod["spec"]["containers"][0]["lifecycle"] = lifecycle;
    pod
}

fn exec() -> Value {
    json!({"exec": {"command": ["/bin/hook"]}})
}

impl World {
    /// Ends the hook of a container that was begun last.
    fn hook_ends(&mut self, container: &str, end: HookEnd) {
        let (_, order) = self.hooks.iter().rfind(|(_, order)| order.start.name == container).expect("a hook").clone();
        let HookOrder { pod, start, .. } = order;
        self.input(Input::Hooked(HookOutcome { uid: pod.uid, container: start.container, moment: start.moment, end }));
    }

    /// `reason` with the container's name and the second, in order.
    fn said(&self, reason: &str) -> Vec<(String, u64)> {
        let all = self.events.iter().filter(|(_, event)| event.reason == reason);
        all.map(|(tick, event)| {
            let name = event.field_path.rsplit('{').next().unwrap_or_default().trim_end_matches('}');
            (name.to_owned(), tick / 1000)
        })
        .collect()
    }

    /// When each container of a pod ended, in seconds since the start, in order.
    fn ends(&mut self, uid: &str) -> Vec<(String, i64)> {
        let mut ends: Vec<(i64, String)> = Vec::new();
        for run in &self.sim.listing(None).pods[&Uid::from(uid)].containers {
            if let crate::agent::runtime::RunState::Exited { finished, .. } = run.state {
                ends.push(((finished.0 - START) / 1000, run.name.clone()));
            }
        }
        ends.sort();
        ends.into_iter().map(|(at, name)| (name, at)).collect()
    }
}

#[test]
fn a_post_start_hook_holds_up_the_next_container_and_readiness() {
    let mut world = World::new();
    let mut pod = hooked_pod("web", "", json!({"postStart": exec()}));
    pod["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "next", "image": "nginx:1"}));
    world.want(&[pod]);
    world.pass(5 * SECOND);
    let status = world.status("web").clone();
    assert_eq!(world.hooks.len(), 1);
    assert_eq!(world.hooks[0].1.address, status["podIP"].as_str().unwrap());
    assert_eq!((&status["phase"], &condition(&status, "Ready")["status"]), (&json!("Pending"), &json!("False")));
    assert_eq!(status["containerStatuses"][0]["state"]["waiting"]["reason"], "ContainerCreating");
    assert_eq!(status["containerStatuses"][0]["started"], false);
    assert_eq!(world.said("Started"), [("app".to_owned(), 2)]);
    world.hook_ends("app", HookEnd::Done);
    world.pass(5 * SECOND);
    assert_eq!(world.said("Started"), [("app".to_owned(), 2), ("next".to_owned(), 5)]);
    assert_eq!(condition(world.status("web"), "Ready")["status"], "True");
    assert_eq!(world.hooks.len(), 1);
}

#[test]
fn a_container_that_is_seen_before_its_start_is_answered_waits_for_its_hook_too() {
    let mut world = World::new();
    world.slow = true;
    world.want(&[hooked_pod("web", "", json!({"postStart": exec()}))]);
    world.pass(5 * SECOND);
    let uid = Uid::from("uid-web");
    let listing = world.listing(&uid);
    assert!(listing.pods[&uid].containers[0].state.is_running(), "it runs");
    world.input(Input::Observed(listing));
    assert!(!world.held.is_empty(), "and the engine has not answered");
    assert_eq!(condition(world.status("web"), "Ready")["status"], "False");
    assert_eq!(world.status("web")["containerStatuses"][0]["state"]["waiting"]["reason"], "ContainerCreating");
    assert!(world.hooks.is_empty());
    world.slow = false;
    let held = std::mem::take(&mut world.held);
    world.answer(held);
    assert_eq!(condition(world.status("web"), "Ready")["status"], "False");
    world.hook_ends("app", HookEnd::Done);
    world.pass(SECOND);
    assert_eq!(condition(world.status("web"), "Ready")["status"], "True");
    assert_eq!(world.hooks.len(), 1);
}

#[test]
fn a_failed_post_start_hook_ends_its_container_and_the_policy_goes_on() {
    for (policy, phase, starts) in [("Always", "Pending", 2), ("Never", "Failed", 1)] {
        let mut world = World::new();
        let mut pod = hooked_pod("web", "", json!({"postStart": exec()}));
        pod["spec"]["restartPolicy"] = json!(policy);
        world.want(&[pod]);
        world.pass(5 * SECOND);
        world.hook_ends("app", HookEnd::Failed("secret".into()));
        world.pass(SECOND);
        let event = &world.events.iter().find(|(_, event)| event.reason == "FailedPostStartHook").unwrap().1;
        assert_eq!((event.warning, event.message.as_str()), (true, "PostStartHook failed"));
        assert!(world.events.iter().any(|(_, event)| event.reason == "Killing" && event.message == "FailedPostStartHook"));
        assert_eq!(world.said("Started").len(), starts, "{policy}");
        // The second run waits for its own hook.
        assert_eq!(world.hooks.len(), starts);
        assert_ne!(world.status("web")["phase"], json!("Succeeded"));
        if policy == "Never" {
            assert_eq!(world.status("web")["phase"], phase);
        }
    }
}

#[test]
fn a_pre_stop_hook_counts_within_the_grace_and_leaves_two_seconds() {
    // Script, grace, when the hook ends, when the container has ended: seconds from the deletion at 5 s.
    for (script, grace, hook_ends, ended) in [
        ("", 30, Some(3), 3),
        ("deaf", 30, Some(3), 30),
        ("deaf", 30, Some(29), 31),
        ("", 30, None, 30),
        ("deaf", 30, None, 32),
        ("deaf", 0, None, 0),
    ] {
        let mut world = World::new();
        let web = || hooked_pod("web", script, json!({"preStop": exec()}));
        world.want(&[web()]);
        world.pass(5 * SECOND);
        world.want(&[deleting(web(), grace)]);
        assert_eq!(world.hooks.len(), usize::from(grace > 0));
        let mut left = 60;
        if let Some(after) = hook_ends {
            assert_eq!(world.hooks[0].1.start.limit, Duration::from_secs(grace));
            world.pass(Duration::from_secs(after));
            assert!(!world.report("web").gone, "TERM comes after the hook");
            world.hook_ends("app", HookEnd::Done);
            left -= after;
        }
        world.pass(Duration::from_secs(left));
        let gone = world.reports["web"].iter().find(|(_, report)| report.gone).unwrap().0;
        assert_eq!(gone / 1000, 5 + ended, "{script} {grace} {hook_ends:?}");
        assert_eq!(world.said("Killing"), [("app".to_owned(), 5)]);
    }
}

#[test]
fn a_force_delete_does_not_wait_for_a_hook() {
    let mut world = World::new();
    let web = || hooked_pod("web", "deaf", json!({"preStop": exec()}));
    world.want(&[web()]);
    world.pass(5 * SECOND);
    world.want(&[deleting(web(), 30)]);
    world.pass(SECOND);
    world.want(&[deleting(web(), 0)]);
    world.pass(2 * SECOND);
    assert!(world.report("web").gone, "two seconds for TERM, and no more");
}

#[test]
fn a_failed_pre_stop_hook_is_said_and_the_end_goes_on() {
    let mut world = World::new();
    let web = || hooked_pod("web", "", json!({"preStop": exec()}));
    world.want(&[web()]);
    world.pass(5 * SECOND);
    world.want(&[deleting(web(), 30)]);
    world.hook_ends("app", HookEnd::Failed("secret".into()));
    assert!(world.report("web").gone);
    assert!(world.reasons().contains(&"FailedPreStopHook"));
    assert!(!format!("{:?}", world.events).contains("secret"));
}

fn with_sidecars(name: &str, script: &str) -> Value {
    let mut pod = pod(name, script);
    let sidecar = |name: &str| json!({"name": name, "image": "nginx:1", "restartPolicy": "Always"});
    pod["spec"]["initContainers"] = json!([sidecar("first"), sidecar("second")]);
    pod
}

#[test]
fn sidecars_end_after_the_main_containers_in_reverse_order() {
    // All hear TERM: one after the other, in no time.
    let mut world = World::new();
    world.want(&[with_sidecars("web", "")]);
    world.pass(5 * SECOND);
    assert_eq!(condition(world.status("web"), "Ready")["status"], "True");
    world.want(&[deleting(with_sidecars("web", ""), 30)]);
    let killed: Vec<String> = world.said("Killing").into_iter().map(|(name, _)| name).collect();
    assert_eq!(killed, ["app", "second", "first"]);
    // None hears it: the main container has the whole grace, then each has the least.
    let mut world = World::new();
    world.want(&[with_sidecars("web", "deaf")]);
    world.pass(5 * SECOND);
    world.input(evict("web", 10 * SECOND));
    world.pass(60 * SECOND);
    assert_eq!(world.ends("uid-web"), [("app".to_owned(), 15), ("first".to_owned(), 17), ("second".to_owned(), 17)]);
}

#[test]
fn a_sidecar_is_stopped_when_the_work_is_done() {
    for (policy, script, phase) in
        [("Never", "exit=0 after=3s only=app", "Succeeded"), ("OnFailure", "exit=0 after=3s only=app", "Succeeded")]
    {
        let mut world = World::new();
        let mut job = with_sidecars("job", script);
        job["spec"]["restartPolicy"] = json!(policy);
        world.want(&[job]);
        world.pass(60 * SECOND);
        let status = world.status("job");
        assert_eq!(status["phase"], phase);
        assert_eq!(condition(status, "Initialized")["reason"], "PodCompleted");
        assert_eq!(world.said("Started").len(), 3, "{:?}", world.said("Started"));
    }
}

#[test]
fn a_deadline_counts_from_the_pods_start_also_for_the_next_agent() {
    let job = || {
        let mut pod = pod("job", "");
        pod["spec"]["activeDeadlineSeconds"] = json!(20);
        pod
    };
    let mut world = World::new();
    world.want(&[job()]);
    world.pass(12 * SECOND);
    let mut next = World::with(world.sim, world.tick);
    next.want(&[job()]);
    next.pass(7 * SECOND);
    assert_eq!(next.status("job")["phase"], "Running");
    next.pass(SECOND);
    let status = next.status("job");
    assert_eq!((&status["phase"], &status["reason"]), (&json!("Failed"), &json!("DeadlineExceeded")));
    assert_eq!(status["message"], "Pod was active on the node longer than the specified deadline");
    assert!(next.reasons().contains(&"DeadlineExceeded"));
    next.pass(3600 * SECOND);
    assert_eq!(next.said("Started").len(), 0, "nothing is started again");
}

#[test]
fn a_readiness_gate_is_waited_for_and_only_its_condition_opens_it() {
    let mut world = World::new();
    let gated = |conditions: Value| {
        let mut pod = pod("web", "");
        pod["spec"]["readinessGates"] = json!([{"conditionType": "home/lamp"}]);
        pod["status"] = json!({"conditions": conditions});
        pod
    };
    let set = |status: &str| json!([{"type": "home/lamp", "status": status, "lastTransitionTime": "2026-11-22T21:00:00Z"}]);
    for (conditions, ready, words) in [
        (json!([]), "False", "corresponding condition of pod readiness gate \"home/lamp\" does not exist."),
        (set("False"), "False", "the status of pod readiness gate \"home/lamp\" is not \"True\", but False"),
        (set("True"), "True", ""),
    ] {
        world.want(&[gated(conditions)]);
        world.pass(5 * SECOND);
        let (status, text) = (world.status("web"), words);
        let pod_ready = condition(status, "Ready");
        assert_eq!((&pod_ready["status"], &condition(status, "ContainersReady")["status"]), (&json!(ready), &json!("True")));
        assert_eq!(pod_ready.get("message").and_then(Value::as_str).unwrap_or_default(), text);
    }
    assert_eq!(condition(world.status("web"), "Ready")["lastTransitionTime"], "2026-11-22T21:00:00Z");
}

#[test]
fn a_container_that_somebody_removed_counts_as_one_that_ended() {
    for (policy, phase, restarts) in [("Always", "Running", 1), ("Never", "Failed", 0)] {
        let mut world = World::new();
        let mut web = pod("web", "");
        web["spec"]["restartPolicy"] = json!(policy);
        world.want(&[web]);
        world.pass(60 * SECOND);
        let id = world.sim.runs(&"uid-web".into(), "app").next().unwrap().id.clone();
        world.happens(simulated::Input::RemoveOutside(id));
        world.pass(5 * SECOND);
        let status = &world.status("web")["containerStatuses"][0];
        assert_eq!((&world.status("web")["phase"], &status["restartCount"]), (&json!(phase), &json!(restarts)), "{policy}");
        let end = if restarts > 0 { &status["lastState"]["terminated"] } else { &status["state"]["terminated"] };
        assert_eq!((&end["reason"], &end["exitCode"]), (&json!("ContainerStatusUnknown"), &json!(137)));
    }
}

#[test]
fn what_was_killed_and_removed_late_is_still_the_last_state() {
    let mut world = World::new();
    world.want(&[pod("web", "")]);
    world.pass(60 * SECOND);
    let id = world.sim.runs(&"uid-web".into(), "app").next().unwrap().id.clone();
    // `docker rm -f` of a slow engine: it has died, and is gone only when the next one runs.
    for end in [simulated::Input::KillOutside(id.clone()), simulated::Input::RemoveOutside(id)] {
        world.happens(end);
        world.pass(15 * SECOND);
        let status = &world.status("web")["containerStatuses"][0];
        assert_eq!((&status["ready"], &status["restartCount"]), (&json!(true), &json!(1)));
        assert_eq!(status["lastState"]["terminated"]["exitCode"], 137);
    }
}

#[test]
fn an_ephemeral_container_is_started_once_and_changes_nothing_else() {
    let mut world = World::new();
    let mut web = pod("web", "exit=3 after=4s only=debug");
    world.want(std::slice::from_ref(&web));
    world.pass(5 * SECOND);
    let before = world.status("web").clone();
    web["spec"]["ephemeralContainers"] = json!([{"name": "debug", "image": "busybox", "targetContainerName": "app"}]);
    web["metadata"]["generation"] = json!(2);
    world.want(std::slice::from_ref(&web));
    world.pass(3 * SECOND);
    assert!(world.status("web")["ephemeralContainerStatuses"][0]["state"]["running"].is_object(), "{:#}", world.status("web"));
    world.pass(600 * SECOND);
    let status = world.status("web");
    let debug = &status["ephemeralContainerStatuses"][0];
    assert_eq!((&debug["state"]["terminated"]["exitCode"], &debug["restartCount"]), (&json!(3), &json!(0)));
    for key in ["phase", "conditions", "containerStatuses"] {
        assert_eq!(status[key], before[key], "{key}");
    }
    assert_eq!(world.said("Started"), [("app".to_owned(), 2), ("debug".to_owned(), 7)]);
    // Its remains may go: it is not started again.
    let id = world.sim.runs(&"uid-web".into(), "debug").next().unwrap().id.clone();
    world.happens(simulated::Input::RemoveOutside(id));
    world.pass(600 * SECOND);
    assert_eq!(world.said("Started").len(), 2);
}
