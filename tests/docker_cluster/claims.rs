//! A claim on real Docker: what a pod writes is there for the next one, and gone with the claim.

use std::path::Path;

use crate::support::{BUSYBOX, Cluster, wait_until};
use crate::{SOON, on_docker};

/// A pod that keeps the lines of its runs in a volume, as nobody in particular.
fn keeper(volume: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: keeper, labels: {{app: keeper}}}}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {{runAsUser: 1234}}
  volumes: [{{name: v, {volume}}}]
  containers:
  - name: c
    image: {BUSYBOX}
    command: [sh, -c, 'echo run >> /data/runs; cat /data/runs; trap exit TERM; while true; do sleep 0.2; done']
    volumeMounts: [{{name: v, mountPath: /data}}]
"
    )
}

fn runs(cluster: &Cluster) -> usize {
    cluster.wait_ready("app=keeper", 1, SOON);
    wait_until("it has said what it found", SOON, || {
        let log = cluster.kubectl(&["logs", "keeper"]).out;
        if log.is_empty() { Err(log) } else { Ok(log.lines().count()) }
    })
}

/// The directory of the one volume that there is.
fn directory(cluster: &Cluster) -> String {
    let volumes = cluster.get(&["pv"]);
    assert_eq!(volumes["items"].as_array().unwrap().len(), 1, "{volumes}");
    volumes["items"][0]["spec"]["local"]["path"].as_str().unwrap().to_owned()
}

fn wait_gone(cluster: &Cluster, directory: &str) {
    wait_until("claim, volume and directory are gone", SOON, || {
        let left = cluster.kubectl(&["get", "pv,pvc", "-o", "name"]).expect();
        let there = Path::new(directory).exists();
        if left.trim().is_empty() && !there { Ok(()) } else { Err(format!("{left} {there}")) }
    });
}

#[test]
fn what_a_pod_keeps_in_its_claim_is_there_for_the_next_one_and_gone_with_the_claim() {
    let Some(cluster) = on_docker(&["--nodes", "2"]) else { return };
    cluster.apply(
        "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data}\nspec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}\n",
    );
    let pod = keeper("persistentVolumeClaim: {claimName: data}");
    for run in 1..=3 {
        cluster.apply(&pod);
        assert_eq!(runs(&cluster), run);
        cluster.kubectl(&["delete", "pod", "keeper", "--timeout=30s"]).expect();
    }
    let kept = directory(&cluster);
    assert_eq!(std::fs::read_to_string(format!("{kept}/runs")).unwrap(), "run\nrun\nrun\n");
    cluster.kubectl(&["delete", "pvc", "data", "--timeout=30s"]).expect();
    wait_gone(&cluster, &kept);
}

#[test]
fn an_ephemeral_volume_lives_and_dies_with_its_pod() {
    let Some(cluster) = on_docker(&[]) else { return };
    let template =
        "ephemeral: {volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}}}";
    cluster.apply(&keeper(template));
    assert_eq!(runs(&cluster), 1);
    cluster.kubectl(&["get", "pvc", "keeper-v"]).expect();
    let kept = directory(&cluster);
    cluster.kubectl(&["delete", "pod", "keeper", "--timeout=30s"]).expect();
    wait_gone(&cluster, &kept);
}
