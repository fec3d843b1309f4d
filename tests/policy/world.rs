//! Two nodes on one LAN, and the pods of a small cluster on them.
//!
//! ```text
//!   lan 10.77.0.0/24 ── n1 .1 ── brpol 10.244.1.1/24 ── web .10, db .11, done with prod: shop .12
//!                    ── n2 .2 ── brpol 10.244.2.1/24 ── client .10, shopper .11 (prod), dns .12 (kube-system)
//!                    ── outside .9
//! ```
//!
//! In a dual-stack world each has an address of IPv6 as well: `fd00:77::N`, and pods `fd00:244:0:NODE::` with the number that they have in IPv4.
//!
//! Each node runs the agent's part for policies; what they are told is what the master makes of the pods and policies.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bramble::agent::node_network::{NodeNetwork, NodeNetwork6};
use bramble::agent::policy::rules::LocalPods;
use bramble::agent::policy::{LocalPod, Place, run};
use bramble::api::registry::{NAMESPACES, NETWORK_POLICIES, PODS};
use bramble::api::{Key, Object, Resource, Revision};
use bramble::dispatcher::policy::policies_of;
use bramble::link::network::ClusterNetwork;
use bramble::link::share::Share;
use bramble::store::{Op, View};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::hosts::Hosts;
use crate::sockets::{Server, enter, tcp, udp};
use crate::support::wait_until;

/// Namespace, name, node, last part of the address, ports.
const PODS_HERE: &[(&str, &str, u8, u8, &[u16])] = &[
    ("default", "web", 1, 10, &[80, 8080]),
    ("default", "db", 1, 11, &[80, 5432]),
    ("prod", "shop", 1, 12, &[80]),
    ("default", "client", 2, 10, &[80]),
    ("prod", "shopper", 2, 11, &[80]),
    ("kube-system", "dns", 2, 12, &[53]),
];

/// The cluster.
pub struct World {
    pub hosts: Hosts,
    label: String,
    dual: bool,
    view: View,
    namespaces: Vec<String>,
    pub servers: BTreeMap<&'static str, Server>,
    pub agents: BTreeMap<&'static str, Agent>,
}

/// A node's part for policies, in the node's network namespace.
pub struct Agent {
    pub net: watch::Sender<Arc<Share>>,
    pub network: watch::Sender<Option<NodeNetwork>>,
    pub local: watch::Sender<Arc<LocalPods>>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl World {
    /// A world of IPv4.
    pub fn new(label: &str) -> Self {
        Self::with(label, false)
    }

    /// One of both families.
    pub fn dual(label: &str) -> Self {
        Self::with(label, true)
    }

    fn with(label: &str, dual: bool) -> Self {
        let mut hosts = Hosts::new(&format!("pol{label}"));
        for (host, last) in [("n1", 1), ("n2", 2), ("outside", 9)] {
            hosts.add(host, &format!("10.77.0.{last}/24"));
            if dual {
                hosts.inside(host, &format!("ip addr add fd00:77::{last}/64 dev eth0 nodad"));
            }
        }
        for (node, other) in [(1, 2), (2, 1)] {
            hosts.inside(
                &format!("n{node}"),
                &format!(
                    "sysctl -qw net.ipv4.ip_forward=1 net.bridge.bridge-nf-call-iptables=1 && ip link add brpol type bridge forward_delay 0 && \
                     ip addr add 10.244.{node}.1/24 dev brpol && ip link set brpol up && ip route add 10.244.{other}.0/24 via 10.77.0.{other}"
                ),
            );
            if dual {
                hosts.inside(
                    &format!("n{node}"),
                    &format!(
                        "sysctl -qw net.ipv6.conf.all.forwarding=1 net.bridge.bridge-nf-call-ip6tables=1 && \
                         ip addr add fd00:244:0:{node}::1/64 dev brpol nodad && ip -6 route add fd00:244:0:{other}::/64 via fd00:77::{other}"
                    ),
                );
                hosts.inside("outside", &format!("ip -6 route add fd00:244:0:{node}::/64 via fd00:77::{node}"));
            }
            // As Docker has it: connections are tracked from the start.
            hosts.inside(
                &format!("n{node}"),
                "nft 'add table ip nat; add chain ip nat POSTROUTING { type nat hook postrouting priority 100; }; \
                 add rule ip nat POSTROUTING ip saddr 10.244.0.0/16 ip daddr != { 10.244.0.0/16, 10.77.0.0/24 } masquerade'",
            );
            hosts.inside("outside", &format!("ip route add 10.244.{node}.0/24 via 10.77.0.{node}"));
        }
        let label = format!("bt-pod{label}-{}", std::process::id());
        let mut world = Self {
            hosts,
            label,
            dual,
            view: View::new(Revision(1)),
            namespaces: Vec::new(),
            servers: BTreeMap::new(),
            agents: BTreeMap::new(),
        };
        for (name, team) in [("default", ""), ("prod", "prod"), ("kube-system", "")] {
            world.put(&NAMESPACES, json!({"metadata": {"name": name, "labels": {"team": team}}}));
        }
        for (namespace, name, node, last, ports) in PODS_HERE {
            world.add_pod(name, *node, *last);
            world.know_pod(namespace, name, *node, *last);
            let server = Server::start(&world.namespace(name), ports);
            world.servers.insert(name, server);
        }
        world.servers.insert("outside", Server::start(&world.namespace("outside"), &[80]));
        for node in [1, 2] {
            let agent = Agent::of(&world.node(node), node, "brpol", dual);
            world.agents.insert(if node == 1 { "n1" } else { "n2" }, agent);
        }
        world.tell();
        world
    }

    fn put(&mut self, resource: &'static Resource, object: Value) {
        let object = Object::from_value(object).unwrap();
        let revision = self.view.revision().next();
        self.view.apply(revision, Op::create(Key::of(resource, &object), object).into());
    }

    /// The network namespace of a node.
    pub fn node(&self, node: u8) -> String {
        self.hosts.namespace_of(&format!("n{node}"))
    }

    /// The network namespace of a pod, or of a host.
    pub fn namespace(&self, name: &str) -> String {
        if matches!(name, "n1" | "n2" | "outside") { self.hosts.namespace_of(name) } else { format!("{}-{name}", self.label) }
    }

    /// Makes a pod's network: a cable from the bridge of its node.
    pub fn add_pod(&mut self, name: &str, node: u8, last: u8) {
        self.add_pod_on(name, &self.node(node), "brpol", [10, 244, node, last].into());
    }

    /// The same on another bridge, in the namespace of a node.
    pub fn add_pod_on(&mut self, name: &str, node: &str, bridge: &str, address: Ipv4Addr) {
        let namespace = self.namespace(name);
        ip(&format!("netns add {namespace}"));
        self.namespaces.push(namespace.clone());
        let [a, b, c, last] = address.octets();
        let port = format!("pod{c}-{last}");
        ip(&format!("-n {node} link add {port} type veth peer name eth0 netns {namespace}"));
        ip(&format!("-n {node} link set {port} master {bridge} up"));
        ip(&format!("-n {namespace} addr add {address}/24 dev eth0"));
        ip(&format!("-n {namespace} link set eth0 up"));
        ip(&format!("-n {namespace} link set lo up"));
        ip(&format!("-n {namespace} route add default via {a}.{b}.{c}.1"));
        if self.dual {
            ip(&format!("-n {namespace} addr add {}/64 dev eth0 nodad", six(address)));
            ip(&format!("-n {namespace} -6 route add default via fd00:244:0:{c}::1"));
        }
    }

    /// Has the master know of a pod: its label `app` is its name.
    pub fn know_pod(&mut self, namespace: &str, name: &str, node: u8, last: u8) {
        let address = Ipv4Addr::new(10, 244, node, last);
        let mut ips = vec![json!({"ip": address})];
        if self.dual {
            ips.push(json!({"ip": six(address)}));
        }
        let ports = json!([{"name": "http", "containerPort": if name == "web" { 8080 } else { 80 }}]);
        self.put(
            &PODS,
            json!({"metadata": {"namespace": namespace, "name": name, "uid": name, "labels": {"app": name}},
                "spec": {"nodeName": format!("n{node}"), "containers": [{"ports": ports}]}, "status": {"phase": "Running", "podIPs": ips}}),
        );
    }

    /// Applies a policy of the namespace `default`, and tells the nodes.
    pub fn apply(&mut self, name: &str, spec: Value) {
        self.apply_in("default", name, spec);
    }

    /// Applies a policy, and tells the nodes.
    pub fn apply_in(&mut self, namespace: &str, name: &str, spec: Value) {
        self.put(&NETWORK_POLICIES, json!({"metadata": {"namespace": namespace, "name": name, "uid": name}, "spec": spec}));
        self.tell();
    }

    /// Deletes all policies, and tells the nodes.
    pub fn delete_policies(&mut self) {
        let keys: Vec<(Key, Revision)> = self
            .view
            .list(&NETWORK_POLICIES, None)
            .map(|policy| (Key::of(&NETWORK_POLICIES, policy), policy.revision()))
            .collect();
        for (key, seen) in keys {
            let revision = self.view.revision().next();
            self.view.apply(revision, Op::delete(key, seen).into());
        }
        self.tell();
    }

    /// What the master makes of it.
    pub fn share(&self) -> Share {
        Share { network: Some(ClusterNetwork::default()), policies: policies_of(&self.view), ..Share::default() }
    }

    /// Tells the nodes.
    pub fn tell(&self) {
        let share = Arc::new(self.share());
        for agent in self.agents.values() {
            agent.net.send_replace(share.clone());
        }
    }

    /// Where a pod or a host is.
    pub fn address(&self, name: &str) -> Ipv4Addr {
        match name {
            "n1" => Ipv4Addr::new(10, 77, 0, 1),
            "n2" => Ipv4Addr::new(10, 77, 0, 2),
            "outside" => Ipv4Addr::new(10, 77, 0, 9),
            pod => {
                let (.., node, last, _) = PODS_HERE.iter().find(|(_, name, ..)| *name == pod).expect("a pod of this world");
                Ipv4Addr::new(10, 244, *node, *last)
            }
        }
    }

    /// The same in IPv6.
    pub fn address6(&self, name: &str) -> Ipv6Addr {
        let address = self.address(name);
        match address.octets() {
            [10, 77, .., last] => Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, last.into()),
            _ => six(address),
        }
    }

    /// Lets a pod speak from its own address to an address of the link.
    pub fn as_source(&self, pod: &str, link: &str) {
        inside(&self.namespace(pod), &format!("ip -6 route replace {link}/128 dev eth0 src {}", self.address6(pod)));
    }

    /// Whether one reaches another, in words as `tcp/80`; by IPv6: `tcp6/80`.
    pub fn reaches(&self, from: &str, to: &str, port: &str) -> bool {
        let (protocol, number) = port.split_once('/').unwrap();
        let (protocol, v6) = protocol.strip_suffix('6').map_or((protocol, false), |protocol| (protocol, true));
        let number = number.parse::<u16>().unwrap();
        let to = if v6 { SocketAddr::from((self.address6(to), number)) } else { (self.address(to), number).into() };
        if protocol == "udp" { udp(&self.namespace(from), to) } else { tcp(&self.namespace(from), to) }
    }

    /// Waits until all of these hold: `client -> web tcp/80` reaches, `client -x web tcp/80` does not.
    #[track_caller]
    pub fn expect(&self, what: &str, wanted: &str) {
        let wanted: Vec<&str> = wanted.split(';').map(str::trim).filter(|line| !line.is_empty()).collect();
        wait_until(what, Duration::from_secs(15), || {
            let wrong: Vec<&str> = std::thread::scope(|scope| {
                let look = |line: &&str| {
                    let words: Vec<&str> = line.split_whitespace().collect();
                    let [from, arrow, to, port] = words[..] else { panic!("{line}") };
                    self.reaches(from, to, port) != (arrow == "->")
                };
                let asked: Vec<_> = wanted.iter().map(|line| (*line, scope.spawn(move || look(line)))).collect();
                asked.into_iter().filter_map(|(line, wrong)| wrong.join().unwrap().then_some(line)).collect()
            });
            if wrong.is_empty() { Ok(()) } else { Err(format!("not so: {wrong:?}")) }
        });
    }

    /// Whether a node has a table of policies.
    pub fn ours(&self, node: &str) -> bool {
        self.has(node, "ip")
    }

    /// Whether it has one of a family, in nft's word for it.
    pub fn has(&self, node: &str, family: &str) -> bool {
        let tables = self.hosts.inside(node, "nft list tables");
        tables.lines().any(|table| table == format!("table {family} bramble-0000000{}-policy", &node[1..]))
    }
}

impl Agent {
    /// On this node, in this network namespace, with this bridge.
    pub fn on(namespace: &str, node: u8, bridge: &str) -> Self {
        Self::of(namespace, node, bridge, false)
    }

    /// The same in a world of both families.
    pub fn of(namespace: &str, node: u8, bridge: &str, dual: bool) -> Self {
        let v6 = |node: u8| NodeNetwork6 {
            range: format!("fd00:244:0:{node}::/64").parse().unwrap(),
            gateway: format!("fd00:244:0:{node}::1").parse().unwrap(),
        };
        let network = NodeNetwork {
            range: format!("10.244.{node}.0/24").parse().unwrap(),
            gateway: Ipv4Addr::new(10, 244, node, 1),
            bridge: Some(bridge.to_owned()),
            v6: dual.then(|| v6(node)),
        };
        let (net, net_now) = watch::channel(Arc::new(Share::default()));
        let (network, network_now) = watch::channel(Some(network));
        let (local, local_now) = watch::channel(Arc::new(LocalPods::new()));
        let stop = CancellationToken::new();
        let (until, namespace) = (stop.clone(), namespace.to_owned());
        let thread = std::thread::spawn(move || {
            // The runtime's threads, and the processes that it starts, are in the namespace of the thread that makes them.
            enter(&namespace);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let place = Place { look: Duration::from_secs(1), ..Place::of(format!("bramble-0000000{node}-policy")) };
            runtime.block_on(run(place, net_now, network_now, local_now, until));
        });
        Self { net, network, local, stop, thread: Some(thread) }
    }

    /// Has the node know of pods of its own.
    pub fn knows(&self, pods: &[(Ipv4Addr, &str, &str)]) {
        let pods = pods.iter().map(|(address, namespace, app)| {
            let labels = [("app".to_owned(), (*app).to_owned())].into();
            (*address, LocalPod { namespace: (*namespace).to_owned(), labels })
        });
        self.local.send_replace(Arc::new(pods.collect()));
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.agents.clear();
        self.servers.clear();
        for namespace in &self.namespaces {
            let _ = Command::new("ip").args(["netns", "delete", namespace]).status();
        }
    }
}

/// A pod's address of IPv6: with the same number in its node's range.
fn six(address: Ipv4Addr) -> Ipv6Addr {
    let [.., node, last] = address.octets();
    Ipv6Addr::new(0xfd00, 0x244, 0, node.into(), 0, 0, 0, last.into())
}

#[track_caller]
fn ip(line: &str) {
    let output = Command::new("ip").args(line.split(' ')).output().expect("iproute2");
    assert!(output.status.success(), "ip {line} (as root): {}", String::from_utf8_lossy(&output.stderr));
}

/// Runs a line of shell in a network namespace.
#[track_caller]
pub fn inside(namespace: &str, line: &str) -> String {
    let output = Command::new("ip").args(["netns", "exec", namespace, "sh", "-c", line]).output().expect("iproute2");
    assert!(output.status.success(), "{line} (as root): {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
