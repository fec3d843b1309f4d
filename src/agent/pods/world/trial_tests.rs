//! What a first week with real pods brought up.

use super::*;
use crate::agent::pods::spec::Action;

#[test]
fn a_pod_whose_sandbox_lost_its_network_gets_another_one() {
    let mut world = World::new();
    world.want(&[pod("web", "")]);
    world.pass(5 * SECOND);
    let before = world.status("web").clone();
    assert_eq!(condition(&before, "Ready")["status"], "True");
    let sandbox = |world: &mut World| world.listing(&"uid-web".into()).pods[&Uid::from("uid-web")].sandboxes[0].id.clone();
    let first = world.disconnect("uid-web");
    world.look("uid-web");
    assert_eq!(world.status("web"), &before, "one look may have been caught in between");
    world.pass(20 * SECOND);
    world.look("uid-web");
    world.pass(60 * SECOND);
    let after = world.status("web").clone();
    assert_eq!(condition(&after, "Ready")["status"], "True", "{after:#}");
    assert_ne!(sandbox(&mut world), first);
    assert!(after["podIP"].is_string() && after["podIP"] != before["podIP"], "{after:#}");
    assert_eq!(after["containerStatuses"][0]["restartCount"], 1);
    assert!(world.reasons().contains(&"SandboxChanged"));
}

#[test]
fn a_network_that_was_lost_while_the_agent_was_away_is_seen_when_it_is_back() {
    let mut world = World::new();
    world.want(&[pod("web", "")]);
    world.pass(5 * SECOND);
    let first = world.disconnect("uid-web");
    // The next agent has seen no address of any pod, and there is no other pod that has one.
    let mut next = world.next_agent();
    next.want(&[pod("web", "")]);
    next.pass(2 * SECOND);
    next.look("uid-web");
    next.pass(60 * SECOND);
    let status = next.status("web").clone();
    assert_eq!(condition(&status, "Ready")["status"], "True", "{status:#}");
    assert_eq!((status["podIP"].is_string(), &status["containerStatuses"][0]["restartCount"]), (true, &json!(1)));
    assert_ne!(next.sim.listing(None).pods[&Uid::from("uid-web")].sandboxes[0].id, first);
}

#[test]
fn an_ended_pod_still_says_where_it_was() {
    let mut job = pod("job", "exit=0 after=3s");
    job["spec"]["restartPolicy"] = json!("Never");
    let mut world = World::new();
    world.want(&[job]);
    world.pass(4 * SECOND);
    let address = world.status("job")["podIP"].clone();
    world.pass(60 * SECOND);
    let ended = world.status("job");
    assert_eq!((&ended["phase"], &ended["podIP"]), (&json!("Succeeded"), &address));
    assert_eq!(ended["podIPs"], json!([{"ip": address}]));
}

#[test]
fn ready_turns_at_the_moment_when_a_gate_is_closed() {
    let gated = |status: &str| {
        let mut pod = pod("web", "");
        pod["spec"]["readinessGates"] = json!([{"conditionType": "home/lit"}]);
        pod["status"]["conditions"] =
            json!([{"type": "home/lit", "status": status, "lastTransitionTime": "2026-11-22T20:06:00Z"}]);
        pod
    };
    let mut world = World::new();
    world.want(&[gated("True")]);
    world.pass(60 * SECOND);
    let before = world.status("web").clone();
    assert_eq!(condition(&before, "Ready")["status"], "True");
    world.want(&[gated("False")]);
    let closed = world.status("web").clone();
    let now = crate::api::time::rfc3339(world.now().wall);
    assert_eq!(
        (&condition(&closed, "Ready")["status"], &condition(&closed, "Ready")["lastTransitionTime"]),
        (&json!("False"), &json!(now))
    );
    assert_eq!(condition(&closed, "ContainersReady"), condition(&before, "ContainersReady"));
}

#[test]
fn a_container_whose_probe_names_no_port_runs_and_is_not_ready() {
    let mut web = pod("web", "");
    for kind in ["livenessProbe", "readinessProbe"] {
        web["spec"]["containers"][0][kind] = json!({"httpGet": {"port": "none"}, "periodSeconds": 1});
    }
    let mut world = World::new();
    world.mute = true;
    world.want(&[web]);
    for _ in 0..30 {
        world.pass(SECOND);
        while let Some(ask) = world.asked.pop_front() {
            let Action::Portless(why) = &ask.action else { panic!("{:?}", ask.action) };
            let sign = Sign::Errored(why.clone());
            world.input(Input::Probed(Answer { ticket: ask.ticket, sign }));
        }
    }
    let container = &world.status("web")["containerStatuses"][0];
    assert_eq!((&container["ready"], &container["restartCount"]), (&json!(false), &json!(0)));
    assert!(container["state"]["running"].is_object(), "{container:#}");
    let words = "Readiness probe errored: the container has no port named \"none\"";
    assert!(world.events.iter().any(|(_, event)| event.reason == "Unhealthy" && event.message == words), "{:?}", world.events);
}

#[test]
fn another_image_is_not_told_as_a_crash_loop_and_an_ephemeral_container_is_never_ready() {
    let with = |image: &str| {
        let mut web = pod("web", "");
        web["spec"]["initContainers"] = json!([{"name": "side", "image": image, "restartPolicy": "Always"}]);
        web["spec"]["ephemeralContainers"] = json!([{"name": "debug", "image": "nginx:1"}]);
        web
    };
    let mut world = World::new();
    for round in 0..4 {
        world.want(&[with(&format!("nginx:{round}"))]);
        world.pass(20 * SECOND);
    }
    let status = world.status("web");
    assert_eq!(condition(status, "Ready")["status"], "True", "{status:#}");
    let debug = &status["ephemeralContainerStatuses"][0];
    assert_eq!((&debug["ready"], debug["state"]["running"].is_object()), (&json!(false), true));
    let told: Vec<_> = world.reports["web"].iter().map(|(_, report)| report.status.to_string()).collect();
    assert!(told.iter().all(|status| !status.contains("CrashLoopBackOff")), "{told:#?}");
}
