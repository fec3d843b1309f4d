//! How names, labels and keys may look. Each rule answers with what is wrong, in Kubernetes' words; nothing means fine.
//!
//! Source:   apimachinery `util/validation`. Its regular expressions are written out by hand here; the messages quote them.

const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const QUALIFIED: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const QUALIFIED_WORDS: &str =
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";

fn too_long(most: usize) -> String {
    format!("must be no more than {most} bytes")
}

fn range(low: i64, high: i64) -> String {
    format!("must be between {low} and {high}, inclusive")
}

fn pattern(words: &str, regex: &str, examples: &[&str]) -> String {
    let examples: Vec<String> = examples.iter().map(|example| format!("'{example}', ")).collect();
    format!("{words} (e.g. {}regex used for validation is '{regex}')", examples.join(" or "))
}

/// Begins and ends with a letter or digit, and has only `inner` besides.
fn framed(text: &str, edge: impl Fn(u8) -> bool, inner: &[u8]) -> bool {
    let bytes = text.as_bytes();
    let good = |byte: Option<&u8>| byte.copied().is_some_and(&edge);
    good(bytes.first()) && good(bytes.last()) && bytes.iter().all(|byte| edge(*byte) || inner.contains(byte))
}

fn lower(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn alphanumeric(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

/// `my-name`: what becomes part of a DNS name. At most 63 bytes.
#[must_use]
pub fn dns1123_label(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if text.len() > 63 {
        faults.push(too_long(63));
    }
    if !framed(text, lower, b"-") {
        faults.push(pattern(
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character",
            LABEL,
            &["my-name", "123-abc"],
        ));
    }
    faults
}

/// `example.com`: what most objects are named by. At most 253 bytes.
#[must_use]
pub fn dns1123_subdomain(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if text.len() > 253 {
        faults.push(too_long(253));
    }
    if !text.split('.').all(|label| framed(label, lower, b"-")) {
        faults.push(pattern(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character",
            &format!(r"{LABEL}(\.{LABEL})*"),
            &["example.com"],
        ));
    }
    faults
}

/// `*.example.com`: any one label, and the rest. At most 253 bytes.
#[must_use]
pub fn wildcard_subdomain(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if text.len() > 253 {
        faults.push(too_long(253));
    }
    if !text.strip_prefix("*.").is_some_and(|rest| rest.split('.').all(|label| framed(label, lower, b"-"))) {
        faults.push(pattern(
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character",
            &format!(r"\*\.{LABEL}(\.{LABEL})*"),
            &["*.example.com"],
        ));
    }
    faults
}

/// `abc-123`, beginning with a letter: the name of a service. At most 63 bytes.
#[must_use]
pub fn dns1035_label(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if text.len() > 63 {
        faults.push(too_long(63));
    }
    if !framed(text, lower, b"-") || !text.starts_with(|c: char| c.is_ascii_lowercase()) {
        faults.push(pattern(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character",
            "[a-z]([-a-z0-9]*[a-z0-9])?",
            &["my-name", "abc-123"],
        ));
    }
    faults
}

/// `name` or `example.com/name`: the key of a label.
#[must_use]
pub fn qualified(text: &str) -> Vec<String> {
    let regex = || pattern(QUALIFIED_WORDS, QUALIFIED, &["MyName", "my.name", "123-abc"]);
    let mut faults = Vec::new();
    let name = match text.split_once('/') {
        None => text,
        Some((_, name)) if name.contains('/') => {
            return vec![format!(
                "a qualified name {} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
                regex()
            )];
        }
        Some((prefix, name)) => {
            if prefix.is_empty() {
                faults.push("prefix part must be non-empty".to_owned());
            } else {
                faults.extend(dns1123_subdomain(prefix).into_iter().map(|fault| format!("prefix part {fault}")));
            }
            name
        }
    };
    if name.is_empty() {
        faults.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        faults.push(format!("name part {}", too_long(63)));
    }
    if !framed(name, alphanumeric, b"-_.") {
        faults.push(format!("name part {}", regex()));
    }
    faults
}

/// The value of a label: empty or `my_value`. At most 63 bytes.
#[must_use]
pub fn label_value(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if text.len() > 63 {
        faults.push(too_long(63));
    }
    if !text.is_empty() && !framed(text, alphanumeric, b"-_.") {
        faults.push(pattern(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
            "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?",
            &["MyValue", "my_value", "12345"],
        ));
    }
    faults
}

/// A key of a config map or secret, which becomes a file's name.
#[must_use]
pub fn config_key(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if text.len() > 253 {
        faults.push(too_long(253));
    }
    if text.is_empty() || !text.bytes().all(|byte| alphanumeric(byte) || b"-._".contains(&byte)) {
        faults.push(pattern(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    faults.extend(directory(text));
    faults
}

fn directory(text: &str) -> Option<String> {
    match text {
        "." => Some("must not be '.'".to_owned()),
        ".." => Some("must not be '..'".to_owned()),
        _ if text.starts_with("..") => Some("must not start with '..'".to_owned()),
        _ => None,
    }
}

/// The name of an environment variable: anything printable but `=`, as Kubernetes allows since 1.32.
#[must_use]
pub fn environment(text: &str) -> Vec<String> {
    if text.is_empty() || !text.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'=') {
        return vec![
            "a valid environment variable name must consist only of printable ASCII characters other than '='".to_owned(),
        ];
    }
    Vec::new()
}

/// The name of a port (IANA service name): `http`, at most 15 bytes, at least one letter.
#[must_use]
pub fn port_name(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if text.len() > 15 {
        faults.push(too_long(15));
    }
    if text.is_empty() || !text.bytes().all(|byte| lower(byte) || byte == b'-') {
        faults.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        faults.push("must contain at least one letter (a-z)".to_owned());
    }
    if text.contains("--") {
        faults.push("must not contain consecutive hyphens".to_owned());
    }
    if text.starts_with('-') || text.ends_with('-') {
        faults.push("must not begin or end with a hyphen".to_owned());
    }
    faults
}

/// A port's number: 1 to 65535.
#[must_use]
pub fn port_number(number: i64) -> Vec<String> {
    if (1..=65535).contains(&number) { Vec::new() } else { vec![range(1, 65535)] }
}

/// A number between two bounds, both included.
#[must_use]
pub fn between(number: i64, low: i64, high: i64) -> Vec<String> {
    if (low..=high).contains(&number) { Vec::new() } else { vec![range(low, high)] }
}

/// `25%`.
#[must_use]
pub fn percent(text: &str) -> Vec<String> {
    match text.strip_suffix('%') {
        Some(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => Vec::new(),
        _ => {
            vec![pattern("a valid percent string must be a numeric string followed by an ending '%'", "[0-9]+%", &["1%", "93%"])]
        }
    }
}

/// A path below a volume: relative, and not out of it.
#[must_use]
pub fn local_path(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if text.starts_with('/') {
        faults.push("must be a relative path".to_owned());
    }
    faults.extend(no_backsteps(text));
    faults
}

/// A path without a step upwards.
#[must_use]
pub fn no_backsteps(text: &str) -> Vec<String> {
    if text.split('/').any(|part| part == "..") { vec!["must not contain '..'".to_owned()] } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_judged_as_kubernetes_judges_them() {
        type Rule = fn(&str) -> Vec<String>;
        let (long63, long64, long254) = ("a".repeat(63), "a".repeat(64), "a".repeat(254));
        let table: [(Rule, &[&str], &[&str]); 8] = [
            (dns1123_label, &["a", "0", "my-name", "a--b", &long63], &["", "-a", "a-", "A", "a.b", "a_b", "ü", &long64]),
            (
                dns1123_subdomain,
                &["a", "example.com", "1.2", "a-b.c"],
                &["", ".", "a.", ".a", "a..b", "Web_1", "a.-b", "a b", "a\n", &long254],
            ),
            (dns1035_label, &["a", "a1-b"], &["", "1a", "a-", "A", "a.b"]),
            (qualified, &["a", "A.b_c-d", "example.com/x", "1"], &["", "/", "/a", "a/", "a/b/c", "-a", "A.com/x", "é", &long64]),
            (label_value, &["", "a", "A_b.c-d", "1", &long63], &["-", "a-", " ", "a b", "ü", &long64]),
            (config_key, &["a", ".a", "A_b.c-d", "-"], &["", ".", "..", "..a", "a/b", "a b", "ü", &long254]),
            (environment, &["A", "a b", "1", "a.b-c"], &["", "A=B", "ü", "a\tb"]),
            (port_name, &["http", "a", "a-1"], &["", "1", "a--b", "-a", "a-", "HTTP", "sixteen-letters-", "abcdefghijklmnop"]),
        ];
        for (row, (rule, good, bad)) in table.iter().enumerate() {
            for text in *good {
                assert_eq!(rule(text), Vec::<String>::new(), "row {row}: {text:?}");
            }
            for text in *bad {
                assert_ne!(rule(text), Vec::<String>::new(), "row {row}: {text:?}");
            }
        }
    }

    #[test]
    fn the_words_are_those_of_kubernetes() {
        assert_eq!(
            dns1123_subdomain("Web_1"),
            [
                r"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
            ]
        );
        assert_eq!(
            dns1123_label("A"),
            [
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
            ]
        );
        assert_eq!(
            qualified("a b"),
            [
                "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
            ]
        );
        assert_eq!(port_number(0), ["must be between 1 and 65535, inclusive"]);
        assert_eq!(
            percent("25"),
            [
                "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')"
            ]
        );
        assert_eq!(local_path("/a/../b"), ["must be a relative path", "must not contain '..'"]);
        assert_eq!(local_path("a/..b"), Vec::<String>::new());
    }
}
