//! `schedule`: when items are due, instead of a frequency.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// When an item is due: at each time of a cron schedule.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Schedule {
    /// A cron schedule with five fields: minute, hour, day of the month, month, and day of the week.
    /// For example, "30 2 * * *". If a clock change skips a scheduled minute, the items are due at
    /// the change.
    #[schemars(length(min = 9, max = 100))]
    #[x_kube(validation = super::cron("cron must have the five fields of cron (minute, hour, day of the month, month, and day of the week), such as 30 2 * * *"))]
    pub cron: String,

    /// The IANA name of the schedule's time zone, such as Europe/Berlin. Defaults to UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = super::time_zone())]
    pub time_zone: Option<String>,
}
