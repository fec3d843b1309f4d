//! Hands: the task `announce`: keeps on loopback the addresses of the pool that are this node's.
//!
//! Level-triggered: the share, the kernel's bell and a slow timer all say only "look". When the agent stops the addresses go: another node
//! has them soon. What an agent left that was killed is taken over or removed by the next one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ipnet::Ipv4Net;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::netlink::set;
use super::{label, own, udp};
use crate::agent::overlay::netlink::NetlinkError;
use crate::error::Chain;
use crate::link::share::Share;
use crate::routes;

/// What nobody told of: an address that somebody took away.
const ANYWAY: Duration = Duration::from_secs(60);

/// What it works with.
pub struct Parts {
    /// The cluster's uid.
    pub cluster_uid: String,
    /// The node.
    pub node: String,
    /// The network's share.
    pub net: watch::Receiver<Arc<Share>>,
    /// Counts up when the kernel's network changed (`overlay/netlink.rs`).
    pub changed: watch::Receiver<u64>,
}

/// Runs until `stop`.
pub async fn keep(parts: Parts, stop: CancellationToken) {
    let Parts { cluster_uid, node, mut net, mut changed } = parts;
    let label = label(&cluster_uid, &node);
    let (mut before, mut said) = (None, String::new());
    loop {
        changed.borrow_and_update();
        let share = net.borrow_and_update().clone();
        // Before anything was told, what an agent before this one left stays.
        if share.network.is_some() {
            let wanted = own::own(&share, &node, &networks().await);
            let now: BTreeSet<_> = wanted.keys().copied().collect();
            match set(&label, &now).await {
                Ok(new) => {
                    for address in new {
                        let Some(nobody) = wanted.get(&address) else { continue };
                        if let Err(error) = udp::tell(address, *nobody) {
                            tracing::debug!(%error, %address, "the neighbours were not told");
                        }
                    }
                    if before.as_ref().is_some_and(|before| *before != now) || (before.is_none() && !now.is_empty()) {
                        tracing::info!(addresses = ?now, "these load balancers' addresses are at this node");
                    }
                    before = Some(now);
                    said.clear();
                }
                Err(error) => {
                    let words = Chain(&error).to_string();
                    if said != words && !now.is_empty() {
                        tracing::warn!(error = words, addresses = ?now, "load balancers' addresses are not served by this node; tried again");
                        said = words;
                    }
                }
            }
        }
        tokio::select! { biased;
            () = stop.cancelled() => break,
            Ok(()) = net.changed() => {}
            Ok(()) = changed.changed() => {}
            () = tokio::time::sleep(ANYWAY) => {}
        }
    }
    if before.is_some_and(|before| !before.is_empty())
        && let Err(error) = set(&label, &BTreeSet::new()).await
    {
        tracing::warn!(error = %Chain(&error), "load balancers' addresses stay at this node");
    }
}

/// Removes what an agent left.
///
/// # Errors
/// When the kernel refuses.
pub async fn remove(cluster_uid: &str, node: &str) -> Result<(), NetlinkError> {
    set(&label(cluster_uid, node), &BTreeSet::new()).await.map(drop)
}

/// The networks that this machine is in.
async fn networks() -> Vec<Ipv4Net> {
    let all = tokio::task::spawn_blocking(routes::of_this_machine).await.unwrap_or_default();
    all.into_iter().filter(|route| !route.forwarded).map(|route| route.range).collect()
}
