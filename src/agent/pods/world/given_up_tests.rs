//! Pods that the node gives up.

use super::*;

#[test]
fn a_pod_that_fills_its_scratch_volume_is_evicted_within_about_a_minute() {
    let scratch = |script| {
        let mut pod = pod("web", script);
        pod["spec"]["volumes"] = json!([{"name": "x", "emptyDir": {"sizeLimit": "1Mi"}}]);
        pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "x", "mountPath": "/x"}]);
        pod
    };
    let mut world = World::new();
    world.want(&[scratch("")]);
    world.pass(600 * SECOND);
    assert_eq!(world.status("web")["phase"], "Running");
    let mut world = World::new();
    world.want(&[scratch("fills")]);
    world.pass(75 * SECOND);
    let words = "Usage of EmptyDir volume \"x\" exceeds the limit \"1Mi\". ";
    let status = world.status("web");
    assert_eq!((&status["phase"], &status["reason"], &status["message"]), (&json!("Failed"), &json!("Evicted"), &json!(words)));
    assert!(world.events.iter().any(|(_, event)| event.reason == "Evicted" && event.message == words));
}

#[test]
fn a_pod_that_the_node_gives_up_fails_with_its_words_and_keeps_its_logs() {
    for (script, over_after) in [("", 0), ("deaf", 5)] {
        let mut world = World::new();
        world.want(&[pod("web", script)]);
        world.pass(60 * SECOND);
        world.input(evict("web", 5 * SECOND));
        world.pass(Duration::from_secs(over_after).saturating_sub(SECOND));
        if over_after > 0 {
            assert_eq!(world.status("web")["phase"], "Running", "a phase is final when nothing runs any more");
            world.input(evict("web", 60 * SECOND));
        }
        world.pass(2 * SECOND);
        let told = world.reasons().into_iter().filter(|reason| *reason == "Evicted").count();
        assert_eq!(told, 1, "said once, however often it is asked for");
        let status = world.status("web");
        assert_eq!((&status["phase"], &status["reason"]), (&json!("Failed"), &json!("Evicted")));
        assert_eq!(status["message"], "The node was low on resource: memory.");
        assert_eq!(condition(status, "DisruptionTarget")["lastTransitionTime"], "2026-11-22T20:07:40Z");
        assert_eq!(condition(status, "Ready")["reason"], "PodFailed");
        assert!(status["containerStatuses"][0]["state"]["terminated"].is_object());
        assert_eq!(world.lights[0].state, LightState::NotReady);
        world.pass(3600 * SECOND);
        let left = &world.sim.listing(None).pods[&Uid::from("uid-web")];
        assert_eq!((left.containers.len(), left.sandboxes.iter().any(|sandbox| sandbox.state.is_running())), (1, false));
        // The next agent hears of it from the master, and says the same.
        let mut known = pod("web", script);
        known["status"] = json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."});
        let mut next = World::with(world.sim, world.tick);
        next.want(std::slice::from_ref(&known));
        assert_eq!((next.orders_seen, &next.status("web")["reason"]), (0, &json!("Evicted")));
        next.want(&[deleting(known, 30)]);
        assert!(next.report("web").gone);
    }
}

#[test]
fn what_has_ended_or_is_being_deleted_is_not_failed_anew() {
    let mut world = World::new();
    let mut job = pod("job", "exit=0 after=2s");
    job["spec"]["restartPolicy"] = json!("Never");
    world.want(&[job.clone(), pod("web", "deaf")]);
    world.pass(10 * SECOND);
    world.want(&[job, deleting(pod("web", "deaf"), 30)]);
    for name in ["job", "web", "unknown"] {
        world.input(evict(name, SECOND));
    }
    world.pass(10 * SECOND);
    assert_eq!((&world.status("job")["phase"], &world.status("web")["phase"]), (&json!("Succeeded"), &json!("Running")));
}

#[test]
fn a_pod_that_waits_for_its_image_can_be_given_up() {
    let mut world = World::new();
    world.want(&[pod("web", "pull-fails")]);
    world.pass(5 * SECOND);
    world.input(evict("web", SECOND));
    world.pass(3600 * SECOND);
    assert_eq!(world.status("web")["reason"], "Evicted");
    assert_eq!(world.events.iter().filter(|(tick, event)| *tick > 6000 && event.reason == "Pulling").count(), 0);
}

/// The keys of a JSON object.
fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn of_a_pod_that_is_not_taken_nothing_is_told_but_why() {
    let mut world = World::new();
    let mut pod = pod("web", "");
    pod["spec"]["securityContext"] = json!({"sysctls": [{"name": "vm.swappiness", "value": "1"}]});
    world.want(std::slice::from_ref(&pod));
    world.pass(60 * SECOND);
    let status = world.status("web");
    let mut told = keys(status);
    told.sort_unstable();
    assert_eq!(told, ["message", "observedGeneration", "phase", "qosClass", "reason", "startTime"]);
    assert_eq!((&status["phase"], &status["reason"]), (&json!("Failed"), &json!("SysctlForbidden")));
    assert_eq!(status["message"], "Pod was rejected: forbidden sysctl: \"vm.swappiness\" not allowlisted");
    assert_eq!((world.reports["web"].len(), world.orders_seen, world.lights[0].state), (1, 0, LightState::NotReady));
    let before = status.clone();
    let mut next = world.next_agent();
    next.want(std::slice::from_ref(&pod));
    next.pass(60 * SECOND);
    assert_eq!((next.status("web"), next.orders_seen), (&before, 0));
    next.want(&[deleting(pod, 30)]);
    assert!(next.report("web").gone);
}

#[test]
fn who_never_started_before_the_end_counts_as_lost_once_it_could_have_begun() {
    let missing = json!([{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}]);
    let init = json!([{"name": "init", "image": "nginx:1"}, {"name": "later", "image": "nginx:1"}]);
    let lost =
        |status: &Value, list: &str, at: usize| status[list][at]["state"]["terminated"]["reason"] == "ContainerStatusUnknown";
    let waits = |status: &Value, list: &str, at: usize| status[list][at]["state"]["waiting"]["reason"] == "PodInitializing";
    for (script, env, with_init) in [("pull-fails", false, false), ("", true, false), ("pull-fails", false, true)] {
        for deleted in [false, true] {
            let mut world = World::new();
            let mut job = pod("job", script);
            job["spec"]["activeDeadlineSeconds"] = json!(20);
            if env {
                job["spec"]["containers"][0]["env"] = missing.clone();
            }
            if with_init {
                job["spec"]["initContainers"] = init.clone();
            }
            world.want(std::slice::from_ref(&job));
            world.pass(15 * SECOND);
            assert_eq!(world.status("job")["phase"], "Pending");
            let reason = if deleted {
                world.want(&[deleting(job, 30)]);
                json!(null)
            } else {
                json!("DeadlineExceeded")
            };
            world.pass(10 * SECOND);
            let status = world.status("job");
            assert_eq!((&status["phase"], &status["reason"]), (&json!("Failed"), &reason), "{script} {env} {with_init}");
            if with_init {
                assert!(lost(status, "initContainerStatuses", 0), "{status:#}");
                assert!(waits(status, "initContainerStatuses", 1) && waits(status, "containerStatuses", 0), "{status:#}");
            } else {
                assert!(lost(status, "containerStatuses", 0), "{status:#}");
                assert_eq!(status["containerStatuses"][0]["state"]["terminated"]["exitCode"], 137);
            }
            assert_eq!(world.report("job").gone, deleted);
        }
    }
}

#[test]
fn a_pod_is_deleted_in_whatever_it_is_doing() {
    let init = |script: &str| {
        let mut pod = pod("web", script);
        pod["spec"]["initContainers"] = json!([{"name": "init", "image": "nginx:1"}]);
        pod
    };
    let hooked = || {
        let mut pod = pod("web", "");
        pod["spec"]["containers"][0]["lifecycle"] = json!({"postStart": {"exec": {"command": ["/bin/hook"]}}});
        pod
    };
    let pulling = || pod("web", "");
    // What it does, after how long, and for how long it may take after the deletion.
    let cases: [(&dyn Fn() -> Value, u64, u64); 7] = [
        (&pulling, 0, 0),
        (&|| init(""), 5, 0),
        (&|| init("deaf"), 5, 30),
        (&|| init("exit=1 after=1s"), 12, 0),
        (&hooked, 5, 0),
        (&|| pod("web", "exit=1 after=1s"), 12, 0),
        (&|| pod("web", "pull-fails"), 5, 0),
    ];
    for (number, (make, after, takes)) in cases.into_iter().enumerate() {
        let mut world = World::new();
        world.want(&[make()]);
        world.pass(Duration::from_secs(after));
        world.want(&[deleting(make(), 30)]);
        if takes > 0 {
            world.pass(Duration::from_secs(takes) - SECOND);
            assert!(!world.report("web").gone, "{number}");
            world.pass(SECOND);
        }
        assert!(world.report("web").gone, "{number}");
        assert_eq!(world.status("web")["phase"], "Failed", "{number}: {:#}", world.status("web"));
        assert!(world.sim.listing(None).pods.is_empty(), "{number}");
        let started = world.reasons().iter().filter(|reason| **reason == "Started").count();
        world.pass(600 * SECOND);
        assert_eq!(world.reasons().iter().filter(|reason| **reason == "Started").count(), started, "{number}");
    }
}

#[test]
fn a_deadline_is_over_also_when_nobody_ever_made_the_sandbox() {
    let mut world = World::new();
    let mut job = pod("job", "");
    job["spec"]["activeDeadlineSeconds"] = json!(20);
    let object = Object::from_value(job).unwrap();
    let share = Share { pods: [("uid-job".into(), Arc::new(object))].into(), ..Share::default() };
    // What is ordered is never answered: Docker hangs.
    let mut effects = Vec::new();
    world.node.handle(world.now(), Input::Desired(Arc::new(share)), &mut effects);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Run(_))));
    assert_eq!(world.node.next_wake(), Some(Tick(20_000)));
    world.tick = 20_000;
    world.node.wake(world.now(), &mut effects);
    let reports: Vec<&PodReport> =
        effects.iter().filter_map(|effect| if let Effect::Report(report) = effect { Some(report) } else { None }).collect();
    let status = &reports.last().unwrap().status;
    assert_eq!((&status["phase"], &status["reason"]), (&json!("Failed"), &json!("DeadlineExceeded")));
    assert_eq!(status["startTime"], "2026-11-22T20:06:40Z");
    assert_eq!(status["containerStatuses"][0]["state"]["terminated"]["reason"], "ContainerStatusUnknown");
    assert_eq!(reports[0].status["startTime"], "2026-11-22T20:06:40Z", "known before there is a sandbox");
}

#[test]
fn a_pod_has_not_ended_while_a_container_of_it_is_being_started() {
    for evicted in [false, true] {
        let mut world = World::new();
        world.slow = true;
        world.want(&[pod("web", "")]);
        // The image is fetched; then its files are copied for a long time, say.
        world.pass(5 * SECOND);
        assert!(!world.held.is_empty(), "it is being started");
        if evicted {
            world.input(evict("web", SECOND));
        } else {
            world.want(&[deleting(pod("web", ""), 1)]);
        }
        world.pass(5 * SECOND);
        let status = world.status("web");
        assert_eq!((&status["phase"], &status["reason"]), (&json!("Pending"), &Value::Null), "evicted: {evicted}");
        assert!(status["containerStatuses"][0]["state"]["waiting"].is_object(), "evicted: {evicted}");
        // It begins after all, and is ended.
        world.slow = false;
        let held = std::mem::take(&mut world.held);
        world.answer(held);
        world.pass(5 * SECOND);
        assert_eq!((&world.status("web")["phase"], world.report("web").gone), (&json!("Failed"), !evicted));
        assert!(world.status("web")["containerStatuses"][0]["state"]["terminated"].is_object());
    }
}

#[test]
fn a_start_that_still_unpacks_an_image_is_given_up_with_its_pod_and_nothing_is_told() {
    let unpacking = || {
        let mut world = World::new();
        let mut bounded = pod("bounded", "unpacks=60s");
        bounded["spec"]["activeDeadlineSeconds"] = json!(20);
        world.want(&[pod("web", "unpacks=60s"), bounded, pod("other", "unpacks=60s")]);
        world.pass(10 * SECOND);
        assert!(!world.reasons().contains(&"Started"));
        world
    };
    for evicted in [false, true] {
        let mut world = unpacking();
        if evicted {
            world.input(evict("web", SECOND));
            let status = world.status("web");
            assert_eq!((&status["phase"], &status["reason"]), (&json!("Failed"), &json!("Evicted")), "at once");
        } else {
            world.want(&[deleting(pod("web", "unpacks=60s"), 30), pod("other", "unpacks=60s")]);
            assert!(world.report("web").gone, "at once, though its start takes another 50 seconds");
        }
        world.pass(600 * SECOND);
        let told = |name: &str| -> Vec<&str> {
            world.events.iter().filter(|(_, event)| event.name == name).map(|(_, event)| event.reason.as_str()).collect()
        };
        for reason in ["Started", "Created", "Failed", "FailedKillPod"] {
            assert!(!told("web").contains(&reason), "{evicted}: {:?}", told("web"));
        }
        assert_eq!(world.status("other")["phase"], "Running");
        assert_eq!(told("other").iter().filter(|reason| **reason == "Started").count(), 1);
    }
    let mut world = unpacking();
    world.pass(11 * SECOND);
    let status = world.status("bounded");
    assert_eq!((&status["phase"], &status["reason"]), (&json!("Failed"), &json!("DeadlineExceeded")));
    world.pass(600 * SECOND);
    let told: Vec<&str> =
        world.events.iter().filter(|(_, event)| event.name == "bounded").map(|(_, event)| event.reason.as_str()).collect();
    assert!(!told.contains(&"Started") && !told.contains(&"Failed"), "{told:?}");
}
