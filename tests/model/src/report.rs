//! The findings of an exploration.

use crate::{Protocol, description, violations};
use stateright::{Checker, HasDiscoveries, Model};
use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

/// The findings.
#[derive(Debug)]
pub struct Report {
    /// The number of distinct states.
    pub states: usize,
    /// The number of states that were generated, including those met again.
    pub steps: usize,
    /// The largest number of actions on a shortest path to a state.
    pub depth: usize,
    /// The duration of the exploration.
    pub duration: Duration,
    /// For each property with a finding, a shortest path to it, line by line: to a violation of a
    /// property that must always hold, or to an example of a state that must be reachable.
    pub paths: BTreeMap<&'static str, Vec<String>>,
    /// The states that must be reachable and were not reached.
    pub not_reached: Vec<&'static str>,
}

impl Report {
    /// Explores the model breadth first. Without a mutation, it stops at the end or at the first
    /// violation; with one, at the expected violation.
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
        let paths: BTreeMap<_, _> = checked
            .discoveries()
            .into_iter()
            .map(|(property, path)| (property, description::describe_path(&path.into_vec())))
            .collect();
        let always = violations();
        let not_reached = protocol
            .properties()
            .into_iter()
            .map(|property| property.name)
            .filter(|name| !always.contains(name) && !paths.contains_key(name))
            .collect();
        Self {
            states: checked.unique_state_count(),
            steps: checked.state_count(),
            depth: checked.max_depth(),
            duration: start.elapsed(),
            paths,
            not_reached,
        }
    }

    /// Returns whether a path was found for this property.
    pub fn found(&self, property: &str) -> bool {
        self.paths.contains_key(property)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} distinct states, {} generated, {} actions deep, {:.1} s",
            self.states,
            self.steps,
            self.depth,
            self.duration.as_secs_f64()
        )?;
        for property in violations() {
            match self.paths.get(property) {
                None => writeln!(f, "  holds    {property}")?,
                Some(path) => {
                    writeln!(f, "  BROKEN   {property}:")?;
                    for (number, line) in path.iter().enumerate() {
                        writeln!(f, "           {:>2}. {line}", number + 1)?;
                    }
                }
            }
        }
        for (property, path) in &self.paths {
            if !violations().contains(property) {
                writeln!(f, "  reached  {property}, after {} actions", path.len())?;
            }
        }
        for property in &self.not_reached {
            writeln!(f, "  MISSED   {property}")?;
        }
        Ok(())
    }
}
