//! Environment variables: plain values, fields of the pod, config maps and secrets, and `$(VAR)`.
//!
//! Source: the kubelet's makeEnvironmentVariables and the `expansion` package: a variable may use those before it, `$$` is
//! a dollar, what is not known stays as it is written.

use std::collections::BTreeMap;

use base64::Engine as _;
use serde_json::Value;

use super::resource_field::{NodeAmounts, resource_field};
use super::service_env;
use super::spec::{ContainerSpec, PodSpec, flag, text};
use crate::agent::runtime::Note;
use crate::api::Object;
use crate::api::validate::name as names;
use crate::link::share::Share;

/// What a container's environment is made from.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// Config maps and secrets.
    pub share: &'a Share,
    /// Services.
    pub net: &'a Share,
    /// `spec.nodeName`.
    pub node_name: &'a str,
    /// `status.hostIPs`, the main one first.
    pub host_ips: &'a [String],
    /// `status.podIPs` as a variable has them: the main one first, commas between.
    pub pod_ips: &'a str,
    /// What the node has.
    pub node: NodeAmounts,
}

/// Why a container's configuration is not complete; the words are upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A config map or secret is not in the share.
    #[error("{kind} \"{name}\" not found")]
    Missing {
        /// `configmap` or `secret`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// It is, and lacks a key.
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    MissingKey {
        /// `ConfigMap` or `Secret`.
        kind: &'static str,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The key.
        key: String,
    },
    /// This node cannot give it.
    #[error("{0}")]
    Refused(String),
    /// A volume's content is not complete.
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : {why}")]
    Volume {
        /// Which.
        volume: String,
        /// Why.
        why: Box<ConfigError>,
    },
}

/// A config map or a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Values are text, or base64 under `binaryData`.
    ConfigMap,
    /// Values are base64.
    Secret,
}

impl Kind {
    /// The object of that name, if the share has it.
    #[must_use]
    pub fn find<'a>(self, share: &'a Share, namespace: &str, name: &str) -> Option<&'a Object> {
        let key = format!("{namespace}/{name}");
        match self {
            Kind::ConfigMap => share.config_maps.get(&key),
            Kind::Secret => share.secrets.get(&key),
        }
        .map(|object| &**object)
    }

    /// All entries, decoded.
    #[must_use]
    pub fn entries(self, object: &Object) -> BTreeMap<String, Vec<u8>> {
        let decoded = |(key, value): (&str, &str)| {
            // What is no base64 cannot have passed the master's validation.
            Some((key.to_owned(), base64::engine::general_purpose::STANDARD.decode(value).ok()?))
        };
        match self {
            Kind::Secret => object.strings_at(&["data"]).filter_map(decoded).collect(),
            Kind::ConfigMap => object
                .strings_at(&["binaryData"])
                .filter_map(decoded)
                .chain(object.strings_at(&["data"]).map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec())))
                .collect(),
        }
    }

    /// The entries that a variable may have. Source: of a config map the kubelet takes `data` only.
    fn texts(self, object: &Object) -> BTreeMap<String, Vec<u8>> {
        match self {
            Kind::Secret => self.entries(object),
            Kind::ConfigMap => {
                object.strings_at(&["data"]).map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec())).collect()
            }
        }
    }

    /// As upstream writes it in a sentence.
    #[must_use]
    pub fn word(self) -> &'static str {
        if self == Kind::ConfigMap { "configmap" } else { "secret" }
    }

    /// As upstream writes it when the object is missing.
    #[must_use]
    pub fn missing(self, name: &str) -> ConfigError {
        ConfigError::Missing { kind: self.word(), name: name.to_owned() }
    }

    /// As upstream writes it when a key is missing.
    #[must_use]
    pub fn missing_key(self, namespace: &str, name: &str, key: &str) -> ConfigError {
        ConfigError::MissingKey {
            kind: if self == Kind::ConfigMap { "ConfigMap" } else { "Secret" },
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            key: key.to_owned(),
        }
    }
}

/// A container's environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// In order, each name once.
    pub variables: Vec<(String, String)>,
    /// What of `envFrom` cannot be a variable's name.
    pub notes: Vec<Note>,
}

/// The container's environment.
///
/// # Errors
/// When a source is missing and not optional, or is one that this node does not know.
pub fn environment(spec: &PodSpec, container: &ContainerSpec, sources: Sources<'_>) -> Result<Environment, ConfigError> {
    let mut env: Vec<(String, String)> = Vec::new();
    let mut notes = Vec::new();
    // Of services a value may speak, and they give way to everything else.
    let services = service_env::variables(sources.net, &spec.pod.namespace, spec.service_links);
    for from in &container.env_from {
        let prefix = text(from, "prefix");
        for (kind, key) in [(Kind::ConfigMap, "configMapRef"), (Kind::Secret, "secretRef")] {
            let Some(reference) = from.get(key) else { continue };
            let name = text(reference, "name");
            match kind.find(sources.share, &spec.pod.namespace, name) {
                Some(object) => {
                    let mut skipped = Vec::new();
                    for (key, value) in kind.texts(object) {
                        let variable = format!("{prefix}{key}");
                        if names::environment(&variable).is_empty() {
                            let value = readable(value, &variable)?;
                            put(&mut env, variable, value);
                        } else {
                            skipped.push(variable);
                        }
                    }
                    if !skipped.is_empty() {
                        notes.push(skipped_names(&skipped, kind, &spec.pod.namespace, name));
                    }
                }
                None if flag(reference, "optional") => {}
                None => return Err(kind.missing(name)),
            }
        }
    }
    for entry in &container.env {
        let value = match entry.get("valueFrom").filter(|from| !from.is_null()) {
            None => {
                Some(expand_by(text(entry, "value"), |name| find(&env, name).or_else(|| Some(services.get(name)?))).into_bytes())
            }
            Some(from) => value_from(spec, container, from, sources)?,
        };
        if let Some(value) = value {
            let name = text(entry, "name");
            put(&mut env, name.to_owned(), readable(value, name)?);
        }
    }
    env.extend(services.into_iter().filter(|(name, _)| find(&env, name).is_none()).collect::<Vec<_>>());
    Ok(Environment { variables: env, notes })
}

/// In upstream's words.
fn skipped_names(keys: &[String], kind: Kind, namespace: &str, name: &str) -> Note {
    let kind = if kind == Kind::ConfigMap { "configMap" } else { "secret" };
    let keys = keys.join(", ");
    Note {
        reason: "InvalidEnvironmentVariableNames",
        message: format!(
            "Keys [{keys}] from the EnvFrom {kind} {namespace}/{name} were skipped since they are considered invalid environment variable names."
        ),
    }
}

/// A later value replaces an earlier one of the same name, in the later one's place.
fn put(env: &mut Vec<(String, String)>, name: String, value: String) {
    env.retain(|(other, _)| *other != name);
    env.push((name, value));
}

/// A value as a process can be given it.
fn readable(value: Vec<u8>, variable: &str) -> Result<String, ConfigError> {
    let refused = |what: &str| {
        ConfigError::Refused(format!(
            "environment variable {variable}: its value {what}, which no variable can hold; mount it as a file of a volume instead"
        ))
    };
    let value = String::from_utf8(value).map_err(|_| refused("is not UTF-8 text"))?;
    if value.contains('\0') { Err(refused("has a NUL byte in it")) } else { Ok(value) }
}

/// The value; `None` when it is optional and missing.
fn value_from(
    spec: &PodSpec,
    container: &ContainerSpec,
    from: &Value,
    sources: Sources<'_>,
) -> Result<Option<Vec<u8>>, ConfigError> {
    if let Some(reference) = from.get("resourceFieldRef") {
        return resource_field(spec, Some(container), reference, sources.node).map(|value| Some(value.into_bytes()));
    }
    if let Some(reference) = from.get("fieldRef") {
        return field(spec, text(reference, "fieldPath"), sources).map(|value| Some(value.into_bytes()));
    }
    for (kind, key) in [(Kind::ConfigMap, "configMapKeyRef"), (Kind::Secret, "secretKeyRef")] {
        let Some(reference) = from.get(key) else { continue };
        let (name, entry, optional) = (text(reference, "name"), text(reference, "key"), flag(reference, "optional"));
        let Some(object) = kind.find(sources.share, &spec.pod.namespace, name) else {
            return if optional { Ok(None) } else { Err(kind.missing(name)) };
        };
        return match kind.texts(object).remove(entry) {
            Some(value) => Ok(Some(value)),
            None if optional => Ok(None),
            None => Err(kind.missing_key(&spec.pod.namespace, name, entry)),
        };
    }
    let kind = from.as_object().and_then(|from| from.keys().next()).map(String::as_str).unwrap_or_default();
    Err(ConfigError::Refused(format!("env valueFrom.{kind} cannot be given by this node yet")))
}

/// The value of a `fieldRef`.
///
/// # Errors
/// When it is none that a variable may have.
pub fn field(spec: &PodSpec, path: &str, sources: Sources<'_>) -> Result<String, ConfigError> {
    let subscript = |map: &BTreeMap<String, String>, prefix: &str| {
        let key = path.strip_prefix(prefix)?.strip_prefix("['")?.strip_suffix("']")?;
        Some(map.get(key).cloned().unwrap_or_default())
    };
    let value = match path {
        "metadata.name" => spec.pod.name.clone(),
        "metadata.namespace" => spec.pod.namespace.clone(),
        "metadata.uid" => spec.pod.uid.0.clone(),
        "spec.nodeName" => sources.node_name.to_owned(),
        "spec.serviceAccountName" => spec.service_account.clone(),
        "status.hostIP" => sources.host_ips.first().cloned().unwrap_or_default(),
        "status.hostIPs" => sources.host_ips.join(","),
        "status.podIP" => sources.pod_ips.split(',').next().unwrap_or_default().to_owned(),
        "status.podIPs" => sources.pod_ips.to_owned(),
        _ => match subscript(&spec.labels, "metadata.labels").or_else(|| subscript(&spec.annotations, "metadata.annotations")) {
            Some(value) => value,
            None => return Err(ConfigError::Refused(format!("unsupported fieldPath: {path}"))),
        },
    };
    Ok(value)
}

fn find<'a>(env: &'a [(String, String)], name: &str) -> Option<&'a str> {
    env.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// Replaces `$(VAR)` by its value.
#[must_use]
pub fn expand(text: &str, env: &[(String, String)]) -> String {
    expand_by(text, |name| find(env, name))
}

fn expand_by<'a>(text: &str, value_of: impl Fn(&str) -> Option<&'a str>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(escaped) = after.strip_prefix('$') {
            out.push('$');
            rest = escaped;
            continue;
        }
        let variable = after.strip_prefix('(').and_then(|inner| inner.split_once(')'));
        match variable.and_then(|(name, tail)| Some((value_of(name)?, tail))) {
            Some((value, tail)) => {
                out.push_str(value);
                rest = tail;
            }
            None => {
                out.push('$');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::Arc;

    #[test]
    fn dollars_expand_as_upstream_has_it() {
        let env = [("A".to_owned(), "1".to_owned()), ("B".to_owned(), "$(A)".to_owned())];
        for (text, expanded) in [
            ("$(A)", "1"),
            ("x$(A)y$(A)", "x1y1"),
            ("$(B)", "$(A)"),
            ("$$(A)", "$(A)"),
            ("$(NONE)", "$(NONE)"),
            ("$(A", "$(A"),
            ("$A $", "$A $"),
            ("$$$(A)", "$1"),
            ("$()", "$()"),
        ] {
            assert_eq!(expand(text, &env), expanded, "{text}");
        }
    }

    fn share() -> Share {
        let object = |value: Value| Arc::new(Object::from_value(value).unwrap());
        Share {
            config_maps: [("default/c".to_owned(), object(json!({"data": {"k": "v", "z": "9"}, "binaryData": {"b": "dg=="}})))]
                .into(),
            secrets: [
                ("default/s".to_owned(), object(json!({"data": {"p": "aHVudGVyMg=="}}))),
                ("default/raw".to_owned(), object(json!({"data": {"nul": "YQBi", "odd": "/w=="}}))),
            ]
            .into(),
            ..Share::default()
        }
    }

    fn net() -> Share {
        let web = json!({"metadata": {"name": "web", "namespace": "default"}, "spec": {"clusterIP": "10.96.0.9", "ports": [{"port": 80}]}});
        Share { services: [("default/web".to_owned(), Arc::new(Object::from_value(web).unwrap()))].into(), ..Share::default() }
    }

    /// Without what it is told of services.
    fn env(container: &Value) -> Result<Vec<(String, String)>, ConfigError> {
        let service = |(name, _): &(String, String)| name.starts_with("WEB_");
        env_with(container).map(|all| all.into_iter().filter(|one| !service(one)).collect())
    }

    fn env_with(container: &Value) -> Result<Vec<(String, String)>, ConfigError> {
        let pod = json!({
            "metadata": {"name": "web", "namespace": "default", "uid": "u", "labels": {"app": "w"}},
            "spec": {"containers": [container]},
        });
        let spec = super::super::spec::read(&Object::from_value(pod).unwrap());
        let share = share();
        let host_ips = ["10.0.0.1".to_owned(), "fd00::1".to_owned()];
        let node = NodeAmounts { cpu_milli: 3900, ..NodeAmounts::default() };
        let net = net();
        let sources =
            Sources { share: &share, net: &net, node_name: "pi", host_ips: &host_ips, pod_ips: "172.20.0.2,fd00::2", node };
        environment(&spec, &spec.containers[0], sources).map(|env| env.variables)
    }

    #[test]
    fn every_source_gives_its_value() {
        let from = |from: Value| json!({"name": "X", "valueFrom": from});
        for (entry, value) in [
            (json!({"name": "X", "value": "1"}), "1"),
            (from(json!({"fieldRef": {"fieldPath": "metadata.labels['app']"}})), "w"),
            (from(json!({"fieldRef": {"fieldPath": "metadata.name"}})), "web"),
            (from(json!({"fieldRef": {"fieldPath": "spec.nodeName"}})), "pi"),
            (from(json!({"fieldRef": {"fieldPath": "status.podIP"}})), "172.20.0.2"),
            (from(json!({"fieldRef": {"fieldPath": "status.podIPs"}})), "172.20.0.2,fd00::2"),
            (from(json!({"fieldRef": {"fieldPath": "status.hostIP"}})), "10.0.0.1"),
            (from(json!({"fieldRef": {"fieldPath": "status.hostIPs"}})), "10.0.0.1,fd00::1"),
            (from(json!({"resourceFieldRef": {"resource": "limits.cpu"}})), "4"),
            (from(json!({"configMapKeyRef": {"name": "c", "key": "k"}})), "v"),
            (from(json!({"secretKeyRef": {"name": "s", "key": "p"}})), "hunter2"),
        ] {
            assert_eq!(env(&json!({"env": [entry]})), Ok(vec![("X".into(), value.into())]), "{entry}");
        }
        let all = env(
            &json!({"envFrom": [{"prefix": "P_", "configMapRef": {"name": "c"}}], "env": [{"name": "Y", "value": "$(P_k)!"}]}),
        );
        assert_eq!(
            all.unwrap(),
            [("P_k", "v"), ("P_z", "9"), ("Y", "v!")].map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
    }

    #[test]
    fn services_give_way_to_what_the_pod_says_and_its_values_may_speak_of_them() {
        let all = env_with(&json!({"env": [{"name": "WEB_SERVICE_PORT", "value": "81"},
            {"name": "URL", "value": "http://$(WEB_SERVICE_HOST):$(WEB_SERVICE_PORT)"}]}))
        .unwrap();
        assert_eq!(all[0], ("WEB_SERVICE_PORT".to_owned(), "81".to_owned()));
        assert_eq!(all[1], ("URL".to_owned(), "http://10.96.0.9:81".to_owned()));
        assert_eq!(all.iter().filter(|(name, _)| name == "WEB_SERVICE_PORT").count(), 1);
        assert!(all[2..].contains(&("WEB_PORT".to_owned(), "tcp://10.96.0.9:80".to_owned())), "{all:?}");
    }

    #[test]
    fn what_cannot_be_a_variables_name_is_skipped_and_said() {
        let pod = json!({
            "metadata": {"name": "web", "namespace": "default", "uid": "u"},
            "spec": {"containers": [{"name": "a", "envFrom": [{"prefix": "P_", "configMapRef": {"name": "odd"}}]}]},
        });
        let spec = super::super::spec::read(&Object::from_value(pod).unwrap());
        let odd = Object::from_value(json!({"data": {"a=b": "1", "fine": "2", "\u{fc}": "3"}})).unwrap();
        let share = Share { config_maps: [("default/odd".to_owned(), Arc::new(odd))].into(), ..Share::default() };
        let sources = Sources {
            share: &share,
            net: &Share::default(),
            node_name: "pi",
            host_ips: &[],
            pod_ips: "172.20.0.2",
            node: NodeAmounts::default(),
        };
        let env = environment(&spec, &spec.containers[0], sources).unwrap();
        assert_eq!(env.variables, [("P_fine".to_owned(), "2".to_owned())]);
        assert_eq!(env.notes[0].reason, "InvalidEnvironmentVariableNames");
        assert_eq!(
            env.notes[0].message,
            "Keys [P_a=b, P_\u{fc}] from the EnvFrom configMap default/odd were skipped since they are considered invalid environment variable names."
        );
    }

    #[test]
    fn a_missing_source_is_an_error_in_upstreams_words_unless_optional() {
        let from = |from: Value| json!({"env": [{"name": "X", "valueFrom": from}]});
        for (container, words) in [
            (from(json!({"configMapKeyRef": {"name": "no", "key": "k"}})), "configmap \"no\" not found"),
            (from(json!({"secretKeyRef": {"name": "s", "key": "q"}})), "couldn't find key q in Secret default/s"),
            (json!({"envFrom": [{"secretRef": {"name": "no"}}]}), "secret \"no\" not found"),
            (from(json!({"configMapKeyRef": {"name": "c", "key": "b"}})), "couldn't find key b in ConfigMap default/c"),
            (
                from(json!({"secretKeyRef": {"name": "raw", "key": "nul"}})),
                "environment variable X: its value has a NUL byte in it, which no variable can hold; mount it as a file of a volume instead",
            ),
            (
                from(json!({"secretKeyRef": {"name": "raw", "key": "odd"}})),
                "environment variable X: its value is not UTF-8 text, which no variable can hold; mount it as a file of a volume instead",
            ),
            (
                json!({"envFrom": [{"secretRef": {"name": "raw"}}]}),
                "environment variable nul: its value has a NUL byte in it, which no variable can hold; mount it as a file of a volume instead",
            ),
            (
                json!({"env": [{"name": "N", "value": "a\u{0}b"}]}),
                "environment variable N: its value has a NUL byte in it, which no variable can hold; mount it as a file of a volume instead",
            ),
            (from(json!({"fieldRef": {"fieldPath": "spec.none"}})), "unsupported fieldPath: spec.none"),
        ] {
            assert_eq!(env(&container).unwrap_err().to_string(), words);
        }
        assert_eq!(env(&from(json!({"configMapKeyRef": {"name": "no", "key": "k", "optional": true}}))), Ok(vec![]));
    }
}
