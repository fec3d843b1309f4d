//! Hands: keeps the kernel's rules as the network's share wants them, for as long as the agent runs. They stay when it ends.
//!
//! In:       the network's share, the node's own network.
//! Out:      the kernel's table of each family of addresses (`netlink.rs`), or node ports in user space; the relay to an API that listens on
//!           loopback; words in the log; events of services whose ports programs of the machine have.
//! Never:    decides who serves (`table.rs`), or takes the table away by itself ([`remove`] does, when a node is taken down).

mod fallback;
mod ports;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::change::{Step, change, whole};
use super::conntrack::{Judge, Ranges};
use super::disk;
use super::netlink::{self, KernelError};
use super::ruleset::{Base, Ruleset, ruleset};
use super::table::{Here, Table, table};
use super::tcp;
use crate::agent::family::Family;
use crate::agent::node_network::NodeNetwork;
use crate::agent::overlay::Ids;
use crate::agent::runtime::naming::node_id;
use crate::backoff::Policy;
use crate::clock::SystemClock;
use crate::error::Chain;
use crate::link::message::NodeEvent;
use crate::link::network::ClusterNetwork;
use crate::link::share::Share;
use crate::rng::Rng;
use fallback::Fallback;
use ports::Ports;

/// One change after another takes at least so long: what comes in between is made at once.
const PACE: Duration = Duration::from_millis(50);
/// How often is looked whether somebody else has changed what is ours.
pub const CHECK: Duration = Duration::from_secs(30);
/// After the kernel has refused.
const RETRY: Policy = Policy { first: Duration::from_millis(200), cap: Duration::from_secs(60) };
/// Words that are remembered as said; beyond, all may be said again.
const SAID: usize = 1000;

/// What the proxy needs.
pub struct Parts {
    /// The node's name.
    pub node: String,
    /// The cluster's uid.
    pub cluster: String,
    /// The network's share.
    pub net: watch::Receiver<Arc<Share>>,
    /// The node's own network.
    pub network: watch::Receiver<Option<NodeNetwork>>,
    /// What people should know of a service.
    pub events: mpsc::Sender<NodeEvent>,
    /// For affinity in user space.
    pub clock: SystemClock,
    /// How often is looked whether the rules are as they were left: [`CHECK`].
    pub check: Duration,
}

/// The name of a node's table, of both families: several nodes may be on one host.
#[must_use]
pub fn table_name(cluster: &str, node: &str) -> String {
    format!("bramble-{}", node_id(cluster, node))
}

/// Takes a node's tables away, when the node is taken down for good.
///
/// # Errors
/// When the kernel does not.
pub fn remove(cluster: &str, node: &str) -> Result<(), KernelError> {
    let name = table_name(cluster, node);
    take_away(Family::V6, &name).and(take_away(Family::V4, &name))
}

/// Nothing is made of a family that has no table: the kernel may not even know IPv6.
fn take_away(family: Family, name: &str) -> Result<(), KernelError> {
    match netlink::content(family, name)? {
        Some(_) => netlink::apply(family, name, &[Step::AddTable, Step::DeleteTable]),
        None => Ok(()),
    }
}

/// Serves the services until `stop`.
pub async fn run(parts: Parts, stop: CancellationToken) {
    let mut proxy = Proxy {
        name: table_name(&parts.cluster, &parts.node),
        fallback: None,
        ports: Ports::new(parts.events.clone()),
        parts,
        stop: stop.clone(),
        told: false,
        sides: BTreeMap::new(),
        relay: None,
        said: BTreeSet::new(),
        rng: Rng::from_os("proxy"),
    };
    let mut wake = Instant::now();
    loop {
        tokio::select! { biased;
            () = stop.cancelled() => break,
            Ok(()) = proxy.parts.net.changed() => proxy.told = true,
            Ok(()) = proxy.parts.network.changed() => {}
            () = tokio::time::sleep_until(wake) => {}
        }
        wake = Instant::now() + proxy.look().await;
        tokio::select! { biased;
            () = stop.cancelled() => break,
            () = tokio::time::sleep(PACE) => {}
        }
    }
    proxy.close_relay().await;
}

/// What the kernel holds, as far as we know.
struct Held {
    ruleset: Ruleset,
    generation: u32,
    content: Option<u32>,
}

struct Relay {
    gateway: Ipv4Addr,
    to: u16,
    port: u16,
    stop: CancellationToken,
    /// One task, which ends with its owner.
    task: JoinSet<()>,
}

/// One family of addresses.
#[derive(Default)]
struct Side {
    held: Option<Held>,
    /// What was forwarded last.
    table: Option<Table>,
    failures: u32,
    /// Whether it is known that the kernel holds nothing of it.
    gone: bool,
}

/// Where pods and services are, in one family of addresses.
struct Nets {
    range: IpNet,
    gateway: IpAddr,
    pods: IpNet,
    services: Option<IpNet>,
}

impl Nets {
    /// IPv4 first; IPv6 where the cluster and the node have it.
    fn of(cluster: &ClusterNetwork, network: &NodeNetwork) -> Vec<Nets> {
        let nets = |range: IpNet, gateway, pods: &str, services: &str| Nets {
            range,
            gateway,
            pods: pods.parse().unwrap_or(range),
            services: services.parse().ok(),
        };
        let v4 = nets(network.range.into(), network.gateway.into(), &cluster.pods, &cluster.services);
        let v6 = network.v6.filter(|_| !cluster.services6.is_empty());
        let v6 = v6.map(|v6| nets(v6.range.into(), v6.gateway.into(), &cluster.pods6, &cluster.services6));
        [v4].into_iter().chain(v6).collect()
    }
}

struct Proxy {
    name: String,
    parts: Parts,
    stop: CancellationToken,
    /// Whether the master has spoken since this agent runs.
    told: bool,
    sides: BTreeMap<Family, Side>,
    relay: Option<Relay>,
    fallback: Option<Fallback>,
    ports: Ports,
    said: BTreeSet<String>,
    rng: Rng,
}

impl Proxy {
    /// Makes what is wanted; says when to look again.
    async fn look(&mut self) -> Duration {
        let share = self.parts.net.borrow_and_update().clone();
        let network = self.parts.network.borrow_and_update().clone();
        // Not told yet: what the kernel has is better than nothing.
        let (Some(cluster), Some(network)) = (&share.network, network) else { return self.parts.check };
        if !self.told && network.bridge.is_some() && self.is_there().await {
            return self.parts.check;
        }
        self.keep_relay(cluster, &network).await;
        let addresses = own_addresses(&share, &self.parts.node);
        let relay = self.relay.as_ref().map(|relay| relay.port);
        let mut tables = Vec::new();
        for nets in Nets::of(cluster, &network) {
            let Nets { range, gateway, .. } = nets;
            let relay = relay.filter(|_| gateway.is_ipv4());
            let here = Here { node: &self.parts.node, range, gateway, addresses: &addresses, relay };
            let mut new = table(&share, &here);
            new.keep_unknown(self.sides.get(&here.family()).and_then(|side| side.table.as_ref()));
            for words in std::mem::take(&mut new.words) {
                self.say(words);
            }
            tables.push((nets, new));
        }
        let Some(bridge) = network.bridge else {
            let why = "the pods' bridge is not in this network namespace".to_owned();
            return self.without_kernel(why, tables).await;
        };
        let mut again = self.parts.check;
        for (nets, new) in &tables {
            let base = Base {
                table: self.name.clone(),
                bridge: bridge.clone(),
                range: nets.range,
                gateway: nets.gateway,
                tunnel: Ids::new(&self.parts.cluster, &self.parts.node).link(),
                pods: nets.pods,
                services: nets.services,
                bridge_filter: true,
            };
            let family = base.family();
            match self.in_kernel(base, new.clone()).await {
                Ok(next) => again = again.min(next),
                Err(error) if family == Family::V4 => return self.without_kernel(error.to_string(), tables).await,
                Err(error) => self.say(format!("{error}: services have no IPv6 on this node")),
            }
        }
        if !tables.iter().any(|(nets, _)| nets.gateway.is_ipv6()) {
            self.leave(Family::V6).await;
        }
        // Node ports are the same in both families.
        if let Some(Side { held: Some(_), table: Some(table), .. }) = self.sides.get(&Family::V4) {
            self.ports.look(&self.parts.node, table, &addresses, self.parts.check).await;
        }
        again
    }

    /// Sees to it that the kernel holds nothing of a family that is not wanted.
    async fn leave(&mut self, family: Family) {
        if self.sides.get(&family).is_some_and(|side| side.gone) {
            return;
        }
        let name = self.name.clone();
        let gone = match tokio::task::spawn_blocking(move || take_away(family, &name)).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                self.say(format!("the kernel's rules of services stay, though nobody keeps them: {}", Chain(&error)));
                false
            }
            Err(_) => false,
        };
        self.sides.insert(family, Side { gone, ..Side::default() });
    }

    /// Whether the kernel holds the table of an agent before this one. That is newer than what this one has on its disk (written each ten
    /// minutes at most), and old endpoints are worse than no look: it stays until the master speaks. After a reboot there is none.
    async fn is_there(&self) -> bool {
        let name = self.name.clone();
        self.sides.values().all(|side| side.held.is_none())
            && matches!(
                tokio::task::spawn_blocking(move || netlink::content(Family::V4, &name)).await,
                Ok(Ok(Some(content))) if content > 0
            )
    }

    /// Has the kernel hold one family; says when to look again.
    ///
    /// # Errors
    /// When it cannot be had at all.
    async fn in_kernel(&mut self, mut base: Base, new: Table) -> Result<Duration, KernelError> {
        let family = base.family();
        let side = self.sides.entry(family).or_default();
        side.gone = false;
        let held = side.held.take();
        let (old, judged) = (side.table.clone(), new.clone());
        let work = move || {
            base.bridge_filter = disk::bridge_filter(family);
            let ports = if base.bridge_filter { disk::let_pods_reach_themselves(&base.bridge) } else { 0 };
            if ports > 0 {
                tracing::debug!(bridge = base.bridge, ports, "pods may reach themselves");
            }
            let wanted = ruleset(&base, &new);
            let held = keep(held, wanted)?;
            let ranges = Ranges { services: base.services, pods: base.pods, own: base.range };
            let flows = Judge::of(old.as_ref(), &new, ranges).map(|judge| netlink::forget_stale(family, &judge));
            match flows {
                Some(Ok(0)) | None => {}
                Some(Ok(flows)) => tracing::debug!(flows, "UDP flows to who serves no more are forgotten"),
                Some(Err(error)) => {
                    tracing::warn!(error = %Chain(&error), "UDP flows to who serves no more may go on for a minute");
                }
            }
            Ok::<Held, KernelError>(held)
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(Ok(held)) => {
                if self.fallback.take().is_some() {
                    tracing::info!("services are in the kernel now");
                }
                self.sides.insert(family, Side { held: Some(held), table: Some(judged), ..Side::default() });
                Ok(self.parts.check)
            }
            Ok(Err(error @ (KernelError::Rights | KernelError::Missing))) => Err(error),
            Ok(Err(error)) => {
                self.say(format!("services are not as they should be: {}; tried again", Chain(&error)));
                // The next try is with the whole table; what was forwarded before is still what UDP flows are compared with.
                let side = self.sides.entry(family).or_default();
                side.failures = side.failures.saturating_add(1);
                Ok(RETRY.jittered(side.failures, &mut self.rng))
            }
            Err(error) => {
                tracing::error!(%error, "the proxy's work died");
                Ok(self.parts.check)
            }
        }
    }

    /// Node ports in user space, and nothing else.
    async fn without_kernel(&mut self, why: String, tables: Vec<(Nets, Table)>) -> Duration {
        self.say(format!(
            "{why}: services are reached at the nodes' ports only, through this process; their cluster addresses cannot be served"
        ));
        let held: Vec<Family> = self.sides.iter().filter(|(_, side)| side.held.is_some()).map(|(family, _)| *family).collect();
        for family in held {
            // Nobody would keep its rules.
            self.leave(family).await;
        }
        let clock = self.parts.clock;
        let fallback = self.fallback.get_or_insert_with(|| Fallback::new(clock));
        let served: Vec<(Family, &Table)> = tables.iter().map(|(nets, table)| (Family::of(nets.gateway), table)).collect();
        for words in fallback.serve(&served) {
            self.say(words);
        }
        for (nets, table) in tables {
            self.sides.entry(Family::of(nets.gateway)).or_default().table = Some(table);
        }
        self.parts.check
    }

    /// Keeps the relay to an API on loopback, where there is one.
    async fn keep_relay(&mut self, cluster: &ClusterNetwork, network: &NodeNetwork) {
        let (gateway, to) = (network.gateway, cluster.api_on_loopback);
        let stands = self.relay.as_mut().is_some_and(|relay| {
            (relay.gateway, relay.to) == (gateway, to) && relay.task.try_join_next().is_none() && !relay.task.is_empty()
        });
        if stands {
            return;
        }
        self.close_relay().await;
        if to == 0 {
            return;
        }
        let bound = async {
            let listener = TcpListener::bind((gateway, 0)).await?;
            let port = listener.local_addr()?.port();
            Ok::<_, std::io::Error>((listener, port))
        };
        match bound.await {
            Ok((listener, port)) => {
                let stop = self.stop.child_token();
                let api = SocketAddr::from((Ipv4Addr::LOCALHOST, to));
                let mut task = JoinSet::new();
                task.spawn(tcp::serve(listener, move |_| Some(api), stop.clone()));
                self.relay = Some(Relay { gateway, to, port, stop, task });
            }
            Err(error) => self
                .say(format!("pods do not reach the API, which listens on loopback only: cannot listen at {gateway}: {error}")),
        }
    }

    async fn close_relay(&mut self) {
        if let Some(mut relay) = self.relay.take() {
            relay.stop.cancel();
            while relay.task.join_next().await.is_some() {}
        }
    }

    /// Once, as long as it is remembered.
    fn say(&mut self, words: String) {
        if self.said.len() >= SAID {
            self.said.clear();
        }
        if !self.said.contains(&words) {
            tracing::warn!("{words}");
            self.said.insert(words);
        }
    }
}

/// Makes the kernel hold this: the difference where what is ours is as we left it, else the whole.
fn keep(held: Option<Held>, wanted: Ruleset) -> Result<Held, KernelError> {
    let generation = netlink::generation()?;
    let held = match held {
        Some(held) if held.generation == generation => Some(held),
        Some(held) if held.ruleset.table == wanted.table && netlink::content(wanted.family, &wanted.table)? == held.content => {
            Some(held)
        }
        Some(_) => {
            tracing::warn!(table = wanted.table, "somebody has changed the rules of services: they are made anew");
            None
        }
        None => None,
    };
    let steps = held.as_ref().map_or_else(|| whole(&wanted), |held| change(&held.ruleset, &wanted));
    if let (Some(held), true) = (&held, steps.is_empty()) {
        return Ok(Held { ruleset: wanted, generation, content: held.content });
    }
    netlink::apply(wanted.family, &wanted.table, &steps)?;
    tracing::debug!(steps = steps.len(), whole = held.is_none(), "rules of services changed");
    Ok(Held { generation: netlink::generation()?, content: netlink::content(wanted.family, &wanted.table)?, ruleset: wanted })
}

/// The node's addresses, as the cluster knows them.
fn own_addresses(share: &Share, node: &str) -> Vec<IpAddr> {
    let addresses = share.peers.get(node).map(|node| node.list_at(&["status", "addresses"])).unwrap_or_default();
    addresses.iter().filter_map(|entry| entry.get("address")?.as_str()?.parse().ok()).collect()
}
