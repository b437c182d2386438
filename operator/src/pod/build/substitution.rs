//! Inserts an item and its variables into a pod.

use oaat_api::Variable;
use serde_json::{Map, Value, json};

/// The maximum bytes that an item and its variables may add to a pod. etcd rejects objects of 1.5
/// MiB.
const MAX_ADDED: usize = 1 << 20;
/// The texts that are replaced with the name of the item.
const PLACEHOLDERS: [&str; 2] = ["{{oaat_item}}", "%%oaat_item%%"];
/// The variable with the item, which every container gets.
pub(super) const ITEM_VARIABLE: &str = "OAAT_ITEM";

/// Inserts an item into a pod. The methods return `None` if that exceeds [`MAX_ADDED`].
pub(super) struct Substitution<'a> {
    item: &'a str,
    /// The item for fields in which Kubernetes expands `$(NAME)`, and replaces `$$` with `$`.
    escaped: String,
    /// How many more bytes may be added to the pod.
    budget: usize,
}

impl<'a> Substitution<'a> {
    pub(super) fn new(item: &'a str) -> Self {
        Self {
            item,
            escaped: item.replace('$', "$$"),
            budget: MAX_ADDED,
        }
    }

    /// Replaces the placeholders in all values of an object of the pod spec, at any depth. `path`
    /// is the path of the object, without the indexes of lists.
    pub(super) fn replace_in_object<'v>(
        &mut self,
        object: &'v mut Map<String, Value>,
        path: &mut Vec<&'v str>,
    ) -> Option<()> {
        for (key, value) in object {
            path.push(key);
            self.replace_in(value, path)?;
            path.pop();
        }
        Some(())
    }

    fn replace_in<'v>(&mut self, value: &'v mut Value, path: &mut Vec<&'v str>) -> Option<()> {
        match value {
            Value::String(text) => self.replace(text, is_expanded(path)),
            Value::Array(list) => list
                .iter_mut()
                .try_for_each(|element| self.replace_in(element, path)),
            Value::Object(object) => self.replace_in_object(object, path),
            _ => Some(()),
        }
    }

    /// Replaces the placeholders in a text. `expanded` is whether Kubernetes expands `$(NAME)` in
    /// it.
    pub(super) fn replace(&mut self, text: &mut String, expanded: bool) -> Option<()> {
        if !PLACEHOLDERS
            .iter()
            .any(|placeholder| text.contains(placeholder))
        {
            return Some(());
        }
        let item = if expanded {
            self.escaped.as_str()
        } else {
            self.item
        };
        let mut out = String::new();
        let mut rest = text.as_str();
        // In one pass: an item that looks like a placeholder is not replaced again.
        while let Some(at) = rest.find(['{', '%']) {
            let (before, candidate) = rest.split_at(at);
            out.push_str(before);
            let after = PLACEHOLDERS
                .iter()
                .find_map(|placeholder| candidate.strip_prefix(placeholder));
            rest = if let Some(after) = after {
                self.budget = self.budget.checked_sub(item.len())?;
                out.push_str(item);
                after
            } else {
                out.push_str(&candidate[..1]);
                &candidate[1..]
            };
        }
        out.push_str(rest);
        *text = out;
        Some(())
    }

    /// Sets an item's own variables and OAAT_ITEM in a container. A variable takes the place of one
    /// with the same name, so that others can still refer to it.
    pub(super) fn set_variables(
        &mut self,
        container: &mut Value,
        variables: &[Variable],
    ) -> Option<()> {
        let Some(container) = container.as_object_mut() else {
            return Some(());
        };
        let env = container.entry("env").or_insert_with(|| json!([]));
        let Value::Array(env) = env else {
            return Some(());
        };
        for variable in variables {
            let added = variable.name.len() + variable.value.len();
            self.budget = self.budget.checked_sub(added)?;
            let mut new = variable.clone();
            self.replace(&mut new.value, true)?;
            let new = json!(new);
            match env.iter_mut().find(|old| old["name"] == variable.name) {
                Some(old) => *old = new,
                None => env.push(new),
            }
        }
        env.retain(|variable| variable["name"] != ITEM_VARIABLE);
        // First, so that the user's variables may refer to it.
        let item = json!({ "name": ITEM_VARIABLE, "value": self.escaped });
        env.insert(0, item);
        Some(())
    }
}

/// Returns whether Kubernetes expands `$(NAME)` in a field of a pod spec.
fn is_expanded(path: &[&str]) -> bool {
    let ["containers" | "initContainers", field @ ..] = path else {
        return false;
    };
    matches!(
        field,
        ["command" | "args"]
            | ["env", "value"]
            | ["volumeMounts", "subPathExpr"]
            | [
                "livenessProbe" | "readinessProbe" | "startupProbe",
                "exec",
                "command"
            ]
    )
}
