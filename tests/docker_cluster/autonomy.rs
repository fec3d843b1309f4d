//! A node that is alone: no master, no broker, and then a reboot.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::cable::Proxy as Cable;
use crate::devices::Agent;
use crate::support::{
    BUSYBOX, Cluster, cluster_uid, containers, deployment, docker, is_ready, lives, signal, summary, wait_until,
};
use crate::{SOON, on_docker};

#[test]
fn a_node_alone_probes_and_restarts_its_pods_and_brings_them_back_after_a_reboot() {
    let Some(cluster) = on_docker(&[]) else { return };
    cluster.apply(&format!(
        "apiVersion: v1
kind: ConfigMap
metadata: {{name: words}}
data: {{greeting: hello}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: alone}}
spec:
  selector: {{matchLabels: {{app: alone}}}}
  template:
    metadata: {{labels: {{app: alone}}}}
    spec:
      terminationGracePeriodSeconds: 1
      volumes: [{{name: words, configMap: {{name: words}}}}]
      containers:
      - name: main
        image: {BUSYBOX}
        command: [sh, -c, 'echo $(cat /words/greeting); trap exit TERM; while true; do sleep 0.2; done']
        env: [{{name: GREETING, valueFrom: {{configMapKeyRef: {{name: words, key: greeting}}}}}}]
        volumeMounts: [{{name: words, mountPath: /words}}]
        livenessProbe: {{exec: {{command: [sh, -c, '! test -e /tmp/sick']}}, periodSeconds: 1, failureThreshold: 2}}
"
    ));
    let pod = cluster.wait_ready("app=alone", 1, SOON).remove(0);
    let uid = cluster_uid(&cluster);
    // The running container, and how often it was restarted before.
    let main = |attempt: u32| {
        wait_until(&format!("main runs for the {attempt}. time again"), SOON, || {
            let labels = [
                format!("label=bramble/cluster={uid}"),
                "label=bramble/container=main".to_owned(),
                format!("label=bramble/attempt={attempt}"),
            ];
            let mut args = vec!["ps", "-q", "--no-trunc"];
            labels.iter().for_each(|label| args.extend(["--filter", label]));
            let id = docker(&args).expect();
            if id.trim().is_empty() { Err(docker(&["ps", "-a"]).out) } else { Ok(id.trim().to_owned()) }
        })
    };

    let greets = |id: &str| {
        wait_until("it greets from its config map", SOON, || {
            let said = docker(&["logs", id]).expect();
            if said == "hello\n" { Ok(()) } else { Err(said) }
        });
    };

    let (master, agent) = (cluster.master_pid(), cluster.agent_pid("bramble-1"));
    signal(master, "KILL");
    docker(&["kill", &main(0)]).expect();
    docker(&["exec", &main(1), "touch", "/tmp/sick"]).expect();
    let second = main(2);
    greets(&second);

    // A reboot without any network: nothing runs, and only the agent is started.
    let command: Vec<String> = std::fs::read(format!("/proc/{agent}/cmdline"))
        .unwrap()
        .split(|&byte| byte == 0)
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    signal(agent, "KILL");
    wait_until("the agent is dead", SOON, || if lives(agent) { Err(String::new()) } else { Ok(()) });
    let ids = docker(&["ps", "-q", "--filter", &format!("label=bramble/cluster={uid}")]).expect();
    docker(&[&["kill"][..], &ids.lines().collect::<Vec<_>>()].concat()).expect();
    let started = Command::new("setsid")
        .arg("--fork")
        .args(&command)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(started.is_ok_and(|status| status.success()));
    let third = main(3);
    greets(&third);

    // The master comes back: both sides agree, and nothing is touched.
    let alone = containers(&cluster);
    cluster.start(&[]).expect();
    let again = wait_until("the API tells what happened meanwhile", SOON, || {
        let pod = cluster.pods("app=alone").remove(0);
        if pod["status"]["containerStatuses"][0]["restartCount"] == 3 && crate::support::is_ready(&pod) {
            Ok(pod)
        } else {
            Err(pod["status"].to_string())
        }
    });
    assert_eq!(again["metadata"]["uid"], pod["metadata"]["uid"]);
    assert!(again["status"]["containerStatuses"][0]["containerID"].as_str().unwrap().ends_with(&third), "{again:#}");
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(containers(&cluster), alone, "nothing was restarted when the link came back");
    cluster.bramble(["delete"]).expect();
}

/// The port of the broker that a node was told.
fn broker(cluster: &Cluster, node: &str) -> u16 {
    let text = std::fs::read_to_string(cluster.dir.join(format!("nodes/{node}/agent.toml"))).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("broker = ")).unwrap();
    line.trim_matches('"').rsplit(':').next().unwrap().parse().unwrap()
}

#[test]
fn what_people_changed_while_the_cable_was_out_is_obeyed_when_it_is_back_and_nothing_else_is_touched() {
    let Some(cluster) = on_docker(&[]) else { return };
    cluster.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: words}\ndata: {greeting: hello}\n");
    let stays = "        command: [sh, -c, 'trap exit TERM; while true; do sleep 0.2; done']\n";
    let mounts =
        "        volumeMounts: [{name: words, mountPath: /words}]\n      volumes: [{name: words, configMap: {name: words}}]\n";
    cluster.apply(&deployment("reads", 1, BUSYBOX, &format!("{stays}{mounts}")));
    for (name, replicas) in [("few", 3), ("goes", 1), ("hurt", 1)] {
        cluster.apply(&deployment(name, replicas, BUSYBOX, stays));
    }
    let pods = "app in (reads,few,goes,hurt)";
    cluster.wait_ready(pods, 6, SOON);
    let cable = Cable::before(broker(&cluster, "bramble-1"));
    let url = format!("mqtts://127.0.0.1:{}", cable.port);
    let _agent = Agent::anew(&cluster, "bramble-1", &[("BRAMBLE_MQTT__BROKER", &url)]);
    cluster.wait_ready(pods, 6, SOON);
    wait_until("the node speaks through the cable", SOON, || if cable.connections() > 0 { Ok(()) } else { Err(String::new()) });
    let ready = |wanted: &str| {
        wait_until(&format!("Ready is {wanted}"), SOON, || {
            let words = cluster
                .kubectl(&["get", "node", "bramble-1", "-o", "jsonpath={.status.conditions[?(@.type=='Ready')].status}"])
                .out;
            if words == wanted { Ok(()) } else { Err(words) }
        });
    };
    ready("True");
    let before = containers(&cluster);
    assert_eq!(before.len(), 12, "six containers and six sandboxes: {before:?}");
    let named = |all: &[(String, String, String)], part: &str| {
        all.iter().filter(|(_, _, name)| name.contains(part)).cloned().collect::<Vec<_>>()
    };
    std::thread::scope(|scope| {
        let out = scope.spawn(|| cable.cut_for(Duration::from_secs(30)));
        ready("Unknown");
        cluster.kubectl(&["delete", "deployment", "goes", "--cascade=foreground", "--wait=false"]).expect();
        cluster.kubectl(&["scale", "deployment", "few", "--replicas=1"]).expect();
        cluster.kubectl(&["patch", "configmap", "words", "-p", "{\"data\": {\"greeting\": \"bye\"}}"]).expect();
        docker(&["kill", &named(&before, "bramble_main_hurt")[0].0]).expect();
        wait_until("the node alone restarts what died", SOON, || {
            let now = named(&containers(&cluster), "bramble_main_hurt");
            if now.len() == 1 && now[0].0 != named(&before, "bramble_main_hurt")[0].0 { Ok(()) } else { Err(format!("{now:?}")) }
        });
        assert_eq!(named(&containers(&cluster), "_goes-"), named(&before, "_goes-"), "it cannot know of it yet");
        out.join().unwrap();
    });
    ready("True");
    wait_until("everything meets", SOON, || {
        let all = cluster.pods(pods);
        let restarts = all.iter().map(|pod| pod["status"]["containerStatuses"][0]["restartCount"].as_u64().unwrap_or_default());
        let good = all.len() == 3 && all.iter().all(is_ready) && restarts.sum::<u64>() == 1;
        if good { Ok(()) } else { Err(summary(&all)) }
    });
    let reads = &named(&before, "bramble_main_reads")[0].0;
    wait_until("the config map's new words are in the pod", SOON, || {
        let said = docker(&["exec", reads, "cat", "/words/greeting"]).out;
        if said == "bye" { Ok(()) } else { Err(said) }
    });
    let after = wait_until("Docker has three pods", SOON, || {
        let now = containers(&cluster);
        if now.len() == 6 { Ok(now) } else { Err(format!("{now:?}")) }
    });
    let fresh: Vec<_> = after.iter().filter(|one| !before.contains(one)).collect();
    assert!(fresh.len() == 1 && fresh[0].2.contains("bramble_main_hurt"), "only what died is new: {fresh:?}");
}
