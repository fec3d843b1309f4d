//! Images on their way: fetched once, missing, out of reach.

use super::*;

#[test]
fn a_missing_image_backs_off_with_the_registrys_words() {
    let mut world = World::new();
    world.want(&[pod("web", "pull-fails")]);
    let waiting = world.status("web")["containerStatuses"][0]["state"]["waiting"].clone();
    assert_eq!(waiting["reason"], "ErrImagePull");
    assert!(waiting["message"].as_str().unwrap().contains("manifest unknown"));
    world.pass(2 * SECOND);
    let waiting = world.status("web")["containerStatuses"][0]["state"]["waiting"].clone();
    assert_eq!(waiting["reason"], "ImagePullBackOff");
    assert!(waiting["message"].as_str().unwrap().contains("manifest unknown"));
    assert_eq!(world.lights[0].state, LightState::NotReady);
    world.pass(160 * SECOND);
    let pulls: Vec<u64> =
        world.events.iter().filter(|(_, event)| event.reason == "Pulling").map(|(tick, _)| tick / 1000).collect();
    let gaps: Vec<u64> = pulls.windows(2).map(|two| two[1] - two[0]).collect();
    let nominal = [10, 20, 40, 80];
    assert_eq!(gaps.len(), nominal.len(), "{pulls:?}");
    // Up to a tenth is chance, so that pods which failed together do not come back together; a second is rounding.
    assert!(gaps.iter().zip(nominal).all(|(gap, wanted)| (wanted..=wanted + wanted / 10 + 1).contains(gap)), "{pulls:?}");
}

#[test]
fn at_most_two_images_are_fetched_at_once_and_many_pods_all_come_up() {
    let mut world = World::new();
    let pods: Vec<Value> = (0..200)
        .map(|number| {
            let mut pod = pod(&format!("web-{number}"), "");
            pod["spec"]["containers"][0]["image"] = json!(format!("image-{}", number % 5));
            pod["spec"]["containers"][0]["imagePullPolicy"] = json!(if number < 7 { "Always" } else { "IfNotPresent" });
            pod
        })
        .collect();
    world.want(&pods);
    world.pass(3600 * SECOND);
    assert_eq!(world.most_pulls, 2);
    assert_eq!(world.lights.iter().filter(|light| light.state == LightState::Ready).count(), 200);
}

#[test]
fn two_names_of_one_repository_are_fetched_one_after_the_other() {
    let named = |name: &str, image: &str| {
        let mut pod = pod(name, "");
        pod["spec"]["containers"][0]["image"] = json!(image);
        pod
    };
    let digest = format!("hub.lan/lamp@sha256:{}", "0".repeat(64));
    for (second, at_once) in [("hub.lan/lamp:2", 1), (digest.as_str(), 1), ("hub.lan/fan:1", 2)] {
        let mut world = World::new();
        world.want(&[named("a", "hub.lan/lamp:1"), named("b", second)]);
        world.pass(30 * SECOND);
        assert_eq!(world.most_pulls, at_once, "{second}");
        for name in ["a", "b"] {
            assert_eq!(world.status(name)["phase"], "Running", "{second}: {name}");
        }
    }
}

#[test]
fn a_registry_out_of_reach_does_not_stop_an_image_that_is_here() {
    let mut world = World::new();
    let always = |name: &str| {
        let mut pod = pod(name, "offline");
        pod["spec"]["containers"][0]["imagePullPolicy"] = json!("Always");
        pod
    };
    world.want(&[always("early")]);
    world.pass(2 * SECOND);
    let waiting = &world.status("early")["containerStatuses"][0]["state"]["waiting"];
    assert_eq!(waiting["reason"], "ImagePullBackOff");
    assert!(waiting["message"].as_str().unwrap().contains("no route to host"));
    world.want(&[always("early"), pod("online", "")]);
    world.pass(4 * SECOND);
    world.want(&[always("early"), pod("online", ""), always("late")]);
    world.pass(30 * SECOND);
    for name in ["early", "online", "late"] {
        assert_eq!(world.status(name)["phase"], "Running", "{name}");
    }
    assert!(world.reasons().contains(&"StaleImage"));
}

#[test]
fn one_image_is_fetched_once_and_given_up_with_the_pod_that_wanted_it() {
    let always = |name: &str| {
        let mut pod = pod(name, "");
        pod["spec"]["containers"][0]["imagePullPolicy"] = json!("Always");
        pod
    };
    let fetches = |world: &World| world.reasons().iter().filter(|reason| **reason == "Pulling").count();
    for kind in [&always as &dyn Fn(&str) -> Value, &|name| pod(name, "")] {
        let mut world = World::new();
        world.want(&[kind("a"), kind("b"), kind("c")]);
        world.pass(5 * SECOND);
        assert_eq!(fetches(&world), 1);
        for name in ["a", "b", "c"] {
            assert_eq!(world.status(name)["phase"], "Running", "{name}");
        }
        let mut world = World::new();
        world.want(&[kind("a"), kind("b")]);
        world.pass(SECOND);
        world.want(&[deleting(kind("a"), 30), kind("b")]);
        assert!(world.report("a").gone, "at once, though its image takes another second");
        assert_eq!(fetches(&world), 2, "the other one is next");
        world.pass(5 * SECOND);
        assert_eq!(world.status("b")["phase"], "Running");
        assert!(!world.reasons().contains(&"Failed"));
    }
}

#[test]
fn a_name_that_no_image_can_have_is_told_and_nobody_is_asked_for_it() {
    let named = |image: &str| {
        let mut pod = pod("web", "");
        pod["spec"]["containers"][0]["image"] = json!(image);
        pod
    };
    for (image, why) in [
        ("UPPER case!!", "invalid reference format: repository name (library/UPPER case!!) must be lowercase"),
        ("a:b:c", "invalid reference format"),
    ] {
        let mut world = World::new();
        world.want(&[named(image)]);
        world.pass(3600 * SECOND);
        let waiting = &world.status("web")["containerStatuses"][0]["state"]["waiting"];
        let words = format!("Failed to apply default image tag \"{image}\": couldn't parse image name \"{image}\": {why}");
        assert_eq!(waiting, &json!({"reason": "InvalidImageName", "message": words}));
        let events: Vec<(&str, &str)> =
            world.events.iter().map(|(_, event)| (event.reason.as_str(), event.message.as_str())).collect();
        assert_eq!(events, [("InspectFailed", words.as_str()), ("Failed", "Error: InvalidImageName")]);
        assert_eq!((world.orders_seen, world.lights[0].state), (1, LightState::NotReady), "the sandbox alone");
        // Another name is tried at once.
        world.want(&[named("nginx:1")]);
        world.pass(5 * SECOND);
        assert_eq!(world.status("web")["phase"], "Running");
    }
}

#[test]
fn another_image_does_not_wait_for_the_back_off_of_the_one_before() {
    let named = |image: &str| {
        let mut pod = pod("web", "pull-fails");
        pod["spec"]["containers"][0]["image"] = json!(image);
        pod
    };
    let mut world = World::new();
    world.want(&[named("absent:1")]);
    world.pass(200 * SECOND);
    let events: Vec<&str> = world.reasons();
    for reason in ["Failed", "BackOff"] {
        assert!(events.contains(&reason), "{events:?}");
    }
    let texts: Vec<&str> = world.events.iter().map(|(_, event)| event.message.as_str()).collect();
    for text in ["Error: ErrImagePull", "Error: ImagePullBackOff"] {
        assert!(texts.contains(&text), "{texts:?}");
    }
    world.want(&[named("nginx:1")]);
    let asked = world.events.iter().filter(|(tick, event)| *tick == 200_000 && event.message == "Pulling image \"nginx:1\"");
    assert_eq!(asked.count(), 1, "at once: {:?}", world.events.last());
}

#[test]
fn an_image_that_may_not_be_fetched_is_looked_for_until_somebody_brings_it() {
    let mut never = pod("web", "");
    never["spec"]["containers"][0]["imagePullPolicy"] = json!("Never");
    let mut world = World::new();
    world.want(std::slice::from_ref(&never));
    for _ in 0..30 {
        world.pass(SECOND);
        let words = "Container image \"nginx:1\" is not present with pull policy of Never";
        let waiting = &world.status("web")["containerStatuses"][0]["state"]["waiting"];
        assert_eq!(waiting, &json!({"reason": "ErrImageNeverPull", "message": words}));
    }
    assert_eq!(world.lights[0].state, LightState::NotReady);
    let events: Vec<(&str, &str)> =
        world.events.iter().take(2).map(|(_, event)| (event.reason.as_str(), event.message.as_str())).collect();
    let words = "Container image \"nginx:1\" is not present with pull policy of Never";
    assert_eq!(events, [("ErrImageNeverPull", words), ("Failed", "Error: ErrImageNeverPull")]);
    assert!(!world.reasons().contains(&"Pulling"));
    // Another pod has it fetched.
    world.want(&[never, pod("other", "")]);
    world.pass(60 * SECOND);
    assert_eq!(world.status("web")["phase"], "Running");
}

#[test]
fn a_question_without_an_answer_is_asked_again_and_nothing_is_fetched_for_it() {
    let mut world = World::new();
    world.want(&[pod("first", "")]);
    world.pass(5 * SECOND);
    let pulls = |world: &World| world.reasons().iter().filter(|reason| **reason == "Pulling").count();
    assert_eq!(pulls(&world), 1, "now the image is here");
    world.unanswered = 2;
    world.want(&[pod("first", ""), pod("web", "")]);
    let waiting = world.status("web")["containerStatuses"][0]["state"]["waiting"].clone();
    let words = "Failed to inspect image \"nginx:1\": the engine does not answer";
    assert_eq!(waiting, json!({"reason": "ImageInspectError", "message": words}));
    let told: Vec<(&str, &str)> = world
        .events
        .iter()
        .filter(|(_, event)| event.warning && event.name == "web")
        .map(|(_, event)| (event.reason.as_str(), event.message.as_str()))
        .collect();
    assert_eq!(told, [("InspectFailed", words), ("Failed", "Error: ImageInspectError")]);
    world.pass(4 * SECOND);
    assert_eq!(world.status("web")["phase"], "Running");
    assert_eq!((world.unanswered, pulls(&world)), (0, 1));
    let often = world.reasons().iter().filter(|reason| **reason == "InspectFailed").count();
    assert_eq!(often, 1, "the same trouble is told once");
}

#[test]
fn a_registry_out_of_reach_and_no_answer_whether_a_copy_is_here_is_a_fetch_again() {
    let mut always = pod("web", "offline");
    always["spec"]["containers"][0]["imagePullPolicy"] = json!("Always");
    let mut world = World::new();
    world.want(&[pod("first", "")]);
    world.pass(5 * SECOND);
    world.unanswered = 1;
    world.want(&[pod("first", ""), always]);
    world.pass(2 * SECOND);
    let waiting = &world.status("web")["containerStatuses"][0]["state"]["waiting"];
    assert_eq!(waiting["reason"], "ImagePullBackOff");
    world.pass(30 * SECOND);
    assert_eq!(world.status("web")["phase"], "Running");
    assert!(world.reasons().contains(&"StaleImage"));
}
