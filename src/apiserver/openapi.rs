//! As much OpenAPI as `kubectl apply` wants: that each kind's PATCH takes `fieldValidation`, so that the checking is ours.
//!
//! Out:      an empty v2 document in protobuf (kubectl 1.27 and 1.28 insist on one), the v3 index, and one small v3
//!           document a group and version. Full schemas, for `explain`, come with their own issue.

use serde_json::{Map, Value, json};

use crate::api::{Resource, registry};

use super::discovery::hash;
use super::table::bytes;

/// The content type of the v2 document.
pub const V2_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
/// What clients ask for when they want it.
pub const V2_ACCEPT: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// `/openapi/v2`: `swagger: "2.0"` (field 1), `info` (2) with title (1) and version (2), empty `paths` (8).
#[must_use]
pub fn v2() -> Vec<u8> {
    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        // Wire type 2, a length below 128: one byte each.
        let mut out = vec![number << 3 | 2, u8::try_from(content.len()).unwrap_or_default()];
        out.extend_from_slice(content);
        out
    }
    let info = [field(1, b"Bramble"), field(2, b"v1.33.0")].concat();
    [field(1, b"2.0"), field(2, &info), field(8, b"")].concat()
}

/// `/openapi/v3`
#[must_use]
pub fn index() -> Value {
    let mut paths = Map::new();
    for resource in registry::ALL {
        let path = base(resource);
        if let (false, Some(document)) = (paths.contains_key(&path), document(&path)) {
            let url = format!("/openapi/v3/{path}?hash={}", hash(&bytes(&document)));
            paths.insert(path, json!({"serverRelativeURL": url}));
        }
    }
    json!({"paths": paths})
}

/// `api/v1` or `apis/<group>/<version>`
fn base(resource: &Resource) -> String {
    if resource.group.is_empty() {
        format!("api/{}", resource.version)
    } else {
        format!("apis/{}/{}", resource.group, resource.version)
    }
}

/// `/openapi/v3/<path>`; `None` when nothing is served there.
#[must_use]
pub fn document(path: &str) -> Option<Value> {
    let (mut paths, mut schemas) = (Map::new(), Map::new());
    for resource in registry::ALL.iter().filter(|resource| base(resource) == path) {
        let kind = json!({"group": resource.group, "version": resource.version, "kind": resource.kind});
        let operation = |action: &str| {
            let parameter = |name: &str| json!({"name": name, "in": "query", "schema": {"type": "string"}});
            json!({
                "x-kubernetes-action": action,
                "x-kubernetes-group-version-kind": kind,
                "parameters": [parameter("dryRun"), parameter("fieldManager"), parameter("fieldValidation")],
                "responses": {},
            })
        };
        let place = if resource.namespaced { "namespaces/{namespace}/" } else { "" };
        let collection = format!("/{path}/{place}{}", resource.plural);
        paths.insert(format!("{collection}/{{name}}"), json!({"patch": operation("patch"), "put": operation("put")}));
        paths.insert(collection, json!({"post": operation("post")}));
        let group = if resource.group.is_empty() { "core" } else { resource.group };
        schemas.insert(
            format!("{group}.{}.{}", resource.version, resource.kind),
            json!({"type": "object", "x-kubernetes-group-version-kind": [kind]}),
        );
    }
    if paths.is_empty() {
        return None;
    }
    Some(json!({
        "openapi": "3.0.0",
        "info": {"title": "Bramble", "version": "v1.33.0"},
        "paths": paths,
        "components": {"schemas": schemas},
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_version_is_a_whole_protobuf_message() {
        assert_eq!(v2(), b"\x0a\x032.0\x12\x12\x0a\x07Bramble\x12\x07v1.33.0\x42\x00");
    }

    #[test]
    fn every_kind_lets_the_server_validate() {
        let index = index();
        for resource in registry::ALL {
            let path = base(resource);
            assert!(
                index["paths"][&path]["serverRelativeURL"].as_str().unwrap().starts_with(&format!("/openapi/v3/{path}?hash="))
            );
            let document = document(&path).unwrap();
            let found = document["paths"].as_object().unwrap().values().any(|item| {
                item["patch"]["x-kubernetes-group-version-kind"]["kind"] == resource.kind
                    && item["patch"]["parameters"][2]["name"] == "fieldValidation"
            });
            assert!(found, "{resource:?}");
        }
        assert_eq!(document("apis/nothing/v1"), None);
    }
}
