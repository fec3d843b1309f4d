//! The network's parts of a node, put together: each hears the network's share and what the runtime has made of the node's own network,
//! and keeps its own piece of the kernel.
//!
//! ```text
//!  net share ─┬─▶ pod network ─▶ runtime ─▶ NodeNetwork ─┐   (range, bridge, NAT)
//!             ├─▶ overlay  ◀──────────────────────────────┤   (ways to the other nodes)
//!             ├─▶ proxy    ◀──────────────────────────────┤   (services)
//!             ├─▶ policy   ◀─── the node's own pods ◀─────┤   (who may reach whom)
//!             ├─▶ dns      ◀──────────────────────────────┘   (names)
//!             ├─▶ ingress                                     (HTTP from outside)
//!             ├─▶ announce                                    (load balancers' addresses)
//!             └─▶ mdns                                        (names in the local network)
//! ```

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::agent::config::AgentConfig;
use crate::agent::disk;
use crate::agent::dns::resolv_conf::OF_HOST;
use crate::agent::dns::{self, NameServer};
use crate::agent::node_network::NodeNetwork;
use crate::agent::pod_network::PodNetwork;
use crate::agent::policy::rules::LocalPods;
use crate::agent::runtime::Runtime;
use crate::agent::runtime::naming::Owner;
use crate::agent::runtime::run::Health;
use crate::agent::{announce, ingress, mdns, overlay, pod_network, policy, proxy};
use crate::clock::SystemClock;
use crate::error::Chain;
use crate::link::message::NodeEvent;
use crate::link::share::Share;
use crate::task::Supervisor;

/// What the parts work with.
pub(super) struct Parts {
    /// What makes the node's own network.
    pub(super) runtime: Arc<dyn Runtime>,
    /// The network's share.
    pub(super) share: watch::Receiver<Arc<Share>>,
    /// What the node's own network is to be: told by the share, heard by the runtime.
    pub(super) wanted: watch::Sender<Option<PodNetwork>>,
    /// What the runtime has made of that.
    pub(super) made: watch::Receiver<Option<NodeNetwork>>,
    /// Whether the runtime answers.
    pub(super) health: watch::Receiver<Health>,
    /// The node's own pods.
    pub(super) pods: watch::Receiver<Arc<LocalPods>>,
    /// Says whom pods ask for names.
    pub(super) names: watch::Sender<NameServer>,
    /// Counts up when the machine's interfaces changed: for who tells the node's addresses.
    pub(super) interfaces: watch::Sender<u64>,
    /// What people should know of a service.
    pub(super) events: mpsc::Sender<NodeEvent>,
    /// Says what others should know of the node's end of WireGuard.
    pub(super) wireguard: watch::Sender<String>,
}

/// Gives the parts' tasks to the supervisor.
pub(super) fn spawn(
    config: &AgentConfig,
    clock: SystemClock,
    parts: Parts,
    supervisor: &mut Supervisor,
    stop: &CancellationToken,
) {
    let Parts { runtime, share, wanted, made, health, pods, names, interfaces, events, wireguard } = parts;
    let (node, cluster) = (config.node.clone(), config.cluster_uid.clone());
    let id = super::owner(config).id();
    let (direct, direct_are) = watch::channel(BTreeSet::new());
    let own = pod_network::run::Parts {
        runtime,
        id: id.clone(),
        wanted: wanted.subscribe(),
        network: made.clone(),
        direct: direct_are,
        health,
    };
    supervisor.spawn("pod network", pod_network::run::run(own, stop.clone()));
    supervisor.spawn("own range", pod_network::run::follow(share.clone(), node.clone(), wanted, stop.clone()));
    let changed = interfaces.subscribe();
    let balancers =
        announce::run::Parts { cluster_uid: cluster.clone(), node: node.clone(), net: share.clone(), changed: changed.clone() };
    supervisor.spawn("announce", announce::run::keep(balancers, stop.clone()));
    supervisor.spawn("interfaces", overlay::netlink::follow(interfaces, stop.clone()));
    let (tunnels, tunnels_wanted) = watch::channel(None);
    let seen = changed.clone();
    let ways = overlay::run::Parts {
        cluster_uid: cluster.clone(),
        node: node.clone(),
        net: share.clone(),
        own: made.clone(),
        changed,
        direct,
        tunnels,
    };
    supervisor.spawn("overlay", overlay::run::keep(ways, stop.clone()));
    let ends = overlay::wireguard::run::Parts {
        choice: config.wireguard,
        data_dir: config.data_dir.clone(),
        wanted: tunnels_wanted,
        changed: seen,
        told: wireguard,
        clock,
    };
    supervisor.spawn("wireguard", overlay::wireguard::run::serve(ends, stop.clone()));
    let services =
        proxy::run::Parts { node, cluster, net: share.clone(), network: made.clone(), events, clock, check: proxy::run::CHECK };
    supervisor.spawn("proxy", proxy::run::run(services, stop.clone()));
    match config.dns_port {
        Some(port) => {
            let parts = dns::run::Parts {
                port,
                net: share.clone(),
                network: made.clone(),
                serving: names,
                resolv_conf: OF_HOST.iter().map(PathBuf::from).collect(),
                upstream_port: dns::run::PORT,
                clock,
            };
            supervisor.spawn("dns", dns::run::serve(parts, stop.clone()));
        }
        None => {
            names.send_replace(NameServer::Host);
        }
    }
    let names = mdns::run::Parts::everywhere(config.node.clone(), share.clone(), clock);
    supervisor.spawn("mdns", mdns::run::serve(names, stop.clone()));
    let place = policy::run::Place::of(policy_table(&id));
    supervisor.spawn("policy", policy::run::run(place, share.clone(), made, pods, stop.clone()));
    if config.ingress.http.is_some() || config.ingress.https.is_some() {
        let settings = ingress::run::Settings::at(config.ingress.http, config.ingress.https);
        supervisor.spawn("ingress", ingress::run::serve(settings, share, watch::Sender::default(), stop.clone()));
    }
}

fn policy_table(id: &str) -> String {
    format!("bramble-{id}-policy")
}

/// Takes away what a node's agent made in the kernel and keeps in memory, when the node is taken down for good. What does not go is told in the log:
/// `bramble doctor network` lists it.
pub async fn remove(owner: &Owner) {
    let Owner { cluster_uid, node } = owner;
    if let Err(error) = proxy::run::remove(cluster_uid, node) {
        tracing::warn!(error = %Chain(&error), "the services' rules stay");
    }
    if let Err(error) = policy::run::remove(&policy::run::Place::of(policy_table(&owner.id()))).await {
        tracing::debug!(error = %Chain(&error), "the policies' rules stay");
    }
    if let Err(error) = overlay::run::remove(cluster_uid, node).await {
        tracing::warn!(error = %Chain(&error), "the ways to other nodes stay");
    }
    if let Err(error) = announce::run::remove(cluster_uid, node).await {
        tracing::warn!(error = %Chain(&error), "load balancers' addresses stay");
    }
    pod_network::exec::remove(&owner.id()).await;
    disk::forget_in_memory(Path::new(disk::RUN), &owner.id());
}
