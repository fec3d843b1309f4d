//! `kubectl get csr`. Source: `printCertificateSigningRequest`.

use super::{AGE, Column, NAME, NONE, Printer, age_of};
use crate::api::Object;
use crate::api::certificates::Request;

/// The columns.
pub static PRINTER: Printer = Printer::new(
    &[
        NAME,
        AGE,
        Column::text("SignerName"),
        Column::text("Requestor"),
        Column::text("RequestedDuration"),
        Column::text("Condition"),
    ],
    |object, now| {
        let seconds = object.i64_at(&["spec", "expirationSeconds"]).and_then(|seconds| u64::try_from(seconds).ok());
        let duration = seconds.map_or_else(
            || NONE.to_owned(),
            |seconds| {
                let ms = i64::try_from(seconds).unwrap_or(i64::MAX / 1000).saturating_mul(1000);
                crate::api::time::age(crate::clock::Wall(0), crate::clock::Wall(ms))
            },
        );
        vec![
            object.name().into(),
            age_of(object, now),
            object.str_at(&["spec", "signerName"]).into(),
            object.str_at(&["spec", "username"]).into(),
            duration.into(),
            condition(object).into(),
        ]
    },
);

fn condition(object: &Object) -> String {
    let request = Request(object);
    let mut words: Vec<&str> = ["Approved", "Denied", "Failed"].into_iter().filter(|kind| request.is(kind)).collect();
    if words.is_empty() {
        words.push("Pending");
    }
    if request.is_issued() {
        words.push("Issued");
    }
    words.join(",")
}

#[cfg(test)]
mod tests {
    use super::super::testing::{headings, object, row};
    use super::*;
    use serde_json::json;

    #[test]
    fn a_request_shows_who_asks_whom_and_how_far_it_is() {
        assert_eq!(headings(&PRINTER), "NAME|AGE|SIGNERNAME|REQUESTOR|REQUESTEDDURATION|CONDITION");
        let spec = json!({"signerName": "bramble/node", "username": "system:anonymous"});
        assert_eq!(row(&PRINTER, &object("a", json!({"spec": spec}))), "a|60m|bramble/node|system:anonymous|<none>|Pending");
        let status = json!({"conditions": [{"type": "Approved"}], "certificate": "eA=="});
        let issued = object("a", json!({"spec": {"expirationSeconds": 3600}, "status": status}));
        assert_eq!(row(&PRINTER, &issued), "a|60m|||60m|Approved,Issued");
    }
}
