//! `spec.blackoutWindows`: when no item starts.

use super::{duration, is_false};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A recurring time window in which no item starts.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct BlackoutWindow {
    /// Name of the window in messages. Defaults to its schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub name: Option<String>,

    /// When the window opens, as a cron schedule with five fields: minute, hour, day of the month,
    /// month, and day of the week. For example, "0 22 * * 1-5". If a clock change skips a scheduled
    /// minute, the window opens at the change. If a clock change repeats a scheduled minute, the
    /// window opens twice.
    #[schemars(length(min = 9, max = 100))]
    #[x_kube(validation = super::cron("schedule must have the five fields of cron (minute, hour, day of the month, month, and day of the week), such as 0 22 * * 1-5"))]
    pub schedule: String,

    /// How long the window stays open, such as 8h. The maximum is one year.
    #[schemars(length(max = 64))]
    #[x_kube(validation = duration(" && self.matches('[1-9]')", "duration must be a duration longer than zero, such as 30m or 8h"))]
    pub duration: String,

    /// The IANA name of the schedule's time zone, such as Europe/Berlin. Defaults to UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = super::time_zone())]
    pub time_zone: Option<String>,

    /// What happens to a run in progress when the window opens. Continue (the default) lets it
    /// finish. Stop deletes its pod gracefully, and the run counts as neither a success nor a
    /// failure.
    #[serde(default)]
    pub running: RunningAction,

    /// Whether to also hold an item if a run as long as the longest of its last five successful runs
    /// would not finish before the window opens.
    #[serde(default, skip_serializing_if = "is_false")]
    pub start_if_fits: bool,
}

/// What happens to a run in progress.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunningAction {
    /// It continues.
    #[default]
    Continue,
    /// The operator stops it.
    Stop,
}
