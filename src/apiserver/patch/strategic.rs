//! The strategic merge: maps merge, and so do those lists whose items have a key.
//!
//! In:       an object, a patch, and the resource: which lists merge is a fact of each kind ([`list_rule`], [`map_rule`]).
//! Out:      the object after the patch, free of directives.
//! Source:   the directives `$patch`, `$retainKeys`, `$setElementOrder/…`, `$deleteFromPrimitiveList/…` as Kubernetes documents
//!           them. Where we are more generous: `$patch: merge` is allowed, and means what it says.

use serde_json::{Map, Value};

use super::PatchError;
use crate::api::Resource;

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const ORDER: &str = "$setElementOrder/";
const DELETE: &str = "$deleteFromPrimitiveList/";

/// How a list takes a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ListRule {
    /// Items are maps; those with the same value of this key merge.
    By(&'static str),
    /// Items are scalars, and each stands once.
    Set,
    /// The list of the patch takes its place.
    Replace,
}

/// How a map takes a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MapRule {
    Merge,
    Replace,
}

/// How the list `field` merges, in a map that stands in the field `parent` (or in its list; `""` is the object itself).
///
/// Source: the patch strategies and merge keys that the published API definitions give to the kinds of core, apps, batch,
/// autoscaling, networking and policy. What is not named there is replaced whole: taints, tolerations, args, envFrom, ….
fn list_rule(resource: &Resource, parent: &str, field: &str) -> ListRule {
    use ListRule::{By, Set};
    match (parent, field) {
        ("metadata", "finalizers") => Set,
        ("metadata", "ownerReferences") => By("uid"),
        ("spec", "containers" | "initContainers" | "ephemeralContainers" | "volumes" | "imagePullSecrets") => By("name"),
        ("spec", "resourceClaims" | "schedulingGates") => By("name"),
        ("spec", "hostAliases") => By("ip"),
        ("spec", "topologySpreadConstraints") => By("topologyKey"),
        ("spec", "ports") if resource.kind == "Service" => By("port"),
        ("spec", "podCIDRs") if resource.kind == "Node" => Set,
        ("containers" | "initContainers" | "ephemeralContainers", "env") => By("name"),
        ("containers" | "initContainers" | "ephemeralContainers", "ports") => By("containerPort"),
        ("containers" | "initContainers" | "ephemeralContainers", "volumeMounts") => By("mountPath"),
        ("containers" | "initContainers" | "ephemeralContainers", "volumeDevices") => By("devicePath"),
        ("", "secrets") if resource.kind == "ServiceAccount" => By("name"),
        ("status", "conditions") => By("type"),
        ("status", "addresses") if resource.kind == "Node" => By("type"),
        ("status", "podIPs" | "hostIPs") => By("ip"),
        ("status", "resourceClaimStatuses") => By("name"),
        _ => ListRule::Replace,
    }
}

fn map_rule(resource: &Resource, parent: &str, field: &str) -> MapRule {
    match (parent, field) {
        ("spec", "selector") if resource.kind == "PodDisruptionBudget" => MapRule::Replace,
        _ => MapRule::Merge,
    }
}

/// The object after the patch.
pub(super) fn merge(resource: &Resource, object: &Value, patch: &Map<String, Value>) -> Result<Value, PatchError> {
    let original = object.as_object().cloned().unwrap_or_default();
    Ok(Value::Object(merge_map(resource, "", original, patch)?))
}

/// `parent` is the field in which this map stands.
fn merge_map(
    resource: &Resource,
    parent: &str,
    mut original: Map<String, Value>,
    patch: &Map<String, Value>,
) -> Result<Map<String, Value>, PatchError> {
    match patch.get(PATCH).map(Value::as_str) {
        None | Some(Some("merge")) => {}
        Some(Some("replace")) => original = Map::new(),
        Some(Some("delete")) => return Ok(Map::new()),
        Some(_) => return Err(unknown_directive(patch.get(PATCH))),
    }
    if let Some(retained) = patch.get(RETAIN_KEYS) {
        retain_keys(&mut original, patch, retained)?;
    }
    for (directive, unwanted) in patch {
        let Some(field) = directive.strip_prefix(DELETE) else { continue };
        let unwanted = unwanted.as_array().ok_or_else(|| malformed_list(directive))?;
        if let Some(Value::Array(list)) = original.get_mut(field) {
            list.retain(|item| !unwanted.contains(item));
        }
    }
    // Where an order is given, the places of the items before the patch count.
    let server: Map<String, Value> = patch
        .keys()
        .filter_map(|key| key.strip_prefix(ORDER))
        .filter_map(|field| Some((field.to_owned(), original.get(field)?.clone())))
        .collect();
    for (field, change) in patch.iter().filter(|(field, _)| !is_directive(field)) {
        if change.is_null() {
            original.remove(field);
            continue;
        }
        let before = original.remove(field);
        original.insert(field.clone(), merge_value(resource, parent, field, before, change)?);
    }
    for (directive, order) in patch {
        let Some(field) = directive.strip_prefix(ORDER) else { continue };
        let order = order.as_array().ok_or_else(|| malformed_list(directive))?;
        let before = match patch.get(field) {
            None | Some(Value::Null) => &[][..],
            Some(Value::Array(list)) => list.as_slice(),
            Some(_) => return Err(malformed_list(field)),
        };
        let rule = list_rule(resource, parent, field);
        if let Some(stray) = before.iter().find(|item| !directs(item) && !order.iter().any(|place| same(rule, place, item))) {
            return Err(PatchError::Malformed(format!(
                "the list {field} of the patch has {stray}, which {directive} does not name"
            )));
        }
        if let Some(Value::Array(list)) = original.get_mut(field) {
            let server = server.get(field).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            *list = ordered(rule, std::mem::take(list), server, order);
        }
    }
    Ok(original)
}

fn is_directive(field: &str) -> bool {
    field == PATCH || field == RETAIN_KEYS || field.starts_with(ORDER) || field.starts_with(DELETE)
}

/// Whether an item of a list is there for its directive only.
fn directs(item: &Value) -> bool {
    item.get(PATCH).is_some()
}

fn retain_keys(original: &mut Map<String, Value>, patch: &Map<String, Value>, retained: &Value) -> Result<(), PatchError> {
    let retained = retained.as_array().ok_or_else(|| malformed_list(RETAIN_KEYS))?;
    let listed = |field: &String| retained.iter().any(|key| key.as_str() == Some(field));
    if let Some((stray, _)) = patch.iter().find(|(field, value)| !is_directive(field) && !value.is_null() && !listed(field)) {
        return Err(PatchError::Malformed(format!("{RETAIN_KEYS} does not name {stray}, which the patch sets")));
    }
    original.retain(|field, _| listed(field));
    Ok(())
}

fn merge_value(
    resource: &Resource,
    parent: &str,
    field: &str,
    before: Option<Value>,
    change: &Value,
) -> Result<Value, PatchError> {
    match change {
        Value::Object(change) => {
            let before = match (before, map_rule(resource, parent, field)) {
                (Some(Value::Object(before)), MapRule::Merge) => before,
                // Merging into nothing takes nulls and directives out of the patch.
                _ => Map::new(),
            };
            Ok(Value::Object(merge_map(resource, field, before, change)?))
        }
        Value::Array(change) => {
            let before = match before {
                Some(Value::Array(before)) => before,
                _ => Vec::new(),
            };
            Ok(Value::Array(match list_rule(resource, parent, field) {
                ListRule::By(key) => merge_by_key(resource, field, key, before, change)?,
                ListRule::Set => merge_set(field, before, change)?,
                ListRule::Replace => change.iter().filter(|item| !directs(item)).cloned().collect(),
            }))
        }
        scalar => Ok(scalar.clone()),
    }
}

fn merge_by_key(
    resource: &Resource,
    field: &str,
    key: &str,
    before: Vec<Value>,
    change: &[Value],
) -> Result<Vec<Value>, PatchError> {
    let mut merged = before;
    let replaces = |item: &&Value| item.get(PATCH).and_then(Value::as_str) == Some("replace");
    let replaced = change.iter().any(|item| replaces(&item));
    if replaced {
        merged = Vec::new();
    }
    for item in change {
        let item = item
            .as_object()
            .ok_or_else(|| PatchError::Malformed(format!("the list {field} of the patch has {item}, which is no object")))?;
        let directive = item.get(PATCH).map(|directive| directive.as_str().unwrap_or_default());
        if directive == Some("replace") {
            continue;
        }
        let id = item.get(key).filter(|id| !id.is_null()).ok_or_else(|| {
            PatchError::DoesNotFit(format!(
                "map: {} does not contain declared merge key: {key} (of the list {field})",
                Value::Object(item.clone())
            ))
        })?;
        match directive {
            // A list that is replaced takes no deletions: there is nothing left to delete from.
            Some("delete") if replaced => {}
            Some("delete") => merged.retain(|old| old.get(key) != Some(id)),
            None | Some("merge") => match merged.iter_mut().find(|old| old.get(key) == Some(id)) {
                Some(old) => {
                    let before = match old.take() {
                        Value::Object(before) => before,
                        _ => Map::new(),
                    };
                    *old = Value::Object(merge_map(resource, field, before, item)?);
                }
                None => merged.push(Value::Object(merge_map(resource, field, Map::new(), item)?)),
            },
            Some(_) => return Err(unknown_directive(item.get(PATCH))),
        }
    }
    Ok(merged)
}

fn merge_set(field: &str, before: Vec<Value>, change: &[Value]) -> Result<Vec<Value>, PatchError> {
    let mut merged: Vec<Value> = Vec::with_capacity(before.len() + change.len());
    if let Some(item) = change.iter().find(|item| item.is_object() || item.is_array()) {
        return Err(PatchError::Malformed(format!("the list {field} of the patch has {item}, which is no plain value")));
    }
    for item in before.into_iter().chain(change.iter().cloned()) {
        if !item.is_null() && !merged.contains(&item) {
            merged.push(item);
        }
    }
    Ok(merged)
}

/// Whether a place of an order list names this item.
fn same(rule: ListRule, place: &Value, item: &Value) -> bool {
    match rule {
        ListRule::By(key) => item.get(key).is_some_and(|id| place.get(key) == Some(id)),
        ListRule::Set | ListRule::Replace => place == item,
    }
}

/// Sorts `list` by `order`. Items that `order` does not name are only the server's: they keep their order, and stand before the
/// first named item that they preceded on the server. Named items that are new come as early as the order lets them.
fn ordered(rule: ListRule, list: Vec<Value>, server: &[Value], order: &[Value]) -> Vec<Value> {
    let place = |places: &[Value], item: &Value| places.iter().position(|place| same(rule, place, item));
    let (mut named, mut ours) = (Vec::new(), Vec::new());
    for item in list {
        match place(order, &item) {
            Some(position) => named.push((position, item)),
            None => ours.push(item),
        }
    }
    named.sort_by_key(|(position, _)| *position);
    let mut result = Vec::with_capacity(named.len() + ours.len());
    let mut ours = ours.into_iter().peekable();
    for (_, item) in named {
        if let Some(before) = place(server, &item) {
            while let Some(own) = ours.next_if(|own| place(server, own).is_some_and(|own| own < before)) {
                result.push(own);
            }
        }
        result.push(item);
    }
    result.extend(ours);
    result
}

fn unknown_directive(directive: Option<&Value>) -> PatchError {
    PatchError::Malformed(format!("unknown patch type found: {}", directive.unwrap_or(&Value::Null)))
}

fn malformed_list(directive: &str) -> PatchError {
    PatchError::Malformed(format!("invalid patch format of {directive}: expected a list"))
}

#[cfg(test)]
mod tests;
