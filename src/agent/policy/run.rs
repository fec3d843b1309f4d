//! Hands: keeps the table of network policies in the kernel as it should be.
//!
//! In:       the network's share, the node's own network, its pods.
//! Out:      a table of nftables for each family of addresses, by the program `nft`; in our bridge's settings, that its packets go through `br_netfilter`.
//! Never:    touches another's table, or takes ours away because the agent stops: the pods live on.
//!
//! What is not known yet (no share, no network) is left as it stands in the kernel. Where rules are wanted and cannot be made, the node
//! works on without them, and says so once.

use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::nft::{removal, replacement};
use super::rules::{self, LocalPods, Policy};
use crate::agent::exec::{self, ExecError};
use crate::agent::family::Family;
use crate::agent::node_network::NodeNetwork;
use crate::agent::proxy::netlink;
use crate::backoff;
use crate::error::Chain;
use crate::link::share::{Share, digest_of};

/// Between attempts that fail.
const RETRY: backoff::Policy = backoff::Policy { first: Duration::from_secs(2), cap: Duration::from_secs(60) };

/// Where the rules are kept, and by what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The table's name: of this cluster and node, and nobody else's.
    pub table: String,
    /// The program: `nft`.
    pub nft: PathBuf,
    /// So often it is looked whether the table is still there: somebody may have emptied the kernel of all rules.
    pub look: Duration,
}

impl Place {
    /// A table kept by the `nft` that is on the path, looked after once a minute.
    #[must_use]
    pub fn of(table: String) -> Self {
        Self { table, nft: "nft".into(), look: Duration::from_secs(60) }
    }
}

/// Why rules are not kept.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// No such program.
    #[error("the program {0} is not here: Debian's package nftables has it")]
    NoProgram(PathBuf),
    /// The kernel does not let us.
    #[error("this agent may not change the kernel's rules: it has to run as root or with CAP_NET_ADMIN")]
    Forbidden,
    /// The program says no.
    #[error("nft: {0}")]
    Refused(String),
    /// The program hangs.
    #[error("nft gave no answer in time")]
    Late,
    /// It could not be run or spoken to.
    #[error("cannot run nft")]
    Run(#[source] io::Error),
    /// The bridge is elsewhere.
    #[error("the pods' bridge is not in this agent's network namespace")]
    NoBridge,
    /// Packets between two pods of this node are not seen.
    #[error("the kernel module br_netfilter is not loaded: packets between pods of this node are not filtered")]
    NoBridgeFilter,
    /// As before, by a setting.
    #[error("cannot set {path}: packets between pods of this node are not filtered")]
    BridgeFilter {
        /// The setting.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Keeps the table until `stop`.
pub async fn run(
    place: Place,
    mut net: watch::Receiver<Arc<Share>>,
    mut network: watch::Receiver<Option<NodeNetwork>>,
    mut local: watch::Receiver<Arc<LocalPods>>,
    stop: CancellationToken,
) {
    let mut keeper = Keeper::new(place);
    loop {
        let (share, own) = (net.borrow_and_update().clone(), network.borrow_and_update().clone());
        let pods = local.borrow_and_update().clone();
        let again = keeper.keep(&share, own.as_ref(), &pods).await;
        tokio::select! { biased;
            () = stop.cancelled() => return,
            changed = net.changed() => {
                if changed.is_err() {
                    return;
                }
                keeper.told = true;
            }
            changed = network.changed() => if changed.is_err() { return },
            changed = local.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(again) => {}
        }
    }
}

/// Takes the tables away: for who removes the node.
///
/// # Errors
/// When `nft` cannot.
pub async fn remove(place: &Place) -> Result<(), PolicyError> {
    let mut text = removal(Family::V4, &place.table);
    if has_ipv6(place).await {
        text += &removal(Family::V6, &place.table);
    }
    nft(place, &["-f", "-"], &text).await
}

/// Whether there is a table of IPv6. It is neither made nor named where there was none: the kernel may not know IPv6.
async fn has_ipv6(place: &Place) -> bool {
    let table = place.table.clone();
    matches!(tokio::task::spawn_blocking(move || netlink::content(Family::V6, &table)).await, Ok(Ok(Some(_))))
}

struct Keeper {
    place: Place,
    /// The policies that were read last, and what from.
    read: (Arc<Share>, Vec<Policy>),
    /// Whether it is known that the kernel has no table of IPv6.
    without_ipv6: bool,
    /// Digest of what was written; `None`: what stands in the kernel is not known.
    written: Option<String>,
    /// Whether the master has spoken since this agent runs.
    told: bool,
    looked: Instant,
    failures: u32,
    /// What is wrong, in the words that were said.
    said: Option<String>,
}

impl Keeper {
    fn new(place: Place) -> Self {
        let read = (Arc::default(), Vec::new());
        Self { place, read, without_ipv6: false, written: None, told: false, looked: Instant::now(), failures: 0, said: None }
    }

    /// Makes it so, if it is not; answers when to look again.
    async fn keep(&mut self, share: &Arc<Share>, own: Option<&NodeNetwork>, local: &LocalPods) -> Duration {
        let Some((_, own)) = share.network.as_ref().zip(own) else { return self.place.look };
        self.read(share);
        let rules = rules::rules_of(&self.read.1, own.range, local);
        let rules6 = own.v6.map(|v6| rules::rules_of(&self.read.1, v6.range, &rules::in_ipv6(local, own)));
        let families = [!rules.is_empty(), rules6.as_ref().is_some_and(|rules| !rules.is_empty())];
        let families: Vec<Family> =
            [Family::V4, Family::V6].into_iter().zip(families).filter_map(|(family, some)| some.then_some(family)).collect();
        // What an agent before this one has left in the kernel is newer than what this one has on its disk: it is not taken away by that.
        if families.is_empty() && self.written.is_none() && !self.told {
            return self.place.look;
        }
        let bridge = own.bridge.as_deref().unwrap_or_default();
        let mut text = replacement(&self.place.table, bridge, &rules);
        if let Some(rules) = &rules6 {
            text += &replacement(&self.place.table, bridge, rules);
            self.without_ipv6 = false;
        } else if !self.without_ipv6 && has_ipv6(&self.place).await {
            text += &removal(Family::V6, &self.place.table);
        } else {
            self.without_ipv6 = true;
        }
        let digest = digest_of(text.as_bytes());
        let fresh = families.is_empty() || (self.failures == 0 && self.looked.elapsed() < self.place.look);
        if self.written.as_ref() == Some(&digest) && fresh {
            return self.place.look;
        }
        let kept = async {
            if families.is_empty() {
                return self.write(&digest, &text, &families).await;
            }
            let bridge = own.bridge.as_deref().ok_or(PolicyError::NoBridge)?;
            self.write(&digest, &text, &families).await?;
            for family in &families {
                filter_bridge(*family, bridge).await?;
            }
            Ok(())
        };
        match kept.await {
            Ok(()) => {
                if self.said.take().is_some() {
                    tracing::info!("network policies hold on this node again");
                }
                (self.failures, self.looked) = (0, Instant::now());
                self.place.look
            }
            // Nothing was to be kept.
            Err(_) if families.is_empty() => self.place.look,
            Err(error) => {
                let words = Chain(&error).to_string();
                if self.said.as_ref() != Some(&words) {
                    tracing::warn!(error = words, "network policies do not hold on this node");
                    self.said = Some(words);
                }
                self.failures = self.failures.saturating_add(1);
                RETRY.delay(self.failures)
            }
        }
    }

    fn read(&mut self, share: &Arc<Share>) {
        if self.read.0.policies == share.policies {
            return;
        }
        let (policies, unreadable) = rules::read(share);
        if !unreadable.is_empty() {
            tracing::warn!(policies = ?unreadable, "these network policies cannot be read and do not hold: this agent is older than its master");
        }
        self.read = (share.clone(), policies);
    }

    /// Writes what is not there: a table of each of these families.
    async fn write(&mut self, digest: &str, text: &str, families: &[Family]) -> Result<(), PolicyError> {
        if self.written.as_deref() == Some(digest) {
            let mut there = true;
            for family in families {
                there &= nft(&self.place, &["-t", "list", "table", family.word(), &self.place.table], "").await.is_ok();
            }
            if there {
                return Ok(());
            }
        }
        self.written = None;
        nft(&self.place, &["-f", "-"], text).await?;
        self.written = Some(digest.to_owned());
        Ok(())
    }
}

/// Runs the program to its good end.
async fn nft(place: &Place, arguments: &[&str], input: &str) -> Result<(), PolicyError> {
    exec::run(&place.nft, arguments, input).await.map(drop).map_err(|error| match error {
        ExecError::Missing(_) => PolicyError::NoProgram(place.nft.clone()),
        ExecError::Run { source, .. } => PolicyError::Run(source),
        ExecError::Slow(_) => PolicyError::Late,
        // The program has one exit status for everything; the words are the kernel's EPERM.
        ExecError::Refused { words, .. } if words.contains("Operation not permitted") => PolicyError::Forbidden,
        ExecError::Refused { words, .. } => PolicyError::Refused(words.split_whitespace().collect::<Vec<_>>().join(" ")),
    })
}

/// Has the packets between two ports of the bridge go through the rules, if they do not anyway. Only our own bridge is changed.
async fn filter_bridge(family: Family, bridge: &str) -> Result<(), PolicyError> {
    let ip = family.word();
    let everywhere = format!("/proc/sys/net/bridge/bridge-nf-call-{ip}tables");
    let mut setting = tokio::fs::read_to_string(&everywhere).await;
    if setting.is_err() {
        // Where it may not, or there is no such program, the next look shows it.
        let _ = Command::new("modprobe")
            .arg("br_netfilter")
            .stderr(Stdio::null())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .status()
            .await;
        setting = tokio::fs::read_to_string(&everywhere).await;
    }
    let setting = setting.map_err(|_| PolicyError::NoBridgeFilter)?;
    if setting.trim() == "1" {
        return Ok(());
    }
    let path = PathBuf::from(format!("/sys/class/net/{bridge}/bridge/nf_call_{ip}tables"));
    tokio::fs::write(&path, "1").await.map_err(|source| PolicyError::BridgeFilter { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Object;
    use crate::link::network::ClusterNetwork;
    use serde_json::json;
    use std::path::Path;

    /// What stands for `nft`: writes down what it is told; fails as long as there is a file `fail`, with what stands in it.
    fn program(folder: &Path) -> PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let (path, folder) = (folder.join("nft"), folder.display());
        let script = format!(
            "#!/bin/sh\nif [ -e {folder}/fail ]; then cat {folder}/fail >&2; exit 1; fi\necho \"called $*\" >>{folder}/log\ncat >>{folder}/log\n"
        );
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn share(policies: bool) -> Arc<Share> {
        let mut share = Share { network: Some(ClusterNetwork::default()), ..Share::default() };
        if policies {
            let policy = Object::from_value(json!({"pods": ["10.244.1.5"], "ingress": []})).unwrap();
            share.policies.insert("a/p".to_owned(), Arc::new(policy));
        }
        Arc::new(share)
    }

    fn own(bridge: Option<&str>) -> NodeNetwork {
        let (range, gateway) = ("10.244.1.0/24".parse().unwrap(), "10.244.1.1".parse().unwrap());
        NodeNetwork { range, gateway, bridge: bridge.map(str::to_owned), v6: None }
    }

    fn keeper(nft: PathBuf) -> Keeper {
        Keeper::new(Place { nft, ..Place::of("bramble-0-policy".to_owned()) })
    }

    #[tokio::test]
    async fn what_is_not_known_is_left_and_what_is_not_wanted_is_taken_away_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut keeper = keeper(program(folder.path()));
        let none = LocalPods::new();
        keeper.keep(&Arc::default(), Some(&own(Some("br0"))), &none).await;
        keeper.keep(&share(true), None, &none).await;
        keeper.keep(&share(true), Some(&own(None)), &none).await;
        assert!(!folder.path().join("log").exists(), "nothing was known, or there is no bridge");
        assert!(keeper.said.is_some(), "but that there is no bridge is said");
        keeper.keep(&share(false), Some(&own(Some("br0"))), &none).await;
        assert!(!folder.path().join("log").exists(), "what stands may be newer than what is kept");
        keeper.told = true;
        for _ in 0..3 {
            keeper.keep(&share(false), Some(&own(Some("br0"))), &none).await;
        }
        let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
        assert_eq!(log, "called -f -\nadd table ip bramble-0-policy\ndelete table ip bramble-0-policy\n");
        assert!(keeper.said.is_none() && keeper.failures == 0);
    }

    #[tokio::test]
    async fn a_failure_is_said_in_plain_words_and_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let none = LocalPods::new();
        let mut gone = keeper(folder.path().join("nowhere"));
        assert!(gone.keep(&share(true), Some(&own(Some("br0"))), &none).await <= Duration::from_secs(2));
        assert!(gone.said.as_ref().unwrap().contains("Debian's package nftables has it"), "{:?}", gone.said);
        assert!(gone.keep(&share(false), Some(&own(Some("br0"))), &none).await >= Duration::from_secs(60), "nothing is wanted");

        let mut keeper = keeper(program(folder.path()));
        for (text, words) in
            [("Error: Operation not permitted", "CAP_NET_ADMIN"), ("line 1:\n  no such thing", "nft: line 1: no such thing")]
        {
            std::fs::write(folder.path().join("fail"), text).unwrap();
            keeper.keep(&share(true), Some(&own(Some("br0"))), &none).await;
            assert!(keeper.said.as_ref().unwrap().contains(words) && keeper.written.is_none(), "{:?}", keeper.said);
        }
        std::fs::remove_file(folder.path().join("fail")).unwrap();
        keeper.keep(&share(true), Some(&own(Some("br0"))), &none).await;
        assert!(
            keeper.written.is_some()
                && std::fs::read_to_string(folder.path().join("log")).unwrap().contains("10.244.1.5 : goto in0")
        );
    }
}
