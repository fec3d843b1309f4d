//! Hands: what the image, the host's files and Docker say before a container can be made; and the start itself, on a host that
//! may not shelter anything from the kernel.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use bollard::Docker;
use serde_json::Value;

use super::{QUICK, SLOW, Shared};
use crate::agent::runtime::translate::{self, ContainerHost};
use crate::agent::runtime::{AppArmor, ContainerPlan, Dns, Failure, PodRef, Seccomp, Security, VolumePlan};

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
                Some(content.map_err(|error| {
                    let path = path.display();
                    Failure::Unfit(format!("cannot load seccomp profile {path}: {error}; put it there, or name another one"))
                })?)
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

    /// The host's `resolv.conf`, if the pod's wishes add to it.
    pub(super) async fn resolv_conf(&self, dns: &Dns) -> Result<String, Failure> {
        let mut text = String::new();
        if !translate::asks_resolv_conf(dns) {
            return Ok(text);
        }
        for path in &self.settings.resolv_conf {
            text =
                read(path.clone()).await.map_err(|error| Failure::Failed(format!("cannot read {}: {error}", path.display())))?;
            if translate::has_servers(&text) {
                break;
            }
        }
        Ok(text)
    }

    /// Whether Docker is asked to shelter; until the first one failed it is.
    pub(super) fn may_shelter(&self) -> bool {
        self.shelter.load(Ordering::Relaxed) != MAY_NOT
    }

    /// Makes and starts a container; its id, whether it was made now, and Docker's warnings. `body` is told whether the host
    /// shelters; `wants` says whether this one wants to be sheltered at all.
    ///
    /// Without the right to it Docker says only that the start failed: a second try without shelter tells.
    pub(super) async fn make_and_start(
        &self,
        docker: &Docker,
        name: &str,
        pod: &PodRef,
        wants: bool,
        volumes: &[VolumePlan],
        body: impl Fn(bool) -> Value,
    ) -> Result<(String, bool, Vec<String>), Started> {
        let known = self.shelter.load(Ordering::Relaxed);
        let made = self.create(docker, name, body(known != MAY_NOT), pod).await.map_err(Started::NotMade)?;
        // Before it runs: a sandbox that runs has its volumes as they are to be.
        self.open_volumes(docker, &made.0, volumes).await.map_err(Started::NotMade)?;
        match self.ask(SLOW, docker.start_container(&made.0, None)).await {
            Ok(()) => {
                if wants && known == UNKNOWN {
                    self.shelter.store(MAY, Ordering::Relaxed);
                }
                Ok(made)
            }
            Err(Failure::Failed(_)) if wants && known == UNKNOWN => {
                self.remove_container(&made.0).await.map_err(Started::NotMade)?;
                let made = self.create(docker, name, body(false), pod).await.map_err(Started::NotMade)?;
                self.open_volumes(docker, &made.0, volumes).await.map_err(Started::NotMade)?;
                let started = self.ask(SLOW, docker.start_container(&made.0, None)).await;
                started.map_err(|failure| Started::NotStarted(made.0.clone(), failure))?;
                if self.shelter.swap(MAY_NOT, Ordering::Relaxed) != MAY_NOT {
                    tracing::warn!(
                        "this host does not let Docker shelter sandboxes and guaranteed pods when memory is at its end (negative oom_score_adj); they are as likely to be ended as the system's own processes"
                    );
                }
                Ok(made)
            }
            Err(failure) => Err(Started::NotStarted(made.0, failure)),
        }
    }
}

/// How far a start came that failed.
pub(super) enum Started {
    /// There is no container.
    NotMade(Failure),
    /// There is one, with this id.
    NotStarted(String, Failure),
}

async fn read(path: PathBuf) -> std::io::Result<String> {
    let read = tokio::task::spawn_blocking(move || std::fs::read_to_string(path)).await;
    read.unwrap_or_else(|error| Err(std::io::Error::other(error)))
}
