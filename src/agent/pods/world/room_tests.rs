//! Pods that came past the scheduler: what there is no room for is turned away, and nothing that runs.

use super::*;

fn small(sim: Simulated, tick: u64, past: Past) -> World {
    World::having(NodeAmounts { cpu_milli: 4000, memory_bytes: 4 << 30, ..NodeAmounts::default() }, sim, tick, past)
}

fn asking(name: &str, cpu: &str) -> Value {
    let mut pod = pod(name, "");
    pod["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": cpu}});
    pod
}

#[test]
fn a_pod_that_does_not_fit_fails_at_once_and_takes_no_room_itself() {
    let mut world = small(Simulated::new(Settings::default()), 0, Past::default());
    world.want(&[asking("web", "3")]);
    world.pass(5 * SECOND);
    let large = asking("large", "1500m");
    world.want(&[asking("web", "3"), large.clone()]);
    let status = world.status("large").clone();
    assert_eq!((&status["phase"], &status["reason"]), (&json!("Failed"), &json!("OutOfcpu")));
    let words = "Pod was rejected: Node didn't have enough resource: cpu, requested: 1500, used: 3000, capacity: 4000";
    assert_eq!(status["message"], words);
    assert!(!world.sim.listing(None).pods.contains_key(&Uid::from("uid-large")));
    let (_, event) = world.events.iter().find(|(_, event)| event.reason == "OutOfcpu").unwrap();
    assert_eq!(event.message, words.strip_prefix("Pod was rejected: ").unwrap());
    // What is left is for who fits; and who was turned away stays so when there is room.
    world.want(&[asking("web", "3"), large.clone(), asking("small", "1")]);
    world.pass(5 * SECOND);
    assert_eq!(world.status("small")["phase"], "Running");
    world.want(&[large]);
    world.pass(60 * SECOND);
    assert_eq!(world.status("large")["reason"], "OutOfcpu");
}

#[test]
fn who_ends_holds_its_room_until_it_is_gone_and_who_ran_is_never_turned_away() {
    let mut world = small(Simulated::new(Settings::default()), 0, Past::default());
    let mut old = asking("old", "3");
    old["metadata"]["annotations"]["bramble/simulate"] = json!("deaf");
    world.want(std::slice::from_ref(&old));
    world.pass(5 * SECOND);
    world.want(&[deleting(old.clone(), 20), asking("early", "3")]);
    assert_eq!(world.status("early")["reason"], "OutOfcpu");
    world.pass(30 * SECOND);
    world.want(&[deleting(old, 20), asking("next", "3")]);
    world.pass(5 * SECOND);
    assert_eq!(world.status("next")["phase"], "Running");
    // Another agent, and more than the node has: both were taken once.
    let mut next = small(world.sim, world.tick, world.disk);
    next.want(&[asking("next", "9")]);
    next.pass(5 * SECOND);
    assert_eq!(next.status("next")["phase"], "Running");
}

#[test]
fn who_selects_another_node_fails_at_once_and_who_ran_stays_when_a_label_goes() {
    let selecting = |name: &str, disk: &str| {
        let mut pod = pod(name, "");
        pod["spec"]["nodeSelector"] = json!({"disk": disk});
        pod
    };
    let share = |pods: &[Value], labels: Option<&[(&str, &str)]>| {
        let mut share = Share::default();
        for pod in pods {
            let object = Object::from_value(pod.clone()).unwrap();
            share.pods.insert(object.uid(), Arc::new(object));
        }
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        share.labels = labels.map(|labels| labels.iter().map(own).collect());
        Input::Desired(Arc::new(share))
    };
    let mut world = World::new();
    let (fast, slow) = (selecting("fast", "ssd"), selecting("slow", "sd"));
    world.input(share(&[fast.clone(), slow.clone()], Some(&[("disk", "ssd")])));
    world.pass(5 * SECOND);
    assert_eq!(world.status("fast")["phase"], "Running");
    let status = world.status("slow").clone();
    assert_eq!((&status["phase"], &status["reason"]), (&json!("Failed"), &json!("NodeAffinity")));
    let words = "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
    assert_eq!(status["message"], format!("Pod was rejected: {words}"));
    assert!(world.events.iter().any(|(_, event)| event.reason == "NodeAffinity" && event.message == words));
    assert!(!world.sim.listing(None).pods.contains_key(&Uid::from("uid-slow")));
    // The label goes: what runs is left to run, by this agent and by the next; and who was turned away stays so.
    world.input(share(&[fast.clone(), slow.clone()], Some(&[])));
    world.pass(60 * SECOND);
    let mut next = world.next_agent();
    next.input(share(&[fast.clone(), slow.clone()], Some(&[])));
    next.pass(60 * SECOND);
    assert_eq!((&next.status("fast")["phase"], &next.status("slow")["phase"]), (&json!("Running"), &json!("Failed")));
    // A master that says nothing of labels has nobody judged by them.
    let mut world = World::new();
    world.input(share(&[slow], None));
    world.pass(5 * SECOND);
    assert_eq!(world.status("slow")["phase"], "Running");
}
