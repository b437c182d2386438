//! Rules for the repository itself.

mod dependencies;
mod documents;
mod files;
mod manifests;
mod modules;
mod words;
