//! What `kubectl get` shows: the server does all column work (`meta.k8s.io/v1` Table).
//!
//! In:       an object, and the time for ages.
//! Out:      one row: as many cells as the kind has columns, each in the words that kubectl users know by heart.
//! Never:    fails: what is missing is `<none>`, `<unknown>` or 0, as upstream shows it.
//! Source:   `pkg/printers/internalversion/printers.go` of Kubernetes 1.33.

pub mod certificate;
pub mod configmap;
pub mod deployment;
pub mod endpoints;
pub mod event;
pub mod lease;
pub mod namespace;
pub mod networking;
pub mod node;
pub mod pod;
pub mod replicaset;
pub mod secret;
pub mod service;
pub mod serviceaccount;
pub mod volume;
mod workload;

use serde_json::Value;

use super::object::Object;
use super::time;
use crate::clock::Wall;

/// One column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// The heading, as `Name`.
    pub name: &'static str,
    /// `string`, `integer`, …
    pub kind: &'static str,
    /// `name` for the first column, else empty.
    pub format: &'static str,
    /// 0 is always shown, more only with `-o wide`.
    pub priority: u8,
}

impl Column {
    /// A column of text that is always shown.
    #[must_use]
    pub const fn text(name: &'static str) -> Self {
        Self { name, kind: "string", format: "", priority: 0 }
    }

    /// A column of whole numbers that is always shown.
    #[must_use]
    pub const fn number(name: &'static str) -> Self {
        Self { name, kind: "integer", format: "", priority: 0 }
    }

    /// The same column, shown with `-o wide` only.
    #[must_use]
    pub const fn wide(self) -> Self {
        Self { priority: 1, ..self }
    }
}

/// The first column of every table.
pub const NAME: Column = Column { name: "Name", kind: "string", format: "name", priority: 0 };

/// How one kind is shown.
pub struct Printer {
    /// The headings.
    pub columns: &'static [Column],
    /// As many cells as there are columns.
    pub cells: fn(&Object, Wall) -> Vec<Value>,
    /// The `conditions` of the row, `[]` for most: `Completed` marks what has run to its end, so that clients can hide it.
    pub conditions: fn(&Object) -> Vec<Value>,
}

impl Printer {
    /// A printer whose rows have no conditions.
    #[must_use]
    pub const fn new(columns: &'static [Column], cells: fn(&Object, Wall) -> Vec<Value>) -> Self {
        Self { columns, cells, conditions: |_| Vec::new() }
    }
}

const NONE: &str = "<none>";
const UNKNOWN: &str = "<unknown>";

/// `metadata.creationTimestamp` as an age.
#[must_use]
pub fn age_of(object: &Object, now: Wall) -> Value {
    since(object.str_at(&["metadata", "creationTimestamp"]), now).into()
}

/// A time as an age; `<unknown>` when it is no time.
fn since(stamp: &str, now: Wall) -> String {
    time::parse(stamp).map_or_else(|| UNKNOWN.to_owned(), |at| time::age(at, now))
}

/// For kinds without columns of their own.
pub static NAME_AND_AGE: Printer = Printer::new(&[NAME, AGE], |object, now| vec![object.name().into(), age_of(object, now)]);

const AGE: Column = Column::text("Age");

/// The text below a key; `""` when there is none.
fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The text itself, or a word where there is none.
fn or<'a>(text: &'a str, word: &'a str) -> &'a str {
    if text.is_empty() { word } else { text }
}

/// The number at a path; 0 when there is none.
fn number(object: &Object, path: &[&str]) -> i64 {
    object.i64_at(path).unwrap_or_default()
}

/// How many entries the map or list at a path has.
fn count(object: &Object, path: &[&str]) -> usize {
    match object.at(path) {
        Some(Value::Object(map)) => map.len(),
        Some(Value::Array(list)) => list.len(),
        _ => 0,
    }
}

/// `a=b,c=d`; `<none>` when there is nothing.
fn labels(object: &Object, path: &[&str]) -> String {
    let pairs: Vec<String> = object.strings_at(path).map(|(key, value)| format!("{key}={value}")).collect();
    if pairs.is_empty() { NONE.to_owned() } else { pairs.join(",") }
}

/// The first three of a list, and how many more there are.
fn first_three(items: &[String]) -> String {
    const MOST: usize = 3;
    let shown = items.iter().take(MOST).map(String::as_str).collect::<Vec<_>>().join(",");
    if items.len() > MOST { format!("{shown} + {} more...", items.len() - MOST) } else { shown }
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;
    use serde_json::json;

    /// 2026-01-01T01:00:00Z: one hour after what the tests are made at.
    pub const NOW: Wall = Wall(1_767_229_200_000);
    /// When the tests' objects are made.
    pub const MADE: &str = "2026-01-01T00:00:00Z";

    /// An object of this name with these fields, made an hour ago.
    pub fn object(name: &str, mut fields: Value) -> Object {
        fields["metadata"]["name"] = json!(name);
        fields["metadata"]["creationTimestamp"] = json!(MADE);
        Object::from_value(fields).unwrap()
    }

    /// A row as text, cells joined by `|`.
    pub fn row(printer: &Printer, object: &Object) -> String {
        let cells = (printer.cells)(object, NOW);
        assert_eq!(cells.len(), printer.columns.len());
        let texts = cells.iter().map(|cell| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned));
        texts.collect::<Vec<_>>().join("|")
    }

    /// The headings as kubectl prints them, with `*` behind those of `-o wide`.
    pub fn headings(printer: &Printer) -> String {
        let name = |column: &Column| format!("{}{}", column.name.to_uppercase(), if column.priority > 0 { "*" } else { "" });
        printer.columns.iter().map(name).collect::<Vec<_>>().join("|")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::registry;
    use proptest::prelude::*;
    use serde_json::json;

    fn any_json() -> impl Strategy<Value = Value> {
        let key = prop::sample::select(vec![
            "metadata",
            "name",
            "creationTimestamp",
            "labels",
            "spec",
            "status",
            "containers",
            "initContainers",
            "containerStatuses",
            "initContainerStatuses",
            "state",
            "lastState",
            "terminated",
            "waiting",
            "running",
            "reason",
            "exitCode",
            "finishedAt",
            "conditions",
            "type",
            "phase",
            "restartCount",
            "ports",
            "port",
            "subsets",
            "addresses",
            "endpoints",
            "selector",
            "matchLabels",
            "matchExpressions",
            "values",
            "operator",
            "template",
            "involvedObject",
            "source",
            "loadBalancer",
            "ingress",
            "rules",
            "host",
            "parameters",
            "podSelector",
            "data",
            "secrets",
            "readinessGates",
            "podIPs",
            "series",
        ]);
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            prop::sample::select(vec!["", "Ready", "In", "LoadBalancer", "2026-01-01T00:00:00Z", "Succeeded", "ü"])
                .prop_map(Value::from),
        ];
        leaf.prop_recursive(7, 60, 5, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(key.clone(), inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn any_json_gives_a_row_as_wide_as_its_table(spec in any_json(), status in any_json(), rest in any_json(), now in any::<i64>()) {
            for value in [json!({"metadata": rest, "spec": spec, "status": status, "subsets": rest, "endpoints": spec, "ports": rest}), rest.clone()] {
                let Some(object) = Object::from_value(value) else { continue };
                for row in registry::ALL {
                    let cells = (row.printer.cells)(&object, Wall(now % 4_000_000_000_000));
                    prop_assert_eq!(cells.len(), row.printer.columns.len(), "{:?}", row);
                    let _ = (row.printer.conditions)(&object);
                }
            }
        }
    }

    #[test]
    fn every_table_has_a_name_and_says_how_old() {
        for row in registry::ALL {
            assert!(row.printer.columns.iter().any(|column| column.name == "Name"), "{row:?}");
            assert!(row.printer.columns.iter().any(|column| matches!(column.name, "Age" | "Last Seen")), "{row:?}");
        }
    }

    #[test]
    fn long_lists_are_cut_after_three() {
        let items = |number: usize| (0..number).map(|number| number.to_string()).collect::<Vec<_>>();
        assert_eq!(first_three(&items(0)), "");
        assert_eq!(first_three(&items(3)), "0,1,2");
        assert_eq!(first_three(&items(5)), "0,1,2 + 2 more...");
    }
}
