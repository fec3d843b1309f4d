//! Hands: what the image, the host's files and Docker say before a container can be made; and the start itself, on a host that
//! may not shelter anything from the kernel.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use bollard::Docker;
use serde_json::Value;

use super::oom::Since;
use super::{QUICK, SLOW, Shared, lock};
use crate::agent::runtime::translate::{self, ContainerHost};
use crate::agent::runtime::{AppArmor, ContainerPlan, Failure, PodRef, SandboxPlan, Seccomp, Security};

/// Whether Docker may give a container a negative `oom_score_adj`: not known yet.
pub(super) const UNKNOWN: u8 = 0;
const MAY: u8 = 1;
const MAY_NOT: u8 = 2;

impl Shared {
    /// What there is to know before this container is made, and what of its rights this host cannot give.
    pub(super) async fn container_host(
        &self,
        docker: &Docker,
        plan: &ContainerPlan,
    ) -> Result<(ContainerHost, Vec<String>), Failure> {
        let image_user = if translate::asks_image_user(&plan.security) {
            let image = self.ask(QUICK, docker.inspect_image(&plan.image)).await?;
            image.config.and_then(|config| config.user).unwrap_or_default()
        } else {
            String::new()
        };
        let user = translate::user(plan, &image_user).map_err(Failure::Unfit)?;
        let seccomp = match &plan.security.seccomp {
            Seccomp::Localhost(path) => {
                let path = self.settings.seccomp_dir.join(path);
                let content = read(path.clone()).await;
                let path = std::path::absolute(&path).unwrap_or(path).display().to_string();
                let content = content.map_err(|error| {
                    Failure::Unfit(format!("cannot load seccomp profile {path}: {error}; put it there, or name another one"))
                })?;
                Some(self.engine().seccomp(&path, content))
            }
            Seccomp::Default | Seccomp::Unconfined => None,
        };
        let warnings = self.missing(docker, &plan.security).await?;
        Ok((ContainerHost { user, seccomp, sheltered: self.may_shelter(), logs: self.settings.logs }, warnings))
    }

    /// Docker takes AppArmor profiles and SELinux labels without a word on a host that has neither.
    async fn missing(&self, docker: &Docker, security: &Security) -> Result<Vec<String>, Failure> {
        let armored = matches!(security.app_armor, Some(AppArmor::Default | AppArmor::Localhost(_)));
        if !armored && security.labels.is_empty() {
            return Ok(Vec::new());
        }
        let options = self.ask(QUICK, docker.info()).await?.security_options.unwrap_or_default();
        let has = |name: &str| options.iter().any(|option| option.split(',').any(|part| part == format!("name={name}")));
        let mut warnings = Vec::new();
        if armored && !has("apparmor") {
            warnings
                .push("Cannot enforce AppArmor: AppArmor is not enabled on the host; the container runs without it".to_owned());
        }
        if !security.labels.is_empty() && !has("selinux") {
            warnings.push("seLinuxOptions have no effect: SELinux is not enabled on the host".to_owned());
        }
        Ok(warnings)
    }

    /// Whether Docker is asked to shelter; until the first one failed it is.
    pub(super) fn may_shelter(&self) -> bool {
        self.shelter.load(Ordering::Relaxed) != MAY_NOT
    }

    /// Makes and starts a container; its id, whether it has never run before, and Docker's warnings. `body` is told whether the
    /// host shelters; `wants` says whether this one wants to be sheltered at all; `sandbox` is the plan of one that is a sandbox.
    ///
    /// Without the right to it Docker says only that the start failed: a second try without shelter tells.
    pub(super) async fn make_and_start(
        &self,
        docker: &Docker,
        name: &str,
        pod: &PodRef,
        wants: bool,
        sandbox: Option<&SandboxPlan>,
        body: impl Fn(bool) -> Value,
    ) -> Result<(String, bool, Vec<String>), Started> {
        let known = self.shelter.load(Ordering::Relaxed);
        let volumes = sandbox.map(|plan| plan.volumes.as_slice()).unwrap_or_default();
        let next = sandbox.and_then(|plan| plan.next.as_deref());
        let made = self.create(docker, name, body(known != MAY_NOT), pod).await.map_err(Started::NotMade)?;
        // Before it runs: a sandbox that runs has its volumes as they are to be.
        self.open_volumes(docker, &made.0, volumes).await.map_err(Started::NotMade)?;
        match self.start_beside(docker, &made.0, next).await {
            Ok(()) => {
                self.started(docker, &made.0).await;
                // What an agent before this one made, and this one only started, says nothing: it was made without shelter, perhaps.
                if wants && known == UNKNOWN && self.is_sheltered(docker, &made.0).await {
                    self.shelter.store(MAY, Ordering::Relaxed);
                }
                Ok(made)
            }
            Err(Failure::Failed(_)) if wants && known == UNKNOWN => {
                self.remove_container(&made.0).await.map_err(Started::NotMade)?;
                let made = self.create(docker, name, body(false), pod).await.map_err(Started::NotMade)?;
                self.open_volumes(docker, &made.0, volumes).await.map_err(Started::NotMade)?;
                let started = self.ask(SLOW, docker.start_container(&made.0, None)).await;
                started.map_err(|failure| self.not_started(made.0.clone(), failure))?;
                self.started(docker, &made.0).await;
                if self.shelter.swap(MAY_NOT, Ordering::Relaxed) != MAY_NOT {
                    tracing::warn!(
                        "this host does not let Docker shelter sandboxes and guaranteed pods when memory is at its end (negative oom_score_adj); they are as likely to be ended as the system's own processes"
                    );
                }
                Ok(made)
            }
            Err(failure) => Err(self.not_started(made.0, failure)),
        }
    }

    async fn is_sheltered(&self, docker: &Docker, id: &str) -> bool {
        let inspect = self.ask(QUICK, docker.inspect_container(id, None)).await.ok();
        let score = inspect.and_then(|inspect| inspect.host_config?.oom_score_adj);
        score.is_some_and(|score| score < 0)
    }

    async fn started(&self, docker: &Docker, id: &str) {
        lock(&self.failed_starts).remove(id);
        if !self.engine().tells_oom()
            && let Ok(inspect) = self.ask(QUICK, docker.inspect_container(id, None)).await
        {
            self.listen_for_oom(id, inspect.state.and_then(|state| state.pid), Since::Start);
        }
    }

    /// A start that failed, remembered where the engine does not: the container itself says only that it was made.
    fn not_started(&self, id: String, failure: Failure) -> Started {
        if let (Failure::Failed(words), false) = (&failure, self.engine().keeps_failed_starts()) {
            lock(&self.failed_starts).insert(id.clone(), words.clone());
        }
        Started::NotStarted(id, failure)
    }

    /// Starts a container, and makes the one that comes next meanwhile. If that cannot be made, its own turn will say why; without
    /// the first it is of no use.
    async fn start_beside(&self, docker: &Docker, id: &str, next: Option<&ContainerPlan>) -> Result<(), Failure> {
        let Some(next) = next else { return self.ask(SLOW, docker.start_container(id, None)).await };
        let start = self.ask(SLOW, docker.start_container(id, None));
        // What is made early may look into the volumes.
        let (started, early) = if self.engine().opens_volumes_before_start() {
            tokio::join!(start, self.make_early(docker, id, next))
        } else {
            start.await?;
            (Ok(()), self.make_early(docker, id, next).await)
        };
        match (&started, early) {
            (Err(_), Ok(early)) => {
                // One that stays is found by its label, and made anew.
                let _ = self.remove_container(&early).await;
            }
            (Ok(()), Err(failure)) => {
                tracing::debug!(container = next.name, %failure, "a container could not be made in advance");
            }
            (Ok(()), Ok(_)) | (Err(_), Err(_)) => {}
        }
        started
    }
}

impl Shared {
    /// Puts the pod's full name into its sandbox's `/etc/hosts`, at each of its addresses, on an engine that does not; what to warn of
    /// when it cannot be put there. Containers that join the sandbox have the same file.
    pub(super) async fn write_full_name(&self, docker: &Docker, id: &str, plan: &SandboxPlan) -> Result<Option<String>, Failure> {
        if self.engine().writes_full_name() || plan.host_network || plan.domain.is_empty() {
            return Ok(None);
        }
        let full = format!("{}.{}", plan.hostname, plan.domain);
        let inspect = self.ask(QUICK, docker.inspect_container(id, None)).await?;
        let addresses: Vec<String> =
            [super::observe::address(&inspect), super::observe::address6(&inspect)].into_iter().flatten().collect();
        let Some(path) = inspect.hosts_path else { return Ok(None) };
        let lines: Vec<String> = addresses.iter().map(|address| format!("{address}\t{full} {}", plan.hostname)).collect();
        let written = tokio::task::spawn_blocking(move || {
            let hosts = std::fs::read_to_string(&path)?;
            let mut file = std::fs::OpenOptions::new().append(true).open(&path)?;
            for line in lines.iter().filter(|line| !hosts.lines().any(|there| there == *line)) {
                std::io::Write::write_all(&mut file, format!("{line}\n").as_bytes())?;
            }
            Ok(())
        });
        let written = written.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        Ok(written.err().map(|error| format!("{full} is not in the pod's /etc/hosts: the agent cannot write there: {error}")))
    }
}

/// How far a start came that failed.
pub(super) enum Started {
    /// There is no container.
    NotMade(Failure),
    /// There is one, with this id.
    NotStarted(String, Failure),
}

/// The kernel's page; of 4 kB where it does not say.
pub(super) fn page_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    let words = text.lines().find_map(|line| line.strip_prefix("KernelPageSize:"));
    words.and_then(|words| words.split_whitespace().next()?.parse::<u64>().ok()).map_or(4096, |kilobytes| kilobytes << 10)
}

pub(super) async fn read(path: PathBuf) -> std::io::Result<String> {
    let read = tokio::task::spawn_blocking(move || std::fs::read_to_string(path)).await;
    read.unwrap_or_else(|error| Err(std::io::Error::other(error)))
}
