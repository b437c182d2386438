//! The expressions of the alerts, evaluated by promtool on the metrics of a running operator. No
//! Prometheus runs here: a scrape becomes the series of a test of promtool, with the labels that a
//! ServiceMonitor adds. `tests/alerts.rs` tests `for` and the texts. The queries of the dashboard are
//! evaluated in the same way.

use crate::fixture::{Fixture, PATIENCE, item, millis};
use crate::helpers::{Barrier, state};
use anyhow::{Context, Result, ensure};
use http::Method;
use oaat_tests::alerts::{self, Alert};
use oaat_tests::dashboard::{self, metrics};
use oaat_tests::proxy::{Fate, Proxy};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};
use tokio::time::sleep;

/// The labels that a ServiceMonitor adds to each series that does not have them.
const TARGET_LABELS: [(&str, &str); 2] =
    [("job", "oaat-operator-metrics"), ("namespace", "operator")];

/// The labels of the alerts about the operator.
const OPERATOR: &str = r#"{job="oaat-operator-metrics",namespace="operator"}"#;

/// The alert, the time in minutes since the scrape, and the labels of its results.
type Expected<'a> = (&'a str, u64, &'a [&'a str]);

/// Returns the series of a scrape: each value with the name and the labels.
fn series(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().filter(|line| line.starts_with("oaat_"));
    let samples = lines.filter_map(|line| line.rsplit_once(' '));
    let with_labels = samples.map(|(series, value)| {
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let labels = labels.trim_end_matches('}');
        let mut labels: Vec<_> = [labels.to_owned()].into();
        labels.retain(|labels| !labels.is_empty());
        for (label, value) in TARGET_LABELS {
            if !series.contains(&format!("{label}=\"")) {
                labels.push(format!("{label}=\"{value}\""));
            }
        }
        let series = format!("{name}{{{}}}", labels.join(","));
        (series, value.to_owned())
    });
    with_labels.collect()
}

/// Returns the metrics of the latest operator.
async fn scrape(fixture: &Fixture) -> Result<BTreeMap<String, String>> {
    let (code, text) = fixture.operator().page("/metrics").await?;
    ensure!(code == 200, "{text}");
    Ok(series(&text))
}

/// An expression, the time in minutes since the scrape, and the expected samples.
struct Case {
    expr: String,
    minutes: u64,
    samples: Vec<Value>,
}

/// Checks that the alerts have these results if the latest scrape is repeated every minute.
async fn evaluate(
    scrapes: &[BTreeMap<String, String>],
    time: SystemTime,
    expected: &[Expected<'_>],
) -> Result<()> {
    let alerts = alerts::all()?;
    let cases = expected.iter().map(|(name, minutes, results)| {
        let alert = alerts.iter().find(|alert: &&Alert| alert.name == *name);
        let alert = alert.with_context(|| format!("no alert {name}"))?;
        let results = results
            .iter()
            .map(|labels| json!({ "labels": labels, "value": 1 }));
        Ok(Case {
            expr: format!(
                "group by (namespace, group, item, state, reason, job) (\n{}\n)",
                alert.expr
            ),
            minutes: *minutes,
            samples: results.collect(),
        })
    });
    run_cases(scrapes, time, cases.collect::<Result<_>>()?).await
}

/// The metrics that an operator without problems does not publish.
const ONLY_WITH_PROBLEMS: [&str; 1] = ["oaat_watch_restarts_total"];

/// Checks that each query of the dashboard has a result five minutes after the scrape.
async fn evaluate_dashboard(scrape: &BTreeMap<String, String>, time: SystemTime) -> Result<()> {
    let mut queries = dashboard::queries(&dashboard::read()?)?;
    queries.retain(|query| metrics(&query.expr).is_disjoint(&ONLY_WITH_PROBLEMS.into()));
    let cases = queries.iter().map(|query| Case {
        // What is counted must exist.
        expr: format!("absent({})", query.expr.replace(" or vector(0)", "")),
        minutes: 5,
        samples: Vec::new(),
    });
    run_cases(std::slice::from_ref(scrape), time, cases.collect()).await
}

/// Checks expressions if the latest scrape is repeated every minute. Each scrape is a minute after
/// the one before.
async fn run_cases(
    scrapes: &[BTreeMap<String, String>],
    time: SystemTime,
    cases: Vec<Case>,
) -> Result<()> {
    let (latest, earlier) = scrapes.split_last().context("no scrape")?;
    let before = 60 * u64::try_from(earlier.len())?;
    let start = time.duration_since(SystemTime::UNIX_EPOCH)?.as_secs() - before;
    let input = latest.iter().map(|(series, value)| {
        let earlier = earlier
            .iter()
            .map(|scrape| scrape.get(series).map_or("_", String::as_str));
        let earlier: Vec<_> = earlier.collect();
        let values = format!("{} {value}+0x1600", earlier.join(" "));
        json!({ "series": series, "values": values.trim() })
    });
    let input: Vec<_> = input.collect();
    let cases = cases.into_iter().map(|case| {
        json!({
            "expr": case.expr,
            "eval_time": format!("{}s", before + case.minutes * 60),
            "exp_samples": case.samples,
        })
    });
    let tests = json!({
        "evaluation_interval": "1m",
        "tests": [{
            "interval": "1m", "start_timestamp": start,
            "input_series": input, "promql_expr_test": cases.collect::<Vec<_>>(),
        }],
    });
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("scrape.yaml");
    std::fs::write(&file, tests.to_string())?;
    tokio::task::spawn_blocking(move || {
        let file = file.to_string_lossy();
        alerts::promtool(&["test", "rules", &file])
    })
    .await??;
    drop(folder);
    Ok(())
}

/// Waits until the metrics contain a series.
async fn until_published(fixture: &Fixture, start: &str) -> Result<()> {
    let began = Instant::now();
    while !scrape(fixture).await?.keys().any(|s| s.starts_with(start)) {
        ensure!(began.elapsed() < PATIENCE, "{start} is not published");
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Returns the current time in milliseconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}

/// Applies a group.
async fn apply(fixture: &Fixture, name: &str, spec: Value) -> Result<()> {
    let group = json!({
        "apiVersion": "kawaja.net/v1", "kind": "OaatGroup",
        "metadata": { "name": name }, "spec": spec,
    });
    fixture.apply(&group.to_string()).await?;
    Ok(())
}

/// Suspends or resumes a group.
async fn set_suspend(fixture: &Fixture, name: &str, suspend: bool) -> Result<()> {
    let patch = json!({ "spec": { "suspend": suspend } }).to_string();
    let args = ["patch", "og", name, "--type=merge", "-p", &patch];
    fixture.kubectl(&args).await?;
    Ok(())
}

#[tokio::test]
async fn alerts_about_items_and_groups_become_true() -> Result<()> {
    let fixture = Fixture::new("alerts").await?;
    let (fails, ends) = (Barrier::new()?, Barrier::new()?);
    let script = format!(
        "case $OAAT_ITEM in fine) true;; late) ! {};; long) ! {} || {};; *) false;; esac",
        fails.is_open(),
        fails.is_open(),
        ends.wait(),
    );
    fixture.work(&script, json!({})).await?;
    let items = ["fine", "late"];
    let one_second = json!({ "frequency": "1s", "failureCoolOff": "1h" });
    apply(
        &fixture,
        "late",
        json!({ "oaatType": "work", "oaatItems": items, "frequency": "1h",
            "itemOptions": { "late": one_second } }),
    )
    .await?;
    apply(
        &fixture,
        "long",
        json!({ "oaatType": "work", "oaatItems": ["long"], "frequency": "1s" }),
    )
    .await?;
    let missing = json!({ "configMap": { "name": "missing" }, "onError": "UseDefault" });
    apply(
        &fixture,
        "no-policy",
        json!({ "oaatType": "work", "oaatItems": ["fine"], "policy": missing }),
    )
    .await?;
    apply(
        &fixture,
        "once",
        json!({ "oaatType": "work", "oaatItems": ["fine"], "eachOnce": true }),
    )
    .await?;
    for (group, name) in [
        ("late", "fine"),
        ("late", "late"),
        ("long", "long"),
        ("no-policy", "fine"),
        ("once", "fine"),
    ] {
        fixture
            .until_object("OaatGroup", group, "the item has succeeded", |g| {
                item(g, name)["lastSuccess"].is_string()
            })
            .await?;
    }
    // Suspended during the release, so that no earlier run executes the second part of the script.
    set_suspend(&fixture, "long", true).await?;
    fixture
        .until_object("OaatGroup", "long", "no item is running", |g| {
            state(g) == "Suspended" && g["status"]["current"].is_null()
        })
        .await?;
    fails.release()?;
    set_suspend(&fixture, "long", false).await?;
    let mut failing = json!({
        "oaatType": "work", "oaatItems": ["bad", "given-up"],
        "itemOptions": { "given-up": { "maxFailures": 3 } },
    });
    apply(&fixture, "failing", failing.clone()).await?;
    apply(
        &fixture,
        "invalid",
        json!({ "oaatType": "work", "oaatItems": ["a"],
            "schedule": { "cron": "0 2 * * *", "timeZone": "Mars" } }),
    )
    .await?;
    apply(
        &fixture,
        "no-type",
        json!({ "oaatType": "missing", "oaatItems": ["a"] }),
    )
    .await?;
    fixture
        .until_object("OaatGroup", "no-type", "it waits for its type", |g| {
            state(g) == "Waiting"
        })
        .await?;
    fixture
        .until_object("OaatGroup", "failing", "both have failed", |g| {
            item(g, "bad")["failures"].as_i64() >= Some(3)
                && item(g, "given-up")["state"] == "GivenUp"
        })
        .await?;
    failing["failureCoolOff"] = "1h".into();
    apply(&fixture, "failing", failing).await?;
    fixture
        .until_object("OaatGroup", "failing", "the item cools off", |g| {
            item(g, "bad")["state"] == "Cooling"
        })
        .await?;
    fixture
        .until_object("OaatGroup", "invalid", "it is invalid", |g| {
            state(g) == "Invalid"
        })
        .await?;
    let late = fixture
        .until_object("OaatGroup", "late", "the item has failed", |g| {
            item(g, "late")["failures"] == 1
        })
        .await?;
    let long = fixture
        .until_object("OaatGroup", "long", "the second script runs", |g| {
            g["status"]["current"].is_object()
        })
        .await?;
    let waiting = r#"oaat_group_state{namespace="alerts",group="failing",state="Waiting""#;
    let running = r#"oaat_group_run_start_timestamp_seconds{namespace="alerts",group="long""#;
    let complete = r#"oaat_group_state{namespace="alerts",group="once",state="Complete""#;
    for series in [waiting, running, complete] {
        until_published(&fixture, series).await?;
    }
    let success = |group, name| millis(&item(group, name)["lastSuccess"]);
    // The items are due a second after their success, and late another second after that. A test of
    // promtool starts at a whole second.
    let success = success(&late, "late").max(success(&long, "long"));
    while now() < success + 3500 {
        sleep(Duration::from_millis(100)).await;
    }
    let (metrics, time) = (scrape(&fixture).await?, SystemTime::now());
    let late = r#"{namespace="alerts",group="late",item="late"}"#;
    let bad = r#"{namespace="alerts",group="failing",item="bad"}"#;
    let given_up = r#"{namespace="alerts",group="failing",item="given-up"}"#;
    let invalid = r#"{namespace="alerts",group="invalid",state="Invalid"}"#;
    let no_type = r#"{namespace="alerts",group="no-type",state="Waiting"}"#;
    let long = r#"{namespace="alerts",group="long",item="long"}"#;
    let complete = r#"{namespace="alerts",group="once"}"#;
    let no_policy = r#"{namespace="alerts",group="no-policy"}"#;
    evaluate_dashboard(&metrics, time).await?;
    evaluate(
        &[metrics],
        time,
        &[
            ("OaatItemLate", 0, &[late, long]),
            ("OaatItemFailing", 0, &[bad]),
            ("OaatItemGivenUp", 0, &[given_up]),
            ("OaatGroupStuck", 0, &[invalid, no_type]),
            ("OaatRunOverdue", 0, &[]),
            // If the run does not end: its last successful run took less than a second.
            ("OaatRunOverdue", 61, &[long]),
            ("OaatGroupComplete", 0, &[complete]),
            ("OaatGroupComplete", 61, &[]),
            ("OaatPolicyNotReady", 0, &[no_policy]),
            ("OaatNobodyLeads", 0, &[]),
            ("OaatReconcileErrors", 0, &[]),
            ("OaatOperatorDown", 0, &[]),
        ],
    )
    .await?;
    ends.release()?;
    Ok(())
}

#[tokio::test]
async fn alert_about_a_missing_leader_becomes_true() -> Result<()> {
    let mut fixture = Fixture::without_operator("alerts-leader").await?;
    fixture.elect().await?;
    fixture.start_operator().await?;
    let began = Instant::now();
    while fixture.operator().metric("oaat_leading", &[]).await? < 1.0 {
        ensure!(began.elapsed() < PATIENCE, "{}", fixture.operator().log());
        sleep(Duration::from_millis(50)).await;
    }
    let leads: &[Expected<'_>] = &[("OaatNobodyLeads", 0, &[]), ("OaatOperatorDown", 0, &[])];
    evaluate(&[scrape(&fixture).await?], SystemTime::now(), leads).await?;
    fixture.start_operator().await?;
    // The standby waits until the Lease of the killed leader expires.
    fixture.take_first_operator().kill().await;
    let waits: &[Expected<'_>] = &[
        ("OaatNobodyLeads", 0, &[OPERATOR]),
        ("OaatOperatorDown", 0, &[]),
    ];
    evaluate(&[scrape(&fixture).await?], SystemTime::now(), waits).await?;
    let down: &[Expected<'_>] = &[
        ("OaatNobodyLeads", 0, &[]),
        ("OaatOperatorDown", 0, &["{}"]),
    ];
    fixture.take_operator().kill().await;
    evaluate(&[BTreeMap::new()], SystemTime::now(), down).await?;
    Ok(())
}

#[tokio::test]
async fn alert_about_reconcile_errors_becomes_true() -> Result<()> {
    let mut fixture = Fixture::without_operator("alerts-errors").await?;
    let breaks = Arc::new(AtomicBool::new(false));
    let proxy = Proxy::start(&fixture.options.kubeconfig, {
        let breaks = Arc::clone(&breaks);
        move |seen| {
            let of_group = seen.uri.path().contains("/oaatgroups/");
            if of_group && seen.method == Method::PATCH && breaks.load(Ordering::SeqCst) {
                Fate::Breaks
            } else {
                Fate::Passes
            }
        }
    })
    .await?;
    fixture.options.kubeconfig = proxy.kubeconfig().to_owned();
    fixture.start_operator().await?;
    fixture.work("true", json!({})).await?;
    fixture.group(&["a"], json!({ "frequency": "1s" })).await?;
    fixture.until_recorded("a").await?;
    let errors = async || {
        let labels = ["result=\"error\""];
        fixture
            .operator()
            .metric("oaat_reconciles_total", &labels)
            .await
    };
    let until_errors = async |count: f64| {
        let began = Instant::now();
        while errors().await? < count {
            ensure!(began.elapsed() < PATIENCE, "{}", fixture.operator().log());
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    };
    breaks.store(true, Ordering::SeqCst);
    until_errors(1.0).await?;
    let first = scrape(&fixture).await?;
    until_errors(errors().await? + 1.0).await?;
    let second = scrape(&fixture).await?;
    let fails: &[Expected<'_>] = &[("OaatReconcileErrors", 0, &[OPERATOR])];
    evaluate(&[first, second.clone()], SystemTime::now(), fails).await?;
    // Ten minutes without an error.
    let ended: &[Expected<'_>] = &[("OaatReconcileErrors", 10, &[])];
    evaluate(&[second], SystemTime::now(), ended).await?;
    Ok(())
}
