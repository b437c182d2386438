//! Saved fuel, and its comparison with the fuel of another build.
//!
//! Fuel is deterministic: the same component and request use the same fuel on every machine. A
//! comparison therefore needs no tolerance.

use super::measure::DecisionResults;
use crate::input;
use crate::policy::table;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The fuel of a policy for requests of several sizes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct SavedFuel {
    /// The version of wasmtime, on which the fuel depends.
    pub wasmtime: String,
    /// The sha256 of the component.
    pub policy: String,
    /// The settings of the group, a JSON object.
    pub settings: String,
    /// The settings of each item, a JSON object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item_settings: Option<String>,
    pub decisions: Vec<SavedDecision>,
}

/// The fuel of a decision about this number of items.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SavedDecision {
    pub items: u32,
    pub fuel: u64,
}

impl From<&DecisionResults> for SavedDecision {
    fn from(results: &DecisionResults) -> Self {
        Self {
            items: results.items,
            fuel: results.fuel,
        }
    }
}

impl SavedFuel {
    pub fn read(file: &Path) -> Result<Self> {
        let text = input::read_text(file)?;
        let saved: Self = serde_json::from_str(&text).with_context(|| {
            format!(
                "{}: not a file that `policy bench --save` wrote",
                file.display()
            )
        })?;
        let sizes = saved.decisions.iter().map(|decision| decision.items);
        for items in sizes {
            anyhow::ensure!(
                super::ITEMS.contains(&items.into()),
                "{}: {items} items in `decisions`; use {} to {}",
                file.display(),
                super::ITEMS.start(),
                super::ITEMS.end()
            );
        }
        Ok(saved)
    }

    pub fn write(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        std::fs::write(file, text).with_context(|| format!("{}", file.display()))
    }
}

/// The comparison of two builds of a policy.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Comparison {
    saved_policy: String,
    saved_wasmtime: String,
    wasmtime: String,
    rows: Vec<Row>,
    /// Whether a decision uses more fuel than saved.
    pub more: bool,
}

#[derive(Debug, PartialEq, Serialize)]
struct Row {
    items: u32,
    saved: u64,
    now: u64,
    delta: i128,
}

impl Comparison {
    /// Compares the fuel for the numbers of items that both contain.
    pub fn new(saved: &SavedFuel, now: &[SavedDecision], wasmtime: &str) -> Self {
        let row = |old: &SavedDecision| {
            let new = now.iter().find(|new| new.items == old.items)?;
            Some(Row {
                items: old.items,
                saved: old.fuel,
                now: new.fuel,
                delta: i128::from(new.fuel) - i128::from(old.fuel),
            })
        };
        let rows: Vec<_> = saved.decisions.iter().filter_map(row).collect();
        Self {
            saved_policy: saved.policy.clone(),
            saved_wasmtime: saved.wasmtime.clone(),
            wasmtime: wasmtime.to_owned(),
            more: rows.iter().any(|row| row.delta > 0),
            rows,
        }
    }

    pub fn format(&self) -> String {
        let mut rows = vec![["items", "saved", "now", "delta"].map(str::to_owned)];
        rows.extend(self.rows.iter().map(|row| {
            [
                row.items.to_string(),
                row.saved.to_string(),
                row.now.to_string(),
                format!("{:+}", row.delta),
            ]
        }));
        let engine = if self.saved_wasmtime == self.wasmtime {
            String::new()
        } else {
            format!(
                "note: saved with wasmtime {}, compared with wasmtime {}, which may count fuel differently\n",
                self.saved_wasmtime, self.wasmtime
            )
        };
        let verdict = if self.more {
            "uses more fuel than saved"
        } else if self.rows.iter().all(|row| row.delta == 0) {
            "uses the same fuel as saved"
        } else {
            "uses no more fuel than saved"
        };
        format!(
            "\nfuel compared with policy {}:\n{}{engine}{verdict}\n",
            self.saved_policy,
            table::aligned(&rows)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(items: u32, fuel: u64) -> SavedDecision {
        SavedDecision { items, fuel }
    }

    fn saved(decisions: Vec<SavedDecision>) -> SavedFuel {
        SavedFuel {
            wasmtime: "1.2.3".into(),
            policy: "abc".into(),
            settings: "{}".into(),
            item_settings: None,
            decisions,
        }
    }

    #[test]
    fn one_more_instruction_is_more_fuel() {
        let saved = saved(vec![decision(10, 1_000), decision(100, 9_000)]);
        for (fuel, more, words) in [
            (8_999, false, "uses no more fuel than saved"),
            (9_000, false, "uses the same fuel as saved"),
            (9_001, true, "uses more fuel than saved"),
        ] {
            let now = [decision(10, 1_000), decision(100, fuel)];
            let comparison = Comparison::new(&saved, &now, "1.2.3");
            let text = comparison.format();
            assert_eq!(comparison.more, more, "{text}");
            assert!(text.contains(words) && !text.contains("note:"), "{text}");
        }
        let text = Comparison::new(&saved, &[decision(10, 1_003)], "1.2.4").format();
        let table = "items  saved   now  delta\n10      1000  1003     +3\nnote: saved with wasmtime 1.2.3,";
        assert!(text.contains(table), "{text}");
    }

    #[test]
    fn saved_fuel_is_checked_when_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("fuel.json");
        saved(vec![decision(5, 7)]).write(&file).unwrap();
        assert_eq!(SavedFuel::read(&file).unwrap().decisions, [decision(5, 7)]);
        saved(vec![decision(2_001, 7)]).write(&file).unwrap();
        let error = SavedFuel::read(&file).unwrap_err().to_string();
        assert!(error.contains("2001 items"), "{error}");
        std::fs::write(&file, "{}").unwrap();
        let error = SavedFuel::read(&file).unwrap_err().to_string();
        assert!(error.contains("--save"), "{error}");
    }
}
