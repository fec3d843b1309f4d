//! What deployments, replica sets and their like show in common: containers, images, selector.

use serde_json::Value;

use super::{NONE, text};
use crate::api::Object;

/// The cells `Containers`, `Images`, `Selector`.
pub(super) fn wide_cells(object: &Object) -> [Value; 3] {
    let containers = object.list_at(&["spec", "template", "spec", "containers"]);
    let join = |key: &str| containers.iter().map(|container| text(container, key)).collect::<Vec<_>>().join(",");
    [join("name").into(), join("image").into(), selector_at(object, &["spec", "selector"]).into()]
}

/// A selector as one would type it: `app=web,tier in (a,b),!old`, ordered by key.
pub(super) fn selector_at(object: &Object, path: &[&str]) -> String {
    let of = |part: &'static str| path.iter().copied().chain([part]).collect::<Vec<_>>();
    let mut parts: Vec<(&str, String)> =
        object.strings_at(&of("matchLabels")).map(|(key, value)| (key, format!("{key}={value}"))).collect();
    for expression in object.list_at(&of("matchExpressions")) {
        let key = text(expression, "key");
        let mut values: Vec<&str> =
            expression.get("values").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        values.sort_unstable();
        let values = values.join(",");
        let part = match text(expression, "operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            "DoesNotExist" => format!("!{key}"),
            _ => return "<error>".to_owned(),
        };
        parts.push((key, part));
    }
    parts.sort_by_key(|(key, _)| *key);
    let parts: Vec<String> = parts.into_iter().map(|(_, part)| part).collect();
    if parts.is_empty() { NONE.to_owned() } else { parts.join(",") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors_read_as_one_types_them() {
        for (given, shown) in [
            (json!(null), "<none>"),
            (json!({}), "<none>"),
            (json!({"matchLabels": {"b": "1", "a": "2"}}), "a=2,b=1"),
            (
                json!({"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "z", "operator": "In", "values": ["b", "a"]},
                    {"key": "a", "operator": "Exists"}, {"key": "b", "operator": "DoesNotExist"}, {"key": "c", "operator": "NotIn", "values": ["x"]}]}),
                "a,app=web,!b,c notin (x),z in (a,b)",
            ),
            (json!({"matchExpressions": [{"key": "a", "operator": "Like"}]}), "<error>"),
        ] {
            let object = Object::from_value(json!({"spec": {"selector": given}})).unwrap();
            // "!b" is ordered by its key, not by its exclamation mark.
            assert_eq!(selector_at(&object, &["spec", "selector"]), shown, "{given}");
        }
    }
}
