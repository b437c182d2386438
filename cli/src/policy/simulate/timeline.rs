//! A simulation in the terminal: a line of symbols for each item, and a table.

use super::axis::{self, brief, minute, ticks};
use super::figures::{Figures, ItemFigures};
use super::scenario::Scenario;
use super::world::{End, History};
use policy_host::Instant;
use std::collections::BTreeMap;

/// Columns of an item's name at most.
const NAME: usize = 24;
/// Columns that the timeline has at least, however narrow the terminal.
const NARROWEST: usize = 20;

/// The timeline with its legend.
pub(crate) fn timeline(
    scenario: &Scenario,
    history: &History,
    figures: &Figures,
    width: usize,
) -> String {
    let names: Vec<_> = scenario
        .items
        .iter()
        .map(|i| short(&i.name, NAME))
        .collect();
    let name = names.iter().map(|n| n.chars().count()).max().unwrap_or(0);
    let columns = width.saturating_sub(name + 2).max(NARROWEST);
    let grid = Grid {
        start: scenario.start,
        end: history.end.max(scenario.start + 1),
        columns,
    };
    let mut rows: Vec<_> = scenario
        .items
        .iter()
        .zip(&figures.items)
        .map(|(item, figures)| grid.background(item.joins, &figures.late))
        .collect();
    for run in &history.runs {
        for column in grid.columns(run.started, run.finished) {
            let cell = &mut rows[run.item][column];
            *cell = match (*cell, run.end) {
                ('+' | '*', End::Failed) | ('x' | '*', End::Succeeded) => '*',
                (_, End::Succeeded) => '+',
                (_, End::Failed) => 'x',
                (_, End::Unfinished) => '>',
            };
        }
    }
    let mut text = format!("{:name$}  {}\n", "", grid.axis());
    for (label, row) in names.iter().zip(rows) {
        let row = format!("{label:name$}  {}", row.into_iter().collect::<String>());
        text.push_str(row.trim_end());
        text.push('\n');
    }
    let bucket = brief(grid.end.abs_diff(grid.start) / columns as u64);
    text.push_str(&format!(
        "\neach column is {bucket}: + succeeded  x failed  * both  - due  . not due{}\n",
        match history.runs.last() {
            Some(run) if run.end == End::Unfinished => "  > running at the end",
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

    /// The columns that a period touches; one at least.
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

    /// The names of the ticks, each above the column it is in; those for which there is no
    /// room are left out.
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

/// A name that is cut to a number of characters.
pub(crate) fn short(name: &str, most: usize) -> String {
    match name.char_indices().nth(most) {
        None => name.to_owned(),
        Some(_) => name.chars().take(most - 1).chain(['…']).collect(),
    }
}

/// The table of figures, and what the group as a whole comes to.
pub(crate) fn tables(scenario: &Scenario, history: &History, figures: &Figures) -> String {
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
    rows.extend(figures.items.iter().map(|item| {
        [
            short(&item.name, NAME),
            item.runs.to_string(),
            item.succeeded.to_string(),
            item.failed.to_string(),
            brief(item.longest_gap_ms),
            brief(item.late_mean_ms),
            brief(item.late_max_ms),
            percent(item.busy_share),
        ]
    }));
    let mut text = crate::policy::table::aligned(&rows);
    text.push('\n');
    text.push_str(&overall(scenario, history, figures));
    text
}

fn overall(scenario: &Scenario, history: &History, figures: &Figures) -> String {
    let mut lines = vec![
        format!(
            "{} to {} UTC, seed {}",
            minute(scenario.start),
            minute(history.end),
            scenario.seed
        ),
        format!(
            "busy {} of the time, idle {}",
            percent(figures.utilisation),
            brief(figures.idle_ms)
        ),
        format!(
            "decisions {}, fuel of one: mean {}, max {}, errors {}",
            figures.decisions, figures.fuel_mean, figures.fuel_max, figures.errors
        ),
    ];
    for item in figures.items.iter().filter(|item| item.starved) {
        lines.push(format!("starved: {}", starvation(scenario, item)));
    }
    if let Some(why) = &history.cut_short {
        lines.push(format!(
            "ended early, at {}: {why}",
            axis::exact(history.end)
        ));
    }
    lines.join("\n") + "\n"
}

/// What befell an item that starved, as a sentence.
pub(crate) fn starvation(scenario: &Scenario, item: &ItemFigures) -> String {
    // Names are unique.
    let frequencies: BTreeMap<_, _> = scenario
        .items
        .iter()
        .map(|item| (&item.name, item.frequency))
        .collect();
    let name = &item.name;
    let waited = brief(item.longest_wait_ms);
    match frequencies.get(name).copied().flatten() {
        Some(frequency) => format!(
            "{name} was due for {waited} without being started; its frequency is {}",
            brief(frequency)
        ),
        None => format!("{name} was never started in {waited}"),
    }
}

pub(crate) fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}
