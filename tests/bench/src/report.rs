//! The results of the benchmarks, each with its goal, and a comparison with an earlier run.

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::Path;

/// Prints and collects results.
#[derive(Default)]
pub struct Report {
    rows: BTreeMap<String, f64>,
    before: BTreeMap<String, f64>,
}

impl Report {
    /// Creates a report that compares each result with that of an earlier run in `before`, if given.
    pub fn new(before: Option<&Path>) -> Result<Self> {
        let mut report = Self::default();
        if let Some(path) = before {
            report.before = saved(path)?;
        }
        Ok(report)
    }

    /// Prints a result. If it has a goal, the result should be at most `goal`.
    pub fn at_most(&mut self, name: &str, value: f64, unit: &str, goal: impl Into<Option<f64>>) {
        let goal = goal.into().map(|goal| (value <= goal, format!("≤ {goal}")));
        self.row(name, value, unit, goal);
    }

    /// Prints a result that should be at least `goal`.
    pub fn at_least(&mut self, name: &str, value: f64, unit: &str, goal: f64) {
        self.row(
            name,
            value,
            unit,
            Some((value >= goal, format!("≥ {goal}"))),
        );
    }

    /// Returns the results by name.
    pub fn rows(&self) -> &BTreeMap<String, f64> {
        &self.rows
    }

    fn row(&mut self, name: &str, value: f64, unit: &str, goal: Option<(bool, String)>) {
        let mut line = format!("  {name:<60} {value:>9.2} {unit:<3}");
        if let Some((met, goal)) = goal {
            let mark = if met { "met" } else { "missed" };
            line += &format!(" goal {goal:<7} {mark:<6}");
        }
        if let Some(before) = self.before.get(name) {
            line += &format!(" before {before:.2} (× {:.2})", value / before);
        }
        println!("{}", line.trim_end());
        self.rows.insert(name.to_owned(), value);
    }

    /// Writes the results to a file, for a later comparison.
    pub fn save(&self, path: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(&self.rows)?;
        std::fs::write(path, json + "\n").with_context(|| format!("--save {}", path.display()))
    }
}

/// Reads the results that [`Report::save`] wrote.
pub fn saved(path: &Path) -> Result<BTreeMap<String, f64>> {
    let shown = path.display();
    let json = std::fs::read(path).with_context(|| format!("{shown}"))?;
    serde_json::from_slice(&json).with_context(|| format!("{shown}: write this file with --save"))
}
