//! The file of cases.

use crate::case::{Case, Check};
use crate::expect::{GivenExpect, Judgement};
use crate::given::Given;
use crate::place::{Place, ReadError};
use crate::yaml::{Entries, Name, Seeds, Settings};
use policy_host::ItemSettings;
use serde::Deserialize;

/// Seeds of a case that names none.
const SEEDS: u64 = 5;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    given: Option<Given>,
    cases: Option<Vec<SelectCase>>,
    validate: Option<Vec<ValidateCase>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SelectCase {
    name: Name,
    given: Option<Given>,
    seeds: Option<Seeds>,
    expect: GivenExpect,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ValidateCase {
    name: Name,
    settings: Option<Settings>,
    items: Option<Entries<Settings>>,
    expect: Judgement,
}

/// Reads a file of cases: those of `select` in the order of the file, then those of
/// `validate`.
///
/// # Errors
/// Where the file is wrong, and what would be right. A file without a case is none: it
/// would be green and test nothing.
pub fn parse(yaml: &str) -> Result<Vec<Case>, ReadError> {
    // An empty document is null to the reader, and a file of no cases to people.
    let file: Option<File> =
        serde_norway::from_str(yaml).map_err(|error| ReadError::of_yaml(&error))?;
    let file = file.unwrap_or_default();
    let below = file.given.unwrap_or_default();
    let top = Place::default();
    if below.seed.is_some() {
        return Err(no_seed(&top.of("given"), yaml));
    }
    let mut cases = Vec::new();
    let given = file.cases.unwrap_or_default();
    unique(given.iter().map(|case| &case.name), "cases", yaml)?;
    for (index, case) in given.into_iter().enumerate() {
        cases.push(select(case, &below, top.of("cases").of(index), yaml)?);
    }
    let given = file.validate.unwrap_or_default();
    unique(given.iter().map(|case| &case.name), "validate", yaml)?;
    for (index, case) in given.into_iter().enumerate() {
        cases.push(validate(case, top.of("validate").of(index)));
    }
    if cases.is_empty() {
        return Err(ReadError {
            position: None,
            message: "there is no case in it; write at least one under `cases` or `validate`"
                .to_owned(),
        });
    }
    Ok(cases)
}

fn select(case: SelectCase, below: &Given, place: Place, yaml: &str) -> Result<Case, ReadError> {
    let own = case.given.unwrap_or_default();
    if own.seed.is_some() {
        return Err(no_seed(&place.of("given"), yaml));
    }
    let request = own.clone().over(below).request().map_err(|problem| {
        let below = Place::default().of("given");
        let at = own.place(problem.steps, &place.of("given"), &below);
        at.error(yaml, &problem.message)
    })?;
    let expect = case.expect.resolve(&request).map_err(|(steps, message)| {
        let mut at = place.of("expect");
        at.0.extend(steps);
        at.error(yaml, &message)
    })?;
    Ok(Case {
        name: case.name.0,
        place,
        check: Check::Select {
            request: Box::new(request),
            seeds: case.seeds.unwrap_or(Seeds::Count(SEEDS)),
            expect: Box::new(expect),
        },
    })
}

fn validate(case: ValidateCase, place: Place) -> Case {
    let items = case.items.unwrap_or(Entries(Vec::new())).0;
    let items = items
        .into_iter()
        .map(|(Name(name), Settings(settings))| ItemSettings { name, settings });
    Case {
        name: case.name.0,
        place,
        check: Check::Validate {
            settings: case
                .settings
                .map_or_else(|| "{}".to_owned(), |given| given.0),
            items: items.collect(),
            expect: case.expect,
        },
    }
}

fn no_seed(given: &Place, yaml: &str) -> ReadError {
    let message = "a case is tried with several seeds; write `seeds: [7]` beside `given`";
    given.of("seed").error(yaml, message)
}

/// Names tell cases apart in reports.
fn unique<'a>(
    names: impl Iterator<Item = &'a Name>,
    list: &str,
    yaml: &str,
) -> Result<(), ReadError> {
    let mut seen = std::collections::HashSet::new();
    for (index, Name(name)) in names.enumerate() {
        if !seen.insert(name) {
            let place = Place::default().of(list).of(index).of("name");
            let message = format!("another case is named {name:?} too; give each its own name");
            return Err(place.error(yaml, &message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
