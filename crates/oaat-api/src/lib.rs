//! The API `kawaja.net/v1`: its types, their schemas, and their validation.

pub mod crd;
mod cron_schedule;
mod field_error;
mod group;
mod item_options;
mod items_from;
pub mod json_path;
mod oaat_type;
mod pod_schema;
mod policy;
pub mod reasons;
pub mod run_now;
mod schedule;
mod status_limits;
pub mod text;
mod time;
pub mod validate;
mod window;
pub mod windows;

pub use cron_schedule::CronSchedule;
pub use group::{
    Attempts, CurrentRun, ItemState, ItemStatus, LastDecision, LastGoodBuiltIn, Mark, OaatGroup,
    OaatGroupSpec, OaatGroupStatus, OtherGates, PodRejections, RunNow, RunRecord, RunResult,
    Stopping,
};
pub use item_options::{ItemOptions, Variable};
pub use items_from::{
    HeaderFrom, HeaderSource, ItemSource, ItemsContainer, ItemsFrom, ItemsHttp, ItemsKey,
    SecretKeyRef,
};
pub use oaat_type::{OaatType, OaatTypeSpec, OaatTypeStatus, PodMetadata};
pub use policy::{
    AcceptedSettings, BuiltInPolicy, OnError, PolicyInUse, PolicyKey, PolicySpec, RejectedPolicy,
    ShadowPolicy,
};
pub use schedule::Schedule;
pub use status_limits::clean_status;
pub use time::Timestamp;
pub use window::{BlackoutWindow, RunningAction};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff;
use kube::core::cel::Rule;

/// Returns the rule for a duration as humantime parses it, without units below a millisecond.
/// `extra` is appended to the expression.
fn duration(extra: &str, message: &str) -> Rule {
    const UNITS: &str = "ms|msec|millis|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?|w|wks?|weeks?|M|months?|y|yrs?|years?";
    Rule::new(format!("self.matches('^([0-9]+ *({UNITS}) *)+$'){extra}")).message(message)
}

/// Returns the rule for the name of another object.
fn object_name(message: &str) -> Rule {
    const NAME: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
    Rule::new(format!("self.matches('{NAME}')")).message(message)
}

/// Returns the rule for a cron schedule.
fn cron(message: &str) -> Rule {
    const FIELD: &str = "[0-9A-Za-z*/,#+?-]+";
    Rule::new(format!("self.matches('^ *({FIELD} +){{4}}{FIELD} *$')")).message(message)
}

/// Returns the rule for options that contain a frequency and a schedule.
fn frequency_or_schedule() -> Rule {
    Rule::new("!has(self.frequency) || !has(self.schedule)")
        .message("frequency and schedule are mutually exclusive; remove one of them")
}

/// Returns the rule for the name of a time zone.
fn time_zone() -> Rule {
    Rule::new("self.matches('^[A-Za-z0-9_+/-]+$')")
        .message("timeZone must be the IANA name of a time zone, such as Europe/Berlin or UTC")
}

/// Returns whether a field is omitted because it is false.
fn is_false(value: &bool) -> bool {
    !value
}

/// The status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionStatus {
    /// The condition applies.
    True,
    /// The condition does not apply.
    False,
    /// It is not known whether the condition applies.
    Unknown,
}

impl From<bool> for ConditionStatus {
    fn from(applies: bool) -> Self {
        if applies { Self::True } else { Self::False }
    }
}

impl std::fmt::Display for ConditionStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        })
    }
}

/// Sets a condition according to the Kubernetes API conventions: the transition time changes only if
/// the status changes. Cleans the message.
pub fn set_condition(
    conditions: &mut Vec<Condition>,
    now: Timestamp,
    generation: Option<i64>,
    (type_, status, reason, message): (&str, impl Into<ConditionStatus>, &str, String),
) {
    let status: ConditionStatus = status.into();
    let time = Time(jiff::Timestamp::from_millisecond(now.0).unwrap_or_default());
    let fresh = Condition {
        type_: type_.to_owned(),
        status: status.to_string(),
        reason: reason.to_owned(),
        message: text::clean(&message, text::CONDITION),
        last_transition_time: time,
        observed_generation: generation,
    };
    match conditions.iter_mut().find(|c| c.type_ == type_) {
        Some(old) => {
            let since = old.last_transition_time.clone();
            let changed = old.status != fresh.status;
            *old = fresh;
            if !changed {
                old.last_transition_time = since;
            }
        }
        None => conditions.push(fresh),
    }
}

/// Returns the condition of a type, if it is set.
pub fn condition<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == type_)
}
