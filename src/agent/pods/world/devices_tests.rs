//! Pods with devices: who gets which, and what becomes of them when one is unplugged.

use super::*;
use crate::agent::devices::DeviceNode;
use crate::agent::devices::inventory::{Inventory, Seen};

/// Sticks by name and number of their file.
fn sticks(list: &[(&str, u32)]) -> Input {
    let seen = |(name, number): &(&str, u32)| {
        let path = format!("/dev/ttyUSB{number}");
        let node = DeviceNode { host: path.clone(), path, major: 188, minor: *number };
        Seen { node, link: Some(format!("/dev/serial/by-id/{name}")), ..Seen::default() }
    };
    Input::Devices(Inventory::of(list.iter().map(seen).collect()))
}

fn asks(name: &str, resource: &str) -> Value {
    let mut pod = pod(name, "");
    pod["spec"]["containers"][0]["resources"] = json!({"limits": {resource: "1"}});
    pod
}

impl World {
    /// The file that the pod's container runs with.
    fn has(&mut self, name: &str) -> Option<String> {
        let listing = self.sim.listing(None);
        let run = listing.pods.get(&Uid::from(format!("uid-{name}").as_str()))?.containers.last()?.clone();
        run.state.is_running().then_some(())?;
        Some(run.devices.first()?.device.nodes[0].path.clone())
    }

    fn waits(&self, name: &str) -> String {
        let waiting = &self.status(name)["containerStatuses"][0]["state"]["waiting"];
        format!("{}: {}", waiting["reason"].as_str().unwrap_or_default(), waiting["message"].as_str().unwrap_or_default())
    }

    fn taken(&self) -> Vec<String> {
        self.offers.last().unwrap().1.taken.keys().cloned().collect()
    }
}

#[test]
fn one_stick_is_one_pods_and_the_next_waits_for_it() {
    let mut world = World::new();
    world.want(&[asks("first", "bramble/serial"), asks("second", "bramble/serial")]);
    world.pass(5 * SECOND);
    assert_eq!(world.waits("first"), "CreateContainerConfigError: this node has not looked for its devices yet");
    world.input(sticks(&[("zigbee", 0)]));
    world.pass(5 * SECOND);
    assert_eq!(world.has("first").as_deref(), Some("/dev/ttyUSB0"));
    assert_eq!(world.waits("second"), "CreateContainerConfigError: no free bramble/serial on this node");
    assert!(world.events.iter().any(|(_, event)| event.message == "Error: no free bramble/serial on this node"));
    assert_eq!(world.taken(), ["bramble/serial-zigbee"]);
    // As soon as the first leaves it, and not before.
    world.want(&[deleting(asks("first", "bramble/serial"), 30), asks("second", "bramble/serial")]);
    world.pass(SECOND);
    assert_eq!((world.has("first"), world.has("second").as_deref()), (None, Some("/dev/ttyUSB0")));
}

#[test]
fn a_stick_by_name_leaves_the_others_to_those_who_take_any() {
    let mut world = World::new();
    world.input(sticks(&[("a", 0), ("b", 1)]));
    world.want(&[asks("any", "bramble/serial"), asks("named", "bramble/serial-a")]);
    world.pass(5 * SECOND);
    assert_eq!((world.has("any").as_deref(), world.has("named").as_deref()), (Some("/dev/ttyUSB1"), Some("/dev/ttyUSB0")));
    assert_eq!(world.taken(), ["bramble/serial", "bramble/serial-b"], "neither name offers what the other has given");
    world.want(&[]);
    world.pass(5 * SECOND);
    assert_eq!(world.taken(), Vec::<String>::new());
}

#[test]
fn a_short_glitch_is_borne_and_another_file_restarts_the_container() {
    let mut world = World::new();
    world.input(sticks(&[("zigbee", 0)]));
    world.want(&[asks("z2m", "bramble/serial-zigbee")]);
    world.pass(5 * SECOND);
    let orders = world.orders_seen;
    world.input(sticks(&[]));
    assert!(world.offers.last().unwrap().1.resources.is_empty(), "nobody is sent here meanwhile");
    world.pass(2 * SECOND);
    world.input(sticks(&[("zigbee", 0)]));
    world.pass(60 * SECOND);
    assert_eq!((world.orders_seen, world.node.next_wake()), (orders, None), "nothing was done");
    // The same stick as another file.
    world.input(sticks(&[]));
    world.pass(SECOND);
    world.input(sticks(&[("zigbee", 3)]));
    world.pass(5 * SECOND);
    assert_eq!(world.has("z2m").as_deref(), Some("/dev/ttyUSB3"));
    assert_eq!(world.status("z2m")["containerStatuses"][0]["restartCount"], 1);
}

#[test]
fn a_pod_whose_stick_does_not_come_back_fails_and_the_stick_is_no_longer_its_own() {
    let mut world = World::new();
    world.input(sticks(&[("zigbee", 0)]));
    world.want(&[asks("z2m", "bramble/serial-zigbee"), pod("other", "")]);
    world.pass(5 * SECOND);
    world.input(sticks(&[]));
    world.pass(3 * SECOND - Duration::from_millis(1));
    assert_eq!(world.status("z2m")["phase"], "Running");
    world.pass(Duration::from_millis(1));
    let status = world.status("z2m");
    assert_eq!((&status["phase"], &status["reason"]), (&json!("Failed"), &json!("DeviceUnplugged")));
    let message = "/dev/serial/by-id/zigbee (bramble/serial-zigbee) of container app was unplugged from node pi";
    assert_eq!(status["message"], message);
    assert!(world.events.iter().any(|(_, event)| event.reason == "DeviceUnplugged" && event.message == message));
    assert_eq!(world.status("other")["phase"], "Running");
    // It is plugged in again: it is free, and the failed pod stays failed.
    world.input(sticks(&[("zigbee", 0)]));
    world.pass(10 * SECOND);
    assert_eq!((world.taken(), world.has("z2m")), (Vec::new(), None));
    assert_eq!(world.status("z2m")["phase"], "Failed");
    assert_eq!(world.node.next_wake(), None);
}

#[test]
fn a_crash_that_comes_before_the_news_is_no_loss() {
    let mut world = World::new();
    world.input(sticks(&[("zigbee", 0)]));
    world.want(&[asks("z2m", "bramble/serial-zigbee")]);
    world.pass(5 * SECOND);
    // The program ends because its stick is gone; then we hear of it.
    let id = world.sim.runs(&"uid-z2m".into(), "app").next().unwrap().id.clone();
    world.input(sticks(&[]));
    world.happens(simulated::Input::KillOutside(id));
    assert_eq!(world.has("z2m"), None, "it is not started without its stick");
    assert!(world.waits("z2m").contains("bramble/serial-zigbee (/dev/serial/by-id/zigbee) was unplugged"));
    world.pass(SECOND);
    world.input(sticks(&[("zigbee", 1)]));
    world.pass(5 * SECOND);
    assert_eq!(world.has("z2m").as_deref(), Some("/dev/ttyUSB1"));
}

#[test]
fn another_agent_leaves_everybody_what_he_has() {
    let mut world = World::new();
    world.input(sticks(&[("b", 1)]));
    let pods = [asks("first", "bramble/serial"), asks("second", "bramble/serial")];
    world.want(&pods);
    world.pass(5 * SECOND);
    let (holder, waiter) = if world.has("first").is_some() { ("first", "second") } else { ("second", "first") };
    // Another stick was plugged in while no agent ran; by order it would be given first.
    let mut next = World::with(world.sim, world.tick);
    next.input(sticks(&[("a", 0), ("b", 1)]));
    next.want(&pods);
    next.pass(5 * SECOND);
    assert_eq!((next.has(holder).as_deref(), next.has(waiter).as_deref()), (Some("/dev/ttyUSB1"), Some("/dev/ttyUSB0")));
    assert_eq!(next.status(holder)["containerStatuses"][0]["restartCount"], 0);
    // And one that was pulled meanwhile is missed as well.
    let mut last = World::with(next.sim, next.tick);
    last.input(sticks(&[("a", 0)]));
    last.want(&pods);
    last.pass(5 * SECOND);
    assert_eq!((&last.status(holder)["reason"], &last.status(waiter)["phase"]), (&json!("DeviceUnplugged"), &json!("Running")));
}
