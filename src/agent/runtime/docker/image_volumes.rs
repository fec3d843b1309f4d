//! Hands: image volumes on an engine that mounts no images (Docker before 28, Podman): the image's files are unpacked once on the node,
//! and bound into containers.
//!
//! In:       an image that is here (`pods/image.rs` saw to that), the pod and its volume.
//! Out:      the folder with the image's files.
//! Never:    says what goes (`volumes/image.rs`) or writes files (`volumes/disk/unpack.rs`).
//!
//! The files come from an export of a container that is made of the image and never started: the one way to an image's file system
//! that all engines have, and the only one that needs no second copy on the disk. What Docker puts in every container is left out
//! again; a file of the image's own in the place of one of these (`/etc/hosts`, …) Docker does not give.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, Read};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use bollard::models::{ContainerCreateBody, ImageInspect};
use bollard::query_parameters::{CreateContainerOptions, ListContainersOptions, ListVolumesOptions};
use bytes::{Buf as _, Bytes};
use futures_util::StreamExt;
use tokio::sync::{OwnedMutexGuard, mpsc};
use tokio_util::sync::CancellationToken;

use super::images::STALLED;
use super::{QUICK, SLOW, Shared};
use crate::agent::runtime::{Failure, PodRef, naming};
use crate::agent::volumes::disk::images::Images;
use crate::agent::volumes::disk::unpack::{self, UnpackError, Unpacked};
use crate::agent::volumes::image;
use crate::clock::{Clock as _, SystemClock};
use crate::error::Chain;

/// Chunks of an archive that wait for the disk. One is what the socket gave at once, some tens of KiB.
const CHUNKS: usize = 8;
/// File times and the clock need not agree to the millisecond.
const SLACK: Duration = Duration::from_secs(1);

impl Shared {
    /// The image that a pod's volume is, and the folder with its files; unpacked if that was not done yet. `given_up` ends the
    /// waiting and the unpacking; who waits for the same image unpacks it then.
    pub(super) async fn unpacked(
        &self,
        docker: &Docker,
        pod: &PodRef,
        volume: &str,
        reference: &str,
        given_up: &CancellationToken,
    ) -> Result<(String, PathBuf), Failure> {
        let (uid, named) = (pod.uid.clone(), volume.to_owned());
        let claimed = self.with_images(move |images| images.claimed(&uid, &named)).await?;
        // It stays the image that it was when the pod began, while that one can be had.
        let mut found = None;
        if let Some(id) = &claimed {
            if self.is_unpacked(id).await? {
                return Ok((id.clone(), image::folder(self.images.image_dir(), id)));
            }
            found = self.inspect(docker, id).await?;
        }
        if found.is_none() {
            found = self.inspect(docker, reference).await?;
        }
        let gone = || Failure::Failed(format!("image \"{reference}\" is not on this node any more; it is looked for again"));
        let found = found.ok_or_else(gone)?;
        let Some(id) = found.id.as_deref().and_then(image::id).map(str::to_owned) else {
            return Err(Failure::Failed(format!("the engine gives image \"{reference}\" an id that is none: {:?}", found.id)));
        };
        let (uid, named, claim) = (pod.uid.clone(), volume.to_owned(), id.clone());
        let there = self.with_images(move |images| images.claim(&uid, &named, &claim)).await?;
        if !there {
            // One after the other: a card has one arm, and who waited for the same image finds it.
            let turn = tokio::select! { biased;
                () = given_up.cancelled() => return Err(Failure::given_up()),
                turn = Arc::clone(&self.unpacking).lock_owned() => turn,
            };
            if !self.is_unpacked(&id).await? {
                self.unpack(docker, &found, &id, turn, given_up).await.map_err(|failure| match failure {
                    Failure::Failed(why) => Failure::Failed(format!("cannot unpack image \"{reference}\": {why}")),
                    other => other,
                })?;
            }
        }
        let folder = image::folder(self.images.image_dir(), &id);
        Ok((id, folder))
    }

    async fn is_unpacked(&self, id: &str) -> Result<bool, Failure> {
        let id = id.to_owned();
        self.with_images(move |images| Ok(images.is_here(&id))).await
    }

    async fn with_images<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Images) -> io::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        let images = Arc::clone(&self.images);
        let done = tokio::task::spawn_blocking(move || act(&images)).await.unwrap_or_else(|error| Err(io::Error::other(error)));
        done.map_err(|error| Failure::Failed(format!("in {}: {}", self.images.image_dir().display(), Chain(&error))))
    }

    async fn unpack(
        &self,
        docker: &Docker,
        found: &ImageInspect,
        id: &str,
        turn: OwnedMutexGuard<()>,
        given_up: &CancellationToken,
    ) -> Result<(), Failure> {
        let bytes = u64::try_from(found.size.unwrap_or_default()).unwrap_or_default();
        let free = self.with_images(Images::free_bytes).await?;
        image::room(bytes, free).map_err(Failure::Failed)?;
        let body = ContainerCreateBody {
            image: found.id.clone(),
            // It never runs; many images have no command, and an engine wants one.
            cmd: Some(vec!["/".to_owned()]),
            labels: Some(self.owner().reader_labels(id)),
            host_config: Some(bollard::models::HostConfig { network_mode: Some("none".to_owned()), ..Default::default() }),
            ..ContainerCreateBody::default()
        };
        let now = Duration::from_millis(u64::try_from(SystemClock::start().now().wall.0).unwrap_or_default());
        let since = now.saturating_sub(SLACK).as_secs();
        let begun = tokio::time::Instant::now();
        let made = self.ask(SLOW, docker.create_container(None::<CreateContainerOptions>, body)).await?.id;
        let done = tokio::select! { biased;
            () = given_up.cancelled() => Err(Failure::given_up()),
            done = self.read_files(docker, &made, id, since, turn) => done,
        };
        // If this one does not go now, it does with the next look at what is left.
        if let Err(failure) = self.remove_container(&made).await {
            tracing::debug!(container = %made, %failure, "what an image was read from stays until the next look");
        }
        let done = done?;
        tracing::info!(image = id, bytes = done.bytes, entries = done.entries, took = ?begun.elapsed(), "image volume unpacked");
        if done.left_out > 0 {
            tracing::debug!(image = id, devices = done.left_out, "devices, sockets and pipes are no part of an image volume");
        }
        Ok(())
    }

    /// Writes a container's files into a folder of their own, which becomes the image's once all of them are there. Safe to drop half
    /// way: the writer then takes away what it has written, and the next one's turn comes after that.
    async fn read_files(
        &self,
        docker: &Docker,
        container: &str,
        id: &str,
        since: u64,
        turn: OwnedMutexGuard<()>,
    ) -> Result<Unpacked, Failure> {
        let (chunks, incoming) = mpsc::channel(CHUNKS);
        let (images, id) = (Arc::clone(&self.images), id.to_owned());
        let writing = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let io = |source| UnpackError::Io { name: "its folder".to_owned(), source };
            let fresh = images.begin(&id).map_err(io)?;
            let has_room = || images.free_bytes().is_ok_and(|free| free >= image::RESERVE);
            let done = unpack::unpack(Incoming { incoming, chunk: Bytes::new(), whole: false }, &fresh, since, has_room)
                .and_then(|done| images.complete(&fresh, &id).map(|()| done).map_err(io));
            if done.is_err()
                && let Err(error) = std::fs::remove_dir_all(&fresh)
            {
                tracing::warn!(folder = %fresh.display(), %error, "half an image stays until the next look");
            }
            done
        });
        let mut broke = None;
        let mut stream = pin!(docker.export_container(container));
        loop {
            let chunk = match self.within(STALLED, stream.next()).await {
                Err(_) => {
                    broke = Some(Failure::Unavailable(format!("the engine gave nothing of it for {} s", STALLED.as_secs())));
                    break;
                }
                Ok(Some(Err(error))) => {
                    broke = Some(self.failure(&error));
                    break;
                }
                Ok(Some(Ok(chunk))) => Some(chunk),
                Ok(None) => None,
            };
            let last = chunk.is_none();
            // Nobody takes it: the writer has said why.
            if chunks.send(chunk).await.is_err() || last {
                break;
            }
        }
        drop(chunks);
        let done = writing.await.map_err(|error| Failure::Failed(format!("the unpacking died: {error}")))?;
        match (done, broke) {
            (_, Some(failure)) => Err(failure),
            (Ok(done), None) => Ok(done),
            (Err(error), None) => Err(Failure::Failed(Chain(&error).to_string())),
        }
    }

    /// Removes the files of images that no pod uses any more, and what an agent that was killed left half done.
    pub(super) async fn tidy(&self) -> Result<(), Failure> {
        let docker = self.client().await?;
        if let Err(failure) = self.tidy_networks(&docker).await {
            tracing::debug!(%failure, "the network of before stays until the next look");
        }
        let turn = self.unpacking.try_lock();
        if turn.is_ok() {
            for id in self.readers(&docker).await? {
                self.remove_container(&id).await?;
            }
        }
        let filters = HashMap::from([("label".to_owned(), self.owner().filter(None))]);
        let options = ListVolumesOptions { filters: Some(filters) };
        let volumes = self.ask(QUICK, docker.list_volumes(Some(options))).await?.volumes.unwrap_or_default();
        let ours = volumes.into_iter().filter(|volume| naming::read(self.owner(), &volume.labels).is_some());
        let shown: BTreeSet<String> = ours.filter_map(|mut volume| volume.labels.remove(naming::IMAGE_VOLUME)).collect();
        let busy = turn.is_err();
        for gone in self.with_images(move |images| images.sweep(&shown, busy)).await? {
            tracing::info!(image = gone, "the files of an image volume removed: no pod uses them");
        }
        Ok(())
    }

    /// The containers that images were read from.
    async fn readers(&self, docker: &Docker) -> Result<Vec<String>, Failure> {
        let mut labels = self.owner().filter(None);
        labels.push(naming::IMAGE_VOLUME.to_owned());
        let options = ListContainersOptions {
            all: true,
            filters: Some(HashMap::from([("label".to_owned(), labels)])),
            ..ListContainersOptions::default()
        };
        let found = self.containers(docker, options).await?;
        // What a filter lets through is looked at again, as everywhere.
        let ours = |labels: &HashMap<String, String>| {
            let is = |key, value: &str| labels.get(key).is_some_and(|found| found == value);
            is(naming::CLUSTER, &self.owner().cluster_uid)
                && is(naming::NODE, &self.owner().node)
                && labels.contains_key(naming::IMAGE_VOLUME)
        };
        Ok(found.into_iter().filter(|one| one.labels.as_ref().is_some_and(ours)).filter_map(|one| one.id).collect())
    }

    /// Removes all unpacked images of this node.
    pub(super) async fn remove_images(&self) -> Result<(), Failure> {
        let docker = self.client().await?;
        for id in self.readers(&docker).await? {
            self.remove_container(&id).await?;
        }
        self.with_images(Images::remove_all).await
    }
}

/// What comes from the engine, for a thread that waits for it. `None` is the end; a sender that goes without it broke off.
struct Incoming {
    incoming: mpsc::Receiver<Option<Bytes>>,
    chunk: Bytes,
    whole: bool,
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() && !self.whole {
            match self.incoming.blocking_recv() {
                Some(Some(chunk)) => self.chunk = chunk,
                Some(None) => self.whole = true,
                None => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the engine or the agent ended in between")),
            }
        }
        let read = buffer.len().min(self.chunk.len());
        if let Some(to) = buffer.get_mut(..read) {
            self.chunk.copy_to_slice(to);
        }
        Ok(read)
    }
}
