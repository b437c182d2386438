use super::*;

#[test]
fn people_and_machines_are_both_understood() {
    let friendly = request("{seed: 7, items: [a, {name: b, lastSuccess: 2h ago}]}").unwrap();
    assert_eq!(friendly.seed, 7);
    let raw = serde_json::to_string(&friendly).unwrap();
    assert_eq!(request(&raw), Ok(friendly.clone()));
    let recorded = format!("{{\"version\": 1, \"request\": {raw}, \"decision\": null}}");
    assert_eq!(request(&recorded), Ok(friendly));
    let json = request("{\"now\": \"2026-01-01T12:00:00Z\", \"items\": [\"\\u00e9\"]}").unwrap();
    assert_eq!(json.items[0].name, "é");
}

#[test]
fn what_is_wrong_is_told_in_the_form_it_was_meant_in() {
    let raw = |edit: fn(&mut serde_json::Value)| {
        let sound = request("items: [a]\nrecent: [{item: a, finished: now, outcome: failed}]");
        let mut value = serde_json::to_value(sound.unwrap()).unwrap();
        edit(&mut value);
        value.to_string()
    };
    for (text, said) in [
        (
            "items: [a]\nsead: 1".to_owned(),
            "line 2, column 1: unknown field `sead`",
        ),
        (
            "items: []".into(),
            "line 1, column 8: items: there are 0 items",
        ),
        ("".into(), "items: there are 0 items"),
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
            "recent[0].item: 1 is no index",
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
        assert!(error.contains(said), "{text}\n{error}");
    }
}
