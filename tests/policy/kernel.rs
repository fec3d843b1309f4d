//! What is in the kernel besides our table, and what becomes of ours.

use std::time::Duration;

use bramble::agent::policy::{Place, remove};
use bramble::link::share::Share;
use serde_json::json;

use crate::sockets::enter;
use crate::support::{skipped, wait_until};
use crate::world::{Agent, World};

#[test]
fn foreign_tables_are_left_alone_and_ours_comes_back() {
    if skipped("policy") {
        return;
    }
    let mut world = World::new("kern");
    world.hosts.inside(
        "n1",
        "nft 'add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy accept; }; add rule ip filter FORWARD ip daddr 192.0.2.1 drop; \
         add table bridge home; add table ip bramble-0000000a-policy'",
    );
    let foreign = || {
        world
            .hosts
            .inside("n1", "nft list table ip filter; nft list table bridge home; nft list table ip bramble-0000000a-policy")
    };
    let before = foreign();
    world.agents["n1"].net.send_modify(|_| ());
    let deny = json!({"podSelector": {}, "policyTypes": ["Ingress"]});
    assert!(!world.ours("n1"));
    world.apply("deny", deny);
    world.expect("default deny", "client -x web tcp/80; db -x web tcp/80");
    assert!(world.ours("n1"));

    // Somebody empties the kernel of all rules, as a firewall's start does.
    world.hosts.inside("n1", "nft delete table ip bramble-00000001-policy");
    world.expect("our table is back", "client -x web tcp/80");

    // What is not known is left as it stands.
    world.agents["n1"].network.send_replace(None);
    world.agents["n1"].net.send_replace(Share::default().into());
    std::thread::sleep(Duration::from_millis(1500));
    world.expect("the policies hold without a master's word", "client -x web tcp/80");

    // The agent stops: the pods live on, and what is forbidden stays so.
    world.agents.remove("n1");
    assert!(world.ours("n1"));
    world.expect("the policies hold without an agent", "client -x web tcp/80; n1 -> web tcp/80");

    // The node is removed.
    let namespace = world.node(1);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            enter(&namespace);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            for _ in 0..2 {
                runtime.block_on(remove(&Place::of("bramble-00000001-policy".to_owned()))).expect("gone, and gone again");
            }
        });
    });
    assert!(!world.ours("n1"));
    world.expect("all is open", "client -> web tcp/80");
    let after = world
        .hosts
        .inside("n1", "nft list table ip filter; nft list table bridge home; nft list table ip bramble-0000000a-policy");
    assert_eq!(after, before);
}

#[test]
fn where_rules_cannot_be_made_the_node_goes_on() {
    if skipped("policy") {
        return;
    }
    let mut world = World::new("none");
    world.agents["n1"].network.send_modify(|network| {
        if let Some(network) = network {
            network.bridge = None;
        }
    });
    world.apply("deny", json!({"podSelector": {}, "policyTypes": ["Ingress"]}));
    world.expect(
        "a node whose bridge is elsewhere does not hold policies, another does",
        "client -> web tcp/80; web -x client tcp/80",
    );
    world.agents["n1"].network.send_modify(|network| {
        if let Some(network) = network {
            network.bridge = Some("brpol".to_owned());
        }
    });
    wait_until("the node holds them", Duration::from_secs(10), || {
        if world.reaches("client", "web", "tcp/80") { Err("reached".to_owned()) } else { Ok(()) }
    });
}

/// What the test below runs on a node as a process of its own, which sees the node's own settings of links.
#[test]
#[ignore = "not a test: a part of the next one"]
fn an_agent_on_a_node() {
    let (Ok(namespace), Ok(share)) = (std::env::var("BRAMBLE_TEST_NODE"), std::env::var("BRAMBLE_TEST_SHARE")) else { return };
    let agent = Agent::of(&namespace, 1, "brpol", std::env::var("BRAMBLE_TEST_DUAL").is_ok());
    agent.net.send_replace(std::sync::Arc::new(serde_json::from_str(&share).unwrap()));
    // Until the other side lets go.
    let _ = std::io::Read::read(&mut std::io::stdin(), &mut [0]);
}

#[test]
fn pods_on_one_bridge_are_kept_apart_even_where_bridges_are_not_filtered() {
    if skipped("policy") {
        return;
    }
    bridge_is_filtered(World::new("brnf"), "ip", &[]);
    bridge_is_filtered(World::dual("brnf6"), "ip6", &[("BRAMBLE_TEST_DUAL", "1")]);
}

fn bridge_is_filtered(mut world: World, ip: &str, more: &[(&str, &str)]) {
    world.agents.remove("n1");
    world.hosts.inside("n1", &format!("sysctl -qw net.bridge.bridge-nf-call-{ip}tables=0 && ip link add foreign type bridge"));
    let expect = |world: &World, what: &str, wanted: &str| {
        let wanted = if ip == "ip6" { wanted.replace("tcp/", "tcp6/").replace("udp/", "udp6/") } else { wanted.to_owned() };
        world.expect(what, &wanted);
    };
    world.apply("deny", json!({"podSelector": {}, "policyTypes": ["Ingress"]}));
    expect(&world, "nobody holds it yet", "db -> web tcp/80; client -> web tcp/80");
    let mut agent = world
        .hosts
        .run("n1", std::env::current_exe().unwrap().to_str().unwrap())
        .args(["--exact", "kernel::an_agent_on_a_node", "--ignored", "--nocapture"])
        .env("BRAMBLE_TEST_NODE", world.node(1))
        .env("BRAMBLE_TEST_SHARE", world.share().canonical())
        .envs(more.iter().copied())
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    expect(&world, "held on one bridge too", "db -x web tcp/80; web -x db udp/80; client -x web tcp/80; n1 -> web tcp/80");
    let setting = |line: &str| world.hosts.inside("n1", line).trim().to_owned();
    assert_eq!(setting(&format!("cat /sys/class/net/brpol/bridge/nf_call_{ip}tables")), "1");
    assert_eq!(setting(&format!("cat /sys/class/net/foreign/bridge/nf_call_{ip}tables")), "0", "only our bridge");
    assert_eq!(setting(&format!("sysctl -n net.bridge.bridge-nf-call-{ip}tables")), "0", "not everywhere");
    drop(agent.stdin.take());
    assert!(agent.wait().unwrap().success());
}

#[test]
fn text_that_no_kernel_takes_changes_nothing() {
    if skipped("policy") {
        return;
    }
    let mut world = World::new("bad");
    world.apply("deny", json!({"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"]}));
    world.expect("the policy holds", "client -x web tcp/80; web -> db tcp/80");
    // One policy that no agent can read, and one that it can: the others are not disturbed.
    let mut share = world.share();
    let object = |value: serde_json::Value| std::sync::Arc::new(bramble::api::Object::from_value(value).unwrap());
    share
        .policies
        .insert("default/odd".to_owned(), object(json!({"pods": ["::1"], "ingress": [{"ports": ["icmp; flush ruleset"]}]})));
    share.policies.insert(
        "default/db".to_owned(),
        object(json!({"selector": {"matchLabels": {"app": "db"}}, "pods": ["10.244.1.11"], "ingress": []})),
    );
    world.agents["n1"].net.send_replace(share.into());
    world.expect("the readable one as well", "client -x web tcp/80; web -x db tcp/80");
}
