//! The pod's volumes must be on the node, or it must be possible to make them there.

use super::{Candidate, Misfit, NodeInfo, Rule};

/// Whether the pod's claims can be served on the node.
///
/// # Errors
/// When a volume is elsewhere, none can be had here, or another pod has it for itself.
pub fn fits(pod: &Candidate<'_>, node: &NodeInfo) -> Result<(), Misfit> {
    let no = |words: &str| Err(Misfit::new(Rule::Volumes, words));
    let Some(object) = &node.object else { return Ok(()) };
    if pod.volumes.taken {
        return no("node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode");
    }
    if !pod.volumes.bound.iter().all(|nodes| nodes.fit(object)) {
        return no("node(s) had volume node affinity conflict");
    }
    if !pod.volumes.can_be_met(object) {
        return no("node(s) didn't find available persistent volumes to bind");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use crate::api::core::volume::Volume;
    use crate::api::registry::{NODES, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, STORAGE_CLASSES};
    use crate::api::{Key, Object, Resource, Revision};
    use crate::scheduler::candidate::Candidate;
    use crate::scheduler::filter::fits;
    use crate::scheduler::snapshot::Snapshot;
    use crate::scheduler::volumes::Needs;
    use crate::store::{Batch, Change, Op, View};

    fn op(resource: &'static Resource, value: Value) -> Op {
        let mut object = Object::from_value(value).unwrap();
        object.set_at(&["metadata", "uid"], format!("uid-{}", object.name()));
        Op::create(Key::of(resource, &object), object)
    }

    fn view(objects: Vec<Op>) -> View {
        let mut view = View::new(Revision(1));
        let mut all: Vec<Op> = ["a", "b"]
            .iter()
            .map(|name| {
                op(
                    &NODES,
                    json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
                    "status": {"allocatable": {"cpu": "4", "pods": "9"}, "conditions": [{"type": "Ready", "status": "True"}]}}),
                )
            })
            .collect();
        for (name, mode, provisioner) in [
            ("local", "WaitForFirstConsumer", "bramble/local"),
            ("static", "WaitForFirstConsumer", "kubernetes.io/no-provisioner"),
            ("now", "Immediate", "nas"),
        ] {
            all.push(op(
                &STORAGE_CLASSES,
                json!({"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": mode}),
            ));
        }
        all.extend(objects);
        view.apply(Revision(2), Batch(all));
        view
    }

    fn claim(class: &str, change: Value) -> Op {
        let mut value = json!({"metadata": {"name": "data", "namespace": "default"}, "spec": {"storageClassName": class,
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
        json_patch::merge(&mut value, &change);
        op(&PERSISTENT_VOLUME_CLAIMS, value)
    }

    fn volume(name: &str, class: &str, node: &str, claim: Value) -> Op {
        let term = json!({"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]});
        op(
            &PERSISTENT_VOLUMES,
            json!({"metadata": {"name": name}, "status": {"phase": "Available"}, "spec": {"storageClassName": class,
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "claimRef": claim,
            "nodeAffinity": {"required": {"nodeSelectorTerms": [term]}}}}),
        )
    }

    fn bound(change: Value) -> Vec<Op> {
        let mut value =
            json!({"metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}}, "spec": {"volumeName": "v"}});
        json_patch::merge(&mut value, &change);
        vec![claim("local", value), volume("v", "local", "a", json!({"namespace": "default", "name": "data", "uid": "uid-data"}))]
    }

    fn pod() -> Object {
        let pod = json!({"metadata": {"name": "web", "namespace": "default"},
            "spec": {"volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}]}});
        Object::from_value(pod).unwrap()
    }

    #[test]
    fn a_pod_goes_where_its_volumes_are_or_can_be() {
        let (elsewhere, none_here) =
            ("node(s) had volume node affinity conflict", "node(s) didn't find available persistent volumes to bind");
        let selected = |node: &str| json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": node}}});
        let taken = "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode";
        for (what, objects, users, on_a, on_b) in [
            ("bound to a", bound(json!({})), 0, "", elsewhere),
            ("shared", bound(json!({})), 1, "", elsewhere),
            ("for one pod", bound(json!({"spec": {"accessModes": ["ReadWriteOncePod"]}})), 1, taken, taken),
            ("can be made anywhere", vec![claim("local", json!({}))], 0, "", ""),
            ("is being made on b", vec![claim("local", selected("b"))], 0, none_here, ""),
            ("one is there on b", vec![claim("static", json!({})), volume("v", "static", "b", Value::Null)], 0, none_here, ""),
            ("none is there", vec![claim("static", json!({}))], 0, none_here, none_here),
        ] {
            let view = view(objects);
            let pod = pod();
            let mut candidate = Candidate::of(&pod);
            candidate.volumes = Needs::of(&view, &pod, |_| users);
            assert_eq!(candidate.volumes.impossible, None, "{what}");
            let snapshot = Snapshot::from_view(&view);
            let said: Vec<String> = snapshot
                .nodes()
                .map(|(_, node)| fits(&candidate, node).map_or_else(|misfit| misfit.reasons.join(", "), |()| String::new()))
                .collect();
            assert_eq!(said, [on_a, on_b], "{what}");
        }
    }

    #[test]
    fn what_no_node_can_help_is_said_in_the_words_of_kubernetes() {
        let deleted = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
        for (objects, words) in [
            (vec![], "persistentvolumeclaim \"data\" not found"),
            (vec![claim("local", deleted)], "persistentvolumeclaim \"data\" is being deleted"),
            (vec![claim("now", json!({}))], "pod has unbound immediate PersistentVolumeClaims"),
            (vec![claim("", json!({}))], "pod has unbound immediate PersistentVolumeClaims"),
            (vec![bound(json!({})).remove(0)], "persistentvolumeclaim \"data\" bound to non-existent persistentvolume \"v\""),
        ] {
            assert_eq!(Needs::of(&view(objects), &pod(), |_| 0).impossible.as_deref(), Some(words));
        }
    }

    #[test]
    fn the_choice_of_a_node_is_written_once() {
        let node = Object::from_value(json!({"metadata": {"name": "b", "labels": {"kubernetes.io/hostname": "b"}}})).unwrap();
        let first = view(vec![claim("local", json!({}))]);
        let steps = Needs::of(&first, &pod(), |_| 0).steps(&node);
        let [Op { change: Change::Put(chosen), .. }] = &steps[..] else { panic!("{steps:?}") };
        assert_eq!(chosen.annotation("volume.kubernetes.io/selected-node"), Some("b"));
        let mut second = first;
        second.apply(Revision(3), Batch(steps.clone()));
        assert!(Needs::of(&second, &pod(), |_| 0).steps(&node).is_empty());

        let mut kept = view(vec![claim("static", json!({})), volume("v", "static", "b", Value::Null)]);
        let steps = Needs::of(&kept, &pod(), |_| 0).steps(&node);
        kept.apply(Revision(3), Batch(steps));
        let volume: &Arc<Object> = kept.get(&Key::new(&PERSISTENT_VOLUMES, "", "v")).unwrap();
        assert_eq!(Volume(volume).claim(), Some(("default", "data", "uid-data")));
        assert!(Needs::of(&kept, &pod(), |_| 0).steps(&node).is_empty());
    }
}
