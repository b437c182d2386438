//! What the repository ships for monitoring, except for the alerts themselves (`../alerts.rs`).

mod custom_resource_state;
mod dashboard;
mod notifications;
