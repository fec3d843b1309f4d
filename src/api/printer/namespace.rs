//! `kubectl get namespaces`.

use super::{AGE, Column, NAME, Printer, age_of};

/// The columns.
pub static PRINTER: Printer = Printer::new(&[NAME, Column::text("Status"), AGE], |object, now| {
    vec![object.name().into(), object.str_at(&["status", "phase"]).into(), age_of(object, now)]
});

#[cfg(test)]
mod tests {
    use super::super::testing::{headings, object, row};
    use super::*;
    use serde_json::json;

    #[test]
    fn a_namespace_is_active_or_on_its_way_out() {
        assert_eq!(headings(&PRINTER), "NAME|STATUS|AGE");
        assert_eq!(row(&PRINTER, &object("home", json!({"status": {"phase": "Terminating"}}))), "home|Terminating|60m");
    }
}
