//! Hostile policies in the loader and the evaluator.

#![allow(clippy::unwrap_used)]

mod common;
mod isolation;
mod outcomes;
