//! A node that is alone: no master, no broker, and then a reboot.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::{BUSYBOX, cluster_uid, containers, docker, lives, signal, wait_until};
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
