//! `kubectl get secrets`.

use super::{AGE, Column, NAME, Printer, age_of, count};

/// The columns.
pub static PRINTER: Printer = Printer::new(&[NAME, Column::text("Type"), Column::text("Data"), AGE], |object, now| {
    vec![object.name().into(), object.str_at(&["type"]).into(), count(object, &["data"]).into(), age_of(object, now)]
});

#[cfg(test)]
mod tests {
    use super::super::testing::{headings, object, row};
    use super::*;
    use serde_json::json;

    #[test]
    fn a_secret_shows_how_much_it_holds_and_nothing_of_it() {
        assert_eq!(headings(&PRINTER), "NAME|TYPE|DATA|AGE");
        assert_eq!(row(&PRINTER, &object("a", json!({"type": "Opaque", "data": {"x": "aGVsbG8="}}))), "a|Opaque|1|60m");
    }
}
