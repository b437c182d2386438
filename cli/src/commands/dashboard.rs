//! `kubectl oaat dashboard`: a status page on this machine, with the user's own permissions.

mod access;
mod api;
mod assets;
mod live_groups;
mod response;
mod server;

use super::Scope;
use crate::cluster::ClusterError;
use crate::terminal::{print, report};
use access::{Access, Token};
use api::Dashboard;
use clap::Args;
use live_groups::LiveGroups;
use std::io::{IsTerminal, Write};
use std::net::Ipv4Addr;
use std::process::Stdio;
use std::sync::Arc;
use tempfile::NamedTempFile;
use tokio::net::TcpListener;
#[cfg(unix)]
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;

/// Arguments of `dashboard`.
#[derive(Args, Debug)]
pub struct DashboardArgs {
    /// The port on 127.0.0.1. The default is a free port.
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    port: u16,
    /// Print the URL, but do not open a browser.
    #[arg(long)]
    no_browser: bool,
    /// Reject requests to run, suspend, and resume.
    #[arg(long)]
    read_only: bool,
    #[command(flatten)]
    scope: Scope,
}

pub(super) async fn run(args: &DashboardArgs, built_in: &[u8]) -> Result<(), ClusterError> {
    let session = args.scope.session().await?;
    let namespace = args.scope.namespace(&session).map(str::to_owned);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, args.port)).await;
    let listener = listener.map_err(|error| {
        let port = args.port;
        ClusterError::Usage(format!("--port {port}: {error}; use another port"))
    })?;
    let address = listener.local_addr()?;
    let token = Token::random();
    // The browser sends a fragment to no server.
    let url = format!("http://{address}/#token={}", token.as_str());
    print(&format!(
        "The dashboard is at {url}\nAnyone with this URL can use your permissions. Press Ctrl-C to \
         stop the dashboard.\n"
    ))?;
    let is_interactive = std::io::stdout().is_terminal();
    // The file exists until the command ends, because the browser may be slow.
    let _opened = (is_interactive && !args.no_browser)
        .then(|| open_browser(&url))
        .flatten();
    let live = Arc::new(LiveGroups::new());
    let dashboard = Arc::new(Dashboard {
        access: Access::new(address.port(), &token),
        live: live.clone(),
        session: session.clone(),
        namespace: namespace.clone(),
        read_only: args.read_only,
        built_in: built_in.to_vec(),
        forecasts: Arc::new(Semaphore::new(1)),
    });
    tokio::select! {
        () = server::serve(listener, dashboard, server::REQUEST_TIMEOUT) => {}
        () = live_groups::follow(&live, &session, namespace.as_deref()) => {}
        stopped = until_stopped(is_interactive) => stopped?,
    }
    Ok(())
}

/// Waits until the user or the system stops the command, or until the terminal is closed.
#[cfg(unix)]
async fn until_stopped(is_interactive: bool) -> std::io::Result<()> {
    let received = async |kind| {
        signal(kind)?.recv().await;
        std::io::Result::Ok(())
    };
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        terminated = received(SignalKind::terminate()) => terminated,
        hung_up = received(SignalKind::hangup()), if is_interactive => hung_up,
    }
}

#[cfg(not(unix))]
async fn until_stopped(_: bool) -> std::io::Result<()> {
    tokio::signal::ctrl_c().await
}

/// Opens the URL in the user's browser, if there is a program for that.
///
/// The arguments of a process are visible to other users of the machine, so the URL is in a file that
/// only this user can read, and that sends the browser to it.
fn open_browser(url: &str) -> Option<NamedTempFile> {
    let open = if cfg!(target_os = "macos") {
        "open"
    } else {
        "xdg-open"
    };
    let page = || {
        let mut page = tempfile::Builder::new()
            .prefix("oaat-dashboard-")
            .suffix(".html")
            .tempfile()?;
        write!(
            page,
            "<meta http-equiv=\"refresh\" content=\"0;url={url}\">"
        )?;
        page.flush()?;
        std::process::Command::new(open)
            .arg(page.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok::<_, std::io::Error>(page)
    };
    match page() {
        Ok(page) => Some(page),
        Err(error) => {
            report(&format!(
                "no browser was opened ({open}: {error}); open the URL yourself"
            ));
            None
        }
    }
}
