//! Which nodes a pod selects: `nodeSelector`, `nodeSelectorTerms` and preferences, read once and asked of many nodes.
//!
//! Source:   component-helpers `nodeaffinity`: terms are alternatives, what stands within a term must all hold, an empty
//!           term fits nothing, and a requirement that cannot be read fits nothing.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::api::Object;
use crate::api::selector::Selector;

/// Upstream's words for a node that is not selected.
pub const MISFIT: &str = "node(s) didn't match Pod's node affinity/selector";

/// What must be true of a node for a pod to run there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// `spec.nodeSelector`. `None` is one that cannot be read: it fits no node.
    selector: Option<Selector>,
    /// The node affinity that must hold.
    required: Option<Terms>,
}

impl Selection {
    /// Reads a pod.
    #[must_use]
    pub fn of(pod: &Object) -> Self {
        Self {
            selector: match pod.at(&["spec", "nodeSelector"]) {
                None | Some(Value::Null) => Some(Selector::default()),
                Some(map) => Selector::from_map(map).ok(),
            },
            required: pod.at(&REQUIRED).map(Terms::read),
        }
    }

    /// Whether it selects this node.
    #[must_use]
    pub fn fits(&self, node: &Object) -> bool {
        self.selector.as_ref().is_some_and(|selector| selector.matches(|key| node.label(key)))
            && self.required.as_ref().is_none_or(|terms| terms.fit(node))
    }

    /// The labels of a node that a pod's selection looks at; `None` when it selects every node.
    #[must_use]
    pub fn keys(pod: &Object) -> Option<BTreeSet<String>> {
        let selector = pod.at(&["spec", "nodeSelector"]).and_then(Value::as_object).filter(|map| !map.is_empty());
        let required = pod.at(&REQUIRED).map(Terms::read);
        if selector.is_none() && required.is_none() {
            return None;
        }
        let terms = required.iter().flat_map(|terms| &terms.0).flat_map(|term| &term.0);
        let asked = terms.filter(|requirement| !requirement.field).map(|requirement| requirement.key.clone());
        Some(selector.into_iter().flat_map(|map| map.keys().cloned()).chain(asked).collect())
    }
}

/// Where a pod's required node affinity stands.
const REQUIRED: [&str; 4] = ["spec", "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution"];

/// Alternatives: one of them must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms(Vec<Term>);

/// Requirements that must all hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Term(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    /// A field of the node (only `metadata.name` is known) instead of a label.
    field: bool,
    test: Test,
    values: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Test {
    In,
    NotIn,
    Exists,
    Missing,
    Greater,
    Less,
    Unreadable,
}

/// A term that would be nice, and how nice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preference {
    /// 1 to 100.
    pub weight: i64,
    term: Term,
}

impl Terms {
    /// Reads a `NodeSelector`.
    #[must_use]
    pub fn read(selector: &Value) -> Self {
        let terms = selector.get("nodeSelectorTerms").and_then(Value::as_array);
        Self(terms.map(|terms| terms.iter().map(Term::read).collect()).unwrap_or_default())
    }

    /// Whether a node fits.
    #[must_use]
    pub fn fit(&self, node: &Object) -> bool {
        self.0.iter().any(|term| term.fits(node))
    }
}

impl Preference {
    /// Reads a `PreferredSchedulingTerm`.
    #[must_use]
    pub fn read(raw: &Value) -> Self {
        Self {
            weight: raw.get("weight").and_then(Value::as_i64).unwrap_or_default(),
            term: raw.get("preference").map(Term::read).unwrap_or_default(),
        }
    }

    /// Whether a node is as wished.
    #[must_use]
    pub fn fits(&self, node: &Object) -> bool {
        self.term.fits(node)
    }
}

impl Term {
    fn read(raw: &Value) -> Self {
        let part = |name: &str, field: bool| {
            let list = raw.get(name).and_then(Value::as_array).into_iter().flatten();
            list.map(move |raw| Requirement::read(raw, field)).collect::<Vec<_>>()
        };
        let mut all = part("matchExpressions", false);
        all.extend(part("matchFields", true));
        Self(all)
    }

    fn fits(&self, node: &Object) -> bool {
        !self.0.is_empty() && self.0.iter().all(|requirement| requirement.holds(node))
    }
}

impl Requirement {
    fn read(raw: &Value, field: bool) -> Self {
        let text = |key: &str| raw.get(key).and_then(Value::as_str).unwrap_or_default();
        let values = raw.get("values").and_then(Value::as_array).into_iter().flatten();
        Self {
            key: text("key").to_owned(),
            field,
            test: match text("operator") {
                "In" => Test::In,
                "NotIn" => Test::NotIn,
                "Exists" => Test::Exists,
                "DoesNotExist" => Test::Missing,
                "Gt" => Test::Greater,
                "Lt" => Test::Less,
                _ => Test::Unreadable,
            },
            values: values.filter_map(|value| value.as_str().map(str::to_owned)).collect(),
        }
    }

    fn holds(&self, node: &Object) -> bool {
        let value = match (self.field, self.key.as_str()) {
            (false, key) => node.label(key),
            (true, "metadata.name") => Some(node.name()),
            (true, _) => return false,
        };
        let among = value.is_some_and(|value| self.values.iter().any(|one| one == value));
        let compared = || {
            let bound: i64 = self.values.first()?.parse().ok()?;
            Some(value?.parse::<i64>().ok()?.cmp(&bound))
        };
        match self.test {
            Test::In => among,
            Test::NotIn => !among,
            Test::Exists => value.is_some(),
            Test::Missing => value.is_none(),
            Test::Greater => compared() == Some(std::cmp::Ordering::Greater),
            Test::Less => compared() == Some(std::cmp::Ordering::Less),
            Test::Unreadable => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_selection_names_the_labels_that_it_looks_at() {
        let pod = |spec: Value| Object::from_value(json!({"metadata": {"name": "w"}, "spec": spec})).unwrap();
        let required = |terms: Value| json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}});
        let node = Object::from_value(json!({"metadata": {"name": "pi", "labels": {"disk": "ssd"}}})).unwrap();
        let named = json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["pi"]}]}]);
        let without = json!([{"matchExpressions": [{"key": "gpu", "operator": "DoesNotExist"}]}]);
        for (spec, keys, fits) in [
            (json!({}), None, true),
            (json!({"nodeSelector": {}}), None, true),
            (json!({"nodeSelector": {"disk": "ssd"}}), Some(vec!["disk"]), true),
            (json!({"nodeSelector": {"disk": "sd", "a": "b"}}), Some(vec!["a", "disk"]), false),
            (json!({"affinity": required(named)}), Some(vec![]), true),
            (json!({"affinity": required(without), "nodeSelector": {"disk": "ssd"}}), Some(vec!["disk", "gpu"]), true),
            (json!({"affinity": required(json!([]))}), Some(vec![]), false),
        ] {
            let (pod, keys) = (pod(spec.clone()), keys.map(|keys| keys.into_iter().map(str::to_owned).collect()));
            assert_eq!((Selection::keys(&pod), Selection::of(&pod).fits(&node)), (keys, fits), "{spec}");
        }
    }

    #[test]
    fn terms_are_alternatives_of_requirements_that_all_hold() {
        let node = Object::from_value(json!({"metadata": {"name": "pi", "labels": {"disk": "ssd", "ram": "8"}}})).unwrap();
        let e = |key: &str, operator: &str, values: Value| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        for (terms, fits) in [
            (json!([e("disk", "In", json!(["ssd", "nvme"]))]), true),
            (json!([e("disk", "NotIn", json!(["ssd"]))]), false),
            (json!([e("gpu", "NotIn", json!(["x"]))]), true),
            (json!([e("gpu", "Exists", json!([]))]), false),
            (json!([e("gpu", "DoesNotExist", json!([]))]), true),
            (json!([e("ram", "Gt", json!(["4"]))]), true),
            (json!([e("ram", "Lt", json!(["4"]))]), false),
            (json!([e("disk", "Gt", json!(["4"]))]), false),
            (json!([e("disk", "Near", json!(["ssd"]))]), false),
            (json!([e("gpu", "Exists", json!([])), e("disk", "Exists", json!([]))]), true),
            (json!([{"matchExpressions": [{"key": "disk", "operator": "Exists"}, {"key": "gpu", "operator": "Exists"}]}]), false),
            (json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["pi"]}]}]), true),
            (json!([{"matchFields": [{"key": "metadata.uid", "operator": "Exists"}]}]), false),
            (json!([{}]), false),
            (json!([]), false),
        ] {
            assert_eq!(Terms::read(&json!({"nodeSelectorTerms": terms})).fit(&node), fits, "{terms}");
        }
    }
}
