//! What is asked of persistent volumes, of claims and of storage classes in more than one place. Lenses: they borrow the object
//! and keep nothing.
//!
//! Never:    decides what is bound to what (`controller/persistent_volume`).
//! Source:   component-helpers `storage/volume` of Kubernetes 1.33.

use serde_json::Value;

use crate::api::object::Object;
use crate::api::quantity::Quantity;
use crate::api::selector::Selector;

/// The provisioner of Bramble's own volumes: directories on the node that the pod runs on.
pub const LOCAL_PROVISIONER: &str = "bramble/local";
/// The storage class that a cluster begins with.
pub const LOCAL_CLASS: &str = "local";
/// On a volume: who made it.
pub const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// On a claim: the node that its first pod will run on, said by the scheduler.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// On a claim: it was bound once.
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// On both: the controller has chosen, not a person.
pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// On a storage class: claims that name none get it.
pub const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";
/// The same in its first form, which is still honoured.
const DEFAULT_CLASS_BETA: &str = "storageclass.beta.kubernetes.io/is-default-class";
/// On claims and volumes: the class, before there was a field for it.
pub const CLASS_BETA: &str = "volume.beta.kubernetes.io/storage-class";
/// On a volume that `bramble/local` made: the node that has it.
pub const ON_NODE: &str = "bramble/node";
/// On a node: the directory of its volumes, where it is not the usual one.
pub const VOLUMES_DIR: &str = "bramble/volumes-dir";
/// The usual one.
pub const USUAL_VOLUMES_DIR: &str = "/var/lib/bramble/volumes";
/// Holds a claim while a pod uses it.
pub const CLAIM_PROTECTION: &str = "kubernetes.io/pvc-protection";
/// Holds a volume while a claim has it.
pub const VOLUME_PROTECTION: &str = "kubernetes.io/pv-protection";

/// A persistent volume, read.
#[derive(Clone, Copy, Debug)]
pub struct Volume<'a>(pub &'a Object);

/// A claim, read.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a>(pub &'a Object);

/// A storage class, read.
#[derive(Clone, Copy, Debug)]
pub struct Class<'a>(pub &'a Object);

impl<'a> Volume<'a> {
    /// `status.phase`.
    #[must_use]
    pub fn phase(self) -> &'a str {
        self.0.str_at(&["status", "phase"])
    }

    /// Whom it is for, if anybody: namespace, name and uid of the claim. A uid that is empty is a place kept by a person.
    #[must_use]
    pub fn claim(self) -> Option<(&'a str, &'a str, &'a str)> {
        let at = |field| self.0.str_at(&["spec", "claimRef", field]);
        (!at("name").is_empty()).then(|| (at("namespace"), at("name"), at("uid")))
    }

    /// Whether it is for this claim and no other.
    #[must_use]
    pub fn is_for(self, claim: &Object) -> bool {
        self.claim().is_some_and(|(namespace, name, uid)| {
            (namespace, name) == (claim.namespace(), claim.name()) && (uid.is_empty() || uid == claim.uid().0)
        })
    }

    /// Its class; `""` for none.
    #[must_use]
    pub fn class(self) -> &'a str {
        self.0.annotation(CLASS_BETA).unwrap_or_else(|| self.0.str_at(&["spec", "storageClassName"]))
    }

    /// How much it holds.
    #[must_use]
    pub fn capacity(self) -> Quantity {
        quantity(self.0.at(&["spec", "capacity", "storage"]))
    }

    /// The labels that its nodes have: a `NodeSelector`.
    #[must_use]
    pub fn nodes(self) -> Option<&'a Value> {
        self.0.at(&["spec", "nodeAffinity", "required"]).filter(|required| !required.is_null())
    }

    /// Whether `bramble/local` made it.
    #[must_use]
    pub fn is_ours(self) -> bool {
        self.0.annotation(PROVISIONED_BY) == Some(LOCAL_PROVISIONER)
    }

    /// The name of the directory that it is, when `bramble/local` made it: `<namespace>_<claim>_<start of its uid>`.
    #[must_use]
    pub fn directory(self) -> Option<String> {
        let (namespace, claim, _) = self.claim().filter(|_| self.is_ours())?;
        let start: String = self.0.uid().0.chars().take(8).collect();
        let name = format!("{namespace}_{claim}_{start}");
        let plain = start.len() == 8 && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
        plain.then_some(name)
    }

    /// Whether its node is to remove what it holds: nobody may claim it any more, and nobody wants it kept.
    #[must_use]
    pub fn is_discarded(self) -> bool {
        self.is_ours()
            && self.0.str_at(&["spec", "persistentVolumeReclaimPolicy"]) == "Delete"
            && matches!(self.phase(), "Released" | "Failed")
    }

    /// Whether a claim may have it by what both are; whom it is for is another question.
    #[must_use]
    pub fn satisfies(self, claim: Claim<'_>) -> bool {
        let modes = self.0.list_at(&["spec", "accessModes"]);
        self.class() == claim.class().unwrap_or_default()
            && mode(self.0) == mode(claim.0)
            && self.capacity() >= claim.request()
            && claim.0.list_at(&["spec", "accessModes"]).iter().all(|wanted| modes.contains(wanted))
            && claim.selects(self.0)
    }
}

impl<'a> Claim<'a> {
    /// `status.phase`; `Pending` when nothing was said yet.
    #[must_use]
    pub fn phase(self) -> &'a str {
        match self.0.str_at(&["status", "phase"]) {
            "" => "Pending",
            phase => phase,
        }
    }

    /// The volume that it has or wants by name; `""` for none.
    #[must_use]
    pub fn volume_name(self) -> &'a str {
        self.0.str_at(&["spec", "volumeName"])
    }

    /// Whether it has its volume for good.
    #[must_use]
    pub fn is_bound(self) -> bool {
        !self.volume_name().is_empty() && self.0.annotation(BIND_COMPLETED).is_some()
    }

    /// Its class: `None` when it says nothing, `""` when it wants none.
    #[must_use]
    pub fn class(self) -> Option<&'a str> {
        let field = || self.0.at(&["spec", "storageClassName"]).and_then(Value::as_str);
        self.0.annotation(CLASS_BETA).or_else(field)
    }

    /// How much it asks for.
    #[must_use]
    pub fn request(self) -> Quantity {
        quantity(self.0.at(&["spec", "resources", "requests", "storage"]))
    }

    /// Whether it is of this access mode.
    #[must_use]
    pub fn has_mode(self, mode: &str) -> bool {
        self.0.list_at(&["spec", "accessModes"]).iter().any(|one| one.as_str() == Some(mode))
    }

    fn selects(self, volume: &Object) -> bool {
        match self.0.at(&["spec", "selector"]) {
            None | Some(Value::Null) => true,
            Some(raw) => Selector::from_object(raw).is_ok_and(|selector| selector.matches(|key| volume.label(key))),
        }
    }
}

impl<'a> Class<'a> {
    /// Who makes its volumes.
    #[must_use]
    pub fn provisioner(self) -> &'a str {
        self.0.str_at(&["provisioner"])
    }

    /// Whether its claims wait for their first pod.
    #[must_use]
    pub fn waits(self) -> bool {
        self.0.str_at(&["volumeBindingMode"]) == "WaitForFirstConsumer"
    }

    /// Whether claims that name no class get it.
    #[must_use]
    pub fn is_default(self) -> bool {
        [DEFAULT_CLASS, DEFAULT_CLASS_BETA].iter().any(|key| self.0.annotation(key) == Some("true"))
    }
}

/// The default among these classes: of several the newest, then the first by name.
#[must_use]
pub fn default_class<'a>(classes: impl Iterator<Item = &'a Object>) -> Option<&'a Object> {
    let made = |class: &Object| class.str_at(&["metadata", "creationTimestamp"]).to_owned();
    classes.filter(|class| Class(class).is_default()).max_by(|a, b| made(a).cmp(&made(b)).then_with(|| b.name().cmp(a.name())))
}

/// `Filesystem` or `Block`.
#[must_use]
pub fn mode(object: &Object) -> &str {
    match object.str_at(&["spec", "volumeMode"]) {
        "" => "Filesystem",
        mode => mode,
    }
}

/// A claim that a pod needs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NeededClaim<'a> {
    /// The claim's name, in the namespace of the pod.
    pub name: String,
    /// The volume that makes it, when the claim lives and dies with the pod.
    pub ephemeral: Option<&'a str>,
}

/// The claims that a pod needs, in the order of its volumes.
pub fn claims_of(pod: &Object) -> impl Iterator<Item = NeededClaim<'_>> {
    pod.list_at(&["spec", "volumes"]).iter().filter_map(move |volume| {
        let title = volume.get("name").and_then(Value::as_str)?;
        if volume.get("ephemeral").is_some_and(Value::is_object) {
            return Some(NeededClaim { name: format!("{}-{title}", pod.name()), ephemeral: Some(title) });
        }
        let name = volume.pointer("/persistentVolumeClaim/claimName")?.as_str()?;
        Some(NeededClaim { name: name.to_owned(), ephemeral: None })
    })
}

/// Whether a claim was made for this pod.
#[must_use]
pub fn was_made_for(claim: &Object, pod: &Object) -> bool {
    claim.controller().is_some_and(|owner| owner.uid == pod.uid().0)
}

/// `RWO,ROX`, as kubectl shows access modes.
#[must_use]
pub fn short_modes(modes: &[Value]) -> String {
    // In this order, each once, whatever the order in the object.
    let known = [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    let short = known.iter().filter(|(mode, _)| modes.iter().any(|one| one.as_str() == Some(mode))).map(|(_, short)| *short);
    short.collect::<Vec<_>>().join(",")
}

fn quantity(value: Option<&Value>) -> Quantity {
    value.and_then(Value::as_str).and_then(Quantity::parse).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: Value) -> Object {
        Object::from_value(value).unwrap()
    }

    #[test]
    fn a_volume_satisfies_a_claim_in_every_respect_or_not_at_all() {
        let volume = object(json!({"metadata": {"labels": {"disk": "ssd"}}, "spec": {"capacity": {"storage": "5Gi"},
            "accessModes": ["ReadWriteOnce", "ReadOnlyMany"], "storageClassName": "local", "volumeMode": "Filesystem"}}));
        for (change, fits) in [
            (json!({}), true),
            (json!({"resources": {"requests": {"storage": "5Gi"}}}), true),
            (json!({"resources": {"requests": {"storage": "5121Mi"}}}), false),
            (json!({"accessModes": ["ReadWriteOnce", "ReadOnlyMany"]}), true),
            (json!({"accessModes": ["ReadWriteMany"]}), false),
            (json!({"storageClassName": ""}), false),
            (json!({"volumeMode": "Block"}), false),
            (json!({"selector": {"matchLabels": {"disk": "ssd"}}}), true),
            (json!({"selector": {"matchLabels": {"disk": "sd"}}}), false),
        ] {
            let mut spec = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "local",
                "resources": {"requests": {"storage": "1Gi"}}});
            json_patch::merge(&mut spec, &change);
            let claim = object(json!({"spec": spec}));
            assert_eq!(Volume(&volume).satisfies(Claim(&claim)), fits, "{change}");
        }
    }

    #[test]
    fn a_pod_needs_its_claims_and_those_that_live_with_it() {
        let pod = object(json!({"metadata": {"name": "web"}, "spec": {"volumes": [{"name": "a", "emptyDir": {}},
            {"name": "b", "persistentVolumeClaim": {"claimName": "data"}}, {"name": "c", "ephemeral": {"volumeClaimTemplate": {}}}]}}));
        let needed: Vec<_> = claims_of(&pod).map(|claim| (claim.name, claim.ephemeral)).collect();
        assert_eq!(needed, [("data".to_owned(), None), ("web-c".to_owned(), Some("c"))]);
    }

    #[test]
    fn of_two_default_classes_the_newer_counts() {
        let class = |name: &str, made: &str, default: &str| {
            object(json!({"metadata": {"name": name, "creationTimestamp": made, "annotations": {DEFAULT_CLASS: default}}}))
        };
        let classes = [
            class("a", "2026-01-01T00:00:00Z", "true"),
            class("b", "2026-01-02T00:00:00Z", "true"),
            class("c", "2026-01-03T00:00:00Z", "false"),
        ];
        assert_eq!(default_class(classes.iter()).map(Object::name), Some("b"));
        assert_eq!(short_modes(&[json!("ReadWriteMany"), json!("ReadWriteOnce"), json!("ReadWriteMany")]), "RWO,RWX");
    }
}
