//! Numbers of things in sentences.

/// Formats a number of things, such as `1 item` or `2 items`.
pub(crate) fn counted(count: usize, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        _ => format!("{count} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn one_thing_is_singular() {
        let texts = [0, 1, 2].map(|count| super::counted(count, "item"));
        assert_eq!(texts, ["0 items", "1 item", "2 items"]);
    }
}
