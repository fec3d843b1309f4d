//! What every LED of a node shows, for drawings: the message `up/leds`, retained.

use serde::{Deserialize, Serialize};

use super::pattern::Pattern;
use crate::board::Colour;

/// What every LED of a node shows. JSON: `{"v":1,"board":"rpi-4b","leds":[{"name":"pod-1","colour":"green","pattern":"solid","shows":"default/web"}]}`.
///
/// It is told when it changes: blinking is drawn by who draws. With `leds.overflow = "page"` each page is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Picture {
    /// The schema version of the link.
    pub v: u32,
    /// The board file's name.
    pub board: String,
    /// In the board's order.
    pub leds: Vec<LedPicture>,
    /// Night hours: the LEDs themselves are dark or dimmed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub night: bool,
    /// Which page of pods this is, when there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<PageNumber>,
}

/// One of several pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageNumber {
    /// From 1.
    pub number: usize,
    /// How many there are.
    pub of: usize,
}

/// One LED of a [`Picture`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedPicture {
    /// As the board file names it.
    pub name: String,
    /// Its colour.
    pub colour: Colour,
    /// How it burns.
    pub pattern: Pattern,
    /// `node`, a pod as `namespace/name`, or empty. Of several pods the first of the worst.
    pub shows: String,
    /// All pods that this LED is for, where they are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pods: Vec<String>,
    /// Red, green and blue as a screen shows it (sRGB), while an LED of any colour burns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rgb: Option<[u8; 3]>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_these_bytes_and_those_of_an_older_agent_are_read() {
        let old = r#"{"v":1,"board":"b","leds":[{"name":"node","colour":"blue","pattern":"long_short","shows":"node"}]}"#;
        let plain: Picture = serde_json::from_str(old).unwrap();
        assert_eq!(serde_json::to_string(&plain).unwrap(), old, "what is usual takes no bytes");
        let led = LedPicture {
            name: "pod-1".into(),
            colour: Colour::Rgb,
            pattern: Pattern::FastBlink,
            shows: "d/a".into(),
            pods: vec!["d/a".into(), "d/b".into()],
            rgb: Some([213, 94, 0]),
        };
        let full = Picture { leds: vec![led], night: true, page: Some(PageNumber { number: 2, of: 3 }), ..plain };
        let text = r#"{"v":1,"board":"b","leds":[{"name":"pod-1","colour":"rgb","pattern":"fast_blink","shows":"d/a","pods":["d/a","d/b"],"rgb":[213,94,0]}],"night":true,"page":{"number":2,"of":3}}"#;
        assert_eq!(serde_json::to_string(&full).unwrap(), text);
        assert_eq!(serde_json::from_str::<Picture>(text).unwrap(), full);
    }
}
