//! Services from everywhere: pods, the node itself, and outside, to what is here and what is far.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bramble::agent::family::Family;
use bramble::link::share::Share;
use serde_json::{Value, json};

use crate::lab::{Lab, Talk, wait_until};
use crate::shares::{empty, empty6, of, service};

const P1: (&str, &str) = ("10.244.1.11", "n1");
const P2: (&str, &str) = ("10.244.1.12", "n1");
const FAR: (&str, &str) = ("10.244.2.11", "n2");
const PROXY: &str = "proxy n1 10.244.1.0/24 10.244.1.1 br0";

/// A node with its proxy, and with servers in all pods.
struct World {
    family: Family,
    lab: Lab,
    proxy: Talk,
    share: Share,
}

impl World {
    /// Asked by addresses of this family; with IPv6 it is a dual-stack cluster.
    fn new(family: Family, label: &str) -> Self {
        let lab = Lab::node(&format!("{label}{}", family.word()));
        let proxy = Talk::new(lab.part("node", &of_node(family, PROXY)));
        let share = if family == Family::V4 { empty() } else { empty6() };
        let mut world = Self { family, lab, proxy, share };
        for (host, address) in [("p1", P1.0), ("p2", P2.0), ("far", FAR.0)] {
            world.lab.serve(host, host, &at(family, &format!("{address}:8080")));
        }
        world
    }

    fn service(&mut self, name: &str, ip: &str, node_port: u16, spec: Value, endpoints: &[(&str, &str)]) {
        service(&mut self.share, name, ip, node_port, spec, endpoints);
    }

    /// Tells the proxy, and waits until the kernel has it: another service comes with it, which is looked for.
    fn tell(&mut self) {
        static ROUND: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(1);
        let round = ROUND.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let ip = format!("10.96.255.{round}");
        service(&mut self.share, "round", &ip, 0, json!({}), &[P1]);
        let ip = of(self.family, &ip);
        self.proxy.tell(&serde_json::to_string(&self.share).unwrap());
        wait_until("the kernel has the share", || {
            let rules = self.lab.inside("node", "nft list ruleset");
            if rules.contains(&ip) { Ok(()) } else { Err(rules) }
        });
    }

    /// Who answers, over so many askings, without the addresses.
    fn who(&self, from: &str, protocol: &str, to: &str, times: usize) -> BTreeSet<String> {
        let answers = self.lab.ask_often(from, protocol, &at(self.family, to), times);
        answers.iter().map(|answer| answer.split(' ').next().unwrap().to_owned()).collect()
    }

    fn ask(&self, from: &str, protocol: &str, to: &str) -> String {
        self.lab.ask(from, protocol, &at(self.family, to))
    }

    /// How an answer begins: who has heard which address.
    fn heard(&self, who: &str, address: &str) -> String {
        let all = at(self.family, &format!("{address}:1"));
        format!("{who} {}", all.strip_suffix('1').unwrap())
    }

    fn refuses(&self, from: &str, to: &str) {
        for protocol in ["tcp", "udp"] {
            let ask = || (Instant::now(), self.ask(from, protocol, to));
            let (mut at, mut said) = ask();
            // By ICMP a kernel says so only as often as its own limit has it (net.ipv6.icmp.ratelimit): asked later it says so again.
            for _ in 0..3 {
                if protocol == "udp" && said == "operation would block" {
                    (at, said) = ask();
                }
            }
            // What the host itself sends fails in its own hands.
            let own = from == "node" && protocol == "udp" && said == "permission denied";
            assert!(own || said == "connection refused", "{protocol} from {from} to {to}: {said}");
            assert!(at.elapsed() < Duration::from_millis(1500), "{:?}", at.elapsed());
        }
    }
}

/// An address and port, or its fellow.
fn at(family: Family, to: &str) -> String {
    let (address, port) = to.split_once(':').unwrap();
    if family == Family::V4 { to.to_owned() } else { format!("[{}]:{port}", of(family, address)) }
}

/// The words for a node's proxy.
fn of_node(family: Family, words: &str) -> String {
    if family == Family::V4 { words.to_owned() } else { format!("{words} six") }
}

/// Each of these is a test in IPv4, and one in the IPv6 of a dual-stack cluster.
macro_rules! in_both_families {
    ($($test:ident),+ $(,)?) => {
        mod v4 {
            $(#[test] fn $test() { super::$test(super::Family::V4); })+
        }
        mod v6 {
            $(#[test] fn $test() { super::$test(super::Family::V6); })+
        }
    };
}

in_both_families!(
    a_service_is_reached_from_pods_the_node_and_outside_at_all_of_its_addresses,
    local_policies_keep_to_this_node_and_keep_the_clients_address,
    nobody_to_serve_is_said_at_once,
    a_client_keeps_its_backend_until_that_is_gone,
    open_connections_live_through_changes_and_udp_leaves_who_is_gone,
    an_agent_that_died_begins_with_the_kernels_rules_and_not_with_older_ones_of_its_disk,
    what_somebody_else_takes_away_comes_back_and_what_is_not_ours_stays,
    two_nodes_on_one_host_each_serve_their_own_pods,
    without_a_bridge_in_the_kernel_node_ports_are_served_by_the_agent,
);

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn a_service_is_reached_from_pods_the_node_and_outside_at_all_of_its_addresses(family: Family) {
    for bridge_filter in [1, 0] {
        let mut world = World::new(family, &format!("all{bridge_filter}"));
        world.lab.inside("node", &format!("sysctl -qw net.bridge.bridge-nf-call-{}tables={bridge_filter}", family.word()));
        let balancer = json!({"type": "LoadBalancer", "externalIPs": ["203.0.113.5"],
            "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.6"}]}}});
        world.service("web", "10.96.0.20", 30080, balancer, &[P1, P2, FAR]);
        world.service("self", "10.96.0.21", 30081, json!({"type": "NodePort"}), &[P1]);
        world.tell();
        // A port that the service has not, and an address that no service has.
        world.refuses("p1", "10.96.0.20:81");
        world.refuses("p1", "10.96.7.7:80");
        world.refuses("node", "10.96.7.7:80");
        for protocol in ["tcp", "udp"] {
            for from in ["p1", "p2", "node", "out"] {
                for to in ["10.96.0.20:80", "192.0.2.1:30080", "203.0.113.5:80", "203.0.113.6:80", "192.0.2.1:80"] {
                    if from == "out" && to.starts_with("10.96") {
                        continue;
                    }
                    let who = world.who(from, protocol, to, 60);
                    assert_eq!(who, set(&["far", "p1", "p2"]), "{protocol} from {from} to {to}, filter {bridge_filter}");
                }
            }
            // A pod that asks its own service gets its own answer.
            assert_eq!(world.who("p1", protocol, "10.96.0.21:80", 3), set(&["p1"]), "{protocol}, filter {bridge_filter}");
            assert_eq!(world.who("p1", protocol, "192.0.2.1:30081", 3), set(&["p1"]), "{protocol}, filter {bridge_filter}");
        }
        // Between two pods of the bridge the address stays, where the rules see the answers.
        let asked = world.ask("p2", "tcp", "10.96.0.21:80");
        let client = if bridge_filter == 1 { "10.244.1.12" } else { "10.244.1.1" };
        assert!(asked.starts_with(&world.heard("p1", client)), "{asked}");
        let asked = world.ask("out", "tcp", "192.0.2.1:30081");
        assert!(asked.starts_with(&world.heard("p1", "10.244.1.1")), "{asked}");
    }
}

fn local_policies_keep_to_this_node_and_keep_the_clients_address(family: Family) {
    let mut world = World::new(family, "local");
    let outside = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "externalIPs": ["203.0.113.7"]});
    world.service("here", "10.96.0.20", 30080, outside.clone(), &[P1, FAR]);
    world.service("there", "10.96.0.21", 30081, json!({"type": "NodePort", "externalTrafficPolicy": "Local"}), &[FAR]);
    world.service("inside", "10.96.0.22", 0, json!({"internalTrafficPolicy": "Local"}), &[P2, FAR]);
    world.service("nowhere", "10.96.0.23", 0, json!({"internalTrafficPolicy": "Local"}), &[FAR]);
    let guarded = json!({"type": "LoadBalancer", "loadBalancerSourceRanges": ["198.51.100.0/24"],
        "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.8"}]}}});
    world.service("guarded", "10.96.0.24", 30084, guarded, &[P1]);
    world.tell();
    for protocol in ["tcp", "udp"] {
        for to in ["192.0.2.1:30080", "203.0.113.7:80"] {
            for answer in world.lab.ask_often("out", protocol, &at(family, to), 10) {
                assert!(answer.starts_with(&world.heard("p1", "192.0.2.9")), "{answer}");
            }
        }
        // Who is on the node is not outside.
        assert_eq!(world.who("p2", protocol, "192.0.2.1:30080", 20), set(&["far", "p1"]));
        assert_eq!(world.who("node", protocol, "192.0.2.1:30081", 3), set(&["far"]));
        assert_eq!(world.who("p1", protocol, "10.96.0.22:80", 10), set(&["p2"]));
        // Dropped, not refused: another node may serve it.
        let silence = |from: &str, to: &str| {
            let said = world.ask(from, protocol, to);
            let own = from == "node" && said == "permission denied";
            assert!(
                own || matches!(said.as_str(), "timed out" | "operation would block"),
                "{protocol} from {from} to {to}: {said}"
            );
        };
        silence("out", "192.0.2.1:30081");
        silence("p1", "10.96.0.23:80");
        silence("node", "10.96.0.23:80");
        silence("out", "203.0.113.8:80");
    }
    assert_eq!(world.who("out", "tcp", "192.0.2.1:30084", 1), set(&["p1"]));
}

fn nobody_to_serve_is_said_at_once(family: Family) {
    let mut world = World::new(family, "nobody");
    world.service("web", "10.96.0.20", 30080, json!({"type": "NodePort", "externalIPs": ["203.0.113.5"]}), &[]);
    world.tell();
    for from in ["p1", "node", "out"] {
        for to in ["10.96.0.20:80", "192.0.2.1:30080", "203.0.113.5:80"] {
            if from == "out" && to.starts_with("10.96") {
                continue;
            }
            world.refuses(from, to);
        }
    }
}

fn a_client_keeps_its_backend_until_that_is_gone(family: Family) {
    let mut world = World::new(family, "sticky");
    let spec =
        json!({"type": "NodePort", "sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 2}}});
    world.service("web", "10.96.0.20", 30080, spec.clone(), &[P1, P2, FAR]);
    world.tell();
    for protocol in ["tcp", "udp"] {
        for from in ["p1", "p2", "out", "node"] {
            let at = if from == "out" { "192.0.2.1:30080" } else { "10.96.0.20:80" };
            assert_eq!(world.who(from, protocol, at, 20).len(), 1, "{protocol} from {from}");
        }
    }
    let first = world.who("p1", "tcp", "10.96.0.20:80", 3).pop_first().unwrap();
    let others: Vec<(&str, &str)> =
        [("p1", P1), ("p2", P2), ("far", FAR)].iter().filter(|(name, _)| *name != first).map(|(_, end)| *end).collect();
    world.service("web", "10.96.0.20", 30080, spec, &others);
    world.tell();
    let second = world.who("p1", "tcp", "10.96.0.20:80", 20);
    assert!(second.len() == 1 && !second.contains(&first), "{first}, then {second:?}");
    // Silent for longer than the time: free again. Of many tries one gets another.
    let another = (0..30).any(|_| {
        std::thread::sleep(Duration::from_millis(2200));
        world.who("p1", "tcp", "10.96.0.20:80", 1) != second
    });
    assert!(another, "always {second:?}");
}

fn open_connections_live_through_changes_and_udp_leaves_who_is_gone(family: Family) {
    let mut world = World::new(family, "open");
    world.service("web", "10.96.0.20", 0, json!({}), &[P1]);
    world.service("other", "10.96.0.21", 0, json!({}), &[P2]);
    world.tell();
    let mut near = world.lab.talk("p2", "tcp", &at(family, "10.96.0.20:80"));
    let mut flow = world.lab.talk("p2", "udp", &at(family, "10.96.0.20:80"));
    assert_eq!(near.say("one"), "p1 one");
    let first = flow.say("one");
    assert!(first.starts_with(&world.heard("p1", "10.244.1.12")), "{first}");
    // Neither others' changes, nor its own backend's going, ends a connection.
    world.service("other", "10.96.0.21", 0, json!({}), &[FAR]);
    world.tell();
    assert_eq!((near.say("two").as_str(), flow.say("two")), ("p1 two", first));
    world.service("web", "10.96.0.20", 0, json!({}), &[FAR]);
    world.tell();
    assert_eq!(near.say("three"), "p1 three");
    // Flows are forgotten after the rules are there.
    wait_until("the flow is with who serves", || {
        let said = flow.say("three");
        if said.starts_with("far ") { Ok(()) } else { Err(said) }
    });
    // The agent dies and comes back: traffic does not notice.
    world.proxy.kill();
    assert_eq!(near.say("four"), "p1 four");
    assert_eq!(world.who("p2", "tcp", "10.96.0.20:80", 5), set(&["far"]));
    world.proxy = Talk::new(world.lab.part("node", &of_node(family, PROXY)));
    world.tell();
    assert_eq!((near.say("five").as_str(), flow.say("five").starts_with("far ")), ("p1 five", true));
    // A service that is gone is gone.
    world.share.services.remove("default/web");
    world.tell();
    world.refuses("p2", "10.96.0.20:80");
}

fn an_agent_that_died_begins_with_the_kernels_rules_and_not_with_older_ones_of_its_disk(family: Family) {
    let mut world = World::new(family, "old");
    world.service("web", "10.96.0.20", 0, json!({}), &[P1]);
    world.tell();
    let old = serde_json::to_string(&world.share).unwrap();
    world.service("web", "10.96.0.20", 0, json!({}), &[FAR]);
    world.tell();
    world.proxy.kill();
    let kept = of_node(family, PROXY).replace("proxy", "proxy-that-kept");
    world.proxy = Talk::new(world.lab.part("node", &kept));
    world.proxy.tell(&old);
    // Longer than it takes to look.
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(world.who("p2", "tcp", "10.96.0.20:80", 5), set(&["far"]));
    world.tell();
    assert_eq!(world.who("p2", "tcp", "10.96.0.20:80", 5), set(&["far"]));
    // After a reboot there are no rules, and what the disk has is better than nothing.
    world.proxy.kill();
    assert!(world.lab.part("node", "remove n1").status().unwrap().success());
    world.proxy = Talk::new(world.lab.part("node", &kept));
    world.proxy.tell(&old);
    wait_until("the kept rules are there", || {
        let who = world.who("p2", "tcp", "10.96.0.20:80", 1);
        if who == set(&["p1"]) { Ok(()) } else { Err(format!("{who:?}")) }
    });
}

fn what_somebody_else_takes_away_comes_back_and_what_is_not_ours_stays(family: Family) {
    let mut world = World::new(family, "heal");
    let ip = family.word();
    world.lab.inside("node", &format!("nft add table {ip} theirs && nft add chain {ip} theirs c"));
    world.service("web", "10.96.0.20", 0, json!({}), &[P1]);
    world.tell();
    let list = format!("nft list table {ip} theirs");
    let theirs = world.lab.inside("node", &list);
    let ours = world.lab.inside("node", "nft list tables");
    let name = ours.lines().find_map(|line| line.strip_prefix(&format!("table {ip} bramble-"))).unwrap();
    assert_eq!(ours.contains("table ip6 bramble-"), family == Family::V6, "{ours}");
    world.lab.inside("node", &format!("nft delete table {ip} bramble-{name}"));
    wait_until("the table is back", || {
        let tables = world.lab.inside("node", "nft list tables");
        if tables.contains(&format!("table {ip} bramble-{name}")) { Ok(()) } else { Err(tables) }
    });
    assert_eq!(world.who("p2", "tcp", "10.96.0.20:80", 3), set(&["p1"]));
    assert_eq!(world.lab.inside("node", &list), theirs);
    world.proxy.kill();
    let removed = world.lab.part("node", "remove n1").status().unwrap();
    assert!(removed.success());
    assert_eq!(world.lab.inside("node", "nft list tables"), format!("table {ip} theirs\n"));
}

#[test]
fn the_api_on_loopback_and_the_name_server_are_reached_from_pods() {
    let mut world = World::new(Family::V4, "api");
    world.lab.serve("node", "api", "127.0.0.1:6443");
    world.lab.serve("node", "names", "10.244.1.1:53");
    let network = world.share.network.as_mut().unwrap();
    (network.dns, network.api_on_loopback) = ("10.96.0.10".to_owned(), 6443);
    world.service("kubernetes", "10.96.0.1", 0, json!({}), &[]);
    world.tell();
    for from in ["p1", "node"] {
        let api = world.lab.ask(from, "tcp", "10.96.0.1:80");
        assert!(api.starts_with("api 127.0.0.1:"), "{api}");
        for protocol in ["tcp", "udp"] {
            assert_eq!(world.who(from, protocol, "10.96.0.10:53", 3), set(&["names"]), "{protocol} from {from}");
        }
    }
}

fn two_nodes_on_one_host_each_serve_their_own_pods(family: Family) {
    let mut world = World::new(family, "two");
    world.lab.bridge("node", "br1", "10.244.3.1");
    world.lab.pod("node", "br1", "p3", "10.244.3.11", "10.244.3.1");
    world.lab.serve("p3", "p3", &at(family, "10.244.3.11:8080"));
    let p3 = ("10.244.3.11", "n3");
    world.service("all", "10.96.0.20", 30080, json!({"type": "NodePort"}), &[P1, p3]);
    world.service("inside", "10.96.0.21", 0, json!({"internalTrafficPolicy": "Local"}), &[P1, p3]);
    world.service("outside1", "10.96.0.22", 30082, json!({"type": "NodePort", "externalTrafficPolicy": "Local"}), &[P1]);
    world.service("outside3", "10.96.0.23", 30083, json!({"type": "NodePort", "externalTrafficPolicy": "Local"}), &[p3]);
    world.service("nobody", "10.96.0.24", 30084, json!({"type": "NodePort"}), &[]);
    let mut second = Talk::new(world.lab.part("node", &of_node(family, "proxy n3 10.244.3.0/24 10.244.3.1 br1")));
    second.tell(&serde_json::to_string(&world.share).unwrap());
    world.tell();
    wait_until("both tables", || {
        let tables = world.lab.inside("node", "nft list tables");
        if tables.lines().filter(|table| table.starts_with(&format!("table {} ", family.word()))).count() == 2 {
            Ok(())
        } else {
            Err(tables)
        }
    });
    for protocol in ["tcp", "udp"] {
        for (pod, own) in [("p1", "p1"), ("p2", "p1"), ("p3", "p3")] {
            assert_eq!(world.who(pod, protocol, "10.96.0.20:80", 20), set(&["p1", "p3"]), "{protocol} from {pod}");
            assert_eq!(world.who(pod, protocol, "10.96.0.21:80", 10), set(&[own]), "{protocol} from {pod}");
        }
        for from in ["out", "node"] {
            assert_eq!(world.who(from, protocol, "192.0.2.1:30080", 20), set(&["p1", "p3"]), "{protocol} from {from}");
            assert_eq!(world.who(from, protocol, "192.0.2.1:30082", 3), set(&["p1"]), "{protocol} from {from}");
            assert_eq!(world.who(from, protocol, "192.0.2.1:30083", 3), set(&["p3"]), "{protocol} from {from}");
        }
    }
    for from in ["out", "node", "p1", "p3"] {
        world.refuses(from, "192.0.2.1:30084");
    }
}

fn without_a_bridge_in_the_kernel_node_ports_are_served_by_the_agent(family: Family) {
    let mut world = World::new(family, "user");
    world.proxy = Talk::new(world.lab.part("node", &of_node(family, "proxy n1 10.244.1.0/24 10.244.1.1 none")));
    world.service("web", "10.96.0.20", 30080, json!({"type": "NodePort"}), &[P1, FAR]);
    world.proxy.tell(&serde_json::to_string(&world.share).unwrap());
    wait_until("node ports", || {
        let said = world.ask("out", "tcp", "192.0.2.1:30080");
        if said.starts_with("p1 ") || said.starts_with("far ") { Ok(()) } else { Err(said) }
    });
    for protocol in ["tcp", "udp"] {
        assert_eq!(world.who("out", protocol, "192.0.2.1:30080", 6), set(&["far", "p1"]));
    }
    world.service("web", "10.96.0.20", 30080, json!({"type": "NodePort"}), &[FAR]);
    world.proxy.tell(&serde_json::to_string(&world.share).unwrap());
    wait_until("only who serves", || {
        let who = world.who("out", "tcp", "192.0.2.1:30080", 4);
        if who == set(&["far"]) { Ok(()) } else { Err(format!("{who:?}")) }
    });
    assert_eq!(world.lab.inside("node", "nft list tables"), "");
}

#[test]
fn a_port_that_a_program_of_the_node_has_is_told_once_with_whose_it_was() {
    let mut world = World::new(Family::V4, "taken");
    world.lab.serve("node", "program", "0.0.0.0:30080");
    world.lab.serve("node", "local", "127.0.0.1:30081");
    assert!(world.lab.ask("out", "tcp", "192.0.2.1:30080").starts_with("program "));
    world.service("web", "10.96.0.20", 30080, json!({"type": "NodePort"}), &[P1]);
    world.service("free", "10.96.0.21", 30081, json!({"type": "NodePort"}), &[P1]);
    world.tell();
    assert_eq!(world.who("out", "tcp", "192.0.2.1:30080", 2), set(&["p1"]), "the service has it");
    let mut said: Vec<String> = (0..2).map(|_| world.proxy.hear(Duration::from_secs(20)).unwrap()).collect();
    said.sort();
    for (said, protocol) in said.iter().zip(["TCP", "UDP"]) {
        let begin = format!("Service default/web PortTaken port 30080/{protocol} of node n1 is in use by network-");
        assert!(said.starts_with(&begin) && said.contains(" (process "), "{said}");
    }
    // Neither later nor for another change.
    world.service("other", "10.96.0.22", 30082, json!({"type": "NodePort"}), &[P1]);
    world.tell();
    assert_eq!(world.proxy.hear(Duration::from_secs(3)), None);
    // When the program comes back it is told again.
    world.lab.stop_serving("program");
    std::thread::sleep(Duration::from_secs(3));
    world.lab.serve("node", "program", "192.0.2.1:30080");
    assert!(world.proxy.hear(Duration::from_secs(20)).is_some());
}

#[test]
fn every_connection_is_answered_while_endpoints_come_and_go() {
    let mut world = World::new(Family::V4, "churn");
    world.proxy.kill();
    world.lab.inside("node", "sysctl -qw net.bridge.bridge-nf-call-iptables=1");
    // Without the proxy's pace: one change after the other, as fast as the kernel takes them.
    let mut rules = Talk::new(world.lab.part("node", "rules"));
    let ends: [&[(&str, &str)]; 4] = [&[P1, FAR], &[P1], &[FAR], &[]];
    let lines: Vec<String> = ends
        .iter()
        .map(|ends| {
            world.service("web", "10.96.0.20", 30080, json!({"type": "NodePort"}), ends);
            json!([true, world.share]).to_string()
        })
        .collect();
    assert!(rules.say(&lines[0]).starts_with("ok "));
    let (lab, is_over) = (&world.lab, AtomicBool::new(false));
    let (answers, said) = std::thread::scope(|scope| {
        let over = &is_over;
        let asking = [("p2", "10.96.0.20:80"), ("node", "10.96.0.20:80"), ("out", "192.0.2.1:30080")].map(|(from, to)| {
            // Bounded, should a change fail.
            let rounds = (0..200).take_while(|_| !over.load(Ordering::Relaxed));
            scope.spawn(move || rounds.flat_map(|_| lab.ask_often(from, "tcp", to, 500)).collect::<Vec<_>>())
        });
        let said: Vec<String> = (0..200).map(|change| rules.say(&lines[change % lines.len()])).collect();
        is_over.store(true, Ordering::Relaxed);
        (asking.map(|asking| asking.join().unwrap()).concat(), said)
    });
    assert!(said.iter().all(|said| said.starts_with("ok ")), "{said:?}");
    let of = |start: &str| answers.iter().filter(|answer| answer.starts_with(start)).count();
    let counts = [of("p1 "), of("far "), of("connection refused")];
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    assert_eq!(counts.iter().sum::<usize>(), answers.len(), "{counts:?}, and others");
    println!("{counts:?} during {} changes", said.len());
}

#[test]
fn a_load_balancers_address_that_a_killed_agent_left_is_listed_and_removed() {
    let mut lab = Lab::new("doctor");
    lab.add("node");
    for (address, label) in [("192.0.2.240", "lo:0a1b2c3d"), ("192.0.2.241", "lo:mine"), ("192.0.2.242", "lo")] {
        lab.inside("node", &format!("ip addr add {address}/32 dev lo label {label}"));
    }
    let doctor = |more: &str| lab.inside("node", &format!("{} doctor network {more}", env!("CARGO_BIN_EXE_bramble")));
    let told = doctor("");
    assert!(told.starts_with("left over  address: 192.0.2.240 label lo:0a1b2c3d\n"), "{told}");
    assert_eq!(doctor("--remove"), "removed    address: 192.0.2.240 label lo:0a1b2c3d\n");
    let left = lab.inside("node", "ip -o -4 addr show dev lo");
    assert!(!left.contains(".240/") && left.contains(".241/") && left.contains(".242/"), "{left}");
    assert_eq!(doctor("--remove"), "nothing to remove\n");
}

#[test]
fn a_cluster_that_has_no_ipv6_any_more_leaves_no_table_of_it() {
    let mut world = World::new(Family::V6, "less");
    world.service("web", "10.96.0.20", 30080, json!({"type": "NodePort"}), &[P1]);
    world.tell();
    // In IPv4 it is served as well, by the same agent.
    world.lab.serve("p1", "four", "10.244.1.11:8080");
    for (from, to) in [("p2", "10.96.0.20:80"), ("out", "192.0.2.1:30080")] {
        assert!(world.ask(from, "tcp", to).starts_with("p1 "), "{to}");
        assert!(world.lab.ask(from, "tcp", to).starts_with("four "), "{to}");
    }
    world.proxy.kill();
    world.proxy = Talk::new(world.lab.part("node", PROXY));
    (world.family, world.share) = (Family::V4, empty());
    world.tell();
    wait_until("one table", || {
        let tables = world.lab.inside("node", "nft list tables");
        if tables.contains("table ip6") { Err(tables) } else { Ok(()) }
    });
}
