//! Bodies as Docker gets them, in `tests/golden/docker/`.

use super::*;
use crate::agent::runtime::{
    AppArmor, Limits, MountPlan, MountSource, PodRef, PortPlan, Propagation, Recursive, Seccomp, Security, VolumeKind, VolumePlan,
};
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
        VolumePlan { name: "data".into(), ..VolumePlan::default() },
        VolumePlan { name: "fast".into(), kind: VolumeKind::Memory(Some(1 << 20)), group: Some(2000) },
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
    let on = SandboxHost {
        image: "bramble-sandbox:0011223344556677".into(),
        command: vec!["/bramble".into(), "sandbox".into()],
        network: "net1".into(),
        address: None,
        address6: None,
        sheltered: true,
    };
    golden("sandbox", &sandbox_body(&owner(), &plan, &on));
    let port = |host_ip: &str, host, container, protocol: &str| PortPlan {
        host_ip: host_ip.into(),
        host,
        container,
        protocol: protocol.into(),
    };
    let most = SandboxPlan {
        domain: "sub.default.svc.cluster.local".into(),
        ports: vec![port("", 8080, 80, "tcp"), port("127.0.0.1", 8081, 80, "tcp"), port("", 53, 53, "udp")],
        sysctls: [("net.core.somaxconn".to_owned(), "256".to_owned())].into(),
        ..plan.clone()
    };
    golden("sandbox_most", &sandbox_body(&owner(), &most, &on));
    let addressed = SandboxHost { address: "10.244.3.7".parse().ok(), ..on.clone() };
    let body = sandbox_body(&owner(), &plan, &addressed);
    assert_eq!(body["NetworkingConfig"]["EndpointsConfig"]["net1"]["IPAMConfig"]["IPv4Address"], "10.244.3.7");
    assert_eq!(body["Labels"]["bramble/address"], "10.244.3.7");
    let both = SandboxHost { address6: "fd00::7".parse().ok(), ..addressed.clone() };
    let addresses = &sandbox_body(&owner(), &plan, &both)["NetworkingConfig"]["EndpointsConfig"]["net1"]["IPAMConfig"];
    assert_eq!(*addresses, serde_json::json!({"IPv4Address": "10.244.3.7", "IPv6Address": "fd00::7"}));
    let host = SandboxPlan { host_network: true, host_ipc: true, ..plan };
    assert_eq!(sandbox_body(&owner(), &host, &addressed), sandbox_body(&owner(), &host, &on));
    golden("sandbox_host_network", &sandbox_body(&owner(), &host, &SandboxHost { sheltered: false, ..on }));
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
    golden("container_least", &container_body(&owner(), &least, &ContainerHost::default()));
    let most = ContainerPlan {
        attempt: 3,
        streak: 2,
        command: vec!["/bin/sh".into(), "-c".into()],
        args: vec!["echo hi".into()],
        env: vec![("A".into(), "1=2".into())],
        working_dir: "/srv".into(),
        mounts: vec![
            mount("/data", MountSource::Volume("data".into())),
            MountPlan { read_only: true, ..mount("/fast", MountSource::Volume("fast".into())) },
            MountPlan { read_only: true, ..mount("/made", host("/srv/made", true)) },
            mount("/there", host("/srv/there", false)),
        ],
        pid: PidNamespace::Pod,
        limits: Limits {
            cpu_milli: Some(500),
            memory_bytes: Some(64 << 20),
            cpu_request_milli: Some(100),
            memory_request_bytes: Some(32 << 20),
            pids: Some(1024),
            oom_score: -997,
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
            unmasked_proc: true,
            non_root: true,
            seccomp: Seccomp::Localhost("p.json".into()),
            app_armor: Some(AppArmor::Localhost("shed".into())),
            labels: vec![("level".into(), "s0:c1".into())],
        },
        devices: vec![super::devices::tests::stick()],
        tty: true,
        volumes: volumes(),
        ..least.clone()
    };
    let on = ContainerHost {
        user: Some("1000:1001".into()),
        seccomp: Some("{}".into()),
        sheltered: true,
        logs: LogCap { mib: 2, files: 3 },
    };
    golden("container_most", &container_body(&owner(), &most, &on));
    // Less than the whole: the class that asks for nothing, a host that shelters nobody, memory below what Docker takes.
    let limits = Limits { oom_score: 1000, memory_request_bytes: Some(1 << 20), ..Limits::default() };
    let security = Security { seccomp: Seccomp::Unconfined, app_armor: Some(AppArmor::Unconfined), ..Security::default() };
    let little = ContainerPlan { limits, security, host_network: true, host_ipc: true, pid: PidNamespace::Host, ..least };
    golden("container_on_the_host", &container_body(&owner(), &little, &ContainerHost::default()));
}

fn mount(path: &str, source: MountSource) -> MountPlan {
    MountPlan { path: path.into(), source, ..MountPlan::default() }
}

fn host(path: &str, make: bool) -> MountSource {
    MountSource::Host { path: path.into(), make }
}

#[test]
fn mounts_of_every_kind_as_docker_gets_them() {
    let nfs = VolumeKind::Nfs { server: "nas".into(), path: "/export/x".into(), options: vec!["soft".into()] };
    let old = VolumeKind::Nfs { server: "10.0.0.9".into(), path: "/y".into(), options: vec!["nfsvers=3".into()] };
    let read_only =
        |path, recursive| MountPlan { read_only: true, recursive_read_only: recursive, ..mount(path, host("/srv/disk", false)) };
    let moving = |path, make, propagation| MountPlan { propagation, ..mount(path, host("/mnt", make)) };
    let plan = ContainerPlan {
        pod: pod(),
        name: "app".into(),
        image: "nginx".into(),
        sandbox_id: "s1".into(),
        mounts: vec![
            mount("/nfs", MountSource::Volume("nfs".into())),
            MountPlan { read_only: true, ..mount("/old", MountSource::Volume("old".into())) },
            MountPlan { sub_path: "a/b".into(), ..mount("/part", MountSource::Volume("data".into())) },
            mount("/image", MountSource::Image { volume: "m".into(), reference: "registry.local/models:1".into() }),
            MountPlan {
                sub_path: "share".into(),
                ..mount("/part-of-image", MountSource::Image { volume: "m".into(), reference: "models".into() })
            },
            read_only("/ro", Recursive::Disabled),
            read_only("/ro-if", Recursive::IfPossible),
            read_only("/ro-all", Recursive::Enabled),
            moving("/in", false, Propagation::HostToContainer),
            moving("/both", true, Propagation::Bidirectional),
            MountPlan { read_only: true, ..mount("/unpacked", MountSource::Volume("image_1".into())) },
            MountPlan { read_only: true, ..mount("/bound", MountSource::Unpacked("/var/lib/agent/image-volumes/0a1b".into())) },
            mount("/a:b", host("/srv/with:colon", true)),
        ],
        volumes: vec![
            VolumePlan { name: "nfs".into(), kind: nfs, group: None },
            VolumePlan { name: "old".into(), kind: old, group: None },
            VolumePlan { name: "data".into(), ..VolumePlan::default() },
            VolumePlan {
                name: "image_1".into(),
                kind: VolumeKind::Unpacked { image: "0a1b".into(), path: "/var/lib/agent/image-volumes/0a1b".into() },
                group: None,
            },
        ],
        ..ContainerPlan::default()
    };
    golden("container_mounts", &container_body(&owner(), &plan, &ContainerHost::default()));
}
