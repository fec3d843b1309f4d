//! How long a change takes, and whether a packet's way grows with what policies say.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, UdpSocket};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bramble::agent::policy::nft::replacement;
use bramble::agent::policy::rules::{LocalPods, read, rules_of};
use bramble::api::registry::{NAMESPACES, NETWORK_POLICIES, PODS};
use bramble::api::{Key, Object, Resource, Revision};
use bramble::dispatcher::policy::policies_of;
use bramble::link::share::Share;
use bramble::store::{Op, View};
use serde_json::{Value, json};

use crate::sockets::inside;
use crate::support::skipped;
use crate::world::World;

/// The table of a node with so many pods, each with a policy of its own that allows so many peers.
fn table(pods: u32, peers: u32) -> String {
    let policies: BTreeMap<String, Arc<Object>> = (0..pods)
        .map(|pod| {
            // Every other address, so that no two are one range.
            let peers: Vec<String> = (0..peers).map(|peer| Ipv4Addr::from(0x0af5_0000 + pod + peer * 2).to_string()).collect();
            let target = Ipv4Addr::from(0x0af4_0100 + 10 + pod % 240);
            let policy = json!({"pods": [target.to_string()], "ingress": [{"peers": peers, "ports": ["tcp/80", "udp/80"]}]});
            (format!("default/p{pod}"), Arc::new(Object::from_value(policy).unwrap()))
        })
        .collect();
    let (policies, _) = read(&Share { policies, ..Share::default() });
    let rules = rules_of::<Ipv4Addr>(&policies, "10.244.1.0/24".parse().unwrap(), &LocalPods::new());
    replacement("bramble-00000001-policy", "brpol", &rules)
}

fn write(world: &World, text: &str) -> Duration {
    let start = Instant::now();
    let mut child = world.hosts.run("n1", "nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    start.elapsed()
}

#[test]
fn a_change_is_quick_and_a_packets_way_does_not_grow() {
    if skipped("policy") {
        return;
    }
    let mut world = World::new("fig");
    world.agents.clear();
    let bare = {
        let start = Instant::now();
        let _ = world.hosts.run("n1", "nft").arg("--version").stdout(Stdio::null()).status();
        start.elapsed()
    };
    let mut said = format!("a process of nft alone, in a namespace: {:.1} ms\n", bare.as_secs_f64() * 1e3);
    let (from, to) = (world.namespace("client"), world.address("web"));
    let mut nanos = Vec::new();
    for (pods, peers) in [(1, 1), (10, 10), (100, 10), (100, 100), (100, 1000)] {
        let text = table(pods, peers);
        let mut times: Vec<Duration> = (0..7).map(|_| write(&world, &text)).collect();
        times.sort();
        // New flows to a pod whose own policy does not allow them: each takes the whole way through the rules, and ends there.
        let each = inside(&from, || {
            let sockets: Vec<UdpSocket> = (0..200).map(|_| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap()).collect();
            let mut best = u128::MAX;
            for _ in 0..20 {
                let start = Instant::now();
                for socket in &sockets {
                    let _ = socket.send_to(b"x", (to, 80));
                }
                best = best.min(start.elapsed().as_nanos() / 200);
            }
            best
        });
        nanos.push(each);
        let _ = writeln!(
            said,
            "{pods} pods with {peers} peers each: {} KiB of text, replaced in {:.1} ms (median of 7, at most {:.1}); a packet that is dropped {each} ns",
            text.len() / 1024,
            times[3].as_secs_f64() * 1e3,
            times[6].as_secs_f64() * 1e3
        );
        assert!(times[3] < Duration::from_secs(5), "{said}");
    }
    println!("{said}");
    assert!(nanos[4] < nanos[0] * 4, "{said}");
}

#[test]
fn a_thousand_pods_and_a_hundred_policies_are_resolved_at_once() {
    let mut view = View::new(Revision(1));
    let mut put = |resource: &'static Resource, object: Value| {
        let object = Object::from_value(object).unwrap();
        let revision = view.revision().next();
        view.apply(revision, Op::create(Key::of(resource, &object), object).into());
    };
    for number in 0..10u32 {
        put(&NAMESPACES, json!({"metadata": {"name": format!("ns{number}"), "labels": {"team": format!("t{}", number % 3)}}}));
    }
    for number in 0..1000u32 {
        // Thirty nodes, and the pods of a namespace all over them.
        let ip = format!("10.244.{}.{}", number % 30, 10 + number / 30);
        put(
            &PODS,
            json!({"metadata": {"namespace": format!("ns{}", number % 10), "name": format!("p{number}"), "uid": format!("u{number}"),
                "labels": {"app": format!("a{}", number / 100), "tier": "web"}},
                "spec": {"containers": [{"ports": [{"name": "http", "containerPort": 80}]}]}, "status": {"phase": "Running", "podIP": ip}}),
        );
    }
    for number in 0..100u32 {
        put(
            &NETWORK_POLICIES,
            json!({"metadata": {"namespace": format!("ns{}", number % 10), "name": format!("p{number}"), "uid": format!("n{number}")},
                "spec": {"podSelector": {"matchLabels": {"app": format!("a{}", number / 10)}}, "policyTypes": ["Ingress", "Egress"],
                    "ingress": [{"from": [{"podSelector": {}}, {"namespaceSelector": {"matchLabels": {"team": "t1"}}}], "ports": [{"port": "http"}]}],
                    "egress": [{"to": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "a1"}}}]}]}}),
        );
    }
    let start = Instant::now();
    let policies = policies_of(&view);
    let took = start.elapsed();
    let share = Share { policies, ..Share::default() };
    println!(
        "1,000 pods, 100 policies (not optimised): resolved in {took:?}, {} KiB in the share",
        share.canonical().len() / 1024
    );
    let start = Instant::now();
    let (policies, unreadable) = read(&share);
    let rules = rules_of::<Ipv4Addr>(&policies, "10.244.7.0/24".parse().unwrap(), &LocalPods::new());
    let text = replacement("bramble-00000001-policy", "brpol", &rules);
    println!("at a node with {} pods: {:?}, {} KiB of text", rules.ingress.pods.len(), start.elapsed(), text.len() / 1024);
    assert!(unreadable.is_empty() && rules.ingress.pods.len() > 20 && took < Duration::from_secs(20));
}
