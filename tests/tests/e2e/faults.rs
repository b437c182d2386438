//! The guarantees under faults, on a real API server.

/// Two thousand groups at once.
mod crowd;
/// Leaders that stop or crash, and what happens to their lease.
mod elections;
/// Leaders that are paused past their lease with a write in transit.
mod frozen;
/// An operator that is killed at every write.
mod kills;
/// Requests without a response, or with a truncated one.
mod silence;
/// Operators that are killed at random behind connections that break.
mod storms;
