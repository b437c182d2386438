use super::*;

#[test]
fn request_parses_all_forms() {
    let for_people = request("{seed: 7, items: [a, {name: b, lastSuccess: 2h ago}]}").unwrap();
    assert_eq!(for_people.seed, 7);
    let raw = serde_json::to_string(&for_people).unwrap();
    assert_eq!(request(&raw), Ok(for_people.clone()));
    let recorded = format!("{{\"version\": 1, \"request\": {raw}, \"decision\": null}}");
    assert_eq!(request(&recorded), Ok(for_people));
    let json = request("{\"now\": \"2026-01-01T12:00:00Z\", \"items\": [\"\\u00e9\"]}").unwrap();
    assert_eq!(json.items[0].name, "é");
}

#[test]
fn request_errors_match_the_form() {
    let raw = |edit: fn(&mut serde_json::Value)| {
        let valid = request("items: [a]\nrecent: [{item: a, finished: now, outcome: failed}]");
        let mut value = serde_json::to_value(valid.unwrap()).unwrap();
        edit(&mut value);
        value.to_string()
    };
    for (text, expected) in [
        (
            "items: [a]\nsead: 1".to_owned(),
            "line 2, column 1: unknown field `sead`",
        ),
        (
            "items: []".into(),
            "line 1, column 8: items: the list has 0 items",
        ),
        ("".into(), "items: the list has 0 items"),
        (
            "{\"items\": [1]}".into(),
            "items[0]: invalid type: integer `1`",
        ),
        (
            raw(|v| v["items"][0]["startable"] = "x".into()),
            "items[0].startable: invalid type: string \"x\", expected a boolean",
        ),
        (
            raw(|v| v["items"] = serde_json::json!([])),
            "items: the list is empty",
        ),
        (
            raw(|v| v["recent"][0]["item"] = 1.into()),
            "recent[0].item: 1 is not the index",
        ),
        (
            "{\"request\": {\"now\": 0}}".into(),
            "request: missing field `namespace`",
        ),
        (
            format!(
                "{{\"request\": {}}}",
                raw(|v| v["items"] = serde_json::json!([]))
            ),
            "request.items: the list is empty",
        ),
    ] {
        let error = request(&text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}\n{error}");
    }
}
