//! `kubectl get configmaps`.

use super::{AGE, Column, NAME, Printer, age_of, count};

/// The columns.
pub static PRINTER: Printer = Printer::new(&[NAME, Column::text("Data"), AGE], |object, now| {
    vec![object.name().into(), (count(object, &["data"]) + count(object, &["binaryData"])).into(), age_of(object, now)]
});

#[cfg(test)]
mod tests {
    use super::super::testing::{headings, object, row};
    use super::*;
    use serde_json::json;

    #[test]
    fn all_its_entries_are_counted() {
        assert_eq!(headings(&PRINTER), "NAME|DATA|AGE");
        assert_eq!(row(&PRINTER, &object("a", json!({"data": {"x": "", "y": ""}, "binaryData": {"z": ""}}))), "a|3|60m");
        assert_eq!(row(&PRINTER, &object("a", json!({}))), "a|0|60m");
    }
}
