//! Describes decisions as human-readable text.

use crate::time::format_both;
use policy_host::{Choice, Decision, EvalError, Evaluation, Instant, Level, LogLine, Request};
use std::fmt;
use unicode_width::UnicodeWidthStr;

/// The description of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// The choice or the error.
    pub answer: String,
    /// The policy's note on the choice.
    pub note: Option<String>,
    /// The items of the request; empty for an error.
    pub items: Vec<ItemLine>,
    /// The new state; `None` if the policy does not change it.
    pub state: Option<String>,
    /// The policy's log.
    pub log: Vec<String>,
}

/// An item of an [`Explanation`].
#[derive(Debug, Clone, PartialEq)]
pub struct ItemLine {
    /// The name of the item.
    pub name: String,
    /// Whether the item was chosen.
    pub chosen: bool,
    /// The standing, with `held` if the operator holds the item; empty if there is no verdict.
    pub standing: String,
    /// The end of the standing; empty if it is unknown.
    pub until: String,
    /// The policy's note on the item.
    pub note: String,
}

/// Describes the answer to a request.
pub fn explain(request: &Request, evaluation: &Evaluation<Decision>) -> Explanation {
    let log = log_lines(&evaluation.log, evaluation.log_dropped);
    match &evaluation.answer {
        Err(error) => Explanation {
            answer: describe_error(error),
            note: None,
            items: Vec::new(),
            state: None,
            log,
        },
        Ok(decision) => Explanation {
            answer: describe_choice(request, &decision.choice),
            note: decision.note.clone(),
            items: items(request, decision),
            state: decision.state.clone(),
            log,
        },
    }
}

/// Describes the result of `validate`. Returns `None` if the policy logged nothing.
pub(crate) fn explain_validation(evaluation: &Evaluation<()>) -> Option<Explanation> {
    (!evaluation.log.is_empty() || evaluation.log_dropped > 0).then(|| Explanation {
        answer: describe_validation(&evaluation.answer),
        note: None,
        items: Vec::new(),
        state: None,
        log: log_lines(&evaluation.log, evaluation.log_dropped),
    })
}

fn items(request: &Request, decision: &Decision) -> Vec<ItemLine> {
    let line = |(index, item): (usize, &policy_host::Item)| {
        let verdict = decision.verdicts.get(index);
        let standing = verdict.map(|verdict| verdict.standing.name());
        let held = (!item.startable).then_some("held");
        let words: Vec<_> = standing.into_iter().chain(held).collect();
        let until = verdict.and_then(|verdict| verdict.until);
        ItemLine {
            name: plain(&item.name),
            chosen: decision.chosen() == Some(index),
            standing: words.join(", "),
            until: until.map_or_else(String::new, |at| format_both(at, request.now)),
            note: verdict
                .and_then(|verdict| verdict.note.clone())
                .unwrap_or_default(),
        }
    };
    request.items.iter().enumerate().map(line).collect()
}

/// Formats a choice as `run a` or `wait until …`.
pub(crate) fn describe_choice(request: &Request, choice: &Choice) -> String {
    match choice {
        Choice::Run(index) => match request.items.get(*index as usize) {
            Some(item) => format!("run {}", plain(&item.name)),
            None => format!("run item {index}"),
        },
        Choice::Wait(until) => describe_wait(*until, request.now),
    }
}

pub(crate) fn describe_wait(until: Option<Instant>, now: Instant) -> String {
    match until {
        Some(until) => format!("wait until {}", format_both(until, now)),
        None => "wait (no time given)".to_owned(),
    }
}

pub(crate) fn describe_error(error: &EvalError) -> String {
    format!("{}: {error:#}", error.reason())
}

pub(crate) fn describe_validation(found: &Result<(), EvalError>) -> String {
    match found {
        Ok(()) => "accepted".to_owned(),
        Err(EvalError::PolicyError(message)) => format!("rejected: {message}"),
        Err(error) => describe_error(error),
    }
}

fn log_lines(log: &[LogLine], dropped: u64) -> Vec<String> {
    let line = |line: &LogLine| {
        let level = match line.level {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        };
        format!("{level}: {}", line.text)
    };
    let dropped = (dropped > 0).then(|| format!("({dropped} more lines were dropped)"));
    log.iter().map(line).chain(dropped).collect()
}

/// Replaces control characters in a name. A raw request may contain any text.
fn plain(name: &str) -> String {
    name.replace(char::is_control, " ")
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.answer)?;
        if let Some(note) = &self.note {
            writeln!(f, "note: {note}")?;
        }
        if !self.items.is_empty() {
            self.table(f)?;
        }
        if let Some(state) = &self.state {
            writeln!(f, "state: {state:?}")?;
        }
        if !self.log.is_empty() {
            writeln!(f, "log:")?;
        }
        for line in &self.log {
            writeln!(f, "  {line}")?;
        }
        Ok(())
    }
}

impl Explanation {
    fn table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heads = ["ITEM", "STANDING", "UNTIL", "NOTE"];
        let rows: Vec<_> = self
            .items
            .iter()
            .map(|item| [&item.name, &item.standing, &item.until, &item.note])
            .collect();
        let width = |column: usize| {
            let widest = rows.iter().map(|row| row[column].width()).max();
            // An empty column has no width and is not shown.
            match widest {
                Some(0) | None => 0,
                Some(widest) => widest.max(heads[column].width()),
            }
        };
        let widths: Vec<_> = (0..heads.len()).map(width).collect();
        let mut line = |mark: &str, cells: &[&str]| {
            let cells = cells.iter().zip(&widths).filter(|(_, width)| **width > 0);
            let cells: Vec<_> = cells
                .map(|(cell, &width)| format!("{cell}{:1$}", "", width - cell.width()))
                .collect();
            writeln!(f, "{mark} {}", cells.join("  ").trim_end())
        };
        line(" ", &heads)?;
        for (item, row) in self.items.iter().zip(rows) {
            let mark = if item.chosen { ">" } else { " " };
            line(mark, &row.map(String::as_str))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
