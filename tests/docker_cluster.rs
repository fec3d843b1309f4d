//! A whole cluster on real Docker: from `kubectl apply` to containers and back, crashes included.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::disallowed_methods)] // a test

#[path = "docker_cluster/autonomy.rs"]
mod autonomy;
#[allow(dead_code)]
#[path = "link/proxy.rs"]
mod cable;
#[path = "docker_cluster/claims.rs"]
mod claims;
#[allow(dead_code)]
#[path = "link/daemon.rs"]
mod daemon;
#[path = "docker_cluster/devices.rs"]
mod devices;
#[path = "docker_cluster/engine_away.rs"]
mod engine_away;
#[allow(dead_code)]
#[path = "docker/proxy.rs"]
mod engine_proxy;
#[path = "docker_cluster/image_disk.rs"]
mod image_disk;
#[path = "support/left.rs"]
mod left;
#[path = "link/mosquitto.rs"]
mod mosquitto;
#[path = "docker_cluster/own_broker.rs"]
mod own_broker;
#[allow(dead_code)]
#[path = "docker/own_docker.rs"]
mod own_docker;
#[path = "docker_cluster/past.rs"]
mod past;
#[path = "docker_cluster/podman.rs"]
mod podman;
#[allow(dead_code)]
#[path = "support/podman.rs"]
mod podman_service;
#[path = "docker_cluster/pressure.rs"]
mod pressure;
#[path = "docker_cluster/refused.rs"]
mod refused;
#[path = "docker_cluster/services.rs"]
mod services;
mod support;
#[path = "docker_cluster/trouble.rs"]
mod trouble;

use std::time::{Duration, Instant};

use support::{
    BUSYBOX, Cluster, busybox_image, cluster_uid, containers, deployment, docker, signal, skipped, summary, wait_until,
};

const SOON: Duration = Duration::from_secs(40);

/// A container that stays until it is told to end.
const STAYS: &str = "        command: [sh, -c, 'trap exit TERM; while true; do sleep 0.2; done']\n";

fn on_docker(flags: &[&str]) -> Option<Cluster> {
    if skipped("docker") {
        return None;
    }
    busybox_image();
    let all: Vec<&str> = ["--runtime", "docker"].iter().chain(flags).copied().collect();
    Some(Cluster::started(&all))
}

/// Everything in Docker that is labelled as this cluster's.
fn left(uid: &str) -> String {
    let filter = format!("label=bramble/cluster={uid}");
    let containers = docker(&["ps", "-aq", "--filter", &filter]).expect();
    let volumes = docker(&["volume", "ls", "-q", "--filter", &filter]).expect();
    let networks = docker(&["network", "ls", "-q", "--filter", &filter]).expect();
    format!("{containers}{volumes}{networks}")
}

#[test]
fn two_containers_share_localhost_and_an_empty_dir_and_a_deleted_pod_leaves_nothing() {
    let Some(cluster) = on_docker(&[]) else { return };
    cluster.apply(&format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: pair, labels: {{app: pair}}}}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{{name: shared, emptyDir: {{}}}}]
  containers:
  - name: web
    image: {BUSYBOX}
    command: [sh, -c, 'echo from-web > /data/index.html; exec httpd -f -p 8080 -h /data']
    ports: [{{containerPort: 8080}}]
    volumeMounts: [{{name: shared, mountPath: /data}}]
  - name: client
    image: {BUSYBOX}
    env: [{{name: GREETING, value: hello}}, {{name: WHERE, valueFrom: {{fieldRef: {{fieldPath: spec.nodeName}}}}}}]
    command: [sh, -c]
    args: ['sleep 1; echo \"$GREETING $(WHERE)\"; wget -q -O - http://localhost:8080/; cat /seen/index.html; while true; do sleep 1; done']
    volumeMounts: [{{name: shared, mountPath: /seen, readOnly: true}}]
"
    ));
    cluster.wait_ready("app=pair", 1, SOON);
    let log = wait_until("the client has read both ways", SOON, || {
        let log = cluster.kubectl(&["logs", "pair", "-c", "client"]).out;
        if log.matches("from-web").count() == 2 { Ok(log) } else { Err(log) }
    });
    assert!(log.starts_with("hello bramble-1\n"), "{log}");
    assert_eq!(cluster.kubectl(&["logs", "pair", "-c", "client", "--tail=1"]).expect(), "from-web\n");
    let ip = cluster.get(&["pod", "pair"])["status"]["podIP"].clone();
    assert!(ip.as_str().is_some_and(|ip| ip.parse::<std::net::IpAddr>().is_ok()), "{ip}");

    let uid = cluster_uid(&cluster);
    cluster.kubectl(&["delete", "pod", "pair", "--timeout=30s"]).expect();
    let filter = format!("label=bramble/cluster={uid}");
    assert_eq!(docker(&["ps", "-aq", "--filter", &filter]).expect(), "");
    assert_eq!(docker(&["volume", "ls", "-q", "--filter", &filter]).expect(), "");
    cluster.bramble(["delete"]).expect();
    assert_eq!(left(&uid), "", "nothing of the cluster is left in Docker");
}

#[test]
fn top_shows_the_busy_pod_above_the_idle_one_with_the_oldest_and_the_newest_kubectl() {
    let Some(cluster) = on_docker(&[]) else { return };
    cluster.apply(&deployment("busy", 1, BUSYBOX, "        command: [sh, -c, 'trap exit TERM; while true; do :; done']\n"));
    cluster.apply(&deployment("idle", 1, BUSYBOX, STAYS));
    cluster.wait_ready("app in (busy,idle)", 2, SOON);
    for (version, program) in support::oldest_and_newest_kubectl() {
        let top = |arguments: &[&str]| {
            let all: Vec<&str> = ["top"].iter().chain(arguments).copied().collect();
            let text = cluster.kubectl_in(&program, &all, "").expect();
            println!("kubectl {version} {all:?}\n{text}");
            text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect::<Vec<_>>()
        };
        let number = |text: &str| text.trim_end_matches(|c: char| !c.is_ascii_digit()).parse::<u64>().unwrap();
        let pods = top(&["pod", "--sort-by=cpu", "--no-headers"]);
        assert!(pods.len() == 2 && pods[0][0].starts_with("busy-") && pods[1][0].starts_with("idle-"), "{pods:?}");
        assert!(number(&pods[0][1]) > 100 && number(&pods[0][1]) > 3 * number(&pods[1][1]), "{pods:?}");
        let containers = top(&["pod", "--containers", "-l", "app=idle", "--no-headers", "-A"]);
        assert!(
            containers.len() == 1 && containers[0][0] == "default" && containers[0][1].starts_with("idle-"),
            "{containers:?}"
        );
        let nodes = top(&["node", "--no-headers"]);
        assert!(
            nodes.len() == 1 && nodes[0][0] == "bramble-1" && number(&nodes[0][1]) > 100 && number(&nodes[0][3]) > 10,
            "{nodes:?}"
        );
        let one = top(&["pod", &pods[0][0], "--no-headers"]);
        assert_eq!(one[0][0], pods[0][0]);
    }
    assert!(!cluster.kubectl(&["top", "pod", "nobody"]).ok);
    let described = cluster.kubectl(&["describe", "node", "bramble-1"]).expect();
    for words in [
        "MemoryPressure",
        "DiskPressure",
        "PIDPressure",
        "KubeletHasSufficientPID",
        "System UUID:",
        "InternalIP:",
        "Allocated resources:",
    ] {
        assert!(described.contains(words), "{words}: {described}");
    }
}

#[test]
fn crashes_leave_containers_alone() {
    let Some(mut cluster) = on_docker(&["--nodes", "2"]) else { return };
    cluster.apply(&deployment("six", 6, BUSYBOX, STAYS));
    let pods = cluster.wait_ready("app=six", 6, Duration::from_secs(90));
    let identity = |pods: &[serde_json::Value]| {
        let mut all: Vec<String> = pods
            .iter()
            .map(|pod| {
                let container = &pod["status"]["containerStatuses"][0];
                format!(
                    "{} {} {} {}",
                    pod["metadata"]["uid"],
                    container["containerID"],
                    container["restartCount"],
                    container["state"]["running"]["startedAt"]
                )
            })
            .collect();
        all.sort();
        all
    };
    let (before, in_docker) = (identity(&pods), containers(&cluster));
    assert_eq!(in_docker.len(), 12, "six containers and six sandboxes: {in_docker:?}");

    // The master dies; nothing is judged or made before the nodes have spoken.
    signal(cluster.master_pid(), "KILL");
    cluster.start(&[]).expect();
    let pods = cluster.wait_ready("app=six", 6, Duration::from_secs(60));
    assert_eq!(identity(&pods), before);
    assert_eq!(containers(&cluster), in_docker, "the master's death touched no container");

    // The agents die, and their program is replaced by another file.
    cluster.replace_program();
    for node in ["bramble-1", "bramble-2"] {
        signal(cluster.agent_pid(node), "KILL");
    }
    cluster.start(&[]).expect();
    let runs = std::fs::read_link(format!("/proc/{}/exe", cluster.agent_pid("bramble-1"))).unwrap();
    assert!(runs.ends_with("bramble-upgraded"), "{}", runs.display());
    let pods = cluster.wait_ready("app=six", 6, Duration::from_secs(60));
    assert_eq!(identity(&pods), before);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(containers(&cluster), in_docker, "adopted, not restarted");

    // Everything dies at once.
    for pid in cluster.pids() {
        signal(pid, "KILL");
    }
    cluster.start(&[]).expect();
    let pods = cluster.wait_ready("app=six", 6, Duration::from_secs(60));
    assert_eq!((identity(&pods), containers(&cluster)), (before, in_docker));

    // Stop ends them, start brings the same pods back.
    cluster.bramble(["stop"]).expect();
    assert!(containers(&cluster).is_empty(), "nothing runs after stop");
    cluster.start(&[]).expect();
    let again = cluster.wait_ready("app=six", 6, Duration::from_secs(90));
    let uids = |pods: &[serde_json::Value]| {
        let mut uids: Vec<String> = pods.iter().map(|pod| pod["metadata"]["uid"].to_string()).collect();
        uids.sort();
        uids
    };
    assert_eq!(uids(&again), uids(&pods));
}

#[test]
fn a_killed_container_comes_back_counted_and_a_crash_loop_backs_off() {
    let Some(cluster) = on_docker(&[]) else { return };
    cluster.apply(&deployment("one", 1, BUSYBOX, STAYS));
    cluster.apply(&deployment("fails", 1, BUSYBOX, "        command: [sh, -c, 'echo I fail; exit 3']\n"));
    let pod = cluster.wait_ready("app=one", 1, SOON).remove(0);
    let id = pod["status"]["containerStatuses"][0]["containerID"].as_str().unwrap().trim_start_matches("docker://").to_owned();
    docker(&["kill", &id]).expect();
    wait_until("restarted once", SOON, || {
        let pods = cluster.pods("app=one");
        let status = &pods[0]["status"]["containerStatuses"][0];
        let back = status["restartCount"] == 1 && status["ready"] == true && status["lastState"]["terminated"]["exitCode"] == 137;
        if back { Ok(()) } else { Err(summary(&pods)) }
    });
    wait_until("CrashLoopBackOff", SOON, || {
        let table = cluster.kubectl(&["get", "pods", "-l", "app=fails"]).out;
        if table.contains("CrashLoopBackOff") { Ok(()) } else { Err(table) }
    });
    assert_eq!(cluster.kubectl(&["logs", "deployment/fails", "--previous"]).expect(), "I fail\n");
    let described = cluster.kubectl(&["describe", "pod", "-l", "app=fails"]).expect();
    for part in ["Exit Code:    3", "BackOff", "Created", "Started", "Successfully assigned"] {
        assert!(described.contains(part), "{part} in {described}");
    }
}

#[test]
fn a_deployment_is_available_when_its_probes_say_so_and_describe_shows_what_they_say() {
    let Some(cluster) = on_docker(&[]) else { return };
    cluster.apply(&format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: shy}}
spec:
  replicas: 1
  selector: {{matchLabels: {{app: shy}}}}
  template:
    metadata: {{labels: {{app: shy}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: app
        image: {BUSYBOX}
        command: [sh, -c, 'sleep 1000']
        readinessProbe: {{exec: {{command: [cat, /tmp/ok]}}, periodSeconds: 1, timeoutSeconds: 5}}
"
    ));
    let described = wait_until("describe tells of the probe", SOON, || {
        let text = cluster.kubectl(&["describe", "pod", "-l", "app=shy"]).out;
        if text.contains("Unhealthy") { Ok(text) } else { Err(text) }
    });
    assert!(described.contains("Readiness probe failed: cat: can't open '/tmp/ok'"), "{described}");
    assert!(
        described.contains("Readiness:      exec [cat /tmp/ok] delay=0s timeout=5s period=1s #success=1 #failure=3"),
        "{described}"
    );
    let table = cluster.kubectl(&["get", "pods", "-l", "app=shy", "--no-headers"]).expect();
    assert!(table.contains("0/1") && table.contains("Running"), "{table}");
    let early = cluster.kubectl(&["wait", "deployment/shy", "--for=condition=Available", "--timeout=1s"]);
    assert!(!early.ok, "{}", early.out);
    let id = cluster.get(&["pods", "-l", "app=shy"])["items"][0]["status"]["containerStatuses"][0]["containerID"].clone();
    docker(&["exec", id.as_str().unwrap().trim_start_matches("docker://"), "busybox", "touch", "/tmp/ok"]).expect();
    cluster.kubectl(&["wait", "deployment/shy", "--for=condition=Available", "--timeout=40s"]).expect();
    docker(&["exec", id.as_str().unwrap().trim_start_matches("docker://"), "busybox", "rm", "/tmp/ok"]).expect();
    cluster.kubectl(&["wait", "deployment/shy", "--for=condition=Available=false", "--timeout=40s"]).expect();
    cluster.bramble(["delete"]).expect();
}

#[test]
fn logs_follow_until_the_end() {
    let Some(cluster) = on_docker(&[]) else { return };
    cluster.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: counts, labels: {{app: counts}}}}\nspec:\n  restartPolicy: Never\n  containers:\n  - name: main\n    image: {BUSYBOX}\n    \
         command: [sh, -c, 'for i in 1 2 3 4 5 6; do echo line $i; sleep 0.3; done']\n"
    ));
    wait_until("it runs", SOON, || {
        let phase = cluster.get(&["pod", "counts"])["status"]["phase"].clone();
        if phase == "Running" || phase == "Succeeded" { Ok(()) } else { Err(phase.to_string()) }
    });
    let followed = cluster.kubectl(&["logs", "-f", "counts"]).expect();
    assert_eq!(followed, "line 1\nline 2\nline 3\nline 4\nline 5\nline 6\n");
    assert_eq!(cluster.kubectl(&["logs", "counts", "--tail=2"]).expect(), "line 5\nline 6\n");
    assert_eq!(cluster.kubectl(&["logs", "counts", "--limit-bytes=6"]).expect(), "line 1");
    let said = cluster.kubectl(&["wait", "pod/counts", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=20s"]);
    assert!(said.ok, "{}", said.err);
    let missing = cluster.kubectl(&["logs", "counts", "-c", "nobody"]);
    assert!(!missing.ok && missing.err.contains("nobody"), "{}", missing.err);
}

#[test]
fn an_image_that_does_not_exist_says_so_in_the_registrys_words() {
    let Some(cluster) = on_docker(&[]) else { return };
    let registry = Registry::start();
    let image = |name: &str| format!("127.0.0.1:{}/{name}:1", registry.port);
    cluster.apply(&deployment("missing", 1, &image("nothing-here"), ""));
    let words = wait_until("ErrImagePull or ImagePullBackOff", SOON, || {
        let described = cluster.kubectl(&["describe", "pod", "-l", "app=missing"]).out;
        let told = described.contains("ImagePullBackOff") && described.contains("ErrImagePull");
        if told { Ok(described) } else { Err(described) }
    });
    assert!(words.contains("manifest unknown") || words.contains("not found"), "the registry's words: {words}");
    assert!(cluster.kubectl(&["get", "pods", "-l", "app=missing"]).expect().contains("Pull"));
    let port = registry.port;
    drop(registry);
    cluster.apply(&deployment("unreachable", 1, &format!("127.0.0.1:{port}/web:1"), ""));
    wait_until("the registry is off", SOON, || {
        let described = cluster.kubectl(&["describe", "pod", "-l", "app=unreachable"]).out;
        if described.contains("connection refused") && described.contains("ErrImagePull") { Ok(()) } else { Err(described) }
    });
}

#[test]
fn create_to_running_takes_little_more_than_docker_run() {
    let Some(cluster) = on_docker(&[]) else { return };
    let (mut plain, mut ours) = (Vec::new(), Vec::new());
    for round in 0..5 {
        let from = Instant::now();
        let id = docker(&["run", "-d", "--label", "bramble-test=1", BUSYBOX, "sleep", "60"]).expect();
        plain.push(from.elapsed());
        docker(&["rm", "-f", id.trim()]).expect();
        let name = format!("quick-{round}");
        let from = Instant::now();
        cluster.kubectl(&["run", &name, "--image", BUSYBOX, "--image-pull-policy=IfNotPresent", "--", "sleep", "60"]).expect();
        cluster.kubectl(&["wait", "pod", &name, "--for=condition=Ready", "--timeout=20s"]).expect();
        ours.push(from.elapsed());
        cluster.kubectl(&["delete", "pod", &name, "--now", "--wait=false"]).expect();
    }
    plain.sort();
    ours.sort();
    println!(
        "docker run {:?}, kubectl run until ready {:?} (two kubectl processes, a sandbox and a container)",
        plain[2], ours[2]
    );
    assert!(ours[2] < Duration::from_secs(20), "only a hang is caught here");
}

/// Debian's registry on loopback.
struct Registry {
    process: std::process::Child,
    port: u16,
    _home: tempfile::TempDir,
}

impl Registry {
    fn start() -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let home = tempfile::tempdir().unwrap();
        let config = home.path().join("config.yml");
        let text = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\nlog: {{level: error}}\n",
            home.path().join("data").display()
        );
        std::fs::write(&config, text).unwrap();
        let process = std::process::Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("Debian's docker-registry");
        wait_until("the registry listens", Duration::from_secs(20), || {
            std::net::TcpStream::connect(("127.0.0.1", port)).map(drop).map_err(|error| error.to_string())
        });
        Self { process, port, _home: home }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It is ours, by its pid.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn people_debug_a_pod_and_read_why_one_failed() {
    let Some(cluster) = on_docker(&[]) else { return };
    cluster.apply(&format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: web, labels: {{app: web}}}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: app
    image: {BUSYBOX}
    command: [sh, -c, 'trap exit TERM; while true; do sleep 0.2; done']
---
apiVersion: v1
kind: Pod
metadata: {{name: late}}
spec:
  activeDeadlineSeconds: 2
  terminationGracePeriodSeconds: 1
  containers:
  - name: app
    image: {BUSYBOX}
    command: [sh, -c, 'sleep 1000']
---
apiVersion: v1
kind: Pod
metadata: {{name: words}}
spec:
  restartPolicy: Never
  initContainers:
  - {{name: one, image: {BUSYBOX}, command: [sh, -c, 'exit 0']}}
  - {{name: two, image: {BUSYBOX}, command: [sh, -c, 'echo -n no such lamp > /dev/termination-log; exit 4']}}
  containers:
  - {{name: app, image: {BUSYBOX}, command: [sh, -c, 'exit 0']}}
"
    ));
    cluster.wait_ready("app=web", 1, SOON);
    let said = cluster.kubectl(&[
        "debug",
        "web",
        &format!("--image={BUSYBOX}"),
        "--target=app",
        "-c",
        "dbg",
        "--",
        "sh",
        "-c",
        "echo hi; sleep 1",
    ]);
    println!("kubectl debug: {}{}", said.out, said.err);
    said.expect();
    wait_until("the debug container has ended", SOON, || {
        let pod = cluster.get(&["pod", "web"]);
        let state = pod["status"]["ephemeralContainerStatuses"][0]["state"].clone();
        if state["terminated"]["reason"] == "Completed" { Ok(()) } else { Err(format!("{state}")) }
    });
    assert_eq!(cluster.kubectl(&["logs", "web", "-c", "dbg"]).expect(), "hi\n");
    let described = |name: &str, all: &[&str]| {
        wait_until(name, SOON, || {
            let text = cluster.kubectl(&["describe", "pod", name]).out;
            if all.iter().all(|words| text.contains(words)) { Ok(()) } else { Err(text) }
        });
    };
    described("web", &["Ephemeral Containers:", "Started container dbg"]);
    described("late", &["Reason:           DeadlineExceeded", "Pod was active on the node longer than the specified deadline"]);
    described("words", &["Status:           Failed", "Message:      no such lamp", "Exit Code:    4"]);
    assert!(cluster.kubectl(&["get", "pods"]).expect().contains("Init:Error"));
}
