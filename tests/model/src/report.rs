//! What a walk through the model found.

use crate::{Protocol, violations, words};
use stateright::{Checker, HasDiscoveries, Model};
use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

/// What was found.
#[derive(Debug)]
pub struct Report {
    /// Different states that were seen.
    pub states: usize,
    /// States that were looked at, those met again included.
    pub steps: usize,
    /// Actions on the longest of the shortest ways to a state.
    pub depth: usize,
    /// How long it took.
    pub took: Duration,
    /// For each property for which there is one, a shortest way there, line by line: to a
    /// violation of what must always hold, to an example of what must be possible.
    pub ways: BTreeMap<&'static str, Vec<String>>,
    /// What must be possible, and was not seen.
    pub missing: Vec<&'static str>,
}

impl Report {
    /// Walks through the model, breadth first. Without a mutation to its end, or to the first
    /// violation; with one to the violation that it is to show.
    pub fn of(protocol: Protocol, threads: usize) -> Self {
        let start = Instant::now();
        let until = match protocol.mutation {
            Some(mutation) => HasDiscoveries::AnyOf([mutation.breaks()].into()),
            None => HasDiscoveries::AnyFailures,
        };
        let checked = protocol
            .checker()
            .threads(threads)
            .finish_when(until)
            .spawn_bfs()
            .join();
        let ways: BTreeMap<_, _> = checked
            .discoveries()
            .into_iter()
            .map(|(property, path)| (property, words::story(&path.into_vec())))
            .collect();
        let always = violations();
        let missing = protocol
            .properties()
            .into_iter()
            .map(|property| property.name)
            .filter(|name| !always.contains(name) && !ways.contains_key(name))
            .collect();
        Self {
            states: checked.unique_state_count(),
            steps: checked.state_count(),
            depth: checked.max_depth(),
            took: start.elapsed(),
            ways,
            missing,
        }
    }

    /// Whether there is a way to what this property says.
    pub fn found(&self, property: &str) -> bool {
        self.ways.contains_key(property)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} different states, {} looked at, {} actions deep, {:.1} s",
            self.states,
            self.steps,
            self.depth,
            self.took.as_secs_f64()
        )?;
        for property in violations() {
            match self.ways.get(property) {
                None => writeln!(f, "  holds    {property}")?,
                Some(way) => {
                    writeln!(f, "  BROKEN   {property}:")?;
                    for (number, line) in way.iter().enumerate() {
                        writeln!(f, "           {:>2}. {line}", number + 1)?;
                    }
                }
            }
        }
        for (property, way) in &self.ways {
            if !violations().contains(property) {
                writeln!(f, "  seen     {property}, after {} actions", way.len())?;
            }
        }
        for property in &self.missing {
            writeln!(f, "  not seen {property}")?;
        }
        Ok(())
    }
}
