//! What a board suffers, as conditions of its Node and as events on it: under-voltage, throttling, heat.
//!
//! In:       `health`, the Node as it stands.
//! Out:      the conditions that are to be told, and an occurrence for each that comes or goes.
//! Never:    judges a reading (`agent/health/strain.rs`): the node has the thresholds and the memory.
//!
//! A node that never told of one has no such condition: it is no Pi, or its kernel does not say. One that told of it and no longer
//! does has it as Unknown.

use crate::api::Object;
use crate::api::core::condition::Condition;
use crate::api::core::event::Occurrence;
use crate::api::core::node::STRAINS;
use crate::link::message::Health;

/// One condition: its name, and a reason and a message for each status.
struct Kind {
    name: &'static str,
    told: fn(&Health) -> Option<bool>,
    there: (&'static str, &'static str),
    well: (&'static str, &'static str),
}

/// Of all kinds. Source of 4.63 V: Raspberry Pi documentation, "Power supply warnings".
const KINDS: [Kind; 3] = [
    Kind {
        name: STRAINS[0],
        told: |health| health.under_voltage,
        there: (
            "PowerSupplyTooWeak",
            "the board gets less than 4.63 V: give it the supply that is made for it and a short, thick cable, or take USB devices away that it has to feed",
        ),
        well: ("PowerSupplyIsEnough", "the board gets enough power"),
    },
    Kind {
        name: STRAINS[1],
        told: |health| health.throttled,
        there: (
            "FirmwareThrottles",
            "the firmware slows the processor down: give the board a heat sink or a fan if it is hot, a better power supply if it has UnderVoltage",
        ),
        well: ("FullSpeed", "the processor may run at full speed"),
    },
    Kind {
        name: STRAINS[2],
        told: |health| health.hot,
        there: (
            "TooHot",
            "the processor is as hot as its board may be: give it air, a heat sink or a fan, or let it run fewer pods",
        ),
        well: ("CoolEnough", "the processor is cool enough"),
    },
];

/// What is told of one that cannot be read any more.
const UNKNOWN: (&str, &str) =
    ("NotTold", "the node told of this before and cannot read it now: its log says at level debug what the sensor says");

/// A condition: type, status, reason and message.
pub(super) type Said<'a> = (&'static str, &'static str, &'static str, &'a str);

/// The conditions of a node by what it says.
pub(super) fn said(health: &Health, node: &Object) -> Vec<Said<'static>> {
    let one = |kind: &Kind| match (kind.told)(health) {
        Some(true) => Some((kind.name, "True", kind.there.0, kind.there.1)),
        Some(false) => Some((kind.name, "False", kind.well.0, kind.well.1)),
        None => Condition::of(node, kind.name).map(|_| (kind.name, "Unknown", UNKNOWN.0, UNKNOWN.1)),
    };
    KINDS.iter().filter_map(one).collect()
}

/// What has come or gone by what a node says. Told twice it is nothing new, as soon as the conditions are written.
#[must_use]
pub fn flips(health: &Health, node: &Object) -> Vec<Occurrence> {
    let one = |kind: &Kind| {
        let was = Condition::of(node, kind.name).is_some_and(|condition| condition.status == "True");
        let occurrence = match (was, (kind.told)(health)?) {
            (false, true) => Occurrence::warning(node, "kubelet", kind.name, kind.there.1.to_owned()),
            (true, false) => Occurrence::normal(node, "kubelet", kind.well.0, kind.well.1.to_owned()),
            (false, false) | (true, true) => return None,
        };
        Some(Occurrence { host: node.name().to_owned(), ..occurrence })
    };
    KINDS.iter().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::core::event::Severity;
    use serde_json::json;

    fn node(under_voltage: Option<&str>) -> Object {
        let conditions: Vec<_> =
            under_voltage.map(|status| json!({"type": "UnderVoltage", "status": status})).into_iter().collect();
        Object::from_value(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "pi", "uid": "u"},
            "status": {"conditions": conditions}}))
        .unwrap()
    }

    fn voltage(under_voltage: Option<bool>) -> Health {
        Health { under_voltage, ..Health::default() }
    }

    #[test]
    fn a_node_without_the_sensor_has_no_such_condition_and_one_that_lost_it_has_it_unknown() {
        for (told, known, status) in [
            (None, None, None),
            (Some(true), None, Some("True")),
            (Some(false), Some("True"), Some("False")),
            (None, Some("True"), Some("Unknown")),
            (None, Some("False"), Some("Unknown")),
        ] {
            let said = said(&voltage(told), &node(known));
            assert_eq!(
                said.iter().map(|said| said.1).collect::<Vec<_>>(),
                status.into_iter().collect::<Vec<_>>(),
                "{told:?} {known:?}"
            );
        }
        let all = Health { under_voltage: Some(true), throttled: Some(false), hot: Some(true), ..Health::default() };
        let said: Vec<_> = said(&all, &node(None)).into_iter().map(|said| format!("{}={} {}", said.0, said.1, said.2)).collect();
        assert_eq!(said, ["UnderVoltage=True PowerSupplyTooWeak", "Throttled=False FullSpeed", "Hot=True TooHot"]);
    }

    #[test]
    fn what_comes_is_a_warning_and_what_goes_is_told_too_but_not_what_was_never_there() {
        for (told, known, event) in [
            (Some(true), None, Some((Severity::Warning, "UnderVoltage"))),
            (Some(true), Some("False"), Some((Severity::Warning, "UnderVoltage"))),
            (Some(true), Some("Unknown"), Some((Severity::Warning, "UnderVoltage"))),
            (Some(true), Some("True"), None),
            (Some(false), Some("True"), Some((Severity::Normal, "PowerSupplyIsEnough"))),
            (Some(false), None, None),
            (Some(false), Some("Unknown"), None),
            (None, Some("True"), None),
        ] {
            let told_of = flips(&voltage(told), &node(known));
            let told_of: Vec<_> = told_of.iter().map(|one| (one.severity, one.reason.as_str())).collect();
            assert_eq!(told_of, event.into_iter().collect::<Vec<_>>(), "{told:?} {known:?}");
        }
    }
}
