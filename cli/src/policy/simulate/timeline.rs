//! Draws a simulation in the terminal: one line of symbols per item, and a table of metrics.

use super::axis::{format_brief, format_exact, format_minute, ticks};
use super::metrics::{ItemMetrics, Metrics};
use super::scenario::Scenario;
use super::simulator::{History, RunOutcome};
use console::{Alignment, measure_text_width, pad_str, truncate_str};
use policy_host::Instant;
use std::collections::BTreeMap;

/// The maximum width of a name in columns.
const MAX_NAME_WIDTH: usize = 24;
/// The minimum width of the timeline in columns.
const MIN_WIDTH: usize = 20;

/// Draws the timeline and its legend.
pub(crate) fn timeline(
    scenario: &Scenario,
    history: &History,
    metrics: &Metrics,
    width: usize,
) -> String {
    let names: Vec<_> = scenario
        .items
        .iter()
        .map(|i| truncated(&i.name, MAX_NAME_WIDTH))
        .collect();
    let name = names
        .iter()
        .map(|n| measure_text_width(n))
        .max()
        .unwrap_or(0);
    let columns = width.saturating_sub(name + 2).max(MIN_WIDTH);
    let grid = Grid {
        start: scenario.start,
        end: history.end.max(scenario.start + 1),
        columns,
    };
    let mut rows: Vec<_> = scenario
        .items
        .iter()
        .zip(&metrics.items)
        .map(|(item, metrics)| grid.background(item.joins, &metrics.late))
        .collect();
    for run in &history.runs {
        for column in grid.columns(run.started, run.finished) {
            let cell = &mut rows[run.item][column];
            *cell = match (*cell, run.outcome) {
                ('+' | '*', RunOutcome::Failed) | ('x' | '*', RunOutcome::Succeeded) => '*',
                (_, RunOutcome::Succeeded) => '+',
                (_, RunOutcome::Failed) => 'x',
                (_, RunOutcome::Unfinished) => '>',
            };
        }
    }
    let mut text = format!("{:name$}  {}\n", "", grid.axis());
    for (label, row) in names.iter().zip(rows) {
        let label = pad_str(label, name, Alignment::Left, None);
        let row = format!("{label}  {}", row.into_iter().collect::<String>());
        text.push_str(row.trim_end());
        text.push('\n');
    }
    let bucket = format_brief(grid.end.abs_diff(grid.start) / columns as u64);
    text.push_str(&format!(
        "\neach column is {bucket}: + succeeded  x failed  * both  - due  . not due{}\n",
        match history.runs.last() {
            Some(run) if run.outcome == RunOutcome::Unfinished => "  > running at the end",
            _ => "",
        }
    ));
    text
}

struct Grid {
    start: Instant,
    end: Instant,
    columns: usize,
}

impl Grid {
    fn column(&self, at: Instant) -> usize {
        let share = at.saturating_sub(self.start) as f64 / self.end.abs_diff(self.start) as f64;
        ((share * self.columns as f64) as usize).min(self.columns - 1)
    }

    /// Returns the columns that a period overlaps, at least one.
    fn columns(&self, from: Instant, to: Instant) -> std::ops::RangeInclusive<usize> {
        self.column(from)..=self.column((to - 1).max(from))
    }

    fn background(&self, joins: Instant, late: &[(Instant, Instant)]) -> Vec<char> {
        let mut row = vec!['.'; self.columns];
        let before = if joins < self.end {
            self.column(joins)
        } else {
            self.columns
        };
        row[..before].fill(' ');
        for (due, until) in late.iter().filter(|(due, until)| due < until) {
            row[self.columns(*due, *until)].fill('-');
        }
        row
    }

    /// Draws the labels of the ticks above their columns. Skips labels that do not fit.
    fn axis(&self) -> String {
        let mut line = String::new();
        for tick in ticks(self.start, self.end, self.columns / 11) {
            let column = self.column(tick.at);
            let ends = column + 1 + tick.label.chars().count();
            if (line.is_empty() || column > line.len()) && ends <= self.columns {
                line.push_str(&format!("{:1$}|{2}", "", column - line.len(), tick.label));
            }
        }
        line
    }
}

/// Truncates text to a width in columns. Wide characters take two columns.
pub(crate) fn truncated(text: &str, max: usize) -> String {
    truncate_str(text, max, "…").into_owned()
}

/// Formats the metrics of the items as a table, followed by the metrics of the group.
pub(crate) fn tables(scenario: &Scenario, history: &History, metrics: &Metrics) -> String {
    let head = [
        "",
        "runs",
        "ok",
        "failed",
        "longest gap",
        "late mean",
        "late max",
        "busy",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(metrics.items.iter().map(|item| {
        [
            truncated(&item.name, MAX_NAME_WIDTH),
            item.runs.to_string(),
            item.succeeded.to_string(),
            item.failed.to_string(),
            format_brief(item.longest_gap_ms),
            format_brief(item.late_mean_ms),
            format_brief(item.late_max_ms),
            format_percent(item.busy_share),
        ]
    }));
    let mut text = crate::policy::table::aligned(&rows);
    text.push('\n');
    text.push_str(&group_metrics(scenario, history, metrics));
    text
}

fn group_metrics(scenario: &Scenario, history: &History, metrics: &Metrics) -> String {
    let mut lines = vec![
        format!(
            "{} to {} UTC, seed {}",
            format_minute(scenario.start),
            format_minute(history.end),
            scenario.seed
        ),
        format!(
            "busy {} of the time, idle {}",
            format_percent(metrics.utilisation),
            format_brief(metrics.idle_ms)
        ),
        format!(
            "{} decisions, {} errors, fuel per decision: mean {}, max {}",
            metrics.decisions, metrics.errors, metrics.fuel_mean, metrics.fuel_max
        ),
    ];
    for item in metrics.items.iter().filter(|item| item.starved) {
        lines.push(format!("starved: {}", format_starvation(scenario, item)));
    }
    if let Some(why) = &history.cut_short {
        lines.push(format!(
            "ended early at {}: {why}",
            format_exact(history.end)
        ));
    }
    lines.join("\n") + "\n"
}

/// Describes how an item starved.
pub(crate) fn format_starvation(scenario: &Scenario, item: &ItemMetrics) -> String {
    // Names are unique.
    let frequencies: BTreeMap<_, _> = scenario
        .items
        .iter()
        .map(|item| (&item.name, item.frequency))
        .collect();
    let name = &item.name;
    let waited = format_brief(item.longest_wait_ms);
    match frequencies.get(name).copied().flatten() {
        Some(frequency) => format!(
            "{name} was due for {waited} but not started; its frequency is {}",
            format_brief(frequency)
        ),
        None => format!("{name} was never started in {waited}"),
    }
}

pub(crate) fn format_percent(fraction: f64) -> String {
    format!("{:.0} %", fraction * 100.0)
}
