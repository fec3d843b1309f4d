//! How deep the brackets of a YAML text nest, looked at before the parser does: it takes quadratic time over deep ones.
//!
//! In:       the bytes of a YAML text.
//! Out:      whether it is harmless.
//! Never:    knows where the brackets of YAML really begin: in block style they may be text. So each bracket is looked at as if one
//!           began there, the real ones with it. Balanced text in a block scalar, such as a JSON document in a ConfigMap, passes.

/// More than a body may have, because what is looked at may be mere text.
const MAX_OPEN: usize = 1000;
/// How often one byte may be looked at, on average: once for each pair of brackets around it.
const LOOKS_A_BYTE: usize = 16;
/// What is allowed beside that, for small texts with brackets that never close: some hundredths of a second.
const LOOKS_FREE: usize = 16_000_000;

/// Whether the brackets of a text nest so little that the YAML parser is quick about it.
pub(super) fn is_harmless(text: &[u8]) -> bool {
    let mut left = text.len().saturating_mul(LOOKS_A_BYTE).saturating_add(LOOKS_FREE);
    let mut rest = text;
    while let Some(start) = rest.iter().position(|byte| matches!(byte, b'[' | b'{')) {
        rest = rest.get(start..).unwrap_or_default();
        match from_bracket(rest) {
            Some(looked) if looked <= left => left -= looked,
            _ => return false,
        }
        rest = rest.get(1..).unwrap_or_default();
    }
    true
}

/// What the last byte was part of.
#[derive(Clone, Copy, PartialEq)]
enum Within {
    Nothing,
    Plain,
    Single,
    Double,
    Comment,
}

/// How many bytes there are to the bracket that closes the first one, or to the end; `None` when too many are open.
fn from_bracket(text: &[u8]) -> Option<usize> {
    let mut open = 0usize;
    let mut within = Within::Nothing;
    let mut before = b' ';
    let mut bytes = text.iter().copied().enumerate();
    while let Some((index, byte)) = bytes.next() {
        within = match (within, byte) {
            (Within::Double, b'\\') => {
                bytes.next();
                Within::Double
            }
            (Within::Double, b'"') | (Within::Single, b'\'') | (Within::Comment, b'\n' | b'\r') => Within::Nothing,
            (Within::Double | Within::Single | Within::Comment, _) => within,
            (_, b'[' | b'{') => {
                open += 1;
                if open > MAX_OPEN {
                    return None;
                }
                Within::Nothing
            }
            (_, b']' | b'}') => {
                open = open.saturating_sub(1);
                if open == 0 {
                    return Some(index + 1);
                }
                Within::Nothing
            }
            (_, b',') => Within::Nothing,
            (_, b'#') if before.is_ascii_whitespace() => Within::Comment,
            (Within::Nothing, b'"') => Within::Double,
            (Within::Nothing, b'\'') => Within::Single,
            (within, byte) if byte.is_ascii_whitespace() => {
                // After `key: ` a value begins.
                if before == b':' { Within::Nothing } else { within }
            }
            (Within::Nothing, b':') => Within::Nothing,
            _ => Within::Plain,
        };
        before = byte;
    }
    Some(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_harmless() {
        let dashboard = format!(
            "data:\n  a.json: |\n    {}\n",
            r#"{"panels": [{"a": "it's [", "b": [1, 2, {"c": "]"}]}], "x": "\"}"}"#.repeat(5_000)
        );
        let script = "run: |\n  if [[ $a == 'x' ]]; then echo \"don't [\"; fi\n".repeat(500);
        for text in ["", "a: [1, {b: 'it''s'}] # [", "kind: Pod", "a: [don't, \"x\\\"]\"]", &dashboard, &script] {
            assert!(is_harmless(text.as_bytes()), "{}", text.get(..60).unwrap_or(text));
        }
    }

    #[test]
    fn deep_brackets_are_seen_behind_every_disguise() {
        for (name, opening) in [
            ("plain", "["),
            ("maps", "{a: "),
            ("closed in single quotes", "[ ']', "),
            ("closed in double quotes", "[\"]\\\"]\","),
            ("closed in a comment", "[ # ]\n"),
            ("after a key in quotes", "{'}': "),
            ("after an escaped quote", "[ 'it''s ]', "),
        ] {
            for before in ["", "a: |\n  '\nb: ", "a: |\n  [\" \nb: ", "# '\"[\n", "a: don't\nb: "] {
                let text = format!("{before}{}", opening.repeat(2000));
                assert!(!is_harmless(text.as_bytes()), "{name} after {before:?}");
            }
        }
    }
}
