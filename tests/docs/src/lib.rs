//! The generated pages of docs/, and the book that docs/SUMMARY.md describes.

mod api;
pub mod book;
mod command_line;
mod examples;
mod markdown;
mod metrics;
mod policy_files;

use anyhow::Result;
use std::path::{Path, PathBuf};

/// A page of docs/ that is generated from the code.
#[derive(Debug)]
pub struct Page {
    /// The name of the file in docs/.
    pub name: &'static str,
    /// The Markdown text.
    pub text: String,
}

/// Returns all generated pages.
///
/// # Errors
/// Returns an error if the CRDs cannot be read, or if the metrics cannot be encoded.
pub fn generated() -> Result<Vec<Page>> {
    let page = |name, text| Page { name, text };
    Ok(vec![
        page(
            "examples.md",
            examples::page(&root().join("manifests/examples"))?,
        ),
        page("reference-api.md", api::page(&oaat_api::crd::yaml()?)?),
        page("reference-metrics.md", metrics::page()?),
        page("reference-cli.md", command_line::page()),
        page("reference-policy-files.md", policy_files::page()),
    ])
}

/// Returns the root of the repository.
pub fn root() -> PathBuf {
    // The variable of the running cargo, because the binary may be from another checkout.
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    let is_root = |folder: &&Path| folder.join("docs/SUMMARY.md").is_file();
    let found = manifest.ancestors().find(is_root).map(Path::to_owned);
    found.unwrap_or(manifest)
}

/// Returns cargo's target directory.
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => root().join(folder),
        None => root().join("target"),
    }
}
