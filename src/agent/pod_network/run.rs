//! Hands: keeps the node's network, and the host's rules about it, as they are to be.
//!
//! In:       what the network is to be (net share), what the runtime has made, nodes with plain routes, and whether the runtime answers.
//! Out:      our table, our rules. Looked at again whenever one of these changes, and each minute: who reloads the host's firewall takes
//!           ours away.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::PodNetwork;
use super::exec::{forward6, has_ipv6, let_through, remove_rules};
use super::guard::{Guard, table_name};
use crate::agent::exec::{self, ExecError};
use crate::agent::family::Family;
use crate::agent::node_network::NodeNetwork;
use crate::agent::runtime::run::Health;
use crate::agent::runtime::{Failure, Runtime};
use crate::error::Chain;
use crate::link::share::Share;

/// Between two looks while nothing changes.
const EVERY: Duration = Duration::from_secs(60);
/// And while something is not as it should be.
const SOON: Duration = Duration::from_secs(5);
/// Set by Docker, and by Podman where pods have addresses.
const IP_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

/// What it works with.
pub struct Parts {
    /// What makes the network.
    pub runtime: Arc<dyn Runtime>,
    /// This node in this cluster: `Owner::id`.
    pub id: String,
    /// What the network is to be.
    pub wanted: watch::Receiver<Option<PodNetwork>>,
    /// What it is, as the runtime tells.
    pub network: watch::Receiver<Option<NodeNetwork>>,
    /// The addresses of nodes that have a plain route to this node's pods. A channel that nobody sends on: none.
    pub direct: watch::Receiver<BTreeSet<Ipv4Addr>>,
    /// Whether the runtime answers: an engine that was started again may have made its rules anew.
    pub health: watch::Receiver<Health>,
}

/// Tells what the share of the network says of this node, for as long as somebody tells that.
pub async fn follow(
    mut net: watch::Receiver<Arc<Share>>,
    node: String,
    told: watch::Sender<Option<PodNetwork>>,
    stop: CancellationToken,
) {
    let mut said = false;
    loop {
        let mut says = PodNetwork::of_share(&net.borrow_and_update(), &node);
        if let Some(network) = says.as_mut().filter(|network| network.v6.is_some() && !has_ipv6()) {
            network.v6 = None;
            if !std::mem::replace(&mut said, true) {
                tracing::warn!(
                    "this machine has no IPv6, or it is switched off (net.ipv6.conf.all.disable_ipv6): pods here have no IPv6 addresses"
                );
            }
        }
        told.send_if_modified(|before| {
            // A master that is started anew may not know yet what it knew: a node keeps its part.
            let other = says.is_some() && *before != says;
            if other {
                *before = says;
            }
            other
        });
        tokio::select! { biased;
            () = stop.cancelled() => return,
            changed = net.changed() => if changed.is_err() { return },
        }
    }
}

/// Keeps it so until `stop`. What is there then stays: the pods run on.
pub async fn run(mut parts: Parts, stop: CancellationToken) {
    let mut keeper = Keeper::default();
    loop {
        let well = keeper.look(&mut parts).await;
        let pause = if well { EVERY } else { SOON };
        tokio::select! { biased;
            () = stop.cancelled() => return,
            () = changed(&mut parts.wanted) => {}
            () = changed(&mut parts.network) => {}
            () = changed(&mut parts.direct) => {}
            () = changed(&mut parts.health) => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// The next change; never, of a channel that nobody sends on any more.
async fn changed<T>(told: &mut watch::Receiver<T>) {
    if told.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// What was done and said.
#[derive(Default)]
struct Keeper {
    /// What our tables were made from.
    made: Vec<Guard>,
    /// By what it is about.
    said: std::collections::BTreeMap<&'static str, String>,
}

impl Keeper {
    /// Whether all is as it should be, as far as this host can.
    async fn look(&mut self, parts: &mut Parts) -> bool {
        let wanted = parts.wanted.borrow_and_update().clone();
        let direct = parts.direct.borrow_and_update().clone();
        parts.health.borrow_and_update();
        let Some(wanted) = wanted else { return true };
        let network = match parts.runtime.network().await {
            Ok(network) => network,
            // Said by who asks it for pods.
            Err(Failure::Unavailable(_)) => return false,
            Err(failure) => {
                self.say("network", Some(format!("the network of this node's pods cannot be made: {failure}")));
                return false;
            }
        };
        self.say("network", None);
        parts.network.borrow_and_update();
        // The simulated runtime has none.
        let Some(NodeNetwork { range, bridge, v6, .. }) = network else { return true };
        let Some(bridge) = bridge else {
            // An engine like Podman makes it with the first pod.
            return true;
        };
        let id = parts.id.clone();
        let direct = direct.into_iter().map(IpAddr::from).collect();
        let mut guards = vec![Guard { id, range: range.into(), bridge, pods: wanted.pods.into(), direct }];
        if let Some(own) = v6 {
            let pods = wanted.v6.map(|v6| v6.pods).filter(|pods| pods.contains(&own.range)).unwrap_or(own.range);
            let (range, pods, direct) = (own.range.into(), pods.into(), BTreeSet::new());
            guards.extend(guards.first().cloned().map(|guard| Guard { range, pods, direct, ..guard }));
            let forwards = forward6().await;
            let words = "cannot let this host forward IPv6 packets, so its pods reach nobody by IPv6; as root: `sysctl -w net.ipv6.conf.all.forwarding=1`";
            self.say("forwarding of IPv6", forwards.err().map(|error| format!("{words}: {error}")));
        }
        let translated = self.translate(&parts.id, &guards).await;
        let nat = "what pods send to the outside is left to the engine, and pods of other nodes do not know those here by their own addresses; for that, set up `nftables` (on Debian and Raspberry Pi OS: sudo apt-get install -y nftables), and run the agent as root or with CAP_NET_ADMIN";
        self.say(
            "nat",
            translated.as_ref().err().map(|error| format!("cannot write this node's nftables table: {}; {nat}", Chain(error))),
        );
        let mut through = Ok(());
        for guard in &guards {
            through = through.and(let_through(guard).await);
        }
        let well = translated.is_ok() && !matches!(through, Err(ExecError::Refused { .. } | ExecError::Slow(_)));
        let words = match through {
            // Without the program nobody drops anything by it.
            Ok(()) | Err(ExecError::Missing(_)) => None,
            Err(error) => Some(format!(
                "cannot let pods through this host's firewall: {}; pods of other nodes may not reach those here",
                Chain(&error)
            )),
        };
        self.say("firewall", words);
        let forward = tokio::fs::read_to_string(IP_FORWARD).await.unwrap_or_default();
        let words = (forward.trim() == "0").then(|| {
            "this host forwards no packets, so its pods reach nobody: `sysctl -w net.ipv4.ip_forward=1` (Docker sets it at its start, and something has set it back)".to_owned()
        });
        self.say("forwarding", words);
        well
    }

    /// Makes each of our tables that is not the right one, or no longer there. One of IPv6 that is of no use any more goes, with the
    /// rules.
    async fn translate(&mut self, id: &str, guards: &[Guard]) -> Result<(), ExecError> {
        let (there, name) = (exec::tables().await?, table_name(id));
        let stands = |family: Family| there.iter().any(|(word, table)| word == family.word() && *table == name);
        let made = std::mem::take(&mut self.made);
        for guard in guards {
            if !made.contains(guard) || !stands(guard.family()) {
                exec::transaction(&guard.batch()).await?;
            }
            self.made.push(guard.clone());
        }
        if stands(Family::V6) && !guards.iter().any(|guard| guard.family() == Family::V6) {
            exec::transaction(&format!("delete table ip6 {name}\n")).await?;
            remove_rules(Family::V6, id).await;
        }
        Ok(())
    }

    /// Says it once, for as long as it is so.
    fn say(&mut self, about: &'static str, words: Option<String>) {
        match words {
            None => {
                if self.said.remove(about).is_some() {
                    tracing::info!(about, "the pods' network is as it should be again");
                }
            }
            Some(words) => {
                if self.said.get(about) != Some(&words) {
                    tracing::warn!("{words}");
                    self.said.insert(about, words);
                }
            }
        }
    }
}
