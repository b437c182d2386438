//! How the operator scales: handovers with 2 to 2,000 items, and memory and restarts with 1 to 10,000
//! groups.

use crate::election::until_it_starts_runs;
use crate::handover::{node, operator_options, operator_samples, rss};
use crate::report::Report;
use crate::scale::{create_groups, group, type_, until_requests};
use anyhow::{Result, anyhow};
use oaat_tests::{ControlPlane, Operator};
use plotters::coord::Shift;
use plotters::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::time::sleep;

const ITEMS: [usize; 4] = [2, 20, 200, 2_000];
const QUANTILES: [f64; 2] = [0.5, 0.99];
const GROUPS: [usize; 5] = [1, 10, 100, 1_000, 10_000];
/// The namespace of the suspended groups, and of the group that is due after a restart.
const NAMESPACE: &str = "curves-idle";

/// The points of a curve: counts and measured values.
type Points = Vec<(f64, f64)>;

/// The measured curves.
pub struct Curves {
    /// Handovers in milliseconds by the number of items: median and 99th percentile.
    handover: [Points; 2],
    /// The memory of the operator in megabytes by the number of groups.
    memory: Points,
    /// The time in seconds from the start of the operator to the start of a due item.
    restart: Points,
}

/// The name of a result.
fn handover(items: usize, share: f64) -> String {
    format!("handover with {items} items, quantile {share}")
}

/// The name of a result.
fn memory(groups: usize) -> String {
    format!("memory with {groups} groups")
}

/// The name of a result.
fn restart(groups: usize) -> String {
    format!("restart with {groups} groups until a due item starts")
}

pub async fn measure(
    plane: &ControlPlane,
    kubeconfig: &Path,
    runs: usize,
    report: &mut Report,
) -> Result<()> {
    println!("curves:");
    for items in ITEMS {
        let runs = if items > 200 { runs.min(50) } else { runs };
        let namespace = format!("curves-{items}");
        let (samples, operator, _node) =
            operator_samples(plane, kubeconfig, &namespace, runs, items).await?;
        operator.stop().await;
        for share in QUANTILES {
            let value = samples.quantile(share).as_secs_f64() * 1e3;
            report.at_most(&handover(items, share), value, "ms", None);
        }
    }
    let options = operator_options(plane, kubeconfig, vec![NAMESPACE.into()])?;
    let _node = node(plane, NAMESPACE).await?;
    plane.apply(&type_(NAMESPACE).to_string()).await?;
    let mut before = 0;
    for groups in GROUPS {
        create_groups(plane, NAMESPACE, before..groups).await?;
        let first = Operator::start(&options).await?;
        until_requests(&first, "patch", groups - before).await?;
        before = groups;
        first.stop().await;
        let due = group(NAMESPACE, &format!("due-{groups}"), 1, false);
        plane.apply(&due.to_string()).await?;
        let began = Instant::now();
        let operator = Operator::start(&options).await?;
        until_it_starts_runs(&operator).await?;
        let seconds = began.elapsed().as_secs_f64();
        report.at_most(&restart(groups), seconds, "s", None);
        sleep(Duration::from_secs(3)).await;
        let megabytes = rss(operator.process().pid())?;
        report.at_most(&memory(groups), megabytes, "MB", None);
        operator.stop().await;
    }
    Ok(())
}

impl Curves {
    /// Returns the curves through these results.
    pub fn new(results: &BTreeMap<String, f64>) -> Self {
        let points = |counts: &[usize], name: &dyn Fn(usize) -> String| {
            let point = |count: &usize| Some((*count as f64, *results.get(&name(*count))?));
            counts.iter().filter_map(point).collect()
        };
        Self {
            handover: QUANTILES.map(|share| points(&ITEMS, &|items| handover(items, share))),
            memory: points(&GROUPS, &memory),
            restart: points(&GROUPS, &restart),
        }
    }

    /// Draws the curves side by side in an SVG file.
    pub fn draw(&self, path: &Path) -> Result<()> {
        let mut svg = String::new();
        {
            let area = SVGBackend::with_string(&mut svg, (1200, 360)).into_drawing_area();
            area.fill(&WHITE).map_err(|error| anyhow!("{error}"))?;
            let panels = area.split_evenly((1, 3));
            let [median, tail] = &self.handover;
            for (panel, title, x, curves) in [
                (
                    &panels[0],
                    "End of a pod to the next pod, ms (median, 99 %)",
                    "items",
                    vec![median, tail],
                ),
                (&panels[1], "Memory, MB", "idle groups", vec![&self.memory]),
                (
                    &panels[2],
                    "Restart until a due item starts, s",
                    "idle groups",
                    vec![&self.restart],
                ),
            ] {
                panel_of(panel, title, x, &curves).map_err(|error| anyhow!("{error}"))?;
            }
        }
        std::fs::write(path, svg)?;
        Ok(())
    }
}

/// Draws curves over a logarithmic axis of counts.
fn panel_of<'a>(
    panel: &DrawingArea<SVGBackend<'a>, Shift>,
    title: &str,
    x: &str,
    curves: &[&Points],
) -> Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>> {
    let points = || curves.iter().copied().flatten();
    let counts = points().map(|point| point.0);
    let (least, most) = (
        counts.clone().fold(f64::MAX, f64::min),
        counts.fold(1.0, f64::max),
    );
    let top = points().map(|point| point.1).fold(0.0, f64::max) * 1.1;
    let mut chart = ChartBuilder::on(panel)
        .caption(title, ("sans-serif", 15))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(48)
        .build_cartesian_2d((least..most).log_scale(), 0.0..top)?;
    chart
        .configure_mesh()
        .x_desc(x)
        .light_line_style(WHITE)
        .x_label_formatter(&|count| format!("{count}"))
        .draw()?;
    for (points, color) in curves.iter().zip([BLUE, RED]) {
        chart.draw_series(LineSeries::new(points.iter().copied(), color))?;
        let dots = points
            .iter()
            .map(|point| Circle::new(*point, 3, color.filled()));
        chart.draw_series(dots)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_are_drawn_with_titles_and_counts() {
        let results = ITEMS.map(|items| (handover(items, 0.5), items as f64));
        let more = GROUPS.map(|groups| (memory(groups), groups as f64));
        let curves = Curves::new(&results.into_iter().chain(more).collect());
        assert_eq!(curves.handover[0].len(), ITEMS.len());
        let file = tempfile::NamedTempFile::new().unwrap();
        curves.draw(file.path()).unwrap();
        let svg = std::fs::read_to_string(file.path()).unwrap();
        for text in ["Memory, MB", "idle groups", "1000"] {
            assert!(svg.contains(text), "{text}");
        }
    }
}
