//! What is made while a sandbox starts: the pod's first container, when nothing else has to be waited for.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{World, pod};
use crate::agent::node::{Effect, Input, Outcome};
use crate::agent::runtime::{Command, Done, Listing};
use crate::api::Object;
use crate::link::share::Share;
use crate::step::Machine;

/// The container that a sandbox's order names; the pod is otherwise as people write it.
fn named(change: impl Fn(&mut Value)) -> Option<String> {
    let mut wanted = pod("web", "");
    change(&mut wanted["spec"]);
    let mut world = World::new();
    let object = Object::from_value(wanted).unwrap();
    let share = Share { pods: [(object.uid(), Arc::new(object))].into(), ..Share::default() };
    let mut effects = Vec::new();
    world.node.handle(world.now(), Input::Desired(Arc::new(share)), &mut effects);
    let mut plans = effects.into_iter().filter_map(|effect| match effect {
        Effect::Run(order) => match order.command {
            Command::StartSandbox(plan) => Some(plan),
            _ => None,
        },
        _ => None,
    });
    let plan = plans.next().expect("a sandbox is ordered");
    plan.next.map(|next| {
        assert_eq!((next.attempt, next.sandbox_id.as_str()), (0, ""));
        next.name
    })
}

#[test]
fn the_first_container_is_made_while_the_sandbox_starts_unless_it_has_to_wait() {
    assert_eq!(named(|_| {}).as_deref(), Some("app"));
    let init = json!([{"name": "first", "image": "nginx:1"}, {"name": "second", "image": "nginx:1"}]);
    assert_eq!(named(|spec| spec["initContainers"] = init.clone()).as_deref(), Some("first"));
    let field = |path: &str| json!([{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": path}}}]);
    assert_eq!(named(|spec| spec["containers"][0]["env"] = field("metadata.name")).as_deref(), Some("app"));
    // The sandbox's address is not known yet.
    assert_eq!(named(|spec| spec["containers"][0]["env"] = field("status.podIP")), None);
    // Its image may be a newer one.
    assert_eq!(named(|spec| spec["containers"][0]["imagePullPolicy"] = json!("Always")), None);
    // What it names is not here.
    let missing = json!([{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}]);
    assert_eq!(named(|spec| spec["containers"][0]["env"] = missing.clone()), None);
}

#[test]
fn an_engine_that_hides_the_sandbox_it_has_started_is_not_asked_again_at_once() {
    let mut world = World::new();
    let object = Object::from_value(pod("web", "")).unwrap();
    let share = Share { pods: [(object.uid(), Arc::new(object))].into(), ..Share::default() };
    let mut effects = Vec::new();
    world.node.handle(world.now(), Input::Desired(Arc::new(share)), &mut effects);
    let order = |effects: &[Effect]| {
        effects.iter().find_map(|effect| match effect {
            Effect::Run(order) if matches!(order.command, Command::StartSandbox(_)) => Some(order.clone()),
            _ => None,
        })
    };
    let asked = order(&effects).expect("a sandbox is ordered");
    let after = Listing { stamp: u64::MAX, only: Some(asked.pod.uid.clone()), ..Listing::default() };
    let outcome = Outcome { ticket: asked.ticket, uid: asked.pod.uid, result: Ok(Done::Ok), after: Some(after) };
    effects.clear();
    world.node.handle(world.now(), Input::Outcome(outcome), &mut effects);
    assert_eq!(order(&effects), None);
    let told = effects.iter().any(|effect| matches!(effect, Effect::Event(event) if event.reason == "FailedCreatePodSandBox"));
    assert!(told, "{effects:#?}");
    assert!(world.node.next_wake().is_some_and(|wake| wake > world.now().tick), "it is asked again later");
}
