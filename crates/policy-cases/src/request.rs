//! The file of a single request.

use crate::given::Given;
use crate::place::{Place, ReadError};
use policy_host::Request;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Reads the request of one decision. It may be written as under `given` of a case, with
/// `seed` beside the rest; or be the contract's own record as JSON; or be a JSON object
/// whose field `request` holds that, as the record of a decision does.
///
/// # Errors
/// Where the text is wrong, and what would be right.
pub fn request(text: &str) -> Result<Request, ReadError> {
    if let Ok(serde_json::Value::Object(object)) = serde_json::from_str(text) {
        if object.contains_key("request") {
            return json::<Recorded>(text).and_then(|recorded| sound(recorded.request, "request."));
        }
        // What people write has no such field, and writes times as text.
        if object.contains_key("extra") || object.get("now").is_some_and(|now| now.is_number()) {
            return json(text).and_then(|request| sound(request, ""));
        }
    }
    let given: Option<Given> =
        serde_norway::from_str(text).map_err(|error| ReadError::of_yaml(&error))?;
    given.unwrap_or_default().request().map_err(|problem| {
        let place = Place(problem.steps);
        place.error(text, &problem.message)
    })
}

#[derive(Deserialize)]
struct Recorded {
    request: Request,
}

fn json<T: DeserializeOwned>(text: &str) -> Result<T, ReadError> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let at = error.inner();
        let position = (at.line(), at.column());
        let said = at.to_string();
        let said = said
            .strip_suffix(&format!(" at line {} column {}", position.0, position.1))
            .unwrap_or(&said);
        ReadError {
            position: (position.0 > 0).then_some(position),
            message: format!("{}: {said}", error.path()),
        }
    })
}

/// What the types of a raw request do not say.
fn sound(request: Request, prefix: &str) -> Result<Request, ReadError> {
    let items = request.items.len();
    let wrong = |message: String| {
        Err(ReadError {
            position: None,
            message: format!("{prefix}{message}"),
        })
    };
    if items == 0 {
        return wrong("items: the list is empty; a request has at least one item".to_owned());
    }
    let beyond = |run: &policy_host::Run| run.item as usize >= items;
    match request.recent.iter().position(beyond) {
        Some(index) => wrong(format!(
            "recent[{index}].item: {} is no index of an item; there are {items} items, 0 to {}",
            request.recent[index].item,
            items - 1
        )),
        None => Ok(request),
    }
}

#[cfg(test)]
mod tests;
