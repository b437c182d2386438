//! Expectations of cases: as written, and resolved against the request of the case.

use crate::document::NameError;
use crate::field_path::Step;
use crate::given::index_of;
use crate::yaml::{Entries, Name, Names, ScalarOrMap, Until, Wait};
use policy_host::{Instant, Request, Standing};
use serde::de::value::StrDeserializer;
use serde::{Deserialize, Deserializer};

/// The expected answer. Exactly one of `run`, `wait`, and `error` is required.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "Expect"))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[serde(expecting = "a mapping such as {run: photos}")]
pub(crate) struct RawExpect {
    /// The policy must choose this item, or one of these items.
    run: Option<Names>,
    /// The policy must wait.
    wait: Option<Wait>,
    /// The policy must return an error that contains this text.
    error: Option<String>,
    /// Each of these items must be chosen with at least one of the seeds. Requires `run`.
    every_one_of: Option<Names>,
    /// The note on the decision must contain this text.
    note: Option<String>,
    /// The new state must be this text. `null` requires an unchanged state.
    #[serde(default, deserialize_with = "null_or_text")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    state: Option<Option<String>>,
    /// The expected verdicts on items, by name. Other verdicts are not checked.
    verdicts: Option<Entries<RawVerdict>>,
    /// The fuel of the decision, which is the same on every machine.
    fuel: Option<ExpectedFuel>,
}

/// The fuel that a decision may use. It is about one unit for each instruction.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[serde(expecting = "a mapping such as {max: 20000}")]
struct ExpectedFuel {
    /// The maximum, with each of the seeds.
    max: u64,
}

/// Distinguishes `state: null` from an absent `state`.
fn null_or_text<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<String>>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

#[derive(Debug, Clone)]
pub(crate) struct RawVerdict(VerdictMap);

/// An expected verdict on an item.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "Verdict"))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct VerdictMap {
    /// The expected standing.
    standing: Option<RawStanding>,
    /// The expected end of the standing.
    until: Option<Until>,
    /// The note on the item must contain this text.
    note: Option<String>,
}

/// A standing.
#[derive(Debug, Clone, Copy, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "Standing", inline))]
#[serde(rename_all = "camelCase")]
pub(crate) enum RawStanding {
    Ready,
    Fresh,
    Cooling,
    Deferred,
}

impl From<VerdictMap> for RawVerdict {
    fn from(verdict: VerdictMap) -> Self {
        Self(verdict)
    }
}

impl<'de> ScalarOrMap<'de> for RawVerdict {
    const EXPECTING: &'static str =
        "ready, fresh, cooling, or deferred, or a mapping with standing, until, and note";
    type Map = VerdictMap;

    fn from_scalar(text: &str) -> Result<Self, String> {
        let deserializer = StrDeserializer::<NameError>::new(text);
        match RawStanding::deserialize(deserializer) {
            Ok(standing) => Ok(Self(VerdictMap {
                standing: Some(standing),
                until: None,
                note: None,
            })),
            Err(error) => Err(format!(
                "{text:?} is not a standing; use {}{}",
                Self::EXPECTING,
                error.similar()
            )),
        }
    }
}

impl<'de> Deserialize<'de> for RawVerdict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::deserialize_either(deserializer)
    }
}

/// The resolved expectation of a case of `cases`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Expect {
    pub answer: Answer,
    /// The indices of items that must each be chosen with at least one seed.
    pub every_one_of: Vec<usize>,
    pub note: Option<String>,
    pub state: Option<Option<String>>,
    pub verdicts: Vec<(usize, ExpectedVerdict)>,
    pub max_fuel: Option<u64>,
}

/// An expected answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answer {
    /// Run one of the items with these indices.
    Run(Vec<usize>),
    /// Wait. `None` for any wait, `Some(None)` for a wait without a time.
    Wait(Option<Option<Instant>>),
    /// An error whose message contains this text.
    Error(String),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ExpectedVerdict {
    pub standing: Option<Standing>,
    pub until: Option<Option<Instant>>,
    pub note: Option<String>,
}

/// A path relative to `expect`, and a message.
type ResolveError = (Vec<Step>, String);

impl RawExpect {
    /// Resolves names of items and relative times.
    pub fn resolve(self, request: &Request) -> Result<Expect, ResolveError> {
        let now = request.now;
        let indices = |field: &str, names: Names| {
            let index = |Name(name)| index_of(&request.items, &name);
            let indices: Result<Vec<_>, _> = names.0.into_iter().map(index).collect();
            indices.map_err(|message| (vec![field.into()], message))
        };
        let answer = match (self.run, self.wait, self.error) {
            (Some(names), None, None) => Answer::Run(indices("run", names)?),
            (None, Some(Wait(until)), None) => {
                Answer::Wait(until.map(|Until(when)| when.map(|when| when.at(now))))
            }
            (None, None, Some(part)) => Answer::Error(part),
            _ => {
                let message = "set exactly one of `run`, `wait`, and `error`".to_owned();
                return Err((vec![], message));
            }
        };
        let verdicts = self.verdicts.unwrap_or(Entries(Vec::new()));
        let forbid = |field: &str, is_set: bool, why: &str| {
            if is_set {
                Err((vec![field.into()], format!("{why}; remove this field")))
            } else {
                Ok(())
            }
        };
        if let Answer::Error(_) = answer {
            for (field, is_set) in [
                ("note", self.note.is_some()),
                ("state", self.state.is_some()),
                ("verdicts", !verdicts.0.is_empty()),
            ] {
                forbid(field, is_set, "an error has no note, state, or verdicts")?;
            }
        }
        if !matches!(answer, Answer::Run(_)) {
            let is_set = self.every_one_of.is_some();
            forbid("everyOneOf", is_set, "`everyOneOf` requires `run`")?;
        }
        let every_one_of = match self.every_one_of {
            Some(names) => indices("everyOneOf", names)?,
            None => Vec::new(),
        };
        let verdicts = verdicts
            .0
            .into_iter()
            .map(|(Name(name), RawVerdict(verdict))| {
                let index = index_of(&request.items, &name)
                    .map_err(|message| (vec!["verdicts".into(), name.as_str().into()], message))?;
                let verdict = ExpectedVerdict {
                    standing: verdict.standing.map(Standing::from),
                    until: verdict
                        .until
                        .map(|Until(when)| when.map(|when| when.at(now))),
                    note: verdict.note,
                };
                Ok((index, verdict))
            });
        Ok(Expect {
            answer,
            every_one_of,
            note: self.note,
            state: self.state,
            verdicts: verdicts.collect::<Result<_, ResolveError>>()?,
            max_fuel: self.fuel.map(|fuel| fuel.max),
        })
    }
}

impl From<RawStanding> for Standing {
    fn from(standing: RawStanding) -> Self {
        match standing {
            RawStanding::Ready => Self::Ready,
            RawStanding::Fresh => Self::Fresh,
            RawStanding::Cooling => Self::Cooling,
            RawStanding::Deferred => Self::Deferred,
        }
    }
}

/// The value of `expect` in a case of `validate`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ExpectedValidation {
    Accepted,
    /// Rejected with a message that contains this text.
    Rejected(String),
}

/// Settings that the policy rejects.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "Rejected"))]
#[serde(deny_unknown_fields)]
pub(crate) struct RejectedMap {
    /// The message of the policy must contain this text.
    rejected: String,
}

impl From<RejectedMap> for ExpectedValidation {
    fn from(map: RejectedMap) -> Self {
        Self::Rejected(map.rejected)
    }
}

impl ScalarOrMap<'_> for ExpectedValidation {
    const EXPECTING: &'static str = "accepted, or a mapping {rejected: part of the message}";
    type Map = RejectedMap;

    fn from_scalar(text: &str) -> Result<Self, String> {
        match text {
            "accepted" => Ok(Self::Accepted),
            _ => Err(format!(
                "{text:?} is not an expectation; use {}",
                Self::EXPECTING
            )),
        }
    }
}

impl<'de> Deserialize<'de> for ExpectedValidation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::deserialize_either(deserializer)
    }
}
