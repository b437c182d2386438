//! Debian packages that some tests need.

use anyhow::{Result, bail};
use std::process::{Command, Stdio};

/// Returns whether this process runs as root.
pub fn is_root() -> bool {
    let user = Command::new("id").arg("-u").output();
    user.is_ok_and(|user| user.stdout.trim_ascii() == b"0")
}

/// Returns whether a program is installed.
pub fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|folder| folder.join(program).is_file())
}

/// Installs packages, as root.
pub fn install(packages: &[&str]) -> Result<()> {
    let names = packages.join(", ");
    if !on_path("apt-get") {
        bail!("apt-get is not available; install these packages: {names}");
    }
    eprintln!("installing {names}");
    let apt = || {
        let mut apt = Command::new("apt-get");
        apt.args(["-y", "-qq"])
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdout(Stdio::null());
        apt
    };
    // A failed update is ignored, because the existing lists may have the packages.
    succeeds(apt().arg("update"));
    let mut install = apt();
    install
        .args(["install", "--no-install-recommends"])
        .args(packages);
    if !succeeds(&mut install) {
        bail!("apt-get failed to install missing packages: {names}");
    }
    Ok(())
}

/// Returns whether a command succeeds.
pub fn succeeds(command: &mut Command) -> bool {
    command.status().is_ok_and(|status| status.success())
}
