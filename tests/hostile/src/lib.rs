//! Policies that misbehave.
