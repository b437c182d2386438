//! Evaluates the validation rules (CEL) of the CRDs.

use kube_cel::KubeCelExt;
use kube_cel::cel::extractors::This;
use kube_cel::cel::{Context, ExecutionError, Program, Value as CelValue};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::HashMap;

thread_local! {
    static RULES: RefCell<Rules> = RefCell::default();
}

/// Evaluates a rule for a value.
///
/// # Errors
/// Returns a message if the rule cannot be compiled or does not evaluate to a boolean for this
/// value, for example because a part of the value has the wrong type.
pub(crate) fn holds(rule: &str, value: &Value) -> Result<bool, String> {
    RULES.with_borrow_mut(|rules| rules.holds(rule, value))
}

/// Rules that are compiled when they are first evaluated. A list has the same rules for each entry.
struct Rules {
    functions: Context<'static>,
    programs: HashMap<String, Result<Program, String>>,
}

impl Default for Rules {
    fn default() -> Self {
        let mut functions = Context::default().with_all();
        functions.add_function("size", size);
        Self {
            functions,
            programs: HashMap::new(),
        }
    }
}

impl Rules {
    fn holds(&mut self, rule: &str, value: &Value) -> Result<bool, String> {
        if !self.programs.contains_key(rule) {
            let program = Program::compile(rule).map_err(|error| error.to_string());
            self.programs.insert(rule.to_owned(), program);
        }
        let program = self.programs[rule].as_ref().map_err(Clone::clone)?;
        let mut context = self.functions.new_inner_scope();
        context
            .add_variable("self", value)
            .map_err(|error| error.to_string())?;
        match program.execute(&context) {
            Ok(CelValue::Bool(holds)) => Ok(holds),
            Ok(other) => Err(format!("the result is not a boolean but {other:?}")),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Returns the size of a value. Replaces the function of the library, which counts the bytes of a
/// string; Kubernetes counts its Unicode code points.
fn size(This(value): This<CelValue>) -> Result<i64, ExecutionError> {
    let size = match &value {
        CelValue::List(list) => list.len(),
        CelValue::Map(map) => map.map.len(),
        CelValue::String(text) => text.chars().count(),
        other => {
            let message = format!("{other:?} has no size");
            return Err(ExecutionError::function_error("size", message));
        }
    };
    Ok(i64::try_from(size).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate::schema::of_kind;
    use serde_json::json;

    /// Appends the rules of a schema, each with the schema it belongs to.
    fn collect_rules(schema: &Value, found: &mut Vec<(String, Value)>) {
        let own = schema["x-kubernetes-validations"].as_array();
        found.extend(own.into_iter().flatten().map(|rule| {
            assert!(rule["message"].is_string(), "{rule} has no message");
            let text = rule["rule"].as_str().unwrap_or_default().to_owned();
            (text, schema.clone())
        }));
        let named = schema["properties"].as_object();
        named
            .into_iter()
            .flatten()
            .for_each(|(_, inner)| collect_rules(inner, found));
        for inner in ["items", "additionalProperties"] {
            if schema[inner].is_object() {
                collect_rules(&schema[inner], found);
            }
        }
    }

    #[test]
    fn every_rule_of_the_crds_can_be_evaluated() {
        for kind in ["OaatGroup", "OaatType"] {
            let mut all = Vec::new();
            collect_rules(of_kind(kind).unwrap(), &mut all);
            assert!(all.len() > 4, "{all:?}");
            for (rule, schema) in all {
                let value = match schema["type"].as_str() {
                    Some("string") => json!("a"),
                    Some("array") => json!(["a"]),
                    _ => json!({}),
                };
                let result = holds(&rule, &value);
                assert!(result.is_ok(), "{kind}: {rule}: {result:?}");
            }
        }
        assert!(holds("self.matches(", &json!("a")).is_err());
        assert!(holds("self.matches('a')", &json!(5)).is_err());
        assert!(holds("self", &json!("a")).is_err());
    }

    #[test]
    fn holds_evaluates_rules_as_the_api_server_does() {
        for (rule, value, expected) in [
            (r"self.matches('^[a-z](\\.[a-z])*$')", json!("a.b"), true),
            (r"self.matches('^[a-z](\\.[a-z])*$')", json!("a-b"), false),
            // `$` matches only the end of the text.
            (r"self.matches('^[a-z](\\.[a-z])*$')", json!("a\n"), false),
            (
                "self != 'no' && self.matches('^[a-z]+$')",
                json!("no"),
                false,
            ),
            (
                "self != 'no' && self.matches('^[a-z]+$')",
                json!("yes"),
                true,
            ),
            ("has(self.a)", json!({"a": null}), true),
            ("has(self.a)", json!({"b": 1}), false),
            (
                "self.map(item, size(item)).sum() <= 3",
                json!(["ää", "ß"]),
                true,
            ),
            (
                "self.map(item, size(item)).sum() <= 3",
                json!(["ää", "ab"]),
                false,
            ),
            (
                r"self.all(item, !item.matches(r'[\x00-\x1f]'))",
                json!(["a\tb"]),
                false,
            ),
            (
                "self.all(key, key.matches('^a'))",
                json!({"a": 1, "b": 2}),
                false,
            ),
        ] {
            assert_eq!(holds(rule, &value), Ok(expected), "{rule} for {value}");
        }
    }
}
