//! OaatGroups and OaatTypes that attack the code that decodes and checks them.

use serde_json::{Value, json};

/// An object that attacks the operator.
#[derive(Clone, Debug)]
pub struct Object {
    /// A unique name, which is also the name of the object.
    pub name: &'static str,
    /// The kind.
    pub kind: &'static str,
    /// The spec.
    pub spec: Value,
}

impl Object {
    /// Returns the whole object.
    pub fn value(&self) -> Value {
        json!({
            "apiVersion": "kawaja.net/v1", "kind": self.kind,
            "metadata": { "name": self.name }, "spec": self.spec,
        })
    }
}

/// Returns JSON of this nesting depth.
fn deep(depth: usize, object: bool) -> Value {
    (0..depth).fold(json!(1), |inner, _| {
        if object {
            json!({ "a": inner })
        } else {
            json!([inner])
        }
    })
}

fn many<T>(count: usize, item: impl Fn(usize) -> T) -> Vec<T> {
    (0..count).map(item).collect()
}

fn keyed(count: usize, item: impl Fn(usize) -> Value) -> Value {
    (0..count).map(|n| (format!("k{n}"), item(n))).collect()
}

/// Returns objects that the API server may accept and that exceed any real use.
pub fn objects() -> Vec<Object> {
    let group = |name, more: Value| {
        let mut spec = json!({ "oaatType": "work", "oaatItems": ["a"] });
        if let (Some(spec), Value::Object(more)) = (spec.as_object_mut(), more) {
            spec.extend(more);
        }
        Object {
            name,
            kind: "OaatGroup",
            spec,
        }
    };
    let type_ = |name, podspec| Object {
        name,
        kind: "OaatType",
        spec: json!({ "type": "pod", "podspec": podspec }),
    };
    let settings = |name, settings: Value| {
        group(
            name,
            json!({ "policy": { "configMap": { "name": "honest" }, "settings": settings } }),
        )
    };
    let container = |more: Value| {
        let mut container = json!({ "name": "main", "image": "any", "command": ["true"] });
        if let (Some(container), Value::Object(more)) = (container.as_object_mut(), more) {
            container.extend(more);
        }
        json!({ "container": container })
    };
    let window = json!({ "schedule": "* * * * *", "duration": "1m" });
    vec![
        settings("settings-deep-100", deep(90, true)),
        settings("settings-deep-130", deep(130, true)),
        settings("settings-deep-1000", deep(1_000, true)),
        settings("settings-deep-9000", deep(9_000, true)),
        settings("settings-deep-lists", json!({ "a": deep(2_000, false) })),
        settings("settings-wide", keyed(20_000, |n| json!(n))),
        settings("settings-long", json!({ "a": "x".repeat(900_000) })),
        settings(
            "settings-numbers",
            json!({ "a": u64::MAX, "b": i64::MIN, "c": 1e300, "d": 5e-324 }),
        ),
        settings(
            "settings-controls",
            json!({ "\u{1b}[31m": "\u{202e}\u{0}\u{feff}" }),
        ),
        group(
            "items-most",
            json!({ "oaatItems": many(2_000, |n| format!("item-{n:050}")) }),
        ),
        group(
            "items-too-many",
            json!({ "oaatItems": many(2_001, |n| n.to_string()) }),
        ),
        group(
            "items-long",
            json!({ "oaatItems": many(400, |n| format!("{n:0300}")) }),
        ),
        group(
            "items-too-long",
            json!({ "oaatItems": ["x".repeat(500_000)] }),
        ),
        group(
            "items-controls",
            json!({ "oaatItems": ["a\u{1b}[31m\nb", "\u{202e}c\u{200b}", "\u{0}"] }),
        ),
        group(
            "items-bidirectional",
            json!({ "oaatItems": ["\u{202e}c\u{200b}", "\u{2066}d"] }),
        ),
        group("items-equal", json!({ "oaatItems": many(2_000, |_| "a") })),
        group("items-empty", json!({ "oaatItems": ["", " "] })),
        group(
            "options-many",
            json!({ "itemOptions": keyed(2_000, |_| json!({ "suspend": true })) }),
        ),
        group(
            "options-durations",
            json!({ "itemOptions": keyed(500, |n| json!({ "frequency": format!("{n}x") })) }),
        ),
        group(
            "options-environment",
            json!({ "itemOptions": { "a": { "env": many(1_000, |n| json!({ "name": format!("N{n}"), "value": "x".repeat(100) })) } } }),
        ),
        group(
            "options-environment-names",
            json!({ "itemOptions": { "a": { "env": [{ "name": "=", "value": "\u{0}" }, { "name": "" }] } } }),
        ),
        group(
            "windows-many",
            json!({ "blackoutWindows": many(100, |_| &window) }),
        ),
        group(
            "windows-never",
            json!({ "blackoutWindows": many(10, |n| json!({ "schedule": format!("{n} 0 31 2 *"), "duration": "1m" })) }),
        ),
        group(
            "windows-year",
            json!({ "blackoutWindows": [{ "schedule": "* * * * *", "duration": "365days", "running": "Stop" }] }),
        ),
        group("limit-negative", json!({ "podHistoryLimit": -1 })),
        group(
            "limit-huge",
            json!({ "podHistoryLimit": i32::MAX, "podRetention": "100years" }),
        ),
        group(
            "frequency-least",
            json!({ "frequency": "1ms", "failureCoolOff": "0s", "podHistoryLimit": 0 }),
        ),
        group("type-name-long", json!({ "oaatType": "x".repeat(10_000) })),
        group("type-missing", json!({ "oaatType": "nobody" })),
        group(
            "sources-many",
            json!({ "itemsFrom": many(50, |n| json!({ "name": format!("s{n}"), "configMap": { "name": format!("no{n}") } })) }),
        ),
        group(
            "sources-equal",
            json!({ "itemsFrom": many(5, |_| json!({ "name": "s", "configMap": { "name": "none" } })) }),
        ),
        group("sources-none", json!({ "itemsFrom": [{ "name": "s" }] })),
        group(
            "sources-container",
            json!({ "itemsFrom": [{ "name": "s", "container": { "podspec": deep(200, true) } }] }),
        ),
        group(
            "sources-headers",
            json!({ "itemsFrom": [{ "name": "s", "http": {
            "url": "http://lists.example.com/", "headers": keyed(20, |_| json!("\r\nHost: x")) } }] }),
        ),
        group(
            "sources-url",
            json!({ "itemsFrom": [{ "name": "s", "http": { "url": format!("http://[::1]:0/{}", "%".repeat(2_000)) } }] }),
        ),
        group(
            "policy-missing",
            json!({ "policy": { "configMap": { "name": "nobody", "key": "x".repeat(253) } } }),
        ),
        group(
            "policy-pinned",
            json!({ "policy": { "configMap": { "name": "honest" }, "sha256": "0".repeat(64) } }),
        ),
        type_("type-deep-130", deep(130, true)),
        type_("type-deep-3000", deep(3_000, true)),
        type_(
            "type-wide",
            container(
                json!({ "env": many(5_000, |n| json!({ "name": format!("N{n}"), "value": "x" })) }),
            ),
        ),
        type_(
            "type-long",
            container(json!({ "args": ["x".repeat(700_000)] })),
        ),
        type_(
            "type-placeholders",
            container(json!({ "args": many(3_000, |_| "%s %s {{oaat_item}} $(OAAT_ITEM)") })),
        ),
        type_("type-empty", json!({})),
        type_(
            "type-not-pod",
            json!({ "containers": "none", "container": [] }),
        ),
        type_(
            "type-host",
            json!({ "hostPID": true, "hostNetwork": true, "containers": [{ "name": "main", "image": "any", "securityContext": { "privileged": true } }] }),
        ),
        Object {
            name: "type-unknown",
            kind: "OaatType",
            spec: json!({ "type": "x".repeat(1_000) }),
        },
    ]
}
