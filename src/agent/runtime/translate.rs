//! From plans to the bodies of Docker's create requests, as JSON.
//!
//! Never:    talks to Docker (`docker.rs`). What it writes is pinned by `tests/golden/docker/`.
//! Source:   Docker Engine API 1.41, ContainerCreate; the kubelet's CPU conversions.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::{Map, Value, json};

use super::naming::Owner;
use super::{ContainerPlan, PidNamespace, SandboxPlan};

mod devices;
mod limits;
mod mounts;
mod network;
mod rights;

pub use mounts::root_mode;
pub use rights::{asks_image_user, user};

use limits::{limits, oom_score};
use mounts::{mounts, volume_mount};
use network::network;
use rights::security;

/// Where the sandbox sees the pod's volumes, so that files can be put into them.
pub const VOLUMES: &str = "/volumes";

/// Less likely to be ended than any container of a pod. Source: the kubelet's PodInfraOOMAdj.
const SANDBOX_OOM_SCORE: i32 = -998;

/// What has to be asked or read before a sandbox can be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SandboxHost {
    /// The sandbox's image.
    pub image: String,
    /// What runs in it.
    pub command: Vec<String>,
    /// The id of the network that it is on.
    pub network: String,
    /// Its address there, where it is not the engine's to choose.
    pub address: Option<Ipv4Addr>,
    /// Its IPv6 address there; only beside one of IPv4.
    pub address6: Option<Ipv6Addr>,
    /// Whether the host lets Docker make a container less likely to be ended than others.
    pub sheltered: bool,
}

/// What has to be asked or read before a container can be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerHost {
    /// Who runs it: [`user`].
    pub user: Option<String>,
    /// The seccomp profile that it names, as the engine takes it: its text, or for Podman its path.
    pub seccomp: Option<String>,
    /// As [`SandboxHost::sheltered`].
    pub sheltered: bool,
    /// How much of its log is kept.
    pub logs: LogCap,
}

/// The body that makes a sandbox.
#[must_use]
pub fn sandbox_body(owner: &Owner, plan: &SandboxPlan, on: &SandboxHost) -> Value {
    let address = on.address.filter(|_| !plan.host_network);
    let mounts: Vec<Value> = plan
        .volumes
        .iter()
        .map(|volume| volume_mount(owner, &plan.pod, volume, &format!("{VOLUMES}/{}", volume.name), false))
        .collect();
    let mut host = json!({
        "NetworkMode": if plan.host_network { "host" } else { on.network.as_str() },
        "IpcMode": if plan.host_ipc { "host" } else { "shareable" },
        "LogConfig": log_config(LogCap::default()),
        "RestartPolicy": {"Name": "no"},
        // Not read-only: Docker then takes no files for its volumes either.
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "Mounts": mounts,
    });
    let mut body = json!({
        "Image": on.image,
        "Entrypoint": on.command,
        "Labels": owner.sandbox_labels(plan, address),
    });
    if let Some(address) = address {
        let mut addresses = json!({"IPv4Address": address});
        if let Some(address6) = on.address6 {
            set(&mut addresses, "IPv6Address", json!(address6));
        }
        let endpoint = json!({"IPAMConfig": addresses});
        let endpoints: Map<String, Value> = [(on.network.clone(), endpoint)].into_iter().collect();
        set(&mut body, "NetworkingConfig", json!({"EndpointsConfig": endpoints}));
    }
    network(&mut body, &mut host, plan);
    oom_score(&mut host, SANDBOX_OOM_SCORE, on.sheltered);
    set(&mut body, "HostConfig", host);
    body
}

/// The body that makes a container.
#[must_use]
pub fn container_body(owner: &Owner, plan: &ContainerPlan, on: &ContainerHost) -> Value {
    let mut body = json!({
        "Image": plan.image,
        "Env": plan.env.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>(),
        "Labels": owner.container_labels(plan),
        "Tty": plan.tty,
        "OpenStdin": plan.stdin,
        "StdinOnce": plan.stdin_once,
        // The image's own health check is Docker's matter, not Kubernetes'.
        "Healthcheck": {"Test": ["NONE"]},
    });
    if !plan.command.is_empty() {
        set(&mut body, "Entrypoint", json!(plan.command));
    }
    if !plan.args.is_empty() {
        set(&mut body, "Cmd", json!(plan.args));
    }
    if !plan.working_dir.is_empty() {
        set(&mut body, "WorkingDir", json!(plan.working_dir));
    }
    if let Some(user) = &on.user {
        set(&mut body, "User", json!(user));
    }
    set(&mut body, "HostConfig", host_config(owner, plan, on));
    body
}

fn host_config(owner: &Owner, plan: &ContainerPlan, on: &ContainerHost) -> Value {
    let joined = format!("container:{}", plan.sandbox_id);
    let mut host = json!({
        // With the host's network as well: names and name servers are the sandbox's.
        "NetworkMode": joined,
        "IpcMode": if plan.host_ipc { "host" } else { joined.as_str() },
        "LogConfig": log_config(on.logs),
        "RestartPolicy": {"Name": "no"},
    });
    match plan.pid {
        PidNamespace::Container => {
            if let Some(id) = &plan.processes_of {
                set(&mut host, "PidMode", json!(format!("container:{id}")));
            }
        }
        PidNamespace::Pod => set(&mut host, "PidMode", json!(joined)),
        PidNamespace::Host => set(&mut host, "PidMode", json!("host")),
    }
    mounts(&mut host, owner, plan);
    devices::devices(&mut host, &plan.devices);
    limits(&mut host, plan.limits, on.sheltered);
    security(&mut host, &plan.security, on.seccomp.as_deref());
    host
}

/// How much of a container's log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogCap {
    /// MiB of one file.
    pub mib: u32,
    /// Files, the newest included.
    pub files: u32,
}

impl Default for LogCap {
    /// One megabyte, twice: a card is not filled by a chatty container.
    fn default() -> Self {
        Self { mib: 1, files: 2 }
    }
}

fn log_config(logs: LogCap) -> Value {
    json!({"Type": "json-file", "Config": {"max-size": format!("{}m", logs.mib), "max-file": logs.files.to_string()}})
}

fn set(value: &mut Value, key: &str, to: Value) {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    if let Some(map) = value.as_object_mut() {
        map.insert(key.to_owned(), to);
    }
}

#[cfg(test)]
mod tests;
