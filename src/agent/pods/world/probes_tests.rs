//! A node whose pods have probes: what is asked, and what follows.

use serde_json::{Value, json};

use super::{SECOND, World, condition, deleting, pod};
use crate::agent::node::Input;
use crate::agent::pods::status::LightState;
use crate::agent::prober::{Answer, Kind, Sign};
use crate::agent::runtime::simulated;

fn exec(period: u64, failures: u64) -> Value {
    json!({"exec": {"command": ["check"]}, "periodSeconds": period, "timeoutSeconds": 1, "failureThreshold": failures})
}

/// A pod whose container has these probes.
fn probed(name: &str, script: &str, probes: &[(&str, Value)]) -> Value {
    let mut pod = pod(name, script);
    for (key, probe) in probes {
        pod["spec"]["containers"][0][*key] = probe.clone();
    }
    pod
}

fn container(status: &Value) -> &Value {
    &status["containerStatuses"][0]
}

fn messages(world: &World, reason: &str) -> Vec<String> {
    world.events.iter().filter(|(_, event)| event.reason == reason).map(|(_, event)| event.message.clone()).collect()
}

#[test]
fn readiness_begins_as_no_and_follows_the_answers() {
    let mut world = World::new();
    world.want(&[probed("web", "sick-until=20s sick-after=60s", &[("readinessProbe", exec(2, 3))])]);
    world.pass(4 * SECOND);
    let status = world.status("web");
    assert_eq!(status["phase"], "Running");
    assert_eq!((&container(status)["started"], &container(status)["ready"]), (&json!(true), &json!(false)));
    for kind in ["Ready", "ContainersReady"] {
        assert_eq!(condition(status, kind)["status"], "False");
        assert_eq!(condition(status, kind)["reason"], "ContainersNotReady");
        assert_eq!(condition(status, kind)["message"], "containers with unready status: [app]");
    }
    assert_eq!(world.lights[0].state, LightState::NotReady);
    assert_eq!(messages(&world, "Unhealthy"), ["Readiness probe failed: sick"]);

    world.pass(24 * SECOND);
    let status = world.status("web");
    assert_eq!(condition(status, "Ready")["status"], "True");
    assert_eq!(world.lights[0].state, LightState::Ready);
    let since = condition(status, "Ready")["lastTransitionTime"].as_str().unwrap().to_owned();
    assert!(("2026-11-22T20:07:02Z".."2026-11-22T20:07:06Z").contains(&since.as_str()), "{since}");

    // Three bad answers in a row, and not before.
    world.pass(38 * SECOND);
    assert_eq!(condition(world.status("web"), "Ready")["status"], "True");
    world.pass(6 * SECOND);
    let status = world.status("web");
    assert_eq!(condition(status, "Ready")["status"], "False");
    assert!(condition(status, "Ready")["lastTransitionTime"].as_str() > Some("2026-11-22T20:07:40Z"));
    assert_eq!(container(status)["restartCount"], 0, "readiness kills nobody");
    let said = messages(&world, "Unhealthy").len();
    world.pass(600 * SECOND);
    assert!(messages(&world, "Unhealthy").len() <= said + 11, "the same words once a minute");
}

#[test]
fn a_server_that_is_seen_before_its_start_is_answered_is_as_new_as_after_that() {
    let mut world = World::new();
    world.slow = true;
    let tcp = json!({"tcpSocket": {"port": 80}, "periodSeconds": 10, "timeoutSeconds": 1, "failureThreshold": 3});
    world.want(&[probed("web", "sick-until=20s", &[("readinessProbe", tcp)])]);
    world.pass(5 * SECOND);
    let listing = world.listing(&"uid-web".into());
    world.input(Input::Observed(listing));
    world.pass(SECOND);
    assert!(!world.held.is_empty(), "the engine has not answered");
    assert!(world.asks > 1, "asked again soon: it is just starting");
    assert_eq!(messages(&world, "Unhealthy"), Vec::<String>::new());
}

#[test]
fn a_liveness_failure_kills_with_the_probes_grace_and_the_policy_restarts() {
    let mut world = World::new();
    let mut liveness = exec(2, 3);
    liveness["terminationGracePeriodSeconds"] = json!(5);
    world.want(&[probed("web", "sick-after=10s deaf", &[("livenessProbe", liveness)])]);
    world.pass(12 * SECOND);
    assert_eq!(condition(world.status("web"), "Ready")["status"], "True", "liveness begins as yes");
    world.pass(6 * SECOND);
    assert_eq!(messages(&world, "Killing"), ["Container app failed liveness probe, will be restarted"]);
    let at = |world: &World, reason: &str| world.events.iter().rev().find(|(_, event)| event.reason == reason).unwrap().0;
    let told = at(&world, "Killing");
    world.pass(8 * SECOND);
    assert_eq!(container(world.status("web"))["restartCount"], 1);
    assert_eq!(container(world.status("web"))["lastState"]["terminated"]["exitCode"], 137);
    assert_eq!(at(&world, "Started") - told, 5000, "deaf: killed at the end of the probe's own grace, not the pod's");
    assert_eq!(messages(&world, "Unhealthy")[0], "Liveness probe failed: sick");
}

#[test]
fn one_that_is_condemned_starts_again_unless_its_policy_is_never() {
    for (policy, exit, again) in [("OnFailure", 0, true), ("Always", 0, true), ("Never", 143, false)] {
        let mut world = World::new();
        let mut web = probed("web", "sick-after=5s", &[("livenessProbe", exec(1, 1))]);
        web["spec"]["restartPolicy"] = json!(policy);
        world.want(&[web]);
        world.pass(9 * SECOND);
        let word =
            if again { "Container app failed liveness probe, will be restarted" } else { "Container app failed liveness probe" };
        assert_eq!(messages(&world, "Killing"), [word], "{policy} {exit}");
        let status = world.status("web");
        assert_eq!(status["phase"], if again { "Running" } else { "Failed" }, "{policy}");
        assert_eq!(container(status)["restartCount"], u32::from(again), "{policy}");
    }
}

#[test]
fn startup_holds_the_others_back_and_kills_when_it_takes_too_long() {
    let mut world = World::new();
    let probes = [("startupProbe", exec(2, 20)), ("livenessProbe", exec(1, 1)), ("readinessProbe", exec(60, 1))];
    world.want(&[probed("slow", "sick-until=30s", &probes)]);
    world.pass(25 * SECOND);
    let status = world.status("slow");
    assert_eq!((&container(status)["started"], &container(status)["ready"]), (&json!(false), &json!(false)));
    assert_eq!(world.lights[0].state, LightState::Starting);
    assert!(messages(&world, "Killing").is_empty());
    world.pass(10 * SECOND);
    let status = world.status("slow");
    // Readiness is asked as soon as it has started, not a minute later.
    assert_eq!((&container(status)["started"], &container(status)["ready"]), (&json!(true), &json!(true)));

    let mut world = World::new();
    world.want(&[probed("stuck", "sick", &[("startupProbe", exec(2, 3)), ("livenessProbe", exec(1, 1))])]);
    world.pass(12 * SECOND);
    assert_eq!(messages(&world, "Killing")[0], "Container app failed startup probe, will be restarted");
    assert!(messages(&world, "Unhealthy").iter().all(|text| text.starts_with("Startup probe failed")));
}

#[test]
fn while_a_pod_ends_only_its_readiness_is_asked() {
    let mut world = World::new();
    let web = probed("web", "sick-after=10s deaf", &[("livenessProbe", exec(1, 1)), ("readinessProbe", exec(1, 1))]);
    world.want(std::slice::from_ref(&web));
    world.pass(8 * SECOND);
    assert_eq!(condition(world.status("web"), "Ready")["status"], "True");
    world.want(&[deleting(web, 30)]);
    world.pass(10 * SECOND);
    assert_eq!(condition(world.status("web"), "Ready")["status"], "False");
    assert_eq!(messages(&world, "Killing"), ["Stopping container app"]);
    assert!(messages(&world, "Unhealthy").iter().all(|text| text.starts_with("Readiness")));
    world.pass(30 * SECOND);
    assert!(world.report("web").gone);
}

#[test]
fn a_sidecar_that_has_not_started_holds_back_the_next_and_its_readiness_counts() {
    let mut world = World::new();
    let mut web = pod("web", "sick-until=20s");
    web["spec"]["initContainers"] = json!([
        {"name": "side", "image": "nginx:1", "restartPolicy": "Always", "startupProbe": exec(1, 60), "readinessProbe": exec(1, 1)},
    ]);
    world.want(&[web]);
    world.pass(10 * SECOND);
    let status = world.status("web");
    assert_eq!(status["phase"], "Pending");
    assert_eq!(condition(status, "Initialized")["status"], "False");
    assert_eq!(container(status)["state"]["waiting"]["reason"], "PodInitializing");
    assert_eq!(status["initContainerStatuses"][0]["started"], false);
    world.pass(20 * SECOND);
    let status = world.status("web");
    assert_eq!(condition(status, "Initialized")["status"], "True");
    assert_eq!(condition(status, "Ready")["status"], "True");
}

/// The agent is another, the containers are the same.
fn restarted(world: World) -> World {
    let mut next = World::with(world.sim, world.tick);
    next.mute = true;
    next
}

#[test]
fn another_agent_neither_kills_nor_takes_back_what_was_ready() {
    for probes in [
        vec![("readinessProbe", exec(10, 3))],
        vec![("startupProbe", exec(10, 3)), ("livenessProbe", exec(10, 1)), ("readinessProbe", exec(10, 3))],
    ] {
        let mut world = World::new();
        let web = probed("web", "", &probes);
        world.want(std::slice::from_ref(&web));
        world.pass(30 * SECOND);
        let before = world.status("web").clone();
        assert_eq!(condition(&before, "Ready")["status"], "True");

        let mut world = restarted(world);
        world.want(std::slice::from_ref(&web));
        assert!(world.reports.is_empty(), "nothing is said before it is known");
        assert_eq!(world.asks, 1, "and it is asked at once");
        world.mute = false;
        world.answer_probes();
        assert!(world.reports["web"].iter().all(|(_, report)| condition(&report.status, "Ready")["status"] == "True"));
        assert_eq!(world.status("web")["containerStatuses"], before["containerStatuses"]);
        assert_eq!(messages(&world, "Killing"), Vec::<String>::new());
    }
}

#[test]
fn what_is_adopted_and_does_not_answer_is_said_after_a_while() {
    let mut world = World::new();
    let web = probed("web", "", &[("readinessProbe", exec(10, 3))]);
    world.want(std::slice::from_ref(&web));
    world.pass(30 * SECOND);
    let mut world = restarted(world);
    world.want(std::slice::from_ref(&web));
    world.pass(9 * SECOND);
    assert!(world.reports.is_empty());
    world.pass(2 * SECOND);
    assert_eq!(condition(world.status("web"), "Ready")["status"], "False");
}

#[test]
fn answers_about_another_run_are_dropped() {
    let mut world = World::new();
    world.want(&[probed("web", "", &[("livenessProbe", exec(1, 1))])]);
    world.pass(4 * SECOND);
    world.mute = true;
    world.pass(2 * SECOND);
    let ask = world.asked.pop_front().unwrap();
    assert_eq!(ask.ticket.kind, Kind::Liveness);
    world.happens(simulated::Input::KillOutside(ask.ticket.container.clone()));
    world.pass(2 * SECOND);
    assert_eq!(container(world.status("web"))["restartCount"], 1);
    let dropped = world.node.dropped();
    world.input(Input::Probed(Answer { ticket: ask.ticket, sign: Sign::Bad("late".to_owned()) }));
    assert_eq!(world.node.dropped(), dropped + 1);
    assert_eq!(messages(&world, "Killing"), Vec::<String>::new());
    assert_eq!(messages(&world, "Unhealthy"), Vec::<String>::new());
}
