//! Hands: images in Docker, the sandbox's own among them.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::time::Duration;

use bollard::Docker;
use bollard::auth::DockerCredentials;
use bollard::errors::Error;
use bollard::models::ImageInspect;
use bollard::query_parameters::{CreateImageOptions, ListContainersOptions, ListImagesOptions, LogsOptions, RemoveImageOptions};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};

use super::{QUICK, SLOW, Shared, lock};
use crate::agent::images::credentials::{Credential, Keyring};
use crate::agent::images::progress::{Layers, Progress};
use crate::agent::images::{Disk, Fetched, ImageFacts, words};
use crate::agent::runtime::{Done, Failure, exec};
use crate::api::image::{self, Fit, Platform, Platforms};
use crate::error::Chain;

/// A pull that shows no progress for so long is given up.
pub(super) const STALLED: Duration = Duration::from_secs(180);
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
            let options = CreateImageOptions {
                from_src: Some("-".to_owned()),
                // With its tag: Podman 4 does not read the option of that name.
                repo: Some(tag.clone()),
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
        for found in self.ask(QUICK, docker.list_images(Some(options))).await? {
            if found.repo_tags.iter().any(|tag| image::same(tag, kept)) {
                continue;
            }
            let removal = docker.remove_image(&found.id, None::<RemoveImageOptions>, None);
            if let Ok(Err(error)) = self.within(SLOW, removal).await {
                tracing::debug!(image = %found.id, %error, "an older sandbox image stays: it is in use");
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

    pub(super) async fn find_image(&self, name: &str) -> Result<Done, Failure> {
        let docker = self.client().await?;
        let Some(found) = self.inspect(&docker, name).await? else { return Ok(Done::Image { present: false, foreign: None }) };
        let node = self.node_platforms(&docker).await?;
        Ok(Done::Image { present: true, foreign: fits(&node, name, &made_for(&found))? })
    }

    /// The image of this name or id, if it is here.
    pub(super) async fn inspect(&self, docker: &Docker, name: &str) -> Result<Option<ImageInspect>, Failure> {
        match self.within(QUICK, docker.inspect_image(name)).await {
            Ok(Ok(found)) => Ok(Some(found)),
            Ok(Err(Error::DockerResponseServerError { status_code: 404, .. })) => Ok(None),
            Ok(Err(error)) => Err(self.failure(&error)),
            Err(_) => Err(Failure::Unavailable("Docker does not answer".to_owned())),
        }
    }

    /// Fetches an image with each of the credentials until the registry accepts one.
    pub(super) async fn pull_image(&self, name: &str, credentials: &[Credential]) -> Result<Done, Failure> {
        let docker = self.client().await?;
        let begun = tokio::time::Instant::now();
        let node = self.node_platforms(&docker).await?;
        let tried = self.with_nodes_own(name, credentials).await;
        let before = self.image_ids(&docker).await?;
        // A question is a pull to Docker Hub, which counts them: none when an older copy answers it.
        let here = self.inspect(&docker, name).await?;
        let fitted = here.is_some_and(|here| node.runs(&made_for(&here)) == Some(Fit::Own));
        let mut last = Failure::Refused(String::new());
        for credential in &tried {
            let platform = match fitted {
                true => None,
                false => self.platform_to_fetch(&docker, &node, name, credential.as_ref()).await?,
            };
            match self.fetch_fitting(&docker, &node, name, platform, credential.as_ref()).await {
                Ok(()) => {
                    let found = self.inspect(&docker, name).await?;
                    let found = found.ok_or_else(|| Failure::Failed("it was fetched and is gone at once".to_owned()))?;
                    self.tell_fetched(&found, name, &before);
                    let bytes = u64::try_from(found.size.unwrap_or_default()).unwrap_or_default();
                    return Ok(Done::Pulled { took: begun.elapsed(), bytes, foreign: fits(&node, name, &made_for(&found))? });
                }
                Err(Failure::Refused(why) | Failure::Failed(why)) if words::is_denied(&why) => last = Failure::Refused(why),
                Err(failure) => return Err(failure),
            }
        }
        Err(last)
    }

    /// The pod's credentials, then the node's own; with none, one try as anybody.
    async fn with_nodes_own(&self, name: &str, credentials: &[Credential]) -> Vec<Option<Credential>> {
        let mut all: Vec<Option<Credential>> = credentials.iter().cloned().map(Some).collect();
        if let Some(path) = &self.settings.auth_file {
            let mut own = Keyring::default();
            let read = tokio::fs::read(path).await.map_err(|error| error.to_string());
            match read.and_then(|json| own.add_config(&json).map_err(|error| error.to_string())) {
                Ok(()) => all.extend(own.lookup(name).into_iter().map(Some)),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "the node's own credentials for registries cannot be used");
                }
            }
        }
        if all.is_empty() { vec![None] } else { all }
    }

    /// What is asked for when the registry has the image for several kinds of machine: nothing when Docker finds its own.
    async fn platform_to_fetch(
        &self,
        docker: &Docker,
        node: &Platforms,
        name: &str,
        credential: Option<&Credential>,
    ) -> Result<Option<String>, Failure> {
        let Ok(there) = self.registry_platforms(docker, name, credential).await else {
            // Why is said by the fetch itself, in the same words for all that can be wrong.
            return Ok(None);
        };
        if let Some(why) = node.unfit(name, &there) {
            return Err(Failure::Unfit(why));
        }
        Ok(node.best(&there).filter(|(_, fit)| *fit != Fit::Own).map(|(platform, _)| platform.to_string()))
    }

    /// What an image is made for, by its registry.
    async fn registry_platforms(
        &self,
        docker: &Docker,
        name: &str,
        credential: Option<&Credential>,
    ) -> Result<Vec<Platform>, Failure> {
        let shown = credential.map(|credential| shown(name, credential));
        let named = image::tagged(name);
        let answer = self.ask(QUICK, docker.inspect_registry_image(&named, shown)).await?;
        Ok(answer
            .platforms
            .into_iter()
            .map(|one| {
                Platform::new(
                    one.os.as_deref().unwrap_or_default(),
                    one.architecture.as_deref().unwrap_or_default(),
                    one.variant.as_deref().unwrap_or_default(),
                )
            })
            // Attestations are listed beside the images that they are about.
            .filter(|platform| platform.os != "unknown" && !platform.architecture.is_empty())
            .collect())
    }

    pub(super) async fn image_platforms(&self, name: &str, credentials: &[Credential]) -> Result<Vec<Platform>, Failure> {
        let docker = self.client().await?;
        for credential in self.with_nodes_own(name, credentials).await {
            if let Ok(there) = self.registry_platforms(&docker, name, credential.as_ref()).await {
                return Ok(there);
            }
        }
        Ok(Vec::new())
    }

    /// Fetches an image; from an engine that could not say before what there is, the second best when the best is not there.
    async fn fetch_fitting(
        &self,
        docker: &Docker,
        node: &Platforms,
        name: &str,
        platform: Option<String>,
        credential: Option<&Credential>,
    ) -> Result<(), Failure> {
        let lacks = |done: &Result<(), Failure>| match done {
            Err(Failure::Refused(why) | Failure::Failed(why)) => self.engine().says_no_such_platform(why),
            _ => false,
        };
        let mut done = self.fetch(docker, name, platform, credential).await;
        for other in node.second_best() {
            if !lacks(&done) {
                return done;
            }
            done = self.fetch(docker, name, Some(other.to_string()), credential).await;
        }
        match done {
            Err(Failure::Refused(why) | Failure::Failed(why)) if lacks(&Err(Failure::Failed(why.clone()))) => {
                Err(Failure::Unfit(format!("image \"{name}\" is for other machines only; this node is {} ({why})", node.own)))
            }
            done => done,
        }
    }

    async fn fetch(
        &self,
        docker: &Docker,
        name: &str,
        platform: Option<String>,
        credential: Option<&Credential>,
    ) -> Result<(), Failure> {
        let options = CreateImageOptions {
            from_image: Some(image::tagged(name)),
            platform: platform.unwrap_or_default(),
            ..CreateImageOptions::default()
        };
        let shown = credential.map(|credential| shown(name, credential));
        lock(&self.fetches).insert(name.to_owned(), Layers::default());
        let lines = docker.create_image(Some(options), None, shown).inspect(|line| {
            if let Ok(line) = line
                && let (Some(id), Some(status)) = (&line.id, &line.status)
                && let Some(layers) = lock(&self.fetches).get_mut(name)
            {
                let bytes = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok());
                let detail = line.progress_detail.clone().unwrap_or_default();
                layers.take(id, status, bytes(detail.current), bytes(detail.total));
            }
        });
        let done = self.drain(lines).await;
        lock(&self.fetches).remove(name);
        done
    }

    /// How far the fetch of an image is.
    pub(super) fn progress(&self, name: &str) -> Option<Progress> {
        lock(&self.fetches).get(name).map(Layers::sum)
    }

    async fn image_ids(&self, docker: &Docker) -> Result<HashSet<String>, Failure> {
        let all = self.ask(QUICK, docker.list_images(Some(ListImagesOptions::default()))).await?;
        Ok(all.into_iter().map(|image| image.id).collect())
    }

    fn tell_fetched(&self, found: &ImageInspect, name: &str, before: &HashSet<String>) {
        let (Some(told), Some(id)) = (&self.settings.fetched, &found.id) else { return };
        let fetched = Fetched { id: id.clone(), name: image::tagged(name), new: !before.contains(id) };
        if told.try_send(fetched).is_err() {
            tracing::warn!(image = name, "too much is fetched at once to be remembered; this image is not removed by itself");
        }
    }

    /// What this node runs; asked once per connection.
    pub(super) async fn node_platforms(&self, docker: &Docker) -> Result<Platforms, Failure> {
        if let Some(known) = lock(&self.platforms).clone() {
            return Ok(known);
        }
        let info = self.ask(QUICK, docker.info()).await?;
        let version = self.ask(QUICK, docker.version()).await?;
        let (os, go) = (version.os.unwrap_or_default(), version.arch.unwrap_or_default());
        let machine = Platform::new(&os, info.architecture.as_deref().unwrap_or_default(), "");
        let own = match go.as_str() {
            // The kernel's word says which ARM; a 32-bit system on a 64-bit kernel is as good as v7.
            "arm" if machine.architecture == "arm" => machine,
            "arm" => Platform::new(&os, "arm", "v7"),
            "" => machine,
            go => Platform::new(&os, go, ""),
        };
        let node = Platforms { own, emulated: self.settings.emulated.clone() };
        *lock(&self.platforms) = Some(node.clone());
        Ok(node)
    }

    pub(super) async fn images(&self) -> Result<Vec<ImageFacts>, Failure> {
        let docker = self.client().await?;
        let containers = ListContainersOptions { all: true, ..ListContainersOptions::default() };
        let containers = self.containers(&docker, containers).await?;
        let used: HashSet<String> = containers.into_iter().filter_map(|container| container.image_id).collect();
        let all = self.ask(QUICK, docker.list_images(Some(ListImagesOptions::default()))).await?;
        let named = |names: Vec<String>| names.into_iter().filter(|name| !name.contains("<none>")).collect();
        Ok(all
            .into_iter()
            .map(|image| ImageFacts {
                used: used.contains(&image.id),
                sandbox: image.labels.contains_key(SANDBOX_IMAGE),
                size_bytes: u64::try_from(image.size).unwrap_or_default(),
                tags: named(image.repo_tags),
                digests: named(image.repo_digests),
                id: image.id,
            })
            .collect())
    }

    /// The file system of Docker's folder.
    pub(super) async fn image_disk(&self) -> Result<Disk, Failure> {
        let docker = self.client().await?;
        let root = self.ask(QUICK, docker.info()).await?.docker_root_dir.unwrap_or_else(|| "/".to_owned());
        let asked = tokio::task::spawn_blocking(move || rustix::fs::statvfs(root.as_str())).await;
        let disk = asked
            .map_err(|error| Failure::Failed(error.to_string()))?
            .map_err(|error| Failure::Failed(format!("cannot look at Docker's disk: {error}")))?;
        Ok(Disk { total_bytes: disk.f_blocks * disk.f_frsize, available_bytes: disk.f_bavail * disk.f_frsize })
    }

    /// Takes the names away that the image was fetched by, and with the last one the image. What has another name, or is used,
    /// stays: no force.
    pub(super) async fn remove_image(&self, id: &str, names: &[String]) -> Result<(), Failure> {
        let docker = self.client().await?;
        let Some(found) = self.inspect(&docker, id).await? else { return Ok(()) };
        let tags: Vec<String> = found.repo_tags.unwrap_or_default();
        let digests = found.repo_digests.unwrap_or_default();
        let mine = |tag: &String| names.iter().any(|name| image::same(name, tag));
        let by_name: Vec<String> = tags.iter().filter(|tag| mine(tag)).cloned().collect();
        if tags.iter().all(mine) && tags.len() <= 1 {
            // One name or none: all digests are that name's, and go with it.
            return self.remove(&docker, if digests.len() > 1 { id } else { by_name.first().map_or(id, String::as_str) }).await;
        }
        for name in by_name {
            self.remove(&docker, &name).await?;
        }
        Ok(())
    }

    async fn remove(&self, docker: &Docker, name: &str) -> Result<(), Failure> {
        match self.within(SLOW, docker.remove_image(name, None::<RemoveImageOptions>, None)).await {
            Ok(Ok(_)) | Ok(Err(Error::DockerResponseServerError { status_code: 404, .. })) => Ok(()),
            Ok(Err(error)) => Err(self.failure(&error)),
            Err(_) => Err(Failure::Unavailable("Docker does not answer".to_owned())),
        }
    }

    /// Why a container ended at once, when its program is for another machine. Runtimes since runc 1.1 say so only in its log,
    /// which is read once.
    pub(super) async fn exec_format(&self, docker: &Docker, id: &str, image_id: &str, named: &str) -> Option<String> {
        if let Some(known) = lock(&self.exec_formats).get(id) {
            return known.clone();
        }
        let found = self.read_exec_format(docker, id, image_id, named).await;
        let mut known = lock(&self.exec_formats);
        if known.len() >= 512 {
            known.clear();
        }
        known.insert(id.to_owned(), found.clone());
        found
    }

    async fn read_exec_format(&self, docker: &Docker, id: &str, image_id: &str, named: &str) -> Option<String> {
        let options = LogsOptions { stdout: true, stderr: true, tail: "3".to_owned(), ..LogsOptions::default() };
        let lines = docker.logs(id, Some(options)).take(8).filter_map(|line| async { line.ok() }).collect::<Vec<_>>();
        let lines = self.within(QUICK, lines).await.ok()?;
        let text: String = lines.into_iter().map(|line| String::from_utf8_lossy(&line.into_bytes()).into_owned()).collect();
        if !words::is_exec_format(&text) {
            return None;
        }
        let found = self.inspect(docker, image_id).await.ok().flatten();
        let node = self.node_platforms(docker).await.ok()?.own.to_string();
        Some(words::exec_format(named, found.map(|found| made_for(&found).to_string()).as_deref(), &node))
    }

    /// The digest under which the registry knows an image, else its id. Asked once per image.
    pub(super) async fn digest(&self, docker: &Docker, id: &str, named: &str) -> String {
        if let Some(known) = lock(&self.digests).get(id) {
            return known.clone();
        }
        let Ok(Ok(found)) = self.within(QUICK, docker.inspect_image(id)).await else { return id.to_owned() };
        let digests = found.repo_digests.unwrap_or_default();
        let repository = image::repository(named);
        let best = digests.iter().find(|digest| image::repository(digest) == repository).or(digests.first());
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

/// What an image says that it is made for.
fn made_for(image: &ImageInspect) -> Platform {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    Platform::new(&text(&image.os), &text(&image.architecture), &text(&image.variant))
}

/// What is to be said of an image that is no native of this node; an error when it does not run here.
fn fits(node: &Platforms, name: &str, made_for: &Platform) -> Result<Option<String>, Failure> {
    match node.runs(made_for) {
        None => Err(Failure::Unfit(node.unfit(name, std::slice::from_ref(made_for)).unwrap_or_default())),
        Some(Fit::Own) => Ok(None),
        Some(Fit::ThirtyTwoBit) => {
            Ok(Some(format!("Image \"{name}\" is for {made_for}: this {} node runs it in 32-bit mode", node.own)))
        }
        Some(Fit::Emulated) => {
            Ok(Some(format!("Image \"{name}\" is for {made_for}: this {} node emulates it, slowly", node.own)))
        }
    }
}

/// As Docker takes credentials.
fn shown(name: &str, credential: &Credential) -> DockerCredentials {
    let text = |text: &String| (!text.is_empty()).then(|| text.clone());
    let registry = image::registry(name);
    let server = if registry == image::DEFAULT_REGISTRY { "https://index.docker.io/v1/".to_owned() } else { registry };
    DockerCredentials {
        username: text(&credential.username),
        password: text(&credential.password),
        identitytoken: text(&credential.identity_token),
        registrytoken: text(&credential.registry_token),
        serveraddress: Some(server),
        ..DockerCredentials::default()
    }
}
