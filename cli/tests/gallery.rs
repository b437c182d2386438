//! Each order in policies/gallery passes its cases, is valid in a group, and matches its picture of a
//! week.

#![allow(clippy::unwrap_used)]

use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The variable with which `cargo xtask gallery` writes the pictures instead of comparing them.
const WRITE: &str = "OAAT_WRITE_GALLERY";

/// An order in the gallery.
struct Order {
    name: String,
    folder: PathBuf,
    /// The part of a group's `spec` in `policy.yaml`.
    spec: Value,
}

impl Order {
    /// Returns the name of the built-in policy.
    fn policy(&self) -> &str {
        self.spec["policy"]["builtIn"].as_str().unwrap()
    }

    fn yaml(&self, file: &str) -> Value {
        serde_norway::from_str(&self.text(file)).unwrap()
    }

    fn text(&self, file: &str) -> String {
        let file = self.folder.join(file);
        std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    }
}

fn gallery() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies/gallery")
}

fn orders() -> Vec<Order> {
    let entries = std::fs::read_dir(gallery()).unwrap();
    let folders = entries.map(|entry| entry.unwrap().path());
    let mut orders: Vec<_> = folders
        .filter(|path| path.is_dir())
        .map(|folder| {
            let mut order = Order {
                name: folder.file_name().unwrap().to_string_lossy().into_owned(),
                folder,
                spec: Value::Null,
            };
            order.spec = order.yaml("policy.yaml")["spec"].clone();
            order
        })
        .collect();
    orders.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(orders.len() >= 10, "{} orders", orders.len());
    orders
}

/// Runs the program. Returns its output, and whether it succeeded.
fn run(args: &[&str]) -> (String, bool) {
    let output = Command::new(env!("CARGO_BIN_EXE_kubectl-oaat"))
        .args(args)
        .current_dir(gallery())
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    (text, output.status.success())
}

#[test]
fn orders_pass_their_cases() {
    for order in orders() {
        let cases = format!("{}/cases.yaml", order.name);
        let (text, passed) = run(&["policy", "test", order.policy(), "--cases", &cases]);
        assert!(passed, "{}: {text}", order.name);
    }
}

/// Returns a picture without the parts that depend on the build of the policy: its digest and fuel.
fn stable(svg: &str) -> String {
    let lines = svg
        .lines()
        .map(|line| match line.split_once(" · fuel mean ") {
            Some((before, _)) => before,
            None => line,
        });
    let lines = lines.filter(|line| !line.contains("sha256:"));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn pictures_of_a_week_match_the_simulation() {
    let folder = tempfile::tempdir().unwrap();
    for order in orders() {
        let scenario = format!("{}/scenario.yaml", order.name);
        let drawn = folder.path().join("week.svg");
        let svg = drawn.display().to_string();
        let policy = order.policy();
        let simulate = [
            "policy",
            "simulate",
            policy,
            "--scenario",
            &scenario,
            "--svg",
            &svg,
        ];
        let (text, passed) = run(&simulate);
        assert!(passed, "{}: {text}", order.name);
        let drawn = std::fs::read_to_string(drawn).unwrap();
        if std::env::var_os(WRITE).is_some() {
            std::fs::write(order.folder.join("week.svg"), drawn).unwrap();
            continue;
        }
        assert!(
            stable(&drawn) == stable(&order.text("week.svg")),
            "policies/gallery/{}/week.svg is out of date; run: cargo xtask gallery\n{text}",
            order.name
        );
    }
}

/// Returns the settings of items, by name, from a list of items with settings.
fn item_settings(items: &Value) -> Map<String, Value> {
    let items = items.as_array().into_iter().flatten();
    let with_settings = items.filter(|item| !item["settings"].is_null());
    let entry = |item: &Value| {
        let name = item["name"].as_str().unwrap_or_default().to_owned();
        (name, json!({ "settings": item["settings"] }))
    };
    with_settings.map(entry).collect()
}

#[test]
fn cases_and_scenarios_have_the_settings_of_the_group() {
    let or_empty = |settings: &Value| match settings {
        Value::Null => json!({}),
        settings => settings.clone(),
    };
    for order in orders() {
        let name = &order.name;
        let settings = or_empty(&order.spec["policy"]["settings"]);
        let (cases, scenario) = (order.yaml("cases.yaml"), order.yaml("scenario.yaml"));
        assert_eq!(or_empty(&cases["given"]["settings"]), settings, "{name}");
        assert_eq!(or_empty(&scenario["settings"]), settings, "{name}");
        let options = or_empty(&order.spec["itemOptions"]);
        let items = Value::Object(item_settings(&scenario["items"]));
        assert_eq!(items, options, "{name}");
    }
}

#[test]
fn groups_with_these_policies_are_valid() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for order in orders() {
        let mut spec = order.spec.clone();
        spec["oaatType"] = json!("report");
        let scenario = order.yaml("scenario.yaml");
        let items = scenario["items"].as_array().unwrap();
        spec["oaatItems"] = items.iter().map(|item| item["name"].clone()).collect();
        let group = json!({
            "apiVersion": "kawaja.net/v1",
            "kind": "OaatGroup",
            "metadata": { "name": order.name },
            "spec": spec,
        });
        let file = folder.path().join(format!("{}.yaml", order.name));
        std::fs::write(&file, group.to_string()).unwrap();
        files.extend(["-f".to_owned(), file.display().to_string()]);
    }
    let args: Vec<_> = ["validate"]
        .into_iter()
        .chain(files.iter().map(String::as_str))
        .collect();
    let (text, valid) = run(&args);
    assert!(valid, "{text}");
}

#[test]
fn pages_show_the_policy_and_the_week_and_the_index_links_them() {
    let index = std::fs::read_to_string(gallery().join("README.md")).unwrap();
    for order in orders() {
        let name = &order.name;
        let page = order.text("README.md");
        let policy = format!("```yaml\n{}```\n", order.text("policy.yaml"));
        assert!(
            page.contains(&policy),
            "{name}/README.md does not quote policy.yaml"
        );
        assert!(
            page.contains("](week.svg)"),
            "{name}/README.md does not show week.svg"
        );
        assert!(
            index.contains(&format!("({name}/README.md)")),
            "{name} is not in the index"
        );
    }
}
