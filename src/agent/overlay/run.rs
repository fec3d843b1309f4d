//! Keeps the kernel as the overlay wants it, for as long as the agent lives. What it made stays when the agent ends, as pods do.
//!
//! Level-triggered: the share, the node's own network, the kernel's bell and a slow timer all say only "look".

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::netlink::{self, Families, NetlinkError};
use super::plan::{self, Change, Wanted};
use super::{Ids, filter, listing, peers, wireguard};
use crate::agent::exec::{self, ExecError};
use crate::agent::node_network::NodeNetwork;
use crate::backoff::Policy;
use crate::error::Chain;
use crate::link::share::Share;

/// What nobody told of: a table that somebody flushed, a neighbour that somebody removed.
const ANYWAY: Duration = Duration::from_secs(60);
/// Between tries.
const FAILED: Policy = Policy { first: Duration::from_secs(1), cap: Duration::from_secs(60) };
/// Looks until nothing is left to do: the device, then what needs its number; and one that somebody disturbed.
const ROUNDS: usize = 4;

/// What the overlay is told.
pub struct Parts {
    /// The cluster's uid.
    pub cluster_uid: String,
    /// This node's name.
    pub node: String,
    /// The network's share.
    pub net: watch::Receiver<Arc<Share>>,
    /// The node's own network.
    pub own: watch::Receiver<Option<NodeNetwork>>,
    /// Counts up when the kernel's network changed ([`netlink::follow`]).
    pub changed: watch::Receiver<u64>,
    /// Told: the machines that have a plain route to this node's pods, so that these need no other address towards them.
    pub direct: watch::Sender<BTreeSet<Ipv4Addr>>,
    /// Told: what the agent's end of WireGuard should be (`wireguard/run.rs`).
    pub tunnels: watch::Sender<Option<wireguard::Wanted>>,
}

/// Why a pass failed.
#[derive(Debug, thiserror::Error)]
enum PassError {
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error("cannot say from whom packets are taken")]
    Filter(#[source] ExecError),
    #[error("somebody undoes what is done")]
    Undone,
}

/// What was done and said before.
#[derive(Default)]
struct Past {
    /// The table that stands, as written.
    table: Option<String>,
    /// What was said last to people, and of a failure.
    faults: Vec<String>,
    failure: Option<String>,
    failures: u32,
    without_nft: bool,
}

/// Runs until `stop`.
pub async fn keep(parts: Parts, stop: CancellationToken) {
    let Parts { cluster_uid, node, mut net, mut own, mut changed, direct, tunnels } = parts;
    let ids = Ids::new(&cluster_uid, &node);
    let _here = claim(&ids.agent);
    let mut past = Past::default();
    let mut anyway = true;
    loop {
        changed.borrow_and_update();
        let (share, network) = (net.borrow_and_update().clone(), own.borrow_and_update().clone());
        // A master that does not know this node has nothing to say about its ways: they stay as they are.
        let known = share.network.is_some() && share.peers.contains_key(&node);
        if let Some(network) = network.filter(|_| known) {
            let done = pass(&ids, &node, &share, &network, &mut past, &tunnels, anyway).await;
            if let Ok(wanted) = &done {
                let now = wanted.direct();
                direct.send_if_modified(|told| std::mem::replace(told, now.clone()) != now);
            }
            past.tell(done.map(drop));
        }
        let again = if past.failures > 0 { FAILED.delay(past.failures) } else { ANYWAY };
        anyway = false;
        tokio::select! { biased;
            () = stop.cancelled() => return,
            Ok(()) = net.changed() => {}
            Ok(()) = own.changed() => {}
            Ok(()) = changed.changed() => {}
            () = tokio::time::sleep(again) => anyway = true,
        }
    }
}

async fn pass(
    ids: &Ids,
    node: &str,
    share: &Share,
    network: &NodeNetwork,
    past: &mut Past,
    tunnels: &watch::Sender<Option<wireguard::Wanted>>,
    anyway: bool,
) -> Result<Wanted, PassError> {
    let peers = peers::peers(share, node, network);
    // Of the cluster, not of this node: another agent's ways by the same device are to be seen.
    let dual = network.v6.is_some() || share.network.as_ref().is_some_and(|network| !network.pods6.is_empty());
    let families = if dual { Families::Both } else { Families::Ipv4 };
    for _ in 0..ROUNDS {
        let seen = netlink::read(families).await?;
        let wanted = plan::wanted(ids, &peers, network, &seen);
        past.tell_faults(&wanted.faults);
        // Before the device: no packet comes through it from a stranger.
        let filtered = past.filter(ids, &wanted, anyway).await;
        tunnels.send_if_modified(|told| {
            let other = *told != wanted.wireguard;
            told.clone_from(&wanted.wireguard);
            other
        });
        let mut changes = plan::changes(ids, &wanted, &seen);
        if filtered.is_err() {
            // Without the rules no tunnel is opened, but what must not go in the clear does not.
            changes.retain(|change| !matches!(change, Change::AddDevice(..)));
        }
        if changes.is_empty() {
            return filtered.map(|()| wanted);
        }
        tracing::debug!(?changes, "the overlay changes");
        netlink::apply(&ids.link(), changes).await?;
    }
    Err(PassError::Undone)
}

impl Past {
    async fn filter(&mut self, ids: &Ids, wanted: &Wanted, anyway: bool) -> Result<(), PassError> {
        let mut text = filter::table(ids, wanted);
        let has_ipv6 = |text: &str| text.contains("table ip6 ");
        if self.table.as_deref().is_some_and(has_ipv6) && !has_ipv6(&text) {
            // A cluster that has no IPv6 any more.
            text.push_str(&filter::removal_of("ip6", &ids.table()));
        }
        let stands = self.table.as_ref() == Some(&text);
        let families = filter::families(wanted);
        if self.without_nft || (stands && (!anyway || families.is_empty())) {
            return Ok(());
        }
        let done = async {
            if stands {
                let (name, all) = (ids.table(), exec::tables().await?);
                let has = |family: &&str| all.iter().any(|(of, table)| of == family && *table == name);
                if families.iter().all(has) {
                    return Ok(());
                }
            }
            exec::transaction(&text).await
        };
        match done.await {
            Ok(()) => self.table = Some(text),
            Err(error @ ExecError::Missing(_)) => {
                self.without_nft = true;
                tracing::warn!(%error, "packets from strangers that bear a pod's address, or are VXLAN, are not dropped");
            }
            Err(error) => return Err(PassError::Filter(error)),
        }
        Ok(())
    }

    fn tell_faults(&mut self, faults: &[String]) {
        for fault in faults.iter().filter(|fault| !self.faults.contains(fault)) {
            tracing::warn!("{fault}");
        }
        self.faults = faults.to_vec();
    }

    /// A failure is said once, and that it is over.
    fn tell(&mut self, done: Result<(), PassError>) {
        match done {
            Ok(()) => {
                if self.failure.take().is_some() {
                    tracing::info!("the ways to other nodes' pods are in order again");
                }
                self.failures = 0;
            }
            Err(error) => {
                let words = Chain(&error).to_string();
                if self.failure.as_ref() != Some(&words) {
                    tracing::warn!(error = words, "pods on other nodes may not be reached from here; tried again");
                }
                self.failure = Some(words);
                self.failures = self.failures.saturating_add(1);
            }
        }
    }
}

/// Says to everybody in this network namespace that this agent lives, by a name that goes with it. Two of one name: the first has it, which serves as well.
fn claim(agent: &str) -> Option<UnixDatagram> {
    let name = SocketAddr::from_abstract_name(listing::claim_name(agent)).ok()?;
    UnixDatagram::bind_addr(&name).ok()
}

/// Removes everything of this agent, and of the cluster what no other agent on this machine needs: for a node that is no more.
///
/// # Errors
/// When the kernel refuses.
pub async fn remove(cluster_uid: &str, node: &str) -> Result<(), NetlinkError> {
    let ids = Ids::new(cluster_uid, node);
    for _ in 0..ROUNDS {
        let changes = plan::changes(&ids, &Wanted::default(), &netlink::read(Families::Both).await?);
        if changes.is_empty() {
            break;
        }
        netlink::apply(&ids.link(), changes).await?;
    }
    // Without `nft` there is no table; that of IPv6 is not so much as named where there is none.
    let mut text = filter::removal(&ids.table());
    if exec::tables().await.is_ok_and(|all| all.contains(&("ip6".to_owned(), ids.table()))) {
        text.push_str(&filter::removal_of("ip6", &ids.table()));
    }
    if let Err(error) = exec::transaction(&text).await {
        tracing::debug!(error = %Chain(&error), "removes no table");
    }
    Ok(())
}
