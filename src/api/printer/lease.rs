//! `kubectl get leases`.

use super::{AGE, Column, NAME, Printer, age_of};

/// The columns.
pub static PRINTER: Printer = Printer::new(&[NAME, Column::text("Holder"), AGE], |object, now| {
    vec![object.name().into(), object.str_at(&["spec", "holderIdentity"]).into(), age_of(object, now)]
});

#[cfg(test)]
mod tests {
    use super::super::testing::{headings, object, row};
    use super::*;
    use serde_json::json;

    #[test]
    fn a_lease_shows_who_holds_it() {
        assert_eq!(headings(&PRINTER), "NAME|HOLDER|AGE");
        assert_eq!(row(&PRINTER, &object("pi-1", json!({"spec": {"holderIdentity": "pi-1"}}))), "pi-1|pi-1|60m");
    }
}
