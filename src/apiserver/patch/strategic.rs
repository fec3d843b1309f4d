//! The strategic merge: maps merge, and so do those lists whose items have a key.
//!
//! In:       an object, a patch, and the resource. Which lists merge, and by which key, is a fact of each kind; the table of
//!           the schema has them. What is not marked there is replaced whole: taints, tolerations, args, envFrom, ….
//! Out:      the object after the patch, free of directives.
//! Source:   the directives `$patch`, `$retainKeys`, `$setElementOrder/…`, `$deleteFromPrimitiveList/…` as Kubernetes documents
//!           them. Where we are more generous: `$patch: merge` is allowed, and means what it says.

use serde_json::{Map, Value};

use super::PatchError;
use crate::api::Resource;
use crate::api::schema::table::{Field, MergeRule, Message, Shape, Table, Type};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const ORDER: &str = "$setElementOrder/";
const DELETE: &str = "$deleteFromPrimitiveList/";

/// The object after the patch.
pub(super) fn merge(resource: &Resource, object: &Value, patch: &Map<String, Value>) -> Result<Value, PatchError> {
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
    let table = Table::get();
    // A subresource may be an object of another kind, such as Scale.
    let id = table.kind(text("apiVersion"), text("kind")).or_else(|| table.kind(&resource.api_version(), resource.kind));
    let original = object.as_object().cloned().unwrap_or_default();
    Ok(Value::Object(merge_map(id.map(|id| table.message(id)), original, patch)?))
}

/// `message` is what the schema knows of this map.
fn merge_map(
    message: Option<&Message>,
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
        original.insert(field.clone(), merge_value(message.and_then(|message| message.field(field)), field, before, change)?);
    }
    for (directive, order) in patch {
        let Some(field) = directive.strip_prefix(ORDER) else { continue };
        let order = order.as_array().ok_or_else(|| malformed_list(directive))?;
        let before = match patch.get(field) {
            None | Some(Value::Null) => &[][..],
            Some(Value::Array(list)) => list.as_slice(),
            Some(_) => return Err(malformed_list(field)),
        };
        let rule = rule_of(message.and_then(|message| message.field(field)));
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

/// `field` is what the schema knows of the value.
fn merge_value(field: Option<&Field>, name: &str, before: Option<Value>, change: &Value) -> Result<Value, PatchError> {
    match change {
        Value::Object(change) => {
            let before = match before {
                Some(Value::Object(before)) if rule_of(field) != MergeRule::Replace => before,
                // Merging into nothing takes nulls and directives out of the patch.
                _ => Map::new(),
            };
            Ok(Value::Object(merge_map(message_of(field), before, change)?))
        }
        Value::Array(change) => {
            let before = match before {
                Some(Value::Array(before)) => before,
                _ => Vec::new(),
            };
            Ok(Value::Array(match rule_of(field) {
                MergeRule::By(key) => merge_by_key(message_of(field), name, key, before, change)?,
                MergeRule::Set => merge_set(name, before, change)?,
                MergeRule::Plain | MergeRule::Replace => change.iter().filter(|item| !directs(item)).cloned().collect(),
            }))
        }
        scalar => Ok(scalar.clone()),
    }
}

fn rule_of(field: Option<&Field>) -> MergeRule {
    field.map_or(MergeRule::Plain, |field| field.merge)
}

/// The message that a value, or an item of a list, is. The entries of a map have keys of their own.
fn message_of(field: Option<&Field>) -> Option<&'static Message> {
    match field {
        Some(Field { of: Type::Message(id), shape: Shape::One | Shape::List, .. }) => Some(Table::get().message(*id)),
        _ => None,
    }
}

fn merge_by_key(
    message: Option<&Message>,
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
                    *old = Value::Object(merge_map(message, before, item)?);
                }
                None => merged.push(Value::Object(merge_map(message, Map::new(), item)?)),
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
fn same(rule: MergeRule, place: &Value, item: &Value) -> bool {
    match rule {
        MergeRule::By(key) => item.get(key).is_some_and(|id| place.get(key) == Some(id)),
        MergeRule::Set | MergeRule::Plain | MergeRule::Replace => place == item,
    }
}

/// Sorts `list` by `order`. Items that `order` does not name are only the server's: they keep their order, and stand before the
/// first named item that they preceded on the server. Named items that are new come as early as the order lets them.
fn ordered(rule: MergeRule, list: Vec<Value>, server: &[Value], order: &[Value]) -> Vec<Value> {
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
