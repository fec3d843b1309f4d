//! Docker as the runtime, through `bollard` on the Unix socket.
//!
//! In:       commands in pod words; bodies come from `translate.rs`.
//! Out:      outcomes and listings in pod words.
//! Never:    decides; keeps nothing but what spares it a question (image digests, the network's and the image's id).
//!
//! Every request has a time-out of its own. The API version is agreed on again whenever Docker was away: `bollard` asks
//! for one that older engines refuse, and an upgrade may have happened in between.

mod engine;
mod events;
mod exec;
mod host;
mod image_volumes;
mod images;
mod last_words;
mod logs;
mod names;
mod network;
mod observe;
mod oom;
mod remove;
mod usage;
mod volumes;

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64};
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, ContainerStateStatusEnum};
use bollard::query_parameters::{CreateContainerOptions, KillContainerOptions, ListContainersOptions};
use bollard::{API_DEFAULT_VERSION, Docker};

use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use engine::Engine;
use host::Started;

use super::naming::{self, Owner};
use super::{
    Boxed, Changes, Command, ContainerPlan, Done, Executed, Failure, Listing, Note, PodRef, Runtime, SandboxPlan, Signal,
    translate,
};
use crate::agent::dns::NameServer;
use crate::agent::dns::resolv_conf::OF_HOST;
use crate::agent::images::credentials::Credential;
use crate::agent::images::progress::{Layers, Progress};
use crate::agent::images::{Disk, Fetched, ImageFacts};
use crate::agent::node_network::NodeNetwork;
use crate::agent::pod_network::PodNetwork;
use crate::agent::pod_network::addresses::Addresses;
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
    /// Where images are unpacked that volumes show: a path that Docker sees as well, and on a disk.
    pub image_dir: PathBuf,
    /// Where seccomp profiles of type Localhost lie.
    pub seccomp_dir: PathBuf,
    /// The host's `resolv.conf`: the first of these that names a server within reach.
    pub resolv_conf: Vec<PathBuf>,
    /// Whether this node answers names; `None` where nobody can say.
    pub name_server: Option<watch::Receiver<NameServer>>,
    /// What runs in the sandbox: [`super::sandbox::PROGRAM`] and its arguments.
    pub sandbox_command: Vec<String>,
    /// What the network of this node's pods is to be. A channel that nobody sends on: the engine chooses, for all nodes of the cluster on
    /// this host together, as where the master is too old to say.
    pub pod_network: watch::Receiver<Option<PodNetwork>>,
    /// So long after the agent's start it is waited for.
    pub network_patience: Duration,
    /// Who hears what it is.
    pub node_network: watch::Sender<Option<NodeNetwork>>,
    /// Every time-out is divided by this: 1, more where a test waits for a Docker that hangs.
    pub haste: u32,
}

impl Settings {
    /// As the daemon uses it.
    #[must_use]
    pub fn new(socket: impl Into<String>, owner: Owner, run_dir: impl Into<PathBuf>) -> Self {
        let run_dir = run_dir.into();
        Self {
            socket: socket.into(),
            owner,
            logs: translate::LogCap::default(),
            image_dir: run_dir.join("image-volumes"),
            run_dir,
            seccomp_dir: crate::agent::config::DEFAULT_SECCOMP_DIR.into(),
            resolv_conf: OF_HOST.iter().map(PathBuf::from).collect(),
            sandbox_command: vec![super::sandbox::PROGRAM.to_owned(), "sandbox".to_owned()],
            pod_network: watch::channel(None).1,
            // A master that was just started says nothing of the network before its own grace is over: 30 s.
            network_patience: Duration::from_secs(40),
            node_network: watch::Sender::new(None),
            name_server: None,
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
    /// What engine it was that was last connected to.
    engine: Mutex<Engine>,
    /// What engines said of starts that failed and do not keep in the container's state, by id.
    failed_starts: Mutex<HashMap<String, String>>,
    /// Made or found once: the sandbox image's tag, and the id of the network.
    sandbox_image: tokio::sync::Mutex<Option<String>>,
    network: tokio::sync::Mutex<Option<network::Known>>,
    /// Which pod has which address on it; `None`: what the agent before had is not read yet.
    addresses: Mutex<Option<Addresses>>,
    /// Whether this agent turns round what leaves its pods' network; the engine does otherwise. Asked once.
    translates: tokio::sync::OnceCell<bool>,
    /// Whether the engine makes its bridges on another machine, or in another network namespace.
    elsewhere: AtomicBool,
    /// When the agent began.
    born: tokio::time::Instant,
    digests: Mutex<HashMap<String, String>>,
    /// Containers of which a process was killed for its memory: Docker tells of a child's end by an event alone.
    oom: Arc<Mutex<BTreeSet<String>>>,
    /// Rings when one came to them that no event of the engine tells of.
    oom_news: Arc<Notify>,
    /// The containers that the kernel is asked about, and who waits for its answers (`oom.rs`).
    listened: Mutex<BTreeSet<String>>,
    listeners: Mutex<JoinSet<()>>,
    /// What this node runs, as Docker said when it was last connected to.
    platforms: Mutex<Option<Platforms>>,
    /// The fetches that are under way, by image.
    fetches: Mutex<HashMap<String, Layers>>,
    /// Whose the sandboxes are that were seen, by id: an event of a network names a container and no pod.
    sandboxes: Mutex<HashMap<String, Uid>>,
    /// What was found of containers that ended at once, by id.
    exec_formats: Mutex<HashMap<String, Option<String>>>,
    /// By container id, of those that have ended.
    last_words: Mutex<HashMap<String, String>>,
    /// The images that are unpacked for volumes, and who is at it.
    images: Arc<disk::images::Images>,
    unpacking: Arc<tokio::sync::Mutex<()>>,
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
                images: Arc::new(disk::images::Images::new(&settings.image_dir, &settings.run_dir)),
                unpacking: Arc::default(),
                settings,
                client: Mutex::new(None),
                engine: Mutex::default(),
                failed_starts: Mutex::default(),
                sandbox_image: tokio::sync::Mutex::new(None),
                network: tokio::sync::Mutex::new(None),
                addresses: Mutex::default(),
                translates: tokio::sync::OnceCell::new(),
                elsewhere: AtomicBool::new(false),
                born: tokio::time::Instant::now(),
                digests: Mutex::new(HashMap::new()),
                oom: Arc::default(),
                oom_news: Arc::default(),
                listened: Mutex::default(),
                listeners: Mutex::default(),
                platforms: Mutex::new(None),
                fetches: Mutex::new(HashMap::new()),
                sandboxes: Mutex::default(),
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
    fn execute<'a>(
        &'a self,
        pod: &'a PodRef,
        command: &'a Command,
        given_up: &'a CancellationToken,
    ) -> Boxed<'a, Result<Done, Failure>> {
        Box::pin(self.shared.execute(pod, command, given_up))
    }

    fn observe<'a>(&'a self, only: Option<&'a Uid>) -> Boxed<'a, Result<Listing, Failure>> {
        Box::pin(self.shared.observe(only))
    }

    fn events(&self) -> Boxed<'_, Result<Box<dyn Changes>, Failure>> {
        Box::pin(events::listen(&self.shared))
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
            self.shared.client().await?;
            let engine = self.shared.engine();
            Ok(format!("{}://{}", engine.scheme(), engine.version))
        })
    }

    fn lives(&self) -> Boxed<'_, Result<(), Failure>> {
        Box::pin(async {
            let docker = self.shared.client().await?;
            self.shared.ask(QUICK, docker.ping()).await.map(drop)
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

    fn tidy(&self) -> Boxed<'_, Result<(), Failure>> {
        Box::pin(self.shared.tidy())
    }

    fn network(&self) -> Boxed<'_, Result<Option<NodeNetwork>, Failure>> {
        Box::pin(self.shared.node_network())
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
        *lock(&self.engine) = Engine::of(self.ask(QUICK, agreed.version()).await?);
        *lock(&self.client) = Some(agreed.clone());
        Ok(agreed)
    }

    /// The engine that was last connected to.
    fn engine(&self) -> Engine {
        lock(&self.engine).clone()
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

    async fn execute(&self, pod: &PodRef, command: &Command, given_up: &CancellationToken) -> Result<Done, Failure> {
        match command {
            Command::StartSandbox(plan) => self.start_sandbox(plan).await,
            Command::FindImage { image } => self.find_image(image).await,
            Command::PullImage { image, credentials } => self.pull_image(image, credentials).await,
            // Orders are given up by who carries them out.
            Command::Cancel => Ok(Done::Ok),
            Command::StartContainer(plan) => self.start_container(plan, given_up).await,
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
                self.release_address(&pod.uid);
                // What of it does not go now does at the next look: it is no part of the pod.
                if let Err(failure) = self.tidy().await {
                    tracing::debug!(%failure, "images that no pod uses stay unpacked until the next look");
                }
                Ok(Done::Ok)
            }
        }
    }

    async fn start_sandbox(&self, plan: &SandboxPlan) -> Result<Done, Failure> {
        let docker = self.client().await?;
        // Before the name server, which answers at this network's own address.
        let network = if plan.host_network { network::Known::default() } else { self.ensure_network(&docker).await? };
        let server = self.name_server().await;
        let plan = &names::in_domain(plan, server.as_ref());
        let about_names = self.write_resolv_conf(plan, server).await?;
        let image = self.ensure_sandbox_image(&docker).await?;
        let mut on = translate::SandboxHost {
            image,
            command: self.settings.sandbox_command.clone(),
            network: network.id.clone(),
            address: None,
            address6: None,
            sheltered: true,
        };
        let name = naming::container_name(&plan.pod, naming::SANDBOX, plan.attempt);
        let mut tries = network::ADDRESSES;
        let mut image_may_have_gone = true;
        loop {
            tries -= 1;
            on.address = self.pick_address(&docker, &network, &plan.pod.uid).await?;
            on.address6 = on.address.and_then(|address| network.address6(address));
            let body =
                |sheltered| translate::sandbox_body(self.owner(), plan, &translate::SandboxHost { sheltered, ..on.clone() });
            match self.make_and_start(&docker, &name, &plan.pod, true, Some(plan), body).await {
                Ok((id, created, _)) => {
                    let about_full_name = self.write_full_name(&docker, &id, plan).await?;
                    self.tell_network(&network);
                    let warnings = about_full_name.map(Note::of_runtime).into_iter().chain(about_names).collect();
                    return Ok(Done::Started { id, created, warnings });
                }
                Err(Started::NotMade(failure)) => {
                    // A person may have removed the image or the network: look again next time.
                    *self.sandbox_image.lock().await = None;
                    *self.network.lock().await = None;
                    // Another program's agent on this engine may have just tidied up.
                    if std::mem::take(&mut image_may_have_gone) && !self.image_is_here(&docker, &on.image).await? {
                        on.image = self.ensure_sandbox_image(&docker).await?;
                        tries += 1;
                        continue;
                    }
                    return Err(failure);
                }
                Err(Started::NotStarted(id, failure)) => {
                    *self.network.lock().await = None;
                    // One whose port is taken stays as if it had never been; the failure is told, not shown.
                    if let Failure::Failed(words) = &failure {
                        self.remove_container(&id).await?;
                        if self.refuses_address(&plan.pod.uid, on.address, words) && tries > 0 {
                            continue;
                        }
                    }
                    return Err(failure);
                }
            }
        }
    }

    async fn start_container(&self, plan: &ContainerPlan, given_up: &CancellationToken) -> Result<Done, Failure> {
        let docker = self.client().await?;
        let (plan, on, missing) = self.prepare(&docker, plan, given_up).await?;
        let plan = &plan;
        let name = naming::container_name(&plan.pod, &plan.name, plan.attempt);
        let body =
            |sheltered| translate::container_body(self.owner(), plan, &translate::ContainerHost { sheltered, ..on.clone() });
        match self.make_and_start(&docker, &name, &plan.pod, plan.limits.oom_score < 0, None, body).await {
            Ok((id, created, warnings)) => {
                let warnings = warnings.into_iter().chain(missing).map(Note::of_runtime).collect();
                Ok(Done::Started { id, created, warnings })
            }
            Err(Started::NotMade(failure)) => {
                // It was no attempt: its files must not count as one.
                let (run_dir, plan) = (self.settings.run_dir.clone(), plan.clone());
                self.on_disk(move || disk::remove_container(&run_dir, &plan.pod.uid, &plan.name, plan.attempt)).await?;
                Err(failure)
            }
            Err(Started::NotStarted(_, failure)) => Err(failure),
        }
    }

    /// What there is to know and to make before this container is made; what of its rights this host cannot give.
    async fn prepare(
        &self,
        docker: &Docker,
        plan: &ContainerPlan,
        given_up: &CancellationToken,
    ) -> Result<(ContainerPlan, translate::ContainerHost, Vec<String>), Failure> {
        let (on, missing) = self.container_host(docker, plan).await?;
        let mut plan = self.place_mounts(docker, plan, given_up).await?;
        // The last moment at which nothing is made yet.
        if given_up.is_cancelled() {
            return Err(Failure::given_up());
        }
        plan.mounts.extend(self.last_words_mount(&plan).await?);
        plan.mounts.extend(self.resolv_conf_mount(&plan).await?);
        Ok((plan, on, missing))
    }

    /// Makes the container that comes next, for a sandbox that starts; its id.
    async fn make_early(&self, docker: &Docker, sandbox: &str, next: &ContainerPlan) -> Result<String, Failure> {
        let next = ContainerPlan { sandbox_id: sandbox.to_owned(), ..next.clone() };
        // Nothing that takes long: it has no volume that is an image.
        let (plan, on, _) = self.prepare(docker, &next, &CancellationToken::new()).await?;
        let name = naming::container_name(&plan.pod, &plan.name, plan.attempt);
        let (id, ..) = self.create(docker, &name, translate::container_body(self.owner(), &plan, &on), &plan.pod).await?;
        Ok(id)
    }

    /// Makes a container; one that has the name and our labels is taken over. The id, whether it has never run, and Docker's
    /// warnings.
    async fn create(
        &self,
        docker: &Docker,
        name: &str,
        body: serde_json::Value,
        pod: &PodRef,
    ) -> Result<(String, bool, Vec<String>), Failure> {
        for volume in self.engine().volumes_first(&body, host::page_bytes()) {
            self.ask(SLOW, docker.create_volume(volume)).await?;
        }
        let body: ContainerCreateBody = serde_json::from_value(self.engine().body(body))
            .map_err(|error| Failure::Failed(format!("cannot ask Docker for the container: {error}")))?;
        let options = CreateContainerOptions { name: Some(name.to_owned()), ..CreateContainerOptions::default() };
        let wanted = body.labels.clone().unwrap_or_default();
        let mut replaced = false;
        loop {
            let made = self.within(SLOW, docker.create_container(Some(options.clone()), body.clone())).await;
            let message = match made {
                Ok(Ok(made)) => return Ok((made.id, true, made.warnings)),
                Ok(Err(Error::DockerResponseServerError { status_code, message }))
                    if self.engine().says_taken(status_code, &message) =>
                {
                    message
                }
                Ok(Err(error)) => return Err(self.failure(&error)),
                Err(_) => return Err(Failure::Unavailable("Docker did not make the container in time".to_owned())),
            };
            let Some(there) = self.look(docker, name).await? else {
                if replaced || !self.engine().may_have_remains() {
                    return Err(Failure::Failed(message));
                }
                self.remove_container(name).await?;
                replaced = true;
                continue;
            };
            let labels = there.config.and_then(|config| config.labels).unwrap_or_default();
            let ours = naming::read(self.owner(), &labels).is_some_and(|read| read.pod.uid == pod.uid);
            let Some(id) = there.id.filter(|_| ours) else { return Err(Failure::Failed(message)) };
            let status = there.state.and_then(|state| state.status);
            let fresh = status == Some(ContainerStateStatusEnum::CREATED);
            let same = [naming::SANDBOX_ID, naming::SPEC_HASH, naming::DEVICES, naming::ADDRESS]
                .iter()
                .all(|key| labels.get(*key) == wanted.get(*key));
            // It was made in advance, and something has changed since: its sandbox may be gone.
            if fresh && !same && !replaced {
                self.remove_container(&id).await?;
                replaced = true;
                continue;
            }
            return Ok((id, fresh, Vec::new()));
        }
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

    /// Does something that waits for the disk.
    async fn on_disk<T: Send + 'static>(&self, act: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> Result<T, Failure> {
        let done = tokio::task::spawn_blocking(act).await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        done.map_err(|error| Failure::Failed(format!("in {}: {}", self.settings.run_dir.display(), Chain(&error))))
    }

    /// Ids and labels of our containers.
    async fn list(&self, docker: &Docker, only: Option<&Uid>) -> Result<Vec<(String, naming::Labels)>, Failure> {
        let filters = HashMap::from([("label".to_owned(), self.owner().filter(only))]);
        let options = ListContainersOptions { all: true, filters: Some(filters), ..ListContainersOptions::default() };
        let found = self.containers(docker, options).await?;
        Ok(found
            .into_iter()
            .filter_map(|summary| Some((summary.id?, naming::read_of(self.owner(), only, &summary.labels.unwrap_or_default())?)))
            .collect())
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
