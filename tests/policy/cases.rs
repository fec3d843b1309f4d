//! What policies allow and what not, both ways, on one node and across.

use serde_json::{Value, json};

use crate::support::skipped;
use crate::world::World;

fn select(app: &str) -> Value {
    json!({"matchLabels": {"app": app}})
}

fn pods(app: &str) -> Value {
    json!([{"podSelector": select(app)}])
}

const ALL_REACH_ALL: &str =
    "web -> db tcp/80; client -> web tcp/80; client -> web udp/80; shopper -> web tcp/80; outside -> web tcp/80;
    n1 -> web tcp/80; n2 -> web tcp/80; web -> client tcp/80; web -> outside tcp/80; client -> dns udp/53; shop -> db tcp/5432; web -> shopper udp/80";

#[test]
fn ingress_is_denied_by_default_and_allowed_by_rules() {
    if skipped("policy") {
        return;
    }
    let mut world = World::new("in");
    world.expect("without policies", ALL_REACH_ALL);
    assert_eq!((world.ours("n1"), world.ours("n2")), (false, false), "no policy, no table");

    world.apply("deny", json!({"podSelector": {}, "policyTypes": ["Ingress"]}));
    world.expect(
        "default deny",
        "web -x db tcp/80; db -x web udp/80; client -x web tcp/80; client -x web udp/80; shopper -x web tcp/80; outside -x web tcp/80;
         n1 -> web tcp/80; n1 -> db udp/5432; n2 -> client tcp/80; n2 -x web tcp/80;
         web -> shopper tcp/80; client -> shop tcp/80; client -> dns udp/53; web -x client tcp/80",
    );

    // Adds up with the one above.
    world.apply(
        "db",
        json!({"podSelector": select("db"), "policyTypes": ["Ingress"], "ingress": [{"from": pods("web"), "ports": [{"port": 5432}]}]}),
    );
    world.expect(
        "the database for the web server",
        "web -> db tcp/5432; web -x db tcp/80; web -x db udp/5432; client -x db tcp/5432; shop -x db tcp/5432; client -x web tcp/80",
    );
    world.apply(
        "db-udp",
        json!({"podSelector": select("db"), "ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"team": "prod"}}, "podSelector": select("shopper")}],
            "ports": [{"protocol": "UDP", "port": 5000, "endPort": 5500}]}]}),
    );
    world.expect(
        "and for a pod of another namespace, a range of UDP",
        "shopper -> db udp/5432; shopper -x db udp/80; shopper -x db tcp/5432; shop -x db udp/5432; web -> db tcp/5432",
    );
    world.apply(
        "web",
        json!({"podSelector": select("web"), "ingress": [{"from": [{"ipBlock": {"cidr": "10.77.0.0/24", "except": ["10.77.0.2/32"]}}], "ports": [{"port": "http"}]}]}),
    );
    world.expect(
        "and a named port for a block with an exception",
        "outside -> web tcp/8080; outside -x web tcp/80; n2 -x web tcp/8080; client -x web tcp/8080",
    );
    world.apply("all", json!({"podSelector": {}, "ingress": [{}]}));
    world.expect("one that allows all", "web -> db tcp/80; client -> web tcp/80; outside -> web udp/80; n2 -> web tcp/80");

    world.delete_policies();
    world.expect("all policies deleted", ALL_REACH_ALL);
    assert_eq!((world.ours("n1"), world.ours("n2")), (false, false), "nothing is left");
}

#[test]
fn egress_is_held_at_the_source_and_both_sides_have_to_allow() {
    if skipped("policy") {
        return;
    }
    let mut world = World::new("out");
    let dns = json!({"to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}, "podSelector": select("dns")}],
        "ports": [{"protocol": "UDP", "port": 53}]});
    world.apply("names", json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [dns]}));
    world.expect(
        "nothing but names",
        "client -> dns udp/53; web -> dns udp/53; web -x dns tcp/53; client -x web tcp/80; web -x db tcp/80; web -x outside tcp/80;
         client -x shopper udp/80; shopper -> web tcp/80; n1 -> web tcp/80; outside -> client tcp/80",
    );
    let node = crate::sockets::Server::start(&world.node(1), &[9100]);
    world.expect("a pod reaches its node, not another", "web -> n1 tcp/9100; client -x n1 tcp/9100");
    drop(node);

    // The source may; the target is open.
    world.apply("client", json!({"podSelector": select("client"), "policyTypes": ["Egress"], "egress": [{"to": pods("web"), "ports": [{"port": "http"}]}]}));
    world.expect(
        "a way out by a named port",
        "client -> web tcp/8080; client -x web tcp/80; client -> dns udp/53; client -x db tcp/80",
    );
    // The target says no.
    world.apply("web", json!({"podSelector": select("web"), "policyTypes": ["Ingress"]}));
    world.expect("no way in", "client -x web tcp/8080; shopper -x web tcp/80; n1 -> web tcp/8080");
    // Both say yes; on one node too.
    world.apply("in", json!({"podSelector": select("web"), "ingress": [{"from": pods("client")}, {"from": pods("db")}]}));
    world.apply(
        "db",
        json!({"podSelector": select("db"), "policyTypes": ["Egress"], "egress": [{"to": pods("web"), "ports": [{"port": 80}]}]}),
    );
    world.expect(
        "both ways",
        "client -> web tcp/8080; client -x web tcp/80; db -> web tcp/80; db -x web tcp/8080; shopper -x web tcp/8080",
    );

    world.delete_policies();
    world.expect("all policies deleted", ALL_REACH_ALL);
}

#[test]
fn a_service_is_judged_by_the_addresses_of_pods() {
    if skipped("policy") {
        return;
    }
    let mut world = World::new("svc");
    let service = std::net::Ipv4Addr::new(10, 96, 0, 7);
    for node in ["n1", "n2"] {
        world.hosts.inside(
            node,
            "nft -f - <<'E'\ntable ip service {\n chain pre { type nat hook prerouting priority dstnat; ip daddr 10.96.0.7 tcp dport 80 dnat to 10.244.1.10:8080; }\n\
             chain post { type nat hook postrouting priority srcnat; ip saddr 10.244.1.10 ip daddr 10.244.1.10 masquerade; }\n}\nE",
        );
    }
    // A bridge gives nothing back on the port where it came from, unless it is told to.
    world.hosts.inside("n1", "bridge link set dev pod1-10 hairpin on");
    let asks = |world: &World, from: &str| crate::sockets::tcp(&world.namespace(from), (service, 80));
    for from in ["client", "db", "web"] {
        assert!(asks(&world, from), "the service works for {from}");
    }
    world.apply("web", json!({"podSelector": select("web"), "ingress": [{"from": pods("client"), "ports": [{"port": 8080}]}]}));
    world.expect("allowed at the pod's port", "client -> web tcp/8080; db -x web tcp/8080");
    assert!(asks(&world, "client") && !asks(&world, "db") && !asks(&world, "shopper"));
    world.apply("out", json!({"podSelector": select("client"), "policyTypes": ["Egress"], "egress": [{"to": [{"ipBlock": {"cidr": "10.96.0.0/16"}}]}]}));
    world.expect("the service's own address allows nothing", "client -x web tcp/8080");
    assert!(!asks(&world, "client"));
    world.apply("deny", json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}));
    world.expect("all is denied", "web -x db tcp/80");
    assert!(asks(&world, "web"), "a pod reaches itself through its service, whatever policies say");
}

#[test]
fn two_nodes_on_one_host_hold_each_its_own() {
    if skipped("policy") {
        return;
    }
    let mut world = World::new("two");
    let namespace = world.node(1);
    world.hosts.inside(
        "n1",
        "ip link add brtwo type bridge forward_delay 0 && ip addr add 10.244.3.1/24 dev brtwo && ip link set brtwo up",
    );
    world.add_pod_on("third", &namespace, "brtwo", [10, 244, 3, 10].into());
    world.know_pod("default", "third", 3, 10);
    let third = ([10, 244, 3, 10].into(), 80);
    let _server = crate::sockets::Server::start(&world.namespace("third"), &[80]);
    let reaches = |world: &World, from: &str| crate::sockets::tcp(&world.namespace(from), third);
    world.agents.insert("n3", crate::world::Agent::on(&namespace, 3, "brtwo"));
    world.tell();
    assert!(reaches(&world, "web") && reaches(&world, "db") && world.reaches("third", "web", "tcp/80"), "all is open");
    // The source's node forbids; then the target's does; each by its own table.
    world.apply("out", json!({"podSelector": select("web"), "policyTypes": ["Egress"], "egress": [{"to": pods("db")}]}));
    world.expect("egress of web", "web -> db tcp/80; web -x client tcp/80");
    assert!(!reaches(&world, "web") && reaches(&world, "db"));
    world.apply("in", json!({"podSelector": select("third"), "policyTypes": ["Ingress"], "ingress": [{"from": pods("web")}]}));
    crate::support::wait_until("ingress of third", std::time::Duration::from_secs(10), || {
        if reaches(&world, "db") { Err("reached".to_owned()) } else { Ok(()) }
    });
    assert!(!reaches(&world, "web"), "one side allows, the other does not");
    world.apply("out", json!({"podSelector": select("web"), "policyTypes": ["Egress"], "egress": [{"to": pods("third")}]}));
    world.expect("the other way", "web -x db tcp/80");
    assert!(reaches(&world, "web") && !reaches(&world, "db") && world.reaches("third", "db", "tcp/80"));
    world.delete_policies();
    world.expect("all is open", "web -> client tcp/80");
    assert!(reaches(&world, "db"));
}
