//! Which policy each group has adopted: the last that passed every check, with the settings
//! that it accepted. It decides until the next one has passed them too.

use super::{PolicyRead, Problem, Source};
use crate::api::{OaatGroup, PolicyInUse, PolicySpec};
use crate::decide::Ruling;
use policy_host::{EvalError, ItemSettings, Policy};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// A policy with settings that it accepted.
#[derive(Clone)]
struct Good {
    source: Source,
    policy: Policy,
    settings: Settings,
}

#[derive(Clone, PartialEq)]
struct Settings {
    group: String,
    items: Vec<(String, String)>,
}

/// What is remembered of a group.
#[derive(Clone, Default)]
struct Memory {
    good: Option<Good>,
    /// The last that was refused for its settings: digest, settings, and the words.
    refused: Option<(String, Settings, Problem)>,
}

/// The policies that groups have adopted, by the groups' uids.
#[derive(Default)]
pub struct Adopted(Mutex<HashMap<String, Memory>>);

impl Adopted {
    fn memory(&self) -> std::sync::MutexGuard<'_, HashMap<String, Memory>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets a group that is gone.
    pub fn forget(&self, uid: &str) {
        self.memory().remove(uid);
    }

    /// Who decides for a group; `read` is what is known of the policy that it names.
    pub async fn rule(
        &self,
        group: &OaatGroup,
        read: Option<PolicyRead>,
        default: &Policy,
    ) -> (Ruling, Option<Policy>) {
        let uid = group.metadata.uid.as_deref().unwrap_or_default();
        let (Some(spec), Some(source), Some(read)) = (&group.spec.policy, Source::of(group), read)
        else {
            self.forget(uid);
            return (Ruling::by_default(default, None), Some(default.clone()));
        };
        let settings = settings(group, spec);
        let known = self.memory().get(uid).cloned().unwrap_or_default();
        let fits = |policy: &Policy| match &spec.sha256 {
            Some(pin) => policy.is(pin).map_err(|error| Problem::from(&error)),
            None => Ok(()),
        };
        let mut memory = known.clone();
        let problem = match read {
            PolicyRead::Loading(since) if known.good.is_none() => {
                return (Ruling::loading(since, spec.on_error), None);
            }
            PolicyRead::Loading(_) => None,
            PolicyRead::Failed(problem) => Some(problem),
            PolicyRead::Loaded(policy) => match fits(&policy) {
                Err(problem) => Some(problem),
                Ok(()) => {
                    let judged = accepts(&known, &policy, &settings).await;
                    if let Err(problem) = &judged {
                        let digest = policy.digest().to_owned();
                        memory.refused = Some((digest, settings.clone(), problem.clone()));
                    } else {
                        let good = Good {
                            source: source.clone(),
                            policy,
                            settings,
                        };
                        memory = Memory {
                            good: Some(good),
                            refused: None,
                        };
                    }
                    judged.err()
                }
            },
        };
        let good = memory.good.clone();
        self.memory().insert(uid.to_owned(), memory);
        match good.filter(|good| fits(&good.policy).is_ok()) {
            Some(good) => {
                let ruling = Ruling {
                    settings: good.settings.group,
                    items: good.settings.items.into_iter().collect(),
                    ..Ruling::by(in_use(&good.source, &good.policy), problem, spec.on_error)
                };
                (ruling, Some(good.policy))
            }
            None => {
                let problem = problem.unwrap_or_else(|| Problem {
                    reason: "DigestMismatch",
                    message: format!(
                        "the policy that {source} had is not the one that sha256 names"
                    ),
                });
                (Ruling::by_nobody(problem, spec.on_error), None)
            }
        }
    }
}

fn in_use(source: &Source, policy: &Policy) -> PolicyInUse {
    PolicyInUse {
        source: source.to_string(),
        digest: policy.digest().into(),
        contract: policy.contract().into(),
        instead_of: None,
    }
}

/// The settings that a group gives its policy.
fn settings(group: &OaatGroup, spec: &PolicySpec) -> Settings {
    let text = |object: &serde_json::Map<_, _>| serde_json::to_string(object).unwrap_or_default();
    let listed = group.spec.oaat_items.iter();
    Settings {
        group: spec.settings.as_ref().map_or_else(|| "{}".into(), text),
        items: listed
            .filter_map(|name| {
                let settings = group.spec.item_options.get(name)?.settings.as_ref()?;
                Some((name.clone(), text(settings)))
            })
            .collect(),
    }
}

/// Whether a policy accepts settings: asked when either has changed.
async fn accepts(known: &Memory, policy: &Policy, settings: &Settings) -> Result<(), Problem> {
    if let Some(good) = &known.good
        && good.policy.digest() == policy.digest()
        && good.settings == *settings
    {
        return Ok(());
    }
    if let Some((digest, refused, problem)) = &known.refused
        && digest == policy.digest()
        && refused == settings
    {
        return Err(problem.clone());
    }
    let (policy, settings) = (policy.clone(), settings.clone());
    let asked = tokio::task::spawn_blocking(move || {
        let items: Vec<ItemSettings> = settings
            .items
            .into_iter()
            .map(|(name, settings)| ItemSettings { name, settings })
            .collect();
        policy.validate(&settings.group, &items).answer
    });
    let answer = asked
        .await
        .unwrap_or_else(|error| Err(EvalError::Trapped(error.to_string())));
    answer.map_err(|error| Problem::settings(&error))
}
