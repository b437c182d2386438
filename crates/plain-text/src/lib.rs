//! Cleans untrusted text for display.
//!
//! Names, and messages of containers, servers, and policies, appear in the status of objects, in
//! events, in logs, and in terminals. [`clean`] processes all of them.

/// The maximum length of an error message in bytes.
pub const ERROR: usize = 1024;
/// The maximum length of a quotation of another program's output in bytes.
pub const QUOTE: usize = 200;
/// The maximum number of entries that [`list`] includes.
const LISTED: usize = 10;
/// Separates the lines of [`last_lines`].
const LINE_SEPARATOR: &str = " / ";
/// Marks truncated text.
const CUT: &str = "…";

/// Returns text as one line of at most `max` bytes without invisible characters.
///
/// Characters that [`is_unprintable`] are removed. Each run of whitespace and control characters
/// becomes one space; leading and trailing ones are removed. Longer text is truncated at a
/// character boundary and ends in `…`. Cleaning clean text changes nothing.
pub fn clean(text: &str, max: usize) -> String {
    let mut out = String::new();
    let mut gap = false;
    for c in text.chars() {
        if c.is_whitespace() || c.is_control() {
            gap = true;
        } else if !is_unprintable(c) {
            if std::mem::take(&mut gap) && !out.is_empty() {
                out.push(' ');
            }
            out.push(c);
            if out.len() > max {
                out.truncate(out.floor_char_boundary(max.saturating_sub(CUT.len())));
                out.truncate(out.trim_end().len());
                out.push_str(if max < CUT.len() { "" } else { CUT });
                break;
            }
        }
    }
    out
}

/// Returns as many of the last lines of a text as fit into `max` bytes, cleaned and joined with
/// ` / `. If even the last one does not fit, it is truncated.
pub fn last_lines(text: &str, max: usize) -> String {
    // Progress bars end their lines with a carriage return.
    let lines = text.split(['\n', '\r']).rev().map(|line| clean(line, max));
    let mut room = max;
    let mut last: Vec<String> = lines
        .filter(|line| !line.is_empty())
        .take_while(|line| {
            let taken = room.checked_sub(line.len());
            room = taken
                .unwrap_or_default()
                .saturating_sub(LINE_SEPARATOR.len());
            taken.is_some()
        })
        .collect();
    last.reverse();
    last.join(LINE_SEPARATOR)
}

/// Joins entries, each cleaned and truncated to `max` bytes. Includes at most ten entries and the
/// number of the others: `a, b, and 37 more`.
pub fn list<S: AsRef<str>>(
    entries: impl IntoIterator<Item = S>,
    separator: &str,
    max: usize,
) -> String {
    let mut entries = entries.into_iter();
    let listed = entries.by_ref().take(LISTED);
    let mut listed: Vec<String> = listed.map(|entry| clean(entry.as_ref(), max)).collect();
    match entries.count() {
        0 => {}
        more => listed.push(format!("and {more} more")),
    }
    listed.join(separator)
}

/// Returns whether a character must not be displayed: a terminal interprets it, it changes the
/// display order of a line, or it is invisible.
///
/// In Unicode terms: the general categories Cc (control), Zl, and Zp (line and paragraph
/// separators), the property Default_Ignorable_Code_Point (bidirectional controls, zero-width
/// characters, fillers, variation selectors, tags), and interlinear annotation characters.
pub fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Escapes each unprintable character as in JSON, so that JSON text keeps its meaning.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unprintable(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// Cleans the error message of a policy.
pub fn policy_error(text: &str) -> String {
    let message = clean(text, ERROR);
    if message.is_empty() {
        "no reason given".to_owned()
    } else {
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn text_is_cleaned_and_truncated() {
        let cases = [
            ("plain text, ünchanged", 100, "plain text, ünchanged"),
            ("", 100, ""),
            (" \r\n\t ", 100, ""),
            (
                "a\nb\x1b[31mc\u{9b}d\u{202e}e\u{2028}f\0ü",
                100,
                "a b [31mc de f ü",
            ),
            ("\u{200b} a \u{feff}\n\u{200b}b \u{2060}", 100, "a b"),
            (
                "a\u{ad}b\u{61c}c\u{180e}d\u{fe0f}e\u{fff9}f\u{e0041}g\u{3164}h",
                100,
                "abcdefgh",
            ),
            ("\x1b]0;title\x07\x1b[2J", 100, "]0;title [2J"),
            ("abcdef", 6, "abcdef"),
            ("abcdefg", 6, "abc…"),
            ("ab cdefg", 6, "ab…"),
            ("üüüü", 7, "üü…"),
            ("abc", 3, "abc"),
            ("abcd", 3, "…"),
            ("abcd", 2, ""),
            // The rest is invisible, so nothing is truncated.
            ("abc\u{200b}\n", 3, "abc"),
        ];
        for (text, max, expected) in cases {
            assert_eq!(clean(text, max), expected, "{text:?}, {max}");
        }
        assert_eq!(policy_error(" \n\u{200b} "), "no reason given");
    }

    #[test]
    fn last_lines_that_fit_are_returned() {
        let cases = [
            ("", 20, ""),
            ("\n \n", 20, ""),
            ("one", 20, "one"),
            ("one\ntwo\r\n\n", 20, "one / two"),
            ("one\ntwo\nthree", 15, "two / three"),
            ("one\ntwo\nthree", 10, "three"),
            ("one\nlong last line", 8, "long…"),
            ("10%\r20%\rdone", 10, "20% / done"),
            ("\u{1b}[31mred\u{202e}\n\u{200b}", 20, "[31mred"),
        ];
        for (text, max, expected) in cases {
            assert_eq!(last_lines(text, max), expected, "{text:?}, {max}");
        }
    }

    #[test]
    fn list_includes_ten_entries() {
        let names = |n: usize| (0..n).map(|n| n.to_string());
        assert_eq!(list(names(0), ", ", 9), "");
        assert_eq!(list(names(2), "; ", 9), "0; 1");
        assert_eq!(list(names(10), ", ", 9), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9");
        assert!(list(names(47), ", ", 9).ends_with("8, 9, and 37 more"));
        assert_eq!(list(["a\u{202e}b", "long name"], ", ", 8), "ab, long…");
    }

    #[test]
    fn escaping_preserves_the_meaning_of_json() {
        let text = "a\u{202e}b\u{e0041}ü\n\"\\";
        let json = serde_json::to_string(text).unwrap();
        let escaped = escape(&json);
        assert_eq!(escaped, r#""a\u202eb\udb40\udc41ü\n\"\\""#);
        assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), text);
    }

    #[test]
    fn unprintable_characters_match_the_unicode_properties() {
        let property = r"[\p{Cc}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\u{fff9}-\u{fffb}]";
        let property = regex_syntax::parse(property).unwrap().into_kind();
        let regex_syntax::hir::HirKind::Class(regex_syntax::hir::Class::Unicode(class)) = property
        else {
            panic!("the pattern must be a character class");
        };
        let listed: HashSet<char> = class
            .ranges()
            .iter()
            .flat_map(|r| r.start()..=r.end())
            .collect();
        for c in '\0'..=char::MAX {
            assert_eq!(is_unprintable(c), listed.contains(&c), "{c:?}");
        }
    }

    /// Any text, in which characters to remove are frequent.
    fn any_text() -> impl Strategy<Value = String> {
        let hostile =
            proptest::sample::select(vec!['\u{202e}', '\u{200b}', '\x1b', '\n', ' ', 'a', '…']);
        let any_char = prop_oneof![any::<char>(), hostile];
        proptest::collection::vec(any_char, 0..200).prop_map(|chars| chars.into_iter().collect())
    }

    proptest! {
        #[test]
        fn clean_text_is_one_line_within_the_limit(text in any_text(), max in 0_usize..300) {
            let line = clean(&text, max);
            prop_assert!(line.len() <= max);
            prop_assert!(!line.contains(is_unprintable));
            prop_assert_eq!(clean(&line, max), line);
            let end = last_lines(&text, max);
            prop_assert!(end.len() <= max && !end.contains(is_unprintable), "{}", end);
            prop_assert!(!escape(&text).contains(is_unprintable));
        }
    }
}
