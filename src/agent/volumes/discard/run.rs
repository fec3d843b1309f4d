//! Hands: removes what the share says is to go, and tells; again and again until the share says so no longer.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{disk, place};
use crate::api::Object;
use crate::link::message::VolumeReport;
use crate::link::share::Share;

/// Told again, and tried again, after this: the word may have been lost, and a disk may have been mended.
const AGAIN: Duration = Duration::from_secs(30);

/// Runs until `stop`.
pub async fn run(
    volumes_dir: PathBuf,
    mut shares: watch::Receiver<Arc<Share>>,
    told: mpsc::Sender<Vec<VolumeReport>>,
    stop: CancellationToken,
) {
    let mut failed: Vec<VolumeReport> = Vec::new();
    loop {
        let share = shares.borrow_and_update().clone();
        // A volume that a pod of this node still names is not touched, whatever the master says.
        let free = share.discard.values().filter(|volume| !share.claims.values().any(|used| used.name() == volume.name()));
        let mut reports = Vec::new();
        for volume in free {
            let message = removed(&volumes_dir, volume).await.err().unwrap_or_default();
            reports.push(VolumeReport {
                name: volume.name().to_owned(),
                uid: volume.uid(),
                removed: message.is_empty(),
                message,
            });
        }
        for report in &reports {
            if report.removed {
                tracing::info!(volume = report.name, "the volume's directory is removed");
            } else if !failed.contains(report) {
                tracing::warn!(
                    volume = report.name,
                    error = report.message,
                    "the volume's directory is kept: it cannot be removed"
                );
            }
        }
        failed = reports.iter().filter(|report| !report.removed).cloned().collect();
        if !reports.is_empty() && told.send(reports).await.is_err() {
            return;
        }
        tokio::select! { biased;
            () = stop.cancelled() => return,
            changed = shares.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(AGAIN), if !share.discard.is_empty() => {}
        }
    }
}

async fn removed(volumes_dir: &std::path::Path, volume: &Object) -> Result<(), String> {
    let path = place(volumes_dir, volume)?;
    let shown = path.display().to_string();
    let done = tokio::task::spawn_blocking(move || disk::remove(&path)).await.map_err(|error| error.to_string())?;
    done.map_err(|error| format!("cannot remove {shown}: {error}; remove it by hand as its owner"))
}
