//! Hands: what pods' volumes need in Docker and on the disk, before a container sees them.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use bollard::Docker;
use bollard::query_parameters::{ListVolumesOptions, UploadToContainerOptions};
use bytes::Bytes;

use super::{QUICK, SLOW, Shared};
use crate::agent::pods::dir;
use crate::agent::pods::spec::PullPolicy;
use crate::agent::runtime::tar::Tar;
use crate::agent::runtime::{
    ContainerPlan, Done, Failure, MountPlan, MountSource, PodRef, Recursive, VolumeKind, VolumePlan, VolumesPlan, naming,
    translate,
};
use crate::agent::volumes::disk::beneath::{self, Make};
use crate::agent::volumes::disk::{content, group, host_path, usage};
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
        let mut trouble = done.await.map_err(|error| Failure::Failed(format!("setting up volumes died: {error}")))?;
        for (volume, reference, pull) in &plan.images {
            if let Err(failure) = self.set_up_image(reference, *pull).await {
                if let Failure::Unavailable(_) = failure {
                    return Err(failure);
                }
                trouble.get_or_insert((volume.clone(), failure.to_string()));
            }
        }
        match trouble {
            None => Ok(Done::Ok),
            Some((volume, why)) => Err(Failure::Failed(format!("MountVolume.SetUp failed for volume \"{volume}\" : {why}"))),
        }
    }

    /// Has the image of an image volume here.
    async fn set_up_image(&self, reference: &str, pull: PullPolicy) -> Result<(), Failure> {
        let docker = self.client().await?;
        if !speaks(&docker, IMAGES) {
            let version = docker.client_version();
            return Err(Failure::Failed(format!(
                "image volumes need Docker 28 (API {}.{}); this one speaks {}.{}",
                IMAGES.0, IMAGES.1, version.major_version, version.minor_version
            )));
        }
        let present = matches!(self.find_image(reference).await?, Done::Image { present: true, .. });
        match pull {
            PullPolicy::Never if !present => {
                Err(Failure::Failed(format!("image \"{reference}\" is not present with pull policy of Never")))
            }
            PullPolicy::Always => self.pull_image(reference, &[]).await.map(drop),
            PullPolicy::IfNotPresent if !present => self.pull_image(reference, &[]).await.map(drop),
            PullPolicy::IfNotPresent | PullPolicy::Never => Ok(()),
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
    pub(super) async fn place_mounts(&self, docker: &Docker, plan: &ContainerPlan) -> Result<ContainerPlan, Failure> {
        let mut placed = plan.clone();
        for mount in &mut placed.mounts {
            self.place_mount(docker, plan, mount).await.map_err(|failure| match failure {
                Failure::Failed(why) => Failure::Failed(format!(
                    "failed to prepare the volumeMount at \"{}\" of container \"{}\": {why}",
                    mount.path, plan.name
                )),
                other => other,
            })?;
        }
        Ok(placed)
    }

    async fn place_mount(&self, docker: &Docker, plan: &ContainerPlan, mount: &mut MountPlan) -> Result<(), Failure> {
        if mount.read_only && mount.recursive_read_only == Recursive::Enabled && !speaks(docker, RECURSIVE) {
            return Err(Failure::Failed("recursiveReadOnly needs Docker 25 (API 1.44)".to_owned()));
        }
        let make = if mount.read_only { Make::Nothing } else { Make::Directories };
        let (root, make) = match &mount.source {
            // A volume whose content we write is nobody else's to write.
            MountSource::Content(name) => (dir::volume(&self.settings.run_dir, &plan.pod.uid, name), Make::Nothing),
            MountSource::Host { path, .. } if !mount.sub_path.is_empty() => (PathBuf::from(path), make),
            MountSource::Volume(name) if !mount.sub_path.is_empty() => {
                let known = naming::volume_name(&plan.pod, name);
                match self.mountpoint(docker, &known).await? {
                    Some(root) => (root, make),
                    // Docker is on another machine, or we are not root: then Docker must do it, if it can.
                    None if speaks(docker, SUBPATHS) => return Ok(()),
                    None => {
                        return Err(Failure::Failed(
                            "it needs an agent that is root on Docker's machine, or Docker 26 (API 1.45)".to_owned(),
                        ));
                    }
                }
            }
            MountSource::Host { .. } | MountSource::Volume(_) | MountSource::Image(_) => return Ok(()),
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
        mount.source = MountSource::Host { path, make: false };
        Ok(())
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
        let filters = HashMap::from([("label".to_owned(), self.owner().filter(only))]);
        let options = ListVolumesOptions { filters: Some(filters) };
        let found = self.ask(QUICK, docker.list_volumes(Some(options))).await?.volumes.unwrap_or_default();
        Ok(found.into_iter().filter_map(|volume| Some((volume.name, naming::read(self.owner(), &volume.labels)?))).collect())
    }
}

/// Whether the agreed API version is at least this one.
fn speaks(docker: &Docker, version: (usize, usize)) -> bool {
    let agreed = docker.client_version();
    (agreed.major_version, agreed.minor_version) >= version
}
