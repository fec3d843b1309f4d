//! `kubectl get nodes`. Source: `printNode`, `findNodeRoles`.

use std::collections::BTreeSet;

use super::{AGE, Column, NAME, NONE, Printer, UNKNOWN, age_of, or, text};
use crate::api::Object;

/// A node has a role by a label `node-role.kubernetes.io/<role>`.
const ROLE_PREFIX: &str = "node-role.kubernetes.io/";

/// The columns.
pub static PRINTER: Printer = Printer::new(
    &[
        NAME,
        Column::text("Status"),
        Column::text("Roles"),
        AGE,
        Column::text("Version"),
        Column::text("Internal-IP").wide(),
        Column::text("External-IP").wide(),
        Column::text("OS-Image").wide(),
        Column::text("Kernel-Version").wide(),
        Column::text("Container-Runtime").wide(),
    ],
    |node, now| {
        let info = |key: &str| node.str_at(&["status", "nodeInfo", key]);
        vec![
            node.name().into(),
            status(node).into(),
            or(&roles(node), NONE).into(),
            age_of(node, now),
            info("kubeletVersion").into(),
            or(address(node, "InternalIP"), NONE).into(),
            or(address(node, "ExternalIP"), NONE).into(),
            or(info("osImage"), UNKNOWN).into(),
            or(info("kernelVersion"), UNKNOWN).into(),
            or(info("containerRuntimeVersion"), UNKNOWN).into(),
        ]
    },
);

fn status(node: &Object) -> String {
    let ready = node.list_at(&["status", "conditions"]).iter().find(|condition| text(condition, "type") == "Ready");
    let word = match ready.map(|condition| text(condition, "status")) {
        None => "Unknown",
        Some("True") => "Ready",
        Some(_) => "NotReady",
    };
    if node.bool_at(&["spec", "unschedulable"]) { format!("{word},SchedulingDisabled") } else { word.to_owned() }
}

fn roles(node: &Object) -> String {
    let role = |(key, value)| match (str::strip_prefix(key, ROLE_PREFIX), key, value) {
        (Some(role), _, _) => Some(role),
        (None, "kubernetes.io/role", value) => Some(value),
        _ => None,
    };
    let roles: BTreeSet<&str> = node.labels().filter_map(role).filter(|role| !role.is_empty()).collect();
    roles.into_iter().collect::<Vec<_>>().join(",")
}

fn address<'a>(node: &'a Object, kind: &str) -> &'a str {
    node.list_at(&["status", "addresses"])
        .iter()
        .find(|address| text(address, "type") == kind)
        .map_or("", |address| text(address, "address"))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{headings, object, row};
    use super::*;
    use serde_json::json;

    #[test]
    fn nodes_show_their_state_and_their_system() {
        assert_eq!(
            headings(&PRINTER),
            "NAME|STATUS|ROLES|AGE|VERSION|INTERNAL-IP*|EXTERNAL-IP*|OS-IMAGE*|KERNEL-VERSION*|CONTAINER-RUNTIME*"
        );
        let info = json!({"kubeletVersion": "v1.33.0+bramble", "osImage": "Debian 12", "kernelVersion": "6.6", "containerRuntimeVersion": "docker://28"});
        let node = |ready: &str, unschedulable: bool| {
            object(
                "pi-1",
                json!({"metadata": {"labels": {"node-role.kubernetes.io/worker": "", "node-role.kubernetes.io/edge": "", "kubernetes.io/role": "led", "a": "b"}},
                    "spec": {"unschedulable": unschedulable},
                    "status": {"conditions": [{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": ready}],
                        "addresses": [{"type": "Hostname", "address": "pi-1"}, {"type": "InternalIP", "address": "192.168.1.5"}], "nodeInfo": info}}),
            )
        };
        let rest = "edge,led,worker|60m|v1.33.0+bramble|192.168.1.5|<none>|Debian 12|6.6|docker://28";
        assert_eq!(row(&PRINTER, &node("True", false)), format!("pi-1|Ready|{rest}"));
        assert_eq!(row(&PRINTER, &node("True", true)), format!("pi-1|Ready,SchedulingDisabled|{rest}"));
        assert_eq!(row(&PRINTER, &node("Unknown", false)), format!("pi-1|NotReady|{rest}"));
        assert_eq!(
            row(&PRINTER, &object("new", json!({}))),
            "new|Unknown|<none>|60m||<none>|<none>|<unknown>|<unknown>|<unknown>"
        );
    }
}
