//! What a cluster has in Docker, ended or removed as a whole; through `bollard`, so no docker command is needed.
//!
//! The agents cannot do this: told to stop, an agent leaves its containers running, because it may be about to be replaced by
//! a newer one. So `bramble stop` ends them itself. It *stops* them and removes none: to the agents of the next `start` it
//! looks like a machine that was switched off and on, which they know how to deal with.
//!
//! Never:    touches anything without the label `bramble/cluster=<uid>`.

use std::collections::HashMap;
use std::path::Path;

use bollard::Docker;
use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListImagesOptionsBuilder, ListNetworksOptionsBuilder, ListVolumesOptionsBuilder,
    RemoveContainerOptionsBuilder, RemoveImageOptions, RemoveImageOptionsBuilder, RemoveVolumeOptions,
    StopContainerOptionsBuilder,
};
use futures_util::future::join_all;

use crate::agent::run::network;
use crate::agent::runtime::naming::Owner;
use crate::error::Report;

/// Whether this bramble can run containers in Docker.
pub const BUILT_IN: bool = true;

/// How long a container has between TERM and KILL.
const GRACE_SECONDS: i32 = 10;
/// How long one of Docker's answers may take; longer than the grace.
const PATIENCE_SECONDS: u64 = 60;

/// How much was there and was ended or removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Containers.
    pub containers: usize,
    /// Volumes.
    pub volumes: usize,
    /// Networks.
    pub networks: usize,
    /// Images.
    pub images: usize,
}

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts =
            [(self.containers, "container"), (self.volumes, "volume"), (self.networks, "network"), (self.images, "image")];
        let said: Vec<String> = parts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}{}", if *count == 1 { "" } else { "s" }))
            .collect();
        f.write_str(if said.is_empty() { "nothing" } else { "" })?;
        f.write_str(&said.join(", "))
    }
}

/// Stops every running container of the cluster, all at once.
///
/// # Errors
/// When Docker cannot be reached or refuses.
pub fn stop(socket: &Path, uid: &str) -> Result<Count, Report> {
    block_on(async {
        let docker = connect(socket).await?;
        let running = ListContainersOptionsBuilder::new().filters(&labelled(uid)).build();
        let running = docker.list_containers(Some(running)).await?;
        let grace = || StopContainerOptionsBuilder::new().t(GRACE_SECONDS).build();
        let ids: Vec<String> = running.into_iter().filter_map(|container| container.id).collect();
        for stopped in join_all(ids.iter().map(|id| docker.stop_container(id, Some(grace())))).await {
            gone_is_fine(stopped)?;
        }
        Ok(Count { containers: ids.len(), ..Count::default() })
    })
}

/// Removes everything of the cluster: containers (killed), volumes, networks, images; and of these nodes what they made in the kernel.
///
/// # Errors
/// When Docker cannot be reached or refuses.
pub fn remove(socket: &Path, uid: &str, nodes: &[String]) -> Result<Count, Report> {
    block_on(async {
        let docker = connect(socket).await?;
        let mut count = Count::default();
        let all = ListContainersOptionsBuilder::new().all(true).filters(&labelled(uid)).build();
        let ids: Vec<String> =
            docker.list_containers(Some(all)).await?.into_iter().filter_map(|container| container.id).collect();
        let force = || RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        for removed in join_all(ids.iter().map(|id| docker.remove_container(id, Some(force())))).await {
            gone_is_fine(removed)?;
        }
        count.containers = ids.len();
        let volumes = ListVolumesOptionsBuilder::new().filters(&labelled(uid)).build();
        for volume in docker.list_volumes(Some(volumes)).await?.volumes.unwrap_or_default() {
            gone_is_fine(docker.remove_volume(&volume.name, None::<RemoveVolumeOptions>).await)?;
            count.volumes += 1;
        }
        let networks = ListNetworksOptionsBuilder::new().filters(&labelled(uid)).build();
        for id in docker.list_networks(Some(networks)).await?.into_iter().filter_map(|network| network.id) {
            gone_is_fine(docker.remove_network(&id).await)?;
            count.networks += 1;
        }
        for node in nodes {
            network::remove(&Owner { cluster_uid: uid.to_owned(), node: node.clone() }).await;
        }
        let images = ListImagesOptionsBuilder::new().all(true).filters(&labelled(uid)).build();
        for image in docker.list_images(Some(images)).await? {
            let force = RemoveImageOptionsBuilder::new().force(true).build();
            gone_is_fine(docker.remove_image(&image.id, Some(force), None).await)?;
            count.images += 1;
        }
        // The sandbox's image belongs to every cluster on this Docker that has this program: it goes when nobody uses it, and an
        // agent that misses it imports it again.
        let sandboxes =
            ListImagesOptionsBuilder::new().filters(&HashMap::from([("label", vec!["bramble/sandbox".to_owned()])])).build();
        for image in docker.list_images(Some(sandboxes)).await? {
            match docker.remove_image(&image.id, None::<RemoveImageOptions>, None).await {
                Ok(_) => count.images += 1,
                Err(error) => tracing::debug!(image = %image.id, %error, "the sandbox image stays: it is in use"),
            }
        }
        Ok(count)
    })
}

fn labelled(uid: &str) -> HashMap<&'static str, Vec<String>> {
    HashMap::from([("label", vec![format!("bramble/cluster={uid}")])])
}

/// The engine's own API version: `bollard`'s default is too new for many.
async fn connect(socket: &Path) -> Result<Docker, bollard::errors::Error> {
    let path = socket.display().to_string();
    Docker::connect_with_unix(&path, PATIENCE_SECONDS, bollard::API_DEFAULT_VERSION)?.negotiate_version().await
}

/// Somebody may have been quicker.
fn gone_is_fine<T>(result: Result<T, bollard::errors::Error>) -> Result<(), bollard::errors::Error> {
    match result {
        Ok(_) | Err(bollard::errors::Error::DockerResponseServerError { status_code: 304 | 404, .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

fn block_on(work: impl Future<Output = Result<Count, bollard::errors::Error>>) -> Result<Count, Report> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
        Report::failed("cannot end what this cluster has in Docker")
            .because(error)
            .fix("see that Docker is running and that this user may use it (`docker ps`), then run the command again")
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| failed(error.into()))?;
    runtime.block_on(work).map_err(|error| failed(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_words() {
        assert_eq!(Count::default().to_string(), "nothing");
        let some = Count { containers: 2, volumes: 1, networks: 0, images: 3 };
        assert_eq!(some.to_string(), "2 containers, 1 volume, 3 images");
    }

    #[test]
    fn an_engine_that_is_not_there_is_an_error_with_a_way_out() {
        let refused = stop(Path::new("/nonexistent/docker.sock"), "u").unwrap_err();
        assert_eq!(refused.exit.code(), 1);
        assert!(refused.fix.is_some() && refused.why.is_some());
    }
}
