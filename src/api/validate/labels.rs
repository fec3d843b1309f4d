//! Labels, annotations and label selectors, wherever they stand.

use serde_json::Value;

use super::at::At;
use super::{Errors, FieldError, each, name};

/// 256 KiB, keys and values of all annotations together.
const ANNOTATIONS_LIMIT: usize = 256 * 1024;

/// A map of labels. The path of an error is that of the map, as upstream has it.
pub(super) fn labels(at: &At<'_>, out: &mut Errors) {
    for (key, value) in at.entries() {
        label_key(at, key, out);
        let text = value.text();
        out.extend(name::label_value(text).iter().map(|fault| FieldError::invalid(&at.path, text, fault)));
    }
}

/// One key, reported at `at`.
pub(super) fn label_key(at: &At<'_>, key: &str, out: &mut Errors) {
    out.extend(name::qualified(key).iter().map(|fault| FieldError::invalid(&at.path, key, fault)));
}

/// A map of annotations.
pub(super) fn annotations(at: &At<'_>, out: &mut Errors) {
    let mut size = 0;
    for (key, value) in at.entries() {
        // Annotations may have upper case in their prefix, labels may not.
        out.extend(name::qualified(&key.to_ascii_lowercase()).iter().map(|fault| FieldError::invalid(&at.path, key, fault)));
        size += key.len() + value.text().len();
    }
    if size > ANNOTATIONS_LIMIT {
        out.push(FieldError::too_long(&at.path, ANNOTATIONS_LIMIT));
    }
}

/// A `LabelSelector` object.
pub(super) fn selector(at: &At<'_>, out: &mut Errors) {
    labels(&at.get("matchLabels"), out);
    for expression in at.get("matchExpressions").items() {
        let values = expression.get("values");
        match expression.get("operator").text() {
            "In" | "NotIn" if values.len() == 0 => {
                out.push(FieldError::required(&values.path, "must be specified when `operator` is 'In' or 'NotIn'"));
            }
            "In" | "NotIn" => {}
            "Exists" | "DoesNotExist" if values.len() > 0 => {
                out.push(values.forbidden("may not be specified when `operator` is 'Exists' or 'DoesNotExist'"));
            }
            "Exists" | "DoesNotExist" => {}
            operator => out.push(FieldError::invalid(expression.get("operator").path, operator, "not a valid selector operator")),
        }
        let key = expression.get("key");
        label_key(&key, key.text(), out);
        for value in values.items() {
            each(&value, name::label_value(value.text()), out);
        }
    }
}

/// Whether a selector names nothing at all, and so would select everything.
pub(super) fn selects_all(at: &At<'_>) -> bool {
    at.get("matchLabels").len() + at.get("matchExpressions").len() == 0
}

/// The value of a label in a map of labels.
pub(super) fn label_in<'a>(labels: &'a Value, key: &str) -> Option<&'a str> {
    labels.get(key).and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Object;
    use crate::api::validate::sentence;
    use serde_json::json;

    fn found(rule: fn(&At<'_>, &mut Errors), value: &Value) -> String {
        let object = Object::from_value(json!({"x": value})).unwrap();
        let mut out = Vec::new();
        rule(&At::field(&object, "x"), &mut out);
        sentence(&out)
    }

    #[test]
    fn labels_are_judged_by_key_and_value() {
        assert_eq!(found(labels, &json!({"app": "web", "example.com/x": ""})), "[]");
        assert!(
            found(labels, &json!({"app": "a b"}))
                .starts_with(r#"x: Invalid value: "a b": a valid label must be an empty string or consist of"#)
        );
        assert!(found(labels, &json!({"a b": "c"})).starts_with(r#"x: Invalid value: "a b": name part must consist of"#));
    }

    #[test]
    fn annotations_may_be_long_but_not_endless() {
        assert_eq!(found(annotations, &json!({"Example.com/A": "x".repeat(ANNOTATIONS_LIMIT - 13)})), "[]");
        assert_eq!(
            found(annotations, &json!({"Example.com/A": "x".repeat(ANNOTATIONS_LIMIT)})),
            "x: Too long: may not be more than 262144 bytes"
        );
        assert!(found(annotations, &json!({"a b": ""})).contains("name part must consist of"));
    }

    #[test]
    fn expressions_of_selectors_are_judged() {
        let one = |expression: Value| found(selector, &json!({"matchExpressions": [expression]}));
        assert_eq!(one(json!({"key": "a", "operator": "In", "values": ["b"]})), "[]");
        assert_eq!(one(json!({"key": "a", "operator": "Exists"})), "[]");
        assert_eq!(
            one(json!({"key": "a", "operator": "In"})),
            "x.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"
        );
        assert_eq!(
            one(json!({"key": "a", "operator": "Exists", "values": ["b"]})),
            "x.matchExpressions[0].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
        );
        assert_eq!(
            one(json!({"key": "a", "operator": "Like"})),
            r#"x.matchExpressions[0].operator: Invalid value: "Like": not a valid selector operator"#
        );
        assert!(
            one(json!({"key": "", "operator": "Exists"}))
                .contains("x.matchExpressions[0].key: Invalid value: \"\": name part must be non-empty")
        );
        assert!(
            one(json!({"key": "a", "operator": "In", "values": ["b c"]}))
                .starts_with("x.matchExpressions[0].values[0]: Invalid value")
        );
    }
}
