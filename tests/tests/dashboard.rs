//! `kubectl oaat dashboard` in a headless Chromium. Elements are found by their role and accessible
//! name.

use anyhow::{Context, Result, ensure};
use control_plane::BrowserTools;
use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use oaat_tests::browser::{Browser, Dashboard, Screen, keys};
use oaat_tests::proxy::{Fate, Proxy};
use oaat_tests::undecodable::create_deeply_nested;
use oaat_tests::{ControlPlane, Options, Signal, operator};
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::OnceCell;

/// The annotation that requests items to run now.
const RUN_NOW: &str = "oaat.kawaja.net/run-now";

/// The control plane and the command line that all tests share.
struct Shared {
    plane: ControlPlane,
    command_line: PathBuf,
}

async fn shared() -> Result<&'static Shared> {
    static SHARED: OnceCell<Shared> = OnceCell::const_new();
    SHARED
        .get_or_try_init(async || {
            let command_line = tokio::task::spawn_blocking(operator::command_line).await??;
            let options = Options {
                manifests: vec![operator::crds()],
                ..Options::default()
            };
            let plane = ControlPlane::start(options).await?;
            // The ClusterRoles of users.
            operator::apply(&plane, "02-oaat-operator-deployment.yaml").await?;
            Ok(Shared {
                plane,
                command_line,
            })
        })
        .await
}

/// Returns the paths of the browser. Without one, the tests are skipped, except in CI.
fn browser_tools() -> Result<Option<BrowserTools>> {
    match control_plane::locate_browser() {
        Ok(tools) => Ok(Some(tools)),
        Err(problem) if std::env::var_os("CI").is_some() => Err(problem),
        Err(problem) => {
            // The test runner discards the output of println! in tests that pass.
            let _ = writeln!(
                std::io::stdout(),
                "skipping the tests in a browser: {problem}"
            );
            Ok(None)
        }
    }
}

/// A namespace with a group, a dashboard of it, and a browser that shows the dashboard.
struct Shown {
    namespace: String,
    groups: Api<DynamicObject>,
    dashboard: Dashboard,
    browser: Browser,
}

impl Shown {
    /// Creates the group, and shows it with the rights of `kubeconfig`.
    async fn new(tools: &BrowserTools, namespace: &str, kubeconfig: &Path) -> Result<Self> {
        let Shared {
            plane,
            command_line,
        } = shared().await?;
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("kawaja.net", "v1", "OaatGroup"));
        let groups = Api::namespaced_with(plane.admin(), namespace, &kind);
        let spec = json!({
            "oaatType": "work", "oaatItems": ["photos", "mail"], "frequency": "1h",
            "failureCoolOff": "20m",
            "policy": { "builtIn": "default", "shadow": { "builtIn": "backoff" } },
        });
        create(&groups, "group", &spec).await?;
        let args = ["--namespace", namespace, "--no-browser"];
        let shown = Self {
            namespace: namespace.to_owned(),
            groups,
            dashboard: Dashboard::start(command_line, kubeconfig, &args).await?,
            browser: Browser::start(tools).await?,
        };
        shown.write_status(status()).await?;
        shown.browser.open(&shown.dashboard.url).await?;
        Ok(shown)
    }

    /// Patches the status of the group, instead of the operator.
    async fn write_status(&self, status: Value) -> Result<()> {
        let patch = json!({ "status": status });
        let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
        self.groups.patch_status("group", &params, &patch).await?;
        Ok(())
    }

    /// Reads the group.
    async fn group(&self) -> Result<Value> {
        Ok(serde_json::to_value(self.groups.get("group").await?)?)
    }

    /// Opens the forecast of a group.
    async fn open_forecast(&self, group: &str) -> Result<()> {
        let show = format!("location.hash = '#/{}/{group}'", self.namespace);
        self.browser.script(&show).await?;
        self.browser.find("heading", group).await?;
        let summary = "document.querySelector('#forecast:not([hidden]) summary')";
        self.browser.until(summary).await?;
        self.browser.script(&format!("{summary}.click()")).await?;
        Ok(())
    }

    /// Waits until the page contains a text.
    async fn until_text(&self, text: &str) -> Result<()> {
        let text = json!(text);
        let contains = format!("document.body.innerText.includes({text})");
        self.browser.until(&contains).await
    }
}

async fn create(groups: &Api<DynamicObject>, name: &str, spec: &Value) -> Result<()> {
    let group = serde_json::from_value(json!({
        "apiVersion": "kawaja.net/v1", "kind": "OaatGroup", "metadata": { "name": name },
        "spec": spec,
    }))?;
    groups.create(&PostParams::default(), &group).await?;
    Ok(())
}

/// Returns the status of a group in which `mail` has failed twice.
fn status() -> Value {
    json!({
        "state": "Waiting", "message": "mail is cooling off",
        "policy": { "source": "default", "digest": "0123abcd", "contract": "1.0.0" },
        "conditions": [{
            "type": "ShadowAgrees", "status": "False", "reason": "Differs",
            "message": "1 of 2 decisions agreed", "lastTransitionTime": "2026-01-01T00:00:00Z",
        }],
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
    })
}

#[tokio::test]
async fn page_is_live_and_keyboard_users_run_suspend_and_resume() -> Result<()> {
    let Some(tools) = browser_tools()? else {
        return Ok(());
    };
    let plane = &shared().await?.plane;
    plane.namespace("dashboard").await?;
    let shown = Shown::new(&tools, "dashboard", plane.admin_kubeconfig()).await?;
    let browser = &shown.browser;
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
    browser
        .until(&format!("document.querySelector({})", json!(strip)))
        .await?;
    for words in [
        "2 failures in a row",
        "rule: failureCoolOff",
        "It is due, and nothing of the group runs",
        "0123abcd",
        "Shadow policy: Differs, 1 of 2 decisions agreed",
    ] {
        shown.until_text(words).await?;
    }

    let first = "document.querySelector('#item-list h4').textContent";
    browser.until(&format!("{first} === 'mail'")).await?;
    browser.tab_to("button", "Run photos now").await?;
    let items = json!({
        "photos": { "state": "Held", "failures": 1 },
        "mail": { "failures": 0 },
    });
    shown
        .write_status(json!({ "state": "Idle", "items": items }))
        .await?;
    shown.until_text("Held").await?;
    // Failing items come first.
    browser.until(&format!("{first} === 'photos'")).await?;
    let focused = browser.focused().await?;
    assert_eq!(focused.1, "Run photos now", "a change keeps the focus");

    browser.press(keys::ENTER).await?;
    browser.find("dialog", "Run photos now?").await?;
    browser.press(keys::ESCAPE).await?;
    browser.until_gone("dialog", "Run photos now?").await?;
    let group = shown.group().await?;
    assert!(
        group["metadata"]["annotations"][RUN_NOW].is_null(),
        "canceled"
    );
    assert_eq!(browser.focused().await?.1, "Run photos now");
    browser.press(keys::ENTER).await?;
    browser.find("dialog", "Run photos now?").await?;
    assert_eq!(browser.focused().await?.1, "Run now");
    browser.press(keys::ENTER).await?;
    shown.until_text("Requested a run of photos.").await?;
    let group = shown.group().await?;
    let request = group["metadata"]["annotations"][RUN_NOW].as_str();
    let request: Value = serde_json::from_str(request.context("there is no request")?)?;
    assert_eq!(request["items"], json!(["photos"]));
    suspend_and_resume(&shown).await?;

    browser.find("searchbox", "Filter items").await?;
    let is_clean = "!/null|undefined|NaN/.test(document.body.innerText)";
    browser.until(is_clean).await?;
    assert_eq!(browser.script("return window.isSame").await?, true);
    let log = browser.log().await?;
    ensure!(log.is_empty(), "{log:#?}");
    ended(&shown, Signal::Interrupt).await
}

async fn suspend_and_resume(shown: &Shown) -> Result<()> {
    let browser = &shown.browser;
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
    ensure!(suspended(&shown.group().await?));
    browser.tab_to("button", "Resume group").await?;
    browser.press(keys::ENTER).await?;
    browser.find("dialog", "Resume group?").await?;
    browser.press(keys::ENTER).await?;
    browser.find("button", "Suspend group").await?;
    ensure!(!suspended(&shown.group().await?));
    Ok(())
}

/// Ends the dashboard with a signal, so that it can remove its file. The page says so.
async fn ended(shown: &Shown, signal: Signal) -> Result<()> {
    shown.dashboard.process.signal(signal);
    let status = shown.dashboard.process.wait().await;
    assert_eq!(status.code(), Some(0));
    shown.until_text("dashboard is not responding").await
}

#[tokio::test]
async fn group_that_cannot_be_decoded_does_not_hide_the_others() -> Result<()> {
    let Some(tools) = browser_tools()? else {
        return Ok(());
    };
    let plane = &shared().await?.plane;
    plane.namespace("dashboard-deep").await?;
    let shown = Shown::new(&tools, "dashboard-deep", plane.admin_kubeconfig()).await?;
    shown.browser.find("link", "group").await?;
    shown.browser.script("location.hash = '#/%'").await?;
    shown.browser.script("location.reload()").await?;
    shown.browser.find("link", "group").await?;
    create_deeply_nested(&plane.admin(), "dashboard-deep", 1000).await?;
    shown.browser.find("link", "deep").await?;
    shown.until_text("Unreadable").await?;
    let status = json!({ "message": "changed after the other group" });
    shown.write_status(status).await?;
    shown.until_text("changed after the other group").await?;
    shown.until_text("✓ Live").await
}

#[tokio::test]
async fn page_recovers_from_an_event_that_it_cannot_show() -> Result<()> {
    let Some(tools) = browser_tools()? else {
        return Ok(());
    };
    let plane = &shared().await?.plane;
    plane.namespace("dashboard-recovers").await?;
    let shown = Shown::new(&tools, "dashboard-recovers", plane.admin_kubeconfig()).await?;
    let browser = &shown.browser;
    browser.find("link", "group").await?;
    shown.until_text("✓ Live").await?;
    // A property that each object has.
    shown
        .write_status(json!({ "state": "constructor" }))
        .await?;
    shown.until_text("constructor").await?;

    let fail = "window.create = document.createElement;
                document.createElement = () => { throw new Error('broken'); }";
    browser.script(fail).await?;
    shown.write_status(json!({ "state": "toString" })).await?;
    shown
        .until_text("Not live: This page failed to show a change (broken).")
        .await?;
    browser
        .script("document.createElement = window.create")
        .await?;
    shown.until_text("toString").await?;
    shown.until_text("✓ Live").await?;
    deleted_and_created_again(&shown).await
}

/// Deletes the group while the page shows it, and creates it again.
async fn deleted_and_created_again(shown: &Shown) -> Result<()> {
    let browser = &shown.browser;
    browser.tab_to("link", "group").await?;
    browser.press(keys::ENTER).await?;
    browser.find("button", "Run photos now").await?;
    let params = DeleteParams::default();
    shown.groups.delete("group", &params).await?;
    shown.until_text("Group group does not exist").await?;
    for name in ["Run photos now", "Suspend group"] {
        browser.until_gone("button", name).await?;
    }
    let spec = json!({ "oaatType": "work", "oaatItems": ["mail"] });
    create(&shown.groups, "group", &spec).await?;
    browser.find("button", "Run mail now").await?;
    browser.find("button", "Suspend group").await?;
    browser.until_gone("button", "Run photos now").await
}

#[tokio::test]
async fn hidden_pages_do_not_use_up_the_connections_of_the_browser() -> Result<()> {
    let Some(tools) = browser_tools()? else {
        return Ok(());
    };
    let plane = &shared().await?.plane;
    plane.namespace("dashboard-pages").await?;
    let shown = Shown::new(&tools, "dashboard-pages", plane.admin_kubeconfig()).await?;
    let browser = &shown.browser;
    shown.until_text("✓ Live").await?;
    browser.script("window.pages = [window]").await?;
    // Chromium opens at most six connections to a host.
    for _ in 0..7 {
        browser.script("pages.push(open(location.href))").await?;
        let text = "pages.at(-1).document.body?.innerText";
        browser
            .until(&format!("{text}?.includes('✓ Live')"))
            .await?;
    }
    shown.until_text("Paused while this page is hidden").await?;
    let status = json!({ "message": "changed while hidden" });
    shown.write_status(status).await?;
    let text = "pages.at(-1).document.body.innerText";
    let is_changed = format!("{text}.includes('changed while hidden')");
    browser.until(&is_changed).await?;
    browser
        .script("pages.slice(1).forEach((page) => page.close())")
        .await?;
    shown.until_text("changed while hidden").await?;
    shown.until_text("✓ Live").await
}

#[tokio::test]
async fn long_forecast_is_stopped_and_does_not_prevent_the_end() -> Result<()> {
    let Some(tools) = browser_tools()? else {
        return Ok(());
    };
    let plane = &shared().await?.plane;
    plane.namespace("dashboard-forecasts").await?;
    let shown = Shown::new(&tools, "dashboard-forecasts", plane.admin_kubeconfig()).await?;
    let names: Vec<String> = (0..500).map(|number| format!("item-{number}")).collect();
    let spec = json!({ "oaatType": "work", "oaatItems": names, "frequency": "10s" });
    create(&shown.groups, "busy", &spec).await?;
    // The items are always due, so the policy decides millions of times.
    let item = |name: &String| (name.clone(), json!({ "state": "Ready", "durations": [0] }));
    let items: serde_json::Map<String, Value> = names.iter().map(item).collect();
    let patch = json!({ "status": { "items": items } });
    let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
    shown.groups.patch_status("busy", &params, &patch).await?;
    shown.open_forecast("busy").await?;
    shown
        .until_text("The forecast took longer than 5 s, and was stopped at 20")
        .await?;
    shown.open_forecast("group").await?;
    shown.until_text("starts until").await?;
    shown.open_forecast("busy").await?;
    shown.until_text("Simulating the next day").await?;
    ended(&shown, Signal::Term).await
}

#[tokio::test]
async fn page_fits_a_phone_and_follows_the_color_scheme() -> Result<()> {
    let Some(tools) = browser_tools()? else {
        return Ok(());
    };
    let plane = &shared().await?.plane;
    plane.namespace("dashboard-screens").await?;
    let shown = Shown::new(&tools, "dashboard-screens", plane.admin_kubeconfig()).await?;
    let name = format!("long-{}x", "name-".repeat(40));
    let spec = json!({ "oaatType": "work", "oaatItems": ["a".repeat(250)] });
    create(&shown.groups, &name, &spec).await?;
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
        let long = "document.querySelector('a[href*=long]')";
        browser.until(long).await?;
        browser.script(&format!("{long}.click()")).await?;
        browser
            .until("document.querySelector('#item-list h4')?.textContent.length > 100")
            .await?;
        browser.until(fits).await?;
        browser
            .script(&format!("location.hash = '#/{}/group'", shown.namespace))
            .await?;
        browser.find("button", "Run mail now").await?;
        browser.find("link", "All groups").await?;
        // It opens the forecast, which the policy decides.
        browser
            .script("document.querySelector('#forecast summary').click()")
            .await?;
        shown.until_text("starts until").await?;
        browser.until(fits).await?;
    }
    assert_eq!(colors, ["rgb(255, 255, 255)", "rgb(20, 23, 26)"]);
    let log = browser.log().await?;
    ensure!(log.is_empty(), "{log:#?}");
    Ok(())
}

/// Returns the kubeconfig of a new user with the ClusterRole `view` in a namespace.
async fn viewer(plane: &ControlPlane, namespace: &str) -> Result<PathBuf> {
    let account = format!("--serviceaccount={namespace}:viewer");
    for args in [
        &["create", "serviceaccount", "viewer"][..],
        &[
            "create",
            "rolebinding",
            "viewer",
            "--clusterrole=view",
            &account,
        ],
    ] {
        let args = [args, &["--namespace", namespace]].concat();
        plane.kubectl(&args).await?;
    }
    plane
        .kubeconfig_for_service_account(namespace, "viewer")
        .await
}

#[tokio::test]
async fn missing_right_and_lost_connection_are_shown() -> Result<()> {
    let Some(tools) = browser_tools()? else {
        return Ok(());
    };
    let plane = &shared().await?.plane;
    plane.namespace("dashboard-rights").await?;
    let viewer = viewer(plane, "dashboard-rights").await?;
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
    let shown = Shown::new(&tools, "dashboard-rights", proxy.kubeconfig()).await?;
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
    shown
        .until_text("Not live: Failed to reach the API server")
        .await?;
    is_down.store(false, Ordering::SeqCst);
    shown.until_text("✓ Live").await?;
    let status = json!({ "message": "changed after the loss" });
    shown.write_status(status).await?;
    shown.until_text("changed after the loss").await?;

    let address = shown.dashboard.url.split('#').next().unwrap_or_default();
    let other = Browser::start(&tools).await?;
    other.open(address).await?;
    let text = "document.body.innerText.includes('The token is missing')";
    other.until(text).await?;
    other
        .until("document.querySelectorAll('li').length === 0")
        .await?;
    Ok(())
}
