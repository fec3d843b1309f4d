//! Hands: looks whether the node runs short, says so, and gives up pods until it does not.
//!
//! In:       the machine's levels, every 10 s; every second while memory is near its end or anything is short. The share.
//! Out:      [`Pressures`], whenever they change; [`Input::Fail`] for pods that have to go.
//! Never:    decides who goes (`agent/eviction.rs`) or when it is short (`judge.rs`).
//!
//! A look costs four small files and two `statvfs`. What pods use is measured only when something is short, or for pods that may
//! use only so much of the disk.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::judge::{Judge, Pressures, Short, Thresholds};
use super::sysinfo::levels;
use crate::agent::eviction::{self, Evicted, Turns};
use crate::agent::images::run::CollectNow;
use crate::agent::node::Input;
use crate::agent::pods::plan::FailureCondition;
use crate::agent::runtime::Runtime;
use crate::api::Uid;
use crate::clock::{Clock, SystemClock, Tick};
use crate::link::share::Share;

/// Between looks while all is well. Source: the kubelet's eviction monitoring period.
const CALM: Duration = Duration::from_secs(10);
/// Between looks while it may matter.
const NEAR: Duration = Duration::from_secs(1);
/// A disk that is short has so long at most to get room by the removal of images, before pods go.
const COLLECTS: Duration = Duration::from_secs(30);
/// A runtime that does not say by then what its containers use is asked again with the next look.
const MEASURES: Duration = Duration::from_secs(20);

/// What the hand works with.
pub struct Parts {
    /// Whose pods.
    pub runtime: Arc<dyn Runtime>,
    /// The time.
    pub clock: SystemClock,
    /// Where the node keeps its own files.
    pub data_dir: PathBuf,
    /// When something is short.
    pub thresholds: Thresholds,
    /// What the node should run.
    pub shares: watch::Receiver<Option<(String, Arc<Share>)>>,
    /// For the node.
    pub inputs: mpsc::Sender<Input>,
    /// For who tells how the node is.
    pub pressures: watch::Sender<Pressures>,
    /// Images that nobody uses go when the disk is short.
    pub images: Option<CollectNow>,
}

/// Watches until `stop`.
pub async fn guard(parts: Parts, stop: CancellationToken) {
    let mut guard = Guard {
        judge: Judge::new(parts.thresholds),
        turns: Turns::default(),
        root: None,
        disk_short_since: None,
        limits_at: Tick(0),
        told: BTreeSet::new(),
        parts,
    };
    loop {
        let pause = tokio::select! { biased;
            () = stop.cancelled() => return,
            pause = guard.look() => pause,
        };
        tokio::select! { biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

struct Guard {
    parts: Parts,
    judge: Judge,
    turns: Turns,
    /// Docker's folder, once it has said where.
    root: Option<PathBuf>,
    /// Since when, and how many removals of images were behind us then.
    disk_short_since: Option<(Tick, u64)>,
    limits_at: Tick,
    /// Pods that were given up for their own limits: said once.
    told: BTreeSet<Uid>,
}

impl Guard {
    /// One look; how long to the next.
    async fn look(&mut self) -> Duration {
        let now = self.parts.clock.now().tick;
        if self.root.is_none() {
            let asked = tokio::time::timeout(NEAR, self.parts.runtime.root()).await;
            self.root = asked.ok().and_then(Result::ok).flatten();
        }
        // Before the levels: what was removed shows in them.
        let collected = self.parts.images.as_ref().map(CollectNow::done).unwrap_or_default();
        let levels = levels(&self.parts.data_dir, self.root.as_deref());
        let pressures = self.judge.after(now, &levels);
        self.parts.pressures.send_if_modified(|told| std::mem::replace(told, pressures) != pressures);
        let short = self.parts.thresholds.short(&levels);
        let disk = |short: &Short| short.resource.is_disk();
        if short.iter().any(disk) {
            if self.disk_short_since.is_none()
                && let Some(images) = &self.parts.images
            {
                images.ask();
            }
            self.disk_short_since.get_or_insert((now, collected));
        } else {
            self.disk_short_since = None;
        }
        let waits = self.disk_short_since.is_none_or(|(since, before)| collected == before && now.since(since) < COLLECTS);
        if let Some(short) = short.iter().find(|short| !disk(short) || !waits) {
            self.relieve(short, now).await;
        }
        if now >= self.limits_at {
            self.limits_at = now.after(CALM);
            self.check_limits().await;
        }
        if short.is_empty() && !self.parts.thresholds.memory_is_near(&levels) { CALM } else { NEAR }
    }

    /// Gives up one pod, if the last one has gone.
    async fn relieve(&mut self, short: &Short, now: Tick) {
        let Some((_, share)) = self.parts.shares.borrow().clone() else { return };
        let Ok(Ok(usage)) = tokio::time::timeout(MEASURES, self.parts.runtime.usage()).await else { return };
        if !self.turns.next(now, &usage) {
            return;
        }
        let mut disk = Vec::new();
        if short.resource.is_disk() {
            let Ok(Ok(measured)) = tokio::time::timeout(MEASURES, self.parts.runtime.disk(None)).await else { return };
            disk = measured;
        }
        let pods = share.pods.values().map(AsRef::as_ref);
        let candidates = eviction::candidates(short.resource, pods, &usage, &disk);
        let Some(evicted) = eviction::victim(short, &candidates) else { return };
        self.turns.evicted(evicted.uid.clone(), now);
        self.give_up(evicted).await;
    }

    /// Gives up pods that use more of the disk than they may.
    async fn check_limits(&mut self) {
        let Some((_, share)) = self.parts.shares.borrow().clone() else { return };
        self.told.retain(|uid| share.pods.contains_key(uid));
        for (uid, pod) in share.pods.iter().filter(|(_, pod)| eviction::is_limited(pod)) {
            if self.told.contains(uid) {
                continue;
            }
            let Ok(Ok(disk)) = tokio::time::timeout(MEASURES, self.parts.runtime.disk(Some(uid))).await else { continue };
            if let Some(evicted) = disk.first().and_then(|disk| eviction::over_its_limit(pod, disk)) {
                self.told.insert(uid.clone());
                self.give_up(evicted).await;
            }
        }
    }

    async fn give_up(&self, evicted: Evicted) {
        let Evicted { uid, message } = evicted;
        tracing::warn!(%uid, message, "a pod is evicted");
        let condition = FailureCondition {
            kind: "DisruptionTarget".to_owned(),
            reason: "TerminationByKubelet".to_owned(),
            message: message.clone(),
        };
        let input = Input::Fail { uid, reason: "Evicted".to_owned(), message, grace: Duration::ZERO, condition: Some(condition) };
        // The node's loop has ended: so do we, in a moment.
        let _ = self.parts.inputs.send(input).await;
    }
}
