//! Hands: takes away what the node has in Docker and on its disk, of one pod or of all.

use bollard::Docker;
use bollard::errors::Error;
use bollard::query_parameters::{RemoveContainerOptions, RemoveVolumeOptions};

use super::{QUICK, SLOW, Shared};
use crate::agent::runtime::{Failure, naming};
use crate::agent::volumes::disk;
use crate::api::Uid;

impl Shared {
    pub(super) async fn remove_container(&self, id: &str) -> Result<(), Failure> {
        let docker = self.client().await?;
        // `v` takes the anonymous volumes that the image asked for; named ones stay.
        let options = RemoveContainerOptions { v: true, force: true, ..RemoveContainerOptions::default() };
        let mut again = true;
        loop {
            match self.within(SLOW, docker.remove_container(id, Some(options.clone()))).await {
                Ok(Err(Error::DockerResponseServerError { message, .. }))
                    if again && self.engine().joined(&message).is_some() =>
                {
                    again = false;
                    let joined = self.engine().joined(&message).unwrap_or_default();
                    self.remove_joined(&docker, &joined, &options).await?;
                }
                Ok(Ok(())) | Ok(Err(Error::DockerResponseServerError { status_code: 404 | 409, .. })) => return Ok(()),
                Ok(Err(error)) => return Err(self.failure(&error)),
                Err(_) => return Err(Failure::Unavailable("Docker does not answer".to_owned())),
            }
        }
    }

    /// Removes those that joined a container which goes: without its network or its processes they are of no use. A person's stay.
    async fn remove_joined(&self, docker: &Docker, joined: &[String], options: &RemoveContainerOptions) -> Result<(), Failure> {
        let found = self.list(docker, None).await?;
        let joined: Vec<&String> = found.iter().map(|(id, _)| id).filter(|id| joined.contains(id)).collect();
        // One of them may have joined another of them: that one goes in the second round.
        for id in joined.iter().chain(&joined) {
            if let Ok(Err(error)) = self.within(SLOW, docker.remove_container(id, Some(options.clone()))).await {
                tracing::debug!(container = id, %error, "it stays, and what it joined with it");
            }
        }
        Ok(())
    }

    /// Removes containers, then sandboxes, then volumes, of one pod or of all of this node.
    pub(super) async fn remove_all(&self, only: Option<&Uid>) -> Result<(), Failure> {
        let docker = self.client().await?;
        let mut found = self.list(&docker, only).await?;
        found.sort_by_key(|(_, labels)| labels.container == naming::SANDBOX);
        for (id, _) in &found {
            self.remove_container(id).await?;
        }
        for name in self.volumes(&docker, only).await?.into_keys() {
            let options = RemoveVolumeOptions { force: true };
            match self.within(QUICK, docker.remove_volume(&name, Some(options))).await {
                // In use for a moment longer: the next look finds it again.
                Ok(Ok(())) | Ok(Err(Error::DockerResponseServerError { status_code: 404 | 409, .. })) => {}
                Ok(Err(error)) => return Err(self.failure(&error)),
                Err(_) => return Err(Failure::Unavailable("Docker does not answer".to_owned())),
            }
        }
        Ok(())
    }

    pub(super) async fn teardown(&self) -> Result<(), Failure> {
        self.remove_all(None).await?;
        let run_dir = self.settings.run_dir.clone();
        for uid in self.on_disk(move || disk::pods(&run_dir)).await? {
            self.remove_directory(&uid).await?;
        }
        self.remove_images().await?;
        self.remove_networks().await
    }

    /// Removes a pod's directory.
    pub(super) async fn remove_directory(&self, uid: &Uid) -> Result<(), Failure> {
        let (run_dir, uid) = (self.settings.run_dir.clone(), uid.clone());
        self.on_disk(move || disk::remove_pod(&run_dir, &uid)).await
    }
}
