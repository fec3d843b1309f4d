//! From node to node: pods of three hosts on two segments.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bramble::link::share::Share;

use super::home::{Said, said};
use super::inside::{asks, sends};
use super::node::{Node, dual, share};
use super::segments::{Segments, address};
use super::support::wait_until;

/// Within so long a node that joins, leaves or moves is known.
const KNOWN: Duration = Duration::from_secs(5);
const MEGABYTE: usize = 1 << 20;

/// The three hosts with a node each.
fn three(label: &str, back_end: &str) -> (Segments, Vec<Node>) {
    three_of(Segments::new(label), label, &everybody(back_end))
}

fn three_of(mut segments: Segments, label: &str, all: &Arc<Share>) -> (Segments, Vec<Node>) {
    let uid = format!("uid-{label}");
    let nodes = [("a", "one", 1), ("b", "two", 2), ("c", "three", 3)];
    let nodes = nodes.map(|(name, host, third)| Node::start(&mut segments.hosts, &uid, name, host, third, all));
    (segments, nodes.into())
}

fn everybody(back_end: &str) -> Arc<Share> {
    share(back_end, &[("a", 1, address("one"), ""), ("b", 2, address("two"), ""), ("c", 3, address("three"), "")])
}

fn tell(nodes: &[Node], share: &Arc<Share>) {
    for node in nodes {
        node.net.send_replace(share.clone());
    }
}

/// From pod to pod, by UDP; after how long.
#[track_caller]
fn reaches(from: &Node, to: &Node, bytes: usize) -> Duration {
    reaches_at(from, to, &to.pod_address, bytes)
}

#[track_caller]
fn reaches_at(from: &Node, to: &Node, address: &str, bytes: usize) -> Duration {
    let asked = asks(&from.pod, address, bytes, KNOWN);
    let (took, _) =
        asked.unwrap_or_else(|| panic!("{bytes} bytes from {} to {} at {address}:\n{}", from.name, to.name, state(from)));
    took
}

fn state(node: &Node) -> String {
    let all = "ip -br addr; ip route; ip -6 route; ip -d link show type vxlan; bridge fdb; ip neigh; nft list ruleset";
    let mut command = std::process::Command::new("ip");
    command.args(["netns", "exec", &node.host, "sh", "-c", all]);
    let Said { out, err, .. } = said(command);
    format!("{out}{err}")
}

fn line(node: &Node, line: &str) -> String {
    line_in(&node.host, line)
}

fn line_in(namespace: &str, line: &str) -> String {
    let mut command = std::process::Command::new("ip");
    command.args(["netns", "exec", namespace, "sh", "-c", line]);
    said(command).good()
}

/// What is of the network on a host that tests made and nobody else.
fn kernel(node: &Node) -> String {
    line(node, "ip -o link | sed 's/^[0-9]*: //' | cut -d: -f1 | sort; ip route; ip -6 route show proto 98; nft list tables")
}

#[test]
fn pods_of_all_nodes_reach_each_other_and_large_packets_fit_by_route_and_by_tunnel() {
    let (_segments, nodes) = three("matrix", "auto");
    for from in &nodes {
        for to in nodes.iter().filter(|to| to.name != from.name) {
            let first = reaches(from, to, 10);
            // As large as Ethernet takes, larger, and as large as UDP takes: in parts.
            for bytes in [1472, 1473, 60_000] {
                reaches(from, to, bytes);
            }
            let took = sends(&from.pod, &to.pod_address, MEGABYTE, Duration::from_secs(20)).expect("a megabyte by TCP");
            println!("{} to {}: first answer after {first:?}, a megabyte in {took:?}", from.name, to.name);
        }
    }
    let (a, c) = (&nodes[0], &nodes[2]);
    // Nobody's address is changed on the way, and the node itself reaches pods, and is answered by them.
    for to in [&nodes[1], c] {
        let (_, own) = asks(&a.host, &to.pod_address, 1472, KNOWN).unwrap_or_else(|| panic!("{}", state(a)));
        let expected = if to.name == "b" { address("one") } else { "10.244.1.1" };
        assert_eq!(own.ip().to_string(), expected, "from node a to a pod of {}", to.name);
    }
    let routes = line(a, "ip route show proto 98");
    assert!(
        routes.contains("10.244.2.0/24 via 10.78.1.2 dev eth0") && routes.contains("10.244.3.0/24 via 10.244.3.0 dev bvx-"),
        "{routes}"
    );
    // The pod was told what fits through the tunnel, and TCP before it sent anything.
    let mut path = std::process::Command::new("ip");
    path.args(["netns", "exec", &a.pod, "ip", "route", "get", &c.pod_address]);
    let path = said(path).good();
    assert!(path.contains("mtu 1450"), "{path}");
    let mut path = std::process::Command::new("ip");
    path.args(["netns", "exec", &a.pod, "ip", "route", "get", &nodes[1].pod_address]);
    let path = said(path).good();
    assert!(!path.contains("mtu"), "to a node on the segment all of Ethernet is used: {path}");
    // In a cluster of IPv4 only, nothing of IPv6 is made.
    let of_ipv6 = line(a, "ip -6 route show proto 98; ip -6 neigh show nud permanent; nft list tables ip6");
    assert_eq!(of_ipv6, "");
}

/// IPv6 addresses of the hosts, as from routers of their segments.
const ADDRESSES6: [(&str, &str, &str); 3] =
    [("a", "one", "fd78:0:0:1::1"), ("b", "two", "fd78:0:0:1::2"), ("c", "three", "fd78:0:0:2::3")];

fn addressed(segments: &Segments) -> Vec<(&'static str, &'static str)> {
    for (_, host, address) in ADDRESSES6 {
        segments.hosts.inside(host, &format!("ip addr add {address}/64 dev eth0 nodad"));
    }
    ADDRESSES6.map(|(name, _, address)| (name, address)).to_vec()
}

#[test]
fn by_ipv6_all_reach_each_other_by_route_and_by_tunnel_and_nothing_is_left_at_the_end() {
    let segments = Segments::new("dual");
    let addresses = addressed(&segments);
    let all = dual(&everybody("auto"), &addresses);
    let (_segments, mut nodes) = three_of(segments, "dual", &all);
    for from in &nodes {
        for to in nodes.iter().filter(|to| to.name != from.name) {
            let first = reaches_at(from, to, &to.pod_address6, 10);
            // As large as Ethernet takes, larger, and as large as UDP takes: in parts.
            for bytes in [1452, 1453, 60_000] {
                reaches_at(from, to, &to.pod_address6, bytes);
            }
            let took = sends(&from.pod, &to.pod_address6, MEGABYTE, Duration::from_secs(20)).expect("a megabyte by TCP");
            println!("{} to {}: first answer after {first:?}, a megabyte in {took:?}", from.name, to.name);
            reaches(from, to, 1472);
        }
    }
    let (a, b, c) = (&nodes[0], &nodes[1], &nodes[2]);
    // Nobody's address is changed on the way, and the node itself reaches pods, and is answered by them.
    for (to, expected) in [(b, "fd78:0:0:1::1"), (c, "fd12:0:0:101::1")] {
        let (_, own) = asks(&a.host, &to.pod_address6, 1452, KNOWN).unwrap_or_else(|| panic!("{}", state(a)));
        assert_eq!(own.ip().to_string(), expected, "from node a to a pod of {}", to.name);
    }
    let routes = line(a, "ip -6 route show proto 98");
    let end = "fe80::862:aff:fe4e:203";
    assert!(
        routes.contains("fd12:0:0:102::/64 via fd78:0:0:1::2 dev eth0")
            && routes.contains(&format!("fd12:0:0:103::/64 via {end} dev bvx-")),
        "{routes}"
    );
    let path = |to: &Node| line_in(&a.pod, &format!("ip route get {}", to.pod_address6));
    assert!(path(c).contains("mtu 1450") && !path(b).contains("mtu"), "{} {}", path(c), path(b));
    // Without what TCP is told at its beginning, it finds what fits.
    for node in [a, c] {
        line(node, &format!("nft flush chain ip6 {} forward", node.ids().table()));
        line_in(&node.pod, "ip -6 route flush cache");
    }
    sends(&a.pod, &c.pod_address6, MEGABYTE, Duration::from_secs(20)).expect("a megabyte, its size found");
    line(a, "ip -6 route flush proto 98");
    println!("the routes are removed: reached after {:?}", reaches_at(a, c, &c.pod_address6, 10));
    // The second's IPv6 address goes: it is on the segment still, and reached by the tunnel; and it comes again.
    let alone: Vec<_> = addresses.iter().copied().filter(|(name, _)| *name != "b").collect();
    for (addresses, way) in [(&alone, "dev bvx-"), (&addresses, "dev eth0")] {
        tell(&nodes, &dual(&everybody("auto"), addresses));
        let via = || line(a, "ip -6 route show fd12:0:0:102::/64");
        wait_until("the way is another", KNOWN, || if via().contains(way) { Ok(()) } else { Err(via()) });
        reaches_at(a, b, &b.pod_address6, 1452);
        reaches_at(b, a, &a.pod_address6, 1452);
        reaches(a, b, 1472);
    }
    for node in &mut nodes {
        node.remove();
        let left =
            line(node, "ip -6 route show proto 98; ip -6 neigh show nud permanent; nft list tables; ip -br link show type vxlan");
        assert_eq!(left, "", "{}", node.name);
    }
}

#[test]
fn hosts_without_ipv6_addresses_carry_it_and_what_is_left_over_of_it_is_listed_and_removed() {
    let (_segments, mut nodes) = three_of(Segments::new("carry"), "carry", &dual(&everybody("auto"), &[]));
    for from in &nodes {
        for to in nodes.iter().filter(|to| to.name != from.name) {
            reaches_at(from, to, &to.pod_address6, 1452);
        }
    }
    let routes = line(&nodes[0], "ip -6 route show proto 98; ip route show proto 98");
    assert!(routes.matches("via fe80::").count() == 2 && routes.contains("10.244.2.0/24 via 10.78.1.2 dev eth0"), "{routes}");
    let bramble = env!("CARGO_BIN_EXE_bramble");
    let told = line(&nodes[0], &format!("{bramble} doctor network"));
    assert!(told.lines().all(|line| line.starts_with("needed")) && told.contains("fd12:0:0:102::/64 via fe80::"), "{told}");
    nodes[0].stop();
    let swept = line(&nodes[0], &format!("{bramble} doctor network --remove"));
    assert!(swept.contains("ip6 bramble-") && swept.contains("fd12:0:0:103::/64") && swept.lines().count() == 7, "{swept}");
    assert_eq!(line(&nodes[0], "ip -6 route show proto 98; ip -br link show type vxlan; nft list tables"), "");
}

#[test]
fn tcp_finds_what_fits_even_where_its_beginning_is_not_told() {
    let (_segments, nodes) = three("pmtu", "auto");
    let (a, c) = (&nodes[0], &nodes[2]);
    reaches(a, c, 10);
    for node in &nodes {
        if !line(node, "nft list tables").is_empty() {
            line(node, &format!("nft flush chain ip {} forward", node.ids().table()));
        }
    }
    sends(&a.pod, &c.pod_address, MEGABYTE, Duration::from_secs(20)).expect("a megabyte by TCP");
}

#[test]
fn vxlan_and_route_by_setting_and_a_setting_that_changes_is_followed() {
    let (_segments, nodes) = three("setting", "vxlan");
    let (a, b, c) = (&nodes[0], &nodes[1], &nodes[2]);
    reaches(a, b, 1472);
    let by_tunnel = line(a, "ip route show proto 98");
    assert!(by_tunnel.contains("10.244.2.0/24 via 10.244.2.0 dev bvx-"), "{by_tunnel}");
    tell(&nodes, &everybody("route"));
    wait_until("no tunnel any more", KNOWN, || {
        let now = line(a, "ip route show proto 98; ip -o link show type vxlan; nft list tables");
        if now.contains("10.244.2.0/24 via 10.78.1.2 dev eth0") && now.lines().count() == 1 { Ok(()) } else { Err(now) }
    });
    reaches(a, b, 1472);
    assert!(asks(&a.pod, &c.pod_address, 10, Duration::from_millis(500)).is_none(), "nothing leads there");
    tell(&nodes, &everybody("auto"));
    reaches(a, c, 10);
}

#[test]
fn nodes_that_come_go_and_move_are_followed_and_nothing_is_left_at_the_end() {
    let mut segments = Segments::new("moves");
    let nodes = [("a", "one", 1), ("b", "two", 2), ("c", "three", 3)];
    let alone = share("auto", &[("a", 1, address("one"), "")]);
    let mut nodes: Vec<Node> =
        nodes.map(|(name, host, third)| Node::start(&mut segments.hosts, "uid-moves", name, host, third, &Arc::default())).into();
    nodes[0].net.send_replace(alone.clone());
    let before: Vec<String> = nodes.iter().map(kernel).collect();
    // They join.
    tell(&nodes, &everybody("auto"));
    println!("joined: {:?} by route, {:?} by tunnel", reaches(&nodes[0], &nodes[1], 10), reaches(&nodes[0], &nodes[2], 10));
    // One gets another address beyond the router, then one on this segment. The master hears of it a little later.
    for (host, moved, at, new) in [("three", 2, 2, "10.78.2.33"), ("two", 1, 1, "10.78.1.22")] {
        segments.readdress(host, new);
        std::thread::sleep(Duration::from_secs(1));
        let mut all = [("a", 1, address("one"), ""), ("b", 2, address("two"), ""), ("c", 3, "10.78.2.33", "")];
        all[at].2 = new;
        tell(&nodes, &share("auto", &all));
        println!("{host} moved: reached after {:?}", reaches(&nodes[0], &nodes[moved], 10));
        reaches(&nodes[moved], &nodes[0], 1472);
    }
    // What somebody removes comes again.
    let link = nodes[0].ids().link();
    line(&nodes[0], &format!("ip link del {link}"));
    println!("the device is removed: reached after {:?}", reaches(&nodes[0], &nodes[2], 10));
    line(&nodes[0], "ip route flush proto 98");
    println!("the routes are removed: reached after {:?}", reaches(&nodes[0], &nodes[2], 10));
    // An agent's end changes nothing, and its start neither.
    let stands = line(&nodes[0], "ip route; ip -o link; bridge fdb");
    nodes[0].stop();
    reaches(&nodes[0], &nodes[2], 10);
    nodes[0].run();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(line(&nodes[0], "ip route; ip -o link; bridge fdb"), stands);
    // They leave.
    tell(&nodes[..1], &alone);
    wait_until("nothing of the others is left on a", KNOWN, || {
        let now = kernel(&nodes[0]);
        if now == before[0] { Ok(()) } else { Err(now) }
    });
    for (node, before) in nodes.iter_mut().zip(&before) {
        node.remove();
        let after = kernel(node).replace("10.78.1.22", address("two")).replace("10.78.2.33", address("three"));
        assert_eq!(&after, before, "{}", node.name);
    }
}

#[test]
fn what_is_cut_comes_back_by_itself_and_lossy_and_slow_lines_carry_all() {
    let (segments, nodes) = three("cuts", "auto");
    let (a, b, c) = (&nodes[0], &nodes[1], &nodes[2]);
    reaches(a, c, 10);
    segments.cut();
    assert!(asks(&a.pod, &c.pod_address, 10, Duration::from_secs(1)).is_none(), "cut");
    reaches(a, b, 10);
    segments.restore();
    println!("restored: reached after {:?}", reaches(a, c, 10));
    // A cable.
    segments.hosts.plug("two", false);
    assert!(asks(&a.pod, &b.pod_address, 10, Duration::from_secs(1)).is_none(), "unplugged");
    segments.hosts.plug("two", true);
    println!("plugged in: reached after {:?}", reaches(a, b, 10));
    segments.lossy(10);
    let took = sends(&a.pod, &c.pod_address, 8 * MEGABYTE, Duration::from_secs(60)).expect("in spite of loss");
    let lost = segments.hosts.inside("router", "iptables -nvxL FORWARD");
    let lost: u32 =
        lost.lines().find(|line| line.contains("DROP ")).and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap();
    println!("8 megabytes, 10 of 100 packets lost ({lost} were): {took:?}");
    assert!(lost > 0, "the line is lossy");
    segments.lossy(0);
    segments.slow(Some("8mbit"));
    let took = sends(&a.pod, &c.pod_address, MEGABYTE, Duration::from_secs(60)).expect("slowly");
    println!("a megabyte at 8 Mbit/s: {took:?}");
    assert!(took > Duration::from_millis(800), "the line is slow");
    segments.slow(None);
}

#[test]
fn vxlan_from_a_stranger_is_dropped_and_a_peers_is_not() {
    let (mut segments, nodes) = three("stranger", "auto");
    let (a, c) = (&nodes[0], &nodes[2]);
    reaches(a, c, 10);
    // It knows everything: the network's number, the port, the device's address, the pod's.
    segments.add("four", "lan", "10.78.1.4");
    let (ids, mac) = (a.ids(), line(a, "cat /sys/class/net/bvx-*/address"));
    segments.hosts.inside(
        "four",
        &format!(
            "ip link add forged type vxlan id {} dstport 6262 remote 10.78.1.1 local 10.78.1.4 && ip link set forged up
             ip addr add 10.244.9.9/32 dev forged && ip route add 10.244.1.0/24 via 10.244.1.0 dev forged onlink src 10.244.9.9
             ip neigh add 10.244.1.0 lladdr {} dev forged",
            ids.vni,
            mac.trim()
        ),
    );
    let stranger = segments.hosts.name("four");
    let heard = || a.echo.heard.load(Ordering::Relaxed);
    let before = heard();
    asks(&stranger, &a.pod_address, 10, Duration::from_secs(1));
    let table = line(a, &format!("nft list table ip {}", ids.table()));
    assert_eq!(heard(), before, "the pod heard of it: {table}");
    assert!(table.contains("counter packets") && !table.contains("counter packets 0 "), "{table}");
    // So it would have been heard.
    line(a, &format!("nft flush chain ip {} input", ids.table()));
    asks(&stranger, &a.pod_address, 10, Duration::from_secs(1));
    assert!(heard() > before, "without the rule the forged packet does arrive");
    reaches(c, a, 10);
}

#[test]
fn agents_of_one_machine_share_the_tunnel_and_each_removes_its_own() {
    let mut segments = Segments::new("shared");
    let nodes = [("a", "one", 1), ("d", "one", 4), ("c", "three", 3)];
    let all = share("auto", &[("a", 1, address("one"), ""), ("d", 4, address("one"), ""), ("c", 3, address("three"), "")]);
    let mut nodes: Vec<Node> =
        nodes.map(|(name, host, third)| Node::start(&mut segments.hosts, "uid-shared", name, host, third, &all)).into();
    // Another cluster on the same hosts, with the same plan.
    let others = share("auto", &[("a", 21, address("one"), ""), ("c", 23, address("three"), "")]);
    let others: Vec<Node> = [("a", "one", 21), ("c", "three", 23)]
        .map(|(name, host, third)| Node::start(&mut segments.hosts, "uid-other", name, host, third, &others))
        .into();
    for (from, to) in [(0, 2), (1, 2), (2, 0), (2, 1), (0, 1)] {
        reaches(&nodes[from], &nodes[to], 1472);
    }
    reaches(&others[0], &others[1], 1472);
    reaches(&others[1], &others[0], 1472);
    let doctor = |node: &Node, more: &str| line(node, &format!("{} doctor network {more}", env!("CARGO_BIN_EXE_bramble")));
    let told = doctor(&nodes[0], "");
    assert!(told.lines().count() == 8 && told.lines().all(|line| line.starts_with("needed")), "{told}");
    // One agent is removed in order.
    nodes[0].remove();
    reaches(&nodes[1], &nodes[2], 1472);
    reaches(&others[0], &others[1], 1472);
    // One dies, and somebody sweeps after it. The other cluster's stays.
    nodes[1].stop();
    reaches(&nodes[1], &nodes[2], 10);
    let told = doctor(&nodes[1], "");
    assert!(told.contains("left over  link: bvx-") && told.contains("bramble doctor network --remove"), "{told}");
    let swept = doctor(&nodes[1], "--remove");
    assert!(swept.lines().all(|line| line.starts_with("removed")) && swept.lines().count() == 3, "{swept}");
    let json = doctor(&nodes[1], "-o json");
    assert!(!json.contains("\"needed\":false") && json.matches("\"needed\":true").count() == 3, "{json}");
    assert_eq!(doctor(&nodes[1], "--remove"), "nothing to remove\n");
    reaches(&others[0], &others[1], 1472);
}

#[test]
fn without_the_right_nothing_is_made_and_the_agent_goes_on() {
    let (_segments, mut nodes) = three("rights", "auto");
    reaches(&nodes[0], &nodes[2], 10);
    nodes[0].remove();
    nodes[0].without_rights = true;
    nodes[0].run();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(line(&nodes[0], "ip route show proto 98; ip -o link show type vxlan"), "");
    // It ends when it is told to, and not before.
    nodes[0].stop();
    nodes[0].without_rights = false;
    nodes[0].run();
    reaches(&nodes[0], &nodes[2], 10);
}

#[test]
fn an_idle_overlay_does_nothing() {
    let (_segments, nodes) = three("idle", "auto");
    reaches(&nodes[0], &nodes[2], 10);
    std::thread::sleep(Duration::from_secs(2));
    // All threads of that name.
    let ticks = || -> u64 {
        let of = |task: std::path::PathBuf| {
            let text = std::fs::read_to_string(task.join("stat")).unwrap_or_default();
            let (name, rest) = text.rsplit_once(')').unwrap_or_default();
            let fields: Vec<&str> = rest.split_whitespace().collect();
            // utime and stime, behind the state and what is before them.
            name.ends_with("(overlay").then(|| fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap())
        };
        std::fs::read_dir("/proc/self/task").unwrap().flatten().filter_map(|task| of(task.path())).sum()
    };
    let (before, began) = (ticks(), Instant::now());
    std::thread::sleep(Duration::from_secs(5));
    let used = ticks() - before;
    println!("{used} ticks of 10 ms in {:?} for three overlays", began.elapsed());
    // Of 500 for one that is busy; another test on this machine makes a look longer.
    assert!(used <= 5, "busy while nothing happens");
}
