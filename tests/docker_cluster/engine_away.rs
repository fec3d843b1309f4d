//! A whole node whose engine hangs, is gone, or is killed and started again: what people see meanwhile, and that nothing is restarted that
//! still runs.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::devices::Agent;
use crate::engine_proxy::{Mood, Proxy};
use crate::image_disk::cluster_on;
use crate::on_docker;
use crate::own_docker::OwnDocker;
use crate::support::{BUSYBOX, Cluster, containers, deployment, docker, is_ready, skipped, summary, wait_until};

const NODE: &str = "bramble-1";
/// A node notices a silent engine within 30 s, and a machine may be loaded.
const SOON: Duration = Duration::from_secs(90);
const STAYS: &str = "        command: [sh, -c, 'trap exit TERM; while true; do sleep 0.2; done']\n";
const SERVES: &str = "        command: [sh, -c, 'echo hello; exec httpd -f -p 8080']
        ports: [{containerPort: 8080}]
        readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1, timeoutSeconds: 5}
        livenessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1, timeoutSeconds: 5}
";
/// A command that is run through the engine: one that cannot be asked for says nothing about the container.
const ASKED: &str = "        command: [sh, -c, 'trap exit TERM; while true; do sleep 0.2; done']
        livenessProbe: {exec: {command: ['true']}, periodSeconds: 1, timeoutSeconds: 5, failureThreshold: 2}
        readinessProbe: {exec: {command: ['true']}, periodSeconds: 1, timeoutSeconds: 5, failureThreshold: 2}
";

/// The node's `Ready`: status, reason, message.
fn ready(cluster: &Cluster) -> (String, String, String) {
    let node = cluster.get(&["node", NODE]);
    let conditions = node["status"]["conditions"].as_array().unwrap();
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready").unwrap();
    let text = |key: &str| ready[key].as_str().unwrap_or_default().to_owned();
    (text("status"), text("reason"), text("message"))
}

fn until_ready(cluster: &Cluster, wanted: &str) -> (String, String, String) {
    wait_until(&format!("Ready is {wanted}"), SOON, || {
        let said = ready(cluster);
        if said.0 == wanted { Ok(said) } else { Err(format!("{said:?}")) }
    })
}

fn restarts(pod: &Value) -> u64 {
    pod["status"]["containerStatuses"][0]["restartCount"].as_u64().unwrap()
}

/// It ends by itself within half a minute, and says why.
fn ends_with_words(cluster: &Cluster, arguments: &[&str], words: &[&str]) {
    let from = Instant::now();
    let mut command = Command::new("timeout");
    let whole = cluster.kubectl_command(&cluster.kubectl, arguments);
    command.arg("40").arg(whole.get_program()).args(whole.get_args());
    command.envs(whole.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = command.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("kubectl {arguments:?} after {:.1} s: {}: {said}", from.elapsed().as_secs_f64(), output.status);
    assert!(from.elapsed() < Duration::from_secs(35), "kubectl {arguments:?} does not end: {said}");
    assert!(!output.status.success() && words.iter().any(|words| said.contains(words)), "kubectl {arguments:?}: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_engine_is_away_the_node_says_so_pods_go_on_and_nothing_is_restarted_for_it() {
    let Some(cluster) = on_docker(&[]) else { return };
    let proxy = Proxy::start("/var/run/docker.sock");
    let _agent = Agent::anew(&cluster, NODE, &[("BRAMBLE_DOCKER__SOCKET", proxy.socket.to_str().unwrap())]);
    for (name, extra) in [("web", SERVES), ("asked", ASKED), ("hurt", STAYS), ("goes", STAYS)] {
        cluster.apply(&deployment(name, 1, BUSYBOX, extra));
    }
    let lasting = "app in (web,asked,hurt)";
    cluster.wait_ready("app in (web,asked,hurt,goes)", 4, SOON);
    until_ready(&cluster, "True");
    let beat = || cluster.get(&["lease", NODE, "-n", "kube-node-lease"])["spec"]["renewTime"].as_str().unwrap().to_owned();

    for (round, mood) in [Mood::Hang, Mood::Gone].into_iter().enumerate() {
        let before = containers(&cluster);
        let pods = cluster.wait_ready(lasting, 3, SOON);
        let from = Instant::now();
        proxy.set(mood);
        let late = format!("late-{round}");
        if round == 0 {
            cluster.kubectl(&["delete", "deployment", "goes", "--wait=false"]).expect();
            let hurt = before.iter().find(|(_, _, name)| name.contains("bramble_main_hurt")).unwrap();
            docker(&["kill", &hurt.0]).expect();
        }
        let (_, reason, message) = until_ready(&cluster, "False");
        println!("{mood:?}: {reason}: {message}, after {:.1} s", from.elapsed().as_secs_f64());
        assert!(reason == "KubeletNotReady" && message.starts_with("container runtime is down: "), "{reason}: {message}");
        assert!(message.contains("Docker") || message.contains("did not answer"), "it says why: {message}");
        let described = cluster.kubectl(&["describe", "node", NODE]).expect();
        assert!(described.contains("KubeletNotReady") && described.contains("container runtime is down"), "{described}");
        assert!(described.contains("node.kubernetes.io/not-ready:NoSchedule"), "{described}");
        let table = cluster.kubectl(&["get", "nodes", "--no-headers"]).expect();
        assert!(table.contains(" NotReady "), "{table}");

        // A pod that is asked for while the engine is away waits, and nobody pretends that it runs.
        cluster.apply(&deployment(&late, 1, BUSYBOX, STAYS));
        let web =
            pods.iter().find(|pod| pod["metadata"]["labels"]["app"] == "web").unwrap()["metadata"]["name"].as_str().unwrap();
        ends_with_words(&cluster, &["logs", web], &["container runtime is down"]);
        ends_with_words(&cluster, &["logs", "-f", web], &["container runtime is down"]);
        // Bramble has no exec yet, and says that there is none.
        ends_with_words(
            &cluster,
            &["exec", web, "--", "true"],
            &["container runtime is down", "could not find the requested resource"],
        );

        // The agent's heart goes on: it is not lost, and what it saw last stands.
        let first = beat();
        let stands = Instant::now();
        while stands.elapsed() < Duration::from_secs(15) {
            assert_eq!(ready(&cluster).0, "False", "an agent that speaks is not Unknown");
            std::thread::sleep(Duration::from_secs(1));
        }
        assert_ne!(beat(), first, "the node's lease is renewed");
        let meanwhile = cluster.pods(lasting);
        for old in &pods {
            let new = meanwhile.iter().find(|new| new["metadata"]["uid"] == old["metadata"]["uid"]).expect("nobody is replaced");
            assert_eq!(new["status"]["phase"], "Running", "{}", summary(&meanwhile));
            assert_eq!(restarts(new), restarts(old), "{}", summary(&meanwhile));
        }
        let waits = cluster.pods(&format!("app={late}"));
        assert!(waits.len() == 1 && waits[0]["status"]["phase"] == "Pending", "{}", summary(&waits));
        let why = cluster.kubectl(&["describe", "pod", "-l", &format!("app={late}")]).expect();
        assert!(why.contains("not-ready"), "{why}");

        proxy.set(Mood::Pass);
        let back = Instant::now();
        until_ready(&cluster, "True");
        println!("{mood:?}: ready again {:.1} s after the engine", back.elapsed().as_secs_f64());
        cluster.wait_ready(&format!("app={late}"), 1, SOON);
        let died = u64::from(round == 0);
        let after = wait_until("everything meets", SOON, || {
            let after = cluster.pods(lasting);
            let hurt = |pod: &Value| pod["metadata"]["labels"]["app"] == "hurt";
            let good = after.len() == 3 && after.iter().all(is_ready);
            let counts = after.iter().all(|new| {
                let old = pods.iter().find(|old| old["metadata"]["uid"] == new["metadata"]["uid"]);
                old.is_some_and(|old| restarts(new) == restarts(old) + if hurt(new) { died } else { 0 })
            });
            if good && counts && cluster.pods("app=goes").is_empty() { Ok(after) } else { Err(summary(&after)) }
        });
        std::thread::sleep(Duration::from_secs(3));
        let now = containers(&cluster);
        let gone = |name: &str| round == 0 && (name.contains("_goes-") || name.contains("bramble_main_hurt"));
        for old in before.iter().filter(|(_, _, name)| !gone(name)) {
            assert!(now.contains(old), "restarted needlessly: {old:?} is not in {now:?}\n{}", summary(&after));
        }
        let logs = cluster.kubectl(&["logs", web]).expect();
        assert_eq!(logs, "hello\n");
    }
    // The agent ends before its containers are removed.
    cluster.kubectl(&["delete", "deployments", "--all", "--wait=false"]).expect();
    wait_until("no pod is left", SOON, || {
        let pods = cluster.get(&["pods"])["items"].as_array().unwrap().clone();
        if pods.is_empty() { Ok(()) } else { Err(summary(&pods)) }
    });
}

#[test]
fn an_engine_that_is_killed_and_started_again_has_each_pod_once_and_its_restart_is_counted() {
    if skipped("docker") {
        return;
    }
    let mut own = OwnDocker::start();
    let (cluster, _agent) = cluster_on(&own, &[]);
    let scratch =
        "        volumeMounts: [{name: scratch, mountPath: /scratch}]\n      volumes: [{name: scratch, emptyDir: {}}]\n";
    cluster.apply(&deployment("keeps", 2, BUSYBOX, &format!("{STAYS}{scratch}")));
    let first = cluster.wait_ready("app=keeps", 2, SOON);
    let id = |pod: &Value| {
        pod["status"]["containerStatuses"][0]["containerID"].as_str().unwrap().rsplit('/').next().unwrap().to_owned()
    };
    for pod in &first {
        let word = format!("echo {} > /scratch/word", pod["metadata"]["uid"]);
        own.docker(&["exec", &id(pod), "sh", "-c", &word]);
    }
    for (kill, count) in [(true, 1), (false, 2)] {
        own.stop(kill);
        let (_, reason, message) = until_ready(&cluster, "False");
        assert!(
            reason == "KubeletNotReady" && message.starts_with("container runtime is down: Docker at "),
            "{reason}: {message}"
        );
        own.run();
        until_ready(&cluster, "True");
        let pods = wait_until("each pod runs again", SOON, || {
            let pods = cluster.pods("app=keeps");
            let same = |pod: &Value| first.iter().any(|old| old["metadata"]["uid"] == pod["metadata"]["uid"]);
            let good = |pod: &Value| same(pod) && is_ready(pod) && restarts(pod) == count;
            if pods.len() == 2 && pods.iter().all(good) { Ok(pods) } else { Err(summary(&pods)) }
        });
        for pod in &pods {
            let word = own.docker(&["exec", &id(pod), "cat", "/scratch/word"]);
            assert_eq!(Some(word.as_str()), pod["metadata"]["uid"].as_str(), "an emptyDir outlives its containers");
        }
        let running = own.docker(&["ps", "--format", "{{.Names}}"]);
        assert_eq!(running.lines().count(), 4, "two pods, each with its sandbox: {running}");
    }
    let described = cluster.kubectl(&["describe", "pods", "-l", "app=keeps"]).expect();
    assert!(described.contains("SandboxChanged"), "{described}");
    cluster.kubectl(&["delete", "deployments", "--all", "--wait=false"]).expect();
    wait_until("nothing is left in the engine", SOON, || match own.docker(&["ps", "-aq"]) {
        none if none.is_empty() => Ok(()),
        some => Err(some),
    });
}
