//! Escapes text for XML.

/// Escapes text for an element or for an attribute in double quotes.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(c),
            // XML 1.0 does not allow these characters, not even as references.
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c if c.is_ascii_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::escape;
    use proptest::prelude::*;

    #[test]
    fn escape_replaces_characters_that_xml_does_not_allow() {
        assert_eq!(
            escape("<a href=\"b\">&'\n\u{0}\u{1b}\r\u{ffff}ü"),
            "&lt;a href=&quot;b&quot;&gt;&amp;'\n\u{fffd}\u{fffd}\u{fffd}\u{fffd}ü"
        );
    }

    proptest! {
        #[test]
        fn escape_round_trips_through_a_parser(text: String) {
            let xml = format!("<a b=\"{0}\">{0}</a>", escape(&text));
            let read = roxmltree::Document::parse(&xml);
            let read = read.map_err(|error| TestCaseError::fail(error.to_string()))?;
            let element = read.root_element();
            let allowed = |c: char| match c {
                '\n' | '\t' => c,
                '\u{fffe}' | '\u{ffff}' => '\u{fffd}',
                c if c.is_ascii_control() => '\u{fffd}',
                c => c,
            };
            let kept: String = text.chars().map(allowed).collect();
            prop_assert_eq!(element.text().unwrap_or_default(), &kept);
            // A parser replaces line ends and tabs in attributes with spaces.
            let kept = kept.replace(['\n', '\t'], " ");
            prop_assert_eq!(element.attribute("b"), Some(kept.as_str()));
        }
    }
}
