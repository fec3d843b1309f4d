//! What a new agent does with the share that was kept, which may be older than what runs: a full disk takes no newer one.

use super::*;

fn share_of(pods: &[Value]) -> Arc<Share> {
    let objects = pods.iter().map(|pod| Arc::new(Object::from_value(pod.clone()).unwrap()));
    Arc::new(Share { pods: objects.map(|object| (object.uid(), object)).collect(), ..Share::default() })
}

/// An agent that was killed while two pods ran; the one after it has this share from the disk.
fn after_restart(kept: &[Value]) -> (World, [String; 2]) {
    let mut world = World::new();
    world.want(&[pod("web", ""), pod("new", "")]);
    world.pass(5 * SECOND);
    let runs = running(&mut world);
    let mut next = world.next_agent();
    next.input(Input::Kept(share_of(kept)));
    next.pass(120 * SECOND);
    (next, runs)
}

/// The containers that run of `web` and `new`; empty when there is none.
fn running(world: &mut World) -> [String; 2] {
    let pods = world.sim.listing(None).pods;
    ["uid-web", "uid-new"].map(|uid| {
        let runs = pods.get(&Uid::from(uid)).into_iter().flat_map(|pod| &pod.containers);
        runs.filter(|run| run.state.is_running()).map(|run| run.id.clone()).collect()
    })
}

#[test]
fn what_the_kept_share_does_not_name_runs_on_until_the_master_has_spoken() {
    let (mut next, runs) = after_restart(&[pod("web", "")]);
    assert_eq!(running(&mut next), runs, "both are left as they are");
    assert!(next.reports.contains_key("web") && !next.reports.contains_key("new"), "{:?}", next.reports.keys());
    // The master names it: adopted as any other, and not started anew.
    next.want(&[pod("web", ""), pod("new", "")]);
    next.pass(5 * SECOND);
    assert_eq!(running(&mut next), runs);
    let status = &next.status("new")["containerStatuses"][0];
    assert_eq!((&status["ready"], &status["restartCount"]), (&json!(true), &json!(0)));
}

#[test]
fn what_the_master_does_not_name_goes_once_it_has_spoken() {
    for confirms in [true, false] {
        let (mut next, runs) = after_restart(&[pod("web", "")]);
        assert_eq!(running(&mut next), runs);
        if confirms {
            next.input(Input::Confirmed);
        } else {
            next.want(&[pod("web", "")]);
        }
        next.pass(60 * SECOND);
        assert_eq!(running(&mut next), [runs[0].clone(), String::new()], "confirmed: {confirms}");
        assert!(!next.sim.listing(None).pods.contains_key(&Uid::from("uid-new")));
        assert!(!next.disk.pods.contains_key(&Uid::from("uid-new")));
    }
}

#[test]
fn a_node_alone_restarts_what_dies_and_ends_what_its_kept_share_has_as_deleted() {
    let (mut next, runs) = after_restart(&[pod("web", ""), deleting(pod("new", ""), 3)]);
    assert_eq!(running(&mut next), [runs[0].clone(), String::new()], "deletion was known");
    assert!(next.report("new").gone);
    next.remove("uid-web", "app", true);
    next.pass(60 * SECOND);
    let [web, _] = running(&mut next);
    assert!(!web.is_empty() && web != runs[0], "it runs again: {web}");
}
