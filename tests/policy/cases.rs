//! What policies allow and what not, both ways, on one node and across.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{skipped, wait_until};
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
    // The policy before let everything pass as well: that all reach all does not say that the agents have heard.
    crate::support::wait_until("nothing is left", std::time::Duration::from_secs(10), || {
        let left = (world.ours("n1"), world.ours("n2"));
        if left == (false, false) { Ok(()) } else { Err(format!("{left:?}")) }
    });
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
    let third = (std::net::Ipv4Addr::new(10, 244, 3, 10), 80);
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
    // By another node's agent.
    crate::support::wait_until("third is open", std::time::Duration::from_secs(10), || {
        if reaches(&world, "db") { Ok(()) } else { Err("refused".to_owned()) }
    });
}

const ALL_REACH_ALL_BY_SIX: &str = "web -> db tcp6/80; client -> web tcp6/80; client -> web udp6/80; shopper -> web tcp6/80; outside -> web tcp6/80;
    n1 -> web tcp6/80; n2 -> web tcp6/80; web -> client tcp6/80; web -> outside tcp6/80; client -> dns udp6/53; shop -> db tcp6/5432";

#[test]
fn in_a_dual_stack_cluster_pods_are_isolated_in_both_families() {
    if skipped("policy") {
        return;
    }
    let mut world = World::dual("six");
    world.expect("without policies", &format!("{ALL_REACH_ALL};{ALL_REACH_ALL_BY_SIX}"));
    assert!(!world.has("n1", "ip6") && !world.has("n2", "ip6"), "no policy, no table");
    let link = link_address(&world, "web");
    let by_link = |world: &World| crate::sockets::tcp(&world.namespace("db"), link_of(world, "db", &link));
    // Those are usable a second or two after a pod's start.
    wait_until("reached by the addresses of the link, too", Duration::from_secs(15), || {
        if by_link(&world) { Ok(()) } else { Err(link.clone()) }
    });

    world.as_source("db", &link);
    wait_until("and with a pod's own address as the source", Duration::from_secs(5), || {
        if by_link(&world) { Ok(()) } else { Err(link.clone()) }
    });
    crate::world::inside(&world.namespace("db"), &format!("ip -6 route del {link}/128 dev eth0"));

    world.apply("deny", json!({"podSelector": {}, "policyTypes": ["Ingress"]}));
    world.expect(
        "default deny",
        "web -x db tcp6/80; db -x web udp6/80; client -x web tcp6/80; client -x web udp6/80; shopper -x web tcp6/80; outside -x web tcp6/80;
         n1 -> web tcp6/80; n1 -> db udp6/5432; n2 -> client tcp6/80; n2 -x web tcp6/80; web -> shopper tcp6/80; client -> dns udp6/53;
         web -x db tcp/80; client -x web tcp/80; n1 -> web tcp/80; web -> shopper tcp/80",
    );
    assert!(!by_link(&world), "nor by the addresses of the link");
    world.as_source("db", &link);
    assert!(!by_link(&world), "nor with its own address as the source");
    crate::world::inside(&world.namespace("db"), &format!("ip -6 route del {link}/128 dev eth0"));
    assert_eq!([world.has("n1", "ip"), world.has("n1", "ip6")], [true, true]);

    world.apply(
        "db",
        json!({"podSelector": select("db"), "ingress": [{"from": pods("web"), "ports": [{"port": 5432}]},
            {"from": [{"namespaceSelector": {"matchLabels": {"team": "prod"}}}], "ports": [{"protocol": "UDP", "port": 5000, "endPort": 5500}]}]}),
    );
    // Neighbours are looked for anew.
    for pod in ["web", "db"] {
        crate::world::inside(&world.namespace(pod), "ip -6 neigh flush dev eth0");
    }
    world.expect(
        "pods and ports",
        "web -> db tcp6/5432; web -x db tcp6/80; client -x db tcp6/5432; shopper -> db udp6/5432; shop -x db tcp6/5432; web -> db tcp/5432",
    );
    world.apply(
        "web",
        json!({"podSelector": select("web"), "ingress": [{"from": [{"ipBlock": {"cidr": "fd00:77::/64", "except": ["fd00:77::2/128"]}}], "ports": [{"port": "http"}]}]}),
    );
    world.expect(
        "a block of IPv6 with an exception says nothing of IPv4",
        "outside -> web tcp6/8080; outside -x web tcp6/80; n2 -x web tcp6/8080; outside -x web tcp/8080; client -x web tcp6/8080",
    );
    world.apply("v4", json!({"podSelector": select("web"), "ingress": [{"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}]}));
    world.expect(
        "nor one of IPv4 of IPv6",
        "outside -> web tcp/80; outside -x web tcp6/80; client -> web tcp/80; client -x web tcp6/80",
    );

    world.apply_in(
        "prod",
        "out",
        json!({"podSelector": select("shopper"), "policyTypes": ["Egress"], "egress": [{"to": [{"ipBlock": {"cidr": "fd00:244::/32"}}], "ports": [{"port": 80}]}]}),
    );
    world.expect(
        "egress by a block",
        "shopper -> shop tcp6/80; shopper -x shop tcp/80; shopper -x db udp6/5432; shopper -x outside tcp6/80; shopper -x client tcp6/80",
    );
    world.delete_policies();
    world.expect("all policies deleted", &format!("{ALL_REACH_ALL};{ALL_REACH_ALL_BY_SIX}"));
    assert!(!world.has("n1", "ip") && !world.has("n1", "ip6"), "nothing is left");
}

/// The address that a pod has in its link only.
fn link_address(world: &World, pod: &str) -> String {
    let said = crate::world::inside(&world.namespace(pod), "ip -6 -o addr show dev eth0 scope link");
    said.split_whitespace().find_map(|word| word.strip_suffix("/64")).unwrap().to_owned()
}

/// Where it is to be asked from another pod, at port 80.
fn link_of(world: &World, from: &str, address: &str) -> std::net::SocketAddr {
    let said = crate::world::inside(&world.namespace(from), "ip -o link show dev eth0");
    let index = said.split(':').next().unwrap();
    format!("[{address}%{index}]:80").parse().unwrap()
}
