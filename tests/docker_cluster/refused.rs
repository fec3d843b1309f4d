//! Pods that never run, as `kubectl` shows them.

use crate::support::{BUSYBOX, cluster_uid, docker, wait_until};
use crate::{SOON, on_docker};

#[test]
fn what_is_refused_or_misnamed_or_waits_says_so_to_people() {
    let Some(cluster) = on_docker(&[]) else { return };
    let pod = |name: &str, spec: &str, image: &str, rest: &str| {
        format!(
            "---
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 1
{spec}
  containers:
  - name: main
    image: \"{image}\"
    command: [sh, -c, 'trap exit TERM; while true; do sleep 0.2; done']
{rest}
"
        )
    };
    let sysctl = "  securityContext: {sysctls: [{name: vm.swappiness, value: \"1\"}]}";
    let missing = "    envFrom: [{configMapRef: {name: later}}]";
    let late = "  activeDeadlineSeconds: 2";
    // Past the scheduler: the node itself has to say no.
    let by_hand = "  nodeName: bramble-1";
    let large = "    resources: {requests: {cpu: \"6400\"}}";
    let binary = "    envFrom: [{secretRef: {name: binary}}]";
    cluster.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: binary}\ndata: {KEY: YQBi}\n");
    cluster.apply(
        &[
            pod("large", by_hand, BUSYBOX, large),
            pod("binary", "", BUSYBOX, binary),
            pod("refused", sysctl, BUSYBOX, ""),
            pod("misnamed", "", "UPPER case!!", ""),
            pod("waits", "", BUSYBOX, missing),
            pod("late", late, BUSYBOX, missing),
        ]
        .concat(),
    );
    for (name, word) in [
        ("refused", "SysctlForbidden"),
        ("large", "OutOfcpu"),
        ("binary", "CreateContainerConfigError"),
        ("misnamed", "InvalidImageName"),
        ("waits", "CreateContainerConfigError"),
        ("late", "ContainerStatusUnknown"),
    ] {
        let line = wait_until(&format!("{name} is {word}"), SOON, || {
            let lines = cluster.kubectl(&["get", "pod", name, "--no-headers"]).out;
            if lines.contains(word) { Ok(lines) } else { Err(lines) }
        });
        assert!(line.contains(" 0/1 "), "{line}");
    }
    let refused = cluster.get(&["pod", "refused"])["status"].clone();
    assert_eq!(refused["containerStatuses"], serde_json::Value::Null, "{refused:#}");
    assert_eq!((refused["phase"].as_str(), refused["reason"].as_str()), (Some("Failed"), Some("SysctlForbidden")));
    assert_eq!(refused["message"], "Pod was rejected: forbidden sysctl: \"vm.swappiness\" not allowlisted");
    let large = cluster.get(&["pod", "large"])["status"].clone();
    assert_eq!((large["phase"].as_str(), large["reason"].as_str()), (Some("Failed"), Some("OutOfcpu")), "{large:#}");
    let message = large["message"].as_str().unwrap();
    assert!(
        message.starts_with("Pod was rejected: Node didn't have enough resource: cpu, requested: 6400000, used: 0, capacity: "),
        "{message}"
    );
    let late = cluster.get(&["pod", "late"])["status"].clone();
    assert_eq!((late["phase"].as_str(), late["reason"].as_str()), (Some("Failed"), Some("DeadlineExceeded")), "{late:#}");
    let told = |name: &str, words: &str| {
        wait_until(&format!("{name} says {words}"), SOON, || {
            let text = cluster.kubectl(&["describe", "pod", name]).out;
            if text.contains(words) { Ok(()) } else { Err(text) }
        });
    };
    told("refused", "Warning  SysctlForbidden");
    told("misnamed", "Warning  InspectFailed");
    told("misnamed", "Error: InvalidImageName");
    told("large", "Warning  OutOfcpu");
    told("binary", "environment variable KEY: its value has a NUL byte in it");
    told("waits", "Error: configmap \"later\" not found");
    // It comes, and the pod that waited starts; the one that is over does not.
    cluster.kubectl(&["create", "configmap", "later", "--from-literal=A=b"]).expect();
    wait_until("it runs", SOON, || {
        let pod = cluster.get(&["pod", "waits"]);
        if crate::support::is_ready(&pod) { Ok(()) } else { Err(pod["status"].to_string()) }
    });
    let label = format!("label=bramble/cluster={}", cluster_uid(&cluster));
    let running = docker(&["ps", "-q", "--filter", &label, "--filter", "label=bramble/container=main"]).expect();
    assert_eq!(running.lines().count(), 1, "{running}");
    cluster.kubectl(&["delete", "pod", "--all", "--timeout=40s"]).expect();
    assert_eq!(docker(&["ps", "-aq", "--filter", &label]).expect(), "");
    cluster.bramble(["delete"]).expect();
}
