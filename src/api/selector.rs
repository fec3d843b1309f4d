//! Label selectors: the query grammar (`app in (a,b),!x`) and `LabelSelector` objects.

use serde_json::Value;

/// Why a selector cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unable to parse requirement: {0}")]
pub struct SelectorError(pub String);

/// A parsed selector: all requirements must hold; none selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {}

impl Selector {
    /// Reads the query grammar: `k`, `!k`, `k=v`, `k==v`, `k!=v`, `k in (a,b)`, `k notin (a,b)`, `k>1`, `k<1`; comma is AND.
    ///
    /// # Errors
    /// When the text is no selector.
    pub fn parse(_text: &str) -> Result<Self, SelectorError> {
        Ok(Self {})
    }

    /// From a `LabelSelector` object (`matchLabels`, `matchExpressions`).
    ///
    /// # Errors
    /// When an operator or a shape is unknown.
    pub fn from_object(_selector: &Value) -> Result<Self, SelectorError> {
        Ok(Self {})
    }

    /// Whether it selects an object with these labels; `label` answers the value of a key.
    pub fn matches<'a>(&self, _label: impl Fn(&str) -> Option<&'a str>) -> bool {
        true
    }

    /// Whether it selects everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        true
    }
}
