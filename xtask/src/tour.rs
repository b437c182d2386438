//! `cargo xtask tour`: shows the main features on a real node, with Prometheus and Chromium, and
//! takes screenshots.

use crate::{build, built, finish, image, real_node, target, tools};
use anyhow::{Context, Result};
use control_plane::ControllerManager::Required;
use std::path::Path;
use std::process::{Command, ExitCode};

/// Builds what the tour needs, and starts it.
pub fn run(screenshots: &Path) -> Result<ExitCode> {
    real_node::prepare().context("the tour needs a real node")?;
    tools::build_with_control_plane(Some(Required), &build(&["kubectl-oaat", "tour"]))?;
    tools::node()?;
    tools::helm()?;
    tools::monitoring()?;
    tools::prometheus()?;
    tools::ensure_browser()?;
    let image = target().join("oaat-operator.tar");
    eprintln!("building the operator's image; the first time, this takes 5 to 15 minutes");
    image::write(&image)?;
    std::fs::create_dir_all(screenshots).context("failed to create the screenshot directory")?;
    let mut tour = Command::new(built("debug", "tour"));
    tour.arg("--image").arg(image.canonicalize()?);
    finish(tour.arg("--screenshots").arg(screenshots.canonicalize()?))
}
