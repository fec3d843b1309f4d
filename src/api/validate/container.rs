//! Containers: names, images, ports, environment, mounts, security.
//!
//! Source:   `validateContainers`, `validateInitContainers`, `validateContainerCommon` of core.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::at::At;
use super::{Errors, FieldError, each, name, one_of, one_of_or_none, probe, resources, security};

const PULL_POLICIES: [&str; 3] = ["Always", "IfNotPresent", "Never"];
const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const ENV_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const RESOURCE_FIELDS: [&str; 6] =
    ["limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage", "requests.memory"];

/// What the containers of one pod share.
#[derive(Default)]
pub(super) struct Surroundings<'a> {
    /// Names of the pod's volumes.
    pub volumes: BTreeSet<&'a str>,
    /// Names of those that are a claim's: only they can be a raw block device.
    pub claims: BTreeSet<&'a str>,
    /// Whether the pod is on the node's own network.
    pub host_network: bool,
    /// How long its containers have to stop, in seconds.
    pub grace: i64,
}

/// All containers of a pod's `spec`.
pub(super) fn all(spec: &At<'_>, around: &Surroundings<'_>, out: &mut Errors) {
    let containers = spec.get("containers");
    let mut names = BTreeSet::new();
    let mut host_ports = BTreeSet::new();
    if containers.len() == 0 {
        out.push(containers.required());
    }
    for container in containers.items() {
        common(&container, around, &mut names, out);
        taken(&container, &mut host_ports, out);
        let policy = container.get("restartPolicy");
        if !policy.text().is_empty() {
            out.push(policy.forbidden("may not be set for non-init containers"));
        }
        lively(&container, around, out);
    }
    for container in spec.get("initContainers").items() {
        common(&container, around, &mut names, out);
        // One after the other: only within one container can host ports clash.
        taken(&container, &mut BTreeSet::new(), out);
        init(&container, around, out);
    }
    let targets: Vec<&str> = [&containers, &spec.get("initContainers")]
        .into_iter()
        .flat_map(|list| list.items().map(|container| container.get("name").text()).collect::<Vec<_>>())
        .collect();
    for container in spec.get("ephemeralContainers").items() {
        common(&container, around, &mut names, out);
        ephemeral(&container, &targets, out);
    }
}

/// What is not for a container that a person adds to a running pod. Source: `allowedEphemeralContainerFields` and
/// `validateEphemeralContainers` of core.
fn ephemeral(container: &At<'_>, targets: &[&str], out: &mut Errors) {
    for key in ["lifecycle", "livenessProbe", "ports", "readinessProbe", "resizePolicy", "restartPolicy", "startupProbe"] {
        let field = container.get(key);
        if field.is_set() && !field.value().as_array().is_some_and(Vec::is_empty) {
            out.push(field.forbidden("cannot be set for an Ephemeral Container"));
        }
    }
    let resources = container.get("resources");
    if resources.value().as_object().is_some_and(|map| !map.is_empty()) {
        out.push(resources.forbidden("cannot be set for an Ephemeral Container"));
    }
    let target = container.get("targetContainerName");
    if !target.text().is_empty() && !targets.contains(&target.text()) {
        out.push(FieldError::not_found(&target.path, target.text()));
    }
    for mount in container.get("volumeMounts").items() {
        for key in ["subPath", "subPathExpr"] {
            let field = mount.get(key);
            if !field.text().is_empty() {
                out.push(field.forbidden("cannot be set for an Ephemeral Container"));
            }
        }
    }
}

/// An init container either ends, or is a sidecar that is restarted always; only the latter has probes and hooks.
fn init(container: &At<'_>, around: &Surroundings<'_>, out: &mut Errors) {
    let policy = container.get("restartPolicy");
    if policy.is_set() {
        one_of_or_none(&policy, &["Always"], out);
        lively(container, around, out);
        return;
    }
    for key in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
        let field = container.get(key);
        if field.is_set() {
            out.push(field.forbidden("may not be set for init containers without restartPolicy=Always"));
        }
    }
}

/// What only a container that stays up has.
fn lively(container: &At<'_>, around: &Surroundings<'_>, out: &mut Errors) {
    probe::all(container, around.grace, out);
}

fn common<'a>(container: &At<'a>, around: &Surroundings<'_>, names: &mut BTreeSet<&'a str>, out: &mut Errors) {
    let title = container.get("name");
    if title.text().is_empty() {
        out.push(title.required());
    } else {
        each(&title, name::dns1123_label(title.text()), out);
        if !names.insert(title.text()) {
            out.push(title.duplicate());
        }
    }
    let image = container.get("image");
    if image.text().is_empty() {
        out.push(image.required());
    }
    one_of(&container.get("imagePullPolicy"), &PULL_POLICIES, out);
    one_of_or_none(&container.get("terminationMessagePolicy"), &["FallbackToLogsOnError", "File"], out);
    ports(container, around, out);
    environment(&container.get("env"), out);
    environment_from(&container.get("envFrom"), out);
    mounts(container, around, out);
    resources::requirements(&container.get("resources"), out);
    security::of_container(&container.get("securityContext"), out);
}

fn ports(container: &At<'_>, around: &Surroundings<'_>, out: &mut Errors) {
    let mut names = BTreeSet::new();
    for port in container.get("ports").items() {
        let title = port.get("name");
        if !title.text().is_empty() {
            let faults = name::port_name(title.text());
            if faults.is_empty() && !names.insert(title.text()) {
                out.push(title.duplicate());
            }
            each(&title, faults, out);
        }
        let number = port.get("containerPort");
        match number.int() {
            None | Some(0) => out.push(number.required()),
            Some(value) => each(&number, name::port_number(value), out),
        }
        let host = port.get("hostPort");
        if let Some(value) = host.int().filter(|value| *value != 0) {
            each(&host, name::port_number(value), out);
            if around.host_network && number.int() != Some(value) {
                out.push(number.invalid("must match `hostPort` when `hostNetwork` is true"));
            }
        }
        one_of(&port.get("protocol"), &PROTOCOLS, out);
        let address = port.get("hostIP");
        if !address.text().is_empty() && address.text().parse::<IpAddr>().is_err() {
            out.push(address.invalid("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"));
        }
    }
}

/// Two containers cannot have the same port of the node.
fn taken(container: &At<'_>, ports: &mut BTreeSet<String>, out: &mut Errors) {
    for port in container.get("ports").items() {
        let host = port.get("hostPort");
        if let Some(number) = host.int().filter(|number| *number != 0) {
            let key = format!("{}/{}/{number}", port.get("protocol").text(), port.get("hostIP").text());
            if !ports.insert(key.clone()) {
                out.push(FieldError::duplicate(&host.path, key));
            }
        }
    }
}

fn environment(at: &At<'_>, out: &mut Errors) {
    for variable in at.items() {
        let title = variable.get("name");
        if title.text().is_empty() {
            out.push(title.required());
        } else {
            each(&title, name::environment(title.text()), out);
        }
        let from = variable.get("valueFrom");
        if from.is_set() {
            source(&variable, &from, out);
        }
    }
}

fn source(variable: &At<'_>, from: &At<'_>, out: &mut Errors) {
    if !variable.get("value").text().is_empty() {
        out.push(FieldError::invalid(&from.path, "", "may not be specified when `value` is not empty"));
    }
    let sources: Vec<At<'_>> = ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef"]
        .iter()
        .map(|key| from.get(key))
        .filter(At::is_set)
        .collect();
    match sources.len() {
        0 => {
            let words = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`";
            out.push(FieldError::invalid(&from.path, "", words));
        }
        1 => {}
        _ => out.push(FieldError::invalid(&from.path, "", "may not have more than one field specified at a time")),
    }
    field_ref(&from.get("fieldRef"), &ENV_FIELDS, out);
    resource_ref(&from.get("resourceFieldRef"), false, out);
    for reference in [from.get("configMapKeyRef"), from.get("secretKeyRef")].into_iter().filter(At::is_set) {
        let (object, key) = (reference.get("name"), reference.get("key"));
        each(&object, name::dns1123_subdomain(object.text()), out);
        if key.text().is_empty() {
            out.push(key.required());
        } else {
            each(&key, name::config_key(key.text()), out);
        }
    }
}

/// A reference to a field of the pod: one of `fields`, or one label or annotation.
pub(super) fn field_ref(at: &At<'_>, fields: &[&str], out: &mut Errors) {
    if !at.is_set() {
        return;
    }
    let (version, path) = (at.get("apiVersion"), at.get("fieldPath"));
    if version.text().is_empty() {
        out.push(version.required());
        return;
    }
    if path.text().is_empty() {
        out.push(path.required());
        return;
    }
    let subscript = |map: &str| {
        path.text().strip_prefix(map).and_then(|rest| rest.strip_prefix("['")).and_then(|rest| rest.strip_suffix("']"))
    };
    let key = subscript("metadata.labels").or_else(|| subscript("metadata.annotations").filter(|key| !key.is_empty()));
    if let Some(key) = key {
        each(&path, name::qualified(&key.to_ascii_lowercase()), out);
    } else if version.text() != "v1" {
        out.push(path.invalid("error converting fieldPath: only v1 is known"));
    } else if !fields.contains(&path.text()) {
        out.push(FieldError::not_supported(&path.path, path.text(), fields));
    }
}

/// A reference to a resource of a container; volumes must name the container.
pub(super) fn resource_ref(at: &At<'_>, of_a_volume: bool, out: &mut Errors) {
    if !at.is_set() {
        return;
    }
    let (container, resource) = (at.get("containerName"), at.get("resource"));
    if of_a_volume && container.text().is_empty() {
        out.push(container.required());
    } else if resource.text().is_empty() {
        out.push(resource.required());
    } else if !RESOURCE_FIELDS.contains(&resource.text())
        && !resource.text().starts_with("limits.hugepages-")
        && !resource.text().starts_with("requests.hugepages-")
    {
        out.push(FieldError::not_supported(&resource.path, resource.text(), &RESOURCE_FIELDS));
    } else {
        divisor(&at.get("divisor"), resource.text(), out);
    }
}

/// The unit that a resource is told in: one, or one with a prefix. 0 and nothing stand for 1.
fn divisor(at: &At<'_>, resource: &str, out: &mut Errors) {
    if !at.is_set() {
        return;
    }
    let Some(amount) = resources::amount(at, out).filter(|amount| amount.milli != 0) else { return };
    let sizes = "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei";
    let (values, what) = match resource.split_once('.').map(|(_, resource)| resource) {
        Some("cpu") => ("1m and 1", "cpu"),
        Some("memory") => (sizes, "memory"),
        Some("ephemeral-storage") => (sizes, "local ephemeral storage"),
        _ => (sizes, "hugepages"),
    };
    let base = if at.text().ends_with('i') { 1024 } else { 1000 };
    let is_size = || (0..=6).any(|power| amount.milli == i128::pow(base, power) * 1000);
    let good = if what == "cpu" { matches!(amount.milli, 1 | 1000) } else { is_size() };
    if !good {
        let words = format!("only divisor's values {values} are supported with the {what} resource");
        out.push(FieldError::invalid(&at.path, resource, &words));
    }
}

fn environment_from(at: &At<'_>, out: &mut Errors) {
    for from in at.items() {
        let prefix = from.get("prefix");
        if !prefix.text().is_empty() {
            each(&prefix, name::environment(prefix.text()), out);
        }
        let sources: Vec<At<'_>> = ["configMapRef", "secretRef"].iter().map(|key| from.get(key)).filter(At::is_set).collect();
        for source in &sources {
            let object = source.get("name");
            if object.text().is_empty() {
                out.push(object.required());
            } else {
                each(&object, name::dns1123_subdomain(object.text()), out);
            }
        }
        match sources.len() {
            0 => out.push(FieldError::invalid(&from.path, "", "must specify one of: `configMapRef` or `secretRef`")),
            1 => {}
            _ => out.push(FieldError::invalid(&from.path, "", "may not have more than one field specified at a time")),
        }
    }
}

fn mounts(container: &At<'_>, around: &Surroundings<'_>, out: &mut Errors) {
    let mut paths = BTreeSet::new();
    for mount in container.get("volumeMounts").items() {
        let (volume, path) = (mount.get("name"), mount.get("mountPath"));
        if volume.text().is_empty() {
            out.push(volume.required());
        }
        if !around.volumes.contains(volume.text()) {
            out.push(FieldError::not_found(&volume.path, volume.text()));
        }
        if path.text().is_empty() {
            out.push(path.required());
        } else if !paths.insert(path.text()) {
            out.push(path.invalid("must be unique"));
        }
        let (sub, expression) = (mount.get("subPath"), mount.get("subPathExpr"));
        for field in [&sub, &expression] {
            each(field, name::local_path(field.text()), out);
        }
        if !sub.text().is_empty() && !expression.text().is_empty() {
            out.push(expression.invalid("subPathExpr and subPath are mutually exclusive"));
        }
        let propagation = mount.get("mountPropagation");
        one_of_or_none(&propagation, &["Bidirectional", "HostToContainer", "None"], out);
        if propagation.text() == "Bidirectional" && !container.get("securityContext").get("privileged").flag() {
            out.push(propagation.forbidden("Bidirectional mount propagation is available only to privileged containers"));
        }
        let deeply = mount.get("recursiveReadOnly");
        one_of_or_none(&deeply, &["Disabled", "Enabled", "IfPossible"], out);
        if matches!(deeply.text(), "Enabled" | "IfPossible") {
            if !mount.get("readOnly").flag() {
                out.push(deeply.forbidden("may only be specified when readOnly is true"));
            }
            if !matches!(propagation.text(), "" | "None") {
                out.push(deeply.forbidden("may only be specified when mountPropagation is None or not specified"));
            }
        }
    }
    for device in container.get("volumeDevices").items() {
        let (volume, path) = (device.get("name"), device.get("devicePath"));
        if !around.volumes.contains(volume.text()) {
            out.push(FieldError::not_found(&volume.path, volume.text()));
        } else if !around.claims.contains(volume.text()) {
            out.push(volume.invalid("can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"));
        }
        if path.text().is_empty() {
            out.push(path.required());
        } else if !paths.insert(path.text()) {
            out.push(path.invalid("must not already exist as a path in volumeMounts"));
        }
    }
}
