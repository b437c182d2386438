//! Validates the specs of types.

use super::errors::{MAX_ERRORS, below};
use crate::OaatTypeSpec;
use crate::field_error::{FieldError, FieldProblem};
use crate::text;
use serde_json::{Map, Value};

/// Validates a type, as far as possible without an API server.
pub fn validate_type(spec: &OaatTypeSpec) -> Vec<FieldError> {
    below("spec", type_errors(spec))
}

pub(super) fn type_errors(spec: &OaatTypeSpec) -> Vec<FieldError> {
    const CONTAINER: FieldProblem = FieldProblem::Missing {
        fix: "add for example container: {name: main, image: busybox, command: [\"true\"]}",
    };
    let mut errors = Vec::new();
    if spec.type_ != "pod" {
        errors.push(FieldError::out_of_range("type", &spec.type_, "\"pod\""));
    }
    let Some(pod) = &spec.podspec else {
        let fix = "add for example podspec: {container: {name: main, image: busybox, command: [\"true\"]}}";
        errors.push(FieldError::new("podspec", FieldProblem::Missing { fix }));
        return errors;
    };
    let listed = pod.get("containers").and_then(|list| list.as_array());
    match (pod.get("container"), listed) {
        (None, None) => errors.push(FieldError::new("podspec.container", CONTAINER)),
        (None, Some(list)) if list.is_empty() => {
            errors.push(FieldError::new("podspec.container", CONTAINER));
        }
        (Some(_), Some(_)) => {
            let why = "has both container and containers; remove one of them";
            errors.push(FieldError::conflict("podspec", why));
        }
        _ => {}
    }
    completion_containers(&spec.completion_containers, pod, &mut errors);
    if let Some(policy) = pod.get("restartPolicy")
        && policy != "Never"
    {
        let policy = policy
            .as_str()
            .map_or_else(|| policy.to_string(), Into::into);
        let range = "Never or omitted";
        errors.push(FieldError::out_of_range(
            "podspec.restartPolicy",
            &policy,
            range,
        ));
    }
    errors
}

/// Validates `completionContainers`, which must name containers of the pod: without all of them, a
/// run would never end.
fn completion_containers(named: &[String], pod: &Map<String, Value>, errors: &mut Vec<FieldError>) {
    let listed = pod.get("containers").and_then(Value::as_array);
    let containers = listed.into_iter().flatten().chain(pod.get("container"));
    let names: Vec<_> = containers.filter_map(|c| c["name"].as_str()).collect();
    for (index, name) in named.iter().enumerate().take(MAX_ERRORS) {
        let field = format!("completionContainers[{index}]");
        if named[..index].contains(name) {
            errors.push(FieldError::duplicate(field, name));
        } else if !names.contains(&name.as_str()) {
            let fix = format!("use one of {}", text::list(&names, ", ", text::NAME));
            let why = "not a container of the podspec";
            errors.push(FieldError::invalid(field, name, why, fix));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate::summary;
    use serde_json::json;

    #[test]
    fn completion_containers_are_containers_of_the_pod() {
        let spec = |named: &[&str]| -> OaatTypeSpec {
            let containers = json!([{ "name": "main" }, { "name": "proxy" }]);
            serde_json::from_value(json!({
                "type": "pod", "podspec": { "containers": containers },
                "completionContainers": named,
            }))
            .unwrap()
        };
        assert_eq!(validate_type(&spec(&["main"])), []);
        let problems = summary(&validate_type(&spec(&["main", "mian", "main"])));
        assert_eq!(
            problems,
            "spec.completionContainers[1]: \"mian\" is not a container of the podspec; use one of \
             main, proxy; spec.completionContainers[2]: \"main\" is listed twice; remove one of them"
        );
    }
}
