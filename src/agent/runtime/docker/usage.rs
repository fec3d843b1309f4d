//! Hands: what containers use, by the kernel's files where they can be read from here, else by Docker's own count.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use bollard::Docker;
use bollard::query_parameters::{InspectContainerOptions, ListContainersOptions, StatsOptions};
use futures_util::StreamExt;

use super::{QUICK, SLOW, Shared, lock};
use crate::agent::runtime::{Failure, naming};
use crate::agent::stats::cgroup::Place;
use crate::agent::stats::sysinfo::{Groups, folder_usage, log_bytes};
use crate::agent::stats::{ContainerUsage, DiskUsage, OnDisk, Usage};
use crate::api::Uid;

/// Where a container's figures are. A container keeps its place as long as it runs, and its id is never given again.
pub(super) type Places = HashMap<String, Option<Place>>;

impl Shared {
    pub(super) async fn usage(&self) -> Result<Usage, Failure> {
        let docker = self.client().await?;
        let filters =
            HashMap::from([("label".to_owned(), self.owner().filter(None)), ("status".to_owned(), vec!["running".to_owned()])]);
        let options = ListContainersOptions { filters: Some(filters), ..ListContainersOptions::default() };
        let found = self.containers(&docker, options).await?;
        let mut places = std::mem::take(&mut *lock(&self.places));
        let (mut kept, mut containers) = (Places::new(), Vec::new());
        for summary in found {
            let Some(id) = summary.id else { continue };
            let Some(labels) = naming::read(self.owner(), &summary.labels.unwrap_or_default()) else { continue };
            if labels.container == naming::SANDBOX {
                continue;
            }
            let place = match places.remove(&id) {
                Some(place) => place,
                None => self.place(&docker, &id).await,
            };
            let used = match place.as_ref().and_then(|place| Groups::default().usage(place)) {
                Some(used) => Some(used),
                None => self.by_docker(&docker, &id).await,
            };
            let tasks = place.as_ref().map_or(0, |place| Groups::default().tasks(place));
            kept.insert(id.clone(), place);
            if let Some((cpu_nanoseconds, memory_bytes)) = used {
                containers.push(ContainerUsage {
                    pod: labels.pod,
                    container: labels.container,
                    id,
                    cpu_nanoseconds,
                    memory_bytes,
                    tasks,
                });
            }
        }
        *lock(&self.places) = kept;
        Ok(Usage { node: None, containers })
    }

    async fn place(&self, docker: &Docker, id: &str) -> Option<Place> {
        let inspect = self.ask(QUICK, docker.inspect_container(id, None)).await.ok()?;
        let pid = inspect.state?.pid.filter(|pid| *pid > 0)?;
        Groups::default().place(u64::try_from(pid).ok()?)
    }

    /// Docker's count, where the agent cannot read the files: in a container of its own, or without the right.
    async fn by_docker(&self, docker: &Docker, id: &str) -> Option<(u64, u64)> {
        let mut answers = docker.stats(id, Some(StatsOptions { stream: false, one_shot: true }));
        let stats = tokio::time::timeout(QUICK, answers.next()).await.ok()??.ok()?;
        let cpu = stats.cpu_stats?.cpu_usage?.total_usage?;
        let memory = stats.memory_stats.unwrap_or_default();
        let counts = memory.stats.unwrap_or_default();
        let inactive = counts.get("total_inactive_file").or_else(|| counts.get("inactive_file")).copied().unwrap_or_default();
        Some((cpu, memory.usage.unwrap_or_default().saturating_sub(inactive)))
    }

    /// What these pods have on disk: logs, what containers wrote outside of volumes, and volumes. Slow: Docker walks the files.
    pub(super) async fn disk(&self, only: Option<&Uid>) -> Result<Vec<DiskUsage>, Failure> {
        let docker = self.client().await?;
        let mut pods: BTreeMap<Uid, DiskUsage> = BTreeMap::new();
        for (id, labels) in self.list(&docker, only).await? {
            let inspect = docker.inspect_container(&id, Some(InspectContainerOptions { size: true }));
            // Removed since the list was made, or slow to count: it counts as nothing, which keeps its pod.
            let Ok(inspect) = self.ask(SLOW, inspect).await else { continue };
            let written = u64::try_from(inspect.size_rw.unwrap_or_default()).unwrap_or_default();
            // The engine counts bytes only. Files are counted where its driver keeps what a container writes in a folder of its own, and
            // only when pods are compared: limits are in bytes.
            let upper = inspect.graph_driver.filter(|_| only.is_none());
            let upper = upper.and_then(|driver| driver.data.get("UpperDir").map(PathBuf::from));
            let files = match upper {
                Some(folder) => tokio::task::spawn_blocking(move || folder_usage(&folder)).await.unwrap_or_default().files,
                None => 0,
            };
            let log = inspect.log_path.filter(|path| !path.is_empty()).map_or(0, |path| log_bytes(Path::new(&path)));
            let pod = pods.entry(labels.pod.uid.clone()).or_default();
            pod.pod = labels.pod;
            let held = pod.containers.entry(labels.container).or_default();
            *held = held.and(OnDisk { bytes: written.saturating_add(log), files });
        }
        for (volume, labels) in self.list_volumes(&docker, only).await? {
            // One in memory is the memory's matter.
            let in_memory = volume.options.get("type").is_some_and(|kind| kind == "tmpfs");
            // An image's files are the node's.
            if in_memory || volume.labels.contains_key(naming::IMAGE_VOLUME) {
                continue;
            }
            let folder = PathBuf::from(volume.mountpoint);
            let held = tokio::task::spawn_blocking(move || folder_usage(&folder)).await.unwrap_or_default();
            let pod = pods.entry(labels.pod.uid.clone()).or_default();
            pod.pod = labels.pod;
            let name = volume.labels.get(naming::VOLUME).cloned().unwrap_or_default();
            pod.volumes.insert(name, held);
        }
        Ok(pods.into_values().collect())
    }

    /// Where Docker keeps images and containers.
    pub(super) async fn root(&self) -> Result<Option<PathBuf>, Failure> {
        let docker = self.client().await?;
        let info = self.ask(QUICK, docker.info()).await?;
        Ok(info.docker_root_dir.filter(|path| !path.is_empty()).map(PathBuf::from))
    }
}
