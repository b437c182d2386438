//! Finds the name that a user probably meant.

/// Returns the candidate that differs least from `name`, if it differs by at most a third of the
/// letters.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = name.chars().count();
    let lower = name.to_ascii_lowercase();
    candidates
        .into_iter()
        // A cheap lower bound for the distance.
        .filter(|candidate| candidate.len().abs_diff(length) <= most_edits(length))
        .map(|candidate| {
            (
                strsim::osa_distance(&lower, &candidate.to_ascii_lowercase()),
                candidate,
            )
        })
        .filter(|(distance, _)| *distance <= most_edits(length))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Returns the number of edits up to which two names are similar.
fn most_edits(length: usize) -> usize {
    (length / 3).clamp(1, 4)
}
