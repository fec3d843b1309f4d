//! `kubectl get deployments`.

use super::{AGE, Column, NAME, Printer, age_of, number, workload};

/// The columns.
pub static PRINTER: Printer = Printer::new(
    &[
        NAME,
        Column::text("Ready"),
        Column::text("Up-to-date"),
        Column::text("Available"),
        AGE,
        Column::text("Containers").wide(),
        Column::text("Images").wide(),
        Column::text("Selector").wide(),
    ],
    |object, now| {
        let [containers, images, selector] = workload::wide_cells(object);
        vec![
            object.name().into(),
            format!("{}/{}", number(object, &["status", "readyReplicas"]), number(object, &["spec", "replicas"])).into(),
            number(object, &["status", "updatedReplicas"]).into(),
            number(object, &["status", "availableReplicas"]).into(),
            age_of(object, now),
            containers,
            images,
            selector,
        ]
    },
);

#[cfg(test)]
mod tests {
    use super::super::testing::{headings, object, row};
    use super::*;
    use serde_json::json;

    #[test]
    fn a_deployment_shows_how_far_it_is() {
        assert_eq!(headings(&PRINTER), "NAME|READY|UP-TO-DATE|AVAILABLE|AGE|CONTAINERS*|IMAGES*|SELECTOR*");
        let spec = json!({"replicas": 3, "selector": {"matchLabels": {"app": "web"}},
            "template": {"spec": {"containers": [{"name": "a", "image": "nginx:1"}, {"name": "b", "image": "b"}]}}});
        let status = json!({"readyReplicas": 1, "updatedReplicas": 2, "availableReplicas": 1});
        assert_eq!(
            row(&PRINTER, &object("web", json!({"spec": spec, "status": status}))),
            "web|1/3|2|1|60m|a,b|nginx:1,b|app=web"
        );
        assert_eq!(row(&PRINTER, &object("new", json!({"spec": {"replicas": 1}}))), "new|0/1|0|0|60m|||<none>");
    }
}
