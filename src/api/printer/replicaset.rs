//! `kubectl get replicasets`.

use super::{AGE, Column, NAME, Printer, age_of, number, workload};

/// The columns.
pub static PRINTER: Printer = Printer::new(
    &[
        NAME,
        Column::number("Desired"),
        Column::number("Current"),
        Column::number("Ready"),
        AGE,
        Column::text("Containers").wide(),
        Column::text("Images").wide(),
        Column::text("Selector").wide(),
    ],
    |object, now| {
        let [containers, images, selector] = workload::wide_cells(object);
        vec![
            object.name().into(),
            number(object, &["spec", "replicas"]).into(),
            number(object, &["status", "replicas"]).into(),
            number(object, &["status", "readyReplicas"]).into(),
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
    fn a_replica_set_counts_its_pods() {
        assert_eq!(headings(&PRINTER), "NAME|DESIRED|CURRENT|READY|AGE|CONTAINERS*|IMAGES*|SELECTOR*");
        let set = object(
            "web-1",
            json!({"spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}}, "status": {"replicas": 2, "readyReplicas": 1}}),
        );
        assert_eq!(row(&PRINTER, &set), "web-1|3|2|1|60m|||app=web");
    }
}
