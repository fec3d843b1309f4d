//! From node to node by the kernel's WireGuard, and between it and the agent's own. What is `ignored` runs in a guest whose kernel has it (`guest.rs`).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bramble::agent::overlay::listing::{Kind, run::list};
use bramble::agent::overlay::wireguard::Choice;
use bramble::agent::overlay::wireguard::kernel::Device;
use bramble::agent::overlay::wireguard::kernel::netlink::{Wireguard, link};
use bramble::api::core::node::WIREGUARD_KEY;
use bramble::link::share::Share;

use super::guest;
use super::inside::{asks, inside, sends};
use super::node::{Node, dual, share, with_keys};
use super::segments::{Segments, address};
use super::support::wait_until;
use super::wireguard::{KNOWN, MEGABYTE, OPENED, SHORT, came, everybody, line, reaches, state, tell, watch};

/// What nodes, their bridges, their tables and both kinds of WireGuard need. The first is asked for by name only when nftables begins.
const MODULES: [&str; 7] = ["crc32c_generic", "wireguard", "veth", "bridge", "tun", "vxlan", "nf_tables"];
/// QEMU computes every instruction of it.
const SLOWLY: Duration = Duration::from_secs(60);

#[test]
fn a_kernel_that_has_wireguard_does_it_and_reaches_agents_that_do_it_themselves() {
    let said = guest::run("in_a_guest", &MODULES);
    assert!(said.contains("test result: ok. 3 passed; 0 failed"), "three of them");
}

#[test]
fn who_asks_for_the_kernel_where_it_has_none_sends_nothing() {
    let plan = everybody("wireguard", "");
    let (_segments, mut nodes) = start("wg-none", &plan, [Choice::Auto, Choice::Auto, Choice::User]);
    tell(&nodes, &plan);
    reaches(&nodes[0], &nodes[1], 10);
    if device(&nodes[0]).is_some() {
        println!("NOT RUN: this kernel has WireGuard, and does it");
        return;
    }
    nodes[0].stop();
    nodes[0].choice = Choice::Kernel;
    nodes[0].run();
    assert!(asks(&nodes[0].pod, &nodes[1].pod_address, 10, SHORT).is_none(), "{}", state(&nodes[0]));
}

fn start(label: &str, plan: &Arc<Share>, choices: [Choice; 3]) -> (Segments, Vec<Node>) {
    let mut segments = Segments::new(label);
    for host in ["one", "two", "three", "router"] {
        watch(&segments, host);
    }
    let uid = format!("uid-{label}");
    let places = [("a", 1, "one"), ("b", 2, "two"), ("c", 3, "three")];
    let nodes = places
        .into_iter()
        .zip(choices)
        .map(|((name, third, host), choice)| Node::encrypting(&mut segments.hosts, &uid, name, host, third, plan, choice));
    let nodes = nodes.collect();
    (segments, nodes)
}

/// The interface's number and the kernel's device behind it; `None`: it is the agent's own, or not there.
fn device(node: &Node) -> Option<(u32, Device)> {
    let name = node.ids().wireguard();
    inside(&node.host, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let link = link(&name).await.unwrap().filter(|link| link.wireguard)?;
            Some((link.number, Wireguard::open().await.unwrap().device(link.number).await.unwrap()))
        })
    })
}

/// The links of ours that `bramble doctor network` lists. Which of them an agent needs is told of a process' own namespace, and this one has another.
fn listed(node: &Node) -> Vec<String> {
    let things = inside(&node.host, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(list()).unwrap()
    });
    things.into_iter().filter(|thing| thing.kind == Kind::Link).map(|thing| thing.name).collect()
}

/// Counts what comes by a card and bears a pod's address. More than [`came`] that goes by ports: who moves, or ends, leaves packets behind that somebody
/// answers with "unreachable".
fn count_clear(segments: &Segments) {
    for host in ["one", "two", "three"] {
        for (family, pods) in [("ip", "10.244.0.0/16"), ("ip6", "fd12::/16")] {
            let chain = "chain came { type filter hook prerouting priority -400; policy accept;";
            let rules = ["saddr", "daddr"].map(|side| format!("iifname \"eth*\" {family} {side} {pods} counter;")).concat();
            segments.hosts.inside(host, &format!("nft 'table {family} clear {{ {chain} {rules} }}; }}'"));
        }
    }
}

#[track_caller]
fn nothing_was_clear(segments: &Segments) {
    for host in ["one", "two", "three"] {
        for family in ["ip", "ip6"] {
            let text = segments.hosts.inside(host, &format!("nft list table {family} clear"));
            assert_eq!(text.matches("counter packets 0 ").count(), 2, "{host}: {text}");
        }
    }
}

#[track_caller]
fn reaches6(from: &Node, to: &Node, bytes: usize) {
    assert!(asks(&from.pod, &to.pod_address6, bytes, OPENED).is_some(), "{bytes} bytes to {}:\n{}", to.name, state(from));
}

#[test]
#[ignore = "for a guest whose kernel has WireGuard"]
fn in_a_guest_both_kinds_reach_each_other_and_the_kernels_goes_on_without_its_agent() {
    let plan = dual(&everybody("wireguard", ""), &[]);
    let (segments, mut nodes) = start("wg-k", &plan, [Choice::Auto, Choice::Kernel, Choice::User]);
    count_clear(&segments);
    assert!(asks(&nodes[0].pod, &nodes[1].pod_address, 10, SHORT).is_none(), "nobody's key is known");
    tell(&nodes, &plan);
    reaches(&nodes[1], &nodes[2], 1392);
    reaches6(&nodes[2], &nodes[1], 1372);
    for (from, to) in [(0, 1), (1, 0), (0, 2), (2, 0)] {
        let (from, to) = (&nodes[from], &nodes[to]);
        let first = reaches(from, to, 10);
        for bytes in [1392, 1393, 60_000] {
            reaches(from, to, bytes);
        }
        for bytes in [10, 1372, 1373, 60_000] {
            reaches6(from, to, bytes);
        }
        let took = sends(&from.pod, &to.pod_address, MEGABYTE, SLOWLY).expect("a megabyte by TCP");
        let took6 = sends(&from.pod, &to.pod_address6, MEGABYTE, SLOWLY).expect("a megabyte by TCP and IPv6");
        println!("{} to {}: first answer after {first:?}, a megabyte in {took:?}, by IPv6 {took6:?}", from.name, to.name);
    }
    let kinds: Vec<bool> = nodes.iter().map(|node| device(node).is_some()).collect();
    assert_eq!(kinds, [true, true, false], "which are the kernel's");
    for host in ["one", "two", "three", "router"] {
        let came = came(&segments, host);
        assert!(came[0] > 100 && came[1..] == [0, 0], "{host}: {came:?}");
    }
    // The node itself speaks as its pods' gateway.
    let (_, own) = asks(&nodes[0].host, &nodes[2].pod_address, 1392, OPENED).unwrap_or_else(|| panic!("{}", state(&nodes[0])));
    assert_eq!(own.ip().to_string(), "10.244.1.1");
    let routes = line(&nodes[0], "ip route show proto 98");
    let name = nodes[0].ids().wireguard();
    assert!(routes.contains(&format!("10.244.2.0/24 dev {name} ")) && routes.contains("unreachable 10.244.2.0/24"), "{routes}");
    assert_eq!(line(&nodes[0], &format!("cat /sys/class/net/{name}/mtu")).trim(), "1420");

    // Without its agent.
    assert_eq!(listed(&nodes[0]), [name.as_str()]);
    let before = device(&nodes[0]).unwrap();
    nodes[0].stop();
    reaches(&nodes[0], &nodes[1], 1392);
    reaches(&nodes[2], &nodes[0], 1392);
    reaches6(&nodes[1], &nodes[0], 1372);
    assert_eq!(listed(&nodes[0]), [name.as_str()]);
    let told = nodes[0].told.borrow().clone();
    nodes[0].run();
    std::thread::sleep(Duration::from_secs(1));
    // The same device, with the same sessions: there was no other handshake, but where two minutes are over.
    let mut after = device(&nodes[0]).unwrap();
    for (key, old) in &before.1.peers {
        let Some(new) = after.1.peers.get_mut(key) else { continue };
        if new.handshake.zip(old.handshake).is_some_and(|(new, old)| new.0 - old.0 >= 110_000) {
            new.handshake = old.handshake;
        }
    }
    assert_eq!(after, before);
    assert_eq!(*nodes[0].told.borrow(), told);
    reaches(&nodes[0], &nodes[2], 10);
    for host in ["one", "two", "three"] {
        assert_eq!(came(&segments, host)[1..], [0, 0], "{host}");
    }

    // A machine that starts again: its device is a new one.
    nodes[0].stop();
    line(&nodes[0], &format!("ip link del {name}"));
    assert!(asks(&nodes[0].pod, &nodes[1].pod_address, 10, SHORT).is_none(), "no device, and not in the clear");
    nodes[0].run();
    println!("a made anew: from b after {:?}", reaches(&nodes[1], &nodes[0], 10));
    println!("a made anew: from c after {:?}", reaches(&nodes[2], &nodes[0], 10));
    assert_ne!(device(&nodes[0]).unwrap().0, before.0);
    nothing_was_clear(&segments);
}

#[test]
#[ignore = "for a guest whose kernel has WireGuard"]
fn in_a_guest_what_is_forged_is_dropped_a_wrong_key_opens_nothing_and_who_moves_is_followed() {
    let plan = everybody("wireguard", "");
    let (segments, nodes) = start("wg-f", &plan, [Choice::Kernel, Choice::Kernel, Choice::User]);
    count_clear(&segments);
    tell(&nodes, &plan);
    let (a, b, c) = (&nodes[0], &nodes[1], &nodes[2]);
    reaches(b, a, 10);
    let heard = || a.echo.heard.load(Ordering::Relaxed);
    // b, through its tunnel, says that it is a pod of c, and somebody else.
    let (own, pod) = (b.ids().wireguard(), &a.pod_address);
    for forged in ["10.244.3.99", "192.0.2.1"] {
        line(b, &format!("ip addr add {forged}/32 dev lo && ip route replace {pod}/32 dev {own} src {forged}"));
        let (before, sent) = (heard(), came(&segments, "one")[0]);
        assert!(asks(&b.host, pod, 10, SHORT).is_none() && heard() == before, "{forged}");
        assert!(came(&segments, "one")[0] > sent, "it was sent, and dropped by a");
        line(b, &format!("ip addr del {forged}/32 dev lo; ip route del {pod}/32 || true"));
    }
    reaches(b, a, 10);
    // a is told another key for b.
    let mut wrong = Share::clone(&with_keys(&plan, &nodes));
    let other = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
    Arc::make_mut(wrong.peers.get_mut("b").unwrap()).set_at(&["metadata", "annotations", WIREGUARD_KEY], other);
    a.net.send_replace(Arc::new(wrong));
    let keys = || device(a).unwrap().1.peers.keys().map(ToString::to_string).collect::<Vec<_>>();
    wait_until("the kernel has the other key", KNOWN, || {
        if keys().contains(&other.to_owned()) { Ok(()) } else { Err(keys().join(" ")) }
    });
    let before = heard();
    assert!(asks(&b.pod, pod, 10, SHORT).is_none() && heard() == before);
    assert!(asks(&a.pod, &b.pod_address, 10, SHORT).is_none());
    reaches(a, c, 10);
    tell(&nodes, &plan);
    println!("with the right key again after {:?}", reaches(a, b, 10));

    for host in ["one", "two", "three"] {
        assert_eq!(came(&segments, host)[1..], [0, 0], "{host}");
    }

    // b moves; the others hear it by its own packets, later by the share.
    segments.readdress("two", "10.78.1.22");
    println!("moved, heard by its own packet: {:?} {:?}", reaches(b, a, 10), reaches(b, c, 10));
    println!("and answered: {:?}", reaches(a, b, 10));
    segments.readdress("two", "10.78.1.23");
    let moved = share("wireguard", &[("a", 1, address("one"), ""), ("b", 2, "10.78.1.23", ""), ("c", 3, address("three"), "")]);
    tell(&nodes, &moved);
    println!("moved, told by the share: {:?} {:?}", reaches(a, b, 10), reaches(c, b, 10));
    nothing_was_clear(&segments);
}

#[test]
#[ignore = "for a guest whose kernel has WireGuard"]
fn in_a_guest_one_takes_the_others_place_and_nothing_is_left() {
    let plan = everybody("wireguard", "");
    let (_segments, mut nodes) = start("wg-l", &plan, [Choice::Kernel, Choice::Kernel, Choice::User]);
    tell(&nodes, &plan);
    let bytes = 2 * MEGABYTE;
    let measure = |nodes: &[Node]| {
        reaches(&nodes[0], &nodes[1], 10);
        let began = Instant::now();
        sends(&nodes[0].pod, &nodes[1].pod_address, bytes, SLOWLY).expect("all of it");
        began.elapsed()
    };
    let in_kernel = measure(&nodes);
    for node in &mut nodes[..2] {
        node.stop();
        node.choice = Choice::User;
        node.run();
    }
    wait_until("the agents do it themselves", KNOWN, || {
        if nodes.iter().all(|node| device(node).is_none()) { Ok(()) } else { Err(state(&nodes[0])) }
    });
    let in_user_space = measure(&nodes);
    let ratio = in_user_space.as_secs_f64() / in_kernel.as_secs_f64();
    println!("FIGURE 2 MiB from pod to pod in the guest: kernel {in_kernel:?}, user space {in_user_space:?}, ratio {ratio:.1}");
    for node in &mut nodes[..2] {
        node.stop();
        node.choice = Choice::Auto;
        node.run();
    }
    reaches(&nodes[0], &nodes[1], 10);
    reaches(&nodes[2], &nodes[0], 10);
    assert!(device(&nodes[0]).is_some() && device(&nodes[1]).is_some());
    // While a's agent is away nobody asks for encryption any more: the next one takes the device away.
    nodes[0].stop();
    let clear = with_keys(&everybody("route", ""), &nodes);
    for node in &nodes {
        node.net.send_replace(clear.clone());
    }
    nodes[0].run();
    wait_until("no device any more, and nothing to tell", KNOWN, || {
        let now = line(&nodes[0], "ip -o link show type wireguard; ip route show proto 98 type unreachable");
        if now.is_empty() && nodes[0].told.borrow().is_empty() { Ok(()) } else { Err(now) }
    });
    reaches(&nodes[0], &nodes[1], 10);
    // Encrypted again, and uninstalled.
    for node in &nodes {
        node.net.send_replace(plan.clone());
    }
    tell(&nodes, &plan);
    reaches(&nodes[0], &nodes[1], 10);
    nodes[0].remove();
    assert_eq!(
        line(&nodes[0], "ip -o link show type wireguard; ip route show proto 98; nft list tables | grep -v wire || true"),
        ""
    );
    assert!(listed(&nodes[0]).is_empty());
}
