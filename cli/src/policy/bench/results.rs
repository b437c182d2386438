//! The results, as JSON and as text.

use super::measure::{DecisionResults, LOADS};
use super::saved::Comparison;
use crate::policy::table::aligned;
use serde::Serialize;

/// The results.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Results {
    pub policy: String,
    pub bytes: usize,
    pub compile_p50_us: u64,
    /// Whether this program is a debug build, which is slow.
    pub debug_build: bool,
    pub decisions: Vec<DecisionResults>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comparison: Option<Comparison>,
}

/// Formats the results as text.
pub(super) fn format_results(results: &Results) -> String {
    let head = ["items", "p50", "p99", "fuel", "limit", "left"];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(results.decisions.iter().map(|d| {
        [
            d.items.to_string(),
            format!("{} µs", d.p50_us),
            format!("{} µs", d.p99_us),
            d.fuel.to_string(),
            d.fuel_limit.to_string(),
            remaining_fuel(d),
        ]
    }));
    let warning = if results.debug_build {
        "\nwarning: this program is a debug build; times are not meaningful, but fuel is exact\n"
    } else {
        ""
    };
    format!(
        "policy {}\n{} bytes, compiled in {:.1} ms (p50 of {LOADS})\n\n\
         time and fuel of a decision:\n{}{warning}{}",
        results.policy,
        results.bytes,
        results.compile_p50_us as f64 / 1e3,
        aligned(&rows),
        results
            .comparison
            .as_ref()
            .map(Comparison::format)
            .unwrap_or_default(),
    )
}

/// Formats the remaining fuel as a percentage, rounded down.
fn remaining_fuel(results: &DecisionResults) -> String {
    let remaining = results.fuel_limit.saturating_sub(results.fuel);
    let permille = u128::from(remaining) * 1_000 / u128::from(results.fuel_limit.max(1));
    format!("{}.{} %", permille / 10, permille % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remaining_fuel_is_rounded_down() {
        for (fuel, remaining) in [
            (0, "100.0 %"),
            (1, "99.9 %"),
            (9_999, "0.0 %"),
            (10_000, "0.0 %"),
        ] {
            let d = DecisionResults {
                items: 1,
                evaluations: 1,
                p50_us: 0,
                p99_us: 0,
                fuel,
                fuel_limit: 10_000,
            };
            assert_eq!(remaining_fuel(&d), remaining);
        }
    }
}
