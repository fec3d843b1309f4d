//! Label selectors: the query grammar (`app in (a,b),!x`), `LabelSelector` objects, and plain maps (`nodeSelector`).
//!
//! In:       text of a query, or JSON of a selector.
//! Out:      a [`Selector`] that answers [`Selector::matches`] and prints itself in the query grammar.
//! Never:    field selectors (`metadata.name=x`): those know the fields of a kind.
//! Source:   the published grammar of label selectors; as there, `!=` and `notin` also match objects without the label.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

/// Why a selector cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unable to parse requirement: {0}")]
pub struct SelectorError(pub String);

/// What one requirement asks of the value of its label.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    Equals(String),
    Differs(String),
    In(BTreeSet<String>),
    NotIn(BTreeSet<String>),
    Exists,
    Missing,
    Greater(i64),
    Less(i64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

/// A parsed selector: all requirements must hold; none selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// Sorted by key, so that equal selectors print alike.
    requirements: Vec<Requirement>,
    /// A selector object that is absent selects nothing at all.
    nothing: bool,
}

impl Selector {
    /// Reads the query grammar: `k`, `!k`, `k=v`, `k==v`, `k!=v`, `k in (a,b)`, `k notin (a,b)`, `k>1`, `k<1`; comma is AND.
    ///
    /// # Errors
    /// When the text is no selector.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        Parser { tokens: tokens(text), position: 0 }.selector().map(Self::of)
    }

    /// From a `LabelSelector` object (`matchLabels`, `matchExpressions`). An empty object selects everything, `null` nothing.
    ///
    /// # Errors
    /// When an operator or a shape is unknown.
    pub fn from_object(selector: &Value) -> Result<Self, SelectorError> {
        let map = match selector {
            Value::Null => return Ok(Self::nothing()),
            Value::Object(map) => map,
            other => return Err(SelectorError(format!("expected a LabelSelector object, found {other}"))),
        };
        let mut requirements = match map.get("matchLabels") {
            None | Some(Value::Null) => Vec::new(),
            Some(labels) => Self::from_map(labels)?.requirements,
        };
        match map.get("matchExpressions") {
            None | Some(Value::Null) => {}
            Some(Value::Array(list)) => {
                for expression in list {
                    requirements.push(requirement_from_expression(expression)?);
                }
            }
            Some(other) => return Err(SelectorError(format!("matchExpressions must be a list, found {other}"))),
        }
        Ok(Self::of(requirements))
    }

    /// From a plain map of labels, as services and `nodeSelector` have it. An empty map selects everything (for a service
    /// it means "none": look at [`Selector::is_empty`]), `null` nothing.
    ///
    /// # Errors
    /// When it is no map of strings, or a key or value is no label.
    pub fn from_map(labels: &Value) -> Result<Self, SelectorError> {
        let map = match labels {
            Value::Null => return Ok(Self::nothing()),
            Value::Object(map) => map,
            other => return Err(SelectorError(format!("expected a map of labels, found {other}"))),
        };
        let mut requirements = Vec::new();
        for (key, value) in map {
            let value = value.as_str().ok_or_else(|| SelectorError(format!("{key}: {value} is no string")))?;
            requirements.push(Requirement { key: label_key(key)?, test: Test::Equals(label_value(key, value)?) });
        }
        Ok(Self::of(requirements))
    }

    /// The selector that selects no object.
    #[must_use]
    pub fn nothing() -> Self {
        Self { requirements: Vec::new(), nothing: true }
    }

    /// Whether it selects an object with these labels; `label` answers the value of a key.
    pub fn matches<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.nothing && self.requirements.iter().all(|requirement| requirement.test.holds(label(&requirement.key)))
    }

    /// Whether it selects everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty() && !self.nothing
    }

    fn of(mut requirements: Vec<Requirement>) -> Self {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Self { requirements, nothing: false }
    }
}

impl Test {
    fn holds(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|text| text.parse::<i64>().ok());
        match self {
            Test::Equals(wanted) => value == Some(wanted),
            Test::Differs(unwanted) => value != Some(unwanted),
            Test::In(wanted) => value.is_some_and(|value| wanted.contains(value)),
            Test::NotIn(unwanted) => value.is_none_or(|value| !unwanted.contains(value)),
            Test::Exists => value.is_some(),
            Test::Missing => value.is_none(),
            Test::Greater(bound) => number().is_some_and(|number| number > *bound),
            Test::Less(bound) => number().is_some_and(|number| number < *bound),
        }
    }
}

impl fmt::Display for Selector {
    /// The query grammar; what selects everything prints as nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Requirement { key, test }) in self.requirements.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            let list = |values: &BTreeSet<String>| values.iter().map(String::as_str).collect::<Vec<_>>().join(",");
            match test {
                Test::Equals(value) => write!(f, "{key}={value}")?,
                Test::Differs(value) => write!(f, "{key}!={value}")?,
                Test::In(values) => write!(f, "{key} in ({})", list(values))?,
                Test::NotIn(values) => write!(f, "{key} notin ({})", list(values))?,
                Test::Exists => f.write_str(key)?,
                Test::Missing => write!(f, "!{key}")?,
                Test::Greater(bound) => write!(f, "{key}>{bound}")?,
                Test::Less(bound) => write!(f, "{key}<{bound}")?,
            }
        }
        Ok(())
    }
}

fn requirement_from_expression(expression: &Value) -> Result<Requirement, SelectorError> {
    let key = expression.get("key").and_then(Value::as_str).unwrap_or_default();
    let operator = expression.get("operator").and_then(Value::as_str).unwrap_or_default();
    let mut values = BTreeSet::new();
    for value in expression.get("values").and_then(Value::as_array).into_iter().flatten() {
        let text = value.as_str().ok_or_else(|| SelectorError(format!("values of {key:?}: {value} is no string")))?;
        values.insert(label_value(key, text)?);
    }
    let some = |values: BTreeSet<String>| {
        if values.is_empty() {
            Err(SelectorError(format!("{key}: for 'in', 'notin' operators, values can't be empty")))
        } else {
            Ok(values)
        }
    };
    let none = |test: Test| {
        if values.is_empty() {
            Ok(test)
        } else {
            Err(SelectorError(format!("{key}: values must be empty for exists and does not exist")))
        }
    };
    let test = match operator {
        "Exists" => none(Test::Exists)?,
        "DoesNotExist" => none(Test::Missing)?,
        "In" => Test::In(some(values)?),
        "NotIn" => Test::NotIn(some(values)?),
        other => return Err(SelectorError(format!("{other:?} is not a valid label selector operator"))),
    };
    Ok(Requirement { key: label_key(key)?, test })
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Sign(&'static str),
    End,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Token::Word(text) => f.write_str(text),
            Token::Sign(sign) => f.write_str(sign),
            Token::End => Ok(()),
        }
    }
}

/// Longer signs first.
const SIGNS: [&str; 9] = ["==", "!=", "=", "!", "(", ")", ",", ">", "<"];

fn tokens(text: &str) -> Vec<Token> {
    let mut rest = text.trim_start();
    let mut tokens = Vec::new();
    while !rest.is_empty() {
        if let Some(sign) = SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
            tokens.push(Token::Sign(sign));
            rest = rest.strip_prefix(sign).unwrap_or_default();
        } else {
            let end = rest.find(|c: char| c.is_whitespace() || "=!(),><".contains(c)).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            tokens.push(Token::Word(word.to_owned()));
            rest = after;
        }
        rest = rest.trim_start();
    }
    tokens
}

struct Parser {
    tokens: Vec<Token>,
    position: usize,
}

impl Parser {
    fn peek(&self) -> Token {
        self.tokens.get(self.position).cloned().unwrap_or(Token::End)
    }

    fn next(&mut self) -> Token {
        let token = self.peek();
        self.position += 1;
        token
    }

    fn selector(&mut self) -> Result<Vec<Requirement>, SelectorError> {
        let mut requirements = Vec::new();
        if self.peek() == Token::End {
            return Ok(requirements);
        }
        loop {
            requirements.push(self.requirement()?);
            match self.next() {
                Token::End => return Ok(requirements),
                Token::Sign(",") => {}
                other => return Err(found(&other, "',' or 'end of string'")),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let mut token = self.next();
        let negated = token == Token::Sign("!");
        if negated {
            token = self.next();
        }
        let Token::Word(key) = token else { return Err(found(&token, "identifier")) };
        let key = label_key(&key)?;
        if negated {
            return Ok(Requirement { key, test: Test::Missing });
        }
        if matches!(self.peek(), Token::End | Token::Sign(",")) {
            return Ok(Requirement { key, test: Test::Exists });
        }
        let test = match self.next() {
            Token::Sign("=" | "==") => Test::Equals(self.value(&key)?),
            Token::Sign("!=") => Test::Differs(self.value(&key)?),
            Token::Sign(">") => Test::Greater(self.number(&key)?),
            Token::Sign("<") => Test::Less(self.number(&key)?),
            Token::Word(word) if word == "in" => Test::In(self.values(&key)?),
            Token::Word(word) if word == "notin" => Test::NotIn(self.values(&key)?),
            other => return Err(found(&other, "in, notin, =, ==, !=, gt, lt")),
        };
        Ok(Requirement { key, test })
    }

    /// One value; nothing stands for the empty one.
    fn value(&mut self, key: &str) -> Result<String, SelectorError> {
        match self.peek() {
            Token::End | Token::Sign(",") => Ok(String::new()),
            Token::Word(word) => {
                self.position += 1;
                label_value(key, &word)
            }
            other => Err(found(&other, "identifier")),
        }
    }

    fn number(&mut self, key: &str) -> Result<i64, SelectorError> {
        let text = self.value(key)?;
        text.parse()
            .map_err(|_| SelectorError(format!("{key}: for 'Gt', 'Lt' operators, the value must be an integer, found {text:?}")))
    }

    /// `(a,b)`; an empty place between commas is the empty value.
    fn values(&mut self, key: &str) -> Result<BTreeSet<String>, SelectorError> {
        match self.next() {
            Token::Sign("(") => {}
            other => return Err(found(&other, "'('")),
        }
        if self.peek() == Token::Sign(")") {
            return Err(SelectorError(format!("{key}: for 'in', 'notin' operators, values can't be empty")));
        }
        let mut values = BTreeSet::new();
        loop {
            values.insert(match self.peek() {
                Token::Sign("," | ")") => String::new(),
                Token::Word(word) => {
                    self.position += 1;
                    label_value(key, &word)?
                }
                other => return Err(found(&other, "',', ')' or identifier")),
            });
            match self.next() {
                Token::Sign(",") => {}
                Token::Sign(")") => return Ok(values),
                other => return Err(found(&other, "',' or ')'")),
            }
        }
    }
}

fn found(token: &Token, expected: &str) -> SelectorError {
    SelectorError(format!("found '{token}', expected: {expected}"))
}

/// A label key: a name, perhaps behind a DNS name and a slash.
fn label_key(key: &str) -> Result<String, SelectorError> {
    let (prefix, name) = key.rsplit_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let prefix_is_dns = prefix.is_none_or(|prefix| {
        prefix.len() <= 253
            && prefix.split('.').all(|label| {
                let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
                label.starts_with(plain) && label.ends_with(plain) && label.chars().all(|c| plain(c) || c == '-')
            })
    });
    if prefix_is_dns && !name.is_empty() && is_name(name) {
        return Ok(key.to_owned());
    }
    Err(SelectorError(format!(
        "{key:?} is no valid label key: it is a name of at most 63 letters, digits, '-', '_' or '.', that begins and ends \
         with a letter or digit, with an optional DNS name and '/' before it"
    )))
}

fn label_value(key: &str, value: &str) -> Result<String, SelectorError> {
    if is_name(value) {
        return Ok(value.to_owned());
    }
    Err(SelectorError(format!(
        "values of {key}: {value:?} is no valid label value: it has at most 63 letters, digits, '-', '_' or '.', and begins \
         and ends with a letter or digit"
    )))
}

/// Whether it is a label value, which may be empty.
fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric();
    text.len() <= 63
        && (text.is_empty()
            || (text.starts_with(plain)
                && text.ends_with(plain)
                && text.chars().all(|c| plain(c) || matches!(c, '-' | '_' | '.'))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn selects(selector: &Selector, labels: &[(&str, &str)]) -> bool {
        selector.matches(|key| labels.iter().find(|(name, _)| *name == key).map(|(_, value)| *value))
    }

    #[test]
    fn the_query_grammar_selects_as_documented() {
        let web: &[(&str, &str)] = &[("app", "web"), ("tier", "1"), ("empty", "")];
        for (text, expected) in [
            ("", true),
            ("  ", true),
            ("app", true),
            ("!app", false),
            ("! app", false),
            ("nope", false),
            ("!nope", true),
            ("app=web", true),
            ("app==web", true),
            (" app = web , tier == 1 ", true),
            ("app=db", false),
            ("app!=db", true),
            ("nope!=db", true),
            ("app!=web", false),
            ("app in (web,db)", true),
            ("app in ( web , db )", true),
            ("app in(web)", true),
            ("app notin (web,db)", false),
            ("nope notin (web)", true),
            ("tier>0", true),
            ("tier>1", false),
            ("tier<2", true),
            ("app>1", false),
            ("empty=", true),
            ("app=", false),
            ("empty=,app=web", true),
            ("empty in (,x)", true),
            ("empty in (x,)", true),
            ("app=web,tier in (1,2),!nope", true),
            ("app=web,nope", false),
        ] {
            let selector = Selector::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(selects(&selector, web), expected, "{text}");
            let again = Selector::parse(&selector.to_string()).expect("prints what it reads");
            assert_eq!(again, selector, "{text} printed as {selector}");
        }
    }

    #[test]
    fn words_of_the_grammar_may_be_keys_and_values() {
        assert_eq!(Selector::parse("in in (in,notin)").expect("parses").to_string(), "in in (in,notin)");
        assert_eq!(Selector::parse("a=in").expect("parses").to_string(), "a=in");
    }

    #[test]
    fn what_is_no_selector_is_refused_with_the_place() {
        for (text, words) in [
            ("app=web||tier=1", "label value"),
            ("x==a==b", "found '==', expected: ',' or 'end of string'"),
            ("!x=a", "found '=', expected: ',' or 'end of string'"),
            ("x<a", "must be an integer"),
            ("x in ()", "values can't be empty"),
            ("x in a", "found 'a', expected: '('"),
            ("x in (a", "found '', expected: ',' or ')'"),
            ("x y", "found 'y', expected: in, notin, =, ==, !=, gt, lt"),
            (",", "found ',', expected: identifier"),
            ("x,", "found '', expected: identifier"),
            ("=a", "found '=', expected: identifier"),
            ("-x=a", "no valid label key"),
            ("Upper.com/x=a", "no valid label key"),
            ("a/b/c=a", "no valid label key"),
            ("x=é", "no valid label value"),
        ] {
            let error = Selector::parse(text).expect_err(text).to_string();
            assert!(error.starts_with("unable to parse requirement: ") && error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn selector_objects_are_read_and_printed_in_the_query_grammar() {
        for (object, printed) in [
            (json!({}), ""),
            (json!({"matchLabels": null, "matchExpressions": []}), ""),
            (json!({"matchLabels": {"b": "2", "a": "1"}}), "a=1,b=2"),
            (
                json!({"matchLabels": {"app": "web"}, "matchExpressions": [
                    {"key": "tier", "operator": "In", "values": ["b", "a"]}, {"key": "env", "operator": "NotIn", "values": ["dev"]},
                    {"key": "x", "operator": "Exists"}, {"key": "y", "operator": "DoesNotExist", "values": []}]}),
                "app=web,env notin (dev),tier in (a,b),x,!y",
            ),
        ] {
            assert_eq!(Selector::from_object(&object).expect("is a selector").to_string(), printed);
        }
        for broken in [
            json!("app=web"),
            json!({"matchLabels": ["a"]}),
            json!({"matchLabels": {"a": 1}}),
            json!({"matchLabels": {"a": "-"}}),
            json!({"matchExpressions": {}}),
            json!({"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["1"]}]}),
            json!({"matchExpressions": [{"key": "a", "operator": "In"}]}),
            json!({"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["1"]}]}),
            json!({"matchExpressions": [{"operator": "Exists"}]}),
            json!({"matchExpressions": ["a"]}),
        ] {
            assert!(Selector::from_object(&broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn an_absent_selector_selects_nothing_and_an_empty_one_everything() {
        let (absent, empty) =
            (Selector::from_object(&Value::Null).expect("reads"), Selector::from_object(&json!({})).expect("reads"));
        assert!(!selects(&absent, &[]) && !absent.is_empty());
        assert!(selects(&empty, &[]) && empty.is_empty());
        assert!(selects(&Selector::from_map(&json!({"disk": "ssd"})).expect("reads"), &[("disk", "ssd")]));
    }
}
