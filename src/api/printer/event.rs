//! `kubectl get events`. Source: `printEvent`.

use super::{Column, NAME, Printer, number, or, since};
use crate::api::Object;
use crate::clock::Wall;

/// The columns.
pub static PRINTER: Printer = Printer::new(
    &[
        Column::text("Last Seen"),
        Column::text("Type"),
        Column::text("Reason"),
        Column::text("Object"),
        Column::text("Subobject").wide(),
        Column::text("Source").wide(),
        Column::text("Message"),
        Column::text("First Seen").wide(),
        Column::text("Count").wide(),
        NAME.wide(),
    ],
    |event, now| {
        let first = first_seen(event, now);
        vec![
            last_seen(event, now).unwrap_or_else(|| first.clone()).into(),
            event.str_at(&["type"]).into(),
            event.str_at(&["reason"]).into(),
            about(event).into(),
            event.str_at(&["involvedObject", "fieldPath"]).into(),
            source(event).into(),
            event.str_at(&["message"]).trim().into(),
            first.into(),
            times(event).into(),
            event.name().into(),
        ]
    },
);

fn first_seen(event: &Object, now: Wall) -> String {
    since(or(event.str_at(&["firstTimestamp"]), event.str_at(&["eventTime"])), now)
}

fn last_seen(event: &Object, now: Wall) -> Option<String> {
    let path: &[&str] = if in_series(event) { &["series", "lastObservedTime"] } else { &["lastTimestamp"] };
    Some(event.str_at(path)).filter(|stamp| !stamp.is_empty() || in_series(event)).map(|stamp| since(stamp, now))
}

fn in_series(event: &Object) -> bool {
    event.at(&["series"]).is_some_and(|series| !series.is_null())
}

/// `pod/web`.
fn about(event: &Object) -> String {
    let kind = event.str_at(&["involvedObject", "kind"]).to_lowercase();
    match event.str_at(&["involvedObject", "name"]) {
        "" => kind,
        name => format!("{kind}/{name}"),
    }
}

/// `kubelet, pi-1`: who says it.
fn source(event: &Object) -> String {
    let component = or(event.str_at(&["source", "component"]), event.str_at(&["reportingComponent"]));
    let host = or(event.str_at(&["source", "host"]), event.str_at(&["reportingInstance"]));
    if host.is_empty() { component.to_owned() } else { format!("{component}, {host}") }
}

fn times(event: &Object) -> i64 {
    if in_series(event) {
        return number(event, &["series", "count"]);
    }
    // Events of the new API that happened once have no count.
    number(event, &["count"]).max(1)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{headings, object, row};
    use super::*;
    use serde_json::json;

    #[test]
    fn events_of_the_old_api_count_themselves() {
        assert_eq!(headings(&PRINTER), "LAST SEEN|TYPE|REASON|OBJECT|SUBOBJECT*|SOURCE*|MESSAGE|FIRST SEEN*|COUNT*|NAME*");
        let event = json!({"type": "Warning", "reason": "BackOff", "message": " Back-off \n", "count": 4,
            "involvedObject": {"kind": "Pod", "name": "web", "fieldPath": "spec.containers{web}"},
            "source": {"component": "bramble-agent", "host": "pi-1"}, "firstTimestamp": "2026-01-01T00:30:00Z", "lastTimestamp": "2026-01-01T00:59:30Z"});
        assert_eq!(
            row(&PRINTER, &object("web.1", event)),
            "30s|Warning|BackOff|pod/web|spec.containers{web}|bramble-agent, pi-1|Back-off|30m|4|web.1"
        );
    }

    #[test]
    fn events_of_the_new_api_come_in_series() {
        let once = json!({"type": "Normal", "reason": "Scheduled", "eventTime": "2026-01-01T00:59:00.000000Z", "firstTimestamp": null, "lastTimestamp": null,
            "involvedObject": {"kind": "Node"}, "reportingComponent": "scheduler", "source": {}});
        assert_eq!(row(&PRINTER, &object("a", once.clone())), "60s|Normal|Scheduled|node||scheduler||60s|1|a");
        let mut series = once;
        series["series"] = json!({"count": 9, "lastObservedTime": "2026-01-01T00:59:50.000000Z"});
        series["reportingInstance"] = json!("master");
        assert_eq!(row(&PRINTER, &object("a", series)), "10s|Normal|Scheduled|node||scheduler, master||60s|9|a");
    }
}
