//! Forecasts: the simulation of a live group, from its status and its measured durations.

mod live_group;
mod text;
mod view;

use super::metrics::Metrics;
use super::scenario::Scenario;
use super::simulator::{History, simulate_until};
use super::svg;
use oaat_api::{OaatGroup, Timestamp};
use policy_host::Policy;
use std::time::Duration;

pub(crate) use view::ForecastView;

/// A simulated future of a group.
pub(crate) struct Forecast {
    scenario: Scenario,
    history: History,
    metrics: Metrics,
    digest: String,
    notes: Vec<String>,
}

impl Forecast {
    /// Simulates a group from now on, until `stop` returns a reason to stop. `listed` contains the items
    /// in effect.
    ///
    /// # Errors
    /// Returns an error if the spec of the group is invalid, if the policy rejects its settings or makes
    /// no decisions, or if the simulation is stopped.
    pub fn new(
        group: &OaatGroup,
        listed: &[String],
        policy: &Policy,
        now: Timestamp,
        length: Duration,
        stop: impl FnMut(Timestamp) -> Option<String>,
    ) -> Result<Self, String> {
        let (scenario, notes) = live_group::scenario(group, listed, now, length)?;
        let validation = policy.validate(&scenario.settings, &scenario.item_settings());
        validation
            .answer
            .map_err(|error| error.settings_problem())?;
        let history = simulate_until(&scenario, |request| policy.evaluate(request), stop);
        if let Some(why) = &history.cut_short {
            return Err(why.to_string());
        }
        Ok(Self {
            metrics: Metrics::of(&scenario, &history),
            digest: policy.digest().to_owned(),
            scenario,
            history,
            notes,
        })
    }

    /// Draws the forecast.
    pub fn svg(&self) -> String {
        let view = self.view();
        let title = format!("Forecast of {} in {}", view.group, view.namespace);
        let heading = svg::Heading::new(
            title,
            &self.digest,
            &self.scenario,
            &self.history,
            &self.metrics,
        );
        svg::draw(&heading, &self.scenario, &self.history, &self.metrics)
    }
}

#[cfg(test)]
mod tests;
