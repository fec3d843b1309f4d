//! From a checked spec to what the runtime is asked for.
//!
//! In:       [`PodSpec`], the share's config maps and secrets, addresses, the attempt.
//! Out:      [`SandboxPlan`], [`ContainerPlan`], or why not yet.

use super::oom;
use crate::agent::devices::{self, Held};
use crate::agent::runtime::{ContainerPlan, Limits, ObservedSandbox, SandboxPlan};
use crate::clock::Wall;

mod volumes;

use super::env::{self, ConfigError, Sources};
use super::resource_field::NodeAmounts;
use super::restart::Turn;
use super::spec::{ContainerSpec, PodSpec};

/// The pod's sandbox. Contents of volumes come with the containers.
#[must_use]
pub fn sandbox(spec: &PodSpec, attempt: u32, pod_start: Wall, node: NodeAmounts) -> SandboxPlan {
    SandboxPlan {
        pod: spec.pod.clone(),
        attempt,
        pod_start,
        grace: spec.grace,
        hostname: spec.hostname.clone(),
        domain: spec.domain.clone(),
        dns: spec.dns.clone(),
        ports: spec.ports.clone(),
        sysctls: spec.sysctls.clone(),
        extra_hosts: spec.extra_hosts.clone(),
        host_network: spec.host_network,
        host_ipc: spec.host_ipc,
        volumes: volumes::of_sandbox(spec, node),
        annotations: spec
            .annotations
            .iter()
            .filter(|(key, _)| key.starts_with("bramble/"))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
        next: None,
    }
}

/// One container, in its turn.
///
/// # Errors
/// When something that it names is missing, or cannot be given by this node.
pub fn container(
    spec: &PodSpec,
    container: &ContainerSpec,
    sandbox: &ObservedSandbox,
    turn: Turn,
    sources: Sources<'_>,
    devices: &[Held],
) -> Result<ContainerPlan, ConfigError> {
    if let Some(why) = &container.refused {
        return Err(ConfigError::Refused(why.clone()));
    }
    let env::Environment { variables: mut env, notes } = env::environment(spec, container, sources)?;
    let said: Vec<_> =
        devices::variables(devices).into_iter().filter(|(name, _)| env.iter().all(|(known, _)| known != name)).collect();
    env.extend(said);
    let (mounts, volumes) = volumes::of_container(spec, container, &env, sources)?;
    let expanded = |texts: &[String]| texts.iter().map(|text| env::expand(text, &env)).collect();
    Ok(ContainerPlan {
        pod: spec.pod.clone(),
        name: container.name.clone(),
        attempt: turn.attempt,
        streak: turn.streak,
        spec_hash: container.hash.clone(),
        image: container.image.clone(),
        command: expanded(&container.command),
        args: expanded(&container.args),
        working_dir: container.working_dir.clone(),
        mounts,
        sandbox_id: sandbox.id.clone(),
        devices: devices.to_vec(),
        host_network: spec.host_network,
        host_ipc: spec.host_ipc,
        pid: spec.pid,
        limits: Limits {
            pids: sources.node.pids,
            oom_score: oom::score(spec, container, sources.node.memory_capacity_bytes),
            ..container.cgroup
        },
        security: container.security.clone(),
        tty: container.tty,
        stdin: container.stdin,
        stdin_once: container.stdin_once,
        notes,
        last_words_path: container.last_words_path.clone(),
        last_words_from_log: container.last_words_from_log,
        processes_of: None,
        volumes,
        env,
    })
}
