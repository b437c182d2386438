//! What a case expects, as written and as indices and times of its request.

use crate::given::index_of;
use crate::place::Step;
use crate::yaml::{Entries, Name, Names, Short, Until, Wait};
use policy_host::{Instant, Request, Standing};
use serde::{Deserialize, Deserializer};

/// What a person writes under `expect`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct GivenExpect {
    run: Option<Names>,
    wait: Option<Wait>,
    error: Option<String>,
    every_one_of: Option<Names>,
    note: Option<String>,
    #[serde(default, deserialize_with = "null_or_text")]
    state: Option<Option<String>>,
    verdicts: Option<Entries<GivenVerdict>>,
}

/// Tells `state: null` from no `state` at all.
fn null_or_text<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<String>>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

#[derive(Debug, Clone)]
struct GivenVerdict(LongVerdict);

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct LongVerdict {
    standing: Option<GivenStanding>,
    until: Option<Until>,
    note: Option<String>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
enum GivenStanding {
    Ready,
    Fresh,
    Cooling,
    Deferred,
}

impl From<LongVerdict> for GivenVerdict {
    fn from(verdict: LongVerdict) -> Self {
        Self(verdict)
    }
}

impl<'de> Short<'de> for GivenVerdict {
    const EXPECTING: &'static str =
        "ready, fresh, cooling or deferred, or a mapping with standing, until, note";
    type Long = LongVerdict;

    fn short(text: &str) -> Result<Self, String> {
        let deserializer = serde::de::value::StrDeserializer::<serde::de::value::Error>::new(text);
        match GivenStanding::deserialize(deserializer) {
            Ok(standing) => Ok(Self(LongVerdict {
                standing: Some(standing),
                until: None,
                note: None,
            })),
            Err(_) => Err(format!(
                "{text:?} is no standing; write {}",
                Self::EXPECTING
            )),
        }
    }
}

impl<'de> Deserialize<'de> for GivenVerdict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::either(deserializer)
    }
}

/// What a case expects of every answer, and of all of them together.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Expect {
    pub answer: Answer,
    /// Indices of items each of which is chosen at least once.
    pub every_one_of: Vec<usize>,
    pub note: Option<String>,
    pub state: Option<Option<String>>,
    pub verdicts: Vec<(usize, ExpectVerdict)>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answer {
    /// One of these items.
    Run(Vec<usize>),
    /// To wait; until when, if that matters.
    Wait(Option<Option<Instant>>),
    /// A refusal whose words contain these.
    Error(String),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ExpectVerdict {
    pub standing: Option<Standing>,
    pub until: Option<Option<Instant>>,
    pub note: Option<String>,
}

/// A place below `expect`, and what is wrong there.
type Problem = (Vec<Step>, String);

impl GivenExpect {
    /// The same in terms of the case's request.
    pub fn resolve(self, request: &Request) -> Result<Expect, Problem> {
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
            (None, None, Some(words)) => Answer::Error(words),
            _ => {
                let message = "write exactly one of `run`, `wait` and `error`".to_owned();
                return Err((vec![], message));
            }
        };
        let verdicts = self.verdicts.unwrap_or(Entries(Vec::new()));
        let without = |field: &str, given: bool, what: &str| match given {
            true => Err((vec![field.into()], format!("leave this out: {what}"))),
            false => Ok(()),
        };
        if let Answer::Error(_) = answer {
            for (field, given) in [
                ("note", self.note.is_some()),
                ("state", self.state.is_some()),
                ("verdicts", !verdicts.0.is_empty()),
            ] {
                without(field, given, "an answer that is an error has nothing else")?;
            }
        }
        if !matches!(answer, Answer::Run(_)) {
            let given = self.every_one_of.is_some();
            without(
                "everyOneOf",
                given,
                "nothing is chosen unless `run` is expected",
            )?;
        }
        let every_one_of = match self.every_one_of {
            Some(names) => indices("everyOneOf", names)?,
            None => Vec::new(),
        };
        let verdicts = verdicts
            .0
            .into_iter()
            .map(|(Name(name), GivenVerdict(verdict))| {
                let index = index_of(&request.items, &name)
                    .map_err(|message| (vec!["verdicts".into(), name.as_str().into()], message))?;
                let verdict = ExpectVerdict {
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
            verdicts: verdicts.collect::<Result<_, Problem>>()?,
        })
    }
}

impl From<GivenStanding> for Standing {
    fn from(standing: GivenStanding) -> Self {
        match standing {
            GivenStanding::Ready => Self::Ready,
            GivenStanding::Fresh => Self::Fresh,
            GivenStanding::Cooling => Self::Cooling,
            GivenStanding::Deferred => Self::Deferred,
        }
    }
}

/// What a case of `validate` expects.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Judgement {
    Accepted,
    /// With words that contain these.
    Refused(String),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Refused {
    refused: String,
}

impl From<Refused> for Judgement {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused.refused)
    }
}

impl Short<'_> for Judgement {
    const EXPECTING: &'static str = "accepted, or a mapping {refused: part of the words}";
    type Long = Refused;

    fn short(text: &str) -> Result<Self, String> {
        match text {
            "accepted" => Ok(Self::Accepted),
            _ => Err(format!(
                "{text:?} is no judgement; write {}",
                Self::EXPECTING
            )),
        }
    }
}

impl<'de> Deserialize<'de> for Judgement {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::either(deserializer)
    }
}
