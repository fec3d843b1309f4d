//! Hands: what a container leaves as its last words.
//!
//! Each run of a container has a file of its own in the pod's directory, mounted where the container writes its words
//! (`terminationMessagePath`). It is read when the container has ended; when it is empty and the container failed, the end of
//! the log may stand in for it. Source: the kubelet's getTerminationMessage.

use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::pin::pin;

use bollard::Docker;
use bollard::query_parameters::LogsOptions;
use futures_util::StreamExt;

use super::{QUICK, Shared, lock};
use crate::agent::last_words::FILE;
use crate::agent::last_words::disk::end_of;
use crate::agent::pods::dir;
use crate::agent::runtime::naming::Labels;
use crate::agent::runtime::{ContainerPlan, Failure, MountPlan, MountSource, RunState};
use crate::agent::volumes::disk;

/// What is read of the log, from its end. Source: MaxContainerTerminationMessageLogLength and …LogLines.
const LOG_BYTES: usize = 2048;
const LOG_LINES: &str = "80";

impl Shared {
    /// Makes the file, writable for whoever the container runs as; where it is to appear.
    pub(super) async fn last_words_mount(&self, plan: &ContainerPlan) -> Result<Option<MountPlan>, Failure> {
        let path = plan.last_words_path.clone();
        // What the pod itself mounts there is its own.
        if path.is_empty() || plan.mounts.iter().any(|mount| mount.path == path) {
            return Ok(None);
        }
        let folder = dir::container(&self.settings.run_dir, &plan.pod.uid, &plan.name, plan.attempt);
        let file = folder.join(FILE);
        let source = file.to_string_lossy().into_owned();
        self.on_disk(move || {
            disk::make(&folder)?;
            let made = std::fs::OpenOptions::new().create(true).append(true).mode(0o666).open(&file)?;
            // Our umask took something off.
            made.set_permissions(std::fs::Permissions::from_mode(0o666))
        })
        .await?;
        Ok(Some(MountPlan { path, source: MountSource::Host { path: source, make: false }, ..MountPlan::default() }))
    }

    /// The last words of a run that has ended; read once.
    pub(super) async fn last_words(&self, docker: &Docker, id: &str, labels: &Labels, state: &RunState) -> String {
        let RunState::Exited { exit_code, .. } = state else { return String::new() };
        if let Some(known) = lock(&self.last_words).get(id) {
            return known.clone();
        }
        let file = dir::container(&self.settings.run_dir, &labels.pod.uid, &labels.container, labels.attempt).join(FILE);
        let mut words = match self.on_disk(move || end_of(&file)).await {
            Ok(words) => words,
            // As upstream has it: who wonders why there is no word reads it in its place.
            Err(failure) => format!("Error on reading termination log: {failure}").into_bytes(),
        };
        if words.is_empty() && labels.last_words_from_log && *exit_code != 0 {
            words = self.end_of_log(docker, id).await;
        }
        let words = String::from_utf8_lossy(&words).into_owned();
        lock(&self.last_words).insert(id.to_owned(), words.clone());
        words
    }

    async fn end_of_log(&self, docker: &Docker, id: &str) -> Vec<u8> {
        let options = LogsOptions { stdout: true, stderr: true, tail: LOG_LINES.to_owned(), ..LogsOptions::default() };
        let mut words: Vec<u8> = Vec::new();
        let reading = async {
            let mut stream = pin!(docker.logs(id, Some(options)));
            while let Some(Ok(part)) = stream.next().await {
                words.extend_from_slice(&part.into_bytes());
                words.drain(..words.len().saturating_sub(LOG_BYTES));
            }
        };
        // What has come by then will do.
        let _ = tokio::time::timeout(QUICK, reading).await;
        words
    }

    /// Forgets what is known of runs that are no more.
    pub(super) fn keep_only(&self, there: impl Fn(&str) -> bool) {
        lock(&self.last_words).retain(|id, _| there(id));
        lock(&self.oom).retain(|id| there(id));
        lock(&self.listened).retain(|id| there(id));
        lock(&self.failed_starts).retain(|id, _| there(id));
    }
}
