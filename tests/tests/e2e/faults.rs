//! The promise under faults, on the real API server.

/// Two thousand groups at once.
mod crowd;
/// Leaders that end, well or badly, and what their lease does.
mod elections;
/// Leaders that sleep past their lease with a write on its way.
mod frozen;
/// An operator that is killed at every write.
mod kills;
/// Requests that get no answer, or half of one.
mod silence;
/// Operators that are killed at random behind connections that break.
mod storms;
