//! What an agent knew is known to the next one, with the master away as well.

use crate::support::{BUSYBOX, cluster_uid, docker, lives, signal, wait_until};
use crate::{SOON, on_docker};

#[test]
fn what_ran_and_what_was_given_up_outlives_a_killed_agent() {
    let Some(cluster) = on_docker(&[]) else { return };
    let pod = |name: &str, spec: &str, script: &str| {
        format!(
            "---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  restartPolicy: Never
{spec}
  containers:
  - name: main
    image: {BUSYBOX}
    command: [sh, -c, '{script}']
"
        )
    };
    let once = pod("once", "  terminationGracePeriodSeconds: 1", "while true; do sleep 0.2; done");
    // It does not hear TERM, and has longer than this test.
    let late = pod(
        "late",
        "  activeDeadlineSeconds: 20\n  terminationGracePeriodSeconds: 20",
        "trap : TERM; while true; do sleep 0.2; done",
    )
    .replace("restartPolicy: Never", "restartPolicy: Always");
    cluster.apply(&format!("{once}{late}"));
    let id = |name: &str| {
        let pod = cluster.wait_ready(&format!("app={name}"), 1, SOON).remove(0);
        let id = pod["status"]["containerStatuses"][0]["containerID"].as_str().unwrap().to_owned();
        id.trim_start_matches("docker://").to_owned()
    };
    let (late, once) = (id("late"), id("once"));
    let uid = cluster_uid(&cluster);
    signal(cluster.master_pid(), "KILL");
    let past = cluster.dir.join("nodes/bramble-1/past.json");
    wait_until("the deadline is over and written down", SOON, || {
        let text = std::fs::read_to_string(&past).unwrap_or_default();
        if text.contains("DeadlineExceeded") && text.contains(&once) { Ok(()) } else { Err(text) }
    });
    let written = || std::fs::metadata(&past).unwrap().modified().unwrap();
    let agent = cluster.agent_pid("bramble-1");
    signal(agent, "KILL");
    wait_until("the agent is dead", SOON, || if lives(agent) { Err(String::new()) } else { Ok(()) });
    assert_eq!(docker(&["inspect", "-f", "{{.State.Running}}", &late]).expect().trim(), "true", "it is in its grace");
    docker(&["rm", "-f", &once]).expect();
    cluster.start(&[]).expect();
    let status = |name: &str| cluster.get(&["pod", name])["status"].clone();
    for (name, reason, end) in [("once", "null", "ContainerStatusUnknown"), ("late", "\"DeadlineExceeded\"", "Error")] {
        let status = wait_until(&format!("{name} has failed"), SOON, || {
            let status = status(name);
            if status["phase"] == "Failed" { Ok(status) } else { Err(format!("{status:#}")) }
        });
        assert_eq!(status["reason"].to_string(), reason, "{status:#}");
        let container = &status["containerStatuses"][0];
        let ended = &container["state"]["terminated"];
        assert_eq!((ended["reason"].as_str(), ended["exitCode"].as_i64()), (Some(end), Some(137)), "{status:#}");
        assert_eq!(container["restartCount"], 0);
    }
    wait_until("nothing runs any more", SOON, || {
        let listed = docker(&["ps", "-q", "--filter", &format!("label=bramble/cluster={uid}")]).expect();
        if listed.is_empty() { Ok(()) } else { Err(listed) }
    });
    let before = written();
    std::thread::sleep(std::time::Duration::from_secs(5));
    assert_eq!(written(), before, "nothing changes, nothing is written");
    cluster.bramble(["delete"]).expect();
}
