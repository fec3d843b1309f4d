//! The volumes of a pod's spec, and of a persistent volume, checked.
//!
//! In:       one raw entry of `spec.volumes`; one raw PersistentVolume.
//! Out:      [`VolumeSpec`]; what this node cannot give is a [`VolumeSource::Refused`] with the reason.

use serde_json::Value;

use super::{PullPolicy, flag, list, strings, text};
use crate::agent::pods::env::Kind;
use crate::api::Object;
use crate::api::core::volume::Volume;
use crate::api::quantity::Quantity;

/// One entry of `spec.volumes`.
#[derive(Clone, Debug, PartialEq)]
pub struct VolumeSpec {
    /// Its name.
    pub name: String,
    /// What it is.
    pub source: VolumeSource,
}

/// What a volume is.
#[derive(Clone, Debug, PartialEq)]
pub enum VolumeSource {
    /// Empty at first, gone with the pod.
    EmptyDir {
        /// `medium: Memory`.
        memory: bool,
        /// `sizeLimit` in bytes.
        limit: Option<u64>,
    },
    /// A path of the host.
    HostPath {
        /// Absolute.
        path: String,
        /// What has to be there.
        kind: HostPathType,
    },
    /// Files whose content the cluster knows: configMap, secret, projected, downwardAPI.
    Content(Content),
    /// What a claim is bound to.
    Claim {
        /// The claim's name.
        name: String,
        /// Nobody may write.
        read_only: bool,
    },
    /// A directory of another machine.
    Nfs(Nfs),
    /// The files of an image.
    Image {
        /// Its name.
        reference: String,
        /// When to fetch it.
        pull: PullPolicy,
    },
    /// An emptyDir of a medium that this node does not have: setting it up fails with these words.
    NoMedium(String),
    /// Nothing that this node can give, and why.
    Refused(String),
}

/// What has to be at a hostPath. Source: v1 HostPathType.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostPathType {
    /// Anything; the runtime makes a directory where there is nothing.
    #[default]
    Unset,
    /// A directory; made when there is nothing.
    DirectoryOrCreate,
    /// A directory.
    Directory,
    /// A file; made when there is nothing.
    FileOrCreate,
    /// A file.
    File,
    /// A Unix socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// Anything that exists: what a local persistent volume asks for.
    Exists,
    /// A directory for whoever the container is; made when there is nothing: a volume that was made for a claim.
    Provisioned,
}

/// A directory that an NFS server gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nfs {
    /// Host name or address.
    pub server: String,
    /// Absolute path on the server.
    pub path: String,
    /// Nobody may write.
    pub read_only: bool,
    /// `mountOptions` of a persistent volume.
    pub options: Vec<String>,
}

/// Files whose content the cluster knows. A later part's file replaces an earlier one's of the same path.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Content {
    /// Permission bits of files that ask for none of their own.
    pub mode: u32,
    /// Where the files come from.
    pub parts: Vec<Part>,
}

impl Content {
    /// The paths that the spec itself names.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().flat_map(|part| -> Box<dyn Iterator<Item = &str>> {
            match part {
                Part::Entries(_, files) => Box::new(files.items.iter().map(|(_, path, _)| path.as_str())),
                Part::Downward(facts) => Box::new(facts.iter().map(|fact| fact.path.as_str())),
            }
        })
    }
}

/// One source of files.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// The entries of a config map or a secret.
    Entries(Kind, Files),
    /// Facts about the pod.
    Downward(Vec<Fact>),
}

/// Which entries become which files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// The config map or secret.
    pub name: String,
    /// It, and each key, may be missing.
    pub optional: bool,
    /// Only these: key, path, permission bits. Empty: all.
    pub items: Vec<(String, String, Option<u32>)>,
}

/// One file with a fact about the pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Fact {
    /// Relative path.
    pub path: String,
    /// Permission bits of its own.
    pub mode: Option<u32>,
    /// `fieldRef.fieldPath`; empty when it is a resource.
    pub field: String,
    /// `resourceFieldRef`, raw.
    pub resource: Value,
}

/// Reads a volume of the pod of this name; what is asked for and not done goes to `ignored`.
pub(super) fn volume(pod: &str, raw: &Value, ignored: &mut Vec<String>) -> VolumeSpec {
    let name = text(raw, "name").to_owned();
    let kind =
        raw.as_object().into_iter().flat_map(serde_json::Map::iter).find(|(key, value)| *key != "name" && !value.is_null());
    let source = match kind {
        // Source: the API's default for a volume without source.
        None => VolumeSource::EmptyDir { memory: false, limit: None },
        Some((kind, source)) => match kind.as_str() {
            // Source: the emptyDir volume plug-in's words.
            "emptyDir" if !matches!(text(source, "medium"), "" | "Memory") => {
                VolumeSource::NoMedium(match text(source, "medium") {
                    huge if huge.starts_with("HugePages") => {
                        format!("storage medium \"{huge}\": huge pages cannot be given by this node")
                    }
                    other => format!("unknown storage medium \"{other}\""),
                })
            }
            "emptyDir" => VolumeSource::EmptyDir {
                memory: text(source, "medium") == "Memory",
                limit: source
                    .get("sizeLimit")
                    .and_then(super::amount)
                    .map(|limit: Quantity| u64::try_from(limit.units()).unwrap_or_default())
                    .filter(|&bytes| bytes > 0),
            },
            "hostPath" => host_path(source),
            "configMap" => content(source, vec![Part::Entries(Kind::ConfigMap, files(source, "name"))]),
            "secret" => content(source, vec![Part::Entries(Kind::Secret, files(source, "secretName"))]),
            "downwardAPI" => content(source, vec![Part::Downward(facts(source))]),
            "projected" => match projected(&name, source, ignored) {
                Ok(parts) => content(source, parts),
                Err(why) => VolumeSource::Refused(why),
            },
            "persistentVolumeClaim" => {
                VolumeSource::Claim { name: text(source, "claimName").to_owned(), read_only: flag(source, "readOnly") }
            }
            // The claim was made for the pod, under this name.
            "ephemeral" => VolumeSource::Claim { name: format!("{pod}-{name}"), read_only: false },
            "nfs" => VolumeSource::Nfs(nfs(source, Vec::new())),
            "image" => VolumeSource::Image {
                reference: text(source, "reference").to_owned(),
                pull: match text(source, "pullPolicy") {
                    "Always" => PullPolicy::Always,
                    "Never" => PullPolicy::Never,
                    _ => PullPolicy::IfNotPresent,
                },
            },
            other => VolumeSource::Refused(format!("volume \"{name}\": {other} volumes cannot be given by this node")),
        },
    };
    VolumeSpec { name, source }
}

/// What a bound PersistentVolume is on this node. `read_only` is the claim's.
#[must_use]
pub fn persistent(volume: &Object, read_only: bool) -> VolumeSource {
    let spec = volume.at(&["spec"]).unwrap_or(&Value::Null);
    let name = volume.name();
    if text(spec, "volumeMode") == "Block" {
        return VolumeSource::Refused(format!("persistent volume \"{name}\": raw block volumes cannot be given by this node"));
    }
    let given = |key: &str| spec.get(key).filter(|source| !source.is_null());
    if let Some(local) = given("local") {
        let path = text(local, "path");
        // Only a directory of the volume's own name is made; of any other the owner has to see to it that it is there.
        let own = Volume(volume).directory().is_some_and(|name| path.rsplit_once('/').is_some_and(|(_, last)| last == name));
        let kind = if own { HostPathType::Provisioned } else { HostPathType::Exists };
        return VolumeSource::HostPath { path: path.to_owned(), kind };
    }
    if let Some(path) = given("hostPath") {
        return host_path(path);
    }
    if let Some(source) = given("nfs") {
        let mut nfs = nfs(source, strings(spec, "mountOptions"));
        nfs.read_only |= read_only;
        return VolumeSource::Nfs(nfs);
    }
    let source = spec.as_object().into_iter().flatten().find(|(_, value)| value.is_object()).map_or("unknown", |(key, _)| key);
    VolumeSource::Refused(format!("persistent volume \"{name}\": {source} volumes cannot be given by this node"))
}

fn host_path(source: &Value) -> VolumeSource {
    let kind = match text(source, "type") {
        "DirectoryOrCreate" => HostPathType::DirectoryOrCreate,
        "Directory" => HostPathType::Directory,
        "FileOrCreate" => HostPathType::FileOrCreate,
        "File" => HostPathType::File,
        "Socket" => HostPathType::Socket,
        "CharDevice" => HostPathType::CharDevice,
        "BlockDevice" => HostPathType::BlockDevice,
        _ => HostPathType::Unset,
    };
    VolumeSource::HostPath { path: text(source, "path").to_owned(), kind }
}

fn nfs(source: &Value, options: Vec<String>) -> Nfs {
    Nfs {
        server: text(source, "server").to_owned(),
        path: text(source, "path").to_owned(),
        read_only: flag(source, "readOnly"),
        options,
    }
}

fn mode(value: &Value, key: &str) -> Option<u32> {
    value.get(key).and_then(Value::as_u64).and_then(|mode| u32::try_from(mode & 0o777).ok())
}

fn content(source: &Value, parts: Vec<Part>) -> VolumeSource {
    VolumeSource::Content(Content { mode: mode(source, "defaultMode").unwrap_or(0o644), parts })
}

/// The sources of a projected volume.
fn projected(volume: &str, source: &Value, ignored: &mut Vec<String>) -> Result<Vec<Part>, String> {
    // What another cluster's admission put into a manifest, and nobody asked for.
    let automounted = volume.starts_with("kube-api-access-");
    let mut parts = Vec::new();
    for one in list(source, "sources") {
        let kinds = one.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
        for (kind, source) in kinds {
            match kind.as_str() {
                "configMap" | "secret" => {
                    let kind = if kind == "secret" { Kind::Secret } else { Kind::ConfigMap };
                    let mut files = files(source, "name");
                    files.optional |= automounted;
                    parts.push(Part::Entries(kind, files));
                }
                "downwardAPI" => parts.push(Part::Downward(facts(source))),
                "serviceAccountToken" if automounted => ignored.push(format!(
                    "volume {volume}: serviceAccountToken is not given by this node yet: the volume has no token in it"
                )),
                other => return Err(format!("volume \"{volume}\": projected {other} cannot be given by this node yet")),
            }
        }
    }
    Ok(parts)
}

fn files(source: &Value, name_key: &str) -> Files {
    Files {
        name: text(source, name_key).to_owned(),
        optional: flag(source, "optional"),
        items: list(source, "items")
            .iter()
            .map(|item| (text(item, "key").to_owned(), text(item, "path").to_owned(), mode(item, "mode")))
            .collect(),
    }
}

fn facts(source: &Value) -> Vec<Fact> {
    let fact = |item: &Value| Fact {
        path: text(item, "path").to_owned(),
        mode: mode(item, "mode"),
        field: item.get("fieldRef").map(|reference| text(reference, "fieldPath")).unwrap_or_default().to_owned(),
        resource: item.get("resourceFieldRef").cloned().unwrap_or_default(),
    };
    list(source, "items").iter().map(fact).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn kinds_of_volumes_are_read() {
        let read = |source: Value| {
            let mut raw = source;
            raw["name"] = json!("v");
            volume("web", &raw, &mut Vec::new()).source
        };
        assert_eq!(read(json!({})), VolumeSource::EmptyDir { memory: false, limit: None });
        let medium = |medium: &str| read(json!({"emptyDir": {"medium": medium}}));
        assert_eq!(medium("Foo"), VolumeSource::NoMedium("unknown storage medium \"Foo\"".into()));
        assert!(matches!(medium("HugePages-2Mi"), VolumeSource::NoMedium(why) if why.contains("cannot be given")));
        assert_eq!(
            read(json!({"emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}})),
            VolumeSource::EmptyDir { memory: true, limit: Some(1 << 20) }
        );
        assert_eq!(
            read(json!({"hostPath": {"path": "/dev/gpiochip0", "type": "CharDevice"}})),
            VolumeSource::HostPath { path: "/dev/gpiochip0".into(), kind: HostPathType::CharDevice }
        );
        let VolumeSource::Content(content) = read(json!({"projected": {"defaultMode": 256, "sources": [
            {"configMap": {"name": "c", "optional": true}},
            {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
            {"secret": {"name": "s", "items": [{"key": "k", "path": "p/q", "mode": 511}]}},
        ]}})) else {
            panic!("projected")
        };
        assert_eq!((content.mode, content.parts.len()), (0o400, 3));
        assert!(matches!(&content.parts[2], Part::Entries(Kind::Secret, files) if files.items[0].2 == Some(0o777)));
        for (source, word) in [
            (json!({"csi": {}}), "csi volumes"),
            (json!({"projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}), "serviceAccountToken"),
            (json!({"projected": {"sources": [{"clusterTrustBundle": {"path": "x"}}]}}), "clusterTrustBundle"),
        ] {
            assert!(matches!(read(source), VolumeSource::Refused(why) if why.contains(word)), "{word}");
        }
    }

    #[test]
    fn an_automounted_token_that_nobody_asked_for_is_left_out_and_said() {
        let raw = json!({"name": "kube-api-access-x7k2p", "projected": {"sources": [
            {"serviceAccountToken": {"path": "token"}}, {"configMap": {"name": "kube-root-ca.crt"}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}}]}});
        let mut ignored = Vec::new();
        let VolumeSource::Content(content) = volume("web", &raw, &mut ignored).source else { panic!("content") };
        assert_eq!((content.parts.len(), ignored.len()), (2, 1));
        assert!(matches!(&content.parts[0], Part::Entries(Kind::ConfigMap, files) if files.optional));
    }

    #[test]
    fn a_directory_that_was_made_for_a_claim_is_made_on_the_node_and_no_other() {
        let ours = "bramble/local";
        for (path, by, kind) in [
            ("/v/home_db_01234567", ours, HostPathType::Provisioned),
            ("/v/home_db_01234567", "other", HostPathType::Exists),
            ("/etc", ours, HostPathType::Exists),
        ] {
            let volume = json!({"metadata": {"name": "pv", "uid": "0123456789", "annotations": {"pv.kubernetes.io/provisioned-by": by}},
                "spec": {"local": {"path": path}, "claimRef": {"namespace": "home", "name": "db", "uid": "u"}}});
            let read = persistent(&Object::from_value(volume).unwrap(), false);
            assert_eq!(read, VolumeSource::HostPath { path: path.into(), kind }, "{path} {by}");
        }
        let raw = json!({"name": "v", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}});
        let read = volume("web", &raw, &mut Vec::new()).source;
        assert_eq!(read, VolumeSource::Claim { name: "web-v".into(), read_only: false });
    }

    #[test]
    fn a_persistent_volume_is_what_its_source_says() {
        for (spec, source) in [
            (json!({"local": {"path": "/srv/a"}}), VolumeSource::HostPath { path: "/srv/a".into(), kind: HostPathType::Exists }),
            (
                json!({"hostPath": {"path": "/srv/b", "type": "DirectoryOrCreate"}}),
                VolumeSource::HostPath { path: "/srv/b".into(), kind: HostPathType::DirectoryOrCreate },
            ),
            (
                json!({"nfs": {"server": "nas", "path": "/x"}, "mountOptions": ["soft"]}),
                VolumeSource::Nfs(Nfs { server: "nas".into(), path: "/x".into(), read_only: true, options: vec!["soft".into()] }),
            ),
        ] {
            let volume = Object::from_value(json!({"metadata": {"name": "pv"}, "spec": spec})).unwrap();
            assert_eq!(persistent(&volume, true), source);
        }
        for spec in [json!({"csi": {"driver": "x"}}), json!({"volumeMode": "Block", "local": {"path": "/dev/sda"}}), json!(7)] {
            let volume = Object::from_value(json!({"spec": spec})).unwrap();
            assert!(matches!(persistent(&volume, false), VolumeSource::Refused(_)), "{spec}");
        }
    }
}
