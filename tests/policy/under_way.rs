//! What happens to what is under way: connections, floods, pods that begin.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::sockets::{Server, alive, connect, inside, tcp, udp};
use crate::support::{skipped, wait_until};
use crate::world::World;

#[test]
fn a_connection_that_was_allowed_goes_on_and_a_new_one_does_not_begin() {
    if skipped("policy") {
        return;
    }
    let mut world = World::new("est");
    let web = (world.address("web"), 80);
    let mut old: Vec<_> =
        ["client", "db"].iter().map(|from| connect(&world.namespace(from), web).expect("all is open").0).collect();
    world.apply("deny", json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}));
    world.expect("all is denied", "client -x web tcp/80; db -x web tcp/80; web -x client tcp/80");
    assert!(old.iter_mut().all(alive), "connections from before, across nodes and on one");
    world.delete_policies();
    world.expect("all is open", "client -> web tcp/80");
    assert!(old.iter_mut().all(alive));
}

/// Sends datagrams to both ports, each from a socket of its own, so that none belongs to a flow from before. How many went to each.
fn flood(from: &str, to: Ipv4Addr, ports: [u16; 2], stop: &AtomicBool, pause: Duration) -> [u64; 2] {
    inside(from, || {
        let mut sent = [0; 2];
        while !stop.load(Ordering::Relaxed) {
            for (port, sent) in ports.into_iter().zip(&mut sent) {
                let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
                *sent += u64::from(socket.send_to(b"x", (to, port)).is_ok());
            }
            std::thread::sleep(pause);
        }
        sent
    })
}

#[test]
fn while_tables_are_replaced_nothing_forbidden_passes_and_nothing_allowed_is_lost() {
    if skipped("policy") {
        return;
    }
    let mut world = World::new("flood");
    let rule = |port: u16| json!({"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{"ports": [{"protocol": "UDP", "port": 8080}, {"port": port}]}]});
    world.apply("web", rule(1));
    // Not by UDP to port 80: what passes before the rules stand would go on.
    world.expect("one port is open", "client -> web udp/8080; client -x web tcp/80; db -x web tcp/80");
    let before = world.servers["web"].datagrams.load(Ordering::Relaxed);
    let (from, to) = (world.namespace("client"), world.address("web"));
    let stop = AtomicBool::new(false);
    let mut changes = 0;
    let [allowed, forbidden] = std::thread::scope(|scope| {
        let flood = scope.spawn(|| flood(&from, to, [8080, 80], &stop, Duration::from_micros(300)));
        let until = Instant::now() + Duration::from_secs(4);
        while Instant::now() < until {
            changes += 1;
            world.apply("web", rule(changes + 1));
            std::thread::sleep(Duration::from_millis(20));
        }
        stop.store(true, Ordering::Relaxed);
        flood.join().unwrap()
    });
    std::thread::sleep(Duration::from_millis(300));
    let came = world.servers["web"].datagrams.load(Ordering::Relaxed) - before;
    println!("{changes} changes; {allowed} datagrams allowed, {forbidden} forbidden, {came} came");
    assert!(changes > 20 && allowed > 500 && forbidden > 500);
    // A socket's buffer may run over where the machine is busy.
    assert!(came <= allowed && came * 100 >= allowed * 98);
}

#[test]
fn at_full_speed_nothing_forbidden_passes() {
    if skipped("policy") {
        return;
    }
    let mut world = World::new("speed");
    let rule = |port: u16| json!({"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{"ports": [{"port": port}]}]});
    world.apply("web", rule(1));
    world.expect("all is closed", "client -x web tcp/80; db -x web tcp/80");
    let before = world.servers["web"].datagrams.load(Ordering::Relaxed);
    let (stop, to) = (AtomicBool::new(false), world.address("web"));
    let (client, db) = (world.namespace("client"), world.namespace("db"));
    let mut changes = 0;
    let sent: u64 = std::thread::scope(|scope| {
        let floods = [&client, &db].map(|from| scope.spawn(|| flood(from, to, [8080, 80], &stop, Duration::ZERO)));
        let until =
            Instant::now() + Duration::from_secs(std::env::var("BRAMBLE_FLOOD_SECONDS").map_or(4, |text| text.parse().unwrap()));
        while Instant::now() < until {
            changes += 1;
            world.apply("web", rule(changes % 60_000 + 1));
            std::thread::sleep(Duration::from_millis(5));
        }
        stop.store(true, Ordering::Relaxed);
        floods.into_iter().flat_map(|flood| flood.join().unwrap()).sum()
    });
    std::thread::sleep(Duration::from_millis(300));
    let came = world.servers["web"].datagrams.load(Ordering::Relaxed) - before;
    println!("{changes} changes; {sent} datagrams forbidden, {came} came");
    assert_eq!(came, 0);
}

#[test]
fn a_pod_that_its_node_knows_is_isolated_before_the_master_knows_it() {
    if skipped("policy") {
        return;
    }
    let mut world = World::new("young");
    world.apply("deny", json!({"podSelector": {"matchLabels": {"app": "young"}}, "policyTypes": ["Ingress"]}));
    world.add_pod("young", 1, 20);
    let server = Server::start(&world.namespace("young"), &[80]);
    let (young, client) = ((Ipv4Addr::new(10, 244, 1, 20), 80), world.namespace("client"));
    assert!(tcp(&client, young), "nobody knows it yet");
    world.agents["n1"].knows(&[(young.0, "default", "young")]);
    wait_until(
        "it is isolated",
        Duration::from_secs(10),
        || if tcp(&client, young) { Err("reached".to_owned()) } else { Ok(()) },
    );
    assert!(!udp(&client, young) && tcp(&world.namespace("n1"), young));
    // Its address is another's now, whatever the master still says.
    world.know_pod("default", "young", 1, 20);
    world.tell();
    world.agents["n1"].knows(&[(young.0, "default", "other")]);
    wait_until(
        "it is open",
        Duration::from_secs(10),
        || if tcp(&client, young) { Ok(()) } else { Err("not reached".to_owned()) },
    );
    drop(server);
}
