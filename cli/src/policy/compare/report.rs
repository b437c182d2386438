//! Reports a comparison as text and as JSON.

use super::group_simulation::{Agreement, GroupSimulation, Simulated};
use super::tally::{Example, Failures, ItemTally};
use super::{ComparedGroup, Comparison, MAX_GROUPS, tally};
use crate::policy::format_time;
use crate::policy::simulate::{ItemMetrics, format_brief, format_exact, format_percent, truncated};
use crate::policy::table::aligned;
use crate::views::counted;
use oaat_api::reasons::policy_ready::SETTINGS_REJECTED;
use policy_host::Instant;
use policy_host::text::{ERROR, clean};
use serde_json::{Value, json};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// The maximum number of items of a group in a table.
const MAX_ITEMS: usize = 10;
/// The maximum width of a name in columns.
const MAX_NAME_WIDTH: usize = 40;
/// Explains the word `starved`.
const STARVED: &str = "starved: waited more than 3 times its frequency for a start or, with \
                       eachOnce, never started";
/// The names of the policies.
const NAMES: [&str; 2] = ["A", "B"];

/// Reports a comparison as text.
pub(super) fn text(comparison: &Comparison) -> String {
    let mut text = String::new();
    for (name, side) in NAMES.iter().zip(comparison.sides) {
        let (file, digest) = (&side.name, side.policy.digest());
        text += &format!("{name}  {file}  sha256:{digest}");
        if let Some(settings) = &side.settings {
            text += &format!("  {}", clean(settings, ERROR));
        }
        text.push('\n');
    }
    text += &format!("\n{}\n{}", decisions(comparison), fuel(comparison));
    text += &failures(comparison);
    text += &problems(comparison);
    for group in &comparison.groups {
        text += &format!("\n{}", group_text(group));
    }
    let more = comparison.tally.groups.len().saturating_sub(MAX_GROUPS);
    if comparison.tally.groups.truncated {
        text += &format!(
            "\nonly {} groups have their own counts; select others with --group\n",
            tally::MAX_GROUPS
        );
    } else if more > 0 {
        let more = counted(more, "more group");
        text += &format!("\n{more} with fewer differences; select them with --group\n");
    }
    text
}

/// The numbers of decisions, and of each kind of difference.
fn decisions(comparison: &Comparison) -> String {
    let (counts, kinds) = (comparison.tally.counts, comparison.tally.kinds);
    let differ = match counts.differ {
        0 => "differ",
        _ => "differ, in one or more ways",
    };
    let mut rows = vec![
        ["agree".to_owned(), counts.agree.to_string()],
        [differ.to_owned(), counts.differ.to_string()],
    ];
    let details = [
        ("  start different items", kinds.start_other_items),
        ("  only A starts an item", kinds.only_a_starts),
        ("  only B starts an item", kinds.only_b_starts),
        ("  wait until different times", kinds.wait_until_other_times),
        ("  only one fails", kinds.fail),
        ("  show different standings", kinds.standings),
        ("  store different states", kinds.states),
        ("both fail", counts.both_failed),
        ("interrupted by the deadline", counts.interrupted),
        ("cannot be read", counts.unreadable),
    ];
    let details = details.iter().filter(|(_, count)| *count > 0);
    rows.extend(details.map(|(what, count)| [(*what).to_owned(), count.to_string()]));
    let period = match comparison.tally.period {
        Some((from, to)) => format!(", {} to {}", format_time(from), format_time(to)),
        None => String::new(),
    };
    let all = counts.evaluated() + counts.interrupted;
    let all = counted(all, "recorded decision");
    format!("{all}{period}\n{}", aligned(&rows))
}

fn fuel(comparison: &Comparison) -> String {
    let [a, b] = comparison.tally.fuel;
    let row = |name: &str, a: u64, b: u64| [name.to_owned(), a.to_string(), b.to_string()];
    aligned(&[
        ["fuel per decision", "A", "B"].map(str::to_owned),
        row("mean", a.mean(), b.mean()),
        row("max", a.max, b.max),
    ])
}

fn failures(comparison: &Comparison) -> String {
    let mut text = String::new();
    for (name, failures) in NAMES.iter().zip(&comparison.tally.failures) {
        for (reason, Failures { count, first }) in failures {
            let message = first.as_ref().map_or("", |(_, message)| message);
            let message = clean(message, ERROR);
            let times = counted(*count, "time");
            text += &format!("{name} made no decision {times}; first error: {message}");
            if *reason == SETTINGS_REJECTED {
                let flag = format!("--settings-{}", name.to_lowercase());
                text += &format!(
                    "; use {flag} to replace the recorded group settings (recorded item settings \
                     cannot be replaced)"
                );
            }
            text.push('\n');
        }
    }
    if text.is_empty() {
        text
    } else {
        format!("\n{text}")
    }
}

fn problems(comparison: &Comparison) -> String {
    let problems = comparison.tally.problems.iter().map(|(position, why)| {
        let file = comparison.files.get(position.file);
        let file = file
            .map(|file| file.display().to_string())
            .unwrap_or_default();
        let (line, why) = (position.line, clean(why, ERROR));
        format!("{file}:{line}: this decision cannot be read: {why}\n")
    });
    let text: String = problems.collect();
    if text.is_empty() {
        text
    } else {
        format!("\n{text}")
    }
}

fn group_text(group: &ComparedGroup) -> String {
    let counts = group.tally.counts;
    let both_fail = match counts.both_failed {
        0 => String::new(),
        count => format!(", and both policies fail on {count}"),
    };
    let mut text = format!(
        "{}: {} of {} differ{both_fail}\n",
        clean(&group.name.to_string(), ERROR),
        counts.differ,
        counted(counts.evaluated(), "recorded decision")
    );
    text += &items_table(&group.tally.items.iter().collect::<Vec<_>>());
    for (_, example) in group.tally.examples.iter() {
        text += &format!("  {}\n", example_text(example));
    }
    match &group.simulation {
        None => {}
        Some(Ok(simulation)) => text += &simulation_text(simulation),
        Some(Err(why)) => text += &format!("  not simulated: {}\n", clean(why, ERROR)),
    }
    text
}

/// The items with the most differences.
fn items_table(items: &[(&String, &ItemTally)]) -> String {
    if items.is_empty() {
        return String::new();
    }
    let mut items = items.to_vec();
    items.sort_by_key(|(_, tally)| Reverse(tally.total()));
    let head = [
        "  decisions per item",
        "only A starts it",
        "only B starts it",
        "standing A/B",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(items.iter().take(MAX_ITEMS).map(|(name, tally)| {
        [
            format!("  {}", short(name)),
            tally.only_a_starts.to_string(),
            tally.only_b_starts.to_string(),
            standings(&tally.standings),
        ]
    }));
    format!("{}{}", aligned(&rows), more_items(items.len()))
}

/// Returns the name of an item as one short line.
fn short(name: &str) -> String {
    truncated(&clean(name, ERROR), MAX_NAME_WIDTH)
}

fn more_items(count: usize) -> String {
    match count.saturating_sub(MAX_ITEMS) {
        0 => String::new(),
        more => format!("  and {}\n", counted(more, "more item")),
    }
}

/// Describes different standings, the most frequent first.
fn standings(standings: &BTreeMap<(&str, &str), u64>) -> String {
    let mut all: Vec<_> = standings.iter().collect();
    all.sort_by_key(|(_, count)| Reverse(**count));
    let all = all.into_iter();
    let all = all.map(|((a, b), count)| format!("{a}/{b}: {count}"));
    all.collect::<Vec<_>>().join(", ")
}

fn example_text(example: &Example) -> String {
    let sha = example.request.get(..12).unwrap_or_default();
    let at = format_time(example.at);
    format!("{at}, request {sha}: B {}", example.difference)
}

fn simulation_text(simulation: &GroupSimulation) -> String {
    let (start, end) = (simulation.scenario.start, simulation.scenario.end);
    let mut text = format!(
        "\n  simulated from {} for {}\n",
        format_exact(start),
        format_brief(end.abs_diff(start))
    );
    for assumption in &simulation.assumptions {
        text += &format!("  assumes that {assumption}\n");
    }
    text += &totals_table(&simulation.sides);
    if simulation
        .sides
        .iter()
        .any(|side| side.totals().starved > 0)
    {
        text += &format!("  {STARVED}\n");
    }
    let different = simulation.different_items();
    if !different.is_empty() {
        text += &format!("\n{}", simulated_items(&different));
    }
    text + &ended_early(simulation)
}

/// Describes the simulations that ended early.
fn ended_early(simulation: &GroupSimulation) -> String {
    if simulation.agreement() == Agreement::Agree
        && let Some(limit) = simulation.shared_decision_limit()
    {
        let at = format_exact(simulation.sides[0].history.end);
        return format!(
            "  A and B agree until {at}, when both simulations reach the limit of {limit} \
             decisions\n"
        );
    }
    let sides = NAMES.iter().zip(&simulation.sides);
    let lines = sides.filter_map(|(name, side)| {
        let why = side.history.cut_short.as_ref()?;
        let at = format_exact(side.history.end);
        Some(format!("  {name} ended early at {at}: {why}\n"))
    });
    lines.collect()
}

fn totals_table(sides: &[Simulated; 2]) -> String {
    let [a, b] = sides.each_ref().map(Simulated::totals);
    let number = |name: &str, a: usize, b: usize| [name.into(), a.to_string(), b.to_string()];
    let time = |name: &str, a, b| [name.into(), format_brief(a), format_brief(b)];
    let [busy_a, busy_b] = sides
        .each_ref()
        .map(|side| format_percent(side.metrics.utilisation));
    aligned(&[
        ["  all items", "A", "B"].map(str::to_owned),
        number("  runs", a.runs, b.runs),
        number("  failed runs", a.failed, b.failed),
        [
            "  failed decisions".to_owned(),
            a.failed_decisions.to_string(),
            b.failed_decisions.to_string(),
        ],
        ["  time during which an item ran".to_owned(), busy_a, busy_b],
        time("  mean lateness", a.late_mean_ms, b.late_mean_ms),
        time("  max lateness", a.late_max_ms, b.late_max_ms),
        time(
            "  longest gap between successes",
            a.longest_gap_ms,
            b.longest_gap_ms,
        ),
        time(
            "  longest wait for a start",
            a.longest_wait_ms,
            b.longest_wait_ms,
        ),
        number("  starved items", a.starved, b.starved),
    ])
}

/// The items whose simulations differ most.
fn simulated_items(items: &[[&ItemMetrics; 2]]) -> String {
    let head = [
        "  items that differ",
        "runs A",
        "B",
        "failed A",
        "B",
        "max lateness A",
        "B",
        "longest gap A",
        "B",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(items.iter().take(MAX_ITEMS).map(|[a, b]| {
        let starved = match (a.starved, b.starved) {
            (true, true) => ", starved by both",
            (true, false) => ", starved by A",
            (false, true) => ", starved by B",
            (false, false) => "",
        };
        [
            format!("  {}{starved}", short(&a.name)),
            a.runs.to_string(),
            b.runs.to_string(),
            a.failed.to_string(),
            b.failed.to_string(),
            format_brief(a.late_max_ms),
            format_brief(b.late_max_ms),
            format_brief(a.longest_gap_ms),
            format_brief(b.longest_gap_ms),
        ]
    }));
    format!("{}{}", aligned(&rows), more_items(items.len()))
}

/// Reports a comparison as JSON.
pub(super) fn json(comparison: &Comparison) -> Value {
    let tally = comparison.tally;
    let side = |index: usize| {
        let (side, fuel) = (&comparison.sides[index], tally.fuel[index]);
        let failures = tally.failures[index].iter().map(|(reason, failures)| {
            let message = failures.first.as_ref().map(|(_, message)| message);
            json!({ "reason": reason, "count": failures.count, "message": message })
        });
        json!({
            "policy": side.name,
            "sha256": side.policy.digest(),
            "fuelMean": fuel.mean(),
            "fuelMax": fuel.max,
            "failures": failures.collect::<Vec<_>>(),
        })
    };
    let problems = tally.problems.iter().map(|(position, why)| {
        let file = comparison.files.get(position.file);
        let file = file.map(|file| file.display().to_string());
        json!({ "file": file, "line": position.line, "message": why })
    });
    let groups = comparison.groups.iter().map(group_json);
    let time = |at: Instant| format_time(at);
    json!({
        "a": side(0),
        "b": side(1),
        "from": tally.period.map(|(from, _)| time(from)),
        "to": tally.period.map(|(_, to)| time(to)),
        "decisions": tally.counts,
        "differences": tally.kinds,
        "problems": problems.collect::<Vec<_>>(),
        "groups": groups.collect::<Vec<_>>(),
        "allGroups": !tally.groups.truncated && tally.groups.len() <= MAX_GROUPS,
    })
}

fn group_json(group: &ComparedGroup) -> Value {
    let item = |(name, tally): (&String, &ItemTally)| {
        let standings = tally.standings.iter();
        let standings = standings.map(|((a, b), count)| json!({ "a": a, "b": b, "count": count }));
        json!({
            "name": name,
            "onlyAStarts": tally.only_a_starts,
            "onlyBStarts": tally.only_b_starts,
            "standings": standings.collect::<Vec<_>>(),
        })
    };
    let example = |example: &Example| {
        json!({
            "at": format_time(example.at),
            "request": example.request,
            "difference": example.difference,
        })
    };
    let examples = group.tally.examples.iter();
    let mut json = json!({
        "namespace": group.name.namespace,
        "group": group.name.name,
        "decisions": group.tally.counts,
        "items": group.tally.items.iter().map(item).collect::<Vec<_>>(),
        "examples": examples.map(|(_, of)| example(of)).collect::<Vec<_>>(),
    });
    match &group.simulation {
        None => {}
        Some(Ok(simulation)) => json["simulation"] = simulation_json(simulation),
        Some(Err(why)) => json["notSimulated"] = json!(why),
    }
    json
}

fn simulation_json(simulation: &GroupSimulation) -> Value {
    let side = |index: usize| {
        let side = &simulation.sides[index];
        json!({
            "cutShort": side.history.cut_short,
            "totals": side.totals(),
            "metrics": side.metrics,
        })
    };
    json!({
        "from": format_exact(simulation.scenario.start),
        "to": format_exact(simulation.scenario.end),
        "assumptions": simulation.assumptions,
        "agrees": simulation.agreement() == Agreement::Agree,
        "a": side(0),
        "b": side(1),
    })
}
