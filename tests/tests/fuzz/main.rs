//! What users write, in whatever reads it: changed at random, it is accepted or refused in words,
//! and nothing crashes or hangs. Without more, each test runs a fixed number of cases, the same
//! ones each time; `cargo xtask fuzz --minutes N` runs for as long as one likes.

#![allow(clippy::unwrap_used)]

mod components;
mod objects;
mod runner;
mod texts;
