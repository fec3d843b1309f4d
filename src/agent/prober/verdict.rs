//! What one probing found, and how it is said.
//!
//! Source:   the kubelet's prober.go: the reasons, and how the messages begin.

use super::{Kind, Ticket};

/// What one probing found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sign {
    /// All is well.
    Good,
    /// All is well, and a person may want to know this.
    Warning(String),
    /// It answered badly, or not in time.
    Bad(String),
    /// It could not be asked: that says nothing about the container.
    Errored(String),
}

/// The answer to one [`super::Ask`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The question's.
    pub ticket: Ticket,
    /// What was found.
    pub sign: Sign,
}

/// The event's reason and message; `None` when there is nothing to say.
#[must_use]
pub fn words(kind: Kind, sign: &Sign) -> Option<(&'static str, String)> {
    let word = kind.word();
    match sign {
        Sign::Good => None,
        Sign::Warning(text) => Some(("ProbeWarning", format!("{word} probe warning: {text}"))),
        Sign::Bad(text) => Some(("Unhealthy", format!("{word} probe failed: {}", text.trim_end()))),
        Sign::Errored(text) => Some(("Unhealthy", format!("{word} probe errored: {}", text.trim_end()))),
    }
}

/// How `Killing` says it.
#[must_use]
pub fn killing(container: &str, kind: Kind, again: bool) -> String {
    let then = if again { ", will be restarted" } else { "" };
    format!("Container {container} failed {} probe{then}", kind.word().to_ascii_lowercase())
}
