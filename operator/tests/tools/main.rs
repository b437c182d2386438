//! The author's tools as a person starts them, and what they have in common with the operator.

#![allow(clippy::unwrap_used)]

mod cli;
mod holds;
mod hostile;
