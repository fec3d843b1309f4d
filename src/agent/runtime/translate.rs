//! From plans to the bodies of Docker's create requests, as JSON.
//!
//! Never:    talks to Docker (`docker.rs`). What it writes is pinned by `tests/golden/docker/`.
//! Source:   Docker Engine API 1.41, ContainerCreate; the kubelet's CPU conversions.

use serde_json::{Map, Value, json};

use super::naming::Owner;
use super::{ContainerPlan, PidNamespace, SandboxPlan};

mod devices;
mod mounts;
mod rights;

use mounts::{mounts, volume_mount};
use rights::{limits, security, user};

/// Where the sandbox sees the pod's volumes, so that files can be put into them.
pub const VOLUMES: &str = "/volumes";

/// The body that makes a sandbox. `network` is the id of the host's network of this cluster.
#[must_use]
pub fn sandbox_body(owner: &Owner, plan: &SandboxPlan, image: &str, command: &[String], network: &str) -> Value {
    let mounts: Vec<Value> = plan
        .volumes
        .iter()
        .map(|volume| volume_mount(owner, &plan.pod, volume, &format!("{VOLUMES}/{}", volume.name), false))
        .collect();
    let mut host = json!({
        "NetworkMode": if plan.host_network { "host" } else { network },
        "IpcMode": if plan.host_ipc { "host" } else { "shareable" },
        "LogConfig": log_config(),
        "RestartPolicy": {"Name": "no"},
        // Not read-only: Docker then takes no files for its volumes either.
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "Mounts": mounts,
    });
    let mut body = json!({
        "Image": image,
        "Entrypoint": command,
        "Labels": owner.sandbox_labels(plan),
    });
    if !plan.host_network {
        set(&mut body, "Hostname", json!(plan.hostname));
        if !plan.extra_hosts.is_empty() {
            set(&mut host, "ExtraHosts", json!(plan.extra_hosts));
        }
    }
    set(&mut body, "HostConfig", host);
    body
}

/// The body that makes a container.
#[must_use]
pub fn container_body(owner: &Owner, plan: &ContainerPlan) -> Value {
    let mut body = json!({
        "Image": plan.image,
        "Env": plan.env.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>(),
        "Labels": owner.container_labels(plan),
        "Tty": plan.tty,
        "OpenStdin": plan.stdin || plan.tty,
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
    if let Some(user) = user(&plan.security) {
        set(&mut body, "User", json!(user));
    }
    set(&mut body, "HostConfig", host_config(owner, plan));
    body
}

fn host_config(owner: &Owner, plan: &ContainerPlan) -> Value {
    let joined = format!("container:{}", plan.sandbox_id);
    let mut host = json!({
        "NetworkMode": if plan.host_network { "host" } else { joined.as_str() },
        "IpcMode": if plan.host_ipc { "host" } else { joined.as_str() },
        "LogConfig": log_config(),
        "RestartPolicy": {"Name": "no"},
    });
    match plan.pid {
        PidNamespace::Container => {}
        PidNamespace::Pod => set(&mut host, "PidMode", json!(joined)),
        PidNamespace::Host => set(&mut host, "PidMode", json!("host")),
    }
    mounts(&mut host, owner, plan);
    devices::devices(&mut host, &plan.devices);
    limits(&mut host, plan.limits);
    security(&mut host, &plan.security);
    host
}

/// One megabyte, twice: a card is not filled by a chatty container.
fn log_config() -> Value {
    json!({"Type": "json-file", "Config": {"max-size": "1m", "max-file": "2"}})
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
mod tests {
    use super::*;
    use crate::agent::runtime::{Limits, MountPlan, MountSource, PodRef, Security, VolumePlan};
    use crate::clock::Wall;
    use std::time::Duration;

    fn owner() -> Owner {
        Owner { cluster_uid: "0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d".into(), node: "bramble-1".into() }
    }

    fn pod() -> PodRef {
        PodRef { uid: "7c9e6679-7425-40de-944b-e07fc1f90ae7".into(), namespace: "default".into(), name: "web".into() }
    }

    fn volumes() -> Vec<VolumePlan> {
        vec![
            VolumePlan { name: "data".into(), memory: None, mode: 0o777, files: Vec::new() },
            VolumePlan { name: "fast".into(), memory: Some(Some(1 << 20)), mode: 0o777, files: Vec::new() },
        ]
    }

    /// `GOLDEN=write` writes the files anew; the diff is for a reviewer.
    fn golden(name: &str, body: &Value) {
        let path = format!("{}/tests/golden/docker/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let text = serde_json::to_string_pretty(body).unwrap() + "\n";
        if std::env::var("GOLDEN").is_ok_and(|value| value == "write") {
            std::fs::write(&path, &text).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), text, "{path}");
    }

    #[test]
    fn a_sandbox_as_docker_gets_it() {
        let plan = SandboxPlan {
            pod: pod(),
            attempt: 1,
            pod_start: Wall(1_795_378_145_123),
            grace: Duration::from_secs(30),
            hostname: "web".into(),
            extra_hosts: vec!["db:10.0.0.9".into()],
            volumes: volumes(),
            ..SandboxPlan::default()
        };
        let command = ["/bramble".to_owned(), "sandbox".to_owned()];
        golden("sandbox", &sandbox_body(&owner(), &plan, "bramble-sandbox:0011223344556677", &command, "net1"));
        let host = SandboxPlan { host_network: true, host_ipc: true, ..plan };
        golden("sandbox_host_network", &sandbox_body(&owner(), &host, "bramble-sandbox:0011223344556677", &command, "net1"));
    }

    #[test]
    fn a_container_as_docker_gets_it() {
        let least = ContainerPlan {
            pod: pod(),
            name: "app".into(),
            image: "nginx".into(),
            spec_hash: "abc".into(),
            sandbox_id: "s1".into(),
            ..ContainerPlan::default()
        };
        golden("container_least", &container_body(&owner(), &least));
        let most = ContainerPlan {
            attempt: 3,
            streak: 2,
            command: vec!["/bin/sh".into(), "-c".into()],
            args: vec!["echo hi".into()],
            env: vec![("A".into(), "1=2".into())],
            working_dir: "/srv".into(),
            mounts: vec![
                MountPlan { path: "/data".into(), source: MountSource::Volume("data".into()), read_only: false },
                MountPlan { path: "/fast".into(), source: MountSource::Volume("fast".into()), read_only: true },
                MountPlan {
                    path: "/made".into(),
                    source: MountSource::Host { path: "/srv/made".into(), make: true },
                    read_only: true,
                },
                MountPlan {
                    path: "/there".into(),
                    source: MountSource::Host { path: "/srv/there".into(), make: false },
                    read_only: false,
                },
            ],
            pid: PidNamespace::Pod,
            limits: Limits {
                cpu_milli: Some(500),
                memory_bytes: Some(64 << 20),
                cpu_request_milli: Some(100),
                ..Limits::default()
            },
            security: Security {
                user: Some(1000),
                group: Some(1001),
                groups: vec![20],
                privileged: true,
                add: vec!["NET_ADMIN".into()],
                drop: vec!["ALL".into()],
                read_only_root: true,
                no_new_privileges: true,
                seccomp_unconfined: true,
            },
            devices: vec![devices::tests::stick()],
            tty: true,
            volumes: volumes(),
            ..least
        };
        golden("container_most", &container_body(&owner(), &most));
    }
}
