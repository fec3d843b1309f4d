//! The volumes of a pod's spec, checked.
//!
//! In:       one raw entry of `spec.volumes`.
//! Out:      [`VolumeSpec`]; what this node cannot give is a [`VolumeSource::Refused`] with the reason.

use serde_json::Value;

use super::{flag, list, text};
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
    /// Empty at first, gone with the pod; in memory, with a limit in bytes, when asked for.
    EmptyDir {
        /// `medium: Memory`, and `sizeLimit`.
        memory: Option<Option<u64>>,
    },
    /// A path of the host.
    HostPath {
        /// Absolute.
        path: String,
        /// `DirectoryOrCreate`, or no type.
        make: bool,
    },
    /// The entries of a config map as files.
    ConfigMap(Files),
    /// The entries of a secret as files.
    Secret(Files),
    /// Nothing that this node can give, and why.
    Refused(String),
}

/// Which entries become which files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// The config map or secret.
    pub name: String,
    /// It may be missing.
    pub optional: bool,
    /// Permission bits.
    pub mode: u32,
    /// Only these: key, path, permission bits. Empty: all.
    pub items: Vec<(String, String, Option<u32>)>,
}

/// Reads a volume.
pub(super) fn volume(raw: &Value) -> VolumeSpec {
    let name = text(raw, "name").to_owned();
    let kind =
        raw.as_object().into_iter().flat_map(serde_json::Map::iter).find(|(key, value)| *key != "name" && !value.is_null());
    let source = match kind {
        // Source: the API's default for a volume without source.
        None => VolumeSource::EmptyDir { memory: None },
        Some((kind, source)) => match kind.as_str() {
            "emptyDir" => VolumeSource::EmptyDir {
                memory: (text(source, "medium") == "Memory").then(|| {
                    let limit = source.get("sizeLimit").and_then(Value::as_str).and_then(Quantity::parse);
                    limit.and_then(|limit| u64::try_from(limit.units()).ok())
                }),
            },
            "hostPath" => VolumeSource::HostPath {
                path: text(source, "path").to_owned(),
                make: matches!(text(source, "type"), "" | "DirectoryOrCreate"),
            },
            "configMap" => VolumeSource::ConfigMap(files(source, "name")),
            "secret" => VolumeSource::Secret(files(source, "secretName")),
            other => VolumeSource::Refused(format!("volume \"{name}\": {other} volumes cannot be given by this node yet")),
        },
    };
    VolumeSpec { name, source }
}

fn files(source: &Value, name_key: &str) -> Files {
    let mode =
        |value: &Value, key: &str| value.get(key).and_then(Value::as_u64).and_then(|mode| u32::try_from(mode & 0o7777).ok());
    Files {
        name: text(source, name_key).to_owned(),
        optional: flag(source, "optional"),
        mode: mode(source, "defaultMode").unwrap_or(0o644),
        items: list(source, "items")
            .iter()
            .map(|item| (text(item, "key").to_owned(), text(item, "path").to_owned(), mode(item, "mode")))
            .collect(),
    }
}
