//! The network's share on a node: its conversation with the master, who is told of it, and how it is kept.
//!
//! It changes whenever a pod somewhere becomes ready, and a node that boots without a master is served well by one that is minutes old:
//! so it is written to the disk lazily, where the pods' share is written at once. An agent that starts again while the machine runs on
//! begins with a copy in memory, which is a second old at most.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::node_loop::Agent;
use crate::agent::checkpoint::Checkpoint;
use crate::agent::disk::{self, DiskError};
use crate::agent::node::Input;
use crate::agent::pod_network::PodNetwork;
use crate::clock::Clock;
use crate::error::Chain;
use crate::link::NodeTopic;
use crate::link::codec::encode;
use crate::link::session::{Session, SessionEffect, SessionInput};
use crate::link::share::Share;
use crate::rng::Rng;
use crate::step::Machine;

/// Where it is kept, and how often it is written there at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Writes it: the directory, whose store it is of.
    save: fn(&Path, &str, &Share) -> Result<(), DiskError>,
    /// When there is none on the disk yet, or one from before the node was given its part of the pod network.
    pub(super) first: Duration,
    /// Between two.
    pub(super) apart: Duration,
    /// What a failure means.
    loss: &'static str,
}

/// A node that has just joined has one at once: a power cut may come in its first minute. Then a card sees at most six small files an
/// hour, and none while nothing changes.
pub(super) const DISK: Place = Place {
    save: disk::save_net,
    first: Duration::from_secs(1),
    apart: Duration::from_secs(600),
    loss: "until it is, a reboot without the master begins with what was kept before",
};

/// Costs no card anything.
pub(super) const MEMORY: Place = Place {
    save: disk::save_net_in_memory,
    first: Duration::ZERO,
    apart: Duration::from_secs(1),
    loss: "until it is, an agent that starts again begins with what is on its disk",
};

/// After a failure it is tried again this late at least.
const RETRY: Duration = Duration::from_secs(60);

/// The conversation, begun with what is kept. It obeys the store that the pods' share is of.
pub(super) fn session(pods: Option<&Checkpoint>, kept: Option<&Checkpoint>, rng: Rng) -> Session {
    let store = pods.or(kept).map(|of| of.store.clone());
    let share = kept.map(|kept| kept.share.clone()).unwrap_or_default();
    Session::new(store.map(|store| (store, share)), rng)
}

/// What an agent before this one kept in memory. Only beside a pods' share of the same store: whoever begins with an empty disk is a
/// new node, even by an old name.
pub(super) fn kept_in_memory(directory: &Path, pods: Option<&Checkpoint>) -> Option<Checkpoint> {
    kept(directory, Some(pods?))
}

/// What is kept of the network, if it is of the same store as the pods' share. It is told anew anyway: one that cannot be used is no
/// reason to stop.
pub(super) fn kept(data_dir: &Path, pods: Option<&Checkpoint>) -> Option<Checkpoint> {
    match disk::load_net(data_dir) {
        Ok(kept) => kept.filter(|kept| pods.is_none_or(|pods| pods.store == kept.store)),
        Err(error) => {
            tracing::warn!(error = %Chain(&error), "begins without knowing the network; the master tells it again");
            None
        }
    }
}

impl Agent {
    /// Something came in the network's conversation.
    pub(super) fn converse_net(&mut self, input: SessionInput) {
        let mut effects = Vec::new();
        self.net.handle(self.clock.now(), input, &mut effects);
        self.follow_net(effects);
    }

    pub(super) fn wake_net(&mut self) {
        let mut effects = Vec::new();
        self.net.wake(self.clock.now(), &mut effects);
        self.follow_net(effects);
    }

    fn follow_net(&mut self, effects: Vec<SessionEffect>) {
        for effect in effects {
            match effect {
                SessionEffect::Desired { share, store } => {
                    tracing::debug!(
                        node = self.config.node,
                        services = share.services.len(),
                        slices = share.endpoint_slices.len(),
                        peers = share.peers.len(),
                        "new network"
                    );
                    self.net_keep.send_replace(Some((store, share.clone())));
                    self.net_share.send_replace(share.clone());
                    self.feed(Input::Network(share));
                }
                SessionEffect::Ask(ask) => {
                    self.publish(&NodeTopic::NetAsk, encode(&ask), false);
                }
                // What was kept is what the master wants: to be heard like a new one by who waits for the master's word.
                SessionEffect::Confirmed => self.net_share.send_modify(|_| {}),
                // Which store is obeyed, and that another one tries, is said of the pods' share.
                SessionEffect::Tell => {}
            }
        }
    }
}

/// Keeps the newest there, no more often than is said; and at the stop. `kept`: what is there already.
pub(super) async fn keep_lazily(
    directory: PathBuf,
    node: String,
    mut changes: watch::Receiver<Option<(String, Arc<Share>)>>,
    kept: Option<Checkpoint>,
    place: Place,
    stop: CancellationToken,
) {
    // Without its part of the pod network a node that boots alone cannot start its pods where they were.
    let has_part = |share: &Share| PodNetwork::of_share(share, &node).is_some();
    let mut part_on_disk = kept.as_ref().is_some_and(|kept| has_part(&kept.share));
    let mut on_disk = kept.map(|kept| (kept.store, kept.share.digest()));
    let mut last = Instant::now();
    let mut due: Option<Instant> = None;
    let mut failed = false;
    loop {
        let stopping = tokio::select! { biased;
            () = stop.cancelled() => true,
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
                let part = changes.borrow_and_update().as_ref().is_some_and(|(_, share)| has_part(share));
                let soon = (on_disk.is_none() || (part && !part_on_disk)) && !failed;
                let at = (last + if soon { place.first } else { place.apart }).max(Instant::now());
                due = Some(due.map_or(at, |due| due.min(at)));
                continue;
            }
            () = tokio::time::sleep_until(due.unwrap_or(last)), if due.is_some() => false,
        };
        due = None;
        let newest = changes.borrow_and_update().clone();
        if let Some((store, share)) = newest {
            let digest = share.digest();
            if on_disk.as_ref().is_none_or(|(of, held)| *of != store || *held != digest) {
                let (directory, of, part) = (directory.clone(), store.clone(), has_part(&share));
                let saved = tokio::task::spawn_blocking(move || (place.save)(&directory, &of, &share)).await;
                let fault = match &saved {
                    Ok(Ok(())) => None,
                    Ok(Err(error)) => Some(Chain(error).to_string()),
                    Err(error) => Some(error.to_string()),
                };
                match fault {
                    None => (on_disk, part_on_disk) = (Some((store, digest)), part),
                    Some(error) if !failed => {
                        tracing::warn!(error, "what is known of the network cannot be kept and is tried again; {}", place.loss);
                    }
                    Some(_) => {}
                }
                failed = on_disk.as_ref().is_none_or(|_| !matches!(saved, Ok(Ok(()))));
                last = Instant::now();
                due = (failed && !stopping).then(|| last + place.apart.max(RETRY));
            }
        }
        if stopping {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Object;
    use crate::link::network::ClusterNetwork;

    fn net(domain: &str) -> Arc<Share> {
        Arc::new(Share {
            network: Some(ClusterNetwork { domain: domain.to_owned(), ..ClusterNetwork::default() }),
            ..Share::default()
        })
    }

    fn held(directory: &std::path::Path) -> Option<String> {
        disk::load_net(directory).unwrap().and_then(|kept| Some(kept.share.network.clone()?.domain))
    }

    #[tokio::test]
    async fn it_is_written_soon_when_there_is_none_then_seldom_and_at_the_stop() {
        let place = tempfile::tempdir().unwrap();
        let (tell, changes) = watch::channel(None);
        let stop = CancellationToken::new();
        let pace = Place { first: Duration::from_millis(100), apart: Duration::from_secs(2), ..DISK };
        let task = tokio::spawn(keep_lazily(place.path().to_owned(), "pi".into(), changes, None, pace, stop.clone()));
        let now = |domain: &str| tell.send_replace(Some(("s".to_owned(), net(domain))));
        let becomes = async |domain: &str| {
            for _ in 0..200 {
                if held(place.path()).as_deref() == Some(domain) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            panic!("never kept: {domain}");
        };
        now("one");
        becomes("one").await;
        let began = Instant::now();
        now("two");
        now("three");
        becomes("three").await;
        assert!(began.elapsed() > Duration::from_secs(1), "{:?}", began.elapsed());
        let stamp = || std::fs::metadata(place.path().join("net.json")).unwrap().modified().unwrap();
        let written = stamp();
        now("other");
        now("three");
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(stamp(), written, "it is that already");
        // What lacks the node's own part is not waited with.
        let peer = Object::from_value(serde_json::json!({"spec": {"podCIDR": "10.244.3.0/24"}})).unwrap();
        let mut part = Share::clone(&net("part"));
        part.peers.insert("pi".into(), Arc::new(peer));
        let began = Instant::now();
        tell.send_replace(Some(("s".to_owned(), Arc::new(part))));
        becomes("part").await;
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        now("last");
        tokio::task::yield_now().await;
        stop.cancel();
        task.await.unwrap();
        assert_eq!(held(place.path()).as_deref(), Some("last"));
    }

    #[test]
    fn what_is_kept_is_used_if_it_is_of_the_same_store() {
        let place = tempfile::tempdir().unwrap();
        disk::save_net(place.path(), "mine", &net("house")).unwrap();
        let of = |store: &str| Checkpoint { store: store.to_owned(), share: Arc::default() };
        for (pods, used) in [(None, true), (Some(of("mine")), true), (Some(of("other")), false)] {
            let found = kept(place.path(), pods.as_ref());
            assert_eq!(found.is_some(), used, "{pods:?}");
            let session = session(pods.as_ref(), found.as_ref(), Rng::seeded(1, "t"));
            assert_eq!(session.store(), Some(pods.map_or("mine".to_owned(), |pods| pods.store)).as_deref());
        }
        // In memory it counts beside the pods' share alone.
        for (pods, used) in [(None, false), (Some(of("mine")), true), (Some(of("other")), false)] {
            assert_eq!(kept_in_memory(place.path(), pods.as_ref()).is_some(), used, "{pods:?}");
        }
        std::fs::write(place.path().join("net.json"), b"{").unwrap();
        assert!(kept(place.path(), None).is_none(), "rubbish stops nobody");
    }
}
