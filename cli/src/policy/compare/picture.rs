//! Draws both simulations of a group in one picture: two rows for each item.

use super::group_simulation::{GroupSimulation, Simulated};
use super::side::Side;
use super::tally::GroupName;
use crate::policy::simulate::{
    CutShort, Heading, History, ItemMetrics, Metrics, Run, Scenario, draw, format_brief,
    format_exact,
};
use std::collections::HashMap;

/// The maximum number of items in a picture.
const MAX_ITEMS: usize = 60;

/// Draws the items on which the simulations of a group differ most. If they do not differ, draws all
/// items.
pub(crate) fn picture(
    group: &GroupName,
    simulation: &GroupSimulation,
    sides: &[Side; 2],
) -> String {
    let drawn = drawn_items(simulation);
    let names = ["A", "B"];
    let pairs = || drawn.iter().flat_map(|item| [(*item, 0), (*item, 1)]);
    let mut scenario = Scenario {
        items: Vec::new(),
        ..simulation.scenario.clone()
    };
    let mut items: Vec<ItemMetrics> = Vec::new();
    for (index, side) in pairs() {
        let mut item = simulation.scenario.items[index].clone();
        item.name = format!("{} {}", names[side], item.name);
        let metrics = &simulation.sides[side].metrics.items[index];
        items.push(ItemMetrics {
            name: item.name.clone(),
            ..metrics.clone()
        });
        scenario.items.push(item);
    }
    let rows: HashMap<_, _> = pairs().enumerate().map(|(row, pair)| (pair, row)).collect();
    let runs = simulation.sides.iter().enumerate().flat_map(|(side, of)| {
        let rows = &rows;
        of.history.runs.iter().filter_map(move |run| {
            let item = *rows.get(&(run.item, side))?;
            Some(Run {
                item,
                ..run.clone()
            })
        })
    });
    let [a, b] = &simulation.sides;
    let history = History {
        runs: runs.collect(),
        end: a.history.end.max(b.history.end),
        cut_short: cut_short(&simulation.sides),
        ..History::default()
    };
    let metrics = Metrics {
        items,
        ..a.metrics.clone()
    };
    let [first, second] = sides;
    let all = simulation.scenario.items.len();
    let only = match drawn.len() {
        count if count < all => format!(" · {count} of {all} items"),
        _ => String::new(),
    };
    let heading = Heading {
        title: format!("A {} and B {} in {group}", first.name, second.name),
        policies: format!(
            "A sha256:{:.16}…  B sha256:{:.16}…",
            first.policy.digest(),
            second.policy.digest()
        ),
        summary: format!(
            "simulated from {} for {}{only} · {} · {}",
            format_exact(scenario.start),
            format_brief(scenario.end.abs_diff(scenario.start)),
            summary("A", a),
            summary("B", b),
        ),
    };
    draw(&heading, &scenario, &history, &metrics)
}

/// Returns the indices of the items to draw, in the order of the list.
fn drawn_items(simulation: &GroupSimulation) -> Vec<usize> {
    let items = simulation.scenario.items.iter().enumerate();
    let index: HashMap<_, _> = items
        .map(|(index, item)| (item.name.as_str(), index))
        .collect();
    let different = simulation.different_items();
    let mut drawn: Vec<usize> = different
        .iter()
        .filter_map(|[item, _]| index.get(item.name.as_str()).copied())
        .take(MAX_ITEMS)
        .collect();
    if drawn.is_empty() {
        drawn = (0..simulation.scenario.items.len().min(MAX_ITEMS)).collect();
    }
    drawn.sort_unstable();
    drawn
}

fn cut_short(sides: &[Simulated; 2]) -> Option<CutShort> {
    let reasons = sides.iter().zip(["A", "B"]).filter_map(|(side, name)| {
        let why = side.history.cut_short.as_ref()?;
        Some(format!("{name}: {why}"))
    });
    let reasons = reasons.reduce(|a, b| format!("{a}; {b}"));
    reasons.map(CutShort::Other)
}

fn summary(name: &str, side: &Simulated) -> String {
    let totals = side.totals();
    format!(
        "{name}: {} runs, {} failed, late by up to {}, {} starved",
        totals.runs,
        totals.failed,
        format_brief(totals.late_max_ms),
        totals.starved
    )
}
