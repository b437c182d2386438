//! Screenshots of the dashboard.

use crate::cluster::Cluster;
use anyhow::Result;
use oaat_tests::browser::{Browser, Dashboard, Screen};
use std::path::Path;

/// Opens the dashboard of the group in Chromium, and writes a screenshot.
pub async fn screenshot(cluster: &Cluster, group: &str, file: &Path) -> Result<()> {
    let plugin = Cluster::plugin()?;
    println!("\n$ kubectl oaat dashboard");
    let kubeconfig = cluster.plane.admin_kubeconfig();
    let dashboard = Dashboard::start(&plugin, kubeconfig, &["--no-browser"]).await?;
    let browser = Browser::start(&control_plane::locate_browser()?).await?;
    let screen = Screen {
        width: 1000,
        height: 1000,
        dark: false,
    };
    browser.show_on(screen).await?;
    browser.open(&dashboard.url).await?;
    browser.find("link", group).await?;
    browser
        .script(&format!("location.hash = '#/default/{group}'"))
        .await?;
    browser.find("heading", group).await?;
    std::fs::write(file, browser.screenshot().await?)?;
    println!("wrote {}", file.display());
    Ok(())
}
