//! `kubectl get serviceaccounts`.

use super::{AGE, Column, NAME, Printer, age_of, count};

/// The columns.
pub static PRINTER: Printer = Printer::new(&[NAME, Column::text("Secrets"), AGE], |object, now| {
    vec![object.name().into(), count(object, &["secrets"]).into(), age_of(object, now)]
});

#[cfg(test)]
mod tests {
    use super::super::testing::{headings, object, row};
    use super::*;
    use serde_json::json;

    #[test]
    fn an_account_counts_its_secrets() {
        assert_eq!(headings(&PRINTER), "NAME|SECRETS|AGE");
        assert_eq!(row(&PRINTER, &object("default", json!({"secrets": [{"name": "a"}]}))), "default|1|60m");
    }
}
