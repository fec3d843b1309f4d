//! Secrets. Source: `SetDefaults_Secret`, and the conversion that folds `stringData` into `data`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{map, map_or_new, set_empty};
use crate::api::Object;

/// Fills in the defaults; `stringData` is write-only, wins over `data` of the same key, and is never stored.
pub fn fill(object: &mut Object) {
    let fields = object.raw_mut();
    set_empty(fields, "type", "Opaque");
    let Some(plain) = map(fields, "stringData").map(std::mem::take) else { return };
    let (texts, other): (Vec<_>, Vec<_>) = plain.into_iter().partition(|(_, value)| value.is_string());
    if !texts.is_empty()
        && let Some(data) = map_or_new(fields, "data")
    {
        for (key, value) in texts {
            data.insert(key, STANDARD.encode(value.as_str().unwrap_or_default()).into());
        }
    }
    // What is no text is left for validation to refuse.
    if other.is_empty() {
        fields.remove("stringData");
    } else {
        fields.insert("stringData".to_owned(), Value::Object(other.into_iter().collect()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn plain_text_is_folded_into_data() {
        let mut object =
            Object::from_value(json!({"data": {"a": "b2xk", "b": "Yg=="}, "stringData": {"a": "new", "ü": "", "c": "\u{fc}"}}))
                .unwrap();
        fill(&mut object);
        assert_eq!(object.into_value(), json!({"type": "Opaque", "data": {"a": "bmV3", "b": "Yg==", "c": "w7w=", "ü": ""}}));
    }

    #[test]
    fn a_type_stays_and_nothing_is_made_up() {
        let mut object = Object::from_value(json!({"type": "kubernetes.io/tls", "stringData": {}})).unwrap();
        fill(&mut object);
        assert_eq!(object.into_value(), json!({"type": "kubernetes.io/tls"}));
    }
}
