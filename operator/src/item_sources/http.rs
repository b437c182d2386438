//! The pod that fetches a list from a web server: it runs `oaat-operator fetch-items` in the
//! group's namespace, with that namespace's network and without any rights of the operator.

use oaat_api::ItemsHttp;
use serde_json::{Value, json};

/// The subcommand that the pod runs, and the name of its container.
pub const FETCH_ITEMS: &str = "fetch-items";

/// The environment variable that contains `itemsFrom[].http` as JSON.
pub const DEFINITION: &str = "OAAT_ITEMS_HTTP";

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

#[cfg(test)]
mod tests {
    use super::*;
    use oaat_api::{HeaderFrom, HeaderSource, SecretKeyRef};

    fn http(url: &str) -> ItemsHttp {
        ItemsHttp {
            url: url.into(),
            ..ItemsHttp::default()
        }
    }

    fn header_from_secret(name: &str) -> HeaderFrom {
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
    fn pod_spec_escapes_dollar_signs() {
        let http = ItemsHttp {
            json_path: Some("$.a".into()),
            headers_from: vec![header_from_secret("Authorization")],
            ..http("https://a.example/$(OAAT_HEADER_0)$$(x)")
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
