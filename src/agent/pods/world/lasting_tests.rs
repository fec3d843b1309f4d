//! What a pod waits for is said as long as it waits.

use super::*;

fn with_volume(source: &Value) -> Value {
    let mut pod = pod("web", "");
    let mut volume = json!({"name": "v"});
    volume.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
    pod["spec"]["volumes"] = json!([volume]);
    for container in ["app", "side"] {
        let of = json!({"name": container, "image": "nginx:1", "volumeMounts": [{"name": "v", "mountPath": "/v"}]});
        let list = pod["spec"]["containers"].as_array_mut().unwrap();
        list.retain(|known| known["name"] != of["name"]);
        list.push(of);
    }
    pod
}

/// When, in seconds, these words were told.
fn told(world: &World, reason: &str, words: &str) -> Vec<u64> {
    let same = |event: &NodeEvent| event.reason == reason && event.message.contains(words);
    world.events.iter().filter(|(_, event)| same(event)).map(|(tick, _)| tick / 1000).collect()
}

/// At once, and then with growing pauses.
const TIMES: [u64; 9] = [0, 10, 30, 70, 150, 310, 610, 910, 1210];

#[test]
fn a_volume_that_is_waited_for_is_told_of_again_and_again_and_nothing_is_written() {
    for (source, words) in [
        (json!({"configMap": {"name": "c"}}), "configmap \"c\" not found"),
        (json!({"secret": {"secretName": "s"}}), "secret \"s\" not found"),
        (json!({"persistentVolumeClaim": {"claimName": "p"}}), "persistentvolumeclaim \"p\" not found or not bound"),
    ] {
        let mut world = World::new();
        let pod = with_volume(&source);
        world.want(std::slice::from_ref(&pod));
        world.pass(1400 * SECOND);
        assert_eq!(told(&world, "FailedMount", words), TIMES, "{source}: once for both containers");
        let reports = world.reports["web"].len();
        world.pass(7200 * SECOND);
        assert_eq!(told(&world, "FailedMount", words).len(), TIMES.len() + 24, "each five minutes");
        assert_eq!((world.kept, world.reports["web"].len()), (0, reports), "nothing is written, and no status is mailed");
        // Who deletes it hears no more of it.
        let before = world.events.len();
        world.want(&[deleting(pod, 30)]);
        world.pass(3600 * SECOND);
        assert_eq!(told(&world, "FailedMount", words).len(), TIMES.len() + 24);
        assert!(world.events.len() <= before + 1 && world.node.next_wake().is_none());
    }
}

#[test]
fn a_variable_that_is_waited_for_is_told_of_again_until_it_comes() {
    let mut world = World::new();
    let mut web = pod("web", "");
    web["spec"]["containers"][0]["env"] = json!([{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]);
    world.want(std::slice::from_ref(&web));
    world.pass(400 * SECOND);
    let words = "Error: secret \"s\" not found";
    assert_eq!(told(&world, "Failed", words), TIMES[..6]);
    let object = |value: Value| Arc::new(Object::from_value(value).unwrap());
    let with = |secret: Value| Share {
        pods: [("uid-web".into(), object(web.clone()))].into(),
        secrets: [("default/s".to_owned(), object(secret))].into(),
        ..Share::default()
    };
    // Another word for it is told at once, and begins anew.
    world.input(Input::Desired(Arc::new(with(json!({"data": {"other": ""}})))));
    world.pass(15 * SECOND);
    assert_eq!(told(&world, "Failed", "Error: couldn't find key k in Secret default/s"), [400, 410]);
    world.input(Input::Desired(Arc::new(with(json!({"data": {"k": "djE="}})))));
    world.pass(3600 * SECOND);
    assert_eq!(world.status("web")["phase"], "Running");
    assert_eq!((told(&world, "Failed", "Error").len(), world.node.next_wake()), (8, None));
}
