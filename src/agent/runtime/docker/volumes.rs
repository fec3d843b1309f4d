//! Hands: what pods' volumes need in Docker and on the disk, before a container sees them.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use bollard::Docker;
use bollard::models::Volume;
use bollard::query_parameters::{ListVolumesOptions, UploadToContainerOptions};
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::{QUICK, SLOW, Shared};
use crate::agent::pods::dir;
use crate::agent::runtime::tar::Tar;
use crate::agent::runtime::{
    ContainerPlan, Done, Failure, MountPlan, MountSource, PodRef, Recursive, VolumeKind, VolumePlan, VolumesPlan, naming,
    translate,
};
use crate::agent::volumes::disk::beneath::{self, Make};
use crate::agent::volumes::disk::{content, group, host_path, usage};
use crate::agent::volumes::image;
use crate::api::Uid;
use crate::error::Chain;

/// From this API version on Docker makes mounts below a read-only one read-only too, when asked.
const RECURSIVE: (usize, usize) = (1, 44);
/// From this API version on Docker mounts a part of a volume by itself.
const SUBPATHS: (usize, usize) = (1, 45);
/// From this API version on Docker mounts images.
const IMAGES: (usize, usize) = (1, 48);

impl Shared {
    /// Makes what the pod's volumes need. Contents first: one volume's trouble does not keep another one old.
    pub(super) async fn set_up_volumes(&self, pod: &PodRef, plan: &VolumesPlan) -> Result<Done, Failure> {
        let (run_dir, uid, mine) = (self.settings.run_dir.clone(), pod.uid.clone(), plan.clone());
        let done = tokio::task::spawn_blocking(move || {
            let mut trouble = None;
            for wanted in &mine.contents {
                match content::write(&dir::volume(&run_dir, &uid, &wanted.volume), wanted) {
                    Ok(true) => {
                        tracing::debug!(uid = uid.0, volume = wanted.volume, files = wanted.files.len(), "content written");
                    }
                    Ok(false) => {}
                    Err(error) => {
                        trouble.get_or_insert((wanted.volume.clone(), format!("cannot write its content: {}", Chain(&error))));
                    }
                }
            }
            for wanted in &mine.host_paths {
                let ready = host_path::check(&wanted.path, wanted.kind).map_err(|error| error.to_string());
                let ready = ready.and_then(|()| match wanted.group {
                    Some(group) => group::give(Path::new(&wanted.path), group)
                        .map(drop)
                        .map_err(|error| format!("cannot give it to fsGroup {group}: {}", Chain(&error))),
                    None => Ok(()),
                });
                if let Err(why) = ready {
                    trouble.get_or_insert((wanted.volume.clone(), why));
                }
            }
            trouble
        });
        match done.await.map_err(|error| Failure::Failed(format!("setting up volumes died: {error}")))? {
            None => Ok(Done::Ok),
            Some((volume, why)) => Err(Failure::Failed(format!("MountVolume.SetUp failed for volume \"{volume}\" : {why}"))),
        }
    }

    /// Gives the pod's volumes on disk their mode and group, through the sandbox, which has them all. One in memory has both
    /// from its options.
    pub(super) async fn open_volumes(&self, docker: &Docker, sandbox: &str, volumes: &[VolumePlan]) -> Result<(), Failure> {
        let mut tar = Tar::default();
        let mut any = false;
        for volume in volumes.iter().filter(|volume| volume.kind == VolumeKind::Disk) {
            any = true;
            tar.directory_of(&volume.name, translate::root_mode(volume), volume.group.unwrap_or_default());
        }
        if !any {
            return Ok(());
        }
        let options = UploadToContainerOptions { path: translate::VOLUMES.to_owned(), ..UploadToContainerOptions::default() };
        let body = bollard::body_full(Bytes::from(tar.finish()));
        self.ask(SLOW, docker.upload_to_container(sandbox, Some(options), body)).await
    }

    /// The plan with the places of its mounts found: content and parts of volumes are paths of the host.
    pub(super) async fn place_mounts(
        &self,
        docker: &Docker,
        plan: &ContainerPlan,
        given_up: &CancellationToken,
    ) -> Result<ContainerPlan, Failure> {
        let mut placed = plan.clone();
        for mount in &mut placed.mounts {
            let made = self.place_mount(docker, plan, mount, given_up).await.map_err(|failure| match failure {
                Failure::Failed(why) => Failure::Failed(format!(
                    "failed to prepare the volumeMount at \"{}\" of container \"{}\": {why}",
                    mount.path, plan.name
                )),
                other => other,
            })?;
            placed.volumes.extend(made);
        }
        Ok(placed)
    }

    /// The volume of the engine that the mount needs beside those of the plan, if it needs one.
    async fn place_mount(
        &self,
        docker: &Docker,
        plan: &ContainerPlan,
        mount: &mut MountPlan,
        given_up: &CancellationToken,
    ) -> Result<Option<VolumePlan>, Failure> {
        if mount.read_only && mount.recursive_read_only == Recursive::Enabled && !speaks(docker, RECURSIVE) {
            return Err(Failure::Failed("recursiveReadOnly needs Docker 25 (API 1.44)".to_owned()));
        }
        let make = if mount.read_only { Make::Nothing } else { Make::Directories };
        let mut unpacked = None;
        let (root, make) = match &mount.source {
            // A volume whose content we write is nobody else's to write.
            MountSource::Content(name) => (dir::volume(&self.settings.run_dir, &plan.pod.uid, name), Make::Nothing),
            MountSource::Host { path, .. } if !mount.sub_path.is_empty() => (PathBuf::from(path), make),
            MountSource::Volume(name) if !mount.sub_path.is_empty() => {
                let known = naming::volume_name(&plan.pod, name);
                match self.mountpoint(docker, &known).await? {
                    Some(root) => (root, make),
                    // Docker is on another machine, or we are not root: then Docker must do it, if it can.
                    None if speaks(docker, SUBPATHS) => return Ok(None),
                    None => {
                        return Err(Failure::Failed(
                            "it needs an agent that is root on Docker's machine, or Docker 26 (API 1.45)".to_owned(),
                        ));
                    }
                }
            }
            MountSource::Image { volume, reference } if !speaks(docker, IMAGES) => {
                let (id, root) = self.unpacked(docker, &plan.pod, volume, reference, given_up).await?;
                unpacked = Some(id);
                (root, Make::Nothing)
            }
            MountSource::Host { .. } | MountSource::Volume(_) | MountSource::Unpacked(_) | MountSource::Image { .. } => {
                return Ok(None);
            }
        };
        let path = if mount.sub_path.is_empty() {
            root
        } else {
            let sub_path = std::mem::take(&mut mount.sub_path);
            tokio::task::spawn_blocking(move || beneath::resolve(&root, &sub_path, make))
                .await
                .map_err(|error| Failure::Failed(error.to_string()))?
                .map_err(|error| Failure::Failed(error.to_string()))?
        };
        let Some(path) = path.to_str().map(str::to_owned) else {
            return Err(Failure::Failed(format!("{} is no UTF-8", path.display())));
        };
        let looked = path.clone();
        match unpacked {
            Some(_) if self.engine().binds_without_exec() => {
                mount.source = MountSource::Unpacked(path);
                Ok(None)
            }
            Some(image) if self.on_disk(move || Ok(Path::new(&looked).is_dir())).await? => {
                let name = image::volume(&path);
                mount.source = MountSource::Volume(name.clone());
                Ok(Some(VolumePlan { name, kind: VolumeKind::Unpacked { image, path }, group: None }))
            }
            // A file alone can be no volume of the engine: it is bound read-only.
            _ => {
                mount.source = MountSource::Host { path, make: false };
                Ok(None)
            }
        }
    }

    /// Where a volume lies on this machine, if we can look into it.
    async fn mountpoint(&self, docker: &Docker, volume: &str) -> Result<Option<PathBuf>, Failure> {
        let path = PathBuf::from(self.ask(QUICK, docker.inspect_volume(volume)).await?.mountpoint);
        let looked = path.clone();
        let readable = self.on_disk(move || Ok(std::fs::read_dir(looked).is_ok())).await?;
        Ok(readable.then_some(path))
    }

    /// How much is in each of these volumes of a pod, as far as we can look into them.
    pub(super) async fn measure_volumes(&self, pod: &PodRef, volumes: &[String]) -> Result<Done, Failure> {
        let docker = self.client().await?;
        let mut measured = Vec::new();
        for volume in volumes {
            let Some(path) = self.mountpoint(&docker, &naming::volume_name(pod, volume)).await? else { continue };
            let counted = self.on_disk(move || usage::bytes(&path)).await?;
            measured.push((volume.clone(), counted));
        }
        Ok(Done::Measured(measured))
    }

    /// Names and labels of our volumes.
    pub(super) async fn volumes(&self, docker: &Docker, only: Option<&Uid>) -> Result<BTreeMap<String, naming::Labels>, Failure> {
        Ok(self.list_volumes(docker, only).await?.into_iter().map(|(volume, labels)| (volume.name, labels)).collect())
    }

    /// Our volumes, with what their labels say.
    pub(super) async fn list_volumes(
        &self,
        docker: &Docker,
        only: Option<&Uid>,
    ) -> Result<Vec<(Volume, naming::Labels)>, Failure> {
        let filters = HashMap::from([("label".to_owned(), self.owner().filter(only))]);
        let options = ListVolumesOptions { filters: Some(filters) };
        let found = self.ask(QUICK, docker.list_volumes(Some(options))).await?.volumes.unwrap_or_default();
        let ours = |volume: Volume| naming::read_of(self.owner(), only, &volume.labels).map(|labels| (volume, labels));
        Ok(found.into_iter().filter_map(ours).collect())
    }
}

/// Whether the agreed API version is at least this one.
fn speaks(docker: &Docker, version: (usize, usize)) -> bool {
    let agreed = docker.client_version();
    (agreed.major_version, agreed.minor_version) >= version
}
