//! A forecast as text.

use super::super::axis::{format_brief, format_exact};
use super::super::timeline;
use super::Forecast;

/// The maximum number of starts in the text.
const MAX_STARTS: usize = 50;

impl Forecast {
    /// Formats the forecast for a terminal of this width.
    pub fn text(&self, width: usize) -> String {
        let view = self.view();
        let brief = |seconds: u64| format_brief(seconds * 1000);
        let mut text = format!(
            "{} in {}, {} to {}\n",
            view.group,
            view.namespace,
            format_exact(view.from.0),
            format_exact(view.to.0)
        );
        for assumption in &view.assumptions {
            text.push_str(&format!("assumes that {assumption}\n"));
        }
        text.push('\n');
        text.push_str(&timeline::timeline(
            &self.scenario,
            &self.history,
            &self.metrics,
            width,
        ));
        text.push('\n');
        for start in view.starts.iter().take(MAX_STARTS) {
            let note = start.note.as_ref().map(|note| format!(" ({note})"));
            text.push_str(&format!(
                "{}  {} for {}{}\n",
                format_exact(start.at.0),
                start.item,
                brief(start.expected_seconds),
                note.unwrap_or_default()
            ));
        }
        match view.starts.len() {
            0 => text.push_str("nothing starts\n"),
            n if n > MAX_STARTS => text.push_str(&format!("and {} more starts\n", n - MAX_STARTS)),
            _ => {}
        }
        for late in &view.late {
            text.push_str(&format!(
                "late: {} by up to {}\n",
                late.item,
                brief(late.seconds)
            ));
        }
        for item in &view.starved {
            text.push_str(&format!("starves: {item}\n"));
        }
        text
    }
}
