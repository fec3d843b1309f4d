//! What the server serves, told to clients: made from the registry.
//!
//! Out:      the plain documents of `/api`, `/apis` and below, and the aggregated ones that save a cold `kubectl` a dozen
//!           requests; an ETag for both, so that a warm one gets 304.

use serde_json::{Value, json};

use crate::api::registry::{self, Subresource};
use crate::api::{Resource, status::ApiError};

use super::auth::{REVIEWS, Review};
use super::metrics;
use super::route::{subresource_name, verbs_below, verbs_of};

/// A group with its versions, the preferred one first.
struct Group {
    name: &'static str,
    versions: Vec<&'static str>,
}

fn groups() -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let resources = registry::ALL.iter().chain(metrics::ALL).map(|resource| (resource.group, resource.version));
    for (name, version) in resources.chain(REVIEWS.iter().map(|review| (review.group, review.version))) {
        match groups.iter_mut().find(|group| group.name == name) {
            Some(group) if group.versions.contains(&version) => {}
            Some(group) => group.versions.push(version),
            None => groups.push(Group { name, versions: vec![version] }),
        }
    }
    groups
}

fn resources_of<'a>(group: &'a str, version: &'a str) -> impl Iterator<Item = &'static Resource> {
    registry::ALL
        .iter()
        .chain(metrics::ALL)
        .copied()
        .filter(move |resource| resource.group == group && resource.version == version)
}

fn reviews_of<'a>(group: &'a str, version: &'a str) -> impl Iterator<Item = &'static Review> {
    REVIEWS.iter().filter(move |review| review.group == group && review.version == version)
}

/// `/api`
#[must_use]
pub fn api_versions(address: &str) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    })
}

/// `/apis`
#[must_use]
pub fn group_list() -> Value {
    let groups: Vec<Value> = groups().iter().filter(|group| !group.name.is_empty()).map(group_entry).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

fn group_entry(group: &Group) -> Value {
    let versions: Vec<Value> = group
        .versions
        .iter()
        .map(|version| json!({"groupVersion": format!("{}/{version}", group.name), "version": version}))
        .collect();
    json!({"name": group.name, "versions": versions, "preferredVersion": versions.first()})
}

/// `/apis/<group>`
///
/// # Errors
/// 404.
pub fn group(name: &str) -> Result<Value, ApiError> {
    let groups = groups();
    let group = groups.iter().find(|group| group.name == name && !name.is_empty()).ok_or(ApiError::NoSuchPath)?;
    let mut entry = group_entry(group);
    if let Some(map) = entry.as_object_mut() {
        map.insert("kind".to_owned(), "APIGroup".into());
        map.insert("apiVersion".to_owned(), "v1".into());
    }
    Ok(entry)
}

/// `/api/v1` and `/apis/<group>/<version>`
///
/// # Errors
/// 404.
pub fn resource_list(group: &str, version: &str) -> Result<Value, ApiError> {
    let mut entries: Vec<Value> = Vec::new();
    for resource in resources_of(group, version) {
        let verbs: Vec<&str> = verbs_of(resource).into_iter().map(super::route::Verb::as_str).collect();
        let mut entry = json!({
            "name": resource.plural,
            "singularName": resource.singular,
            "namespaced": resource.namespaced,
            "kind": resource.kind,
            "verbs": verbs,
        });
        if let Some(map) = entry.as_object_mut() {
            for (key, names) in [("shortNames", resource.short_names), ("categories", resource.categories)] {
                if !names.is_empty() {
                    map.insert(key.to_owned(), names.into());
                }
            }
        }
        entries.push(entry);
        for below in resource.subresources {
            let (group, version, kind) = kind_below(resource, *below);
            let mut entry = json!({
                "name": format!("{}/{}", resource.plural, subresource_name(*below)),
                "singularName": "",
                "namespaced": resource.namespaced,
                "kind": kind,
                "verbs": verbs_below(*below).iter().map(|verb| verb.as_str()).collect::<Vec<_>>(),
            });
            // Only where it differs from the list's: by this `drain` knows that it can evict.
            if let (true, Some(map)) = ((group, version) != (resource.group, resource.version), entry.as_object_mut()) {
                map.insert("group".to_owned(), group.into());
                map.insert("version".to_owned(), version.into());
            }
            entries.push(entry);
        }
    }
    for review in reviews_of(group, version) {
        entries.push(json!({"name": review.plural, "singularName": singular(review), "namespaced": false, "kind": review.kind, "verbs": ["create"]}));
    }
    if entries.is_empty() {
        return Err(ApiError::NoSuchPath);
    }
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    Ok(json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": entries}))
}

fn singular(review: &Review) -> String {
    review.kind.to_lowercase()
}

/// The kind that a subresource speaks: group, version, kind.
fn kind_below(resource: &Resource, below: Subresource) -> (&'static str, &'static str, &'static str) {
    match below {
        Subresource::Status
        | Subresource::Log
        | Subresource::Finalize
        | Subresource::EphemeralContainers
        | Subresource::Approval => (resource.group, resource.version, resource.kind),
        Subresource::Scale => ("autoscaling", "v1", "Scale"),
        Subresource::Binding => ("", "v1", "Binding"),
        Subresource::Eviction => ("policy", "v1", "Eviction"),
    }
}

/// Which of the two aggregated documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// `/api`: the core group.
    Core,
    /// `/apis`: all others.
    Groups,
}

/// `/api` or `/apis`, with everything below it.
#[must_use]
pub fn aggregated(root: Root, version: &str) -> Value {
    let items: Vec<Value> = groups()
        .iter()
        .filter(|group| group.name.is_empty() == (root == Root::Core))
        .map(|group| {
            let versions: Vec<Value> = group.versions.iter().map(|version| aggregated_version(group.name, version)).collect();
            let metadata = if group.name.is_empty() { json!({}) } else { json!({"name": group.name}) };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"), "metadata": {}, "items": items})
}

fn aggregated_version(group: &str, version: &str) -> Value {
    let kind = |(group, version, kind): (&str, &str, &str)| json!({"group": group, "version": version, "kind": kind});
    let resources = resources_of(group, version).map(|resource| {
        let below: Vec<Value> = resource
            .subresources
            .iter()
            .map(|below| {
                json!({
                    "subresource": subresource_name(*below),
                    "responseKind": kind(kind_below(resource, *below)),
                    "verbs": verbs_below(*below).iter().map(|verb| verb.as_str()).collect::<Vec<_>>(),
                })
            })
            .collect();
        json!({
            "resource": resource.plural,
            "responseKind": kind((resource.group, resource.version, resource.kind)),
            "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
            "singularResource": resource.singular,
            "verbs": verbs_of(resource).into_iter().map(super::route::Verb::as_str).collect::<Vec<_>>(),
            "shortNames": resource.short_names,
            "categories": resource.categories,
            "subresources": below,
        })
    });
    let reviews = reviews_of(group, version).map(|review| {
        json!({
            "resource": review.plural,
            "responseKind": kind((review.group, review.version, review.kind)),
            "scope": "Cluster",
            "singularResource": singular(review),
            "verbs": ["create"],
        })
    });
    json!({"version": version, "freshness": "Current", "resources": resources.chain(reviews).collect::<Vec<_>>()})
}

/// `/version`. Major and minor are whole numbers, as clients compare them.
#[must_use]
pub fn version() -> Value {
    json!({
        "major": "1",
        "minor": "33",
        "gitVersion": format!("v1.33.0+bramble-{}", env!("CARGO_PKG_VERSION")),
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
    })
}

/// A strong ETag of a document.
#[must_use]
pub fn etag(bytes: &[u8]) -> String {
    format!("\"{}\"", hash(bytes))
}

/// The hash in ETags and in the addresses of OpenAPI documents: half of SHA-256, in upper-case hex.
#[must_use]
pub fn hash(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().take(16).map(|byte| format!("{byte:02X}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drain_finds_that_it_can_evict() {
        let list = resource_list("", "v1").unwrap();
        let entry = list["resources"].as_array().unwrap().iter().find(|entry| entry["name"] == "pods/eviction").unwrap();
        assert_eq!((&entry["kind"], &entry["group"], &entry["version"]), (&json!("Eviction"), &json!("policy"), &json!("v1")));
        assert_eq!((&list["groupVersion"], &entry["singularName"]), (&json!("v1"), &json!("")));
    }

    #[test]
    fn plain_and_aggregated_discovery_tell_the_same() {
        let mut plain: Vec<String> = Vec::new();
        for group in group_list()["groups"].as_array().unwrap() {
            for version in group["versions"].as_array().unwrap() {
                let (name, version) = (group["name"].as_str().unwrap(), version["version"].as_str().unwrap());
                for entry in resource_list(name, version).unwrap()["resources"].as_array().unwrap() {
                    plain.push(format!("{name}/{version}/{}", entry["name"].as_str().unwrap()));
                }
            }
        }
        let mut aggregated_names: Vec<String> = Vec::new();
        for group in aggregated(Root::Groups, "v2")["items"].as_array().unwrap() {
            for version in group["versions"].as_array().unwrap() {
                for entry in version["resources"].as_array().unwrap() {
                    let name = format!(
                        "{}/{}/{}",
                        group["metadata"]["name"].as_str().unwrap(),
                        version["version"].as_str().unwrap(),
                        entry["resource"].as_str().unwrap()
                    );
                    let below = entry["subresources"]
                        .as_array()
                        .into_iter()
                        .flatten()
                        .map(|below| format!("{name}/{}", below["subresource"].as_str().unwrap()));
                    aggregated_names.extend(below.collect::<Vec<_>>());
                    aggregated_names.push(name);
                }
            }
        }
        plain.sort();
        aggregated_names.sort();
        assert_eq!(plain, aggregated_names);
        assert!(plain.contains(&"apps/v1/deployments/scale".to_owned()));
    }

    #[test]
    fn what_is_not_served_is_not_found() {
        assert_eq!(resource_list("apps", "v2"), Err(ApiError::NoSuchPath));
        assert_eq!(group("nothing.io"), Err(ApiError::NoSuchPath));
        assert_eq!(group("apps").unwrap()["preferredVersion"]["groupVersion"], "apps/v1");
    }
}
