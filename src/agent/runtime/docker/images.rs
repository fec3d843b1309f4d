//! Hands: images in Docker, the sandbox's own among them.

use std::collections::HashMap;
use std::pin::pin;
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::query_parameters::{CreateImageOptions, ListImagesOptions, RemoveImageOptions};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};

use super::{QUICK, SLOW, Shared, lock};
use crate::agent::runtime::{Done, Failure, exec};
use crate::error::Chain;

/// A pull that shows no progress for so long is given up.
const STALLED: Duration = Duration::from_secs(180);
/// Marks the sandbox's image.
const SANDBOX_IMAGE: &str = "bramble/sandbox";

impl Shared {
    /// The sandbox image's tag; imported when it is not there.
    pub(super) async fn ensure_sandbox_image(&self, docker: &Docker) -> Result<String, Failure> {
        let mut known = self.sandbox_image.lock().await;
        if let Some(tag) = known.as_ref() {
            return Ok(tag.clone());
        }
        let (tag, archive) = tokio::task::spawn_blocking(exec::own_image)
            .await
            .map_err(|error| Failure::Failed(format!("cannot make the sandbox image: {error}")))?
            .map_err(|error| Failure::Failed(Chain(&error).to_string()))?;
        if !self.image_is_here(docker, &tag).await? {
            let (repo, content) = tag.split_once(':').unwrap_or((&tag, "latest"));
            let options = CreateImageOptions {
                from_src: Some("-".to_owned()),
                repo: Some(repo.to_owned()),
                tag: Some(content.to_owned()),
                changes: vec![format!("LABEL {SANDBOX_IMAGE}=1")],
                ..CreateImageOptions::default()
            };
            let import = docker.create_image(Some(options), Some(bollard::body_full(Bytes::from(archive))), None);
            self.drain(import).await?;
            self.remove_unused_sandboxes(docker, &tag).await?;
            tracing::info!(image = %tag, "sandbox image imported");
        }
        *known = Some(tag.clone());
        Ok(tag)
    }

    /// Takes away the sandbox images of older programs, and the copies that agents on one Docker made at the same moment: all that
    /// no container uses but `kept`.
    async fn remove_unused_sandboxes(&self, docker: &Docker, kept: &str) -> Result<(), Failure> {
        let filters = HashMap::from([("label".to_owned(), vec![SANDBOX_IMAGE.to_owned()])]);
        let options = ListImagesOptions { filters: Some(filters), ..ListImagesOptions::default() };
        for image in self.ask(QUICK, docker.list_images(Some(options))).await? {
            if image.repo_tags.iter().any(|tag| tag == kept) {
                continue;
            }
            let removal = docker.remove_image(&image.id, None::<RemoveImageOptions>, None);
            if let Ok(Err(error)) = self.within(SLOW, removal).await {
                tracing::debug!(image = %image.id, %error, "an older sandbox image stays: it is in use");
            }
        }
        Ok(())
    }

    pub(super) async fn image_is_here(&self, docker: &Docker, image: &str) -> Result<bool, Failure> {
        match self.within(QUICK, docker.inspect_image(image)).await {
            Ok(Ok(_)) => Ok(true),
            Ok(Err(Error::DockerResponseServerError { status_code: 404, .. })) => Ok(false),
            Ok(Err(error)) => Err(self.failure(&error)),
            Err(_) => Err(Failure::Unavailable("Docker does not answer".to_owned())),
        }
    }

    /// Reads a stream of progress to its end; a stall is an error.
    pub(super) async fn drain<T>(&self, stream: impl Stream<Item = Result<T, Error>>) -> Result<(), Failure> {
        let mut stream = pin!(stream);
        loop {
            match self.within(STALLED, stream.next()).await {
                Err(_) => return Err(Failure::Failed(format!("no progress for {} s", STALLED.as_secs()))),
                Ok(None) => return Ok(()),
                Ok(Some(Ok(_))) => {}
                Ok(Some(Err(Error::DockerResponseServerError { status_code: 400..=499, message }))) => {
                    return Err(Failure::Refused(message.trim().to_owned()));
                }
                Ok(Some(Err(error))) => return Err(self.failure(&error)),
            }
        }
    }

    pub(super) async fn find_image(&self, image: &str) -> Result<Done, Failure> {
        let docker = self.client().await?;
        Ok(Done::Image { present: self.image_is_here(&docker, image).await? })
    }

    pub(super) async fn pull_image(&self, image: &str) -> Result<Done, Failure> {
        let docker = self.client().await?;
        let begun = tokio::time::Instant::now();
        // Without a tag Docker would fetch every tag there is.
        let from = if has_tag_or_digest(image) { image.to_owned() } else { format!("{image}:latest") };
        let options = CreateImageOptions { from_image: Some(from), ..CreateImageOptions::default() };
        self.drain(docker.create_image(Some(options), None, None)).await?;
        let bytes = self.ask(QUICK, docker.inspect_image(image)).await?.size.unwrap_or_default();
        Ok(Done::Pulled { took: begun.elapsed(), bytes: u64::try_from(bytes).unwrap_or_default() })
    }

    /// The digest under which the registry knows an image, else its id. Asked once per image.
    pub(super) async fn digest(&self, docker: &Docker, id: &str, named: &str) -> String {
        if let Some(known) = lock(&self.digests).get(id) {
            return known.clone();
        }
        let Ok(Ok(image)) = self.within(QUICK, docker.inspect_image(id)).await else { return id.to_owned() };
        let digests = image.repo_digests.unwrap_or_default();
        let repository = named.split('@').next().unwrap_or_default();
        let repository = repository.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).map_or(repository, |(name, _)| name);
        let best = digests.iter().find(|digest| digest.split('@').next() == Some(repository)).or(digests.first());
        let best = best.cloned().unwrap_or_else(|| id.to_owned());
        let mut known = lock(&self.digests);
        // Images of a Pi: some tens. Past that somebody is building in a loop.
        if known.len() >= 512 {
            known.clear();
        }
        known.insert(id.to_owned(), best.clone());
        best
    }
}

/// Whether an image name says which one, beyond its repository.
fn has_tag_or_digest(image: &str) -> bool {
    image.rsplit('/').next().is_some_and(|last| last.contains([':', '@']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_name_with_a_port_has_no_tag_yet() {
        for (image, tagged) in [
            ("nginx", false),
            ("nginx:1", true),
            ("127.0.0.1:5000/a/b", false),
            ("127.0.0.1:5000/a:b", true),
            ("a@sha256:0", true),
        ] {
            assert_eq!(has_tag_or_digest(image), tagged, "{image}");
        }
    }
}
