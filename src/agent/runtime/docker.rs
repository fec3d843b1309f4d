//! Docker as the runtime, through `bollard` on the Unix socket.
//!
//! In:       commands in pod words; bodies come from `translate.rs`.
//! Out:      outcomes and listings in pod words.
//! Never:    decides; keeps nothing but what spares it a question (image digests, the network's and the image's id).
//!
//! Every request has a time-out of its own. The API version is agreed on again whenever Docker was away: `bollard` asks
//! for one that older engines refuse, and an upgrade may have happened in between.

mod exec;
mod host;
mod images;
mod last_words;
mod logs;
mod observe;
mod usage;
mod volumes;

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicU64};
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, EventMessage, NetworkCreateRequest};
use bollard::query_parameters::{
    CreateContainerOptions, EventsOptions, KillContainerOptions, ListContainersOptions, ListNetworksOptions,
    RemoveContainerOptions, RemoveVolumeOptions,
};
use bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use host::Started;

use super::naming::{self, Owner};
use super::{
    Boxed, Changed, Changes, Command, ContainerPlan, Done, Executed, Failure, Listing, PodRef, Runtime, SandboxPlan, Signal,
    translate,
};
use crate::agent::images::credentials::Credential;
use crate::agent::images::progress::{Layers, Progress};
use crate::agent::images::{Disk, Fetched, ImageFacts};
use crate::agent::stats::{DiskUsage, Usage};
use crate::agent::volumes::disk;
use crate::api::Uid;
use crate::api::image::{Platform, Platforms};
use crate::error::Chain;
use crate::link::call::{Chunks, LogRequest};

/// A question to Docker that takes longer is given up; it is asked again.
const QUICK: Duration = Duration::from_secs(30);
/// A create or a start on a slow card.
const SLOW: Duration = Duration::from_secs(120);
/// Chunks of a log that wait for a slow reader.
const LOG_CHUNKS: usize = 16;

/// How to reach Docker, and as whom.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The socket's path.
    pub socket: String,
    /// Whose containers these are.
    pub owner: Owner,
    /// How much of each container's log is kept.
    pub logs: translate::LogCap,
    /// Platforms that the owner has set an emulator up for.
    pub emulated: Vec<Platform>,
    /// Docker's `config.json` with the node's own credentials for registries.
    pub auth_file: Option<PathBuf>,
    /// Who hears what was fetched.
    pub fetched: Option<mpsc::Sender<Fetched>>,
    /// Where the pods' directories lie (`pods/dir.rs`): a path that Docker sees as well.
    pub run_dir: PathBuf,
    /// Where seccomp profiles of type Localhost lie.
    pub seccomp_dir: PathBuf,
    /// The host's `resolv.conf`: the first of these that names a server within reach.
    pub resolv_conf: Vec<PathBuf>,
    /// What runs in the sandbox: [`super::sandbox::PROGRAM`] and its arguments.
    pub sandbox_command: Vec<String>,
    /// Every time-out is divided by this: 1, more where a test waits for a Docker that hangs.
    pub haste: u32,
}

impl Settings {
    /// As the daemon uses it.
    #[must_use]
    pub fn new(socket: impl Into<String>, owner: Owner, run_dir: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
            owner,
            logs: translate::LogCap::default(),
            run_dir: run_dir.into(),
            seccomp_dir: crate::agent::config::DEFAULT_SECCOMP_DIR.into(),
            // Source: systemd-resolved(8); Docker and the kubelet look there as well.
            resolv_conf: vec!["/etc/resolv.conf".into(), "/run/systemd/resolve/resolv.conf".into()],
            sandbox_command: vec![super::sandbox::PROGRAM.to_owned(), "sandbox".to_owned()],
            haste: 1,
            emulated: Vec::new(),
            auth_file: None,
            fetched: None,
        }
    }
}

/// Docker.
#[derive(Clone)]
pub struct DockerRuntime {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    client: Mutex<Option<Docker>>,
    /// Made or found once: the sandbox image's tag, and the id of the network.
    sandbox_image: tokio::sync::Mutex<Option<String>>,
    network: tokio::sync::Mutex<Option<String>>,
    digests: Mutex<HashMap<String, String>>,
    /// Containers of which a process was killed for its memory: Docker tells of a child's end by an event alone.
    oom: Arc<Mutex<BTreeSet<String>>>,
    /// What this node runs, as Docker said when it was last connected to.
    platforms: Mutex<Option<Platforms>>,
    /// The fetches that are under way, by image.
    fetches: Mutex<HashMap<String, Layers>>,
    /// What was found of containers that ended at once, by id.
    exec_formats: Mutex<HashMap<String, Option<String>>>,
    /// By container id, of those that have ended.
    last_words: Mutex<HashMap<String, String>>,
    stamp: AtomicU64,
    places: Mutex<usage::Places>,
    /// Whether Docker may shelter containers from the kernel (`host.rs`).
    shelter: AtomicU8,
    /// Readers of logs; they end with their receivers, or with us.
    logs: Mutex<JoinSet<()>>,
}

impl DockerRuntime {
    /// Nothing is opened before the first question.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            shared: Arc::new(Shared {
                settings,
                client: Mutex::new(None),
                sandbox_image: tokio::sync::Mutex::new(None),
                network: tokio::sync::Mutex::new(None),
                digests: Mutex::new(HashMap::new()),
                oom: Arc::default(),
                platforms: Mutex::new(None),
                fetches: Mutex::new(HashMap::new()),
                exec_formats: Mutex::new(HashMap::new()),
                last_words: Mutex::new(HashMap::new()),
                stamp: AtomicU64::new(0),
                places: Mutex::default(),
                shelter: AtomicU8::new(host::UNKNOWN),
                logs: Mutex::new(JoinSet::new()),
            }),
        }
    }
}

impl Runtime for DockerRuntime {
    fn execute<'a>(&'a self, pod: &'a PodRef, command: &'a Command) -> Boxed<'a, Result<Done, Failure>> {
        Box::pin(self.shared.execute(pod, command))
    }

    fn observe<'a>(&'a self, only: Option<&'a Uid>) -> Boxed<'a, Result<Listing, Failure>> {
        Box::pin(self.shared.observe(only))
    }

    fn events(&self) -> Boxed<'_, Result<Box<dyn Changes>, Failure>> {
        Box::pin(self.shared.events())
    }

    fn logs(&self, request: LogRequest) -> Chunks {
        let (sender, receiver) = mpsc::channel(LOG_CHUNKS);
        let shared = Arc::clone(&self.shared);
        let mut readers = lock(&self.shared.logs);
        while readers.try_join_next().is_some() {}
        readers.spawn(async move {
            if let Err(error) = shared.read_log(&request, &sender).await {
                // A receiver that is gone wants no error either.
                let _ = sender.send(Err(error)).await;
            }
        });
        receiver
    }

    fn exec<'a>(&'a self, container: &'a str, command: &'a [String], limit: Duration) -> Boxed<'a, Result<Executed, Failure>> {
        Box::pin(self.shared.exec(container, command, limit))
    }

    fn version(&self) -> Boxed<'_, Result<String, Failure>> {
        Box::pin(async {
            let docker = self.shared.client().await?;
            let version = self.shared.ask(QUICK, docker.version()).await?;
            Ok(format!("docker://{}", version.version.unwrap_or_default()))
        })
    }

    fn images(&self) -> Boxed<'_, Result<Vec<ImageFacts>, Failure>> {
        Box::pin(self.shared.images())
    }

    fn image_disk(&self) -> Boxed<'_, Result<Disk, Failure>> {
        Box::pin(self.shared.image_disk())
    }

    fn remove_image<'a>(&'a self, id: &'a str, names: &'a [String]) -> Boxed<'a, Result<(), Failure>> {
        Box::pin(self.shared.remove_image(id, names))
    }

    fn progress(&self, image: &str) -> Option<Progress> {
        self.shared.progress(image)
    }

    fn platforms(&self) -> Boxed<'_, Result<Platforms, Failure>> {
        Box::pin(async { self.shared.node_platforms(&self.shared.client().await?).await })
    }

    fn image_platforms<'a>(&'a self, image: &'a str, credentials: &'a [Credential]) -> Boxed<'a, Result<Vec<Platform>, Failure>> {
        Box::pin(self.shared.image_platforms(image, credentials))
    }

    fn teardown(&self) -> Boxed<'_, Result<(), Failure>> {
        Box::pin(self.shared.teardown())
    }

    fn usage(&self) -> Boxed<'_, Result<Usage, Failure>> {
        Box::pin(self.shared.usage())
    }

    fn disk<'a>(&'a self, only: Option<&'a Uid>) -> Boxed<'a, Result<Vec<DiskUsage>, Failure>> {
        Box::pin(self.shared.disk(only))
    }

    fn root(&self) -> Boxed<'_, Result<Option<PathBuf>, Failure>> {
        Box::pin(self.shared.root())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What is kept here stays right whatever panicked while it was held.
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Shared {
    fn owner(&self) -> &Owner {
        &self.settings.owner
    }

    /// The client, with an agreed API version.
    async fn client(&self) -> Result<Docker, Failure> {
        if let Some(client) = lock(&self.client).clone() {
            return Ok(client);
        }
        // The time-out inside of `bollard` runs until the response's head; ours are per request.
        let fresh = Docker::connect_with_unix(&self.settings.socket, SLOW.as_secs(), API_DEFAULT_VERSION)
            .map_err(|error| unavailable(&self.settings.socket, &error))?
            .with_request_modifier(url_safe_credentials);
        let agreed = self
            .within(QUICK, fresh.negotiate_version())
            .await
            .map_err(|_| Failure::Unavailable("Docker does not answer".to_owned()))?
            .map_err(|error| unavailable(&self.settings.socket, &error))?;
        *lock(&self.client) = Some(agreed.clone());
        Ok(agreed)
    }

    /// Waits for an answer as long as these settings allow.
    fn within<T>(&self, limit: Duration, question: impl Future<Output = T>) -> tokio::time::Timeout<impl Future<Output = T>> {
        tokio::time::timeout(limit / self.settings.haste.max(1), question)
    }

    /// Asks with a time-out; after a broken connection the version is agreed on anew.
    async fn ask<T>(&self, limit: Duration, question: impl Future<Output = Result<T, Error>>) -> Result<T, Failure> {
        match self.within(limit, question).await {
            Err(_) => Err(Failure::Unavailable(format!("Docker did not answer within {} s", limit.as_secs()))),
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.failure(&error)),
        }
    }

    fn failure(&self, error: &Error) -> Failure {
        match error {
            Error::DockerResponseServerError { message, .. } => Failure::Failed(message.trim().to_owned()),
            Error::DockerStreamError { error } => Failure::Failed(error.trim().to_owned()),
            // Everything else is about the connection, or about an answer that we do not understand: ask again, from
            // the version on.
            _ => {
                *lock(&self.client) = None;
                *lock(&self.platforms) = None;
                unavailable(&self.settings.socket, error)
            }
        }
    }

    async fn execute(&self, pod: &PodRef, command: &Command) -> Result<Done, Failure> {
        match command {
            Command::StartSandbox(plan) => self.start_sandbox(plan).await,
            Command::FindImage { image } => self.find_image(image).await,
            Command::PullImage { image, credentials } => self.pull_image(image, credentials).await,
            // Orders are given up by who carries them out.
            Command::Cancel => Ok(Done::Ok),
            Command::StartContainer(plan) => self.start_container(plan).await,
            Command::SetUpVolumes(plan) => self.set_up_volumes(pod, plan).await,
            Command::MeasureVolumes { volumes } => self.measure_volumes(pod, volumes).await,
            Command::Signal { ids, signal } => {
                for id in ids {
                    self.signal(id, *signal).await?;
                }
                Ok(Done::Ok)
            }
            Command::RemoveContainers { ids } => {
                let known = self.list(&self.client().await?, Some(&pod.uid)).await?;
                for id in ids {
                    self.remove_container(id).await?;
                }
                for (_, labels) in
                    known.into_iter().filter(|(id, labels)| ids.contains(id) && labels.container != naming::SANDBOX)
                {
                    let (run_dir, uid) = (self.settings.run_dir.clone(), pod.uid.clone());
                    self.on_disk(move || disk::remove_container(&run_dir, &uid, &labels.container, labels.attempt)).await?;
                }
                Ok(Done::Ok)
            }
            Command::RemovePod => {
                self.remove_all(Some(&pod.uid)).await?;
                self.remove_directory(&pod.uid).await?;
                Ok(Done::Ok)
            }
        }
    }

    async fn start_sandbox(&self, plan: &SandboxPlan) -> Result<Done, Failure> {
        let docker = self.client().await?;
        let image = self.ensure_sandbox_image(&docker).await?;
        let network = if plan.host_network { String::new() } else { self.ensure_network(&docker).await? };
        let on = translate::SandboxHost {
            image,
            command: self.settings.sandbox_command.clone(),
            network,
            resolv_conf: self.resolv_conf(&plan.dns).await?,
            sheltered: true,
        };
        let name = naming::container_name(&plan.pod, naming::SANDBOX, plan.attempt);
        let body = |sheltered| translate::sandbox_body(self.owner(), plan, &translate::SandboxHost { sheltered, ..on.clone() });
        match self.make_and_start(&docker, &name, &plan.pod, true, &plan.volumes, body).await {
            Ok((id, created, warnings)) => Ok(Done::Started { id, created, warnings }),
            Err(Started::NotMade(failure)) => {
                // A person may have removed the image or the network: look again next time.
                *self.sandbox_image.lock().await = None;
                *self.network.lock().await = None;
                Err(failure)
            }
            Err(Started::NotStarted(id, failure)) => {
                *self.network.lock().await = None;
                // One whose port is taken stays as if it had never been; the failure is told, not shown.
                if matches!(failure, Failure::Failed(_)) {
                    self.remove_container(&id).await?;
                }
                Err(failure)
            }
        }
    }

    async fn start_container(&self, plan: &ContainerPlan) -> Result<Done, Failure> {
        let docker = self.client().await?;
        let (on, mut missing) = self.container_host(&docker, plan).await?;
        let mut plan = self.place_mounts(&docker, plan).await?;
        plan.mounts.extend(self.last_words_mount(&plan).await?);
        let plan = &plan;
        let name = naming::container_name(&plan.pod, &plan.name, plan.attempt);
        let body =
            |sheltered| translate::container_body(self.owner(), plan, &translate::ContainerHost { sheltered, ..on.clone() });
        match self.make_and_start(&docker, &name, &plan.pod, plan.limits.oom_score < 0, &[], body).await {
            Ok((id, created, mut warnings)) => {
                warnings.append(&mut missing);
                Ok(Done::Started { id, created, warnings })
            }
            Err(Started::NotMade(failure) | Started::NotStarted(_, failure)) => Err(failure),
        }
    }

    /// Makes a container; one that has the name and our labels is taken over.
    async fn create(
        &self,
        docker: &Docker,
        name: &str,
        body: serde_json::Value,
        pod: &PodRef,
    ) -> Result<(String, bool, Vec<String>), Failure> {
        let body: ContainerCreateBody = serde_json::from_value(body)
            .map_err(|error| Failure::Failed(format!("cannot ask Docker for the container: {error}")))?;
        let options = CreateContainerOptions { name: Some(name.to_owned()), ..CreateContainerOptions::default() };
        let made = self.within(SLOW, docker.create_container(Some(options), body)).await;
        match made {
            Ok(Ok(made)) => Ok((made.id, true, made.warnings)),
            Ok(Err(Error::DockerResponseServerError { status_code: 409, message })) => {
                let there = self.ask(QUICK, docker.inspect_container(name, None)).await?;
                let labels = there.config.as_ref().and_then(|config| config.labels.as_ref());
                let ours =
                    labels.and_then(|labels| naming::read(self.owner(), labels)).is_some_and(|read| read.pod.uid == pod.uid);
                match there.id {
                    Some(id) if ours => Ok((id, false, Vec::new())),
                    _ => Err(Failure::Failed(message)),
                }
            }
            Ok(Err(error)) => Err(self.failure(&error)),
            Err(_) => Err(Failure::Unavailable("Docker did not make the container in time".to_owned())),
        }
    }

    /// The id of the host's network of this cluster; made when it is not there.
    async fn ensure_network(&self, docker: &Docker) -> Result<String, Failure> {
        let mut known = self.network.lock().await;
        if let Some(id) = known.as_ref() {
            return Ok(id.clone());
        }
        let mut found = self.networks(docker).await?;
        if found.is_empty() {
            let made = docker.create_network(NetworkCreateRequest {
                name: self.owner().network(),
                driver: Some("bridge".to_owned()),
                labels: Some(HashMap::from([(naming::CLUSTER.to_owned(), self.owner().cluster_uid.clone())])),
                ..NetworkCreateRequest::default()
            });
            let made = self.ask(SLOW, made).await?.id;
            // Docker lets two nodes make the same network at the same moment: the first by time and id is kept.
            found = self.networks(docker).await?;
            if found.first().is_some_and(|first| *first != made) {
                self.ask(QUICK, docker.remove_network(&made)).await?;
            }
        }
        let id = found.into_iter().next().ok_or_else(|| Failure::Failed("the network is gone as soon as made".to_owned()))?;
        *known = Some(id.clone());
        Ok(id)
    }

    /// The ids of this cluster's networks on this host, oldest first.
    async fn networks(&self, docker: &Docker) -> Result<Vec<String>, Failure> {
        let label = format!("{}={}", naming::CLUSTER, self.owner().cluster_uid);
        let options = ListNetworksOptions { filters: Some(HashMap::from([("label".to_owned(), vec![label])])) };
        let mut found: Vec<(String, String)> = self
            .ask(QUICK, docker.list_networks(Some(options)))
            .await?
            .into_iter()
            .filter(|network| network.name.as_deref() == Some(self.owner().network().as_str()))
            .filter_map(|network| Some((network.created.unwrap_or_default(), network.id?)))
            .collect();
        found.sort();
        Ok(found.into_iter().map(|(_, id)| id).collect())
    }

    /// Signals one container; that it has ended or is gone is what was wanted.
    async fn signal(&self, id: &str, signal: Signal) -> Result<(), Failure> {
        let docker = self.client().await?;
        let word = match signal {
            Signal::Kill => "KILL".to_owned(),
            Signal::Term => match self.within(QUICK, docker.inspect_container(id, None)).await {
                Ok(Ok(inspect)) => inspect
                    .config
                    .and_then(|config| config.stop_signal)
                    .filter(|word| !word.is_empty())
                    .unwrap_or("TERM".to_owned()),
                Ok(Err(Error::DockerResponseServerError { status_code: 404, .. })) => return Ok(()),
                Ok(Err(error)) => return Err(self.failure(&error)),
                Err(_) => return Err(Failure::Unavailable("Docker does not answer".to_owned())),
            },
        };
        let options = KillContainerOptions { signal: word };
        match self.within(QUICK, docker.kill_container(id, Some(options))).await {
            Ok(Ok(())) | Ok(Err(Error::DockerResponseServerError { status_code: 404 | 409, .. })) => Ok(()),
            Ok(Err(error)) => Err(self.failure(&error)),
            Err(_) => Err(Failure::Unavailable("Docker does not answer".to_owned())),
        }
    }

    async fn remove_container(&self, id: &str) -> Result<(), Failure> {
        let docker = self.client().await?;
        // `v` takes the anonymous volumes that the image asked for; named ones stay.
        let options = RemoveContainerOptions { v: true, force: true, ..RemoveContainerOptions::default() };
        match self.within(SLOW, docker.remove_container(id, Some(options))).await {
            Ok(Ok(())) | Ok(Err(Error::DockerResponseServerError { status_code: 404 | 409, .. })) => Ok(()),
            Ok(Err(error)) => Err(self.failure(&error)),
            Err(_) => Err(Failure::Unavailable("Docker does not answer".to_owned())),
        }
    }

    /// Removes containers, then sandboxes, then volumes, of one pod or of all of this node.
    async fn remove_all(&self, only: Option<&Uid>) -> Result<(), Failure> {
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

    async fn teardown(&self) -> Result<(), Failure> {
        self.remove_all(None).await?;
        let run_dir = self.settings.run_dir.clone();
        for uid in self.on_disk(move || disk::pods(&run_dir)).await? {
            self.remove_directory(&uid).await?;
        }
        let docker = self.client().await?;
        let mut known = self.network.lock().await;
        *known = None;
        for id in self.networks(&docker).await? {
            match self.within(QUICK, docker.remove_network(&id)).await {
                // 403: another node of the cluster still uses it.
                Ok(Ok(())) | Ok(Err(Error::DockerResponseServerError { status_code: 403 | 404 | 409, .. })) => {}
                Ok(Err(error)) => return Err(self.failure(&error)),
                Err(_) => return Err(Failure::Unavailable("Docker does not answer".to_owned())),
            }
        }
        Ok(())
    }

    /// Removes a pod's directory.
    async fn remove_directory(&self, uid: &Uid) -> Result<(), Failure> {
        let (run_dir, uid) = (self.settings.run_dir.clone(), uid.clone());
        self.on_disk(move || disk::remove_pod(&run_dir, &uid)).await
    }

    /// Does something that waits for the disk.
    async fn on_disk<T: Send + 'static>(&self, act: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> Result<T, Failure> {
        let done = tokio::task::spawn_blocking(act).await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        done.map_err(|error| Failure::Failed(format!("in {}: {}", self.settings.run_dir.display(), Chain(&error))))
    }

    /// Ids and labels of our containers.
    async fn list(&self, docker: &Docker, only: Option<&Uid>) -> Result<Vec<(String, naming::Labels)>, Failure> {
        let filters = HashMap::from([("label".to_owned(), self.owner().filter(only))]);
        let options = ListContainersOptions { all: true, filters: Some(filters), ..ListContainersOptions::default() };
        let found = self.ask(QUICK, docker.list_containers(Some(options))).await?;
        Ok(found
            .into_iter()
            .filter_map(|summary| Some((summary.id?, naming::read(self.owner(), &summary.labels.unwrap_or_default())?)))
            .collect())
    }

    async fn events(&self) -> Result<Box<dyn Changes>, Failure> {
        let docker = self.client().await?;
        let words = ["create", "start", "die", "destroy", "oom"].map(str::to_owned).to_vec();
        let filters = HashMap::from([
            ("type".to_owned(), vec!["container".to_owned()]),
            ("label".to_owned(), self.owner().filter(None)),
            ("event".to_owned(), words),
        ]);
        let stream = docker.events(Some(EventsOptions { filters: Some(filters), ..EventsOptions::default() }));
        Ok(Box::new(DockerChanges { stream: Box::pin(stream), oom: Arc::clone(&self.oom) }))
    }
}

struct DockerChanges {
    oom: Arc<Mutex<BTreeSet<String>>>,
    stream: std::pin::Pin<Box<dyn Stream<Item = Result<EventMessage, Error>> + Send>>,
}

impl Changes for DockerChanges {
    fn next(&mut self) -> Boxed<'_, Option<Changed>> {
        Box::pin(async {
            let message = self.stream.next().await?.ok()?;
            if message.action.as_deref() == Some("oom") {
                lock(&self.oom).extend(message.actor.as_ref().and_then(|actor| actor.id.clone()));
            }
            let uid = message.actor.and_then(|actor| actor.attributes?.get(naming::POD_UID).cloned());
            Some(uid.map_or(Changed::All, |uid| Changed::Pod(Uid(uid))))
        })
    }
}

/// Docker reads credentials as URL-safe base64 and takes others for none; `bollard` writes the plain alphabet.
fn url_safe_credentials(mut request: bollard::BollardRequest) -> bollard::BollardRequest {
    const HEADER: &str = "x-registry-auth";
    let headers = request.headers_mut();
    let plain = headers.get(HEADER).and_then(|value| value.to_str().ok()).map(|text| text.replace('+', "-").replace('/', "_"));
    if let Some(Ok(safe)) = plain.map(|text| text.parse()) {
        headers.insert(HEADER, safe);
    }
    request
}

fn unavailable(socket: &str, error: &Error) -> Failure {
    Failure::Unavailable(format!("Docker at {socket} does not answer: {}", Chain(error)))
}
