//! What a person reads at a terminal, and copies from there: words for a shell, and lines that do nothing to the terminal.
//!
//! Names of files, of keys in a board's file, of what is on a card are anybody's.

/// A word of a command line that is to be copied, as a shell takes it.
#[must_use]
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%=,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    if !word.contains(unprintable) {
        return format!("'{}'", word.replace('\'', r"'\''"));
    }
    // What a terminal must not get raw, bash takes by its bytes.
    let letter = |c: char| match c {
        '\'' | '\\' => format!("\\{c}"),
        c if unprintable(c) => c.to_string().bytes().map(|byte| format!("\\{byte:03o}")).collect(),
        c => c.to_string(),
    };
    format!("$'{}'", word.chars().map(letter).collect::<String>())
}

/// A line as it may be told to a terminal: what is no character to be seen is escaped.
#[must_use]
pub fn printable(line: &str) -> String {
    let letter = |c: char| if unprintable(c) { c.escape_default().to_string() } else { c.to_string() };
    line.chars().map(letter).collect()
}

/// What does something to a terminal that is not a letter: control characters, and those that turn the direction of text.
fn unprintable(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_to_the_user_can_be_pasted_into_a_shell() {
        for (text, expected) in [("/a/b-1", "/a/b-1"), ("/a b", "'/a b'"), ("it's", r"'it'\''s'"), ("", "''"), ("%h", "%h")] {
            assert_eq!(quoted(text), expected);
        }
    }

    #[test]
    fn what_a_terminal_must_not_get_raw_is_escaped() {
        assert_eq!(quoted("/media/a b/it's"), r"'/media/a b/it'\''s'");
        assert_eq!(quoted("/boot/x.txt"), "/boot/x.txt");
        assert_eq!(quoted("/a\u{1b}[2J\n'\\\u{202e}é"), r"$'/a\033[2J\012\'\\\342\200\256é'");
        assert_eq!(printable("a\u{1b}[31m b\u{7}\u{9b}\nc\té\u{202e}"), r"a\u{1b}[31m b\u{7}\u{9b}\nc\té\u{202e}");
    }
}
