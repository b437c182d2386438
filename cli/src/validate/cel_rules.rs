//! Rust versions of the validation rules (CEL) in the CRDs. A test checks that none is missing.

use regex::Regex;
use serde_json::Value;

/// Evaluates a rule for a value. Returns `None` if the rule is unknown.
pub(crate) fn holds(rule: &str, value: &Value) -> Option<bool> {
    let has = |field: &str| value.get(field).is_some();
    Some(match rule {
        "has(self.podspec)" => has("podspec"),
        "self == 'pod'" => value == "pod",
        "has(self.container) || (has(self.containers) && size(self.containers) > 0)" => {
            let not_empty = |list: &Value| list.as_array().is_none_or(|list| !list.is_empty());
            has("container") || value.get("containers").is_some_and(not_empty)
        }
        "!(has(self.container) && has(self.containers))" => {
            !(has("container") && has("containers"))
        }
        "!has(self.restartPolicy) || self.restartPolicy == 'Never'" => value
            .get("restartPolicy")
            .is_none_or(|policy| policy == "Never"),
        "(has(self.configMap) ? 1 : 0) + (has(self.container) ? 1 : 0) + (has(self.http) ? 1 : 0) == 1" =>
        {
            let kinds = ["configMap", "container", "http"];
            kinds.into_iter().filter(|kind| has(kind)).count() == 1
        }
        "self.map(item, size(item)).sum() <= 120000" => {
            strings(value)
                .map(|text| text.chars().count())
                .sum::<usize>()
                <= 120_000
        }
        r"self.all(item, !item.matches(r'[\x00-\x1f\x7f]'))" => {
            !strings(value).any(|text| text.chars().any(|c| c.is_ascii_control()))
        }
        _ => match rule.strip_prefix("self.all(key, key.matches('") {
            Some(pattern) => {
                let pattern = parse_pattern(pattern.strip_suffix("'))")?)?;
                let mut keys = value.as_object()?.keys();
                keys.all(|key| pattern.is_match(key))
            }
            None => all_hold(rule, value.as_str().unwrap_or_default())?,
        },
    })
}

fn strings(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

/// Evaluates a conjunction of `self.matches('…')` and `self != '…'`.
fn all_hold(rule: &str, text: &str) -> Option<bool> {
    let mut all = true;
    for part in rule.split(" && ") {
        let matches = part.strip_prefix("self.matches('");
        all &= match (matches, part.strip_prefix("self != '")) {
            (Some(pattern), _) => parse_pattern(pattern.strip_suffix("')")?)?.is_match(text),
            (None, Some(other)) => text != other.strip_suffix('\'')?,
            (None, None) => return None,
        };
    }
    Some(all)
}

/// Parses a pattern from a rule, in which each backslash is doubled.
fn parse_pattern(written: &str) -> Option<Regex> {
    Regex::new(&written.replace("\\\\", "\\")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate::schema::of_kind;
    use serde_json::json;

    fn collect_rules(schema: &Value, found: &mut Vec<String>) {
        let own = schema["x-kubernetes-validations"].as_array();
        found.extend(own.into_iter().flatten().map(|rule| {
            assert!(rule["message"].is_string(), "{rule} has no message");
            rule["rule"].as_str().unwrap_or_default().to_owned()
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
    fn holds_knows_every_rule_of_the_crds() {
        for kind in ["OaatGroup", "OaatType"] {
            let mut all = Vec::new();
            collect_rules(of_kind(kind).unwrap(), &mut all);
            assert!(all.len() > 4, "{all:?}");
            for rule in all {
                assert!(
                    holds(&rule, &json!({})).is_some(),
                    "{kind}: cel_rules.rs lacks the rule {rule}"
                );
            }
        }
        assert_eq!(holds("self.startsWith('a')", &json!("a")), None);
    }

    #[test]
    fn holds_evaluates_patterns_as_the_api_server_does() {
        let name = r"self.matches('^[a-z](\\.[a-z])*$')";
        assert_eq!(holds(name, &json!("a.b")), Some(true));
        assert_eq!(holds(name, &json!("a-b")), Some(false));
        assert_eq!(
            holds(name, &json!("a\n")),
            Some(false),
            "$ matches only the end of the text"
        );
        let both = "self != 'no' && self.matches('^[a-z]+$')";
        assert_eq!(holds(both, &json!("no")), Some(false));
        assert_eq!(holds(both, &json!("yes")), Some(true));
    }
}
