//! Finds the names that a user probably meant.

use policy_host::text;
use std::fmt;

/// The maximum number of similar names in an error.
const MAX_SIMILAR: usize = 3;
/// The minimum similarity of a suggested name, as computed by
/// `strsim::normalized_damerau_levenshtein`.
const MIN_SIMILARITY: f64 = 0.5;
/// The maximum length of a compared name, in bytes. A comparison takes time in proportion to the
/// product of both lengths.
const MAX_COMPARED: usize = 64;
/// The maximum length of a name in an error, in bytes.
const MAX_NAME: usize = 128;

/// Names that are similar to one that does not exist. Displays `; did you mean NAME?`, or nothing.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Similar(Vec<String>);

impl Similar {
    /// Returns the names that are most similar to `name`, best first. Ignores long names.
    pub fn to<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Self {
        let is_short = |other: &&str| name.len().max(other.len()) <= MAX_COMPARED;
        let names = names.into_iter().filter(is_short).map(|other| {
            let similarity = strsim::normalized_damerau_levenshtein(name, other);
            (similarity, other)
        });
        let mut names: Vec<_> = names.filter(|(s, _)| *s >= MIN_SIMILARITY).collect();
        names.sort_by(|(one, a), (other, b)| other.total_cmp(one).then(a.cmp(b)));
        names.dedup_by(|(_, a), (_, b)| a == b);
        let names = names.into_iter().take(MAX_SIMILAR);
        Self(names.map(|(_, name)| name.to_owned()).collect())
    }

    /// Returns whether no name is similar.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Similar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return Ok(());
        }
        let names = text::list(&self.0, " or ", MAX_NAME);
        write!(f, "; did you mean {names}?")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn similar_names_are_suggested_best_first() {
        for (name, names, expected) in [
            (
                "bakcup",
                &["backup", "nightly"][..],
                "; did you mean backup?",
            ),
            (
                "item",
                &["items", "item1", "other", "item1"],
                "; did you mean item1 or items?",
            ),
            ("x", &["photos"], ""),
            (&"x".repeat(65), &[&"x".repeat(64), &"x".repeat(65)], ""),
            (
                "photo\u{202e}s",
                &["photo\u{1b}s"],
                "; did you mean photo s?",
            ),
        ] {
            assert_eq!(
                Similar::to(name, names.iter().copied()).to_string(),
                expected
            );
        }
    }
}
