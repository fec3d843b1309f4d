//! A node without an agent: a bridge with a pod on it, and the overlay's own task, told what the test tells.

use std::sync::Arc;
use std::thread::JoinHandle;

use bramble::agent::node_network::{NodeNetwork, NodeNetwork6};
use bramble::agent::overlay::run::{Parts, keep, remove};
use bramble::agent::overlay::wireguard;
use bramble::agent::overlay::{Ids, netlink};
use bramble::api::Object;
use bramble::api::core::node::WIREGUARD_KEY;
use bramble::clock::SystemClock;
use bramble::link::network::ClusterNetwork;
use bramble::link::share::Share;
use rustix::thread::CapabilitySet;
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::hosts::Hosts;
use super::inside::{Echo, enter, inside};

/// A share of these nodes: name, range's third number, address, annotation.
pub fn share(back_end: &str, nodes: &[(&str, u8, &str, &str)]) -> Arc<Share> {
    let peers = nodes.iter().map(|(name, third, address, annotation)| {
        let object = json!({
            "metadata": {"name": name, "annotations": {"bramble/overlay": annotation}},
            "spec": {"podCIDRs": [format!("10.244.{third}.0/24")]},
            "status": {"addresses": [{"type": "InternalIP", "address": address}]},
        });
        ((*name).to_owned(), Arc::new(Object::from_value(object).unwrap()))
    });
    let network = ClusterNetwork { pods: "10.244.0.0/16".into(), back_end: back_end.into(), ..ClusterNetwork::default() };
    Arc::new(Share { network: Some(network), peers: peers.collect(), ..Share::default() })
}

/// The same of a dual-stack cluster, with the IPv6 addresses of hosts that have one.
pub fn dual(share: &Share, addresses: &[(&str, &str)]) -> Arc<Share> {
    let mut share = share.clone();
    share.network.as_mut().unwrap().pods6 = "fd12:0:0:100::/56".into();
    for (name, object) in &mut share.peers {
        let mut node = object.to_value();
        let third: u8 = node["spec"]["podCIDRs"][0].as_str().unwrap().split('.').nth(2).unwrap().parse().unwrap();
        node["spec"]["podCIDRs"].as_array_mut().unwrap().push(json!(format!("fd12:0:0:1{third:02x}::/64")));
        for (_, address) in addresses.iter().filter(|(of, _)| of == name) {
            node["status"]["addresses"].as_array_mut().unwrap().push(json!({"type": "InternalIP", "address": address}));
        }
        *object = Arc::new(Object::from_value(node).unwrap());
    }
    Arc::new(share)
}

/// The same share with what these nodes tell of their WireGuard.
pub fn with_keys(share: &Share, nodes: &[Node]) -> Arc<Share> {
    let mut share = share.clone();
    for node in nodes {
        if let Some(peer) = share.peers.get_mut(&node.name) {
            Arc::make_mut(peer).set_at(&["metadata", "annotations", WIREGUARD_KEY], node.told.borrow().as_str());
        }
    }
    Arc::new(share)
}

/// A node on a host.
pub struct Node {
    pub name: String,
    pub host: String,
    pub uid: String,
    /// The pod's network namespace, and its address.
    pub pod: String,
    pub pod_address: String,
    /// The same number in the node's IPv6 range; the pod has it where the node was started in a dual-stack cluster.
    pub pod_address6: String,
    /// What answers in the pod.
    pub echo: Echo,
    pub net: watch::Sender<Arc<Share>>,
    own: watch::Sender<Option<NodeNetwork>>,
    /// What it tells of its WireGuard.
    pub told: watch::Sender<String>,
    data_dir: tempfile::TempDir,
    running: Option<(CancellationToken, JoinHandle<()>)>,
    /// Who encrypts, of its next overlay.
    pub choice: wireguard::Choice,
    /// Its next overlay runs without CAP_NET_ADMIN.
    pub without_rights: bool,
}

impl Node {
    /// Makes the bridge and the pod, and starts the overlay with this share.
    pub fn start(hosts: &mut Hosts, uid: &str, name: &str, host: &str, third: u8, share: &Arc<Share>) -> Self {
        Self::encrypting(hosts, uid, name, host, third, share, wireguard::Choice::User)
    }

    /// The same, of which this one encrypts: by [`Node::start`] it is the agent itself, whatever this machine's kernel can.
    #[allow(clippy::too_many_arguments)]
    pub fn encrypting(
        hosts: &mut Hosts,
        uid: &str,
        name: &str,
        host: &str,
        third: u8,
        share: &Arc<Share>,
        choice: wireguard::Choice,
    ) -> Self {
        let (pod, bridge) = (format!("pod{third}"), format!("br-pods{third}"));
        hosts.add_bare(&pod);
        let pod_namespace = hosts.name(&pod);
        hosts.inside(
            host,
            &format!(
                "echo 1 > /proc/sys/net/ipv4/ip_forward
                 ip link add {bridge} type bridge forward_delay 0 && ip addr add 10.244.{third}.1/24 dev {bridge} && ip link set {bridge} up
                 ip link add pod{third} type veth peer name eth0 netns {pod_namespace}
                 ip link set pod{third} master {bridge} && ip link set pod{third} up"
            ),
        );
        hosts.inside(
            &pod,
            &format!(
                "ip addr add 10.244.{third}.2/24 dev eth0 && ip link set eth0 up && ip route add default via 10.244.{third}.1"
            ),
        );
        let prefix = format!("fd12:0:0:1{third:02x}:");
        let dual = share.network.as_ref().is_some_and(|network| !network.pods6.is_empty());
        if dual {
            let forward = "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding";
            hosts.inside(host, &format!("{forward} && ip addr add {prefix}:1/64 dev {bridge} nodad"));
            hosts.inside(&pod, &format!("ip addr add {prefix}:2/64 dev eth0 nodad && ip route add default via {prefix}:1"));
        }
        let v6 =
            NodeNetwork6 { range: format!("{prefix}:/64").parse().unwrap(), gateway: format!("{prefix}:1").parse().unwrap() };
        let network = NodeNetwork {
            range: format!("10.244.{third}.0/24").parse().unwrap(),
            gateway: format!("10.244.{third}.1").parse().unwrap(),
            bridge: Some(bridge),
            v6: dual.then_some(v6),
        };
        let mut node = Self {
            name: name.to_owned(),
            host: hosts.name(host),
            uid: uid.to_owned(),
            echo: Echo::start(&pod_namespace),
            pod: pod_namespace,
            pod_address: format!("10.244.{third}.2"),
            pod_address6: format!("{prefix}:2"),
            net: watch::channel(share.clone()).0,
            own: watch::channel(Some(network)).0,
            told: watch::Sender::default(),
            data_dir: tempfile::tempdir().unwrap(),
            running: None,
            without_rights: false,
            choice,
        };
        node.run();
        node
    }

    pub fn ids(&self) -> Ids {
        Ids::new(&self.uid, &self.name)
    }

    /// Starts the overlay.
    pub fn run(&mut self) {
        let stop = CancellationToken::new();
        let (changes, changed) = watch::channel(0);
        let (net, own) = (self.net.subscribe(), self.own.subscribe());
        let direct = watch::channel(Default::default()).0;
        let ((tunnels, wanted), seen) = (watch::channel(None), changed.clone());
        let parts = Parts { cluster_uid: self.uid.clone(), node: self.name.clone(), net, own, changed, direct, tunnels };
        let (data_dir, told, choice) = (self.data_dir.path().to_owned(), self.told.clone(), self.choice);
        let (token, namespace, without_rights) = (stop.clone(), self.host.clone(), self.without_rights);
        let thread = std::thread::Builder::new().name("overlay".to_owned()).spawn(move || {
            enter(&namespace);
            if without_rights {
                let mut rights = rustix::thread::capabilities(None).unwrap();
                rights.effective.remove(CapabilitySet::NET_ADMIN);
                rights.permitted.remove(CapabilitySet::NET_ADMIN);
                rustix::thread::set_capabilities(None, rights).unwrap();
            }
            runtime().block_on(async {
                let ends = wireguard::run::Parts { choice, data_dir, wanted, changed: seen, told, clock: SystemClock::start() };
                let serve = wireguard::run::serve(ends, token.clone());
                tokio::join!(netlink::follow(changes, token.clone()), keep(parts, token), serve)
            });
        });
        self.running = Some((stop, thread.unwrap()));
    }

    /// Ends the overlay, as the agent's end does: what it made stays.
    pub fn stop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            stop.cancel();
            thread.join().unwrap();
        }
    }

    /// Takes away what is the node's, as when it is uninstalled.
    pub fn remove(&mut self) {
        self.stop();
        inside(&self.host, || runtime().block_on(remove(&self.uid, &self.name))).unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop();
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}
