//! `docs/pods.md` against the schema and against what [`super::read`] does: no field of a pod is dropped in silence.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{PodSpec, VolumeSource, read};
use crate::agent::pods::admission::rejection;
use crate::api::Object;
use crate::api::schema::table::{Field, Message, Shape, Table, Type};

/// Fields that say something only with a certain value; others are tried with the least that their type allows.
const TELLING: &[(&str, &str, &str)] = &[
    ("PodSpec", "hostUsers", "false"),
    ("PodSpec", "os", r#"{"name": "linux"}"#),
    ("PodSpec", "containers", r#"[{"name": "a", "image": "i"}]"#),
    ("PodSpec", "dnsPolicy", r#""Default""#),
    ("PodSecurityContext", "sysctls", r#"[{"name": "net.ipv4.tcp_syncookies", "value": "1"}]"#),
    ("Container", "livenessProbe", r#"{"exec": {"command": ["a"]}}"#),
    ("Container", "readinessProbe", r#"{"exec": {"command": ["a"]}}"#),
    ("Container", "startupProbe", r#"{"exec": {"command": ["a"]}}"#),
    ("ResourceRequirements", "limits", r#"{"cpu": "1"}"#),
];

struct Row {
    here: String,
    by: String,
}

/// The page's tables, by message and field.
fn page() -> BTreeMap<String, BTreeMap<String, Row>> {
    let text = include_str!("../../../../docs/pods.md");
    let mut page = BTreeMap::new();
    for section in text.split("\n## ").skip(1) {
        let (name, body) = section.split_once('\n').unwrap();
        let rows: &mut BTreeMap<String, Row> = page.entry(name.to_owned()).or_default();
        for line in body.lines().filter(|line| line.starts_with("| `")) {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let field = cells[0].trim_matches('`').to_owned();
            let row = Row { here: cells[1].to_owned(), by: cells[2].trim_matches('`').to_owned() };
            assert!(rows.insert(field, row).is_none(), "{name}.{} stands twice", cells[0]);
        }
    }
    page
}

/// Every message below a pod's spec.
fn messages() -> BTreeMap<&'static str, &'static Message> {
    let table = Table::get();
    let pod = table.message(table.kind("v1", "Pod").unwrap());
    let Type::Message(spec) = pod.field("spec").unwrap().of else { panic!("a pod has a spec") };
    let mut found = BTreeMap::new();
    let mut open = vec![table.message(spec)];
    while let Some(message) = open.pop() {
        if found.insert(message.short_name(), message).is_none() {
            open.extend(message.fields().filter_map(|field| match field.of {
                Type::Message(id) => Some(table.message(id)),
                _ => None,
            }));
        }
    }
    found
}

fn sample(message: &str, field: &Field) -> Value {
    if let Some((_, _, text)) = TELLING.iter().find(|(of, name, _)| (*of, *name) == (message, field.name)) {
        return serde_json::from_str(text).unwrap();
    }
    let one = match field.of {
        Type::Bool => json!(true),
        Type::Int32 | Type::Int64 | Type::IntOrString => json!(1),
        Type::Quantity => json!("1"),
        Type::Message(_) | Type::Any => json!({}),
        Type::String | Type::Bytes | Type::Time | Type::MicroTime => json!("x"),
    };
    match field.shape {
        Shape::One => one,
        Shape::List => json!([one]),
        Shape::Map => json!({"x": one}),
    }
}

/// A pod that has just this field of this message; `None` where it cannot be told without a container's start.
fn pod_with(message: &str, field: &str, value: Value) -> Option<Value> {
    let mut part = json!({});
    part[field] = value;
    let mut container = json!({"name": "a", "image": "i"});
    let mut spec = json!({});
    match message {
        "PodSpec" => spec = part,
        "PodSecurityContext" => spec["securityContext"] = part,
        "Container" => container[field] = part[field].take(),
        "SecurityContext" => container["securityContext"] = part,
        "ResourceRequirements" => container["resources"] = part,
        "ContainerPort" => container["ports"] = json!([part]),
        "VolumeMount" => container["volumeMounts"] = json!([part]),
        "Volume" => spec["volumes"] = json!([part]),
        "EnvVarSource" | "EnvFromSource" => return None,
        other => panic!("docs/pods.md has a section {other} that this test does not know how to try"),
    }
    if spec.get("containers").is_none() {
        spec["containers"] = json!([container]);
    }
    Some(spec)
}

fn refusals(spec: &PodSpec) -> Vec<String> {
    let containers = spec.all().filter_map(|container| container.refused.clone());
    let volumes = spec.volumes.iter().filter_map(|volume| match &volume.source {
        VolumeSource::Refused(why) => Some(why.clone()),
        _ => None,
    });
    containers.chain(volumes).chain(rejection(spec, &[]).map(|rejection| rejection.message)).collect()
}

#[test]
fn every_field_of_a_pod_is_in_one_row_and_the_row_is_true() {
    let (page, messages) = (page(), messages());
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/agent");
    let agent =
        std::process::Command::new("grep").args(["-rhoE", "\"[A-Za-z]+\"", "--include=*.rs"]).arg(&root).output().unwrap();
    let agent = String::from_utf8(agent.stdout).unwrap();
    let named: BTreeSet<&str> = agent.lines().map(|word| word.trim_matches('"')).collect();
    let mut faults = Vec::new();
    for needed in ["PodSpec", "Container", "PodSecurityContext", "SecurityContext", "Volume", "VolumeMount"] {
        assert!(page.contains_key(needed), "docs/pods.md has no section {needed}");
    }
    for (message, rows) in &page {
        let schema = messages.get(message.as_str()).unwrap_or_else(|| panic!("docs/pods.md: there is no {message} in a pod"));
        let missing = schema.fields().filter(|field| !rows.contains_key(field.name)).map(|field| field.name);
        faults.extend(missing.map(|field| format!("{message}.{field}: no row says what becomes of it")));
        for (name, row) in rows {
            let mut fault = |why: &str| faults.push(format!("{message}.{name} ({}): {why}", row.here));
            let Some(field) = schema.field(name) else {
                fault("there is no such field");
                continue;
            };
            let tried = pod_with(message, name, sample(message, field));
            let object = tried.map(|spec| Object::from_value(json!({"metadata": {"name": "w"}, "spec": spec})).unwrap());
            let tried = object.map(|object| read(&object));
            let ignored = tried.as_ref().map(|spec| spec.ignored.clone()).unwrap_or_default();
            let refused = tried.as_ref().map(refusals).unwrap_or_default();
            match row.here.as_str() {
                "honoured" => {
                    let text = std::fs::read_to_string(root.join(&row.by)).unwrap_or_default();
                    if !text.contains(&format!("\"{name}\"")) {
                        fault(&format!("src/agent/{} does not read it", row.by));
                    }
                    if !ignored.is_empty() || !refused.is_empty() {
                        fault(&format!("the node says {ignored:?} {refused:?}"));
                    }
                }
                "warned" if ignored.iter().any(|words| words.contains(name.as_str())) => {}
                "refused" if !refused.is_empty() => {}
                "warned" | "refused" => fault(&format!("with it the node says only {ignored:?} {refused:?}")),
                "coming" if named.contains(name.as_str()) => fault("something in src/agent reads it now: say who"),
                "coming" | "nothing" if ignored.is_empty() && refused.is_empty() => {}
                "coming" | "nothing" => fault(&format!("the node says {ignored:?} {refused:?}")),
                _ => fault("is none of the five words"),
            }
        }
    }
    assert!(faults.is_empty(), "docs/pods.md:\n{}", faults.join("\n"));
}
