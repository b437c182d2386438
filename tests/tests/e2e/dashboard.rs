//! `kubectl oaat dashboard` in a headless Chromium. Elements are found by their role and accessible
//! name.

use crate::fixture::{Fixture, say};
use crate::helpers::RUN_NOW;
use crate::verdicts::command_line;
use anyhow::{Result, ensure};
use control_plane::BrowserTools;
use oaat_tests::Signal;
use oaat_tests::browser::{Browser, Dashboard, Screen, keys};
use oaat_tests::proxy::{Fate, Proxy};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Returns the paths of the browser. Without one, the tests are skipped, except in CI.
fn browser_tools() -> Result<Option<BrowserTools>> {
    match control_plane::locate_browser() {
        Ok(tools) => Ok(Some(tools)),
        Err(problem) if std::env::var_os("CI").is_some() => Err(problem),
        Err(problem) => {
            say(&format!("skipping the tests in a browser: {problem}"));
            Ok(None)
        }
    }
}

/// A fixture with a group, a dashboard of its namespace, and a browser that shows it.
struct Shown {
    fixture: Fixture,
    dashboard: Dashboard,
    browser: Browser,
}

impl Shown {
    async fn new(
        tools: &BrowserTools,
        fixture: Fixture,
        kubeconfig: &Path,
        args: &[&str],
    ) -> Result<Self> {
        let more = json!({ "frequency": "1h", "failureCoolOff": "20m" });
        fixture.group(&["photos", "mail"], more).await?;
        let status = json!({
            "state": "Waiting", "message": "mail is cooling off",
            "policy": { "source": "default", "digest": "0123abcd", "contract": "1.0.0" },
            "items": {
                "photos": { "state": "Ready" },
                "mail": {
                    "state": "Cooling", "failures": 2, "lastFailure": "2026-01-01T00:00:00Z",
                    "next": "2099-01-01T00:00:00Z",
                },
            },
            "history": [
                {
                    "run": 2, "item": "mail", "result": "Failed", "reason": "Error", "exitCode": 3,
                    "started": "2026-01-01T00:00:00Z", "finished": "2026-01-01T00:01:00Z",
                },
                {
                    "run": 1, "item": "mail", "result": "Succeeded", "reason": "Completed",
                    "started": "2025-01-01T00:00:00Z", "finished": "2025-01-01T00:01:00Z",
                },
            ],
        });
        fixture.write_status(status).await?;
        let args = [&["--namespace", &fixture.namespace, "--no-browser"], args].concat();
        let dashboard = Dashboard::start(command_line().await?, kubeconfig, &args).await?;
        let browser = Browser::start(tools).await?;
        browser.open(&dashboard.url).await?;
        Ok(Self {
            fixture,
            dashboard,
            browser,
        })
    }

    /// Waits until the page contains a text.
    async fn until_text(&self, text: &str) -> Result<()> {
        let text = json!(text);
        let contains = format!("document.body.innerText.includes({text})");
        self.browser.until(&contains).await
    }
}

#[tokio::test]
async fn page_is_live_and_keyboard_users_run_suspend_and_resume() -> Result<()> {
    let Some(tools) = browser_tools()? else {
        return Ok(());
    };
    let fixture = Fixture::without_operator("dashboard").await?;
    let kubeconfig = fixture.plane.admin_kubeconfig();
    let shown = Shown::new(&tools, fixture, kubeconfig, &[]).await?;
    let Shown {
        fixture, browser, ..
    } = &shown;
    browser.find("heading", "Groups").await?;
    browser.find("link", "group").await?;
    // The page is never loaded again from here on.
    browser.script("window.isSame = true").await?;

    browser.tab_to("link", "group").await?;
    browser.press(keys::ENTER).await?;
    browser.find("button", "Run photos now").await?;
    assert_eq!(browser.focused().await?.1, "group", "the heading");
    browser.find("heading", "mail").await?;
    let strip = "[role=img][aria-label='Last runs, oldest first: Succeeded, Failed']";
    browser.until(&format!("document.querySelector({})", json!(strip))).await?;
    for words in [
        "2 failures in a row",
        "rule: failureCoolOff",
        "It is due, and nothing of the group runs",
        "0123abcd",
    ] {
        shown.until_text(words).await?;
    }

    browser.tab_to("button", "Run photos now").await?;
    let change = json!({ "state": "Idle", "items": { "photos": { "state": "Held" } } });
    fixture.write_status(change).await?;
    shown.until_text("Held").await?;
    let focused = browser.focused().await?;
    assert_eq!(focused.1, "Run photos now", "a change keeps the focus");

    browser.press(keys::ENTER).await?;
    browser.find("dialog", "Run photos now?").await?;
    browser.press(keys::ESCAPE).await?;
    browser.until_gone("dialog", "Run photos now?").await?;
    let group = fixture.read("group").await?;
    assert!(group["metadata"]["annotations"][RUN_NOW].is_null(), "canceled");
    assert_eq!(browser.focused().await?.1, "Run photos now");
    browser.press(keys::ENTER).await?;
    browser.find("dialog", "Run photos now?").await?;
    assert_eq!(browser.focused().await?.1, "Run now");
    browser.press(keys::ENTER).await?;
    shown.until_text("photos is requested to run now.").await?;
    let group = fixture.read("group").await?;
    let request: Value = serde_json::from_str(
        group["metadata"]["annotations"][RUN_NOW]
            .as_str()
            .unwrap_or_default(),
    )?;
    assert_eq!(request["items"], json!(["photos"]));
    suspend_and_resume(&shown).await?;

    browser.find("searchbox", "Filter items").await?;
    assert_eq!(browser.script("return window.isSame").await?, true);
    let log = browser.log().await?;
    ensure!(log.is_empty(), "{log:#?}");
    interrupted(&shown).await
}

async fn suspend_and_resume(shown: &Shown) -> Result<()> {
    let Shown {
        fixture, browser, ..
    } = shown;
    browser.tab_to("button", "Suspend group").await?;
    browser.press(keys::ENTER).await?;
    browser.find("dialog", "Suspend group?").await?;
    assert_eq!(browser.focused().await?.1, "Reason");
    browser.press("<b>disk</b>").await?;
    browser.press(keys::ENTER).await?;
    browser.find("button", "Resume group").await?;
    // A text from the cluster is never HTML.
    shown.until_text(": <b>disk</b>").await?;
    let suspended = |group: &Value| group["spec"]["suspend"] == true;
    ensure!(suspended(&fixture.read("group").await?));
    browser.tab_to("button", "Resume group").await?;
    browser.press(keys::ENTER).await?;
    browser.find("dialog", "Resume group?").await?;
    browser.press(keys::ENTER).await?;
    browser.find("button", "Suspend group").await?;
    ensure!(!suspended(&fixture.read("group").await?));
    Ok(())
}

/// Ends the dashboard as Ctrl-C does. The page says so.
async fn interrupted(shown: &Shown) -> Result<()> {
    shown.dashboard.process.signal(Signal::Interrupt);
    let status = shown.dashboard.process.wait().await;
    assert_eq!(status.code(), Some(0));
    shown.until_text("dashboard does not respond").await
}

#[tokio::test]
async fn page_fits_a_phone_and_follows_the_color_scheme() -> Result<()> {
    let Some(tools) = browser_tools()? else {
        return Ok(());
    };
    let fixture = Fixture::without_operator("dashboard-screens").await?;
    fixture
        .apply(
            &json!({
                "apiVersion": "kawaja.net/v1", "kind": "OaatGroup",
                "metadata": { "name": format!("long-{}", "name-".repeat(40) + "x") },
                "spec": { "oaatType": "work", "oaatItems": ["a".repeat(250)] },
            })
            .to_string(),
        )
        .await?;
    let kubeconfig = fixture.plane.admin_kubeconfig();
    let shown = Shown::new(&tools, fixture, kubeconfig, &[]).await?;
    let browser = &shown.browser;
    let background = "return getComputedStyle(document.body).backgroundColor";
    let mut colors = Vec::new();
    for dark in [false, true] {
        let screen = Screen {
            width: 400,
            height: 800,
            dark,
        };
        browser.show_on(screen).await?;
        colors.push(browser.script(background).await?);
        let fits = "document.documentElement.scrollWidth <= 400 && innerWidth === 400";
        browser.script("location.hash = '#/'").await?;
        browser.find("link", "group").await?;
        browser.until(fits).await?;
        let long = "document.querySelector('a[href*=long]').click()";
        browser.script(long).await?;
        browser.until("document.querySelector('#item-list h4')?.textContent.length === 128").await?;
        browser.until(fits).await?;
        browser.script("location.hash = '#/dashboard-screens/group'").await?;
        browser.find("button", "Run mail now").await?;
        browser.find("link", "All groups").await?;
        // It opens the forecast, which the policy decides.
        browser.script("document.querySelector('#forecast summary').click()").await?;
        shown.until_text("starts until").await?;
        browser.until(fits).await?;
    }
    assert_eq!(colors, ["rgb(255, 255, 255)", "rgb(20, 23, 26)"]);
    let log = browser.log().await?;
    ensure!(log.is_empty(), "{log:#?}");
    Ok(())
}

#[tokio::test]
async fn missing_right_and_lost_connection_are_said_on_the_page() -> Result<()> {
    let Some(tools) = browser_tools()? else {
        return Ok(());
    };
    let fixture = Fixture::without_operator("dashboard-rights").await?;
    let viewer = fixture.user("view").await?;
    let is_down = Arc::new(AtomicBool::new(false));
    let down = is_down.clone();
    let proxy = Proxy::start(&viewer, move |_| {
        if down.load(Ordering::SeqCst) {
            Fate::Breaks
        } else {
            Fate::Passes
        }
    });
    let proxy = proxy.await?;
    let shown = Shown::new(&tools, fixture, proxy.kubeconfig(), &[]).await?;
    let browser = &shown.browser;
    browser.find("link", "group").await?;
    browser.tab_to("link", "group").await?;
    browser.press(keys::ENTER).await?;
    browser.find("button", "Run photos now").await?;
    browser.tab_to("button", "Run photos now").await?;
    browser.press(keys::ENTER).await?;
    browser.find("dialog", "Run photos now?").await?;
    browser.press(keys::ENTER).await?;
    shown
        .until_text(
            "You do not have permission to patch oaatgroups.kawaja.net in namespace \
             \"dashboard-rights\"; ask a cluster administrator for it.",
        )
        .await?;

    is_down.store(true, Ordering::SeqCst);
    shown.until_text("Not live: Failed to reach the API server").await?;
    is_down.store(false, Ordering::SeqCst);
    shown.until_text("✓ Live").await?;
    let status = json!({ "message": "changed after the loss" });
    shown.fixture.write_status(status).await?;
    shown.until_text("changed after the loss").await?;

    let address = shown.dashboard.url.split('#').next().unwrap_or_default();
    let other = Browser::start(&tools).await?;
    other.open(address).await?;
    let text = "document.body.innerText.includes('The token is missing')";
    other.until(text).await?;
    other.until("document.querySelectorAll('li').length === 0").await?;
    Ok(())
}
