//! Which policy each group has adopted: the last that passed every check, with the settings
//! that it accepted. It decides until the next one has passed them too.

use super::{PolicyRead, Problem, Source};
use crate::api::{OaatGroup, PolicyInUse, PolicySpec};
use crate::decide::Ruling;
use crate::lane::SHORT;
use crate::triggers::GroupRef;
use kube::runtime::reflector::ObjectRef;
use policy_host::{EvalError, ItemSettings, Policy};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;

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
    /// The last that was refused for its settings.
    refused: Option<Refusal>,
}

/// Settings that were not accepted.
#[derive(Clone)]
struct Refusal {
    digest: String,
    settings: Settings,
    problem: Problem,
    /// When to ask again, and how long to wait after that; where it was no answer of the policy's.
    again: Option<(Instant, Duration)>,
}

/// What is known of a policy with settings.
enum Verdict {
    Accepted,
    Refused(Refusal),
}

impl Verdict {
    /// It was no answer of the policy's, and it is time to ask again.
    fn is_due(&self) -> bool {
        let again = match self {
            Self::Accepted => None,
            Self::Refused(refusal) => refusal.again,
        };
        again.is_some_and(|(at, _)| at <= Instant::now())
    }
}

impl From<Verdict> for Result<(), Refusal> {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Accepted => Ok(()),
            Verdict::Refused(refusal) => Err(refusal),
        }
    }
}

impl Memory {
    /// What the policy has said of these settings, if it was asked.
    fn verdict(&self, policy: &Policy, settings: &Settings) -> Option<Verdict> {
        let good = self.good.as_ref();
        if good.is_some_and(|good| {
            good.policy.digest() == policy.digest() && good.settings == *settings
        }) {
            return Some(Verdict::Accepted);
        }
        let refused = self.refused.as_ref();
        let same =
            |refused: &&Refusal| refused.digest == policy.digest() && refused.settings == *settings;
        refused.filter(same).cloned().map(Verdict::Refused)
    }
}

/// Between two tries of one that may not take long because another does.
const BUSY: Duration = Duration::from_secs(2);

/// A little more, each time another: not all are to come at the same moment.
fn spread(wait: Duration) -> Duration {
    wait.mul_f64(rand::random_range(1.0..1.5))
}

/// How long to wait before a policy that did not come to an answer about settings is asked
/// again: at first, and at most.
const WAITS: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(600)];

/// The policies that groups have adopted, by the groups' uids.
pub struct Adopted {
    groups: Mutex<HashMap<String, Memory>>,
    /// Where groups go that are worth another look.
    queue: OnceLock<UnboundedSender<GroupRef>>,
    first_wait: Duration,
    /// Who holds it may take long to say whether settings are right.
    slow: Arc<tokio::sync::Mutex<()>>,
}

impl Default for Adopted {
    fn default() -> Self {
        Self {
            groups: Mutex::default(),
            queue: OnceLock::new(),
            first_wait: WAITS[0],
            slow: Arc::default(),
        }
    }
}

impl Adopted {
    fn memory(&self) -> std::sync::MutexGuard<'_, HashMap<String, Memory>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has groups sent to `queue` when it is time to ask their policies about settings again.
    pub fn send_to(&self, queue: UnboundedSender<GroupRef>) {
        // There is one queue as long as the process lives.
        let _ = self.queue.set(queue);
    }

    /// Whether anything is remembered of a group.
    #[cfg(test)]
    pub(crate) fn knows(&self, uid: &str) -> bool {
        self.memory().contains_key(uid)
    }

    /// Forgets the groups whose uids are not among these.
    pub fn retain(&self, there: &HashSet<String>) {
        self.memory().retain(|uid, _| there.contains(uid));
    }

    /// Forgets a group that is gone.
    pub fn forget(&self, uid: &str) {
        self.memory().remove(uid);
    }

    /// Whether it is known who decides for a group, without asking a policy about settings.
    pub fn settled(&self, group: &OaatGroup, read: Option<&PolicyRead>) -> bool {
        let (Some(spec), Some(PolicyRead::Loaded(policy))) = (&group.spec.policy, read) else {
            return true;
        };
        let uid = group.metadata.uid.as_deref().unwrap_or_default();
        let known = self.memory().get(uid).cloned().unwrap_or_default();
        known
            .verdict(policy, &settings(group, spec))
            .is_some_and(|verdict| !verdict.is_due())
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
            PolicyRead::Loading(_) => {
                let good = known.good.as_ref();
                let changed = good.is_some_and(|good| good.settings != settings);
                changed.then(|| Problem::settings_wait(&source))
            }
            PolicyRead::Failed(problem) => Some(problem),
            PolicyRead::Loaded(policy) => match fits(&policy) {
                Err(problem) => Some(problem),
                Ok(()) => {
                    let judged = self.accepts(&known, &policy, &settings).await;
                    if let Err(refusal) = &judged {
                        let before = known.refused.as_ref().and_then(|refused| refused.again);
                        if let Some((at, _)) = refusal.again
                            && before.is_none_or(|(before, _)| before != at)
                        {
                            self.look_again(group, at);
                        }
                        memory.refused = Some(refusal.clone());
                    } else {
                        let good = Good {
                            source: source.clone(),
                            policy,
                            settings: settings.clone(),
                        };
                        memory = Memory {
                            good: Some(good),
                            refused: None,
                        };
                    }
                    judged.err().map(|refusal| refusal.problem)
                }
            },
        };
        let good = memory.good.clone();
        self.memory().insert(uid.to_owned(), memory);
        match good.filter(|good| fits(&good.policy).is_ok()) {
            Some(good) => {
                let problem = match problem {
                    // Those have words for it themselves.
                    Some(p) if p.reason == "SettingsRejected" || p.reason == "Loading" => Some(p),
                    Some(p) if good.settings != settings => Some(p.with_old_settings()),
                    other => other,
                };
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

    /// Whether a policy accepts settings: asked when either has changed, or when it did not come to
    /// an answer and some time has passed.
    async fn accepts(
        &self,
        known: &Memory,
        policy: &Policy,
        settings: &Settings,
    ) -> Result<(), Refusal> {
        let mut wait = self.first_wait;
        // At first it has the time that an honest policy needs a hundredth of. One that was cut
        // short has all that its limits allow, but only one such policy at a time.
        let mut slow = None;
        match known.verdict(policy, settings) {
            Some(verdict) if !verdict.is_due() => return verdict.into(),
            Some(Verdict::Refused(refused)) => {
                let Ok(turn) = self.slow.clone().try_lock_owned() else {
                    let at = Instant::now() + spread(BUSY);
                    let again = refused.again.map(|(_, next)| (at, next));
                    return Err(Refusal { again, ..refused });
                };
                slow = Some(turn);
                wait = refused.again.map_or(wait, |(_, next)| next);
            }
            _ => {}
        }
        let (asked, given) = (policy.clone(), settings.clone());
        let asked = tokio::task::spawn_blocking(move || {
            let items = given.items.into_iter();
            let items: Vec<ItemSettings> = items
                .map(|(name, settings)| ItemSettings { name, settings })
                .collect();
            match slow {
                Some(_turn) => asked.validate(&given.group, &items).answer,
                None => asked.validate_within(&given.group, &items, SHORT).answer,
            }
        });
        let (error, passing) = match asked.await {
            Ok(Ok(())) => return Ok(()),
            // The clock, not the policy, has spoken.
            Ok(Err(error @ EvalError::Deadline(_))) => (error, true),
            Ok(Err(error)) => (error, false),
            Err(error) => (EvalError::Trapped(error.to_string()), true),
        };
        let problem = Problem::settings(&error);
        Err(Refusal {
            digest: policy.digest().into(),
            settings: settings.clone(),
            problem: match passing {
                true => problem.tried_again(wait),
                false => problem,
            },
            again: passing.then(|| (Instant::now() + spread(wait), WAITS[1].min(wait * 2))),
        })
    }

    /// Has a group looked at again at some time.
    fn look_again(&self, group: &OaatGroup, at: Instant) {
        let Some(queue) = self.queue.get().cloned() else {
            return;
        };
        let name = group.metadata.name.as_deref().unwrap_or_default();
        let namespace = group.metadata.namespace.as_deref().unwrap_or_default();
        let group = ObjectRef::new(name).within(namespace);
        tokio::spawn(async move {
            tokio::time::sleep_until(at.into()).await;
            // The receiver goes away at the end of the process only.
            let _ = queue.send(group);
        });
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

#[cfg(test)]
mod tests;
