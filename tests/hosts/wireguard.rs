//! From node to node by WireGuard: pods of three hosts on two segments, and what of it is seen on the wire.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bramble::api::core::node::WIREGUARD_KEY;
use bramble::link::share::Share;

use super::home::{Said, said};
use super::inside::{asks, inside, sends};
use super::node::{Node, dual, share, with_keys};
use super::segments::{Segments, address};
use super::support::wait_until;

pub const KNOWN: Duration = Duration::from_secs(5);
/// A first message that is lost, or comes before the other end knows the key, is sent again after 5 s.
pub const OPENED: Duration = Duration::from_secs(15);
pub const SHORT: Duration = Duration::from_secs(1);
pub const MEGABYTE: usize = 1 << 20;
const WIREGUARD: [(&str, u8, &str); 3] = [("a", 1, "one"), ("b", 2, "two"), ("c", 3, "three")];

pub fn everybody(back_end: &str, annotation_of_b: &str) -> Arc<Share> {
    let of = |name| if name == "b" { annotation_of_b } else { "" };
    share(back_end, &WIREGUARD.map(|(name, third, host)| (name, third, address(host), of(name))))
}

/// The three hosts with a node each, of which nobody knows a key yet.
fn three(label: &str, share: &Arc<Share>) -> (Segments, Vec<Node>) {
    let mut segments = Segments::new(label);
    for host in ["one", "two", "three", "router"] {
        watch(&segments, host);
    }
    let uid = format!("uid-{label}");
    let nodes = WIREGUARD.map(|(name, third, host)| Node::start(&mut segments.hosts, &uid, name, host, third, share));
    (segments, nodes.into())
}

/// All that comes by a card, counted: what is WireGuard's, VXLAN's, and what is neither.
pub fn watch(segments: &Segments, host: &str) {
    let chain = "type filter hook prerouting priority -400; policy accept;";
    let table = format!(
        "table ip wire {{
           chain came {{
             {chain}
             iifname != \"eth*\" accept
             udp dport 6263-6270 counter accept comment \"sealed\"
             udp dport 6262 counter accept comment \"vxlan\"
             counter comment \"other\"
           }}
         }}"
    );
    segments.hosts.inside(host, &format!("nft '{table}'"));
}

/// What came to a host by its cards: sealed, VXLAN, other.
pub fn came(segments: &Segments, host: &str) -> [u64; 3] {
    let text = segments.hosts.inside(host, "nft list table ip wire");
    ["sealed", "vxlan", "other"].map(|what| {
        let line = text.lines().find(|line| line.contains(&format!("\"{what}\""))).unwrap_or_else(|| panic!("{text}"));
        let (_, after) = line.split_once("packets ").unwrap();
        after.split(' ').next().unwrap().parse().unwrap()
    })
}

/// Tells all nodes the share with everybody's key.
pub fn tell(nodes: &[Node], share: &Share) {
    wait_until("every node has told its key", KNOWN, || {
        let told: Vec<String> = nodes.iter().map(|node| node.told.borrow().clone()).collect();
        if told.iter().any(String::is_empty) { Err(told.join(" ")) } else { Ok(()) }
    });
    let share = with_keys(share, nodes);
    for node in nodes {
        node.net.send_replace(share.clone());
    }
}

/// From pod to pod, by UDP; after how long.
#[track_caller]
pub fn reaches(from: &Node, to: &Node, bytes: usize) -> Duration {
    let asked = asks(&from.pod, &to.pod_address, bytes, OPENED);
    let (took, _) = asked.unwrap_or_else(|| panic!("{bytes} bytes from {} to {}:\n{}", from.name, to.name, state(from)));
    took
}

pub fn line(node: &Node, line: &str) -> String {
    let mut command = std::process::Command::new("ip");
    command.args(["netns", "exec", &node.host, "sh", "-c", line]);
    said(command).good()
}

pub fn state(node: &Node) -> String {
    let mut command = std::process::Command::new("ip");
    command.args(["netns", "exec", &node.host, "sh", "-c", "ip -s link; ip addr; ip route; nft list ruleset"]);
    let Said { out, err, .. } = said(command);
    format!("{out}{err}")
}

#[test]
fn pods_of_all_nodes_reach_each_other_and_nothing_is_on_the_wire_but_sealed_packets() {
    let plan = everybody("wireguard", "");
    let (segments, nodes) = three("wg-matrix", &plan);
    let (a, b, c) = (&nodes[0], &nodes[1], &nodes[2]);
    // Nobody's key is known: nobody is reached, and not in the clear either.
    for (from, to) in [(a, b), (a, c)] {
        assert!(asks(&from.pod, &to.pod_address, 10, SHORT).is_none());
        assert!(asks(&from.host, &to.pod_address, 10, SHORT).is_none());
    }
    tell(&nodes, &plan);
    for from in &nodes {
        for to in nodes.iter().filter(|to| to.name != from.name) {
            let first = reaches(from, to, 10);
            for bytes in [1392, 1393, 1472, 1473, 60_000] {
                reaches(from, to, bytes);
            }
            let took = sends(&from.pod, &to.pod_address, MEGABYTE, Duration::from_secs(20)).expect("a megabyte by TCP");
            println!("{} to {}: first answer after {first:?}, a megabyte in {took:?}", from.name, to.name);
        }
    }
    // The node itself speaks through it too, as its pods' gateway.
    let (_, own) = asks(&a.host, &c.pod_address, 1472, OPENED).unwrap_or_else(|| panic!("{}", state(a)));
    assert_eq!(own.ip().to_string(), "10.244.1.1");
    for (host, sealed) in [("one", 1000), ("two", 1000), ("three", 1000), ("router", 1000)] {
        let came = came(&segments, host);
        assert!(came[0] > sealed && came[1..] == [0, 0], "{host}: {came:?}");
    }
    let routes = line(a, "ip route show proto 98");
    for range in ["10.244.2.0/24", "10.244.3.0/24"] {
        let device = a.ids().wireguard();
        assert!(routes.contains(&format!("{range} dev {device} ")), "{routes}");
        assert!(routes.contains(&format!("unreachable {range}")), "{routes}");
    }
    // TCP was told what fits before it sent anything.
    let mut path = std::process::Command::new("ip");
    path.args(["netns", "exec", &a.host, "cat", &format!("/sys/class/net/{}/mtu", a.ids().wireguard())]);
    assert_eq!(said(path).good().trim(), "1420");
}

#[test]
fn of_a_dual_stack_cluster_ipv6_is_sealed_as_well_or_nothing_is_sent() {
    let plan = dual(&everybody("wireguard", ""), &[]);
    let (segments, mut nodes) = three("wg-dual", &plan);
    for host in ["one", "two", "three"] {
        let rule = "iifname \"eth*\" ip6 saddr fd12::/16 counter comment \"clear\"";
        let chain = "chain came { type filter hook prerouting priority -400; policy accept;";
        segments.hosts.inside(host, &format!("nft 'table ip6 wire {{ {chain} {rule}; }}; }}'"));
        // Where it would go, if it went in the clear.
        segments.hosts.inside(host, "ip -6 route add default dev eth0");
    }
    for (from, to) in [(0, 1), (0, 2)] {
        assert!(asks(&nodes[from].pod, &nodes[to].pod_address6, 10, SHORT).is_none());
        assert!(asks(&nodes[from].host, &nodes[to].pod_address6, 10, SHORT).is_none());
    }
    tell(&nodes, &plan);
    let reaches = |from: &Node, to: &Node, bytes| {
        asks(&from.pod, &to.pod_address6, bytes, OPENED)
            .unwrap_or_else(|| panic!("{bytes} bytes to {}:\n{}", to.name, state(from)))
    };
    for from in &nodes {
        for to in nodes.iter().filter(|to| to.name != from.name) {
            for bytes in [10, 1372, 1373, 60_000] {
                reaches(from, to, bytes);
            }
            sends(&from.pod, &to.pod_address6, MEGABYTE, Duration::from_secs(20)).expect("a megabyte by TCP");
        }
    }
    let (_, own) = asks(&nodes[0].host, &nodes[2].pod_address6, 1372, OPENED).unwrap_or_else(|| panic!("{}", state(&nodes[0])));
    assert_eq!(own.ip().to_string(), "fd12:0:0:101::1");
    let routes = line(&nodes[0], "ip -6 route show proto 98 type unreachable");
    assert!(routes.contains("fd12:0:0:102::/64") && routes.contains("fd12:0:0:103::/64"), "{routes}");
    nodes[0].stop();
    assert!(asks(&nodes[0].pod, &nodes[1].pod_address6, 10, SHORT).is_none(), "no tunnel");
    assert!(asks(&nodes[0].host, &nodes[1].pod_address6, 10, SHORT).is_none(), "no tunnel");
    for host in ["one", "two", "three"] {
        let text = segments.hosts.inside(host, "nft list table ip6 wire");
        assert!(text.contains("counter packets 0 "), "{text}");
    }
    nodes[0].run();
    reaches(&nodes[0], &nodes[1], 10);
    nodes[0].remove();
    let left = line(&nodes[0], "ip -6 route show proto 98; ip -o link show type tun; nft list tables ip6");
    assert_eq!(left.trim(), "table ip6 wire");
}

#[test]
fn one_nodes_annotation_seals_its_pairs_alone_and_an_agent_that_ends_takes_the_way_with_it() {
    let plan = everybody("auto", "wireguard");
    let (segments, mut nodes) = three("wg-pair", &plan);
    tell(&nodes, &plan);
    for (from, to) in [(0, 1), (1, 2), (0, 2)] {
        reaches(&nodes[from], &nodes[to], 1472);
    }
    let [_, vxlan, other] = came(&segments, "one");
    assert!(vxlan > 0 && other == 0, "{vxlan} {other}");
    assert_eq!(came(&segments, "two")[1..], [0, 0], "{}", state(&nodes[1]));
    nodes[0].stop();
    let before = came(&segments, "two");
    assert!(asks(&nodes[0].pod, &nodes[1].pod_address, 10, SHORT).is_none(), "no tunnel");
    assert!(asks(&nodes[0].host, &nodes[1].pod_address, 10, SHORT).is_none(), "no tunnel");
    assert_eq!((came(&segments, "two"), came(&segments, "router")[2]), (before, 0), "nothing was sent at all");
    reaches(&nodes[0], &nodes[2], 10);
    // Both ways it is there again, by a new handshake.
    nodes[0].run();
    println!("a started again: from it after {:?}", reaches(&nodes[0], &nodes[1], 10));
    nodes[0].stop();
    nodes[0].run();
    println!("a started again: to it after {:?}", reaches(&nodes[1], &nodes[0], 10));
    // Nobody asks for it any more.
    let clear = with_keys(&everybody("auto", ""), &nodes);
    for node in &nodes {
        node.net.send_replace(clear.clone());
    }
    wait_until("no device any more, and nothing to tell", KNOWN, || {
        let now = line(&nodes[0], "ip -o link show type tun; ip route show proto 98 type unreachable");
        if now.is_empty() && nodes[0].told.borrow().is_empty() { Ok(()) } else { Err(now) }
    });
    reaches(&nodes[0], &nodes[1], 1472);
}

#[test]
fn what_is_forged_is_dropped_and_a_wrong_key_opens_nothing() {
    let plan = everybody("wireguard", "");
    let (mut segments, nodes) = three("wg-forged", &plan);
    tell(&nodes, &plan);
    let (a, b) = (&nodes[0], &nodes[1]);
    reaches(a, b, 10);
    let heard = || a.echo.heard.load(Ordering::Relaxed);
    // A stranger on the segment says that it is a pod of b.
    segments.add("four", "lan", "10.78.1.4");
    segments
        .hosts
        .inside("four", "ip addr add 10.244.2.99/32 dev lo && ip route add 10.244.1.0/24 via 10.78.1.1 src 10.244.2.99");
    let stranger = segments.hosts.name("four");
    let before = heard();
    asks(&stranger, &a.pod_address, 10, SHORT);
    assert_eq!(heard(), before);
    let table = line(a, &format!("nft list table ip {}", a.ids().table()));
    assert!(
        table.contains("@encrypted iifname != \"bwg-*\" counter packets")
            && !table.contains("iifname != \"bwg-*\" counter packets 0"),
        "{table}"
    );
    line(a, &format!("nft flush chain ip {} arrives", a.ids().table()));
    asks(&stranger, &a.pod_address, 10, SHORT);
    assert!(heard() > before, "without the rule it does arrive");
    // Noise at the port.
    inside(&stranger, || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let to: SocketAddr = "10.78.1.1:6263".parse().unwrap();
        for length in 0..1400 {
            let mut noise = vec![length as u8; length];
            noise.iter_mut().take(4).zip([length as u8 % 6, 0, 0, 0]).for_each(|(byte, kind)| *byte = kind);
            let _ = socket.send_to(&noise, to);
        }
    });
    reaches(a, b, 10);
    // a is told another key for b.
    let mut wrong = Share::clone(&with_keys(&plan, &nodes));
    let other = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
    Arc::make_mut(wrong.peers.get_mut("b").unwrap()).set_at(&["metadata", "annotations", WIREGUARD_KEY], other);
    a.net.send_replace(Arc::new(wrong));
    wait_until("a has the other key", KNOWN, || {
        if asks(&b.pod, &a.pod_address, 10, SHORT).is_none() { Ok(()) } else { Err(state(a)) }
    });
    let before = heard();
    assert!(asks(&b.pod, &a.pod_address, 10, SHORT).is_none() && heard() == before);
    assert!(asks(&a.pod, &b.pod_address, 10, SHORT).is_none());
    reaches(a, &nodes[2], 10);
    tell(&nodes, &plan);
    println!("with the right key again after {:?}", reaches(a, b, 10));
}

#[test]
fn who_moves_is_followed_what_is_removed_comes_again_and_nothing_is_left() {
    let plan = everybody("wireguard", "");
    let (segments, mut nodes) = three("wg-moves", &plan);
    let before: Vec<String> = nodes.iter().map(|node| line(node, "ip -o link | wc -l")).collect();
    tell(&nodes, &plan);
    reaches(&nodes[0], &nodes[2], 10);
    reaches(&nodes[2], &nodes[1], 10);
    // It moves; the master hears of it later, and the others by its first packet.
    segments.readdress("three", "10.78.2.33");
    println!("moved, heard by its own packet: {:?}", reaches(&nodes[2], &nodes[0], 10));
    println!("and answered: {:?}", reaches(&nodes[0], &nodes[2], 10));
    segments.readdress("three", "10.78.2.34");
    std::thread::sleep(Duration::from_secs(1));
    let moved = share("wireguard", &[("a", 1, address("one"), ""), ("b", 2, address("two"), ""), ("c", 3, "10.78.2.34", "")]);
    tell(&nodes, &moved);
    println!("moved, told by the share: {:?}", reaches(&nodes[0], &nodes[2], 10));
    // The device is removed by somebody.
    line(&nodes[0], &format!("ip link del {}", nodes[0].ids().wireguard()));
    println!("the device is removed: {:?}", reaches(&nodes[0], &nodes[1], 10));
    // A cut. What is lost of a handshake is sent again after 5 s, so it has a session before.
    reaches(&nodes[0], &nodes[2], 10);
    segments.cut();
    assert!(asks(&nodes[0].pod, &nodes[2].pod_address, 10, SHORT).is_none());
    segments.restore();
    println!("restored: {:?}", reaches(&nodes[0], &nodes[2], 10));
    let doctor = |node: &Node, more: &str| line(node, &format!("{} doctor network {more}", env!("CARGO_BIN_EXE_bramble")));
    let told = doctor(&nodes[0], "");
    assert!(told.contains("needed     link: bwg-") && told.lines().all(|line| line.starts_with("needed")), "{told}");
    assert_eq!(told.lines().count(), 6, "a device, a table, and two routes to each peer: {told}");
    // Its end leaves what keeps packets back, and nothing else.
    nodes[0].stop();
    let told = doctor(&nodes[0], "");
    assert!(!told.contains("bwg-") && told.lines().filter(|line| line.starts_with("left over")).count() == 3, "{told}");
    let swept = doctor(&nodes[0], "--remove");
    assert_eq!(swept.lines().count(), 3, "{swept}");
    for (node, before) in nodes.iter_mut().zip(&before) {
        node.remove();
        assert_eq!(line(node, "ip route show proto 98; nft list tables | grep -v wire || true"), "", "{}", node.name);
        let links: u32 = line(node, "ip -o link | wc -l").trim().parse().unwrap();
        assert!(links <= before.trim().parse().unwrap(), "{}", state(node));
    }
}

#[test]
fn how_much_goes_through() {
    let plan = everybody("route", "");
    let (_segments, nodes) = three("wg-figure", &plan);
    let (a, b) = (&nodes[0], &nodes[1]);
    let bytes = 16 * MEGABYTE;
    let measure = || {
        reaches(a, b, 10);
        let began = Instant::now();
        sends(&a.pod, &b.pod_address, bytes, Duration::from_secs(60)).expect("all of it");
        began.elapsed()
    };
    let clear = measure();
    let sealed = everybody("wireguard", "");
    for node in &nodes {
        node.net.send_replace(sealed.clone());
    }
    tell(&nodes, &sealed);
    wait_until("a tunnel", KNOWN, || {
        let now = line(a, "ip route show proto 98");
        if now.contains(&format!("10.244.2.0/24 dev {}", a.ids().wireguard())) { Ok(()) } else { Err(now) }
    });
    let tunnel = measure();
    println!("16 MiB from pod to pod, both nodes on this machine: by route {clear:?}, by WireGuard {tunnel:?}");
}
