//! The library of `kubectl-oaat`, a kubectl plugin that shows and runs the items of groups, validates
//! objects in files, and builds, tests, and ships selection policies.

mod cluster;
pub mod command_line;
pub mod commands;
mod input;
pub mod policy;
mod terminal;
pub mod validate;
mod views;
