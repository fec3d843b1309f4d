//! Which topic names and filters there are, and which fits which.
//!
//! Source:   MQTT 5.0 §4.7. Ours are narrower: at most [`LONGEST`] bytes and [`DEEPEST`] levels, so that no tree of them
//!           grows without end.

/// The most bytes of a topic or filter.
pub const LONGEST: usize = 1024;
/// The most levels of a topic or filter.
pub const DEEPEST: usize = 32;

fn sized(text: &str) -> bool {
    !text.is_empty() && text.len() <= LONGEST && !text.contains('\0') && text.split('/').count() <= DEEPEST
}

/// Whether a message can be published there.
#[must_use]
pub fn is_topic(topic: &str) -> bool {
    sized(topic) && !topic.contains(['+', '#'])
}

/// Whether it can be subscribed to.
#[must_use]
pub fn is_filter(filter: &str) -> bool {
    let mut levels = filter.split('/').peekable();
    let mut good = sized(filter);
    while let Some(level) = levels.next() {
        good &= match level {
            "#" => levels.peek().is_none(),
            "+" => true,
            level => !level.contains(['+', '#']),
        };
    }
    good
}

/// Whether the filter is a shared subscription.
#[must_use]
pub fn is_shared(filter: &str) -> bool {
    filter == "$share" || filter.starts_with("$share/")
}

/// Whether a subscription to `filter` gets what is published on `topic`.
#[must_use]
pub fn matches(filter: &str, topic: &str) -> bool {
    // Topics of the broker's own are no business of a filter that begins with a wildcard.
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut topic = topic.split('/');
    for level in filter.split('/') {
        match (level, topic.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (level, Some(name)) if level == name => {}
            _ => return false,
        }
    }
    topic.next().is_none()
}

/// Whether `wide` gets everything that `narrow` gets. Both are filters.
#[must_use]
pub fn covers(wide: &str, narrow: &str) -> bool {
    let mut narrow = narrow.split('/');
    for level in wide.split('/') {
        match (level, narrow.next()) {
            ("#", _) => return true,
            ("+", Some(name)) if name != "#" => {}
            (level, Some(name)) if level == name => {}
            _ => return false,
        }
    }
    narrow.next().is_none()
}

/// Whether there is a topic that both filters get.
#[must_use]
pub fn overlap(one: &str, other: &str) -> bool {
    let (mut one, mut other) = (one.split('/'), other.split('/'));
    loop {
        match (one.next(), other.next()) {
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (Some("+"), Some(_)) | (Some(_), Some("+")) => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

/// What a filter's topics all begin with, up to its first wildcard.
#[must_use]
pub fn literal_prefix(filter: &str) -> &str {
    let end = filter.find(['+', '#']).unwrap_or(filter.len());
    // `a/#` gets `a` as well.
    let prefix = filter.get(..end).unwrap_or(filter);
    if filter.get(end..) == Some("#") { prefix.strip_suffix('/').unwrap_or(prefix) } else { prefix }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_get_what_the_standard_says() {
        for (filter, topic, expected) in [
            ("a/b", "a/b", true),
            ("a/b", "a/b/c", false),
            ("a/+", "a/b", true),
            ("a/+", "a", false),
            ("a/+", "a/", true),
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("#", "a/b", true),
            ("#", "$SYS/x", false),
            ("+/x", "$SYS/x", false),
            ("$SYS/#", "$SYS/x", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("a/+/c/#", "a/b/c", true),
        ] {
            assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
            assert!(!expected || topic.starts_with(literal_prefix(filter)), "{filter} {topic}");
        }
    }

    #[test]
    fn only_whole_levels_are_wildcards_and_the_multi_level_one_is_last() {
        for (filter, expected) in [
            ("", false),
            ("#", true),
            ("a/#", true),
            ("a/#/b", false),
            ("a#", false),
            ("a+/b", false),
            ("+/+/#", true),
            ("/", true),
            ("a\0", false),
        ] {
            assert_eq!(is_filter(filter), expected, "{filter:?}");
        }
        assert!(is_topic("a/b") && !is_topic("a/+") && !is_topic("#") && !is_topic(""));
        assert!(!is_topic(&"a/".repeat(DEEPEST)) && !is_topic(&"a".repeat(LONGEST + 1)));
    }

    #[test]
    fn a_filter_covers_another_when_it_gets_all_of_it() {
        for (wide, narrow, expected) in [
            ("a/#", "a/b/+", true),
            ("a/#", "a", true),
            ("a/+", "a/#", false),
            ("a/+/c/#", "a/b/c/d", true),
            ("a/+/c/#", "a/+/c/#", true),
            ("a/+/c/#", "a/#", false),
            ("a/+", "a/+", true),
        ] {
            assert_eq!(covers(wide, narrow), expected, "{wide} {narrow}");
        }
        for (one, other, expected) in
            [("a/#", "+/b", true), ("a/b", "+/c", false), ("a/b/#", "a/+", true), ("a", "a/+", false), ("#", "a/b", true)]
        {
            assert_eq!(overlap(one, other), expected, "{one} {other}");
            assert_eq!(overlap(other, one), expected, "{other} {one}");
        }
    }
}
