//! Hands: the network that this node's pods are on, and their addresses.
//!
//! Two cases. The node has a part of the pod network: then it has a network of its own, whose pods' addresses are ours to choose and ours
//! to turn round (`agent/pod_network`). Or nobody says what its part is, because the master is older than that: then, after some patience,
//! all nodes of the cluster on this host share a network whose addresses the engine chooses. Pods of such a time run on there when the
//! node gets its part; that network goes with the last of them.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::Ordering;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{Ipam, IpamConfig, NetworkCreateRequest};
use bollard::query_parameters::ListNetworksOptions;
use ipnet::{Ipv4Net, Ipv6Net};

use super::{QUICK, SLOW, Shared, lock};
use crate::agent::node_network::{NodeNetwork, NodeNetwork6};
use crate::agent::pod_network::addresses::Addresses;
use crate::agent::pod_network::plan::{self, Found, Step};
use crate::agent::pod_network::{PodNetwork, PodNetwork6, exec};
use crate::agent::runtime::{Failure, naming};
use crate::api::Uid;
use crate::routes;

/// So many addresses are tried, should somebody else on the network have one that was picked.
pub(super) const ADDRESSES: u32 = 3;
/// Source: docs.docker.com, "Bridge network driver", options; Podman's compat API takes the first three names as well.
const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
const MTU: &str = "com.docker.network.driver.mtu";
const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
/// Since Docker 28 pods' own addresses are reached from other hosts only with this; an older one keeps it and does not know it.
const GATEWAY_MODE: &str = "com.docker.network.bridge.gateway_mode_ipv4";
/// The same of IPv6.
const GATEWAY_MODE6: &str = "com.docker.network.bridge.gateway_mode_ipv6";
/// What Podman calls [`MTU`] when it tells.
const PODMAN_MTU: &str = "mtu";

/// The network that pods are put on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// The engine's id.
    pub(super) id: String,
    /// What it was to be when it was found; `None`: it is the one that all nodes share.
    wanted: Option<PodNetwork>,
    /// What it is, in place of that, as long as pods are on it.
    kept: Option<PodNetwork>,
    /// Whether the shared one of another time is gone.
    alone: bool,
}

impl Known {
    /// What the node's own network is.
    fn own(&self) -> Option<&PodNetwork> {
        self.kept.as_ref().or(self.wanted.as_ref())
    }

    /// The IPv6 address of the pod that has this one; `None`: the network has no such addresses.
    pub(super) fn address6(&self, address: Ipv4Addr) -> Option<Ipv6Addr> {
        let own = self.own()?;
        own.v6?.own.of_pod(own.range, address)
    }
}

impl Shared {
    /// What the node's network is to be; waits for it, once, as long as the settings say.
    async fn wanted(&self) -> Option<PodNetwork> {
        let mut told = self.settings.pod_network.clone();
        let known = told.wait_for(Option::is_some);
        match tokio::time::timeout_at(self.born + self.settings.network_patience, known).await {
            Ok(Ok(wanted)) => wanted.clone(),
            // Nobody says, or not in time.
            Ok(Err(_)) | Err(_) => None,
        }
    }

    /// The network for the next pod; made when it is not there.
    pub(super) async fn ensure_network(&self, docker: &Docker) -> Result<Known, Failure> {
        let wanted = self.wanted().await;
        let mut known = self.network.lock().await;
        if let Some(there) = known.as_ref().filter(|there| there.wanted == wanted) {
            return Ok(there.clone());
        }
        let before = known.take();
        let found = match wanted {
            Some(wanted) => self.ensure_own(docker, wanted, before.as_ref()).await?,
            None => Known { id: self.ensure_shared(docker).await?, ..Known::default() },
        };
        *known = Some(found.clone());
        drop(known);
        self.tell_network(&found);
        Ok(found)
    }

    /// Looks anew what the node's own network is, and makes it when it is not there.
    pub(super) async fn node_network(&self) -> Result<Option<NodeNetwork>, Failure> {
        let docker = self.client().await?;
        let Some(wanted) = self.wanted().await else { return Ok(None) };
        let mut known = self.network.lock().await;
        let before = known.take();
        let found = self.ensure_own(&docker, wanted, before.as_ref()).await?;
        *known = Some(found.clone());
        drop(known);
        self.tell_network(&found);
        Ok(self.settings.node_network.borrow().clone())
    }

    /// Tells what the network is: its bridge may have come with the first pod.
    pub(super) fn tell_network(&self, known: &Known) {
        let told = known.own().map(|own| {
            let bridge = self.has_bridge(own.range).then(|| self.owner().bridge());
            NodeNetwork { range: own.range, gateway: own.gateway(), bridge, v6: own.v6.map(|v6| v6.own) }
        });
        self.settings.node_network.send_if_modified(|before| {
            let other = *before != told;
            *before = told;
            other
        });
    }

    /// The node's own network.
    async fn ensure_own(&self, docker: &Docker, wanted: PodNetwork, before: Option<&Known>) -> Result<Known, Failure> {
        let alone = before.is_some_and(|before| before.alone);
        let found = self.own_network(docker).await?;
        if let Some(range) = found.as_ref().and_then(|found| found.range) {
            self.look_for_bridge(range);
        }
        let mut kept = None;
        let id = match (plan::next(&wanted, !self.translates().await, found.as_ref()), found) {
            (Step::Use, Some(found)) => found.id,
            (Step::Keep(why), Some(found)) => {
                let v6 = found.v6.map(|own| {
                    let pods = wanted.v6.map(|v6| v6.pods).filter(|pods| pods.contains(&own.range));
                    PodNetwork6 { own, pods: pods.unwrap_or(own.range) }
                });
                kept = found.range.map(|range| PodNetwork { range, v6, ..wanted.clone() });
                if let Some(why) = why
                    && before.is_none_or(|before| before.kept != kept || before.wanted.as_ref() != Some(&wanted))
                {
                    tracing::warn!("{why}");
                }
                found.id
            }
            (Step::Replace, Some(found)) => {
                tracing::info!(network = self.owner().node_network(), range = %wanted.range, "makes the network of this node's pods anew");
                self.remove_network(docker, &found.id).await?;
                self.make_own(docker, &wanted).await?
            }
            (Step::Make, _) | (_, None) => self.make_own(docker, &wanted).await?,
        };
        Ok(Known { id, wanted: Some(wanted), kept, alone })
    }

    /// Makes it; once more, should its bridge turn out to be where no rule of ours reaches it.
    async fn make_own(&self, docker: &Docker, wanted: &PodNetwork) -> Result<String, Failure> {
        let translates = self.translates().await;
        let id = self.make_own_once(docker, wanted, !translates).await?;
        self.look_for_bridge(wanted.range);
        if !translates || self.translates().await {
            return Ok(id);
        }
        self.remove_network(docker, &id).await?;
        self.make_own_once(docker, wanted, true).await
    }

    async fn remove_network(&self, docker: &Docker, id: &str) -> Result<(), Failure> {
        match self.within(QUICK, docker.remove_network(id)).await {
            Ok(Ok(())) | Ok(Err(Error::DockerResponseServerError { status_code: 404, .. })) => Ok(()),
            Ok(Err(error)) => Err(self.failure(&error)),
            Err(_) => Err(Failure::Unavailable("Docker does not answer".to_owned())),
        }
    }

    /// Whether this agent turns round what leaves its pods' network.
    async fn translates(&self) -> bool {
        let can = *self.translates.get_or_init(exec::can_write_tables).await;
        can && !self.elsewhere.load(Ordering::Relaxed)
    }

    /// Notes where the engine makes its bridges. Podman makes one with the first pod, and masquerades in any case.
    fn look_for_bridge(&self, range: Ipv4Net) {
        let elsewhere = self.engine().makes_bridges_at_once() && !self.has_bridge(range);
        if self.elsewhere.swap(elsewhere, Ordering::Relaxed) != elsewhere && elsewhere {
            tracing::warn!(
                "Docker makes its networks on another machine than this agent's, or in another network namespace: what pods send outside is left to Docker, and pods of other nodes are out of reach"
            );
        }
    }

    /// Whether the bridge of that range is on this machine.
    fn has_bridge(&self, range: Ipv4Net) -> bool {
        let bridge = self.owner().bridge();
        let ours = |route: &routes::Route| route.device == bridge && route.range == range && !route.forwarded;
        routes::of_this_machine().iter().any(ours)
    }

    async fn make_own_once(&self, docker: &Docker, wanted: &PodNetwork, masquerade: bool) -> Result<String, Failure> {
        let owner = self.owner();
        if wanted.v6.is_some()
            && let Err(error) = exec::forward6().await
        {
            // Who keeps the host's rules says it, for as long as it is so.
            tracing::debug!(%error, "the host does not forward IPv6 yet");
        }
        let mut options = vec![
            (BRIDGE_NAME, owner.bridge()),
            (MTU, wanted.mtu.to_string()),
            // What leaves the pod network bears the node's address by a rule of ours, and nothing else does, where there can be one.
            (MASQUERADE, masquerade.to_string()),
        ];
        if self.engine().takes_gateway_mode() {
            let modes = [GATEWAY_MODE].into_iter().chain(wanted.v6.map(|_| GATEWAY_MODE6));
            options.extend(modes.map(|mode| (mode, "nat-unprotected".to_owned())));
        }
        let labels = [(naming::CLUSTER, owner.cluster_uid.clone()), (naming::NODE, owner.node.clone())];
        let owned = |list: Vec<(&str, String)>| list.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let range = |subnet: String, gateway: String| IpamConfig {
            subnet: Some(subnet),
            gateway: Some(gateway),
            ..IpamConfig::default()
        };
        let mut ranges = vec![range(wanted.range.to_string(), wanted.gateway().to_string())];
        ranges.extend(wanted.v6.map(|v6| range(v6.own.range.to_string(), v6.own.gateway.to_string())));
        let subnets = ranges.iter().filter_map(|range| range.subnet.as_deref()).collect::<Vec<_>>().join(" and ");
        let made = docker.create_network(NetworkCreateRequest {
            name: owner.node_network(),
            driver: Some("bridge".to_owned()),
            labels: Some(owned(labels.into())),
            options: Some(owned(options)),
            ipam: Some(Ipam { config: Some(ranges), ..Ipam::default() }),
            // Said either way: an engine may be set to make networks with IPv6.
            enable_ipv6: Some(wanted.v6.is_some()),
            ..NetworkCreateRequest::default()
        });
        self.ask(SLOW, made).await.map(|made| made.id).map_err(|failure| match failure {
            Failure::Failed(words) => Failure::Failed(format!(
                "cannot make the network of this node's pods, {subnets}: {words}. If another network of this host has such addresses (`docker network ls`, `ip route`), remove it, or give the pods others (`network.pods` of the master)"
            )),
            other => other,
        })
    }

    /// What there is under the node's network's name.
    async fn own_network(&self, docker: &Docker) -> Result<Option<Found>, Failure> {
        let name = self.owner().node_network();
        let Some(id) = self.networks(docker, &name).await?.into_iter().next() else { return Ok(None) };
        let there = match self.within(QUICK, docker.inspect_network(&id, None)).await {
            Ok(Ok(there)) => there,
            Ok(Err(Error::DockerResponseServerError { status_code: 404, .. })) => return Ok(None),
            Ok(Err(error)) => return Err(self.failure(&error)),
            Err(_) => return Err(Failure::Unavailable("Docker does not answer".to_owned())),
        };
        let configs = there.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
        let mut ranges =
            configs.into_iter().map(|config| (config.subnet.unwrap_or_default(), config.gateway.unwrap_or_default()));
        let v6 = ranges.clone().find_map(|(subnet, gateway)| {
            let range = subnet.parse::<Ipv6Net>().ok()?;
            Some(NodeNetwork6 { range, gateway: gateway.parse().ok()? })
        });
        let (subnet, gateway) = ranges.find(|(subnet, _)| subnet.parse::<Ipv4Net>().is_ok()).unwrap_or_default();
        let options = there.options.unwrap_or_default();
        Ok(Some(Found {
            id,
            range: subnet.parse().ok(),
            gateway,
            v6,
            mtu: options.get(MTU).or_else(|| options.get(PODMAN_MTU)).and_then(|mtu| mtu.parse().ok()),
            masquerade: options.get(MASQUERADE).and_then(|does| does.parse().ok()),
            empty: there.containers.unwrap_or_default().is_empty(),
        }))
    }

    /// The id of the network that all nodes of the cluster on this host share.
    async fn ensure_shared(&self, docker: &Docker) -> Result<String, Failure> {
        let name = self.owner().network();
        let mut found = self.networks(docker, &name).await?;
        if found.is_empty() {
            let made = docker.create_network(NetworkCreateRequest {
                name: name.clone(),
                driver: Some("bridge".to_owned()),
                labels: Some(HashMap::from([(naming::CLUSTER.to_owned(), self.owner().cluster_uid.clone())])),
                ..NetworkCreateRequest::default()
            });
            let made = self.ask(SLOW, made).await?.id;
            // Docker lets two nodes make the same network at the same moment: the first by time and id is kept.
            found = self.networks(docker, &name).await?;
            if found.first().is_some_and(|first| *first != made) {
                self.ask(QUICK, docker.remove_network(&made)).await?;
            }
        }
        found.into_iter().next().ok_or_else(|| Failure::Failed("the network is gone as soon as made".to_owned()))
    }

    /// The ids of this cluster's networks of that name on this host, oldest first.
    async fn networks(&self, docker: &Docker, name: &str) -> Result<Vec<String>, Failure> {
        let label = format!("{}={}", naming::CLUSTER, self.owner().cluster_uid);
        let options = ListNetworksOptions { filters: Some(HashMap::from([("label".to_owned(), vec![label])])) };
        let mut found: Vec<(String, String)> = self
            .ask(QUICK, docker.list_networks(Some(options)))
            .await?
            .into_iter()
            .filter(|network| network.name.as_deref() == Some(name))
            .filter_map(|network| Some((network.created.unwrap_or_default(), network.id?)))
            .collect();
        found.sort();
        Ok(found.into_iter().map(|(_, id)| id).collect())
    }

    /// Removes the network that the nodes shared before this one had its own, once nobody is on it.
    pub(super) async fn tidy_networks(&self, docker: &Docker) -> Result<(), Failure> {
        let mut known = self.network.lock().await;
        let Some(known) = known.as_mut().filter(|known| known.wanted.is_some() && !known.alone) else { return Ok(()) };
        let mut alone = true;
        for id in self.networks(docker, &self.owner().network()).await? {
            let there = self.ask(QUICK, docker.inspect_network(&id, None)).await?;
            if !there.containers.unwrap_or_default().is_empty() {
                alone = false;
                continue;
            }
            match self.within(QUICK, docker.remove_network(&id)).await {
                Ok(Ok(())) => {
                    tracing::info!(network = self.owner().network(), "no pod is on the network of before any more: it is gone");
                }
                // Another node's pod came in between, or it was quicker.
                Ok(Err(error)) => {
                    tracing::debug!(%error, "the network of before stays");
                    alone = false;
                }
                Err(_) => return Err(Failure::Unavailable("Docker does not answer".to_owned())),
            }
        }
        known.alone = alone;
        Ok(())
    }

    /// Removes the node's network with all rules about it, and the shared one if nobody else is on it.
    pub(super) async fn remove_networks(&self) -> Result<(), Failure> {
        let docker = self.client().await?;
        let mut known = self.network.lock().await;
        *known = None;
        *lock(&self.addresses) = None;
        let mut all = self.networks(&docker, &self.owner().node_network()).await?;
        all.extend(self.networks(&docker, &self.owner().network()).await?);
        for id in all {
            match self.within(QUICK, docker.remove_network(&id)).await {
                // 403: another node of the cluster still uses it, or Docker counts an endpoint that is none.
                Ok(Err(Error::DockerResponseServerError { status_code: 403, message })) => {
                    let there = self.ask(QUICK, docker.inspect_network(&id, None)).await;
                    if there.is_ok_and(|network| network.containers.unwrap_or_default().is_empty()) {
                        tracing::warn!(
                            network = %id,
                            message,
                            "nothing is in this network and Docker does not let it go; after Docker's next restart `docker network rm` removes it"
                        );
                    }
                }
                Ok(Ok(())) | Ok(Err(Error::DockerResponseServerError { status_code: 404 | 409, .. })) => {}
                Ok(Err(error)) => return Err(self.failure(&error)),
                Err(_) => return Err(Failure::Unavailable("Docker does not answer".to_owned())),
            }
        }
        self.settings.node_network.send_replace(None);
        exec::remove(&self.owner().id()).await;
        Ok(())
    }
}

impl Shared {
    /// The pod's address on that network; `None`: the engine chooses.
    pub(super) async fn pick_address(&self, docker: &Docker, network: &Known, uid: &Uid) -> Result<Option<Ipv4Addr>, Failure> {
        let Some(own) = network.own() else { return Ok(None) };
        if lock(&self.addresses).is_none() {
            // What an agent before this one gave, the newest sandbox of each pod first.
            let mut sandboxes = self.list(docker, None).await?;
            sandboxes.sort_by_key(|(_, labels)| std::cmp::Reverse(labels.attempt));
            let mut all = Addresses::default();
            for (_, labels) in &sandboxes {
                labels.address.into_iter().for_each(|address| all.found(&labels.pod.uid, address));
            }
            lock(&self.addresses).get_or_insert(all);
        }
        let picked = lock(&self.addresses).get_or_insert_default().pick(own.range, uid);
        let full = || Failure::Failed(format!("no address is left in {} for another pod of this node", own.range));
        picked.ok_or_else(full).map(Some)
    }

    /// The pod is gone.
    pub(super) fn release_address(&self, uid: &Uid) {
        if let Some(all) = lock(&self.addresses).as_mut() {
            all.release(uid);
        }
    }

    /// Whether a start failed because somebody else has the address; then the pod gets another one.
    pub(super) fn refuses_address(&self, uid: &Uid, address: Option<Ipv4Addr>, words: &str) -> bool {
        let Some(address) = address.filter(|address| self.engine().says_address_taken(*address, words)) else { return false };
        tracing::warn!(%address, "somebody else on this node's network has a pod's address; the pod gets another one");
        if let Some(all) = lock(&self.addresses).as_mut() {
            all.refused(uid);
        }
        true
    }
}
