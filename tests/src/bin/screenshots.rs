//! Writes the pictures of the dashboard in docs/screenshots, or measures it with many groups.
//! `cargo xtask screenshots` starts it.

use anyhow::{Result, ensure};
use clap::Parser;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Api;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use oaat_tests::browser::{Browser, Dashboard, Screen};
use oaat_tests::{ControlPlane, Options, operator};
use serde_json::{Value, json};
use std::fs;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use tokio::time::sleep;
use xtask::ScreenshotsOptions;

/// The maximum size of a picture in bytes.
const MAX_SIZE: usize = 150_000;
/// The namespace of the groups.
const NAMESPACE: &str = "media";

/// The pictures.
const PICTURES: [(&str, Screen); 3] = [
    (
        "light",
        Screen {
            width: 1000,
            height: 720,
            dark: false,
        },
    ),
    (
        "dark",
        Screen {
            width: 1000,
            height: 720,
            dark: true,
        },
    ),
    (
        "phone",
        Screen {
            width: 400,
            height: 800,
            dark: false,
        },
    ),
];

#[tokio::main]
async fn main() -> ExitCode {
    let cli = ScreenshotsOptions::parse();
    let outcome = match cli.load {
        Some(count) => load(count).await,
        None => pictures().await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("screenshots: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn plane() -> Result<(ControlPlane, Api<DynamicObject>)> {
    let options = Options {
        manifests: vec![operator::crds()],
        ..Options::default()
    };
    let plane = ControlPlane::start(options).await?;
    plane.namespace(NAMESPACE).await?;
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("kawaja.net", "v1", "OaatGroup"));
    let api = Api::namespaced_with(plane.admin(), NAMESPACE, &kind);
    Ok((plane, api))
}

/// Creates a group with a status.
async fn create(api: &Api<DynamicObject>, name: &str, group: &Value) -> Result<()> {
    let object = json!({
        "apiVersion": "kawaja.net/v1", "kind": "OaatGroup",
        "metadata": { "name": name, "annotations": group["annotations"] }, "spec": group["spec"],
    });
    let object = serde_json::from_value(object)?;
    api.create(&PostParams::default(), &object).await?;
    let status = json!({ "status": group["status"] });
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(&status))
        .await?;
    Ok(())
}

async fn open(plane: &ControlPlane) -> Result<(Dashboard, Browser)> {
    let tools = ::control_plane::locate_browser()?;
    let command_line = operator::command_line()?;
    let args = ["--namespace", NAMESPACE, "--no-browser"];
    let dashboard = Dashboard::start(&command_line, plane.admin_kubeconfig(), &args).await?;
    Ok((dashboard, Browser::start(&tools).await?))
}

/// Writes the pictures.
async fn pictures() -> Result<()> {
    // Built before the statuses are written, because their times are relative to now.
    let _ = operator::command_line()?;
    let (plane, api) = plane().await?;
    for (name, group) in groups() {
        create(&api, name, &group).await?;
        let policy = json!({
            "source": "default", "digest": digest(&plane, "backup")?, "contract": "1.0.0",
        });
        let status = json!({ "status": { "policy": policy } });
        api.patch_status(name, &PatchParams::default(), &Patch::Merge(&status))
            .await?;
    }
    let (dashboard, browser) = open(&plane).await?;
    let folder = operator::root().join("docs/screenshots");
    fs::create_dir_all(&folder)?;
    for (name, screen) in PICTURES {
        browser.show_on(screen).await?;
        browser.open(&dashboard.url).await?;
        browser.open("about:blank").await?;
        browser.open(&dashboard.url).await?;
        browser.until("document.body.dataset.loaded").await?;
        browser.script("location.hash = '#/media/backup'").await?;
        browser.find("button", "Run photos now").await?;
        // A picture without the focus that a keyboard user sees, and without the address.
        browser
            .script("document.activeElement.blur(); document.getElementById('place').textContent = 'namespace media'")
            .await?;
        if screen.dark {
            let open = "document.getElementById('forecast').open = true";
            browser.script(open).await?;
            let svg = "document.querySelector('#forecast svg')";
            browser.until(svg).await?;
        }
        browser.script("scrollTo(0, 0)").await?;
        let picture = browser.screenshot().await?;
        let file = folder.join(format!("{name}.png"));
        ensure!(picture.len() <= MAX_SIZE, "{name}: {} bytes", picture.len());
        fs::write(&file, &picture)?;
        println!(
            "wrote docs/screenshots/{name}.png ({} KB)",
            picture.len() / 1000
        );
    }
    Ok(())
}

/// Returns the groups of the pictures, with statuses that an operator would write.
fn groups() -> Vec<(&'static str, Value)> {
    vec![
        ("backup", backup()),
        ("nightly", nightly()),
        ("crawl", crawl()),
        ("migration", migration()),
        ("reports", reports()),
    ]
}

/// Returns the time of so many minutes from now, or before now.
fn minutes(count: i64) -> String {
    let seconds = Timestamp::now().as_second();
    let now = Timestamp::from_second(seconds).unwrap_or_default();
    (now + SignedDuration::from_mins(count)).to_string()
}

/// Returns a finished run of one to three minutes.
fn run(number: i64, item: &str, ended: i64, exit_code: i64) -> Value {
    let (result, reason) = match exit_code {
        0 => ("Succeeded", "Completed"),
        _ => ("Failed", "Error"),
    };
    json!({
        "run": number, "item": item, "pod": format!("pod-{number}"), "result": result,
        "started": minutes(-ended - 1 - number % 3), "finished": minutes(-ended),
        "reason": reason, "exitCode": exit_code,
    })
}

/// Returns the sha256 of the built-in policy of the command line.
fn digest(plane: &ControlPlane, group: &str) -> Result<Value> {
    let output = Command::new(operator::command_line()?)
        .args(["next", group, "--output", "json", "--namespace", NAMESPACE])
        .arg("--kubeconfig")
        .arg(plane.admin_kubeconfig())
        .stderr(Stdio::inherit())
        .output()?;
    let forecast: Value = serde_json::from_slice(&output.stdout)?;
    Ok(forecast["policy"].clone())
}

fn backup() -> Value {
    let history = [
        run(11, "documents", 6, 0),
        run(10, "mail", 22, 1),
        run(9, "photos", 65, 0),
        run(8, "documents", 68, 0),
        run(7, "mail", 85, 1),
        run(6, "photos", 126, 0),
        run(5, "mail", 131, 0),
        run(4, "documents", 134, 1),
        run(3, "photos", 186, 0),
    ];
    json!({
        "spec": {
            "oaatType": "backup", "frequency": "1h", "failureCoolOff": "30m",
            "oaatItems": ["photos", "mail", "documents", "music"],
            "itemOptions": { "music": { "suspend": true } },
        },
        "status": {
            "state": "Running", "message": "running photos", "run": 12, "lastRun": minutes(-4),
            "history": history,
            "current": {
                "run": 12, "item": "photos", "podName": "backup-photos-x7k2p", "podUid": "u",
                "claimed": minutes(-4),
            },
            "items": {
                "photos": { "lastSuccess": minutes(-65), "runs": 3, "durations": [400, 380] },
                "mail": {
                    "state": "Cooling", "lastSuccess": minutes(-131), "runs": 3, "failures": 2,
                    "lastFailure": minutes(-22), "next": minutes(8), "lastExitCode": 1,
                    "durations": [120],
                    "message": "failed 2 times since its last success (Error); cooling off",
                },
                "documents": {
                    "state": "Fresh", "lastSuccess": minutes(-6), "runs": 3, "next": minutes(54),
                    "durations": [90, 100],
                },
                "music": { "state": "Held", "message": "suspended by itemOptions" },
            },
        },
    })
}

fn nightly() -> Value {
    json!({
        "annotations": {
            "oaat.kawaja.net/suspension-reason": "disk is full",
            "oaat.kawaja.net/suspended-by": "alice",
        },
        "spec": {
            "oaatType": "dump", "schedule": { "cron": "0 2 * * *" }, "suspend": true,
            "oaatItems": ["orders", "users"],
        },
        "status": {
            "state": "Suspended", "message": "spec.suspend is true",
            "items": { "orders": {}, "users": { "lastSuccess": minutes(-400) } },
        },
    })
}

fn crawl() -> Value {
    let items: Vec<_> = (1..=12).map(|site| format!("site-{site:02}")).collect();
    let states = items.iter().map(|name| {
        let state = json!({ "state": "Fresh", "lastSuccess": minutes(-30), "next": minutes(90) });
        (name.clone(), state)
    });
    let states: serde_json::Map<String, Value> = states.collect();
    json!({
        "spec": { "oaatType": "crawl", "frequency": "2h", "oaatItems": items },
        "status": {
            "state": "Idle", "message": "no item is due", "next": minutes(90), "items": states,
        },
    })
}

fn migration() -> Value {
    let done = json!({ "state": "Fresh", "lastSuccess": minutes(-190) });
    json!({
        "spec": { "oaatType": "migrate", "eachOnce": true, "oaatItems": ["acme", "globex"] },
        "status": {
            "state": "Complete", "message": "all 2 items have succeeded",
            "items": { "acme": done, "globex": done },
        },
    })
}

fn reports() -> Value {
    let problem = "OaatType \"report\" does not exist in this namespace; create it";
    json!({
        "spec": { "oaatType": "report", "frequency": "1d", "oaatItems": ["sales"] },
        "status": {
            "state": "Blocked", "message": problem, "items": { "sales": {} },
            "conditions": [{
                "type": "Ready", "status": "False", "reason": "TypeNotFound", "message": problem,
                "lastTransitionTime": minutes(-45),
            }],
        },
    })
}

/// Records the tasks that keep the page busy for more than 50 ms.
const OBSERVE: &str = "window.tasks = []; new PerformanceObserver((list) => \
                       tasks.push(...list.getEntries().map((task) => task.duration))) \
                       .observe({ type: 'longtask', buffered: true })";
/// Returns the longest of these tasks in milliseconds, and forgets them.
const LONGEST: &str = "const longest = Math.max(0, ...tasks); tasks = []; return longest";

/// Keeps the page busy, to check that this is recorded.
const BUSY: &str = "setTimeout(() => { const end = performance.now() + 150; \
                    while (performance.now() < end); })";

/// Measures the page with many groups.
async fn load(count: usize) -> Result<()> {
    let (plane, api) = plane().await?;
    let creations = (1..count).map(|number| {
        let api = api.clone();
        async move { create(&api, &format!("group-{number:04}"), &crawl()).await }
    });
    stream::iter(creations)
        .buffer_unordered(16)
        .try_collect::<Vec<()>>()
        .await?;
    let names: Vec<_> = (0..2000).map(|item| format!("item-{item:04}")).collect();
    let mut large = crawl();
    let states = names
        .iter()
        .map(|name| (name.clone(), json!({ "state": "Ready" })));
    large["spec"]["oaatItems"] = json!(names);
    large["status"]["items"] = Value::Object(states.collect());
    create(&api, "large", &large).await?;

    let (dashboard, browser) = open(&plane).await?;
    let began = Instant::now();
    browser.open(&dashboard.url).await?;
    browser.until("document.body.dataset.loaded").await?;
    println!("{count} groups are listed after {:?}", began.elapsed());
    browser.script(OBSERVE).await?;
    sleep(Duration::from_secs(1)).await;
    let longest = async |what: &str| -> Result<()> {
        sleep(Duration::from_secs(1)).await;
        let longest = browser.script(LONGEST).await?;
        println!("longest task while {what}: {longest} ms (0: less than 50 ms)");
        Ok(())
    };
    longest("the groups were listed").await?;
    browser.script(BUSY).await?;
    sleep(Duration::from_secs(1)).await;
    let busy = browser.script(LONGEST).await?;
    ensure!(
        busy.as_f64() >= Some(100.0),
        "a busy page is not noticed: {busy}"
    );
    let began = Instant::now();
    browser.script("location.hash = '#/media/large'").await?;
    browser
        .until("document.getElementById('item-count').textContent === '2000 items'")
        .await?;
    println!("2000 items are listed after {:?}", began.elapsed());
    longest("the items were listed").await?;

    let change = |state: &str| {
        let items = names
            .iter()
            .map(|name| (name.clone(), json!({ "state": state })));
        json!({ "status": { "items": Value::Object(items.collect()), "message": state } })
    };
    let patch = async |name: &str, change: Value| -> Result<()> {
        api.patch_status(name, &PatchParams::default(), &Patch::Merge(&change))
            .await?;
        Ok(())
    };
    let began = Instant::now();
    let one = json!({ "status": { "items": { "item-0000": { "state": "Held" } } } });
    patch("large", one).await?;
    browser
        .until("document.querySelector('#item-list .state').textContent.includes('Held')")
        .await?;
    println!("a change of one item is shown after {:?}", began.elapsed());
    longest("it was shown").await?;
    let began = Instant::now();
    patch("large", change("Cooling")).await?;
    browser
        .until("document.querySelector('#item-list > li:last-child .state').textContent.includes('Cooling')")
        .await?;
    println!("a change of all items is shown after {:?}", began.elapsed());
    longest("it was shown").await?;
    let changes = (1..count).map(|number| {
        let name = format!("group-{number:04}");
        let patch = &patch;
        async move { patch(&name, json!({ "status": { "state": "Waiting" } })).await }
    });
    let began = Instant::now();
    stream::iter(changes)
        .buffer_unordered(16)
        .try_collect::<Vec<()>>()
        .await?;
    let shown = format!(
        "[...document.querySelectorAll('#group-list .state')].filter((s) => s.textContent.includes('Waiting')).length >= {}",
        count - 1
    );
    browser.until(&shown).await?;
    println!(
        "a change of all groups is shown after {:?}",
        began.elapsed()
    );
    longest("it was shown").await?;
    Ok(())
}
