use super::*;

fn spec(podspec: Value) -> OaatTypeSpec {
    spec_with_metadata(podspec, json!({}))
}

fn spec_with_metadata(podspec: Value, metadata: Value) -> OaatTypeSpec {
    let spec = json!({ "type": "pod", "podspec": podspec, "podMetadata": metadata });
    serde_json::from_value(spec).unwrap()
}

fn params(item: &str) -> PodParams<'_> {
    PodParams {
        namespace: "ns",
        group: "g",
        group_uid: "uid",
        item,
        env: &[],
        run: 7,
        timeout: Duration::ZERO,
        nonce: "0123456789",
    }
}

fn built(podspec: Value, item: &str) -> Value {
    build(&spec(podspec), &params(item)).unwrap()
}

#[test]
fn container_field_becomes_the_only_container() {
    let pod = built(
        json!({"container": {"name": "a", "image": "b"}, "newField": 1}),
        "i",
    );
    assert_eq!(pod["spec"]["containers"][0]["name"], "a");
    assert!(pod["spec"].get("container").is_none());
    assert_eq!(pod["spec"]["newField"], 1, "unknown fields pass through");
    assert_eq!(pod["spec"]["restartPolicy"], "Never");
    let policy = &pod["spec"]["containers"][0]["terminationMessagePolicy"];
    assert_eq!(policy, "FallbackToLogsOnError");
    assert_eq!(pod["metadata"]["labels"][names::RUN], "7");
    assert_eq!(pod["metadata"]["ownerReferences"][0]["uid"], "uid");
}

#[test]
fn completion_containers_are_stored_on_the_pod() {
    let mut type_ = spec(json!({"containers": [{"name": "main-{{oaat_item}}"}, {"name": "x"}]}));
    let annotation = |type_: &OaatTypeSpec| {
        let pod = build(type_, &params("i")).unwrap();
        pod["metadata"]["annotations"][names::COMPLETION_CONTAINERS].clone()
    };
    assert_eq!(annotation(&type_), Value::Null);
    type_.completion_containers = vec!["main-{{oaat_item}}".into(), "x".into()];
    assert_eq!(annotation(&type_), "main-i,x");
}

#[test]
fn item_variables_replace_those_of_the_type() {
    let podspec = json!({
        "initContainers": [{"name": "first"}],
        "container": {"name": "c", "env": [
            {"name": "LEVEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "PATHS", "value": "$(LEVEL)/x"},
        ]},
    });
    let variable = |name: &str, value: &str| Variable {
        name: name.into(),
        value: value.into(),
    };
    let own = [variable("LEVEL", "3"), variable("WHO", "{{oaat_item}}")];
    let pod = skeleton(&spec(podspec), "i", &own).unwrap();
    let level = json!({"name": "LEVEL", "value": "3"});
    let who = json!({"name": "WHO", "value": "i"});
    let item = json!({"name": "OAAT_ITEM", "value": "i"});
    let paths = json!({"name": "PATHS", "value": "$(LEVEL)/x"});
    assert_eq!(
        pod["spec"]["containers"][0]["env"],
        json!([item, level, paths, who])
    );
    assert_eq!(
        pod["spec"]["initContainers"][0]["env"],
        json!([item, level, who])
    );
}

#[test]
fn placeholders_are_replaced_in_all_containers() {
    let container = json!({
        "name": "c",
        "command": ["x{{oaat_item}}y%%oaat_item%%z", "{{oaat_item}}"],
        "args": ["%%oaat_item%%%%oaat_item%%"],
        "env": [
            {"name": "A", "value": "-{{oaat_item}}-"},
            {"name": "B", "valueFrom": {"secretKeyRef": {"name": "{{oaat_item}}", "key": "k"}}},
        ],
        "image": "registry/{{oaat_item}}:%%oaat_item%%",
    });
    let pod = built(
        json!({"containers": [container.clone(), container.clone()], "initContainers": [container]}),
        "it em",
    );
    for path in [
        "/spec/containers/0",
        "/spec/containers/1",
        "/spec/initContainers/0",
    ] {
        let c = pod.pointer(path).cloned().unwrap_or_default();
        assert_eq!(c["command"], json!(["xit emyit emz", "it em"]), "{path}");
        assert_eq!(c["args"], json!(["it emit em"]));
        assert_eq!(c["env"][0], json!({"name": "OAAT_ITEM", "value": "it em"}));
        assert_eq!(c["env"][1]["value"], "-it em-");
        assert_eq!(c["env"][2]["valueFrom"]["secretKeyRef"]["name"], "it em");
        assert_eq!(c["image"], "registry/it em:it em");
    }
}

#[test]
fn placeholders_are_replaced_in_every_value_of_the_podspec() {
    let podspec = json!({
        "container": {
            "name": "c",
            "volumeMounts": [{"name": "data", "subPath": "{{oaat_item}}/x"}],
            "lifecycle": {"preStop": {"exec": {"command": ["{{oaat_item}}"]}}},
        },
        "hostname": "%%oaat_item%%",
        "serviceAccountName": "{{oaat_item}}",
        "volumes": [{"name": "data", "secret": {"secretName": "key-{{oaat_item}}"}}],
        "nodeSelector": {"{{oaat_item}}": "{{oaat_item}}"},
        "newField": [[{"deep": "{{oaat_item}}"}], 1, null, true],
    });
    let pod = built(podspec, "a$b");
    for (path, expected) in [
        ("/containers/0/volumeMounts/0/subPath", "a$b/x"),
        ("/containers/0/lifecycle/preStop/exec/command/0", "a$b"),
        ("/hostname", "a$b"),
        ("/serviceAccountName", "a$b"),
        ("/volumes/0/secret/secretName", "key-a$b"),
        ("/nodeSelector/{{oaat_item}}", "a$b"),
        ("/newField/0/0/deep", "a$b"),
    ] {
        let value = pod["spec"].pointer(path);
        assert_eq!(value, Some(&json!(expected)), "{path}");
    }
    assert_eq!(pod["spec"]["newField"][1], 1);
}

/// `$(NAME)` in an item must not become the value of a variable.
#[test]
fn item_is_escaped_where_kubernetes_expands_variables() {
    let probe = json!({"exec": {"command": ["{{oaat_item}}"]}});
    let podspec = json!({"container": {
        "name": "c",
        "command": ["{{oaat_item}}"],
        "args": ["{{oaat_item}}"],
        "env": [{"name": "A", "value": "{{oaat_item}}"}],
        "volumeMounts": [{"name": "data", "subPathExpr": "{{oaat_item}}"}],
        "livenessProbe": probe, "readinessProbe": probe, "startupProbe": probe,
    }});
    let pod = built(podspec, "$(PATH)");
    for path in [
        "/command/0",
        "/args/0",
        "/env/0/value",
        "/env/1/value",
        "/volumeMounts/0/subPathExpr",
        "/livenessProbe/exec/command/0",
        "/readinessProbe/exec/command/0",
        "/startupProbe/exec/command/0",
    ] {
        let value = pod["spec"]["containers"][0].pointer(path);
        assert_eq!(value, Some(&json!("$$(PATH)")), "{path}");
    }
}

#[test]
fn placeholders_are_replaced_in_labels_and_annotations() {
    let metadata = json!({
        "labels": {"app": "backup-{{oaat_item}}", names::ITEM: "{{oaat_item}}"},
        "annotations": {"note": "%%oaat_item%%, $"},
    });
    let pod = build(&spec_with_metadata(json!({}), metadata), &params("a b$")).unwrap();
    assert_eq!(pod["metadata"]["labels"]["app"], "backup-a b$");
    assert_eq!(pod["metadata"]["annotations"]["note"], "a b$, $");
    let label = &pod["metadata"]["labels"][names::ITEM];
    assert_eq!(label, &json!(names::item_label("a b$")));
}

#[test]
fn dry_run_uses_the_item_named_item() {
    let metadata = json!({"labels": {"app": "{{oaat_item}}"}});
    let podspec = json!({"container": {"name": "c", "image": "{{oaat_item}}:1"}});
    let pod = dry_run_pod(&spec_with_metadata(podspec, metadata));
    assert_eq!(pod["metadata"]["labels"]["app"], "item");
    assert_eq!(pod["spec"]["containers"][0]["image"], "item:1");
}

#[test]
fn pod_that_is_too_large_is_not_built() {
    let item = "ü".repeat(300);
    let long = json!({"container": {"name": "a", "args": ["{{oaat_item}}".repeat(100_000)]}});
    let many = json!({"containers": vec![json!({"name": "a"}); 100]});
    let large = Variable {
        name: "LARGE".into(),
        value: "x".repeat(32_768),
    };
    assert!(skeleton(&spec(long.clone()), &item, &[]).is_none());
    assert!(skeleton(&spec(long), "a", &[]).is_some());
    assert!(skeleton(&spec(many.clone()), &item, &[large]).is_none());
    assert!(skeleton(&spec(many), &item, &[]).is_some());
    // The limit applies to the sum of what is added to all fields.
    let half = "{{oaat_item}}".repeat(1000);
    let annotated = |podspec: Value| {
        let spec = spec_with_metadata(podspec, json!({"annotations": {"note": half}}));
        skeleton(&spec, &item, &[])
    };
    assert!(annotated(json!({})).is_some());
    assert!(annotated(json!({"hostname": half})).is_none());
}

#[test]
fn item_is_neither_expanded_nor_replaced_twice() {
    let pod = built(
        json!({"container": {"name": "a", "args": ["{{oaat_item}}"]}}),
        "$(PATH) {{oaat_item}}",
    );
    let container = &pod["spec"]["containers"][0];
    assert_eq!(container["args"][0], "$$(PATH) {{oaat_item}}");
    assert_eq!(container["env"][0]["value"], "$$(PATH) {{oaat_item}}");
}

#[test]
fn oaat_item_replaces_the_users_value_and_is_reported() {
    let podspec = json!({"container": {"name": "a", "env": [
        {"name": "X", "value": "1"}, {"name": "OAAT_ITEM", "value": "mine"}]}});
    assert_eq!(overridden_env(&spec(podspec.clone())), ["a"]);
    let pod = built(podspec, "i");
    let env = &pod["spec"]["containers"][0]["env"];
    assert_eq!(
        env,
        &json!([{"name": "OAAT_ITEM", "value": "i"}, {"name": "X", "value": "1"}])
    );
}

#[test]
fn shorter_time_limit_applies() {
    let limited = |own: Value, timeout| {
        let mut spec = json!({ "activeDeadlineSeconds": own });
        limit_run_time(&mut spec, Duration::from_millis(timeout));
        spec["activeDeadlineSeconds"].clone()
    };
    for (own, timeout, expected) in [
        (Value::Null, 0, Value::Null),
        (json!(60), 0, json!(60)),
        (Value::Null, 1500, json!(2)),
        (json!(60), 90_000, json!(60)),
        (json!(60), 30_000, json!(30)),
        (Value::Null, 100 * 31_557_600_000, json!(i32::MAX)),
    ] {
        assert_eq!(limited(own, timeout), expected, "{timeout}");
    }
    let params = PodParams {
        timeout: Duration::from_secs(90),
        ..params("i")
    };
    let pod = build(&spec(json!({})), &params).unwrap();
    assert_eq!(pod["spec"]["activeDeadlineSeconds"], 90);
}

#[test]
fn gate_is_added_to_those_of_the_user() {
    let pod = built(json!({"schedulingGates": [{"name": "mine"}]}), "i");
    assert_eq!(
        pod["spec"]["schedulingGates"],
        json!([{"name": "mine"}, {"name": names::GATE}])
    );
    let pod = built(
        json!({"schedulingGates": [{"name": "{{oaat_item}}"}]}),
        names::GATE,
    );
    assert_eq!(
        pod["spec"]["schedulingGates"],
        json!([{"name": names::GATE}])
    );
}

#[test]
fn node_name_becomes_an_affinity_in_every_term() {
    let fields =
        "/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";
    let on_node = json!({"key": "metadata.name", "operator": "In", "values": ["n1"]});
    let pod = built(json!({"nodeName": "n1"}), "i");
    assert!(pod["spec"].get("nodeName").is_none());
    assert_eq!(
        pod["spec"].pointer(fields),
        Some(&json!([{"matchFields": [on_node]}]))
    );

    let pod = built(json!({"nodeName": "{{oaat_item}}"}), "n1");
    assert_eq!(
        pod["spec"].pointer(fields),
        Some(&json!([{"matchFields": [on_node]}]))
    );

    let terms = json!([{"matchExpressions": [1]}, {"matchFields": [2]}]);
    let affinity = json!({"nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}});
    let pod = built(json!({"nodeName": "n1", "affinity": affinity}), "i");
    assert_eq!(
        pod["spec"].pointer(fields),
        Some(&json!([
            {"matchExpressions": [1], "matchFields": [on_node]},
            {"matchFields": [2, on_node]},
        ]))
    );
}

#[test]
fn user_labels_do_not_replace_those_of_the_operator() {
    let metadata = json!({
        "labels": {names::GROUP: "x", "team": "a"},
        "annotations": {"note": "b"},
    });
    let spec = spec_with_metadata(json!({}), metadata);
    let pod = build(&spec, &params("i")).unwrap();
    assert_eq!(pod["metadata"]["labels"][names::GROUP], "g");
    assert_eq!(pod["metadata"]["labels"]["team"], "a");
    assert_eq!(pod["metadata"]["annotations"]["note"], "b");
}
