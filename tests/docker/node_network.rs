//! Each node has a network of its own: two agents on one engine, and a host outside. In a network namespace that is a machine of its
//! own, with an engine of its own, so that links, routes and rules can be compared as a whole.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bramble::agent::node_network::{NodeNetwork, NodeNetwork6};
use bramble::agent::pod_network::PodNetwork;
use bramble::agent::pod_network::addresses::Addresses;
use bramble::agent::pod_network::run::{Parts, run};
use bramble::agent::runtime::Runtime;
use bramble::agent::runtime::docker::DockerRuntime;
use bramble::agent::runtime::naming::Owner;
use bramble::agent::runtime::run::Health;
use bramble::api::Uid;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::engine::{Kind, OWN_SOCKET};
use crate::own_docker::OwnDocker;
use crate::support::{Agent, Cluster, deleted, docker, docker_command, pod, share, shell, skipped};

/// Answers with the address that it sees.
pub const PEER: &str = "busybox mkdir -p /www/cgi-bin; printf '#!/bin/sh\\necho; echo $REMOTE_ADDR\\n' > /www/cgi-bin/peer; \
    busybox chmod 755 /www/cgi-bin/peer; exec httpd -f -p 9000 -h /www";
const PODS: &str = "10.201.0.0/16";
/// The host outside, as the machine is towards it, and itself.
const UPLINK: &str = "198.18.0.1";
const OUTSIDE: &str = "198.18.0.2";

/// Runs a test of this file in a network namespace that is a machine of its own.
pub fn on_a_machine_of_its_own(test: &str) {
    if skipped() {
        return;
    }
    let test = ["--ignored", "--exact", test, "--nocapture"];
    let program = std::env::current_exe().unwrap();
    let (own, mut command) = match Kind::chosen() {
        Kind::Docker => {
            let own = OwnDocker::start_with_firewall();
            let mut command = Command::new("nsenter");
            command.arg(format!("--net=/proc/{}/ns/net", own.pid())).arg(program).args(test).env(OWN_SOCKET, own.socket());
            (Some(own), command)
        }
        Kind::Podman => {
            let mut command = Command::new("unshare");
            command.args(["--net", "--", "sh", "-c", "ip link set lo up; exec \"$@\"", "sh"]).arg(program).args(test);
            (None, command)
        }
    };
    let status = command.stdin(Stdio::null()).status().unwrap();
    drop(own);
    assert!(status.success(), "{status}");
}

/// Runs a line of shell on the machine; what it prints.
#[track_caller]
pub fn host(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Links, addresses, routes and rules, without counters and what the kernel numbers.
fn whole_machine() -> String {
    let text = host(
        "ip -o link | cut -d: -f2- | cut -d' ' -f1-3; ip -4 -o addr; ip route; nft -s list ruleset 2>/dev/null; \
        iptables-nft-save 2>/dev/null | grep -v '^#'",
    );
    let mut lines: Vec<&str> = text.lines().filter(|line| !line.starts_with(':')).map(str::trim_end).collect();
    lines.retain(|line| !line.trim().is_empty());
    lines.join("\n")
}

/// The network namespace of a host outside, at the end of a cable; it goes with this.
pub struct Outside(String);

impl Outside {
    pub fn plug_in() -> Self {
        let name = format!("bt-out-{}", std::process::id());
        host(&format!(
            "ip netns add {name} && ip link add up0 type veth peer name eth0 netns {name} && ip addr add {UPLINK}/24 dev up0 && \
             ip link set up0 up && ip netns exec {name} sh -c 'ip link set lo up; ip addr add {OUTSIDE}/24 dev eth0; ip link set eth0 up'"
        ));
        Self(name)
    }

    pub fn run(&self, line: &str) -> String {
        host(&format!("ip netns exec {} sh -c '{line}'", self.0))
    }

    /// A server there of what is in that folder.
    pub fn serve(&self, folder: &std::path::Path) -> std::process::Child {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0, "busybox", "httpd", "-f", "-p", "9000", "-h"]).arg(folder);
        let server = command.spawn().unwrap();
        std::thread::sleep(Duration::from_millis(300));
        server
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.0]).status();
    }
}

/// Deletes these pods, ends their nodes, and sees that the engine has nothing of the cluster any more.
pub async fn end(cluster: &Cluster, nodes: [(Node, Vec<Value>); 2]) {
    for (node, pods) in &nodes {
        node.agent.want(share(&pods.iter().cloned().map(deleted).collect::<Vec<_>>())).await;
    }
    for (node, pods) in nodes {
        for pod in pods {
            node.agent.until_gone(pod["metadata"]["name"].as_str().unwrap()).await;
        }
        let runtime = Arc::clone(&node.agent.runtime);
        node.kill().await;
        runtime.teardown().await.unwrap();
    }
    assert!(cluster.left().is_empty(), "{:?}", cluster.left());
}

/// An agent's heart with its network, as a node of this cluster.
pub struct Node {
    pub agent: Agent,
    told: watch::Receiver<Option<NodeNetwork>>,
    pub wanted: watch::Sender<Option<PodNetwork>>,
    owner: Owner,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    /// What is asked for keeps these open.
    _others: (watch::Sender<BTreeSet<std::net::Ipv4Addr>>, watch::Sender<Health>),
}

pub fn network(range: &str) -> PodNetwork {
    PodNetwork { range: range.parse().unwrap(), pods: PODS.parse().unwrap(), mtu: 1450, v6: None }
}

impl Node {
    pub fn start(cluster: &Cluster, run_dir: &std::path::Path, name: &str, wanted: Option<PodNetwork>) -> Self {
        let owner = Owner { cluster_uid: cluster.uid.clone(), node: name.to_owned() };
        let mut settings = cluster.settings();
        settings.owner = owner.clone();
        settings.run_dir = run_dir.join(name);
        settings.image_dir = run_dir.join(name).join("images");
        std::fs::create_dir_all(&settings.run_dir).unwrap();
        let (wants, wanted) = watch::channel(wanted);
        let (tells, told) = watch::channel(None);
        (settings.pod_network, settings.node_network) = (wanted.clone(), tells);
        settings.network_patience = Duration::from_secs(1);
        let agent = Agent::start_on(DockerRuntime::new(settings));
        let ((direct, is_direct), (health, is_well)) = (watch::channel(BTreeSet::new()), watch::channel(Health::Unknown));
        let parts = Parts {
            runtime: Arc::clone(&agent.runtime) as Arc<dyn Runtime>,
            id: owner.id(),
            wanted,
            network: told.clone(),
            direct: is_direct,
            health: is_well,
        };
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(parts, stop.clone()));
        Self { agent, told, wanted: wants, owner, stop, task, _others: (direct, health) }
    }

    /// Ends as `kill -9` would.
    pub async fn kill(self) {
        self.stop.cancel();
        self.task.await.unwrap();
        self.agent.kill().await;
    }

    /// Waits until the network's rules are there.
    pub async fn until_guarded(&mut self) -> NodeNetwork {
        let table = format!("bramble-{}-pods", self.owner.id());
        for _ in 0..600 {
            let there = self.told.borrow_and_update().clone().filter(|told| told.bridge.is_some());
            let through =
                host("iptables-nft -S 2>/dev/null || true").contains(&self.owner.id()) || Kind::chosen() == Kind::Podman;
            if let Some(network) = there.filter(|_| through && host("nft list tables").contains(&table)) {
                return network;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("never guarded: {:?}\n{}", self.told.borrow(), host("nft list ruleset; iptables-nft -S"));
    }

    /// Waits until its network has these IPv6 addresses, or none.
    pub async fn until_v6(&mut self, wanted: Option<NodeNetwork6>) {
        let is_so = |told: &Option<NodeNetwork>| told.as_ref().is_some_and(|told| told.v6 == wanted);
        tokio::time::timeout(Duration::from_secs(60), self.told.wait_for(is_so)).await.expect("told in time").unwrap();
    }

    /// Waits until the rules of its IPv6 addresses are there.
    pub async fn until_guarded6(&self) {
        let (table, comment) = (format!("table ip6 bramble-{}-pods", self.owner.id()), format!("bramble-{}", self.owner.id()));
        for _ in 0..600 {
            if host("nft list tables").contains(&table) && host("ip6tables-nft -S").contains(&comment) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("never guarded: {:?}\n{}", self.told.borrow(), host("nft list ruleset; ip6tables-nft -S"));
    }
}

fn address(status: &Value) -> String {
    status["podIP"].as_str().unwrap_or_default().to_owned()
}

/// As whom a pod is seen by what listens there.
#[track_caller]
pub fn seen_by(status: &Value, target: &str) -> String {
    let script = format!(
        "for n in 1 2 3; do busybox timeout 4 busybox wget -qO- http://{target}:9000/cgi-bin/peer 2>&1 && exit; sleep 1; done; echo NOBODY"
    );
    let seen = shell(status, 0, &script);
    assert!(
        !seen.ends_with("NOBODY"),
        "{target} does not answer: {seen}\n{}",
        host("ip route; iptables-nft -vS; nft list ruleset; ip -s link")
    );
    plain(&seen)
}

/// Without what marks an IPv4 address on a socket for both.
fn plain(address: &str) -> String {
    address.trim().trim_matches(['[', ']']).trim_start_matches("::ffff:").to_owned()
}

fn sandbox(owner: &Owner, uid: &str) -> String {
    let filters = [format!("label=bramble/node={}", owner.node), format!("label=bramble/pod-uid={uid}")];
    let all = docker(&[
        "ps",
        "-q",
        "--no-trunc",
        "--filter",
        "label=bramble/container=SANDBOX",
        "--filter",
        &filters[0],
        "--filter",
        &filters[1],
    ]);
    all.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn pods_of_two_nodes_see_each_others_own_addresses_and_nothing_is_left() {
    on_a_machine_of_its_own("node_network::two_nodes_and_a_host_outside");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the body of the test above, on a machine of its own"]
async fn two_nodes_and_a_host_outside() {
    let outside = Outside::plug_in();
    let cluster = Cluster::new();
    // An engine makes its chains with the first network.
    docker(&["network", "create", "--label", &format!("bramble/cluster={}", cluster.uid), "first"]);
    docker(&["network", "rm", "first"]);
    // As on a host where Docker was the first to forward.
    host("iptables-nft -P FORWARD DROP");
    let before = whole_machine();
    let folder = tempfile::tempdir().unwrap();
    let mut one = Node::start(&cluster, folder.path(), "test-1", Some(network("10.201.1.0/24")));
    let mut two = Node::start(&cluster, folder.path(), "test-2", Some(network("10.201.2.0/24")));
    let mut web = pod("web", &[("app", PEER)]);
    web["spec"]["containers"][0]["ports"] = json!([{"containerPort": 9000, "hostPort": 9080}]);
    let there = pod("there", &[("app", PEER)]);
    one.agent.want(share(std::slice::from_ref(&web))).await;
    two.agent.want(share(std::slice::from_ref(&there))).await;
    let (a, b) = (one.agent.until_ready("web").await, two.agent.until_ready("there").await);
    let (network_a, network_b) = (one.until_guarded().await, two.until_guarded().await);
    assert_eq!((network_a.gateway.to_string(), network_b.gateway.to_string()), ("10.201.1.1".into(), "10.201.2.1".into()));
    assert_eq!(network_a.bridge.as_deref(), Some(one.owner.bridge().as_str()));
    let (ip_a, ip_b) = (address(&a), address(&b));
    assert!(ip_a.starts_with("10.201.1.") && ip_b.starts_with("10.201.2."), "{ip_a} {ip_b}");
    assert_eq!(host(&format!("cat /proc/sys/net/ipv4/conf/{}/forwarding", one.owner.bridge())), "1");

    // Pods to pods, both ways, each as itself; the node to pods.
    assert_eq!((seen_by(&a, &ip_b), seen_by(&b, &ip_a)), (ip_a.clone(), ip_b.clone()));
    for (ip, gateway) in [(&ip_a, "10.201.1.1"), (&ip_b, "10.201.2.1")] {
        assert_eq!(plain(&host(&format!("busybox timeout 10 busybox wget -qO- http://{ip}:9000/cgi-bin/peer"))), gateway);
    }
    let mtu = shell(&a, 0, "cat /sys/class/net/eth0/mtu");
    assert_eq!(mtu, "1450");

    // To the outside as the node, which is all that the outside knows the way to.
    let www = folder.path().join("www/cgi-bin");
    std::fs::create_dir_all(&www).unwrap();
    std::fs::write(www.join("peer"), "#!/bin/sh\necho; echo $REMOTE_ADDR\n").unwrap();
    host(&format!("chmod 755 {}", www.join("peer").display()));
    let mut server = outside.serve(&folder.path().join("www"));
    assert_eq!((seen_by(&a, OUTSIDE), seen_by(&b, OUTSIDE)), (UPLINK.to_owned(), UPLINK.to_owned()));
    server.kill().unwrap();
    server.wait().unwrap();

    // A port of the node leads to its pod, from outside and from the node.
    let from_outside = plain(&outside.run(&format!("busybox timeout 10 busybox wget -qO- http://{UPLINK}:9080/cgi-bin/peer")));
    println!("behind hostPort the pod sees {from_outside}");
    let own = plain(&host(&format!("busybox timeout 10 busybox wget -qO- http://{UPLINK}:9080/cgi-bin/peer")));
    println!("and of the node {own}");
    // As a proxy of ours does it: what comes to a node port is turned to a pod, and passes the engine's firewall.
    host(&format!(
        "nft -f - <<'END'\ntable ip bramble-{}-test {{\n chain p {{\n  type nat hook prerouting priority dstnat; policy accept;\n  \
         ip daddr {UPLINK} tcp dport 31000 dnat to {ip_b}:9000\n }}\n}}\nEND",
        two.owner.id()
    ));
    assert_eq!(plain(&outside.run(&format!("busybox timeout 10 busybox wget -qO- http://{UPLINK}:31000/cgi-bin/peer"))), OUTSIDE);

    // The address stays with a new sandbox, and over an agent's death.
    let first = sandbox(&one.owner, "uid-web");
    docker(&["kill", &first]);
    let again = one
        .agent
        .until("web", "a new sandbox", |status| {
            crate::support::is_ready(status) && status["containerStatuses"][0]["restartCount"] == 1
        })
        .await;
    assert_ne!(sandbox(&one.owner, "uid-web"), first);
    assert_eq!(address(&again), ip_a);
    one.kill().await;
    let second = sandbox(&Owner { cluster_uid: cluster.uid.clone(), node: "test-1".into() }, "uid-web");
    docker(&["kill", &second]);
    let mut one = Node::start(&cluster, folder.path(), "test-1", Some(network("10.201.1.0/24")));
    // Another pod must not get it meanwhile.
    let other = pod("other", &[("app", PEER)]);
    one.agent.want(share(&[web.clone(), other.clone()])).await;
    let again = one
        .agent
        .until("web", "a new sandbox", |status| {
            crate::support::is_ready(status) && status["containerStatuses"][0]["restartCount"] == 2
        })
        .await;
    assert_eq!(address(&again), ip_a);
    let another = one.agent.until_ready("other").await;
    assert_ne!(address(&another), ip_a);
    assert_eq!(seen_by(&another, &ip_b), address(&another));

    // Who sweeps the host's firewall takes ours away; with the next look it is there again.
    host(&format!("nft delete table ip bramble-{}-pods", one.owner.id()));
    one.wanted.send_modify(|_| {});
    one.until_guarded().await;

    end(&cluster, [(one, vec![web, other]), (two, vec![there])]).await;
    assert_eq!(host("nft list tables").lines().filter(|line| line.contains("bramble")).count(), 0);
    // What Podman's plug-ins made for all networks stays.
    if Kind::chosen() == Kind::Docker {
        assert_eq!(whole_machine(), before);
    }
    drop(outside);
}

#[test]
fn a_node_that_is_told_late_goes_on_with_what_it_has() {
    on_a_machine_of_its_own("node_network::told_late");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the body of the test above, on a machine of its own"]
async fn told_late() {
    let cluster = Cluster::new();
    let folder = tempfile::tempdir().unwrap();
    let mut node = Node::start(&cluster, folder.path(), "test-1", None);
    let (old, new) = (pod("old", &[("app", PEER)]), pod("new", &[("app", PEER)]));
    node.agent.want(share(std::slice::from_ref(&old))).await;
    let before = node.agent.until_ready("old").await;
    assert!(!address(&before).starts_with("10.201.") && node.told.borrow().is_none(), "{before}");
    let networks =
        || docker(&["network", "ls", "--format", "{{.Name}}", "--filter", &format!("label=bramble/cluster={}", cluster.uid)]);
    assert_eq!(networks(), node.owner.network());

    // The master has said it now: the next pod is in the node's own network, and the one before runs on.
    node.wanted.send_replace(Some(network("10.201.7.0/24")));
    node.agent.want(share(&[old.clone(), new.clone()])).await;
    let status = node.agent.until_ready("new").await;
    assert!(address(&status).starts_with("10.201.7."));
    assert_eq!(node.until_guarded().await.range, "10.201.7.0/24".parse().unwrap());
    assert_eq!(
        (node.agent.status("old")["containerStatuses"][0]["restartCount"].clone(), networks().lines().count()),
        (json!(0), 2)
    );

    // With its last pod the network of before goes.
    node.agent.want(share(&[deleted(old), new.clone()])).await;
    node.agent.until_gone("old").await;
    for _ in 0..100 {
        if networks() == node.owner.node_network() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(networks(), node.owner.node_network());

    // Another range: kept as long as a pod is there, made anew then.
    node.wanted.send_replace(Some(network("10.201.8.0/24")));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(node.told.borrow().as_ref().unwrap().range, "10.201.7.0/24".parse().unwrap());
    node.agent.want(share(&[deleted(new)])).await;
    node.agent.until_gone("new").await;
    let third = pod("third", &[("app", PEER)]);
    node.wanted.send_modify(|_| {});
    for _ in 0..100 {
        if node.until_guarded().await.range == "10.201.8.0/24".parse().unwrap() || Kind::chosen() == Kind::Podman {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    node.agent.want(share(std::slice::from_ref(&third))).await;
    let status = node.agent.until_ready("third").await;
    assert!(address(&status).starts_with("10.201.8."), "{status}");

    // Somebody's own container on our network has the very address that a pod would be given: the pod gets another one.
    let wish = Addresses::default().pick("10.201.8.0/24".parse().unwrap(), &Uid("uid-unlucky".into())).unwrap();
    let label = format!("bramble/cluster={}", cluster.uid);
    let network = node.owner.node_network();
    docker(&[
        "run",
        "-d",
        "--name",
        "stranger",
        "--label",
        &label,
        "--network",
        &network,
        "--ip",
        &wish.to_string(),
        crate::support::BUSYBOX,
        "/bin/sleep",
        "600",
    ]);
    let unlucky = pod("unlucky", &[("app", PEER)]);
    node.agent.want(share(&[third, unlucky])).await;
    let status = node.agent.until_ready("unlucky").await;
    assert!(address(&status).starts_with("10.201.8.") && address(&status) != wish.to_string(), "{status}");
    assert!(!node.agent.reasons().iter().any(|reason| reason.starts_with("Failed")), "{:#?}", node.agent.events());

    let runtime = Arc::clone(&node.agent.runtime);
    node.kill().await;
    let mut strangers = docker_command();
    strangers.args(["rm", "-f", "stranger"]).stdout(Stdio::null());
    assert!(strangers.status().unwrap().success());
    runtime.teardown().await.unwrap();
    assert!(cluster.left().is_empty(), "{:?}", cluster.left());
}
