//! Parses case files.

use crate::case::{Case, Check};
use crate::document;
use crate::expect::{ExpectedValidation, RawExpect};
use crate::field_path::{FieldPath, ReadError};
use crate::given::RawRequest;
use crate::yaml::{Entries, Name, Seeds, Settings};
use policy_host::ItemSettings;
use serde::Deserialize;

/// The default number of seeds of a case.
const DEFAULT_SEEDS: u64 = 5;

/// A file of test cases for a policy. At least one case is required.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "Cases"))]
#[serde(deny_unknown_fields, default)]
#[serde(expecting = "a mapping such as {cases: [{name: one item, expect: {run: photos}}]}")]
pub(crate) struct File {
    /// Fields of the request for all cases. A case can override each of them.
    given: Option<RawRequest>,
    /// Cases for the decision.
    cases: Option<Vec<SelectCase>>,
    /// Cases for the validation of settings.
    validate: Option<Vec<ValidateCase>>,
}

/// A request and the expected decision.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "Case"))]
#[serde(deny_unknown_fields)]
#[serde(expecting = "a mapping such as {name: one item, expect: {run: photos}}")]
struct SelectCase {
    /// A name that is unique in the list.
    name: Name,
    /// The request.
    given: Option<RawRequest>,
    /// The seeds to try. The default is 5.
    seeds: Option<Seeds>,
    /// The expected answer.
    expect: RawExpect,
}

/// Settings, and whether the policy accepts them.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ValidationCase"))]
#[serde(deny_unknown_fields)]
#[serde(expecting = "a mapping such as {name: no settings, expect: accepted}")]
struct ValidateCase {
    /// A name that is unique in the list.
    name: Name,
    /// The settings of the group. The default is `{}`.
    settings: Option<Settings>,
    /// The settings of items, by name.
    items: Option<Entries<Settings>>,
    /// The expected result.
    expect: ExpectedValidation,
}

/// Parses a file of cases. Returns those of `cases` first, then those of `validate`.
///
/// # Errors
/// Returns the position, the problem, and the fix. A file without cases is an error, because it
/// would pass and test nothing.
pub fn parse(yaml: &str) -> Result<Vec<Case>, ReadError> {
    let file: File = document::parse_yaml(yaml)?;
    let defaults = file.given.unwrap_or_default();
    let root = FieldPath::default();
    if defaults.seed.is_some() {
        return Err(seed_not_allowed(&root.child("given"), yaml));
    }
    let mut cases = Vec::new();
    let select_cases = file.cases.unwrap_or_default();
    check_unique(select_cases.iter().map(|case| &case.name), "cases", yaml)?;
    for (index, case) in select_cases.into_iter().enumerate() {
        let path = root.child("cases").child(index);
        cases.push(select(case, &defaults, path, yaml)?);
    }
    let validate_cases = file.validate.unwrap_or_default();
    let names = validate_cases.iter().map(|case| &case.name);
    check_unique(names, "validate", yaml)?;
    for (index, case) in validate_cases.into_iter().enumerate() {
        cases.push(validate(case, root.child("validate").child(index)));
    }
    if cases.is_empty() {
        return Err(ReadError {
            position: None,
            message: "the file has no cases; add at least one under `cases` or `validate`"
                .to_owned(),
        });
    }
    Ok(cases)
}

fn select(
    case: SelectCase,
    defaults: &RawRequest,
    path: FieldPath,
    yaml: &str,
) -> Result<Case, ReadError> {
    let own = case.given.unwrap_or_default();
    if own.seed.is_some() {
        return Err(seed_not_allowed(&path.child("given"), yaml));
    }
    let request = own
        .clone()
        .with_defaults(defaults)
        .request()
        .map_err(|error| {
            let default_path = FieldPath::default().child("given");
            let at = own.locate(error.steps, &path.child("given"), &default_path);
            at.error(yaml, &error.message)
        })?;
    let expect = case.expect.resolve(&request).map_err(|(steps, message)| {
        let mut at = path.child("expect");
        at.0.extend(steps);
        at.error(yaml, &message)
    })?;
    Ok(Case {
        name: case.name.0,
        path,
        check: Check::Select {
            request: Box::new(request),
            seeds: case.seeds.unwrap_or(Seeds::Count(DEFAULT_SEEDS)),
            expect: Box::new(expect),
        },
    })
}

fn validate(case: ValidateCase, path: FieldPath) -> Case {
    let items = case.items.unwrap_or(Entries(Vec::new())).0;
    let items = items
        .into_iter()
        .map(|(Name(name), Settings(settings))| ItemSettings { name, settings });
    Case {
        name: case.name.0,
        path,
        check: Check::Validate {
            settings: case
                .settings
                .map_or_else(|| "{}".to_owned(), |given| given.0),
            items: items.collect(),
            expect: case.expect,
        },
    }
}

fn seed_not_allowed(given: &FieldPath, yaml: &str) -> ReadError {
    let message = "`seed` is not allowed in a case; use `seeds: [7]` next to `given`";
    given.child("seed").error(yaml, message)
}

/// Checks that names are unique, because reports identify cases by their names.
fn check_unique<'a>(
    names: impl Iterator<Item = &'a Name>,
    list: &str,
    yaml: &str,
) -> Result<(), ReadError> {
    let mut seen = std::collections::HashSet::new();
    for (index, Name(name)) in names.enumerate() {
        if !seen.insert(name) {
            let path = FieldPath::default().child(list).child(index).child("name");
            let message = format!("{name:?} is the name of another case; use a unique name");
            return Err(path.error(yaml, &message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
