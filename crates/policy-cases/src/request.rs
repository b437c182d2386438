//! Parses files with a single request.

use crate::document;
use crate::field_path::{FieldPath, ReadError};
use crate::given::RawRequest;
use policy_host::Request;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Parses a request in one of these forms:
///
/// - YAML or JSON in the form of `given` in a case, optionally with `seed`
/// - the `request` record of the contract as JSON
/// - a JSON object with that record in the field `request`, such as a recorded decision
///
/// # Errors
/// Returns the position, the problem, and the fix.
pub fn request(text: &str) -> Result<Request, ReadError> {
    if let Ok(serde_json::Value::Object(object)) = serde_json::from_str(text) {
        if object.contains_key("request") {
            return parse_json::<Recorded>(text)
                .and_then(|recorded| check(recorded.request, "request."));
        }
        // The hand-written form has no `extra`, and its times are strings.
        if object.contains_key("extra") || object.get("now").is_some_and(|now| now.is_number()) {
            return parse_json(text).and_then(|request| check(request, ""));
        }
    }
    let given: RawRequest = document::parse_yaml(text)?;
    given.request().map_err(|error| {
        let path = FieldPath(error.steps);
        path.error(text, &error.message)
    })
}

#[derive(Deserialize)]
struct Recorded {
    request: Request,
}

fn parse_json<T: DeserializeOwned>(text: &str) -> Result<T, ReadError> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let at = error.inner();
        let position = (at.line(), at.column());
        let message = at.to_string();
        let message = message
            .strip_suffix(&format!(" at line {} column {}", position.0, position.1))
            .unwrap_or(&message);
        ReadError {
            position: (position.0 > 0).then_some(position),
            message: format!("{}: {message}", error.path()),
        }
    })
}

/// Checks what the types of the request do not guarantee.
fn check(request: Request, prefix: &str) -> Result<Request, ReadError> {
    let items = request.items.len();
    let error = |message: String| {
        Err(ReadError {
            position: None,
            message: format!("{prefix}{message}"),
        })
    };
    if items == 0 {
        return error("items: the list is empty; add at least one item".to_owned());
    }
    let out_of_range = |run: &policy_host::Run| run.item as usize >= items;
    match request.recent.iter().position(out_of_range) {
        Some(index) => error(format!(
            "recent[{index}].item: {} is not the index of an item; use 0 to {}",
            request.recent[index].item,
            items - 1
        )),
        None => Ok(request),
    }
}

#[cfg(test)]
mod tests;
