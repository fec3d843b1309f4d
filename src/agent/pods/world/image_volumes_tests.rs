//! Image volumes: their images are had as containers' images are.

use super::*;

/// A pod whose container mounts the files of an image.
fn with_image(name: &str, script: &str, reference: &str, policy: &str) -> Value {
    let mut pod = pod(name, script);
    pod["spec"]["volumes"] = json!([
        {"name": "model", "image": {"reference": reference, "pullPolicy": policy}},
        {"name": "unmounted", "image": {"reference": "nobody/wants:1", "pullPolicy": "Always"}},
    ]);
    pod["spec"]["containers"][0]["volumeMounts"] = json!([
        {"name": "model", "mountPath": "/model"}, {"name": "model", "mountPath": "/part", "subPath": "a"}]);
    pod
}

fn waiting(world: &World, name: &str) -> Value {
    world.status(name)["containerStatuses"][0]["state"]["waiting"].clone()
}

fn told(world: &World, reason: &str) -> Vec<String> {
    let of_reason = world.events.iter().filter(|(_, event)| event.reason == reason);
    of_reason.map(|(_, event)| format!("{} [{}]", event.message, event.field_path)).collect()
}

#[test]
fn the_image_of_a_volume_is_fetched_before_the_container_starts_and_once_for_the_pods_life() {
    let mut world = World::new();
    world.want(&[with_image("web", "", "models:1", "Always")]);
    world.pass(SECOND / 2);
    assert_eq!(told(&world, "Pulling"), ["Pulling image \"models:1\" []"]);
    assert_eq!(waiting(&world, "web")["reason"], "ContainerCreating");
    world.pass(10 * SECOND);
    assert_eq!(world.status("web")["phase"], "Running");
    assert_eq!(
        told(&world, "Pulling"),
        ["Pulling image \"models:1\" []", "Pulling image \"nginx:1\" [spec.containers{app}]"],
        "nobody mounts the other one"
    );
    // It ends and starts again: the volume stays what it was.
    let mut dies = with_image("dies", "exit=1 after=5s", "models:1", "Always");
    dies["spec"]["containers"][0]["imagePullPolicy"] = json!("Always");
    world.want(&[dies]);
    world.pass(60 * SECOND);
    let pulled = told(&world, "Pulling");
    let of = |image: &str| pulled.iter().filter(|text| text.contains(image)).count();
    assert!(world.status("dies")["containerStatuses"][0]["restartCount"].as_u64().unwrap() >= 2, "{:#}", world.status("dies"));
    assert!(of("nginx:1") >= 3 && of("models:1") == 2, "{pulled:?}");
}

#[test]
fn a_volume_whose_image_is_missing_holds_its_container_up_in_the_words_of_images() {
    let mut world = World::new();
    world.want(&[with_image("web", "pull-fails", "absent:1", "IfNotPresent")]);
    assert_eq!(waiting(&world, "web")["reason"], "ErrImagePull");
    world.pass(2 * SECOND);
    let words = waiting(&world, "web");
    assert_eq!(words["reason"], "ImagePullBackOff");
    let message = words["message"].as_str().unwrap();
    assert!(message.starts_with("Back-off pulling image \"absent:1\": ErrImagePull:") && message.contains("manifest unknown"));
    let failed = told(&world, "Failed");
    assert!(failed.iter().any(|text| text.starts_with("Failed to pull image \"absent:1\"")), "{failed:?}");
    assert!(!told(&world, "Pulling").iter().any(|text| text.contains("nginx")), "the container's own turn comes after");
    assert_eq!(world.lights[0].state, LightState::NotReady);
}

#[test]
fn a_volume_that_may_not_be_fetched_waits_until_somebody_brings_its_image() {
    let mut world = World::new();
    let never = with_image("never", "", "models:1", "Never");
    world.want(std::slice::from_ref(&never));
    world.pass(30 * SECOND);
    let words = "Container image \"models:1\" is not present with pull policy of Never";
    assert_eq!(waiting(&world, "never"), json!({"reason": "ErrImageNeverPull", "message": words}));
    world.want(&[never, with_image("other", "", "models:1", "IfNotPresent")]);
    world.pass(60 * SECOND);
    for name in ["never", "other"] {
        assert_eq!(world.status(name)["phase"], "Running", "{name}");
    }
    assert_eq!(told(&world, "Pulling").iter().filter(|text| text.contains("models:1")).count(), 1, "one fetch serves both");
}

#[test]
fn a_volume_with_a_name_that_no_image_has_is_told_and_nobody_is_asked_for_it() {
    let mut world = World::new();
    world.want(&[with_image("web", "", "UPPER case!!", "Always")]);
    world.pass(600 * SECOND);
    assert_eq!(waiting(&world, "web")["reason"], "InvalidImageName");
    assert_eq!(world.orders_seen, 1, "the sandbox alone");
}
