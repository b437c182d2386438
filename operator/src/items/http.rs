//! The pod that fetches a list from a web server: it runs `oaat-operator fetch-items` in the
//! group's namespace, with that namespace's network and without any rights of the operator.

use super::path::JsonPath;
use crate::api::ItemsHttp;
use http::{HeaderName, HeaderValue, header};
use reqwest::Url;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::str::FromStr;
use std::time::Duration;

/// The subcommand that the pod runs, and the name of its container.
pub const FETCH_ITEMS: &str = "fetch-items";

/// The environment variable that contains `itemsFrom[].http` as JSON.
pub const DEFINITION: &str = "OAAT_ITEMS_HTTP";

/// How much longer the pod may take than the response: it must be scheduled, and its image pulled.
pub const POD_START: Duration = Duration::from_secs(60);

/// The maximum size of a definition in bytes. The kernel limits an environment variable to 128 KiB.
const MAX_DEFINITION: usize = 100_000;

/// The error if the operator's own image is not set.
pub const NO_IMAGE: &str = "the operator's image is not set, so no pod can fetch the list; set the environment variable \
     OAAT_IMAGE in the operator's Deployment to the image of its container";

/// Returns the environment variable for the value of an entry in `headersFrom`.
pub fn header_variable(index: usize) -> String {
    format!("OAAT_HEADER_{index}")
}

/// Returns the spec of the pod. It meets the Pod Security Standard `restricted`.
pub fn pod_spec(http: &ItemsHttp, image: &str) -> Value {
    let definition = serde_json::to_string(http).unwrap_or_default();
    // The kubelet expands $(NAME) in values, and reads $$ as $.
    let mut env = vec![json!({ "name": DEFINITION, "value": definition.replace('$', "$$") })];
    env.extend(http.headers_from.iter().enumerate().map(
        |(index, header)| json!({ "name": header_variable(index), "valueFrom": header.value_from }),
    ));
    json!({
        "restartPolicy": "Never",
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": 1,
        "securityContext": {
            "runAsNonRoot": true,
            "seccompProfile": { "type": "RuntimeDefault" },
        },
        "containers": [{
            "name": FETCH_ITEMS,
            "image": image,
            "imagePullPolicy": "IfNotPresent",
            "args": [FETCH_ITEMS],
            "env": env,
            // Standard error becomes the container's message on failure.
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "resources": {
                "requests": { "cpu": "10m", "memory": "32Mi" },
                "limits": { "cpu": "500m", "memory": "128Mi" },
            },
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": { "drop": ["ALL"] },
            },
        }],
    })
}

/// The certificates in PEM.
///
/// # Errors
/// When there are none.
pub fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err("it has no certificate in PEM (-----BEGIN CERTIFICATE----- …)".into()),
        Err(error) => Err(format!("it is not PEM: {error}")),
    }
}

/// Validates the definition of a web server without sending a request.
pub fn problems(http: &ItemsHttp) -> Vec<String> {
    let mut problems = Vec::new();
    match Url::parse(&http.url) {
        Err(error) => problems.push(format!("http.url is {:?}: {error}", http.url)),
        Ok(url) => {
            if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
                problems.push(format!(
                    "http.url is {:?}; it must be one of http or https, such as https://lists.example.com/disks",
                    http.url
                ));
            }
            if !url.username().is_empty() || url.password().is_some() {
                problems.push(
                    "http.url contains a user or a password, which everyone who can read the group can read; \
                     use http.headersFrom"
                        .into(),
                );
            }
        }
    }
    header_problems(http, &mut problems);
    if let Some(path) = &http.json_path
        && let Err(error) = path.parse::<JsonPath>()
    {
        problems.push(format!(
            "http.jsonPath is {path:?}: {error}; use for example $.items[*].name"
        ));
    }
    if let Some(pem) = &http.ca_bundle
        && let Err(error) = certificates(pem)
    {
        problems.push(format!("http.caBundle: {error}"));
    }
    let size = serde_json::to_string(http).map_or(0, |text| text.replace('$', "$$").len());
    if size > MAX_DEFINITION {
        problems.push(format!(
            "http has {size} bytes as JSON; it must have at most {MAX_DEFINITION}"
        ));
    }
    problems
}

fn header_problems(http: &ItemsHttp, problems: &mut Vec<String>) {
    let sendable = |name: &str| HeaderName::from_str(name).is_ok_and(|name| name != header::HOST);
    for (name, value) in &http.headers {
        if !sendable(name) || HeaderValue::from_str(value).is_err() {
            problems.push(format!(
                "http.headers[{name:?}] is not a header that can be sent; use for example Accept: text/plain"
            ));
        }
    }
    let mut seen: HashSet<String> = http.headers.keys().map(|n| n.to_lowercase()).collect();
    for (index, header) in http.headers_from.iter().enumerate() {
        let name = &header.name;
        if !sendable(name) {
            problems.push(format!(
                "http.headersFrom[{index}].name is {name:?}, which is not a header that can be sent; use \
                 for example Authorization"
            ));
        }
        if !seen.insert(name.to_lowercase()) {
            problems.push(format!(
                "http.headersFrom[{index}].name is {name:?}, which is also set elsewhere; set each header once"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{HeaderFrom, HeaderSource, SecretKeyRef};

    fn with(url: &str) -> ItemsHttp {
        ItemsHttp {
            url: url.into(),
            ..ItemsHttp::default()
        }
    }

    fn from_secret(name: &str) -> HeaderFrom {
        let secret_key_ref = SecretKeyRef {
            name: "lists".into(),
            key: "token".into(),
        };
        HeaderFrom {
            name: name.into(),
            value_from: HeaderSource { secret_key_ref },
        }
    }

    #[test]
    fn problems_are_reported_before_a_request_is_made() {
        let wrong = |http: ItemsHttp| problems(&http).join("; ");
        assert_eq!(wrong(with("https://a.example/x?y")), "");
        assert!(wrong(with("ftp://a.example/")).contains("http or https"));
        assert!(wrong(with("nonsense")).contains("http.url"));
        assert!(wrong(with("https://me:secret@a.example/")).contains("a password"));
        let header = |name: &str, value: &str| ItemsHttp {
            headers: [(name.to_owned(), value.to_owned())].into(),
            ..with("https://a.example/")
        };
        assert_eq!(wrong(header("Accept", "text/plain")), "");
        for (name, value) in [("no name", "x"), ("Accept", "a\nb"), ("host", "b.example")] {
            assert!(
                wrong(header(name, value)).contains("not a header"),
                "{name}"
            );
        }
        let secret = |name: &str| ItemsHttp {
            headers_from: vec![from_secret(name)],
            ..header("Accept", "text/plain")
        };
        assert_eq!(wrong(secret("Authorization")), "");
        assert!(wrong(secret("Host")).contains("http.headersFrom[0].name"));
        assert!(wrong(secret("accept")).contains("set each header once"));
        let path = ItemsHttp {
            json_path: Some("$[?@.a]".into()),
            ..with("https://a.example/")
        };
        assert!(wrong(path).contains("at character 2"));
        let bundle = ItemsHttp {
            ca_bundle: Some("hello".into()),
            ..with("https://a.example/")
        };
        assert!(wrong(bundle).contains("BEGIN CERTIFICATE"));
        assert!(wrong(header("Accept", &"$".repeat(60_000))).contains("at most 100000"));
    }

    #[test]
    fn no_value_is_expanded_by_the_kubelet() {
        let http = ItemsHttp {
            json_path: Some("$.a".into()),
            headers_from: vec![from_secret("Authorization")],
            ..with("https://a.example/$(OAAT_HEADER_0)$$(x)")
        };
        let spec = pod_spec(&http, "registry.example/oaat-operator:1");
        let env = &spec["containers"][0]["env"];
        let value = env[0]["value"].as_str().unwrap_or_default();
        assert!(!value.replace("$$", "").contains('$'), "{value}");
        let expanded: ItemsHttp = serde_json::from_str(&value.replace("$$", "$")).unwrap();
        assert_eq!(expanded, http);
        let secret = json!({ "secretKeyRef": { "name": "lists", "key": "token" } });
        assert_eq!(
            env[1],
            json!({ "name": "OAAT_HEADER_0", "valueFrom": secret })
        );
    }
}
