//! The JSON form of a forecast.

use super::Forecast;
use oaat_api::Timestamp;
use serde::Serialize;

/// What a forecast shows. Times are RFC 3339 in JSON.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ForecastView {
    pub group: String,
    pub namespace: String,
    /// The sha256 of the policy.
    pub policy: String,
    pub from: Timestamp,
    pub to: Timestamp,
    /// What the forecast assumes.
    pub assumptions: Vec<String>,
    pub starts: Vec<StartView>,
    /// The items that are late at some time.
    pub late: Vec<LateView>,
    /// The items that wait longer than three times their frequency, or never start.
    pub starved: Vec<String>,
}

/// A start in the future.
#[derive(Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
#[serde(rename_all = "camelCase")]
pub(crate) struct StartView {
    pub at: Timestamp,
    pub item: String,
    pub expected_seconds: u64,
    /// Why the policy selects it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// An item that is late.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LateView {
    pub item: String,
    /// Its maximum lateness in seconds.
    pub seconds: u64,
}

impl Forecast {
    /// Returns what the forecast shows.
    pub fn view(&self) -> ForecastView {
        let group = self.scenario.past.group.clone().unwrap_or_default();
        let starts = self.history.runs.iter().map(|run| StartView {
            at: Timestamp(run.started),
            item: self.scenario.items[run.item].name.clone(),
            expected_seconds: run.finished.abs_diff(run.started) / 1000,
            note: run.note.clone(),
        });
        let mut late: Vec<_> = self
            .metrics
            .items
            .iter()
            .filter(|i| i.late_max_ms >= 1000)
            .collect();
        late.sort_by_key(|item| std::cmp::Reverse(item.late_max_ms));
        let starved = self.metrics.items.iter().filter(|item| item.starved);
        ForecastView {
            namespace: group.0,
            group: group.1,
            policy: self.digest.clone(),
            from: Timestamp(self.scenario.start),
            to: Timestamp(self.scenario.end),
            assumptions: self.notes.clone(),
            starts: starts.collect(),
            late: late
                .iter()
                .map(|item| LateView {
                    item: item.name.clone(),
                    seconds: item.late_max_ms / 1000,
                })
                .collect(),
            starved: starved.map(|item| item.name.clone()).collect(),
        }
    }
}
