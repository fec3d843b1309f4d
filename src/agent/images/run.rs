//! Hands: looks at the images now and then, tells the node of them, and removes those that go.
//!
//! In:       what was fetched, what pods want, the wish for room at once.
//! Out:      the list for the node's status; the removals that `collect.rs` decides.
//!
//! What Bramble fetched is in `images.json` of the data folder, written only when it changes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::collect::{Collector, Ours, There, Thresholds, Why};
use super::{Fetched, ImageFacts, Wanted};
use crate::agent::disk;
use crate::agent::runtime::{Failure, Runtime};
use crate::clock::{Clock, SystemClock};
use crate::error::Chain;
use crate::link::message::NodeImage;

/// Between two looks. Source: the kubelet's ImageGCPeriod.
const PERIOD: Duration = Duration::from_secs(300);
/// After a fetch: others end at the same time.
const SETTLE: Duration = Duration::from_secs(1);
/// How many images a node tells of, largest first. Source: the kubelet's `nodeStatusMaxImages`.
const MOST: usize = 50;
/// How many names of each. Source: the kubelet's maxNamesPerImageInNodeStatus.
const MOST_NAMES: usize = 5;
/// What all their names may take.
const MOST_BYTES: usize = 32 * 1024;
/// The file of what Bramble fetched.
const FILE: &str = "images.json";

/// Asks for room at once. Cheap to clone; asking twice is asking once.
#[derive(Clone, Debug)]
pub struct CollectNow {
    ask: mpsc::Sender<()>,
    done: watch::Receiver<u64>,
}

impl CollectNow {
    /// All images go that may. Does not wait for it.
    pub fn ask(&self) {
        // One wish waits already: a second adds nothing.
        let _ = self.ask.try_send(());
    }

    /// How many wishes were fulfilled, as far as they could be.
    #[must_use]
    pub fn done(&self) -> u64 {
        *self.done.borrow()
    }
}

/// What the hand works with.
pub struct Parts {
    /// Whose images.
    pub runtime: Arc<dyn Runtime>,
    /// The time.
    pub clock: SystemClock,
    /// Where it is kept what Bramble fetched.
    pub data_dir: PathBuf,
    /// When images go.
    pub limits: Thresholds,
    /// What was fetched.
    pub fetched: mpsc::Receiver<Fetched>,
    /// The names that pods want.
    pub wanted: watch::Receiver<Wanted>,
    /// The list, for the node's status.
    pub told: watch::Sender<Vec<NodeImage>>,
}

/// The hand's future, and the wish for room.
pub fn make(parts: Parts, stop: CancellationToken) -> (CollectNow, impl Future<Output = ()> + Send) {
    let (ask, asked) = mpsc::channel(1);
    let (fulfilled, done) = watch::channel(0);
    (CollectNow { ask, done }, run(parts, asked, fulfilled, stop))
}

async fn run(mut parts: Parts, mut asked: mpsc::Receiver<()>, fulfilled: watch::Sender<u64>, stop: CancellationToken) {
    let mut ours = load(&parts.data_dir);
    let mut collector = Collector::default();
    let mut next = tokio::time::Instant::now();
    let mut short = false;
    loop {
        let mut why = Why::Time;
        let mut changed = false;
        tokio::select! { biased;
            () = stop.cancelled() => return,
            Some(fetched) = parts.fetched.recv() => {
                if ours.fetched(&fetched) {
                    keep(&parts.data_dir, &ours).await;
                }
                next = next.min(tokio::time::Instant::now() + SETTLE);
                continue;
            }
            Some(()) = asked.recv() => why = Why::Now,
            () = tokio::time::sleep_until(next) => {}
        }
        next = tokio::time::Instant::now() + PERIOD;
        if let Err(failure) = parts.runtime.tidy().await {
            tracing::debug!(%failure, "what pods share and none uses stays until the next look");
        }
        let (Ok(images), Ok(disk)) = (parts.runtime.images().await, parts.runtime.image_disk().await) else {
            // A runtime that is away is said by `runtime/run.rs`; it is looked again when it answers.
            next = tokio::time::Instant::now() + PERIOD / 10;
            continue;
        };
        changed |= ours.keep_only(&images);
        let wanted = parts.wanted.borrow().clone();
        let plan = collector.look(
            parts.clock.now().tick,
            parts.limits,
            why,
            &There { images: &images, ours: &ours, wanted: &wanted, disk },
        );
        let mut freed = false;
        for id in &plan.remove {
            let names = ours.0.get(id).cloned().unwrap_or_default();
            match parts.runtime.remove_image(id, &names.into_iter().collect::<Vec<_>>()).await {
                Ok(()) => {
                    freed = true;
                    tracing::info!(image = %id, "removed: no container uses it");
                }
                Err(Failure::Unavailable(_)) => break,
                Err(failure) => tracing::debug!(image = %id, %failure, "an image stays"),
            }
        }
        if why == Why::Now {
            fulfilled.send_modify(|count| *count += 1);
        }
        if plan.short_bytes > 0 && !short {
            tracing::warn!(
                wanted_bytes = plan.short_bytes,
                "the disk is fuller than images may make it, and no other image of Bramble's is unused"
            );
        }
        short = plan.short_bytes > 0;
        let left = if freed { parts.runtime.images().await.unwrap_or(images) } else { images };
        changed |= ours.keep_only(&left);
        if changed {
            keep(&parts.data_dir, &ours).await;
        }
        let list = told(&left);
        parts.told.send_if_modified(|known| (*known != list).then(|| *known = list).is_some());
    }
}

/// The largest images with their names, as `status.images` has them.
fn told(images: &[ImageFacts]) -> Vec<NodeImage> {
    let mut list: Vec<NodeImage> = images
        .iter()
        .filter(|image| !image.sandbox)
        .map(|image| NodeImage {
            names: image.digests.iter().chain(&image.tags).take(MOST_NAMES).cloned().collect(),
            size_bytes: image.size_bytes,
        })
        .filter(|image| !image.names.is_empty())
        .collect();
    list.sort_by(|a, b| b.size_bytes.cmp(&a.size_bytes).then_with(|| a.names.cmp(&b.names)));
    list.truncate(MOST);
    // A message has room for 64 kB, and people give images long names.
    let mut room = MOST_BYTES;
    list.retain(|image| {
        let size: usize = image.names.iter().map(|name| name.len() + 32).sum();
        room = room.saturating_sub(size);
        room > 0
    });
    list
}

/// What Bramble fetched before this start. Without it those images stay for good, which is no reason not to start.
fn load(directory: &Path) -> Ours {
    let path = directory.join(FILE);
    match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), %error, "not understood: images fetched before are not removed any more");
            Ours::default()
        }),
        Err(_) => Ours::default(),
    }
}

async fn keep(directory: &Path, ours: &Ours) {
    let (directory, bytes) = (directory.to_owned(), serde_json::to_vec(ours).unwrap_or_default());
    match tokio::task::spawn_blocking(move || disk::replace(&directory, FILE, &bytes)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(error = %Chain(&error), "cannot keep which images were fetched; after a restart they stay for good");
        }
        Err(error) => tracing::error!(%error, "keeping the list of images died"),
    }
}
