//! A container's environment: values, references, and `$(NAME)` in them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVar, ObjectFieldSelector, Pod, Secret};
use kube::api::ResourceExt;
use kube::{Api, Client};

/// Names and values, in the order of their definition.
pub(super) type Variables = Vec<(String, String)>;

/// Resolves the environment of a container.
///
/// # Errors
/// Returns the message of a kubelet that does not start such a container.
pub(super) async fn resolve(
    client: &Client,
    pod: &Pod,
    container: &Container,
    node: &str,
) -> Result<Variables, String> {
    let sources = Sources::new(client, pod);
    let mut variables = Variables::new();
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        let found = if let Some(from) = &source.config_map_ref {
            sources.config_map(&from.name, from.optional).await?
        } else if let Some(from) = &source.secret_ref {
            sources.secret(&from.name, from.optional).await?
        } else {
            None
        };
        for (key, value) in found.unwrap_or_default() {
            set(&mut variables, format!("{prefix}{key}"), value);
        }
    }
    for variable in container.env.iter().flatten() {
        if let Some(value) = sources.value(pod, variable, node, &variables).await? {
            set(&mut variables, variable.name.clone(), value);
        }
    }
    Ok(variables)
}

fn set(variables: &mut Variables, name: String, value: String) {
    variables.retain(|(existing, _)| *existing != name);
    variables.push((name, value));
}

/// Reads the ConfigMaps and Secrets of a pod's namespace.
pub(super) struct Sources<'a> {
    client: &'a Client,
    namespace: String,
}

impl<'a> Sources<'a> {
    pub(super) fn new(client: &'a Client, pod: &Pod) -> Self {
        let namespace = pod.namespace().unwrap_or_default();
        Self { client, namespace }
    }

    async fn value(
        &self,
        pod: &Pod,
        variable: &EnvVar,
        node: &str,
        before: &Variables,
    ) -> Result<Option<String>, String> {
        let Some(from) = &variable.value_from else {
            let text = variable.value.as_deref().unwrap_or_default();
            return Ok(Some(expand(text, before)));
        };
        if let Some(field) = &from.field_ref {
            return field_value(pod, field, node).map(Some);
        }
        let (kind, name, key, optional, found) = if let Some(from) = &from.config_map_key_ref {
            let found = self.config_map(&from.name, from.optional).await?;
            ("ConfigMap", &from.name, &from.key, from.optional, found)
        } else if let Some(from) = &from.secret_key_ref {
            let found = self.secret(&from.name, from.optional).await?;
            ("Secret", &from.name, &from.key, from.optional, found)
        } else {
            return Err(format!("env {}: not supported by this node", variable.name));
        };
        let value = found.and_then(|mut values| values.remove(key));
        if value.is_none() && optional != Some(true) {
            let namespace = &self.namespace;
            return Err(format!(
                "couldn't find key {key} in {kind} {namespace}/{name}"
            ));
        }
        Ok(value)
    }

    pub(super) async fn config_map(
        &self,
        name: &str,
        optional: Option<bool>,
    ) -> Result<Option<BTreeMap<String, String>>, String> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let found = api.get_opt(name).await.map_err(|error| error.to_string())?;
        if found.is_none() && optional != Some(true) {
            return Err(format!("configmap \"{name}\" not found"));
        }
        Ok(found.and_then(|map| map.data))
    }

    pub(super) async fn secret(
        &self,
        name: &str,
        optional: Option<bool>,
    ) -> Result<Option<BTreeMap<String, String>>, String> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let found = api.get_opt(name).await.map_err(|error| error.to_string())?;
        if found.is_none() && optional != Some(true) {
            return Err(format!("secret \"{name}\" not found"));
        }
        Ok(found.and_then(|secret| secret.data).map(|data| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            data.iter()
                .map(|(key, value)| (key.clone(), text(&value.0)))
                .collect()
        }))
    }
}

fn field_value(pod: &Pod, field: &ObjectFieldSelector, node: &str) -> Result<String, String> {
    let path = field.field_path.as_str();
    let spec = pod.spec.as_ref();
    let text = match path {
        "metadata.name" => pod.name_any(),
        "metadata.namespace" => pod.namespace().unwrap_or_default(),
        "metadata.uid" => pod.uid().unwrap_or_default(),
        "spec.nodeName" => node.to_owned(),
        "spec.serviceAccountName" => spec
            .and_then(|spec| spec.service_account_name.clone())
            .unwrap_or_default(),
        "status.podIP" | "status.hostIP" => super::status::ADDRESS.to_owned(),
        _ => {
            let key = |kind: &str| {
                let rest = path.strip_prefix("metadata.")?.strip_prefix(kind)?;
                rest.strip_prefix("['")?.strip_suffix("']")
            };
            if let Some(key) = key("labels") {
                pod.labels().get(key).cloned().unwrap_or_default()
            } else if let Some(key) = key("annotations") {
                pod.annotations().get(key).cloned().unwrap_or_default()
            } else {
                return Err(format!("field {path} is not supported by this node"));
            }
        }
    };
    Ok(text)
}

/// Expands references as Kubernetes does: `$(NAME)` is replaced if NAME is known and unchanged
/// otherwise, and `$$` is a `$`.
pub(super) fn expand(text: &str, variables: &Variables) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        result.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            result.push('$');
            rest = after;
        } else if let Some((name, after)) = rest
            .strip_prefix('(')
            .and_then(|inner| inner.split_once(')'))
        {
            match variables.iter().find(|(known, _)| known == name) {
                Some((_, value)) => result.push_str(value),
                None => result.push_str(&format!("$({name})")),
            }
            rest = after;
        } else {
            result.push('$');
        }
    }
    result + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expansion_follows_kubernetes() {
        let variables = vec![("A".to_owned(), "1".to_owned())];
        for (text, expected) in [
            ("plain", "plain"),
            ("$(A)-$(A)", "1-1"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$(B)", "$(B)"),
            ("$A ${A} $", "$A ${A} $"),
            ("$(A", "$(A"),
        ] {
            assert_eq!(expand(text, &variables), expected, "{text}");
        }
    }
}
