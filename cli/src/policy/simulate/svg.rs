//! Draws a simulation as an SVG: one row per item, time from left to right.

use super::axis::{format_brief, format_minute, ticks};
use super::bars::{self, Bar, Extent, Kind};
use super::metrics::{ItemMetrics, Metrics};
use super::scenario::Scenario;
use super::simulator::{History, Run};
use super::timeline::{format_percent, format_starvation, truncated};
use crate::policy::xml::escape;
use policy_host::Instant;

const WIDTH: f64 = 1280.0;
/// The left and right ends of the time axis.
const LEFT: f64 = 196.0;
const RIGHT: f64 = 1000.0;
const MARGIN: f64 = 24.0;
/// The top of the first row.
const TOP: f64 = 140.0;
/// The height of a row. More than [`FULL_HEIGHT_ROWS`] rows share the height of that number of rows.
const ROW_HEIGHT: std::ops::RangeInclusive<f64> = 2.0..=26.0;
const FULL_HEIGHT_ROWS: f64 = 60.0;
/// Rows below this height have only bars.
const MIN_DETAILED_ROW: f64 = 6.0;
/// The minimum distance between rows with labels.
const MIN_LABEL_DISTANCE: f64 = 13.0;
/// The maximum number of bars with tooltips.
const MAX_TOOLTIPS: usize = 5_000;
/// The maximum number of starved items in the footer.
const MAX_STARVED: usize = 5;
/// The columns with metrics: right edge and heading.
const COLUMNS: [(f64, &str); 4] = [
    (1050.0, "runs"),
    (1105.0, "failed"),
    (1180.0, "late max"),
    (1256.0, "longest gap"),
];

/// The style sheet. The colors are distinguishable with color blindness (the Okabe-Ito palette,
/// lighter on a dark background). Failures are also taller.
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

/// The text above a picture.
pub(crate) struct Heading {
    pub title: String,
    /// The digests of the policies.
    pub policies: String,
    pub summary: String,
}

impl Heading {
    /// Returns the text above a simulation.
    pub fn new(
        title: String,
        digest: &str,
        scenario: &Scenario,
        history: &History,
        metrics: &Metrics,
    ) -> Self {
        Self {
            title,
            policies: format!("sha256:{digest}"),
            summary: summary(scenario, history, metrics),
        }
    }
}

/// Draws a simulation.
pub(crate) fn draw(
    heading: &Heading,
    scenario: &Scenario,
    history: &History,
    metrics: &Metrics,
) -> String {
    let chart = Chart::new(scenario, history);
    let mut runs: Vec<Vec<&Run>> = vec![vec![]; scenario.items.len()];
    for run in &history.runs {
        runs[run.item].push(run);
    }
    let bars: Vec<Vec<Bar>> = runs
        .iter()
        .map(|runs| bars::bars(runs, |at| chart.x(at)))
        .collect();
    let tooltips = bars.iter().map(Vec::len).sum::<usize>() <= MAX_TOOLTIPS;
    let footer = footer(scenario, history, metrics);
    let height = chart.bottom() + 28.0 + 18.0 * footer.len() as f64;

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.1}\" \
         width=\"{WIDTH}\" height=\"{height:.1}\" role=\"img\" aria-labelledby=\"t d\">\n\
         <title id=\"t\">{}</title>\n<desc id=\"d\">{}</desc>\n<style>\n{STYLE}</style>\n\
         <rect class=\"ground\" width=\"100%\" height=\"100%\"/>\n",
        escape(&heading.title),
        escape(&heading.summary),
    );
    svg += &text(MARGIN, 36.0, "title", &truncated(&heading.title, 120));
    svg += &text(MARGIN, 58.0, "muted small mono", &heading.policies);
    svg += &text(MARGIN, 78.0, "muted", &heading.summary);
    svg += &legend(&bars);
    svg += &chart.axis();
    for (row, item) in metrics.items.iter().enumerate() {
        svg += &chart.row(row, scenario.items[row].joins, item, &bars[row], tooltips);
    }
    for (line, words) in footer.iter().enumerate() {
        let y = chart.bottom() + 28.0 + 18.0 * line as f64;
        svg += &text(MARGIN, y, "bad", words);
    }
    svg + "</svg>\n"
}

fn summary(scenario: &Scenario, history: &History, metrics: &Metrics) -> String {
    format!(
        "{} to {} UTC · seed {} · busy {} of the time · {} runs · {} decisions, {} errors · \
         fuel mean {}, max {}",
        format_minute(scenario.start),
        format_minute(history.end),
        scenario.seed,
        format_percent(metrics.utilisation),
        history.runs.len(),
        metrics.decisions,
        metrics.errors,
        metrics.fuel_mean,
        metrics.fuel_max,
    )
}

/// Returns the lines of the footer: starved items, and why the simulation ended early.
fn footer(scenario: &Scenario, history: &History, metrics: &Metrics) -> Vec<String> {
    let starved: Vec<_> = metrics.items.iter().filter(|item| item.starved).collect();
    let mut lines: Vec<_> = starved
        .iter()
        .take(MAX_STARVED)
        .map(|item| format!("starved: {}", format_starvation(scenario, item)))
        .collect();
    if let Some(more) = starved
        .len()
        .checked_sub(MAX_STARVED)
        .filter(|more| *more > 0)
    {
        lines.push(format!("and {more} more starved"));
    }
    lines.extend(
        history
            .cut_short
            .as_ref()
            .map(|why| format!("ended early: {why}")),
    );
    lines.iter().map(|line| truncated(line, 180)).collect()
}

fn legend(bars: &[Vec<Bar>]) -> String {
    let drawn = |kind| bars.iter().flatten().any(|bar| bar.kind == kind);
    let mut entries = vec![("succeeded", "succeeded"), ("failed", "failed")];
    if drawn(Kind::Both) {
        entries.push(("both", "both (too close to tell apart)"));
    }
    if drawn(Kind::Unfinished) {
        entries.push(("unfinished", "running at the end"));
    }
    entries.push(("late", "due until a successful run starts"));
    let mut svg = String::new();
    let mut x = MARGIN;
    for (class, words) in entries {
        let swatch = Rect {
            extent: Extent {
                left: x,
                right: x + 14.0,
            },
            top: 89.0,
            height: 10.0,
        };
        svg += &swatch.draw(class, "");
        svg += &text(x + 20.0, 98.0, "small", words);
        // An estimate of the width of the text.
        x += 44.0 + 6.0 * words.chars().count() as f64;
    }
    svg
}

/// The layout of the rows.
struct Chart {
    start: Instant,
    end: Instant,
    rows: usize,
    row_height: f64,
    /// The number of rows from one label to the next.
    label_interval: usize,
}

impl Chart {
    fn new(scenario: &Scenario, history: &History) -> Self {
        let rows = scenario.items.len();
        let height = ROW_HEIGHT.end() * FULL_HEIGHT_ROWS / rows as f64;
        let row_height = height.clamp(*ROW_HEIGHT.start(), *ROW_HEIGHT.end());
        Self {
            start: scenario.start,
            end: history.end.max(scenario.start + 1),
            rows,
            row_height,
            label_interval: (MIN_LABEL_DISTANCE / row_height).ceil() as usize,
        }
    }

    fn x(&self, at: Instant) -> f64 {
        let share = at.saturating_sub(self.start) as f64 / self.end.abs_diff(self.start) as f64;
        LEFT + share.clamp(0.0, 1.0) * (RIGHT - LEFT)
    }

    fn top(&self, row: usize) -> f64 {
        TOP + self.row_height * row as f64
    }

    fn bottom(&self) -> f64 {
        self.top(self.rows)
    }

    /// Draws the background: a band on every second row, the headings, and the time axis.
    fn axis(&self) -> String {
        let mut svg = String::new();
        if self.label_interval == 1 {
            for row in (1..self.rows).step_by(2) {
                let band = Rect {
                    extent: Extent {
                        left: MARGIN / 2.0,
                        right: WIDTH - MARGIN / 2.0,
                    },
                    top: self.top(row),
                    height: self.row_height,
                };
                svg += &band.draw("band", "");
            }
        }
        for (x, heading) in COLUMNS {
            svg += &text(x, TOP - 10.0, "muted small end", heading);
        }
        for tick in ticks(self.start, self.end, 10) {
            let x = self.x(tick.at);
            svg += &text(x, TOP - 10.0, "muted small middle", &tick.label);
            svg += &vertical_line("grid", x, TOP - 5.0, self.bottom());
        }
        svg
    }

    fn row(
        &self,
        row: usize,
        joins: Instant,
        item: &ItemMetrics,
        bars: &[Bar],
        tooltips: bool,
    ) -> String {
        let top = self.top(row);
        let is_thin = self.row_height < MIN_DETAILED_ROW;
        let inset = if is_thin { 0.0 } else { 1.0 };
        let middle = top + self.row_height / 2.0;
        let mut svg = String::from("<g>\n");
        for extent in bars::merged_periods(&item.late, |at| self.x(at)) {
            let late = Rect {
                extent,
                top: top + inset,
                height: self.row_height - 2.0 * inset,
            };
            svg += &late.draw("late", "");
            if self.label_interval == 1 {
                svg += &vertical_line("due", extent.left, late.top, late.top + late.height);
            }
        }
        if joins < self.end && !is_thin {
            svg += &horizontal_line("life", self.x(joins), RIGHT, middle);
        }
        for bar in bars {
            let fraction = if bar.kind == Kind::Succeeded {
                0.5
            } else {
                0.75
            };
            let height = self.row_height * fraction;
            let rect = Rect {
                extent: bar.extent,
                top: middle - height / 2.0,
                height,
            };
            let tooltip = if tooltips {
                tooltip(&item.name, bar)
            } else {
                String::new()
            };
            svg += &rect.draw(bar.kind.class(), &tooltip);
        }
        if row.is_multiple_of(self.label_interval) {
            let y = middle + 4.0;
            let class = if item.starved { "bad" } else { "" };
            svg += &text(MARGIN, y, class, &truncated(&item.name, 24));
            let cells = [
                item.runs.to_string(),
                item.failed.to_string(),
                format_brief(item.late_max_ms),
                format_brief(item.longest_gap_ms),
            ];
            for ((x, _), cell) in COLUMNS.iter().zip(cells) {
                svg += &text(*x, y, "small end", &cell);
            }
        }
        svg + "</g>\n"
    }
}

fn tooltip(name: &str, bar: &Bar) -> String {
    let (from, to) = (format_minute(bar.started), format_minute(bar.finished));
    let took = format_brief(bar.finished.abs_diff(bar.started));
    let outcome = bar.kind.description();
    match bar.runs {
        1 => format!("{name}: {outcome}, {from} to {to} ({took})"),
        n => format!("{name}: {n} runs, {outcome}, {from} to {to} ({took})"),
    }
}

fn text(x: f64, y: f64, class: &str, words: &str) -> String {
    format!(
        "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\">{}</text>\n",
        escape(words)
    )
}

fn vertical_line(class: &str, x: f64, y1: f64, y2: f64) -> String {
    format!("<line class=\"{class}\" x1=\"{x:.1}\" y1=\"{y1:.1}\" x2=\"{x:.1}\" y2=\"{y2:.1}\"/>\n")
}

fn horizontal_line(class: &str, x1: f64, x2: f64, y: f64) -> String {
    format!("<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y:.1}\" x2=\"{x2:.1}\" y2=\"{y:.1}\"/>\n")
}

struct Rect {
    extent: Extent,
    top: f64,
    height: f64,
}

impl Rect {
    fn draw(&self, class: &str, tooltip: &str) -> String {
        let Extent { left, right } = self.extent;
        let open = format!(
            "<rect class=\"{class}\" x=\"{left:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\"",
            self.top,
            right - left,
            self.height
        );
        if tooltip.is_empty() {
            format!("{open}/>\n")
        } else {
            format!("{open}><title>{}</title></rect>\n", escape(tooltip))
        }
    }
}

#[cfg(test)]
mod tests;
