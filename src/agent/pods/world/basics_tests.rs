//! From start to end: restarts, sandboxes, deletion, adoption.

use super::*;

#[test]
fn a_pod_is_pulled_started_and_ready_and_says_so() {
    let mut world = World::new();
    world.want(&[pod("web", "")]);
    assert_eq!(world.lights[0].state, LightState::Pulling);
    assert_eq!(world.status("web")["phase"], "Pending");
    assert_eq!(world.status("web")["containerStatuses"][0]["state"]["waiting"]["reason"], "ContainerCreating");
    world.pass(3 * SECOND);
    let status = world.status("web");
    assert_eq!(status["phase"], "Running");
    assert_eq!(condition(status, "Ready")["status"], "True");
    assert_eq!(condition(status, "Ready")["lastTransitionTime"], "2026-11-22T20:06:42Z");
    assert_eq!(status["startTime"], "2026-11-22T20:06:40Z");
    assert_eq!(status["hostIP"], "192.168.1.9");
    assert!(status["podIP"].as_str().unwrap().starts_with("10.244."));
    let container = &status["containerStatuses"][0];
    assert_eq!(container["state"]["running"]["startedAt"], "2026-11-22T20:06:42Z");
    assert_eq!((&container["ready"], &container["started"], &container["restartCount"]), (&json!(true), &json!(true), &json!(0)));
    assert_eq!(world.reasons(), ["Pulling", "Pulled", "Created", "Started"]);
    let light = PodLight { namespace: "default".into(), name: "web".into(), led: Some("3".into()), state: LightState::Ready };
    assert_eq!(world.lights, [light]);
    // Nothing more happens, and nothing more is said.
    let said = world.reports["web"].len();
    world.pass(3600 * SECOND);
    world.want(&[pod("web", "")]);
    assert_eq!(world.reports["web"].len(), said);
    assert_eq!(world.node.next_wake(), None);
}

#[test]
fn a_crash_loop_keeps_the_exact_times() {
    let mut world = World::new();
    world.want(&[pod("web", "exit=1 after=2s")]);
    world.pass(400 * SECOND);
    let starts: Vec<u64> =
        world.events.iter().filter(|(_, event)| event.reason == "Started").map(|(tick, _)| tick / 1000).collect();
    // 2 s of pulling; then each run lasts 2 s, and the waits are 0, 1, 2, 4, 8, 16, 32, 60, 60 s.
    assert_eq!(starts, [2, 4, 7, 11, 17, 27, 45, 79, 141, 203, 265, 327, 389]);
    assert_eq!(world.lights[0].state, LightState::CrashLoop);
    let container = &world.status("web")["containerStatuses"][0];
    assert_eq!(container["restartCount"], 12);
    assert_eq!(container["state"]["waiting"]["reason"], "CrashLoopBackOff");
    assert_eq!(container["state"]["waiting"]["message"], "back-off 60s restarting failed container=app pod=web_default(uid-web)");
    assert_eq!(container["lastState"]["terminated"]["exitCode"], 1);
    assert_eq!(world.status("web")["phase"], "Running");
    assert_eq!(world.sim.runs(&"uid-web".into(), "app").count(), 2, "only the last two runs are kept");
    assert!(world.reasons().contains(&"BackOff"));
}

#[test]
fn a_killed_container_comes_back_at_once_with_its_count_up() {
    let mut world = World::new();
    world.want(&[pod("web", "")]);
    world.pass(5 * SECOND);
    let id = world.sim.runs(&"uid-web".into(), "app").next().unwrap().id.clone();
    world.happens(simulated::Input::KillOutside(id.clone()));
    let container = &world.status("web")["containerStatuses"][0];
    assert_eq!(container["restartCount"], 1);
    assert_eq!(container["lastState"]["terminated"]["exitCode"], 137);
    assert_eq!(container["lastState"]["terminated"]["containerID"], format!("docker://{id}"));
    assert!(container["state"]["running"].is_object());
}

#[test]
fn a_dead_sandbox_takes_its_containers_with_it_and_all_come_back() {
    let mut world = World::new();
    world.want(&[pod("web", "")]);
    world.pass(60 * SECOND);
    let listing = world.sim.listing(None);
    let sandbox = listing.pods[&Uid::from("uid-web")].sandboxes[0].clone();
    world.happens(simulated::Input::KillOutside(sandbox.id.clone()));
    world.pass(SECOND);
    let status = world.status("web");
    assert_eq!(status["containerStatuses"][0]["restartCount"], 1);
    assert_eq!(condition(status, "Ready")["status"], "True");
    assert_eq!(status["startTime"], "2026-11-22T20:06:40Z", "the pod is not younger for it");
    assert!(world.reasons().contains(&"SandboxChanged"));
    let pod = &world.sim.listing(None).pods[&Uid::from("uid-web")];
    assert_eq!(pod.sandboxes.len(), 1);
    assert_ne!(pod.sandboxes[0].id, sandbox.id);
}

#[test]
fn a_deleted_pod_gets_term_then_kill_and_leaves_nothing() {
    for (script, grace, over_after) in [("", 30, 0), ("deaf", 30, 30), ("deaf", 0, 0)] {
        let mut world = World::new();
        world.want(&[pod("web", script)]);
        world.pass(5 * SECOND);
        world.want(&[deleting(pod("web", script), grace)]);
        if over_after > 0 {
            assert_eq!(world.lights[0].state, LightState::Terminating);
            world.pass(Duration::from_secs(over_after) - SECOND);
            assert!(!world.report("web").gone, "not before its grace is over");
            world.pass(SECOND);
        }
        let report = world.report("web");
        assert!(report.gone, "{script} {grace}");
        assert!(report.status["containerStatuses"][0]["state"]["terminated"].is_object());
        assert!(world.sim.listing(None).pods.is_empty());
        assert!(world.lights.is_empty());
        world.want(&[]);
        assert_eq!(world.node.all_reports().count(), 0);
    }
}

#[test]
fn a_second_delete_only_shortens_the_grace() {
    let mut world = World::new();
    world.want(&[pod("web", "deaf")]);
    world.pass(5 * SECOND);
    world.want(&[deleting(pod("web", "deaf"), 30)]);
    world.pass(2 * SECOND);
    world.want(&[deleting(pod("web", "deaf"), 3)]);
    world.pass(2 * SECOND);
    world.want(&[deleting(pod("web", "deaf"), 60)]);
    assert!(!world.report("web").gone);
    world.pass(SECOND);
    assert!(world.report("web").gone);
}

#[test]
fn a_new_agent_adopts_what_runs_and_says_the_same() {
    let mut world = World::new();
    let pods = [pod("web", ""), pod("loop", "exit=1 after=2s")];
    world.want(&pods);
    world.pass(31 * SECOND);
    let before: Vec<Value> = ["web", "loop"].iter().map(|name| world.status(name).clone()).collect();
    assert_eq!(before[1]["containerStatuses"][0]["state"]["waiting"]["reason"], "CrashLoopBackOff");
    let listed = world.sim.listing(None).pods;
    // A tick is of one process: the new one's begins elsewhere.
    let mut next = World::with(world.sim, world.tick);
    assert_eq!(next.orders_seen, 0, "nothing is done, and nothing removed, before the first share");
    next.want(&pods);
    assert_eq!(next.orders_seen, 0);
    let after: Vec<Value> = ["web", "loop"].iter().map(|name| next.status(name).clone()).collect();
    assert_eq!(before, after);
    assert_eq!(listed, next.sim.listing(None).pods);
    // The back-off goes on where it was: the sixth run ended at 29 s, the seventh begins at 45 s.
    next.pass(20 * SECOND);
    let starts: Vec<u64> =
        next.events.iter().filter(|(_, event)| event.reason == "Started").map(|(tick, _)| tick / 1000).collect();
    assert_eq!(starts, [45]);
    // What is no longer wanted goes, once a share says so.
    next.want(&[pod("web", "")]);
    assert_eq!(next.sim.listing(None).pods.keys().collect::<Vec<_>>(), [&Uid::from("uid-web")]);
}

#[test]
fn a_pod_that_does_its_work_ends_and_is_not_run_again() {
    for (policy, script, phase, runs) in [
        ("Never", "exit=0 after=2s", "Succeeded", 1),
        ("Never", "exit=3 after=2s", "Failed", 1),
        ("OnFailure", "exit=0 after=2s", "Succeeded", 1),
    ] {
        let mut world = World::new();
        let mut pod = pod("job", script);
        pod["spec"]["restartPolicy"] = json!(policy);
        world.want(std::slice::from_ref(&pod));
        world.pass(60 * SECOND);
        assert_eq!(world.status("job")["phase"], phase, "{policy} {script}");
        assert_eq!(world.events.iter().filter(|(_, event)| event.reason == "Started").count(), runs);
        let left = &world.sim.listing(None).pods[&Uid::from("uid-job")];
        assert!(!left.sandboxes.iter().any(|sandbox| sandbox.state.is_running()), "its sandbox costs nothing any more");
        // The master keeps the phase; the runtime has forgotten: it stays so.
        pod["status"] = json!({"phase": phase});
        let mut next = World::new();
        next.want(&[pod]);
        assert_eq!((next.orders_seen, next.status("job")["phase"].as_str()), (0, Some(phase)));
    }
}

#[test]
fn init_containers_run_in_order_before_the_others() {
    let mut world = World::new();
    let mut pod = pod("web", "exit=0 after=2s");
    pod["spec"]["initContainers"] = json!([{"name": "one", "image": "nginx:1"}, {"name": "two", "image": "nginx:1"}]);
    pod["spec"]["restartPolicy"] = json!("Never");
    world.want(&[pod]);
    world.pass(3 * SECOND);
    let status = world.status("web");
    assert_eq!(status["phase"], "Pending");
    assert_eq!(condition(status, "Initialized")["status"], "False");
    assert_eq!(status["containerStatuses"][0]["state"]["waiting"]["reason"], "PodInitializing");
    world.pass(60 * SECOND);
    let order: Vec<&str> =
        world.events.iter().filter(|(_, event)| event.reason == "Started").map(|(_, event)| event.field_path.as_str()).collect();
    assert_eq!(order, ["spec.initContainers{one}", "spec.initContainers{two}", "spec.containers{app}"]);
    assert_eq!(world.status("web")["phase"], "Succeeded");
}

#[test]
fn a_listing_that_began_earlier_does_not_undo_a_later_one() {
    let mut world = World::new();
    let empty = world.sim.listing(None);
    world.want(&[pod("web", "")]);
    world.pass(5 * SECOND);
    let orders = world.orders_seen;
    world.input(Input::Observed(empty));
    assert_eq!((world.orders_seen, world.node.dropped()), (orders, 1));
    assert_eq!(world.status("web")["phase"], "Running");
}

#[test]
fn a_missing_config_map_is_said_and_healed() {
    let mut world = World::new();
    let mut pod = pod("web", "");
    pod["spec"]["containers"][0]["env"] = json!([{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}]);
    world.want(std::slice::from_ref(&pod));
    world.pass(5 * SECOND);
    let waiting = &world.status("web")["containerStatuses"][0]["state"]["waiting"];
    assert_eq!(waiting, &json!({"reason": "CreateContainerConfigError", "message": "configmap \"c\" not found"}));
    let object = |value: Value| Arc::new(Object::from_value(value).unwrap());
    let share = Share {
        pods: [("uid-web".into(), object(pod))].into(),
        config_maps: [("default/c".to_owned(), object(json!({"data": {"k": "v"}})))].into(),
        ..Share::default()
    };
    world.input(Input::Desired(Arc::new(share)));
    world.pass(5 * SECOND);
    assert_eq!(world.status("web")["phase"], "Running");
}

#[test]
fn a_container_with_another_image_is_replaced_and_says_why_it_ends() {
    let mut world = World::new();
    world.want(&[pod("web", "")]);
    world.pass(5 * SECOND);
    let mut other = pod("web", "");
    other["spec"]["containers"][0]["image"] = json!("nginx:2");
    other["metadata"]["generation"] = json!(2);
    world.want(&[other]);
    world.pass(5 * SECOND);
    let status = world.status("web");
    let container = &status["containerStatuses"][0];
    assert_eq!((&container["restartCount"], &container["image"]), (&json!(1), &json!("nginx:2")));
    assert_eq!((&status["observedGeneration"], &condition(status, "Ready")["status"]), (&json!(2), &json!("True")));
    let killing = world.events.iter().find(|(_, event)| event.reason == "Killing").map(|(_, event)| event.message.as_str());
    assert_eq!(killing, Some("Container app definition changed, will be restarted"));
}

#[test]
fn a_look_at_one_pod_tells_nothing_of_another_whatever_the_engine_shows() {
    let mut world = World::new();
    let pods = [pod("a", ""), pod("b", "")];
    world.want(&pods);
    world.pass(5 * SECOND);
    let (before, orders) = (world.status("b").clone(), world.orders_seen);
    assert_eq!(before["phase"], "Running");
    let mut listing = world.listing(&"uid-a".into());
    // Podman shows the volumes of all pods to who asks for those of one.
    let mut stray = crate::agent::pods::plan::nothing(&"uid-b".into());
    stray.volumes = vec!["bramble_scratch_b_default_uid-b".into()];
    listing.pods.insert("uid-b".into(), stray);
    world.input(Input::Observed(listing));
    assert_eq!((world.status("b"), world.orders_seen), (&before, orders));
    assert!(!world.reasons().contains(&"SandboxChanged"));
}

#[test]
fn a_pods_address_is_known_on_its_node_before_its_first_container_starts() {
    let mut world = World::new();
    let mut labelled = pod("web", "");
    labelled["metadata"]["labels"] = json!({"app": "web"});
    let mut on_host = pod("host", "");
    on_host["spec"]["hostNetwork"] = json!(true);
    world.want(&[labelled, on_host]);
    let mut waited = 0;
    while world.node.local_pods().is_empty() {
        assert!(waited < 100, "no address within 10 s");
        world.pass(SECOND / 10);
        waited += 1;
    }
    assert!(!world.reasons().contains(&"Started"), "{:?}", world.reasons());
    world.pass(10 * SECOND);
    let pods = world.node.local_pods();
    assert_eq!(pods.len(), 1, "{pods:?}");
    let (address, known) = pods.first_key_value().unwrap();
    assert_eq!(address.to_string(), world.status("web")["podIP"].as_str().unwrap());
    assert_eq!((known.namespace.as_str(), known.labels["app"].as_str()), ("default", "web"));
    world.want(&[]);
    world.pass(60 * SECOND);
    assert!(world.node.local_pods().is_empty());
}
