//! A simulation as a picture: a row for each item, time from left to right.

use super::axis::{brief, minute, ticks};
use super::bars::{self, Bar, Kind};
use super::figures::{Figures, ItemFigures};
use super::scenario::Scenario;
use super::timeline::{percent, short, starvation};
use super::world::{History, Run};
use crate::policy::xml::escape;
use policy_host::Instant;

const WIDTH: f64 = 1280.0;
/// Where the time axis begins and ends.
const LEFT: f64 = 196.0;
const RIGHT: f64 = 1000.0;
const MARGIN: f64 = 24.0;
/// Where the first row begins.
const TOP: f64 = 140.0;
/// Of a row. Many items share the height that [`ROOMY`] of them have, down to the least.
const HEIGHT: std::ops::RangeInclusive<f64> = 2.0..=26.0;
const ROOMY: f64 = 60.0;
/// Thinner rows are all bars.
const THIN: f64 = 6.0;
/// Rows with text are at least so far apart.
const LINE: f64 = 13.0;
/// A picture of more bars goes without their tooltips.
const TOOLTIPS: usize = 5_000;
/// Items that starved, in words, at most.
const STARVED: usize = 5;
/// The right edges of the figures, and what they are.
const FIGURES: [(f64, &str); 4] = [
    (1050.0, "runs"),
    (1105.0, "failed"),
    (1180.0, "late max"),
    (1256.0, "longest gap"),
];

/// Colours that people with any kind of colour vision tell apart (Okabe and Ito's, lighter on
/// dark ground). Failures are taller, too.
const STYLE: &str = "\
text{font:12px system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;fill:#1f2328}
.title{font-size:18px;font-weight:600}
.muted{fill:#59636e}
.small{font-size:11px}
.mono{font-family:ui-monospace,SFMono-Regular,Menlo,'DejaVu Sans Mono',monospace}
.end{text-anchor:end;font-variant-numeric:tabular-nums}
.middle{text-anchor:middle}
.ground{fill:#fff}
.band{fill:#f6f8fa}
.grid{stroke:#d1d9e0;stroke-width:1}
.life{stroke:#afb8c1;stroke-width:1}
.late{fill:#f0c75e;fill-opacity:.45}
.due{stroke:#9a6700;stroke-width:1}
.succeeded{fill:#0072b2}
.failed{fill:#d55e00}
.both{fill:#aa4499}
.unfinished{fill:#818b98}
.bad{fill:#b34700;font-weight:600}
@media(prefers-color-scheme:dark){
text{fill:#e6edf3}
.muted{fill:#9198a1}
.ground{fill:#0d1117}
.band{fill:#151b23}
.grid{stroke:#2f3742}
.life{stroke:#4a525c}
.late{fill:#e3b341;fill-opacity:.28}
.due{stroke:#e3b341}
.succeeded{fill:#56b4e9}
.failed{fill:#ff8c3b}
.both{fill:#e0a3d0}
.unfinished{fill:#9198a1}
.bad{fill:#ff9d57}
}
";

/// Draws it.
pub(crate) fn draw(
    title: &str,
    digest: &str,
    scenario: &Scenario,
    history: &History,
    figures: &Figures,
) -> String {
    let sheet = Sheet::new(scenario, history);
    let mut runs: Vec<Vec<&Run>> = vec![vec![]; scenario.items.len()];
    for run in &history.runs {
        runs[run.item].push(run);
    }
    let bars: Vec<Vec<Bar>> = runs
        .iter()
        .map(|runs| bars::bars(runs, |at| sheet.x(at)))
        .collect();
    let tooltips = bars.iter().map(Vec::len).sum::<usize>() <= TOOLTIPS;
    let foot = foot(scenario, history, figures);
    let height = sheet.bottom() + 28.0 + 18.0 * foot.len() as f64;

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.1}\" \
         width=\"{WIDTH}\" height=\"{height:.1}\" role=\"img\" aria-labelledby=\"t d\">\n\
         <title id=\"t\">{}</title>\n<desc id=\"d\">{}</desc>\n<style>\n{STYLE}</style>\n\
         <rect class=\"ground\" width=\"100%\" height=\"100%\"/>\n",
        escape(title),
        escape(&summary(scenario, history, figures)),
    );
    svg += &text(MARGIN, 36.0, "title", &short(title, 120));
    svg += &text(
        MARGIN,
        58.0,
        "muted small mono",
        &format!("sha256:{digest}"),
    );
    svg += &text(MARGIN, 78.0, "muted", &summary(scenario, history, figures));
    svg += &legend(&bars);
    svg += &sheet.axis();
    for (row, item) in figures.items.iter().enumerate() {
        svg += &sheet.row(row, scenario.items[row].joins, item, &bars[row], tooltips);
    }
    for (line, words) in foot.iter().enumerate() {
        let y = sheet.bottom() + 28.0 + 18.0 * line as f64;
        svg += &text(MARGIN, y, "bad", words);
    }
    svg + "</svg>\n"
}

fn summary(scenario: &Scenario, history: &History, figures: &Figures) -> String {
    format!(
        "{} to {} UTC · seed {} · busy {} of the time · {} runs · {} decisions, {} errors · \
         fuel mean {}, max {}",
        minute(scenario.start),
        minute(history.end),
        scenario.seed,
        percent(figures.utilisation),
        history.runs.len(),
        figures.decisions,
        figures.errors,
        figures.fuel_mean,
        figures.fuel_max,
    )
}

/// What a person should not overlook.
fn foot(scenario: &Scenario, history: &History, figures: &Figures) -> Vec<String> {
    let starved: Vec<_> = figures.items.iter().filter(|item| item.starved).collect();
    let mut lines: Vec<_> = starved
        .iter()
        .take(STARVED)
        .map(|item| format!("starved: {}", starvation(scenario, item)))
        .collect();
    if let Some(more) = starved.len().checked_sub(STARVED).filter(|more| *more > 0) {
        lines.push(format!("and {more} more starved"));
    }
    lines.extend(
        history
            .cut_short
            .as_ref()
            .map(|why| format!("ended early: {why}")),
    );
    lines.iter().map(|line| short(line, 180)).collect()
}

fn legend(bars: &[Vec<Bar>]) -> String {
    let drawn = |kind| bars.iter().flatten().any(|bar| bar.kind == kind);
    let mut entries = vec![("succeeded", "succeeded"), ("failed", "failed")];
    if drawn(Kind::Both) {
        entries.push(("both", "both, too close to tell apart"));
    }
    if drawn(Kind::Unfinished) {
        entries.push(("unfinished", "running at the end"));
    }
    entries.push(("late", "due, until the start of the run that succeeded"));
    let mut svg = String::new();
    let mut x = MARGIN;
    for (class, words) in entries {
        svg += &rect(class, (x, x + 14.0), 89.0, 10.0, "");
        svg += &text(x + 20.0, 98.0, "small", words);
        // As wide as the text is likely to be.
        x += 44.0 + 6.0 * words.chars().count() as f64;
    }
    svg
}

struct Sheet {
    start: Instant,
    end: Instant,
    rows: usize,
    height: f64,
    /// Every so many rows have text.
    labelled: usize,
}

impl Sheet {
    fn new(scenario: &Scenario, history: &History) -> Self {
        let rows = scenario.items.len();
        let height = HEIGHT.end() * ROOMY / rows as f64;
        let height = height.clamp(*HEIGHT.start(), *HEIGHT.end());
        Self {
            start: scenario.start,
            end: history.end.max(scenario.start + 1),
            rows,
            height,
            labelled: (LINE / height).ceil() as usize,
        }
    }

    fn x(&self, at: Instant) -> f64 {
        let share = at.saturating_sub(self.start) as f64 / self.end.abs_diff(self.start) as f64;
        LEFT + share.clamp(0.0, 1.0) * (RIGHT - LEFT)
    }

    fn top(&self, row: usize) -> f64 {
        TOP + self.height * row as f64
    }

    fn bottom(&self) -> f64 {
        self.top(self.rows)
    }

    /// What is behind the rows: bands that lead the eye from a name to its figures, and
    /// the time axis.
    fn axis(&self) -> String {
        let mut svg = String::new();
        if self.labelled == 1 {
            for row in (1..self.rows).step_by(2) {
                let sides = (MARGIN / 2.0, WIDTH - MARGIN / 2.0);
                svg += &rect("band", sides, self.top(row), self.height, "");
            }
        }
        for (x, words) in FIGURES {
            svg += &text(x, TOP - 10.0, "muted small end", words);
        }
        for tick in ticks(self.start, self.end, 10) {
            let x = self.x(tick.at);
            svg += &text(x, TOP - 10.0, "muted small middle", &tick.label);
            svg += &line("grid", (x, x), (TOP - 5.0, self.bottom()));
        }
        svg
    }

    fn row(
        &self,
        row: usize,
        joins: Instant,
        item: &ItemFigures,
        bars: &[Bar],
        tooltips: bool,
    ) -> String {
        let top = self.top(row);
        let thin = self.height < THIN;
        let inset = if thin { 0.0 } else { 1.0 };
        let middle = top + self.height / 2.0;
        let mut svg = String::from("<g>\n");
        for (from, to) in bars::joined(&item.late, |at| self.x(at)) {
            let height = self.height - 2.0 * inset;
            svg += &rect("late", (from, to), top + inset, height, "");
            if self.labelled == 1 {
                svg += &line("due", (from, from), (top + inset, top + inset + height));
            }
        }
        if joins < self.end && !thin {
            svg += &line("life", (self.x(joins), RIGHT), (middle, middle));
        }
        for bar in bars {
            let share = if bar.kind == Kind::Succeeded {
                0.5
            } else {
                0.75
            };
            let height = self.height * share;
            let words = match tooltips {
                true => tooltip(&item.name, bar),
                false => String::new(),
            };
            svg += &rect(
                bar.kind.class(),
                (bar.from, bar.to),
                middle - height / 2.0,
                height,
                &words,
            );
        }
        if row.is_multiple_of(self.labelled) {
            let y = middle + 4.0;
            let class = if item.starved { "bad" } else { "" };
            svg += &text(MARGIN, y, class, &short(&item.name, 24));
            let figures = [
                item.runs.to_string(),
                item.failed.to_string(),
                brief(item.late_max_ms),
                brief(item.longest_gap_ms),
            ];
            for ((x, _), figure) in FIGURES.iter().zip(figures) {
                svg += &text(*x, y, "small end", &figure);
            }
        }
        svg + "</g>\n"
    }
}

fn tooltip(name: &str, bar: &Bar) -> String {
    let (from, to) = (minute(bar.started), minute(bar.finished));
    let took = brief(bar.finished.abs_diff(bar.started));
    match bar.runs {
        1 => format!("{name}: {}, {from} to {to} ({took})", bar.kind.words()),
        n => format!(
            "{name}: {n} runs, {}, {from} to {to} ({took})",
            bar.kind.words()
        ),
    }
}

fn text(x: f64, y: f64, class: &str, words: &str) -> String {
    format!(
        "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\">{}</text>\n",
        escape(words)
    )
}

fn line(class: &str, (x1, x2): (f64, f64), (y1, y2): (f64, f64)) -> String {
    format!(
        "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>\n"
    )
}

fn rect(class: &str, (from, to): (f64, f64), y: f64, height: f64, tooltip: &str) -> String {
    let open = format!(
        "<rect class=\"{class}\" x=\"{from:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{height:.1}\"",
        to - from
    );
    match tooltip {
        "" => format!("{open}/>\n"),
        words => format!("{open}><title>{}</title></rect>\n", escape(words)),
    }
}

#[cfg(test)]
#[path = "svg_tests.rs"]
mod tests;
