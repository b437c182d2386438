//! `spec.blackoutWindows`: when nothing starts.

use super::{duration, is_false};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A window in which nothing starts.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct BlackoutWindow {
    /// How messages call it; by its schedule where it has no name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub name: Option<String>,

    /// When it opens: minute, hour, day of the month, month, day of the week, as for cron, such as
    /// "0 22 * * 1-5". A minute that the clocks skip opens it at once, one that they show twice
    /// opens it twice.
    #[schemars(length(min = 9, max = 100))]
    #[x_kube(validation = (r"self.matches('^ *([0-9A-Za-z*/,#+?-]+ +){4}[0-9A-Za-z*/,#+?-]+ *$')", "schedule must have the five fields of cron (minute, hour, day of the month, month, day of the week), such as 0 22 * * 1-5"))]
    pub schedule: String,

    /// How long it stays open, such as 8h; at most a year.
    #[schemars(length(max = 64))]
    #[x_kube(validation = duration(" && self.matches('[1-9]')", "duration must be a duration longer than zero, such as 30m or 8h"))]
    pub duration: String,

    /// The time zone whose clocks the schedule means, by its IANA name, such as Europe/Berlin. Default UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = (r"self.matches('^[A-Za-z0-9_+/-]+$')", "timeZone must be the IANA name of a time zone, such as Europe/Berlin or UTC"))]
    pub time_zone: Option<String>,

    /// What becomes of a run in progress when it opens: Continue (the default) or Stop, by which
    /// its pod is deleted gracefully, and the run counts as neither success nor failure.
    #[serde(default)]
    pub running: Running,

    /// Also hold an item for which there is not time enough before it opens, going by the longest of its
    /// successful runs in the group's history.
    #[serde(default, skip_serializing_if = "is_false")]
    pub start_if_fits: bool,
}

/// What becomes of a run in progress.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Running {
    /// It goes on to its end.
    #[default]
    Continue,
    /// It is ended.
    Stop,
}
