//! Volumes, claims and classes, with real kubectl.

use serde_json::json;

use bramble::api::registry;

use crate::harness::each_kubectl;

const CLAIM: &str = "
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: data
spec:
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 1Gi}}
";

const VOLUME: &str = "
apiVersion: v1
kind: PersistentVolume
metadata:
  name: disk
spec:
  capacity: {storage: 5Gi}
  accessModes: [ReadWriteOnce]
  storageClassName: nas
  nfs: {server: nas.home, path: /data}
";

#[test]
fn a_cluster_begins_with_a_class_for_claims_and_two_for_the_system() {
    each_kubectl(|_, kubectl| {
        let classes = kubectl.run(&["get", "sc"]).ok();
        assert!(classes.contains("local (default)   bramble/local   Delete          WaitForFirstConsumer   false"), "{classes}");
        let classes = kubectl.run(&["get", "pc"]).ok();
        assert!(classes.contains("system-cluster-critical   2000000000   false"), "{classes}");
        assert!(kubectl.run(&["describe", "sc", "local"]).ok().contains("Provisioner:           bramble/local"));
        kubectl.run(&["get", "persistentvolumeclaims,pv"]).ok();
        let known = kubectl.run(&["api-resources"]).ok();
        for part in ["pvc", "storage.k8s.io/v1", "scheduling.k8s.io/v1"] {
            assert!(known.contains(part), "{known}");
        }
    });
}

#[test]
fn a_claim_is_made_shown_held_and_cannot_become_another() {
    each_kubectl(|server, kubectl| {
        kubectl.input(&["apply", "-f", "-"], CLAIM).says("persistentvolumeclaim/data created");
        kubectl.input(&["apply", "-f", "-"], CLAIM).says("persistentvolumeclaim/data unchanged");
        let table = kubectl.run(&["get", "pvc"]).ok();
        assert!(table.starts_with("NAME   STATUS    VOLUME   CAPACITY   ACCESS MODES   STORAGECLASS"), "{table}");
        assert!(
            table.lines().nth(1).is_some_and(|line| line.starts_with("data   Pending") && line.contains(" local ")),
            "{table}"
        );
        let described = kubectl.run(&["describe", "pvc", "data"]).ok();
        assert!(
            described.contains("StorageClass:  local") && described.contains("[kubernetes.io/pvc-protection]"),
            "{described}"
        );
        let other = CLAIM.replace("ReadWriteOnce", "ReadWriteMany");
        kubectl.input(&["apply", "-f", "-"], &other).fails("spec is immutable after creation except resources.requests");
        let larger = CLAIM.replace("1Gi", "2Gi");
        kubectl.input(&["apply", "-f", "-"], &larger).fails("spec is immutable after creation except resources.requests");
        server.change(&registry::PERSISTENT_VOLUME_CLAIMS, "default", "data", |claim| {
            claim.set_at(&["spec", "volumeName"], "pvc-1");
            claim
                .set_at(&["status"], json!({"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]}));
        });
        kubectl.input(&["apply", "-f", "-"], &larger).fails("only dynamically provisioned pvc can be resized");
        kubectl.run(&["delete", "pvc", "data", "--wait=false"]).ok();
        let table = kubectl.run(&["get", "pvc"]).ok();
        assert!(table.contains("data   Terminating   pvc-1    1Gi        RWO"), "{table}");
        kubectl.run(&["patch", "pvc", "data", "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#]).ok();
        assert_eq!(server.count("persistentvolumeclaims"), 0);
        kubectl
            .input(&["create", "-f", "-"], &CLAIM.replace("storage: 1Gi", "storage: -1"))
            .fails("must be greater than or equal to 0");
    });
}

#[test]
fn a_volume_is_made_shown_and_stays_where_it_is() {
    each_kubectl(|_, kubectl| {
        kubectl.input(&["apply", "-f", "-"], VOLUME).says("persistentvolume/disk created");
        kubectl.input(&["apply", "-f", "-"], VOLUME).says("persistentvolume/disk unchanged");
        let table = kubectl.run(&["get", "pv"]).ok();
        assert!(table.starts_with("NAME   CAPACITY   ACCESS MODES   RECLAIM POLICY   STATUS    CLAIM   STORAGECLASS"), "{table}");
        assert!(table.contains("disk   5Gi        RWO            Retain           Pending           nas"), "{table}");
        assert!(kubectl.run(&["describe", "pv", "disk"]).ok().contains("Server:    nas.home"));
        let moved = VOLUME.replace("/data", "/other");
        kubectl.input(&["apply", "-f", "-"], &moved).fails("spec.persistentvolumesource is immutable after creation");
        kubectl.run(&["patch", "pv", "disk", "-p", r#"{"spec":{"persistentVolumeReclaimPolicy":"Delete"}}"#]).ok();
        kubectl.input(&["create", "-f", "-"], "apiVersion: v1\nkind: PersistentVolume\nmetadata: {name: nowhere}\nspec: {capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce]}\n")
            .fails("spec: Required value: must specify a volume type");
    });
}

#[test]
fn a_pod_has_the_priority_of_its_class() {
    each_kubectl(|_, kubectl| {
        kubectl
            .run(&["create", "priorityclass", "high", "--value=1000", "--description=first"])
            .says("priorityclass.scheduling.k8s.io/high created");
        let pod = |class: &str| crate::objects::POD.replace("spec:\n", &format!("spec:\n  priorityClassName: {class}\n"));
        kubectl.input(&["create", "-f", "-"], &pod("gone")).fails("no PriorityClass with name gone was found");
        kubectl.input(&["create", "-f", "-"], &pod("high")).says("pod/web created");
        kubectl
            .run(&["get", "pod", "web", "-o", "jsonpath={.spec.priority}/{.spec.preemptionPolicy}"])
            .says("1000/PreemptLowerPriority");
        kubectl.run(&["patch", "priorityclass", "high", "-p", r#"{"value":5}"#]).fails("may not be changed in an update.");
        kubectl.run(&["create", "priorityclass", "system-mine", "--value=1"]).fails("reserved for system use only");
        kubectl.run(&["delete", "pc", "high"]).ok();
    });
}
