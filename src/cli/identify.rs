//! `bramble identify`: which of these boards is that node?

use serde_json::Value;

use super::admin::{Which, refused};
use crate::error::Report;
use crate::link::call::Identified;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    /// The node's name
    node: String,
    /// For how long its LEDs blink, 1 to 3600
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
}

pub(super) fn run(args: Args) -> Result<(), Report> {
    let Args { which, node, seconds } = args;
    super::node::expect_name(&node)?;
    let path = format!("/api/v1/nodes/{node}/proxy/identify?seconds={seconds}");
    let failed = || Report::failed(format!("node {node} cannot be made to blink"));
    match which.open()?.call("POST", &path, None)? {
        (200, answer) => {
            let words = told(&node, seconds, answer.into_value()).map_err(|error| failed().because(error))?;
            super::print(&words);
            Ok(())
        }
        (404, _) => Err(Report::failed(format!("there is no node {node}")).fix("`bramble node list` shows them")),
        (409, said) => Err(failed().because(said.str_at(&["message"]).to_owned()).fix(
            "find it by its serial number or address: `bramble node list`; a HAT's LEDs are named by leds.hats in the node's agent.toml",
        )),
        (503, said) => Err(failed().because(said.str_at(&["message"]).to_owned()).fix(
            "see that it has power and a network; a node that has lost its link shows long, short by itself",
        )),
        (code, said) => Err(refused(&format!("node {node} cannot be made to blink"), code, &said)),
    }
}

/// What blinks now, for a person.
fn told(node: &str, seconds: u32, answer: Value) -> Result<String, serde_json::Error> {
    let Identified { leds, unlit } = serde_json::from_value(answer)?;
    let which = if leds == 1 { "the LED".to_owned() } else { format!("all {leds} LEDs") };
    Ok(match unlit {
        None => format!("{which} of {node} blink{} fast for {seconds} s\n", if leds == 1 { "s" } else { "" }),
        Some(words) => format!("{which} of {node} blink in drawings only (`bramble leds show {node}`): {words}\n"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_blinks_is_said_and_what_cannot_be_lit_too() {
        let told = |answer| told("pi", 60, answer);
        assert_eq!(told(json!({"leds": 8})).unwrap(), "all 8 LEDs of pi blink fast for 60 s\n");
        assert_eq!(told(json!({"leds": 1})).unwrap(), "the LED of pi blinks fast for 60 s\n");
        let dark = told(json!({"leds": 8, "unlit": "leds.enabled is false there"})).unwrap();
        assert!(dark.contains("in drawings only (`bramble leds show pi`): leds.enabled is false there"), "{dark}");
        assert!(told(json!({})).is_err());
    }
}
