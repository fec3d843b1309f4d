//! What the content volumes of a pod are to hold. Pure.
//!
//! In:       the pod's checked spec, the share's config maps and secrets, what the node has.
//! Out:      for each content volume all of its files, or what it waits for, in upstream's words.
//! Never:    writes (`disk/content.rs`) or says when (`pods/mount.rs`).
//! Source:   the kubelet's configmap, secret, downwardapi and projected volume plug-ins, and `fieldpath.FormatMap`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{layout, points};
use crate::agent::pods::env::{self, ConfigError, Kind, Sources};
use crate::agent::pods::resource_field::resource_field;
use crate::agent::pods::spec::{Content, Fact, Files, Part, PodSpec, VolumeSource};
use crate::agent::runtime::{ContentFile, ContentPlan};

/// Bits that fsGroup adds to a file that nobody writes: its group reads it. Source: upstream `SetVolumeOwnership`.
const GROUP_READS: u32 = 0o440;

/// Files by path.
type Tree = BTreeMap<String, ContentFile>;

/// The content of one volume.
///
/// # Errors
/// When something that it names is missing, or two of its files cannot both be there.
pub fn of_volume(spec: &PodSpec, volume: &str, content: &Content, sources: Sources<'_>) -> Result<ContentPlan, ConfigError> {
    let in_volume = |why| ConfigError::Volume { volume: volume.to_owned(), why: Box::new(why) };
    let mut files = Tree::new();
    for part in &content.parts {
        match part {
            Part::Entries(kind, wanted) => entries(spec, *kind, wanted, content.mode, sources, &mut files),
            Part::Downward(facts) => downward(spec, facts, content.mode, sources, &mut files),
        }
        .map_err(in_volume)?;
    }
    layout::check(files.keys()).map_err(|why| in_volume(ConfigError::Refused(why)))?;
    if spec.fs_group.is_some() {
        files.values_mut().for_each(|file| file.mode |= GROUP_READS);
    }
    let points = points::of_volume(spec, volume, &files);
    Ok(ContentPlan { volume: volume.to_owned(), files, group: spec.fs_group, points })
}

/// The content of all content volumes of a pod: those that are complete, and why the first of the others is not.
#[must_use]
pub fn of_pod(spec: &PodSpec, sources: Sources<'_>) -> (Vec<ContentPlan>, Option<ConfigError>) {
    let mut missing = None;
    let mut complete = Vec::new();
    for volume in spec.mounted_volumes() {
        let VolumeSource::Content(content) = &volume.source else { continue };
        match of_volume(spec, &volume.name, content, sources) {
            Ok(plan) => complete.push(plan),
            Err(error) => {
                missing.get_or_insert(error);
            }
        }
    }
    (complete, missing)
}

/// The files of a config map or secret.
fn entries(
    spec: &PodSpec,
    kind: Kind,
    wanted: &Files,
    mode: u32,
    sources: Sources<'_>,
    files: &mut Tree,
) -> Result<(), ConfigError> {
    let Some(object) = kind.find(sources.share, &spec.pod.namespace, &wanted.name) else {
        return if wanted.optional { Ok(()) } else { Err(kind.missing(&wanted.name)) };
    };
    let mut entries = kind.entries(object);
    if wanted.items.is_empty() {
        files.extend(entries.into_iter().map(|(path, content)| (path, ContentFile { mode, content })));
        return Ok(());
    }
    let mut copies: BTreeMap<&str, usize> = BTreeMap::new();
    for (key, ..) in &wanted.items {
        *copies.entry(key).or_default() += 1;
    }
    for (key, path, own) in &wanted.items {
        let left = copies.get_mut(key.as_str()).map_or(0, |left| std::mem::replace(left, left.saturating_sub(1)));
        // One key may become several files.
        let content = if left > 1 { entries.get(key).cloned() } else { entries.remove(key) };
        match content {
            Some(content) => {
                files.insert(path.clone(), ContentFile { mode: own.unwrap_or(mode), content });
            }
            None if wanted.optional => {}
            // Source: the configmap volume plug-in's words, which differ from an environment variable's.
            None => return Err(ConfigError::Refused(format!("references non-existent {} key: {key}", kind.word()))),
        }
    }
    Ok(())
}

/// Facts about the pod, as they are now.
fn downward(spec: &PodSpec, facts: &[Fact], mode: u32, sources: Sources<'_>, files: &mut Tree) -> Result<(), ConfigError> {
    for fact in facts {
        let value = match fact.field.as_str() {
            "metadata.labels" => lines(&spec.labels),
            "metadata.annotations" => lines(&spec.annotations),
            "" if fact.resource != Value::Null => resource_field(spec, None, &fact.resource, sources.node)?,
            path => env::field(spec, path, sources)?,
        };
        files.insert(fact.path.clone(), ContentFile { mode: fact.mode.unwrap_or(mode), content: value.into_bytes() });
    }
    Ok(())
}

/// `key="value"` a line, in order, without a line's end at the end.
fn lines(map: &BTreeMap<String, String>) -> String {
    let lines: Vec<String> = map.iter().map(|(key, value)| format!("{key}={}", quoted(value))).collect();
    lines.join("\n")
}

/// As Go's `%q` writes it.
fn quoted(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        let short = match c {
            '"' => Some("\\\""),
            '\\' => Some("\\\\"),
            '\n' => Some("\\n"),
            '\r' => Some("\\r"),
            '\t' => Some("\\t"),
            '\u{7}' => Some("\\a"),
            '\u{8}' => Some("\\b"),
            '\u{b}' => Some("\\v"),
            '\u{c}' => Some("\\f"),
            _ => None,
        };
        let code = u32::from(c);
        let plain = c == ' '
            || !(c.is_control()
                || c.is_whitespace()
                || matches!(code, 0xad | 0x200b..=0x200f | 0x202a..=0x202e | 0x2060..=0x206f | 0xe000..=0xf8ff | 0xfeff | 0xfff0..=0xfffb));
        // Writing to a String cannot fail.
        let _ = match short {
            Some(short) => out.write_str(short),
            None if plain => out.write_char(c),
            None if code < 0x80 => write!(out, "\\x{code:02x}"),
            None if code < 0x1_0000 => write!(out, "\\u{code:04x}"),
            None => write!(out, "\\U{code:08x}"),
        };
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::pods::resource_field::NodeAmounts;
    use crate::agent::pods::spec;
    use crate::api::Object;
    use crate::link::share::Share;
    use serde_json::json;
    use std::sync::Arc;

    fn share() -> Share {
        let object = |value: Value| Arc::new(Object::from_value(value).unwrap());
        Share {
            config_maps: [(
                "default/c".to_owned(),
                object(json!({"data": {"a": "1", "b.conf": "2"}, "binaryData": {"z": "AP8="}})),
            )]
            .into(),
            secrets: [("default/s".to_owned(), object(json!({"data": {"p": "aHVudGVyMg=="}})))].into(),
            ..Share::default()
        }
    }

    #[allow(clippy::needless_pass_by_value)] // reads better with json!
    fn plan(source: Value, security: Value) -> Result<ContentPlan, String> {
        let mut volume = source;
        volume["name"] = json!("v");
        let pod = json!({
            "metadata": {"name": "web", "namespace": "default", "uid": "u", "labels": {"b": "2", "app": "say \"hi\"\n"},
                         "annotations": {"k": "ü\u{7f}\u{200b}"}},
            "spec": {"volumes": [volume], "securityContext": security,
                     "containers": [{"name": "a", "resources": {"limits": {"memory": "64Mi"}}}]},
        });
        let spec = spec::read(&Object::from_value(pod).unwrap());
        let share = share();
        let node = NodeAmounts { cpu_milli: 4000, ..NodeAmounts::default() };
        let sources = Sources { share: &share, net: &Share::default(), node_name: "pi", host_ips: &[], pod_ips: "", node };
        let VolumeSource::Content(content) = &spec.volumes[0].source else { panic!("{:?}", spec.volumes[0]) };
        of_volume(&spec, "v", content, sources).map_err(|error| error.to_string())
    }

    fn files(source: Value) -> Vec<(String, u32, String)> {
        let plan = plan(source, Value::Null).unwrap();
        plan.files
            .into_iter()
            .map(|(path, file)| (path, file.mode, String::from_utf8_lossy(&file.content).into_owned()))
            .collect()
    }

    fn file(path: &str, mode: u32, content: &str) -> (String, u32, String) {
        (path.to_owned(), mode, content.to_owned())
    }

    #[test]
    fn each_kind_becomes_its_files() {
        assert_eq!(
            files(json!({"configMap": {"name": "c"}})),
            [file("a", 0o644, "1"), file("b.conf", 0o644, "2"), file("z", 0o644, "\0\u{fffd}")]
        );
        assert_eq!(
            files(json!({"configMap": {"name": "c", "defaultMode": 288, "items": [
                {"key": "a", "path": "x/y"}, {"key": "a", "path": "again", "mode": 511}]}})),
            [file("again", 0o777, "1"), file("x/y", 0o440, "1")]
        );
        assert_eq!(files(json!({"secret": {"secretName": "s", "defaultMode": 256}})), [file("p", 0o400, "hunter2")]);
        assert_eq!(files(json!({"configMap": {"name": "none", "optional": true}})), []);
        assert_eq!(files(json!({"configMap": {"name": "c", "optional": true, "items": [{"key": "no", "path": "no"}]}})), []);
        assert_eq!(
            files(json!({"downwardAPI": {"items": [
                {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
                {"path": "annotations", "fieldRef": {"fieldPath": "metadata.annotations"}},
                {"path": "one", "fieldRef": {"fieldPath": "metadata.labels['b']"}},
                {"path": "uid", "fieldRef": {"fieldPath": "metadata.uid"}, "mode": 256},
                {"path": "mib", "resourceFieldRef": {"containerName": "a", "resource": "limits.memory", "divisor": "1Mi"}},
                {"path": "cpus", "resourceFieldRef": {"containerName": "a", "resource": "limits.cpu"}}]}})),
            [
                file("annotations", 0o644, "k=\"ü\\x7f\\u200b\""),
                file("cpus", 0o644, "4"),
                file("labels", 0o644, "app=\"say \\\"hi\\\"\\n\"\nb=\"2\""),
                file("mib", 0o644, "64"),
                file("one", 0o644, "2"),
                file("uid", 0o400, "u"),
            ]
        );
        assert_eq!(
            files(json!({"projected": {"sources": [{"configMap": {"name": "c"}},
                {"secret": {"name": "s", "items": [{"key": "p", "path": "a"}]}}]}})),
            [file("a", 0o644, "hunter2"), file("b.conf", 0o644, "2"), file("z", 0o644, "\0\u{fffd}")],
            "the later source wins"
        );
    }

    #[test]
    fn what_is_missing_or_leads_out_is_said_in_upstreams_words() {
        for (source, words) in [
            (json!({"configMap": {"name": "no"}}), "configmap \"no\" not found"),
            (
                json!({"secret": {"secretName": "s", "items": [{"key": "q", "path": "q"}]}}),
                "references non-existent secret key: q",
            ),
            (json!({"configMap": {"name": "c", "items": [{"key": "a", "path": "../../etc/passwd"}]}}), "must not contain '..'"),
            (json!({"configMap": {"name": "c", "items": [{"key": "a", "path": "/etc/passwd"}]}}), "must be a relative path"),
            (
                json!({"configMap": {"name": "c", "items": [{"key": "a", "path": "x"}, {"key": "a", "path": "x/y"}]}}),
                "both a file and a directory",
            ),
            (json!({"downwardAPI": {"items": [{"path": "p", "fieldRef": {"fieldPath": "spec.no"}}]}}), "unsupported fieldPath"),
        ] {
            let told = plan(source, Value::Null).unwrap_err();
            assert!(told.starts_with("MountVolume.SetUp failed for volume \"v\" : ") && told.contains(words), "{told}");
        }
    }

    #[test]
    fn fs_group_owns_the_files_and_may_read_them() {
        let plan = plan(json!({"secret": {"secretName": "s", "defaultMode": 256}}), json!({"fsGroup": 2000})).unwrap();
        assert_eq!((plan.group, plan.files["p"].mode), (Some(2000), 0o440));
    }
}
