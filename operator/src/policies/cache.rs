//! The policy that each group uses: the last one that passed every check, with the settings that it
//! accepted. It stays in use until the next one has passed the checks.

use crate::policy_limiter::PolicyLimiter;
use crate::policy_selection::PolicySelection;
use crate::policy_source::PolicyProblem;
use crate::policy_source::PolicyRead;
use crate::policy_source::{LastGoodPolicy, PolicySource};
use kube::runtime::reflector::ObjectRef;
use oaat_api::reasons::policy_ready::{LOADING, SETTINGS_REJECTED};
use oaat_api::{OaatGroup, PolicyInUse, PolicySpec};
use policy_host::{EvalError, ItemSettings, Policy, WeakPolicy};
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

/// A policy with settings that it accepted.
#[derive(Clone)]
struct Accepted {
    /// The source, as in `status.policy.source`.
    source: String,
    /// Whether it was restored from a copy that the operator keeps.
    restored: bool,
    policy: WeakPolicy,
    settings: Settings,
}

#[derive(Clone, PartialEq)]
struct Settings {
    group: String,
    items: Vec<(String, String)>,
}

/// The policy state of a group.
#[derive(Clone, Default)]
struct GroupState {
    accepted: Option<Accepted>,
    /// The last rejected settings.
    rejected: Option<RejectedSettings>,
}

/// Settings that a policy rejected.
#[derive(Clone)]
struct RejectedSettings {
    digest: String,
    settings: Settings,
    problem: PolicyProblem,
}

impl GroupState {
    /// Returns whether the policy accepts these settings; `None` if they were not checked yet.
    fn checked(&self, policy: &Policy, settings: &Settings) -> Option<Result<(), PolicyProblem>> {
        let same = |digest: &str, known: &Settings| digest == policy.digest() && known == settings;
        if let Some(accepted) = &self.accepted
            && same(accepted.policy.digest(), &accepted.settings)
        {
            return Some(Ok(()));
        }
        let rejected = self.rejected.as_ref();
        let rejected = rejected.filter(|rejected| same(&rejected.digest, &rejected.settings));
        rejected.map(|rejected| Err(rejected.problem.clone()))
    }

    /// Records whether the policy accepts these settings. Returns the problem if it does not.
    fn record_settings_check(
        &mut self,
        policy: &Policy,
        source: String,
        settings: &Settings,
        checked: Result<(), PolicyProblem>,
    ) -> Option<PolicyProblem> {
        self.rejected = None;
        let Err(problem) = checked else {
            self.accepted = Some(Accepted {
                source,
                restored: false,
                policy: policy.downgrade(),
                settings: settings.clone(),
            });
            return None;
        };
        // A missed deadline does not mean that the policy rejects the settings, so they are checked
        // again.
        if !problem.transient {
            self.rejected = Some(RejectedSettings {
                digest: policy.digest().into(),
                settings: settings.clone(),
                problem: problem.clone(),
            });
        }
        Some(problem)
    }

    /// Records that the last good policy accepts these settings.
    fn restore(&mut self, last: LastGoodPolicy, policy: &Policy, settings: &Settings) {
        self.accepted = Some(Accepted {
            restored: matches!(last.source, PolicySource::Kept(_)),
            source: last.name,
            policy: policy.downgrade(),
            settings: settings.clone(),
        });
    }

    /// Returns the accepted policy, unless it was evicted from memory.
    fn in_use(&self) -> Option<(&Accepted, Policy)> {
        let accepted = self.accepted.as_ref()?;
        Some((accepted, accepted.policy.upgrade()?))
    }
}

/// The policies that groups use, by the groups' uids.
#[derive(Default)]
pub struct PolicyCache {
    groups: Mutex<HashMap<String, GroupState>>,
}

impl PolicyCache {
    fn groups(&self) -> std::sync::MutexGuard<'_, HashMap<String, GroupState>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self, group: &OaatGroup) -> GroupState {
        let uid = group.metadata.uid.as_deref().unwrap_or_default();
        self.groups().get(uid).cloned().unwrap_or_default()
    }

    /// Returns whether there is state for a group.
    #[cfg(test)]
    pub(crate) fn knows(&self, uid: &str) -> bool {
        self.groups().contains_key(uid)
    }

    /// Removes the groups whose uids are not in `existing`.
    pub fn retain(&self, existing: &HashSet<String>) {
        self.groups().retain(|uid, _| existing.contains(uid));
    }

    /// Removes a group that was deleted.
    pub fn remove_group(&self, uid: &str) {
        self.groups().remove(uid);
    }

    /// Returns whether the policy of a group can be selected without checking settings.
    pub fn settings_are_checked(
        &self,
        group: &OaatGroup,
        listed: &[String],
        read: Option<&PolicyRead>,
    ) -> bool {
        let (Some(spec), Some(PolicyRead::Loaded(policy))) = (&group.spec.policy, read) else {
            return true;
        };
        let settings = settings(group, listed, spec);
        self.state(group).checked(policy, &settings).is_some()
    }

    /// Returns the policy that decides for a group. `read` is the state of the policy that the group
    /// refers to. `last_good` reads the last good policy if none is in memory, for example after a
    /// restart. Returns `None` if the settings must be checked first and no permit is available yet.
    pub async fn select(
        &self,
        group: &OaatGroup,
        listed: &[String],
        read: Option<PolicyRead>,
        default: &Policy,
        limiter: &PolicyLimiter,
        last_good: impl FnOnce() -> Option<(LastGoodPolicy, PolicyRead)>,
    ) -> Option<(PolicySelection, Option<Policy>)> {
        let uid = group.metadata.uid.as_deref().unwrap_or_default();
        let (Some(spec), Some(source), Some(read)) =
            (&group.spec.policy, PolicySource::from_group(group), read)
        else {
            self.remove_group(uid);
            return Some((
                PolicySelection::built_in(default, None),
                Some(default.clone()),
            ));
        };
        let settings = settings(group, listed, spec);
        let mut state = self.state(group);
        let mut rejected_by = Vec::new();
        let matches_pin = |policy: &Policy| match &spec.sha256 {
            Some(pin) => policy
                .check_pin(pin)
                .map_err(|error| PolicyProblem::from(&error)),
            None => Ok(()),
        };
        let problem = match read {
            PolicyRead::Loading(since) => match state.in_use() {
                None => return Some((PolicySelection::loading(since, spec.on_error), None)),
                Some((accepted, _)) => {
                    let changed = accepted.settings != settings;
                    changed.then(|| PolicyProblem::loading_settings(&source))
                }
            },
            PolicyRead::Failed(problem) => Some(problem),
            PolicyRead::Loaded(policy) => match matches_pin(&policy) {
                Err(problem) => Some(problem),
                Ok(()) => {
                    let checked = match state.checked(&policy, &settings) {
                        Some(checked) => checked,
                        None => check_settings(group, &policy, &settings, limiter).await?,
                    };
                    if checked.is_err() {
                        rejected_by.push(policy.digest().to_owned());
                    }
                    state.record_settings_check(&policy, source.to_string(), &settings, checked)
                }
            },
        };
        self.groups().insert(uid.to_owned(), state.clone());
        let is_in_use = state
            .in_use()
            .is_some_and(|(_, policy)| matches_pin(&policy).is_ok());
        if let Some((last, read)) = (!is_in_use).then(last_good).flatten() {
            match read {
                PolicyRead::Loading(since) => {
                    return Some((PolicySelection::loading(since, spec.on_error), None));
                }
                PolicyRead::Loaded(policy) if matches_pin(&policy).is_ok() => {
                    let checked = match state.checked(&policy, &settings) {
                        Some(checked) => checked,
                        None => check_settings(group, &policy, &settings, limiter).await?,
                    };
                    if checked.is_ok() {
                        state.restore(last, &policy, &settings);
                        self.groups().insert(uid.to_owned(), state.clone());
                    } else {
                        rejected_by.push(policy.digest().to_owned());
                    }
                }
                PolicyRead::Loaded(_) | PolicyRead::Failed(_) => {}
            }
        }
        let in_use = state.in_use();
        match in_use.filter(|(_, policy)| matches_pin(policy).is_ok()) {
            Some((accepted, policy)) => {
                let problem = match problem {
                    // These messages already mention the settings.
                    Some(p) if [SETTINGS_REJECTED, LOADING].contains(&p.reason) => Some(p),
                    Some(p) if accepted.settings != settings => Some(p.with_old_settings()),
                    other => other,
                };
                let selection = PolicySelection {
                    settings: accepted.settings.group.clone(),
                    items: accepted.settings.items.iter().cloned().collect(),
                    restored: accepted.restored,
                    ..PolicySelection::selected(
                        in_use_of(&accepted.source, &policy),
                        problem,
                        spec.on_error,
                    )
                };
                Some((selection, Some(policy)))
            }
            None => {
                let problem = problem.unwrap_or_else(|| PolicyProblem::pin_mismatch(&source));
                let selection = PolicySelection {
                    rejected_by,
                    ..PolicySelection::unavailable(problem, spec.on_error)
                };
                Some((selection, None))
            }
        }
    }
}

/// Asks a policy whether it accepts settings. Returns `None` if no permit is free, or if the permit
/// does not allow enough time.
async fn check_settings(
    group: &OaatGroup,
    policy: &Policy,
    settings: &Settings,
    limiter: &PolicyLimiter,
) -> Option<Result<(), PolicyProblem>> {
    let name = group.metadata.name.as_deref().unwrap_or_default();
    let namespace = group.metadata.namespace.as_deref().unwrap_or_default();
    let group = ObjectRef::new(name).within(namespace);
    let items = settings.items.iter().cloned();
    let items: Vec<_> = items
        .map(|(name, settings)| ItemSettings { name, settings })
        .collect();
    let permit = limiter.acquire(&group)?;
    let (policy, settings) = (policy.clone(), settings.group.clone());
    let validate = move |deadline| {
        let validation = match deadline {
            Some(deadline) => policy.validate_within(&settings, &items, deadline)?,
            None => policy.validate(&settings, &items),
        };
        Some(validation.answer)
    };
    let error = match limiter.evaluate(&group, permit, false, validate).await {
        Ok(answer) => match answer? {
            Ok(()) => return Some(Ok(())),
            Err(error) => error,
        },
        Err(error) => EvalError::Trapped(error.into()),
    };
    Some(Err(PolicyProblem::settings(&error)))
}

fn in_use_of(source: &str, policy: &Policy) -> PolicyInUse {
    PolicyInUse {
        source: source.to_owned(),
        digest: policy.digest().into(),
        contract: policy.contract().into(),
        instead_of: None,
    }
}

/// Returns the settings in a group's spec that its policy receives.
fn settings(group: &OaatGroup, listed: &[String], spec: &PolicySpec) -> Settings {
    let text = |object: &serde_json::Map<_, _>| serde_json::to_string(object).unwrap_or_default();
    Settings {
        group: spec.settings.as_ref().map_or_else(|| "{}".into(), text),
        items: listed
            .iter()
            .filter_map(|name| {
                let settings = group.spec.item_options.get(name)?.settings.as_ref()?;
                Some((name.clone(), text(settings)))
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests;
