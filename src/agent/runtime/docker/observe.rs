//! Hands: what there is in Docker, as the node looks at it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use bollard::errors::Error;
use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum};

use super::{QUICK, Shared, lock};
use crate::agent::runtime::{Failure, Listing, ObservedContainer, ObservedPod, ObservedSandbox, PodRef, RunState, Trace, naming};
use crate::agent::volumes::disk;
use crate::api::{Uid, time};

/// A container that ended within so many milliseconds may not have begun at all.
const AT_ONCE_MS: i64 = 1000;

impl Shared {
    pub(super) async fn observe(&self, only: Option<&Uid>) -> Result<Listing, Failure> {
        let stamp = self.stamp.fetch_add(1, Ordering::SeqCst) + 1;
        let docker = self.client().await?;
        let mut listing = Listing { stamp, only: only.cloned(), pods: BTreeMap::new() };
        for (id, labels) in self.list(&docker, only).await? {
            let inspect = match self.within(QUICK, docker.inspect_container(&id, None)).await {
                Ok(Ok(inspect)) => inspect,
                // Removed since the list was made.
                Ok(Err(Error::DockerResponseServerError { status_code: 404, .. })) => continue,
                Ok(Err(error)) => return Err(self.failure(&error)),
                Err(_) => return Err(Failure::Unavailable("Docker does not answer".to_owned())),
            };
            let mut state = run_state(&inspect);
            if labels.container == naming::SANDBOX {
                let pod = entry(&mut listing, &labels.pod);
                pod.sandboxes.push(ObservedSandbox {
                    id,
                    attempt: labels.attempt,
                    pod_start: labels.pod_start,
                    grace: labels.grace,
                    ip: address(&inspect),
                    state,
                });
            } else {
                let image = inspect.image.as_deref().unwrap_or_default();
                if let RunState::Exited { started, finished, exit_code: 1 | 126 | 255, error: error @ None, .. } = &mut state
                    && finished.0.saturating_sub(started.0) < AT_ONCE_MS
                {
                    *error = self.exec_format(&docker, &id, image, &labels.image).await;
                }
                let message = self.last_words(&docker, &id, &labels, &state).await;
                let oom =
                    lock(&self.oom).contains(&id) || inspect.state.as_ref().is_some_and(|state| state.oom_killed == Some(true));
                let image_id = self.digest(&docker, inspect.image.as_deref().unwrap_or_default(), &labels.image).await;
                let pod = entry(&mut listing, &labels.pod);
                pod.containers.push(ObservedContainer {
                    id,
                    name: labels.container,
                    attempt: labels.attempt,
                    streak: labels.streak,
                    spec_hash: labels.spec_hash,
                    image: labels.image,
                    image_id,
                    sandbox_id: labels.sandbox_id,
                    message,
                    oom,
                    trace: Trace::There,
                    devices: labels.devices,
                    state,
                });
            }
        }
        for (name, labels) in self.volumes(&docker, only).await? {
            entry(&mut listing, &labels.pod).volumes.push(name);
        }
        let (run_dir, uid) = (self.settings.run_dir.clone(), only.cloned());
        let directories = self.on_disk(move || match uid {
            Some(uid) => Ok(disk::has_pod(&run_dir, &uid).then_some(uid).into_iter().collect()),
            None => disk::pods(&run_dir),
        });
        for uid in directories.await? {
            let observed = listing.pods.entry(uid.clone()).or_default();
            observed.pod.uid = uid;
            observed.directory = true;
        }
        if only.is_none() {
            let there: BTreeSet<&str> =
                listing.pods.values().flat_map(|pod| &pod.containers).map(|run| run.id.as_str()).collect();
            self.keep_only(|id| there.contains(id));
        }
        for pod in listing.pods.values_mut() {
            pod.sandboxes.sort_by_key(|sandbox| sandbox.attempt);
            pod.containers.sort_by(|a, b| (&a.name, a.attempt).cmp(&(&b.name, b.attempt)));
            pod.volumes.sort();
        }
        Ok(listing)
    }
}

fn entry<'a>(listing: &'a mut Listing, pod: &PodRef) -> &'a mut ObservedPod {
    let observed = listing.pods.entry(pod.uid.clone()).or_default();
    observed.pod = pod.clone();
    observed
}

fn run_state(inspect: &ContainerInspectResponse) -> RunState {
    let created = inspect.created.as_deref().and_then(time::parse).unwrap_or_default();
    let Some(state) = inspect.state.as_ref() else { return RunState::Created };
    // The year 1 means "never".
    let moment = |text: &Option<String>| text.as_deref().and_then(time::parse).filter(|wall| wall.0 > 0);
    let error = state.error.clone().filter(|error| !error.is_empty());
    let started = moment(&state.started_at);
    match state.status {
        Some(ContainerStateStatusEnum::RUNNING | ContainerStateStatusEnum::PAUSED | ContainerStateStatusEnum::RESTARTING) => {
            RunState::Running { started: started.unwrap_or(created) }
        }
        Some(ContainerStateStatusEnum::CREATED) | None if error.is_none() => RunState::Created,
        _ => RunState::Exited {
            started: started.unwrap_or(created),
            finished: moment(&state.finished_at).or(started).unwrap_or(created),
            exit_code: state.exit_code.unwrap_or_default(),
            oom: state.oom_killed.unwrap_or_default(),
            // Once it ran, what Docker says here is about the end, not the start.
            error: if started.is_none() { error } else { None },
        },
    }
}

fn address(inspect: &ContainerInspectResponse) -> Option<String> {
    let networks = inspect.network_settings.as_ref()?.networks.as_ref()?;
    let addresses: BTreeMap<&String, &String> =
        networks.iter().filter_map(|(name, network)| Some((name, network.ip_address.as_ref()?))).collect();
    addresses.into_values().find(|address| !address.is_empty()).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Wall;

    #[test]
    fn states_are_read_as_docker_writes_them() {
        let read = |state: serde_json::Value| {
            let inspect = serde_json::json!({"Created": "2026-11-22T20:00:00.5Z", "State": state});
            run_state(&serde_json::from_value(inspect).unwrap())
        };
        let never = "0001-01-01T00:00:00Z";
        let created = Wall(1_795_377_600_500);
        assert_eq!(read(serde_json::json!({"Status": "created", "StartedAt": never, "Error": ""})), RunState::Created);
        assert_eq!(
            read(serde_json::json!({"Status": "running", "StartedAt": "2026-11-22T20:00:01.000000001Z", "FinishedAt": never})),
            RunState::Running { started: Wall(1_795_377_601_000) }
        );
        assert_eq!(
            read(
                serde_json::json!({"Status": "created", "StartedAt": never, "FinishedAt": never, "ExitCode": 127, "Error": "no such file"})
            ),
            RunState::Exited {
                started: created,
                finished: created,
                exit_code: 127,
                oom: false,
                error: Some("no such file".into())
            }
        );
    }
}
