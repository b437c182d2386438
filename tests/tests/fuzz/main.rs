//! Mutates what users write and passes it to the code that reads it: it must be accepted or
//! rejected with a message, without a crash or a hang. By default, each test runs a fixed number of
//! cases, the same ones each time; `cargo xtask fuzz --minutes N` runs for longer.

#![allow(clippy::unwrap_used)]

mod components;
mod objects;
mod runner;
mod texts;
