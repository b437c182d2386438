//! Text of a guest's, made fit to be shown.
//!
//! It ends up in the status of objects and in terminals: one line, of bounded
//! length, without anything that a terminal acts on or that changes the order in
//! which a line is read.

/// Longest message of an error in bytes.
pub(crate) const ERROR: usize = 1024;
/// Longest quotation of another program's words in bytes.
pub(crate) const QUOTE: usize = 200;

/// Cuts text to one line of at most `most` bytes, at a character boundary.
pub(crate) fn one_line(text: &str, most: usize) -> String {
    let cut = text
        .get(..text.floor_char_boundary(most))
        .unwrap_or_default();
    cut.chars()
        .map(|c| if harmless(c) { c } else { ' ' })
        .collect()
}

/// What a policy says when it cannot decide.
pub(crate) fn words(text: &str) -> String {
    let line = one_line(text, ERROR);
    match line.trim() {
        "" => "it does not say why".to_owned(),
        words => words.to_owned(),
    }
}

fn harmless(c: char) -> bool {
    !c.is_control()
        // Marks, embeddings, overrides and isolates of direction; separators of
        // lines and paragraphs; what has no width.
        && !matches!(c, '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_is_left_that_a_terminal_acts_on() {
        let line = one_line("a\nb\x1b[31mc\u{9b}d\u{202e}e\u{2028}f\0ü", 100);
        assert_eq!(line, "a b [31mc d e f ü");
        assert_eq!(words(" \n "), "it does not say why");
    }

    proptest! {
        #[test]
        fn any_text_becomes_a_line_within_bounds(text in any::<String>(), most in 0_usize..300) {
            let line = one_line(&text, most);
            // A space is never longer than what it stands for.
            prop_assert!(line.len() <= most);
            prop_assert!(line.chars().all(harmless));
        }
    }
}
