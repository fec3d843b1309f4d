//! Volumes of a pod.
//!
//! Source:   `ValidateVolumes` and the rules of each source, of core.

use std::collections::BTreeSet;

use super::at::At;
use super::{Errors, FieldError, container, each, name, one_of_or_none, resources, storage};

const FILE_FIELDS: [&str; 5] = ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
const HOST_PATH_TYPES: [&str; 7] =
    ["BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];

/// All volumes; answers their names.
pub(super) fn all<'a>(volumes: &At<'a>, out: &mut Errors) -> BTreeSet<&'a str> {
    let mut names = BTreeSet::new();
    for volume in volumes.items() {
        let title = volume.get("name");
        if title.text().is_empty() {
            out.push(title.required());
        } else {
            each(&title, name::dns1123_label(title.text()), out);
            if !names.insert(title.text()) {
                out.push(title.duplicate());
            }
        }
        source(&volume, out);
    }
    names
}

/// The names of those that are a claim's, or become one.
pub(super) fn claims<'a>(volumes: &At<'a>) -> BTreeSet<&'a str> {
    let is_claim = |volume: &At<'_>| volume.get("persistentVolumeClaim").is_set() || volume.get("ephemeral").is_set();
    volumes.items().filter(is_claim).map(|volume| volume.get("name").text()).collect()
}

fn source(volume: &At<'_>, out: &mut Errors) {
    let sources: Vec<(&str, At<'_>)> = volume
        .value()
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, value)| *key != "name" && !value.is_null())
        .map(|(key, _)| (key.as_str(), volume.get(key)))
        .collect();
    let Some(((kind, first), more)) = sources.split_first() else {
        out.push(FieldError::required(&volume.path, "must specify a volume type"));
        return;
    };
    for (_, source) in more {
        out.push(source.forbidden("may not specify more than 1 volume type"));
    }
    match *kind {
        "configMap" => config_map(first, out),
        "secret" => {
            needed(&first.get("secretName"), out);
            files(first, out);
        }
        "downwardAPI" => {
            mode(&first.get("defaultMode"), out);
            downward(first, out);
        }
        "projected" => projected(first, out),
        "emptyDir" => {
            let limit = first.get("sizeLimit");
            if limit.is_set() {
                resources::amount(&limit, out);
            }
        }
        "hostPath" => {
            let path = first.get("path");
            needed(&path, out);
            each(&path, name::no_backsteps(path.text()), out);
            one_of_or_none(&first.get("type"), &HOST_PATH_TYPES, out);
        }
        "persistentVolumeClaim" => needed(&first.get("claimName"), out),
        "nfs" => {
            let path = first.get("path");
            needed(&first.get("server"), out);
            needed(&path, out);
            if !path.text().is_empty() && !path.text().starts_with('/') {
                out.push(path.invalid("must be an absolute path"));
            }
        }
        "ephemeral" => {
            let template = first.get("volumeClaimTemplate");
            if template.is_set() {
                storage::claim_spec(&template.get("spec"), out);
            } else {
                out.push(template.required());
            }
        }
        "image" => {
            one_of_or_none(&first.get("pullPolicy"), &["Always", "IfNotPresent", "Never"], out);
            needed(&first.get("reference"), out);
        }
        "csi" => needed(&first.get("driver"), out),
        _ => {}
    }
}

fn needed(field: &At<'_>, out: &mut Errors) {
    if field.text().is_empty() {
        out.push(field.required());
    }
}

fn config_map(source: &At<'_>, out: &mut Errors) {
    needed(&source.get("name"), out);
    files(source, out);
}

/// The files that a config map or secret becomes.
fn files(source: &At<'_>, out: &mut Errors) {
    mode(&source.get("defaultMode"), out);
    for item in source.get("items").items() {
        needed(&item.get("key"), out);
        file_path(&item.get("path"), out);
        mode(&item.get("mode"), out);
    }
}

fn file_path(path: &At<'_>, out: &mut Errors) {
    needed(path, out);
    each(path, name::local_path(path.text()), out);
}

fn mode(field: &At<'_>, out: &mut Errors) {
    if field.int().is_some_and(|mode| !(0..=0o777).contains(&mode)) {
        out.push(field.invalid("must be a number between 0 and 0777 (octal), both inclusive"));
    }
}

fn downward(source: &At<'_>, out: &mut Errors) {
    for item in source.get("items").items() {
        file_path(&item.get("path"), out);
        mode(&item.get("mode"), out);
        let (field, resource) = (item.get("fieldRef"), item.get("resourceFieldRef"));
        match (field.is_set(), resource.is_set()) {
            (true, true) => out.push(item.invalid("fieldRef and resourceFieldRef can not be specified simultaneously")),
            (false, false) => out.push(FieldError::required(&item.path, "one of fieldRef and resourceFieldRef is required")),
            _ => {}
        }
        container::field_ref(&field, &FILE_FIELDS, out);
        container::resource_ref(&resource, true, out);
    }
}

fn projected(source: &At<'_>, out: &mut Errors) {
    mode(&source.get("defaultMode"), out);
    let mut paths = BTreeSet::new();
    for part in source.get("sources").items() {
        let items = ["secret", "configMap", "downwardAPI"].map(|key| part.get(key).get("items"));
        let token = part.get("serviceAccountToken").get("path");
        let named = items.iter().flat_map(At::items).map(|item| item.get("path")).chain([token]);
        for path in named.filter(|path| !path.text().is_empty()) {
            if !paths.insert(path.text()) {
                out.push(FieldError::invalid(&source.path, path.text(), "conflicting duplicate paths"));
            }
        }
        let mut chosen = 0;
        for key in ["secret", "configMap", "downwardAPI", "serviceAccountToken", "clusterTrustBundle"] {
            let projection = part.get(key);
            if !projection.is_set() {
                continue;
            }
            chosen += 1;
            if chosen > 1 {
                out.push(projection.forbidden("may not specify more than 1 volume type per source"));
                continue;
            }
            match key {
                "secret" | "configMap" => {
                    needed(&projection.get("name"), out);
                    files(&projection, out);
                }
                "downwardAPI" => downward(&projection, out),
                "serviceAccountToken" => {
                    file_path(&projection.get("path"), out);
                    let seconds = projection.get("expirationSeconds");
                    if seconds.int().is_some_and(|seconds| seconds < 600) {
                        out.push(seconds.invalid("may not specify a duration less than 10 minutes"));
                    }
                }
                _ => {}
            }
        }
        if chosen == 0 {
            out.push(FieldError::required(&part.path, "must specify at least one volume type per source"));
        }
    }
}
