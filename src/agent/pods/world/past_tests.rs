//! What the agent before this one knew: what ran, and what was given up.

use super::*;

fn with_policy(name: &str, script: &str, policy: &str) -> Value {
    let mut pod = pod(name, script);
    pod["spec"]["restartPolicy"] = json!(policy);
    pod
}

#[test]
fn what_somebody_removed_while_no_agent_was_there_runs_again_only_as_its_policy_says() {
    for (policy, script, runs_again, phase, end) in [
        ("Never", "", 0, "Failed", Some(("ContainerStatusUnknown", 137))),
        ("Never", "exit=0 after=2s", 0, "Succeeded", Some(("Completed", 0))),
        ("Never", "exit=3 after=2s", 0, "Failed", Some(("Error", 3))),
        ("OnFailure", "exit=0 after=2s", 0, "Succeeded", Some(("Completed", 0))),
        ("OnFailure", "", 1, "Running", None),
        ("Always", "", 1, "Running", None),
    ] {
        let mut world = World::new();
        let job = with_policy("job", script, policy);
        world.want(std::slice::from_ref(&job));
        world.pass(20 * SECOND);
        world.remove("uid-job", "app", false);
        let mut next = world.next_agent();
        next.want(std::slice::from_ref(&job));
        next.pass(60 * SECOND);
        let started = next.reasons().iter().filter(|reason| **reason == "Started").count();
        assert_eq!((started, &next.status("job")["phase"]), (runs_again, &json!(phase)), "{policy} {script}");
        let Some((reason, code)) = end else { continue };
        let container = next.status("job")["containerStatuses"][0].clone();
        let ended = &container["state"]["terminated"];
        assert_eq!((&ended["reason"], &ended["exitCode"]), (&json!(reason), &json!(code)), "{policy} {script}");
        assert!(container["containerID"].as_str().unwrap().starts_with("docker://"));
        // The one after that says the same.
        let before = next.status("job").clone();
        let mut third = next.next_agent();
        third.want(&[job]);
        third.pass(60 * SECOND);
        assert_eq!((third.orders_seen, third.status("job")), (0, &before), "{policy} {script}");
    }
}

#[test]
fn an_init_container_that_did_its_work_and_is_gone_does_it_once() {
    let mut world = World::new();
    let mut job = with_policy("job", "exit=0 after=2s only=init", "Never");
    job["spec"]["initContainers"] = json!([{"name": "init", "image": "nginx:1"}]);
    world.want(std::slice::from_ref(&job));
    world.pass(20 * SECOND);
    world.remove("uid-job", "init", false);
    let mut next = world.next_agent();
    next.want(&[job]);
    next.pass(60 * SECOND);
    assert_eq!((next.orders_seen, &next.status("job")["phase"]), (0, &json!("Running")));
    assert_eq!(next.status("job")["initContainerStatuses"][0]["state"]["terminated"]["reason"], "Completed");
}

#[test]
fn a_debug_container_that_is_gone_is_not_begun_anew_by_the_next_agent() {
    let mut world = World::new();
    let mut web = pod("web", "exit=3 after=4s only=debug");
    web["spec"]["ephemeralContainers"] = json!([{"name": "debug", "image": "busybox"}]);
    world.want(std::slice::from_ref(&web));
    world.pass(60 * SECOND);
    world.remove("uid-web", "debug", false);
    let mut next = world.next_agent();
    next.want(&[web]);
    next.pass(60 * SECOND);
    assert!(!next.reasons().contains(&"Started"));
    assert_eq!(next.status("web")["ephemeralContainerStatuses"][0]["state"]["terminated"]["exitCode"], 3);
}

#[test]
fn only_what_matters_is_written_down_and_only_when_it_changes() {
    for (policy, script, times) in [
        ("Always", "", 0),
        ("Always", "exit=1 after=2s", 0),
        ("OnFailure", "exit=1 after=2s", 0),
        ("OnFailure", "exit=0 after=2s", 1),
        ("Never", "", 1),
        ("Never", "exit=1 after=2s", 2),
    ] {
        let mut world = World::new();
        let job = with_policy("job", script, policy);
        world.want(std::slice::from_ref(&job));
        world.pass(3600 * SECOND);
        world.want(&[job.clone(), pod("other", "")]);
        world.pass(600 * SECOND);
        world.want(&[deleting(job, 30)]);
        world.pass(600 * SECOND);
        world.want(&[]);
        assert_eq!(world.kept, times, "{policy} {script}");
    }
    // A pod that the master knows to have ended goes with the next change, as one that has left the share.
    let mut world = World::new();
    let mut job = with_policy("job", "exit=1 after=2s", "Never");
    world.want(std::slice::from_ref(&job));
    world.pass(60 * SECOND);
    job["status"] = json!({"phase": "Failed"});
    world.want(&[job.clone(), with_policy("other", "", "Never")]);
    world.pass(60 * SECOND);
    assert_eq!((world.disk.pods.keys().map(|uid| uid.0.as_str()).collect::<Vec<_>>(), world.kept), (vec!["uid-other"], 3));
    let mut world = World::new();
    world.want(&[with_policy("one", "", "Never"), with_policy("two", "", "Never")]);
    world.pass(5 * SECOND);
    world.want(&[with_policy("two", "", "Never")]);
    world.pass(60 * SECOND);
    world.want(&[with_policy("two", "", "Never"), with_policy("three", "", "Never")]);
    world.pass(5 * SECOND);
    let kept: Vec<&str> = world.disk.pods.keys().map(|uid| uid.0.as_str()).collect();
    assert_eq!(kept, ["uid-three", "uid-two"]);
}

#[test]
fn a_pod_that_was_being_given_up_when_its_agent_died_ends_with_the_same_words() {
    for script in ["", "deaf"] {
        let mut world = World::new();
        world.want(&[pod("web", script)]);
        world.pass(60 * SECOND);
        world.input(evict("web", 5 * SECOND));
        world.pass(SECOND);
        assert_eq!(world.kept, 1, "one write a failure");
        let mut next = world.next_agent();
        next.want(&[pod("web", script)]);
        next.pass(6 * SECOND);
        let status = next.status("web");
        assert_eq!((&status["phase"], &status["reason"]), (&json!("Failed"), &json!("Evicted")), "{script}");
        assert_eq!(status["message"], "The node was low on resource: memory.");
        assert_eq!(condition(status, "DisruptionTarget")["lastTransitionTime"], "2026-11-22T20:07:40Z");
        next.pass(3600 * SECOND);
        assert!(!next.reasons().contains(&"Started"), "{script}");
        next.want(&[deleting(pod("web", script), 30)]);
        assert!(next.report("web").gone);
    }
}

#[test]
fn a_deadline_that_was_over_when_the_agent_died_stays_over() {
    let mut job = pod("job", "deaf");
    job["spec"]["activeDeadlineSeconds"] = json!(20);
    let mut world = World::new();
    world.want(std::slice::from_ref(&job));
    world.pass(25 * SECOND);
    assert_eq!(world.status("job")["phase"], "Running");
    // Somebody takes the deadline away meanwhile: what is over is over.
    job["spec"].as_object_mut().unwrap().remove("activeDeadlineSeconds");
    let mut next = world.next_agent();
    next.want(&[job]);
    next.pass(60 * SECOND);
    assert_eq!((&next.status("job")["phase"], &next.status("job")["reason"]), (&json!("Failed"), &json!("DeadlineExceeded")));
}

#[test]
fn the_count_of_restarts_goes_on_when_somebody_removed_the_container_while_no_agent_was_there() {
    let mut world = World::new();
    let mut web = pod("web", "exit=1 after=2s only=app");
    web["spec"]["initContainers"] = json!([{"name": "side", "image": "nginx:1", "restartPolicy": "Always"}]);
    world.want(std::slice::from_ref(&web));
    world.pass(60 * SECOND);
    let count = |status: &Value| status["containerStatuses"][0]["restartCount"].as_u64().unwrap();
    let before = count(world.status("web"));
    assert!(before > 3, "{before}");
    for container in ["app", "app", "side"] {
        world.remove("uid-web", container, false);
    }
    let mut next = world.next_agent();
    next.want(&[web]);
    next.pass(60 * SECOND);
    let counts: Vec<u64> = next.reports["web"].iter().map(|(_, report)| count(&report.status)).collect();
    assert_eq!((counts[0], counts.is_sorted()), (before, true), "{counts:?}");
    assert!(counts.contains(&(before + 1)), "{counts:?}");
    assert_eq!(next.status("web")["initContainerStatuses"][0]["restartCount"], 1);
    assert_eq!(next.kept, 0, "nothing is written for it");
    // A pod that is new begins at nothing.
    next.want(&[pod("other", "")]);
    next.pass(60 * SECOND);
    assert_eq!(next.status("other")["containerStatuses"][0]["restartCount"], 0);
}
