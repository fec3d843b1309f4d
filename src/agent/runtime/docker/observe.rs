//! Hands: what there is in Docker, as the node looks at it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum, ContainerSummary, EndpointSettings};
use bollard::query_parameters::ListContainersOptions;

use super::oom::Since;
use super::{QUICK, Shared, engine, lock};
use crate::agent::runtime::{Failure, Listing, ObservedContainer, ObservedPod, ObservedSandbox, PodRef, RunState, Trace, naming};
use crate::agent::volumes::disk;
use crate::api::{Uid, time};

/// A container that ended within so many milliseconds may not have begun at all.
const AT_ONCE_MS: i64 = 1000;
/// Between two looks at a container that is between two states.
const ODD_MOMENT: Duration = Duration::from_millis(50);

impl Shared {
    pub(super) async fn observe(&self, only: Option<&Uid>) -> Result<Listing, Failure> {
        let stamp = self.stamp.fetch_add(1, Ordering::SeqCst) + 1;
        let docker = self.client().await?;
        let mut listing = Listing { stamp, only: only.cloned(), scheme: Some(self.engine().scheme()), pods: BTreeMap::new() };
        for (id, labels) in self.list(&docker, only).await? {
            // `None`: removed since the list was made.
            let Some(inspect) = self.look(&docker, &id).await? else { continue };
            let failed = lock(&self.failed_starts).get(&id).cloned();
            let mut state = run_state(&inspect, failed);
            if labels.container == naming::SANDBOX {
                lock(&self.sandboxes).insert(id.clone(), labels.pod.uid.clone());
                let pod = entry(&mut listing, &labels.pod);
                pod.sandboxes.push(ObservedSandbox {
                    off_network: is_off_network(&inspect),
                    id,
                    attempt: labels.attempt,
                    pod_start: labels.pod_start,
                    grace: labels.grace,
                    ip: address(&inspect),
                    ip6: address6(&inspect),
                    state,
                });
            } else {
                let killed = lock(&self.oom).contains(&id);
                match &mut state {
                    RunState::Running { .. } => {
                        self.listen_for_oom(&id, inspect.state.as_ref().and_then(|state| state.pid), Since::Before);
                    }
                    RunState::Exited { exit_code: 137, oom, .. } if killed && !self.engine().tells_oom() => *oom = true,
                    RunState::Created | RunState::Exited { .. } => {}
                }
                let image = inspect.image.as_deref().unwrap_or_default();
                if let RunState::Exited { started, finished, exit_code: 1 | 126 | 255, error: error @ None, .. } = &mut state
                    && finished.0.saturating_sub(started.0) < AT_ONCE_MS
                {
                    *error = self.exec_format(&docker, &id, image, &labels.image).await;
                }
                let message = self.last_words(&docker, &id, &labels, &state).await;
                let oom = killed || inspect.state.as_ref().is_some_and(|state| state.oom_killed == Some(true));
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
            Some(uid) => Ok(with_runs(&run_dir, disk::has_pod(&run_dir, &uid).then_some(uid))),
            None => Ok(with_runs(&run_dir, disk::pods(&run_dir)?)),
        });
        for (uid, left) in directories.await? {
            let observed = listing.pods.entry(uid.clone()).or_default();
            observed.pod.uid = uid;
            (observed.directory, observed.left) = (true, left);
        }
        if only.is_none() {
            let there: BTreeSet<&str> =
                listing.pods.values().flat_map(|pod| &pod.containers).map(|run| run.id.as_str()).collect();
            self.keep_only(|id| there.contains(id));
            let sandboxes: BTreeSet<&str> =
                listing.pods.values().flat_map(|pod| &pod.sandboxes).map(|sandbox| sandbox.id.as_str()).collect();
            lock(&self.sandboxes).retain(|id, _| sandboxes.contains(id.as_str()));
        }
        for pod in listing.pods.values_mut() {
            pod.sandboxes.sort_by_key(|sandbox| sandbox.attempt);
            pod.containers.sort_by(|a, b| (&a.name, a.attempt).cmp(&(&b.name, b.attempt)));
            pod.volumes.sort();
        }
        Ok(listing)
    }
}

impl Shared {
    /// One container.
    pub(super) async fn look(&self, docker: &Docker, id: &str) -> Result<Option<ContainerInspectResponse>, Failure> {
        match self.settled(|| docker.inspect_container(id, None)).await? {
            Ok(inspect) => Ok(Some(inspect)),
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
            Err(error) => Err(self.failure(&error)),
        }
    }

    /// Those of the machine's containers that these options let through.
    pub(super) async fn containers(
        &self,
        docker: &Docker,
        options: ListContainersOptions,
    ) -> Result<Vec<ContainerSummary>, Failure> {
        self.settled(|| docker.list_containers(Some(options.clone()))).await?.map_err(|error| self.failure(&error))
    }

    /// An answer that tells the states of containers. Podman shows states of its own for the moments between an end and its tidying
    /// up, which are no Docker's and cannot be read: it is asked again until they are over.
    async fn settled<T, F>(&self, question: impl Fn() -> F) -> Result<Result<T, Error>, Failure>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut tries = self.engine().odd_moments();
        loop {
            match self.within(QUICK, question()).await {
                Ok(Err(Error::JsonDataError { .. } | Error::JsonSerdeError { .. })) if tries > 0 => {
                    tries -= 1;
                    tokio::time::sleep(ODD_MOMENT).await;
                }
                Ok(answer) => return Ok(answer),
                Err(_) => return Err(Failure::Unavailable("Docker does not answer".to_owned())),
            }
        }
    }
}

/// Pods, each with what is left of its containers' runs.
fn with_runs(run_dir: &Path, uids: impl IntoIterator<Item = Uid>) -> Vec<(Uid, BTreeMap<String, u32>)> {
    uids.into_iter().map(|uid| (uid.clone(), disk::runs(run_dir, &uid))).collect()
}

fn entry<'a>(listing: &'a mut Listing, pod: &PodRef) -> &'a mut ObservedPod {
    let observed = listing.pods.entry(pod.uid.clone()).or_default();
    observed.pod = pod.clone();
    observed
}

/// What the engine says of a container. `failed`: what it said of its start, where it keeps nothing of that.
fn run_state(inspect: &ContainerInspectResponse, failed: Option<String>) -> RunState {
    let created = inspect.created.as_deref().and_then(time::parse).unwrap_or_default();
    let Some(state) = inspect.state.as_ref() else { return RunState::Created };
    // The year 1 means "never".
    let moment = |text: &Option<String>| text.as_deref().and_then(time::parse).filter(|wall| wall.0 > 0);
    let error = state.error.clone().filter(|error| !error.is_empty());
    let started = moment(&state.started_at);
    match state.status {
        Some(
            ContainerStateStatusEnum::RUNNING
            | ContainerStateStatusEnum::PAUSED
            | ContainerStateStatusEnum::RESTARTING
            | ContainerStateStatusEnum::STOPPING,
        ) => RunState::Running { started: started.unwrap_or(created) },
        // One that is being removed before it ever ran has not ended: it is no attempt.
        Some(ContainerStateStatusEnum::CREATED | ContainerStateStatusEnum::REMOVING | ContainerStateStatusEnum::DEAD) | None
            if error.is_none() && started.is_none() =>
        {
            match failed {
                None => RunState::Created,
                Some(words) => RunState::Exited {
                    started: created,
                    finished: created,
                    exit_code: engine::exit_code(&words),
                    oom: false,
                    error: Some(words),
                },
            }
        }
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

/// Its own address, where it has one.
pub(super) fn address(inspect: &ContainerInspectResponse) -> Option<String> {
    first_of(inspect, |network| network.ip_address.as_ref())
}

/// Its own IPv6 address, where it has one.
pub(super) fn address6(inspect: &ContainerInspectResponse) -> Option<String> {
    first_of(inspect, |network| network.global_ipv6_address.as_ref())
}

fn first_of(inspect: &ContainerInspectResponse, of: impl Fn(&EndpointSettings) -> Option<&String>) -> Option<String> {
    let networks = inspect.network_settings.as_ref()?.networks.as_ref()?;
    let addresses: BTreeMap<&String, &String> =
        networks.iter().filter_map(|(name, network)| Some((name, of(network)?))).collect();
    addresses.into_values().find(|address| !address.is_empty()).cloned()
}

/// Whether it is on no network at all. One with the host's network is on that, and one that waits for its address is on ours.
fn is_off_network(inspect: &ContainerInspectResponse) -> bool {
    let on_ours = inspect.host_config.as_ref().and_then(|host| host.network_mode.as_deref()).is_some_and(|mode| mode != "host");
    let networks = inspect.network_settings.as_ref().and_then(|settings| settings.networks.as_ref());
    on_ours && networks.is_none_or(HashMap::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Wall;

    #[test]
    fn a_sandbox_that_was_taken_off_its_network_shows_it() {
        let read = |mode: &str, networks: serde_json::Value| {
            let inspect = serde_json::json!({"HostConfig": {"NetworkMode": mode}, "NetworkSettings": {"Networks": networks}});
            is_off_network(&serde_json::from_value(inspect).unwrap())
        };
        let on = |address: &str| serde_json::json!({"bramble-1": {"IPAddress": address}});
        for (mode, networks, off) in [
            ("bramble-1", on("172.18.0.2"), false),
            ("bramble-1", on(""), false),
            ("bramble-1", serde_json::json!({}), true),
            ("bramble-1", serde_json::Value::Null, true),
            ("host", serde_json::json!({"host": {"IPAddress": ""}}), false),
            ("host", serde_json::json!({}), false),
        ] {
            assert_eq!(read(mode, networks.clone()), off, "{mode} {networks}");
        }
    }

    #[test]
    fn both_addresses_of_a_sandbox_are_read() {
        let read = |networks: serde_json::Value| {
            let inspect = serde_json::from_value(serde_json::json!({"NetworkSettings": {"Networks": networks}})).unwrap();
            (address(&inspect), address6(&inspect))
        };
        let words = |text: &str| Some(text.to_owned());
        for (network, told) in [
            (
                serde_json::json!({"IPAddress": "10.244.3.7", "GlobalIPv6Address": "fd00::7"}),
                (words("10.244.3.7"), words("fd00::7")),
            ),
            (serde_json::json!({"IPAddress": "10.244.3.7", "GlobalIPv6Address": ""}), (words("10.244.3.7"), None)),
            (serde_json::json!({"IPAddress": ""}), (None, None)),
        ] {
            assert_eq!(read(serde_json::json!({ "bramble-1": network })), told);
        }
    }

    #[test]
    fn states_are_read_as_docker_writes_them() {
        let read = |state: serde_json::Value| {
            let inspect = serde_json::json!({"Created": "2026-11-22T20:00:00.5Z", "State": state});
            run_state(&serde_json::from_value(inspect).unwrap(), None)
        };
        let never = "0001-01-01T00:00:00Z";
        let created = Wall(1_795_377_600_500);
        for status in ["created", "removing", "dead"] {
            assert_eq!(read(serde_json::json!({"Status": status, "StartedAt": never, "Error": ""})), RunState::Created);
        }
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
