//! As whom a container runs and what it may do, as its own kernel tells it.

use bramble::agent::node::NodeConfig;
use serde_json::{Value, json};

use crate::engine::Kind;
use crate::support::{Agent, BUSYBOX, Cluster, docker, import_busybox_as, pod, share, shell, skipped};

/// One line of `/proc/1/status`.
fn line(status: &Value, at: usize, key: &str) -> String {
    let all = shell(status, at, "cat /proc/1/status");
    let found = all.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    found.unwrap_or_else(|| panic!("no {key} in {all}")).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// An image of busybox that somebody in particular runs; removed at the end.
struct Image(String);

impl Image {
    fn run_by(cluster: &Cluster, user: &str) -> Self {
        let name = format!("bramble-test-user:{}-{}", cluster.uid, user.replace(':', "-"));
        import_busybox_as(&crate::support::socket(), &name, &[&format!("USER {user}")]);
        Self(name)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = crate::support::docker_command().args(["image", "rm", "-f", &self.0]).output();
    }
}

fn waiting(status: &Value) -> (&str, &str) {
    let waiting = &status["containerStatuses"][0]["state"]["waiting"];
    (waiting["reason"].as_str().unwrap_or_default(), waiting["message"].as_str().unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn identity_and_rights_are_what_the_kernel_shows() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start(&cluster);
    let stays = "exec sleep 1000";
    let mut web = pod("web", &[("plain", stays), ("bound", stays)]);
    web["spec"]["securityContext"] = json!({"supplementalGroups": [20], "fsGroup": 30});
    web["spec"]["containers"][1]["securityContext"] = json!({
        "runAsUser": 1000, "runAsGroup": 1001, "runAsNonRoot": true, "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}, "seccompProfile": {"type": "RuntimeDefault"},
    });
    let mut open = pod("open", &[("app", stays)]);
    open["spec"]["securityContext"] = json!({"seccompProfile": {"type": "Unconfined"}});
    open["spec"]["containers"][0]["securityContext"] = json!({"procMount": "Unmasked"});
    agent.want(share(&[web, open])).await;

    let web = agent.until_ready("web").await;
    assert_eq!((line(&web, 0, "Uid"), line(&web, 0, "NoNewPrivs")), ("0 0 0 0".into(), "0".into()));
    let groups = |at| line(&web, at, "Groups").split(' ').map(str::to_owned).collect::<Vec<_>>();
    for at in [0, 1] {
        assert!(["20", "30"].iter().all(|group| groups(at).contains(&(*group).to_owned())), "{:?}", groups(at));
    }
    // Docker's own fourteen, of which the container runtime interface has the same.
    assert_eq!((line(&web, 0, "CapEff"), line(&web, 0, "Seccomp")), ("00000000a80425fb".into(), "2".into()));

    assert_eq!((line(&web, 1, "Uid"), line(&web, 1, "Gid")), ("1000 1000 1000 1000".into(), "1001 1001 1001 1001".into()));
    let (bound, nothing) = ("0000000000000400", "0000000000000000");
    let has = if Kind::chosen().hands_capabilities_to_users() { bound } else { nothing };
    assert_eq!((line(&web, 1, "CapEff"), line(&web, 1, "CapBnd")), (has.into(), bound.into()));
    assert_eq!((line(&web, 1, "NoNewPrivs"), line(&web, 1, "Seccomp")), ("1".into(), "2".into()));
    let refused = shell(&web, 1, "echo x 2>&1 > /tmp/x || echo refused");
    assert!(refused.ends_with("refused"), "{refused}");

    let open = agent.until_ready("open").await;
    assert_eq!(line(&open, 0, "Seccomp"), "0");
    assert_eq!(shell(&open, 0, "mount | grep -c ' /proc/' || true"), "0", "nothing hides parts of /proc");
    assert_ne!(shell(&web, 0, "mount | grep -c ' /proc/' || true"), "0");
}

/// Every capability that this kernel has, or none of it: where Docker itself lacks one, it says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_privileged_container_may_do_all_that_docker_may() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start(&cluster);
    let mut free = pod("free", &[("app", "exec sleep 1000")]);
    free["spec"]["containers"][0]["securityContext"] = json!({"privileged": true});
    agent.want(share(&[free])).await;
    let bits = |text: &str| u64::from_str_radix(text.trim(), 16).unwrap();
    let last: u32 = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap().trim().parse().unwrap();
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let own = bits(own.lines().find_map(|line| line.strip_prefix("CapBnd:")).unwrap());
    let all = (1 << (last + 1)) - 1;
    if own == all || !Kind::chosen().refuses_privileged_without_all() {
        let status = agent.until_ready("free").await;
        assert_eq!(bits(&line(&status, 0, "CapEff")), own);
        assert_eq!(line(&status, 0, "Seccomp"), "0");
    } else {
        eprintln!("SKIPPED: privileged: this machine itself lacks a capability ({own:x}); only the refusal is looked at");
        let ended = |status: &Value| status["containerStatuses"][0]["lastState"]["terminated"].clone();
        let status = agent.until("free", "refused", |status| ended(status)["reason"] == "StartError").await;
        assert!(ended(&status)["message"].as_str().unwrap().contains("operation not permitted"), "{status:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_must_not_be_root_is_not() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let agent = Agent::start(&cluster);
    let (seven, named) = (Image::run_by(&cluster, "7"), Image::run_by(&cluster, "www"));
    let with = |name: &str, image: &str, security: Value| {
        let mut pod = pod(name, &[("app", "exec sleep 1000")]);
        pod["spec"]["containers"][0]["image"] = json!(image);
        pod["spec"]["containers"][0]["securityContext"] = security;
        pod
    };
    agent
        .want(share(&[
            with("root", BUSYBOX, json!({"runAsNonRoot": true})),
            with("named", &named.0, json!({"runAsNonRoot": true})),
            with("zero", BUSYBOX, json!({"runAsNonRoot": true, "runAsUser": 0})),
            with("seven", &seven.0, json!({"runAsNonRoot": true, "runAsGroup": 8})),
        ]))
        .await;
    for (name, words) in [
        ("root", "container has runAsNonRoot and image will run as root (pod: \"root_default(uid-root)\", container: app)"),
        (
            "named",
            "container has runAsNonRoot and image has non-numeric user (www), cannot verify user is non-root (pod: \"named_default(uid-named)\", container: app)",
        ),
        ("zero", "container's runAsUser breaks non-root policy (pod: \"zero_default(uid-zero)\", container: app)"),
    ] {
        let status = agent.until(name, "refused", |status| waiting(status).0 == "CreateContainerConfigError").await;
        assert_eq!(waiting(&status).1, words);
        assert!(
            agent.events().iter().any(|event| event.name == name && event.reason == "Failed" && event.message.contains(words))
        );
    }
    let status = agent.until_ready("seven").await;
    assert_eq!((line(&status, 0, "Uid"), line(&status, 0, "Gid")), ("7 7 7 7".into(), "8 8 8 8".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seccomp_profile_of_the_node_is_used_once_it_is_there() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let mut settings = cluster.settings();
    let profiles = tempfile::tempdir().unwrap();
    settings.seccomp_dir = profiles.path().to_owned();
    let agent = Agent::start_on(bramble::agent::runtime::docker::DockerRuntime::new(settings));
    let mut strict = pod("strict", &[("app", "exec sleep 1000")]);
    strict["spec"]["securityContext"] =
        json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "home/no-mkdir.json"}});
    agent.want(share(&[strict])).await;
    let status = agent.until("strict", "no profile", |status| waiting(status).0 == "CreateContainerConfigError").await;
    assert!(waiting(&status).1.contains("home/no-mkdir.json") && waiting(&status).1.contains("No such file"), "{status:#}");

    std::fs::create_dir(profiles.path().join("home")).unwrap();
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}],
    });
    std::fs::write(profiles.path().join("home/no-mkdir.json"), profile.to_string()).unwrap();
    let status = agent.until_ready("strict").await;
    assert_eq!(shell(&status, 0, "/bin/busybox mkdir /tmp/x 2> /dev/null && echo made || echo refused"), "refused");
    assert_eq!(shell(&status, 0, "echo x > /tmp/y && echo made"), "made");
}

#[tokio::test(flavor = "multi_thread")]
async fn protection_that_the_host_does_not_have_is_warned_of() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let host = docker(&["info", "--format", "{{.SecurityOptions}}"]);
    let agent = Agent::start(&cluster);
    let mut web = pod("web", &[("app", "exec sleep 1000")]);
    web["spec"]["containers"][0]["securityContext"] = json!({
        "appArmorProfile": {"type": "RuntimeDefault"}, "seLinuxOptions": {"level": "s0:c1,c2"},
    });
    agent.want(share(&[web])).await;
    agent.until_ready("web").await;
    // The engine's own word may say that it runs before the order to start it is answered, with its warnings.
    agent.until("web", "told to have started", |_| agent.reasons().iter().any(|reason| reason == "Started")).await;
    let warned =
        |words: &str| agent.events().iter().any(|event| event.reason == "RuntimeWarning" && event.message.contains(words));
    assert_ne!(warned("Cannot enforce AppArmor"), host.contains("name=apparmor"), "{host}");
    assert_ne!(warned("seLinuxOptions have no effect"), host.contains("name=selinux"), "{host}");
}

#[tokio::test(flavor = "multi_thread")]
async fn kernel_settings_are_the_pods_own_and_unsafe_ones_only_where_allowed() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new();
    let allowed_sysctls = vec!["net.core.somaxconn".to_owned()];
    let agent = Agent::start_as(cluster.runtime(), NodeConfig { allowed_sysctls, ..NodeConfig::default() });
    let with = |name: &str, sysctls: Value| {
        let mut pod = pod(name, &[("app", "exec sleep 1000")]);
        pod["spec"]["securityContext"] = json!({"sysctls": sysctls});
        pod
    };
    let set = json!([
        {"name": "net.ipv4.ip_unprivileged_port_start", "value": "80"},
        {"name": "net/core/somaxconn", "value": "321"},
        {"name": "kernel.shm_rmid_forced", "value": "1"},
    ]);
    agent.want(share(&[with("set", set), with("unsafe", json!([{"name": "kernel.msgmax", "value": "9000"}]))])).await;
    let status = agent.until("unsafe", "rejected", |status| status["phase"] == "Failed").await;
    assert_eq!(status["reason"], "SysctlForbidden");
    assert_eq!(status["message"], "Pod was rejected: forbidden sysctl: \"kernel.msgmax\" not allowlisted");
    assert!(agent.reasons().contains(&"SysctlForbidden".to_owned()));
    let status = agent.until_ready("set").await;
    let files = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/core/somaxconn /proc/sys/kernel/shm_rmid_forced";
    assert_eq!(shell(&status, 0, files), "80\n321\n1");
    let filter = format!("label=bramble/cluster={}", cluster.uid);
    assert_eq!(docker(&["ps", "-aq", "--filter", &filter]).lines().count(), 2, "nothing was made of the other");
}
