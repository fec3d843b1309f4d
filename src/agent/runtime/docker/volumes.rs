//! Hands: the volumes of pods in Docker, and the files in them.

use std::collections::{BTreeMap, HashMap};

use bollard::Docker;
use bollard::query_parameters::{ListVolumesOptions, UploadToContainerOptions};
use bytes::Bytes;

use super::{QUICK, SLOW, Shared};
use crate::agent::runtime::tar::Tar;
use crate::agent::runtime::{Failure, VolumePlan, naming, translate};
use crate::api::Uid;

impl Shared {
    /// Sets the mode of each volume's root and puts its files in, through the sandbox, which has them all.
    pub(super) async fn fill_volumes(&self, docker: &Docker, sandbox: &str, volumes: &[VolumePlan]) -> Result<(), Failure> {
        let mut tar = Tar::default();
        // A tmpfs has its mode from its options.
        let filled = volumes.iter().filter(|volume| volume.memory.is_none() || !volume.files.is_empty());
        let mut any = false;
        for volume in filled {
            any = true;
            tar.directory(&volume.name, volume.mode);
            for file in &volume.files {
                let path = format!("{}/{}", volume.name, file.path);
                for (at, _) in file.path.match_indices('/') {
                    if let Some(folder) = file.path.get(..at) {
                        tar.directory(&format!("{}/{folder}", volume.name), 0o755);
                    }
                }
                tar.file(&path, file.mode, &file.content);
            }
        }
        if !any {
            return Ok(());
        }
        let options = UploadToContainerOptions { path: translate::VOLUMES.to_owned(), ..UploadToContainerOptions::default() };
        let body = bollard::body_full(Bytes::from(tar.finish()));
        self.ask(SLOW, docker.upload_to_container(sandbox, Some(options), body)).await
    }

    /// Names and labels of our volumes.
    pub(super) async fn volumes(&self, docker: &Docker, only: Option<&Uid>) -> Result<BTreeMap<String, naming::Labels>, Failure> {
        let filters = HashMap::from([("label".to_owned(), self.owner().filter(only))]);
        let options = ListVolumesOptions { filters: Some(filters) };
        let found = self.ask(QUICK, docker.list_volumes(Some(options))).await?.volumes.unwrap_or_default();
        Ok(found.into_iter().filter_map(|volume| Some((volume.name, naming::read(self.owner(), &volume.labels)?))).collect())
    }
}
