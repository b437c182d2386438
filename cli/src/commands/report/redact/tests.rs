use super::super::kinds::{CHECK, EVENT, GROUP, LEASE, LOG_LINE, POD, TYPE, VERSION, WORKLOAD};
use super::*;
use proptest::prelude::*;
use serde_json::json;

const KINDS: [Fields; 9] = [
    GROUP, TYPE, POD, EVENT, WORKLOAD, LEASE, LOG_LINE, CHECK, VERSION,
];

/// Names that the lists contain, names that they do not, and a key that looks like a path.
fn key() -> impl Strategy<Value = String> {
    let known = KINDS.iter().flat_map(|fields| fields.0);
    let known = known.flat_map(|path| path.trim_end_matches(['~', '@']).split('.'));
    let mut keys: Vec<_> = known.map(str::to_owned).collect();
    keys.extend(
        [
            "env",
            "args",
            "annotations",
            "settings",
            "",
            "metadata.name",
            "name~",
        ]
        .map(str::to_owned),
    );
    keys.sort();
    keys.dedup();
    proptest::sample::select(keys)
}

/// Values in which each string is a different secret. Those that are not on a list are strings.
fn tree() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<u64>().prop_map(|n| json!(format!("secret{n}end"))),
        any::<u8>().prop_map(|n| json!(n))
    ];
    leaf.prop_recursive(6, 64, 6, |inner| {
        prop_oneof![
            3 => proptest::collection::btree_map(key(), inner.clone(), 0..6).prop_map(|map| json!(map)),
            1 => proptest::collection::vec(inner, 0..3).prop_map(|list| json!(list)),
        ]
    })
}

/// Collects the strings of a value with the names on their paths. An element of a list is `None`.
fn strings(value: &Value, path: &[Option<String>], found: &mut Vec<(Vec<Option<String>>, String)>) {
    let below = |name: Option<&String>| [path, &[name.cloned()]].concat();
    match value {
        Value::String(text) => found.push((path.to_vec(), text.clone())),
        Value::Array(list) => {
            for value in list {
                strings(value, &below(None), found);
            }
        }
        Value::Object(object) => {
            for (key, value) in object {
                strings(value, &below(Some(key)), found);
            }
        }
        _ => {}
    }
}

fn is_listed(path: &[Option<String>], fields: Fields) -> bool {
    fields.0.iter().any(|listed| {
        let names: Vec<_> = listed.trim_end_matches(['~', '@']).split('.').collect();
        names.len() == path.len()
            && names
                .iter()
                .zip(path)
                .all(|(name, part)| *name == "*" || part.as_deref() == Some(*name))
    })
}

proptest! {
    #[test]
    fn only_listed_strings_are_kept(value in tree(), kind in 0..KINDS.len()) {
        let fields = KINDS[kind];
        let kept = redact(&value, fields).unwrap_or_default().to_string();
        let mut found = Vec::new();
        strings(&value, &[], &mut found);
        for (path, text) in found {
            prop_assert_eq!(kept.contains(&text), is_listed(&path, fields), "{:?} {}", path, kept);
        }
    }

    #[test]
    fn credentials_of_urls_never_remain(
        user in "[a-z]{1,8}", secret in "[!-~]{12,30}", query in "[a-z]{1,5}",
        path in "[!#-;=?-\\[\\]-_a-~]{12,30}",
    ) {
        let scrubbed = scrub(&format!("failed to get https://{user}:{secret}@host/path: refused"));
        let expected = if secret.contains(['/', '?', '#']) { "(left out)" } else { "host" };
        prop_assert_eq!(scrubbed, format!("failed to get https://{expected}/… refused"));
        let scrubbed = scrub(&format!("(https://host/hooks/{path}?{query}={path})"));
        prop_assert!(!scrubbed.contains(&path), "{}", scrubbed);
    }

    #[test]
    fn cut_urls_have_no_credentials(
        secret in "[a-zA-Z0-9]{12,30}", length in 12_usize..18, ellipsis: bool,
    ) {
        let url: String = format!("https://user:{secret}@host/").chars().take(8 + length).collect();
        let end = if ellipsis { "…; trying again" } else { "" };
        let scrubbed = scrub(&format!("failed: {url}{end}"));
        prop_assert!(scrubbed.starts_with("failed: https://(left out)"), "{}", scrubbed);
        prop_assert!(!scrubbed.contains(&url[13..]), "{}", scrubbed);
    }
}

#[test]
fn secrets_of_real_objects_are_left_out() {
    let container = json!({
        "name": "main", "image": "restic", "command": ["s3cret"], "args": ["--password=s3cret"],
        "env": [{ "name": "PASSWORD", "value": "s3cret" }],
        "livenessProbe": { "httpGet": { "path": "/s3cret" } },
    });
    let metadata = json!({
        "name": "n", "labels": { "a": "s3cret" }, "annotations": {
            "kubectl.kubernetes.io/last-applied-configuration": "s3cret",
        }, "managedFields": [{ "manager": "s3cret" }],
    });
    let group = json!({
        "metadata": metadata,
        "spec": {
            "oaatItems": ["photos"],
            "policy": { "settings": { "s3cret": "s3cret" }, "configMap": { "name": "p" } },
            "itemOptions": { "photos": {
                "settings": { "a": "s3cret" }, "env": [{ "name": "A", "value": "s3cret" }],
                "frequency": "1h",
            } },
            "itemsFrom": [
                { "name": "s", "http": {
                    "url": "https://user:s3cret@host/s3cret?token=s3cret",
                    "headers": { "Authorization": "s3cret" }, "caBundle": "s3cret",
                } },
                { "name": "c", "container": { "podspec": { "container": container } } },
            ],
        },
        "status": {
            "items": { "photos": { "message": "s3cret", "state": "Ready" } },
            "history": [{ "message": "s3cret", "reason": "Error" }],
            "policyState": "s3cret", "runNow": { "token": "s3cret" },
            "message": "cannot reach https://user:s3cret@host/; token: s3cret, Bearer s3cret",
        },
    });
    let pod = json!({
        "metadata": metadata,
        "spec": {
            "containers": [container], "initContainers": [container],
            "volumes": [{ "name": "v", "csi": { "volumeAttributes": { "a": "s3cret" } } }],
        },
        "status": { "phase": "Failed", "message": "s3cret", "containerStatuses": [{
            "name": "main", "state": { "terminated": { "message": "s3cret", "reason": "Error" } },
        }] },
    });
    let type_ = json!({ "metadata": metadata, "spec": {
        "type": "pod", "podspec": { "container": container, "containers": [container] },
        "podMetadata": { "annotations": { "a": "s3cret" } },
    } });
    for (object, fields, words) in [
        (
            group,
            GROUP,
            &["photos", "https://host/…", "1h", "Error"][..],
        ),
        (pod, POD, &["restic", "Failed", "Error"]),
        (type_, TYPE, &["restic", "pod"]),
    ] {
        let kept = redact(&object, fields).unwrap_or_default().to_string();
        assert!(!kept.contains("s3cret"), "{kept}");
        for word in words {
            assert!(kept.contains(word), "{word}: {kept}");
        }
    }
}

#[test]
fn images_have_no_credentials() {
    let digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    for (image, expected) in [
        (
            "keycloak/keycloak:26".to_owned(),
            "keycloak/keycloak:26".to_owned(),
        ),
        (
            "user:abc@registry/a:1".to_owned(),
            "registry/a:1".to_owned(),
        ),
        (
            format!("registry/a@{digest}"),
            format!("registry/a@{digest}"),
        ),
        (
            format!("user:abc@registry/a@{digest}"),
            format!("registry/a@{digest}"),
        ),
        (
            "https://user:abc@registry/a".to_owned(),
            "registry/a".to_owned(),
        ),
    ] {
        let pod = json!({ "spec": { "containers": [{ "image": image }] } });
        let kept = redact(&pod, POD).unwrap();
        assert_eq!(kept["spec"]["containers"][0]["image"], expected);
    }
}

#[test]
fn texts_lose_what_looks_like_a_secret() {
    for (text, expected) in [
        (
            "Ready: OaatType \"t\" does not exist in this namespace; create it",
            "Ready: OaatType \"t\" does not exist in this namespace; create it",
        ),
        ("PASSWORD=abc rest", "PASSWORD=(left out) rest"),
        (r#"{"password": "abc"}"#, r#"{"password": "(left out)"}"#),
        (r#"{\"token\":\"abc\"}"#, r#"{\"token\":\"(left out)\"}"#),
        ("api-token: abc rest", "api-token: (left out) rest"),
        (
            "Authorization: Bearer abc rest",
            "Authorization: (left out) (left out) rest",
        ),
        ("id eyJhbGciOiJIUzI1NiJ9.e30.x", "id (left out)"),
        (
            "pod backup-photos-7-0123456789 of 2026-03-02T12:00:00Z",
            "pod backup-photos-7-0123456789 of 2026-03-02T12:00:00Z",
        ),
        (
            "sha256 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            "sha256 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        ),
        (
            "get https://a:b@host:1/p?q=r: no",
            "get https://host:1/… no",
        ),
        ("https://a:b/c@host", "https://(left out)"),
        ("https://host/hooks/@secret x", "https://(left out) x"),
        ("\"https://host:1\", x", "\"https://host:1\", x"),
        ("https://[::1]:6443: refused", "https://[::1]:6443: refused"),
        ("https://user:abc\" x", "https://(left out)\" x"),
        (
            "image \"user:abc@registry/a:1\" is invalid",
            "image \"(left out)@registry/a:1\" is invalid",
        ),
    ] {
        assert_eq!(scrub(text), expected);
    }
}
