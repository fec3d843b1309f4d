//! Field selectors: `spec.nodeName=pi,status.phase!=Failed`.
//!
//! In:       the text of a query, and objects.
//! Out:      which objects it selects; 400 for a field that cannot be selected by.
//! Source:   the field labels that Kubernetes converts per kind; all others are refused there as well.

use std::borrow::Cow;

use serde_json::Value;

use crate::api::status::ApiError;
use crate::api::{Object, Resource, registry};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Is,
    IsNot,
}

/// A parsed selector: all terms must hold; none selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    terms: Vec<(String, Operator, String)>,
}

impl FieldSelector {
    /// Reads `a=b,c!=d,e==f`; a value may be empty, and `\` escapes a comma, an equals sign or itself.
    ///
    /// # Errors
    /// 400 when it cannot be read, or a field is none that this resource can be selected by.
    pub fn parse(text: &str, resource: &Resource) -> Result<Self, ApiError> {
        let terms = split(text).into_iter().filter(|term| !term.is_empty()).map(|term| {
            let (field, operator, value) = divide(&term)
                .ok_or_else(|| ApiError::BadRequest(format!("invalid selector: {text:?}; can't understand {term:?}")))?;
            if labels(resource).any(|label| label == field) {
                Ok((field.to_owned(), operator, unescape(value)))
            } else {
                Err(ApiError::BadRequest(format!("field label not supported: {field}")))
            }
        });
        Ok(Self { terms: terms.collect::<Result<_, _>>()? })
    }

    /// Only this name: what a watch of one object is.
    #[must_use]
    pub fn and_name(mut self, name: &str) -> Self {
        self.terms.push(("metadata.name".to_owned(), Operator::Is, name.to_owned()));
        self
    }

    /// Whether it selects the object.
    #[must_use]
    pub fn matches(&self, object: &Object) -> bool {
        self.terms
            .iter()
            .all(|(field, operator, wanted)| (value_of(object, field) == wanted.as_str()) == (*operator == Operator::Is))
    }

    /// Whether it selects everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }
}

/// At commas that are not escaped; escapes stay.
fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut escaped = false;
    for letter in text.chars() {
        if letter == ',' && !escaped {
            parts.push(String::new());
        } else if let Some(last) = parts.last_mut() {
            last.push(letter);
        }
        escaped = letter == '\\' && !escaped;
    }
    parts
}

fn divide(term: &str) -> Option<(&str, Operator, &str)> {
    let (at, _) = term.char_indices().find(|(_, letter)| matches!(letter, '=' | '!'))?;
    let (field, rest) = term.split_at_checked(at)?;
    if let Some(value) = rest.strip_prefix("!=") {
        return Some((field, Operator::IsNot, value));
    }
    Some((field, Operator::Is, rest.strip_prefix("==").or_else(|| rest.strip_prefix('='))?))
}

fn unescape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut escaped = false;
    for letter in value.chars() {
        if letter == '\\' && !escaped {
            escaped = true;
        } else {
            out.push(letter);
            escaped = false;
        }
    }
    out
}

/// What objects of this resource can be selected by.
fn labels(resource: &Resource) -> impl Iterator<Item = &'static str> {
    let own: &[&str] = if *resource == registry::PODS {
        &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ]
    } else if *resource == registry::EVENTS {
        &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ]
    } else if *resource == registry::NODES {
        &["spec.unschedulable"]
    } else if *resource == registry::NAMESPACES {
        &["status.phase"]
    } else if *resource == registry::SECRETS {
        &["type"]
    } else if *resource == registry::REPLICA_SETS {
        &["status.replicas"]
    } else if *resource == registry::SERVICES {
        &["spec.clusterIP", "spec.type"]
    } else {
        &[]
    };
    ["metadata.name", "metadata.namespace"].into_iter().chain(own.iter().copied())
}

fn value_of<'a>(object: &'a Object, field: &str) -> Cow<'a, str> {
    let at = |field: &str| {
        let mut parts = field.split('.');
        let first = parts.next().and_then(|key| object.raw().get(key));
        parts.fold(first, |value, key| value.and_then(|value| value.get(key)))
    };
    let value = match field {
        "source" => at("source.component").or_else(|| at("reportingComponent")),
        _ => at(field),
    };
    match value {
        Some(Value::String(text)) => Cow::Borrowed(text),
        Some(Value::Bool(flag)) => Cow::Borrowed(if *flag { "true" } else { "false" }),
        Some(Value::Number(number)) => Cow::Owned(number.to_string()),
        // What is left out has its zero value.
        _ if matches!(field, "spec.unschedulable" | "spec.hostNetwork") => Cow::Borrowed("false"),
        _ if field == "status.replicas" => Cow::Borrowed("0"),
        _ => Cow::Borrowed(""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn terms_select_by_value_and_what_is_left_out_is_empty_or_false() {
        let pod = Object::from_value(
            json!({"metadata": {"name": "web", "namespace": "a"}, "spec": {"nodeName": "pi"}, "status": {"phase": "Running"}}),
        )
        .unwrap();
        for (text, selected) in [
            ("", true),
            ("metadata.name=web", true),
            ("metadata.name==web,metadata.namespace=a", true),
            ("metadata.name!=web", false),
            ("spec.nodeName=pi,status.phase!=Failed,status.phase!=Succeeded", true),
            ("spec.nodeName=", false),
            ("status.podIP=", true),
            ("spec.hostNetwork=false", true),
        ] {
            assert_eq!(FieldSelector::parse(text, &registry::PODS).unwrap().matches(&pod), selected, "{text}");
        }
    }

    #[test]
    fn an_unknown_field_is_refused_with_its_name() {
        for (text, message) in [
            ("spec.color=red", "field label not supported: spec.color"),
            ("metadata.name", "invalid selector: \"metadata.name\"; can't understand \"metadata.name\""),
        ] {
            assert_eq!(FieldSelector::parse(text, &registry::PODS), Err(ApiError::BadRequest(message.to_owned())));
        }
    }

    #[test]
    fn a_comma_can_be_escaped() {
        let selector = FieldSelector::parse(r"metadata.name=a\,b", &registry::PODS).unwrap();
        assert!(selector.matches(&Object::from_value(json!({"metadata": {"name": "a,b"}})).unwrap()));
    }
}
