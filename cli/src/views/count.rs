//! Numbers of things in sentences.

use std::fmt::Display;

/// Formats a number of things, such as `1 item` or `2 items`.
pub(crate) fn counted<N: Display + PartialEq + From<u8>>(count: N, noun: &str) -> String {
    let plural = if count == N::from(1) { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

#[cfg(test)]
mod tests {
    #[test]
    fn one_thing_is_singular() {
        let texts = [0_u64, 1, 2].map(|count| super::counted(count, "item"));
        assert_eq!(texts, ["0 items", "1 item", "2 items"]);
    }
}
