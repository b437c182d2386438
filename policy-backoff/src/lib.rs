//! Exponential back-off after failures.
